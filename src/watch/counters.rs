//! What happened to every frame: nothing is lost silently.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Most messages that wait to be shown.
const MOST_NOTICES: usize = 32;

/// Counts that the threads of a watch share.
#[derive(Debug, Default)]
pub struct Counters {
    frames: AtomicU64,
    dropped: AtomicU64,
    damaged: AtomicU64,
    garbage_bytes: AtomicU64,
    passed_over: AtomicU64,
    still: AtomicU64,
    encoded: AtomicU64,
    reconnects: AtomicU64,
    failed_actions: AtomicU64,
    notices: Mutex<VecDeque<String>>,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Frames the source gave, damaged ones not among them.
    pub frames: u64,
    /// Frames of a live source that gave way to newer ones.
    pub dropped: u64,
    /// Frames that were cut short or could not be decoded.
    pub damaged: u64,
    /// Bytes between frames that belong to none.
    pub garbage_bytes: u64,
    /// Frames passed over on purpose (`--fps`, `--every`).
    pub passed_over: u64,
    /// Frames that skipped the encoder because nothing had moved.
    pub still: u64,
    /// Frames that went through the encoder.
    pub encoded: u64,
    /// Times that a live source was opened again.
    pub reconnects: u64,
    /// Things that a rule says and that could not be done.
    pub failed_actions: u64,
}

/// Which count goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Frame,
    Dropped,
    Damaged,
    PassedOver,
    Still,
    Encoded,
    Reconnect,
}

impl Counters {
    pub(super) fn add(&self, count: Count, by: u64) {
        let counter = match count {
            Count::Frame => &self.frames,
            Count::Dropped => &self.dropped,
            Count::Damaged => &self.damaged,
            Count::PassedOver => &self.passed_over,
            Count::Still => &self.still,
            Count::Encoded => &self.encoded,
            Count::Reconnect => &self.reconnects,
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn add_garbage(&self, bytes: u64) {
        self.garbage_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a frame that could not be looked at, and says why.
    pub fn damaged_frame(&self, reason: String) {
        self.add(Count::Damaged, 1);
        self.notice(reason);
    }

    /// Counts something that a rule says and that could not be done, and says why.
    pub fn failed_action(&self, reason: String) {
        self.failed_actions.fetch_add(1, Ordering::Relaxed);
        self.notice(reason);
    }

    /// Leaves a message for the person who watches; the oldest give way.
    pub fn notice(&self, message: String) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == MOST_NOTICES {
            notices.pop_front();
        }
        notices.push_back(message);
    }

    /// Takes the messages left so far.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            frames: read(&self.frames),
            dropped: read(&self.dropped),
            damaged: read(&self.damaged),
            garbage_bytes: read(&self.garbage_bytes),
            passed_over: read(&self.passed_over),
            still: read(&self.still),
            encoded: read(&self.encoded),
            reconnects: read(&self.reconnects),
            failed_actions: read(&self.failed_actions),
        }
    }
}
