//! Where the bytes of a draft are: in parts already sent (perhaps kept), in the tail that fills in
//! memory, in the spool, in the base object, or nowhere (a hole). No network here: what needs it
//! is said by [`Need`] and done by the caller.
//!
//! Invariants:
//! - `0..sent_end` went to the store as parts `1..=sent.len()`, cut by the layout.
//! - A sent part is rewritten, and cut, on disk alone: what is kept of it in memory is what was sent.
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
    /// Rewritten after it was sent: what the spool has of it is to be sent again.
    pub stale: bool,
}

impl SentPart {
    fn kept(&self) -> Option<Vec<Bytes>> {
        let kept = self.kept.as_ref()?;
        kept.data.lock().expect("no panic while held").clone()
    }
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
            self.rewrite_sent(works, offset, &data[..taken])
                .map_err(Err)?;
            return Ok(taken);
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
            stale: false,
        });
        (self.sent.len() as u32, chunks, crc)
    }

    fn copy_tail_to_spool(&mut self, works: &Arc<Works>) -> std::io::Result<()> {
        let range = self.tail.start..self.tail.end();
        let spool = spool_of(&mut self.spool, works)?;
        spool.write_all_or_nothing(range, self.tail.pieces())
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
        let sent = at..end.min(self.sent_end());
        self.sent_to_disk(works, &sent)?;
        while at < sent.end {
            let len = (sent.end - at).min(ZEROS.len() as u64);
            self.rewrite_sent(works, at, &ZEROS[..len as usize])?;
            at += len;
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
        copy_from_chunks(&part.kept().ok_or(Error::NotHere)?, at, out);
        Ok(())
    }

    /// Brings the sent parts of a range onto the disk, where they can be changed: all of them or, if one is no longer here, none.
    fn sent_to_disk(&mut self, works: &Arc<Works>, range: &Range<u64>) -> Result<(), Error> {
        let mut moving = Vec::new();
        for index in self.sent_in(range) {
            let (part, spool) = (&self.sent[index], self.spool.as_ref());
            if !spool.is_some_and(|s| s.present().contains(part.range.clone())) {
                moving.push((index, part.kept().ok_or(Error::NotHere)?));
            }
        }
        for (index, chunks) in moving {
            let part = &mut self.sent[index];
            let mut at = part.range.start;
            let pieces = chunks.iter().map(|bytes| {
                at += bytes.len() as u64;
                (at - bytes.len() as u64, &bytes[..])
            });
            spool_of(&mut self.spool, works)
                .and_then(|spool| spool.write_all_or_nothing(part.range.clone(), pieces))
                .map_err(|e| Error::Spool(Arc::new(e)))?;
            part.kept = None;
        }
        Ok(())
    }

    /// Rewrites bytes that were sent.
    fn rewrite_sent(&mut self, works: &Arc<Works>, offset: u64, data: &[u8]) -> Result<(), Error> {
        let range = offset..offset + data.len() as u64;
        self.sent_to_disk(works, &range)?;
        let spool = self.spool.as_mut().expect("what was sent is there");
        spool
            .write(offset, data)
            .map_err(|e| Error::Spool(Arc::new(e)))?;
        for index in self.sent_in(&range) {
            self.sent[index].stale = true;
        }
        Ok(())
    }

    /// Which sent parts have something of it.
    fn sent_in(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.sent.partition_point(|p| p.range.end <= range.start);
        let behind = self.sent.partition_point(|p| p.range.start < range.end);
        first..behind
    }

    /// The bytes of a part that was sent and rewritten.
    pub fn stale_part(&self, index: usize) -> Result<Vec<Bytes>, Error> {
        let range = self.sent[index].range.clone();
        let mut bytes = BytesMut::zeroed((range.end - range.start) as usize);
        self.read_sent(index, range.start, &mut bytes)?;
        Ok(vec![bytes.freeze()])
    }

    /// Makes the file `size` long, or leaves it as it was. Cutting into a part that is no longer here cannot be done.
    pub fn truncate(&mut self, works: &Arc<Works>, size: u64) -> Result<(), Error> {
        if size < self.sent_end() {
            let index = self.sent.partition_point(|p| p.range.end <= size);
            let start = self.sent[index].range.start;
            self.sent_to_disk(works, &(start..size))?;
            spool_of(&mut self.spool, works).map_err(|e| Error::Spool(Arc::new(e)))?;
            self.sent.truncate(index);
            self.tail = Tail::new(start);
            self.spooled = true;
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

/// The spool, made when it is wanted.
fn spool_of<'a>(
    spool: &'a mut Option<Spool>,
    works: &Arc<Works>,
) -> std::io::Result<&'a mut Spool> {
    if spool.is_none() {
        *spool = Some(Spool::create(&works.spool)?);
    }
    Ok(spool.as_mut().expect("just made"))
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
