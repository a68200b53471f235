//! One at a time of what has the same name: uploads of a key as long as they have no id of their own, questions
//! after a file.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, OwnedMutexGuard};

use crate::pauses;

pub(crate) struct Turns<Name>(Mutex<HashMap<Name, Weak<Gate>>>);

#[derive(Default)]
struct Gate {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Those who have their turn or wait for it.
    takers: AtomicUsize,
    /// There are none any more.
    free: Notify,
}

/// Nobody else of the name has one.
pub(crate) struct Turn {
    // In this order: who is told that there are no takers finds the turn given back.
    _guard: OwnedMutexGuard<()>,
    _taker: Taker,
}

struct Taker(Arc<Gate>);

impl Taker {
    fn at(gate: Arc<Gate>) -> Taker {
        gate.takers.fetch_add(1, Ordering::AcqRel);
        Taker(gate)
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        if self.0.takers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.free.notify_waiters();
        }
    }
}

impl<Name> Default for Turns<Name> {
    fn default() -> Turns<Name> {
        Turns(Mutex::default())
    }
}

/// How many names are remembered before those that nobody waits for are looked for.
const SWEPT_AT: usize = 64;

impl<Name: Eq + Hash> Turns<Name> {
    /// In the order in which they ask.
    pub(crate) async fn take(&self, name: Name) -> Turn {
        let taker = Taker::at(self.gate(name));
        pauses::may_pause();
        Turn {
            _guard: taker.0.turn.clone().lock_owned().await,
            _taker: taker,
        }
    }

    /// If nobody has one.
    pub(crate) fn try_take(&self, name: Name) -> Option<Turn> {
        let taker = Taker::at(self.gate(name));
        let guard = taker.0.turn.clone().try_lock_owned().ok()?;
        Some(Turn {
            _guard: guard,
            _taker: taker,
        })
    }

    /// Has somebody his turn, or waits for it?
    pub(crate) fn are_taken(&self, name: &Name) -> bool {
        let gate = self.gates().get(name).and_then(Weak::upgrade);
        gate.is_some_and(|gate| gate.is_taken())
    }

    /// Until nobody has. Who waits so is in nobody's way.
    pub(crate) async fn until_free(&self, name: &Name) {
        let gate = self.gates().get(name).and_then(Weak::upgrade);
        let Some(gate) = gate else { return };
        loop {
            let free = gate.free.notified();
            if !gate.is_taken() {
                return;
            }
            free.await;
        }
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Name, Weak<Gate>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self, name: Name) -> Arc<Gate> {
        let mut gates = self.gates();
        if let Some(gate) = gates.get(&name).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= SWEPT_AT.max(gates.capacity() / 2) {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(Gate::default());
        gates.insert(name, Arc::downgrade(&gate));
        gate
    }
}

impl Gate {
    fn is_taken(&self) -> bool {
        self.takers.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_name_is_held_by_one_and_others_are_free() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        assert!(turns.are_taken(&"a") && !turns.are_taken(&"b"));
        let _other = turns.take("b").await;
        let waiting = turns.take("a");
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it is held"),
            () = std::future::ready(()) => {}
        }
        assert!(turns.try_take("a").is_none() && turns.try_take("c").is_some());
        drop(first);
        waiting.await;
        assert!(!turns.are_taken(&"a"));
    }

    #[tokio::test]
    async fn who_waits_until_it_is_free_does_not_take_it() {
        let turns = Turns::default();
        turns.until_free(&"a").await;
        let first = turns.take("a").await;
        let (mut one, mut other) = (
            Box::pin(turns.until_free(&"a")),
            Box::pin(turns.until_free(&"a")),
        );
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        let second = turns.take("a");
        let mut second = Box::pin(second);
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(
            (&mut one).now_or_never().is_none(),
            "somebody waits for his turn"
        );
        drop(second.await);
        assert!(!turns.are_taken(&"a"), "those who only wait do not count");
        one.await;
        other.await;
    }

    #[tokio::test]
    async fn what_nobody_holds_is_forgotten() {
        let turns = Turns::default();
        for n in 0..10_000 {
            turns.take(n).await;
        }
        let kept = turns.0.lock().expect("no panic").len();
        assert!(kept < 1000, "{kept} names are kept");
    }
}
