//! The pool: every job runs once or is dropped by a stop, whatever its threads are about at the time.

use super::{join, model, threads};
use crate::engine::pool::Pool;
use crate::sync::{Arc, AtomicU32, Condvar, Mutex, Ordering};

/// Counts jobs that ran and jobs that went, and lets others wait for that.
struct Tally {
    ran: AtomicU32,
    gone: Mutex<u32>,
    changed: Condvar,
}

/// Part of a job; it is gone when that is dropped.
struct Part(Arc<Tally>);

impl Drop for Part {
    fn drop(&mut self) {
        *self.0.gone.lock() += 1;
        self.0.changed.notify_all();
    }
}

impl Tally {
    fn new() -> Arc<Self> {
        Arc::new(Self { ran: AtomicU32::new(0), gone: Mutex::new(0), changed: Condvar::new() })
    }

    fn job(self: &Arc<Self>) -> Box<dyn FnOnce() + Send> {
        let part = Part(self.clone());
        Box::new(move || {
            part.0.ran.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn wait_for(&self, n: u32) {
        let mut gone = self.gone.lock();
        while *gone < n {
            self.changed.wait(&mut gone);
        }
    }
}

model! {
    /// Two threads give jobs to a pool of one: both run.
    in 3 fn every_job_runs() {
        let (pool, tally) = (Pool::new(1), Tally::new());
        let (p, t) = (pool.clone(), tally.clone());
        let other = threads([Box::new(move || p.run(t.job()))]);
        pool.run(tally.job());
        tally.wait_for(2);
        join(other);
        pool.stop();
        assert_eq!(tally.ran.load(Ordering::Relaxed), 2);
    }
    finds a_job_that_nobody_is_told_of: "a job wakes nobody" => "deadlock";
}

model! {
    /// A job that comes when an idle thread has just given up waiting is not left lying.
    in 3 fn a_job_that_meets_a_late_thread_runs() {
        let (pool, tally) = (Pool::new(1), Tally::new());
        pool.run(tally.job());
        tally.wait_for(1);
        let p = pool.clone();
        let other = threads([Box::new(move || p.let_time_pass())]);
        pool.run(tally.job());
        tally.wait_for(2);
        join(other);
        pool.stop();
    }
    finds a_late_thread_that_looks_away: "a late thread looks away" => "deadlock";
}

model! {
    /// A stop that comes with a job: it runs or is dropped, and the threads end.
    in all fn a_stop_leaves_no_job_and_no_thread() {
        let (pool, tally) = (Pool::new(1), Tally::new());
        let (p, t) = (pool.clone(), tally.clone());
        let other = threads([Box::new(move || {
            p.run(t.job());
            p.run(t.job());
        })]);
        pool.stop();
        join(other);
        tally.wait_for(2);
        assert!(tally.ran.load(Ordering::Relaxed) <= 2);
    }
    finds a_stop_that_wakes_nobody: "a stop wakes nobody" => "deadlock";
    finds a_job_that_is_kept: "a stopped pool keeps its jobs" => "deadlock";
}
