//! Real sockets, with the clients in this process and the server in another, so that each has the
//! descriptors to itself.
//!
//! The server is that of the echo example. This program is both sides; a server is told to print
//! its counters by a line on its standard input. Nothing here waits for a time to pass.
//!
//! `POLLIO_SOAK_OPS` makes the soak longer.

#[cfg(not(loom))]
#[allow(dead_code, reason = "the example's own main uses the rest")]
#[path = "../examples/echo/server.rs"]
mod server;
#[cfg(not(loom))]
#[path = "support/processes.rs"]
mod support;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some(support::SERVER) {
        let descriptors = args.next().and_then(|count| count.parse().ok());
        return support::serve(descriptors);
    }
    // The flags of the test harness that this program does without; a filter is obeyed.
    let filter = first.filter(|arg| !arg.starts_with('-'));
    tests::run(&filter.unwrap_or_default());
}

#[cfg(not(loom))]
mod tests {
    use std::{
        io::{self, ErrorKind, Read, Write},
        net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream},
        thread,
        time::Duration,
    };

    use rustix::{
        net::{AddressFamily, SocketType, bind, connect, socket, sockopt::set_socket_linger},
        process::{Resource, Rlimit, getrlimit, setrlimit},
    };

    use super::support::Process;

    const TESTS: [(&str, fn()); 5] = [
        ("eighteen_thousand", eighteen_thousand),
        ("out_of_descriptors", out_of_descriptors),
        ("never_reads", never_reads),
        ("half_closed", half_closed),
        ("soak", soak),
    ];

    pub(super) fn run(filter: &str) {
        for (name, test) in TESTS {
            if name.contains(filter) {
                test();
                say(&format!("test {name} ... ok"));
            }
        }
    }

    fn say(line: &str) {
        io::stdout()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// Resets instead of closing, so that no port has to wait for its time.
    fn reset(stream: TcpStream) {
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }

    /// Connects from one of several loopback addresses, so that ports suffice also where other
    /// tests have left some behind that wait for their time.
    fn connect_from(n: usize, to: SocketAddr) -> io::Result<TcpStream> {
        let from = Ipv4Addr::new(127, 0, 0, 2 + (n % 8) as u8);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &to)?;
        Ok(TcpStream::from(socket))
    }

    fn echo(stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }

    /// 18,000 connections on one loop: all are served, an idle loop makes no turn, all are closed.
    fn eighteen_thousand() {
        const WANTED: usize = 18_000;
        const OTHERS: u64 = 100;
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let count = WANTED.min(limit.saturating_sub(OTHERS) as usize);
        if count < WANTED {
            say(&format!(
                "SKIPPED: {WANTED} connections; the descriptor limit allows {count}"
            ));
        }
        let raised = Rlimit {
            current: Some(limit.min(WANTED as u64 + OTHERS)),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();

        let mut server = Process::start(None);
        let mut streams: Vec<_> = (0..count)
            .map(|n| connect_from(n, server.addr).unwrap())
            .collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&n.to_le_bytes()).unwrap();
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let mut back = [0; size_of::<usize>()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, n.to_le_bytes());
        }
        let before = server.counters();
        assert_eq!((before.open, before.accepted), (count, count));
        // Asking wakes the loop once; the connections do not.
        for asked in 1..=10 {
            let now = server.counters();
            assert_eq!(now.turns, before.turns + asked, "an idle loop made a turn");
        }
        streams.into_iter().for_each(reset);
        server.until(|counters| counters.open == 0);
    }

    /// A server with 64 descriptors meets 200 clients: it serves what it can, refuses the others
    /// at once, and takes new ones when old ones have gone.
    fn out_of_descriptors() {
        let mut server = Process::start(Some(64));
        let mut streams: Vec<_> = (0..200)
            .map(|_| TcpStream::connect(server.addr).unwrap())
            .collect();
        let counters = server.until(|counters| counters.accepted + counters.shed == 200);
        assert!(counters.open > 40 && counters.shed > 130, "{counters:?}");
        let mut served = Vec::new();
        for mut stream in streams.drain(..) {
            let mut back = [0; 4];
            let answer = stream
                .write_all(b"ping")
                .and_then(|()| stream.read(&mut back));
            if matches!(answer, Ok(4)) {
                served.push(stream);
            }
        }
        assert_eq!(
            served.len(),
            counters.open,
            "the others know that they were refused"
        );
        for stream in &mut served {
            echo(stream, b"still there");
        }
        served.drain(..20).for_each(reset);
        server.until(|now| now.open == counters.open - 20);
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.addr).unwrap();
            echo(&mut stream, b"new");
            served.push(stream);
        }
    }

    /// A peer that sends and never reads: the server stops reading from it, holds little for it,
    /// and serves others.
    fn never_reads() {
        let mut server = Process::start(None);
        let mut loud = TcpStream::connect(server.addr).unwrap();
        loud.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let mut other = TcpStream::connect(server.addr).unwrap();
        let mut blocked = 0;
        // The kernel's buffers on the way there and back fill up, and then nothing moves: not even
        // after the server has answered others a hundred times.
        while blocked < 100 {
            match loud.write(&[7; 65_536]) {
                Ok(count) => {
                    sent += count;
                    blocked = 0;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    blocked += 1;
                }
            }
            echo(&mut other, b"meanwhile");
        }
        let counters = server.counters();
        assert!(counters.pending <= 16 * 1024, "{counters:?}");
        // Then it does read, and everything is there.
        loud.set_nonblocking(false).unwrap();
        loud.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        loud.read_to_end(&mut back).unwrap();
        assert!(back.len() == sent && back.iter().all(|byte| *byte == 7));
        server.until(|counters| counters.open == 1);
    }

    /// A peer that has said its last word still hears everything.
    fn half_closed() {
        let mut server = Process::start(None);
        let mut stream = TcpStream::connect(server.addr).unwrap();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut writing = stream.try_clone().unwrap();
        let copy = sent.clone();
        let thread = thread::spawn(move || {
            writing.write_all(&copy).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        thread.join().unwrap();
        assert_eq!(back, sent);
        server.until(|counters| counters.open == 0);
    }

    /// Random peers for a long time: connect, talk, half-close, leave, reset in the middle.
    fn soak() {
        let ops = std::env::var("POLLIO_SOAK_OPS").ok();
        let ops: usize = ops.and_then(|ops| ops.parse().ok()).unwrap_or(20_000);
        let mut server = Process::start(None);
        let mut streams: Vec<TcpStream> = Vec::new();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut opened = 0;
        for _ in 0..ops {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let pick = (random >> 8) as usize % streams.len().max(1);
            match random % 16 {
                0 | 1 if streams.len() < 500 => {
                    streams.push(TcpStream::connect(server.addr).unwrap());
                    opened += 1;
                }
                2 if !streams.is_empty() => reset(streams.swap_remove(pick)),
                3 if !streams.is_empty() => {
                    // It leaves with bytes on their way in both directions.
                    let mut stream = streams.swap_remove(pick);
                    stream.write_all(&[9; 5000]).unwrap();
                    reset(stream);
                }
                4 if !streams.is_empty() => {
                    let mut stream = streams.swap_remove(pick);
                    stream.write_all(b"the end").unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut back = Vec::new();
                    stream.read_to_end(&mut back).unwrap();
                    assert_eq!(back, b"the end");
                }
                _ => {
                    if let Some(stream) = streams.get_mut(pick) {
                        let len = 1 + (random >> 40) as usize % 3000;
                        echo(stream, &vec![(random >> 32) as u8; len]);
                    }
                }
            }
        }
        let counters = server.until(|counters| counters.open == streams.len());
        assert_eq!(counters.accepted, opened);
        streams.into_iter().for_each(reset);
        let counters = server.until(|counters| counters.open == 0);
        assert_eq!(counters.pending, 0);
    }
}
