//! A loop to be watched by strace: what it asks of the system, and how often.
//!
//! ```sh
//! strace -f -c target/debug/examples/turns busy 1000
//! ```
//!
//! - `busy N`: N turns that each find one source ready and have a deadline ahead; the source is
//!   edge-triggered and not read, and told to be ready again by a write.
//! - `wakes N`: N messages to a loop that is at work, from its own thread.
//! - `sleeps N`: N messages to a loop that sleeps in between, from another thread.
//! - `idle N`: a loop with N connections and nothing due, for as long as standard input is open.
//!
//! `.ci/syscalls` counts.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    thread,
};

use pollio::{
    Budget, Epoll, Interest, Io, Mode, Progress, Reactor, ReactorOptions, Readiness, Receiver,
    Server, Token, mailbox,
};
use rustix::event::{EventfdFlags, eventfd};

#[derive(Default)]
struct Counting {
    served: usize,
    inbox: Option<Receiver<()>>,
    messages: Vec<()>,
    received: usize,
    deadline_ns: Option<u64>,
}

impl Server<Epoll> for Counting {
    fn on_turn(&mut self, now_ns: u64) {
        if let Some(deadline_ns) = &mut self.deadline_ns {
            // A second ahead: every wait has a timeout and none is reached.
            *deadline_ns = now_ns + 1_000_000_000;
        }
    }

    fn on_ready(&mut self, _: &mut Io<'_, Epoll>, _: Token, _: Readiness, _: &Budget) -> Progress {
        self.served += 1;
        Progress::Done
    }

    fn on_messages(&mut self, _: &mut Io<'_, Epoll>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.drain_into(&mut self.messages);
            self.received += self.messages.drain(..).count();
        }
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.deadline_ns
    }
}

fn busy(reactor: &mut Reactor<Epoll>, count: usize) -> io::Result<()> {
    let source = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let poller = reactor.backend().poller();
    poller.add(&source, Token(1), Interest::READABLE, Mode::Edge)?;
    let mut server = Counting {
        deadline_ns: Some(u64::MAX),
        ..Counting::default()
    };
    for _ in 0..count {
        rustix::io::write(&source, &1_u64.to_ne_bytes())?;
        reactor.turn(&mut server)?;
    }
    assert_eq!(server.served, count);
    Ok(())
}

fn wakes(reactor: &mut Reactor<Epoll>, count: usize) -> io::Result<()> {
    let (sender, inbox) = mailbox(count, reactor.waker());
    let mut server = Counting {
        inbox: Some(inbox),
        ..Counting::default()
    };
    for _ in 0..count {
        // The loop is not asleep: this costs no system call, whatever the number.
        sender.push_unbounded(());
    }
    reactor.run(&mut server, |server| server.received == count)?;

    Ok(())
}

fn sleeps(reactor: &mut Reactor<Epoll>, count: usize) -> io::Result<()> {
    let (sender, inbox) = mailbox(count, reactor.waker());
    let mut server = Counting {
        inbox: Some(inbox),
        ..Counting::default()
    };
    let (ask, asked) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        for () in asked {
            sender.push_unbounded(());
        }
    });
    for n in 1..=count {
        ask.send(()).map_err(io::Error::other)?;
        reactor.run(&mut server, |server| server.received == n)?;
    }
    drop(ask);
    thread
        .join()
        .map_err(|_| io::Error::other("the sender has panicked"))
}

fn idle(reactor: &mut Reactor<Epoll>, count: usize) -> io::Result<()> {
    let pairs = (0..count)
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()?;
    for (n, (near, _)) in pairs.iter().enumerate() {
        let poller = reactor.backend().poller();
        poller.add(near, Token(n as u64), Interest::BOTH, Mode::Edge)?;
    }
    let (sender, inbox) = mailbox(1, reactor.waker());
    let mut server = Counting {
        inbox: Some(inbox),
        ..Counting::default()
    };
    // New sources report that they are writable; after that there is nothing.
    while server.served < count {
        reactor.turn(&mut server)?;
    }
    eprintln!("idle");
    let thread = thread::spawn(move || {
        let end = io::stdin().read_to_end(&mut Vec::new());
        sender.push_unbounded(());
        end
    });
    reactor.run(&mut server, |server| server.received == 1)?;
    eprintln!("{} turns", reactor.metrics().turns);
    thread
        .join()
        .map_err(|_| io::Error::other("the reader has panicked"))?
        .map(drop)
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "busy".into());
    let count = args.next().and_then(|count| count.parse().ok());
    let count = count.unwrap_or(1000);
    let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
    match &*what {
        "busy" => busy(&mut reactor, count),
        "wakes" => wakes(&mut reactor, count),
        "sleeps" => sleeps(&mut reactor, count),
        "idle" => idle(&mut reactor, count),
        _ => Err(io::Error::other("busy, wakes, sleeps or idle")),
    }
}
