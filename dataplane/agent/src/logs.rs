//! The queue of Workers' log records between shards and the connection: bounded in records and bytes, never blocks, and
//! counts what it drops. Records wait while there is no connection; then the newest are lost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use base::limits::{LOG_BYTES_MAX, MIB};
use plane_abi::limits::{LOG_BATCH_BYTES_MAX, LOG_BATCH_RECORDS_MAX};
use plane_abi::wire::{LogRecord, Logs};
use tokio::sync::mpsc;

/// Records that wait.
const RECORDS_MAX: usize = 16_384;
/// Their text together, bytes.
const BYTES_MAX: usize = 16 * MIB;

const _: () = assert!(BYTES_MAX > LOG_BATCH_BYTES_MAX && LOG_BATCH_BYTES_MAX > LOG_BYTES_MAX);

#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// The shards' end.
#[derive(Clone)]
pub(crate) struct LogQueue {
    sender: mpsc::Sender<LogRecord>,
    counts: Arc<Counts>,
}

/// The agent's end.
pub(crate) struct LogReceiver {
    receiver: mpsc::Receiver<LogRecord>,
    counts: Arc<Counts>,
    /// Taken from the queue and not yet in a frame.
    batch: Vec<LogRecord>,
    dropped_told: u64,
}

impl LogQueue {
    pub(crate) fn new() -> (LogQueue, LogReceiver) {
        let (sender, receiver) = mpsc::channel(RECORDS_MAX);
        let counts = Arc::new(Counts::default());
        let queue = LogQueue { sender, counts: Arc::clone(&counts) };
        (queue, LogReceiver { receiver, counts, batch: Vec::new(), dropped_told: 0 })
    }

    /// False: dropped.
    pub(crate) fn push(&self, mut record: LogRecord) -> bool {
        record.text.truncate(record.text.floor_char_boundary(LOG_BYTES_MAX));
        let bytes = record.text.len();
        let fits = self.counts.bytes.fetch_add(bytes, Relaxed) + bytes <= BYTES_MAX;
        let queued = fits && self.sender.try_send(record).is_ok();
        if !queued {
            self.counts.bytes.fetch_sub(bytes, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
        queued
    }

    /// Records dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }
}

impl LogReceiver {
    /// Waits for records and gives a frame's worth. Cancelled, it loses none.
    pub(crate) async fn next(&mut self) -> Logs {
        if self.batch.is_empty() {
            let received = self.receiver.recv_many(&mut self.batch, LOG_BATCH_RECORDS_MAX).await;
            if received == 0 {
                // Every handle is gone; only the agent's own shutdown ends the wait.
                std::future::pending::<()>().await;
            }
        }
        let mut bytes = 0;
        let fits = |record: &&LogRecord| {
            bytes += record.text.len();
            bytes <= LOG_BATCH_BYTES_MAX
        };
        let count = self.batch.iter().take_while(fits).count();
        let records: Vec<LogRecord> = self.batch.drain(..count).collect();
        self.counts.bytes.fetch_sub(records.iter().map(|record| record.text.len()).sum(), Relaxed);
        let dropped = self.counts.dropped.load(Relaxed);
        let since = dropped - std::mem::replace(&mut self.dropped_told, dropped);
        Logs { records, dropped: since }
    }

    /// Counts the records of a frame that never left as dropped.
    pub(crate) fn lost(&mut self, logs: &Logs) {
        self.counts.dropped.fetch_add(logs.records.len() as u64, Relaxed);
        self.dropped_told -= logs.dropped.min(self.dropped_told);
    }

    /// Throws records away for ever: there is nobody to send them to.
    pub(crate) async fn discard(&mut self) {
        loop {
            self.next().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plane_abi::wire::LogLevel;

    fn record(text: String) -> LogRecord {
        LogRecord { deployment: 1, version: 1, level: LogLevel::Info, text, unix_ms: 0, request: None }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime")
    }

    #[test]
    fn a_full_queue_drops_and_tells_once() {
        let (queue, mut receiver) = LogQueue::new();
        let pushed = (0..RECORDS_MAX + 5).filter(|_| queue.push(record("x".into()))).count();
        assert_eq!((pushed, queue.dropped()), (RECORDS_MAX, 5));
        runtime().block_on(async {
            let first = receiver.next().await;
            assert_eq!((first.records.len(), first.dropped), (LOG_BATCH_RECORDS_MAX, 5));
            assert_eq!(receiver.next().await.dropped, 0);
            receiver.lost(&first);
            assert_eq!(receiver.next().await.dropped, 5 + LOG_BATCH_RECORDS_MAX as u64);
        });
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let (queue, mut receiver) = LogQueue::new();
        let long = || record("ü".repeat(LOG_BYTES_MAX));
        let pushed = (0..2000).filter(|_| queue.push(long())).count();
        assert_eq!(pushed, BYTES_MAX / LOG_BYTES_MAX);
        assert!(!queue.push(long()));
        runtime().block_on(async {
            let logs = receiver.next().await;
            let bytes: usize = logs.records.iter().map(|record| record.text.len()).sum();
            assert!(bytes <= LOG_BATCH_BYTES_MAX && !logs.records.is_empty());
        });
        assert!(queue.push(long()));
    }
}
