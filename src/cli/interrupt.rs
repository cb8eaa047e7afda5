//! Ctrl-C: what is in hand is finished first, and a second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What shells expect of a program that Ctrl-C ended.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Whether the user, or whoever ends services, wants the work to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on Ctrl-C and the signal to terminate are remembered. Where the system refuses
    /// that, they end the program as ever.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order the second signal ends the program, and the first does not.
            let again = Arc::clone(&interrupt.0);
            if flag::register_conditional_shutdown(signal, ENDED_BY_INTERRUPT, again).is_ok() {
                let _ = flag::register(signal, Arc::clone(&interrupt.0));
            }
        }
        interrupt
    }

    /// Whether a signal came.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
