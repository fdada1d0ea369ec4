//! Numbers, ids, order, and what is counted.

use super::*;

fn queued(qos: QoS) -> Queued {
    Queued::new(key(1), 10, qos, false)
}

fn key(n: u64) -> Key {
    Key::from_bits(n << 32).expect("not zero")
}

fn dealt(qos: QoS, n: u64) -> Queued {
    queued(qos).with(&[], Some((key(n), 0)))
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

#[test]
fn the_bytes_that_wait_are_those_of_the_messages_that_wait() {
    let mut outgoing = Outgoing::default();
    for bytes in 1..=3 {
        outgoing.wait(queued(QoS::AtLeastOnce));
        assert_eq!(outgoing.waiting_bytes(), bytes * 10);
    }
    for left in [20, 10, 0] {
        assert!(outgoing.next_waiting().is_some());
        assert_eq!(outgoing.waiting_bytes(), left);
    }
}

#[test]
fn what_is_taken_from_a_member_makes_room_on_its_connection() {
    let mut outgoing = Outgoing::default();
    outgoing.send(dealt(QoS::AtLeastOnce, 9));
    outgoing.send(queued(QoS::AtLeastOnce));
    outgoing.begin_resend();
    assert!(matches!(outgoing.next_resend(1), Some(Resend::Publish(..))));
    assert!(outgoing.next_resend(1).is_none(), "the window is full");
    assert_eq!(outgoing.take_shared().len(), 1);
    assert_eq!(outgoing.unsettled(), 1);
    let next = outgoing.next_resend(1);
    assert!(matches!(next, Some(Resend::Publish(next, _)) if next == id(2)));
    assert!(outgoing.next_resend(1).is_none());
}

#[test]
fn ids_run_around_and_skip_zero() {
    let mut outgoing = Outgoing::default();
    for round in 0..200_000_u32 {
        let expected = u16::try_from(round % 65_535 + 1).expect("fits");
        assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(expected));
        assert!(
            outgoing
                .acknowledge(id(expected), QoS::AtLeastOnce)
                .is_some()
        );
        assert!(
            outgoing
                .acknowledge(id(expected), QoS::AtLeastOnce)
                .is_none()
        );
    }
}

#[test]
fn an_id_is_not_used_again_while_its_elder_is_unsettled() {
    let mut outgoing = Outgoing::default();
    assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(1));
    let mut sent = 1_u32;
    while outgoing.has_room(10) {
        let next = outgoing.send(queued(QoS::AtLeastOnce));
        assert_ne!(next, id(1), "id 1 is still in flight");
        assert!(outgoing.acknowledge(next, QoS::AtLeastOnce).is_some());
        sent += 1;
    }
    assert_eq!(sent, 65_535);
    assert!(outgoing.acknowledge(id(1), QoS::AtLeastOnce).is_some());
    assert!(outgoing.has_room(1));
}

#[test]
fn numbers_that_are_far_apart_share_the_ids_without_a_clash() {
    let mut outgoing = Outgoing::default();
    let numbered = |number| queued(QoS::AtLeastOnce).stored_as(number, false);
    for number in [0, 40_000, 80_000, 120_000] {
        assert!(outgoing.has_room(9));
        let index = u16::try_from(number % 65_535).expect("fits");
        assert_eq!(outgoing.send(numbered(number)), id(index + 1));
    }
    outgoing.next = 2 * 65_535;
    assert!(!outgoing.has_room(9), "id 1 is still in flight");
    let settled = |outgoing: &mut Outgoing, n: u16| {
        let found = outgoing.acknowledge(id(n), QoS::AtLeastOnce);
        found.map(|queued| queued.number())
    };
    assert_eq!(settled(&mut outgoing, 14_466), Some(80_000));
    assert_eq!(settled(&mut outgoing, 14_466), None);
    assert_eq!(settled(&mut outgoing, 1), Some(0));
    assert!(outgoing.has_room(9));
    assert_eq!(settled(&mut outgoing, 54_466), Some(120_000));
    assert_eq!(settled(&mut outgoing, 40_001), Some(40_000));
}

#[test]
fn qos_2_goes_through_its_four_steps_and_repeats() {
    let mut outgoing = Outgoing::default();
    let one = outgoing.send(queued(QoS::ExactlyOnce));
    assert!(
        outgoing.acknowledge(one, QoS::AtLeastOnce).is_none(),
        "PUBACK is not for QoS 2"
    );
    assert!(outgoing.complete(one).is_none(), "PUBCOMP before PUBREC");
    assert!(matches!(outgoing.receive(one), Ok(Some(_))));
    assert!(matches!(outgoing.receive(one), Ok(None)));
    outgoing.begin_resend();
    assert!(matches!(outgoing.next_resend(9), Some(Resend::Release(again)) if again == one));
    assert!(outgoing.complete(one).is_some());
    assert!(outgoing.complete(one).is_none());
    assert_eq!(outgoing.receive(one).unwrap_err(), UnknownId);
    outgoing.begin_resend();
    assert!(outgoing.next_resend(9).is_none());
}

#[test]
fn resending_waits_for_every_connection_that_holds_it() {
    let mut outgoing = Outgoing::default();
    let one = outgoing.send(queued(QoS::ExactlyOnce));
    assert!(outgoing.receive(one).is_ok());
    for _ in 0..2 {
        outgoing.begin_resend();
        outgoing.hold_resend();
    }
    outgoing.let_resend();
    assert!(outgoing.next_resend(9).is_none(), "the second one holds it");
    assert!(!outgoing.has_room(9), "nothing passes it");
    outgoing.let_resend();
    assert!(matches!(outgoing.next_resend(9), Some(Resend::Release(id)) if id == one));
}

#[test]
fn resending_keeps_the_order_and_leaves_out_what_is_settled() {
    let mut outgoing = Outgoing::default();
    let ids: Vec<_> = (0..4)
        .map(|_| outgoing.send(queued(QoS::AtLeastOnce)))
        .collect();
    outgoing.acknowledge(ids[1], QoS::AtLeastOnce);
    assert_eq!(again(&mut outgoing, 9), [ids[0], ids[2], ids[3]]);
    assert!(!outgoing.has_room(3));
    assert!(outgoing.has_room(4));
}

#[test]
fn what_comes_after_the_last_page_was_asked_for_is_not_sent_and_read_again() {
    let mut outgoing = Outgoing::restored(Tail::restored(0, 1, 10, 0, 5), 5);
    let stored = |number| queued(QoS::AtLeastOnce).stored_as(number, false);
    assert_eq!(outgoing.ask(), Some(0));
    // On disk, and in the page already.
    let mut late = queued(QoS::AtLeastOnce);
    assert_eq!(outgoing.number(&mut late), 5);
    outgoing.wait_on_disk(5, late.cost);
    outgoing.turn_page(vec![stored(0), stored(5)], true);
    assert_eq!(outgoing.ask(), None, "all of it was read");
    let sent = std::iter::from_fn(|| {
        let next = outgoing.next_waiting()?;
        Some(outgoing.send(next))
    });
    assert_eq!(sent.collect::<Vec<_>>(), [id(1), id(6)]);
    assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(7));
    assert_eq!((outgoing.ask(), outgoing.waiting_count()), (None, 0));
}

#[test]
fn a_member_s_message_waits_once_though_the_store_has_it_too() {
    let mut outgoing = Outgoing::restored(Tail::restored(0, 1, 10, 0, 5), 5);
    assert_eq!(outgoing.ask(), Some(0));
    let mut own = dealt(QoS::AtLeastOnce, 3);
    assert_eq!(outgoing.number(&mut own), 5);
    own.set_stored();
    outgoing.wait(own);
    let tail = outgoing.tail().expect("it waits behind it");
    assert!(tail.leaves_out(5), "it is in memory");
    assert!(!tail.leaves_out(4), "that one came before the start");
    outgoing.turn_page(vec![queued(QoS::AtLeastOnce).stored_as(0, false)], true);
    let waiting = std::iter::from_fn(|| outgoing.next_waiting());
    let waiting: Vec<_> = waiting.map(|queued| queued.member()).collect();
    assert_eq!(waiting, [None, Some(key(3))]);
    assert!(!outgoing.has_tail());
}

fn again(outgoing: &mut Outgoing, receive_maximum: u16) -> Vec<PacketId> {
    outgoing.begin_resend();
    std::iter::from_fn(|| outgoing.next_resend(receive_maximum))
        .map(|what| match what {
            Resend::Publish(id, _) | Resend::Release(id) => id,
        })
        .collect()
}

#[test]
fn resending_keeps_to_a_receive_maximum_that_has_become_smaller() {
    let mut outgoing = Outgoing::default();
    let ids: Vec<_> = (0..4)
        .map(|_| outgoing.send(queued(QoS::AtLeastOnce)))
        .collect();
    assert_eq!(again(&mut outgoing, 2), [ids[0], ids[1]]);
    assert_eq!(outgoing.pending(), 2);
    assert!(!outgoing.has_room(9), "the old ones go first");
    assert!(outgoing.acknowledge(ids[1], QoS::AtLeastOnce).is_some());
    assert!(matches!(outgoing.next_resend(2), Some(Resend::Publish(id, _)) if id == ids[2]));
    assert!(outgoing.next_resend(2).is_none());
    assert!(outgoing.acknowledge(ids[0], QoS::AtLeastOnce).is_some());
    assert!(outgoing.acknowledge(ids[2], QoS::AtLeastOnce).is_some());
    assert!(matches!(outgoing.next_resend(2), Some(Resend::Publish(id, _)) if id == ids[3]));
    assert!(outgoing.has_room(2));
    assert_eq!(outgoing.pending(), 0);
}

#[test]
fn waiting_messages_are_counted_in_and_out() {
    let mut outgoing = Outgoing::default();
    outgoing.wait(queued(QoS::AtLeastOnce));
    outgoing.wait(queued(QoS::ExactlyOnce));
    assert_eq!(
        (outgoing.waiting_count(), outgoing.waiting_bytes()),
        (2, 20)
    );
    assert!(
        outgoing
            .next_waiting()
            .is_some_and(|queued| queued.qos == QoS::AtLeastOnce)
    );
    outgoing.send(queued(QoS::AtLeastOnce));
    assert_eq!(outgoing.into_messages().count(), 2);
}

#[test]
fn a_session_that_is_away_gives_back_what_another_member_may_get() {
    let mut outgoing = Outgoing::default();
    let own = outgoing.send(queued(QoS::AtLeastOnce));
    outgoing.send(dealt(QoS::AtLeastOnce, 5));
    let once = outgoing.send(dealt(QoS::ExactlyOnce, 5));
    outgoing.send(dealt(QoS::AtLeastOnce, 7));
    outgoing.wait(dealt(QoS::ExactlyOnce, 7));
    outgoing.wait(queued(QoS::AtLeastOnce));
    let taken: Vec<_> = outgoing
        .take_shared()
        .into_iter()
        .map(|(member, queued)| (member, queued.qos as u8))
        .collect();
    assert_eq!(taken, [(key(5), 1), (key(7), 1), (key(7), 2)]);
    assert_eq!(again(&mut outgoing, 9), [own, once]);
    assert_eq!(
        (outgoing.waiting_count(), outgoing.waiting_bytes()),
        (1, 10)
    );
    assert!(outgoing.has_room(3) && !outgoing.has_room(2));
    assert!(outgoing.take_shared().is_empty());
}

#[test]
fn a_session_that_leaves_a_group_finishes_what_was_sent() {
    let mut outgoing = Outgoing::default();
    let sent = outgoing.send(dealt(QoS::AtLeastOnce, 5));
    outgoing.wait(dealt(QoS::AtLeastOnce, 5));
    outgoing.wait(dealt(QoS::AtLeastOnce, 7));
    assert_eq!(outgoing.leave_shared(key(5)).len(), 1);
    assert_eq!(outgoing.waiting_count(), 1);
    let settled = outgoing.acknowledge(sent, QoS::AtLeastOnce);
    assert!(settled.is_some_and(|queued| queued.member().is_none()));
}

#[test]
fn a_step_forward_never_makes_two_ids_in_flight_the_same() {
    let mut outgoing = Outgoing::default();
    let mut in_flight: Vec<PacketId> = Vec::new();
    let (mut chance, mut number) = (1_u64, 0);
    let mut next = |most: u64| {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % most
    };
    let (mut steps, mut refused) = (0, 0);
    for turn in 0..20_000 {
        // Steps of one, of some, and now and then as far as there are ids and further.
        number += match next(500) {
            0 => next(3 * IDS),
            1..100 => next(100),
            _ => 1,
        };
        let own = outgoing.align(number);
        steps += u32::from(own == number);
        refused += u32::from(own < number);
        if outgoing.has_room(100) {
            let sent = outgoing.send(queued(QoS::AtLeastOnce));
            assert_eq!(sent, packet_id(own), "turn {turn}");
            assert!(!in_flight.contains(&sent), "turn {turn}");
            in_flight.push(sent);
        }
        // The oldest stays longest: it is what a step must not come around to.
        let left = [0, 20][usize::from(next(100) != 0)];
        while in_flight.len() > left {
            let at = in_flight.len().min(2) - 1;
            let settled = in_flight.remove(at);
            assert!(outgoing.acknowledge(settled, QoS::AtLeastOnce).is_some());
        }
        number = number.max(own);
    }
    assert!(steps > 1_000 && refused > 1_000, "{steps} and {refused}");
}

#[test]
fn a_run_is_taken_whole_or_not_at_all() {
    let mut outgoing = Outgoing::default();
    assert_eq!(outgoing.align(10), 10);
    assert!(outgoing.takes_run(10, 5, 5) && !outgoing.takes_run(10, 6, 5));
    assert!(!outgoing.takes_run(11, 1, 5), "another number");
    assert_eq!(outgoing.send(queued(QoS::AtLeastOnce)), id(11));
    assert!(outgoing.takes_run(11, 4, 5) && !outgoing.takes_run(11, 5, 5));
    // No way back, not even with nothing in flight.
    outgoing.acknowledge(id(11), QoS::AtLeastOnce);
    assert_eq!(outgoing.align(3), 11);
    outgoing.wait(queued(QoS::AtLeastOnce));
    assert!(!outgoing.takes_run(11, 1, 5), "something waits");
    outgoing.next_waiting();
    outgoing.send(queued(QoS::AtLeastOnce));
    outgoing.begin_resend();
    assert!(!outgoing.takes_run(12, 1, 5), "something goes again first");
    // Up to the last id that the oldest leaves free.
    outgoing.next_resend(5);
    assert_eq!(outgoing.align(11 + IDS - 1), 11 + IDS - 1);
    assert!(outgoing.takes_run(11 + IDS - 1, 1, 5));
    assert!(!outgoing.takes_run(11 + IDS - 1, 2, 5));
    outgoing.send(queued(QoS::AtLeastOnce));
    assert!(!outgoing.takes_run(11 + IDS, 1, 5));
    assert_eq!(outgoing.align(20 + IDS), 11 + IDS, "a step too far");
    assert!(!outgoing.has_room(5));
}
