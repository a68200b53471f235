//! The bytes of a range, once each and in order, whatever happens to the connection.
//!
//! Invariants:
//! - Bytes handed out are of the version that was asked for, and never outside of the range.
//! - A body that breaks is resumed at the first byte not handed out; a range costs at most
//!   `attempts` requests. The store's `get` has its own retries until the answer begins, so its
//!   failure is final here.
//! - No request is made for zero bytes.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use crate::store::{DownloadBody, ETag, Error, ErrorKind, Result, Store};

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

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
}

pub(super) struct Stream<'a> {
    source: &'a Source,
    range: Range<u64>,
    body: Option<DownloadBody>,
    attempts: u32,
}

impl<'a> Stream<'a> {
    pub(super) fn new(source: &'a Source, range: Range<u64>) -> Stream<'a> {
        assert!(range.end <= source.size, "a range outside of the object");
        Stream {
            source,
            range,
            body: None,
            attempts: 0,
        }
    }

    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.range.is_empty() {
            let body = match &mut self.body {
                Some(body) => body,
                none => {
                    none.insert(Self::open(self.source, &self.range, &mut self.attempts).await?)
                }
            };
            let failure = match body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) if chunk.len() as u64 <= self.range.end - self.range.start => {
                    self.range.start += chunk.len() as u64;
                    if self.range.is_empty() {
                        self.close();
                    }
                    return Ok(Some(chunk));
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

    async fn open(source: &Source, range: &Range<u64>, attempts: &mut u32) -> Result<DownloadBody> {
        *attempts += 1;
        let (store, key, etag) = (&source.store, &source.key, &source.etag);
        let download = match (store.get(key, etag, range.clone()).await, &source.version) {
            // Deleted or replaced since: a bucket that keeps versions has it still.
            (Err(error), Some(version))
                if matches!(error.kind, ErrorKind::Missing | ErrorKind::Conflict) =>
            {
                let older = store.get_version(key, version, etag, range.clone()).await;
                older.map_err(|_| error)?
            }
            (answer, _) => answer?,
        };
        // The store has checked already; bytes of another version must not get through here.
        if download.etag != source.etag || download.object_size != source.size {
            return Err(Error {
                kind: ErrorKind::Conflict,
                ..source.failure("ReplacedObject", "the object has been replaced")
            });
        }
        Ok(download.body)
    }

    /// Lets the body see its own end, if that is there, so that the connection can be used again.
    fn close(&mut self) {
        if let Some(mut body) = self.body.take() {
            let _ = body.next().now_or_never();
        }
    }

    /// A pause before the next attempt, if there is one left.
    async fn broken(&mut self, failure: Error) -> Result<()> {
        self.body = None;
        let again = matches!(
            failure.kind,
            ErrorKind::Transient | ErrorKind::Throttled | ErrorKind::Unknown
        );
        if !again || self.attempts >= self.source.attempts {
            return Err(failure);
        }
        let pause = (self.source.backoff * 2u32.saturating_pow(self.attempts - 1)).min(BACKOFF_MAX);
        // Between half and the whole of it, lest many readers come back at once. Each new
        // `RandomState` hashes differently, which is random enough for that.
        let jitter = RandomState::new().hash_one(self.range.start) % 512;
        let pause = pause / 1024 * (512 + jitter as u32);
        let (tally, operation) = (self.source.store.tally(), failure.operation);
        tally.retried(operation, failure.kind);
        tracing::debug!(key = self.source.key, at = self.range.start, error = %failure, "resuming a download");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Source {
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
