//! Answers to READ from several buffers at once, and pages given unasked. fuser takes a single buffer, and to make it of
//! many is to copy every byte; so such a message is written to the device here. For that all event threads read from one
//! descriptor: an answer has to go in where its request came out.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;

use fuser::{ReplyData, RequestId};

use crate::fs::Data;

/// The kernel's side of a mount, as soon as there is one.
#[derive(Default)]
pub(super) struct Device(OnceLock<Ends>);

struct Ends {
    ours: File,
    /// fuser's, which outlives its session's last request.
    its: RawFd,
}

/// `struct fuse_out_header` of linux/fuse.h.
const HEADER: usize = 16;
/// That, and `struct fuse_notify_store_out`.
const STORE: usize = HEADER + 24;
/// So many are taken at once (UIO_MAXIOV), the header among them.
const PIECES_MAX: usize = 1024;
/// What says so where an answer has its error.
const NOTIFY_STORE: i32 = 4;

impl Device {
    pub(super) fn set(&self, device: BorrowedFd<'_>) -> io::Result<()> {
        let _ = self.0.set(Ends {
            ours: File::from(device.as_fd().try_clone_to_owned()?),
            its: device.as_raw_fd(),
        });
        Ok(())
    }

    /// The session is over: leaves fuser nothing to unmount. It would take away whatever is mounted at its path by
    /// then, since it holds a connection that is gone for one that is there (`is_mounted` of 0.18); on a pipe that
    /// nobody writes to it sees neither. Whoever mounted unmounts, and knows his mount by its device.
    pub(super) fn retire(&self) {
        let Some(Ends { its, .. }) = self.0.get() else {
            return;
        };
        if let Ok((nothing, _)) = io::pipe() {
            // SAFETY: the descriptor is fuser's, and open until the session is dropped; what it is made to be is
            // closed with it.
            unsafe { libc::dup2(nothing.as_raw_fd(), *its) };
        }
    }

    pub(super) fn answer(&self, request: RequestId, reply: ReplyData, data: &Data) {
        let (Some(Ends { ours, .. }), [_, _, ..]) = (self.0.get(), data.pieces()) else {
            return reply.data(data.pieces().first().map_or(&[], |only| only));
        };
        let mut header = [0; HEADER];
        header[8..].copy_from_slice(&u64::from(request).to_ne_bytes());
        match send(ours, &mut header, data) {
            Ok(()) => {
                // It must not answer once more when it is dropped; all that it holds is a share of the device.
                std::mem::forget(reply);
            }
            // Nobody waits for it any more (ENOENT), or it was not taken: fuser's way says which.
            Err(_) => reply.data(&data.pieces().concat()),
        }
    }

    /// Gives the kernel pages of a file.
    pub(super) fn store(&self, ino: u64, offset: u64, data: &Data) -> io::Result<()> {
        let Some(Ends { ours, .. }) = self.0.get() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut header = [0; STORE];
        header[4..8].copy_from_slice(&NOTIFY_STORE.to_ne_bytes());
        header[16..24].copy_from_slice(&ino.to_ne_bytes());
        header[24..32].copy_from_slice(&offset.to_ne_bytes());
        header[32..36].copy_from_slice(&(data.len() as u32).to_ne_bytes());
        send(ours, &mut header, data)
    }
}

/// Writes a message of that header, whose length is yet to be put in, and of these bytes.
fn send(mut device: &File, header: &mut [u8], data: &Data) -> io::Result<()> {
    let length = (header.len() + data.len()) as u32;
    header[..4].copy_from_slice(&length.to_ne_bytes());
    let mut slices = vec![IoSlice::new(header)];
    let joined;
    match data.pieces() {
        few if few.len() < PIECES_MAX => slices.extend(few.iter().map(|piece| IoSlice::new(piece))),
        many => {
            joined = many.concat();
            slices.push(IoSlice::new(&joined));
        }
    }
    let taken = device.write_vectored(&slices)?;
    assert_eq!(taken, length as usize, "the kernel takes a message whole");
    Ok(())
}
