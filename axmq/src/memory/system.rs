//! What the system says of memory: how much this process has, and how much it may have.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The default limit, in percent of what this process may have. The rest is for the kernel's socket
/// buffers, which count in a control group, and for what comes in between two looks.
const LIMIT_PERCENT: u64 = 70;

/// The limit in bytes that follows from `limits.memory_bytes`: that, or where it is 0 a share of
/// what the system lets this process have; 0 where the system does not say.
pub(crate) fn limit_bytes(memory_bytes: u64) -> u64 {
    match memory_bytes {
        0 => available_bytes().unwrap_or(0) / 100 * LIMIT_PERCENT,
        bytes => bytes,
    }
}

/// Memory of this process that is in the machine; 0 where the system does not say.
///
/// One system call: the file stays open.
pub(crate) fn resident_bytes() -> u64 {
    resident().bytes
}

/// Memory of this process that is in the machine.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Resident {
    pub(crate) bytes: u64,
    /// Of that, pages of files: those of the program and of libraries.
    pub(crate) file_bytes: u64,
}

/// As [`resident_bytes`], with the part that is of files.
pub(crate) fn resident() -> Resident {
    static STATM: OnceLock<Option<File>> = OnceLock::new();
    let mut bytes = [0; 128];
    let statm = STATM.get_or_init(|| File::open("/proc/self/statm").ok());
    let read = statm
        .as_ref()
        .and_then(|file| file.read_at(&mut bytes, 0).ok());
    let text = bytes.get(..read.unwrap_or(0)).unwrap_or_default();
    let pages = str::from_utf8(text).ok().and_then(resident_in);
    let bytes = |pages: u64| pages * rustix::param::page_size() as u64;
    pages.map_or_else(Resident::default, |(all, of_files)| Resident {
        bytes: bytes(all),
        file_bytes: bytes(of_files),
    })
}

/// Has the allocator give back what nobody uses, on a thread of its own: it takes milliseconds for
/// each gigabyte of the heap.
pub(crate) fn release() {
    let trim = || {
        slabmem::trim_heap();
    };
    // Without a thread it stays for the next time.
    let _ = std::thread::Builder::new()
        .name("trim".to_owned())
        .spawn(trim);
}

/// The second number of `/proc/self/statm` counts pages, and the third those of files among them
/// (proc_pid_statm(5)).
fn resident_in(statm: &str) -> Option<(u64, u64)> {
    let mut numbers = statm.split(' ').skip(1);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The memory that this process may have: the machine's, or that of the smallest control group
/// around it.
fn available_bytes() -> Option<u64> {
    let machine = total_in(&fs::read_to_string("/proc/meminfo").ok()?);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = limit_of(&groups, Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(group).min()
}

/// `MemTotal` of `/proc/meminfo`, which is in units of 1,024 bytes (proc_meminfo(5)).
fn total_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}

/// The lowest limit of the control groups that `/proc/self/cgroup` names, and of those around them
/// (cgroups(7)). A file that is not there, or says `max`, is no limit; version 1 has a very high
/// number instead.
fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let files = groups.lines().flat_map(|line| limit_files(line, root));
    let limits = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.min()
}

/// The files that hold the limits of one line of `/proc/self/cgroup`.
fn limit_files(line: &str, root: &Path) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (mount, names): (_, &[&str]) = match parts.next() {
        // Version 2. Above `memory.high` the kernel slows the process down.
        Some("") => (root.to_owned(), &["memory.max", "memory.high"]),
        Some(controllers) if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), &["memory.limit_in_bytes"])
        }
        _ => return Vec::new(),
    };
    let path = parts.next().unwrap_or_default().trim_start_matches('/');
    // The outermost is the mount itself. In a container that may be the group of the process, and
    // the path one that only exists outside.
    let groups = Path::new(path).ancestors().map(|group| mount.join(group));
    groups
        .flat_map(|group| names.iter().map(move |name| group.join(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_may_have_more() {
        let resident = resident_bytes();
        let available = available_bytes().expect("/proc is there");
        assert!(resident > 100_000 && resident < available);
        let limit = limit_bytes(0);
        assert!(limit > available / 100 * 69 && limit < available / 100 * 71);
        assert_eq!(limit_bytes(7), 7);
    }

    #[test]
    fn files_that_are_not_as_expected_are_no_limit() {
        assert_eq!(resident_in(""), None);
        assert_eq!(resident_in("5 x 7"), None);
        assert_eq!(resident_in("5 6 7"), Some((6, 7)));
        assert_eq!(total_in("MemFree: 7 kB\n"), None);
        assert_eq!(total_in("MemTotal:       2 kB\n"), Some(2_048));
        let nowhere = Path::new("/nowhere");
        assert_eq!(limit_of("0::/a/b\n5:memory:/c\nx", nowhere), None);
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("axmq-cgroup-{}", std::process::id()));
        let inner = root.join("a/b");
        let old = root.join("memory/c,d");
        for folder in [&inner, &old] {
            fs::create_dir_all(folder).expect("a folder");
        }
        for (file, text) in [
            (root.join("memory.max"), "9000\n"),
            (root.join("a/memory.max"), "4096\n"),
            (inner.join("memory.max"), "max\n"),
            (inner.join("memory.high"), "5000\n"),
            (old.join("memory.limit_in_bytes"), "2048\n"),
            (
                root.join("memory/memory.limit_in_bytes"),
                "9223372036854771712\n",
            ),
        ] {
            fs::write(file, text).expect("a file");
        }
        let found = [
            "0::/a/b\n",
            "0::/\n",
            "0::/outside/of/the/container\n",
            "7:cpu,memory:/c,d\n",
            "7:cpu:/c,d\n",
            "7:memory:/elsewhere\n",
        ]
        .map(|groups| limit_of(groups, &root));
        fs::remove_dir_all(&root).expect("it is ours");
        let unlimited = Some(9_223_372_036_854_771_712);
        assert_eq!(
            found,
            [
                Some(4_096),
                Some(9_000),
                Some(9_000),
                Some(2_048),
                None,
                unlimited
            ]
        );
    }
}
