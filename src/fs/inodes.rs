//! Nodes by their numbers. Numbers are given one after the other and never again, so those of a directory that
//! was listed lie side by side: they share a page, which goes with the last of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::Node;

/// A page is small enough that one node alone in it is no waste, and large enough that full ones cost
/// little more than their pointers.
const PAGE: usize = 32;

#[derive(Default)]
pub struct Inodes {
    pages: BTreeMap<u64, Page>,
    len: usize,
}

#[derive(Default)]
struct Page {
    nodes: Box<[Option<Arc<Node>>; PAGE]>,
    used: usize,
}

fn place(ino: u64) -> (u64, usize) {
    (ino / PAGE as u64, (ino % PAGE as u64) as usize)
}

impl Inodes {
    pub fn get(&self, ino: u64) -> Option<&Arc<Node>> {
        let (page, at) = place(ino);
        self.pages.get(&page)?.nodes[at].as_ref()
    }

    pub fn put(&mut self, node: Arc<Node>) {
        let (page, at) = place(node.ino);
        let page = self.pages.entry(page).or_default();
        if page.nodes[at].replace(node).is_none() {
            page.used += 1;
            self.len += 1;
        }
    }

    pub fn take(&mut self, ino: u64) -> Option<Arc<Node>> {
        let (number, at) = place(ino);
        let page = self.pages.get_mut(&number)?;
        let node = page.nodes[at].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(node)
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Kind;
    use super::*;

    #[test]
    fn what_was_put_is_found_until_it_is_taken_and_pages_go_with_their_nodes() {
        let mut inodes = Inodes::default();
        let numbers = || (1..1000u64).filter(|n| n % 3 != 0);
        for ino in numbers() {
            inodes.put(Node::root(ino, Kind::File));
            inodes.put(Node::root(ino, Kind::File));
        }
        assert_eq!(inodes.len(), numbers().count());
        for ino in 0..1100 {
            let there = ino < 1000 && ino % 3 != 0;
            assert_eq!(inodes.get(ino).map(|node| node.ino), there.then_some(ino));
        }
        for ino in numbers() {
            assert_eq!(inodes.take(ino).map(|node| node.ino), Some(ino));
            assert!(inodes.take(ino).is_none() && inodes.get(ino).is_none());
        }
        assert_eq!((inodes.len(), inodes.pages.len()), (0, 0));
    }
}
