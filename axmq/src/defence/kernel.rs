//! Bans in the kernel, so that what a banned address sends does not even reach the listener.
//!
//! One helper process for as long as the broker runs, `nft -i` or `ipset restore`, gets all bans by
//! its standard input, in batches. Nothing waits for it: what finds the queue full, or the helper
//! gone, is banned in user space only, as everybody is anyway.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Host;
use crate::config::KernelBans;

/// Orders that wait; more are lost and counted.
const ORDERS_MAX: usize = 65_536;
/// From one batch to the next.
const BATCH_EVERY: Duration = Duration::from_millis(100);
/// Orders of one batch.
const BATCH_MAX: usize = 10_000;
/// Elements of one line.
const LINE_ELEMENTS: usize = 500;
/// The helper has this long to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the helper is to do.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Ban for so many seconds; `None` is for ever.
    Ban(Host, Option<u32>),
    Lift(Host),
    /// Undo everything, and end.
    Stop,
}

/// Where other threads leave orders.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    sender: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Orders {
    /// Never blocks.
    pub(crate) fn give(&self, order: Order) {
        if self.sender.try_send(order).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that feeds the helper.
#[derive(Debug)]
pub(crate) struct Kernel {
    orders: Orders,
    /// The helper's thread waits for what comes by this before it looks at orders.
    first: Sender<Vec<Order>>,
    thread: JoinHandle<()>,
}

impl Kernel {
    /// Starts the helper for listeners on these ports.
    ///
    /// # Errors
    ///
    /// What the system says, such as that there is no such program.
    pub(crate) fn start(kind: KernelBans, ports: &[u16], lost: Arc<AtomicU64>) -> io::Result<Self> {
        let mut command = match kind {
            KernelBans::Nft => Command::new("nft"),
            KernelBans::Ipset | KernelBans::Off => Command::new("ipset"),
        };
        match kind {
            KernelBans::Nft => command.arg("-i"),
            KernelBans::Ipset | KernelBans::Off => command.args(["-exist", "restore"]),
        };
        Self::start_helper(command, kind, ports, lost)
    }

    fn start_helper(
        mut command: Command,
        kind: KernelBans,
        ports: &[u16],
        lost: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the broker, which still has something to say to it then.
            .process_group(0)
            .spawn()?;
        let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        // Ends with the helper.
        std::thread::Builder::new()
            .name("kernel-errors".to_owned())
            .spawn(move || report(BufReader::new(stderr)))?;
        let (sender, receiver) = sync_channel(ORDERS_MAX);
        let helper = Helper {
            stdin,
            child,
            kind,
            lost: Arc::clone(&lost),
        };
        let setup = setup(kind, ports);
        let (first, at_first) = channel();
        let thread = std::thread::Builder::new()
            .name("kernel-bans".to_owned())
            .spawn(move || helper.serve(&at_first, &receiver, &setup))?;
        Ok(Self {
            orders: Orders { sender, lost },
            first,
            thread,
        })
    }

    /// Where to leave orders.
    pub(crate) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Says who is banned already. How many that are is bounded by the tables, not by the queue.
    pub(crate) fn begin_with(&self, orders: Vec<Order>) {
        // Fails where the thread has ended already.
        let _ = self.first.send(orders);
    }

    /// Undoes what was done, and ends the helper.
    pub(crate) fn stop(self) {
        drop(self.first);
        // Fails where the thread has ended already.
        let _ = self.orders.sender.send(Order::Stop);
        let _ = self.thread.join();
    }
}

/// Says the first thing that the helper complains about; the others follow from it, or are the
/// same.
fn report(stderr: impl BufRead) {
    let mut lines = stderr.lines().map_while(Result::ok);
    if let Some(line) = lines.find(|line| !line.trim().is_empty()) {
        tracing::warn!(
            event = "kernel.failed",
            "the helper for bans in the kernel says: {}; bans hold at accept",
            line.escape_debug()
        );
    }
    // To its end, so that it does not wait for a reader.
    lines.for_each(drop);
}

struct Helper {
    stdin: ChildStdin,
    child: Child,
    kind: KernelBans,
    lost: Arc<AtomicU64>,
}

impl Helper {
    fn serve(mut self, first: &Receiver<Vec<Order>>, orders: &Receiver<Order>, setup: &str) {
        let mut is_well = self.say(setup);
        // Where nobody says it the helper is being stopped.
        for batch in first.recv().unwrap_or_default().chunks(BATCH_MAX) {
            is_well = self.carry_out(batch, is_well);
        }
        let mut batch = Vec::new();
        let mut goes_on = true;
        while goes_on {
            goes_on = gather(orders, &mut batch);
            is_well = self.carry_out(&batch, is_well);
            batch.clear();
        }
        self.end(is_well);
    }

    /// Whether the helper still listens; it has to have done so before.
    fn carry_out(&mut self, batch: &[Order], is_well: bool) -> bool {
        let is_well = is_well && self.say(&lines(self.kind, batch));
        if !is_well {
            self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        is_well
    }

    /// Whether the helper still listens.
    fn say(&mut self, text: &str) -> bool {
        let said = self.stdin.write_all(text.as_bytes());
        if let Err(error) = &said {
            tracing::warn!(
                event = "kernel.failed",
                %error,
                "the helper for bans in the kernel has ended; bans hold at accept"
            );
        }
        said.is_ok()
    }

    fn end(mut self, is_well: bool) {
        if is_well {
            self.say(teardown(self.kind));
        }
        // Its input ends, and so does it.
        drop(self.stdin);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::park_timeout(Duration::from_millis(5)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for orders, and for more of them for as long as batches are apart; whether more can come.
fn gather(orders: &Receiver<Order>, batch: &mut Vec<Order>) -> bool {
    let mut until = None;
    while batch.len() < BATCH_MAX {
        let next = match until {
            // Nobody waits for the first of them: it waits for company.
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => {
                orders.recv_timeout(Instant::saturating_duration_since(&until, Instant::now()))
            }
        };
        match next {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => break,
            Ok(order) => batch.push(order),
        }
        until.get_or_insert_with(|| Instant::now() + BATCH_EVERY);
    }
    true
}

/// What is said first.
fn setup(kind: KernelBans, ports: &[u16]) -> String {
    match kind {
        KernelBans::Nft => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            let ports = ports.join(", ");
            // The table goes with the process that owns it, however that ends.
            format!(
                "add table inet axmq {{ flags owner; }}\n\
                 add set inet axmq banned4 {{ type ipv4_addr; flags timeout; }}\n\
                 add set inet axmq banned6 {{ type ipv6_addr; flags timeout; }}\n\
                 add chain inet axmq input {{ type filter hook input priority -10; }}\n\
                 add rule inet axmq input tcp dport {{ {ports} }} ip saddr @banned4 counter drop\n\
                 add rule inet axmq input tcp dport {{ {ports} }} \
                 ip6 saddr & ffff:ffff:ffff:ffff:: @banned6 counter drop\n"
            )
        }
        KernelBans::Ipset | KernelBans::Off => {
            "create axmq_blacklist hash:ip family inet timeout 1800 maxelem 1000000\n\
             create axmq_blacklist6 hash:net family inet6 timeout 1800 maxelem 1000000\n\
             COMMIT\n"
                .to_owned()
        }
    }
}

/// What is said last. The sets of ipset stay: rules of others name them, and what is in them ends
/// by itself.
fn teardown(kind: KernelBans) -> &'static str {
    match kind {
        KernelBans::Nft => "delete table inet axmq\n",
        KernelBans::Ipset | KernelBans::Off => "",
    }
}

/// A batch, in the order in which it was given.
fn lines(kind: KernelBans, batch: &[Order]) -> String {
    let mut text = String::new();
    match kind {
        KernelBans::Nft => {
            let alike = |a: &Order, b: &Order| verb_and_set(*a) == verb_and_set(*b);
            for run in batch
                .chunk_by(alike)
                .flat_map(|run| run.chunks(LINE_ELEMENTS))
            {
                let elements: Vec<_> = run.iter().filter_map(|order| element(*order)).collect();
                if let Some((verb, set)) = run.first().and_then(|order| verb_and_set(*order)) {
                    let elements = elements.join(", ");
                    let _ = writeln!(text, "{verb} element inet axmq {set} {{ {elements} }}");
                }
            }
        }
        KernelBans::Ipset | KernelBans::Off => {
            for order in batch {
                let (verb, host, for_s) = match *order {
                    Order::Ban(host, for_s) => ("add", host, Some(for_s.unwrap_or(0))),
                    Order::Lift(host) => ("del", host, None),
                    Order::Stop => continue,
                };
                let set = if host.ip().is_ipv4() { "" } else { "6" };
                let _ = write!(text, "{verb} axmq_blacklist{set} {host}");
                if let Some(for_s) = for_s {
                    // Two million and some seconds is what its clock holds; 0 is for ever.
                    let _ = write!(text, " timeout {}", for_s.min(2_147_483));
                }
                text.push('\n');
            }
            text.push_str("COMMIT\n");
        }
    }
    text
}

fn verb_and_set(order: Order) -> Option<(&'static str, &'static str)> {
    let (verb, host) = match order {
        Order::Ban(host, _) => ("add", host),
        Order::Lift(host) => ("delete", host),
        Order::Stop => return None,
    };
    let set = if host.ip().is_ipv4() {
        "banned4"
    } else {
        "banned6"
    };
    Some((verb, set))
}

fn element(order: Order) -> Option<String> {
    match order {
        Order::Ban(host, Some(for_s)) => Some(format!("{} timeout {}s", host.ip(), for_s.max(1))),
        // Without a time of its own an element stays.
        Order::Ban(host, None) | Order::Lift(host) => Some(host.ip().to_string()),
        Order::Stop => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn host(ip: &str) -> Host {
        Host::from(ip.parse::<IpAddr>().expect("an address"))
    }

    fn orders() -> Vec<Order> {
        vec![
            Order::Ban(host("192.0.2.7"), Some(1_800)),
            Order::Ban(host("192.0.2.8"), None),
            Order::Ban(host("2001:db8::7"), Some(60)),
            Order::Lift(host("192.0.2.7")),
        ]
    }

    #[test]
    fn a_batch_is_a_line_for_each_set_and_keeps_its_order() {
        assert_eq!(
            lines(KernelBans::Nft, &orders()),
            "add element inet axmq banned4 { 192.0.2.7 timeout 1800s, 192.0.2.8 }\n\
             add element inet axmq banned6 { 2001:db8:: timeout 60s }\n\
             delete element inet axmq banned4 { 192.0.2.7 }\n"
        );
        assert_eq!(
            lines(KernelBans::Ipset, &orders()),
            "add axmq_blacklist 192.0.2.7 timeout 1800\n\
             add axmq_blacklist 192.0.2.8 timeout 0\n\
             add axmq_blacklist6 2001:db8::/64 timeout 60\n\
             del axmq_blacklist 192.0.2.7\n\
             COMMIT\n"
        );
        let many = vec![orders()[0]; 1_200];
        assert_eq!(lines(KernelBans::Nft, &many).lines().count(), 3);
        assert!(
            setup(KernelBans::Nft, &[1883, 8883]).contains("tcp dport { 1883, 8883 } ip saddr")
        );
    }

    /// A helper that writes down what it is told.
    fn scribe(file: &std::path::Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "cat > \"$0\""]).arg(file);
        command
    }

    #[test]
    fn the_helper_is_told_everything_and_ended() {
        let file = std::env::temp_dir().join(format!("axmq-kernel-{}", std::process::id()));
        let lost = Arc::<AtomicU64>::default();
        let helper = scribe(&file);
        let kernel = Kernel::start_helper(helper, KernelBans::Nft, &[1883], Arc::clone(&lost));
        let kernel = kernel.expect("there is a shell");
        kernel.begin_with(vec![Order::Ban(host("198.51.100.1"), Some(9))]);
        for order in orders() {
            kernel.orders().give(order);
        }
        kernel.stop();
        let told = std::fs::read_to_string(&file).expect("it was written");
        let _ = std::fs::remove_file(&file);
        let wanted = format!(
            "{}{}{}{}",
            setup(KernelBans::Nft, &[1883]),
            "add element inet axmq banned4 { 198.51.100.1 timeout 9s }\n",
            lines(KernelBans::Nft, &orders()),
            teardown(KernelBans::Nft)
        );
        assert_eq!(told, wanted);
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_helper_that_ends_only_loses_bans() {
        let lost = Arc::<AtomicU64>::default();
        let helper = Command::new("false");
        let kernel = Kernel::start_helper(helper, KernelBans::Ipset, &[], Arc::clone(&lost));
        let kernel = kernel.expect("there is one");
        kernel.begin_with(Vec::new());
        // More than a pipe holds, so that its end is found out.
        let mut given = 0;
        while lost.load(Ordering::Relaxed) == 0 {
            kernel.orders().give(Order::Lift(host("192.0.2.7")));
            given += 1;
            std::thread::yield_now();
        }
        kernel.stop();
        assert!(lost.load(Ordering::Relaxed) <= given);
    }
}
