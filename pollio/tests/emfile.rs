//! Running out of descriptors, alone in its process because the limit is the process's.

#![cfg(not(loom))]

use std::{
    fs::File,
    io::Read,
    net::{SocketAddr, TcpStream},
};

use pollio::{
    Backend, Epoll, Events, Progress, Token,
    net::{ListenOptions, Listener, Stream, accept_batch},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn clients(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect()
}

#[test]
fn connections_are_shed_and_accepting_goes_on_afterwards() {
    let old = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(64),
            maximum: old.maximum,
        },
    )
    .unwrap();

    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&any, &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(4);
    epoll.add_listener(&listener, Token(1)).unwrap();

    let mut waiting = clients(addr, 10);
    let mut hogs = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hogs.push(file);
    }
    epoll.wait(&mut events, None).unwrap();
    let mut streams: Vec<(Stream, _)> = Vec::new();
    let batch = accept_batch(&mut epoll, &listener, 6, &mut streams).unwrap();
    assert_eq!(
        (batch.accepted, batch.shed, batch.progress),
        (0, 6, Progress::More)
    );
    hogs.truncate(hogs.len() - 2);
    let batch = accept_batch(&mut epoll, &listener, 64, &mut streams).unwrap();
    assert_eq!(
        (batch.accepted, batch.shed, batch.progress),
        (2, 2, Progress::Done)
    );
    hogs.clear();

    // The kernel serves the backlog in order: six were shed, two kept, two shed.
    for (n, client) in waiting.iter_mut().enumerate() {
        if !(6..8).contains(&n) {
            // The end of the stream, or a reset: the peer knows either way.
            assert!(
                matches!(client.read(&mut [0]), Ok(0) | Err(_)),
                "client {n}"
            );
        }
    }
    drop(waiting);
    let _new = clients(addr, 3);
    let batch = accept_batch(&mut epoll, &listener, 64, &mut streams).unwrap();
    assert_eq!((batch.accepted, batch.shed), (3, 0));
}
