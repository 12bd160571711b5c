//! The bounded pool for what may block: name resolution, files, closures of drivers. Threads start
//! when there is work and end after a while without. Invariant: at most `limit` threads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, planted, thread};

/// How long an idle thread waits for work before it ends.
const LINGER: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    stopped: bool,
}

pub(crate) struct Pool {
    state: Mutex<State>,
    work: Condvar,
    limit: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { jobs: VecDeque::new(), threads: 0, idle: 0, stopped: false }),
            work: Condvar::new(),
            limit: limit.max(1),
        })
    }

    pub(crate) fn run(self: &Arc<Self>, job: Job) {
        let mut s = self.state.lock();
        if s.stopped {
            return;
        }
        s.jobs.push_back(job);
        // A thread that was told of a job counts as idle until it runs.
        if s.jobs.len() > s.idle && s.threads < self.limit {
            s.threads += 1;
            let me = self.clone();
            let spawned = thread::Builder::new().name("xio-pool".into()).spawn(move || me.work());
            if spawned.is_err() {
                s.threads -= 1;
                if s.threads == 0 {
                    // No thread to be had at all: run it here rather than never.
                    if let Some(job) = s.jobs.pop_back() {
                        drop(s);
                        job();
                    }
                }
            }
        } else if !planted("a job wakes nobody") {
            self.work.notify_one();
        }
    }

    /// Drops what waits and lets the threads end.
    pub(crate) fn stop(&self) {
        let mut s = self.state.lock();
        s.stopped = true;
        let jobs = std::mem::take(&mut s.jobs);
        if planted("a stopped pool keeps its jobs") {
            s.jobs = jobs;
            return;
        }
        if !planted("a stop wakes nobody") {
            self.work.notify_all();
        }
        drop(s);
        drop(jobs);
    }

    /// The time that idle threads wait is up.
    #[cfg(all(test, loom))]
    pub(crate) fn let_time_pass(&self) {
        let _s = self.state.lock();
        self.work.let_time_pass();
    }

    fn work(&self) {
        let mut s = self.state.lock();
        loop {
            if let Some(job) = s.jobs.pop_front() {
                drop(s);
                job();
                s = self.state.lock();
                continue;
            }
            if s.stopped {
                break;
            }
            s.idle += 1;
            let timed_out = self.work.wait_for(&mut s, LINGER).timed_out();
            s.idle -= 1;
            if timed_out && (s.jobs.is_empty() || planted("a late thread looks away")) {
                break;
            }
        }
        s.threads -= 1;
    }
}
