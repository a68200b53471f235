//! The words about a file being written: what may become of it, what is asked of it, and what it tells.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::store::{self, ETag, ErrorKind, Precondition};
use crate::upload::ledger::Before;
use crate::upload::{Acknowledged, Failure};

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Store(store::Error),
    #[error("the spool: {0}")]
    Spool(Arc<std::io::Error>),
    #[error("the journal: {0}")]
    Journal(Arc<std::io::Error>),
    #[error(
        "these bytes were uploaded and are no longer here (open the file for reading too, or raise --write-memory, to keep more of what was sent)"
    )]
    NotHere,
    #[error(
        "the file would need more parts than the store takes (raise --part-size or --write-memory)"
    )]
    TooManyParts,
    #[error("the file would be larger than the store's objects may be")]
    TooLarge,
    #[error(
        "this store takes a file from front to back only: write it elsewhere, and copy it here when it is whole"
    )]
    NotStreamed,
    #[error("what this store has is not changed: write the file anew")]
    Unchangeable,
    #[error("its upload was given up: {0}")]
    Aborted(&'static str),
    #[error("replaced by another client since it was opened")]
    Replaced,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Store(error) if error.kind == ErrorKind::Conflict => Error::Replaced,
            Failure::Store(error) => Error::Store(error),
            Failure::Journal(error) => Error::Journal(error),
            Failure::Aborted(_) => Error::Aborted("aborted"),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::from(Failure::Store(error))
    }
}

impl Error {
    /// The store may do yet what it was asked.
    pub(super) fn leaves_it_open(&self) -> bool {
        matches!(self, Error::Store(error) if error.kind == ErrorKind::Unknown)
    }
}

/// Why a draft is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// The name is gone: nothing is published, but whoever has it open goes on with local data.
    Unlinked,
    /// Nothing is published and every further use fails. The text says why.
    Abandoned(&'static str),
}

/// The object a commit made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub etag: ETag,
    pub size: u64,
    pub modified: SystemTime,
}

/// How far a draft is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// `writing`, `uploading`, `publishing`.
    pub state: &'static str,
    pub size: u64,
    /// What the bucket has of it.
    pub acknowledged: Acknowledged,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Progress { state, size, .. }, parts) = (self, self.acknowledged.parts);
        write!(f, "{state}: {size} bytes, {parts} parts in the bucket")
    }
}

/// When a draft was written to last.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What is to be told of it: the last write, or what utimensat(2) said since.
    pub modified: SystemTime,
    pub changed: SystemTime,
}

impl Times {
    pub(super) fn now() -> Times {
        let now = SystemTime::now();
        Times {
            modified: now,
            changed: now,
        }
    }
}

/// A change that brings no bytes.
#[derive(Clone, Debug)]
pub enum Reshape {
    Truncate(u64),
    /// At least so long.
    Extend(u64),
    /// A range within the file becomes zero.
    Zero(Range<u64>),
}

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
pub enum At {
    Offset(u64),
    /// O_APPEND: behind whatever is there when the write happens.
    End,
}

/// What a draft is to become, and what that is now.
#[derive(Clone, Debug)]
pub struct Target {
    pub key: String,
    pub condition: Precondition,
    pub before: Before,
}
