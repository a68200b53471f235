//! Going into the background: the command returns when the mount serves, or with the daemon's error.
//!
//! Must run before any thread is started: only the forking thread survives a fork.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The daemon's line to the command that waits for it.
pub struct Readiness {
    pipe: Option<File>,
    is_guarded: bool,
}

pub enum Role {
    /// The command: report this and exit.
    Command(Result<(), String>),
    Daemon(Readiness),
}

/// Lets go of what the caller had open, but for what is to be kept: a lock, a pipe or a file is not to be held for as long as the
/// mount is there. (Of ours nothing is open yet.)
fn let_go_of_what_was_inherited(kept: Option<RawFd>) {
    let kept = kept.and_then(|fd| u32::try_from(fd).ok()).unwrap_or(2);
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.max(2) + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: no pointers involved, and nothing here owns these descriptors.
            unsafe { libc::close_range(first, last, 0) };
        }
    }
}

/// Splits into the command, which waits, and the daemon, which keeps this descriptor of what it was given.
pub fn split(kept: Option<RawFd>) -> std::io::Result<Role> {
    let_go_of_what_was_inherited(kept);
    let mut ends = [0; 2];
    // SAFETY: `ends` takes the two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both descriptors were just made and belong to nobody else.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the process has one thread (see the module's text), so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            drop(read);
            Ok(Role::Daemon(Readiness {
                pipe: Some(File::from(write)),
                is_guarded: false,
            }))
        }
        _ => {
            drop(write);
            let mut said = String::new();
            let _ = File::from(read).read_to_string(&mut said);
            Ok(Role::Command(match said.strip_prefix("ready") {
                Some(_) => Ok(()),
                None if said.is_empty() => {
                    Err("the daemon ended without a word (see its log)".to_string())
                }
                None => Err(said),
            }))
        }
    }
}

impl Readiness {
    /// Nobody waits: in the foreground.
    pub fn nobody() -> Readiness {
        Readiness {
            pipe: None,
            is_guarded: false,
        }
    }

    /// A guardian passes signals on: those of the terminal are for it alone.
    pub fn guarded(&mut self) {
        self.is_guarded = true;
    }

    /// The mount serves: let the command return and give up its terminal. Until then the daemon is of the
    /// caller's process group: an automount lets nobody else come near the mount point.
    pub fn ready(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"ready");
            detach_from_terminal();
        } else if self.is_guarded {
            // SAFETY: no pointers involved.
            unsafe { libc::setpgid(0, 0) };
        }
    }

    /// It does not; answers whether somebody was told.
    pub fn failed(&mut self, why: &str) -> bool {
        self.pipe
            .take()
            .is_some_and(|mut pipe| pipe.write_all(why.as_bytes()).is_ok())
    }
}

/// Lets go of the terminal, its signals, and the working directory.
pub fn detach_from_terminal() {
    // SAFETY: no pointers involved. It fails for who leads a group, and so has one of its own.
    unsafe { libc::setsid() };
    let _ = std::env::set_current_dir("/");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        use std::os::fd::AsRawFd;
        for standard in 0..=2 {
            // SAFETY: both are open descriptors; dup2 closes the old one.
            unsafe { libc::dup2(null.as_raw_fd(), standard) };
        }
    }
}
