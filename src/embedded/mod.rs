//! An S3 server inside the program: for `wholefs demo`, for tests, for benchmarks.
//!
//! It speaks S3's protocol (XML, SigV4) through the `s3s` crate over a bucket model of its own,
//! because what matters here is what no simple server has: multipart uploads in all their corners,
//! the [`Dialect`]s of different vendors, scripted [`Faults`] and a [`RequestLog`]. It stands
//! alone: nothing of the rest of the crate is used.
//!
//! Three ways of keeping ([`Keep`]): in memory; in a directory, across restarts; or nowhere, for
//! measuring: names, sizes and ETags are kept, bytes are dropped, zeros are served.
//!
//! How a request goes: `accept` takes it in for a server (`serving`), `front` applies faults and keeps the log, the protocol
//! crate checks and parses it (behind `protocol`), `api` translates, `model` does it. The syntax of scripted faults is
//! documented in [`faults`]. [`vault`] is a server of another protocol, behind the same front.

mod accept;
mod alarm;
mod api;
mod archive;
mod blob;
mod cos;
mod dialect;
mod digest;
mod disk;
mod error;
mod fault_text;
pub mod faults;
mod front;
mod ingest;
mod list;
mod log;
mod model;
mod multipart;
mod operation;
mod prefill;
mod protocol;
mod region;
mod server;
mod serving;
pub mod vault;
mod vendor;
mod wire;

pub use accept::Tls;
pub use dialect::{CompleteRepeated, ConditionalWrites, Dialect, Signatures, Vendor};
pub use faults::{Action, Fault, FaultId, Faults, Select, Victim};
pub use log::{KEPT, Moved, Outcome, Record, RequestLog};
pub use operation::{Level, Target, operation_of};
pub use prefill::Prefill;
pub use region::{Astray, Region};
pub use server::{Keep, ObjectSummary, Options, Server, UploadSummary};
