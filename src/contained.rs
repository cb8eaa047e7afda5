//! Panics of the graph engine, or of the tokenizer, as errors.
//!
//! tract relies on more than it checks: a hand-made or damaged graph with a matching checksum
//! indexes beyond an axis, or reaches an `unimplemented!`. A package is input like any other, so
//! that what goes wrong there is said of its file, and the program goes on. Programs built with
//! `panic = "abort"` cannot; [`panic_is_contained`] lets their panic hook say as much.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::one_line::one_line;

/// Pieces of work under way, in all threads.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Those of this thread, one within the other.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Counts a piece of work for as long as it lasts.
struct UnderWay;

impl UnderWay {
    fn new() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        HERE.set(HERE.get() + 1);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        HERE.set(HERE.get() - 1);
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does `work`, and gives the message of a panic in it. What `work` borrows is either dropped
/// with it or, as a tower is, only read: there is nothing that could be left half-changed.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _under_way = UnderWay::new();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message(&*payload))
}

/// Whether a panic in this thread, now, comes from a file of a model package and will be told as
/// an error, such as [`crate::TowerError::Panicked`]. For panic hooks.
pub fn panic_is_contained() -> bool {
    let helps = rayon::current_thread_index().is_some() && UNDER_WAY.load(Ordering::Relaxed) > 0;
    HERE.get() > 0 || helps
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    one_line(text.unwrap_or("it does not say why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_message_and_the_count_is_right_after_it() {
        assert!(HERE.get() == 0);
        assert_eq!(contained(|| HERE.get()), Ok(1));
        let at = [1, 2, 3].len();
        let said = contained(|| [1, 2, 3][at]).unwrap_err();
        assert!(said.contains("out of bounds"), "{said}");
        assert_eq!(contained(|| panic!("a\nb")), Err::<(), _>("a | b".to_owned()));
        assert!(HERE.get() == 0);
    }
}
