//! What a running mount tells of itself: a snapshot of its numbers, served over a socket beside its
//! journal (`socket.rs`), and as Prometheus' text (`metrics.rs`) over HTTP (`http.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::draft::Works;
use crate::fs::Fs;
use crate::journal::{Journal, Stats};
use crate::read::ReadMemory;
use crate::store::Store;
use crate::store::tally::Operation;

mod http;
mod metrics;
mod recent;
mod socket;

pub use http::{Address, serve_metrics};
pub use recent::{Event, Recent};
pub use socket::{ask, serve};

/// Plain data: what `--json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub version: String,
    pub pid: u32,
    pub source: String,
    pub mount_point: String,
    pub up_seconds: u64,
    pub open_files: usize,
    /// Files that are being written.
    pub writing: Vec<Writing>,
    /// Uploads begun and not ended.
    pub uploads: usize,
    pub write_memory: Budget,
    pub read_memory: Budget,
    pub spool: Budget,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Attempts by S3's names of the operations.
    pub operations: BTreeMap<String, Operation>,
    pub journal: Journalled,
    /// The last warnings and errors, the newest last.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writing {
    pub key: String,
    pub size: u64,
    /// `writing`, `uploading`, `publishing`.
    pub state: String,
    pub parts: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub used: u64,
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journalled {
    pub open: usize,
    pub records: u64,
    pub syncs: u64,
    pub bytes: u64,
    /// Nothing can be recorded any more: files of more than one part fail.
    pub poisoned: bool,
}

impl From<Stats> for Journalled {
    fn from(stats: Stats) -> Journalled {
        Journalled {
            open: stats.open,
            records: stats.records,
            syncs: stats.syncs,
            bytes: stats.bytes,
            poisoned: stats.poisoned,
        }
    }
}

/// Where the numbers are.
pub struct Sources {
    pub source: String,
    pub mount_point: String,
    pub began: Instant,
    pub store: Arc<dyn Store>,
    pub fs: Arc<Fs>,
    pub works: Arc<Works>,
    pub read_memory: Arc<ReadMemory>,
    pub journal: Option<Arc<Journal>>,
}

impl Sources {
    pub fn snapshot(&self) -> Snapshot {
        let (works, tally) = (&self.works, self.store.tally());
        let mut writing: Vec<Writing> = self
            .fs
            .drafts()
            .into_iter()
            .map(|(key, draft)| {
                let progress = draft.progress();
                Writing {
                    key,
                    size: draft.size(),
                    state: progress.state.to_string(),
                    parts: progress.parts,
                }
            })
            .collect();
        writing.sort_by(|a, b| a.key.cmp(&b.key));
        let budget = |used, limit| Budget { used, limit };
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            source: self.source.clone(),
            mount_point: self.mount_point.clone(),
            up_seconds: self.began.elapsed().as_secs(),
            open_files: self.fs.open_files().len(),
            writing,
            uploads: works.uploads.alive(),
            write_memory: budget(works.memory.used(), works.memory.limit()),
            read_memory: budget(self.read_memory.used(), self.read_memory.limit()),
            spool: budget(works.spool.used(), works.spool.limit()),
            bytes_sent: tally.bytes_sent(),
            bytes_received: tally.bytes_received(),
            operations: tally.operations(),
            journal: self
                .journal
                .as_ref()
                .map_or_else(Default::default, |journal| journal.stats().into()),
            events: recent::all(),
        }
    }
}
