//! Ends a test that would never end, and says which. Virtual time is bounded by the simulation; this
//! bounds real time, for a level that loops or blocks. Invariant: the caller goes on after the limit;
//! the stuck thread is left behind, for nothing can end it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// It did not end in time.
    Stuck(Duration),
    /// It panicked, with this text.
    Panicked(String),
}

/// Runs `f` on a thread of its own, for so long at most.
///
/// # Errors
/// Where `f` gives nothing: it panicked, or takes too long.
///
/// # Panics
/// Where the system gives no thread.
pub fn watch<T: Send + 'static>(
    name: &str,
    limit: Duration,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (tx, rx) = mpsc::channel();
    let run = move || {
        let out = catch_unwind(AssertUnwindSafe(f)).map_err(|p| Lost::Panicked(text_of(&*p)));
        // Nobody listens where the limit has passed.
        let _ = tx.send(out);
    };
    std::thread::Builder::new().name(name.into()).spawn(run).expect("a thread for the test");
    rx.recv_timeout(limit).unwrap_or(Err(Lost::Stuck(limit)))
}

/// The text of a panic.
pub(crate) fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_a_standstill_are_told_apart() {
        assert_eq!(watch("t", Duration::from_secs(20), || 7), Ok(7));
        let p: Result<(), _> = watch("t", Duration::from_secs(20), || panic!("so {}", 1));
        assert_eq!(p, Err(Lost::Panicked("so 1".into())));
        let limit = Duration::from_millis(1);
        let (tx, rx) = mpsc::channel::<()>();
        assert_eq!(
            watch("t", limit, move || {
                let _ = rx.recv();
            }),
            Err(Lost::Stuck(limit))
        );
        drop(tx);
    }
}
