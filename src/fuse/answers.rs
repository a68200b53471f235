//! What is known, in the form the kernel takes it in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileType, FopenFlags, Generation, INodeNo, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyXattr,
};

use super::unless;
use crate::fs::{Attributes, Error, Fs, Kind, Read, Result};

/// An inode number is never given to another file in the life of a mount.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn file_attr(attributes: &Attributes) -> FileAttr {
    let Attributes {
        ino,
        kind,
        size,
        modified,
        accessed,
        changed,
        links,
        mode,
        uid,
        gid,
        ..
    } = *attributes;
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: accessed,
        mtime: modified,
        ctime: changed,
        crtime: modified,
        kind: match kind {
            Kind::File => FileType::RegularFile,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
        },
        perm: mode,
        nlink: links,
        uid,
        gid,
        rdev: 0,
        // What cp and friends use as their buffer.
        blksize: 1 << 20,
        flags: 0,
    }
}

pub(super) async fn read_directory(
    fs: Arc<Fs>,
    handle: u64,
    offset: u64,
    mut reply: ReplyDirectoryPlus,
    left: impl Future<Output = ()>,
) -> std::result::Result<(), (ReplyDirectoryPlus, Error)> {
    let listing = match fs.listing(handle) {
        Ok(listing) => listing,
        Err(error) => return Err((reply, error)),
    };
    let node = listing.node.clone();
    let mut at = offset;
    // `.` and `..` are offsets 0 and 1; they are not lookups.
    for (position, name) in [(0, "."), (1, "..")] {
        if at == position {
            let ino = if name == "." { node.ino } else { node.parent() };
            let shown = fs
                .node(ino)
                .map(|n| fs.attributes(&n))
                .unwrap_or_else(|_| fs.attributes(&node));
            at += 1;
            if reply.add(
                INodeNo(ino),
                at,
                name,
                &Duration::ZERO,
                &file_attr(&shown),
                GENERATION,
            ) {
                reply.ok();
                return Ok(());
            }
        }
    }
    // `.` or `..` is in it.
    let mut is_empty = at == offset;
    let beginning = offset == 0;
    let read = async {
        loop {
            let mut full = false;
            let read = listing.read(&fs, at - 2, beginning, |listed| {
                let Some((child, attributes)) = fs.node_of(&node, &listed) else {
                    at = listed.next + 2;
                    return true;
                };
                // Counted before the kernel can forget it.
                fs.remember(&child);
                full = reply.add(
                    INodeNo(child.ino),
                    listed.next + 2,
                    listed.name,
                    &attributes.ttl,
                    &file_attr(&attributes),
                    GENERATION,
                );
                if full {
                    fs.forget(child.ino, 1);
                } else {
                    is_empty = false;
                }
                !full
            });
            let read = read.await?;
            // An empty answer would be the end: of names that are all gone since, more is to be read.
            if full || !is_empty || read != Read::Some {
                return Ok(read);
            }
        }
    };
    match unless(left, read).await {
        Ok(read) => fs.note_read(&node, read),
        Err(error) => return Err((reply, error)),
    }
    reply.ok();
    Ok(())
}

pub(super) fn reply_entry(reply: ReplyEntry, attributes: &Attributes) {
    reply.entry(&attributes.ttl, &file_attr(attributes), GENERATION);
}

pub(super) fn reply_empty(
    reply: ReplyEmpty,
    result: Result<()>,
    say: impl FnOnce(&Error) -> Errno,
) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(say(&error)),
    }
}

/// What is asked for twice: how long it is, and then itself.
pub(super) fn reply_sized(
    reply: ReplyXattr,
    room: u32,
    result: Result<Vec<u8>>,
    say: impl FnOnce(&Error) -> Errno,
) {
    match result {
        Ok(data) if room == 0 => reply.size(data.len() as u32),
        Ok(data) if data.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(say(&error)),
    }
}

/// A time that the kernel told: of one before 1970 fuser takes the fraction away instead of adding it.
pub(super) fn as_told(time: SystemTime) -> SystemTime {
    let before = SystemTime::UNIX_EPOCH.duration_since(time);
    let fraction = before.map_or(0, |before| before.subsec_nanos());
    time + 2 * Duration::from_nanos(fraction.into())
}

pub(super) fn open_flags(opened: &crate::fs::Opened, flags: i32) -> FopenFlags {
    let mut out = FopenFlags::empty();
    if opened.direct {
        out |= FopenFlags::FOPEN_DIRECT_IO;
    } else if opened.keep_cache {
        out |= FopenFlags::FOPEN_KEEP_CACHE;
    }
    if flags & libc::O_ACCMODE == libc::O_RDONLY && !opened.is_new {
        // Closing a reader means nothing to us.
        out |= FopenFlags::FOPEN_NOFLUSH;
    }
    out
}
