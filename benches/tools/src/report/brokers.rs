//! Brokers that a report starts, each run a fresh one: recipes, and commands of the user's own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::fail::Failure;

/// How long a broker may take until it listens.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A way to start a broker that is known by name.
struct Recipe {
    name: &'static str,
    arguments: &'static str,
    /// Name and text of a file that it wants.
    file: Option<(&'static str, &'static str)>,
    /// What makes the program say its version.
    version: &'static str,
}

const RECIPES: &[Recipe] = &[
    Recipe {
        name: "axmq",
        arguments: "--listen 127.0.0.1:{port} --data-dir {dir}/data",
        file: None,
        version: "--version",
    },
    // Debian's. Its limits on queues would decide the result at full speed.
    Recipe {
        name: "mosquitto",
        arguments: "-c {dir}/mosquitto.conf",
        file: Some((
            "mosquitto.conf",
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 0\n",
        )),
        version: "-h",
    },
    // That of `cargo install rumqttd --version 0.20.0`; its sample lets in 1,000 clients a second.
    Recipe {
        name: "rumqttd",
        arguments: "-c {dir}/rumqttd.toml",
        file: Some((
            "rumqttd.toml",
            "id = 0\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\n\
             max_segment_size = 104857600\nmax_segment_count = 10\n[v4.1]\nname = \"v4-1\"\n\
             listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n[v4.1.connections]\n\
             connection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
             max_inflight_count = 500\ndynamic_filters = true\n",
        )),
        version: "--version",
    },
];

/// A broker that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its name in the report.
    pub name: String,
    program: String,
    arguments: Vec<String>,
    file: Option<(&'static str, &'static str)>,
    version: &'static str,
}

impl Broker {
    /// Reads `NAME`, `NAME=PROGRAM` (of a recipe) or `NAME=COMMAND`, where the command has `{port}`
    /// and may have `{dir}`, a folder of its own; words are parted by spaces.
    ///
    /// # Errors
    ///
    /// If there is no such recipe, and no command.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let (name, command) = match text.split_once('=') {
            Some((name, command)) => (name.trim(), command.trim()),
            None => (text.trim(), ""),
        };
        let known = RECIPES.iter().find(|recipe| recipe.name == name);
        let mut words = command.split_ascii_whitespace().map(str::to_owned);
        if name.is_empty() {
            return Err(Failure::usage("--broker wants NAME or NAME=COMMAND"));
        }
        match known {
            Some(recipe) if !command.contains("{port}") => {
                let program = words.next().unwrap_or_else(|| name.to_owned());
                let arguments = recipe.arguments.split(' ').map(str::to_owned);
                Ok(Self {
                    name: name.to_owned(),
                    program,
                    arguments: arguments.chain(words).collect(),
                    file: recipe.file,
                    version: recipe.version,
                })
            }
            _ if command.contains("{port}") => Ok(Self {
                name: name.to_owned(),
                program: words.next().unwrap_or_default(),
                arguments: words.collect(),
                file: None,
                version: "--version",
            }),
            _ => {
                let names: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
                Err(Failure::usage(format!(
                    "--broker {name}: there are recipes for {}; others need a command with \
                     {{port}}: --broker \"{name}=PROGRAM -p {{port}}\"",
                    names.join(", ")
                )))
            }
        }
    }

    /// The command with the program's name alone, for people.
    #[must_use]
    pub fn command(&self) -> String {
        let name = Path::new(&self.program).file_name();
        let name = name.map_or_else(|| self.program.clone(), |n| n.to_string_lossy().into());
        let mut text = format!("{name} {}", self.arguments.join(" "));
        if let Some((file, content)) = self.file {
            let content = content.trim().replace('\n', "; ");
            text += &format!(" ({file}: {content})");
        }
        text
    }

    /// What the program says of its version.
    ///
    /// # Errors
    ///
    /// If there is no such program.
    pub fn version(&self) -> Result<String, Failure> {
        let output = Command::new(&self.program)
            .arg(self.version)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.no_program(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default().trim();
        // A program that does not know the option complains, on whichever stream.
        let is_version = line.len() < 80 && line.contains(|c: char| c.is_ascii_digit());
        Ok(if is_version {
            line.to_owned()
        } else {
            "version unknown".to_owned()
        })
    }

    fn no_program(&self, error: &std::io::Error) -> Failure {
        Failure::run(format!(
            "cannot start {} (`{}`): {error}; give the program: --broker {}=/path/to/{}",
            self.name, self.program, self.name, self.name
        ))
    }

    /// Starts it on a free port and waits until it listens. With `cpu`, it is pinned there.
    ///
    /// # Errors
    ///
    /// If it does not start, ends at once or does not listen; its last line is in the message.
    pub fn start(&self, cpu: Option<usize>) -> Result<Running, Failure> {
        let wrong = |what: &str, error: std::io::Error| Failure::run(format!("{what}: {error}"));
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr());
        let port = free.map_err(|error| wrong("no free port", error))?.port();
        let folder = Folder::new().map_err(|error| wrong("temporary folder", error))?;
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{dir}", &folder.0.to_string_lossy())
        };
        let write = || -> std::io::Result<(File, File)> {
            if let Some((name, text)) = self.file {
                fs::write(folder.0.join(name), fill(text))?;
            }
            let log = File::create(folder.0.join("log"))?;
            Ok((log.try_clone()?, log))
        };
        let (out, err) = write().map_err(|error| wrong("temporary folder", error))?;
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments.iter().map(|argument| fill(argument)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let child = spawn_on(command, cpu).map_err(|error| self.no_program(&error))?;
        let mut running = Running {
            child,
            port,
            folder,
        };
        self.wait_for(&mut running)?;
        Ok(running)
    }

    fn wait_for(&self, running: &mut Running) -> Result<(), Failure> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, running.port));
        let end = Instant::now() + START;
        loop {
            if let Ok(Some(status)) = running.child.try_wait() {
                let log = fs::read_to_string(running.folder.0.join("log")).unwrap_or_default();
                let last = log.lines().rfind(|line| !line.trim().is_empty());
                let last = last.unwrap_or("it says nothing").trim();
                let line = format!("{} ended at once with {status}: {last}", self.name);
                return Err(Failure::run(line));
            }
            if TcpStream::connect_timeout(&addr, START).is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                let line = format!("{} does not listen after {} s", self.name, START.as_secs());
                return Err(Failure::run(line));
            }
            thread::park_timeout(LOOK);
        }
    }
}

/// Starts a program from a thread that is pinned: so the program is, from its first instruction.
fn spawn_on(mut command: Command, cpu: Option<usize>) -> std::io::Result<Child> {
    let Some(cpu) = cpu else {
        return command.spawn();
    };
    let spawn = move || {
        pollio::affinity::pin_current_thread(cpu)?;
        command.spawn()
    };
    let thread = thread::spawn(spawn);
    let lost = |_| Err(std::io::Error::other("the starting thread failed"));
    thread.join().unwrap_or_else(lost)
}

/// A folder that is removed with all that is in it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("axmq-report-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary folder of the system all the same.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that runs, until this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: Folder,
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // One that has ended by itself cannot be asked to.
            let _ = kill_process(id, Signal::TERM);
        }
        let end = Instant::now() + STOP;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::park_timeout(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_commands_are_read() {
        let broker = Broker::read("mosquitto").unwrap();
        assert_eq!(broker.program, "mosquitto");
        let text = broker.command();
        assert!(
            text.starts_with("mosquitto -c {dir}/mosquitto.conf ("),
            "{text}"
        );
        let broker = Broker::read("axmq=/opt/axmq --shards 2").unwrap();
        assert_eq!(broker.program, "/opt/axmq");
        assert!(
            broker.command().starts_with("axmq --listen "),
            "no folder of this machine"
        );
        assert!(broker.command().ends_with("--shards 2"));
        let broker = Broker::read("mine=/opt/mine -p {port} -d {dir}").unwrap();
        assert_eq!(broker.command(), "mine -p {port} -d {dir}");
        for text in ["", "=x {port}", "unheard-of", "mine=/opt/mine"] {
            assert_eq!(Broker::read(text).unwrap_err().code, 2, "{text}");
        }
    }

    #[test]
    fn a_broker_that_does_not_start_is_a_line() {
        let missing = Broker::read("mine=/no/such/program {port}").unwrap();
        let failure = missing.start(None).unwrap_err();
        assert!(failure.message.contains("--broker mine="), "{failure}");
        assert!(missing.version().is_err());
        let ends = Broker::read("mine=false {port}").unwrap();
        let failure = ends.start(None).unwrap_err();
        assert!(failure.message.contains("ended at once"), "{failure}");
    }
}
