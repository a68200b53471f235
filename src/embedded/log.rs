//! What was asked of the server and how it went, for tests to read.
//!
//! Invariants: a record is there from the moment its request's head has arrived; its numbers are
//! final when `finished` is set; numbers count from 1 since the last reset without gaps. The
//! oldest records are dropped beyond [`KEPT`]; the counters forget nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::operation::Target;

/// So many records are kept.
pub const KEPT: usize = 100_000;

#[derive(Debug, Clone)]
pub struct Record {
    pub sequence: u64,
    pub operation: &'static str,
    pub bucket: String,
    pub key: String,
    pub upload_id: Option<String>,
    pub part_number: Option<u32>,
    /// The `Range` header.
    pub range: Option<String>,
    /// Bytes of the request body received.
    pub received: u64,
    /// Bytes of the response body handed to the connection.
    pub sent: u64,
    pub outcome: Outcome,
    /// The faults that fired on it, as text.
    pub fault: Option<String>,
    pub started: Instant,
    pub finished: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is decided yet.
    Pending,
    /// This HTTP status was answered, or would have been had the client not gone.
    Answered(u16),
    /// The connection was closed on purpose.
    Dropped,
    /// No answer was given on purpose.
    Hung,
}

/// Bytes of bodies: of requests, and of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub received: u64,
    pub sent: u64,
}

#[derive(Default)]
struct Inner {
    records: VecDeque<Record>,
    counts: BTreeMap<&'static str, u64>,
    /// Bytes of bodies, of the requests that have ended; and how many those are.
    moved: Moved,
    ended: u64,
    /// The number of the last request since the reset.
    last: u64,
    /// Grows with every reset: requests from before it write nothing.
    epoch: u64,
}

/// The log of a server. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct RequestLog {
    inner: Arc<Mutex<Inner>>,
    changes: watch::Sender<()>,
}

impl RequestLog {
    pub(super) fn new() -> RequestLog {
        RequestLog {
            inner: Arc::default(),
            changes: watch::Sender::new(()),
        }
    }

    /// All records kept, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.iter().cloned().collect()
    }

    /// The records of one operation.
    pub fn of(&self, operation: &str) -> Vec<Record> {
        self.lock()
            .records
            .iter()
            .filter(|r| r.operation == operation)
            .cloned()
            .collect()
    }

    /// How many requests of the operation have begun since the last reset.
    pub fn count(&self, operation: &str) -> u64 {
        self.lock().counts.get(operation).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// How many requests have begun since the last reset.
    pub fn total(&self) -> u64 {
        self.lock().last
    }

    /// What has passed since the last reset, with the requests that have ended.
    pub fn moved(&self) -> Moved {
        self.lock().moved
    }

    /// How many requests have begun since the last reset and not ended.
    pub fn under_way(&self) -> u64 {
        let inner = self.lock();
        inner.last - inner.ended
    }

    /// Forgets everything; the next request is number 1.
    pub fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner {
            epoch: inner.epoch + 1,
            ..Inner::default()
        };
        drop(inner);
        self.changed();
    }

    /// Returns when the log satisfies `condition`, which is asked at every change. Give it a
    /// timeout of your own.
    pub async fn until(&self, mut condition: impl FnMut(&RequestLog) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        // Costs nothing to speak of while nobody waits.
        if self.changes.receiver_count() > 0 {
            self.changes.send_replace(());
        }
    }

    pub(super) fn begin(&self, target: Target, range: Option<String>) -> Entry {
        let mut inner = self.lock();
        inner.last += 1;
        *inner.counts.entry(target.operation).or_default() += 1;
        let (sequence, epoch) = (inner.last, inner.epoch);
        if inner.records.len() == KEPT {
            inner.records.pop_front();
        }
        inner.records.push_back(Record {
            sequence,
            operation: target.operation,
            bucket: target.bucket,
            key: target.key,
            upload_id: target.upload_id,
            part_number: target.part_number,
            range,
            received: 0,
            sent: 0,
            outcome: Outcome::Pending,
            fault: None,
            started: Instant::now(),
            finished: None,
        });
        drop(inner);
        self.changed();
        Entry {
            log: self.clone(),
            sequence,
            epoch,
            sent: 0,
            print: false,
        }
    }
}

/// Writes one record; finishes it when dropped.
pub(super) struct Entry {
    log: RequestLog,
    sequence: u64,
    epoch: u64,
    /// Kept here until the end: the lock is not taken for every chunk.
    pub sent: u64,
    /// Also write a line to the program's own log at the end.
    pub print: bool,
}

impl Entry {
    /// What it is called in an answer.
    pub fn id(&self) -> String {
        format!("{:016X}", self.sequence)
    }

    pub fn update(&self, change: impl FnOnce(&mut Record)) {
        let mut inner = self.log.lock();
        self.write(&mut inner, change);
        drop(inner);
        self.log.changed();
    }

    /// Unless it was forgotten, or dropped as one of the oldest.
    fn write(&self, inner: &mut Inner, change: impl FnOnce(&mut Record)) {
        if inner.epoch == self.epoch
            && let Some(first) = inner.records.front().map(|record| record.sequence)
            && let Some(at) = self.sequence.checked_sub(first)
            && let Some(record) = inner.records.get_mut(at as usize)
        {
            change(record);
        }
    }

    pub fn outcome(&self, outcome: Outcome) {
        self.update(|record| record.outcome = outcome);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.log.lock();
        if inner.epoch == self.epoch {
            inner.ended += 1;
            inner.moved.sent += self.sent;
        }
        let mut received = 0;
        self.write(&mut inner, |record| {
            received = record.received;
            record.sent = self.sent;
            record.finished = Some(Instant::now());
            if self.print {
                let Record { operation, bucket, key, received, sent, outcome, .. } = &*record;
                let milliseconds = record.started.elapsed().as_millis() as u64;
                tracing::info!(target: "wholefs::embedded", operation, bucket, key, received, sent, ?outcome, milliseconds);
            }
        });
        inner.moved.received += received;
        drop(inner);
        self.log.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(operation: &'static str) -> Target {
        Target {
            operation,
            bucket: "b".into(),
            key: "k".into(),
            upload_id: None,
            part_number: None,
        }
    }

    #[test]
    fn an_entry_fills_its_own_record() {
        let log = RequestLog::new();
        let first = log.begin(target("GetObject"), None);
        let mut second = log.begin(target("PutObject"), Some("bytes=0-1".into()));
        second.outcome(Outcome::Answered(200));
        second.sent = 5;
        drop(second);
        let records = log.records();
        assert_eq!(
            (records[0].sequence, records[0].outcome),
            (1, Outcome::Pending)
        );
        assert!(records[0].finished.is_none());
        assert_eq!(
            (records[1].sent, records[1].outcome),
            (5, Outcome::Answered(200))
        );
        assert!(records[1].finished.is_some());
        drop(first);
        assert!(log.of("GetObject")[0].finished.is_some());
        assert_eq!(
            (log.count("GetObject"), log.count("HeadObject"), log.total()),
            (1, 0, 2)
        );
        let moved = Moved {
            received: 0,
            sent: 5,
        };
        assert_eq!((log.moved(), log.under_way()), (moved, 0));
    }

    #[test]
    fn requests_from_before_a_reset_write_nothing() {
        let log = RequestLog::new();
        let old = log.begin(target("GetObject"), None);
        log.reset();
        let _new = log.begin(target("PutObject"), None);
        old.outcome(Outcome::Dropped);
        drop(old);
        let records = log.records();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].sequence, records[0].outcome),
            (1, Outcome::Pending)
        );
    }

    #[test]
    fn the_oldest_records_go_and_the_counters_stay() {
        let log = RequestLog::new();
        let early = log.begin(target("GetObject"), None);
        for _ in 0..KEPT {
            log.begin(target("PutObject"), None);
        }
        early.outcome(Outcome::Dropped);
        let records = log.records();
        assert_eq!((records.len(), records[0].sequence), (KEPT, 2));
        assert!(
            records
                .iter()
                .all(|record| record.outcome == Outcome::Pending)
        );
        assert_eq!((log.count("GetObject"), log.total()), (1, KEPT as u64 + 1));
    }

    #[tokio::test]
    async fn waiting_sees_every_change() {
        let log = RequestLog::new();
        let waiter = tokio::spawn({
            let log = log.clone();
            async move { log.until(|log| log.count("GetObject") == 2).await }
        });
        log.begin(target("GetObject"), None);
        log.begin(target("GetObject"), None);
        waiter.await.unwrap();
    }
}
