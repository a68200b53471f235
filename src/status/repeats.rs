//! A warning that comes again and again is written a few times, and then counted: whatever a program does
//! to a bucket that refuses it, the log stays short.
//!
//! What is the same is told by the place in the source, so there are no more of them than places.
//! Nothing is held back unless [`begin`] has begun to tell of it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::said::said;

/// How often in a [`MINUTE`] the same is written.
const WRITTEN: u64 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// How often is looked whether a minute is over.
const LOOK: Duration = Duration::from_secs(5);

/// What [`tell`] says is not counted.
const OURS: &str = "wholefs::repeats";

static TOLD: AtomicBool = AtomicBool::new(false);
/// A file and a line.
type Place = (Option<&'static str>, Option<u32>);

static SEEN: Mutex<Option<HashMap<Place, Seen>>> = Mutex::new(None);

/// One place in the source, in its minute.
struct Seen {
    began: Instant,
    written: u64,
    held_back: u64,
    is_error: bool,
    /// The last that was held back.
    last: String,
}

/// Is it to be written?
fn is_new(event: &Event<'_>, now: Instant) -> bool {
    let metadata = event.metadata();
    let is_warning = *metadata.level() <= Level::WARN && metadata.target() != OURS;
    if !is_warning || !TOLD.load(Ordering::Relaxed) {
        return true;
    }
    let mut seen = SEEN.lock().expect("no panic while held");
    let place = (metadata.file(), metadata.line());
    let seen = seen
        .get_or_insert_default()
        .entry(place)
        .or_insert_with(|| Seen {
            began: now,
            written: 0,
            held_back: 0,
            is_error: *metadata.level() == Level::ERROR,
            last: String::new(),
        });
    let is_new = seen.written < WRITTEN;
    if is_new {
        seen.written += 1;
    } else {
        seen.held_back += 1;
        seen.last = said(event);
    }
    is_new
}

/// Tells of what was held back, as soon as its minute is over, until the answer is dropped.
pub fn begin() -> Telling {
    TOLD.store(true, Ordering::Relaxed);
    let task = tokio::spawn(async {
        loop {
            tokio::time::sleep(LOOK).await;
            tell(Some(Instant::now()));
        }
    });
    Telling(task.abort_handle())
}

pub struct Telling(tokio::task::AbortHandle);

impl Drop for Telling {
    fn drop(&mut self) {
        TOLD.store(false, Ordering::Relaxed);
        self.0.abort();
        tell(None);
    }
}

/// What is over by `now`, or all of it.
fn tell(now: Option<Instant>) {
    let is_over = |seen: &Seen| now.is_none_or(|now| now - seen.began >= MINUTE);
    let mut over = Vec::new();
    if let Some(seen) = SEEN.lock().expect("no panic while held").as_mut() {
        over.extend(
            seen.extract_if(|_, seen| is_over(seen))
                .map(|(_, seen)| seen),
        );
    }
    // Not under the lock: what is said here comes by here.
    for seen in over.into_iter().filter(|seen| seen.held_back > 0) {
        let mut line = format!("… {} more in the last minute", seen.held_back);
        let _ = write!(line, ", the last of them: {}", seen.last);
        match seen.is_error {
            true => error!(target: OURS, "{line}"),
            false => warn!(target: OURS, "{line}"),
        }
    }
}

/// An output without the repeats.
pub struct Unrepeated<L>(pub L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Unrepeated<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if is_new(event, Instant::now()) {
            self.0.on_event(event, context);
        }
    }

    // The rest as it is.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}
