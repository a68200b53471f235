//! The little of a disk the journal needs: one directory, two files. Behind a trait, so that the
//! tests can put a disk there that tears, drops, forgets and refuses (`tests/lying_disk.rs`).
//!
//! Invariant: nothing is promised durable but by `sync` (a file's bytes and length) and `sync_names`
//! (creations, renames and removals in the directory).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

pub(super) trait Disk: Send {
    /// Empty, whatever was there; for appending.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// As it is; for appending.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
}

pub(super) trait DiskFile: Send {
    /// On failure any part of the bytes may have been appended.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file off there, durably.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A real directory.
pub(super) struct Directory(pub PathBuf);

impl Disk for Directory {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.0.join(name);
        // Not truncated but made anew: what is left there may have other permissions.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new()
            .append(true)
            .open(self.0.join(name))?;
        Ok(Box::new(file))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for fs::File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // One write(2), unless the disk takes only a part.
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync: includes the length, which is all of the metadata that reading needs.
        self.sync_data()?;
        // Durable, and nobody would ever read it.
        match self.metadata()?.nlink() {
            0 => Err(io::Error::other("it was deleted")),
            _ => Ok(()),
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        // fdatasync need not write a length that shrank.
        self.sync_all()
    }
}
