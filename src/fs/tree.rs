//! The inodes the kernel knows, and where they are.
//!
//! Invariants:
//! - A node is found by its number as long as the kernel may name it, a draft is under way for it,
//!   or it has such children.
//! - An inode number is never given again in the life of a mount.
//! - Locks are taken top down (table, then one node's state, then places) and never across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::inodes::Inodes;
use super::node::{Kind, Name, Node, ROOT};
use crate::draft::Doom;
use crate::host;

pub struct Tree {
    nodes: Mutex<Inodes>,
    next: AtomicU64,
    /// Nodes that went since memory was last given back to the machine.
    gone: AtomicU64,
}

/// Memory is given back when so many nodes have gone, and as many as there still are.
const MANY: u64 = 1 << 15;

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    pub fn new() -> Tree {
        let root = Node::root(ROOT, Kind::Directory);
        root.lookups.store(1, Ordering::Relaxed);
        root.state().directory_mut().marker = true;
        let mut nodes = Inodes::default();
        nodes.put(root);
        Tree {
            nodes: Mutex::new(nodes),
            next: AtomicU64::new(ROOT + 1),
            gone: AtomicU64::new(0),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Inodes> {
        self.nodes.lock().expect("no panic while held")
    }

    pub fn get(&self, ino: u64) -> Option<Arc<Node>> {
        self.nodes().get(ino).cloned()
    }

    pub fn child(&self, parent: &Node, name: &str) -> Option<Arc<Node>> {
        let found = parent.state().directory().children.get(name).cloned()?;
        if found.state().name != Name::Lost {
            return Some(found);
        }
        // As whoever found that it lost its name is about to do.
        self.lose(parent, &found);
        None
    }

    /// Is it there, under the name it goes by?
    pub fn has(&self, parent: &Node, node: &Arc<Node>) -> bool {
        let child = self.child(parent, &node.name());
        child.is_some_and(|child| Arc::ptr_eq(&child, node))
    }

    pub fn children(&self, parent: &Node) -> Vec<Arc<Node>> {
        let state = parent.state();
        state.directory().children.iter().cloned().collect()
    }

    /// The child of that name and kind, made if need be. One of another kind is replaced. `None`: the name was
    /// taken away, and what the bucket still has of it is going.
    pub fn ensure(&self, parent: &Arc<Node>, name: &str, kind: Kind) -> Option<Arc<Node>> {
        let mut nodes = self.nodes();
        let mut state = parent.state();
        let directory = state.directory_mut();
        if directory.going.contains(name) {
            return None;
        }
        let children = &mut directory.children;
        if let Some(node) = children.get(name)
            && node.kind == kind
        {
            return Some(node.clone());
        }
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let node = Node::new(ino, kind, parent, name);
        nodes.put(node.clone());
        children.put(name, node.clone());
        Some(node)
    }

    /// The kernel was told of this node once more.
    pub fn remember(&self, node: &Arc<Node>) {
        let one_more = |times: u64| (times > 0).then_some(times + 1);
        let known = node
            .lookups
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if known.is_err() {
            // It may have been dropped from the table between its making and now.
            let mut nodes = self.nodes();
            node.lookups.fetch_add(1, Ordering::Relaxed);
            nodes.put(node.clone());
        }
    }

    /// The kernel forgot `count` of the times it was told.
    pub fn forget(&self, ino: u64, count: u64) {
        let Some(node) = self.get(ino) else { return };
        let before = node.lookups.fetch_sub(count, Ordering::Relaxed);
        assert!(
            before >= count,
            "the kernel forgets an inode more often than it was told of it"
        );
        if before == count {
            self.drop_if_idle(&node);
        }
    }

    /// Takes a name away: the node stays for those who have it open, and what they write to it stays with them.
    pub fn detach(&self, parent: &Node, node: &Node) {
        {
            let mut state = node.state();
            state.name = state.name.max(Name::Taken);
            if let Some(draft) = state.live_draft() {
                draft.abort(Doom::Unlinked);
            }
        }
        self.take_out(parent, node);
    }

    /// The same of a file that is deleted later: until it is gone, nothing has its name. (The node may be idle now.)
    pub fn detach_going(&self, parent: &Node, node: &Node) {
        let mut state = parent.state();
        let directory = state.directory_mut();
        directory.children.take(node);
        let is_first = directory.going.insert(node.name());
        assert!(is_first, "a name that is going is nobody's to take away");
    }

    fn take_out(&self, parent: &Node, node: &Node) {
        parent.state().directory_mut().children.take(node);
        self.drop_if_idle(node);
    }

    /// The same of a file that another client took away or replaced, or that was never published.
    pub fn lose(&self, parent: &Node, node: &Node) {
        node.state().name = Name::Lost;
        // Whose the name is now, no listing of before can tell.
        parent.state().doubt();
        self.take_out(parent, node);
    }

    /// Takes a node away that is not what it was taken for: its name leads to another one from now on.
    pub fn replace(&self, parent: &Node, node: &Node) {
        let mut state = parent.state();
        state.directory_mut().children.take(node);
        // Not because it is not there.
        state.doubt();
    }

    /// Gives a node, and with it all below it, another place. What was there is detached before.
    pub fn rename(&self, node: &Arc<Node>, from: &Node, to: &Arc<Node>, name: &str) {
        // Nobody makes one of that name meanwhile.
        let _nodes = self.nodes();
        from.state().directory_mut().children.take(node);
        let mut state = to.state();
        node.move_to(to, name);
        state.directory_mut().children.put(name, node.clone());
    }

    /// All that is known below a directory.
    pub fn below(&self, directory: &Node) -> Vec<Arc<Node>> {
        let mut found = self.children(directory);
        let mut at = 0;
        while at < found.len() {
            let children = self.children(&found[at]);
            found.extend(children);
            at += 1;
        }
        found
    }

    /// Drops what nobody can name any more: the kernel forgot it and nothing is being written.
    pub fn drop_if_idle(&self, node: &Node) {
        let mut at = node.ino;
        while at != ROOT {
            let mut nodes = self.nodes();
            let Some(node) = nodes.get(at).cloned() else {
                return;
            };
            {
                let state = node.state();
                if node.lookups.load(Ordering::Relaxed) > 0
                    || state.live_draft().is_some()
                    || !state.directory().is_idle()
                {
                    return;
                }
            }
            nodes.take(at);
            let above = node.above();
            if let Some(above) = &above {
                let mut state = above.state();
                if state.directory_mut().children.take(&node) {
                    // It may well be there, and nothing here knows of it any more.
                    state.doubt();
                }
                at = above.ino;
            }
            let left = nodes.len() as u64;
            drop(nodes);
            self.note_gone(left);
        }
    }

    /// What a million nodes took is in many small pieces, which the allocator keeps unless it is told.
    fn note_gone(&self, left: u64) {
        let gone = self.gone.fetch_add(1, Ordering::Relaxed) + 1;
        if gone >= left.max(MANY) {
            self.gone.store(0, Ordering::Relaxed);
            host::give_memory_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment::Moment;
    use super::*;

    fn made(tree: &Tree, parent: &Arc<Node>, name: &str, kind: Kind) -> Arc<Node> {
        tree.ensure(parent, name, kind)
            .expect("nobody took that name away")
    }

    #[test]
    fn a_directory_is_not_known_whole_once_the_kernel_has_forgotten_a_child() {
        let tree = Tree::new();
        let root = tree.get(ROOT).expect("the root");
        let child = made(&tree, &root, "child", Kind::File);
        tree.remember(&child);
        let doubts = root.state().directory().doubts;
        root.state().knows_all(Moment::now(), doubts);
        assert!(root.state().complete_for().is_some());
        tree.forget(child.ino, 1);
        assert!(tree.child(&root, "child").is_none());
        assert!(root.state().complete_for().is_none());
        // Nor by a listing that was begun before.
        root.state().knows_all(Moment::now(), doubts);
        assert!(root.state().complete_for().is_none());
    }

    #[test]
    fn all_below_a_directory_has_its_new_place_with_it() {
        let tree = Tree::new();
        let root = tree.get(ROOT).expect("the root");
        let [from, to] = ["from", "to"].map(|name| made(&tree, &root, name, Kind::Directory));
        let moved = made(&tree, &from, "moved", Kind::Directory);
        let file = made(&tree, &moved, "file", Kind::File);
        assert_eq!([&root, &moved].map(|node| node.key()), ["", "from/moved/"]);
        tree.rename(&moved, &from, &to, "new");
        assert_eq!(file.key(), "to/new/file");
        assert!(tree.child(&from, "moved").is_none());
        let found = tree
            .child(&to, "new")
            .and_then(|found| tree.child(&found, "file"));
        assert!(found.is_some_and(|found| Arc::ptr_eq(&found, &file)));
    }

    #[test]
    fn a_key_is_of_one_moment_whatever_is_renamed_meanwhile() {
        let tree = Tree::new();
        let root = tree.get(ROOT).expect("the root");
        let [a, b] = ["a1", "b"].map(|name| made(&tree, &root, name, Kind::Directory));
        let inner = made(&tree, &a, "inner", Kind::Directory);
        let file = made(&tree, &inner, "file", Kind::File);
        // `a2` has no `inner` in it, ever.
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    tree.rename(&inner, &a, &b, "inner");
                    tree.rename(&a, &root, &root, "a2");
                    tree.rename(&a, &root, &root, "a1");
                    tree.rename(&inner, &b, &a, "inner");
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                let key = file.key();
                assert!(key == "a1/inner/file" || key == "b/inner/file", "{key}");
            }
        });
    }

    #[test]
    fn a_name_that_is_going_is_nobodys_until_it_is_gone() {
        let tree = Tree::new();
        let root = tree.get(ROOT).expect("the root");
        let dir = made(&tree, &root, "dir", Kind::Directory);
        let file = made(&tree, &dir, "file", Kind::File);
        tree.detach_going(&dir, &file);
        assert!(tree.child(&dir, "file").is_none());
        for kind in [Kind::File, Kind::Directory, Kind::Symlink] {
            assert!(tree.ensure(&dir, "file", kind).is_none());
        }
        // The directory has to know, although the kernel has forgotten it.
        tree.drop_if_idle(&dir);
        assert!(tree.get(dir.ino).is_some());
        dir.state().gone(["file"].into_iter(), true);
        assert!(!Arc::ptr_eq(&made(&tree, &dir, "file", Kind::File), &file));
        assert!(dir.state().directory().unswept);
    }
}
