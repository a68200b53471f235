//! Where an upload's life is written down so that a later process can end it. The driver asks for
//! each record before the step it stands for; the journal answers when it is durable. Renames of
//! directories, which are many copies and deletes, are kept beside it as what they intend.

use std::time::SystemTime;

use async_trait::async_trait;

use super::life::Record;
use crate::store::{CompletedPart, ETag, Precondition, UploadId};

/// What a record says beside its kind.
pub struct Entry<'a> {
    pub record: Record,
    /// Somebody waits for this record before the next step. `false` for the End of an upload that is
    /// over: losing it costs a recovery one question to the store, a sync would cost every file one.
    pub durable: bool,
    /// This process's number of the upload.
    pub id: u64,
    pub key: &'a str,
    /// Random, in the object's metadata from Create on: how an object is recognised as this upload's.
    pub token: &'a str,
    pub upload_id: Option<&'a UploadId>,
    pub parts: &'a [CompletedPart],
    pub size: u64,
    pub condition: &'a Precondition,
    /// What the key held when the file was begun, as far as it is known: a commit that is rolled
    /// forward after a crash yields to whoever changed it since.
    pub before: &'a Before,
    /// By the store's clock.
    pub now_there: SystemTime,
}

/// What a key held before an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Before {
    #[default]
    Unknown,
    Nothing,
    Version(ETag),
}

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Returns when the record is durable (or, where [`Entry::durable`] is not asked for, written).
    async fn record(&self, entry: Entry<'_>) -> std::io::Result<()>;

    /// Keeps an intent under a number of the caller's, in place of what was kept there; with `None`
    /// forgets it. Returns when that is durable.
    async fn intend(&self, number: u64, intent: Option<&Intent>) -> std::io::Result<()>;
}

/// A directory's rename that has begun: who finds it later finishes it, or takes it back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    /// Both end with a slash.
    pub from: String,
    pub to: String,
    /// An empty directory had the new name, with a marker.
    pub onto_empty: bool,
    /// When it began, by the store's clock: milliseconds since 1970.
    pub at: u64,
    /// When it was given up with copies left, likewise: what came later is not its doing.
    #[serde(default)]
    pub until: Option<u64>,
    /// Everything is there under the new name; what is left to do is to delete the old.
    pub copied: bool,
}

/// Keeps nothing: uploads are ended by this process or not at all.
pub struct Forgetful;

#[async_trait]
impl Ledger for Forgetful {
    async fn record(&self, _entry: Entry<'_>) -> std::io::Result<()> {
        Ok(())
    }

    async fn intend(&self, _number: u64, _intent: Option<&Intent>) -> std::io::Result<()> {
        Ok(())
    }
}
