//! What the machine tells of the processes that use the mount. Everything here is best effort: what
//! cannot be read is unknown, and unknown counts as alive and well.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::beginning::Beginning;
use super::mountpoint::Mount;

/// How the thread that closes a file is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Running, or nothing is known.
    Alive,
    /// Ending with this exit code.
    Exiting(u8),
    /// Ending because of this signal.
    Killed(u8),
    /// Ending, and we are not the one who may know why.
    Untold,
}

/// Linux: the task is being taken down.
const PF_EXITING: u64 = 0x4;
/// Linux: a kernel thread, which some kernels (6.3–6.5) close files with.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A thread that asks something of the mount, as one look at it told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    tid: u32,
    /// The process it belongs to.
    pub process: Option<u32>,
    /// Who started that, if it was not the machine itself.
    pub parent: Option<u32>,
    has_memory: bool,
    /// What it has open is there to be seen.
    has_files: bool,
    /// It knows where it is, which is what it gives up when it has closed its files.
    has_place: bool,
}

impl Thread {
    pub fn of(tid: u32) -> Thread {
        let mut thread = Thread {
            tid,
            ..Thread::default()
        };
        if tid == 0 {
            return thread;
        }
        let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        for line in status.lines() {
            let Some((name, value)) = line.split_once(":\t") else {
                continue;
            };
            let number = || value.trim().parse().ok();
            match name {
                "Tgid" => thread.process = number(),
                "PPid" => thread.parent = number().filter(|&parent| parent > 1),
                "VmSize" => thread.has_memory = true,
                "FDSize" => thread.has_files = number().is_some_and(|size| size > 0),
                "Umask" => thread.has_place = true,
                _ => {}
            }
        }
        thread
    }

    pub fn is_executing(&self) -> bool {
        is_executing(self.tid)
    }

    /// Is its process just closing all that it has open? (None of that is to be seen any more.)
    pub fn closes_its_files(&self) -> bool {
        let closes = |tid| {
            let thread = Thread::of(tid);
            thread.has_place && !thread.has_files
        };
        !self.has_files && self.process.is_some_and(|of| threads_of(of).any(closes))
    }

    /// While its FLUSH waits for an answer, a dying thread is still there to be looked at.
    ///
    /// Not every thread may be looked at: one in the middle of execve(2), closing its descriptors, holds a
    /// lock that reading its `stat` waits for, while it waits for us. But a dying thread has given up its
    /// memory before it closes its files, and `status`, which takes no such lock, tells that.
    pub fn fate(&self) -> Fate {
        let tid = self.tid;
        if tid == 0 || self.has_memory {
            return Fate::Alive;
        }
        let told = fs::read_to_string(format!("/proc/{tid}/stat"))
            .map_or(Fate::Alive, |stat| fate_from_stat(&stat));
        match told {
            Fate::Untold => Signals::of(tid)
                .and_then(|signals| signals.ended_by())
                .map_or(Fate::Exiting(0), Fate::Killed),
            told => told,
        }
    }
}

/// Fields 9 (flags), 35 (wchan: a thread that waits for us is blocked) and 52 (exit_code, as wait(2) has it); to readers
/// without the right to trace the last two are 0.
fn fate_from_stat(stat: &str) -> Fate {
    // The command (field 2) may hold spaces and parentheses: count from behind it.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return Fate::Alive;
    };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
    let (Some(flags), Some(code)) = (field(9), field(52)) else {
        return Fate::Alive;
    };
    if flags & PF_EXITING == 0 || flags & PF_KTHREAD != 0 {
        return Fate::Alive;
    }
    match code & 0x7f {
        0 if code == 0 && field(35) == Some(0) => Fate::Untold,
        0 => Fate::Exiting((code >> 8) as u8),
        signal => Fate::Killed(signal as u8),
    }
}

/// The processes that have something open below a path, or work there: their numbers and names.
pub fn users_of(path: &Path) -> Vec<(u32, String)> {
    let mut users: Vec<(u32, String)> = processes()
        .filter(|pid| uses(*pid, path))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_string())
        })
        .collect();
    users.sort();
    users
}

fn uses(pid: u32, path: &Path) -> bool {
    // Links are read, never followed: what they lead to may not answer.
    let is_below = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(path));
    let of_process = format!("/proc/{pid}");
    let of_process = Path::new(&of_process);
    let descriptors = fs::read_dir(of_process.join("fd")).into_iter().flatten();
    ["cwd", "root", "exe"]
        .iter()
        .any(|link| is_below(&of_process.join(link)))
        || descriptors.flatten().any(|entry| is_below(&entry.path()))
}

/// Has the thread been killed while it waits for us? Then nobody waits for the answer.
pub fn is_being_killed(tid: u32) -> bool {
    Signals::of(tid).is_some_and(|signals| signals.kill())
}

/// Has the thread been killed, or is it to be told something that ends most programs (Ctrl-C…), and would
/// hear it if it did not wait for us?
pub fn is_being_interrupted(tid: u32) -> bool {
    Signals::of(tid).is_some_and(|signals| signals.kill() || signals.interrupt())
}

/// What is on its way to a thread, and what it makes of it: sets of bits.
#[derive(Debug, Default)]
struct Signals {
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

/// Signals that end nobody who does not care for them.
const HARMLESS: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGCONT)
    | bit(libc::SIGSTOP)
    | bit(libc::SIGTSTP)
    | bit(libc::SIGTTIN)
    | bit(libc::SIGTTOU)
    | bit(libc::SIGURG)
    | bit(libc::SIGWINCH);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Signals {
    fn of(tid: u32) -> Option<Signals> {
        let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
        let mut signals = Signals::default();
        for line in status.lines() {
            let Some((name, bits)) = line.split_once(":\t") else {
                continue;
            };
            let set = match name {
                "SigPnd" | "ShdPnd" => &mut signals.pending,
                "SigBlk" => &mut signals.blocked,
                "SigIgn" => &mut signals.ignored,
                "SigCgt" => &mut signals.caught,
                _ => continue,
            };
            *set |= u64::from_str_radix(bits, 16).unwrap_or(0);
        }
        Some(signals)
    }

    fn kill(&self) -> bool {
        // A fatal signal of any kind becomes a SIGKILL to each thread of the group, but for one that
        // leaves a core: of these people send Ctrl-\.
        let core = self.heard() & !self.caught & bit(libc::SIGQUIT);
        self.pending & bit(libc::SIGKILL) != 0 || core != 0
    }

    fn interrupt(&self) -> bool {
        const ENDING: u64 =
            bit(libc::SIGINT) | bit(libc::SIGTERM) | bit(libc::SIGHUP) | bit(libc::SIGQUIT);
        self.heard() & ENDING != 0
    }

    /// What a thread that is ending was ended by, as far as it is pending still: so it is of a process that was
    /// killed as a whole.
    fn ended_by(&self) -> Option<u8> {
        let deadly = self.pending & bit(libc::SIGKILL) | self.heard() & !self.caught & !HARMLESS;
        (deadly != 0).then(|| deadly.trailing_zeros() as u8 + 1)
    }

    fn heard(&self) -> u64 {
        self.pending & !self.blocked & !self.ignored
    }
}

/// So many descriptors of a process are looked at: it takes some milliseconds, and whoever
/// closes as many files would wait for hours otherwise. A file that cannot be told to be closed is
/// published when the kernel lets go of it, a moment later, its error to the log.
const LOOKED_AT_MAX: usize = 2048;
/// And so many of all the others, for one close.
const LOOKED_AT_OF_ALL_MAX: usize = 16 * LOOKED_AT_MAX;

/// No further is asked who has begun a process.
const GENERATIONS_MAX: usize = 64;

/// All that there are.
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
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

impl From<bool> for Held {
    fn from(held: bool) -> Held {
        match held {
            true => Held::Yes,
            false => Held::No,
        }
    }
}

fn threads_of(process: u32) -> impl Iterator<Item = u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let entries = threads.into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Is it in the middle of execve(2)? Then it has no arguments yet. (Its own way of telling, /proc/TID/syscall, waits for the
/// end of that.)
fn is_executing(tid: u32) -> bool {
    let arguments = File::open(format!("/proc/{tid}/cmdline"));
    let has_none = arguments.is_ok_and(|mut file| file.read(&mut [0]).is_ok_and(|read| read == 0));
    // One that dies has none either, and no memory.
    has_none && Thread::of(tid).has_memory
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
        let is_anothers = |heir| {
            let is_of = |opener: &u32| *opener == heir || is_begun_by(heir, *opener);
            others.iter().any(is_of)
        };
        // What is too much to be looked through has no part in it, for all that can be told.
        let mut budget = LOOKED_AT_MAX;
        let descendants = descendants_of(process);
        for &heir in &descendants {
            match self.is_kept_by(heir, &mut budget) {
                None | Some(Held::No) => {}
                Some(held) => return held,
            }
        }
        let mut budget = LOOKED_AT_OF_ALL_MAX;
        let is_stranger = |heir: &u32| {
            ![process, std::process::id()].contains(heir) && !descendants.contains(heir)
        };
        for heir in since.begun_since().into_iter().filter(is_stranger) {
            if self.is_among(heir, Kept::Beyond, &mut budget) != Some(true) || is_anothers(heir) {
                continue;
            }
            match self.is_kept_by(heir, &mut { LOOKED_AT_MAX }) {
                None | Some(Held::No) => {}
                Some(held) => return held,
            }
        }
        Held::No
    }

    /// Does it, or any other? A child that has it with close-on-exec may have been begun to write it, and then it does,
    /// sooner or later.
    pub fn is_written_beside(&self, process: u32, has_written: impl Fn(u32) -> bool) -> Held {
        if self.is_written_by(process) {
            return Held::Yes;
        }
        let mut held = Held::No;
        for holder in self.writers() {
            let passes = match self.is_kept_by(holder, &mut { LOOKED_AT_MAX }) {
                Some(Held::No) if is_executing(holder) => Held::ByOneWhoExecutes,
                Some(Held::No) => Held::ByOneWhoMayExecute,
                kept => kept.unwrap_or(Held::Yes),
            };
            if passes == Held::Yes || has_written(holder) || !is_begun_by(holder, process) {
                if exists(holder) {
                    return Held::Yes;
                }
            } else if held != Held::ByOneWhoExecutes {
                held = passes;
            }
        }
        held
    }

    /// Does it have it open, and keeps it when it executes a program? `None`: as below.
    fn is_kept_by(&self, process: u32, budget: &mut usize) -> Option<Held> {
        // What goes from one number to another may be seen at neither, but not twice.
        let is_seen = self.is_among(process, Kept::Beyond, budget)?
            || self.is_among(process, Kept::Beyond, &mut { LOOKED_AT_MAX }) == Some(true);
        if !is_seen {
            return Some(Held::No);
        }
        if !threads_of(process).any(|tid| Thread::of(tid).has_memory) {
            return Some(Held::ByOneWhoDies);
        }
        if is_executing(process) {
            return Some(Held::ByOneWhoExecutes);
        }
        // It may have been, at the first look, and be through with it. Then it is told now what it has kept.
        let keeps = self.is_among(process, Kept::Beyond, &mut { LOOKED_AT_MAX });
        Some(match keeps {
            Some(false) => Held::ByOneWhoExecutes,
            _ => Held::Yes,
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
        self.writers().next().is_some()
    }

    /// Those who have it open for writing.
    fn writers(&self) -> impl Iterator<Item = u32> {
        let mut budget = LOOKED_AT_OF_ALL_MAX;
        processes().filter(move |&process| {
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

/// Are there any that it has started? (There may be, if the kernel does not tell.)
pub fn has_children(process: u32) -> bool {
    children_of(process).is_none_or(|children| !children.is_empty())
}

/// It may have ended since it was looked at.
fn exists(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Has it started this one, or somebody who has?
fn is_begun_by(process: u32, ancestor: u32) -> bool {
    let ancestors = std::iter::successors(Some(process), |&process| Thread::of(process).parent);
    // Whoever goes up while others die may meet the same number again.
    ancestors
        .skip(1)
        .take(GENERATIONS_MAX)
        .any(|of| of == ancestor)
}

/// Those that a process has started, and whom they have started, as far as that can be told.
fn descendants_of(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    for at in 0..LOOKED_AT_MAX {
        let Some(&member) = family.get(at) else { break };
        family.extend(children_of(member).unwrap_or_default());
    }
    family.split_off(1)
}

/// Those that the threads of a process have started and that are there still. `None`: the kernel does not tell.
fn children_of(process: u32) -> Option<Vec<u32>> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Some(Vec::new());
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(told) => children.extend(told.split_ascii_whitespace().flat_map(str::parse::<u32>)),
            // It ended meanwhile.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(children)
}

/// Of a descriptor, what all of them tell, which comes first and in one piece.
fn beginning(info: &Path) -> io::Result<String> {
    let mut buffer = [0; 256];
    let length = File::open(info)?.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(flags: u64, exit_code: u64) -> String {
        stat_told(flags, exit_code, true)
    }

    fn stat_told(flags: u64, exit_code: u64, told: bool) -> String {
        let mut fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        fields[35 - 3] = u64::from(told).to_string();
        fields[9 - 3] = flags.to_string();
        fields[52 - 3] = exit_code.to_string();
        format!("7 (a ) b) {}", fields.join(" "))
    }

    #[test]
    fn a_death_is_read_from_the_flags_and_the_exit_code() {
        assert_eq!(fate_from_stat(&stat(0x400000, 0)), Fate::Alive);
        assert_eq!(
            fate_from_stat(&stat(0x400000, 9)),
            Fate::Alive,
            "not exiting yet"
        );
        assert_eq!(fate_from_stat(&stat(0x400004, 9)), Fate::Killed(9));
        assert_eq!(fate_from_stat(&stat(0x400404, 15)), Fate::Killed(15));
        assert_eq!(
            fate_from_stat(&stat(0x400004, 0x80 | 11)),
            Fate::Killed(11),
            "with a core dump"
        );
        assert_eq!(
            fate_from_stat(&stat(0x400404, 0)),
            Fate::Exiting(0),
            "PF_SIGNALED is set by exit() of several threads"
        );
        assert_eq!(fate_from_stat(&stat(0x400004, 768)), Fate::Exiting(3));
        assert_eq!(
            fate_from_stat(&stat(0x200004, 9)),
            Fate::Alive,
            "a kernel worker closed it"
        );
        assert_eq!(fate_from_stat("nonsense"), Fate::Alive);
        assert_eq!(fate_from_stat(&stat_told(0x400004, 0, false)), Fate::Untold);
    }

    #[test]
    fn what_ended_a_process_is_pending_still() {
        let pending = |pending| Signals {
            pending,
            ..Signals::default()
        };
        let (kill, term, chld) = (bit(libc::SIGKILL), bit(libc::SIGTERM), bit(libc::SIGCHLD));
        assert_eq!(pending(kill | chld).ended_by(), Some(9));
        assert_eq!(pending(term).ended_by(), Some(15));
        assert_eq!(pending(chld).ended_by(), None);
        let caught = Signals {
            caught: term,
            ..pending(term)
        };
        assert_eq!(caught.ended_by(), None);
    }

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
        // A child of another test may be executing just then.
        let told = |written: bool, held: Held| {
            (0..1000).any(|_| file.is_written_beside(parent, |p| written && p == us) == held)
        };
        assert!(told(true, Held::Yes));
        // Where the kernel does not tell who is whose child, it may be anybody's.
        assert!(told(false, Held::ByOneWhoMayExecute) || children_of(parent).is_none());
        drop(writer);
        let _reader = fs::File::open(&path).unwrap();
        assert!(!file.is_written_by(us));
        assert_eq!(Thread::of(us).process, Some(us));
        assert_eq!(Thread::of(us).fate(), Fate::Alive);
        assert!(!is_being_killed(us) && !is_being_interrupted(us));
    }

    #[test]
    fn what_a_thread_does_not_hear_does_not_interrupt_it() {
        let (int, quit, usr1) = (bit(libc::SIGINT), bit(libc::SIGQUIT), bit(libc::SIGUSR1));
        let pending = |pending| Signals {
            pending,
            ..Signals::default()
        };
        assert!(pending(int).interrupt() && !pending(int).kill());
        assert!(pending(quit).interrupt() && pending(quit).kill());
        assert!(!pending(usr1).interrupt() && !pending(usr1).kill());
        let blocked = Signals {
            blocked: int | quit,
            ..pending(int | quit)
        };
        assert!(!blocked.interrupt() && !blocked.kill());
        let ignored = Signals {
            ignored: int,
            ..pending(int)
        };
        assert!(!ignored.interrupt());
        let caught = Signals {
            caught: int | quit,
            ..pending(int | quit)
        };
        assert!(caught.interrupt() && !caught.kill());
        assert!(pending(bit(libc::SIGKILL)).kill());
    }
}
