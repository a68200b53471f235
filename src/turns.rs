//! One at a time of what has the same name: uploads of a key as long as they have no id of their own, questions
//! after a file.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Mutex as Gate, OwnedMutexGuard};

pub(crate) struct Turns<Name>(Mutex<HashMap<Name, Weak<Gate<()>>>>);

/// Nobody else of the name has one.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
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
        let gate = self.gate(name);
        Turn {
            _guard: gate.lock_owned().await,
        }
    }

    /// Has somebody his turn, or waits for it?
    pub(crate) fn are_taken(&self, name: &Name) -> bool {
        let gates = self.gates();
        let gate = gates.get(name);
        gate.is_some_and(|gate| gate.strong_count() > 0)
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Name, Weak<Gate<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate(&self, name: Name) -> Arc<Gate<()>> {
        let mut gates = self.gates();
        if let Some(gate) = gates.get(&name).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= SWEPT_AT.max(gates.capacity() / 2) {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(Gate::new(()));
        gates.insert(name, Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        drop(first);
        waiting.await;
        assert!(!turns.are_taken(&"a"));
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
