//! Any history, cut anywhere by a crash, leaves the state at some earlier moment, and never one
//! before the last sync.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What is known of one holder: queue by number, and whether a place is released.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct State {
    sessions: BTreeMap<u64, BTreeMap<u64, Option<u64>>>,
    retained: BTreeMap<String, String>,
}

impl State {
    fn messages(&self) -> BTreeSet<u64> {
        let places = self.sessions.values().flat_map(BTreeMap::values);
        places.copied().flatten().collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    End(u64),
    /// A message for each of these holders.
    Publish(Vec<u64>),
    /// The oldest place of a holder.
    Settle(u64),
    Release(u64),
    Retain(u8, bool),
    /// The batch ends.
    Cut,
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let holder = 1_u64..5;
    prop_oneof![
        2 => holder.clone().prop_map(Step::Open),
        1 => holder.clone().prop_map(Step::End),
        6 => prop::collection::vec(holder.clone(), 1..4).prop_map(|mut holders| {
            holders.sort_unstable();
            holders.dedup();
            Step::Publish(holders)
        }),
        4 => holder.clone().prop_map(Step::Settle),
        2 => holder.prop_map(Step::Release),
        2 => (0_u8..3, any::<bool>()).prop_map(|(topic, keeps)| Step::Retain(topic, keeps)),
        4 => Just(Step::Cut),
        1 => Just(Step::Sync),
    ]
}

/// Plays steps on a model and a store. Returns the model after each batch, and how many batches
/// were durable at the end.
fn play(steps: &[Step], disk: &TestDisk) -> (Vec<State>, usize) {
    let mut rig = Rig::new(disk);
    let mut state = State::default();
    let mut states = vec![state.clone()];
    let mut ops = Vec::new();
    let (mut next_message, mut next_number, mut version) = (100, 0, 0);
    let mut durable = 0;
    for step in steps.iter().chain([&Step::Cut]) {
        match step {
            Step::Open(holder) => {
                ops.push(session(*holder, &format!("client {holder}")));
                state.sessions.entry(*holder).or_default();
            }
            Step::End(holder) => {
                ops.push(Op::EndSession { holder: *holder });
                state.sessions.remove(holder);
            }
            Step::Publish(holders) => {
                next_message += 1;
                ops.push(said(next_message));
                for holder in holders {
                    if let Some(queue_of) = state.sessions.get_mut(holder) {
                        next_number += 1;
                        ops.push(queue(*holder, next_number, next_message, false));
                        queue_of.insert(next_number, Some(next_message));
                    }
                }
            }
            Step::Settle(holder) => {
                let first = state.sessions.get_mut(holder).and_then(BTreeMap::pop_first);
                if let Some((number, message)) = first {
                    ops.push(dequeue(*holder, number, message.unwrap_or(0)));
                }
            }
            Step::Release(holder) => {
                let first = state
                    .sessions
                    .get_mut(holder)
                    .and_then(|it| it.first_entry());
                if let Some(mut place) = first
                    && let Some(message) = place.insert(None)
                {
                    let (holder, number) = (*holder, *place.key());
                    ops.push(Op::Release(PlaceOp {
                        holder,
                        number,
                        message,
                    }));
                }
            }
            Step::Retain(topic, keeps) => {
                let topic = format!("r/{topic}");
                version += 1;
                if *keeps {
                    let payload = format!("version {version}");
                    let publication = Box::new(message(1, &topic, &payload));
                    state.retained.insert(topic, payload);
                    ops.push(Op::Retain {
                        version,
                        publication,
                    });
                } else {
                    state.retained.remove(&topic);
                    let topic = topic.into();
                    ops.push(Op::Unretain { version, topic });
                }
            }
            Step::Cut | Step::Sync => {
                let is_urgent = matches!(step, Step::Sync);
                rig.say(0, is_urgent, std::mem::take(&mut ops));
                rig.turn();
                states.push(state.clone());
                if is_urgent {
                    durable = states.len() - 1;
                }
            }
        }
    }
    (states, durable)
}

fn found(disk: &MemoryDisk) -> (State, BTreeSet<u64>) {
    let (sessions, retained, aside) = recovered(disk);
    assert_eq!(aside, 0, "nothing is in disorder");
    let mut state = State::default();
    for session in sessions {
        let mut places = BTreeMap::new();
        for key in disk.keys(Space::Queue) {
            let (holder, number) = key::read_queue(&key).expect("a key");
            if holder == session.holder {
                let value = disk.open().get(Space::Queue, &key).unwrap().unwrap();
                let record = super::super::record::QueueRecord::decode(&key, &value).unwrap();
                let message = match record {
                    super::super::record::QueueRecord::Message(queued) => Some(queued.message),
                    super::super::record::QueueRecord::Released => None,
                };
                places.insert(number, message);
            }
        }
        assert_eq!(places.len(), session.count);
        state.sessions.insert(session.holder, places);
    }
    for publication in retained {
        let view = publication.view();
        let payload = String::from_utf8(view.payload().to_vec()).unwrap();
        state.retained.insert(view.topic().to_owned(), payload);
    }
    let messages = disk.keys(Space::Message);
    let messages = messages.iter().map(|key| key::read_number(key).unwrap());
    (state, messages.collect())
}

proptest! {
    #[test]
    fn a_crash_leaves_an_earlier_state_and_no_message_too_many_or_too_few(
        steps in prop::collection::vec(step(), 0..60),
        survivors in 0_usize..20,
    ) {
        let disk = TestDisk::default();
        recovered(&disk.disk);
        let (states, durable) = play(&steps, &disk);
        disk.disk.crash(survivors);
        let (state, messages) = found(&disk.disk);
        prop_assert!(
            states[durable..].contains(&state),
            "{state:?} is none of {:?}", &states[durable..]
        );
        prop_assert_eq!(messages, state.messages());
    }
}
