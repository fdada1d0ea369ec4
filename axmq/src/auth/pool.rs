//! The auth pool: a bounded queue and the threads that empty it.
//!
//! There are two of the same kind and with the same bound, one for work that computes, such as a
//! password, and one for work that may wait for others, such as an HTTP service. In one pool, a
//! service that hangs would soon have all threads: two that wait 2 s each time let in one client a
//! second, whatever its password. A second pool costs threads that sleep, and needs no share of a
//! common one to be set aside and tuned. A job begins in the first and is handed on where its next
//! step may wait, so nobody waits behind the service but those whom the chain has brought there.
//!
//! A pool itself starts no thread: whoever owns the broker gives it some, and a simulation takes
//! the jobs one by one with `run_one`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Answer, Outcome, Work};
use crate::hooks::{ConnectRequest, Denied, Hooks};

/// Gets the answer, on the thread of the pool.
type Reply = Box<dyn FnOnce(Answer) + Send>;

struct Job {
    work: Work,
    request: Arc<ConnectRequest>,
    reply: Reply,
}

/// As many jobs wait as may.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Busy;

/// See the module.
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    jobs_max: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
    /// Threads in [`Pool::serve`].
    threads: usize,
}

impl Pool {
    pub(crate) fn new(jobs_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            jobs_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job. Its answer comes on another thread, unless the pool is closed before.
    ///
    /// # Errors
    ///
    /// [`Busy`], and the job is dropped.
    pub(crate) fn submit(
        &self,
        work: Work,
        request: Arc<ConnectRequest>,
        reply: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), Busy> {
        let reply = Box::new(reply);
        let job = Job {
            work,
            request,
            reply,
        };
        self.take(job).map_err(|_| Busy)
    }

    /// Queues a job, or gives it back.
    fn take(&self, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.is_closed || state.jobs.len() >= self.jobs_max {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Does the oldest job, for tests that drive the pool by hand; `false` when there is none.
    #[cfg(test)]
    pub(crate) fn run_one(&self, hooks: &Hooks) -> bool {
        let job = self.lock().jobs.pop_front();
        job.map(|job| job.run(hooks, false)).is_some()
    }

    /// Does jobs until the pool is closed; those that may wait for others only where it `may_wait`.
    pub(crate) fn serve(&self, hooks: &Hooks, may_wait: bool) {
        self.lock().threads += 1;
        loop {
            let state = self.lock();
            let mut state = self
                .changed
                .wait_while(state, |state| state.jobs.is_empty() && !state.is_closed)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_closed {
                state.threads -= 1;
                drop(state);
                self.changed.notify_all();
                return;
            }
            let job = state.jobs.pop_front();
            drop(state);
            if let Some(job) = job {
                job.run(hooks, may_wait);
            }
        }
    }

    /// Drops what waits, and waits until the threads have ended, but no longer than `patience`: one
    /// may sit in a look-up that takes its time.
    pub(crate) fn close(&self, patience: Duration) {
        let mut state = self.lock();
        state.is_closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
        self.changed.notify_all();
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, patience, |state| state.threads > 0);
        drop(waited);
    }
}

impl Job {
    fn run(self, hooks: &Hooks, may_wait: bool) {
        let Self {
            work,
            request,
            reply,
        } = self;
        match work.step(&request, hooks, may_wait) {
            Outcome::Done(answer) => reply(answer),
            Outcome::Waits(work) => {
                let job = Self {
                    work,
                    request,
                    reply,
                };
                if let Err(job) = hooks.waiting_pool.take(job) {
                    (job.reply)(Answer::Denied(Denied::busy()));
                }
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("jobs", &self.lock().jobs.len())
            .field("jobs_max", &self.jobs_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use mqtt_codec::{ReasonCode, Version};
    use pollio::PeerAddr;

    use super::*;
    use crate::hooks::Grant;

    fn request(id: &str) -> Arc<ConnectRequest> {
        Arc::new(ConnectRequest {
            client_id: id.into(),
            certified_user: None,
            username: None,
            password: None,
            peer: PeerAddr::UNIX,
            version: Version::V5,
        })
    }

    fn by_id(request: &ConnectRequest) -> Result<Grant, Denied> {
        assert_ne!(request.client_id(), "breaks", "a hook that panics");
        match request.client_id() {
            "bad" => Err(Denied::credentials()),
            id => Ok(Grant::to(id)),
        }
    }

    fn text(answer: &Answer) -> String {
        match answer {
            Answer::Granted(grant, _) => format!("granted {:?}", grant.identity()),
            Answer::Continue(..) => "continue".to_owned(),
            Answer::Denied(denied) => format!("denied 0x{:02X}", denied.reason() as u8),
        }
    }

    #[test]
    fn jobs_are_done_in_order_up_to_the_limit() {
        let (pool, hooks) = (Pool::new(2), Hooks::default());
        let (sender, answers) = mpsc::channel();
        let submit = |id| {
            let sender = sender.clone();
            pool.submit(
                Work::Password(Arc::new(by_id)),
                request(id),
                move |answer| {
                    sender.send(text(&answer)).expect("the test listens");
                },
            )
        };
        assert_eq!(submit("good"), Ok(()));
        assert_eq!(submit("bad"), Ok(()));
        assert_eq!(submit("late"), Err(Busy));
        assert!(pool.run_one(&hooks));
        assert_eq!(submit("breaks"), Ok(()), "there is room again");
        assert!(pool.run_one(&hooks));
        assert!(pool.run_one(&hooks));
        assert!(!pool.run_one(&hooks));
        let expected = [
            "granted Some(\"good\")".to_owned(),
            "denied 0x86".to_owned(),
            format!("denied 0x{:02X}", ReasonCode::UnspecifiedError as u8),
        ];
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), expected);
        assert_eq!(hooks.counters().panicked, 1);
    }

    #[test]
    fn threads_serve_until_it_is_closed() {
        let pool = Arc::new(Pool::new(100));
        let (sender, answers) = mpsc::channel();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || pool.serve(&Hooks::default(), false))
            })
            .collect();
        for _ in 0..100 {
            let sender = sender.clone();
            let work = Work::Password(Arc::new(by_id));
            pool.submit(work, request("a"), move |answer| {
                sender.send(text(&answer)).expect("the test listens");
            })
            .expect("there is room");
        }
        for _ in 0..100 {
            assert_eq!(answers.recv().as_deref(), Ok("granted Some(\"a\")"));
        }
        pool.close(Duration::from_secs(60));
        for thread in threads {
            thread.join().expect("no panic");
        }
        let refused = pool.submit(Work::Password(Arc::new(by_id)), request("a"), |_| {});
        assert_eq!(refused, Err(Busy));
    }
}
