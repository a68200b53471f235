//! What a running mount tells of itself: a snapshot of its numbers, served over a socket beside its
//! journal (`socket.rs`), and as Prometheus' text (`metrics.rs`) over HTTP (`http.rs`). And of its log
//! what must be at hand while it runs: the last of it (`recent.rs`), how much of it there is (`level.rs`), and
//! that it does not say the same for ever
//! (`repeats.rs`), nor more lines than one at a time (`said.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::draft::Works;
use crate::fs::{Answers, Call, Fs, WAITS};
use crate::journal::{Journal, Stats};
use crate::read::ReadMemory;
use crate::recovery;
use crate::store::Store;
use crate::store::tally::Operation;
use crate::upload::Why;

mod http;
mod level;
mod metrics;
mod recent;
mod repeats;
mod said;
mod serving;
mod socket;

pub use http::{Address, serve_metrics};
pub use level::changeable;
pub use recent::{Event, Recent};
pub use repeats::{Unrepeated, begin as tell_of_repeats};
pub use said::{fields, said};
pub use socket::{ask, ask_level, serve};

/// Plain data: what `--json` prints. Of a mount of another version some of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    pub version: String,
    pub pid: u32,
    pub source: String,
    pub mount_point: String,
    pub up_seconds: u64,
    pub open_files: usize,
    /// Files that are being written.
    pub writing: Vec<Writing>,
    /// Files that are being brought in.
    pub reading: Vec<Reading>,
    /// Uploads begun and not ended.
    pub uploads: usize,
    pub ended: Ended,
    pub write_memory: Budget,
    pub read_memory: Budget,
    pub spool: Budget,
    /// What was read and is kept on disk (`--cache`).
    pub disk_cache: Budget,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Attempts by S3's names of the operations.
    pub operations: BTreeMap<String, Operation>,
    /// What programs asked of the mount, by its name in messages.
    pub calls: BTreeMap<String, Waits>,
    pub caches: Caches,
    pub journal: Journalled,
    /// The last warnings and errors, the newest last.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Writing {
    pub key: String,
    pub size: u64,
    /// `writing`, `uploading`, `publishing`.
    pub state: String,
    /// Parts, and bytes, that the bucket has.
    pub parts: u64,
    pub acknowledged: u64,
    /// With what is on its way there.
    pub sent: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    pub key: String,
    pub size: u64,
    /// How far it was read.
    pub at: u64,
    /// Bytes on their way.
    pub coming: u64,
}

/// Uploads, by how they ended. Those of dead mounts that this one ended are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    pub begun: u64,
    pub committed: u64,
    /// By reason.
    pub aborted: BTreeMap<String, u64>,
    /// By outcome.
    pub recovered: BTreeMap<String, u64>,
}

/// How many calls waited how long: by [`WAITS`], the last class without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waits {
    pub classes: [u64; WAITS.len() + 1],
    pub seconds: f64,
}

/// What was answered from here, and what had to be asked of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caches {
    pub names: Hits,
    pub attributes: Hits,
    /// Reads: answered by what had been read ahead or was coming, or by a request of their own.
    pub read_ahead: Hits,
    /// Of the reads that would ask the store: segments that were on disk, and those that were not.
    pub disk: Hits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hits {
    pub hits: u64,
    pub misses: u64,
}

impl From<&Answers> for Hits {
    fn from(answers: &Answers) -> Hits {
        let (hits, misses) = answers.counts();
        Hits { hits, misses }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    pub used: u64,
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
                    parts: progress.acknowledged.parts,
                    acknowledged: progress.acknowledged.bytes,
                    sent: progress.acknowledged.sent,
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
            reading: self.reading(),
            uploads: works.uploads.alive(),
            ended: self.ended(),
            write_memory: budget(works.memory.used(), works.memory.limit()),
            read_memory: budget(self.read_memory.used(), self.read_memory.limit()),
            spool: budget(works.spool.used(), works.spool.limit()),
            disk_cache: self
                .read_memory
                .disk()
                .map_or_else(Default::default, |disk| budget(disk.used(), disk.limit())),
            bytes_sent: tally.bytes_sent(),
            bytes_received: tally.bytes_received(),
            operations: tally.operations(),
            calls: self.calls(),
            caches: self.caches(),
            journal: self
                .journal
                .as_ref()
                .map_or_else(Default::default, |journal| journal.stats().into()),
            events: recent::all(),
        }
    }

    fn reading(&self) -> Vec<Reading> {
        let fetching = self.read_memory.fetching().into_iter();
        let mut reading: Vec<Reading> = fetching
            .map(|file| Reading {
                key: file.key,
                size: file.size,
                at: file.at,
                coming: file.coming,
            })
            .collect();
        reading.sort_by(|a, b| a.key.cmp(&b.key));
        reading
    }

    fn ended(&self) -> Ended {
        let (counts, found) = (self.works.uploads.counts(), recovery::so_far());
        let recovered = [
            ("completed", found.completed),
            ("aborted", found.aborted),
            ("lost", found.lost),
            ("renames", found.renames),
        ];
        Ended {
            begun: counts.begun,
            committed: counts.committed,
            aborted: Why::ALL
                .iter()
                .map(|why| {
                    let count = counts.aborted.get(why).copied();
                    (why.name().to_string(), count.unwrap_or_default())
                })
                .collect(),
            recovered: recovered
                .map(|(outcome, count)| (outcome.to_string(), count as u64))
                .into(),
        }
    }

    /// Those that were asked.
    fn calls(&self) -> BTreeMap<String, Waits> {
        let waits = |call: &Call| {
            let (classes, seconds) = self.fs.calls().of(*call);
            let asked = classes.iter().any(|count| *count > 0);
            asked.then(|| (call.name().to_string(), Waits { classes, seconds }))
        };
        Call::ALL.iter().filter_map(waits).collect()
    }

    fn caches(&self) -> Caches {
        let (calls, reads) = (self.fs.calls(), self.read_memory.reads());
        Caches {
            names: Hits::from(&calls.names),
            attributes: Hits::from(&calls.attributes),
            read_ahead: Hits {
                hits: reads.here + reads.coming,
                misses: reads.asked,
            },
            disk: self
                .read_memory
                .disk()
                .map_or_else(Default::default, |disk| {
                    let (hits, misses) = disk.counts();
                    Hits { hits, misses }
                }),
        }
    }
}
