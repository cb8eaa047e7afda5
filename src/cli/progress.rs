//! A progress bar for anything over a second, on a terminal only.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long work may take before a bar is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts work done; shows a bar once it has taken more than a second.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    visible: bool,
    shown: AtomicBool,
}

impl Progress {
    /// A bar over `total` steps of `what`; never shown when `quiet` or not on a terminal.
    pub fn new(total: usize, what: &str, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        let template = format!("{what} {{bar:30}} {{pos}}/{{len}} {{per_sec}} {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let visible = !quiet && std::io::stderr().is_terminal();
        Self { bar, started: Instant::now(), visible, shown: AtomicBool::new(false) }
    }

    /// Says that `done` steps are done.
    pub fn set(&self, done: usize) {
        let late = self.visible && self.started.elapsed() > PATIENCE;
        if late && !self.shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done as u64);
    }

    /// Runs `print` with the bar out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
