//! What was asked of a store and how it answered, counted: for `wholefs status` and for metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ErrorKind;

/// Upper bounds of the latencies' classes, in seconds; the last class has none.
pub const LATENCIES: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Attempts at one of S3's operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    pub attempts: u64,
    /// Of these, those that failed, by what is to be done about it ([`ErrorKind`]).
    pub failures: BTreeMap<String, u64>,
    /// Attempts that were made again, by what had come before.
    pub retries: BTreeMap<String, u64>,
    /// Time until the answers' heads, added up.
    pub seconds: f64,
    /// How many took no longer than each of [`LATENCIES`] (and more than the one before).
    pub latencies: [u64; LATENCIES.len() + 1],
}

/// What can come of an attempt, and what is tried again. Each is counted from nothing on: of a count that begins with its
/// first event nobody who looks from time to time learns when that was.
const FAILURES: [ErrorKind; 9] = [
    ErrorKind::Missing,
    ErrorKind::NoSuchUpload,
    ErrorKind::Conflict,
    ErrorKind::Archived,
    ErrorKind::Denied,
    ErrorKind::Invalid,
    ErrorKind::Throttled,
    ErrorKind::Transient,
    ErrorKind::Unknown,
];
const RETRIED: [ErrorKind; 3] = [
    ErrorKind::Throttled,
    ErrorKind::Transient,
    ErrorKind::Unknown,
];

impl Operation {
    fn uncounted() -> Operation {
        let none = |kind: ErrorKind| (format!("{kind:?}"), 0);
        Operation {
            failures: FAILURES.map(none).into(),
            retries: RETRIED.map(none).into(),
            ..Operation::default()
        }
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    operations: Mutex<BTreeMap<&'static str, Operation>>,
    sent: AtomicU64,
    received: AtomicU64,
    /// How soon it has ever answered; nothing: it has not.
    quickest: Mutex<Option<Duration>>,
}

impl Tally {
    /// One attempt is over.
    pub fn answered(&self, operation: &'static str, took: Duration, failure: Option<ErrorKind>) {
        let seconds = took.as_secs_f64();
        let class = LATENCIES.partition_point(|bound| *bound < seconds);
        let mut operations = self.operations.lock().expect("no panic while held");
        let counted = operations
            .entry(operation)
            .or_insert_with(Operation::uncounted);
        counted.attempts += 1;
        counted.seconds += seconds;
        counted.latencies[class] += 1;
        if let Some(kind) = failure {
            *counted.failures.entry(format!("{kind:?}")).or_default() += 1;
            return;
        }
        drop(operations);
        let mut quickest = self.quickest.lock().expect("no panic while held");
        *quickest = Some(quickest.map_or(took, |before| before.min(took)));
    }

    /// How soon it has ever answered something.
    pub fn quickest(&self) -> Option<Duration> {
        *self.quickest.lock().expect("no panic while held")
    }

    /// It is made again, because of this.
    pub fn retried(&self, operation: &'static str, cause: ErrorKind) {
        let mut operations = self.operations.lock().expect("no panic while held");
        let counted = operations
            .entry(operation)
            .or_insert_with(Operation::uncounted);
        *counted.retries.entry(format!("{cause:?}")).or_default() += 1;
    }

    /// Bytes of bodies on their way to the store, repeated ones too.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub fn operations(&self) -> BTreeMap<String, Operation> {
        let operations = self.operations.lock().expect("no panic while held");
        let named =
            |(name, counted): (&&'static str, &Operation)| (name.to_string(), counted.clone());
        operations.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_in_one_class_of_latency() {
        let tally = Tally::default();
        for milliseconds in [1, 5, 6, 29_000, 31_000] {
            tally.answered("GetObject", Duration::from_millis(milliseconds), None);
        }
        tally.answered("GetObject", Duration::ZERO, Some(ErrorKind::Throttled));
        let counted = &tally.operations()["GetObject"];
        assert_eq!(counted.attempts, 6);
        // One that fails tells nothing of how far the store is.
        assert_eq!(tally.quickest(), Some(Duration::from_millis(1)));
        assert_eq!(counted.latencies, [3, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(counted.failures["Throttled"], 1);
    }
}
