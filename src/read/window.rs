//! What to fetch ahead of a reader: sequential or random, how far, in which ranges.
//!
//! Pure: no I/O, no clock. The caller tells the time ([`Window::tick`]) and each read ([`Window::access`]), asks what to fetch
//! ([`Window::wanted`]) and tells what became of it ([`Window::advance`], [`Window::denied`],
//! [`Window::rewind`]).
//!
//! How a read is judged. The *frontier* is the highest offset a sequential reader has come to. A
//! read near it is sequential: the kernel sends several requests at once and out of order, so
//! "near" is a zone and not a point. What a reader skips is counted as a debt that reading pays
//! off; who skips more than it reads is no sequential reader for long. A read elsewhere is a
//! *stray*. One stray leaves the read-ahead alone (looking something up in the middle of a stream
//! is common, and so are two threads on one handle), the second in a row ends it. From then on
//! reads are random until one starts exactly where one of the last few ended.
//!
//! A random reader may turn out to come from behind, or to skip ([`patterns`]): then what he will read next is
//! fetched ahead, too.
//!
//! Another one pays with a request for each read. Near a store that is the time in which many more bytes
//! could have come. So when its requests have taken about as long as the whole object would, and there is memory
//! for it, the object is wanted whole, and kept. Into the kernel's pages, which are nobody's memory, it may be brought
//! at once: a few reads that follow no pattern are seldom the last. If that turns out to take long it is given up, and
//! begun again when the requests have taken as long.
//!
//! Invariants:
//! - Nothing is wanted of a random reader that follows no pattern, but the whole object for at most [`WORTH`] bytes a
//!   request it made, or in [`PROMPT`], or in as long as its requests took; and nothing beyond the object's end.
//! - Beyond what reads have asked for, no more than `window` bytes from the frontier are wanted.
//! - A wanted range is at most `range` long, and ends at a segment's or the object's end, or where a pattern has it.
//! - A small object (up to one segment) is wanted whole, in one range.

mod patterns;

use std::ops::Range;
use std::time::Duration;

use patterns::{Pattern, Trail};

/// The unit of buffering: buffers are at most this long and never cross a multiple of it.
pub const SEGMENT: u64 = 1 << 20;
/// The window a sequential reader starts with, and never falls below.
const INITIAL: u64 = SEGMENT;
/// What is kept behind the frontier for reads that come late: this much (the kernel has two windows of its
/// own read-ahead under way, in any order); or this much, where memory is short; and no less than so
/// many reads of the size the reader uses.
const KEEP: u64 = 8 * SEGMENT;
const KEEP_WHEN_SHORT: u64 = 2 * SEGMENT;
const KEEP_READS: u64 = 4;
/// How far before the frontier a read may be, and how many bytes may be skipped on the whole.
const SLACK: u64 = 8 * SEGMENT;
/// Into how many ranges a window is cut, and how long they are at most, of a store that is near. (Far from one a
/// connection has its pace: the more ranges there are, the sooner the same memory is filled again. How many are under way
/// does not change how long they are: of ranges of one length it is seen whether they are in each other's way.)
const NEARBY: (u64, u64) = (4, u64::MAX);
const FAR: (u64, u64) = (8, 4 * SEGMENT);
/// A range of a block that is brought in for one who comes from behind.
const SHORT: u64 = 2 * SEGMENT;
/// Nobody is read further ahead than he reads in such a time.
const HORIZON: Duration = Duration::from_secs(8);
/// The smallest buffer of a range somebody waits for: a request of the kernel's read-ahead.
const GRAIN: u64 = 128 << 10;
/// Strays in a row that end the read-ahead.
const STRAYS: u32 = 2;
/// Reads remembered, to recognize one that follows another.
const RECENT: usize = 8;

/// As many bytes in a row are brought in while a small request to a store that is near is answered.
const WORTH: u64 = 512 << 10;
/// Of fewer requests it is not seen what a reader is up to.
const FEW: u64 = 32;
/// An object that is here so soon need not be paid for before.
const PROMPT: Duration = Duration::from_secs(2);
/// A store whose requests take less is near. (From a distant one bytes are bought dearly, and a request is not.)
const NEAR: Duration = Duration::from_millis(2);

/// What a read means for the data at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It belongs to the stream that is read ahead.
    pub sequential: bool,
    /// The reader has gone elsewhere: what was read ahead is of no use.
    pub abandon: bool,
}

/// A range to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub range: Range<u64>,
    /// Hand the bytes on in buffers of this size (a power of two, aligned): small when a read waits
    /// for the first of them.
    pub grain: u64,
    /// A read waits for the first of it.
    pub awaited: bool,
}

/// Where an object that is wanted whole is kept, and for how many bytes there is room.
pub enum Room<'a> {
    Memory(u64),
    /// Found out when it matters.
    Pages(&'a dyn Fn() -> u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing has been read yet.
    Fresh,
    Sequential,
    Random,
    /// Reads come from behind, or skip.
    Pattern(Pattern),
    /// Reads are random, and all of it is wanted.
    Whole,
}

#[derive(Debug)]
pub struct Window {
    size: u64,
    window_max: u64,
    range_max: u64,
    mode: Mode,
    /// How far ahead of the frontier to fetch.
    window: u64,
    /// Read in this window since then; half a window read in time doubles it.
    consumed: u64,
    since: Duration,
    now: Duration,
    frontier: u64,
    /// Everything from the frontier to here has been asked for, or given up.
    ahead: u64,
    /// Bytes skipped and not yet made up for.
    debt: u64,
    /// How much is kept behind the frontier.
    keep: u64,
    strays: u32,
    /// What a random reader asked for itself since the object was last wanted whole, and how long that took.
    requests: u64,
    waited: Duration,
    /// It is being brought into the kernel's pages.
    is_brought: bool,
    /// How long that takes, if it was tried.
    takes: Option<Duration>,
    /// Where the last reads ended.
    recent: [Option<u64>; RECENT],
    turn: usize,
    trail: Trail,
    last_len: u64,
}

impl Window {
    pub fn new(size: u64, window_max: u64, range_max: u64) -> Window {
        Window {
            size,
            window_max: window_max.max(INITIAL),
            range_max: align_down(range_max).max(SEGMENT),
            mode: Mode::Fresh,
            window: INITIAL,
            consumed: 0,
            since: Duration::ZERO,
            now: Duration::ZERO,
            frontier: 0,
            ahead: 0,
            debt: 0,
            keep: KEEP,
            strays: 0,
            requests: 0,
            waited: Duration::ZERO,
            is_brought: false,
            takes: None,
            recent: [None; RECENT],
            turn: 0,
            trail: Trail::default(),
            last_len: 0,
        }
    }

    /// It is so late.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// A read of `len` bytes at `offset`, all of them inside the object.
    pub fn access(&mut self, offset: u64, len: u64) -> Access {
        let end = offset + len;
        assert!(len > 0 && end <= self.size, "a read outside of the object");
        self.last_len = len;
        self.trail.note(offset);
        let verdict = match self.mode {
            Mode::Fresh if offset == 0 || self.small() => self.start(0, end),
            Mode::Fresh => self.wander(),
            Mode::Sequential if self.near(offset) => self.follow(offset, end),
            Mode::Sequential => self.stray(offset, end),
            Mode::Random if self.continues(offset) => self.start(offset, end),
            Mode::Random => self.wander_or_follow(len),
            Mode::Pattern(mut pattern) if pattern.has(offset, len) => {
                let abandon = pattern.follow(offset);
                self.mode = Mode::Pattern(pattern);
                Access {
                    sequential: true,
                    abandon,
                }
            }
            Mode::Pattern(_) => Access {
                abandon: true,
                ..self.wander()
            },
            Mode::Whole => Access {
                sequential: false,
                abandon: false,
            },
        };
        self.recent[self.turn] = Some(end);
        self.turn = (self.turn + 1) % RECENT;
        verdict
    }

    /// A read got what it asked for by a request of its own, which took so long. There is room for so many bytes. Answers
    /// whether to bring the object into the kernel's pages now, and how long that may take.
    pub fn asked(&mut self, took: Duration, room: Room<'_>) -> Option<Duration> {
        if self.mode != Mode::Random {
            return None;
        }
        self.requests += 1;
        self.waited += took;
        let near = self.waited.as_nanos() < NEAR.as_nanos() * u128::from(self.requests);
        if self.requests < FEW || !near || self.is_brought {
            return None;
        }
        match room {
            Room::Memory(room) => {
                let enough = self.size.div_ceil(WORTH);
                if self.requests >= enough && self.size <= room {
                    self.mode = Mode::Whole;
                    self.ahead = 0;
                    self.forget_requests();
                }
                None
            }
            Room::Pages(room) => {
                if self.takes.is_some_and(|takes| self.waited < takes) {
                    return None;
                }
                self.forget_requests();
                self.is_brought = self.size <= room();
                // As long again as it seemed to take is what he may lose by it.
                let patience = self.takes.map_or(PROMPT, |takes| takes * 2);
                self.is_brought.then_some(patience)
            }
        }
    }

    /// It was brought into the kernel's pages in that time, or would have been; `None`: it was not tried.
    pub fn brought(&mut self, takes: Option<Duration>) {
        self.is_brought = false;
        self.takes = takes.or(self.takes);
        self.forget_requests();
    }

    fn forget_requests(&mut self) {
        (self.requests, self.waited) = (0, Duration::ZERO);
    }

    /// The next range to fetch, if any, `ranges` being as many as are worth having under way, of a store that is near
    /// or not. Ask again after [`Window::advance`].
    pub fn wanted(&self, ranges: usize, is_near: bool) -> Option<Wanted> {
        if self.mode == Mode::Whole && self.ahead < self.size {
            return Some(Wanted {
                range: self.ahead..align_down(self.ahead + self.range_max).min(self.size),
                grain: SEGMENT,
                awaited: false,
            });
        }
        if let Mode::Pattern(pattern) = &self.mode {
            let (range, awaited) = pattern.wanted(self.size)?;
            return Some(Wanted {
                range,
                grain: SEGMENT,
                awaited,
            });
        }
        if self.mode != Mode::Sequential || self.strays > 0 || self.ahead >= self.size {
            return None;
        }
        let start = self.ahead;
        let (parts, longest) = if is_near { NEARBY } else { FAR };
        let unit = align_down((self.window / parts).min(longest)).clamp(SEGMENT, self.range_max);
        let end = if self.small() {
            self.size
        } else {
            align_down(start + unit).min(self.size)
        };
        let awaited = start < self.frontier;
        let window = self.window.min(ranges as u64 * self.range_max);
        let target = self.frontier.saturating_add(window).min(self.size);
        // Fetch whole units, lest a steady reader gets one small request for each of its reads.
        if !awaited && end > target {
            return None;
        }
        let grain = if awaited {
            self.last_len.next_power_of_two().clamp(GRAIN, SEGMENT)
        } else {
            SEGMENT
        };
        Some(Wanted {
            range: start..end,
            grain,
            awaited,
        })
    }

    /// All up to `to` is on its way.
    pub fn advance(&mut self, to: u64) {
        if let Mode::Pattern(pattern) = &mut self.mode {
            pattern.advance(to);
            return;
        }
        self.ahead = self.ahead.max(to);
    }

    /// Memory is short: less is kept of what has been read.
    pub fn tighten(&mut self) {
        self.keep = KEEP_WHEN_SHORT;
    }

    /// There is no memory to read ahead: the reads fetch for themselves what they ask for. Answers whether what
    /// is here is of no use without the rest.
    pub fn denied(&mut self) -> bool {
        self.ahead = self.ahead.max(self.frontier);
        self.no_more()
    }

    /// What was on its way from `hole` on did not come. Reads that asked for it have been told;
    /// from there on it is wanted again, modestly.
    pub fn rewind(&mut self, hole: u64) {
        if self.no_more() {
            return;
        }
        self.ahead = self.ahead.min(hole.max(self.frontier));
        self.shrink(INITIAL);
    }

    /// All that had been fetched was thrown away.
    pub fn lost(&mut self) {
        if self.no_more() {
            return;
        }
        if self.small() {
            // Whoever reads it again reads it whole again.
            self.mode = Mode::Fresh;
            self.frontier = 0;
            self.ahead = 0;
        } else {
            self.ahead = self.ahead.min(self.frontier);
        }
        self.shrink(INITIAL);
    }

    /// Are these bytes worth keeping for the reads to come?
    pub fn keeps(&self, range: &Range<u64>) -> bool {
        match self.mode {
            Mode::Sequential => range.end > self.line() && range.start < self.ahead,
            Mode::Whole => true,
            Mode::Pattern(pattern) => pattern.keeps(range),
            Mode::Fresh | Mode::Random => false,
        }
    }

    /// Has a sequential reader passed these bytes for good?
    pub fn passed(&self, end: u64) -> bool {
        self.mode == Mode::Sequential && end <= self.line()
    }

    fn line(&self) -> u64 {
        if self.small() {
            0
        } else {
            let keep = self.keep.max(KEEP_READS * self.last_len.min(SEGMENT));
            self.frontier.saturating_sub(keep)
        }
    }

    fn small(&self) -> bool {
        self.size <= SEGMENT
    }

    fn near(&self, offset: u64) -> bool {
        offset >= self.line() && offset <= self.frontier.saturating_add(SLACK)
    }

    fn continues(&self, offset: u64) -> bool {
        self.recent.contains(&Some(offset))
    }

    fn start(&mut self, ahead: u64, frontier: u64) -> Access {
        self.mode = Mode::Sequential;
        self.ahead = ahead;
        self.frontier = frontier;
        self.debt = 0;
        self.keep = KEEP;
        self.strays = 0;
        self.shrink(INITIAL);
        Access {
            sequential: true,
            abandon: false,
        }
    }

    fn follow(&mut self, offset: u64, end: u64) -> Access {
        let len = end - offset;
        self.strays = 0;
        self.debt = (self.debt + offset.saturating_sub(self.frontier)).saturating_sub(len);
        if self.debt > SLACK {
            self.mode = Mode::Random;
            return Access {
                sequential: false,
                abandon: true,
            };
        }
        // Skipped bytes too, since reads in flight come in any order; the debt bounds the error.
        self.consumed += end.saturating_sub(self.frontier);
        self.frontier = self.frontier.max(end);
        if self.consumed >= self.window / 2 {
            let took = self.now.saturating_sub(self.since);
            if took < HORIZON / 2 {
                self.window = (self.window * 2).min(self.window_max);
            } else if took > HORIZON {
                self.window = (self.window / 2).max(INITIAL);
            }
            self.consumed = 0;
            self.since = self.now;
        }
        Access {
            sequential: true,
            abandon: false,
        }
    }

    fn stray(&mut self, offset: u64, end: u64) -> Access {
        self.strays += 1;
        self.shrink(self.window / 2);
        if self.strays < STRAYS {
            return Access {
                sequential: false,
                abandon: false,
            };
        }
        let sequential = self.continues(offset);
        if sequential {
            self.start(offset, end);
        } else {
            self.mode = Mode::Random;
        }
        Access {
            sequential,
            abandon: true,
        }
    }

    fn wander_or_follow(&mut self, len: u64) -> Access {
        match self.trail.pattern(len) {
            None => self.wander(),
            Some(pattern) => {
                self.mode = Mode::Pattern(pattern);
                Access {
                    sequential: true,
                    abandon: false,
                }
            }
        }
    }

    fn wander(&mut self) -> Access {
        self.mode = Mode::Random;
        Access {
            sequential: false,
            abandon: false,
        }
    }

    /// If it was wanted whole, it is not any more, until that was paid for once again; nor is a pattern followed,
    /// until there is one again.
    fn no_more(&mut self) -> bool {
        let was = matches!(self.mode, Mode::Whole | Mode::Pattern(_));
        if was {
            self.mode = Mode::Random;
        }
        was
    }

    fn shrink(&mut self, to: u64) {
        self.window = to.clamp(INITIAL, self.window_max);
        self.consumed = 0;
        self.since = self.now;
    }
}

fn align_down(offset: u64) -> u64 {
    offset - offset % SEGMENT
}

#[cfg(test)]
mod tests;
