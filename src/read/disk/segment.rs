//! A segment on disk: one file, written once and whole, checked whenever it is read.
//!
//! ```text
//! 0     magic, the object's identity, the segment's number, its length
//! 64    a CRC-64/NVME for each block of 64 KiB, at most sixteen
//! 192   a CRC-64/NVME of all that is before it
//! 4096  the bytes
//! ```
//!
//! Invariant: bytes come out as they went in, or not at all. So nothing needs to be synced: what a crash or a
//! bad disk has left of a file does not pass its checksums.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm::Crc64Nvme, checksum};

use super::SEGMENT;

const MAGIC: [u8; 16] = *b"wholefs cache 1\n";
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = SEGMENT as usize / BLOCK;
const SUMS: usize = 64;
const HEADER: usize = SUMS + 8 * BLOCKS;
/// Where the bytes begin: a page, so that theirs are pages.
const DATA: u64 = 4096;

/// Whose bytes, and which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) object: [u8; 16],
    pub(super) number: u32,
}

/// So much of the disk does a segment of `len` bytes take.
pub(super) fn footprint(len: u64) -> u64 {
    DATA + len.next_multiple_of(4096)
}

pub(super) fn write(path: &Path, id: &Id, bytes: &[u8]) -> io::Result<()> {
    let mut head = vec![0; DATA as usize];
    head[..16].copy_from_slice(&MAGIC);
    head[16..32].copy_from_slice(&id.object);
    head[32..36].copy_from_slice(&id.number.to_le_bytes());
    head[40..48].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    for (place, block) in head[SUMS..].chunks_exact_mut(8).zip(bytes.chunks(BLOCK)) {
        place.copy_from_slice(&checksum(Crc64Nvme, block).to_le_bytes());
    }
    let sum = checksum(Crc64Nvme, &head[..HEADER]);
    head[HEADER..HEADER + 8].copy_from_slice(&sum.to_le_bytes());
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(&head).and_then(|()| file.write_all(bytes));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// The bytes `range` of the segment, if they are what was written; at least those, at most what is around them in
/// their blocks.
pub(super) fn read(path: &Path, id: &Id, range: Range<u64>) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let mut head = [0; HEADER + 8];
    file.read_exact_at(&mut head, 0)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight"));
    let len = number(40);
    let is_it = head[..16] == MAGIC
        && head[16..32] == id.object
        && head[32..36] == id.number.to_le_bytes()
        && number(HEADER) == checksum(Crc64Nvme, &head[..HEADER])
        && range.end <= len
        && len <= SEGMENT;
    if !is_it {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let first = range.start as usize / BLOCK * BLOCK;
    let end = (range.end as usize)
        .next_multiple_of(BLOCK)
        .min(len as usize);
    let mut bytes = vec![0; end - first];
    file.read_exact_at(&mut bytes, DATA + first as u64)?;
    let sums = head[SUMS + first / BLOCK * 8..].chunks_exact(8);
    for (sum, block) in sums.zip(bytes.chunks(BLOCK)) {
        if checksum(Crc64Nvme, block).to_le_bytes() != *sum {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let within = range.start as usize - first..range.end as usize - first;
    Ok(Bytes::from(bytes).slice(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_as_it_was_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        let id = Id {
            object: [7; 16],
            number: 3,
        };
        for len in [1, 4096, 65_536, 65_537, 300_000, 1 << 20] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            write(&path, &id, &bytes).unwrap();
            let len = len as u64;
            for range in [
                0..1,
                0..len,
                len - 1..len,
                len / 2..len,
                len / 3..len / 2 + 1,
            ] {
                let (start, end) = (range.start as usize, range.end as usize);
                assert_eq!(read(&path, &id, range).unwrap(), bytes[start..end]);
            }
            assert!(read(&path, &id, 0..len + 1).is_err());
            let other = Id { number: 4, ..id };
            assert!(read(&path, &other, 0..1).is_err(), "another segment's");
        }
        let whole = fs::read(&path).unwrap();
        let header = 0..HEADER + 8;
        let data = (DATA as usize..whole.len()).step_by(4099);
        let mut spoilt = 0;
        for at in header.chain(data) {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            fs::write(&path, bad).unwrap();
            assert!(read(&path, &id, 0..1 << 20).is_err(), "byte {at}");
            spoilt += 1;
        }
        for len in (0..whole.len()).step_by(100_003) {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(read(&path, &id, 0..1 << 20).is_err(), "cut at {len}");
            spoilt += 1;
        }
        println!("{spoilt} spoilt files, none believed");
        assert!(spoilt > 400);
    }
}
