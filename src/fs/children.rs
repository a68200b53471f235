//! The children of a directory by their names, which nobody keeps but the nodes themselves.
//!
//! Invariant: a node has no other name as long as it is in here; to get one it is taken out.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::node::Node;

#[derive(Default)]
pub struct Children(HashTable<Child>);

/// With the hash of its name: who looks for another, or makes room, has no need to look at the node.
struct Child {
    hash: u64,
    node: Arc<Node>,
}

impl Child {
    fn is_named(&self, hash: u64, name: &str) -> bool {
        self.hash == hash && self.node.with_name(|its| its == name)
    }
}

/// Names are others' to choose.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash(name: &str) -> u64 {
    HASHES.hash_one(name)
}

impl Children {
    pub const fn new() -> Children {
        Children(HashTable::new())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        let hash = hash(name);
        let child = self.0.find(hash, |child| child.is_named(hash, name));
        child.map(|child| &child.node)
    }

    /// Under the name it has, in the place of whatever has that.
    pub fn put(&mut self, name: &str, node: Arc<Node>) {
        let hash = hash(name);
        let same = |child: &Child| child.is_named(hash, name);
        match self.0.entry(hash, same, |child| child.hash) {
            Entry::Occupied(mut there) => there.get_mut().node = node,
            Entry::Vacant(free) => _ = free.insert(Child { hash, node }),
        }
    }

    /// Was it this one that had its name?
    pub fn take(&mut self, node: &Node) -> bool {
        let itself = |child: &Child| std::ptr::eq(&*child.node, node);
        let Ok(found) = self.0.find_entry(node.with_name(hash), itself) else {
            return false;
        };
        found.remove();
        // A directory that was large does not stay so.
        if self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2, |child| child.hash);
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
        self.0.iter().map(|child| &child.node)
    }
}
