//! A bounded belt: several threads put results on it, each at a place of its own that it asked for
//! before, and they come off in the order of the places.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{Taken, wait_until};

/// A place on the belt.
#[derive(Debug)]
enum Place<R> {
    /// Somebody works on it.
    InWork,
    /// The result, if there is one.
    Done(Option<R>),
}

#[derive(Debug)]
struct Inner<R> {
    places: VecDeque<Place<R>>,
    /// How many places have come off the belt so far.
    off: u64,
    closed: bool,
}

/// A belt of at most `capacity` places.
#[derive(Debug)]
pub(super) struct Belt<R> {
    inner: Mutex<Inner<R>>,
    changed: Condvar,
    capacity: usize,
}

impl<R> Belt<R> {
    pub fn new(capacity: usize) -> Self {
        let places = VecDeque::with_capacity(capacity);
        let inner = Mutex::new(Inner { places, off: 0, closed: false });
        Self { inner, changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and puts down a place; gives its number, or `None` when the belt is closed.
    fn put(&self, place: Place<R>) -> Option<u64> {
        let mut inner = self.lock();
        while inner.places.len() >= self.capacity && !inner.closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return None;
        }
        let number = inner.off + inner.places.len() as u64;
        inner.places.push_back(place);
        self.changed.notify_all();
        Some(number)
    }

    /// Waits for room and takes the next place for work that begins now: its number, for
    /// [`Belt::finish`]; `None` when the belt is closed.
    pub fn reserve(&self) -> Option<u64> {
        self.put(Place::InWork)
    }

    /// The same for what needs no work; false when the belt is closed.
    pub fn lay_done(&self, result: R) -> bool {
        self.put(Place::Done(Some(result))).is_some()
    }

    /// The work for place `number` is done; without a result the place is passed over.
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

    /// Gives no more places; what lies on it can be taken.
    pub fn close(&self) {
        self.lock().closed = true;
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
        let items = Mutex::new(0..500u64);
        std::thread::scope(|scope| {
            for worker in 0..3u64 {
                let (belt, items) = (&belt, &items);
                scope.spawn(move || {
                    loop {
                        let mut items = items.lock().unwrap();
                        let Some(item) = items.next() else { break };
                        if item % 5 == 1 {
                            assert!(belt.lay_done(item));
                            continue;
                        }
                        let place = belt.reserve().unwrap();
                        drop(items);
                        if (place + worker).is_multiple_of(4) {
                            std::thread::sleep(Duration::from_micros(300));
                        }
                        // Every seventh gives nothing.
                        belt.finish(place, (item % 7 != 0).then_some(item));
                    }
                });
            }
            for item in (0..500).filter(|item| item % 7 != 0 || item % 5 == 1) {
                assert_eq!(belt.take(LONG), Taken::Item(item));
            }
            belt.close();
            assert_eq!(belt.reserve(), None, "a closed belt takes nothing");
        });
        // The last item may be one that gave nothing.
        assert_eq!(belt.take(LONG), Taken::Closed);
    }

    #[test]
    fn a_belt_never_holds_more_and_goes_on_when_it_is_closed() {
        let belt: Belt<u64> = Belt::new(2);
        let places = [belt.reserve(), belt.reserve()];
        assert_eq!(places, [Some(0), Some(1)]);
        assert_eq!(belt.take(Duration::ZERO), Taken::Nothing);
        std::thread::scope(|scope| {
            let third = scope.spawn(|| belt.reserve());
            belt.finish(1, Some(10));
            assert_eq!(belt.take(Duration::ZERO), Taken::Nothing, "the first is still in work");
            belt.close();
            assert_eq!(third.join().unwrap(), None, "there was no room until it was closed");
            belt.finish(0, None);
            assert_eq!((belt.take(LONG), belt.take(LONG)), (Taken::Item(10), Taken::Closed));
        });
    }
}
