//! Scripted faults: which requests are to go wrong, and how.
//!
//! # Syntax
//!
//! A fault is written `SELECTOR:ACTION`, or `ACTION` alone for every request:
//!
//! ```text
//! n=3:drop-before
//! op=UploadPart,n=2:error=500
//! op=CompleteMultipartUpload:ok-with-error-body
//! key=foo,op=GetObject,n=1..:delay=2s
//! ```
//!
//! A selector is a comma-separated list of
//!
//! | part | selects |
//! |---|---|
//! | `op=NAME` | requests of that operation, by S3's name, in any case |
//! | `key=TEXT` | requests whose key contains TEXT (percent-encode `,` and `:`) |
//! | `n=3`, `n=3..5`, `n=3..` | of those the third; the third to the fifth; all from the third on |
//!
//! Counting begins when the fault is added; every fault counts for itself.
//!
//! | action | what happens |
//! |---|---|
//! | `delay=DURATION` | waits before anything else; `150ms`, `2s`, `1.5s`, `1m` |
//! | `error=STATUS`, `error=STATUS/Code` | an S3 error instead of the request being applied |
//! | `throttle` | `error=503/SlowDown` |
//! | `drop-before` | the connection is closed, the request not applied |
//! | `drop-after` | the request is applied, the connection closed without an answer |
//! | `ok-with-error-body`, `…=Code` | 200 with an `<Error>` document; not applied |
//! | `applied-error-body`, `…=Code` | the same, but applied |
//! | `trickle=BYTES` | applied; the answer's body is sent at so many bytes a second; `10`, `64K`, `1M` |
//! | `short-body` | applied; half of the answer's body is sent, then the connection closed |
//! | `hang-before`, `hang-after` | never answered; not applied, applied |
//! | `hold-before`, `hold-after` | waits until the fault is removed; then goes on, as if nothing was |
//! | `kill-before=PID` | SIGKILL to the process; not applied, connection closed |
//! | `kill-after=PID` | applied; SIGKILL to the process, connection closed |
//!
//! Instead of a PID, `target` means the process in [`Faults::target`], read when the fault fires.
//!
//! When several faults select the same request, all their delays and holds apply, and of the other
//! actions the one added first; those passed over count the request but do not fire.

use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// One scripted fault. Make it from text ([`std::str::FromStr`]) or field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub select: Select,
    pub action: Action,
}

/// Which requests. The default is every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    pub operation: Option<String>,
    /// A substring of the key.
    pub key: Option<String>,
    /// Of the requests so selected, the first that is meant, counted from 1.
    pub first: u64,
    /// The last that is meant.
    pub last: Option<u64>,
}

impl Default for Select {
    fn default() -> Select {
        Select {
            operation: None,
            key: None,
            first: 1,
            last: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Delay(Duration),
    Error {
        status: u16,
        code: Option<String>,
    },
    DropBefore,
    DropAfter,
    ErrorBody {
        code: String,
        applied: bool,
    },
    /// Bytes per second.
    Trickle(u64),
    ShortBody,
    HangBefore,
    HangAfter,
    HoldBefore,
    HoldAfter,
    KillBefore(Victim),
    KillAfter(Victim),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Pid(i32),
    /// Whatever [`Faults::target`] holds.
    Target,
}

impl Action {
    /// Whether others may still act on the same request.
    fn yields(&self) -> bool {
        matches!(
            self,
            Action::Delay(_) | Action::HoldBefore | Action::HoldAfter
        )
    }
}

impl Select {
    fn matches(&self, operation: &str, key: &str) -> bool {
        self.operation
            .as_ref()
            .is_none_or(|op| op.eq_ignore_ascii_case(operation))
            && self
                .key
                .as_ref()
                .is_none_or(|part| key.contains(part.as_str()))
    }

    fn means(&self, count: u64) -> bool {
        count >= self.first && self.last.is_none_or(|last| count <= last)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultId(u64);

struct Slot {
    id: FaultId,
    fault: Fault,
    seen: u64,
}

#[derive(Default)]
struct Script {
    slots: Vec<Slot>,
    /// How often each fault ever added has fired, by id.
    fired: Vec<u64>,
}

/// The faults of a server. Cheap to clone: clones share the script.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    /// The number of slots, to be asked without the lock.
    active: AtomicUsize,
    total: AtomicU64,
    target: Arc<AtomicI32>,
    /// Changes when faults are removed.
    removals: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            script: Mutex::default(),
            active: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            target: Arc::default(),
            removals: watch::Sender::new(0),
        }
    }
}

/// What is to happen to one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub delay: Duration,
    pub hold_before: Vec<FaultId>,
    pub hold_after: Vec<FaultId>,
    pub action: Option<Action>,
    /// The faults that fired, as text.
    pub fired: Option<String>,
}

impl Faults {
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut script = self.lock();
        let id = FaultId(script.fired.len() as u64);
        script.fired.push(0);
        script.slots.push(Slot { id, fault, seen: 0 });
        self.shared
            .active
            .store(script.slots.len(), Ordering::Relaxed);
        id
    }

    /// Adds the fault that `text` describes; the syntax is in the module's documentation.
    pub fn script(&self, text: &str) -> Result<FaultId, String> {
        Ok(self.add(text.parse()?))
    }

    /// Removes the fault and lets go what it holds.
    pub fn remove(&self, id: FaultId) {
        self.retain(|slot| slot.id != id);
    }

    pub fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl FnMut(&Slot) -> bool) {
        let mut script = self.lock();
        script.slots.retain(keep);
        self.shared
            .active
            .store(script.slots.len(), Ordering::Relaxed);
        drop(script);
        self.shared.removals.send_modify(|version| *version += 1);
    }

    /// How often the fault has fired, also after it was removed.
    pub fn fired(&self, id: FaultId) -> u64 {
        self.lock().fired.get(id.0 as usize).copied().unwrap_or(0)
    }

    pub fn fired_total(&self) -> u64 {
        self.shared.total.load(Ordering::Relaxed)
    }

    /// The process `kill-…=target` kills; 0 is none.
    pub fn target(&self) -> &Arc<AtomicI32> {
        &self.shared.target
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.shared
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the request with every fault and says what is to happen to it.
    pub(super) fn judge(&self, operation: &str, key: &str) -> Verdict {
        let mut verdict = Verdict::default();
        if self.shared.active.load(Ordering::Relaxed) == 0 {
            return verdict;
        }
        let mut script = self.lock();
        let Script { slots, fired } = &mut *script;
        for slot in slots {
            if !slot.fault.select.matches(operation, key) {
                continue;
            }
            slot.seen += 1;
            let action = &slot.fault.action;
            let passed_over = verdict.action.is_some() && !action.yields();
            if !slot.fault.select.means(slot.seen) || passed_over {
                continue;
            }
            match action {
                Action::Delay(time) => verdict.delay += *time,
                Action::HoldBefore => verdict.hold_before.push(slot.id),
                Action::HoldAfter => verdict.hold_after.push(slot.id),
                other => verdict.action = Some(other.clone()),
            }
            if let Some(count) = fired.get_mut(slot.id.0 as usize) {
                *count += 1;
            }
            self.shared.total.fetch_add(1, Ordering::Relaxed);
            let text = slot.fault.to_string();
            verdict.fired = Some(match verdict.fired.take() {
                Some(before) => format!("{before} {text}"),
                None => text,
            });
        }
        verdict
    }

    /// Returns when none of the faults is there any more.
    pub(super) async fn until_removed(&self, ids: &[FaultId]) {
        let mut removals = self.shared.removals.subscribe();
        while self.lock().slots.iter().any(|slot| ids.contains(&slot.id)) {
            if removals.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sends SIGKILL. A victim of 1 or less is nobody: those numbers address init, the process
    /// group, or everybody.
    pub(super) fn kill(&self, victim: Victim) {
        let pid = match victim {
            Victim::Pid(pid) => pid,
            Victim::Target => self.shared.target.load(Ordering::SeqCst),
        };
        if pid <= 1 {
            tracing::warn!(pid, "a kill fault without a process to kill");
            return;
        }
        // SAFETY: plain system call on numbers.
        if unsafe { libc::kill(pid, libc::SIGKILL) } != 0 {
            let error = std::io::Error::last_os_error();
            tracing::warn!(pid, %error, "a kill fault could not kill");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn faults(texts: &[&str]) -> (Faults, Vec<FaultId>) {
        let faults = Faults::default();
        let ids = texts
            .iter()
            .map(|text| faults.script(text).unwrap())
            .collect();
        (faults, ids)
    }

    /// For which of the requests does anything happen?
    fn hits(faults: &Faults, requests: &[(&str, &str)]) -> Vec<bool> {
        requests
            .iter()
            .map(|(op, key)| faults.judge(op, key).fired.is_some())
            .collect()
    }

    #[test]
    fn selection_counts_only_what_matches() {
        let requests = [
            ("GetObject", "foo"),
            ("PutObject", "foo"),
            ("GetObject", "bar/foo2"),
            ("GetObject", "bar"),
            ("GetObject", "xfoo"),
        ];
        for (text, expected) in [
            ("drop-before", [true; 5]),
            ("n=2:drop-before", [false, true, false, false, false]),
            (
                "op=getobject,n=2:drop-before",
                [false, false, true, false, false],
            ),
            (
                "key=foo,n=2..3:drop-before",
                [false, true, true, false, false],
            ),
            (
                "key=foo,op=GetObject,n=2..:drop-before",
                [false, false, true, false, true],
            ),
            ("op=PutObject,key=bar:drop-before", [false; 5]),
        ] {
            let (faults, ids) = faults(&[text]);
            assert_eq!(hits(&faults, &requests), expected, "{text}");
            let count = expected.iter().filter(|hit| **hit).count() as u64;
            assert_eq!(
                (faults.fired(ids[0]), faults.fired_total()),
                (count, count),
                "{text}"
            );
        }
    }

    #[test]
    fn delays_add_up_and_the_first_other_action_wins() {
        let (faults, ids) = faults(&["delay=1s", "error=500", "delay=2s", "n=1..2:drop-after"]);
        let verdict = faults.judge("GetObject", "k");
        assert_eq!(verdict.delay, Duration::from_secs(3));
        assert_eq!(
            verdict.action,
            Some(Action::Error {
                status: 500,
                code: None
            })
        );
        assert_eq!(
            verdict.fired.as_deref(),
            Some("delay=1s error=500 delay=2s")
        );
        assert_eq!(faults.fired(ids[3]), 0);
        faults.remove(ids[1]);
        assert_eq!(
            faults.judge("GetObject", "k").action,
            Some(Action::DropAfter)
        );
        // The request on which it was passed over has counted.
        assert_eq!(faults.judge("GetObject", "k").action, None);
        assert_eq!(faults.fired(ids[1]), 1, "removed faults keep their count");
        faults.clear();
        assert_eq!(faults.judge("GetObject", "k"), Verdict::default());
    }

    #[test]
    fn counting_begins_with_the_fault() {
        let (faults, _) = faults(&["n=9:throttle"]);
        assert_eq!(hits(&faults, &[("GetObject", "k")]), [false]);
        faults.script("n=1:throttle").unwrap();
        assert_eq!(hits(&faults, &[("GetObject", "k")]), [true]);
    }

    #[tokio::test]
    async fn a_hold_ends_with_its_fault() {
        let (faults, ids) = faults(&["hold-before", "delay=1s"]);
        let held = faults.judge("GetObject", "k").hold_before;
        assert_eq!(held, [ids[0]]);
        let mut waiting = Box::pin(faults.until_removed(&held));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        faults.remove(ids[1]);
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        faults.remove(ids[0]);
        waiting.await;
    }

    #[test]
    fn nobody_is_killed_by_numbers_that_mean_everybody() {
        // Were this sent, this very process would be gone.
        let faults = Faults::default();
        for pid in [0, 1, -1, i32::MIN] {
            faults.kill(Victim::Pid(pid));
        }
        faults.kill(Victim::Target);
    }
}
