//! What a second pair of eyes has found, each in its smallest form.

use std::sync::Arc;

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{PublishHead, QoS, RetainHandling, SubscribeFilter};

use super::super::{Core, Shared};
use super::groups::member_on;
use super::world::{Client, Mail, World, connect, id, packet, will};
use super::{V5, client_on, subscriber_on};
use crate::config::Limits;
use crate::group::GroupMail;
use crate::hooks::{Action, Decision, Hooks};
use crate::message::ConnectInfo;

fn filter(text: &str) -> SubscribeFilter<'_> {
    SubscribeFilter {
        filter: text,
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

fn subscribe(filters: &[SubscribeFilter<'_>], identifier: u32) -> Vec<u8> {
    let packet = Subscribe {
        packet_id: id(900),
        filters,
        subscription_identifier: (identifier != 0).then_some(identifier),
        user_properties: &[],
    };
    packet.encode_to_vec(V5)
}

#[test]
fn of_two_messages_that_come_again_the_newer_one_stays_the_last() {
    let mut world = World::new(2, Limits::default());
    let far = subscriber_on(&mut world, 1, "t", 1);
    let name = world.name("pub", 0);
    let publisher = world.attach(connect(&name));
    let store = |payload, n, dup| packet(V5, "t", payload, 1, n, dup, true);
    world.send(publisher, &store("old", 1, false));
    world.post();
    world.send(publisher, &store("new", 2, false));
    assert!(world.deliver(1));
    world.post();
    world.cut(publisher);
    world.cores[0].work_one();
    // The first is accepted while its publisher is away, the second when it is back.
    while world.deliver(0) {}
    let publisher = world.attach(connect(&name));
    world.send(publisher, &store("old", 1, true));
    world.send(publisher, &store("new", 2, true));
    world.settle();
    assert_eq!(
        world.read(publisher),
        ["connack 1", "puback #1", "puback #2"]
    );
    let live = world.read(far);
    assert!(
        live.last().is_some_and(|line| line.contains("=new")),
        "{live:?}"
    );
    let late = client_on(&mut world, 0, "late");
    world.subscribe(late, "t", 0);
    assert_eq!(world.read(late), ["suback", "t=new q0 retain"]);
}

#[test]
fn a_stop_publishes_no_will_of_a_client_that_has_said_disconnect() {
    for (says_good_bye, expected) in [(true, &[][..]), (false, &["will=x q0"][..])] {
        let mut world = World::new(1, Limits::default());
        let watcher = subscriber_on(&mut world, 0, "will", 0);
        let client = world.attach(ConnectInfo {
            will: will("will", "x", 0),
            session_expiry_s: 0,
            ..connect("one")
        });
        if says_good_bye {
            world.send(client, &[0xE0, 0]);
        } else {
            world.cut(client);
        }
        // The cleanup of the connection is still due.
        world.cores[0].publish_wills_at_stop();
        assert_eq!(world.read(watcher), expected);
        world.settle();
        assert!(world.read(watcher).is_empty(), "once");
    }
}

/// A client with a replay of 200 stored messages under way, at QoS 1, of which it has read some.
fn mid_replay() -> (World, Client, usize) {
    let limits = Limits {
        out_queue_soft_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 0..200 {
        let stored = packet(V5, &format!("r/{n}"), &"x".repeat(100), 0, 1, false, true);
        world.send(publisher, &stored);
    }
    let client = client_on(&mut world, 0, "one");
    world.send(client, &subscribe(&[filter("r/#")], 1));
    let first = world.read(client).len() - 1;
    assert!(first < 200);
    (world, client, first)
}

fn read_to_the_end(world: &mut World, client: Client) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        world.settle();
        let lines = world.read(client);
        if lines.is_empty() {
            return got;
        }
        got.extend(lines);
    }
}

#[test]
fn a_subscription_that_replaces_another_takes_its_replay_over() {
    let (mut world, client, first) = mid_replay();
    let none = SubscribeFilter {
        retain_handling: RetainHandling::DoNotSend,
        ..filter("r/#")
    };
    world.send(client, &subscribe(&[none], 2));
    let got = read_to_the_end(&mut world, client);
    assert_eq!(got.len() - 1, 200 - first, "nothing is lost");
    assert!(got[1..].iter().all(|line| line.contains(" id2")), "{got:?}");
}

#[test]
fn a_subscription_that_replaces_another_ends_its_replay_by_one_of_its_own() {
    let (mut world, client, _) = mid_replay();
    world.send(client, &subscribe(&[filter("r/#")], 2));
    let got = read_to_the_end(&mut world, client);
    assert_eq!(got.len() - 1, 200, "each once");
    assert!(got[1..].iter().all(|line| line.contains(" id2")), "{got:?}");
}

#[test]
fn what_has_expired_is_counted_for_those_who_were_to_get_it() {
    let expired = PublishHead {
        topic: "t",
        message_expiry: Some(0),
        payload_len: 1,
        ..PublishHead::default()
    }
    .encode_to_vec(V5, b"x");
    let mut world = World::new(1, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    let no_local = SubscribeFilter {
        no_local: true,
        ..filter("t")
    };
    world.send(publisher, &subscribe(&[no_local], 0));
    world.send(publisher, &expired);
    assert_eq!(world.dropped(), 0, "its own message");
    member_on(&mut world, 0, "m", "$share/g/t", 1);
    subscriber_on(&mut world, 0, "+", 1);
    world.send(publisher, &expired);
    assert_eq!(world.dropped(), 2, "a group and a subscriber");
}

#[test]
fn a_membership_that_was_refused_is_not_granted_behind_its_back() {
    let limits = Limits {
        shared_groups: 1,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let owner = usize::from(world.shared.owner_of("g", "t"));
    let other = member_on(&mut world, owner, "other", "$share/other/u", 1);
    assert_eq!(world.shared.groups(), 1);
    let member = client_on(&mut world, 1 - owner, "m");
    let twice = [filter("$share/g/t"), filter("$share/g/t")];
    world.send(member, &subscribe(&twice, 0));
    world.post();
    let Some(Mail::Group(mail)) = world.mail[owner].pop_front() else {
        panic!("the owner is asked");
    };
    assert_eq!(mail.calls.len(), 2);
    // Another group ends between the two questions.
    for call in mail.calls {
        let one = GroupMail {
            from: mail.from,
            calls: vec![call],
            dealt: Vec::new(),
            dealt_cost: 0,
        };
        world.mail[owner].push_back(Mail::Group(one));
    }
    assert!(world.deliver(owner));
    world.unsubscribe(other, "$share/other/u");
    world.settle();
    assert_eq!(world.codes(member), [0x97, 0x97]);
    assert_eq!(world.shared.groups(), 0, "nobody is a member");
}

#[test]
fn a_subscribe_that_a_hook_breaks_off_makes_nobody_a_member() {
    let mut hooks = Hooks::default();
    hooks.set_authorize(Arc::new(
        |_: &crate::hooks::Client<'_>, action: &Action<'_>| match action {
            Action::Subscribe { filter: "out", .. } => Decision::Disconnect,
            _ => Decision::Allow,
        },
    ));
    let mut world = World::with_hooks(1, Limits::default(), hooks);
    let member = client_on(&mut world, 0, "m");
    let both = [filter("$share/g/t"), filter("out")];
    world.try_send(member, &subscribe(&both, 0));
    assert_eq!(world.read(member), ["disconnect 0x87"]);
    world.settle();
    assert_eq!(world.cores[0].memberships.len(), 0);
}

#[test]
fn a_subscription_of_sys_that_ends_while_its_client_is_away_is_watched_for_no_more() {
    let mut world = World::new(1, Limits::default());
    let subscriber = client_on(&mut world, 0, "sub");
    world.subscribe(subscriber, "$SYS/#", 0);
    world.cut(subscriber);
    world.settle();
    world.pass(20_000);
    assert!(world.shared.sys.is_watched(), "its session is there");
    world.pass(1_000_000);
    assert!(!world.shared.sys.is_watched());
    world.assert_empty();
}

#[test]
fn an_out_queue_whose_marks_are_the_same_leaves_some_credit() {
    let limits = Limits {
        out_queue_bytes: 4_096,
        out_queue_soft_bytes: 4_096,
        ..Limits::default()
    };
    let core = Core::<()>::new(0, Arc::new(Shared::new(limits, 2)), 0, false);
    assert!(!core.is_congested(), "nothing is under way");
}
