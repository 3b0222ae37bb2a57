//! Ctrl-C and SIGTERM as a flag that loops look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Set by SIGINT and SIGTERM.
pub(super) struct Signals(Arc<AtomicBool>);

impl Signals {
    /// From now on these signals no longer end us.
    pub(super) fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("listening for Ctrl-C")?;
        }
        Ok(Self(flag))
    }

    /// True once a signal came.
    pub(super) fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Forgets the signal that began the stop, so that a second one is seen.
    pub(super) fn rearm(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }
}
