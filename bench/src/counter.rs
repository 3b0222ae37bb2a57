//! Instructions of the calling thread, where the processor counts them for us; elsewhere the reason why not.

use perf_event::events::Hardware;
use perf_event::{Builder, Counter};

/// A counter of user-space instructions.
pub struct Instructions(Result<Counter, String>);

impl Instructions {
    /// Opens the counter through perf_event_open(2).
    pub fn open() -> Instructions {
        let opened = Builder::new(Hardware::INSTRUCTIONS).build().and_then(|mut counter| {
            counter.enable()?;
            Ok(counter)
        });
        Instructions(opened.map_err(|error| format!("no instruction counter (perf_event_open): {error}")))
    }

    /// Why there is none.
    pub fn missing(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// Instructions since the counter was opened.
    pub fn read(&mut self) -> Option<u64> {
        self.0.as_mut().ok()?.read().ok()
    }
}
