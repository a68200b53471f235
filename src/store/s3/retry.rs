//! The one retry policy. The SDK's own is off: it would repeat Create after a lost answer.
//!
//! Invariants:
//! - At most `Limits::attempts` attempts; Create, Complete and Abort get exactly one. Where nobody takes a connection
//!   of a store that was there before (it is begun again), that is no attempt, until `Limits::request_timeout` has gone by.
//! - Between attempts: a random wait between nothing and a ceiling that doubles up to [`CAP`] (full
//!   jitter, so that many parts refused at once do not come back at once).
//! - A guarded put is repeated only when the failure says that it was probably not applied, and a
//!   condition that then fails is `Unknown`: what broke it may be our own earlier attempt.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::classify::{Came, Failure, Nature, Op};
use crate::random::random_u64;
use crate::store::{ErrorKind, Limits, Result};

const BASE: Duration = Duration::from_millis(100);
/// A store that asks for less is given more time.
const BASE_THROTTLED: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(5);
/// Who knocks is no burden, and wants to know soon that somebody is there again.
const CAP_NOWHERE: Duration = Duration::from_secs(1);

/// Calls `attempt` until it succeeds, fails for good, or the attempts are used up. `was_there`: this store has answered
/// before. `again` hears why it is called once more.
pub(in crate::store) async fn run<T, F, Fut>(
    limits: &Limits,
    op: Op,
    was_there: bool,
    again: impl Fn(ErrorKind),
    mut attempt: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = std::result::Result<T, Failure>>,
{
    let began = Instant::now();
    let (mut tried, mut knocked) = (0, 0);
    let mut maybe_applied = false;
    loop {
        let Failure { mut error, came } = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        if error.kind == ErrorKind::Conflict && op.nature == Nature::Guarded && maybe_applied {
            error.kind = ErrorKind::Unknown;
            error.message = format!("{} (perhaps by an earlier attempt of ours)", error.message);
            return Err(*error);
        }
        let is_away =
            was_there && came == Came::Nowhere && began.elapsed() < limits.request_timeout;
        let ceiling = if is_away {
            knocked += 1;
            ceiling(error.kind, knocked).min(CAP_NOWHERE)
        } else {
            tried += 1;
            if !worth_repeating(op.nature, error.kind) || tried >= limits.attempts.max(1) {
                return Err(*error);
            }
            ceiling(error.kind, tried)
        };
        maybe_applied |= came == Came::PerhapsThrough;
        again(error.kind);
        let wait = jittered(ceiling, random_u64());
        tracing::debug!(%error, tried, knocked, ?wait, "will be tried again");
        tokio::time::sleep(wait).await;
    }
}

pub(super) fn worth_repeating(nature: Nature, kind: ErrorKind) -> bool {
    match nature {
        Nature::Commit | Nature::Abort => false,
        Nature::Guarded => matches!(kind, ErrorKind::Throttled | ErrorKind::Transient),
        Nature::Read | Nature::Write => {
            matches!(
                kind,
                ErrorKind::Throttled | ErrorKind::Transient | ErrorKind::Unknown
            )
        }
    }
}

/// The longest wait after `tried` failed attempts.
pub(in crate::store) fn ceiling(kind: ErrorKind, tried: u32) -> Duration {
    let base = if kind == ErrorKind::Throttled {
        BASE_THROTTLED
    } else {
        BASE
    };
    base.saturating_mul(
        1u32.checked_shl(tried.saturating_sub(1))
            .unwrap_or(u32::MAX),
    )
    .min(CAP)
}

/// Somewhere between nothing and `ceiling`, as `random` says.
fn jittered(ceiling: Duration, random: u64) -> Duration {
    ceiling.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn failing(op: Op, kind: ErrorKind, came: Came) -> Failure {
        Failure {
            error: op.error(kind, "k", "Code", "message").into(),
            came,
        }
    }

    fn limits() -> Limits {
        Limits {
            request_timeout: Duration::from_secs(10),
            attempts: 3,
        }
    }

    /// Runs `op` against what `answers` says to each attempt: the outcome, the attempts made, and how long it took.
    fn play_long(
        op: Op,
        was_there: bool,
        answers: impl Fn(usize) -> Option<(ErrorKind, Came)>,
    ) -> (std::result::Result<(), ErrorKind>, usize, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(async {
            let (attempts, began) = (Cell::new(0), Instant::now());
            let attempt = || {
                let this = attempts.replace(attempts.get() + 1);
                let failure = answers(this).map(|(kind, came)| failing(op, kind, came));
                async move { failure.map_or(Ok(()), Err) }
            };
            let outcome = run(&limits(), op, was_there, |_| {}, attempt).await;
            let outcome = outcome.map_err(|e| e.kind);
            (outcome, attempts.get(), began.elapsed())
        })
    }

    /// Runs `op` against a script of failures, perhaps applied or not, and then success.
    fn play(op: Op, script: &[(ErrorKind, bool)]) -> (std::result::Result<(), ErrorKind>, usize) {
        let answers = |this: usize| {
            script.get(this).map(|&(kind, maybe)| {
                let came = if maybe {
                    Came::PerhapsThrough
                } else {
                    Came::ToNothing
                };
                (kind, came)
            })
        };
        let (outcome, attempts, _) = play_long(op, true, answers);
        (outcome, attempts)
    }

    /// Also what is sent once: it was not.
    #[test]
    fn a_store_that_is_away_for_a_moment_is_waited_for() {
        let nowhere = (ErrorKind::Transient, Came::Nowhere);
        for op in [
            Op::GET,
            Op::PUT_GUARDED,
            Op::CREATE,
            Op::COMPLETE,
            Op::ABORT,
        ] {
            // Seven times takes at most 6.5 s.
            let (outcome, attempts, _) = play_long(op, true, |n| (n < 7).then_some(nowhere));
            assert_eq!((outcome, attempts), (Ok(()), 8), "{}", op.name);
            // It was never there.
            let (outcome, attempts, _) = play_long(op, false, |n| (n < 7).then_some(nowhere));
            assert_eq!(outcome, Err(ErrorKind::Transient), "{}", op.name);
            assert!(attempts <= 3, "{}: {attempts}", op.name);
            // It does not come back.
            let (outcome, attempts, took) = play_long(op, true, |_| Some(nowhere));
            assert_eq!(outcome, Err(ErrorKind::Transient), "{}", op.name);
            assert!(attempts > 10, "{}: {attempts}", op.name);
            let (least, most) = (Duration::from_secs(10), Duration::from_secs(12));
            assert!((least..=most).contains(&took), "{}: {took:?}", op.name);
        }
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ms = |kind, tried| ceiling(kind, tried).as_millis();
        assert_eq!(ms(ErrorKind::Transient, 1), 100);
        assert_eq!(ms(ErrorKind::Transient, 2), 200);
        assert_eq!(ms(ErrorKind::Transient, 6), 3200);
        assert_eq!(ms(ErrorKind::Transient, 7), 5000);
        assert_eq!(ms(ErrorKind::Throttled, 1), 500);
        assert_eq!(ms(ErrorKind::Throttled, 4), 4000);
        for tried in [5, 31, 32, 33, 64, u32::MAX] {
            assert_eq!(ms(ErrorKind::Throttled, tried), 5000);
        }
    }

    #[test]
    fn jitter_stays_below_the_ceiling() {
        assert_eq!(jittered(CAP, 0), Duration::ZERO);
        assert_eq!(jittered(CAP, u64::MAX), CAP);
        assert!((0..100).all(|_| jittered(BASE, random_u64()) <= BASE));
        assert_ne!(random_u64(), random_u64());
    }

    #[test]
    fn harmless_calls_are_repeated() {
        use ErrorKind::*;
        assert_eq!(play(Op::GET, &[(Transient, true)]), (Ok(()), 2));
        assert_eq!(
            play(Op::PUT, &[(Unknown, true), (Transient, true)]),
            (Ok(()), 3)
        );
        assert_eq!(play(Op::PART, &[(Unknown, true); 9]), (Err(Unknown), 3));
        assert_eq!(play(Op::GET, &[(Missing, false)]), (Err(Missing), 1));
        assert_eq!(play(Op::GET, &[(Denied, false)]), (Err(Denied), 1));
    }

    #[test]
    fn commits_are_sent_once() {
        use ErrorKind::*;
        for op in [Op::CREATE, Op::COMPLETE, Op::ABORT] {
            for kind in [Transient, Throttled, Unknown] {
                assert_eq!(play(op, &[(kind, false)]), (Err(kind), 1), "{}", op.name);
            }
        }
    }

    #[test]
    fn a_guarded_put_does_not_mistake_itself_for_another() {
        use ErrorKind::*;
        let op = Op::PUT_GUARDED;
        assert_eq!(play(op, &[(Conflict, false)]), (Err(Conflict), 1));
        assert_eq!(
            play(op, &[(Transient, true), (Conflict, false)]),
            (Err(Unknown), 2)
        );
        assert_eq!(
            play(op, &[(Throttled, false), (Conflict, false)]),
            (Err(Conflict), 2)
        );
        assert_eq!(play(op, &[(Unknown, true)]), (Err(Unknown), 1));
    }
}
