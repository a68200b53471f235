//! What became of the uploads of a mount, counted, and how far one has come: for people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

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
    /// With what is on its way there.
    pub sent: u64,
}

/// The same, while it changes.
#[derive(Debug, Default)]
pub(super) struct Sent {
    parts: BTreeMap<u32, u64>,
    on_their_way: BTreeMap<u32, Arc<AtomicU64>>,
}

impl Sent {
    /// A part goes on its way: what counts its bytes.
    pub(super) fn begins(&mut self, number: u32) -> Arc<AtomicU64> {
        self.on_their_way.entry(number).or_default().clone()
    }

    /// It was answered, and of this length if the store has it.
    pub(super) fn answered(&mut self, number: u32, length: Option<u64>) {
        self.on_their_way.remove(&number);
        self.parts.extend(length.map(|length| (number, length)));
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        let bytes = self.parts.values().sum();
        // One that is sent anew is in the store already.
        let anew = |number: &u32| self.parts.contains_key(number);
        let coming = self.on_their_way.iter().filter(|(number, _)| !anew(number));
        Acknowledged {
            parts: self.parts.len() as u64,
            bytes,
            sent: bytes + coming.map(|(_, sent)| sent.load(Relaxed)).sum::<u64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_counts_until_it_is_answered() {
        let mut sent = Sent::default();
        let (first, second) = (sent.begins(1), sent.begins(2));
        first.store(5, Relaxed);
        second.store(3, Relaxed);
        let told = |sent: &Sent| {
            let Acknowledged { parts, bytes, sent } = sent.acknowledged();
            (parts, bytes, sent)
        };
        assert_eq!(told(&sent), (0, 0, 8));
        sent.answered(1, Some(10));
        assert_eq!(told(&sent), (1, 10, 13));
        sent.answered(2, None);
        assert_eq!(told(&sent), (1, 10, 10));
        // Rewritten: it goes there a second time, and is as long as the store says then.
        sent.begins(1).store(4, Relaxed);
        assert_eq!(told(&sent), (1, 10, 10));
        sent.answered(1, Some(7));
        assert_eq!(told(&sent), (1, 7, 7));
    }
}
