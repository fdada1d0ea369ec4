//! The reactor over real sockets.

#![cfg(not(loom))]

#[path = "support/echo.rs"]
mod echo;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use echo::{Echo, LISTENER, Message};
use pollio::{
    Backend, Budget, Epoll, Io, Progress, Reactor, ReactorOptions, Readiness, Sender, Server,
    Token, mailbox,
    net::{ListenOptions, Listener, Stream},
};

fn listener() -> Listener {
    Listener::bind(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap()
}

/// An echo server on a thread of its own; answers its listener's address and mailbox, and gives
/// the server back at its end.
fn spawn_echo(
    options: ReactorOptions,
) -> (
    std::net::SocketAddr,
    Sender<Message<Stream>>,
    thread::JoinHandle<Echo<Epoll>>,
) {
    let listener = listener();
    let addr = listener.local_addr().unwrap();
    let epoll = Epoll::new().unwrap();
    let (sender, inbox) = mailbox(16, epoll.waker());
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::new(epoll, options);
        reactor.backend().add_listener(&listener, LISTENER).unwrap();
        let mut server = Echo::new(Some(listener));
        server.inbox = Some(inbox);
        reactor.run(&mut server, |server| server.stopped).unwrap();
        server
    });
    (addr, sender, thread)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|n| (n % 251) as u8 ^ (n / 251) as u8 ^ seed)
        .collect()
}

#[test]
fn echoes_everything_in_order_within_small_budgets() {
    let options = ReactorOptions {
        events_max: 2,
        read_bytes_max: 1000,
        ..ReactorOptions::default()
    };
    let (addr, sender, server) = spawn_echo(options);
    thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let sent = pattern(200_000 + seed * 1000, seed as u8);
                let mut stream = TcpStream::connect(addr).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let expected = sent.clone();
                let thread = thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                thread.join().unwrap();
                assert!(got == expected, "the echo differs");
            });
        }
    });
    sender.push_unbounded(Message::Stop);
    let server = server.join().unwrap();
    assert_eq!((server.accepted, server.closed), (8, 8));
}

#[test]
fn a_stream_is_handed_over_with_the_bytes_already_read() {
    let (_, sender, server) = spawn_echo(ReactorOptions::default());
    let front = listener();
    let mut client = TcpStream::connect(front.local_addr().unwrap()).unwrap();
    client.write_all(b"CONNECT and more").unwrap();

    // A front that reads a part and passes the stream on.
    let mut epoll = Epoll::new().unwrap();
    let mut events = pollio::Events::with_capacity(4);
    epoll.add_listener(&front, LISTENER).unwrap();
    epoll.wait(&mut events, None).unwrap();
    let (stream, addr) = epoll.accept(&front).unwrap();
    assert!(addr.is_loopback());
    epoll
        .add_stream(
            &stream,
            Token(1),
            pollio::Interest::BOTH,
            pollio::Mode::Edge,
        )
        .unwrap();
    let mut buf = [0; 7];
    while let Err(error) = epoll.read(&stream, &mut buf) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        epoll.wait(&mut events, None).unwrap();
    }
    epoll.remove_stream(&stream).unwrap();
    sender.push_unbounded(Message::Adopt(stream, buf.to_vec()));

    client.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, "CONNECT and more");
    sender.push_unbounded(Message::Stop);
    assert_eq!(server.join().unwrap().closed, 1);
}

/// Writes down what it is called with.
#[derive(Default)]
struct Recorder {
    log: Vec<String>,
    deadline: Option<u64>,
    more: usize,
    background: usize,
}

impl Server<Epoll> for Recorder {
    fn on_turn(&mut self, _: u64) {
        self.log.push("turn".into());
    }

    fn on_ready(
        &mut self,
        _: &mut Io<'_, Epoll>,
        token: Token,
        readiness: Readiness,
        _: &Budget,
    ) -> Progress {
        self.log.push(format!("ready {} {readiness:?}", token.0));
        if self.more > 0 {
            self.more -= 1;
            return Progress::More;
        }
        Progress::Done
    }

    fn on_messages(&mut self, _: &mut Io<'_, Epoll>) {
        self.log.push("messages".into());
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.deadline
    }

    fn on_timers(&mut self, io: &mut Io<'_, Epoll>, now_ns: u64) {
        assert_eq!(io.now_ns(), now_ns);
        assert!(
            self.deadline
                .take()
                .is_some_and(|deadline| deadline <= now_ns)
        );
        self.log.push("timers".into());
    }

    fn background(&mut self, _: &mut Io<'_, Epoll>, budget_ns: u64) -> Progress {
        self.log.push(format!("background {budget_ns}"));
        if self.background > 0 {
            self.background -= 1;
            return Progress::More;
        }
        Progress::Done
    }

    fn flush(&mut self, _: &mut Io<'_, Epoll>) {
        self.log.push("flush".into());
    }
}

fn recorder() -> (Reactor<Epoll>, Recorder) {
    (
        Reactor::new(Epoll::new().unwrap(), ReactorOptions::default()),
        Recorder::default(),
    )
}

#[test]
fn a_turn_calls_in_order() {
    let (mut reactor, mut server) = recorder();
    server.deadline = Some(0);
    reactor.make_ready(Token(5));
    reactor.make_ready(Token(4));
    reactor.io().make_ready_for(Token(5), Readiness::WRITABLE);
    let turn = reactor.turn(&mut server).unwrap();
    assert_eq!(
        server.log,
        [
            "turn",
            r#"ready 5 {"readable", "writable"}"#,
            r#"ready 4 {"readable"}"#,
            "messages",
            "timers",
            "background 200000",
            "flush",
        ]
    );
    assert_eq!((turn.served, turn.ready, turn.timers), (2, 0, true));
}

#[test]
fn more_keeps_the_loop_awake_and_the_token_on_the_list() {
    let (mut reactor, mut server) = recorder();
    server.more = 3;
    server.background = 2;
    reactor.make_ready(Token(1));
    // Each of these turns would wait for ever if the loop slept.
    let ready: Vec<_> = (0..4)
        .map(|_| reactor.turn(&mut server).unwrap().ready)
        .collect();
    assert_eq!(ready, [1, 1, 1, 0]);
    assert_eq!((reactor.metrics().more, reactor.metrics().served), (3, 4));
    assert_eq!(reactor.metrics().waits_blocking, 0);
}

#[test]
fn a_deadline_ends_the_wait() {
    let (mut reactor, mut server) = recorder();
    server.deadline = Some(reactor.backend().now_ns() + 200_000);
    while server.deadline.is_some() {
        reactor.turn(&mut server).unwrap();
    }
    assert!(server.log.contains(&"timers".to_string()));
    assert!(reactor.metrics().idle_ns > 0);
}

#[test]
fn a_deadline_that_has_come_is_no_wait_that_may_block() {
    let (mut reactor, mut server) = recorder();
    server.deadline = Some(0);
    assert!(reactor.turn(&mut server).unwrap().timers);
    assert_eq!(reactor.metrics().waits_blocking, 0);
    assert_eq!(reactor.metrics().idle_ns, 0);
    assert!(reactor.metrics().busy_ns > 0);
}

#[test]
fn a_wake_ends_the_wait_and_one_during_the_turn_costs_none() {
    let (mut reactor, mut server) = recorder();
    let waker = reactor.waker();
    waker.wake();
    reactor.turn(&mut server).unwrap();
    assert!(waker.prepare_park(), "the wake was taken");
    waker.unpark();
    thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        reactor.turn(&mut server).unwrap();
    });
}
