//! What was read, kept on disk for the next time: segments of object versions, the least used thrown away first.
//!
//! Invariants:
//! - Nothing comes out that is not the object's: a segment is found by all that makes its version (store, key,
//!   ETag, size) and checked when it is read ([`segment`]). What does not pass is deleted, and fetched again.
//! - A cache only helps: whatever fails here is a segment that is not kept. Nobody waits for the disk to take one.
//! - Bounded: `limit` bytes and [`ENTRIES`] segments on disk, [`FILLING`] segments in memory on their way there.
//! - A file gets its name when it is whole, so a crash leaves nothing but a file that is deleted at the next start.

mod segment;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use lru::LruCache;
use ring::digest::{SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::window::SEGMENT;
use crate::ours::assert_ours;
use crate::random::random_u64;
use crate::store::ETag;
use segment::{Id, footprint};

/// So many segments are known of; each takes some hundred bytes of memory.
const ENTRIES: usize = 1 << 20;
/// So many are in memory at once, being filled or written; what comes meanwhile is not kept.
const FILLING: usize = 64;
/// What a file is called before it is whole, followed by whose it is.
const UNFINISHED: &str = "unfinished-";

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Bytes(u64),
    /// Of what is free, and of what an earlier mount has kept.
    HalfOf {
        free: u64,
    },
}

/// The cache of one mount, below a directory that it may share with those of others.
pub struct DiskCache {
    directory: PathBuf,
    source: String,
    limit: AtomicU64,
    /// The limit is for what comes: what was found there comes on top, by half, as of all that was free before it.
    found_counts: bool,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    hits: AtomicU64,
    misses: AtomicU64,
    names: AtomicU64,
    /// Whose its unfinished files are: no other process's, and no earlier one's.
    mark: u64,
    /// Held as long as the cache is used.
    _lock: File,
}

struct State {
    kept: LruCache<Id, Kept>,
    used: u64,
    /// Segments that come just now.
    coming: HashSet<Id>,
}

struct Kept {
    len: u32,
    /// Its file says that it was used since the mount began.
    touched: bool,
}

/// A version of an object, as the cache knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    id: [u8; 16],
    size: u64,
}

impl Object {
    /// Where it lies in the object.
    pub(super) fn segment(&self, number: u64) -> Range<u64> {
        number * SEGMENT..((number + 1) * SEGMENT).min(self.size)
    }

    fn id(&self, number: u64) -> Option<Id> {
        let number = u32::try_from(number).ok()?;
        let object = self.id;
        Some(Id { object, number })
    }
}

impl DiskCache {
    /// Below `directory`, for the bucket that `source` names. What an earlier mount has kept is found again by
    /// and by.
    pub fn open(directory: &Path, source: &str, room: Room) -> io::Result<Arc<DiskCache>> {
        let name = hex(&digest(&SHA256, source.as_bytes()).as_ref()[..16]);
        let directory = directory.join(format!("wholefs-{name}"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        assert_ours(&directory)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(directory.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another mount of this bucket uses it",
            ),
            fs::TryLockError::Error(error) => error,
        })?;
        let cache = Arc::new(DiskCache {
            directory,
            source: source.to_string(),
            limit: AtomicU64::new(match room {
                Room::Bytes(bytes) => bytes,
                Room::HalfOf { free } => free / 2,
            }),
            found_counts: matches!(room, Room::HalfOf { .. }),
            state: Mutex::new(State {
                kept: LruCache::unbounded(),
                used: 0,
                coming: HashSet::new(),
            }),
            room: Arc::new(Semaphore::new(FILLING)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            names: AtomicU64::new(0),
            mark: random_u64(),
            _lock: lock,
        });
        let found = cache.clone();
        std::thread::Builder::new()
            .name("cache".into())
            .spawn(move || found.find())?;
        Ok(cache)
    }

    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Nothing is on its way there.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.room.available_permits() == FILLING && self.state().coming.is_empty()
    }

    #[cfg(test)]
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Segments that were answered from here, and those that were not.
    pub fn counts(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.hits), of(&self.misses))
    }

    /// What the cache calls a version; nothing that has no ETag is kept.
    pub(super) fn object(&self, key: &str, etag: &ETag, size: u64) -> Option<Object> {
        if etag.is_empty() {
            return None;
        }
        let name = format!("{}\n{key}\n{}\n{size}", self.source, etag);
        let id = digest(&SHA256, name.as_bytes()).as_ref()[..16].try_into();
        let id = id.expect("sixteen of thirty-two bytes");
        Some(Object { id, size })
    }

    /// The first bytes of `range`, as far as they are in one segment.
    pub(super) async fn get(self: &Arc<Self>, object: &Object, range: Range<u64>) -> Option<Bytes> {
        let number = range.start / SEGMENT;
        let (id, place) = (object.id(number)?, object.segment(number));
        let (is_kept, touch) = {
            let mut state = self.state();
            let kept = state.kept.get_mut(&id);
            let touch = kept.as_ref().is_some_and(|kept| !kept.touched);
            let is_kept = kept.is_some();
            if let Some(kept) = kept {
                kept.touched = true;
            }
            (is_kept, touch)
        };
        if !is_kept {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let within = range.start - place.start..range.end.min(place.end) - place.start;
        let path = self.path(&id);
        let work = move || {
            let bytes = segment::read(&path, &id, within)?;
            if touch {
                let now = FileTimes::new().set_modified(SystemTime::now());
                let _ = File::open(&path).and_then(|file| file.set_times(now));
            }
            Ok::<_, io::Error>(bytes)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(bytes)) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(bytes)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a segment of the cache is not what was put there");
                self.misses.fetch_add(1, Ordering::Relaxed);
                self.forget(&id);
                None
            }
            Err(_) => None,
        }
    }

    /// Up to where in `range` nothing is here.
    pub(super) fn gap(&self, object: &Object, range: Range<u64>) -> u64 {
        let state = self.state();
        let later = (range.start / SEGMENT + 1)..range.end.div_ceil(SEGMENT);
        let kept = |number: &u64| {
            object
                .id(*number)
                .is_some_and(|id| state.kept.contains(&id))
        };
        let first = later.clone().find(kept);
        first.map_or(range.end, |number| number * SEGMENT)
    }

    /// To keep the segment `number`, which is not here. None if that is not worth while just now.
    pub(super) fn keep(self: &Arc<Self>, object: &Object, number: u64) -> Option<Keeping> {
        let place = object.segment(number);
        let id = object.id(number)?;
        let len = (place.end - place.start) as usize;
        if footprint(len as u64) > self.limit() {
            return None;
        }
        let room = self.room.clone().try_acquire_owned().ok()?;
        let mut state = self.state();
        if state.kept.contains(&id) || !state.coming.insert(id) {
            return None;
        }
        drop(state);
        Some(Keeping {
            cache: self.clone(),
            id,
            len,
            bytes: Vec::with_capacity(len),
            _room: room,
        })
    }

    /// Writes a segment, and lets go of those that have been unused for longest if it is one too many.
    fn store(&self, id: Id, bytes: &[u8]) {
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{:x}-{name}", self.mark);
        let unfinished = self.directory.join(name);
        let path = self.path(&id);
        let folder = path.parent().expect("a segment is in a folder");
        let whole = self
            .make(folder)
            .and_then(|()| segment::write(&unfinished, &id, bytes))
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = whole {
            let _ = fs::remove_file(&unfinished);
            let is_full =
                [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind());
            let remedy = match is_full {
                true => ": free some space, or mount with a smaller --cache-size",
                false => "",
            };
            tracing::warn!(
                "the cache {} cannot be written: {error}{remedy}",
                self.directory.display()
            );
            // The disk may be full: less is to be kept.
            let used = self.used();
            return self.shrink(used - used / 16);
        }
        let len = bytes.len() as u32;
        let kept = Kept { len, touched: true };
        self.state().insert(id, kept);
        self.shrink(self.limit());
    }

    fn shrink(&self, limit: u64) {
        loop {
            let mut state = self.state();
            if state.used <= limit && state.kept.len() <= ENTRIES {
                return;
            }
            let Some((id, kept)) = state.kept.pop_lru() else {
                return;
            };
            state.used -= footprint(u64::from(kept.len));
            drop(state);
            let _ = fs::remove_file(self.path(&id));
        }
    }

    fn forget(&self, id: &Id) {
        let mut state = self.state();
        if let Some(kept) = state.kept.pop(id) {
            state.used -= footprint(u64::from(kept.len));
        }
        drop(state);
        let _ = fs::remove_file(self.path(id));
    }

    /// Finds what an earlier mount has left.
    fn find(&self) {
        let mut found = Vec::new();
        let ours = format!("{UNFINISHED}{:x}-", self.mark);
        let folders = fs::read_dir(&self.directory).into_iter().flatten();
        for entry in folders.flatten() {
            let name = entry.file_name();
            let is_unfinished = |name: &str| name.starts_with(UNFINISHED);
            let is_ours = |name: &str| name.starts_with(&ours);
            if name
                .to_str()
                .is_some_and(|n| is_unfinished(n) && !is_ours(n))
            {
                let _ = fs::remove_file(entry.path());
            }
            let files = fs::read_dir(entry.path()).into_iter().flatten();
            for file in files.flatten() {
                let name = file.file_name();
                if let (Some(id), Ok(about)) = (name.to_str().and_then(parse), file.metadata()) {
                    let len = about.len().saturating_sub(footprint(0)).min(SEGMENT) as u32;
                    let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push((used, id, len));
                }
            }
        }
        found.sort_unstable_by_key(|(used, ..)| *used);
        let mut state = self.state();
        // What came meanwhile was used last.
        let mut meanwhile: Vec<(Id, Kept)> = std::iter::from_fn(|| state.kept.pop_lru()).collect();
        state.used = 0;
        let touched = false;
        for (_, id, len) in found {
            state.insert(id, Kept { len, touched });
        }
        if self.found_counts {
            self.limit.fetch_add(state.used / 2, Ordering::Relaxed);
        }
        for (id, kept) in meanwhile.drain(..) {
            state.insert(id, kept);
        }
        drop(state);
        self.shrink(self.limit());
    }

    fn make(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn path(&self, id: &Id) -> PathBuf {
        let object = hex(&id.object);
        let folder = self.directory.join(&object[..2]);
        folder.join(format!("{object}-{}", id.number))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, id: Id, kept: Kept) {
        self.used += footprint(u64::from(kept.len));
        if let Some(before) = self.kept.put(id, kept) {
            self.used -= footprint(u64::from(before.len));
        }
    }
}

/// A segment that comes from the store, in order.
pub(super) struct Keeping {
    cache: Arc<DiskCache>,
    id: Id,
    len: usize,
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Keeping {
    /// Takes what of `bytes` is the segment's. When that is all of it, it is written, and gone from here.
    pub(super) fn fill(slot: &mut Option<Keeping>, bytes: &[u8]) {
        let Some(mut keeping) = slot.take() else {
            return;
        };
        let room = keeping.len - keeping.bytes.len();
        keeping
            .bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        if keeping.bytes.len() < keeping.len {
            *slot = Some(keeping);
        } else {
            tokio::task::spawn_blocking(move || keeping.cache.store(keeping.id, &keeping.bytes));
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.cache.state().coming.remove(&self.id);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A segment by its file's name.
fn parse(name: &str) -> Option<Id> {
    let (object, number) = name.split_once('-')?;
    if object.len() != 32 || !object.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (byte, digits) in id.iter_mut().zip(object.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let number = number.parse().ok()?;
    Some(Id { object: id, number })
}
