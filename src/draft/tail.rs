//! The part being filled: pooled memory, and the checksum of what arrived.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use super::memory::{CHUNK, Chunk};

/// Bytes `start..start+len` of the file. Every chunk but the last is full.
pub struct Tail {
    pub start: u64,
    pub len: u64,
    chunks: Vec<Chunk>,
    /// Follows the bytes as they arrive; given up when earlier ones change.
    digest: Option<Digest>,
}

impl Tail {
    pub fn new(start: u64) -> Tail {
        Tail {
            start,
            len: 0,
            chunks: Vec::new(),
            digest: Some(Digest::new(CrcAlgorithm::Crc64Nvme)),
        }
    }

    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    pub fn has_room(&self) -> bool {
        self.chunks.last().is_some_and(|c| !c.is_full())
    }

    pub fn add_chunk(&mut self, chunk: Chunk) {
        assert!(
            !self.has_room() && chunk.len() == 0,
            "chunks are filled one after the other"
        );
        self.chunks.push(chunk);
    }

    /// Takes what fits into the last chunk.
    pub fn append(&mut self, data: &[u8]) -> usize {
        let Some(last) = self.chunks.last_mut() else {
            return 0;
        };
        let taken = last.append(data);
        if let Some(digest) = &mut self.digest {
            digest.update(&data[..taken]);
        }
        self.len += taken as u64;
        taken
    }

    pub fn append_zeros(&mut self, count: usize) -> usize {
        let Some(last) = self.chunks.last_mut() else {
            return 0;
        };
        let before = last.len();
        let taken = last.append_zeros(count);
        if let Some(digest) = &mut self.digest {
            digest.update(&last.bytes()[before..]);
        }
        self.len += taken as u64;
        taken
    }

    /// Overwrites bytes that are here already.
    pub fn patch(&mut self, offset: u64, data: &[u8]) {
        assert!(
            offset >= self.start && offset + data.len() as u64 <= self.end(),
            "patching bytes the tail does not have"
        );
        let (mut at, mut data) = ((offset - self.start) as usize, data);
        while !data.is_empty() {
            let within = at % CHUNK;
            let target = &mut self.chunks[at / CHUNK].bytes_mut()[within..];
            let taken = target.len().min(data.len());
            target[..taken].copy_from_slice(&data[..taken]);
            at += taken;
            data = &data[taken..];
        }
        self.digest = None;
    }

    pub fn read(&self, offset: u64, mut out: &mut [u8]) {
        assert!(
            offset >= self.start && offset + out.len() as u64 <= self.end(),
            "reading bytes the tail does not have"
        );
        let mut at = (offset - self.start) as usize;
        while !out.is_empty() {
            let source = &self.chunks[at / CHUNK].bytes()[at % CHUNK..];
            let taken = source.len().min(out.len());
            out[..taken].copy_from_slice(&source[..taken]);
            at += taken;
            out = &mut out[taken..];
        }
    }

    /// Cuts to `len` bytes.
    pub fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.chunks.truncate((len as usize).div_ceil(CHUNK));
            if let Some(last) = self.chunks.last_mut() {
                last.truncate(len as usize - (len as usize - 1) / CHUNK * CHUNK);
            }
            self.len = len;
            self.digest = None;
        }
    }

    /// The bytes, in pieces with their offsets.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.chunks
            .iter()
            .enumerate()
            .map(|(i, c)| (self.start + (i * CHUNK) as u64, c.bytes()))
    }

    /// Takes everything out, with its checksum; the tail goes on empty behind it.
    pub fn seal(&mut self) -> (Vec<Bytes>, u64) {
        let full = std::mem::replace(self, Tail::new(self.end()));
        let crc = match full.digest {
            Some(digest) => digest.finalize(),
            None => {
                let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
                full.chunks.iter().for_each(|c| digest.update(c.bytes()));
                digest.finalize()
            }
        };
        (full.chunks.into_iter().map(Chunk::freeze).collect(), crc)
    }
}
