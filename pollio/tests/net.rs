//! Sockets: options, kinds of listeners, and peers that misbehave.

#![cfg(not(loom))]

use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
};

use pollio::{
    Backend, Epoll, Events, Interest, Mode, PeerAddr, Readiness, Token,
    net::{KeepAlive, ListenOptions, Listener, Stream, accept_batch},
};
use rustix::net::sockopt;

const STREAM: Token = Token(9);

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A backend with one accepted, registered stream, and its peer.
fn pair(options: &ListenOptions) -> (Epoll, Stream, TcpStream) {
    let listener = Listener::bind(&any(), options).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut epoll = Epoll::new().unwrap();
    epoll.add_listener(&listener, Token(0)).unwrap();
    epoll.wait(&mut Events::with_capacity(1), None).unwrap();
    let (stream, addr) = epoll.accept(&listener).unwrap();
    assert_eq!(addr.to_socket_addr().unwrap(), peer.local_addr().unwrap());
    assert_eq!(addr, stream.peer_addr().unwrap());
    epoll
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    (epoll, stream, peer)
}

/// Waits until the stream is reported as at least this.
fn wait_for(epoll: &mut Epoll, wanted: Readiness) -> Readiness {
    let mut events = Events::with_capacity(8);
    let mut seen = Readiness::EMPTY;
    while seen.merge(wanted) != seen {
        epoll.wait(&mut events, None).unwrap();
        for (token, readiness) in events.iter() {
            assert_eq!(token, STREAM);
            seen = seen.merge(readiness);
        }
    }
    seen
}

#[test]
fn accepted_streams_inherit_the_listeners_options() {
    let options = ListenOptions {
        keepalive: Some(KeepAlive {
            idle_s: 61,
            interval_s: 7,
            probes: 4,
        }),
        user_timeout_ms: Some(12_345),
        recv_buffer_bytes: Some(40_000),
        send_buffer_bytes: Some(50_000),
        ..ListenOptions::default()
    };
    let (_epoll, stream, _peer) = pair(&options);
    assert!(sockopt::tcp_nodelay(&stream).unwrap());
    assert!(sockopt::socket_keepalive(&stream).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&stream).unwrap().as_secs(), 61);
    assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap().as_secs(), 7);
    assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 4);
    assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 12_345);
    assert!(sockopt::socket_recv_buffer_size(&stream).unwrap() >= 40_000);
    assert!(sockopt::socket_send_buffer_size(&stream).unwrap() >= 50_000);

    stream.set_keepalive(None).unwrap();
    stream.set_nodelay(false).unwrap();
    assert!(!sockopt::socket_keepalive(&stream).unwrap());
    assert!(!sockopt::tcp_nodelay(&stream).unwrap());
}

#[test]
fn a_half_closed_peer_is_read_to_the_end_and_still_written_to() {
    let (mut epoll, stream, mut peer) = pair(&ListenOptions::default());
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let seen = wait_for(&mut epoll, Readiness::READABLE | Readiness::READ_CLOSED);
    assert!(seen.must_read_to_end() && !seen.is_hup());
    let mut buf = [0; 64];
    assert_eq!(epoll.read(&stream, &mut buf).unwrap(), 10);
    assert_eq!(epoll.read(&stream, &mut buf).unwrap(), 0);
    assert_eq!(
        epoll
            .write_vectored(&stream, &[IoSlice::new(b"bye")])
            .unwrap(),
        3
    );
    epoll.shutdown_write(&stream).unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
    assert!(wait_for(&mut epoll, Readiness::HUP).is_hup());
}

#[test]
fn a_reset_is_reported_and_read() {
    let (mut epoll, stream, peer) = pair(&ListenOptions::default());
    sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
    drop(peer);
    let seen = wait_for(&mut epoll, Readiness::ERROR | Readiness::HUP);
    assert!(seen.is_readable() && seen.must_read_to_end());
    let error = epoll.read(&stream, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The process would have died if a signal were raised.
    let error = epoll
        .write_vectored(&stream, &[IoSlice::new(b"x")])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_peer_that_does_not_read_blocks_writing_until_it_does() {
    let options = ListenOptions {
        send_buffer_bytes: Some(16 * 1024),
        ..ListenOptions::default()
    };
    let (mut epoll, stream, mut peer) = pair(&options);
    wait_for(&mut epoll, Readiness::WRITABLE);
    let block = vec![7_u8; 4096];
    // More slices than one system call takes: the surplus is for the next one.
    let slices = vec![IoSlice::new(&block); 1500];
    let mut sent = 0;
    loop {
        match epoll.write_vectored(&stream, &slices) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let mut got = vec![0; sent];
    peer.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|&byte| byte == 7));
    wait_for(&mut epoll, Readiness::WRITABLE);
    assert!(epoll.write_vectored(&stream, &slices[..1]).unwrap() > 0);
}

#[test]
fn connecting_reports_success_and_refusal() {
    let listener = Listener::bind(&any(), &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut epoll = Epoll::new().unwrap();
    let stream = Stream::connect(&addr).unwrap();
    epoll
        .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
        .unwrap();
    wait_for(&mut epoll, Readiness::WRITABLE);
    assert!(stream.take_error().unwrap().is_none());
    assert_eq!(stream.peer_addr().unwrap(), PeerAddr::from(addr));
    drop((listener, stream));

    // The kernel may refuse at once on the loopback, or later.
    match Stream::connect(&addr) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        Ok(stream) => {
            epoll
                .add_stream(&stream, STREAM, Interest::BOTH, Mode::Edge)
                .unwrap();
            wait_for(&mut epoll, Readiness::ERROR);
            let error = stream.take_error().unwrap().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    }
}

#[test]
fn an_address_is_shared_only_if_all_agree() {
    let shared = ListenOptions {
        reuse_port: true,
        ..ListenOptions::default()
    };
    let one = Listener::bind(&any(), &shared).unwrap();
    let addr = one.local_addr().unwrap();
    let two = Listener::bind(&addr, &shared).unwrap();
    let alone = Listener::bind(&addr, &ListenOptions::default()).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::AddrInUse);

    let _peers: Vec<_> = (0..32).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut epoll = Epoll::new().unwrap();
    let mut streams = Vec::new();
    let count = [one, two].map(|listener| {
        accept_batch(&mut epoll, &listener, 64, &mut streams)
            .unwrap()
            .accepted
    });
    assert_eq!(count[0] + count[1], 32);
}

#[test]
fn an_exclusive_listener_reports_to_one_of_two_loops_at_least() {
    let options = ListenOptions {
        exclusive: true,
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&any(), &options).unwrap();
    let other = listener.try_clone().unwrap();
    let (mut one, mut two) = (Epoll::new().unwrap(), Epoll::new().unwrap());
    one.add_listener(&listener, Token(1)).unwrap();
    two.add_listener(&other, Token(2)).unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut events = Events::with_capacity(4);
    let mut reported = 0;
    for epoll in [&mut one, &mut two] {
        epoll.wait(&mut events, Some(0)).unwrap();
        reported += events.iter().count();
    }
    assert!(reported >= 1);
}

#[test]
fn listeners_take_ipv6_unix_and_the_rarer_options() {
    let directory = std::env::temp_dir().join(format!("pollio-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let listener = Listener::bind_unix(&path, &ListenOptions::default()).unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    let (stream, addr) = listener.accept().unwrap();
    assert!(addr.is_unix() && addr.is_loopback());
    peer.write_all(b"hi").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 2);
    assert!(listener.local_addr().is_err());
    std::fs::remove_dir_all(&directory).unwrap();

    let options = ListenOptions {
        defer_accept_s: Some(5),
        freebind: true,
        incoming_cpu: Some(0),
        ..ListenOptions::default()
    };
    Listener::bind(&any(), &options).unwrap();
    // Machines without IPv6 have nothing to test here.
    if let Ok(listener) = Listener::bind(&"[::1]:0".parse().unwrap(), &options) {
        assert!(sockopt::ipv6_v6only(&listener).unwrap());
    }
}

#[test]
fn a_deferring_listener_reports_a_connection_with_its_first_bytes() {
    let options = ListenOptions {
        defer_accept_s: Some(600),
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&any(), &options).unwrap();
    let mut epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(4);
    epoll.add_listener(&listener, Token(1)).unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Connected as far as the peer can tell, but nobody has been told.
    epoll.wait(&mut events, Some(0)).unwrap();
    assert!(events.is_empty());
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);

    peer.write_all(b"now").unwrap();
    epoll.wait(&mut events, None).unwrap();
    assert_eq!(events.iter().next().unwrap().0, Token(1));
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 3);
}

#[test]
fn a_listener_keeps_the_processor_that_it_was_given() {
    let cpu = pollio::affinity::available_cpus().unwrap()[0] as u32;
    let options = ListenOptions {
        reuse_port: true,
        incoming_cpu: Some(cpu),
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&any(), &options).unwrap();
    assert_eq!(sockopt::socket_incoming_cpu(&listener).unwrap(), cpu);
    assert!(sockopt::socket_reuseport(&listener).unwrap());
}
