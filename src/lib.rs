//! wholefs: mount an object-store bucket as a directory. A file is whole, or it is not there.
//!
//! Data enters at `fuse`, goes down through `fs`, `draft` and `upload` (or `read`) to `store`, and comes back
//! up the same way. See ARCHITECTURE.md.

pub mod cli;
mod crc64;
pub mod draft;
mod durable;
pub mod embedded;
mod flow;
pub mod fs;
pub mod fuse;
pub mod host;
pub mod journal;
mod lines;
mod nearest;
mod ours;
mod pauses;
mod pool;
mod random;
pub mod read;
pub mod recovery;
mod shown;
pub mod status;
pub mod store;
mod turns;
pub mod upload;
