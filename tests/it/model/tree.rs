//! A tree of files that operations are performed in, whether it is mounted or local, and what is compared of it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::operation::Operation;
use crate::support::content::fill;

/// What an operation answered: a value, or an errno.
pub type Answer = Result<u64, i32>;

fn answer<T>(result: io::Result<T>, value: impl FnOnce(T) -> u64) -> Answer {
    match result {
        Ok(found) => Ok(value(found)),
        // The standard library refuses some things itself.
        Err(error) => Err(error.raw_os_error().unwrap_or(-1)),
    }
}

fn done(result: io::Result<()>) -> Answer {
    answer(result, |()| 0)
}

fn checked(result: impl TryInto<i64>) -> io::Result<u64> {
    let result: i64 = result.try_into().unwrap_or(-1);
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero within")
}

/// A checksum, to compare what was read.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn written(seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    fill(seed, 0, &mut bytes);
    bytes
}

/// A tree the operations are performed in, and the descriptor that is held in it.
pub struct Tree {
    pub root: PathBuf,
    pub held: Option<File>,
}

impl Tree {
    pub fn perform(&mut self, operation: &Operation) -> Answer {
        use Operation::*;
        let at_root = |path: &PathBuf| self.root.join(path);
        let writing = |path: &PathBuf| File::options().write(true).open(at_root(path));
        match operation {
            Create { path, seed, len } => done(fs::write(at_root(path), written(*seed, *len))),
            CreateNew { path } => answer(File::create_new(at_root(path)), |_| 0),
            Overwrite { path, seed, len } => done(
                File::options()
                    .write(true)
                    .truncate(true)
                    .open(at_root(path))
                    .and_then(|file| file.write_all_at(&written(*seed, *len), 0)),
            ),
            Append { path, seed, len } => done(
                File::options()
                    .append(true)
                    .open(at_root(path))
                    .and_then(|mut file| io::Write::write_all(&mut file, &written(*seed, *len))),
            ),
            WriteAt {
                path,
                at,
                seed,
                len,
            } => done(writing(path).and_then(|file| file.write_all_at(&written(*seed, *len), *at))),
            ReadAt { path, at, len } => {
                let mut bytes = vec![0; *len as usize];
                let read = File::open(at_root(path)).and_then(|f| f.read_at(&mut bytes, *at));
                answer(read, |read| sum(&bytes[..read]))
            }
            Truncate { path, size } => {
                let path = c(&at_root(path));
                // SAFETY: the path ends with a zero.
                let result = unsafe { libc::truncate(path.as_ptr(), *size as i64) };
                answer(checked(result), |_| 0)
            }
            Allocate {
                path,
                mode,
                at,
                len,
            } => done(writing(path).and_then(|file| {
                // SAFETY: a plain system call on an open descriptor.
                let result =
                    unsafe { libc::fallocate(file.as_raw_fd(), *mode, *at as i64, *len as i64) };
                checked(result).map(drop)
            })),
            CopyRange { from, to } => {
                let copied = fs::copy(at_root(from), at_root(to));
                answer(copied, |copied| copied)
            }
            MapWrite {
                path,
                at,
                seed,
                len,
            } => done(self.map_write(path, *at, &written(*seed, *len))),
            Unlink { path } => done(fs::remove_file(at_root(path))),
            UnlinkOpen { path, seed, len } => {
                let open = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(at_root(path));
                let bytes = written(*seed, *len);
                let used = open.and_then(|file| {
                    fs::remove_file(at_root(path))?;
                    file.write_all_at(&bytes, 3)?;
                    let mut seen = vec![0; bytes.len()];
                    file.read_exact_at(&mut seen, 3)?;
                    Ok((sum(&seen), file.metadata()?.nlink()))
                });
                answer(used, |(sum, links)| sum.wrapping_add(links))
            }
            MakeDirectory { path } => done(fs::create_dir(at_root(path))),
            RemoveDirectory { path } => done(fs::remove_dir(at_root(path))),
            Rename { from, to } => done(fs::rename(at_root(from), at_root(to))),
            RenameNoReplace { from, to } => {
                let (from, to) = (c(&at_root(from)), c(&at_root(to)));
                let here = libc::AT_FDCWD;
                // SAFETY: both paths end with a zero.
                let result = unsafe {
                    libc::renameat2(
                        here,
                        from.as_ptr(),
                        here,
                        to.as_ptr(),
                        libc::RENAME_NOREPLACE,
                    )
                };
                answer(checked(result), |_| 0)
            }
            Symlink { path, target } => done(symlink(target, at_root(path))),
            ReadLink { path } => answer(fs::read_link(at_root(path)), |target| {
                sum(target.as_os_str().as_bytes())
            }),
            Mode { path, mode } => done(fs::set_permissions(
                at_root(path),
                Permissions::from_mode(*mode),
            )),
            Owner { path, uid, gid } => done(chown(at_root(path), Some(*uid), Some(*gid))),
            Times { path, seconds } => {
                let time = SystemTime::UNIX_EPOCH + Duration::new(*seconds, 123_456_789);
                let times = FileTimes::new().set_modified(time).set_accessed(time);
                done(File::open(at_root(path)).and_then(|file| file.set_times(times)))
            }
            SetXattr { path, seed, len } => {
                let (path, value) = (c(&at_root(path)), written(*seed, *len));
                // SAFETY: both texts end with a zero, and the value is as long as is said.
                let result = unsafe {
                    libc::setxattr(
                        path.as_ptr(),
                        c"user.model".as_ptr(),
                        value.as_ptr().cast(),
                        value.len(),
                        0,
                    )
                };
                answer(checked(result), |_| 0)
            }
            GetXattr { path } => answer(xattr(&at_root(path)), |value| sum(&value)),
            RemoveXattr { path } => {
                let path = c(&at_root(path));
                // SAFETY: both texts end with a zero.
                let result = unsafe { libc::removexattr(path.as_ptr(), c"user.model".as_ptr()) };
                answer(checked(result), |_| 0)
            }
            List { path } => answer(fs::read_dir(at_root(path)), |entries| {
                let names = entries.map(|entry| sum(entry.expect("listed").file_name().as_bytes()));
                names.fold(0, u64::wrapping_add)
            }),
            Stat { path } => answer(fs::symlink_metadata(at_root(path)), |seen| {
                u64::from(seen.mode())
            }),
            Make { path } => {
                let path = c(&at_root(path));
                // SAFETY: the path ends with a zero.
                let result = unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | 0o640, 0) };
                answer(checked(result), |_| 0)
            }
            Hold { path, appends } => {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .custom_flags(if *appends { libc::O_APPEND } else { 0 })
                    .open(at_root(path));
                answer(file, |file| {
                    self.held = Some(file);
                    0
                })
            }
            HeldWrite { at, seed, len } => {
                let bytes = written(*seed, *len);
                done(self.held().write_all_at(&bytes, *at))
            }
            HeldTruncate { size } => done(self.held().set_len(*size)),
            HeldRead { at, len } => {
                let mut bytes = vec![0; *len as usize];
                answer(self.held().read_at(&mut bytes, *at), |read| {
                    sum(&bytes[..read])
                })
            }
            HeldMode { mode } => done(self.held().set_permissions(Permissions::from_mode(*mode))),
            HeldSync => done(self.held().sync_all()),
            Release => {
                self.held = None;
                Ok(0)
            }
        }
    }

    fn held(&self) -> &File {
        self.held.as_ref().expect("one is held")
    }

    fn map_write(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        let file = File::options().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        if size <= at {
            return Ok(());
        }
        // SAFETY: a fresh mapping of the whole file, of which no byte behind the end is touched.
        unsafe {
            let shared = libc::mmap(
                std::ptr::null_mut(),
                size as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            if shared == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let len = bytes.len().min((size - at) as usize);
            let target = shared.cast::<u8>().add(at as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, len);
            let synced = checked(libc::msync(shared, size as usize, libc::MS_SYNC));
            libc::munmap(shared, size as usize);
            synced.map(drop)
        }
    }

    /// Everything there is, by its path.
    pub fn all(&self) -> BTreeMap<PathBuf, Entry> {
        let mut found = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.root.join(&folder)).expect("listed") {
                let path = folder.join(entry.expect("listed").file_name());
                let entry = Entry::of(&self.root.join(&path));
                if entry.mode & libc::S_IFMT == libc::S_IFDIR {
                    folders.push(path.clone());
                }
                found.insert(path, entry);
            }
        }
        found
    }
}

fn xattr(path: &Path) -> io::Result<Vec<u8>> {
    let mut value = vec![0u8; 4096];
    // SAFETY: both texts end with a zero, and there is as much room as is said.
    let result = unsafe {
        libc::lgetxattr(
            c(path).as_ptr(),
            c"user.model".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    let len = checked(result)?;
    value.truncate(len as usize);
    Ok(value)
}

/// What is compared of a file, directory or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    /// Where it was set: what the clock says differs between the trees.
    set_time: Option<i64>,
    bytes: u64,
    xattr: Option<u64>,
}

impl Entry {
    fn of(path: &Path) -> Entry {
        let seen = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let bytes = match seen.mode() & libc::S_IFMT {
            libc::S_IFREG => sum(&fs::read(path).unwrap_or_else(|e| panic!("{path:?}: {e}"))),
            libc::S_IFLNK => sum(fs::read_link(path).expect("a link").as_os_str().as_bytes()),
            _ => 0,
        };
        let old = (seen.mtime() < 1_500_000_000).then(|| seen.mtime());
        Entry {
            mode: seen.mode(),
            owner: (seen.uid(), seen.gid()),
            size: if seen.is_dir() { 0 } else { seen.len() },
            // A directory's own time is not kept when names in it change.
            set_time: old.filter(|_| seen.is_file()),
            bytes,
            xattr: xattr(path).ok().map(|value| sum(&value)),
        }
    }
}
