//! The signals that are on their way to a thread: whether it has been killed, or is to be interrupted.

use super::process;
use super::told::told;

/// Has the thread been killed while it waits for us? Then nobody waits for the answer.
pub fn is_being_killed(tid: u32) -> bool {
    Signals::of(tid).is_some_and(|signals| signals.kill())
}

/// Has the thread been killed, or is it to be told something that ends most programs (Ctrl-C…), and would
/// hear it if it did not wait for us?
pub fn is_being_interrupted(tid: u32) -> bool {
    Signals::of(tid).is_some_and(|signals| signals.kill() || signals.interrupt())
}

/// The same of pages that are read ahead on a thread's behalf: it does not wait for that answer itself, and may be gone
/// meanwhile, while others wait for the same pages.
pub fn is_being_interrupted_or_gone(tid: u32) -> bool {
    is_being_interrupted(tid) || !process::exists(tid)
}

/// What is on its way to a thread, and what it makes of it: sets of bits.
#[derive(Debug, Default)]
pub(super) struct Signals {
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
    pub(super) fn of(tid: u32) -> Option<Signals> {
        let status = told(format!("/proc/{tid}/status")).ok()?;
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
    pub(super) fn ended_by(&self) -> Option<u8> {
        let deadly = self.pending & bit(libc::SIGKILL) | self.heard() & !self.caught & !HARMLESS;
        (deadly != 0).then(|| deadly.trailing_zeros() as u8 + 1)
    }

    fn heard(&self) -> u64 {
        self.pending & !self.blocked & !self.ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
