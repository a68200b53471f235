//! Between the kernel and the filesystem: fuser's calls become ours, our errors become errnos. The
//! only user of fuser.
//!
//! Invariants:
//! - An event thread never waits for the network: what is not known at once is answered by a task.
//! - Every request is answered; one whose caller was killed meanwhile is answered EINTR, and so is one that only
//!   looks when its caller is interrupted.
//! - A refusal worth a person's attention is logged once, here, with the path it is about.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;
use tracing::warn;

mod answers;
mod cache;
mod device;
mod session;

pub use cache::is_held_up;
pub use session::{MountOptions, Mounted, mount};

use crate::fs::{
    At, Call, Caller, Calls, Data, Error, Fs, NAME_MAX, Posix, Renaming, Result, Setting,
};
use crate::host::signals;
use answers::{
    GENERATION, as_told, file_attr, open_flags, read_directory, reply_empty, reply_entry,
    reply_sized,
};
use device::Device;

struct Frontend {
    fs: Arc<Fs>,
    runtime: Handle,
    /// Extended attributes are there. Where they are not, the kernel does not ask a second time.
    xattrs: bool,
    /// It was said that they are not.
    refused_xattr: AtomicBool,
    device: Arc<Device>,
}

impl Frontend {
    /// Runs what may wait for the store, and answers when it is done or its caller is killed.
    fn spawn<T: Send + 'static>(
        &self,
        call: Call,
        caller: u32,
        work: impl Future<Output = Result<T>> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        self.spawn_until(signals::is_being_killed, call, caller, work, answer);
    }

    /// The same for what changes nothing: who catches Ctrl-C gets out of that as well, by EINTR. (Of a
    /// change he could not tell whether it was made.)
    fn look<T: Send + 'static>(
        &self,
        call: Call,
        caller: u32,
        work: impl Future<Output = Result<T>> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        self.spawn_until(signals::is_being_interrupted, call, caller, work, answer);
    }

    fn spawn_until<T: Send + 'static>(
        &self,
        leaves: fn(u32) -> bool,
        call: Call,
        caller: u32,
        work: impl Future<Output = Result<T>> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let (left, fs, began) = (left(caller, leaves), self.fs.clone(), Instant::now());
        self.runtime.spawn(async move {
            answer(unless(left, work).await);
            fs.calls().waited(call, began);
        });
    }

    /// On this thread as far as that goes without waiting. Waking another takes as long as an answer that is at hand.
    fn at_once(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        let _within = self.runtime.enter();
        let begun = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if begun.is_pending() {
            self.runtime.spawn(work);
        }
    }

    fn say(
        &self,
        call: Call,
        ino: u64,
        name: Option<&OsStr>,
    ) -> impl FnOnce(&Error) -> Errno + Send + 'static {
        let fs = self.fs.clone();
        let name = name.map(OsStr::to_os_string);
        move |error| log_refusal(&fs, call.name(), ino, name, error)
    }
}

impl Frontend {
    /// Told this, the kernel asks for nothing of the kind any more, and answers EOPNOTSUPP by itself. What it
    /// or `ls` wanted to know of every file is no reason to say anything.
    fn no_xattrs(&self, call: Call, ino: INodeNo, name: Option<&OsStr>) -> Errno {
        self.fs.calls().waited(call, Instant::now());
        let ours = name.filter(|name| name.as_encoded_bytes().starts_with(USER));
        if let Some(name) = ours
            && !self.refused_xattr.swap(true, Ordering::Relaxed)
        {
            warn!(
                "{} {}: {name:?}: extended attributes are off: mount with --xattrs to have them",
                call.name(),
                self.fs.path_of(ino.0)
            );
        }
        Errno::ENOSYS
    }
}

/// What the extended attributes that can be had begin with.
const USER: &[u8] = b"user.";

/// The errno of a refusal, logged if it has something to say.
fn log_refusal(fs: &Fs, operation: &str, ino: u64, name: Option<OsString>, error: &Error) -> Errno {
    if let Some(why) = &error.why {
        let mut path = fs.path_of(ino);
        if let Some(name) = name {
            if !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(&name.to_string_lossy());
        }
        warn!("{operation} {path}: {why}");
    }
    Errno::from_i32(error.errno)
}

/// The work's result, or EINTR when the caller leaves.
async fn unless<T>(
    left: impl Future<Output = ()>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        result = work => result,
        () = left => Err(Error::quiet(libc::EINTR)),
    }
}

/// Resolves when the thread has been killed, or interrupted. A request of a program that is only slow is left alone.
///
/// (The kernel would tell: by INTERRUPT, which fuser does not hand on. It is answered that we do not know it,
/// once, and from then on looking is the only way.)
async fn left(tid: u32, leaves: fn(u32) -> bool) {
    let mut pause = Duration::from_millis(500);
    loop {
        tokio::time::sleep(pause).await;
        pause = Duration::from_millis(200);
        if tid == 0 {
            std::future::pending::<()>().await;
        }
        if leaves(tid) {
            return;
        }
    }
}

impl Filesystem for Frontend {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // One by one: fuser refuses all when the kernel lacks one.
        for wanted in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_readahead(1 << 20);
        let _ = config.set_max_background(256);
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn destroy(&mut self) {
        self.device.retire();
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let began = Instant::now();
        if let Some(known) = self.fs.lookup_cached(parent.0, name) {
            let say = self.say(Call::Lookup, parent.0, Some(name));
            match known {
                Ok(node) => reply_entry(reply, &self.fs.attributes(&node)),
                Err(error) => reply.error(say(&error)),
            }
            return self.fs.calls().waited(Call::Lookup, began);
        }
        let (fs, name) = (self.fs.clone(), name.to_os_string());
        let say = self.say(Call::Lookup, parent.0, Some(&name));
        let work = async move {
            let node = fs.lookup(parent.0, &name).await?;
            Ok(fs.attributes(&node))
        };
        self.look(Call::Lookup, request.pid(), work, |result| match result {
            Ok(attributes) => reply_entry(reply, &attributes),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.fs.forget(ino.0, count);
    }

    fn getattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let began = Instant::now();
        let say = self.say(Call::Stat, ino.0, None);
        if let Some(known) = self.fs.getattr_cached(ino.0) {
            match known {
                Ok(attributes) => reply.attr(&attributes.ttl, &file_attr(&attributes)),
                Err(error) => reply.error(say(&error)),
            }
            return self.fs.calls().waited(Call::Stat, began);
        }
        let fs = self.fs.clone();
        self.look(
            Call::Stat,
            request.pid(),
            async move { fs.getattr(ino.0).await },
            |result| match result {
                Ok(attributes) => reply.attr(&attributes.ttl, &file_attr(&attributes)),
                Err(error) => reply.error(say(&error)),
            },
        );
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let fs = self.fs.clone();
        let caller = request.pid();
        let say = self.say(Call::SetAttributes, ino.0, None);
        let work = async move {
            if let Some(size) = size {
                fs.truncate(ino.0, handle.map(|h| h.0), size, caller)
                    .await?;
            }
            let time = |time| match time {
                TimeOrNow::SpecificTime(time) => as_told(time),
                TimeOrNow::Now => SystemTime::now(),
            };
            let change = Posix {
                mode,
                uid,
                gid,
                // The kernel sends a time along with a truncation; that one is the write's own.
                mtime: mtime.map(time).filter(|_| size.is_none()),
                atime: atime.map(time),
            };
            fs.set_attributes(ino.0, change).await
        };
        self.spawn(Call::SetAttributes, caller, work, |result| match result {
            Ok(attributes) => reply.attr(&attributes.ttl, &file_attr(&attributes)),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            // Devices, FIFOs and sockets have no object to be.
            return reply.error(Errno::EPERM);
        }
        let (fs, name, maker) = (self.fs.clone(), name.to_os_string(), maker(request));
        let say = self.say(Call::MakeNode, parent.0, Some(&name));
        let caller = request.pid();
        let work = async move {
            let flags = libc::O_WRONLY | libc::O_EXCL;
            let (node, _, opened) = fs
                .create(parent.0, &name, flags, mode, maker, caller)
                .await?;
            // To its end, even if whoever asks is killed: nobody else knows the handle.
            let made = fs.to_its_end({
                let fs = fs.clone();
                async move {
                    let made = fs.sync(opened.handle, caller).await;
                    fs.release(opened.handle).await;
                    made
                }
            });
            let made = made.await;
            if made.is_err() {
                fs.forget(node.ino, 1);
            }
            made.map(|()| fs.attributes(&node))
        };
        self.spawn(Call::MakeNode, caller, work, |result| match result {
            Ok(attributes) => reply_entry(reply, &attributes),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, maker) = (self.fs.clone(), name.to_os_string(), maker(request));
        let say = self.say(Call::MakeDirectory, parent.0, Some(&name));
        let work = async move {
            let node = fs.mkdir(parent.0, &name, mode, maker).await?;
            Ok(fs.attributes(&node))
        };
        self.spawn(
            Call::MakeDirectory,
            request.pid(),
            work,
            |result| match result {
                Ok(attributes) => reply_entry(reply, &attributes),
                Err(error) => reply.error(say(&error)),
            },
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs.clone(), name.to_os_string());
        let (say, caller) = (self.say(Call::Unlink, parent.0, Some(&name)), request.pid());
        self.spawn(
            Call::Unlink,
            caller,
            async move { fs.unlink(parent.0, &name, caller).await },
            |result| reply_empty(reply, result, say),
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs.clone(), name.to_os_string());
        let say = self.say(Call::RemoveDirectory, parent.0, Some(&name));
        self.spawn(
            Call::RemoveDirectory,
            request.pid(),
            async move { fs.rmdir(parent.0, &name).await },
            |result| reply_empty(reply, result, say),
        );
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (fs, name, target) = (
            self.fs.clone(),
            name.to_os_string(),
            target.as_os_str().to_os_string(),
        );
        let maker = maker(request);
        let say = self.say(Call::Symlink, parent.0, Some(&name));
        let work = async move {
            let node = fs.symlink(parent.0, &name, &target, maker).await?;
            Ok(fs.attributes(&node))
        };
        self.spawn(Call::Symlink, request.pid(), work, |result| match result {
            Ok(attributes) => reply_entry(reply, &attributes),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.fs.clone();
        let say = self.say(Call::ReadLink, ino.0, None);
        let work = async move { fs.readlink(ino.0).await };
        self.look(Call::ReadLink, request.pid(), work, |result| match result {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits.
        let len = len.min(COPY_MAX);
        let (fs, caller) = (self.fs.clone(), request.pid());
        let say = self.say(Call::CopyRange, ino_in.0, None);
        let work = async move {
            let (from, to) = (handle_in.0, handle_out.0);
            fs.copy_range(from, offset_in, to, offset_out, len, caller)
                .await
        };
        self.spawn(Call::CopyRange, caller, work, |result| match result {
            Ok(Some(copied)) => reply.written(copied as u32),
            // The kernel copies the bytes then.
            Ok(None) => reply.error(Errno::EOPNOTSUPP),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // Two keys cannot be exchanged at once, and there are no whiteouts.
        let renaming = match flags {
            RenameFlags::RENAME_NOREPLACE => Renaming::OntoNothing,
            flags if flags.is_empty() => Renaming::Replacing,
            _ => return reply.error(Errno::EINVAL),
        };
        let (fs, name, new_name) = (
            self.fs.clone(),
            name.to_os_string(),
            new_name.to_os_string(),
        );
        let say = self.say(Call::Rename, parent.0, Some(&name));
        let work = async move {
            fs.rename(parent.0, &name, new_parent.0, &new_name, renaming)
                .await
        };
        self.spawn(Call::Rename, request.pid(), work, |result| {
            reply_empty(reply, result, say)
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let maker = maker(request);
        let (fs, name, caller) = (self.fs.clone(), name.to_os_string(), request.pid());
        let say = self.say(Call::Create, parent.0, Some(&name));
        let work = async move { fs.create(parent.0, &name, flags, mode, maker, caller).await };
        self.spawn(Call::Create, caller, work, move |result| match result {
            Ok((_, attributes, opened)) => reply.created(
                &attributes.ttl,
                &file_attr(&attributes),
                GENERATION,
                FileHandle(opened.handle),
                open_flags(&opened, flags),
            ),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, caller) = (self.fs.clone(), request.pid());
        let say = self.say(Call::Open, ino.0, None);
        let leaves = match flags.0 & libc::O_TRUNC {
            0 => signals::is_being_interrupted,
            _ => signals::is_being_killed,
        };
        self.spawn_until(
            leaves,
            Call::Open,
            caller,
            async move { fs.open(ino.0, flags.0, caller).await },
            move |result| match result {
                Ok(opened) => reply.opened(FileHandle(opened.handle), open_flags(&opened, flags.0)),
                Err(error) => reply.error(say(&error)),
            },
        );
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // To read on may begin to fetch ahead, which runs as a task.
        let _runtime = self.runtime.enter();
        let (sampled, size) = (Calls::sample(), size as usize);
        if let Some(data) = self.fs.try_read(handle.0, offset, size) {
            self.device.answer(request.unique(), reply, &data);
            return self.fs.calls().answered_at_once(Call::Read, sampled);
        }
        let (fs, device, unique) = (self.fs.clone(), self.device.clone(), request.unique());
        let say = self.say(Call::Read, ino.0, None);
        let work = async move { fs.read(handle.0, offset, size).await };
        let answer = move |result: Result<Data>| match result {
            Ok(data) => device.answer(unique, reply, &data),
            Err(error) => reply.error(say(&error)),
        };
        let leaves = signals::is_being_interrupted_or_gone;
        self.spawn_until(leaves, Call::Read, request.pid(), work, answer);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let caller = request.pid();
        let say = self.say(Call::Write, ino.0, None);
        let are_pages = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        if are_pages && !self.fs.pages_count(handle.0) {
            // Of an error somebody else would hear, who has to do with the same file.
            return reply.written(data.len() as u32);
        }
        // Sealing a part may begin an upload, which runs as a task.
        let _runtime = self.runtime.enter();
        let sampled = Calls::sample();
        // Pages have their place, whatever their file was opened for; and that may have changed since.
        let appends = !are_pages && flags.0 & libc::O_APPEND != 0;
        let at = move |offset| match appends {
            true => At::End,
            false => At::Offset(offset),
        };
        let unprivileged = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let tried = self.fs.try_write(handle.0, at(offset), data, caller);
        if unprivileged {
            self.fs.written_without_privilege(handle.0);
        }
        let taken = match tried {
            Ok(taken) if taken == data.len() => {
                let Some(calm) = self.fs.must_wait() else {
                    reply.written(taken as u32);
                    return self.fs.calls().answered_at_once(Call::Write, sampled);
                };
                let work = async move {
                    calm.await;
                    Ok(())
                };
                return self.spawn(Call::Write, caller, work, move |result| match result {
                    Ok(()) => reply.written(taken as u32),
                    Err(error) => reply.error(say(&error)),
                });
            }
            Ok(taken) => taken,
            Err(error) => return reply.error(say(&error)),
        };
        let (fs, len) = (self.fs.clone(), data.len() as u32);
        let rest = data[taken..].to_vec();
        let work = async move {
            fs.write(handle.0, at(offset + taken as u64), &rest, caller)
                .await?;
            if unprivileged {
                fs.written_without_privilege(handle.0);
            }
            Ok(())
        };
        self.spawn(Call::Write, caller, work, move |result| match result {
            Ok(()) => reply.written(len),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (fs, caller) = (self.fs.clone(), request.pid());
        let say = self.say(Call::Close, ino.0, None);
        self.spawn(
            Call::Close,
            caller,
            async move { fs.flush(handle.0, caller).await },
            |result| reply_empty(reply, result, say),
        );
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.fs.release(handle.0);
        self.runtime.spawn(async move {
            released.await;
            reply.ok();
        });
    }

    fn fsync(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let (fs, caller) = (self.fs.clone(), request.pid());
        let say = self.say(Call::Sync, ino.0, None);
        self.spawn(
            Call::Sync,
            caller,
            async move { fs.sync(handle.0, caller).await },
            |result| reply_empty(reply, result, say),
        );
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.fs.open_directory(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(Errno::from_i32(error.errno)),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let fs = self.fs.clone();
        let say = self.say(Call::ReadDirectory, ino.0, None);
        // The reply collects entries as they are found, so it is there that the caller's leaving is minded.
        let (began, calls) = (Instant::now(), self.fs.clone());
        let left = left(request.pid(), signals::is_being_interrupted);
        self.at_once(async move {
            if let Err((reply, error)) = read_directory(fs, handle.0, offset, reply, left).await {
                reply.error(say(&error));
            }
            calls.calls().waited(Call::ReadDirectory, began);
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.close_directory(handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        let say = self.say(Call::Sync, ino.0, None);
        self.spawn(
            Call::Sync,
            request.pid(),
            async move { fs.sync_directory(ino.0).await },
            |result| reply_empty(reply, result, say),
        );
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // A bucket has no size: a petabyte, all free, so that programs that look first go on.
        const BLOCK: u32 = 4096;
        const BLOCKS: u64 = (1 << 50) / BLOCK as u64;
        reply.statfs(
            BLOCKS,
            BLOCKS,
            BLOCKS,
            u64::from(u32::MAX),
            u64::from(u32::MAX),
            BLOCK,
            NAME_MAX as u32,
            BLOCK,
        );
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if !self.xattrs {
            return reply.error(self.no_xattrs(Call::SetXattr, ino, Some(name)));
        }
        let setting = match flags {
            libc::XATTR_CREATE => Setting::New,
            libc::XATTR_REPLACE => Setting::Existing,
            0 => Setting::Either,
            _ => return reply.error(Errno::EINVAL),
        };
        let (fs, name, value) = (self.fs.clone(), name.to_os_string(), value.to_vec());
        let say = self.say(Call::SetXattr, ino.0, None);
        let work = async move { fs.set_xattr(ino.0, &name, &value, setting).await };
        self.spawn(Call::SetXattr, request.pid(), work, |result| {
            reply_empty(reply, result, say)
        });
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        if !self.xattrs {
            return reply.error(self.no_xattrs(Call::GetXattr, ino, Some(name)));
        }
        // The kernel and ls ask for others of every file: never the store's business.
        if !name.as_encoded_bytes().starts_with(USER) {
            return reply.error(Errno::ENODATA);
        }
        let (fs, name) = (self.fs.clone(), name.to_os_string());
        let say = self.say(Call::GetXattr, ino.0, None);
        let work = async move { fs.get_xattr(ino.0, &name).await };
        self.look(Call::GetXattr, request.pid(), work, move |result| {
            reply_sized(reply, size, result, say)
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.xattrs {
            return reply.error(self.no_xattrs(Call::ListXattr, ino, None));
        }
        let fs = self.fs.clone();
        let say = self.say(Call::ListXattr, ino.0, None);
        let work = async move { fs.list_xattr(ino.0).await };
        self.look(Call::ListXattr, request.pid(), work, move |result| {
            reply_sized(reply, size, result, say)
        });
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.xattrs {
            return reply.error(self.no_xattrs(Call::RemoveXattr, ino, Some(name)));
        }
        let (fs, name) = (self.fs.clone(), name.to_os_string());
        let say = self.say(Call::RemoveXattr, ino.0, None);
        let work = async move { fs.remove_xattr(ino.0, &name).await };
        self.spawn(Call::RemoveXattr, request.pid(), work, |result| {
            reply_empty(reply, result, say)
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (fs, caller) = (self.fs.clone(), request.pid());
        let say = self.say(Call::Allocate, ino.0, None);
        let range = offset..offset.saturating_add(length);
        let work = async move { fs.allocate(handle.0, range, mode, caller).await };
        self.spawn(Call::Allocate, caller, work, |result| {
            reply_empty(reply, result, say)
        });
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let fs = self.fs.clone();
        let say = self.say(Call::Seek, ino.0, None);
        let work = async move { fs.seek(handle.0, offset, data).await };
        self.look(Call::Seek, request.pid(), work, |result| match result {
            Ok(found) => reply.offset(found as i64),
            Err(error) => reply.error(say(&error)),
        });
    }

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Asked only where the kernel does not check permissions itself.
        reply.ok();
    }
}

fn maker(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

/// A whole number of gibibytes, so that what follows begins at a part's border.
const COPY_MAX: u64 = 3 << 30;
