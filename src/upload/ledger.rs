//! Where an upload's life is written down so that a later process can end it. The driver asks for
//! each record before the step it stands for; the journal answers when it is durable.

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
}

/// Keeps nothing: uploads are ended by this process or not at all.
pub struct Forgetful;

#[async_trait]
impl Ledger for Forgetful {
    async fn record(&self, _entry: Entry<'_>) -> std::io::Result<()> {
        Ok(())
    }
}
