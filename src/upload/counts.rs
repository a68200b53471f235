//! What became of the uploads of a mount, counted, and how far one has come: for people.

use std::collections::BTreeMap;

use super::Failure;

/// Why nothing of an upload was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The file's name is gone.
    Unlinked,
    /// It was begun anew.
    Truncated,
    /// Who wrote it did not bring it to its end.
    GivenUp,
    /// A write was refused: no room, too many parts…
    Write,
    /// The store did not take it.
    Store,
    /// The journal could not be written.
    Journal,
    /// Nobody had it open any more.
    Dropped,
}

impl Why {
    pub const ALL: [Why; 7] = [
        Why::Unlinked,
        Why::Truncated,
        Why::GivenUp,
        Why::Write,
        Why::Store,
        Why::Journal,
        Why::Dropped,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Why::Unlinked => "unlinked",
            Why::Truncated => "truncated",
            Why::GivenUp => "given up",
            Why::Write => "write refused",
            Why::Store => "store",
            Why::Journal => "journal",
            Why::Dropped => "dropped",
        }
    }
}

impl Failure {
    pub(super) fn why(&self) -> Why {
        match self {
            Failure::Store(_) => Why::Store,
            Failure::Journal(_) => Why::Journal,
            Failure::Aborted(why) => *why,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub begun: u64,
    pub committed: u64,
    pub aborted: BTreeMap<Why, u64>,
}

/// What the store has of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub parts: u64,
    pub bytes: u64,
}
