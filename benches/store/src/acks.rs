//! Acknowledged QoS 1 publishes a second of a broker, for a subscriber whose session is kept, and
//! what they cost: CPU and bytes written, from /proc. MQTT 3.1.1 in a few bytes over blocking
//! sockets, so that the generator costs little beside the broker.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{Result, size};

const TOPIC: &[u8] = b"bench/1";
/// Bytes of payload.
pub(crate) const PAYLOAD: usize = 256;
/// A PUBLISH of QoS 1: first byte, two of length, topic, packet id, payload.
const FRAME: usize = 3 + 2 + TOPIC.len() + 2 + PAYLOAD;
const WARM_UP: Duration = Duration::from_secs(1);

fn connect(port: u16, name: &str, is_clean: bool) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut packet = vec![0x10, u8::try_from(12 + name.len())?];
    packet.extend_from_slice(b"\0\x04MQTT\x04");
    packet.extend_from_slice(&[if is_clean { 2 } else { 0 }, 0, 0, 0, name.len() as u8]);
    packet.extend_from_slice(name.as_bytes());
    stream.write_all(&packet)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer[0] != 0x20 || answer[3] != 0 {
        return Err(format!("{name} is not let in: {answer:?}").into());
    }
    Ok(stream)
}

/// A session that is kept and subscribes to everything.
fn subscriber(port: u16) -> Result<TcpStream> {
    let mut stream = connect(port, "keeper", false)?;
    stream.write_all(b"\x82\x0c\0\x01\0\x07bench/#\x01")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer != [0x90, 3, 0, 1, 1] {
        return Err(format!("no subscription: {answer:?}").into());
    }
    Ok(stream)
}

/// Acknowledges what comes.
fn acknowledge(mut stream: TcpStream, delivered: &AtomicU64) -> Result<()> {
    let (mut buffer, mut filled) = (vec![0; 256 * FRAME], 0);
    let mut answers = Vec::new();
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let whole = filled / FRAME * FRAME;
        for frame in buffer[..whole].chunks(FRAME) {
            if frame[0] & 0xF6 != 0x32 {
                return Err(format!("not a PUBLISH of QoS 1: {:#x}", frame[0]).into());
            }
            let at = 5 + TOPIC.len();
            answers.extend_from_slice(&[0x40, 2, frame[at], frame[at + 1]]);
        }
        delivered.fetch_add((whole / FRAME) as u64, Ordering::Relaxed);
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        stream.write_all(&answers)?;
        answers.clear();
    }
}

/// Keeps `window` publishes unacknowledged, or as many as `rate` allows.
fn publish(
    mut stream: TcpStream,
    (window, rate): (usize, f64),
    acknowledged: &AtomicU64,
    stops: &AtomicBool,
) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut frame = vec![0x32];
    let rest = FRAME - 3;
    frame.extend_from_slice(&[(rest & 127 | 128) as u8, (rest >> 7) as u8]);
    frame.extend_from_slice(&[0, TOPIC.len() as u8]);
    frame.extend_from_slice(TOPIC);
    let at = frame.len();
    frame.resize(FRAME, 0);
    // What compresses badly, as measured values do.
    let mut random = 88_172_645_463_325_252_u64;
    let mut next_random = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut sent, mut done) = (0_usize, 0_usize);
    let mut partial = 0;
    let mut out = Vec::with_capacity(window * FRAME);
    let mut answers = [0; 16_384];
    let begin = Instant::now();
    while !stops.load(Ordering::Relaxed) {
        let mut most = window - (sent - done);
        if rate > 0.0 {
            let due = (begin.elapsed().as_secs_f64() * rate) as usize;
            most = most.min(due.saturating_sub(sent));
        }
        for _ in 0..most {
            sent += 1;
            let id = (sent % 65_535 + 1) as u16;
            frame[at..at + 2].copy_from_slice(&id.to_be_bytes());
            for word in frame[at + 2..].chunks_exact_mut(8) {
                word.copy_from_slice(&next_random().to_ne_bytes());
            }
            out.extend_from_slice(&frame);
        }
        stream.write_all(&out)?;
        out.clear();
        match stream.read(&mut answers) {
            Ok(0) => return Err("the broker has closed a connection".into()),
            Ok(read) => {
                // Each is four bytes, and may come in two reads.
                let count = (partial + read) / 4;
                partial = (partial + read) % 4;
                done += count;
                acknowledged.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a process has used.
#[derive(Clone, Copy)]
struct Usage {
    cpu_ns: u64,
    written: u64,
}

fn usage(pid: &str) -> Result<Usage> {
    let mut cpu_ns = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        cpu_ns += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
    }
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(Usage {
        cpu_ns,
        written: written.unwrap_or("0").parse()?,
    })
}

/// What is asked for.
pub(crate) struct Load {
    pub(crate) port: u16,
    pub(crate) pid: String,
    pub(crate) dir: PathBuf,
    pub(crate) is_online: bool,
    pub(crate) publishers: usize,
    pub(crate) window: usize,
    /// Publishes a second in all, 0 for as many as go.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

pub(crate) fn run(load: &Load) -> Result<()> {
    let delivered = Arc::new(AtomicU64::new(0));
    let keeper = subscriber(load.port)?;
    if load.is_online {
        let delivered = Arc::clone(&delivered);
        std::thread::spawn(move || {
            if let Err(error) = acknowledge(keeper, &delivered) {
                eprintln!("subscriber: {error}");
            }
        });
    } else {
        (&keeper).write_all(b"\xE0\0")?;
    }
    let (acknowledged, stops) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let failure = Arc::new(Mutex::new(None));
    let mut threads = Vec::new();
    for n in 0..load.publishers {
        let stream = connect(load.port, &format!("p{n}"), true)?;
        let (acknowledged, stops) = (Arc::clone(&acknowledged), Arc::clone(&stops));
        let pace = (load.window, load.rate / load.publishers as f64);
        let failure = Arc::clone(&failure);
        threads.push(std::thread::spawn(move || {
            if let Err(error) = publish(stream, pace, &acknowledged, &stops) {
                *failure.lock().unwrap_or_else(|error| error.into_inner()) =
                    Some(error.to_string());
            }
        }));
    }
    crate::pass(WARM_UP);
    let (before, own) = (usage(&load.pid)?, usage("self")?);
    let count_before = acknowledged.load(Ordering::Relaxed);
    let begin = Instant::now();
    crate::pass(Duration::from_secs_f64(load.seconds));
    let (after, own_after) = (usage(&load.pid)?, usage("self")?);
    let count = acknowledged.load(Ordering::Relaxed) - count_before;
    let took = begin.elapsed().as_secs_f64();
    stops.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a publisher")?;
    }
    if let Some(error) = failure
        .lock()
        .unwrap_or_else(|error| error.into_inner())
        .take()
    {
        return Err(error.into());
    }
    let each = |ns: u64| ns as f64 / 1e3 / count.max(1) as f64;
    println!(
        "{:>9.0} acknowledged/s  {:>7.3} us/message  {:>6.2} bytes written/byte  \
         {:>6.0} bytes on disk/message  generator {:.0} % of a core, delivered {}",
        count as f64 / took,
        each(after.cpu_ns - before.cpu_ns),
        (after.written - before.written) as f64 / (count as usize * PAYLOAD).max(1) as f64,
        size(&load.dir) as f64 / acknowledged.load(Ordering::Relaxed).max(1) as f64,
        (own_after.cpu_ns - own.cpu_ns) as f64 / 1e7 / took,
        delivered.load(Ordering::Relaxed),
    );
    Ok(())
}

/// What the disk does with the same messages and nobody in between: so many are written and synced
/// together, again and again. `file` appends them to a file; `fjall` makes the records of them that
/// a store has, one for the message and one for its place in a queue.
pub(crate) fn group(kind: &str, dir: &Path, messages: usize, seconds: f64) -> Result<()> {
    let mut value = [7_u8; PAYLOAD + 28];
    let (begin, mut commits) = (Instant::now(), 0_u64);
    let took = match kind {
        "file" => {
            std::fs::create_dir_all(dir)?;
            let path = dir.join("bare");
            let mut file = std::fs::File::create(&path)?;
            // As an engine's journal has its room beforehand.
            let block = vec![7; messages * (PAYLOAD + 128)];
            file.set_len(1 << 30)?;
            let begin = Instant::now();
            while begin.elapsed().as_secs_f64() < seconds {
                file.write_all(&block)?;
                file.sync_data()?;
                commits += 1;
            }
            let took = begin.elapsed();
            std::fs::remove_file(path)?;
            took
        }
        "fjall" => {
            let db = fjall::Database::builder(dir)
                .worker_threads(1)
                .max_journaling_size(128 << 20)
                .open()?;
            let space = |name| {
                db.keyspace(name, || {
                    fjall::KeyspaceCreateOptions::default()
                        .max_memtable_size(16 << 20)
                        .manual_journal_persist(true)
                })
            };
            let (of_messages, queue) = (space("message")?, space("queue")?);
            let mut number = 0_u64;
            while begin.elapsed().as_secs_f64() < seconds {
                let mut write = db.batch();
                for _ in 0..messages {
                    number += 1;
                    value[..8].copy_from_slice(&number.to_ne_bytes());
                    write.insert(&of_messages, number.to_be_bytes(), value);
                    let mut key = [0; 16];
                    key[8..].copy_from_slice(&number.to_be_bytes());
                    write.insert(&queue, key, [7; 21]);
                }
                write.commit()?;
                db.persist(fjall::PersistMode::SyncData)?;
                commits += 1;
            }
            begin.elapsed()
        }
        other => return Err(format!("no such kind: {other}").into()),
    };
    println!(
        "{kind}, {messages} messages a commit: {:.0} commits/s, {:.0} messages/s",
        commits as f64 / took.as_secs_f64(),
        (commits as usize * messages) as f64 / took.as_secs_f64(),
    );
    Ok(())
}
