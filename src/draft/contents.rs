//! Where the bytes of a draft are: in parts already sent (perhaps kept), in the tail that fills in
//! memory, in the spool, in the base object, or nowhere (a hole). No network here: what needs it
//! is said by [`Need`] and done by the caller.
//!
//! Invariants:
//! - `0..sent_end` went to the store as parts `1..=sent.len()`, cut by the layout.
//! - While streaming, `sent_end..tail.end()` is the tail and there is no base below it; once spooled,
//!   the tail is empty and everything from `sent_end` on is spool, base or hole.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::extents::Extents;
use super::layout::{Piece, Source};
use super::memory::{Chunk, KeptPart};
use super::spool::Spool;
use super::tail::Tail;
use super::{Error, Works};
use crate::store::ETag;

/// The object a draft changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub key: String,
    pub etag: ETag,
    pub size: u64,
}

/// Why a write cannot go on by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Another chunk of memory.
    Memory,
    /// The tail is a full part: seal it.
    Seal,
    /// The bytes do not follow the tail: go over to the spool.
    Spool,
}

/// Where a byte range of a draft can be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    Sent(usize),
    Tail,
    Spool,
    Base,
    Hole,
}

pub struct SentPart {
    pub range: Range<u64>,
    kept: Option<Arc<KeptPart>>,
    /// Rewritten after it was sent: these bytes are to be sent again.
    patched: Option<Vec<Bytes>>,
    pub stale: bool,
}

pub struct Contents {
    pub base: Option<Base>,
    /// How much of the base still shows.
    pub base_len: u64,
    pub size: u64,
    pub sent: Vec<SentPart>,
    pub tail: Tail,
    pub spool: Option<Spool>,
    pub spooled: bool,
    /// All of it, out of the tail, for a PUT that is not decided yet.
    aside: Vec<Bytes>,
    /// Made zero again, over the base; what the spool has lies above it.
    punched: Extents,
}

/// A gap this small behind the tail is filled with zeros rather than leaving streaming for it.
const SMALL_GAP: u64 = 1 << 20;

impl Contents {
    pub fn new(base: Option<Base>) -> Contents {
        let size = base.as_ref().map_or(0, |b| b.size);
        Contents {
            base,
            base_len: size,
            size,
            sent: Vec::new(),
            tail: Tail::new(0),
            spool: None,
            spooled: false,
            aside: Vec::new(),
            punched: Extents::default(),
        }
    }

    pub fn sent_end(&self) -> u64 {
        self.sent.last().map_or(0, |p| p.range.end)
    }

    /// Makes `at..` what `range` of an object is, without having its bytes: when nothing is there yet, or
    /// it goes on where the last such range ended. `false`: it must be written like anything else.
    pub fn adopt(&mut self, source: &Base, at: u64, range: Range<u64>) -> bool {
        let untouched = self.sent.is_empty() && self.tail.end() == 0 && !self.spooled;
        let goes_on = match &self.base {
            None => self.size == 0,
            Some(base) => base == source && self.base_len == self.size,
        };
        if !untouched || !goes_on || at != self.size || at != range.start {
            return false;
        }
        self.base = Some(source.clone());
        self.base_len = range.end;
        self.size = range.end;
        true
    }

    /// The object that this draft is a copy of, whole and unchanged.
    pub fn copy_of(&self) -> Option<&Base> {
        let untouched = self.sent.is_empty() && self.tail.end() == 0 && self.spool.is_none();
        let whole = |base: &&Base| self.base_len == base.size && self.size == base.size;
        self.base.as_ref().filter(|_| untouched).filter(whole)
    }

    /// Writes as much of `data` as goes without help.
    pub fn write(
        &mut self,
        works: &Arc<Works>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Result<Need, Error>> {
        let taken = self.write_here(works, offset, data)?;
        self.size = self.size.max(offset + taken as u64);
        Ok(taken)
    }

    fn write_here(
        &mut self,
        works: &Arc<Works>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Result<Need, Error>> {
        let sent_end = self.sent_end();
        if offset < sent_end {
            let taken = data.len().min((sent_end - offset) as usize);
            return self.rewrite_sent(offset, &data[..taken]).map_err(Err);
        }
        if self.spooled {
            let spool = self.spool.as_mut().expect("a spooled draft has a spool");
            spool
                .write(offset, data)
                .map_err(|e| Err(Error::Spool(Arc::new(e))))?;
            return Ok(data.len());
        }
        let end = self.tail.end();
        if self.base_len > 0 || offset > end + SMALL_GAP {
            return Err(Ok(Need::Spool));
        }
        if offset < end {
            let taken = data.len().min((end - offset) as usize);
            self.tail.patch(offset, &data[..taken]);
            return Ok(taken);
        }
        let number = self.sent.len() as u32 + 1;
        let part = works.layout.size(number).ok_or(Err(Error::TooManyParts))?;
        if self.tail.len == part {
            return Err(Ok(Need::Seal));
        }
        if !self.tail.has_room() {
            match works.memory.try_chunk() {
                Some(chunk) => self.tail.add_chunk(chunk),
                None => return Err(Ok(Need::Memory)),
            }
        }
        let room = (part - self.tail.len).min(usize::MAX as u64) as usize;
        if offset > end {
            self.tail.append_zeros(room.min((offset - end) as usize));
            return Ok(0);
        }
        Ok(self.tail.append(&data[..data.len().min(room)]))
    }

    pub fn add_chunk(&mut self, chunk: Chunk) {
        if !self.spooled && !self.tail.has_room() {
            self.tail.add_chunk(chunk);
        }
    }

    /// Takes the tail out as the next part. `keep_all`: somebody may read it back, so keep it on disk.
    pub fn seal_tail(&mut self, works: &Arc<Works>, keep_all: bool) -> (u32, Vec<Bytes>, u64) {
        assert!(!self.spooled && self.tail.len > 0, "nothing to seal");
        let range = self.tail.start..self.tail.end();
        let on_disk = keep_all && self.copy_tail_to_spool(works).is_ok();
        let (chunks, crc) = self.tail.seal();
        let kept = (!on_disk).then(|| {
            let part = KeptPart::new(&works.memory, chunks.clone(), range.start == 0);
            works.memory.keep(&part);
            part
        });
        self.sent.push(SentPart {
            range,
            kept,
            patched: None,
            stale: false,
        });
        (self.sent.len() as u32, chunks, crc)
    }

    fn copy_tail_to_spool(&mut self, works: &Arc<Works>) -> std::io::Result<()> {
        if self.spool.is_none() {
            self.spool = Some(Spool::create(&works.spool)?);
        }
        let spool = self.spool.as_mut().expect("just made");
        for (offset, bytes) in self.tail.pieces() {
            if let Err(error) = spool.write(offset, bytes) {
                let range = self.tail.start..self.tail.end();
                spool.forget(range);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leaves streaming: what is in memory moves to the spool.
    pub fn go_to_spool(&mut self, works: &Arc<Works>) -> Result<(), Error> {
        if !self.spooled {
            self.copy_tail_to_spool(works)
                .map_err(|e| Error::Spool(Arc::new(e)))?;
            self.tail = Tail::new(self.tail.start);
            self.spooled = true;
        }
        Ok(())
    }

    /// Takes everything out of the tail, to be sent in one piece.
    pub fn put_aside(&mut self) -> (Vec<Bytes>, u64) {
        assert!(
            self.sent.is_empty() && !self.spooled,
            "a part of it is elsewhere"
        );
        let (chunks, crc) = self.tail.seal();
        self.aside = chunks.clone();
        (chunks, crc)
    }

    /// Takes back what was put aside: on disk from now on.
    pub fn take_back(&mut self, works: &Arc<Works>) -> std::io::Result<()> {
        if self.aside.is_empty() {
            return Ok(());
        }
        let mut spool = Spool::create(&works.spool)?;
        let mut at = 0;
        for bytes in &self.aside {
            spool.write(at, bytes)?;
            at += bytes.len() as u64;
        }
        (self.tail, self.spool, self.spooled) = (Tail::new(0), Some(spool), true);
        self.aside.clear();
        Ok(())
    }

    /// Takes bytes of the base that were fetched.
    pub fn spool_base(&mut self, works: &Arc<Works>, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.go_to_spool(works)?;
        let spool = self.spool.as_mut().expect("just went there");
        spool
            .write(at, bytes)
            .map_err(|e| Error::Spool(Arc::new(e)))
    }

    /// Nothing shows of the base any more: all of it was fetched.
    pub fn forget_base(&mut self) {
        self.base = None;
        self.base_len = 0;
    }

    /// Cuts `range` by where its bytes are.
    pub fn places(&self, range: Range<u64>) -> Vec<(Range<u64>, Place)> {
        let mut places = Vec::new();
        for (i, part) in self.sent.iter().enumerate() {
            let cut = part.range.start.max(range.start)..part.range.end.min(range.end);
            if cut.start < cut.end {
                places.push((cut, Place::Sent(i)));
            }
        }
        let unsent = self.sent_end().max(range.start)..range.end;
        if unsent.start >= unsent.end {
            return places;
        }
        if self.spooled {
            let spool = self.spool.as_ref().expect("a spooled draft has a spool");
            for (run, present) in spool.present().runs(unsent) {
                if present {
                    places.push((run, Place::Spool));
                } else {
                    self.push_base(run, &mut places);
                }
            }
        } else {
            let in_tail = unsent.start..unsent.end.min(self.tail.end());
            let beyond = self.tail.end().max(unsent.start)..unsent.end;
            if in_tail.start < in_tail.end {
                places.push((in_tail, Place::Tail));
            }
            self.push_base(beyond, &mut places);
        }
        places
    }

    fn push_base(&self, run: Range<u64>, places: &mut Vec<(Range<u64>, Place)>) {
        let border = self.base_len.clamp(run.start, run.end.max(run.start));
        for (run, punched) in self.punched.runs(run.start..border) {
            places.push((run, if punched { Place::Hole } else { Place::Base }));
        }
        if border < run.end {
            places.push((border..run.end, Place::Hole));
        }
    }

    /// All of it, by what a commit makes of it.
    pub fn runs(&self) -> Vec<Piece> {
        let source = |place| match place {
            Place::Sent(_) | Place::Tail | Place::Spool => Source::Here,
            Place::Base => Source::Base,
            Place::Hole => Source::Zeros,
        };
        let places = self.places(0..self.size).into_iter();
        places
            .map(|(range, place)| Piece {
                range,
                source: source(place),
            })
            .collect()
    }

    pub fn is_hole(&self, range: Range<u64>) -> bool {
        let places = self.places(range);
        places.iter().all(|(_, place)| *place == Place::Hole)
    }

    /// Where the next data (or the next hole) from `offset` on begins; the end of the file is a hole.
    pub fn next(&self, offset: u64, data: bool) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let mut places = self.places(offset..self.size).into_iter();
        let found = places.find(|(_, place)| (*place == Place::Hole) != data);
        match found {
            Some((run, _)) => Some(run.start),
            None => (!data).then_some(self.size),
        }
    }

    /// Makes a range within the file zero, without a byte on the disk.
    pub fn zero(&mut self, works: &Arc<Works>, range: Range<u64>) -> Result<(), Error> {
        static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
        let (mut at, end) = (range.start, range.end.min(self.size));
        while at < end.min(self.sent_end()) {
            let len = (end.min(self.sent_end()) - at).min(ZEROS.len() as u64);
            at += self.rewrite_sent(at, &ZEROS[..len as usize])? as u64;
        }
        while !self.spooled && at < end.min(self.tail.end()) {
            let len = (end.min(self.tail.end()) - at).min(ZEROS.len() as u64);
            self.tail.patch(at, &ZEROS[..len as usize]);
            at += len;
        }
        if at >= end || (!self.spooled && at >= self.base_len) {
            return Ok(());
        }
        self.go_to_spool(works)?;
        let spool = self.spool.as_mut().expect("just went there");
        spool.forget(at..end);
        self.punched.insert(at..end.min(self.base_len).max(at));
        Ok(())
    }

    /// Fills `out` from one place that is not the base.
    pub fn read_local(&self, place: &Place, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        match place {
            Place::Sent(i) => self.read_sent(*i, offset, out),
            Place::Tail => {
                self.tail.read(offset, out);
                Ok(())
            }
            Place::Spool => {
                let spool = self.spool.as_ref().expect("a place in the spool");
                spool
                    .read(offset, out)
                    .map_err(|e| Error::Spool(Arc::new(e)))
            }
            Place::Hole => {
                out.fill(0);
                Ok(())
            }
            Place::Base => panic!("the base is not local"),
        }
    }

    fn read_sent(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let part = &self.sent[index];
        let range = offset..offset + out.len() as u64;
        if let Some(spool) = self.spool.as_ref().filter(|s| s.present().contains(range)) {
            return spool
                .read(offset, out)
                .map_err(|e| Error::Spool(Arc::new(e)));
        }
        let at = (offset - part.range.start) as usize;
        if let Some(chunks) = &part.patched {
            copy_from_chunks(chunks, at, out);
            return Ok(());
        }
        match part
            .kept
            .as_ref()
            .and_then(|k| k.data.lock().expect("no panic while held").clone())
        {
            Some(chunks) => {
                copy_from_chunks(&chunks, at, out);
                Ok(())
            }
            None => Err(Error::NotHere),
        }
    }

    /// Rewrites bytes of one sent part.
    fn rewrite_sent(&mut self, offset: u64, data: &[u8]) -> Result<usize, Error> {
        let index = self.sent.partition_point(|p| p.range.end <= offset);
        let taken = data
            .len()
            .min((self.sent[index].range.end - offset) as usize);
        let data = &data[..taken];
        let whole = self.sent[index].range.clone();
        if let Some(spool) = self
            .spool
            .as_mut()
            .filter(|s| s.present().contains(whole.clone()))
        {
            spool
                .write(offset, data)
                .map_err(|e| Error::Spool(Arc::new(e)))?;
            self.sent[index].stale = true;
            return Ok(taken);
        }
        let part = &mut self.sent[index];
        if part.patched.is_none() {
            let kept = part
                .kept
                .as_ref()
                .and_then(|k| k.data.lock().expect("no panic while held").clone());
            part.patched = Some(kept.ok_or(Error::NotHere)?);
        }
        let chunks = part.patched.as_mut().expect("just set");
        patch_chunks(chunks, (offset - whole.start) as usize, data);
        part.stale = true;
        Ok(taken)
    }

    /// The bytes of a part that was sent and rewritten.
    pub fn stale_part(&self, index: usize) -> Result<Vec<Bytes>, Error> {
        let part = &self.sent[index];
        if let Some(chunks) = &part.patched {
            return Ok(chunks.clone());
        }
        let mut bytes = BytesMut::zeroed((part.range.end - part.range.start) as usize);
        self.read_sent(index, part.range.start, &mut bytes)?;
        Ok(vec![bytes.freeze()])
    }

    /// Makes the file `size` long. Cutting into a part that is no longer here cannot be done.
    pub fn truncate(&mut self, works: &Arc<Works>, size: u64) -> Result<(), Error> {
        if size < self.sent_end() {
            let index = self.sent.partition_point(|p| p.range.end <= size);
            let start = self.sent[index].range.start;
            let mut rest = vec![0; (size - start) as usize];
            if !rest.is_empty() {
                self.read_sent(index, start, &mut rest)?;
            }
            self.go_to_spool(works)?;
            self.sent.truncate(index);
            self.tail = Tail::new(start);
            let spool = self.spool.as_mut().expect("just went there");
            if !rest.is_empty() {
                spool
                    .write(start, &rest)
                    .map_err(|e| Error::Spool(Arc::new(e)))?;
            }
        }
        if size < self.tail.end() {
            self.tail.truncate(size.saturating_sub(self.tail.start));
        }
        if let Some(spool) = self.spool.as_mut() {
            spool.forget(size..u64::MAX);
        }
        self.base_len = self.base_len.min(size);
        self.size = size;
        self.punched.remove(size..u64::MAX);
        Ok(())
    }
}

fn copy_from_chunks(chunks: &[Bytes], mut at: usize, mut out: &mut [u8]) {
    for chunk in chunks {
        if at >= chunk.len() {
            at -= chunk.len();
            continue;
        }
        let taken = out.len().min(chunk.len() - at);
        out[..taken].copy_from_slice(&chunk[at..at + taken]);
        out = &mut out[taken..];
        at = 0;
        if out.is_empty() {
            return;
        }
    }
    assert!(out.is_empty(), "a part shorter than it was");
}

/// Shared bytes are not changed: a chunk that is written to is replaced by a copy.
fn patch_chunks(chunks: &mut [Bytes], mut at: usize, mut data: &[u8]) {
    for chunk in chunks {
        if at >= chunk.len() {
            at -= chunk.len();
            continue;
        }
        let taken = data.len().min(chunk.len() - at);
        let mut copy = BytesMut::from(&chunk[..]);
        copy[at..at + taken].copy_from_slice(&data[..taken]);
        *chunk = copy.freeze();
        data = &data[taken..];
        at = 0;
        if data.is_empty() {
            return;
        }
    }
    assert!(data.is_empty(), "a part shorter than it was");
}
