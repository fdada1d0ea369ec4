//! Where, and how urgently, a thread runs.

#![forbid(unsafe_code)]

use std::{io, time::Duration};

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity},
};

use crate::sys;

/// The least urgent niceness that Linux knows.
const NICE_MAX: i32 = 19;
/// The least and most that Linux takes for a slice.
const SLICE_MIN: Duration = Duration::from_micros(100);
const SLICE_MAX: Duration = Duration::from_millis(100);

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

/// Makes the calling thread, and threads that it starts later, nicer by this many steps, up to the
/// nicest that there is.
///
/// For threads that may be late: accepting, authenticating, storing. Next to a normal thread that
/// wants all of a processor, five steps leave about a quarter of it, ten a tenth, nineteen a
/// seventieth. Cannot be undone without privileges.
///
/// # Errors
///
/// None that are known.
pub fn lower_priority(steps: u8) -> io::Result<()> {
    // On Linux the "process" of these calls is a thread.
    let thread = Some(gettid());
    let nice = getpriority_process(thread)?;
    Ok(setpriority_process(
        thread,
        (nice + i32::from(steps)).min(NICE_MAX),
    )?)
}

/// Asks the scheduler to give the calling thread its processor time in slices of this length,
/// where it has it from a common one (`SCHED_OTHER`, `SCHED_BATCH`). Returns whether there was
/// anything to change: a real-time thread is left as it is.
///
/// A thread that wants short slices gets no more time than others, but sooner: when it wakes, it
/// need not wait until a thread with a longer slice has ended it. From Linux 6.12 on; older ones
/// take the wish and do nothing. What is not between 0.1 and 100 ms is taken for the nearer one.
///
/// # Errors
///
/// Where a filter for system calls forbids it.
pub fn request_slice(slice: Duration) -> io::Result<bool> {
    let mut attributes = sys::scheduling()?;
    let policy = i32::try_from(attributes.sched_policy);
    if !matches!(policy, Ok(libc::SCHED_OTHER | libc::SCHED_BATCH)) {
        return Ok(false);
    }
    let slice = slice.clamp(SLICE_MIN, SLICE_MAX);
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    sys::set_scheduling(&attributes).map(|()| true)
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
            lower_priority(3).unwrap();
            let nice = getpriority_process(Some(gettid())).unwrap();
            assert_eq!(nice, (before + 3).min(NICE_MAX));
            lower_priority(u8::MAX).unwrap();
            assert_eq!(getpriority_process(Some(gettid())).unwrap(), NICE_MAX);
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(Some(gettid())).unwrap(), before);
    }

    #[test]
    fn a_slice_is_of_the_thread_and_leaves_the_rest() {
        let before = sys::scheduling().unwrap();
        std::thread::spawn(move || {
            lower_priority(5).unwrap();
            let is_common = request_slice(Duration::ZERO).unwrap();
            let now = sys::scheduling().unwrap();
            assert_eq!(now.sched_policy, before.sched_policy);
            if is_common {
                assert_eq!(now.sched_nice, (before.sched_nice + 5).min(NICE_MAX));
                let slice = Duration::from_nanos(now.sched_runtime);
                // Older kernels do not say one.
                assert!(slice.is_zero() || slice == SLICE_MIN, "{slice:?}");
            }
        })
        .join()
        .unwrap();
        let after = sys::scheduling().unwrap();
        assert_eq!(after.sched_runtime, before.sched_runtime);
    }
}
