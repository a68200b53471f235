//! Memory in pieces of one size, cut from blocks that the kernel may back by huge pages.
//!
//! What passes through a mount passes through here. Fresh memory costs a page fault and a cleared page for
//! each 4 KiB; a piece that was used a moment ago costs nothing. So pieces come back to their block, the first
//! block that has one gives the next (what is in use stays close together), and blocks that nobody used for a
//! while go back to the system, but for a few.
//!
//! Invariants: a piece belongs to one owner at a time; a block lives as long as one of its pieces does.

use std::collections::BTreeSet;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A huge page.
const BLOCK: usize = 2 << 20;

/// Blocks without a piece in use that are kept for the next burst.
const SPARE: usize = 8;

/// More of them go back when none of them was used for so long, or twice that.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) struct Pool {
    piece: usize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    /// `None`: gone back to the system; the place is used again.
    all: Vec<Option<Block>>,
    /// Those that have a piece to give.
    giving: BTreeSet<usize>,
    /// Places in `all` that are `None`.
    vacant: BTreeSet<usize>,
    /// Blocks of which nothing is in use, and how few there were since that was last looked at.
    idle: usize,
    least_idle: usize,
    /// A thread looks again.
    watched: bool,
}

struct Block {
    memory: Mapping,
    /// The pieces that are here, by number.
    free: Vec<u16>,
}

impl Pool {
    /// `piece`: a power of two, at most a block.
    pub(crate) fn new(piece: usize) -> Arc<Pool> {
        assert!(
            piece.is_power_of_two() && piece <= BLOCK,
            "a block is cut evenly"
        );
        Arc::new(Pool {
            piece,
            blocks: Mutex::default(),
        })
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        // Nothing is torn when a holder panics: its changes are single steps.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece with whatever was in it last. Fails where the system has no memory.
    pub(crate) fn piece(self: &Arc<Pool>) -> io::Result<Piece> {
        let per_block = BLOCK / self.piece;
        let mut guard = self.blocks();
        let blocks = &mut *guard;
        let at = match blocks.giving.first() {
            Some(&at) => at,
            None => {
                let block = Block {
                    memory: Mapping::new()?,
                    free: (0..per_block as u16).rev().collect(),
                };
                let at = blocks.vacant.pop_first().unwrap_or(blocks.all.len());
                if at == blocks.all.len() {
                    blocks.all.push(None);
                }
                blocks.all[at] = Some(block);
                blocks.giving.insert(at);
                blocks.idle += 1;
                at
            }
        };
        let block = blocks.all[at]
            .as_mut()
            .expect("a block that gives is there");
        if block.free.len() == per_block {
            blocks.idle -= 1;
            blocks.least_idle = blocks.least_idle.min(blocks.idle);
        }
        let number = block.free.pop().expect("a block that gives has a piece");
        if block.free.is_empty() {
            blocks.giving.remove(&at);
        }
        let offset = usize::from(number) * self.piece;
        // SAFETY: piece `number` lies within the block.
        let start = unsafe { block.memory.0.add(offset) };
        drop(guard);
        Ok(Piece {
            start,
            len: self.piece,
            block: at,
            number,
            pool: self.clone(),
        })
    }

    fn take_back(self: &Arc<Pool>, at: usize, number: u16) {
        let mut guard = self.blocks();
        let blocks = &mut *guard;
        let block = blocks.all[at]
            .as_mut()
            .expect("a block outlives its pieces");
        block.free.push(number);
        blocks.giving.insert(at);
        if block.free.len() < BLOCK / self.piece {
            return;
        }
        blocks.idle += 1;
        if blocks.idle > SPARE && !blocks.watched {
            blocks.watched = true;
            drop(guard);
            self.watch();
        }
    }

    /// Looks after the surplus until there is none.
    fn watch(self: &Arc<Pool>) {
        let pool = Arc::downgrade(self);
        let look = move || {
            loop {
                std::thread::sleep(IDLE);
                let there = pool.upgrade();
                if !there.is_some_and(|pool| pool.give_back()) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("memory".to_string());
        if thread.spawn(look).is_err() {
            // Nobody will look: at once, then.
            let mut blocks = self.blocks();
            (blocks.least_idle, blocks.watched) = (blocks.idle, false);
            drop(blocks);
            self.give_back();
        }
    }

    /// Gives the blocks back that were not used since this was last called, but for the spare ones. Answers whether
    /// there are more than those.
    fn give_back(&self) -> bool {
        let mut surplus = Vec::new();
        let mut guard = self.blocks();
        let blocks = &mut *guard;
        let unused = blocks.least_idle.saturating_sub(SPARE);
        // Those that give last.
        for at in blocks.giving.iter().copied().rev() {
            if surplus.len() == unused {
                break;
            }
            let block = &mut blocks.all[at];
            if block
                .as_ref()
                .is_some_and(|block| block.free.len() == BLOCK / self.piece)
            {
                surplus.extend(block.take());
                blocks.vacant.insert(at);
            }
        }
        blocks.giving.retain(|at| !blocks.vacant.contains(at));
        blocks.idle -= surplus.len();
        blocks.least_idle = blocks.idle;
        blocks.watched = blocks.idle > SPARE;
        let more = blocks.watched;
        // Outside of the lock.
        drop(guard);
        drop(surplus);
        more
    }
}

/// Memory of the kernel's, as large as a block and aligned like one.
struct Mapping(NonNull<u8>);

// SAFETY: it is plain memory; who may touch which part of it is the pool's to say.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new() -> io::Result<Mapping> {
        // Twice as much, of which the aligned half stays.
        // SAFETY: a new private mapping touches nothing that is there.
        let whole = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * BLOCK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if whole == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = whole as usize;
        let start = address.next_multiple_of(BLOCK);
        let (before, behind) = (start - address, address + BLOCK - start);
        // SAFETY: both ranges are parts of the mapping just made, and nobody knows of it yet.
        unsafe {
            if before > 0 {
                libc::munmap(whole, before);
            }
            if behind > 0 {
                libc::munmap((start + BLOCK) as *mut libc::c_void, behind);
            }
            // A wish: where it is not granted there are small pages.
            libc::madvise(start as *mut libc::c_void, BLOCK, libc::MADV_HUGEPAGE);
        }
        Ok(Mapping(
            NonNull::new(start as *mut u8).expect("a mapping is not at 0"),
        ))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, this size, and nobody has a piece of it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), BLOCK) };
    }
}

/// One piece, given back when dropped.
pub(crate) struct Piece {
    start: NonNull<u8>,
    len: usize,
    block: usize,
    number: u16,
    pool: Arc<Pool>,
}

// SAFETY: a piece owns its memory alone.
unsafe impl Send for Piece {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Piece {}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is this piece's alone, and initialized: the kernel's pages begin as zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the reference is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.pool.take_back(self.block, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks_of(pool: &Pool) -> usize {
        pool.blocks().all.iter().flatten().count()
    }

    /// Nobody looks after its surplus but the test.
    fn unwatched(piece: usize) -> Arc<Pool> {
        let pool = Pool::new(piece);
        pool.blocks().watched = true;
        pool
    }

    #[test]
    fn no_two_owners_share_a_byte_and_blocks_that_are_not_used_go_back() {
        let pool = unwatched(256 << 10);
        let pieces = |n: usize| -> Vec<Piece> {
            let pieces = std::iter::repeat_with(|| pool.piece().expect("memory"));
            pieces.take(n).collect()
        };
        let mut many = pieces(200);
        for (i, piece) in many.iter_mut().enumerate() {
            piece.fill(i as u8);
        }
        for (i, piece) in many.iter().enumerate() {
            assert!(
                piece.iter().all(|b| *b == i as u8),
                "piece {i} was written by another"
            );
        }
        assert_eq!(blocks_of(&pool), 25);
        drop(many);
        assert!(pool.give_back(), "they were in use since");
        assert_eq!(blocks_of(&pool), 25);
        // Eighteen of them are again, and seven are no more than are spare.
        drop(pieces(144));
        pool.give_back();
        assert_eq!(blocks_of(&pool), 25);
        drop(pieces(80));
        pool.give_back();
        assert_eq!(blocks_of(&pool), 18);
        let kept = pieces(1);
        pool.give_back();
        assert_eq!((blocks_of(&pool), pool.blocks().idle), (SPARE + 1, SPARE));
        drop(kept);
    }

    #[test]
    fn surplus_is_looked_after() {
        let pool = Pool::new(1 << 20);
        let pieces: Vec<_> = (0..40).map(|_| pool.piece().expect("memory")).collect();
        drop(pieces);
        assert!(pool.blocks().watched);
        let began = std::time::Instant::now();
        while blocks_of(&pool) > SPARE {
            assert!(began.elapsed() < Duration::from_secs(60), "it stays");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!pool.blocks().watched);
    }

    #[test]
    fn what_was_used_last_is_used_first_and_places_are_used_again() {
        let pool = unwatched(1 << 20);
        let piece = pool.piece().expect("memory");
        let first = piece.as_ptr();
        drop(piece);
        assert_eq!(pool.piece().expect("memory").as_ptr(), first);
        // More than the spare ones, from both ends and the middle, over and over.
        for round in 0..20 {
            let mut pieces: Vec<_> = (0..40).map(|_| pool.piece().expect("memory")).collect();
            for step in 0..40 {
                let at = (step * 7 + round) % pieces.len();
                pieces.swap_remove(at);
            }
            pool.give_back();
            pool.give_back();
            assert_eq!(blocks_of(&pool), SPARE);
            assert!(pool.blocks().all.len() <= 21);
        }
    }
}
