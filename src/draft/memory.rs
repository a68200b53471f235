//! The memory of everything that is being written: one budget for the whole mount, lent in chunks.
//!
//! Invariants:
//! - Chunks lent and memory reserved for spooled pieces together never exceed the limit.
//! - Nobody waits for memory that nothing will free: a writer who finds the budget spent while no
//!   part is under way is told to spill to disk instead ([`Grant::Spill`]).
//! - Writers are made to wait before the budget is spent, so that the last of it takes what the kernel has
//!   sent already: bytes that came are not copied twice because there was no room for them.
//! - Reserved memory (a quarter) is for pieces on their way from the spool to the store. They hold
//!   nothing else while they wait, so the commit of a spooled file always gets through.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::pool::{Piece, Pool};

/// Small enough for many small files at once, large enough to be cheap.
pub const CHUNK: usize = 256 << 10;

const RESERVE_UNIT: u64 = 64 << 10;

/// Chunks for what was sent before its writer could be made to wait: 16 requests of the largest size.
const HEADROOM: usize = 64;

pub struct WriteMemory {
    inner: Mutex<Inner>,
    /// Chunks came back, or what is under way changed.
    changed: Notify,
    chunks_max: usize,
    /// With more than this lent, who has written waits for his answer.
    calm_max: usize,
    pool: Arc<Pool>,
    reserve: Arc<Semaphore>,
    reserve_bytes: u64,
}

struct Inner {
    lent: usize,
    /// Chunks in parts on their way to the store: these come back by themselves.
    under_way: usize,
    /// Sent parts that are kept for rewriting, oldest first; dropped when memory is wanted.
    kept: VecDeque<Kept>,
    kept_chunks: usize,
}

impl Inner {
    /// Takes the part that was kept longest out of the queue. The first part of a file is what
    /// headers are rewritten in: it goes last.
    fn oldest_kept(&mut self, heads_too: bool) -> Option<Arc<KeptPart>> {
        self.kept.retain(|kept| kept.part.strong_count() > 0);
        let chosen = match self.kept.iter().position(|kept| !kept.is_head) {
            Some(index) => index,
            None if heads_too && !self.kept.is_empty() => 0,
            None => return None,
        };
        self.kept.remove(chosen)?.part.upgrade()
    }
}

struct Kept {
    is_head: bool,
    /// Upgraded only by who lets go of it outside of the lock: a part's drop takes the lock.
    part: Weak<KeptPart>,
}

pub enum Grant {
    Chunk(Chunk),
    Spill,
}

impl WriteMemory {
    pub fn new(limit: u64) -> Arc<WriteMemory> {
        let reserve_bytes = (limit / 4).max(RESERVE_UNIT);
        let chunks_max = ((limit - limit / 4) / CHUNK as u64).max(1) as usize;
        Arc::new(WriteMemory {
            inner: Mutex::new(Inner {
                lent: 0,
                under_way: 0,
                kept: VecDeque::new(),
                kept_chunks: 0,
            }),
            changed: Notify::new(),
            chunks_max,
            calm_max: chunks_max - (chunks_max / 8).min(HEADROOM),
            pool: Pool::new(CHUNK),
            reserve: Arc::new(Semaphore::new((reserve_bytes / RESERVE_UNIT) as usize)),
            reserve_bytes,
        })
    }

    /// The largest part that may be held in memory at once.
    pub fn largest_part(&self) -> u64 {
        self.reserve_bytes
    }

    pub fn limit(&self) -> u64 {
        (self.chunks_max * CHUNK) as u64 + self.reserve_bytes
    }

    /// Bytes lent to drafts and parts under way, and reserved for pieces of spools.
    pub fn used(&self) -> u64 {
        let units = (self.reserve_bytes / RESERVE_UNIT) as usize;
        let reserved = (units - self.reserve.available_permits()) as u64 * RESERVE_UNIT;
        (self.lock().lent * CHUNK) as u64 + reserved
    }

    /// A chunk, if there is one without waiting.
    pub fn try_chunk(self: &Arc<Self>) -> Option<Chunk> {
        loop {
            let dropped = {
                let mut inner = self.lock();
                if inner.lent < self.chunks_max {
                    inner.lent += 1;
                    drop(inner);
                    return match self.pool.piece() {
                        Ok(piece) => Some(Chunk {
                            piece,
                            len: 0,
                            _loan: Loan(self.clone()),
                        }),
                        // The system has less than was allowed: as if that were spent.
                        Err(_) => {
                            self.lock().lent -= 1;
                            None
                        }
                    };
                }
                // While parts are under way, waiting for them is better than losing a file's head.
                let heads_too = inner.under_way == 0;
                inner.oldest_kept(heads_too)?
            };
            dropped.forget();
        }
    }

    /// A chunk as soon as there is one, or word that waiting is of no use.
    pub async fn chunk(self: &Arc<Self>) -> Grant {
        loop {
            let changed = self.changed.notified();
            if let Some(chunk) = self.try_chunk() {
                return Grant::Chunk(chunk);
            }
            {
                let inner = self.lock();
                if inner.under_way == 0 {
                    return Grant::Spill;
                }
            }
            changed.await;
        }
    }

    /// Is so much lent that who has written should wait for his answer?
    pub fn is_calm(&self) -> bool {
        let inner = self.lock();
        inner.lent <= self.calm_max || inner.under_way == 0
    }

    /// Resolves when less is lent, or nothing comes back by itself.
    pub async fn calm(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_calm() {
                return;
            }
            changed.await;
        }
    }

    /// Memory for a piece read from the spool. `bytes` is at most [`largest_part`](Self::largest_part).
    pub async fn reserve(&self, bytes: u64) -> OwnedSemaphorePermit {
        assert!(
            bytes <= self.reserve_bytes,
            "a piece larger than the reserve"
        );
        let units = bytes
            .div_ceil(RESERVE_UNIT)
            .min(self.reserve_bytes / RESERVE_UNIT) as u32;
        self.reserve
            .clone()
            .acquire_many_owned(units)
            .await
            .expect("the reserve is never closed")
    }

    /// Marks chunks as on their way until the answer is dropped.
    pub fn under_way(self: &Arc<Self>, chunks: usize) -> UnderWay {
        self.lock().under_way += chunks;
        UnderWay {
            memory: self.clone(),
            chunks,
        }
    }

    /// Keeps a sent part for rewriting, within a quarter of the memory.
    pub fn keep(self: &Arc<Self>, part: &Arc<KeptPart>) {
        {
            let mut inner = self.lock();
            inner.kept_chunks += part.chunks;
            inner.kept.push_back(Kept {
                is_head: part.is_head,
                part: Arc::downgrade(part),
            });
        }
        loop {
            let surplus = {
                let mut inner = self.lock();
                if inner.kept_chunks <= self.chunks_max / 4 {
                    return;
                }
                inner.oldest_kept(true)
            };
            match surplus {
                Some(part) => part.forget(),
                None => return,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while held")
    }
}

/// Parts on their way to the store; dropped when the store has answered.
pub struct UnderWay {
    memory: Arc<WriteMemory>,
    chunks: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.memory.lock().under_way -= self.chunks;
        self.memory.changed.notify_waiters();
    }
}

/// A part that was sent and is still here, so that it can be read back or rewritten.
pub struct KeptPart {
    pub data: Mutex<Option<Vec<Bytes>>>,
    chunks: usize,
    is_head: bool,
    memory: Arc<WriteMemory>,
}

impl KeptPart {
    pub fn new(memory: &Arc<WriteMemory>, data: Vec<Bytes>, is_head: bool) -> Arc<KeptPart> {
        let chunks = data.len();
        Arc::new(KeptPart {
            data: Mutex::new(Some(data)),
            chunks,
            is_head,
            memory: memory.clone(),
        })
    }

    fn forget(&self) {
        let data = self.data.lock().expect("no panic while held").take();
        if data.is_some() {
            self.memory.lock().kept_chunks -= self.chunks;
        }
    }
}

impl Drop for KeptPart {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A piece of the budget, being filled. (It is in its pool again before the budget has it back.)
pub struct Chunk {
    piece: Piece,
    len: usize,
    _loan: Loan,
}

/// One chunk of the budget.
struct Loan(Arc<WriteMemory>);

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.lock().lent -= 1;
        self.0.changed.notify_waiters();
    }
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_full(&self) -> bool {
        self.len == self.piece.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.piece[..self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.piece[..self.len]
    }

    /// Takes as much of `data` as fits; answers how much that was.
    pub fn append(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.piece.len() - self.len);
        self.piece[self.len..self.len + taken].copy_from_slice(&data[..taken]);
        self.len += taken;
        taken
    }

    pub fn append_zeros(&mut self, count: usize) -> usize {
        let taken = count.min(self.piece.len() - self.len);
        self.piece[self.len..self.len + taken].fill(0);
        self.len += taken;
        taken
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Shares the bytes; the chunk returns to the budget when the last share is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_used_and_the_limit_speak_of_the_same() {
        let memory = WriteMemory::new(16 << 20);
        let mut lent = Vec::new();
        while let Some(chunk) = memory.try_chunk() {
            lent.push(chunk);
        }
        let reserved = memory.reserve(memory.largest_part()).await;
        assert_eq!(memory.used(), memory.limit());
        drop((lent, reserved));
        assert_eq!(memory.used(), 0);
    }
}
