//! The bytes of an object or a part: a list of pieces, never joined and never copied.
//!
//! A piece is shared memory, a run of zeros (what null mode kept of a body is its length), or a
//! range of a data file. Slicing and joining therefore cost nothing but the list, which is what
//! makes Complete and the copy operations instant in every mode.
//!
//! A data file is deleted when the last user is gone *and* no index entry refers to it. Index
//! entries are counted apart from users ([`Blob::retain`], [`Blob::release`]) because at shutdown
//! every user goes and every file must stay.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;

const ZEROS_LEN: usize = 1 << 20;
static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];
/// How much of a data file is read at a time.
const READ: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct DataFile {
    pub id: u64,
    pub path: PathBuf,
    /// Objects and parts of the index whose bytes lie here.
    entries: AtomicUsize,
}

impl DataFile {
    pub fn new(id: u64, path: PathBuf) -> DataFile {
        DataFile {
            id,
            path,
            entries: AtomicUsize::new(0),
        }
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if *self.entries.get_mut() == 0 {
            // An orphan left by a failure here is swept when the directory is opened again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Bytes(Bytes),
    Zeros(u64),
    File {
        file: Arc<DataFile>,
        offset: u64,
        len: u64,
    },
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Zeros(len) | Piece::File { len, .. } => *len,
        }
    }

    /// `range` lies within the piece.
    fn slice(&self, range: Range<u64>) -> Piece {
        let len = range.end - range.start;
        match self {
            Piece::Bytes(bytes) => {
                Piece::Bytes(bytes.slice(range.start as usize..range.end as usize))
            }
            Piece::Zeros(_) => Piece::Zeros(len),
            Piece::File { file, offset, .. } => Piece::File {
                file: file.clone(),
                offset: offset + range.start,
                len,
            },
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Blob {
    pieces: Vec<Piece>,
    len: u64,
}

impl Blob {
    pub fn push(&mut self, piece: Piece) {
        if piece.len() > 0 {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    pub fn append(&mut self, other: &Blob) {
        self.len += other.len;
        self.pieces.extend(other.pieces.iter().cloned());
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The bytes of `range`, which is cut to what there is.
    pub fn slice(&self, range: Range<u64>) -> Blob {
        let mut out = Blob::default();
        let mut at = 0;
        for piece in &self.pieces {
            let end = at + piece.len();
            let from = range.start.max(at);
            let to = range.end.min(end);
            if from < to {
                out.push(piece.slice(from - at..to - at));
            }
            if end >= range.end {
                break;
            }
            at = end;
        }
        out
    }

    /// An index entry now refers to these bytes.
    pub fn retain(&self) {
        for file in self.files() {
            file.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An index entry that referred to these bytes is gone.
    pub fn release(&self) {
        for file in self.files() {
            file.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn files(&self) -> impl Iterator<Item = &Arc<DataFile>> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::File { file, .. } => Some(file),
            _ => None,
        })
    }

    /// All the bytes in one vector; reads files on the calling thread. For tests.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.len as usize);
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::Zeros(len) => out.resize(out.len() + *len as usize, 0),
                Piece::File { file, offset, len } => {
                    out.extend_from_slice(&read(file, *offset, *len)?);
                }
            }
        }
        Ok(out)
    }

    pub fn stream(self) -> BlobStream {
        BlobStream {
            left: self.len,
            pieces: self.pieces.into(),
            reading: None,
        }
    }
}

fn read(file: &DataFile, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; len as usize];
    File::open(&file.path)?.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}

/// The pieces one after the other; files are read off the event threads.
pub(super) struct BlobStream {
    pieces: VecDeque<Piece>,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Stream for BlobStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(reading) = &mut this.reading {
                let done = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                let bytes = done.unwrap_or_else(|e| Err(io::Error::other(e)));
                if let Ok(bytes) = &bytes {
                    this.left -= bytes.len() as u64;
                }
                return Poll::Ready(Some(bytes));
            }
            let Some(piece) = this.pieces.pop_front() else {
                return Poll::Ready(None);
            };
            let chunk = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Zeros(len) => {
                    let now = len.min(ZEROS_LEN as u64);
                    if len > now {
                        this.pieces.push_front(Piece::Zeros(len - now));
                    }
                    Bytes::from_static(&ZEROS[..now as usize])
                }
                Piece::File { file, offset, len } => {
                    let now = len.min(READ);
                    if len > now {
                        let file = file.clone();
                        let rest = Piece::File {
                            file,
                            offset: offset + now,
                            len: len - now,
                        };
                        this.pieces.push_front(rest);
                    }
                    this.reading = Some(tokio::task::spawn_blocking(move || {
                        read(&file, offset, now)
                    }));
                    continue;
                }
            };
            this.left -= chunk.len() as u64;
            return Poll::Ready(Some(Ok(chunk)));
        }
    }
}

impl BlobStream {
    pub fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn sample() -> Blob {
        let mut blob = Blob::default();
        blob.push(Piece::Bytes(Bytes::from_static(b"abcde")));
        blob.push(Piece::Zeros(3));
        blob.push(Piece::Bytes(Bytes::new()));
        blob.push(Piece::Bytes(Bytes::from_static(b"fg")));
        blob
    }

    #[test]
    fn every_slice_is_the_slice_of_the_whole() {
        let whole = b"abcde\0\0\0fg";
        for from in 0..=10 {
            for to in from..=10 {
                let slice = sample().slice(from..to);
                assert_eq!(slice.len(), to - from);
                assert_eq!(slice.to_vec().unwrap(), &whole[from as usize..to as usize]);
            }
        }
    }

    #[tokio::test]
    async fn zeros_longer_than_the_static_chunk_stream_in_full() {
        let mut blob = Blob::default();
        blob.push(Piece::Zeros(2 * ZEROS_LEN as u64 + 7));
        let mut stream = blob.stream();
        let mut total = 0;
        while let Some(chunk) = stream.next().await {
            total += chunk.unwrap().len();
        }
        assert_eq!(total, 2 * ZEROS_LEN + 7);
        assert_eq!(stream.left(), 0);
    }

    #[test]
    fn a_data_file_lives_as_long_as_an_entry_or_a_user() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"0123456789").unwrap();
            let file = Arc::new(DataFile::new(1, path.clone()));
            let mut blob = Blob::default();
            blob.push(Piece::File {
                file,
                offset: 2,
                len: 5,
            });
            (blob, path)
        };

        let (kept, path) = make("kept");
        assert_eq!(kept.to_vec().unwrap(), b"23456");
        assert_eq!(kept.slice(1..3).to_vec().unwrap(), b"34");
        kept.retain();
        drop(kept);
        assert!(path.exists(), "an entry of the index refers to it");

        let (released, path) = make("released");
        released.retain();
        let reader = released.clone();
        released.release();
        drop(released);
        assert!(path.exists(), "somebody still reads it");
        drop(reader);
        assert!(!path.exists());
    }
}
