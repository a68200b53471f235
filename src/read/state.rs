//! What a reader has, what is on its way to it, and which reads are going on.
//!
//! Plain data under the reader's lock; nothing here waits, spawns or calls a store.
//!
//! Invariants:
//! - Pieces (bytes that are here) and flights (bytes on their way) never overlap one another: a
//!   range is launched only into a gap.
//! - A piece or flight that a read in progress needs is not dropped, except when the object was
//!   replaced.
//! - What is dropped leaves through [`Garbage`], which the caller drops after unlocking: freeing
//!   and aborting are not done under the lock.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::window::Window;
use crate::store::Error;

/// How far a flight has come.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// All before this offset has arrived.
    pub(super) at: u64,
    /// Why nothing more will.
    pub(super) failed: Option<Error>,
}

/// A range on its way.
pub(super) struct Flight {
    pub(super) id: u64,
    /// What has not arrived yet.
    pub(super) rest: Range<u64>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) task: AbortHandle,
}

/// Where the byte at some offset is.
pub(super) enum Cover<'a> {
    /// Here: these bytes start with it.
    Here(Bytes),
    Coming(&'a Flight),
    /// Nowhere, nor are those up to this offset.
    Gap(u64),
}

pub(super) struct State {
    pub(super) window: Window,
    /// The object was replaced. For good.
    pub(super) conflict: Option<Error>,
    size: u64,
    pieces: BTreeMap<u64, Bytes>,
    flights: Vec<Flight>,
    reads: Vec<(u64, Range<u64>)>,
    next_id: u64,
    /// There may be pieces or flights outside of what the window keeps.
    dirty: bool,
}

/// What is no longer needed. Dropping it stops the flights.
#[derive(Default)]
pub(super) struct Garbage {
    pieces: Vec<Bytes>,
    flights: Vec<Flight>,
}

impl Drop for Garbage {
    fn drop(&mut self) {
        for flight in &self.flights {
            flight.task.abort();
        }
    }
}

impl State {
    pub(super) fn new(window: Window, size: u64) -> State {
        State {
            window,
            conflict: None,
            size,
            pieces: BTreeMap::new(),
            flights: Vec::new(),
            reads: Vec::new(),
            next_id: 0,
            dirty: false,
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn cover(&self, offset: u64) -> Cover<'_> {
        if let Some((start, piece)) = self.pieces.range(..=offset).next_back()
            && offset - start < piece.len() as u64
        {
            return Cover::Here(piece.slice((offset - start) as usize..));
        }
        let mut gap = match self.pieces.range(offset..).next() {
            Some((start, _)) => *start,
            None => self.size,
        };
        for flight in &self.flights {
            if flight.rest.contains(&offset) {
                return Cover::Coming(flight);
            }
            if flight.rest.start > offset {
                gap = gap.min(flight.rest.start);
            }
        }
        Cover::Gap(gap)
    }

    /// Bytes on their way.
    pub(super) fn coming(&self) -> u64 {
        let rest = |flight: &Flight| flight.rest.end - flight.rest.start;
        self.flights.iter().map(rest).sum()
    }

    pub(super) fn begin_read(&mut self, range: Range<u64>) -> u64 {
        let id = self.id();
        self.reads.push((id, range));
        id
    }

    pub(super) fn end_read(&mut self, id: u64) -> Garbage {
        self.reads.retain(|(read, _)| *read != id);
        self.sweep()
    }

    pub(super) fn is_reading(&self) -> bool {
        !self.reads.is_empty()
    }

    pub(super) fn launch(&mut self, flight: Flight) {
        assert!(!flight.rest.is_empty(), "a flight without a range");
        self.flights.push(flight);
    }

    /// The next bytes of a flight have arrived. `None`: it is no longer wanted.
    pub(super) fn arrive(&mut self, id: u64, piece: Bytes) -> Option<Garbage> {
        let at = self.flights.iter().position(|flight| flight.id == id)?;
        let rest = &mut self.flights[at].rest;
        let range = rest.start..rest.start + piece.len() as u64;
        assert!(
            range.end <= rest.end,
            "more has arrived than was on its way"
        );
        rest.start = range.end;
        if rest.is_empty() {
            self.flights.swap_remove(at);
        }
        // Kept or not is for `sweep` to say.
        self.dirty |= !self.window.keeps(&range);
        let before = self.pieces.insert(range.start, piece);
        assert!(before.is_none(), "a range has been fetched twice");
        Some(self.sweep())
    }

    /// A flight has ended before its time: what was to follow is given up with it, since a store
    /// in trouble is better asked for little. Nothing happens when it was over anyway.
    pub(super) fn failed(&mut self, id: u64) -> Garbage {
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else {
            return Garbage::default();
        };
        let rest = self.flights.swap_remove(at).rest;
        self.window.rewind(rest.start);
        self.dirty = true;
        self.sweep()
    }

    /// There is no memory for what the window wants.
    pub(super) fn denied(&mut self) {
        self.dirty |= self.window.denied();
    }

    /// What was read ahead is of no use any more: the next sweep looks at all of it.
    pub(super) fn abandon(&mut self) {
        self.dirty = true;
    }

    pub(super) fn clear(&mut self) -> Garbage {
        Garbage {
            pieces: std::mem::take(&mut self.pieces).into_values().collect(),
            flights: std::mem::take(&mut self.flights),
        }
    }

    /// Drops what neither the window nor a read in progress needs.
    pub(super) fn sweep(&mut self) -> Garbage {
        let mut garbage = Garbage::default();
        let State {
            window,
            pieces,
            flights,
            reads,
            ..
        } = self;
        let needed = |range: &Range<u64>| {
            let read =
                |(_, read): &(u64, Range<u64>)| read.start < range.end && range.start < read.end;
            reads.iter().any(read)
        };
        if !self.dirty {
            // The common case: only what lies behind the reader can have become useless.
            while let Some(first) = pieces.first_entry() {
                let range = *first.key()..*first.key() + first.get().len() as u64;
                if !window.passed(range.end) || needed(&range) {
                    break;
                }
                garbage.pieces.push(first.remove());
            }
            return garbage;
        }
        let mut left = false;
        let mut keep = |range: &Range<u64>| {
            let kept = window.keeps(range);
            let needed = !kept && needed(range);
            left |= needed;
            kept || needed
        };
        pieces.retain(|start, piece| {
            let keep = keep(&(*start..*start + piece.len() as u64));
            if !keep {
                garbage.pieces.push(piece.clone());
            }
            keep
        });
        let mut at = 0;
        while at < flights.len() {
            if keep(&flights[at].rest) {
                at += 1;
            } else {
                garbage.flights.push(flights.swap_remove(at));
            }
        }
        self.dirty = left;
        garbage
    }
}
