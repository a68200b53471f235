//! What a close means for the file. Pure: [`closing`](super::closing) looks at the processes, and here it is told
//! what their looks mean, and when to look again.
//!
//! Invariants:
//! - A verdict is there after [`EXECUTION_MAX`], whatever is seen.
//! - Nothing is committed while somebody was seen at the last look but one, unless the time is over.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::host::holders::Held;
use crate::host::process::Fate;

/// For how long a close waits for a process that is executing its program, which may wait for a slow disk or a busy machine,
/// and for one that may be about to, or may have been begun for something else; and how soon it looks again: later and later.
const EXECUTION_MAX: Duration = Duration::from_secs(5);
const BEGINNING_MAX: Duration = Duration::from_millis(500);
pub(super) const LOOK_AGAIN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(50);

/// What a close means for the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Publish before close() returns.
    Commit,
    /// Others have it open still: the release will publish it.
    Later,
    /// Whoever wrote it was killed.
    GiveUp(&'static str),
}

/// What is known of the process that closes a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closer {
    pub fate: Fate,
    /// It opened the file (or that cannot be told), wrote to it, or started who did.
    pub involved: bool,
    /// It closes it by executing another program. (Not asked of who is involved.)
    pub executes: bool,
}

/// What programs end with that were told to end by a signal (SIGHUP, SIGINT, SIGQUIT, SIGTERM) and see to that themselves, as a
/// JVM does: 128 and its number, as shells say it.
const TOLD_TO_END: [u8; 4] = [129, 130, 131, 143];

/// Was the writing cut short? Then nothing of it is published.
pub(super) fn cut_short(closer: Closer, abort_on_failure: bool) -> Option<&'static str> {
    match closer.fate {
        Fate::Killed(_) if closer.involved => Some("the program that wrote it was killed"),
        Fate::Exiting(code) if closer.involved && TOLD_TO_END.contains(&code) => {
            Some("the program that wrote it was told to end, and did not close it")
        }
        Fate::Exiting(code) if code != 0 && abort_on_failure && closer.involved => {
            Some("the program that wrote it failed without closing it")
        }
        _ => None,
    }
}

/// The verdict, but for the question whether somebody else has the file open, which costs a look
/// through /proc and is asked only when it matters.
fn verdict(closer: Closer, abort_on_failure: bool, still_open: impl FnOnce() -> bool) -> Verdict {
    if let Some(why) = cut_short(closer, abort_on_failure) {
        return Verdict::GiveUp(why);
    }
    // A process that has nothing to do with the bytes drops its copy of the descriptor.
    if let Fate::Killed(_) = closer.fate {
        return Verdict::Later;
    }
    // Nor does one that is given it for the moment between its beginning and its program: nobody waits for that close, and
    // whoever closes the file meanwhile waits for its end.
    if closer.executes && !closer.involved {
        return Verdict::Later;
    }
    // One copy of several (dup, `exec 3>f`, a parent that opened it for its child) ends nothing.
    if still_open() {
        Verdict::Later
    } else {
        Verdict::Commit
    }
}

/// The looks of one close at who else has the file open.
pub(super) struct Looks {
    closer: Closer,
    abort_on_failure: bool,
    /// What was seen last, and since when, from the beginning of the close.
    seen: Held,
    since: Duration,
}

/// What a look has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Over(Verdict),
    /// Some have it open for the moment alone.
    LookAgain(Duration),
}

impl Looks {
    pub(super) fn new(closer: Closer, abort_on_failure: bool) -> Looks {
        Looks {
            closer,
            abort_on_failure,
            seen: Held::No,
            since: Duration::ZERO,
        }
    }

    /// Looks once more, so long after the close began.
    pub(super) fn step(&mut self, at: Duration, look: impl FnOnce() -> Held) -> Step {
        let mut held = Held::No;
        let verdict = verdict(self.closer, self.abort_on_failure, || {
            held = look();
            held != Held::No
        });
        let patience = match held {
            Held::Yes => return Step::Over(verdict),
            Held::No if self.seen == Held::No => return Step::Over(verdict),
            // What goes from one number to another may be seen at neither: once more.
            Held::No | Held::ByOneWhoExecutes => EXECUTION_MAX,
            // If it has the file, its close says what becomes of that, and waits for nobody.
            Held::ByOneWhoDies => EXECUTION_MAX,
            // Whoever ends begins no program any more: what it has begun goes on without it.
            Held::ByOneWhoMayExecute if self.closer.fate != Fate::Alive => {
                return Step::Over(verdict);
            }
            Held::ByOneWhoMayExecute => BEGINNING_MAX,
        };
        if self.seen != held {
            (self.seen, self.since) = (held, at);
        }
        // Others may come, and others, without an end.
        let long = at - self.since;
        if long >= patience || at >= EXECUTION_MAX {
            return Step::Over(verdict);
        }
        Step::LookAgain((long / 4).clamp(*LOOK_AGAIN.start(), *LOOK_AGAIN.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_closer_and_descriptor_has_its_verdict() {
        let fates = [
            Fate::Alive,
            Fate::Exiting(0),
            Fate::Exiting(3),
            Fate::Exiting(128 + 9),
            Fate::Exiting(128 + 15),
            Fate::Killed(9),
            Fate::Killed(2),
        ];
        let mut tried = 0;
        for (n, fate) in (0..16).flat_map(|n| fates.map(|fate| (n, fate))) {
            let [involved, executes, on_failure, still_open] = [1, 2, 4, 8].map(|bit| n & bit != 0);
            let closer = Closer {
                fate,
                involved,
                executes,
            };
            let verdict = verdict(closer, on_failure, || still_open);
            let killed = matches!(fate, Fate::Killed(_));
            let failed = matches!(fate, Fate::Exiting(1..)) && on_failure;
            let killed = killed || involved && fate == Fate::Exiting(128 + 15);
            let passes_by = executes && !involved;
            if involved && (killed || failed) {
                assert!(matches!(verdict, Verdict::GiveUp(_)), "{closer:?}");
            } else if killed || passes_by || still_open {
                assert_eq!(verdict, Verdict::Later, "{closer:?}");
            } else {
                assert_eq!(verdict, Verdict::Commit, "{closer:?}");
            }
            tried += 1;
        }
        println!("{tried} closes");
    }

    const KINDS: [Held; 5] = [
        Held::No,
        Held::Yes,
        Held::ByOneWhoExecutes,
        Held::ByOneWhoMayExecute,
        Held::ByOneWhoDies,
    ];

    /// What is seen at the looks, one after the other; the last of it from then on. Answers how often it was looked.
    fn played(fate: Fate, sights: &[Held]) -> usize {
        let closer = Closer {
            fate,
            involved: true,
            executes: false,
        };
        let mut looks = Looks::new(closer, false);
        let (mut at, mut since, mut seen) = (Duration::ZERO, Duration::ZERO, Vec::new());
        let verdict = loop {
            let sight = sights[seen.len().min(sights.len() - 1)];
            if seen.last().is_none_or(|last| *last != sight) {
                since = at;
            }
            let step = looks.step(at, || sight);
            seen.push(sight);
            match step {
                Step::Over(verdict) => break verdict,
                Step::LookAgain(soon) => {
                    assert!(LOOK_AGAIN.contains(&soon), "{sights:?}");
                    at += soon;
                }
            }
        };
        let is_late = at >= EXECUTION_MAX;
        assert!(at <= EXECUTION_MAX + *LOOK_AGAIN.end(), "{sights:?}");
        let (last, before) = seen.split_last().expect("it was looked");
        assert!(!before.contains(&Held::Yes), "{sights:?}: it goes on");
        match verdict {
            Verdict::Commit => {
                assert_eq!(*last, Held::No, "{sights:?}");
                let is_settled = before.last().is_none_or(|sight| *sight == Held::No);
                assert!(is_settled || is_late, "{sights:?}: by one look");
            }
            Verdict::Later => {
                let is_sure = match last {
                    Held::No => false,
                    Held::Yes => true,
                    Held::ByOneWhoMayExecute => {
                        fate != Fate::Alive || at - since >= BEGINNING_MAX || is_late
                    }
                    Held::ByOneWhoExecutes | Held::ByOneWhoDies => is_late,
                };
                assert!(is_sure, "{sights:?}: {last:?} for {:?}", at - since);
            }
            Verdict::GiveUp(_) => panic!("{sights:?}: nobody was killed"),
        }
        seen.len()
    }

    #[test]
    fn whatever_is_seen_at_the_looks_of_a_close_it_ends_and_by_what_was_seen() {
        let (mut tried, mut most) = (0, 0);
        for fate in [Fate::Alive, Fate::Exiting(0), Fate::Exiting(1)] {
            for long in 1..=6 {
                for number in 0..KINDS.len().pow(long) {
                    let digit = |place| KINDS[number / KINDS.len().pow(place) % KINDS.len()];
                    let sights: Vec<Held> = (0..long).map(digit).collect();
                    most = most.max(played(fate, &sights));
                    tried += 1;
                }
            }
        }
        println!("{tried} orders of looks, at most {most} looks each");
    }
}
