//! The order in which processes are begun, which tells who can have inherited what.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::process::{Thread, processes};
use super::told::told;

/// The kernel numbers processes one after the other and begins anew behind the last number: so many at once, and no faster than
/// so many a second.
const BEGUN_IN_A_SECOND: u32 = 20_000;

/// No more numbers than this are tried without asking which there are.
const TRIED_MAX: u32 = 32;

/// A moment in the order in which processes are begun: who was there before has inherited nothing that was opened after it.
#[derive(Debug)]
pub struct Beginning {
    /// `None`: the kernel does not tell.
    last: Option<u32>,
    at: Instant,
}

impl Beginning {
    pub fn now() -> Beginning {
        Beginning {
            last: last_begun(),
            at: Instant::now(),
        }
    }

    /// Does the kernel tell who was begun since? Where it does not, it may be anybody.
    pub(super) fn is_told(&self) -> bool {
        self.last.is_some()
    }

    /// All processes that were begun since, and maybe others.
    pub(super) fn begun_since(&self) -> Vec<u32> {
        let before_they_recur = Duration::from_secs(u64::from(numbers() / BEGUN_IN_A_SECOND));
        match (self.last, last_begun()) {
            (Some(last), Some(now)) if self.at.elapsed() < before_they_recur => {
                match now.checked_sub(last) {
                    Some(count) if count <= TRIED_MAX => {
                        // (Threads are numbered like them.)
                        let is_process = |&number: &u32| Thread::of(number).process == Some(number);
                        (last + 1..=now).filter(is_process).collect()
                    }
                    _ => processes().filter(|&p| is_between(p, last, now)).collect(),
                }
            }
            _ => processes().collect(),
        }
    }
}

/// Is it one that was given behind `last`, when `now` is what was given last?
fn is_between(number: u32, last: u32, now: u32) -> bool {
    match last <= now {
        true => last < number && number <= now,
        false => last < number || number <= now,
    }
}

fn last_begun() -> Option<u32> {
    let mut file = File::open("/proc/loadavg").ok()?;
    // Where a container is shown another file in its place, the number is another machine's.
    // SAFETY: numbers alone, of which zero is one.
    let mut place: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `place` takes the answer.
    let found = unsafe { libc::fstatfs(file.as_raw_fd(), &mut place) };
    if found != 0 || place.f_type != libc::PROC_SUPER_MAGIC {
        return None;
    }
    let mut told = String::new();
    file.read_to_string(&mut told).ok()?;
    told.split_ascii_whitespace().last()?.parse().ok()
}

/// How many numbers for processes there are.
fn numbers() -> u32 {
    static NUMBERS: OnceLock<u32> = OnceLock::new();
    *NUMBERS.get_or_init(|| {
        let most = told("/proc/sys/kernel/pid_max").ok();
        most.and_then(|most| most.trim().parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_anew_behind_the_last() {
        let between = |last, now| (0..10).filter(move |&n| is_between(n, last, now)).collect();
        let none: [u32; 0] = [];
        for (last, now, given) in [
            (3, 6, &[4, 5, 6][..]),
            (3, 3, &none),
            (7, 2, &[0, 1, 2, 8, 9]),
        ] {
            let told: Vec<u32> = between(last, now);
            assert_eq!(told, given, "{last} to {now}");
        }
    }

    #[test]
    fn who_is_begun_is_among_those_begun_since() {
        let before = Beginning::now();
        let mut child = std::process::Command::new("true").spawn().expect("begun");
        assert!(before.begun_since().contains(&child.id()));
        child.wait().expect("waited for");
        let unknown = Beginning {
            last: None,
            ..before
        };
        assert!(unknown.begun_since().contains(&std::process::id()));
    }
}
