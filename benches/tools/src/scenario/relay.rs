//! The floor: a process that moves the same bytes with epoll, parsing nothing.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, IoSlice},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use mqtt_codec::{PublishHead, QoS};
use pollio::{
    Backend as _, Budget, Epoll, Interest, Io, Mode, Progress, Reactor, ReactorOptions, Readiness,
    Server, Token,
    affinity::pin_current_thread,
    net::{Accepted, ListenOptions, Listener, Stream},
};

use super::{
    options::Traffic,
    plan::Plan,
    report,
    traffic::{self, Dialect, Outcome},
};
use crate::{
    args::{self, Opt, value},
    fail::Failure,
    net::Dialer,
    say,
};

const OPTIONS: &[Opt] = &[
    value(
        '\0',
        "frame",
        "bytes of a packet that must not be torn apart; 0: pairs",
    ),
    value('\0', "cpu", "the processor to run on"),
];
const SOURCES: Token = Token(u64::MAX - 2);
const SINKS: Token = Token(u64::MAX - 1);
const READ_BYTES: usize = 256 * 1024;
/// Marks the tokens of sinks; the rest of a token is the place of the connection.
const SINK: u64 = 1 << 32;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a relay, runs a plan through it and prints the result.
///
/// # Errors
///
/// What is wrong with the command line or the run.
pub fn run(
    plan: &Plan,
    options: &Traffic,
    cpu: Option<u32>,
    program: Option<&str>,
) -> Result<(), Failure> {
    let outcome = measure(plan, options, cpu, program)?;
    let title = plan
        .title
        .replace("fanout", "floor")
        .replace("pairs", "floor of pairs");
    report::print(&title, options, &outcome)
}

/// Starts a relay and runs a plan through it.
///
/// `program` is another relay than [`main`] and its arguments; it is told `--frame` and `--cpu` as
/// this one, and prints the ports for publishers and subscribers.
///
/// # Errors
///
/// If the plan has acknowledgements, or the relay does not start or fails.
pub fn measure(
    plan: &Plan,
    options: &Traffic,
    cpu: Option<u32>,
    program: Option<&str>,
) -> Result<Outcome, Failure> {
    if options.qos != QoS::AtMostOnce {
        return Err(Failure::usage(
            "the floor has no acknowledgements: leave --qos out",
        ));
    }
    let wrong = |what: &str, error: io::Error| Failure::run(format!("{what}: {error}"));
    let pairs = plan.streams.len() > 1 && plan.streams[0].fanout == 1;
    let pairs = pairs
        && plan
            .subscribers
            .iter()
            .all(|subscriber| subscriber.streams.len() == 1);
    let topic = &plan.streams[0].topic;
    let head = PublishHead {
        topic,
        payload_len: options.size,
        ..Default::default()
    };
    let frame = if pairs {
        0
    } else {
        head.total_len(options.common.target.version)
    };
    let mut words = program.unwrap_or_default().split_ascii_whitespace();
    let mut command = if let Some(program) = words.next() {
        let mut command = Command::new(program);
        command.args(words);
        command
    } else {
        let this = std::env::current_exe().map_err(|error| wrong("this program", error))?;
        let mut command = Command::new(this);
        command.arg("relay");
        command
    };
    command
        .args(["--frame", &frame.to_string()])
        .stdout(Stdio::piped());
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    let child = command
        .spawn()
        .map_err(|error| wrong("cannot start the relay", error))?;
    let mut relay = Running(child);
    let mut line = String::new();
    if let Some(stdout) = relay.0.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| wrong("the relay", error))?;
    }
    let mut ports = line.split_ascii_whitespace().map(str::parse::<u16>);
    let (Some(Ok(sources)), Some(Ok(sinks))) = (ports.next(), ports.next()) else {
        return Err(Failure::run(
            "the relay did not start; its line above says why",
        ));
    };
    let clients = plan.subscribers.len() as u64 + u64::from(plan.publishers);
    crate::net::check_descriptors(clients)?;
    let dialer = |port| {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        Dialer::new(
            vec![target],
            options.common.target.ifaddr.as_deref(),
            clients,
            0,
        )
    };
    let dialect = Dialect::Relay(dialer(sinks)?);
    let pid = Some(relay.0.id());
    traffic::run(plan, options, dialer(sources)?, dialect, pid)
}

/// The relay itself, until its parent ends.
///
/// # Errors
///
/// If it cannot listen.
pub fn main(arguments: &[String]) -> Result<(), Failure> {
    let parsed = args::parse(&[OPTIONS], arguments)?;
    let signal = rustix::process::Signal::TERM;
    let _ = rustix::process::set_parent_process_death_signal(Some(signal));
    if let Some(cpu) = parsed.number_if("cpu")? {
        pin_current_thread(cpu)
            .map_err(|error| Failure::run(format!("--relay-cpu {cpu}: {error}")))?;
    }
    serve(parsed.number("frame", 0)?).map_err(|error| Failure::run(format!("relay: {error}")))
}

fn serve(frame: usize) -> io::Result<()> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ListenOptions::default();
    let (sources, sinks) = (
        Listener::bind(&any, &options)?,
        Listener::bind(&any, &options)?,
    );
    let line = format!(
        "{} {}\n",
        sources.local_addr()?.port(),
        sinks.local_addr()?.port()
    );
    let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
    reactor.backend().add_listener(&sources, SOURCES)?;
    reactor.backend().add_listener(&sinks, SINKS)?;
    say(&line).map_err(|failure| io::Error::other(failure.message))?;
    let mut relay = Relay {
        frame,
        listeners: [sources, sinks],
        sources: Vec::new(),
        sinks: Vec::new(),
        sink_of: Vec::new(),
        batch: Vec::new(),
        dirty: Vec::new(),
        buf: vec![0; READ_BYTES],
    };
    reactor.run(&mut relay, |_| false)
}

struct Source {
    stream: Stream,
    /// The beginning of a packet, or of the number that is said first.
    rest: Vec<u8>,
    number: Option<u32>,
}

struct Sink {
    stream: Stream,
    hello: Vec<u8>,
    pending: Vec<u8>,
    dirty: bool,
}

struct Relay {
    frame: usize,
    listeners: [Listener; 2],
    sources: Vec<Option<Source>>,
    sinks: Vec<Option<Sink>>,
    /// The place of the sink with a number.
    sink_of: Vec<usize>,
    batch: Vec<u8>,
    dirty: Vec<usize>,
    buf: Vec<u8>,
}

impl Relay {
    fn accept(&mut self, io: &mut Io<'_, Epoll>, sinks: bool) -> io::Result<()> {
        while let Accepted::Stream(stream, _) =
            io.accept_next(&self.listeners[usize::from(sinks)])?
        {
            stream.set_nodelay(true)?;
            let place = if sinks {
                self.sinks.len()
            } else {
                self.sources.len()
            } as u64;
            let token = Token(if sinks { SINK | place } else { place });
            io.add_stream(&stream, token, Interest::BOTH, Mode::Edge)?;
            if sinks {
                let (hello, pending) = (Vec::new(), Vec::new());
                self.sinks.push(Some(Sink {
                    stream,
                    hello,
                    pending,
                    dirty: false,
                }));
            } else {
                self.sources.push(Some(Source {
                    stream,
                    rest: Vec::new(),
                    number: None,
                }));
            }
        }
        Ok(())
    }

    /// Reads what a source has. `None` at its end; `More` if there may be more than one read took.
    fn read_source(&mut self, at: usize) -> io::Result<Option<Progress>> {
        let Some(source) = &mut self.sources[at] else {
            return Ok(Some(Progress::Done));
        };
        let begin = source.rest.len();
        self.buf[..begin].copy_from_slice(&source.rest);
        source.rest.clear();
        let end = match source.stream.read(&mut self.buf[begin..]) {
            Ok(0) => return Ok(None),
            Ok(count) => begin + count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => begin,
            Err(error) => return Err(error),
        };
        let progress = if end == self.buf.len() {
            Progress::More
        } else {
            Progress::Done
        };
        let mut bytes = &self.buf[..end];
        if source.number.is_none()
            && let Some((number, rest)) = bytes.split_first_chunk::<4>()
        {
            source.number = Some(u32::from_be_bytes(*number));
            bytes = rest;
        }
        let Some(number) = source.number else {
            source.rest.extend_from_slice(bytes);
            return Ok(Some(progress));
        };
        if self.frame == 0 {
            let place = self.sink_of.get(number as usize).copied();
            let sink = place.and_then(|place| self.sinks.get_mut(place));
            if let Some(Some(sink)) = sink {
                sink.pending.extend_from_slice(bytes);
                if !std::mem::replace(&mut sink.dirty, true) {
                    self.dirty.extend(place);
                }
            }
            return Ok(Some(progress));
        }
        let whole = bytes.len() / self.frame * self.frame;
        self.batch.extend_from_slice(&bytes[..whole]);
        source.rest.extend_from_slice(&bytes[whole..]);
        Ok(Some(progress))
    }

    /// Takes the number that a sink says first. `false` at its end.
    fn read_sink(&mut self, at: usize) -> io::Result<bool> {
        let Some(sink) = &mut self.sinks[at] else {
            return Ok(true);
        };
        match sink.stream.read(&mut self.buf) {
            Ok(0) => return Ok(false),
            Ok(count) => sink.hello.extend_from_slice(&self.buf[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        if let Some(number) = sink.hello.first_chunk::<4>() {
            let number = u32::from_be_bytes(*number) as usize;
            if self.sink_of.len() <= number {
                self.sink_of.resize(number + 1, usize::MAX);
            }
            self.sink_of[number] = at;
            sink.hello.clear();
        }
        Ok(true)
    }
}

impl Sink {
    /// Sends what waits and then `batch`; what does not fit waits.
    fn send(&mut self, batch: &[u8]) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(batch);
            let sent = write(&self.stream, &self.pending)?;
            self.pending.drain(..sent);
        } else if !batch.is_empty() {
            let sent = write(&self.stream, batch)?;
            self.pending.extend_from_slice(&batch[sent..]);
        }
        Ok(())
    }
}

fn write(stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write_vectored(&[IoSlice::new(bytes)]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

impl Server<Epoll> for Relay {
    fn on_ready(
        &mut self,
        io: &mut Io<'_, Epoll>,
        token: Token,
        readiness: Readiness,
        _: &Budget,
    ) -> Progress {
        if token == SOURCES || token == SINKS {
            if let Err(error) = self.accept(io, token == SINKS) {
                eprintln!("relay: accepting: {error}");
            }
            return Progress::Done;
        }
        let at = (token.0 & (SINK - 1)) as usize;
        if token.0 & SINK != 0 {
            if readiness.is_writable()
                && let Some(Some(sink)) = self.sinks.get_mut(at)
                && sink.send(&[]).is_err()
            {
                self.sinks[at] = None;
            }
            if readiness.is_readable() && !self.read_sink(at).unwrap_or(false) {
                self.sinks[at] = None;
            }
        } else if readiness.is_readable() {
            if let Ok(Some(progress)) = self.read_source(at) {
                return progress;
            }
            self.sources[at] = None;
        }
        Progress::Done
    }

    fn flush(&mut self, _: &mut Io<'_, Epoll>) {
        if !self.batch.is_empty() {
            for sink in &mut self.sinks {
                let failed = sink
                    .as_mut()
                    .is_some_and(|sink| sink.send(&self.batch).is_err());
                if failed {
                    *sink = None;
                }
            }
            self.batch.clear();
        }
        for place in self.dirty.drain(..) {
            let Some(sink) = &mut self.sinks[place] else {
                continue;
            };
            sink.dirty = false;
            if sink.send(&[]).is_err() {
                self.sinks[place] = None;
            }
        }
    }
}
