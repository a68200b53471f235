//! Random sequences of operations, on a mount and on a local twin: every answer is the same, and so is
//! the whole tree after each step, after each remount, and after each death of the daemon.
//!
//! A sequence follows from its seed. Those that have ever failed are [`PINNED`].

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::edits::Random;
use crate::support::content::fill;
use crate::support::mount::{Place, detach};
use crate::support::tools::{kill, shout};
use crate::support::{KIB, MIB, Mount, Store};

/// Seeds of sequences that once failed.
const PINNED: [u64; 0] = [];

/// Sequences, and operations in each; `scripts/soak` asks for more.
const SEQUENCES: u64 = 50;
const OPERATIONS: u64 = 400;

/// What there may be: few names, so that operations meet.
const NAMES: [&str; 4] = ["a", "b.txt", "ü c", "d"];

/// What an operation answered: a value, or an errno.
type Answer = Result<u64, i32>;

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

/// One operation, on whatever tree it is told. Numbers are drawn before, so both trees get the same.
#[derive(Clone, Debug)]
enum Operation {
    Create {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    CreateNew {
        path: PathBuf,
    },
    Overwrite {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    Append {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    WriteAt {
        path: PathBuf,
        at: u64,
        seed: u64,
        len: u64,
    },
    ReadAt {
        path: PathBuf,
        at: u64,
        len: u64,
    },
    Truncate {
        path: PathBuf,
        size: u64,
    },
    Allocate {
        path: PathBuf,
        mode: i32,
        at: u64,
        len: u64,
    },
    CopyRange {
        from: PathBuf,
        to: PathBuf,
    },
    MapWrite {
        path: PathBuf,
        at: u64,
        seed: u64,
        len: u64,
    },
    Unlink {
        path: PathBuf,
    },
    UnlinkOpen {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    MakeDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    RenameNoReplace {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
    ReadLink {
        path: PathBuf,
    },
    Mode {
        path: PathBuf,
        mode: u32,
    },
    Owner {
        path: PathBuf,
        uid: u32,
        gid: u32,
    },
    Times {
        path: PathBuf,
        seconds: u64,
    },
    SetXattr {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    GetXattr {
        path: PathBuf,
    },
    RemoveXattr {
        path: PathBuf,
    },
    List {
        path: PathBuf,
    },
    Stat {
        path: PathBuf,
    },
    Make {
        path: PathBuf,
    },
    Hold {
        path: PathBuf,
        appends: bool,
    },
    HeldWrite {
        at: u64,
        seed: u64,
        len: u64,
    },
    HeldTruncate {
        size: u64,
    },
    HeldRead {
        at: u64,
        len: u64,
    },
    HeldMode {
        mode: u32,
    },
    HeldSync,
    Release,
}

/// Every so often something that both trees must come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Remount,
    Kill,
}

/// A tree the operations are performed in, and the descriptor that is held in it.
struct Tree {
    root: PathBuf,
    held: Option<File>,
}

impl Tree {
    fn perform(&mut self, operation: &Operation) -> Answer {
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
    fn all(&self) -> BTreeMap<PathBuf, Entry> {
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
struct Entry {
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

struct Dice(Random);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn path(&mut self) -> PathBuf {
        let name = |dice: &mut Dice| NAMES[dice.below(NAMES.len() as u64) as usize];
        let mut path = PathBuf::from(name(self));
        while self.below(3) == 0 && path.components().count() < 4 {
            path.push(name(self));
        }
        path
    }

    fn len(&mut self) -> u64 {
        match self.below(40) {
            0 => 5 * MIB + self.below(2 * MIB),
            1..=4 => 0,
            5..=12 => self.below(300 * KIB),
            _ => self.below(9000),
        }
    }

    fn small(&mut self) -> u64 {
        self.below(20_000)
    }

    fn operation(&mut self, holds: bool) -> Operation {
        use Operation::*;
        if holds && self.below(3) == 0 {
            return match self.below(8) {
                0..=2 => HeldWrite {
                    at: self.small(),
                    seed: self.below(1000),
                    len: self.small(),
                },
                3 => HeldTruncate { size: self.small() },
                4 => HeldRead {
                    at: self.small(),
                    len: self.small(),
                },
                5 => HeldMode {
                    mode: 0o400 | self.below(0o400) as u32,
                },
                6 => HeldSync,
                _ => Release,
            };
        }
        let (path, seed) = (self.path(), self.below(1000));
        match self.below(44) {
            0..=4 => Create {
                path,
                seed,
                len: self.len(),
            },
            5 => CreateNew { path },
            6 => Overwrite {
                path,
                seed,
                len: self.len(),
            },
            7..=8 => Append {
                path,
                seed,
                len: self.len(),
            },
            9..=10 => WriteAt {
                path,
                at: self.small() * (1 + self.below(100)),
                seed,
                len: self.small(),
            },
            11..=12 => ReadAt {
                path,
                at: self.small(),
                len: self.len(),
            },
            13..=14 => Truncate {
                path,
                size: self.len(),
            },
            15 => Allocate {
                path,
                mode: [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_ZERO_RANGE,
                    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
                ][self.below(5) as usize],
                at: self.small(),
                len: 1 + self.small(),
            },
            16..=17 => CopyRange {
                from: path,
                to: self.path(),
            },
            18 => MapWrite {
                path,
                at: self.small(),
                seed,
                len: self.small(),
            },
            19..=20 => Unlink { path },
            21 => UnlinkOpen {
                path,
                seed,
                len: self.small(),
            },
            22..=24 => MakeDirectory { path },
            25 => RemoveDirectory { path },
            26..=29 => Rename {
                from: path,
                to: self.path(),
            },
            30 => RenameNoReplace {
                from: path,
                to: self.path(),
            },
            31 => Symlink {
                path,
                target: self.path(),
            },
            32 => ReadLink { path },
            33 => Mode {
                path,
                mode: 0o400 | self.below(0o400) as u32,
            },
            34 => Owner {
                path,
                uid: self.below(3) as u32,
                gid: self.below(3) as u32,
            },
            35 => Times {
                path,
                seconds: self.below(1_000_000_000),
            },
            36 => SetXattr {
                path,
                seed,
                len: self.below(500),
            },
            37 => GetXattr { path },
            38 => RemoveXattr { path },
            39 => List { path },
            40 => Stat { path },
            41 => Make { path },
            _ => match holds {
                true => Stat { path },
                false => Hold {
                    path,
                    appends: self.below(4) == 0,
                },
            },
        }
    }
}

/// Two trees that are to stay the same.
struct Twins {
    store: Store,
    place: Place,
    mount: Option<Mount>,
    mounted: Tree,
    local: Tree,
    _folder: tempfile::TempDir,
}

impl Twins {
    fn new() -> Twins {
        let (store, place) = (Store::embedded(), Place::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mount = Twins::mount(&store, &place);
        let tree = |root: PathBuf| Tree { root, held: None };
        Twins {
            mounted: tree(mount.path("")),
            local: tree(folder.path().to_path_buf()),
            mount: Some(mount),
            store,
            place,
            _folder: folder,
        }
    }

    fn mount(store: &Store, place: &Place) -> Mount {
        let source = format!("s3://{}", store.bucket);
        Mount::within(
            place,
            "mnt",
            store,
            &source,
            &["--xattrs", "--part-size", "5M"],
        )
    }

    fn step(&mut self, operation: &Operation, history: &str) {
        let expected = self.local.perform(operation);
        let found = self.mounted.perform(operation);
        assert!(
            expected == found || is_known(operation, expected, found),
            "{history}: {operation:?}: {expected:?} in the local tree, {found:?} in the mount"
        );
        assert!(
            (expected.is_ok()) == found.is_ok(),
            "{history}: {operation:?}: only one tree has changed"
        );
        self.compare(history, operation);
    }

    fn compare(&self, history: &str, what: &dyn std::fmt::Debug) {
        let (expected, found) = (self.local.all(), self.mounted.all());
        let paths = expected.keys().chain(found.keys());
        for path in paths {
            let (expected, found) = (expected.get(path), found.get(path));
            assert!(
                expected == found,
                "{history}: {what:?}: {path:?} is\n{found:?}, and should be\n{expected:?}"
            );
        }
    }

    fn happens(&mut self, event: Event) {
        // What is closed is published, so nothing of it may be lost.
        (self.local.held, self.mounted.held) = (None, None);
        let mut mount = self.mount.take().expect("mounted");
        match event {
            Event::Remount => assert!(mount.terminate().success()),
            Event::Kill => {
                kill(mount.daemon(), libc::SIGKILL);
                kill(mount.pid(), libc::SIGKILL);
                mount.wait_for_death();
                detach(&self.mounted.root);
            }
        }
        self.mount = Some(Twins::mount(&self.store, &self.place));
    }
}

/// Where the two may differ, and why.
fn is_known(operation: &Operation, expected: Answer, found: Answer) -> bool {
    match (operation, expected, found) {
        // Which of two errors is told, when both are true, is nobody's promise.
        (Operation::Rename { .. } | Operation::RenameNoReplace { .. }, Err(_), Err(_)) => true,
        _ => false,
    }
}

fn sequence(seed: u64, operations: u64) {
    let mut dice = Dice(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let mut twins = Twins::new();
    for number in 0..operations {
        let history = format!("seed {seed}, operation {number}");
        if dice.below(100) == 0 {
            let event = match dice.below(2) {
                0 => Event::Remount,
                _ => Event::Kill,
            };
            println!("{history}: {event:?}");
            twins.happens(event);
            twins.compare(&history, &event);
        }
        let operation = dice.operation(twins.local.held.is_some());
        println!("{history}: {operation:?}");
        twins.step(&operation, &history);
    }
    twins.happens(Event::Remount);
    twins.compare(&format!("seed {seed}"), &"the end");
    assert!(twins.mount.take().expect("mounted").terminate().success());
    twins.store.assert_no_uploads_within(5, "the end");
}

#[test]
fn a_mount_is_what_its_local_twin_is() {
    // One that has failed, and nothing else.
    if let Ok(seed) = std::env::var("WHOLEFS_MODEL_SEED") {
        return sequence(seed.parse().expect("a number"), OPERATIONS);
    }
    for seed in PINNED {
        sequence(seed, OPERATIONS);
    }
    for seed in 0..SEQUENCES {
        sequence(seed, OPERATIONS);
    }
    shout(&format!("{} operations compared", SEQUENCES * OPERATIONS));
}

/// `scripts/soak --minutes N` asks for this one.
#[test]
#[ignore = "takes as long as it is told to: scripts/soak"]
fn soak_of_the_model() {
    let minutes: u64 = match std::env::var("WHOLEFS_SOAK_MINUTES") {
        Ok(text) => text.parse().expect("minutes"),
        Err(_) => 1,
    };
    let from = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let begun = std::time::Instant::now();
    let mut sequences = 0;
    while begun.elapsed() < Duration::from_secs(minutes * 60) {
        sequence(from + sequences, OPERATIONS);
        sequences += 1;
    }
    shout(&format!(
        "{} operations compared, seeds from {from}",
        sequences * OPERATIONS
    ));
}
