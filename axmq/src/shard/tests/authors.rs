//! Who wrote a will is asked for when it is published, also after a restart.

use std::sync::Arc;

use mqtt_codec::{QoS, Version};
use pollio::PeerAddr;

use super::earlier;
use super::world::{World, connect, will};
use crate::config::StoreSettings;
use crate::hooks::{Action, Author, Authorize, Client, Decision, Grant, Hooks};
use crate::message::ConnectInfo;
use crate::publication::{Parts, Publication};
use crate::store::op::Op;
use crate::store::{Restored, RestoredWill};

/// Lets `ann` publish wills.
struct OnlyAnn;

impl Authorize for OnlyAnn {
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision {
        match action {
            Action::Publish { is_will: true, .. } if client.identity() != Some("ann") => {
                Decision::Deny
            }
            _ => Decision::Allow,
        }
    }
}

fn author(user: &str) -> Box<Author> {
    Box::new(Author {
        peer: PeerAddr::UNIX,
        version: Version::V5,
        grant: Some(Arc::new(Grant::to(user))),
    })
}

/// Restores a session whose will is due, and returns how many messages came of it.
fn published(hooks: Hooks, author: Option<Box<Author>>) -> (usize, u64) {
    let mut world = World::with_store_and_hooks(&StoreSettings::default(), hooks);
    let witness = world.attach(connect("witness"));
    world.subscribe(witness, "#", 1);
    world.settle();
    world.read(witness);
    let parts = Parts {
        topic: "w",
        properties: std::iter::empty(),
        payload: b"x",
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_ms: 0,
    };
    world.cores[0].restore(Restored {
        will: Some(RestoredWill {
            publication: Publication::from_parts(parts, None),
            delay_s: 1,
            due_at_ms: world.now_ms + 1,
            expiry_s: None,
            author,
        }),
        ..earlier(100, "gone")
    });
    world.cores[0].all_are_restored();
    world.pass(1);
    let refused = world.count(|counters| counters.publishes_refused);
    (world.read(witness).len(), refused)
}

#[test]
fn a_will_of_an_earlier_run_is_judged_by_who_wrote_it() {
    let hooks = || {
        let mut hooks = Hooks::default();
        hooks.set_authorize(Arc::new(OnlyAnn));
        hooks
    };
    assert_eq!(published(hooks(), Some(author("ann"))), (1, 0));
    assert_eq!(published(hooks(), Some(author("bob"))), (0, 1));
    assert_eq!(published(hooks(), None), (0, 1), "nobody knows");
    assert_eq!(published(Hooks::default(), None), (1, 0), "nobody asks");
}

#[test]
fn the_store_is_told_who_wrote_a_will() {
    let mut world = World::with_store_and_hooks(&StoreSettings::default(), Hooks::default());
    world.attach(ConnectInfo {
        will: will("w", "x", 0),
        grant: Some(Arc::new(Grant::to("ann"))),
        ..connect("c")
    });
    let batch = world.cores[0].take_op_batch(true).expect("a session");
    let authors: Vec<_> = batch
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Session(session) => session.will.as_ref()?.author.as_deref(),
            _ => None,
        })
        .filter_map(|author| author.grant.as_deref()?.identity())
        .collect();
    assert_eq!(authors.last(), Some(&"ann"));
}
