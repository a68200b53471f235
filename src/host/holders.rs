//! Who has a file of the mount open for writing: whether a close is the last, and who else is to be waited for.

mod looks;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use looks::Looked;

use super::beginning::Beginning;
use super::mountpoint::Mount;
use super::process::{self, Thread, descendants_of, is_begun_by, processes, threads_of};

/// So many descriptors of a process are looked at: it takes some milliseconds, and whoever
/// closes as many files would wait for hours otherwise. A file that cannot be told to be closed is
/// published when the kernel lets go of it, a moment later, its error to the log.
const LOOKED_AT_MAX: usize = 2048;
/// And so many of all the others, for one close.
const LOOKED_AT_OF_ALL_MAX: usize = 16 * LOOKED_AT_MAX;

/// Who has a file may begin another, and end, between two looks, and so may that one: so often those are looked at who were begun
/// meanwhile.
const BEGUN_MEANWHILE_MAX: usize = 16;

/// What `look` says of them all, and of whoever was begun meanwhile. (Where the kernel does not tell who was, it is left at one look.)
fn looked_at(all: impl FnOnce() -> Vec<u32>, look: impl Fn(Vec<u32>) -> Held) -> Held {
    let mut began = Beginning::now();
    let mut held = look(all());
    for _ in 0..BEGUN_MEANWHILE_MAX {
        let now = Beginning::now();
        if held != Held::No || !began.is_told() {
            break;
        }
        let newcomers = began.begun_since();
        if newcomers.is_empty() {
            break;
        }
        held = look(newcomers);
        began = now;
    }
    held
}

/// A file of a mount, as /proc names it. (Not by its path: following a descriptor's link waits for
/// a process in the middle of execve(2), which may be waiting for us.)
#[derive(Clone, Debug)]
pub struct OpenedFile {
    inode: u64,
    mount: Arc<Mount>,
    /// The mounts of this namespace by their numbers, and which of them are ours. Asked when a descriptor is of such an
    /// inode, and not for each close: a machine may have thousands of mounts.
    mounts: OnceLock<HashMap<u64, bool>>,
}

/// Which descriptors count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    AnyHow,
    /// Those that stay open when another program is executed.
    Beyond,
}

/// Is a file held open?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    No,
    Yes,
    /// By a process that is just executing its program, which is when it closes what it is not to keep: the kernel
    /// forgets of all its descriptors which these are before it closes the first.
    ByOneWhoExecutes,
    /// By one that closes it when it executes a program, as it may be about to.
    ByOneWhoMayExecute,
    /// By one that dies, or maybe so: it is about to close all that it has open, which soon is not to be seen any more.
    ByOneWhoDies,
}

/// The descriptors of a process. One whose first thread has ended before the others shows them by any of those.
fn descriptors_of(process: u32) -> impl Iterator<Item = fs::DirEntry> {
    let shown_by = |tid: u32| {
        let shown = fs::read_dir(format!("/proc/{tid}/fdinfo"));
        shown.map(|shown| shown.flatten().peekable())
    };
    let mut shown = shown_by(process);
    if shown.as_mut().is_ok_and(|shown| shown.peek().is_none())
        && let Some(other) = threads_of(process).find(|&tid| Thread::of(tid).has_files)
    {
        shown = shown_by(other);
    }
    shown.into_iter().flatten()
}

/// A process that is looked at because of a file.
struct Holder<'a> {
    file: &'a OpenedFile,
    process: u32,
    /// Of the first look at its descriptors.
    budget: Option<&'a mut usize>,
}

impl Looked for Holder<'_> {
    fn keeps(&mut self) -> Option<bool> {
        let mut usual = LOOKED_AT_MAX;
        let budget = self.budget.take().unwrap_or(&mut usual);
        self.file.is_among(self.process, Kept::Beyond, budget)
    }

    fn dies(&mut self) -> bool {
        !threads_of(self.process).any(|tid| Thread::of(tid).has_memory)
    }

    fn executes(&mut self) -> bool {
        process::is_executing(self.process)
    }
}

impl OpenedFile {
    pub fn new(mount: &Arc<Mount>, inode: u64) -> OpenedFile {
        OpenedFile {
            inode,
            mount: mount.clone(),
            mounts: OnceLock::new(),
        }
    }

    /// Does the process have it open for writing? Of one with very many descriptors that is taken for
    /// granted.
    pub fn is_written_by(&self, process: u32) -> bool {
        self.is_among(process, Kept::AnyHow, &mut { LOOKED_AT_MAX })
            .unwrap_or(true)
    }

    /// Does it, or one that it has begun, or one that was begun since and may have inherited it? What such a one closes when it
    /// executes its program counts for nothing: a thread that starts one must not keep another from being told that its file
    /// is published. Nor does what belongs to `others`, who have opened the same file.
    pub fn is_written_by_heirs_of(&self, process: u32, since: &Beginning, others: &[u32]) -> Held {
        if self.is_written_by(process) {
            return Held::Yes;
        }
        // What is too much to be looked through has no part in it, for all that can be told.
        let mut budget = LOOKED_AT_MAX;
        let descendants = descendants_of(process);
        for &heir in &descendants {
            match self.is_kept_by(heir, &mut budget) {
                None | Some(Held::No) => {}
                Some(held) => return held,
            }
        }
        let is_stranger = |heir: &u32| {
            ![process, std::process::id()].contains(heir) && !descendants.contains(heir)
        };
        let look = |begun: Vec<u32>| {
            let mut budget = LOOKED_AT_OF_ALL_MAX;
            for heir in begun.into_iter().filter(is_stranger) {
                if self.is_among(heir, Kept::Beyond, &mut budget) != Some(true)
                    || is_of_any(heir, others)
                {
                    continue;
                }
                match self.is_kept_by(heir, &mut { LOOKED_AT_MAX }) {
                    None | Some(Held::No) => {}
                    Some(held) => return held,
                }
            }
            Held::No
        };
        looked_at(|| since.begun_since(), look)
    }

    /// Does it, or any other? A child that has it with close-on-exec may have been begun to write it, and then it does,
    /// sooner or later. What `others` have, who opened the same file for themselves, is theirs.
    pub fn is_written_beside(
        &self,
        process: u32,
        others: &[u32],
        has_written: impl Fn(u32) -> bool,
    ) -> Held {
        if self.is_written_by(process) {
            return Held::Yes;
        }
        let look = |all: Vec<u32>| self.is_written_by_any(all, process, others, &has_written);
        looked_at(|| processes().collect(), look)
    }

    /// Of the processes `all`, as seen when `process` closes it.
    fn is_written_by_any(
        &self,
        all: Vec<u32>,
        process: u32,
        others: &[u32],
        has_written: impl Fn(u32) -> bool,
    ) -> Held {
        let mut held = Held::No;
        for holder in self.writers(all.into_iter()) {
            let kept = self.is_kept_by(holder, &mut { LOOKED_AT_MAX });
            let is_heir = is_begun_by(holder, process);
            let may_be_this = has_written(holder) || is_heir && kept != Some(Held::No);
            if !may_be_this && is_of_any(holder, others) {
                continue;
            }
            let passes = match kept {
                Some(Held::No) if process::is_executing(holder) => Held::ByOneWhoExecutes,
                Some(Held::No) => Held::ByOneWhoMayExecute,
                kept => kept.unwrap_or(Held::Yes),
            };
            if passes == Held::Yes || has_written(holder) || !is_heir {
                if process::exists(holder) {
                    return Held::Yes;
                }
            } else if held != Held::ByOneWhoExecutes {
                held = passes;
            }
        }
        held
    }

    /// Does it have it open, and keeps it when it executes a program? `None`: it has more open than the budget.
    fn is_kept_by(&self, process: u32, budget: &mut usize) -> Option<Held> {
        let budget = Some(budget);
        looks::kept_by(&mut Holder {
            file: self,
            process,
            budget,
        })
    }

    /// May this process have it open for writing? It may if that is not to be seen.
    pub fn may_be_written_by(&self, process: u32) -> bool {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        fs::read_dir(format!("/proc/{process}/fdinfo")).is_err_and(refused)
            || self.is_written_by(process)
    }

    /// Does any process? The same of a machine with very many.
    pub fn is_written_by_anyone(&self) -> bool {
        self.writers(processes()).next().is_some()
    }

    /// Those of `all` who have it open for writing.
    fn writers(&self, all: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let mut budget = LOOKED_AT_OF_ALL_MAX;
        all.filter(move |&process| {
            let is_written = self.is_among(process, Kept::AnyHow, &mut budget);
            is_written.unwrap_or(true)
        })
    }

    /// `None`: it has more open than may be looked at.
    fn is_among(&self, process: u32, kept: Kept, budget: &mut usize) -> Option<bool> {
        let entries: Vec<_> = descriptors_of(process).take(*budget + 1).collect();
        *budget = budget.checked_sub(entries.len())?;
        Some(entries.iter().any(|entry| {
            beginning(&entry.path()).is_ok_and(|info| self.is_written(&info, process, kept))
        }))
    }

    /// Is it a mount of ours that a process has something open of? (Which mount namespace the process is in is not
    /// asked: reading that link waits for one in the middle of execve(2), too.)
    fn is_of_ours(&self, mount: u64, process: u32) -> bool {
        let here = self.mounts.get_or_init(|| self.mount.numbers());
        // In another mount namespace the same mount has another number.
        let seen = here.get(&mount).copied();
        seen.unwrap_or_else(|| self.mount.has_number_for(mount, process))
    }

    fn is_written(&self, info: &str, process: u32, kept: Kept) -> bool {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok());
        let flags = field("flags:").and_then(|text| i32::from_str_radix(text, 8).ok());
        number("ino:") == Some(self.inode)
            && flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
            && (kept == Kept::AnyHow || flags.is_none_or(|flags| flags & libc::O_CLOEXEC == 0))
            && number("mnt_id:").is_some_and(|id| self.is_of_ours(id, process))
    }
}

/// Is it one of them, or begun by one? (One climb, however many they are.)
fn is_of_any(process: u32, openers: &[u32]) -> bool {
    !openers.is_empty() && process::line_of(process).any(|of| openers.contains(&of))
}

/// Of a descriptor, what all of them tell, which comes first and in one piece.
fn beginning(info: &Path) -> io::Result<String> {
    let mut buffer = [0; 256];
    let length = File::open(info)?.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::process::{Fate, children_of};
    use super::super::signals::{is_being_interrupted, is_being_killed};
    use super::*;

    #[test]
    fn our_own_descriptors_are_found() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let writer = fs::File::create(&path).unwrap();
        let root = super::super::mountpoint::of_path(&path).expect("some mount holds it");
        let mount = Arc::new(Mount::at(&root));
        let file = OpenedFile::new(&mount, writer.metadata().unwrap().ino());
        let us = std::process::id();
        assert!(file.is_written_by(us) && file.is_written_by_anyone());
        let before = Beginning::now();
        assert_eq!(file.is_written_by_heirs_of(us, &before, &[]), Held::Yes);
        let parent = Thread::of(us).parent.expect("somebody started the test");
        assert!(children_of(parent).is_none_or(|children| children.contains(&us)));
        assert!(is_begun_by(us, parent) && !is_begun_by(parent, us) && !is_begun_by(us, us));
        // SAFETY: the descriptor is open. Whom we begin keeps it now.
        assert_eq!(
            unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) },
            0
        );
        for others in [&[][..], &[us]] {
            let held = file.is_written_by_heirs_of(parent, &before, others);
            assert_eq!(
                held,
                Held::Yes,
                "we are a child of {parent}, with {others:?}"
            );
        }
        // SAFETY: the same.
        let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        assert_eq!(set, 0);
        let told = |written: bool| file.is_written_beside(parent, &[], |p| written && p == us);
        for _ in 0..100 {
            assert_eq!(told(true), Held::Yes);
            // A child of another test may be executing just then, or dying.
            let passing = [
                Held::ByOneWhoMayExecute,
                Held::ByOneWhoExecutes,
                Held::ByOneWhoDies,
            ];
            assert!(passing.contains(&told(false)), "{:?}", told(false));
        }
        drop(writer);
        let _reader = fs::File::open(&path).unwrap();
        assert!(!file.is_written_by(us));
        assert_eq!(Thread::of(us).process, Some(us));
        assert_eq!(Thread::of(us).fate(), Fate::Alive);
        assert!(!is_being_killed(us) && !is_being_interrupted(us));
    }
}
