//! Ending a rendering that somebody waits for no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a rendering to end, from another thread. It does so at its next step.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Tells it.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
