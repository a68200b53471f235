//! What all readers together may hold: the budget of read-ahead, and its buffers.
//!
//! A [`Permit`] is taken before a range is asked for, split as its bytes are assembled, and lives
//! in the buffers themselves until the last slice of them is dropped: what is counted is what is
//! there.
//!
//! Invariants:
//! - The sum of all permits never exceeds the limit.
//! - Nobody waits here. Without a permit a reader does not read ahead; what a read asks for it
//!   fetches outside of the budget, bounded by its own size. So readers cannot lock each other out.
//! - Shares are fair without counting heads: a reader may come to hold as much as is free, so n busy
//!   readers settle at one (n+1)th each, and the next one always finds something.
//! - Lock order: a reader's state before the ledger; never a reader's state inside the registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::disk::DiskCache;
use super::window::SEGMENT;
use crate::flow::Gate;
use crate::pool::{Piece, Pool};

/// A reader that has not been used for so long gives its buffers to those who need them.
const IDLE: Duration = Duration::from_secs(1);
/// Looking for idle readers is not repeated sooner.
const SCAN: Duration = Duration::from_millis(250);
/// Ranges under way for all readers together, but for those that a read waits for.
const RANGES: usize = 64;
/// Bytes that came as so many at once are kept as they came; a buffer of the transport's is not much larger.
/// Fewer are copied together, lest each holds a buffer; until more come at once again.
pub(super) const WHOLE: usize = 256 << 10;

/// The budget of all readers of a mount.
pub struct ReadMemory {
    limit: u64,
    ledger: Mutex<Ledger>,
    registry: Mutex<Registry>,
    epoch: Instant,
    pub(super) counters: Counters,
    segments: Arc<Pool>,
    pub(super) ranges: Arc<Gate>,
    disk: Option<Arc<DiskCache>>,
}

struct Ledger {
    used: u64,
    high: u64,
}

struct Registry {
    next: u64,
    readers: HashMap<u64, Weak<dyn Reclaim>>,
    /// When the next search for idle readers is worth while.
    scan: Option<Instant>,
}

/// A reader as seen from here.
pub(super) trait Reclaim: Send + Sync {
    /// When it was last used, by [`ReadMemory::now`].
    fn touched(&self) -> u64;
    fn held(&self) -> u64;
    /// What it brings in just now.
    fn fetching(&self) -> Option<Fetching>;
    /// Throws away what it has read ahead, unless a read is going on.
    fn reclaim(&self) -> bool;
}

/// A file that is being brought in, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    pub key: String,
    pub size: u64,
    /// How far it was read.
    pub at: u64,
    /// Bytes on their way.
    pub coming: u64,
}

/// How reads of a segment at most were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// From what had been read ahead.
    pub here: u64,
    /// By what was on its way.
    pub coming: u64,
    /// By a request of their own.
    pub asked: u64,
}

/// [`Reads`] as they come.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) here: AtomicU64,
    pub(super) coming: AtomicU64,
    pub(super) asked: AtomicU64,
}

/// What one reader holds.
pub(super) type Account = Arc<AtomicU64>;

impl ReadMemory {
    /// `limit` in bytes. Less than a segment (1 MiB) means no read-ahead of large objects at all.
    pub fn new(limit: u64) -> ReadMemory {
        ReadMemory {
            limit,
            ledger: Mutex::new(Ledger { used: 0, high: 0 }),
            registry: Mutex::new(Registry {
                next: 0,
                readers: HashMap::new(),
                scan: None,
            }),
            epoch: Instant::now(),
            counters: Counters::default(),
            segments: Pool::new(SEGMENT as usize),
            ranges: Gate::new(RANGES),
            disk: None,
        }
    }

    /// With a cache behind the memory.
    pub fn with_disk(self, disk: Option<Arc<DiskCache>>) -> ReadMemory {
        ReadMemory { disk, ..self }
    }

    pub fn disk(&self) -> Option<&Arc<DiskCache>> {
        self.disk.as_ref()
    }

    /// How the reads so far were answered.
    pub fn reads(&self) -> Reads {
        let Counters {
            here,
            coming,
            asked,
        } = &self.counters;
        let [here, coming, asked] = [here, coming, asked].map(|n| n.load(Ordering::Relaxed));
        Reads {
            here,
            coming,
            asked,
        }
    }

    /// The files that are being brought in.
    pub fn fetching(&self) -> Vec<Fetching> {
        let readers = self.readers();
        readers
            .iter()
            .filter_map(|reader| reader.fetching())
            .collect()
    }

    fn readers(&self) -> Vec<Arc<dyn Reclaim>> {
        let registry = self.registry();
        registry
            .readers
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes buffered or in flight.
    pub fn used(&self) -> u64 {
        self.ledger().used
    }

    /// The most that was ever used at once.
    pub fn high_water(&self) -> u64 {
        self.ledger().high
    }

    /// What a reader that has nothing yet may come to hold.
    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.used()) / 2
    }

    /// `want` bytes if there are as many for this reader, otherwise `first` and as many whole
    /// segments more as there are, otherwise nothing.
    pub(super) fn reserve(
        self: &Arc<Self>,
        account: &Account,
        want: u64,
        first: u64,
    ) -> Option<Permit> {
        let mut ledger = self.ledger();
        let held = account.load(Ordering::Relaxed);
        let allowed = (self.limit - ledger.used).saturating_sub(held);
        let bytes = if allowed >= want {
            want
        } else if allowed >= first {
            first + (allowed - first) / SEGMENT * SEGMENT
        } else {
            return None;
        };
        ledger.used += bytes;
        ledger.high = ledger.high.max(ledger.used);
        assert!(ledger.used <= self.limit, "the read budget is overdrawn");
        account.fetch_add(bytes, Ordering::Relaxed);
        Some(Permit {
            memory: self.clone(),
            account: account.clone(),
            bytes,
        })
    }

    /// An empty buffer of the size of its permit.
    pub(super) fn buffer(permit: Permit) -> Buffer {
        let piece = (permit.bytes == SEGMENT).then(|| permit.memory.segments.piece());
        let space = match piece {
            Some(Ok(piece)) => Space::Piece(piece, 0),
            _ => Space::Small(Vec::with_capacity(permit.bytes as usize)),
        };
        Buffer { space, permit }
    }

    /// The time, as readers note it.
    pub(super) fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    pub(super) fn register(self: &Arc<Self>, reader: Weak<dyn Reclaim>) -> Registration {
        let mut registry = self.registry();
        let id = registry.next;
        registry.next += 1;
        registry.readers.insert(id, reader);
        Registration {
            memory: self.clone(),
            id,
        }
    }

    /// Takes the buffers of idle readers, those unused longest first, until `want` bytes are or
    /// will soon be free, and some more: it is not done again for a while. Not to be called with
    /// any reader's state locked.
    pub(super) fn reclaim(&self, want: u64) -> bool {
        let now = Instant::now();
        {
            let mut registry = self.registry();
            if registry.scan.is_some_and(|scan| now < scan) {
                return false;
            }
            registry.scan = Some(now + SCAN);
        }
        let now = self.now();
        let mut idle: Vec<_> = self
            .readers()
            .into_iter()
            .map(|reader| (reader.touched(), reader))
            .filter(|(touched, reader)| {
                reader.held() > 0 && now.saturating_sub(*touched) >= IDLE.as_millis() as u64
            })
            .collect();
        idle.sort_by_key(|(touched, _)| *touched);
        let want = want.max(self.limit / 2);
        let mut freed = 0;
        for (_, reader) in idle {
            let held = reader.held();
            if reader.reclaim() {
                freed += held;
            }
            if freed >= want {
                break;
            }
        }
        freed > 0
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Its numbers are changed in single steps: nothing is torn when a holder panics.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to hold some bytes, given back when dropped.
pub(super) struct Permit {
    memory: Arc<ReadMemory>,
    account: Account,
    bytes: u64,
}

impl Permit {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `bytes` of it, on their own from now on.
    pub(super) fn split(&mut self, bytes: u64) -> Permit {
        assert!(bytes <= self.bytes, "more is fetched than was permitted");
        self.bytes -= bytes;
        Permit {
            memory: self.memory.clone(),
            account: self.account.clone(),
            bytes,
        }
    }

    /// One for both, which are of one account.
    fn join(&mut self, mut other: Permit) {
        assert!(
            Arc::ptr_eq(&self.account, &other.account),
            "of another account"
        );
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.ledger().used -= self.bytes;
            self.account.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes being assembled, with their permit.
pub(super) struct Buffer {
    space: Space,
    permit: Permit,
}

enum Space {
    /// A segment, and how much of it is filled.
    Piece(Piece, usize),
    Small(Vec<u8>),
}

impl Buffer {
    pub(super) fn room(&self) -> usize {
        self.permit.bytes as usize - self.as_ref().len()
    }

    pub(super) fn fill(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "a buffer never grows");
        match &mut self.space {
            Space::Piece(piece, filled) => {
                piece[*filled..*filled + bytes.len()].copy_from_slice(bytes);
                *filled += bytes.len();
            }
            Space::Small(held) => held.extend_from_slice(bytes),
        }
    }

    /// The bytes so far, to be shared. The buffer is recycled with the last share.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// The bytes so far, in no more memory than they need. What that leaves of its permit goes back to `permit`.
    pub(super) fn cut(mut self, permit: &mut Permit) -> Bytes {
        let bytes = self.as_ref().to_vec();
        let held = self.permit.split(bytes.len() as u64);
        permit.join(self.permit);
        Buffer {
            space: Space::Small(bytes),
            permit: held,
        }
        .freeze()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.space {
            Space::Piece(piece, filled) => &piece[..*filled],
            Space::Small(held) => held,
        }
    }
}

/// Bytes as they came, with their permit.
struct Kept {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Permit {
    /// For bytes that are kept as they came.
    pub(super) fn keep(self, bytes: Bytes) -> Bytes {
        assert!(
            self.bytes == bytes.len() as u64,
            "a permit is for its bytes"
        );
        Bytes::from_owner(Kept {
            bytes,
            _permit: self,
        })
    }
}

/// Ends a reader's registration when dropped.
pub(super) struct Registration {
    memory: Arc<ReadMemory>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = self.memory.registry().readers.remove(&self.id);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_add_up_and_come_back() {
        let memory = Arc::new(ReadMemory::new(10 * SEGMENT));
        let account = Account::default();
        let mut permit = memory.reserve(&account, 8 * SEGMENT, SEGMENT).unwrap();
        let part = permit.split(SEGMENT);
        assert_eq!((permit.bytes(), part.bytes()), (7 * SEGMENT, SEGMENT));
        drop(permit);
        assert_eq!(memory.used(), SEGMENT);
        let bytes = {
            let mut buffer = ReadMemory::buffer(part);
            buffer.fill(&[7; 100]);
            buffer.freeze()
        };
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(memory.used(), SEGMENT, "a slice holds the whole buffer");
        drop(slice);
        assert_eq!((memory.used(), account.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(memory.high_water(), 8 * SEGMENT);
        let permit = memory.reserve(&account, SEGMENT, SEGMENT).unwrap();
        let buffer = ReadMemory::buffer(permit);
        assert_eq!(
            buffer.room(),
            SEGMENT as usize,
            "a recycled buffer is empty"
        );
    }

    #[test]
    fn bytes_that_are_kept_as_they_came_are_counted() {
        let memory = Arc::new(ReadMemory::new(2 * SEGMENT));
        let mut permit = memory
            .reserve(&Account::default(), SEGMENT, SEGMENT)
            .unwrap();
        let came = Bytes::from(vec![3; WHOLE]);
        let kept = permit.split(WHOLE as u64).keep(came.clone());
        drop(permit);
        assert_eq!(kept.as_ptr(), came.as_ptr(), "no copy");
        assert_eq!(memory.used(), WHOLE as u64);
        drop(kept);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn shares_are_fair() {
        let memory = Arc::new(ReadMemory::new(60 * SEGMENT));
        let mut permits = Vec::new();
        let accounts: Vec<_> = (0..3).map(|_| Account::default()).collect();
        for account in &accounts {
            while let Some(permit) = memory.reserve(account, SEGMENT, SEGMENT) {
                permits.push(permit);
            }
            assert!(
                memory.used() < memory.limit(),
                "something is left for the next one"
            );
        }
        assert_eq!(accounts[0].load(Ordering::Relaxed), 30 * SEGMENT);
    }

    #[test]
    fn scarce_memory_is_given_in_segments() {
        let memory = Arc::new(ReadMemory::new(3 * SEGMENT + 5));
        let account = Account::default();
        let permit = memory.reserve(&account, 8 * SEGMENT, 100).unwrap();
        assert_eq!(permit.bytes(), 100 + 2 * SEGMENT);
        assert!(memory.reserve(&account, 8 * SEGMENT, SEGMENT).is_none());
    }
}
