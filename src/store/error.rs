//! What callers can tell apart when a store does not do what it was asked.

use std::fmt;

/// What to do about a failure. Callers branch on this and on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such object (or bucket: [`Error::is_of_the_bucket`]).
    Missing,
    /// The upload is not there: completed, aborted, or never was.
    NoSuchUpload,
    /// A precondition did not hold: the object is another version than was said.
    Conflict,
    /// It is in an archive: its bytes have to be retrieved before they can be read.
    Archived,
    /// Credentials or permissions.
    Denied,
    /// The store refused the request as it is; repeating it changes nothing.
    Invalid,
    /// The store asked for less (503 SlowDown, 429); it did not apply the request.
    Throttled,
    /// It failed and was certainly not applied, or repeating is harmless. Try again later.
    Transient,
    /// The answer was lost: it may have been applied, or may still be.
    Unknown,
}

/// S3's code of a bucket that is not there.
pub(super) const NO_SUCH_BUCKET: &str = "NoSuchBucket";

/// Ours of a vault's catalogue that has no room on its disk.
pub(super) const CATALOGUE_FULL: &str = "CatalogueFull";

/// A failed call: what was asked, of which key, what came back.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    /// S3's name of the operation: `PutObject`, `UploadPart`…
    pub operation: &'static str,
    pub key: String,
    /// The store's own code (`SlowDown`), or ours for failures below HTTP (`Timeout`, `ConnectionReset`).
    pub code: String,
    /// One line of explanation.
    pub message: String,
    pub request_id: Option<String>,
}

impl Error {
    /// The disk of this machine has no room for what has to be noted of it.
    pub fn is_of_the_catalogues_disk(&self) -> bool {
        self.code == CATALOGUE_FULL
    }

    /// What is missing is the bucket, and not something in it.
    pub fn is_of_the_bucket(&self) -> bool {
        self.code == NO_SUCH_BUCKET
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.operation, self.key, self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
