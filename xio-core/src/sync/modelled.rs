//! Loom's or shuttle's locks, atomics and threads behind the signatures of those that stand in for.
//! Invariant: every name means what the real one means, as far as a model can tell; there is no time, so
//! waits with a limit end when they are told to.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

#[cfg(loom)]
use loom as model;
#[cfg(shuttle)]
use shuttle as model;

use model::sync as locks;

/// As parking_lot's.
pub(crate) struct Mutex<T>(locks::Mutex<T>);

/// The lock, taken. Only a wait has it empty.
pub(crate) struct MutexGuard<'a, T>(Option<locks::MutexGuard<'a, T>>);

const POISON: &str = "a model that fails goes no further";

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(locks::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect(POISON)))
    }

    /// It is free at once, or never in time.
    pub(crate) fn try_lock_for(&self, _: Duration) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|g| MutexGuard(Some(g)))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(POISON)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken")
    }
}

/// As parking_lot's. Time passes when the model says so.
pub(crate) struct Condvar {
    inner: locks::Condvar,
    late: AtomicBool,
}

/// How a wait with a limit ended.
pub(crate) struct Waited(bool);

impl Waited {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self { inner: locks::Condvar::new(), late: AtomicBool::new(false) }
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(g) = guard.0.take() {
            guard.0 = Some(self.inner.wait(g).expect(POISON));
        }
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> Waited {
        if !self.late.load(Ordering::SeqCst) {
            self.wait(guard);
        }
        Waited(self.late.load(Ordering::SeqCst))
    }

    /// From now on the time of every wait with a limit is up. Call it with the lock taken.
    #[cfg(all(test, loom))]
    pub(crate) fn let_time_pass(&self) {
        self.late.store(true, Ordering::SeqCst);
        self.inner.notify_all();
    }
}

/// As crossbeam's, which models cannot look into.
pub(crate) struct Queue<T>(Mutex<VecDeque<T>>);

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn push(&self, value: T) {
        self.0.lock().push_back(value);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.lock().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

use super::Ordering;

/// What comes before and after an access that is sequentially consistent. Loom takes such an access for
/// an acquire or release and knows that order of fences alone; shuttle knows nothing weaker.
fn fence(order: Ordering) {
    #[cfg(loom)]
    if order == Ordering::SeqCst {
        loom::sync::atomic::fence(order);
    }
    #[cfg(shuttle)]
    let _ = order;
}

fn order(order: Ordering) -> Ordering {
    if cfg!(shuttle) { Ordering::SeqCst } else { order }
}

macro_rules! atomics {
    ($($Name:ident $T:ty;)+) => {$(
        /// As the standard library's.
        #[derive(Debug)]
        pub(crate) struct $Name(locks::atomic::$Name);

        impl Default for $Name {
            fn default() -> Self {
                Self::new(<$T>::default())
            }
        }

        #[allow(dead_code, reason = "not all is used of every type")]
        impl $Name {
            pub(crate) fn new(value: $T) -> Self {
                Self(locks::atomic::$Name::new(value))
            }

            pub(crate) fn load(&self, o: Ordering) -> $T {
                fence(o);
                self.0.load(order(o))
            }

            pub(crate) fn store(&self, value: $T, o: Ordering) {
                self.0.store(value, order(o));
                fence(o);
            }

            pub(crate) fn swap(&self, value: $T, o: Ordering) -> $T {
                fence(o);
                let old = self.0.swap(value, order(o));
                fence(o);
                old
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $T,
                new: $T,
                o: Ordering,
                failed: Ordering,
            ) -> Result<$T, $T> {
                fence(o);
                let r = self.0.compare_exchange(old, new, order(o), order(failed));
                fence(o);
                r
            }

            pub(crate) fn fetch_update(
                &self,
                o: Ordering,
                failed: Ordering,
                f: impl FnMut($T) -> Option<$T>,
            ) -> Result<$T, $T> {
                self.0.fetch_update(order(o), order(failed), f)
            }
        }
    )+};
}

atomics! {
    AtomicBool bool;
    AtomicU32 u32;
    AtomicU64 u64;
}

impl AtomicU32 {
    pub(crate) fn fetch_add(&self, n: u32, o: Ordering) -> u32 {
        self.0.fetch_add(n, order(o))
    }
}

impl AtomicU64 {
    pub(crate) fn fetch_add(&self, n: u64, o: Ordering) -> u64 {
        self.0.fetch_add(n, order(o))
    }
}

pub(crate) mod thread {
    use std::io;
    use std::time::Duration;

    use super::model::thread;
    pub(crate) use thread::{JoinHandle, current, yield_now};

    /// Words of stack; what loom gives is not enough for an engine.
    #[cfg(loom)]
    const STACK: usize = 0x8000;

    /// As the standard library's.
    pub(crate) struct Builder(thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Self {
            let builder = thread::Builder::new();
            #[cfg(loom)]
            let builder = builder.stack_size(STACK);
            Self(builder)
        }

        pub(crate) fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            f: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            self.0.spawn(f)
        }
    }

    /// There is no time: others run.
    pub(crate) fn sleep(_: Duration) {
        yield_now();
    }

    /// A model that fails unwinds, and the process with it is over soon.
    pub(crate) fn panicking() -> bool {
        false
    }
}

/// A thread local with the short forms that the standard library's has.
pub(crate) struct Local<T: 'static>(pub(crate) &'static model::thread::LocalKey<T>);

impl<T> Local<T> {
    pub(crate) fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, impl std::fmt::Debug> {
        self.0.try_with(f)
    }
}

impl<T> Local<std::cell::Cell<T>> {
    pub(crate) fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.0.with(std::cell::Cell::get)
    }

    pub(crate) fn set(&'static self, value: T) {
        self.0.with(|c| c.set(value));
    }

    pub(crate) fn replace(&'static self, value: T) -> T {
        self.0.with(|c| c.replace(value))
    }
}

impl<T> Local<std::cell::RefCell<T>> {
    pub(crate) fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(|c| f(&c.borrow()))
    }

    pub(crate) fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.0.with(|c| f(&mut c.borrow_mut()))
    }
}

macro_rules! local {
    ($($(#[$a:meta])* $v:vis static $N:ident: $T:ty = $init:expr;)+) => {$(
        $(#[$a])*
        $v static $N: $crate::sync::Local<$T> = {
            $crate::sync::model_local! { static KEY: $T = $init; }
            $crate::sync::Local(&KEY)
        };
    )+};
}
pub(crate) use local as thread_local;
pub(crate) use model::thread_local as model_local;
