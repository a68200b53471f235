//! Who changes something, and who gives it, or a directory above it, another name. A rename copies
//! what is there and below from key to key: what changed meanwhile would keep its old key, or would be there again. So
//! the changes below wait for its end, and it waits for those that began before it.
//!
//! Invariants:
//! - Whoever makes, changes or removes a name or an object, or begins a draft, has a [`Passage`] there, from
//!   before he looks until it is done; of a draft, until it is there to be found.
//! - A [`Standstill`] begins when nobody has a passage there or below, nor another standstill of the same, and
//!   nobody gets one as long as it lasts.
//! - Who has a passage waits for no other: those for two directories are given in one step, and one is taken
//!   before anything else that somebody might have to wait for. So a standstill comes about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::node::Node;

#[derive(Default)]
pub struct Passages {
    state: Mutex<State>,
    /// A passage or a standstill has ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    passing: HashMap<u64, Arc<Node>>,
    /// In the order in which they came: their numbers, and what stands still.
    still: Vec<(u64, u64)>,
}

impl State {
    fn is_still(&self, node: &Arc<Node>) -> bool {
        let is_still = |ino| self.still.iter().any(|(_, still)| *still == ino);
        !self.still.is_empty() && lineage(node).any(|at| is_still(at.ino))
    }

    fn is_passed(&self, ino: u64) -> bool {
        let mut passing = self.passing.values();
        passing.any(|node| lineage(node).any(|at| at.ino == ino))
    }

    /// Is it the turn of the standstill of this number?
    fn is_first(&self, number: u64, ino: u64) -> bool {
        let mut its = self.still.iter().filter(|(_, still)| *still == ino);
        its.next().is_some_and(|(first, _)| *first == number)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A node, and the directories above it.
fn lineage(node: &Arc<Node>) -> impl Iterator<Item = Arc<Node>> {
    std::iter::successors(Some(node.clone()), |node| node.above())
}

/// As long as it is held, neither this nor a directory around is renamed.
#[must_use]
pub struct Passage {
    passages: Arc<Passages>,
    numbers: Vec<u64>,
}

/// As long as it is held, nothing changes about a node, in it and below.
#[must_use]
pub struct Standstill {
    passages: Arc<Passages>,
    number: u64,
}

impl Passages {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is torn when a holder panics: its changes are single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change something about these, or in them.
    pub async fn enter<const N: usize>(self: &Arc<Self>, nodes: [&Arc<Node>; N]) -> Passage {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if !nodes.iter().any(|node| state.is_still(node)) {
                    let numbers = nodes.map(|node| {
                        let number = state.number();
                        state.passing.insert(number, node.clone());
                        number
                    });
                    return Passage {
                        passages: self.clone(),
                        numbers: numbers.into(),
                    };
                }
            }
            changed.await;
        }
    }

    /// Of what is not above anything its caller has a passage for.
    pub async fn stand_still(self: &Arc<Self>, node: &Node) -> Standstill {
        let number = {
            let mut state = self.state();
            let number = state.number();
            state.still.push((number, node.ino));
            number
        };
        // Given up when the caller is.
        let standstill = Standstill {
            passages: self.clone(),
            number,
        };
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if state.is_first(number, node.ino) && !state.is_passed(node.ino) {
                    return standstill;
                }
            }
            changed.await;
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let ended: Vec<_> = {
            let mut state = self.passages.state();
            let numbers = self.numbers.iter();
            numbers.map(|number| state.passing.remove(number)).collect()
        };
        // A node that nobody else has any more ends outside of the lock.
        drop(ended);
        self.passages.changed.notify_waiters();
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        {
            let mut state = self.passages.state();
            let its = |(number, _): &(u64, u64)| *number == self.number;
            let its = state.still.iter().position(its);
            state
                .still
                .remove(its.expect("it stands still as long as this is held"));
        }
        self.passages.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::Kind;
    use super::super::tree::Tree;
    use super::*;

    fn node(tree: &Tree, parent: &Arc<Node>, name: &str, kind: Kind) -> Arc<Node> {
        tree.ensure(parent, name, kind).expect("a free name")
    }

    #[test]
    fn a_standstill_waits_for_those_below_and_holds_them_up_and_nobody_else() {
        let tree = Tree::new();
        let root = tree.get(super::super::ROOT).expect("the root");
        let moved = node(&tree, &root, "moved", Kind::Directory);
        let below = node(&tree, &moved, "below", Kind::Directory);
        let file = node(&tree, &below, "file", Kind::File);
        let other = node(&tree, &root, "moved-too", Kind::Directory);
        let passages = Arc::new(Passages::default());
        for inside in [&moved, &below, &file] {
            let passage = passages.enter([inside]).now_or_never().expect("free");
            let elsewhere = passages.enter([&root, &other]).now_or_never();
            let mut standstill = std::pin::pin!(passages.stand_still(&moved));
            assert!(standstill.as_mut().now_or_never().is_none(), "it waits");
            // From here on nobody gets in, though it is not still yet.
            let late = passages.enter([&below]).now_or_never();
            assert!(late.is_none(), "somebody got in");
            drop(passage);
            let standstill = standstill
                .now_or_never()
                .expect("those outside do not count");
            let mut both = std::pin::pin!(passages.enter([&other, inside]));
            assert!(both.as_mut().now_or_never().is_none(), "one of two is held");
            // Nothing is held by who waits for two.
            let of_other = passages.stand_still(&other).now_or_never();
            assert_eq!(of_other.is_some(), elsewhere.is_none());
            drop((of_other, elsewhere));
            let of_other = passages.stand_still(&other).now_or_never();
            drop(of_other.expect("nobody is there"));
            drop(standstill);
            drop(both.now_or_never().expect("both are free"));
        }
        let state = passages.state();
        assert!(state.passing.is_empty() && state.still.is_empty());
    }

    #[test]
    fn standstills_of_one_come_one_after_another() {
        let tree = Tree::new();
        let root = tree.get(super::super::ROOT).expect("the root");
        let moved = node(&tree, &root, "moved", Kind::Directory);
        let passages = Arc::new(Passages::default());
        let first = passages.stand_still(&moved).now_or_never();
        let mut second = std::pin::pin!(passages.stand_still(&moved));
        let mut third = std::pin::pin!(passages.stand_still(&moved));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "the second's turn");
        drop(second.now_or_never().expect("its turn"));
        drop(third.now_or_never().expect("its turn"));
    }

    #[test]
    fn who_gives_up_waiting_leaves_nothing_behind() {
        let tree = Tree::new();
        let root = tree.get(super::super::ROOT).expect("the root");
        let moved = node(&tree, &root, "moved", Kind::Directory);
        let passages = Arc::new(Passages::default());
        let passage = passages.enter([&moved]).now_or_never();
        assert!(passages.stand_still(&moved).now_or_never().is_none());
        drop(passage);
        assert!(passages.enter([&moved]).now_or_never().is_some());
    }
}
