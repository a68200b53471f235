//! Reading an object: a [`Reader`] an open handle, read-ahead for those who read in sequence, small
//! ranged GETs for those who do not.
//!
//! - `window`: the decisions, without I/O: what is sequential, how far ahead to fetch, in which ranges.
//! - `memory`: the budget all readers share, and the buffers it pays for.
//! - `stream`: the bytes of one range, resumed where a connection breaks.
//! - `disk`: what was read, kept for the next time.
//! - `state`: what a reader has and what is on its way.
//! - `whole`: an object brought in whole, into the kernel's pages.
//! - `reader`: brings them together.
//!
//! Invariants:
//! - Never wrong bytes: every byte answered was received for its offset, of the version the reader
//!   was opened with. Once the object is known to be replaced, every read says so.
//! - Never a hang: a read waits only for requests that are under way, which the store bounds in
//!   time; when one fails, those who wait for its bytes are told. A failure nobody waited for is
//!   forgotten.
//! - Bounded: what is read ahead is paid from [`ReadMemory`]. A read that finds it spent fetches at
//!   most a segment at a time for itself, outside of the budget.
//! - Dropping a reader stops its requests and frees its buffers.

mod disk;
mod memory;
mod reader;
mod state;
mod stream;
mod whole;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use disk::{DiskCache, Room};
pub use memory::{Fetching, ReadMemory, Reads};
pub use reader::Reader;
pub use stream::Seen;
pub use whole::Pages;

/// How a mount reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far a sequential reader is read ahead at most.
    pub window_max: u64,
    /// The longest range asked for in one request.
    pub range: u64,
    /// Requests for the same bytes, the first included, when bodies break.
    pub attempts: u32,
    /// The pause before the second of them; it doubles from there.
    pub backoff: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_max: 128 << 20,
            range: 8 << 20,
            attempts: 5,
            backoff: Duration::from_millis(100),
        }
    }
}

/// The answer to a read: bytes that lie in buffers which are shared with the reader. It keeps the whole of
/// them alive and on the budget: copy what is to be kept for long.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Data {
    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    pub fn followed_by(mut self, more: Data) -> Data {
        more.pieces.into_iter().for_each(|piece| self.push(piece));
        self
    }

    /// What comes behind so many bytes.
    fn split_off(&mut self, at: usize) -> Data {
        let (mut rest, mut before) = (Data::default(), 0);
        let pieces = std::mem::take(&mut self.pieces);
        self.len = 0;
        for mut piece in pieces {
            let here = piece.len().min(at - before);
            let behind = piece.split_off(here);
            before += here;
            if !piece.is_empty() {
                self.push(piece);
            }
            if !behind.is_empty() {
                rest.push(behind);
            }
        }
        rest
    }

    /// One behind the other.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Data {
        let mut data = Data::default();
        data.push(bytes.into());
        data
    }
}
