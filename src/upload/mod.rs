//! The life of multipart uploads: a pure state machine ([`life`]) and the driver that performs what
//! it decides. The rest of the house sees an [`Upload`]: parts go in, then a commit or an abort.
//!
//! Invariant: every upload that was begun is driven until the store says that nothing of it is left,
//! whatever becomes of the file it was for; [`Uploads::settle`] waits for that at shutdown.

pub(crate) mod answers;
mod counts;
mod doubts;
mod driver;
pub mod ending;
mod handle;
pub mod ledger;
pub mod life;
#[cfg(test)]
mod life_tests;
pub mod recovery;
pub(crate) mod search;
mod uploads;
mod words;

pub use counts::{Acknowledged, Counts, Why};
pub use doubts::{Doubt, Doubts};
pub(crate) use driver::pause;
pub use handle::{Failure, PartSource, Upload};
pub use uploads::Uploads;
