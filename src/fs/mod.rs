//! The filesystem without FUSE: names, inodes, open files, directories. Async, and testable without a mount.
//!
//! Invariants:
//! - What a program writes is seen by every other program through the same mount at once, and in
//!   the bucket only when it is committed.
//! - A read is of one version of an object, or of one draft, never of a mixture.
//! - No lock that blocks a thread is held across a request to the store. What is held is a draft's contents, a listing's
//!   snapshot, and turns.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use tokio::sync::watch;

mod attributes;
mod calls;
mod children;
mod closing;
mod copies;
mod directory;
mod error;
mod file;
mod hearing;
mod inodes;
mod listing;
mod metadata;
mod moment;
mod names;
mod node;
mod opening;
mod pages;
mod parting;
mod passage;
mod rename;
mod renewal;
mod sample;
mod sweep;
mod tree;
mod under_way;
mod verdict;
mod written;
mod xattr;

pub use crate::draft::At;
pub use crate::read::Data;
pub use attributes::{Attributes, Caller};
pub use calls::{Answers, Call, Calls, WAITS};
pub use error::{Error, Result};
pub use file::OpenFile;
pub use listing::{Listed, Listing, Read};
pub use metadata::Posix;
pub use names::NAME_MAX;
pub use node::{Kind, Node, ROOT};
pub use opening::Opened;
pub use rename::Renaming;
pub use xattr::Setting;

use crate::draft::{Draft, Target, Works};
use crate::host::mountpoint::Mount;
use crate::read::{ReadMemory, Settings as ReadSettings};
use crate::store::{ErrorKind, ListEntry, Precondition, Store};
use crate::turns::Turns;
use crate::upload::ledger::Before;
use moment::Moment;
use passage::Passages;
use sweep::Sweeps;
use tree::Tree;
use written::Written;

#[derive(Clone, Debug)]
pub struct Options {
    /// For how long what the store said of a name is believed.
    pub metadata_ttl: Duration,
    /// Of what nothing is said of.
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    /// Owner and group of everything, whatever is said.
    pub owner: Option<u32>,
    pub group: Option<u32>,
    /// Modes, owners and times are kept with the objects.
    pub keeps_metadata: bool,
    /// Where nothing is said of a sample of a large directory's files, nothing is said of any.
    pub trusts_listings: bool,
    /// Where it is mounted, to recognise descriptors of our files in /proc.
    pub mount_point: PathBuf,
    /// A program that ends with a failure without having closed its file did not finish it.
    pub abort_on_failure: bool,
    /// A commit onto a version other than the one the draft began with fails.
    pub fail_on_conflict: bool,
    /// Who opens a file in an archive asks for its restore, for so many days.
    pub restore_archived: Option<u32>,
    pub read: ReadSettings,
}

/// What the kernel caches: what we know to be stale of it, and what it is to have.
pub trait KernelCache: Send + Sync + 'static {
    /// Size and times, before this returns. Also while a request for the inode is answered.
    fn forget_attributes(&self, ino: u64);
    /// Pages too, soon. Called from tasks, never while answering a request for the same inode; must
    /// not block.
    fn forget_data(&self, ino: u64);
    fn forget_name(&self, parent: u64, name: &str);
    /// Pages of this file from there on. Answers whether it took them. May wait for reads of those pages.
    fn keep_data(&self, ino: u64, offset: u64, data: &Data) -> bool;
}

pub struct Fs {
    store: Arc<dyn Store>,
    works: Arc<Works>,
    read_memory: Arc<ReadMemory>,
    options: Options,
    tree: Tree,
    sweeps: Arc<Sweeps>,
    passages: Arc<Passages>,
    /// Files whose objects the store is being asked about: each is asked about once.
    asking: Turns<u64>,
    /// Files that are being published or lose their names: one at a time.
    publishing: Turns<u64>,
    /// Files that lose their names just now: those who had them open are seen to.
    parting: Turns<u64>,
    /// What is being given another name, or loses its own: by one at a time.
    naming: Turns<u64>,
    written: Written,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
    /// Names the store just said are not there, for the create that follows such a lookup.
    absent: Mutex<LruCache<(u64, String), Instant>>,
    next_number: AtomicU64,
    /// Looks at objects ahead of whoever goes through a directory.
    looks_ahead: Arc<tokio::sync::Semaphore>,
    kernel: std::sync::OnceLock<Arc<dyn KernelCache>>,
    giving: pages::Giving,
    mounted: std::sync::OnceLock<Arc<Mount>>,
    mounted_at: SystemTime,
    calls: Calls,
    /// What is not to stop half way, whoever waits for it; the end of the mount does.
    under_way: watch::Sender<usize>,
    /// The session is over or ending: nothing new is begun.
    ending: AtomicBool,
}

const ABSENT_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

impl Fs {
    pub fn new(
        store: Arc<dyn Store>,
        works: Arc<Works>,
        read_memory: Arc<ReadMemory>,
        options: Options,
    ) -> Arc<Fs> {
        Arc::new(Fs {
            sweeps: Arc::default(),
            passages: Arc::default(),
            store,
            works,
            read_memory,
            options,
            tree: Tree::new(),
            asking: Turns::default(),
            publishing: Turns::default(),
            parting: Turns::default(),
            naming: Turns::default(),
            written: Written::default(),
            files: Mutex::new(HashMap::new()),
            listings: Mutex::new(HashMap::new()),
            absent: Mutex::new(LruCache::new(ABSENT_MAX)),
            next_number: AtomicU64::new(1),
            looks_ahead: Arc::new(tokio::sync::Semaphore::new(attributes::AHEAD)),
            kernel: std::sync::OnceLock::new(),
            giving: pages::Giving::default(),
            mounted: std::sync::OnceLock::new(),
            mounted_at: SystemTime::now(),
            calls: Calls::default(),
            under_way: watch::Sender::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// The mount, as it was when this was asked first: as soon as there is one.
    pub fn mounted(&self) -> &Arc<Mount> {
        let look = || Arc::new(Mount::at(&self.options.mount_point));
        self.mounted.get_or_init(look)
    }

    /// The kernel's caches, once there is a mount.
    pub fn set_kernel_cache(&self, kernel: Arc<dyn KernelCache>) {
        let _ = self.kernel.set(kernel);
    }

    /// What was asked of this mount, counted.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    pub fn node(&self, ino: u64) -> Result<Arc<Node>> {
        self.tree.get(ino).ok_or_else(|| Error::quiet(libc::ESTALE))
    }

    /// What a message calls an inode.
    pub fn path_of(&self, ino: u64) -> String {
        self.tree
            .get(ino)
            .map_or_else(|| format!("inode {ino}"), |node| format!("/{}", node.key()))
    }

    /// Finds a name. The kernel is told of the node: [`forget`](Self::forget) undoes it.
    pub async fn lookup(self: &Arc<Self>, parent: u64, name: &OsStr) -> Result<Arc<Node>> {
        let (parent, name) = self.place(parent, name)?;
        let mut node = self.ask_or_known(&parent, &name).await?;
        if self.may_be_a_link(&node) {
            node = self.without_doubt(node).await?;
        }
        self.tree.remember(&node);
        Ok(node)
    }

    /// The same, if it can be answered without asking the store.
    pub fn lookup_cached(&self, parent: u64, name: &OsStr) -> Option<Result<Arc<Node>>> {
        let found = self.lookup_known(parent, name);
        self.calls.names.count(found.is_some());
        found
    }

    fn lookup_known(&self, parent: u64, name: &OsStr) -> Option<Result<Arc<Node>>> {
        let (parent, component) = match self.place(parent, name) {
            Ok(place) => place,
            Err(error) => return Some(Err(error)),
        };
        if self.count_wanted(&parent) {
            return None;
        }
        let found = self.known(&parent, &component)?;
        if let Ok(node) = &found {
            if self.may_be_a_link(node) {
                return None;
            }
            self.tree.remember(node);
        }
        Some(found)
    }

    pub fn forget(&self, ino: u64, count: u64) {
        self.tree.forget(ino, count);
    }

    fn place(&self, parent: u64, name: &OsStr) -> Result<(Arc<Node>, String)> {
        let parent = self.node(parent)?;
        match names::component(name) {
            Ok(component) => Ok((parent, component.to_string())),
            Err(names::BadName::TooLong) => Err(Error::quiet(libc::ENAMETOOLONG)),
            Err(names::BadName::NotUtf8) => Err(Error::quiet(libc::ENOENT)),
        }
    }

    /// What is known of a name without asking: a file being written, or what was seen within the TTL.
    fn known(&self, parent: &Node, name: &str) -> Option<Result<Arc<Node>>> {
        if let Some(child) = self.tree.child(parent, name) {
            let (written, checked) = {
                let state = child.state();
                (state.live_draft().is_some(), state.checked)
            };
            let known = written || checked.is_some_and(|seen| self.is_believed(parent, seen));
            return known.then_some(Ok(child));
        }
        let complete = parent.state().complete();
        let all_listed = complete.is_some_and(|seen| self.is_believed(parent, seen));
        all_listed.then(|| Err(Error::quiet(libc::ENOENT)))
    }

    /// Asks the store whether a name is a directory, a file or nothing. A directory hides
    /// a file of the same name.
    async fn ask(&self, parent: &Arc<Node>, name: &str) -> Result<Arc<Node>> {
        let key = format!("{}{name}", parent.key());
        if key.len() > self.store.capabilities().key_max {
            return Err(Error::quiet(libc::ENAMETOOLONG));
        }
        if parent.state().directory().going.contains(name) {
            return Err(Error::quiet(libc::ENOENT));
        }
        let prefix = format!("{key}/");
        let head = async {
            match names::is_blank(&key) {
                // Not to be asked for: there may be a directory all the same.
                true => Err(blank(&key)),
                false => self.store.head(&key).await,
            }
        };
        let list = async {
            match prefix.len() > self.store.capabilities().key_max {
                // Nothing can be below it.
                true => Ok(Vec::new()),
                false => self.store.first_below(&prefix, 1).await,
            }
        };
        let asked = Moment::now();
        let (object, below) = tokio::join!(head, list);
        // A draft may have begun while we asked, or ended: it is the truth of this mount.
        if let Some(child) = self.tree.child(parent, name)
            && (child.live_draft().is_some() || (!child.is_directory() && !child.is_news(asked)))
        {
            return Ok(child);
        }
        let below = below?;
        if let Some(first) = below.first() {
            let node = self.tree.ensure(parent, name, Kind::Directory);
            let node = node.ok_or(Error::quiet(libc::ENOENT))?;
            let mut state = node.state();
            state.checked = state.checked.max(Some(asked));
            if let ListEntry::Object(object) = first
                && object.key == prefix
            {
                let directory = state.directory_mut();
                directory.marker = true;
                directory.modified = object.modified;
            }
            drop(state);
            return Ok(node);
        }
        match object {
            Ok(object) => {
                let known = self.tree.child(parent, name);
                let (kind, version) = (self.kind_of(&object), node::version_of(&object));
                let now = Some(&version);
                let saw = |state: &mut node::State| state.saw(&object, asked);
                let found = self.found(parent, name, known, kind, node::Answer { asked, now }, saw);
                let (node, _) = found.ok_or(Error::quiet(libc::ENOENT))?;
                self.heard_of(&node);
                Ok(node)
            }
            Err(error) if error.kind == ErrorKind::Missing => {
                match self.tree.child(parent, name) {
                    // There because of a file that is being written below it.
                    Some(child) if child.is_directory() && !self.unpublished(&child).is_empty() => {
                        Ok(child)
                    }
                    _ => match self.is_missing(parent, name, asked) {
                        Some(child) => Ok(child),
                        None => {
                            self.note_absent(parent.ino, name);
                            Err(Error::quiet(libc::ENOENT))
                        }
                    },
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn note_absent(&self, parent: u64, name: &str) {
        let mut absent = self.absent.lock().expect("no panic while held");
        absent.put((parent, name.to_string()), Instant::now());
    }

    /// Did the store say a moment ago that the name is not there? Asked once.
    fn was_absent(&self, parent: u64, name: &str) -> bool {
        let mut absent = self.absent.lock().expect("no panic while held");
        absent
            .pop(&(parent, name.to_string()))
            .is_some_and(|at| at.elapsed() < self.options.metadata_ttl)
    }

    fn new_draft(&self, node: &Node, base: Option<crate::draft::Base>, dirty: bool) -> Arc<Draft> {
        let said = node.state().said.clone();
        let said = said.map_or_else(Default::default, |said| metadata::rewritten(&said));
        let before = match (&base, &node.state().object) {
            (Some(base), _) => Before::Version(base.etag.clone()),
            (None, Some(object)) => Before::Version(object.etag.clone()),
            (None, None) => Before::Nothing,
        };
        let target = self.target(&node.key(), before);
        Draft::new(&self.works, target, said, base, dirty)
    }

    /// A file's draft is to replace what its key holds, whoever put it there, unless we are to mind.
    fn target(&self, key: &str, before: Before) -> Target {
        let condition = match &before {
            _ if !self.options.fail_on_conflict => Precondition::None,
            Before::Version(etag) => Precondition::Matches(etag.clone()),
            Before::Nothing | Before::Unknown => Precondition::Absent,
        };
        Target {
            key: key.to_string(),
            condition,
            before,
        }
    }

    fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn forget_data(&self, ino: u64) {
        if let Some(kernel) = self.kernel.get() {
            kernel.forget_data(ino);
        }
    }

    fn forget_name(&self, parent: u64, name: &str) {
        if let Some(kernel) = self.kernel.get() {
            kernel.forget_name(parent, name);
        }
    }
}

fn blank(key: &str) -> crate::store::Error {
    crate::store::Error {
        kind: ErrorKind::Missing,
        operation: "HeadObject",
        key: key.to_string(),
        code: "NoSuchKey".to_string(),
        message: "a key that is all blank cannot be asked for".to_string(),
        request_id: None,
    }
}
