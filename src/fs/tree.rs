//! The inodes the kernel knows, and what we know of each: its object, its draft, its children.
//!
//! Invariants:
//! - A node is found by its number as long as the kernel may name it, a draft is under way for it,
//!   or it has such children.
//! - An inode number is never given again in the life of a mount.
//! - Locks are taken top down (table, then one node's state, then a place) and never across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant, SystemTime};

use crate::draft::{Draft, Version};
use crate::store::{Archive, Attributes, ETag, ObjectInfo};

pub const ROOT: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
}

pub struct Node {
    pub ino: u64,
    pub kind: Kind,
    place: RwLock<Place>,
    lookups: AtomicU64,
    state: Mutex<State>,
    /// Descriptors the kernel has of it.
    opens: AtomicU64,
    /// Operations of this mount that are changing its object or its key just now.
    changing: AtomicU64,
    /// The last of them is over.
    rests: tokio::sync::Notify,
    /// Held while the store is asked what is said of it, so that it is asked once.
    pub asking: tokio::sync::Mutex<()>,
}

/// Where a node is; a rename changes it.
#[derive(Clone)]
struct Place {
    parent: u64,
    name: Arc<str>,
    key: Arc<str>,
}

pub struct State {
    /// The object as last seen; `None` for a file not yet committed.
    pub object: Option<Version>,
    /// The store's own name of the object's version, where it keeps versions and HEAD told.
    pub version: Option<String>,
    /// The archive it may be in, as HEAD told last.
    pub archive: Option<Archive>,
    /// What is said of the object (of a directory's marker); `None`: not known, a listing does not tell.
    pub said: Option<Arc<Attributes>>,
    /// What was said of it before it became unknown: shown until it is known again.
    pub said_before: Option<Arc<Attributes>>,
    /// The store's own time of the object, by which a change of what is said of it is seen.
    pub stored: Option<SystemTime>,
    /// When the store last confirmed the object (or the directory's existence).
    pub checked: Option<Instant>,
    pub draft: Option<Arc<Draft>>,
    /// Commits through this mount: a reader pinned before one moves on to the new version.
    pub commits: u64,
    /// The version the kernel's page cache was filled from.
    pub cached: Option<Version>,
    /// The size the kernel was told and may still believe in.
    pub shown: Option<u64>,
    /// Its name leads elsewhere.
    pub unlinked: bool,
    /// And not because a program here took it away: what is written to it from now on has nowhere to go.
    pub vanished: bool,
    /// Directories: the children in the table.
    pub children: HashMap<String, u64>,
    /// Directories: when the store last said what their marker says, or that they have none.
    pub marker_asked: Option<Instant>,
    /// Directories: the child that was last asked about. Whoever asks about the next goes through all.
    pub asked: u64,
    /// Directories: a marker object is known to be there, so that they stay when they are empty.
    pub marker: bool,
    /// Directories: all children were listed (or there were none) at this moment.
    complete: Option<Instant>,
    /// Directories: how often that came into doubt.
    pub doubts: u64,
    /// Directories: names asked for since it was listed.
    pub wanted: u32,
    /// Directories: it is being listed again, for those.
    pub renewing: bool,
    pub modified: SystemTime,
    /// Directories: when a name was made or taken away here last, through this mount.
    pub touched: Option<SystemTime>,
    /// When anything of it was last changed through this mount.
    pub changed: Option<SystemTime>,
    /// What utimensat(2) said was its last access; reading it is not noted.
    pub accessed: Option<SystemTime>,
}

impl Node {
    fn place(&self) -> Place {
        self.place.read().expect("no panic while held").clone()
    }

    pub fn parent(&self) -> u64 {
        self.place().parent
    }

    pub fn name(&self) -> Arc<str> {
        self.place().name
    }

    /// The object's key; for a directory its prefix, with the slash (empty for the root).
    pub fn key(&self) -> Arc<str> {
        self.place().key
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// The draft that is being written now, if any.
    pub fn live_draft(&self) -> Option<Arc<Draft>> {
        self.state().draft.clone().filter(|d| d.outcome().is_none())
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub fn opened(&self) {
        self.opens.fetch_add(1, Ordering::Relaxed);
    }

    pub fn closed(&self) {
        self.opens.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its object or its key is changed until the answer is dropped.
    pub fn change(&self) -> Changing<'_> {
        self.changing.fetch_add(1, Ordering::AcqRel);
        Changing(self)
    }

    pub fn is_open(&self) -> bool {
        self.opens.load(Ordering::Relaxed) > 0
    }

    /// Until nothing of this mount is changing it.
    pub async fn at_rest(&self) {
        loop {
            let rests = self.rests.notified();
            if self.changing.load(Ordering::Acquire) == 0 {
                return;
            }
            rests.await;
        }
    }

    /// Is what the store answered to a question of that moment later than what is known? What this mount
    /// is about to make of a file is not in it, and is not another client's doing.
    pub fn is_news(&self, asked: Instant) -> bool {
        let known = self.state().checked;
        let at_rest = self.changing.load(Ordering::Acquire) == 0;
        at_rest && known.is_none_or(|known| known <= asked)
    }

    /// Have programs opened it as another version than the one that is there now (`None`: none is)? Then
    /// it stays that version: the kernel's pages and size of an inode are of one version only.
    pub fn is_open_as_another(&self, now: Option<&Version>) -> bool {
        let state = self.state();
        state.draft.is_none()
            && !state.unlinked
            && self.is_open()
            && !self.is_directory()
            && match (&state.object, now) {
                (Some(opened), Some(now)) => opened.etag != now.etag || opened.size != now.size,
                (Some(_), None) => true,
                (None, _) => false,
            }
    }
}

pub struct Changing<'a>(&'a Node);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if self.0.changing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.rests.notify_waiters();
        }
    }
}

impl State {
    pub fn is_fresh(&self, ttl: Duration) -> bool {
        self.checked.is_some_and(|at| at.elapsed() < ttl)
    }

    /// Takes note of the object as the store shows it now. What a commit of ours said of
    /// this version (its time) stays, so that attributes do not change by themselves.
    pub fn saw(&mut self, object: &ObjectInfo) {
        self.saw_version(&version_of(object));
        if object.version.is_some() {
            self.version.clone_from(&object.version);
        }
        if let Some(said) = &object.attributes {
            self.archive = object.archive;
            self.said = Some(Arc::new((**said).clone()));
        }
    }

    /// The same, of a listing.
    pub fn saw_version(&mut self, seen: &Version) {
        self.checked = Some(Instant::now());
        let known = self.object.as_ref();
        let same = known.is_some_and(|known| known.etag == seen.etag && known.size == seen.size);
        let stored = self.stored.replace(seen.modified);
        if !same {
            self.object = Some(seen.clone());
            (self.version, self.archive) = (None, None);
            (self.accessed, self.changed) = (None, None);
        }
        // Listings tell fractions of a second, HEAD does not.
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        };
        if !same || stored.is_some_and(|stored| seconds(stored) != seconds(seen.modified)) {
            let said = self.said.take();
            self.said_before = said.or(self.said_before.take());
        }
    }

    /// Of a directory: for how long has it been known that what is not among its children is not there?
    pub fn complete_for(&self) -> Option<Duration> {
        self.complete.map(|at| at.elapsed())
    }

    /// All children are known as they were at that moment, if there has been no doubt since.
    pub fn knows_all(&mut self, at: Instant, doubts: u64) {
        if self.doubts == doubts {
            self.complete = Some(at);
            self.wanted = 0;
        }
    }

    /// A child may be there that is not known.
    pub fn doubt(&mut self) {
        self.complete = None;
        self.doubts += 1;
    }

    /// A name in this directory was made or taken away.
    pub fn touch(&mut self) {
        let now = SystemTime::now();
        (self.touched, self.changed) = (Some(now), Some(now));
    }

    /// Takes note that its object is now a copy, with all that was said of it, of that version.
    pub fn was_copied(&mut self, source: &ETag, copy: &Version) {
        let same = self.object.as_ref().is_some_and(|o| o.etag == *source);
        let said = self.said.clone().filter(|_| same);
        self.saw_version(copy);
        self.said = said;
        // The store's time of the copy is not known.
        self.stored = None;
    }

    /// Takes note of what a commit or a copy of ours made.
    pub fn made(&mut self, version: Version, said: Attributes) {
        self.object = Some(version);
        (self.version, self.archive) = (None, None);
        self.said = Some(Arc::new(said));
        self.stored = None;
        self.checked = Some(Instant::now());
        self.commits += 1;
    }
}

pub fn version_of(object: &ObjectInfo) -> Version {
    Version {
        etag: object.etag.clone(),
        size: object.size,
        modified: object.modified,
    }
}

pub struct Tree {
    nodes: Mutex<HashMap<u64, Arc<Node>>>,
    next: AtomicU64,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    pub fn new() -> Tree {
        let root = new_node(ROOT, Kind::Directory, ROOT, String::new(), String::new());
        root.lookups.store(1, Ordering::Relaxed);
        root.state().marker = true;
        Tree {
            nodes: Mutex::new(HashMap::from([(ROOT, root)])),
            next: AtomicU64::new(ROOT + 1),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<u64, Arc<Node>>> {
        self.nodes.lock().expect("no panic while held")
    }

    pub fn get(&self, ino: u64) -> Option<Arc<Node>> {
        self.nodes().get(&ino).cloned()
    }

    pub fn child(&self, parent: &Node, name: &str) -> Option<Arc<Node>> {
        let ino = *parent.state().children.get(name)?;
        self.get(ino)
    }

    pub fn children(&self, parent: &Node) -> Vec<Arc<Node>> {
        let nodes = self.nodes();
        let state = parent.state();
        state
            .children
            .values()
            .filter_map(|ino| nodes.get(ino).cloned())
            .collect()
    }

    /// The child of that name and kind, made if need be. One of another kind is replaced.
    pub fn ensure(&self, parent: &Node, name: &str, kind: Kind) -> Arc<Node> {
        let mut nodes = self.nodes();
        let mut state = parent.state();
        if let Some(ino) = state.children.get(name)
            && let Some(node) = nodes.get(ino)
            && node.kind == kind
        {
            return node.clone();
        }
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let slash = if kind == Kind::Directory { "/" } else { "" };
        let node = new_node(
            ino,
            kind,
            parent.ino,
            name.to_string(),
            format!("{}{name}{slash}", parent.key()),
        );
        nodes.insert(ino, node.clone());
        state.children.insert(name.to_string(), ino);
        node
    }

    /// The kernel was told of this node once more.
    pub fn remember(&self, node: &Arc<Node>) {
        node.lookups.fetch_add(1, Ordering::Relaxed);
        // It may have been dropped from the table between its making and now.
        self.nodes().entry(node.ino).or_insert_with(|| node.clone());
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

    /// Takes a name away: the node stays for those who have it open.
    pub fn detach(&self, parent: &Node, node: &Node) {
        node.state().unlinked = true;
        {
            let (name, mut state) = (node.name(), parent.state());
            if state.children.get(&*name) == Some(&node.ino) {
                state.children.remove(&*name);
            }
        }
        self.drop_if_idle(node);
    }

    /// The same of a file that another client took away or replaced, or that was never published.
    pub fn lose(&self, parent: &Node, node: &Node) {
        node.state().vanished = true;
        // Whose the name is now, no listing of before can tell.
        parent.state().doubt();
        self.detach(parent, node);
    }

    /// Takes a node away that is not what it was taken for: its name leads to another one from now on.
    pub fn replace(&self, parent: &Node, node: &Node) {
        let (name, mut state) = (node.name(), parent.state());
        if state.children.get(&*name) == Some(&node.ino) {
            state.children.remove(&*name);
        }
        // Not because it is not there.
        state.doubt();
    }

    /// Gives a node, and all below it, another place. What was there is detached before.
    pub fn rename(&self, node: &Arc<Node>, from: &Node, to: &Node, name: &str) {
        let nodes = self.nodes();
        let old = node.name();
        {
            let mut state = from.state();
            if state.children.get(&*old) == Some(&node.ino) {
                state.children.remove(&*old);
            }
        }
        to.state().children.insert(name.to_string(), node.ino);
        let mut moved = vec![(node.clone(), to.ino, Arc::from(name), to.key())];
        while let Some((node, parent, name, above)) = moved.pop() {
            let slash = if node.is_directory() { "/" } else { "" };
            let key: Arc<str> = format!("{above}{name}{slash}").into();
            *node.place.write().expect("no panic while held") = Place {
                parent,
                name,
                key: key.clone(),
            };
            let state = node.state();
            for (name, ino) in &state.children {
                if let Some(child) = nodes.get(ino) {
                    let name = Arc::from(name.as_str());
                    moved.push((child.clone(), node.ino, name, key.clone()));
                }
            }
        }
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
            let Some(node) = nodes.get(&at).cloned() else {
                return;
            };
            {
                let state = node.state();
                let busy = state.draft.as_ref().is_some_and(|d| d.outcome().is_none());
                if node.lookups.load(Ordering::Relaxed) > 0 || busy || !state.children.is_empty() {
                    return;
                }
            }
            nodes.remove(&at);
            let Place { parent, name, .. } = node.place();
            let above = nodes.get(&parent).cloned();
            drop(nodes);
            if let Some(above) = above {
                let mut state = above.state();
                if state.children.get(&*name) == Some(&at) {
                    state.children.remove(&*name);
                    // It may well be there, and nothing here knows of it any more.
                    state.doubt();
                }
            }
            at = parent;
        }
    }
}

fn new_node(ino: u64, kind: Kind, parent: u64, name: String, key: String) -> Arc<Node> {
    Arc::new(Node {
        ino,
        kind,
        place: RwLock::new(Place {
            parent,
            name: name.into(),
            key: key.into(),
        }),
        lookups: AtomicU64::new(0),
        opens: AtomicU64::new(0),
        changing: AtomicU64::new(0),
        rests: tokio::sync::Notify::new(),
        asking: tokio::sync::Mutex::new(()),
        state: Mutex::new(State {
            object: None,
            version: None,
            archive: None,
            said: None,
            said_before: None,
            stored: None,
            checked: None,
            draft: None,
            commits: 0,
            cached: None,
            shown: None,
            unlinked: false,
            vanished: false,
            children: HashMap::new(),
            marker_asked: None,
            asked: 0,
            marker: false,
            complete: None,
            doubts: 0,
            wanted: 0,
            renewing: false,
            modified: SystemTime::now(),
            touched: None,
            changed: None,
            accessed: None,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_not_known_whole_once_the_kernel_has_forgotten_a_child() {
        let tree = Tree::new();
        let root = tree.get(ROOT).expect("the root");
        let child = tree.ensure(&root, "child", Kind::File);
        tree.remember(&child);
        let doubts = root.state().doubts;
        root.state().knows_all(Instant::now(), doubts);
        assert!(root.state().complete_for().is_some());
        tree.forget(child.ino, 1);
        assert!(tree.child(&root, "child").is_none());
        assert!(root.state().complete_for().is_none());
        // Nor by a listing that was begun before.
        root.state().knows_all(Instant::now(), doubts);
        assert!(root.state().complete_for().is_none());
    }
}
