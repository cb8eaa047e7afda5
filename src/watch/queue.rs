//! A bounded queue between threads that can drop its oldest.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// A queue of at most `capacity` items.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
    capacity: usize,
}

/// What waiting for an item gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// An item.
    Item(T),
    /// The time was up.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

impl<T> Queue<T> {
    pub fn new(capacity: usize) -> Self {
        let items = VecDeque::with_capacity(capacity);
        let inner = Mutex::new(Inner { items, closed: false });
        Self { inner, changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item and gives back the oldest where there was no room. `Err` with the item when
    /// the queue is closed.
    pub fn push_newest(&self, item: T) -> Result<Option<T>, T> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(item);
        }
        let oldest = (inner.items.len() >= self.capacity).then(|| inner.items.pop_front());
        inner.items.push_back(item);
        self.changed.notify_all();
        Ok(oldest.flatten())
    }

    /// Waits for room and adds an item. `Err` with the item when the queue is closed.
    pub fn push_waiting(&self, item: T) -> Result<(), T> {
        let mut inner = self.lock();
        while inner.items.len() >= self.capacity && !inner.closed {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return Err(item);
        }
        inner.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the oldest item, waiting for one at most `patience`.
    pub fn take(&self, patience: Duration) -> Taken<T> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            if let Some(item) = inner.items.pop_front() {
                self.changed.notify_all();
                return Taken::Item(item);
            }
            if inner.closed {
                return Taken::Closed;
            }
            inner = match wait_until(&self.changed, inner, deadline) {
                Some(inner) => inner,
                None => return Taken::Nothing,
            };
        }
    }

    /// Takes no more items; what is in it can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Waits for a change; `None` once it is `deadline`.
pub(super) fn wait_until<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Instant,
) -> Option<MutexGuard<'a, T>> {
    let left = deadline.saturating_duration_since(Instant::now());
    let wait = || changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    (!left.is_zero()).then(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_comes_back() {
        let queue = Queue::new(2);
        assert_eq!(queue.push_newest(1), Ok(None));
        assert_eq!(queue.push_newest(2), Ok(None));
        assert_eq!(queue.push_newest(3), Ok(Some(1)));
        queue.close();
        assert_eq!(queue.push_newest(4), Err(4));
        assert_eq!(queue.push_waiting(4), Err(4));
        let take = || queue.take(Duration::from_secs(1));
        assert_eq!([take(), take(), take()], [Taken::Item(2), Taken::Item(3), Taken::Closed]);
    }

    #[test]
    fn waiting_for_room_loses_nothing() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..1000).for_each(|i| queue.push_waiting(i).unwrap());
                queue.close();
            });
            for expected in 0..1000 {
                assert_eq!(queue.take(Duration::from_secs(60)), Taken::Item(expected));
            }
            assert_eq!(queue.take(Duration::from_secs(60)), Taken::Closed);
        });
    }
}
