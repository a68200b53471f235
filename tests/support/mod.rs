//! What the integration tests stand on: stores to mount, the program itself on a real mount point,
//! writers that can be made to die in any way, and contents that can be recognised.
//!
//! Everything is the test's own (server, port, mount point, folder), so tests run side by side, and
//! the whole suite runs twice at once. Everything ends with the test, also when it panics.

pub mod allocations;
pub mod authority;
pub mod calling;
pub mod content;
pub mod door;
pub mod forward;
pub mod garage;
pub mod key_service;
pub mod mangle;
pub mod moto;
pub mod mount;
pub mod network;
pub mod prometheus;
pub mod proxy;
pub mod room;
pub mod servers;
pub mod simulator;
pub mod store;
pub mod terminal;
pub mod tools;
pub mod wait;
pub mod writer;

pub use authority::Authority;
pub use content::Content;
pub use mount::Mount;
pub use store::Store;
pub use wait::{eventually, seconds};
pub use writer::Writer;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
/// The smallest part S3 takes, and the size the tests mount with where parts matter.
pub const PART: u64 = 5 * MIB;

/// Makes each scenario a test over the embedded bucket, one over Garage, and one over each server of
/// `scripts/test --servers`.
macro_rules! on_both_stores {
    ($($scenario:ident),* $(,)?) => {
        mod on_the_embedded_bucket {
            $(#[test] fn $scenario() { super::$scenario(&crate::support::Store::embedded()); })*
        }
        mod on_garage {
            $(#[test] fn $scenario() {
                if let Some(store) = crate::support::Store::garage() {
                    super::$scenario(&store);
                }
            })*
        }
        crate::support::on_servers!($($scenario),*);
    };
}
pub(crate) use on_both_stores;

/// Makes each scenario a test over each server that is not ours, but where
/// `tests/suites/servers.exclusions` says why not.
macro_rules! on_servers {
    ($($scenario:ident),* $(,)?) => {
        mod on_moto {
            $(#[test] fn $scenario() {
                let name = concat!(module_path!(), "::", stringify!($scenario));
                if let Some(store) = crate::support::Store::moto_for(name) {
                    super::$scenario(&store);
                }
            })*
        }
        mod on_swift {
            $(#[test] fn $scenario() {
                let name = concat!(module_path!(), "::", stringify!($scenario));
                if let Some(store) = crate::support::Store::swift(name) {
                    super::$scenario(&store);
                }
            })*
        }
        mod on_rclone {
            $(#[test] fn $scenario() {
                let name = concat!(module_path!(), "::", stringify!($scenario));
                if let Some(store) = crate::support::Store::rclone(name) {
                    super::$scenario(&store);
                }
            })*
        }
        mod on_ceph {
            $(#[test] fn $scenario() {
                let name = concat!(module_path!(), "::", stringify!($scenario));
                if let Some(store) = crate::support::Store::ceph(name) {
                    super::$scenario(&store);
                }
            })*
        }
    };
}
pub(crate) use on_servers;
