//! The children of a directory by their names, which nobody keeps but the nodes themselves.
//!
//! Invariant: a node has no other name as long as it is in here; to get one it is taken out.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;

use super::node::Node;

#[derive(Default)]
pub struct Children(HashTable<Arc<Node>>);

/// Names are others' to choose.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash(name: &str) -> u64 {
    HASHES.hash_one(name)
}

fn hash_of(node: &Arc<Node>) -> u64 {
    node.with_name(hash)
}

impl Children {
    pub const fn new() -> Children {
        Children(HashTable::new())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.0
            .find(hash(name), |node| node.with_name(|its| its == name))
    }

    /// In the place of whatever has its name.
    pub fn put(&mut self, node: Arc<Node>) {
        let name = node.name();
        let same = |other: &Arc<Node>| other.with_name(|its| its == &*name);
        match self.0.entry(hash(&name), same, hash_of) {
            hashbrown::hash_table::Entry::Occupied(mut there) => *there.get_mut() = node,
            hashbrown::hash_table::Entry::Vacant(free) => _ = free.insert(node),
        }
    }

    /// Was it this one that had its name?
    pub fn take(&mut self, node: &Node) -> bool {
        let itself = |other: &Arc<Node>| std::ptr::eq(&**other, node);
        let Ok(found) = self.0.find_entry(node.with_name(hash), itself) else {
            return false;
        };
        found.remove();
        // A directory that was large does not stay so.
        if self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2, hash_of);
        }
        true
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.0.iter()
    }
}
