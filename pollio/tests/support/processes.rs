//! A server process and its parent's end of it.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use pollio::{
    Backend, Budget, Epoll, Io, Progress, Reactor, ReactorOptions, Readiness, Receiver, Server,
    Token, mailbox,
    net::{ListenOptions, Listener},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::{Echo, LISTENER};

/// The first argument of a server process.
pub(crate) const SERVER: &str = "--be-a-server";

/// What a server has counted.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Counters {
    pub(crate) open: usize,
    pub(crate) accepted: usize,
    pub(crate) shed: usize,
    pub(crate) pending: usize,
    pub(crate) turns: usize,
}

struct Serving {
    echo: Echo,
    inbox: Receiver<()>,
    asked: Vec<()>,
    turns: usize,
}

impl Server<Epoll> for Serving {
    fn on_turn(&mut self, _: u64) {
        self.turns += 1;
    }

    fn on_ready(
        &mut self,
        io: &mut Io<'_, Epoll>,
        token: Token,
        readiness: Readiness,
        budget: &Budget,
    ) -> Progress {
        self.echo.on_ready(io, token, readiness, budget)
    }

    fn on_messages(&mut self, _: &mut Io<'_, Epoll>) {
        self.inbox.drain_into(&mut self.asked);
        for () in self.asked.drain(..) {
            let echo = &self.echo;
            let line = format!(
                "{} {} {} {} {}\n",
                echo.open_now(),
                echo.accepted,
                echo.shed,
                echo.pending_bytes(),
                self.turns
            );
            io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
}

/// Serves until standard input ends. A line there is answered by the counters.
pub(crate) fn serve(descriptors: Option<u64>) {
    let limit = getrlimit(Resource::Nofile);
    let current = descriptors.or(limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();

    let listener =
        Listener::bind(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reactor = Reactor::new(Epoll::new().unwrap(), ReactorOptions::default());
    reactor.backend().add_listener(&listener, LISTENER).unwrap();
    let (sender, inbox) = mailbox(16, reactor.waker());
    let mut serving = Serving {
        echo: Echo::new(listener, |_| ()),
        inbox,
        asked: Vec::new(),
        turns: 0,
    };
    thread::spawn(move || {
        for line in io::stdin().lines() {
            line.unwrap();
            sender.push_unbounded(());
        }
        std::process::exit(0);
    });
    io::stdout()
        .write_all(format!("{addr}\n").as_bytes())
        .unwrap();
    reactor.run(&mut serving, |_| false).unwrap();
}

/// A server in another process, which ends with this.
pub(crate) struct Process {
    pub(crate) addr: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a server that may open so many descriptors, or as many as the system allows.
    pub(crate) fn start(descriptors: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(SERVER)
            .args(descriptors.map(|count| count.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Self {
            addr: line.trim().parse().unwrap(),
            child,
            input,
            output,
        }
    }

    /// Asks once.
    pub(crate) fn counters(&mut self) -> Counters {
        let input = self.input.as_mut().expect("it is there until the drop");
        input.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut numbers = line
            .split_whitespace()
            .map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Counters {
            open: next(),
            accepted: next(),
            shed: next(),
            pending: next(),
            turns: next(),
        }
    }

    /// Asks until it is so.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Counters) -> bool) -> Counters {
        loop {
            let counters = self.counters();
            if wanted(&counters) {
                return counters;
            }
            thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let result = self.child.wait();
        debug_assert!(result.is_ok_and(|status| status.success()) || thread::panicking());
    }
}
