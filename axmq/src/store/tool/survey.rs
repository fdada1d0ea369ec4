//! Looking through a whole store: how much of what there is, and what makes no sense.

use std::collections::BTreeSet;
use std::fmt;

use super::{ToolError, meta};
use crate::store::DiskEngine;
use crate::store::engine::{Engine, Space};
use crate::store::record::{self, QueueRecord, key};

/// What of one space.
#[derive(Copy, Clone, Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
    faults: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    sums: [Sum; Space::ALL.len()],
    node: String,
    crashes: u64,
    stopped_at_ms: Option<u64>,
    disk_bytes: u64,
}

impl Survey {
    pub(super) fn faults(&self) -> u64 {
        self.sums.iter().map(|sum| sum.faults).sum()
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (space, sum) in Space::ALL.iter().zip(&self.sums) {
            let (name, records, bytes) = (space.name(), sum.records, sum.bytes);
            writeln!(f, "{name:<12} {records:>12} records {bytes:>14} bytes")?;
        }
        writeln!(f, "on disk {} bytes", self.disk_bytes)?;
        writeln!(f, "node {}, {} crashes", self.node, self.crashes)?;
        match self.stopped_at_ms {
            Some(ms) => writeln!(f, "stopped in order at {ms} ms since 1970"),
            None => writeln!(f, "not stopped in order"),
        }
    }
}

/// Who may be referred to.
#[derive(Debug, Default)]
struct Known {
    holders: BTreeSet<u64>,
    messages: BTreeSet<u64>,
}

impl Known {
    /// What is wrong with a record, if anything is.
    fn fault(&mut self, space: Space, key: &[u8], value: &[u8]) -> Option<String> {
        if let Err(error) = record::check(space, key, value) {
            return Some(error.to_string());
        }
        match space {
            Space::Session | Space::Group => {
                self.holders.extend(key::read_number(key));
            }
            Space::Message => {
                self.messages.extend(key::read_number(key));
            }
            Space::Subscription | Space::Queue | Space::Incoming => {
                let holder = key::read_holder(key).unwrap_or(0);
                if !self.holders.contains(&holder) {
                    return Some("it belongs to nobody".to_owned());
                }
                if space == Space::Queue
                    && let Ok(QueueRecord::Message(queued)) = QueueRecord::decode(key, value)
                    && !self.messages.contains(&queued.message)
                {
                    return Some(format!("there is no message {}", queued.message));
                }
            }
            Space::Meta | Space::Retained | Space::Ban | Space::Quarantine => {}
        }
        None
    }
}

/// Looks at every record, and tells of each that makes no sense. Takes 40 bytes or so for each
/// session, group and message.
pub(super) fn survey(
    engine: &DiskEngine,
    mut tell: impl FnMut(&str) -> Result<(), ToolError>,
) -> Result<Survey, ToolError> {
    let node = meta::<16>(engine, key::NODE)?.unwrap_or_default();
    let mut survey = Survey {
        node: node.iter().map(|byte| format!("{byte:02x}")).collect(),
        crashes: meta(engine, key::CRASHES)?.map_or(0, u64::from_be_bytes),
        stopped_at_ms: meta(engine, key::STOPPED)?.map(u64::from_be_bytes),
        disk_bytes: engine.bytes(),
        ..Survey::default()
    };
    let mut known = Known::default();
    let mut spaces = Space::ALL;
    // First what others refer to.
    spaces.sort_by_key(|space| !matches!(space, Space::Session | Space::Group | Space::Message));
    for space in spaces {
        for entry in engine.range(space, &[], None) {
            let (key, value) = entry?;
            let fault = known.fault(space, &key, &value);
            if let Some(sum) = survey.sums.get_mut(space as usize) {
                sum.records += 1;
                sum.bytes += (key.len() + value.len()) as u64;
                sum.faults += u64::from(fault.is_some() || space == Space::Quarantine);
            }
            if let Some(why) = fault {
                let key = key.escape_ascii();
                tell(&format!("{} {key}: {why}\n", space.name()))?;
            }
        }
    }
    Ok(survey)
}
