//! Who feeds a program through a pipe, as tar feeds the compressor that it starts. When he is killed, the program sees an
//! end like any other, and closes in order what is only half.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::{Fate, Thread, fate_of_status, is_dead};
use super::told::told;

/// A parent with more descriptors than this is not looked through.
const DESCRIPTORS_MAX: usize = 1024;

/// Its first descriptors are what a program says and complains by, and no pipe that it has made for somebody.
const STANDARD: u32 = 2;

/// The process that has started another one, and writes into the pipe which that one reads.
#[derive(Debug)]
pub struct Feeder {
    pid: u32,
    /// It tells how the process has ended, also when nothing else of that is left.
    process: OwnedFd,
    pipe: PathBuf,
    /// Which of its descriptors writes into that.
    end: AtomicU32,
}

impl Feeder {
    /// Of a process whose standard input is a pipe of its parent's.
    pub fn of(process: u32) -> Option<Feeder> {
        let pipe = fs::read_link(format!("/proc/{process}/fd/0")).ok()?;
        if !pipe.as_os_str().as_encoded_bytes().starts_with(b"pipe:") {
            return None;
        }
        let pid = Thread::of(process).parent?;
        // SAFETY: it takes two numbers.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let opened = i32::try_from(opened).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: a new descriptor, and nobody else's.
        let parent = unsafe { OwnedFd::from_raw_fd(opened) };
        // Now that its number cannot be another's: is it still, and does it write?
        if Thread::of(process).parent != Some(pid) {
            return None;
        }
        let end = writing_end(pid, &pipe)?;
        Some(Feeder {
            pid,
            process: parent,
            pipe,
            end: AtomicU32::new(end),
        })
    }

    pub fn is(&self, other: &Feeder) -> bool {
        self.pid == other.pid
    }

    /// Has it anything more to say, or did it end before it had said all? (Who has closed the pipe has; so has who had it open
    /// only to give it on.)
    pub fn still_feeds(&self) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        if fs::read_link(format!("/proc/{}/fd/{end}", self.pid)).is_ok_and(|to| to == self.pipe) {
            return true;
        }
        if let Some(other) = writing_end(self.pid, &self.pipe) {
            self.end.store(other, Ordering::Relaxed);
            return true;
        }
        // Of one that ends nothing is to be seen any more.
        self.fate() != Fate::Alive
    }

    /// How it ends, or has ended. (Kernels before 6.15 forget that when it has been waited for.)
    pub fn fate(&self) -> Fate {
        match has_ended(&self.process) {
            false => Thread::of(self.pid).fate(),
            true => match self.status() {
                Some(status) => fate_of_status(status),
                None if is_dead(self.pid as i32) => Thread::of(self.pid).fate(),
                // Its number may be another's by now.
                None => Fate::Alive,
            },
        }
    }

    /// As wait(2) has it.
    fn status(&self) -> Option<u64> {
        let mut info = Info {
            mask: INFO_EXIT,
            ..Info::default()
        };
        // SAFETY: the kernel writes no more than the size that is in the number, which is this structure's.
        let done = unsafe { libc::ioctl(self.process.as_raw_fd(), GET_INFO, &raw mut info) };
        let is_told = done == 0 && info.mask & INFO_EXIT != 0;
        is_told.then_some(u64::from(info.exit_code))
    }
}

/// Linux: `struct pidfd_info`, in its first form.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    _cgroup: u64,
    _numbers: [u32; 11],
    exit_code: u32,
}

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const GET_INFO: libc::Ioctl =
    ((3u64 << 30) | ((size_of::<Info>() as u64) << 16) | (0xff << 8) | 11) as libc::Ioctl;

fn has_ended(process: &OwnedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure that lives for the call, which waits for nothing.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// The descriptor by which a process writes into a pipe.
fn writing_end(process: u32, pipe: &Path) -> Option<u32> {
    let place = PathBuf::from(format!("/proc/{process}"));
    let descriptors = fs::read_dir(place.join("fd")).ok()?.flatten();
    let numbers = descriptors.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut theirs = numbers.take(DESCRIPTORS_MAX).filter(|number| {
        let link = place.join(format!("fd/{number}"));
        *number > STANDARD && fs::read_link(link).is_ok_and(|to| to == pipe)
    });
    theirs.find(|number| {
        let info = told(place.join(format!("fdinfo/{number}"))).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    /// Starts a program that feeds a `cat`, and ends by `end` when it is told to; and looks who feeds the `cat`.
    fn fed(end: &str) -> (Feeder, std::process::Child) {
        let python = format!(
            "import os, subprocess, sys\n\
             child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\n\
             print(child.pid, flush=True)\n\
             sys.stdin.readline()\n{end}\n"
        );
        let mut parent = Command::new("python3")
            .args(["-c", &python])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let out = parent.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("a line");
        let feeder = Feeder::of(line.trim().parse().expect("a number"));
        (feeder.expect("it feeds"), parent)
    }

    #[test]
    fn who_feeds_is_known_and_how_he_ends_whether_he_is_waited_for_or_not() {
        use std::io::Write;
        for (end, expected) in [
            ("os.kill(os.getpid(), 9)", Fate::Killed(9)),
            ("os._exit(3)", Fate::Exiting(3)),
            ("os._exit(0)", Fate::Exiting(0)),
        ] {
            let (feeder, mut parent) = fed(end);
            assert_eq!(feeder.fate(), Fate::Alive);
            let mut stdin = parent.stdin.take().expect("a pipe");
            stdin.write_all(b"\n").expect("told");
            while !has_ended(&feeder.process) {
                std::thread::yield_now();
            }
            assert_eq!(feeder.fate(), expected, "not waited for: {end}");
            parent.wait().expect("waited for");
            // Older kernels do not tell any more, and say nothing wrong.
            let afterwards = feeder.fate();
            assert!(
                [expected, Fate::Alive].contains(&afterwards),
                "{afterwards:?}"
            );
        }
    }

    #[test]
    fn who_is_fed_by_nobody_has_no_feeder() {
        let mut child = Command::new("sleep")
            .arg("100")
            .stdin(Stdio::null())
            .spawn()
            .expect("it runs");
        assert!(Feeder::of(child.id()).is_none());
        child.kill().expect("killed");
        child.wait().expect("waited for");
    }
}
