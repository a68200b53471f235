//! Readers that are neither sequential nor random: those that come from behind, and those that skip.
//!
//! Pure, as the window is.

use std::ops::Range;

use super::{KEEP_WHEN_SHORT, SEGMENT, SHORT, align_down};

/// The longest block that is brought in for one who comes from behind.
const LONGEST: u64 = 8 * SEGMENT;

/// So many steps of the same length are a pattern, from one read to the next before it, and anywhere else.
const STEPS_BACK: u32 = 2;
const STEPS: u32 = 3;

/// So many reads of one who skips are asked for before he makes them.
const ABREAST: u32 = 16;

/// How the last reads followed one another.
#[derive(Debug, Default)]
pub(super) struct Trail {
    last: Option<u64>,
    step: i64,
    times: u32,
}

impl Trail {
    pub(super) fn note(&mut self, offset: u64) {
        let step = offset.wrapping_sub(self.last.unwrap_or(offset)) as i64;
        self.times = if step == self.step { self.times + 1 } else { 1 };
        self.step = step;
        self.last = Some(offset);
    }

    /// What the last read, of `len` bytes, is the last one of.
    pub(super) fn pattern(&self, len: u64) -> Option<Pattern> {
        let last = self.last?;
        let is_back = self.step == -(len as i64);
        if is_back && self.times >= STEPS_BACK {
            return Some(Pattern::Descent(Descent::from(last, last + len)));
        }
        (self.step.unsigned_abs() > len && self.times >= STEPS)
            .then(|| Pattern::Stride(Stride::from(last, len, self.step)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Descent(Descent),
    Stride(Stride),
}

impl Pattern {
    /// Does a read belong to it?
    pub(super) fn has(&self, offset: u64, len: u64) -> bool {
        match self {
            Pattern::Descent(descent) => descent.has(offset, offset + len),
            Pattern::Stride(stride) => stride.has(offset, len),
        }
    }

    /// A read that belongs to it is made. Answers whether something of what is here is of no use any more.
    pub(super) fn follow(&mut self, offset: u64) -> bool {
        match self {
            Pattern::Descent(descent) => descent.follow(offset),
            Pattern::Stride(stride) => stride.follow(offset),
        }
    }

    /// The next range to ask for; and does the last read wait for it?
    pub(super) fn wanted(&self, size: u64) -> Option<(Range<u64>, bool)> {
        match self {
            Pattern::Descent(descent) => descent.wanted(),
            Pattern::Stride(stride) => stride.wanted(size),
        }
    }

    /// What was wanted is on its way, up to `to`.
    pub(super) fn advance(&mut self, to: u64) {
        match self {
            Pattern::Descent(descent) => descent.ahead = descent.ahead.max(to),
            Pattern::Stride(stride) => stride.next += 1,
        }
    }

    pub(super) fn keeps(&self, range: &Range<u64>) -> bool {
        match self {
            Pattern::Descent(descent) => descent.keeps(range),
            Pattern::Stride(stride) => stride.keeps(range),
        }
    }
}

/// Towards the beginning, each read ending where the one before began. It is brought in block by block, the next one
/// as soon as half of one is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descent {
    /// The lowest byte that was read.
    low: u64,
    /// The block, and how far it was asked for from its beginning on.
    start: u64,
    end: u64,
    ahead: u64,
    /// How long the block was meant to be.
    length: u64,
}

impl Descent {
    fn from(offset: u64, end: u64) -> Descent {
        let start = align_down(offset.saturating_sub(SEGMENT));
        Descent {
            low: offset,
            start,
            end,
            ahead: start,
            length: SEGMENT,
        }
    }

    fn has(&self, offset: u64, end: u64) -> bool {
        end <= self.low + KEEP_WHEN_SHORT && offset + SEGMENT >= self.start
    }

    fn follow(&mut self, offset: u64) -> bool {
        self.low = self.low.min(offset);
        let is_half = self.low < self.start + (self.end - self.start) / 2;
        if self.start == 0 || !is_half || self.wanted().is_some() {
            return false;
        }
        self.length = (self.length * 2).min(LONGEST);
        self.end = self.start;
        self.start = align_down(self.end.saturating_sub(self.length));
        self.ahead = self.start;
        true
    }

    fn wanted(&self) -> Option<(Range<u64>, bool)> {
        // What is above was read, or its reader fetches it himself.
        if self.ahead >= self.end.min(self.low) {
            return None;
        }
        let end = (self.ahead + SHORT).min(self.end);
        Some((self.ahead..end, end > self.low))
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        range.end > self.start && range.start < self.low + KEEP_WHEN_SHORT
    }
}

/// Reads of the same length, each as far from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    step: i64,
    len: u64,
    /// Where the last read was.
    last: u64,
    /// How many steps further the next one is that is to be asked for.
    next: u32,
}

impl Stride {
    fn from(last: u64, len: u64, step: i64) -> Stride {
        Stride {
            step,
            len,
            last,
            next: 1,
        }
    }

    /// Where the read so many steps from here will be.
    fn after(&self, steps: u32) -> Option<u64> {
        let way = self.step.checked_mul(i64::from(steps))?;
        self.last.checked_add_signed(way)
    }

    fn has(&self, offset: u64, len: u64) -> bool {
        len == self.len && self.after(1) == Some(offset)
    }

    fn follow(&mut self, offset: u64) -> bool {
        self.last = offset;
        self.next = self.next.saturating_sub(1).max(1);
        true
    }

    fn wanted(&self, size: u64) -> Option<(Range<u64>, bool)> {
        if self.next > ABREAST {
            return None;
        }
        let start = self.after(self.next).filter(|start| *start < size)?;
        Some((start..(start + self.len).min(size), false))
    }

    fn keeps(&self, range: &Range<u64>) -> bool {
        let furthest = self.after(ABREAST).unwrap_or(match self.step > 0 {
            true => u64::MAX - self.len,
            false => 0,
        });
        let (low, high) = (self.last.min(furthest), self.last.max(furthest));
        range.end > low && range.start < high + self.len
    }
}
