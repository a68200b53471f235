//! What all uploads of a mount share: whom they ask, what tells one from another, and how many there are.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::counts::{Counts, Why};
use super::doubts::Doubts;
use super::handle::Failure;
use super::ledger::Ledger;
use crate::flow::Gate;
use crate::store::{Error, ErrorKind, Store, UploadId};
use crate::turns::{Turn, Turns};

/// As long as a Create of the key may be unanswered or looked for, at the default timeouts.
const LONGEST_TURN: Duration = Duration::from_secs(120);

/// What all uploads of a mount share.
pub struct Uploads {
    pub(super) store: Arc<dyn Store>,
    pub(super) ledger: Arc<dyn Ledger>,
    /// Parts on their way at once, over all files.
    pub(super) parts: Arc<Gate>,
    next_id: AtomicU64,
    /// The store's names of those that are open.
    ids: Mutex<HashSet<UploadId>>,
    /// Uploads without a name yet: one a key. Two of one key could not be told apart when their Creates are lost.
    nameless: Turns<String>,
    alive: watch::Sender<usize>,
    /// At shutdown, waiting between tries gives way to trying.
    pub(super) hurry: watch::Sender<bool>,
    counts: Mutex<Counts>,
    doubts: Doubts,
}

impl Uploads {
    pub fn new(
        store: Arc<dyn Store>,
        ledger: Arc<dyn Ledger>,
        concurrency: usize,
        doubts: Doubts,
    ) -> Arc<Uploads> {
        Arc::new(Uploads {
            store,
            ledger,
            doubts,
            parts: Gate::new(concurrency),
            next_id: AtomicU64::new(1),
            ids: Mutex::new(HashSet::new()),
            alive: watch::Sender::new(0),
            hurry: watch::Sender::new(false),
            nameless: Turns::default(),
            counts: Mutex::default(),
        })
    }

    /// What is not to be written, removed or renamed yet.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    pub fn ledger(&self) -> &dyn Ledger {
        &*self.ledger
    }

    /// Do so many parts wait to be sent that nobody need hurry to bring more? Until when.
    pub fn must_wait(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.parts.is_full().then(|| {
            let parts = self.parts.clone();
            async move { parts.until_not_full().await }
        })
    }

    /// Waits until every upload has ended; answers how many have not by the deadline.
    pub async fn settle(&self, deadline: tokio::time::Instant) -> usize {
        self.hurry.send_replace(true);
        let mut alive = self.alive.subscribe();
        let _ = tokio::time::timeout_at(deadline, alive.wait_for(|n| *n == 0)).await;
        *self.alive.borrow()
    }

    pub(super) fn ids(&self) -> MutexGuard<'_, HashSet<UploadId>> {
        self.ids.lock().expect("no panic while held")
    }

    pub fn alive(&self) -> usize {
        *self.alive.borrow()
    }

    /// What became of the uploads of this mount so far.
    pub fn counts(&self) -> Counts {
        self.counting().clone()
    }

    /// One more, which has this number.
    pub(super) fn begin(&self) -> u64 {
        self.alive.send_modify(|n| *n += 1);
        self.counting().begun += 1;
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// One has come to its end: committed, or why not.
    pub(super) fn end(&self, outcome: Result<(), Why>) {
        {
            let mut counts = self.counting();
            match outcome {
                Ok(()) => counts.committed += 1,
                Err(why) => *counts.aborted.entry(why).or_default() += 1,
            }
        }
        self.alive.send_modify(|n| *n -= 1);
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no panic while held")
    }

    /// Waits until no other upload of the key is nameless.
    pub(super) async fn turn_of(&self, key: &str, given_up: &Notify) -> Result<Turn, Failure> {
        tokio::select! {
            biased;
            turn = self.nameless.take(key.to_string()) => Ok(turn),
            () = given_up.notified() => Err(Failure::Aborted(Why::Dropped)),
            () = tokio::time::sleep(LONGEST_TURN) => Err(Failure::Store(Error {
                kind: ErrorKind::Transient,
                operation: "CreateMultipartUpload",
                key: key.to_string(),
                code: "Timeout".to_string(),
                message: "an earlier write of the same file is not answered yet".to_string(),
                request_id: None,
            })),
        }
    }
}
