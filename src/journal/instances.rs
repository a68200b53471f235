//! The directories of the mounts of this machine, dead and alive: `<state>/<instance>/`, each with
//! its `lock` and its `journal`.
//!
//! Invariants:
//! - Who holds an instance's lock, and nobody else, writes to its directory or removes it. The lock
//!   is flock(2): it goes when the last process that has it open goes, however that ends.
//! - A journal appears under its name whole. A directory without one is on its way to or from the
//!   world: it holds nothing, and is swept when it is old and nobody holds its lock.
//! - Only names of sixteen hex digits are instances: what a person has moved aside stays untouched.
//! - A directory that vanishes while it is looked at was removed by its holder, and is no error.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::disk::{Directory, Disk};
use super::error::Error;
use super::intents;
use super::log::{JOURNAL, JOURNAL_NEW, Log, Pending};
use super::record::{FORMAT, Header, Identity, unix_ms};
use super::replay::{OpenUpload, replay};
use super::writer::Writer;
use super::{Note, Stats, keep_intent};
use crate::durable;
use crate::ours::assert_ours;
use crate::random::random_u64;
use crate::upload::ledger::Intent;

const LOCK: &str = "lock";
/// Where a living mount tells of itself.
pub const STATUS_SOCKET: &str = "status";

/// Between a directory's creation and its journal no more than this goes by.
const MOMENT: Duration = Duration::from_secs(60);

/// An instance's lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// `None` when somebody else has it. Fails with `NotFound` when the directory is gone.
    pub(super) fn take(directory: &Path) -> io::Result<Option<Lock>> {
        let path = directory.join(LOCK);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        // Who only looks holds it, shared, for an instant (see `is_live`): do not take that for life.
        for pause in [0, 1, 5, 20] {
            std::thread::sleep(Duration::from_millis(pause));
            match file.try_lock() {
                Ok(()) => {
                    // Its holder may have removed it before it let go.
                    let (ours, theirs) = (file.metadata()?, fs::metadata(&path)?);
                    return if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()) {
                        Ok(Some(Lock { _file: file }))
                    } else {
                        Err(io::ErrorKind::NotFound.into())
                    };
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Which file it is on: a lock on one that has lost its name protects nothing.
    #[cfg(test)]
    pub(super) fn inode(&self) -> io::Result<u64> {
        Ok(self._file.metadata()?.ino())
    }
}

/// The instances that this process recovers: locked, and dead all the same.
static ADOPTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

struct Adopted(PathBuf);

impl Adopted {
    fn new(directory: &Path) -> Adopted {
        adopted().insert(directory.to_path_buf());
        Adopted(directory.to_path_buf())
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        adopted().remove(&self.0);
    }
}

fn adopted() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ADOPTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does a process hold it that is still at work? Without taking it: who recovers meanwhile must get it.
fn is_live(directory: &Path) -> io::Result<bool> {
    if adopted().contains(directory) {
        return Ok(false);
    }
    let file = match File::open(directory.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Where instances are kept when nobody says otherwise.
pub fn default_state_dir() -> PathBuf {
    // SAFETY: always succeeds, touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    state_dir_for(
        root,
        std::env::var_os("XDG_STATE_HOME").map(PathBuf::from),
        std::env::var_os("HOME").map(PathBuf::from),
    )
}

pub(super) fn state_dir_for(root: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/wholefs");
    }
    // The standard says that a relative path is to be ignored.
    match (xdg.filter(|p| p.is_absolute()), home) {
        (Some(xdg), _) => xdg.join("wholefs"),
        (None, Some(home)) => home.join(".local/state/wholefs"),
        (None, None) => PathBuf::from("/var/lib/wholefs"),
    }
}

/// A new instance: its directory, its lock, its journal with nothing but a header.
pub(super) fn create(
    state: &Path,
    identity: &Identity,
    mount_point: &Path,
) -> Result<(PathBuf, Lock, Log), Error> {
    make_state(state)?;
    loop {
        let id = random_id();
        let directory = state.join(&id);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            result => result.map_err(Error::io(&directory, "cannot create it"))?,
        }
        let lock = match Lock::take(&directory) {
            Ok(Some(lock)) => lock,
            // Swept, after a long pause here: once more.
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                remove(&directory);
                return Err(Error::io(&directory, "cannot lock it")(error));
            }
        };
        let header = Header {
            wholefs: "journal".to_string(),
            format: FORMAT,
            s: 0,
            generation: 0,
            instance: id,
            created: unix_ms(SystemTime::now()),
            pid: std::process::id(),
            mount_point: mount_point.to_string_lossy().into_owned(),
            store: identity.clone(),
        };
        let log = Log::create(Box::new(Directory(directory.clone())), &directory, header)
            .and_then(|log| {
                durable::sync_names(state).map_err(Error::io(state, "cannot sync it"))?;
                Ok(log)
            })
            .inspect_err(|_| remove(&directory))?;
        return Ok((directory, lock, log));
    }
}

fn make_state(state: &Path) -> Result<(), Error> {
    durable::make_directory(state)
        .map_err(Error::io(state, "cannot create the state directory"))?;
    believe(state)
}

/// What stands in a journal is done: nobody else may have written it.
fn believe(state: &Path) -> Result<(), Error> {
    assert_ours(state).map_err(Error::io(state, "its journals cannot be believed"))
}

/// Removes an instance whose lock is held by the caller (or that never had one). What cannot be
/// removed is swept some other time.
pub(super) fn remove(directory: &Path) {
    intents::sweep(directory);
    for name in [JOURNAL, JOURNAL_NEW, STATUS_SOCKET, LOCK] {
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory);
}

/// What was found of dead mounts.
#[derive(Debug, Default)]
pub struct Orphans {
    /// Locked by us, and ours to end, for as long as we keep them.
    pub instances: Vec<Instance>,
    /// How many are held by living processes.
    pub live: usize,
    /// What dead ones have that nobody wanted.
    pub elsewhere: usize,
    /// Directories whose journal is not to be believed, or not to be read.
    pub damaged: Vec<(PathBuf, Error)>,
}

/// Takes every instance below the state directory whose process is dead, and which is `wanted`.
pub fn orphans(state: &Path, wanted: impl Fn(&Identity) -> bool) -> Result<Orphans, Error> {
    let mut found = Orphans::default();
    if state.exists() {
        believe(state)?;
    }
    for directory in instances(state)? {
        // Not locked either: whoever does want it would take that for life.
        if let Some(count) = count_unwanted(&directory, &wanted) {
            match is_live(&directory) {
                Ok(true) => found.live += 1,
                _ => found.elsewhere += count,
            }
            continue;
        }
        match adopt(&directory) {
            Ok(Adoption::Ours(instance)) => found.instances.push(*instance),
            Ok(Adoption::Live) => found.live += 1,
            Ok(Adoption::Nothing) => {}
            Err(error) => found.damaged.push((directory, error)),
        }
    }
    Ok(found)
}

/// What a journal has open, if it can be read and is none of those that are `wanted`.
fn count_unwanted(directory: &Path, wanted: impl Fn(&Identity) -> bool) -> Option<usize> {
    let journal = replay(&fs::read(directory.join(JOURNAL)).ok()?).ok()?;
    let count = journal.open.len() + intents::read(directory).ok()?.len();
    (count > 0 && !wanted(&journal.header.store)).then_some(count)
}

/// What became of taking an instance.
pub enum Adoption {
    Ours(Box<Instance>),
    /// Somebody holds it.
    Live,
    /// There is nothing to end.
    Nothing,
}

/// Takes the instance of a directory, if its process is dead.
pub fn adopt(directory: &Path) -> Result<Adoption, Error> {
    let bare = |d: &Path| !d.join(JOURNAL).exists();
    if bare(directory) && !is_old(directory) {
        return Ok(Adoption::Nothing);
    }
    let lock = match Lock::take(directory) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(Adoption::Live),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Adoption::Nothing),
        Err(error) => return Err(Error::io(directory, "cannot lock it")(error)),
    };
    if bare(directory) {
        remove(directory);
        return Ok(Adoption::Nothing);
    }
    let disk = Directory(directory.to_path_buf());
    // A compaction that its process did not live to finish.
    let _ = disk.remove(JOURNAL_NEW);
    let (log, header, open) = match Log::open(Box::new(disk), directory) {
        Err(error) if error.is_missing() => return Ok(Adoption::Nothing),
        result => result?,
    };
    let intents = intents::read(directory).map_err(Error::io(directory, "cannot be believed"))?;
    Ok(Adoption::Ours(Box::new(Instance {
        directory: directory.to_path_buf(),
        header,
        open,
        intents,
        desk: Mutex::new(Desk::Idle(Box::new(log))),
        _adopted: Adopted::new(directory),
        _lock: lock,
    })))
}

fn is_old(directory: &Path) -> bool {
    fs::metadata(directory)
        .and_then(|m| m.modified())
        .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > MOMENT))
}

/// The directories that are instances, in a steady order.
fn instances(state: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |error| {
        Error::io(
            state,
            "cannot read the state directory (--state-dir names another)",
        )(error)
    };
    let entries = match fs::read_dir(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(fail)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let named = entry.file_name().to_str().is_some_and(is_id);
        if named && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A dead mount's journal, taken over to end its uploads.
pub struct Instance {
    pub directory: PathBuf,
    pub header: Header,
    /// As it was found.
    pub open: Vec<OpenUpload>,
    /// Renames of directories that were under way, by their numbers.
    pub intents: Vec<(u64, Intent)>,
    desk: Mutex<Desk>,
    _adopted: Adopted,
    _lock: Lock,
}

/// Most instances have nothing to note: a thread is started for those that do.
enum Desk {
    Idle(Box<Log>),
    Writing(std::sync::Arc<Writer>),
    Closed,
}

impl Instance {
    pub fn identity(&self) -> &Identity {
        &self.header.store
    }

    /// How much there is to end.
    pub fn count(&self) -> usize {
        self.open.len() + self.intents.len()
    }

    /// A rename is finished, or taken back.
    pub async fn forget_intent(&self, number: u64) -> io::Result<()> {
        keep_intent(self.directory.clone(), number, None).await
    }

    /// Adds to the journal; durable when it returns. Uploads may be ended in parallel: notes share syncs.
    pub async fn note(&self, id: u64, note: Note) -> io::Result<()> {
        let writer = self.writer()?;
        writer.record(Pending::from(&note.of(id)), true).await
    }

    fn writer(&self) -> io::Result<std::sync::Arc<Writer>> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let log = match std::mem::replace(&mut *desk, Desk::Closed) {
            Desk::Writing(writer) => {
                *desk = Desk::Writing(writer.clone());
                return Ok(writer);
            }
            Desk::Idle(log) => log,
            Desk::Closed => return Err(io::Error::other("this journal is closed")),
        };
        let writer = std::sync::Arc::new(Writer::new(*log)?);
        *desk = Desk::Writing(writer.clone());
        Ok(writer)
    }

    pub fn stats(&self) -> Stats {
        match &*self.desk.lock().unwrap_or_else(PoisonError::into_inner) {
            Desk::Writing(writer) => writer.stats(),
            Desk::Idle(log) => Stats {
                open: log.open_uploads(),
                bytes: log.bytes(),
                ..Stats::default()
            },
            Desk::Closed => Stats::default(),
        }
    }

    /// Gives it back. When all its uploads have ended the directory goes; otherwise it is kept for
    /// the next time, and this answers how many are left. Blocks for as long as the disk takes.
    pub fn finish(self) -> usize {
        let desk = std::mem::replace(
            &mut *self.desk.lock().unwrap_or_else(PoisonError::into_inner),
            Desk::Closed,
        );
        let log = match desk {
            Desk::Idle(log) => *log,
            Desk::Writing(writer) => match writer.stop() {
                Some(log) => log,
                None => return writer.stats().open,
            },
            Desk::Closed => return self.count(),
        };
        let intents = intents::read(&self.directory).map_or(1, |found| found.len());
        let left = log.open_uploads() + intents;
        if left == 0 && !log.is_poisoned() && !log.is_behind() {
            remove(&self.directory);
        }
        left
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("directory", &self.directory)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// What one instance's journal says, read without touching it.
#[derive(Debug)]
pub struct Glimpse {
    pub directory: PathBuf,
    /// Its process lives, so what it says may be out of date by now.
    pub live: bool,
    pub content: Result<(Header, Vec<OpenUpload>), Error>,
    /// What can be read of the renames under way.
    pub intents: Vec<Intent>,
}

/// Looks at every instance, dead or alive, up to the last whole record.
pub fn peek(state: &Path) -> Result<Vec<Glimpse>, Error> {
    let mut glimpses = Vec::new();
    for directory in instances(state)? {
        let path = directory.join(JOURNAL);
        let live = is_live(&directory);
        let bytes = match fs::read(&path) {
            // Just born, just gone, or to be swept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(Error::io(&path, "cannot read it")),
        };
        let content = bytes.and_then(|bytes| match replay(&bytes) {
            Ok(found) => Ok((found.header, found.open)),
            Err(refusal) => Err(Error::Refused { path, refusal }),
        });
        let intents = intents::read(&directory).unwrap_or_default();
        let intents = intents.into_iter().map(|(_, intent)| intent).collect();
        glimpses.push(match live {
            Ok(live) => Glimpse {
                directory,
                live,
                content,
                intents,
            },
            Err(error) => Glimpse {
                content: content
                    .and_then(|_| Err(Error::io(&directory, "cannot read its lock")(error))),
                directory,
                live: false,
                intents,
            },
        });
    }
    Ok(glimpses)
}

fn is_id(name: &str) -> bool {
    name.len() == 16
        && name
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn random_id() -> String {
    format!("{:016x}", random_u64())
}
