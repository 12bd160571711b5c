//! The bell of a blocking caller, against ringers and a socket that becomes ready: a ring is never lost, and
//! wakes once.

use super::{join, model, threads};
use crate::reactor::Bell;
use crate::sync::{Arc, AtomicBool, AtomicU32, Ordering};

/// What a ringer has to say, beside the ring.
#[derive(Default)]
struct Word(AtomicBool);

impl Word {
    fn say(&self, bell: &Bell) {
        self.0.store(true, Ordering::Relaxed);
        bell.ring();
    }
    fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits as a blocking caller does: it looks at what was said only where it was rung.
fn wait_for(bell: &Bell, words: &[&Word]) {
    loop {
        bell.wait(None);
        if bell.take_ring() && words.iter().all(|w| w.is_said()) {
            return;
        }
    }
}

/// After what had been rung is taken, and a late mark, nothing ends a wait.
fn is_silent(bell: &Bell) {
    for _ in 0..2 {
        bell.wait(Some(std::time::Duration::ZERO));
        bell.take_ring();
    }
    bell.wait(Some(std::time::Duration::ZERO));
    assert!(!bell.take_ring() && !bell.mark().is_set(), "wakes for ever");
}

model! {
    /// A ring that comes before, during or after the moment in which the caller falls asleep ends its wait,
    /// and what the ringer did before is seen.
    in all fn a_ring_ends_a_wait() {
        let (bell, word) = (Arc::new(Bell::new()), Arc::new(Word::default()));
        let (b, w) = (bell.clone(), word.clone());
        let ringer = threads([Box::new(move || w.say(&b))]);
        wait_for(&bell, &[&word]);
        join(ringer);
        is_silent(&bell);
    }
    finds a_ring_that_is_forgotten: "a wait forgets the ring" => "deadlock";
    finds a_ring_that_wakes_nobody: "a ring sets no mark" => "deadlock";
}

model! {
    /// Of two ringers neither is missed, however their rings fall together.
    in 3 fn neither_of_two_rings_is_lost() {
        let bell = Arc::new(Bell::new());
        let words: [Arc<Word>; 2] = Default::default();
        let ringers = threads(words.each_ref().map(|w| {
            let (b, w) = (bell.clone(), w.clone());
            Box::new(move || w.say(&b)) as Box<dyn FnOnce() + Send>
        }));
        wait_for(&bell, &words.each_ref().map(|w| &**w));
        join(ringers);
        is_silent(&bell);
    }
    finds a_ring_that_is_forgotten: "a wait forgets the ring" => "deadlock";
}

model! {
    /// A sleep that the socket ends leaves a ring that comes at that moment for the next look, and its late
    /// mark does not keep the caller awake.
    in 3 fn a_ring_beside_a_ready_socket_is_kept() {
        let (bell, word) = (Arc::new(Bell::new()), Arc::new(Word::default()));
        let (b, w) = (bell.clone(), word.clone());
        let mark = bell.mark().clone();
        let others = threads([Box::new(move || w.say(&b)), Box::new(move || mark.make_ready())]);
        wait_for(&bell, &[&word]);
        join(others);
        is_silent(&bell);
    }
    finds a_mark_that_stays: "a late mark stays" => "wakes for ever";
}

model! {
    /// One ringer that rings again and again, and a caller that counts: it never sleeps through the last one.
    in 3 fn the_last_of_many_rings_counts() {
        let (bell, n) = (Arc::new(Bell::new()), Arc::new(AtomicU32::new(0)));
        let (b, m) = (bell.clone(), n.clone());
        let ringer = threads([Box::new(move || {
            for i in 1..=3 {
                m.store(i, Ordering::Relaxed);
                b.ring();
            }
        })]);
        while n.load(Ordering::Relaxed) < 3 {
            bell.wait(None);
            bell.take_ring();
        }
        join(ringer);
    }
    finds a_ring_that_wakes_nobody: "a ring sets no mark" => "deadlock";
}
