//! Reading an object: a [`Reader`] an open handle, read-ahead for those who read in sequence, small
//! ranged GETs for those who do not.
//!
//! - `window`: the decisions, without I/O: what is sequential, how far ahead to fetch, in which ranges.
//! - `memory`: the budget all readers share, and the buffers it pays for.
//! - `stream`: the bytes of one range, resumed where a connection breaks.
//! - `state`: what a reader has and what is on its way.
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

mod memory;
mod reader;
mod state;
mod stream;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use memory::{Fetching, ReadMemory, Reads};
pub use reader::Reader;

/// How a mount reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far a sequential reader is read ahead at most.
    pub window_max: u64,
    /// The longest range asked for in one request.
    pub range: u64,
    /// Requests a range may cost, the first included, when bodies break.
    pub attempts: u32,
    /// The pause before the second of them; it doubles from there.
    pub backoff: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_max: 64 << 20,
            range: 8 << 20,
            attempts: 5,
            backoff: Duration::from_millis(100),
        }
    }
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub enum Data {
    /// A part of a buffer that is shared with the reader. It keeps the whole buffer (up to 1 MiB)
    /// alive and on the budget: copy what is to be kept for long.
    Slice(Bytes),
    /// Put together from several buffers.
    Joined(Vec<u8>),
}

impl Data {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Data::Slice(bytes) => bytes,
            Data::Joined(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Data> for Bytes {
    fn from(data: Data) -> Bytes {
        match data {
            Data::Slice(bytes) => bytes,
            Data::Joined(bytes) => bytes.into(),
        }
    }
}
