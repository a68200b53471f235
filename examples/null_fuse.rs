//! A filesystem that accepts every byte and drops it, and serves zeros: what the kernel's side of FUSE costs
//! at the least. `scripts/bench` measures it beside wholefs.
//!
//! `null_fuse MOUNTPOINT direct|buffered [SIZE]`: with SIZE every name is a file of so many bytes; without,
//! none is there until it is made. Ends when it is unmounted.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, TimeOrNow, WriteFlags,
};

const MIB: usize = 1 << 20;
static ZEROS: [u8; MIB] = [0; MIB];
const ROOT: u64 = 1;
const TTL: Duration = Duration::from_secs(60);

struct Null {
    flags: FopenFlags,
    size: Option<u64>,
}

impl Null {
    fn attributes(&self, ino: u64) -> FileAttr {
        let (kind, perm, size) = match ino {
            ROOT => (FileType::Directory, 0o755, 0),
            _ => (FileType::RegularFile, 0o644, self.size.unwrap_or(0)),
        };
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            // SAFETY: these calls cannot fail and take nothing.
            uid: unsafe { libc::getuid() },
            gid: unsafe { libc::getgid() },
            rdev: 0,
            blksize: MIB as u32,
            flags: 0,
        }
    }
}

fn inode_of(name: &OsStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() | 2
}

impl Filesystem for Null {
    /// As wholefs asks for it: the two are to be compared.
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(MIB as u32);
        let _ = config.set_max_readahead(MIB as u32);
        let _ = config.set_max_background(256);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.size {
            Some(_) => reply.entry(&TTL, &self.attributes(inode_of(name)), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &self.attributes(ino.0));
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.attributes(inode_of(name));
        reply.created(&TTL, &made, Generation(0), FileHandle(0), self.flags);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), self.flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size.unwrap_or(0).saturating_sub(offset);
        reply.data(&ZEROS[..MIB.min(size as usize).min(left as usize)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.written(data.len() as u32);
    }

    /// Empty, whatever can be opened.
    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, reply: ReplyDirectory) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [mount_point, how, ref size @ ..] = arguments[..] else {
        return Err(io::Error::other("see the head of examples/null_fuse.rs"));
    };
    let null = Null {
        flags: match how {
            "direct" => FopenFlags::FOPEN_DIRECT_IO,
            _ => FopenFlags::FOPEN_KEEP_CACHE,
        },
        size: size.first().and_then(|size| size.parse().ok()),
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("null_fuse".into()), MountOption::RW];
    config.n_threads = Some(std::thread::available_parallelism().map_or(2, |n| n.get()));
    config.clone_fd = true;
    Session::new(null, std::path::Path::new(mount_point), &config)?.run()
}
