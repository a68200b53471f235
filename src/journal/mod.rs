//! The journal: what this machine knows of its uploads, so that a later process can end them.
//!
//! One directory a mount instance below the state directory, `<state>/<instance>/{lock,journal,rename-N}`,
//! held by a lock that the kernel releases when the process dies. A mount writes a [`Journal`] (the
//! uploads' [`Ledger`]); whoever recovers takes the [`orphans`] and [notes](Instance::note) how it
//! ended each upload; whoever only looks [`peek`]s. The format is docs/JOURNAL.md's.
//!
//! - `record`, `replay`: the words and their meaning; pure
//! - `log`: the file being written, on a `disk`; `writer`: the thread that shares it among uploads
//! - `instances`: directories and locks; `intents`: the renames of directories beside the journal
//!
//! Invariants:
//! - A record that was answered is there after any crash, of the process or of the machine.
//! - Nothing is ever replayed that was not written, and the same file always replays the same.
//! - No instance is touched whose lock is held by a living process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::store::UploadId;
use crate::upload::ledger::{Entry, Intent, Ledger};
use crate::upload::life::{self, Ending};

mod disk;
mod error;
mod instances;
mod intents;
mod log;
mod record;
mod replay;
mod writer;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use instances::{
    Adoption, Glimpse, Instance, Orphans, STATUS_SOCKET, adopt, default_state_dir, orphans, peek,
};
pub use record::{Header, Identity};
pub use replay::{CommitRecord, OpenUpload, Refusal};

use instances::Lock;
use log::Pending;
use record::{Part, Record, unix_ms};
use writer::Writer;

/// What a journal has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub records: u64,
    pub syncs: u64,
    pub compactions: u64,
    /// Uploads begun and not ended.
    pub open: usize,
    /// The file's length.
    pub bytes: u64,
    /// A write or a sync failed: nothing is recorded any more.
    pub poisoned: bool,
}

/// A mount's own journal. It starts a thread: create it after the last fork.
pub struct Journal {
    directory: PathBuf,
    writer: Writer,
    /// Held until the journal is closed or dropped.
    lock: Mutex<Option<Lock>>,
}

impl Journal {
    /// A new instance below `state`, which is made if it is not there.
    pub fn create(state: &Path, identity: &Identity, mount_point: &Path) -> Result<Journal, Error> {
        let (directory, lock, log) = instances::create(state, identity, mount_point)?;
        let writer = Writer::new(log).map_err(Error::io(&directory, "cannot start a thread"))?;
        Ok(Journal {
            directory,
            writer,
            lock: Mutex::new(Some(lock)),
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// Makes everything durable and gives up the lock. When nothing is open the directory goes too;
    /// answers how many uploads are left to a later recovery. Call it when no more records come.
    /// Blocks for as long as the disk takes.
    pub fn close(&self) -> usize {
        let Some(log) = self.writer.stop() else {
            return self.stats().open;
        };
        // One that cannot be read is there.
        let intents = intents::read(&self.directory).map_or(1, |found| found.len());
        let left = log.open_uploads() + intents;
        if left == 0 && !log.is_poisoned() && !log.is_behind() {
            instances::remove(&self.directory);
            // What is removed is freed when it is closed, which takes longer than all of this: nobody waits for that.
            let _ = thread::Builder::new().spawn(move || drop(log));
        } else {
            drop(log);
        }
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        left
    }
}

#[async_trait]
impl Ledger for Journal {
    async fn record(&self, entry: Entry<'_>) -> io::Result<()> {
        let record = spell(&entry, SystemTime::now());
        self.writer
            .record(Pending::from(&record), entry.durable)
            .await
    }

    async fn intend(&self, number: u64, intent: Option<&Intent>) -> io::Result<()> {
        keep_intent(self.directory.clone(), number, intent.cloned()).await
    }
}

async fn keep_intent(directory: PathBuf, number: u64, intent: Option<Intent>) -> io::Result<()> {
    let kept =
        tokio::task::spawn_blocking(move || intents::keep(&directory, number, intent.as_ref()));
    kept.await
        .unwrap_or_else(|_| Err(io::Error::other("it broke off")))
}

/// What a recovery adds to a dead instance's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The upload whose Create was not answered was found.
    Opened(UploadId),
    /// Decided: it is not rolled forward, whatever becomes of this recovery.
    Abort,
    End(Ending),
}

impl Note {
    fn of(self, id: u64) -> Record {
        match self {
            Note::Opened(upload_id) => Record::Opened { id, upload_id },
            Note::Abort => Record::Abort { id },
            Note::End(outcome) => Record::End { id, outcome },
        }
    }
}

fn spell(entry: &Entry<'_>, now: SystemTime) -> Record {
    let id = entry.id;
    match entry.record {
        life::Record::Begin => Record::Begin {
            id,
            key: entry.key.to_string(),
            token: entry.token.to_string(),
            before: entry.before.clone(),
            at: unix_ms(now),
            there: Some(unix_ms(entry.now_there)),
        },
        life::Record::Opened => Record::Opened {
            id,
            upload_id: entry
                .upload_id
                .expect("an upload that is opened has an id")
                .clone(),
        },
        life::Record::Commit => Record::Commit {
            id,
            size: entry.size,
            condition: entry.condition.clone(),
            parts: entry.parts.iter().map(Part::from).collect(),
        },
        life::Record::Abort => Record::Abort { id },
        life::Record::End(outcome) => Record::End { id, outcome },
    }
}
