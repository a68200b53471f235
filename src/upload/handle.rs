//! One upload as who writes a file sees it: parts go in, then a commit or an abort. The driver does the rest.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot};

use super::counts::{Acknowledged, Sent, Why};
use super::driver::Driver;
use super::ledger::Before;
use super::uploads::Uploads;
use crate::store::{Attributes, Body, ETag, Error, Precondition};

/// Where a part's bytes come from.
pub enum PartSource {
    /// From memory; `hold` is dropped when the store has answered (or will never be asked).
    Bytes {
        body: Body,
        hold: Box<dyn Send + Sync>,
    },
    /// A range of an object in the store, as long as it is this version.
    Copy {
        source: String,
        etag: ETag,
        range: Range<u64>,
    },
}

impl PartSource {
    pub(super) fn len(&self) -> u64 {
        match self {
            PartSource::Bytes { body, .. } => body.len(),
            PartSource::Copy { range, .. } => range.end - range.start,
        }
    }
}

/// Why an upload was not published.
#[derive(Clone, Debug)]
pub enum Failure {
    Store(Error),
    /// The journal could not be written.
    Journal(Arc<std::io::Error>),
    /// The draft itself wanted the abort.
    Aborted(Why),
}

pub(super) enum Command {
    Part(u32, PartSource),
    Commit {
        size: u64,
        parts: u32,
        condition: Precondition,
        reply: oneshot::Sender<Result<ETag, Failure>>,
    },
    Abort(Why),
}

/// What the handle sees of its driver while that is at work.
#[derive(Clone, Default)]
pub(super) struct Shared {
    failure: Arc<Mutex<Option<Failure>>>,
    sent: Arc<Mutex<Sent>>,
}

impl Shared {
    /// Why the upload is lost, if it is.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().expect("no panic while held").clone()
    }

    /// The first reason stays.
    pub fn fail(&self, failure: &Failure) {
        let mut reason = self.failure.lock().expect("no panic while held");
        reason.get_or_insert_with(|| failure.clone());
    }

    pub fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().expect("no panic while held")
    }
}

/// A handle on one upload. Dropping it without a commit aborts.
pub struct Upload {
    commands: mpsc::UnboundedSender<Command>,
    shared: Shared,
}

impl Upload {
    /// Nothing is sent before the first part.
    pub fn new(
        uploads: &Arc<Uploads>,
        key: &str,
        attributes: &Attributes,
        before: &Before,
    ) -> Upload {
        // Unbounded, but what goes through it is bounded: parts with bytes hold memory of the write budget, and others are no
        // more than a store takes parts.
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Shared::default();
        let driver = Driver::new(uploads, key, attributes, before, shared.clone());
        tokio::spawn(driver.run(inbox));
        Upload { commands, shared }
    }

    /// Hands over a finished part. Numbers start at 1; a number given again replaces the part.
    pub fn part(&self, number: u32, source: PartSource) {
        // The driver outlives this handle unless the upload is already lost, which `failure` tells.
        let _ = self.commands.send(Command::Part(number, source));
    }

    /// Publishes parts `1..=parts`, `size` bytes in all.
    pub async fn commit(
        &self,
        parts: u32,
        size: u64,
        condition: Precondition,
    ) -> Result<ETag, Failure> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Commit {
            size,
            parts,
            condition,
            reply,
        });
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().unwrap_or(Failure::Aborted(Why::Dropped))),
        }
    }

    /// Decides that nothing will be published, and returns at once; the driver sees to it.
    pub fn abort(&self, why: Why) {
        let _ = self.commands.send(Command::Abort(why));
    }

    /// What the store has.
    pub fn acknowledged(&self) -> Acknowledged {
        self.shared.sent().acknowledged()
    }

    /// Why this upload is lost, if it is.
    pub fn failure(&self) -> Option<Failure> {
        self.shared.failure()
    }
}
