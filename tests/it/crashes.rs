//! The mount dies: by SIGKILL at every request, under load, with its guardian, with its disk, with
//! its machine. Afterwards nothing of ours is open, nothing is torn, what was acknowledged is there,
//! and nobody else's upload was touched.

pub mod ends;
mod every_request;
mod journals;
mod nameless;
mod outside;
mod random;
mod recover;
pub mod scene;
mod stores;
mod uploads;
