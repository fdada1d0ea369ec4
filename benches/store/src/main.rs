//! The duel of the store's engines: does a directory always open after kill -9 during writes, and
//! with all that was synced? And what does a group commit cost?
//!
//! ```sh
//! bench-store kill fjall DIR 200      # rounds of kill -9
//! bench-store commits fjall DIR 1000  # group commits of 64 records of 256 bytes
//! bench-store idle fjall DIR 10       # stays open for so many seconds: for strace
//! bench-store group file|fjall DIR 512 5 # bare group commits of so many messages, for seconds
//! bench-store acks PORT PID DATA_DIR online|offline PUBLISHERS WINDOW RATE SECONDS
//! ```
//!
//! `acks.py` beside this folder starts brokers for the last two.

mod acks;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Records that one batch writes, in different keyspaces.
const RECORDS: u64 = 64;
/// Batches after which a record is removed again, so that there is something to compact.
const KEPT: u64 = 2_000;

trait Engine {
    /// Writes a batch atomically and syncs it.
    fn commit(&mut self, batch: u64, value: &[u8]) -> Result<()>;
    /// Writes it and leaves the sync to a later one.
    fn write(&mut self, batch: u64, value: &[u8]) -> Result<()>;
    /// Records of this batch that are there.
    fn count(&mut self, batch: u64) -> Result<u64>;
    /// The newest batch of which there is a record.
    fn newest(&mut self) -> Result<u64>;
}

fn key(batch: u64, at: u64) -> [u8; 16] {
    let mut key = [0; 16];
    // Spread, as the ids of sessions are.
    key[..8].copy_from_slice(&at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&batch.to_be_bytes());
    key
}

struct Fjall {
    db: fjall::Database,
    spaces: Vec<fjall::Keyspace>,
}

impl Fjall {
    fn open(path: &Path) -> Result<Self> {
        let db = fjall::Database::builder(path)
            .worker_threads(1)
            .max_journaling_size(64 << 20)
            .open()?;
        let spaces = (0..4)
            .map(|at| {
                db.keyspace(&format!("space{at}"), || {
                    fjall::KeyspaceCreateOptions::default()
                        .max_memtable_size(1 << 20)
                        .manual_journal_persist(true)
                })
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { db, spaces })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, batch: u64, value: &[u8]) -> Result<()> {
        self.write(batch, value)?;
        Ok(self.db.persist(fjall::PersistMode::SyncData)?)
    }

    fn write(&mut self, batch: u64, value: &[u8]) -> Result<()> {
        let mut write = self.db.batch();
        for at in 0..RECORDS {
            let space = &self.spaces[at as usize % self.spaces.len()];
            write.insert(space, key(batch, at), value);
            if batch > KEPT {
                write.remove(space, key(batch - KEPT, at));
            }
        }
        write.insert(&self.spaces[0], *b"newest", batch.to_be_bytes());
        Ok(write.commit()?)
    }

    fn count(&mut self, batch: u64) -> Result<u64> {
        let mut count = 0;
        for at in 0..RECORDS {
            let space = &self.spaces[at as usize % self.spaces.len()];
            count += u64::from(space.get(key(batch, at))?.is_some());
        }
        Ok(count)
    }

    fn newest(&mut self) -> Result<u64> {
        let found = self.spaces[0].get(b"newest")?;
        Ok(found.map_or(0, |bytes| {
            u64::from_be_bytes((*bytes).try_into().unwrap_or_default())
        }))
    }
}

const TABLES: [redb::TableDefinition<'static, &[u8], &[u8]>; 4] = [
    redb::TableDefinition::new("space0"),
    redb::TableDefinition::new("space1"),
    redb::TableDefinition::new("space2"),
    redb::TableDefinition::new("space3"),
];

struct Redb(redb::Database);

impl Redb {
    fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self(redb::Database::create(path.join("db.redb"))?))
    }

    fn put(&mut self, batch: u64, value: &[u8], durability: redb::Durability) -> Result<()> {
        let mut write = self.0.begin_write()?;
        write.set_durability(durability)?;
        for (space, table) in TABLES.iter().enumerate() {
            let mut table = write.open_table(*table)?;
            for at in (space as u64..RECORDS).step_by(TABLES.len()) {
                table.insert(&key(batch, at)[..], value)?;
                if batch > KEPT {
                    table.remove(&key(batch - KEPT, at)[..])?;
                }
            }
            if space == 0 {
                table.insert(&b"newest"[..], &batch.to_be_bytes()[..])?;
            }
        }
        Ok(write.commit()?)
    }

    fn get(&mut self, space: usize, key: &[u8]) -> Result<Option<Vec<u8>>> {
        use redb::{ReadableDatabase, TableError};
        let read = self.0.begin_read()?;
        match read.open_table(TABLES[space]) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Engine for Redb {
    fn commit(&mut self, batch: u64, value: &[u8]) -> Result<()> {
        self.put(batch, value, redb::Durability::Immediate)
    }

    fn write(&mut self, batch: u64, value: &[u8]) -> Result<()> {
        self.put(batch, value, redb::Durability::None)
    }

    fn count(&mut self, batch: u64) -> Result<u64> {
        let mut count = 0;
        for at in 0..RECORDS {
            let space = at as usize % TABLES.len();
            count += u64::from(self.get(space, &key(batch, at))?.is_some());
        }
        Ok(count)
    }

    fn newest(&mut self) -> Result<u64> {
        let found = self.get(0, b"newest")?;
        Ok(found.map_or(0, |bytes| {
            u64::from_be_bytes(bytes.try_into().unwrap_or_default())
        }))
    }
}

/// Lets time pass.
fn pass(time: Duration) {
    let (_never_used, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

fn open(engine: &str, path: &Path) -> Result<Box<dyn Engine>> {
    Ok(match engine {
        "fjall" => Box::new(Fjall::open(path)?),
        "redb" => Box::new(Redb::open(path)?),
        _ => return Err("an engine is fjall or redb".into()),
    })
}

/// Writes until it is killed. Says what is durable.
fn write(engine: &str, path: &Path) -> Result<()> {
    let mut engine = open(engine, path)?;
    let mut batch = engine.newest()?;
    println!("open {batch}");
    let value = [7; 256];
    loop {
        batch += 1;
        if batch.is_multiple_of(4) {
            engine.commit(batch, &value)?;
            println!("{batch}");
        } else {
            engine.write(batch, &value)?;
        }
    }
}

/// Everything up to `durable` is there, and of what came later each batch is whole or absent.
fn verify(engine: &str, path: &Path, durable: u64) -> Result<u64> {
    let mut engine = open(engine, path)?;
    let newest = engine.newest()?;
    if newest < durable {
        return Err(format!("{durable} was durable, {newest} is the newest").into());
    }
    for batch in newest.saturating_sub(KEPT - 1).max(1)..=newest + 8 {
        let expected = if batch <= newest { RECORDS } else { 0 };
        let count = engine.count(batch)?;
        if count != expected {
            return Err(format!("batch {batch} of {newest}: {count} records").into());
        }
    }
    Ok(newest)
}

fn kill(engine: &str, path: &Path, rounds: u64) -> Result<()> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut longest_open = Duration::ZERO;
    let mut slowest_first = Duration::ZERO;
    let mut durable = 0;
    for round in 1..=rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let begin = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["write", engine])
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let first = lines
            .next()
            .ok_or_else(|| format!("round {round}: does not open"))??;
        let opened = begin.elapsed();
        longest_open = longest_open.max(opened);
        if first != format!("open {durable}") && !first.starts_with("open ") {
            return Err(format!("round {round}: {first}").into());
        }
        let life = Duration::from_micros(state % 400_000);
        let killer = std::thread::spawn(move || {
            pass(life);
            let _ = child.kill();
            let _ = child.wait();
        });
        let mut is_first = true;
        for line in lines {
            let Ok(line) = line else { break };
            if let Ok(number) = line.parse::<u64>() {
                if is_first {
                    slowest_first = slowest_first.max(begin.elapsed().saturating_sub(opened));
                    is_first = false;
                }
                durable = number;
            }
        }
        killer.join().map_err(|_| "the killer")?;
        let newest =
            verify(engine, path, durable).map_err(|error| format!("round {round}: {error}"))?;
        durable = newest;
        if round.is_multiple_of(20) {
            println!(
                "round {round}: {newest} batches, opens in at most {longest_open:?}, \
                 first commit in at most {slowest_first:?}"
            );
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = path.read_dir() else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
            Err(_) => 0,
        })
        .sum()
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
        .unwrap_or(0)
}

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|n| n.parse().ok())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

/// What the disk does at best: append so many bytes to one file, sync, again and again.
fn bare(path: &Path, commits: u64) -> Result<Duration> {
    std::fs::create_dir_all(path)?;
    let mut file = std::fs::File::create(path.join("bare"))?;
    let block = vec![7; (RECORDS * 300) as usize];
    file.set_len(commits * block.len() as u64)?;
    file.sync_all()?;
    let begin = Instant::now();
    for _ in 0..commits {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let took = begin.elapsed();
    std::fs::remove_file(path.join("bare"))?;
    Ok(took)
}

fn commits(engine: &str, path: &Path, count: u64) -> Result<()> {
    let bare = bare(path, count)?;
    let at = path.join(engine);
    let mut store = open(engine, &at)?;
    let value = [7; 256];
    let (begin, cpu_before, written_before) = (Instant::now(), cpu(), written());
    for batch in 1..=count {
        store.commit(batch, &value)?;
    }
    let took = begin.elapsed();
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    drop(store);
    let payload = count * RECORDS * 256;
    println!(
        "{engine}: {:.0} commits/s of bare {:.0}; cpu {:.1} us/record; \
         {:.2} bytes written a byte, {:.2} on disk; {threads} threads",
        count as f64 / took.as_secs_f64(),
        count as f64 / bare.as_secs_f64(),
        (cpu() - cpu_before) * 1e6 / (count * RECORDS) as f64,
        (written() - written_before) as f64 / payload as f64,
        size(&at) as f64 / (count.min(KEPT) * RECORDS * 256) as f64,
    );
    let begin = Instant::now();
    let mut store = open(engine, &at)?;
    println!(
        "{engine}: opens in {:?}, newest {}",
        begin.elapsed(),
        store.newest()?
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", engine, path] => write(engine, Path::new(path)),
        ["kill", engine, path, rounds] => kill(engine, Path::new(path), rounds.parse()?),
        ["commits", engine, path, count] => commits(engine, Path::new(path), count.parse()?),
        ["idle", engine, path, seconds] => {
            let mut store = open(engine, Path::new(path))?;
            store.commit(1, &[7; 256])?;
            println!("{} threads", std::fs::read_dir("/proc/self/task")?.count());
            pass(Duration::from_secs(seconds.parse()?));
            Ok(())
        }
        ["group", kind, path, messages, seconds] => {
            acks::group(kind, Path::new(path), messages.parse()?, seconds.parse()?)
        }
        [
            "acks",
            port,
            pid,
            dir,
            mode,
            publishers,
            window,
            rate,
            seconds,
        ] => acks::run(&acks::Load {
            port: port.parse()?,
            pid: pid.to_owned(),
            dir: dir.into(),
            is_online: mode == "online",
            publishers: publishers.parse()?,
            window: window.parse()?,
            rate: rate.parse()?,
            seconds: seconds.parse()?,
        }),
        _ => {
            Err("usage: bench-store kill|commits|idle ENGINE DIR COUNT, or as main.rs says".into())
        }
    }
}
