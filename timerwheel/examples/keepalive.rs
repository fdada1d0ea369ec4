//! Keep-alives of ten thousand make-believe connections on one timerfd.
//!
//! Run with `cargo run --release -p timerwheel --features timerfd --example keepalive`.
//!
//! Every connection must be heard of within its keep-alive. Half of them talk all the time, which
//! only touches their timer; the other half fall silent and time out. The loop sleeps in
//! `epoll_wait` with no timeout and is woken by the timerfd alone.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use rustix::event::epoll;
use rustix::time::{ClockId, clock_gettime};
use timerwheel::driver::TimerFd;
use timerwheel::{Policy, TimerKey, TimerWheel};

const CONNECTIONS: usize = 10_000;
const TICK_NS: u64 = 1_000_000;
const KEEP_ALIVE_TICKS: u64 = 400;
const BUDGET: usize = 256;

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn main() -> io::Result<()> {
    let mut timer = TimerFd::new()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&epoll, timer.as_fd(), epoll::EventData::new_u64(0), flags)?;

    let start = now_ns() / TICK_NS;
    let policy = Policy::Coarse {
        max_slack_ticks: 1000,
    };
    let mut wheel = TimerWheel::with_capacity(policy, start, CONNECTIONS);
    // They connect over 200 ticks, and the even ones talk until tick 1000.
    let keys: Vec<TimerKey> = (0..CONNECTIONS)
        .map(|connection| {
            let connected = start + connection as u64 % 200;
            wheel.insert(connected + KEEP_ALIVE_TICKS, connection)
        })
        .collect();

    let (mut wakes, mut timed_out, mut due) = (0, [0, 0], Vec::with_capacity(BUDGET));
    while let Some(tick) = wheel.next_deadline() {
        timer.arm(tick.saturating_mul(TICK_NS))?;
        let mut space = [MaybeUninit::uninit(); 8];
        epoll::wait(&epoll, &mut space, None)?;
        wakes += 1;

        let now = now_ns();
        timer.fired(now);
        let now_tick = now / TICK_NS;
        if now_tick < start + 1000 {
            for key in keys.iter().step_by(2) {
                wheel.touch(*key, now_tick + KEEP_ALIVE_TICKS);
            }
        }
        while wheel.expire(now_tick, BUDGET, &mut due) || !due.is_empty() {
            for expired in due.drain(..) {
                timed_out[expired.value % 2] += 1;
            }
        }
    }

    let stats = wheel.stats();
    writeln!(
        io::stdout(),
        "{} talkers and {} silent ones timed out in {wakes} wake-ups, {} arms and {} moves; \
         the latest was {} ms late",
        timed_out[0],
        timed_out[1],
        timer.syscalls(),
        stats.moved,
        stats.late_ticks_max,
    )
}
