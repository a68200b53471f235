//! A node: a file or a directory that the kernel may name, and what is known of it.
//!
//! Nearly all of a large number of nodes are files that were listed, and nothing else. So what only some have is
//! in a box that is made when they get it ([`Used`], [`Directory`]), names are in one place, and keys in none.
//!
//! Invariants:
//! - A node's lock is held for a moment, and no other node's is taken with it but a place's, which comes last.
//! - A key that is told was the node's at one moment, whatever is being renamed.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::moment::Moment;
use super::sample::Found;
use crate::draft::{Draft, Version};
use crate::pauses;
use crate::store::{Archive, Attributes, ETag, ObjectInfo};

mod directory;
mod hearing;

pub use directory::Directory;
pub use hearing::{Answer, Heard};

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
    /// Operations of this mount that are changing its object or its key just now.
    changing: AtomicU16,
    /// Those of them that make another version of what it is, under its key.
    revising: AtomicU16,
    /// How often the kernel was told of it and has not forgotten it since.
    pub(super) lookups: AtomicU64,
    place: Mutex<Place>,
    state: Mutex<State>,
}

/// Where a node is; a rename changes it.
struct Place {
    /// `None`: it is the root.
    above: Option<Arc<Node>>,
    name: Box<str>,
}

/// The last change of some node is over. One for all: few wait, and each looks at his own.
static RESTS: Notify = Notify::const_new();

impl Node {
    pub fn new(ino: u64, kind: Kind, above: &Arc<Node>, name: &str) -> Arc<Node> {
        Node::at(ino, kind, Some(above.clone()), name)
    }

    pub fn root(ino: u64, kind: Kind) -> Arc<Node> {
        Node::at(ino, kind, None, "")
    }

    fn at(ino: u64, kind: Kind, above: Option<Arc<Node>>, name: &str) -> Arc<Node> {
        let mut state = State::default();
        if kind == Kind::Directory {
            state.directory_mut().modified = SystemTime::now();
        }
        Arc::new(Node {
            ino,
            kind,
            changing: AtomicU16::new(0),
            revising: AtomicU16::new(0),
            lookups: AtomicU64::new(0),
            place: Mutex::new(Place {
                above,
                name: name.into(),
            }),
            state: Mutex::new(state),
        })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().expect("no panic while held")
    }

    /// The directory it is in; the root is in none.
    pub fn above(&self) -> Option<Arc<Node>> {
        self.place().above.clone()
    }

    pub fn parent(&self) -> u64 {
        self.place().above.as_ref().map_or(ROOT, |above| above.ino)
    }

    pub fn name(&self) -> Box<str> {
        self.place().name.clone()
    }

    pub fn with_name<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        look(&self.place().name)
    }

    /// Not to be called while it is among its directory's children.
    pub(super) fn move_to(&self, above: &Arc<Node>, name: &str) {
        let moved = Place {
            above: Some(above.clone()),
            name: name.into(),
        };
        // What it leaves may be the last of its directory: not under the lock.
        let _left = std::mem::replace(&mut *self.place(), moved);
    }

    /// The object's key; for a directory its prefix, with the slash (empty for the root).
    ///
    /// Each place on the way up stays locked until the key is put together: none of them can be another one by
    /// the time the root is reached, so this is where the node was at that moment. Nobody waits in a circle,
    /// because whoever holds a place waits for that of the directory above it, as it is as long as he holds it.
    pub fn key(&self) -> String {
        self.spell(0)
    }

    /// With room for as much as comes `behind`.
    fn spell(&self, behind: usize) -> String {
        let place = self.place();
        let Some(above) = &place.above else {
            return String::with_capacity(behind);
        };
        let mut key = above.spell(place.name.len() + 1 + behind);
        key.push_str(&place.name);
        if self.is_directory() {
            key.push('/');
        }
        key
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        pauses::may_pause();
        self.state.lock().expect("no panic while held")
    }

    /// The draft that is being written now, if any.
    pub fn live_draft(&self) -> Option<Arc<Draft>> {
        self.state().live_draft().cloned()
    }

    /// Takes the name of a published file away, unless somebody uses it or changes it. Answers whether it did.
    pub fn take_name_if_unused(&self) -> bool {
        let mut state = self.state();
        let unused = state.draft().is_none() && !state.is_open() && self.is_at_rest();
        let taken = unused && state.has_name() && state.object.is_some();
        if taken {
            state.name = Name::Taken;
        }
        taken
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// As if somebody had it open, to write or not, until the answer is dropped.
    pub fn hold_open(&self, to_write: bool) -> HeldOpen<'_> {
        self.state().opened(to_write);
        HeldOpen(self, to_write)
    }

    /// Its object or its key is changed until the answer is dropped.
    pub fn change(&self) -> Changing<'_> {
        self.changing.fetch_add(1, Ordering::AcqRel);
        Changing(self)
    }

    pub fn is_at_rest(&self) -> bool {
        self.changing.load(Ordering::Acquire) == 0
    }

    /// Until nothing of this mount is changing it.
    pub async fn at_rest(&self) {
        self.until(Self::is_at_rest).await;
    }

    /// It is made another version until the answer is dropped: whoever begins to write meanwhile would do so over the one before.
    pub fn revise(&self) -> Revising<'_> {
        let changing = self.change();
        self.revising.fetch_add(1, Ordering::AcqRel);
        Revising(changing)
    }

    pub fn is_revised(&self) -> bool {
        self.revising.load(Ordering::Acquire) != 0
    }

    /// Until nothing of this mount makes another version of it.
    pub async fn revised(&self) {
        self.until(|node| !node.is_revised()).await;
    }

    async fn until(&self, is_so: impl Fn(&Node) -> bool) {
        loop {
            let rests = RESTS.notified();
            if is_so(self) {
                return;
            }
            rests.await;
        }
    }
}

pub struct HeldOpen<'a>(&'a Node, bool);

impl Drop for HeldOpen<'_> {
    fn drop(&mut self) {
        self.0.state().closed(self.1);
    }
}

pub struct Changing<'a>(&'a Node);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if self.0.changing.fetch_sub(1, Ordering::AcqRel) == 1 {
            RESTS.notify_waiters();
        }
    }
}

pub struct Revising<'a>(Changing<'a>);

impl Drop for Revising<'_> {
    fn drop(&mut self) {
        let Changing(node) = self.0;
        if node.revising.fetch_sub(1, Ordering::AcqRel) == 1 {
            RESTS.notify_waiters();
        }
    }
}

/// Whose its name is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    #[default]
    Its,
    /// A program here took it away, or gave it to another file.
    Taken,
    /// Another client took it away or replaced the file, or it was never published: what is written to it from
    /// now on has nowhere to go.
    Lost,
}

#[derive(Default)]
pub struct State {
    /// The object as last seen; `None` for a file not yet committed.
    pub object: Option<Version>,
    /// What is said of the object (of a directory's marker); `None`: not known, a listing does not tell.
    pub said: Option<Arc<Attributes>>,
    /// When the store was asked and confirmed the object (or the directory's existence) last. (Not when it answered: who
    /// was answered later may have asked before.)
    pub checked: Option<Moment>,
    /// The size the kernel was told and may still believe in, and one.
    shown: Option<NonZeroU64>,
    used: Option<Box<Used>>,
    pub name: Name,
    stored: Stored,
    beyond: Beyond,
}

/// Is something said of it that a listing did not tell? As long as it is not known what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Beyond {
    #[default]
    Unknown,
    /// By a sample of its directory, not.
    Nothing,
    /// It changed since it was seen: whoever did that may have said something.
    Changed,
}

/// Is the time of the version also the store's own time of the object?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stored {
    #[default]
    Unknown,
    AsObject,
    /// It is another: [`Used::stored`].
    Apart,
}

/// What only some nodes have.
#[derive(Default)]
pub struct Used {
    draft: Option<Arc<Draft>>,
    /// Descriptors the kernel has of it.
    opens: u64,
    /// Those of them that may write, or map it to be written.
    writable: u64,
    /// Commits through this mount: a reader pinned before one moves on to the new version.
    pub commits: u64,
    /// The version the kernel's page cache was filled from.
    pub cached: Option<Version>,
    /// It has given up all pages of others.
    is_purged: bool,
    /// The store's own name of the object's version, where it keeps versions and HEAD told.
    pub version: Option<String>,
    /// The archive it may be in, as HEAD told last.
    pub archive: Option<Archive>,
    /// What was said of it before it became unknown: shown until it is known again.
    pub said_before: Option<Arc<Attributes>>,
    /// When anything of it was last changed through this mount.
    pub changed: Option<SystemTime>,
    /// What utimensat(2) said was its last access; reading it is not noted.
    pub accessed: Option<SystemTime>,
    /// When this was made: the time of a file that was never published.
    pub since: Option<SystemTime>,
    stored: Option<SystemTime>,
    directory: Option<Box<Directory>>,
}

/// Of nodes that have none.
static UNUSED: Used = Used {
    draft: None,
    opens: 0,
    writable: 0,
    commits: 0,
    cached: None,
    is_purged: false,
    version: None,
    archive: None,
    said_before: None,
    changed: None,
    accessed: None,
    since: None,
    stored: None,
    directory: None,
};

impl State {
    pub fn used(&self) -> &Used {
        self.used.as_deref().unwrap_or(&UNUSED)
    }

    pub fn used_mut(&mut self) -> &mut Used {
        self.used.get_or_insert_with(|| {
            Box::new(Used {
                since: Some(SystemTime::now()),
                ..Used::default()
            })
        })
    }

    /// What is being written, or was until a moment ago.
    pub fn draft(&self) -> Option<&Arc<Draft>> {
        self.used().draft.as_ref()
    }

    pub fn live_draft(&self) -> Option<&Arc<Draft>> {
        self.draft().filter(|draft| draft.outcome().is_none())
    }

    pub fn is_draft(&self, draft: &Arc<Draft>) -> bool {
        self.draft().is_some_and(|its| Arc::ptr_eq(its, draft))
    }

    pub fn set_draft(&mut self, draft: Arc<Draft>) {
        self.used_mut().draft = Some(draft);
    }

    pub fn drop_draft(&mut self) {
        if let Some(used) = &mut self.used {
            used.draft = None;
        }
    }

    /// Is what the kernel's page cache holds of the object as it is?
    pub fn is_cached(&self) -> bool {
        let cached = &self.used().cached;
        cached.is_some() && *cached == self.object
    }

    /// The kernel's page cache is filled from this version from now on.
    pub fn set_cached(&mut self, cached: Option<Version>) {
        if cached.is_some() || self.used.is_some() {
            self.used_mut().cached = cached;
        }
    }

    /// Somebody opens the object as it is now, to be read through the kernel's page cache. Answers whether pages that are
    /// there may stay.
    ///
    /// They are given up by the kernel as soon as the open is answered, which is a moment that nobody sees: so whoever
    /// else opens it has them given up, too, until somebody has asked for a page ([`State::was_read_as`]).
    pub fn fill_pages(&mut self) -> bool {
        let object = self.object.clone();
        let of = |version: &Option<Version>| version.as_ref().map(|v| (v.etag.clone(), v.size));
        let is_same = object.is_some() && of(&self.used().cached) == of(&object);
        let used = self.used_mut();
        used.is_purged &= is_same;
        used.cached = object;
        used.is_purged
    }

    /// Who opened it as this version asks for its pages.
    pub fn was_read_as(&mut self, etag: &ETag) {
        let used = self.used_mut();
        used.is_purged |= used
            .cached
            .as_ref()
            .is_some_and(|cached| cached.etag == *etag);
    }

    pub fn opened(&mut self, to_write: bool) {
        let used = self.used_mut();
        used.opens += 1;
        used.writable += u64::from(to_write);
    }

    pub fn closed(&mut self, to_write: bool) {
        let used = self.used_mut();
        used.opens -= 1;
        used.writable -= u64::from(to_write);
    }

    /// Has somebody a descriptor to write it by? What he wrote through a mapping the kernel has, and we have not.
    pub fn is_open_to_write(&self) -> bool {
        self.used().writable > 0
    }

    pub fn is_open(&self) -> bool {
        self.used().opens > 0
    }

    pub fn has_name(&self) -> bool {
        self.name == Name::Its
    }

    /// The size the kernel was told and may still believe in.
    pub fn shown(&self) -> Option<u64> {
        self.shown.map(|size| size.get() - 1)
    }

    pub fn show(&mut self, size: Option<u64>) {
        self.shown = size.map(|size| NonZeroU64::MIN.saturating_add(size));
    }

    /// The store's own time of the object, where it is known.
    pub fn stored(&self) -> Option<SystemTime> {
        match self.stored {
            Stored::Unknown => None,
            Stored::AsObject => self.object.as_ref().map(|object| object.modified),
            Stored::Apart => self.used().stored,
        }
    }

    pub fn stored_is_unknown(&mut self) {
        self.stored = Stored::Unknown;
    }

    pub fn is_fresh(&self, ttl: Duration) -> bool {
        self.checked.is_some_and(|at| at.elapsed() < ttl)
    }

    /// Takes note of the object as the store showed it when it was asked. What a commit of ours said of
    /// this version (its time) stays, so that attributes do not change by themselves.
    pub fn saw(&mut self, object: &ObjectInfo, asked: Moment) {
        self.saw_version(&version_of(object), asked);
        if object.version.is_some() {
            self.used_mut().version.clone_from(&object.version);
        }
        if let Some(said) = &object.attributes {
            if object.archive.is_some() || self.used.is_some() {
                self.used_mut().archive = object.archive;
            }
            self.said = Some(Arc::new((**said).clone()));
        }
    }

    /// The same, of a listing.
    pub fn saw_version(&mut self, seen: &Version, asked: Moment) {
        self.checked = Some(asked);
        let known = self.object.as_ref();
        let is_new = known.is_none();
        let same = known.is_some_and(|known| known.etag == seen.etag && known.size == seen.size);
        let stored = self.stored();
        if !same {
            self.object = Some(seen.clone());
            self.is_another();
            if let Some(used) = &mut self.used {
                (used.accessed, used.changed) = (None, None);
            }
        }
        self.stored = match &self.object {
            Some(object) if object.modified == seen.modified => Stored::AsObject,
            _ => {
                self.used_mut().stored = Some(seen.modified);
                Stored::Apart
            }
        };
        if !same || stored.is_some_and(|stored| seconds(stored) != seconds(seen.modified)) {
            self.beyond = match is_new {
                true => Beyond::Unknown,
                false => Beyond::Changed,
            };
            if let Some(said) = self.said.take() {
                self.used_mut().said_before = Some(said);
            }
        }
    }

    /// Is it known what is said of it, or to be nothing, nearly for sure?
    pub fn is_said(&self) -> bool {
        self.said.is_some() || self.beyond == Beyond::Nothing
    }

    /// What a page of a listing that shows it was found to say. Answers whether it had been believed otherwise.
    pub fn believe(&mut self, found: Found) -> bool {
        let before = self.beyond;
        self.beyond = match (before, found) {
            (Beyond::Unknown, Found::Nothing) => Beyond::Nothing,
            (Beyond::Nothing, Found::Something) => Beyond::Unknown,
            (same, _) => same,
        };
        if self.beyond == Beyond::Nothing
            && let Some(used) = &mut self.used
        {
            // Of another object under this name, perhaps.
            used.said_before = None;
        }
        before == Beyond::Nothing && self.beyond != before
    }

    /// What was known of the version is not of this one.
    fn is_another(&mut self) {
        if let Some(used) = &mut self.used {
            (used.version, used.archive) = (None, None);
        }
    }

    /// Takes note that its object is now a copy, with all that was said of it, of that version.
    pub fn was_copied(&mut self, source: &ETag, copy: &Version) {
        let same = self.object.as_ref().is_some_and(|o| o.etag == *source);
        let said = self.said.clone().filter(|_| same);
        let beyond = self.beyond;
        self.saw_version(copy, Moment::now());
        self.said = said;
        if same {
            self.beyond = beyond;
        }
        // The store's time of the copy is not known.
        self.stored = Stored::Unknown;
    }

    /// Takes note of what a commit or a copy of ours made.
    pub fn made(&mut self, version: Version, said: Attributes) {
        self.object = Some(version);
        self.is_another();
        self.said = Some(Arc::new(said));
        self.stored = Stored::Unknown;
        self.checked = Some(Moment::now());
        self.used_mut().commits += 1;
    }
}

pub fn version_of(object: &ObjectInfo) -> Version {
    Version {
        etag: object.etag.clone(),
        size: object.size,
        modified: object.modified,
    }
}

/// Listings tell fractions of a second, HEAD and GET do not.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_only_listed_is_small() {
        // With the two counts of its `Arc`, and what the allocator adds: 176 bytes.
        assert!(size_of::<Node>() <= 152, "{} bytes", size_of::<Node>());
        let file = Node::root(2, Kind::File);
        let seen = Version {
            etag: ETag::new("0123456789abcdef0123456789abcdef"),
            size: 5,
            modified: SystemTime::UNIX_EPOCH,
        };
        file.state().saw_version(&seen, Moment::now());
        file.state().show(Some(5));
        assert_eq!(file.state().stored(), Some(seen.modified));
        assert!(!file.is_open() && file.state().used.is_none());
    }

    /// A node whose object is of this version.
    fn of_version(node: &Node, etag: &str) {
        let seen = Version {
            etag: ETag::new(etag),
            size: 5,
            modified: SystemTime::UNIX_EPOCH,
        };
        node.state().saw_version(&seen, Moment::now());
    }

    #[test]
    fn pages_may_stay_when_those_of_other_versions_are_known_to_be_gone() {
        let file = Node::root(2, Kind::File);
        let opened = || file.state().fill_pages();
        let read_as = |etag: &str| file.state().was_read_as(&ETag::new(etag));
        of_version(&file, "a");
        assert!(!opened(), "nothing is known of them");
        assert!(!opened(), "the first may not have given them up yet");
        read_as("a");
        assert!(opened() && opened());
        of_version(&file, "b");
        read_as("a");
        assert!(!opened());
        read_as("a");
        assert!(!opened(), "it was not this version that was asked for");
        read_as("b");
        assert!(opened());
        file.state().set_cached(None);
        assert!(!opened());
    }
}
