//! One open file's reads: answered from what is here, from what is coming, or by a GET of their own.
//!
//! A read goes through its range from front to back. Bytes that are here it takes; for bytes that
//! are coming it waits; what is neither it fetches itself, exactly. Read-ahead runs in a task a
//! range, which publishes each buffer as soon as it is full.
//!
//! Invariants:
//! - The lock is never held across an await. Garbage is dropped after unlocking.
//! - A read advances with every turn of its loop or waits for a task that is alive: a task that
//!   ends, however it does, takes its flight out of the state before its waiters wake.
//! - Bytes a read has taken are its own: cancelling and reclaiming cannot make it start over.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::memory::{Account, Buffer, Fetching, Permit, ReadMemory, Reclaim, Registration, WHOLE};
use super::state::{Cover, Flight, Progress, State};
use super::stream::{Seen, Source, Stream};
use super::whole::{Pages, Whole};
use super::window::{Room, SEGMENT, Wanted, Window};
use super::{Data, Settings};
use crate::flow::Turn;
use crate::store::{ETag, Error, ErrorKind, Result, Store};

/// How far into what is coming a read that is not part of the stream waits, rather than ask anew.
const PATIENCE: u64 = SEGMENT;

/// Reads one version of one object. Cheap until it is read from.
pub struct Reader {
    shared: Arc<Shared>,
    _registration: Registration,
}

struct Shared {
    source: Arc<Source>,
    memory: Arc<ReadMemory>,
    account: Account,
    touched: AtomicU64,
    /// The furthest byte that was read, and those that reads fetch for themselves just now: for people.
    reached: AtomicU64,
    own: AtomicU64,
    state: Mutex<State>,
    /// Through which it is read.
    pages: OnceLock<Arc<dyn Pages>>,
    /// The longest range.
    range: u64,
    /// Brings it into those.
    bringing: Mutex<Option<AbortHandle>>,
}

impl Reader {
    pub fn new(
        store: Arc<dyn Store>,
        memory: Arc<ReadMemory>,
        settings: Settings,
        key: String,
        etag: ETag,
        size: u64,
        version: Option<String>,
    ) -> Reader {
        let window = Window::new(size, settings.window_max, settings.range);
        let disk = memory.disk().and_then(|disk| {
            let object = disk.object(&key, &etag, size)?;
            Some((disk.clone(), object))
        });
        let shared = Arc::new(Shared {
            source: Arc::new(Source {
                store,
                key,
                etag,
                size,
                version,
                attempts: settings.attempts.max(1),
                backoff: settings.backoff,
                seen: Mutex::default(),
                disk,
            }),
            account: Account::default(),
            touched: AtomicU64::new(memory.now()),
            reached: AtomicU64::new(0),
            own: AtomicU64::new(0),
            state: Mutex::new(State::new(window, size)),
            memory: memory.clone(),
            pages: OnceLock::new(),
            range: settings.range.next_multiple_of(SEGMENT),
            bringing: Mutex::default(),
        });
        let reader: Weak<Shared> = Arc::downgrade(&shared);
        Reader {
            shared,
            _registration: memory.register(reader),
        }
    }

    /// What it reads is kept in these pages by whoever asks, and may be brought there whole.
    pub fn through(self, pages: Arc<dyn Pages>) -> Reader {
        let _ = self.shared.pages.set(pages);
        self
    }

    pub fn size(&self) -> u64 {
        self.shared.source.size
    }

    pub fn etag(&self) -> &ETag {
        &self.shared.source.etag
    }

    /// If the store was found to have it still since this was last asked.
    pub fn seen(&self) -> Option<Seen> {
        let seen = &self.shared.source.seen;
        seen.lock().expect("no panic while held").take()
    }

    /// At most `len` bytes from `offset`; shorter only at the end of the object. To be called
    /// within a tokio runtime, from as many tasks at once as there are requests. The answer takes
    /// `len` bytes of memory outside of the budget at worst: bounding `len` is the caller's part.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Data> {
        let mut data = Data::default();
        for range in self.by_segment(offset, len) {
            self.shared.read(range, &mut data).await?;
        }
        Ok(data)
    }

    /// The same, if all of it is here.
    pub fn try_read(&self, offset: u64, len: usize) -> Option<Result<Data>> {
        let ranges = || self.by_segment(offset, len);
        if !ranges().all(|range| self.shared.is_here(range)) {
            return None;
        }
        let mut data = Data::default();
        for range in ranges() {
            match self.shared.read(range, &mut data).now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Err(error)),
                // Taken away a moment ago.
                None => return None,
            }
        }
        Some(Ok(data))
    }

    /// A long read in parts.
    fn by_segment(&self, offset: u64, len: usize) -> impl Iterator<Item = Range<u64>> {
        let end = offset.saturating_add(len as u64).min(self.size());
        let is_short = len as u64 <= SEGMENT;
        let mut start = offset;
        std::iter::from_fn(move || {
            let next = match is_short {
                true => end,
                false => (start - start % SEGMENT + SEGMENT).min(end),
            };
            let range = start..next;
            start = next;
            (!range.is_empty()).then_some(range)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let garbage = self.shared.state_anyway().clear();
        drop(garbage);
        if let Some(task) = self.shared.bringing().take() {
            task.abort();
        }
    }
}

/// What to do for the next byte of a read.
enum Step {
    Take(Bytes),
    Wait(watch::Receiver<Progress>),
    Fetch(u64),
}

impl Shared {
    fn is_here(&self, range: Range<u64>) -> bool {
        let state = self.state();
        let mut at = range.start;
        while at < range.end {
            match state.cover(at) {
                Cover::Here(bytes) => at += bytes.len() as u64,
                Cover::Coming(_) | Cover::Gap(_) => return false,
            }
        }
        true
    }

    /// Appends the bytes of `range` (at most a segment) to `data`.
    async fn read(self: &Arc<Self>, range: Range<u64>, data: &mut Data) -> Result<()> {
        let (_reading, sequential) = self.begin(range.clone())?;
        let counters = &self.memory.counters;
        let mut answered = &counters.here;
        let mut at = range.start;
        while at < range.end {
            match self.step(at..range.end, sequential)? {
                Step::Take(bytes) => {
                    at += bytes.len() as u64;
                    data.push(bytes);
                }
                Step::Wait(mut progress) => {
                    answered = &counters.coming;
                    let told = |progress: &Progress| progress.at > at || progress.failed.is_some();
                    // An error is a task that was stopped; the next step sees what there is instead.
                    if let Ok(progress) = progress.wait_for(told).await
                        && let Some(error) = &progress.failed
                        && progress.at <= at
                    {
                        return Err(error.clone());
                    }
                }
                Step::Fetch(end) => {
                    data.push(self.fetch(at..end).await?);
                    at = end;
                    answered = &counters.asked;
                }
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
        self.reached.fetch_max(range.end, Ordering::Relaxed);
        Ok(())
    }

    /// Registers a read and starts what it makes worth fetching.
    fn begin(self: &Arc<Self>, range: Range<u64>) -> Result<(Reading<'_>, bool)> {
        self.touch();
        let (reading, sequential, starved, garbage) = {
            let mut state = self.state();
            if let Some(conflict) = &state.conflict {
                return Err(conflict.clone());
            }
            state.window.tick(Duration::from_millis(self.memory.now()));
            let access = state.window.access(range.start, range.end - range.start);
            let reading = Reading {
                shared: self,
                id: state.begin_read(range),
            };
            if access.abandon {
                state.abandon();
            }
            let garbage = state.sweep();
            let starved = self.extend(&mut state);
            (reading, access.sequential, starved, garbage)
        };
        drop(garbage);
        let starved = match starved {
            Some(_) => {
                let mut state = self.state();
                state.window.tighten();
                let garbage = state.sweep();
                drop(state);
                drop(garbage);
                self.extend(&mut self.state())
            }
            None => None,
        };
        if let Some(bytes) = starved {
            let freed = self.memory.reclaim(bytes);
            let mut state = self.state();
            if !freed || self.extend(&mut state).is_some() {
                state.denied();
            }
        }
        Ok((reading, sequential))
    }

    /// Starts all that is wanted, as far as there is memory. Answers how much there was not.
    fn extend(self: &Arc<Self>, state: &mut State) -> Option<u64> {
        let gate = &self.memory.ranges;
        let (ranges, is_near) = (gate.limit() + 1, gate.is_near());
        while let Some(Wanted {
            range,
            grain,
            awaited,
        }) = state.window.wanted(ranges, is_near)
        {
            let gap = match state.cover(range.start) {
                Cover::Here(bytes) => Err(range.start + bytes.len() as u64),
                Cover::Coming(flight) => Err(flight.rest.end),
                Cover::Gap(end) => Ok(end.min(range.end)),
            };
            let end = match gap {
                Ok(end) => end,
                Err(covered) => {
                    state.window.advance(covered);
                    continue;
                }
            };
            // Who waits need not wait for a turn as well.
            let turn = self.memory.ranges.try_turn();
            if turn.is_none() && !awaited {
                return None;
            }
            let want = end - range.start;
            // Of what nobody waits for yet a part would only cost another request.
            let least = match awaited {
                true => (SEGMENT - range.start % SEGMENT).min(want),
                false => want,
            };
            let Some(permit) = self.memory.reserve(&self.account, want, least) else {
                return Some(want);
            };
            let range = range.start..range.start + permit.bytes();
            state.window.advance(range.end);
            let id = state.id();
            let (sender, progress) = watch::channel(Progress {
                at: range.start,
                failed: None,
            });
            let pilot = Pilot {
                shared: self.clone(),
                id,
                progress: sender,
            };
            let flight = pilot.fly(range.clone(), grain, permit, turn);
            let task = tokio::spawn(flight).abort_handle();
            state.launch(Flight {
                id,
                rest: range,
                progress,
                task,
            });
        }
        None
    }

    fn step(&self, range: Range<u64>, sequential: bool) -> Result<Step> {
        let state = self.state();
        if let Some(conflict) = &state.conflict {
            return Err(conflict.clone());
        }
        Ok(match state.cover(range.start) {
            Cover::Here(mut bytes) => {
                bytes.truncate((range.end - range.start) as usize);
                Step::Take(bytes)
            }
            Cover::Coming(flight) if sequential || range.start - flight.rest.start <= PATIENCE => {
                Step::Wait(flight.progress.clone())
            }
            Cover::Coming(flight) => Step::Fetch(range.end.min(flight.rest.end)),
            Cover::Gap(end) => Step::Fetch(range.end.min(end)),
        })
    }

    /// The bytes of a range that nobody else fetches, for the read that needs them.
    async fn fetch(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes> {
        let len = (range.end - range.start) as usize;
        let _own = Own::begin(&self.own, len as u64);
        let began = Instant::now();
        let mut stream = Stream::new(&self.source, range);
        let mut joined = Vec::new();
        let fetched = loop {
            match stream.next().await {
                Ok(Some(chunk)) if chunk.len() == len => break chunk,
                Ok(Some(chunk)) => {
                    joined.reserve_exact(len - joined.len());
                    joined.extend_from_slice(&chunk);
                }
                Ok(None) => break joined.into(),
                Err(error) => {
                    self.note(&error);
                    return Err(error);
                }
            }
        };
        // A disk tells nothing of the store, and needs no memory beside it.
        if self.source.disk.is_none() {
            let pages = self.pages.get();
            let (took, room) = (began.elapsed(), || pages.map_or(0, |pages| pages.room()));
            let room = match pages {
                Some(_) => Room::Pages(&room),
                None => Room::Memory(self.memory.room()),
            };
            let patience = self.state().window.asked(took, room);
            if let (Some(patience), Some(pages)) = (patience, pages) {
                self.bring(pages.clone(), patience);
            }
        }
        Ok(fetched)
    }

    /// Begins to bring the object into the kernel's pages.
    fn bring(self: &Arc<Self>, pages: Arc<dyn Pages>, patience: Duration) {
        let whole = Whole {
            source: self.source.clone(),
            memory: self.memory.clone(),
            pages,
            range: self.range,
            patience,
        };
        let (account, reader) = (self.account.clone(), Arc::downgrade(self));
        let task = tokio::spawn(async move {
            let takes = whole.bring(&account).await;
            if let Some(reader) = reader.upgrade() {
                reader.state().window.brought(takes);
            }
        });
        *self.bringing() = Some(task.abort_handle());
    }

    fn bringing(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.bringing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replaced object is replaced for every read to come.
    fn note(&self, error: &Error) {
        if error.kind == ErrorKind::Conflict {
            let mut state = self.state();
            state.conflict.get_or_insert_with(|| error.clone());
            let garbage = state.clear();
            drop(state);
            drop(garbage);
        }
    }

    fn touch(&self) {
        self.touched.store(self.memory.now(), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("a read panicked with the state locked")
    }

    /// For what runs when a panic is under way: frees, but answers no read.
    fn state_anyway(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reclaim for Shared {
    fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    fn held(&self) -> u64 {
        self.account.load(Ordering::Relaxed)
    }

    fn fetching(&self) -> Option<Fetching> {
        let coming = self.state_anyway().coming() + self.own.load(Ordering::Relaxed);
        (coming > 0).then(|| Fetching {
            key: self.source.key.clone(),
            size: self.source.size,
            at: self.reached.load(Ordering::Relaxed),
            coming,
        })
    }

    fn reclaim(&self) -> bool {
        let mut state = self.state_anyway();
        if state.is_reading() {
            return false;
        }
        state.window.lost();
        let garbage = state.clear();
        drop(state);
        drop(garbage);
        true
    }
}

/// Bytes that a read fetches for itself.
struct Own<'a> {
    all: &'a AtomicU64,
    bytes: u64,
}

impl Own<'_> {
    fn begin(all: &AtomicU64, bytes: u64) -> Own<'_> {
        all.fetch_add(bytes, Ordering::Relaxed);
        Own { all, bytes }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A read in progress: what it needs is not dropped meanwhile.
struct Reading<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.shared.touch();
        let garbage = self.shared.state_anyway().end_read(self.id);
        drop(garbage);
    }
}

/// Brings one range in. Dropped at any moment, it takes its flight with it.
struct Pilot {
    shared: Arc<Shared>,
    id: u64,
    progress: watch::Sender<Progress>,
}

impl Pilot {
    async fn fly(self, range: Range<u64>, grain: u64, mut permit: Permit, turn: Option<Turn>) {
        let began = Instant::now();
        // How long it takes tells of the store only where no disk takes part.
        let of_the_store = self.shared.source.disk.is_none();
        let mut stream = Stream::new(&self.shared.source, range.clone());
        // What has arrived, and the buffer the next bytes go to.
        let mut at = range.start;
        let mut buffer: Option<Buffer> = None;
        loop {
            let mut chunk = match stream.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    if let Some(turn) = turn
                        && of_the_store
                    {
                        turn.passed(range.end - range.start);
                    }
                    return;
                }
                Err(error) => {
                    if let Some(rest) = buffer.take() {
                        self.publish(&mut at, rest.freeze());
                    }
                    return self.fail(error);
                }
            };
            if at == range.start && of_the_store {
                self.shared.memory.ranges.answered(began.elapsed());
            }
            if chunk.len() >= WHOLE {
                let begun = buffer.take().map(|begun| begun.cut(&mut permit));
                let kept = permit.split(chunk.len() as u64).keep(chunk);
                for piece in begun.into_iter().chain([kept]) {
                    if !self.publish(&mut at, piece) {
                        return;
                    }
                }
                continue;
            }
            while chunk.has_remaining() {
                let mut filling = buffer.take().unwrap_or_else(|| {
                    let end = (at - at % grain + grain).min(range.end);
                    ReadMemory::buffer(permit.split(end - at))
                });
                let bytes = filling.room().min(chunk.len());
                filling.fill(&chunk[..bytes]);
                chunk.advance(bytes);
                if filling.room() > 0 {
                    buffer = Some(filling);
                } else if !self.publish(&mut at, filling.freeze()) {
                    return;
                }
            }
        }
    }

    /// Gives bytes to the readers. Answers whether they want more.
    fn publish(&self, at: &mut u64, piece: Bytes) -> bool {
        *at += piece.len() as u64;
        let arrived = self.shared.state().arrive(self.id, piece);
        let wanted = arrived.is_some();
        drop(arrived);
        self.progress.send_modify(|progress| progress.at = *at);
        wanted
    }

    fn fail(&self, error: Error) {
        tracing::debug!(key = self.shared.source.key, %error, "a read-ahead failed");
        let garbage = self.shared.state().failed(self.id);
        drop(garbage);
        self.shared.note(&error);
        self.progress
            .send_modify(|progress| progress.failed = Some(error));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        // Nothing is left to do when it came to its end. When it was stopped, those who wait find
        // the flight gone as soon as they see the channel closed.
        let garbage = self.shared.state_anyway().failed(self.id);
        drop(garbage);
    }
}
