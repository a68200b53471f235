//! The thread that owns a [`Log`], and the queue before it. While it syncs, records gather; then it
//! takes all of them, writes them at once, syncs once, and answers: however many uploads are under
//! way, they share the disk's syncs.
//!
//! Invariants:
//! - A record is answered when it is durable; a lazy one when it is written.
//! - What was written lazily is durable within [`LAZY`], without a sync of its own if others come by.
//! - What waits takes no more than [`ROOM`] of memory: who finds none waits before the queue.
//! - Every record is answered, also when the thread ends or dies.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Stats;
use super::log::{Log, Pending, Refused};

/// How long a lazy record may wait for somebody else's sync.
const LAZY: Duration = Duration::from_secs(1);

/// Memory of queued records, in KiB. A commit of ten thousand parts takes almost one MiB.
const ROOM: usize = 4 << 10;

type Answer = io::Result<()>;

struct Item {
    pending: Pending,
    durable: bool,
    reply: oneshot::Sender<Answer>,
    _room: OwnedSemaphorePermit,
}

struct Queue {
    items: Vec<Item>,
    /// No more are taken.
    closed: bool,
    stats: Stats,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    room: Arc<Semaphore>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that hold it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Log>>>,
}

impl Writer {
    pub fn new(log: Log) -> io::Result<Writer> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                items: Vec::new(),
                closed: false,
                stats: stats_of(&log),
            }),
            wake: Condvar::new(),
            room: Arc::new(Semaphore::new(ROOM)),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("journal".to_string())
            .spawn(move || {
                let _guard = LastWord(&theirs);
                run(log, &theirs)
            })?;
        Ok(Writer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub async fn record(&self, pending: Pending, durable: bool) -> Answer {
        let kib = (pending.body.len() >> 10) + 1;
        let room = self
            .shared
            .room
            .clone()
            .acquire_many_owned(kib.min(ROOM) as u32)
            .await
            .map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if queue.closed {
                return Err(closed());
            }
            queue.items.push(Item {
                pending,
                durable,
                reply,
                _room: room,
            });
        }
        self.shared.wake.notify_one();
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    pub fn stats(&self) -> Stats {
        self.shared.queue().stats
    }

    /// Writes what is queued, makes it durable, and ends the thread. `None` when it ended before.
    pub fn stop(&self) -> Option<Log> {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        match thread.join() {
            Ok(log) => Some(log),
            Err(panic) if std::thread::panicking() => {
                drop(panic);
                None
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn closed() -> io::Error {
    io::Error::other("the journal is closed: this mount is ending")
}

fn stats_of(log: &Log) -> Stats {
    Stats {
        records: log.records,
        syncs: log.syncs,
        compactions: log.compactions,
        open: log.open_uploads(),
        bytes: log.bytes(),
        poisoned: log.is_poisoned(),
    }
}

/// However the thread ends, nobody waits for it in vain.
struct LastWord<'a>(&'a Shared);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        queue.items.clear();
        drop(queue);
        self.0.room.close();
    }
}

fn run(mut log: Log, shared: &Shared) -> Log {
    let mut lazy_until: Option<Instant> = None;
    loop {
        let Some(items) = next(shared, lazy_until) else {
            let _ = log.flush();
            shared.queue().stats = stats_of(&log);
            return log;
        };
        if items.is_empty() {
            let _ = log.flush();
        } else {
            write(&mut log, shared, items);
        }
        // Full disks are tried again at the same pace.
        let overdue = lazy_until.is_some_and(|until| until <= Instant::now());
        lazy_until = match lazy_until {
            _ if !log.is_behind() => None,
            Some(until) if !overdue => Some(until),
            _ => Some(Instant::now() + LAZY),
        };
        log.compact_if_due();
        shared.queue().stats = stats_of(&log);
    }
}

/// All that is queued; nothing when lazy records are due; `None` when the queue is closed and empty.
fn next(shared: &Shared, lazy_until: Option<Instant>) -> Option<Vec<Item>> {
    let mut queue = shared.queue();
    loop {
        if !queue.items.is_empty() {
            return Some(std::mem::take(&mut queue.items));
        }
        if queue.closed {
            return None;
        }
        queue = match lazy_until {
            None => shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Some(Vec::new());
                }
                shared
                    .wake
                    .wait_timeout(queue, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
    }
}

fn write(log: &mut Log, shared: &Shared, items: Vec<Item>) {
    let mut batch = Vec::with_capacity(items.len());
    let mut waiting = Vec::with_capacity(items.len());
    for item in items {
        batch.push(item.pending);
        waiting.push((item.durable, item.reply, item._room));
    }
    let answers = log.append(batch);
    assert!(answers.len() == waiting.len(), "one answer a record");
    // Before anybody hears: who was answered sees itself counted.
    shared.queue().stats = stats_of(log);
    let mut durable = Vec::new();
    for ((wants_sync, reply, room), answer) in waiting.into_iter().zip(answers) {
        match answer {
            Ok(()) if wants_sync => durable.push((reply, room)),
            // A caller that went away is no trouble: its record stands.
            answer => {
                let _ = reply.send(answer.map_err(io::Error::from));
            }
        }
    }
    let synced: Result<(), Refused> = if durable.is_empty() {
        Ok(())
    } else {
        log.sync()
    };
    shared.queue().stats = stats_of(log);
    for (reply, _room) in durable {
        let _ = reply.send(synced.clone().map_err(io::Error::from));
    }
}
