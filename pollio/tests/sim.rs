//! The simulation does what Linux does.

#![cfg(not(loom))]

use std::io::{ErrorKind, IoSlice};

use pollio::{
    Backend, Events, Interest, Mode, Readiness, Token,
    net::{Accepted, accept_batch, accept_next},
    sim::{End, Outcome, SimBackend, SimListener, SimNet, SimPeer, SimStream},
};

const STREAM: Token = Token(1);
const READABLE: Readiness = Readiness::READABLE;
const WRITABLE: Readiness = Readiness::WRITABLE;

fn listener(net: &SimNet) -> SimListener {
    net.listen("192.0.2.1:1".parse().unwrap()).unwrap()
}

fn pair(net: &SimNet) -> (SimBackend, SimStream, SimPeer) {
    let mut backend = net.backend();
    let listener = listener(net);
    let peer = net.connect(listener.local_addr()).unwrap();
    let (stream, addr) = backend.accept(&listener).unwrap();
    assert_eq!(addr, peer.addr());
    (backend, stream, peer)
}

/// What a wait that does not block reports of the stream.
fn poll(backend: &mut SimBackend) -> Option<Readiness> {
    let mut events = Events::with_capacity(8);
    backend.wait(&mut events, Some(0)).unwrap();
    let all: Vec<_> = events.iter().collect();
    assert!(all.len() <= 1 && all.iter().all(|(token, _)| *token == STREAM));
    all.first().map(|(_, readiness)| *readiness)
}

fn write(backend: &mut SimBackend, stream: &SimStream, bytes: &[u8]) -> Result<usize, ErrorKind> {
    backend
        .write_vectored(stream, &[IoSlice::new(bytes)])
        .map_err(|error| error.kind())
}

fn read(backend: &mut SimBackend, stream: &SimStream) -> Result<Vec<u8>, ErrorKind> {
    let mut buf = [0; 100];
    let count = backend
        .read(stream, &mut buf)
        .map_err(|error| error.kind())?;
    Ok(buf[..count].to_vec())
}

#[test]
fn time_passes_only_in_timeouts_and_sleep_without_end_is_an_error() {
    let net = SimNet::new(0);
    let mut backend = net.backend();
    let mut events = Events::with_capacity(1);
    let start = backend.now_ns();
    backend.wait(&mut events, Some(5000)).unwrap();
    assert_eq!(backend.now_ns(), start + 5000);
    assert!(backend.wait(&mut events, None).is_err());
    backend.waker().wake();
    assert!(backend.has_work());
    backend.wait(&mut events, None).unwrap();
    assert!(!backend.has_work());
    net.advance(7);
    assert_eq!(backend.now_ns(), start + 5007);
}

#[test]
fn edges_are_reported_once_and_levels_until_they_are_gone() {
    let net = SimNet::new(0);
    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    assert_eq!(poll(&mut backend), Some(WRITABLE));
    peer.send(b"a").unwrap();
    assert_eq!(poll(&mut backend), Some(READABLE | WRITABLE));
    assert_eq!(poll(&mut backend), None);
    peer.send(b"b").unwrap();
    assert_eq!(poll(&mut backend), Some(READABLE | WRITABLE));
    backend.remove_stream(&stream).unwrap();
    assert_eq!(
        backend.remove_stream(&stream).unwrap_err().kind(),
        ErrorKind::NotFound
    );

    backend
        .add_stream(&stream, STREAM, Interest::READABLE, Mode::Level)
        .unwrap();
    assert_eq!(poll(&mut backend), Some(READABLE));
    assert_eq!(poll(&mut backend), Some(READABLE));
    assert_eq!(read(&mut backend, &stream).unwrap(), b"ab");
    assert_eq!(poll(&mut backend), None);
    backend.remove_stream(&stream).unwrap();

    backend
        .add_stream(&stream, STREAM, Interest::READABLE, Mode::EdgeOneShot)
        .unwrap();
    peer.send(b"c").unwrap();
    assert_eq!(poll(&mut backend), Some(READABLE));
    peer.send(b"d").unwrap();
    assert_eq!(poll(&mut backend), None);
}

#[test]
fn room_is_an_event_only_after_a_write_that_wanted_more() {
    let net = SimNet::new(0);
    net.set_buffer_bytes(4);
    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    assert_eq!(poll(&mut backend), Some(WRITABLE));
    assert_eq!(write(&mut backend, &stream, b"1234"), Ok(4));
    assert_eq!(peer.receive_all(), b"1234");
    assert_eq!(poll(&mut backend), None);
    assert_eq!(write(&mut backend, &stream, b"567890"), Ok(4));
    assert_eq!(
        write(&mut backend, &stream, b"90"),
        Err(ErrorKind::WouldBlock)
    );
    assert_eq!(poll(&mut backend), None);
    assert_eq!(peer.receive_all(), b"5678");
    assert_eq!(poll(&mut backend), Some(WRITABLE));
}

#[test]
fn half_close_reset_and_closing_with_unread_bytes() {
    let net = SimNet::new(0);
    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    peer.send(b"last").unwrap();
    peer.shutdown_write();
    let seen = poll(&mut backend).unwrap();
    assert!(seen.is_read_closed() && !seen.is_hup());
    assert_eq!(read(&mut backend, &stream).unwrap(), b"last");
    assert_eq!(read(&mut backend, &stream).unwrap(), b"");
    assert_eq!(write(&mut backend, &stream, b"answer"), Ok(6));
    drop(stream);
    assert_eq!(peer.end(), None, "there are bytes to be received");
    assert_eq!(peer.receive_all(), b"answer");
    assert_eq!(peer.end(), Some(End::Closed));

    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    peer.send(b"read me").unwrap();
    peer.reset();
    let seen = poll(&mut backend).unwrap();
    assert!(seen.is_hup() && seen.is_error() && seen.is_readable());
    assert_eq!(read(&mut backend, &stream).unwrap(), b"read me");
    assert_eq!(read(&mut backend, &stream), Err(ErrorKind::ConnectionReset));
    assert_eq!(read(&mut backend, &stream).unwrap(), b"");
    assert_eq!(
        write(&mut backend, &stream, b"x"),
        Err(ErrorKind::BrokenPipe)
    );

    let (mut backend, stream, peer) = pair(&net);
    peer.send(b"never read").unwrap();
    assert_eq!(write(&mut backend, &stream, b"never received"), Ok(14));
    drop(stream);
    assert_eq!(peer.end(), Some(End::Reset));
    assert_eq!(peer.receive_all(), b"");
    assert_eq!(
        peer.send(b"x").unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn writing_to_a_peer_that_has_closed_breaks_after_the_first_write() {
    let net = SimNet::new(0);
    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    peer.close();
    assert!(poll(&mut backend).unwrap().is_read_closed());
    assert_eq!(write(&mut backend, &stream, b"x"), Ok(1));
    assert!(poll(&mut backend).unwrap().is_error());
    assert_eq!(
        write(&mut backend, &stream, b"x"),
        Err(ErrorKind::BrokenPipe)
    );
}

#[test]
fn scripts_say_what_happens() {
    let net = SimNet::new(0);
    let (mut backend, stream, peer) = pair(&net);
    backend
        .add_stream(&stream, STREAM, Interest::READABLE, Mode::Edge)
        .unwrap();
    peer.script_reads([
        Outcome::Interrupted,
        Outcome::WouldBlock,
        Outcome::AtMost(2),
    ]);
    peer.script_writes([Outcome::AtMost(3), Outcome::Error(113)]);
    peer.send(b"abcde").unwrap();
    assert_eq!(poll(&mut backend), Some(READABLE));
    assert_eq!(read(&mut backend, &stream), Err(ErrorKind::Interrupted));
    assert_eq!(read(&mut backend, &stream), Err(ErrorKind::WouldBlock));
    assert_eq!(
        poll(&mut backend),
        Some(READABLE),
        "an untrue WouldBlock is followed by an event"
    );
    assert_eq!(read(&mut backend, &stream).unwrap(), b"ab");
    assert_eq!(poll(&mut backend), Some(READABLE), "and so is a short read");
    assert_eq!(read(&mut backend, &stream).unwrap(), b"cde");
    assert_eq!(write(&mut backend, &stream, b"12345"), Ok(3));
    assert_eq!(
        write(&mut backend, &stream, b"45"),
        Err(ErrorKind::HostUnreachable)
    );
    assert_eq!(peer.receive_all(), b"123");
}

#[test]
fn accepting_meets_interruptions_failures_and_the_limit() {
    let net = SimNet::new(0);
    let mut backend = net.backend();
    let listener = listener(&net);
    backend.add_listener(&listener, Token(0)).unwrap();
    let peers: Vec<_> = (0..5)
        .map(|_| net.connect(listener.local_addr()).unwrap())
        .collect();
    net.set_streams_max(2);
    const ECONNABORTED: i32 = 103;
    listener.script_accepts([Outcome::Interrupted, Outcome::Error(ECONNABORTED)]);
    let mut streams = Vec::new();
    let batch = accept_batch(&mut backend, &listener, 64, &mut streams).unwrap();
    assert_eq!((batch.accepted, batch.aborted, batch.shed), (2, 1, 2));
    assert_eq!(net.streams_open(), 2);
    assert!(matches!(
        accept_next(&mut backend, &listener),
        Ok(Accepted::Empty)
    ));
    let ends: Vec<_> = peers.iter().map(SimPeer::end).collect();
    let (open, closed) = (None, Some(End::Closed));
    assert_eq!(ends, [Some(End::Reset), open, open, closed, closed]);

    let late = net.connect(listener.local_addr()).unwrap();
    drop(listener);
    assert_eq!(late.end(), Some(End::Reset));
    let refused = net.connect("192.0.2.1:1".parse().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_stream_that_moves_to_another_loop_is_reported_there_alone() {
    let net = SimNet::new(0);
    let (mut old, stream, peer) = pair(&net);
    let mut new = net.backend();
    old.add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    peer.send(b"x").unwrap();
    old.remove_stream(&stream).unwrap();
    new.add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    assert_eq!(poll(&mut new), Some(READABLE | WRITABLE));
    assert_eq!(poll(&mut old), None);
    peer.send(b"y").unwrap();
    assert_eq!(poll(&mut old), None);
    assert_eq!(poll(&mut new), Some(READABLE | WRITABLE));
}

#[test]
fn one_seed_is_one_story() {
    let story = |seed| {
        let net = SimNet::new(seed);
        net.set_faults(pollio::sim::Faults::all(300));
        let listener = listener(&net);
        let mut backend = net.backend();
        let mut peers = Vec::new();
        let mut log = Vec::new();
        for round in 0..50 {
            peers.push(net.connect(listener.local_addr()).unwrap());
            let mut streams = Vec::new();
            let batch = accept_batch(&mut backend, &listener, 2, &mut streams).unwrap();
            log.push((round, batch.accepted, batch.shed, batch.aborted));
        }
        log
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}
