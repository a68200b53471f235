//! Where the bytes of a file that is not written front to back wait for their commit: a sparse,
//! unlinked local file, offset for offset the file itself.
//!
//! Invariants: a spool has no name, so nothing is left of it when the process dies; the bytes in all
//! spools stay within the limit, and what is beyond it is ENOSPC at once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::{Handle, RuntimeFlavor};

use super::extents::Extents;

/// The directory of all spools and their common budget.
pub struct SpoolSpace {
    directory: PathBuf,
    limit: u64,
    used: AtomicU64,
}

impl SpoolSpace {
    pub fn new(directory: PathBuf, limit: u64) -> Arc<SpoolSpace> {
        Arc::new(SpoolSpace {
            directory,
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// Can spools be made there?
    pub fn probe(directory: &Path) -> io::Result<()> {
        unnamed_file(directory).map(drop)
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn take(&self, bytes: u64) -> bool {
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

pub struct Spool {
    file: File,
    present: Extents,
    space: Arc<SpoolSpace>,
}

impl Spool {
    pub fn create(space: &Arc<SpoolSpace>) -> io::Result<Spool> {
        Ok(Spool {
            file: within_descriptors(unnamed_file(&space.directory)?)?,
            present: Extents::default(),
            space: space.clone(),
        })
    }

    /// Which bytes are here.
    pub fn present(&self) -> &Extents {
        &self.present
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = offset..offset + data.len() as u64;
        let new: u64 = self
            .present
            .runs(range.clone())
            .iter()
            .filter(|(_, present)| !present)
            .map(|(r, _)| r.end - r.start)
            .sum();
        if !self.space.take(new) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if let Err(error) = at_the_disk(|| self.file.write_all_at(data, offset)) {
            self.space.give(new);
            return Err(error);
        }
        self.present.insert(range);
        Ok(())
    }

    /// Writes the pieces that a range, of which nothing was here, consists of.
    pub fn write_all_or_nothing<'a>(
        &mut self,
        range: Range<u64>,
        pieces: impl IntoIterator<Item = (u64, &'a [u8])>,
    ) -> io::Result<()> {
        for (offset, bytes) in pieces {
            if let Err(error) = self.write(offset, bytes) {
                self.forget(range);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Fills `out` from bytes that are present.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        assert!(
            self.present.contains(offset..offset + out.len() as u64),
            "reading bytes the spool does not have"
        );
        at_the_disk(|| self.file.read_exact_at(out, offset))
    }

    /// Gives up a range and its disk space.
    pub fn forget(&mut self, range: Range<u64>) {
        let before = self.present.total();
        self.present.remove(range.clone());
        self.space.give(before - self.present.total());
        if range.start < range.end {
            at_the_disk(|| punch(&self.file, range));
        }
    }
}

/// A disk may take its time, and a thread of the runtime has others to serve meanwhile.
fn at_the_disk<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.space.give(self.present.total());
    }
}

/// Frees the blocks under a range; where the filesystem cannot, they are freed with the file.
fn punch(file: &File, range: Range<u64>) {
    let len = (range.end.min(i64::MAX as u64) - range.start) as libc::off_t;
    // SAFETY: a plain system call on a descriptor that is open for as long as `file` is borrowed.
    unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            range.start as libc::off_t,
            len,
        );
    }
}

/// So many descriptors are left to connections, and to looks at who closes a file and how that goes: whoever cannot look
/// publishes what a killed program has left.
const DESCRIPTORS_KEPT: u64 = 256;

/// The system gives the lowest number that is free.
fn within_descriptors(file: File) -> io::Result<File> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` takes the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let most = limit.rlim_cur - DESCRIPTORS_KEPT.min(limit.rlim_cur / 2);
    match u64::try_from(file.as_raw_fd()).is_ok_and(|number| number < most) {
        true => Ok(file),
        false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

fn unnamed_file(directory: &Path) -> io::Result<File> {
    let unnamed = File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(directory);
    match unnamed {
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
            ) =>
        {
            // The filesystem has no unnamed files: make one with a name and take the name away.
            static COUNTER: AtomicU64 = AtomicU64::new(0);
            let name = format!(
                ".wholefs-spool-{}-{}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed)
            );
            let path = directory.join(name);
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        other => other,
    }
}
