//! Export and import.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use super::line::{EXPORT, Header, Line};
use super::{ToolError, meta, print};
use crate::store::DiskEngine;
use crate::store::copy::Copy;
use crate::store::engine::{Engine, Space};
use crate::store::record::key;

/// In this order a reader meets what others refer to before them.
const ORDER: [Space; 8] = [
    Space::Session,
    Space::Subscription,
    Space::Group,
    Space::Message,
    Space::Queue,
    Space::Incoming,
    Space::Retained,
    Space::Ban,
];

/// The longest line: the largest packet in base64, twice for what is around it.
const LINE_BYTES_MAX: u64 = 4 << 28;

/// Prints a line for each record. Returns how many made no sense, and are not there.
pub(super) fn export(engine: &DiskEngine, out: &mut impl Write) -> Result<u64, ToolError> {
    let node = meta::<16>(engine, key::NODE)?.unwrap_or_default();
    let header = Header {
        export: EXPORT,
        node: node.iter().map(|byte| format!("{byte:02x}")).collect(),
        crashes: meta(engine, key::CRASHES)?.map_or(0, u64::from_be_bytes),
        stopped_at_ms: meta(engine, key::STOPPED)?.map(u64::from_be_bytes),
    };
    write(&Line::Header(header), out)?;
    let mut faults = 0;
    for space in ORDER {
        for entry in engine.range(space, &[], None) {
            let (key, value) = entry?;
            match Line::of(space, &key, &value) {
                Ok(Some(line)) => write(&line, out)?,
                Ok(None) => {}
                Err(_) => faults += 1,
            }
        }
    }
    Ok(faults)
}

fn write(line: &Line, out: &mut impl Write) -> Result<(), ToolError> {
    let mut text = serde_json::to_string(line).map_err(|error| ToolError::Output(error.into()))?;
    text.push('\n');
    print(out, &text)
}

/// Makes the store of a data directory from lines, all or nothing. Returns how many records it has.
pub(super) fn import(data_dir: &Path, input: &mut impl BufRead) -> Result<u64, ToolError> {
    let mut copy = Copy::begin(data_dir)?;
    let mut text = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        text.clear();
        let wrong = |why: String| ToolError::Line { number, why };
        let bytes = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
            .map_err(|error| wrong(error.to_string()))?;
        if bytes == 0 {
            break;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if (number == 1) != matches!(line, Line::Header(_)) {
            return Err(wrong(
                "the header is the first line, and no other".to_owned(),
            ));
        }
        for (space, key, value) in line.records().map_err(wrong)? {
            copy.put(space, key, value)?;
        }
    }
    if number == 1 {
        let why = "there is nothing to import".to_owned();
        return Err(ToolError::Line { number, why });
    }
    let records = copy.records;
    copy.finish()?;
    Ok(records)
}
