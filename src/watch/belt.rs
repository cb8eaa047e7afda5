//! A bounded belt: several threads work on what lies on it, and results come off in order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{Taken, wait_until};

/// A place on the belt.
#[derive(Debug)]
enum Place<T, R> {
    /// Nobody has begun.
    Waiting(T),
    /// Somebody works on it.
    InWork,
    /// The result, if there is one.
    Done(Option<R>),
}

#[derive(Debug)]
struct Inner<T, R> {
    places: VecDeque<Place<T, R>>,
    /// How many places have come off the belt so far.
    off: u64,
    closed: bool,
}

/// A belt of at most `capacity` places.
#[derive(Debug)]
pub(super) struct Belt<T, R> {
    inner: Mutex<Inner<T, R>>,
    changed: Condvar,
    capacity: usize,
}

impl<T, R> Belt<T, R> {
    pub fn new(capacity: usize) -> Self {
        let places = VecDeque::with_capacity(capacity);
        let inner = Mutex::new(Inner { places, off: 0, closed: false });
        Self { inner, changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T, R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, place: Place<T, R>) -> bool {
        let mut inner = self.lock();
        while inner.places.len() >= self.capacity && !inner.closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if !inner.closed {
            inner.places.push_back(place);
            self.changed.notify_all();
        }
        !inner.closed
    }

    /// Waits for room and lays down an item; false when the belt is closed.
    pub fn lay(&self, item: T) -> bool {
        self.put(Place::Waiting(item))
    }

    /// The same for what needs no work.
    pub fn lay_done(&self, result: R) -> bool {
        self.put(Place::Done(Some(result)))
    }

    /// Waits for the oldest item that nobody works on, and gives it with its number; `None` when
    /// the belt is closed and no item waits.
    pub fn begin(&self) -> Option<(u64, T)> {
        let mut inner = self.lock();
        loop {
            let is_waiting = |place: &Place<T, R>| matches!(place, Place::Waiting(_));
            if let Some(at) = inner.places.iter().position(is_waiting)
                && let Place::Waiting(item) =
                    std::mem::replace(&mut inner.places[at], Place::InWork)
            {
                return Some((inner.off + at as u64, item));
            }
            if inner.closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The work on item `number` is done; without a result its place is passed over.
    pub fn finish(&self, number: u64, result: Option<R>) {
        let mut inner = self.lock();
        let at = number.checked_sub(inner.off).and_then(|at| usize::try_from(at).ok());
        if let Some(place) = at.and_then(|at| inner.places.get_mut(at)) {
            *place = Place::Done(result);
            self.changed.notify_all();
        }
    }

    /// Takes the oldest result once it is there, waiting for it at most `patience`.
    pub fn take(&self, patience: Duration) -> Taken<R> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            while let Some(Place::Done(_)) = inner.places.front() {
                let place = inner.places.pop_front();
                inner.off += 1;
                self.changed.notify_all();
                if let Some(Place::Done(Some(result))) = place {
                    return Taken::Item(result);
                }
            }
            if inner.closed && inner.places.is_empty() {
                return Taken::Closed;
            }
            inner = match wait_until(&self.changed, inner, deadline) {
                Some(inner) => inner,
                None => return Taken::Nothing,
            };
        }
    }

    /// Takes no more items; what lies on it is worked on and can be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more items, and lets go those that nobody has begun.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.places.iter_mut().for_each(|place| {
            if matches!(place, Place::Waiting(_)) {
                *place = Place::Done(None);
            }
        });
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn results_come_in_order_whoever_is_quicker() {
        let belt = Belt::new(5);
        std::thread::scope(|scope| {
            for worker in 0..3u64 {
                let belt = &belt;
                scope.spawn(move || {
                    while let Some((number, item)) = belt.begin() {
                        if (number + worker).is_multiple_of(4) {
                            std::thread::sleep(Duration::from_micros(300));
                        }
                        // Every seventh gives nothing.
                        belt.finish(number, (item % 7 != 0).then_some(item));
                    }
                });
            }
            scope.spawn(|| {
                for item in 0..500u64 {
                    assert!(if item % 5 == 1 { belt.lay_done(item) } else { belt.lay(item) });
                }
                belt.close();
                assert!(!belt.lay(0), "a closed belt takes nothing");
            });
            for item in (0..500).filter(|item| item % 7 != 0 || item % 5 == 1) {
                assert_eq!(belt.take(LONG), Taken::Item(item));
            }
            assert_eq!(belt.take(LONG), Taken::Closed);
        });
    }

    #[test]
    fn a_belt_never_holds_more_and_can_be_abandoned() {
        let belt: Belt<u64, u64> = Belt::new(2);
        assert!(belt.lay(1) && belt.lay(2));
        assert_eq!(belt.take(Duration::ZERO), Taken::Nothing);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| belt.lay(3));
            let (number, item) = belt.begin().unwrap();
            assert_eq!((number, item), (0, 1));
            belt.abandon();
            assert!(!third.join().unwrap(), "there was no room until it was closed");
            assert_eq!(belt.begin(), None);
            belt.finish(number, Some(10));
            assert_eq!((belt.take(LONG), belt.take(LONG)), (Taken::Item(10), Taken::Closed));
        });
    }
}
