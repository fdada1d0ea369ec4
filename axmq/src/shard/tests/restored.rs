//! What comes from the store at start.

use super::world::{World, will};
use crate::config::{Limits, StoreSettings};
use crate::route::SubscriptionOptions;
use crate::store::op::{Op, QueueOp};
use crate::store::{Restored, RestoredWill};

fn session(holder: u64, client_id: &str) -> Restored {
    Restored {
        holder,
        client_id: client_id.into(),
        expiry_s: u32::MAX,
        ends_at_ms: u64::MAX,
        will: None,
        subscriptions: Vec::new(),
        received: Vec::new(),
        first: 0,
        count: 0,
        bytes: 0,
        sent: 0,
        next: 0,
    }
}

#[test]
fn a_will_that_is_due_waits_until_all_who_are_to_hear_of_it_are_there() {
    let mut world = World::with_store(1, Limits::default(), &StoreSettings::default());
    let due = will("w", "gone", 0).expect("it is one");
    world.cores[0].restore(Restored {
        will: Some(RestoredWill {
            publication: due.publication,
            delay_s: 0,
            due_at_ms: 1,
            expiry_s: None,
        }),
        ..session(1, "mourned")
    });
    // One that is over for long ends no sooner.
    world.cores[0].restore(Restored {
        ends_at_ms: 1,
        ..session(2, "ended")
    });
    world.pass(1_000);
    let options = SubscriptionOptions {
        identifier: 0,
        qos: mqtt_codec::QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
    };
    world.cores[0].restore(Restored {
        subscriptions: vec![("w".into(), options)],
        ..session(3, "heir")
    });
    assert!(world.cores[0].take_op_batch(true).is_none());
    world.cores[0].all_are_restored();
    world.settle();
    let batch = world.cores[0]
        .take_op_batch(true)
        .expect("it was published");
    let is_for_heir = |op: &Op| matches!(op, Op::Queue(QueueOp { holder: 3, .. }));
    assert!(batch.ops.iter().any(is_for_heir), "{batch:?}");
    let ends = |op: &Op| matches!(op, Op::EndSession { holder: 2 });
    assert!(batch.ops.iter().any(ends), "{batch:?}");
}
