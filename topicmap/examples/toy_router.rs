//! A broker's router in miniature: two shards, each a thread with its own subscriptions, and one
//! interest map that says which of them a message concerns.
//!
//! Reads lines like `sub 1 home/+/light`, `unsub 1 home/+/light`, `pub home/kitchen/light on` and
//! `quit` from standard input; run without input (or with `--demo`) it plays a few of its own.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use topicmap::{Filter, InterestMap, InterestReader, Limits, Topic, TopicMap};

const SHARDS: u32 = 2;
const DEMO: &str = "sub 1 home/+/light
sub 2 home/#
sub 3 $SYS/uptime
pub home/kitchen/light on
pub home/kitchen/heat 21
pub $SYS/uptime 5
unsub 2 home/#
pub home/kitchen/light off
pub home/+/light oops
sub 4 home/#/light
";

enum Command {
    Subscribe { client: u32, filter: String },
    Unsubscribe { client: u32, filter: String },
    Publish { topic: String, message: String },
}

/// A shard's thread: its subscriptions belong to it alone, so there is no lock.
struct Shard {
    number: u8,
    limits: Limits,
    subscriptions: TopicMap<()>,
    interest: Arc<InterestMap>,
    done: Sender<String>,
}

impl Shard {
    fn run(mut self, commands: &Receiver<Command>) {
        for command in commands {
            let report = self
                .handle(&command)
                .unwrap_or_else(|error| error.to_string());
            if self.done.send(report).is_err() {
                return;
            }
        }
    }

    fn handle(&mut self, command: &Command) -> Result<String, Box<dyn std::error::Error>> {
        match command {
            Command::Subscribe { client, filter } => {
                let parsed = Filter::parse(filter, &self.limits)?;
                // Only the first subscriber of a filter changes what the other threads know.
                if self.subscriptions.insert(&parsed, *client, ()).first {
                    self.interest.add(&parsed, self.number);
                }
                Ok(format!("client {client} is subscribed to {filter}"))
            }
            Command::Unsubscribe { client, filter } => {
                let parsed = Filter::parse(filter, &self.limits)?;
                match self.subscriptions.remove(&parsed, *client) {
                    None => Ok(format!("client {client} was not subscribed to {filter}")),
                    Some(removed) => {
                        if removed.last {
                            self.interest.remove(&parsed, self.number);
                        }
                        Ok(format!(
                            "client {client} is no longer subscribed to {filter}"
                        ))
                    }
                }
            }
            Command::Publish { topic, message } => {
                let parsed = Topic::parse(topic, &self.limits)?;
                let mut report = format!("shard {} delivers {topic} = {message}:", self.number);
                self.subscriptions
                    .for_each_match(&parsed, |filter, client, ()| {
                        let text = self.subscriptions.filter_text(filter).unwrap_or_default();
                        report += &format!(" client {client} (by {text})");
                    });
                Ok(report)
            }
        }
    }
}

struct Router {
    limits: Limits,
    interest: InterestReader,
    shards: Vec<Sender<Command>>,
    done: Receiver<String>,
}

impl Router {
    fn start(limits: Limits) -> Self {
        let interest = Arc::new(InterestMap::new(limits.seed));
        let (done, reports) = channel();
        let start_shard = |number| {
            let (sender, commands) = channel();
            let shard = Shard {
                number,
                limits,
                subscriptions: TopicMap::new(limits.seed),
                interest: Arc::clone(&interest),
                done: done.clone(),
            };
            thread::spawn(move || shard.run(&commands));
            sender
        };
        let shards = (0..SHARDS as u8).map(start_shard).collect();
        Self {
            limits,
            interest: interest.reader(),
            shards,
            done: reports,
        }
    }

    /// Sends a command to one shard and waits for what it did.
    fn ask(&self, shard: u32, command: Command) -> String {
        let shard = &self.shards[shard as usize % self.shards.len()];
        if shard.send(command).is_err() {
            return "the shard is gone".to_owned();
        }
        self.done.recv().unwrap_or_default()
    }

    fn line(&mut self, line: &str, out: &mut impl Write) -> io::Result<()> {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match *words.as_slice() {
            [what @ ("sub" | "unsub"), client, filter] => {
                let Ok(client) = client.parse::<u32>() else {
                    return writeln!(out, "a client is a number");
                };
                let filter = filter.to_owned();
                let command = match what {
                    "sub" => Command::Subscribe { client, filter },
                    _ => Command::Unsubscribe { client, filter },
                };
                writeln!(out, "{}", self.ask(client % SHARDS, command))
            }
            ["pub", topic, message] => self.publish(topic, message, out),
            _ => writeln!(
                out,
                "sub CLIENT FILTER | unsub CLIENT FILTER | pub TOPIC MESSAGE"
            ),
        }
    }

    fn publish(&mut self, topic: &str, message: &str, out: &mut impl Write) -> io::Result<()> {
        let parsed = match Topic::parse(topic, &self.limits) {
            Ok(parsed) => parsed,
            Err(error) => return writeln!(out, "{error} [{}]", error.clause()),
        };
        let mut mask = self.interest.mask(&parsed);
        if mask == 0 {
            writeln!(out, "{topic}: nobody is interested")?;
        }
        while mask != 0 {
            let command = Command::Publish {
                topic: topic.to_owned(),
                message: message.to_owned(),
            };
            writeln!(out, "{}", self.ask(mask.trailing_zeros(), command))?;
            mask &= mask - 1;
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    // A server would draw the seed at random.
    let mut router = Router::start(Limits::default());
    let mut out = io::stdout().lock();
    let stdin = io::stdin();
    if stdin.is_terminal() || std::env::args().any(|argument| argument == "--demo") {
        for line in DEMO.lines() {
            writeln!(out, "> {line}")?;
            router.line(line, &mut out)?;
        }
        return Ok(());
    }
    for line in stdin.lock().lines() {
        match line?.trim() {
            "quit" => break,
            line => router.line(line, &mut out)?,
        }
    }
    Ok(())
}
