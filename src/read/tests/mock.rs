//! A store of one object that does what the test says, and remembers what it was asked.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::read::{ReadMemory, Reader, Settings};
use crate::store::scripted::Scripted;
use crate::store::tally::Tally;
use crate::store::*;

/// The byte at an offset.
pub(super) fn content(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// No answer but this.
    Refuse(ErrorKind),
    /// After so many bytes of the body, this.
    Break(u64, ErrorKind),
    /// The body ends too early.
    Short(u64),
    /// The body goes on after its end.
    Long,
    /// The answer is of another version.
    Replaced,
}

type Script = Box<dyn Fn(usize, &Range<u64>) -> Fault + Send + Sync>;

pub(super) struct Mock {
    pub(super) size: u64,
    /// Bytes come in chunks of this size, but for an answer's first…
    pub(super) chunk: u64,
    pub(super) first: Option<u64>,
    /// …each after this time; the answer itself takes ten times as long.
    pub(super) delay: Duration,
    pub(super) script: Script,
    requests: Mutex<Vec<Range<u64>>>,
    /// All chunks that were handed out, if they are kept.
    pub(super) chunks: Option<Arc<Mutex<Vec<Bytes>>>>,
    open: Arc<AtomicUsize>,
    tally: Tally,
}

impl Mock {
    pub(super) fn new(size: u64) -> Mock {
        Mock {
            size,
            chunk: 64 << 10,
            first: None,
            delay: Duration::from_millis(1),
            script: Box::new(|_, _| Fault::None),
            requests: Mutex::default(),
            chunks: None,
            open: Arc::default(),
            tally: Default::default(),
        }
    }

    /// The n-th request (from 0) for this range ends so.
    pub(super) fn faulty(
        size: u64,
        script: impl Fn(usize, &Range<u64>) -> Fault + Send + Sync + 'static,
    ) -> Mock {
        Mock {
            script: Box::new(script),
            ..Mock::new(size)
        }
    }

    pub(super) fn etag() -> ETag {
        ETag::new("v1")
    }

    pub(super) fn reader(self: &Arc<Self>, memory: &Arc<ReadMemory>, settings: Settings) -> Reader {
        Reader::new(
            self.clone(),
            memory.clone(),
            settings,
            "dir/file".into(),
            Mock::etag(),
            self.size,
            None,
        )
    }

    pub(super) fn requests(&self) -> Vec<Range<u64>> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Requests whose answer is still awaited or being read.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct MockBody {
    range: Range<u64>,
    start: u64,
    chunk: u64,
    first: Option<u64>,
    chunks: Option<Arc<Mutex<Vec<Bytes>>>>,
    delay: Duration,
    fault: Fault,
    _open: Open,
}

fn error(kind: ErrorKind) -> Error {
    Error {
        kind,
        operation: "GetObject",
        key: "dir/file".into(),
        code: "Scripted".into(),
        message: String::new(),
        request_id: None,
    }
}

#[async_trait]
impl BodyStream for MockBody {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.range.is_empty() && !matches!(self.fault, Fault::Break(..)) {
            return None;
        }
        if self.delay > Duration::ZERO {
            tokio::time::sleep(self.delay).await;
        }
        let first = self.first.filter(|_| self.range.start == self.start);
        let chunk = first.unwrap_or(self.chunk);
        let mut end = self.range.end.min(self.range.start + chunk);
        match self.fault {
            Fault::Break(after, kind) => {
                if self.range.start == self.start + after {
                    return Some(Err(error(kind)));
                }
                end = end.min(self.start + after);
            }
            Fault::Short(after) => {
                if self.range.start == self.start + after {
                    return None;
                }
                end = end.min(self.start + after);
            }
            Fault::Long if end == self.range.end => end += 1,
            _ => {}
        }
        let bytes: Vec<u8> = (self.range.start..end).map(content).collect();
        self.range.start = end.min(self.range.end);
        let bytes = Bytes::from(bytes);
        if let Some(chunks) = &self.chunks {
            chunks.lock().unwrap().push(bytes.clone());
        }
        Some(Ok(bytes))
    }
}

#[async_trait]
impl Scripted for Mock {
    fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn get(&self, etag: &ETag, range: Range<u64>) -> Result<Download> {
        assert!(
            range.start < range.end && range.end <= self.size,
            "{range:?}"
        );
        assert_eq!(*etag, Mock::etag());
        self.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(self.open.clone());
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(range.clone());
            requests.len() - 1
        };
        let mut fault = (self.script)(number, &range);
        if self.delay > Duration::ZERO {
            tokio::time::sleep(self.delay * 10).await;
        }
        match &mut fault {
            Fault::Refuse(kind) => return Err(error(*kind)),
            Fault::Break(after, _) | Fault::Short(after) if *after >= range.end - range.start => {
                fault = Fault::None;
            }
            _ => {}
        }
        Ok(Download {
            etag: match fault {
                Fault::Replaced => ETag::new("v2"),
                _ => Mock::etag(),
            },
            object_size: self.size,
            modified: None,
            body: Box::new(MockBody {
                start: range.start,
                range,
                chunk: self.chunk,
                first: self.first,
                chunks: self.chunks.clone(),
                delay: self.delay,
                fault,
                _open: open,
            }),
        })
    }
}
