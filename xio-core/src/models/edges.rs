//! Sockets whose readiness comes as edges, under several attempters: no wake-up is lost, none doubled.

use std::io;
use std::sync::Weak;

use super::{join, model, threads};
use crate::io::Direction;
use crate::op::OpId;
use crate::reactor::{Edges, Waiter};
use crate::sync::{Arc, Condvar, Mutex};

/// The system's side of a socket: what is there, and whether it has yet to be told. Like epoll it tells
/// once for all that came since it told last.
struct Socket {
    edges: Edges,
    system: Mutex<System>,
    told: Condvar,
    /// Waiters that were handed out and have not run yet.
    woken: Mutex<Vec<OpId>>,
    wake: Condvar,
}

#[derive(Default)]
struct System {
    there: u32,
    news: bool,
    over: bool,
}

impl Socket {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            edges: Edges::new(),
            system: Mutex::new(System::default()),
            told: Condvar::new(),
            woken: Mutex::new(Vec::new()),
            wake: Condvar::new(),
        })
    }

    fn arrives(&self, n: u32) {
        let mut s = self.system.lock();
        (s.there, s.news) = (s.there + n, true);
        self.told.notify_all();
    }

    fn is_over(&self) {
        self.system.lock().over = true;
        self.told.notify_all();
    }

    /// The reactor: hands out waiters until there is nothing more to come.
    fn react(&self) {
        loop {
            let mut s = self.system.lock();
            while !s.news && !s.over {
                self.told.wait(&mut s);
            }
            if !std::mem::take(&mut s.news) {
                return;
            }
            drop(s);
            self.tell();
        }
    }

    fn tell(&self) {
        let mut ready = Vec::new();
        self.edges.edge(Direction::Read, &mut ready);
        let mut woken = self.woken.lock();
        for w in ready {
            assert!(!woken.contains(&w.id), "woken twice");
            woken.push(w.id);
        }
        self.wake.notify_all();
    }

    fn attempt(&self) -> bool {
        let take = || {
            let mut s = self.system.lock();
            s.there = s.there.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
            Ok(())
        };
        self.edges.attempt(Direction::Read, take).is_ok()
    }

    /// An op: takes one thing, and waits for it where it must.
    fn take(&self, n: u32) {
        let waiter = waiter(n);
        loop {
            if self.attempt() {
                return;
            }
            if self.edges.arm(Direction::Read, waiter.clone()) {
                let mut woken = self.woken.lock();
                loop {
                    if let Some(i) = woken.iter().position(|w| *w == waiter.id) {
                        woken.swap_remove(i);
                        break;
                    }
                    self.wake.wait(&mut woken);
                }
            }
        }
    }
}

fn waiter(n: u32) -> Waiter {
    Waiter { core: Weak::new(), id: OpId { slot: n, generation: 1 } }
}

model! {
    /// What arrives while an op finds nothing and arms is not missed.
    in 3 fn one_op_gets_what_arrives() {
        let s = Socket::new();
        let (a, b) = (s.clone(), s.clone());
        let others = threads([Box::new(move || a.take(1)), Box::new(move || b.react())]);
        s.arrives(1);
        s.is_over();
        join(others);
    }
    finds an_edge_that_is_not_counted: "an edge is not counted" => "deadlock";
    finds an_attempt_that_looks_afterwards: "an attempt looks afterwards" => "deadlock";
}

model! {
    /// Two ops and two arrivals: each op gets one, woken by its own edge or by that of the other.
    in 3 fn two_ops_get_what_arrives_twice() {
        let s = Socket::new();
        let (a, b) = (s.clone(), s.clone());
        let others = threads([Box::new(move || a.take(1)), Box::new(move || b.take(2))]);
        for _ in 0..2 {
            s.arrives(1);
            s.tell();
        }
        join(others);
    }
    finds an_edge_that_is_not_counted: "an edge is not counted" => "deadlock";
    finds an_attempt_that_looks_afterwards: "an attempt looks afterwards" => "deadlock";
}

model! {
    /// What arrives together has one edge, which is for all who wait.
    in 3 fn one_edge_is_for_both_ops() {
        let s = Socket::new();
        let (a, b) = (s.clone(), s.clone());
        let others = threads([Box::new(move || a.take(1)), Box::new(move || b.take(2))]);
        s.arrives(2);
        s.tell();
        join(others);
    }
    finds an_edge_for_one_of_them: "an edge wakes one" => "deadlock";
}

model! {
    /// A waiter that is taken away while an edge comes was handed out before, or never is.
    in all fn a_waiter_goes_with_its_edge_or_before() {
        let s = Socket::new();
        assert!(s.edges.arm(Direction::Read, waiter(1)));
        let a = s.clone();
        let other = threads([Box::new(move || a.edges.disarm(Direction::Read, &waiter(1)))]);
        let mut ready = Vec::new();
        s.edges.edge(Direction::Read, &mut ready);
        s.edges.edge(Direction::Read, &mut ready);
        join(other);
        assert!(ready.len() <= 1, "handed out {} times", ready.len());
    }
    finds a_waiter_that_stays: "an edge keeps its waiters" => "handed out 2 times";
}

model! {
    /// What is taken away in time is not handed out, whoever else waits.
    in all fn one_goes_and_the_other_is_woken() {
        let s = Socket::new();
        let (a, b) = (s.clone(), s.clone());
        let arming = threads([
            Box::new(move || {
                a.edges.arm(Direction::Read, waiter(1));
                a.edges.disarm(Direction::Read, &waiter(1));
            }),
            Box::new(move || assert!(b.edges.arm(Direction::Read, waiter(2)))),
        ]);
        join(arming);
        let mut ready = Vec::new();
        s.edges.edge(Direction::Read, &mut ready);
        assert!(ready == [waiter(2)], "not the other one");
    }
    finds all_taken_away: "a waiter takes all away" => "not the other one";
}

model! {
    /// Edges of one direction are none of the other: a writer sleeps on while bytes come in.
    in all fn directions_are_apart() {
        let s = Socket::new();
        let a = s.clone();
        let other = threads([Box::new(move || a.edges.edge(Direction::Read, &mut Vec::new()))]);
        assert!(s.edges.arm(Direction::Write, waiter(1)), "woken by the other direction");
        join(other);
        assert!(!s.edges.arm(Direction::Read, waiter(2)), "missed its own");
    }
    finds one_count_for_both: "directions are one" => "missed its own";
}
