//! Where, and how urgently, a thread runs.

#![forbid(unsafe_code)]

use std::io;

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};

/// How much less urgent [`lower_priority`] makes a thread, in steps of niceness. Five steps are
/// about a third of the processor time of a normal thread that wants all of it.
const NICER_BY: i32 = 5;
/// The least urgent niceness that Linux knows.
const NICE_MAX: i32 = 19;

/// The processors that this thread may run on, in rising order.
///
/// Allocates. Knows the first 1,024 processors.
///
/// # Errors
///
/// On machines with more than 1,024 processors.
pub fn available_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
///
/// `InvalidInput` for a processor that does not exist or that this process may not use.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no such processor",
        ));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Makes the calling thread, and threads that it starts later, five steps nicer than it is.
///
/// For threads that may be late: accepting, authenticating, storing. Cannot be undone without
/// privileges.
///
/// # Errors
///
/// None that are known.
pub fn lower_priority() -> io::Result<()> {
    // On Linux the "process" of these calls is a thread.
    let thread = Some(gettid());
    let nice = getpriority_process(thread)?;
    Ok(setpriority_process(
        thread,
        (nice + NICER_BY).min(NICE_MAX),
    )?)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pinning_leaves_one_processor() {
        let cpus = available_cpus().unwrap();
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            assert_eq!(available_cpus().unwrap(), [last]);
            assert!(pin_current_thread(usize::MAX).is_err());
        })
        .join()
        .unwrap();
        assert_eq!(
            available_cpus().unwrap(),
            cpus,
            "other threads are not concerned"
        );
    }

    #[test]
    fn lower_priority_is_of_the_thread() {
        let before = getpriority_process(Some(gettid())).unwrap();
        std::thread::spawn(move || {
            lower_priority().unwrap();
            let nice = getpriority_process(Some(gettid())).unwrap();
            assert_eq!(nice, (before + NICER_BY).min(NICE_MAX));
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(Some(gettid())).unwrap(), before);
    }
}
