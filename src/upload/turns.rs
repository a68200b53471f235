//! One at a time for each key: between an upload's Begin and the moment its id is known, the upload has
//! no name, and two nameless uploads of one key could not be told apart when their Creates are lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Gate, OwnedMutexGuard};

#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<Gate<()>>>>);

/// Held while an upload has no name.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// How many keys are remembered before those that nobody waits for are looked for.
const SWEPT_AT: usize = 64;

impl Turns {
    /// In the order in which they ask.
    pub(crate) async fn take(&self, key: &str) -> Turn {
        let gate = self.gate(key);
        Turn {
            _guard: gate.lock_owned().await,
        }
    }

    fn gate(&self, key: &str) -> Arc<Gate<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(key).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= SWEPT_AT.max(gates.capacity() / 2) {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(Gate::new(()));
        gates.insert(key.to_string(), Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_held_by_one_and_others_are_free() {
        let turns = Turns::default();
        let first = turns.take("a").await;
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
    }

    #[tokio::test]
    async fn what_nobody_holds_is_forgotten() {
        let turns = Turns::default();
        for n in 0..10_000 {
            turns.take(&n.to_string()).await;
        }
        let kept = turns.0.lock().expect("no panic").len();
        assert!(kept < 1000, "{kept} keys are kept");
    }
}
