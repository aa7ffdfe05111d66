//! The locks of the shared state: `parking_lot`'s, or `shuttle`'s in the tests that run chosen schedules.
//!
//! Nothing else in the crate may name a lock type.

#[cfg(not(feature = "shuttle"))]
pub(crate) use real::{Condvar, Mutex};
#[cfg(feature = "shuttle")]
pub(crate) use scheduled::{Condvar, Mutex};

#[cfg(not(feature = "shuttle"))]
mod real {
    pub(crate) use parking_lot::Mutex;
    use parking_lot::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}

#[cfg(feature = "shuttle")]
mod scheduled {
    use shuttle::sync::MutexGuard;

    /// A panic inside a lock ends the whole test: poisoning needs no handling.
    const PANICKED: &str = "no thread has panicked";

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect(PANICKED)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(shuttle::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).expect(PANICKED)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }
}
