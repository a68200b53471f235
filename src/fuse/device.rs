//! Answers to READ from several buffers at once. fuser takes a single one, and to make it of many is to copy
//! every byte; so such an answer is written to the device here. For that all event threads read from one
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
        let length = (HEADER + data.len()) as u32;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[8..].copy_from_slice(&u64::from(request).to_ne_bytes());
        let mut slices = vec![IoSlice::new(&header)];
        slices.extend(data.pieces().iter().map(|piece| IoSlice::new(piece)));
        match (&*ours).write_vectored(&slices) {
            Ok(taken) => {
                assert_eq!(taken, length as usize, "the kernel takes an answer whole");
                // It must not answer once more when it is dropped; all that it holds is a share of the device.
                std::mem::forget(reply);
            }
            // Nobody waits for it any more (ENOENT), or it was not taken: fuser's way says which.
            Err(_) => reply.data(&data.pieces().concat()),
        }
    }
}
