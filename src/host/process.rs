//! What the machine tells of the processes that use the mount. Everything here is best effort: what
//! cannot be read is unknown, and unknown counts as alive and well.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::signals::Signals;
use super::told::told;

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
    pub(super) has_memory: bool,
    /// What it has open is there to be seen.
    pub(super) has_files: bool,
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
        let status = told(format!("/proc/{tid}/status")).unwrap_or_default();
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
        let ended =
            told(format!("/proc/{tid}/stat")).map_or(Fate::Alive, |stat| fate_from_stat(&stat));
        match ended {
            Fate::Untold => Signals::of(tid)
                .and_then(|signals| signals.ended_by())
                .map_or(Fate::Exiting(0), Fate::Killed),
            ended => ended,
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
    match code {
        0 if field(35) == Some(0) => Fate::Untold,
        code => fate_of_status(code),
    }
}

/// Of a status as wait(2) has it.
pub(super) fn fate_of_status(status: u64) -> Fate {
    match status & 0x7f {
        0 => Fate::Exiting((status >> 8) as u8),
        signal => Fate::Killed(signal as u8),
    }
}

/// The processes that have something open below a path, or work there: their numbers and names.
pub fn users_of(path: &Path) -> Vec<(u32, String)> {
    let mut users: Vec<(u32, String)> = processes()
        .filter(|pid| uses(*pid, path))
        .map(|pid| {
            let name = told(format!("/proc/{pid}/comm")).unwrap_or_default();
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

/// No further is asked who has begun a process.
const GENERATIONS_MAX: usize = 64;
/// Nor are more looked for whom it has begun.
const DESCENDANTS_MAX: usize = 2048;

/// All that there are.
pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(super) fn threads_of(process: u32) -> impl Iterator<Item = u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let entries = threads.into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Is it in the middle of execve(2)? Then it has no arguments yet. (Its own way of telling, /proc/TID/syscall, waits for the
/// end of that.)
pub(super) fn is_executing(tid: u32) -> bool {
    let arguments = File::open(format!("/proc/{tid}/cmdline"));
    let has_none = arguments.is_ok_and(|mut file| file.read(&mut [0]).is_ok_and(|read| read == 0));
    // One that dies has none either, and no memory.
    has_none && Thread::of(tid).has_memory
}

/// Are there any that it has started? (There may be, if the kernel does not tell.)
pub fn has_children(process: u32) -> bool {
    children_of(process).is_none_or(|children| !children.is_empty())
}

/// It may have ended since it was looked at.
pub(super) fn exists(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Has its first thread ended, which a signal that kills it does whatever the others wait for?
pub(super) fn is_dead(process: i32) -> bool {
    let stat = told(format!("/proc/{process}/stat"));
    let state = |stat: String| Some(stat.rsplit_once(')')?.1.trim_start().starts_with('Z'));
    stat.ok().and_then(state).unwrap_or(false)
}

/// Has it started this one, or somebody who has?
pub(super) fn is_begun_by(process: u32, ancestor: u32) -> bool {
    line_of(process).skip(1).any(|of| of == ancestor)
}

/// A process, who has started it, who has started him, and so on.
pub(super) fn line_of(process: u32) -> impl Iterator<Item = u32> {
    let line = std::iter::successors(Some(process), |&process| Thread::of(process).parent);
    // Whoever goes up while others die may meet the same number again.
    line.take(1 + GENERATIONS_MAX)
}

/// Those that a process has started, and whom they have started, as far as that can be told.
pub(super) fn descendants_of(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    for at in 0..DESCENDANTS_MAX {
        let Some(&member) = family.get(at) else { break };
        family.extend(children_of(member).unwrap_or_default());
    }
    family.split_off(1)
}

/// Those that the threads of a process have started and that are there still. `None`: the kernel does not tell.
pub(super) fn children_of(process: u32) -> Option<Vec<u32>> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Some(Vec::new());
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match told(thread.path().join("children")) {
            Ok(told) => children.extend(told.split_ascii_whitespace().flat_map(str::parse::<u32>)),
            // It ended meanwhile.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(children)
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
}
