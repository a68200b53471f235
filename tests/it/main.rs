//! The integration tests: one binary, a module each subject. `scripts/test` runs them with all they
//! need; what is missing on a machine (Garage, fio) is skipped and said loudly.

#[path = "../support/script.rs"]
mod script;
#[path = "../support/mod.rs"]
mod support;

/// For `allocations`; it costs the other tests next to nothing.
#[global_allocator]
static ALLOCATOR: support::allocations::Counting = support::allocations::Counting;

// The parts on their own.
mod allocations;
mod delete_many;
mod embedded;
mod many_answers;
mod mappings;
mod store;
mod store_connect;
mod store_wire;
mod unusual_answers;

// The whole: the program, on a real mount.
mod answers;
mod archives;
mod bad_input;
mod bandwidth;
mod commands;
mod connecting;
mod copied_versions;
mod copies;
mod costs;
mod crashes;
mod dashboard;
mod deaths;
mod directory;
mod edits;
mod endings;
mod families;
mod faults;
mod fed;
mod given;
mod hearing;
mod holes;
mod host;
mod house;
mod identities;
mod keys;
mod late;
mod limits;
mod listing;
mod metadata;
mod model;
mod network;
mod operator;
mod package;
mod parting;
mod passages;
mod place;
mod random_writes;
mod regions;
mod rename;
mod rename_crashes;
mod secrecy;
mod sizes;
mod suites;
mod sweeps;
mod systemd;
mod tls;
mod together;
mod users;
mod vault;
mod vendors;
mod watching;
mod xattr;
