//! What comes from the store at start.

use super::earlier;
use super::world::{World, will};
use crate::config::{Limits, StoreSettings};
use crate::route::SubscriptionOptions;
use crate::store::op::{Op, QueueOp};
use crate::store::{Restored, RestoredWill};

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
            author: None,
        }),
        ..earlier(1, "mourned")
    });
    // One that is over for long ends no sooner.
    world.cores[0].restore(Restored {
        ends_at_ms: 1,
        ..earlier(2, "ended")
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
        ..earlier(3, "heir")
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
