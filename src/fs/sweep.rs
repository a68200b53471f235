//! Sweeps: many names of one directory taken away one after another, as `rm -r` does. The kernel waits for each
//! unlink, so each would be a round trip. The first few are; when a row of them is seen, the next are answered
//! at once and deleted behind, many keys in a request.
//!
//! Invariants:
//! - A name that was answered for is gone for this mount, although its key may be there for a while: who asks the
//!   bucket about a directory, or makes a name in it, waits for what is to go from it before ([`Sweeps::settle`]).
//! - What could not be deleted is there again, and the next who wants the truth of its directory is told.
//! - A crash loses what is pending: its names are there again. fsync of the directory is for who must know.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use super::moment::Moment;
use super::node::Node;
use super::{Error, Fs, Result};

/// So many that followed one another are the beginning of a sweep.
const ROW: u32 = 3;

/// What comes later does not follow.
const FOLLOWS: Duration = Duration::from_secs(1);

/// In a sweep, what was known of the names when it began is believed for so long: to look at each again
/// would cost more than to delete it.
const BELIEVED: Duration = Duration::from_secs(60);

/// Keys of a request.
const BATCH: usize = 1000;

/// For so long a batch gathers: what another client puts under a key meanwhile goes with it.
const GATHERS: Duration = Duration::from_millis(50);

/// Batches under way, where the store takes many keys in a request; elsewhere one, which is many requests.
const AT_ONCE: usize = 4;

/// Beyond so many names an unlink waits.
const PENDING_MAX: usize = 20_000;

/// Of a directory: the unlinks by one caller that followed one another, nothing else being done to its names.
#[derive(Clone, Copy)]
pub struct Row {
    caller: u32,
    length: u32,
    first: Option<Moment>,
    last: Option<Moment>,
}

impl Row {
    pub const NONE: Row = Row {
        caller: 0,
        length: 0,
        first: None,
        last: None,
    };

    pub fn follow(&mut self, caller: u32) {
        let now = Some(Moment::now());
        if !self.goes_on() || self.caller != caller {
            *self = Row {
                caller,
                length: 0,
                first: now,
                last: now,
            };
        }
        self.length = self.length.saturating_add(1);
        self.last = now;
    }

    fn goes_on(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < FOLLOWS)
    }

    pub fn is_sweep(&self) -> bool {
        self.length >= ROW && self.goes_on()
    }

    /// Is this what was seen before it began? What was seen since may be of what it took away.
    fn knew(&self, seen: Moment) -> bool {
        self.is_sweep() && self.first.is_some_and(|first| seen <= first)
    }
}

/// What is deleted behind those who were answered.
#[derive(Default)]
pub struct Sweeps {
    state: Mutex<State>,
    /// A batch is full or wanted at once, or one has ended.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By key, what is not deleted yet; with its number.
    pending: BTreeMap<String, u64>,
    /// Of these, what no request is about so far.
    queue: VecDeque<Doomed>,
    next: u64,
    /// Somebody waits for what has a lower number.
    wanted: u64,
    under_way: usize,
    /// A task looks after the queue.
    is_watched: bool,
    /// The mount ends: each unlink is waited for.
    ended: bool,
}

struct Doomed {
    key: String,
    number: u64,
    directory: Arc<Node>,
    since: Moment,
}

impl Doomed {
    fn name(&self) -> &str {
        self.key
            .rsplit_once('/')
            .map_or(&self.key, |(_, name)| name)
    }
}

impl State {
    /// The keys of the next request, or how long to wait for more (at most: there may be news before).
    fn batch(&mut self, at_once: usize) -> std::result::Result<Vec<Doomed>, Duration> {
        let first = self.queue.front().filter(|_| self.under_way < at_once);
        let Some(first) = first else {
            return Err(GATHERS);
        };
        let left = GATHERS.saturating_sub(first.since.elapsed());
        if self.queue.len() < BATCH && first.number >= self.wanted && !left.is_zero() {
            return Err(left);
        }
        self.under_way += 1;
        let many = self.queue.len().min(BATCH);
        Ok(self.queue.drain(..many).collect())
    }

    fn is_pending(&self, below: &str, before: u64) -> bool {
        let from = self
            .pending
            .range::<str, _>((std::ops::Bound::Included(below), std::ops::Bound::Unbounded));
        let mut these = from.take_while(|(key, _)| key.starts_with(below));
        these.any(|(_, number)| *number < before)
    }
}

impl Sweeps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Until there is room for one more.
    async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().pending.len() < PENDING_MAX {
                return;
            }
            changed.await;
        }
    }

    /// Until all keys are deleted (or could not be) that begin like this and are pending by now.
    pub async fn settle(&self, below: &str) {
        let before = {
            let mut state = self.state();
            let before = state.next;
            if !state.is_pending(below, before) {
                return;
            }
            state.wanted = before;
            before
        };
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            if !self.state().is_pending(below, before) {
                return;
            }
            changed.await;
        }
    }

    /// How many are not deleted, and one of them.
    fn left(&self) -> Option<(usize, String)> {
        let state = self.state();
        let (first, _) = state.pending.first_key_value()?;
        Some((state.pending.len(), first.clone()))
    }
}

impl Fs {
    /// Is what was seen of a directory's names at that moment true still?
    pub(super) fn is_believed(&self, directory: &Node, seen: Moment) -> bool {
        let (ttl, old) = (self.options.metadata_ttl, seen.elapsed());
        let in_a_sweep = || directory.state().directory().row.knew(seen) && old < BELIEVED;
        old < ttl || (!ttl.is_zero() && in_a_sweep())
    }

    /// Is another file known to be in a directory that is swept, so that it does not vanish with this one?
    pub(super) fn leaves_others(&self, directory: &Node, going: &Node) -> bool {
        const LOOKED_AT: usize = 8;
        let (row, some): (Row, Vec<Arc<Node>>) = {
            let state = directory.state();
            let row = state.directory().row;
            if !row.is_sweep() {
                return false;
            }
            let others = state.directory().children.iter();
            let others = others.filter(|child| child.ino != going.ino);
            (row, others.take(LOOKED_AT).cloned().collect())
        };
        some.iter().any(|child| {
            let state = child.state();
            let known = |seen: Moment| row.knew(seen) && seen.elapsed() < BELIEVED;
            state.object.is_some() && state.has_name() && state.checked.is_some_and(known)
        })
    }

    /// Takes the name of a file away whose object is deleted later, if it is one of a row and nobody uses it.
    /// Answers whether it did.
    pub(super) async fn sweep(self: &Arc<Self>, directory: &Arc<Node>, node: &Node) -> bool {
        let in_a_row = directory.state().directory().row.is_sweep();
        // A vault's names are in its catalogue, which is at hand.
        if !in_a_row || self.store.capabilities().streamed {
            return false;
        }
        self.sweeps.room().await;
        {
            let mut state = self.sweeps.state();
            if state.ended || !node.take_name_if_unused() {
                return false;
            }
            self.tree.detach_going(directory, node);
            self.enqueue(&mut state, node.key(), directory);
        }
        self.tree.drop_if_idle(node);
        true
    }

    fn enqueue(self: &Arc<Self>, state: &mut State, key: String, directory: &Arc<Node>) {
        let number = state.next;
        state.next += 1;
        state.pending.insert(key.clone(), number);
        state.queue.push_back(Doomed {
            key,
            number,
            directory: directory.clone(),
            since: Moment::now(),
        });
        if state.queue.len() == BATCH {
            self.sweeps.changed.notify_waiters();
        }
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(self.clone().watch_sweeps());
        }
    }

    /// Sends batches until nothing is queued.
    async fn watch_sweeps(self: Arc<Self>) {
        let at_once = match self.store.capabilities().multi_delete {
            true => AT_ONCE,
            false => 1,
        };
        loop {
            let changed = self.sweeps.changed.notified();
            let next = {
                let mut state = self.sweeps.state();
                if state.queue.is_empty() {
                    state.is_watched = false;
                    return;
                }
                state.batch(at_once)
            };
            match next {
                Ok(batch) => drop(tokio::spawn(self.clone().delete_swept(batch))),
                Err(pause) => _ = tokio::time::timeout(pause, changed).await,
            }
        }
    }

    async fn delete_swept(self: Arc<Self>, batch: Vec<Doomed>) {
        let keys: Vec<String> = batch.iter().map(|doomed| doomed.key.clone()).collect();
        let answers = self.store.delete_many(&keys).await;
        let mut kept = HashSet::new();
        for (doomed, answer) in batch.iter().zip(answers) {
            let Err(error) = answer else { continue };
            let said = error.to_string();
            let why = Error::from(error).why.unwrap_or(said);
            let key = &doomed.key;
            warn!("/{key}: its removal was answered, and now it is there again: {why}");
            kept.insert(doomed.directory.ino);
        }
        let of_each = || batch.chunk_by(|a, b| a.directory.ino == b.directory.ino);
        {
            // In one step: whoever may have a name again finds nothing pending of it.
            let mut state = self.sweeps.state();
            state.under_way -= 1;
            for doomed in &batch {
                let number = state.pending.remove(&doomed.key);
                assert_eq!(number, Some(doomed.number), "a name goes once at a time");
            }
            for of_one in of_each() {
                let directory = &of_one[0].directory;
                let names = of_one.iter().map(Doomed::name);
                directory.state().gone(names, kept.contains(&directory.ino));
            }
        }
        for of_one in of_each() {
            self.tree.drop_if_idle(&of_one[0].directory);
        }
        self.sweeps.changed.notify_waiters();
    }

    /// What was taken away in and below a directory is gone from the bucket, or that is an error: told once.
    pub(super) async fn settle(&self, directory: &Node) -> Result<()> {
        self.sweeps.settle(&directory.key()).await;
        let mut state = directory.state();
        if !state.directory().unswept {
            return Ok(());
        }
        state.directory_mut().unswept = false;
        Err(Error::loud(
            libc::EIO,
            "not all that was removed in it could be deleted, and that is there again: what the log says of each, then remove it again",
        ))
    }

    /// fsync of a directory: its names are in the bucket when the call that made them returns; those that went,
    /// when this does.
    pub async fn sync_directory(&self, ino: u64) -> Result<()> {
        let directory = self.node(ino)?;
        self.settle(&directory).await
    }

    /// What is to be deleted still when the mount ends.
    pub(super) async fn end_sweeps(&self, deadline: tokio::time::Instant) {
        // Whoever takes a name away from here on waits for it.
        self.sweeps.state().ended = true;
        let settled = tokio::time::timeout_at(deadline, self.sweeps.settle(""));
        if settled.await.is_err()
            && let Some((many, one)) = self.sweeps.left()
        {
            warn!(
                "/{one}: removed, and not deleted from the bucket before the mount had to end; {many} such: remove them again, or raise --shutdown-timeout"
            );
        }
    }
}
