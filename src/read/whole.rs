//! An object that is brought in whole, into the kernel's pages of the file: for somebody who reads here and there in it.
//!
//! Where the store is near that takes about as long as a few thousand small requests, and afterwards nobody asks us
//! any more, as long as the kernel keeps its pages. What is kept there is no memory of ours, and the kernel's to take.
//!
//! Invariants:
//! - Each page is given once, when it is there as a whole, of the version the reader was opened with; whether the file is still
//!   that one is for [`Pages`] to see.
//! - No more than [`LANES`] ranges are under way, which have their turns like all others, and no more than [`HELD`]
//!   bytes are held, which are on the budget.
//! - Who takes longer than he was given gives up; what came by then stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Data;
use super::memory::{Account, ReadMemory};
use super::stream::{Source, Stream};
use super::window::SEGMENT;

/// The kernel's pages of one version of a file.
#[async_trait]
pub trait Pages: Send + Sync {
    /// How many bytes it has room for, without others losing theirs.
    fn room(&self) -> u64;

    /// The right to bring the file in, unless somebody else has it; until the answer is dropped.
    fn claim(&self) -> Option<Box<dyn Send + Sync>>;

    /// Gives it bytes of whole pages, or up to the end of the file. Answers whether it wants more.
    async fn keep(&self, offset: u64, data: Data) -> bool;
}

/// Ranges under way at once: so many keep a store that is near, or this machine, busy.
const LANES: usize = 4;
/// Bytes are given away when there are so many: half as many at once have been measured to take half as long again. Loads end
/// at multiples of it, and so where pages do, however large the kernel makes them.
const LOAD: u64 = 2 * SEGMENT;
/// Each lane has a load, and as much again in those parts of the transport's buffers that are of others.
const HELD: u64 = LANES as u64 * 2 * LOAD;
/// How long it would take in the end is not seen sooner.
const TRIAL: Duration = Duration::from_millis(250);

pub(super) struct Whole {
    pub(super) source: Arc<Source>,
    pub(super) memory: Arc<ReadMemory>,
    pub(super) pages: Arc<dyn Pages>,
    /// The length of a range, in whole segments.
    pub(super) range: u64,
    /// How long it may take.
    pub(super) patience: Duration,
}

/// How far it has come.
struct Progress {
    whole: Whole,
    began: Instant,
    next: AtomicU64,
    kept: AtomicU64,
}

impl Whole {
    /// Answers how long it took, or would take; `None`: it was not tried.
    pub(super) async fn bring(self, account: &Account) -> Option<Duration> {
        let _claim = self.pages.claim()?;
        let _held = self.memory.reserve(account, HELD, HELD)?;
        let progress = Arc::new(Progress {
            whole: self,
            began: Instant::now(),
            next: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        });
        let mut lanes = JoinSet::new();
        for _ in 0..LANES {
            lanes.spawn(progress.clone().lane());
        }
        // If one gives up the others are stopped.
        while let Some(Ok(Some(()))) = lanes.join_next().await {}
        lanes.shutdown().await;
        Some(progress.takes())
    }
}

impl Progress {
    /// Range after range; `None`: no more is wanted.
    async fn lane(self: Arc<Self>) -> Option<()> {
        loop {
            let start = self.next.fetch_add(self.whole.range, Ordering::Relaxed);
            if start >= self.whole.source.size {
                return Some(());
            }
            let turn = self.whole.memory.ranges.turn().await;
            self.range(start).await?;
            drop(turn);
        }
    }

    async fn range(&self, start: u64) -> Option<()> {
        let Whole { source, range, .. } = &self.whole;
        let end = (start + range).min(source.size);
        let mut stream = Stream::new(source, start..end);
        let (mut at, mut load) = (start, Data::default());
        loop {
            match stream.next().await {
                Ok(Some(chunk)) => load.push(chunk),
                Ok(None) => return self.give(at, load).await,
                Err(error) => {
                    tracing::debug!(key = source.key, %error, "not brought in whole");
                    return None;
                }
            }
            let came = at + load.len() as u64;
            if came - at >= LOAD {
                let whole_pages = came - came % LOAD;
                let rest = load.split_off((whole_pages - at) as usize);
                self.give(at, std::mem::replace(&mut load, rest)).await?;
                at = whole_pages;
            }
        }
    }

    async fn give(&self, at: u64, load: Data) -> Option<()> {
        if load.is_empty() {
            return Some(());
        }
        let bytes = load.len() as u64;
        let goes_on = self.whole.pages.keep(at, load).await;
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        let in_time = self.began.elapsed() < TRIAL || self.takes() <= self.whole.patience;
        (goes_on && in_time).then_some(())
    }

    /// How long it takes, as far as can be seen.
    fn takes(&self) -> Duration {
        let size = self.whole.source.size;
        let kept = self.kept.load(Ordering::Relaxed).max(1);
        self.began
            .elapsed()
            .mul_f64(size.max(kept) as f64 / kept as f64)
    }
}
