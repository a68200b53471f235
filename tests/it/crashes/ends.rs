//! The ways a file's writing comes to its end, and what the bucket may hold afterwards when the daemon
//! dies on the way.

use super::scene::{FIRST, Held, NEW, is_dead};
use crate::support::{MIB, Mount, Writer, eventually, seconds};

/// How the writing of a file comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A new file is closed.
    Close,
    /// One that replaces an object is.
    Overwrite,
    /// A new file is unlinked while it is written.
    Unlink,
    /// One that replaces an object is, and the object with it.
    UnlinkOld,
    /// Cut to nothing in the middle, written anew and closed.
    Truncate,
    /// The writer is killed; there is an old object.
    Killed,
}

pub const ENDS: [End; 6] = [
    End::Close,
    End::Overwrite,
    End::Unlink,
    End::UnlinkOld,
    End::Truncate,
    End::Killed,
];

/// What the program that wrote was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// close() (or unlink()) returned 0.
    Done,
    Nothing,
}

impl End {
    pub fn has_old(self) -> bool {
        matches!(self, End::Overwrite | End::UnlinkOld | End::Killed)
    }

    pub fn may_hold(self, told: Told) -> &'static [Held] {
        match (self, told) {
            (End::Close | End::Truncate, Told::Nothing) => &[Held::Nothing, Held::New],
            (End::Overwrite, Told::Nothing) => &[Held::Old, Held::New],
            (End::Close | End::Truncate | End::Overwrite, Told::Done) => &[Held::New],
            (End::Unlink, _) | (End::UnlinkOld, Told::Done) => &[Held::Nothing],
            (End::UnlinkOld, Told::Nothing) => &[Held::Old, Held::Nothing],
            (End::Killed, _) => &[Held::Old],
        }
    }

    /// Writes the file to its end, as far as the daemon lives. `parts` counts those in the bucket.
    pub fn play(self, mount: &Mount, key: &str, parts: &dyn Fn() -> usize) -> Told {
        let daemon = mount.daemon();
        let open = format!("open wct {}", mount.path(key).display());
        let write = format!("write {} {}", NEW.seed, NEW.size);
        let mut writer = Writer::start();
        let mut all = |steps: &[&str]| steps.iter().all(|step| writer.attempt(step).is_ok());
        let parts_are_there = || {
            eventually(seconds(30), "a part is sent", || {
                is_dead(daemon) || parts() > 0
            });
        };
        let done = match self {
            End::Close | End::Overwrite => all(&[&open, &write, "close"]),
            End::Unlink | End::UnlinkOld => {
                all(&[&open, &write]) && {
                    parts_are_there();
                    let unlinked = std::fs::remove_file(mount.path(key)).is_ok();
                    all(&[&format!("write {} {MIB}", NEW.seed), "close"]);
                    unlinked
                }
            }
            End::Truncate => {
                let first = format!("write {} {}", FIRST.seed, FIRST.size);
                all(&[&open, &first]) && {
                    parts_are_there();
                    all(&["truncate 0", "seek 0", &write, "close"])
                }
            }
            End::Killed => {
                if all(&[&open, &write]) {
                    parts_are_there();
                }
                writer.die_of(libc::SIGKILL);
                false
            }
        };
        if done { Told::Done } else { Told::Nothing }
    }
}
