//! The bytes of a range, once each and in order, whatever happens to the connection.
//!
//! Invariants:
//! - Bytes handed out are of the version that was asked for, and never outside of the range.
//! - A body that breaks is resumed at the first byte not handed out; `attempts` broken ones are the end of
//!   a range. The store's `get` has its own retries until the answer begins, so its
//!   failure is final here.
//! - No request is made for zero bytes.
//!
//! With a cache on disk, what it has is not asked for, and what is asked for is offered to it; for that a range
//! within one segment is asked for as the whole segment.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;

use super::disk::{DiskCache, Keeping, Object};
use super::window::SEGMENT;
use crate::random::random_u64;
use crate::store::{DownloadBody, ETag, Error, ErrorKind, Result, Store};

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The key held the version that is read, by an answer to a read.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub asked: Instant,
    /// The store's own time of the object.
    pub modified: SystemTime,
}

/// The object version a reader reads.
pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: String,
    pub(super) etag: ETag,
    pub(super) size: u64,
    /// The store's own name of this version, where it keeps versions.
    pub(super) version: Option<String>,
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    /// When the store was last asked, and found it still there.
    pub(super) seen: Mutex<Option<Seen>>,
    /// Where its bytes may be at hand.
    pub(super) disk: Option<(Arc<DiskCache>, Object)>,
}

pub(super) struct Stream<'a> {
    source: &'a Source,
    range: Range<u64>,
    incoming: Option<Incoming>,
    /// How often a body broke. A request behind what the cache had is no attempt at anything anew.
    breaks: u32,
}

/// An answer under way.
struct Incoming {
    body: DownloadBody,
    /// What of it is still to come.
    rest: Range<u64>,
    keeping: Option<Keeping>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(source: &'a Source, range: Range<u64>) -> Stream<'a> {
        assert!(range.end <= source.size, "a range outside of the object");
        Stream {
            source,
            range,
            incoming: None,
            breaks: 0,
        }
    }

    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.range.is_empty() {
            if self.incoming.is_none()
                && let Some((disk, object)) = &self.source.disk
                && let Some(bytes) = disk.get(object, self.range.clone()).await
            {
                self.range.start += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            let incoming = match &mut self.incoming {
                Some(incoming) => incoming,
                none => none.insert(self.source.open(&self.range).await?),
            };
            let failure = match incoming.body.next().await {
                Some(Ok(chunk))
                    if chunk.len() as u64 <= incoming.rest.end - incoming.rest.start =>
                {
                    match self.arrived(chunk) {
                        Some(wanted) => return Ok(Some(wanted)),
                        None => continue,
                    }
                }
                Some(Ok(_)) => self.source.failure("LongBody", "more bytes than asked for"),
                None => self
                    .source
                    .failure("ShortBody", "fewer bytes than asked for"),
                Some(Err(error)) => error,
            };
            self.broken(failure).await?;
        }
        Ok(None)
    }

    /// What of the answer's next bytes is wanted here.
    fn arrived(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let incoming = self.incoming.as_mut().expect("it is of an answer");
        let at = incoming.rest.start;
        incoming.arrived(self.source, &chunk);
        let end = self.range.end.min(incoming.rest.start);
        let wanted = self.range.start..end;
        self.range.start = self.range.start.max(end);
        if self.range.is_empty() || incoming.rest.is_empty() {
            self.close();
        }
        if wanted.is_empty() {
            return None;
        }
        chunk.truncate((wanted.end - at) as usize);
        chunk.advance((wanted.start - at) as usize);
        Some(chunk)
    }

    /// Lets the body see its own end, if that is there, so that the connection can be used again.
    fn close(&mut self) {
        if let Some(mut incoming) = self.incoming.take() {
            if incoming.rest.is_empty() {
                let _ = incoming.body.next().now_or_never();
            } else {
                tokio::spawn(incoming.drain());
            }
        }
    }

    /// A pause before the next attempt, if there is one left.
    async fn broken(&mut self, failure: Error) -> Result<()> {
        self.incoming = None;
        self.breaks += 1;
        let again = matches!(
            failure.kind,
            ErrorKind::Transient | ErrorKind::Throttled | ErrorKind::Unknown
        );
        if !again || self.breaks >= self.source.attempts {
            return Err(failure);
        }
        let pause = (self.source.backoff * 2u32.saturating_pow(self.breaks - 1)).min(BACKOFF_MAX);
        // Between half and the whole of it, lest many readers come back at once.
        let jitter = random_u64() % 512;
        let pause = pause / 1024 * (512 + jitter as u32);
        let (tally, operation) = (self.source.store.tally(), failure.operation);
        tally.retried(operation, failure.kind);
        tracing::debug!(key = self.source.key, at = self.range.start, error = %failure, "resuming a download");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Incoming {
    /// The next of its bytes: they are offered to the cache.
    fn arrived(&mut self, source: &Source, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            if self.keeping.is_none() && self.rest.start.is_multiple_of(SEGMENT) {
                self.keeping = source.keep(&self.rest);
            }
            let to_go = SEGMENT - self.rest.start % SEGMENT;
            let (now, later) = chunk.split_at(chunk.len().min(to_go as usize));
            Keeping::fill(&mut self.keeping, now);
            self.rest.start += now.len() as u64;
            chunk = later;
        }
    }

    /// What comes behind the bytes that were wanted is for the cache alone.
    async fn drain(mut self) {
        while self.keeping.is_some() {
            let Some(Ok(chunk)) = self.body.next().await else {
                return;
            };
            Keeping::fill(&mut self.keeping, &chunk);
        }
        let _ = self.body.next().now_or_never();
    }
}

impl Source {
    /// An answer that begins where `range` does, or before.
    async fn open(&self, range: &Range<u64>) -> Result<Incoming> {
        let (rest, keeping) = self.worth_asking(range);
        let (key, etag) = (&self.key, &self.etag);
        let asked = Instant::now();
        let mut is_current = true;
        let download = match (self.store.get(key, etag, rest.clone()).await, &self.version) {
            // Deleted or replaced since: a bucket that keeps versions has it still.
            (Err(error), Some(version))
                if matches!(error.kind, ErrorKind::Missing | ErrorKind::Conflict) =>
            {
                is_current = false;
                let older = self.store.get_version(key, version, etag, rest.clone());
                older.await.map_err(|_| error)?
            }
            (answer, _) => answer?,
        };
        // The store has checked already; bytes of another version must not get through here.
        if download.etag != self.etag || download.object_size != self.size {
            return Err(Error {
                kind: ErrorKind::Conflict,
                ..self.failure("ReplacedObject", "the object has been replaced")
            });
        }
        if let (true, Some(modified)) = (is_current, download.modified) {
            let seen = Some(Seen { asked, modified });
            *self.seen.lock().expect("no panic while held") = seen;
        }
        let body = download.body;
        Ok(Incoming {
            body,
            rest,
            keeping,
        })
    }

    /// What is asked for when `range` is wanted.
    fn worth_asking(&self, range: &Range<u64>) -> (Range<u64>, Option<Keeping>) {
        let Some((disk, object)) = &self.disk else {
            return (range.clone(), None);
        };
        let segment = object.segment(range.start / SEGMENT);
        if range.end > segment.end {
            return (range.start..disk.gap(object, range.clone()), None);
        }
        match self.keep(&segment) {
            Some(keeping) => (segment, Some(keeping)),
            None => (range.clone(), None),
        }
    }

    /// If the segment at the beginning of `coming` is to be kept, and all of it will come.
    fn keep(&self, coming: &Range<u64>) -> Option<Keeping> {
        let (disk, object) = self.disk.as_ref()?;
        let number = coming.start / SEGMENT;
        (object.segment(number).end <= coming.end)
            .then(|| disk.keep(object, number))
            .flatten()
    }

    fn failure(&self, code: &str, message: &str) -> Error {
        Error {
            kind: ErrorKind::Transient,
            operation: "GetObject",
            key: self.key.clone(),
            code: code.into(),
            message: message.into(),
            request_id: None,
        }
    }
}
