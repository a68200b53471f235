//! Bodies on their way over a connection: counted, paced, and cut off where a fault says so.
//!
//! Invariants: the request body is shared with the front, which reads what the protocol left
//! unread before anything is answered: a client in the middle of sending would see its connection
//! reset instead of the answer. The log entry of a request lives in its response body and is
//! finished when that is sent or given up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::log::Entry;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Latency and bandwidth, settable while the server runs.
#[derive(Debug, Default)]
pub(super) struct Speed {
    latency_ns: AtomicU64,
    /// Bytes per second; 0 is unlimited.
    bandwidth: AtomicU64,
}

impl Speed {
    pub fn set_latency(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_ns.store(ns, Ordering::Relaxed);
    }

    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_ns.load(Ordering::Relaxed))
    }

    pub fn set_bandwidth(&self, bandwidth: Option<u64>) {
        self.bandwidth
            .store(bandwidth.unwrap_or(0), Ordering::Relaxed);
    }
}

/// One direction of one connection. Bytes that pass run up a debt of time.
#[derive(Debug)]
pub(super) struct Pacer {
    speed: Arc<Speed>,
    /// Until then the line is busy with what has passed.
    busy: Instant,
}

impl Pacer {
    pub fn new(speed: Arc<Speed>) -> Pacer {
        Pacer {
            speed,
            busy: Instant::now(),
        }
    }

    fn rate(&self) -> u64 {
        self.speed.bandwidth.load(Ordering::Relaxed)
    }

    /// Lets `bytes` pass; the next are due at the time returned, if that is still to come.
    fn pass(&mut self, bytes: usize, rate: u64) -> Option<Instant> {
        if rate == 0 {
            return None;
        }
        let now = Instant::now();
        let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.busy = self.busy.max(now) + time;
        Some(self.busy)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What both directions wait with.
#[derive(Default)]
struct Wait(Option<Pin<Box<Sleep>>>);

impl Wait {
    fn until(&mut self, due: Option<Instant>) {
        self.0 = due.map(|due| Box::pin(tokio::time::sleep_until(due)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            ready!(sleep.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

struct Arriving {
    incoming: Incoming,
    /// Read ahead of who wants it.
    early: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    pacer: Arc<Mutex<Pacer>>,
    wait: Wait,
    received: u64,
    ended: bool,
}

impl Arriving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.early.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_line(cx),
        }
    }

    fn poll_line(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        ready!(self.wait.poll(cx));
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.received += data.len() as u64;
                    let mut pacer = lock(&self.pacer);
                    let rate = pacer.rate();
                    self.wait.until(pacer.pass(data.len(), rate));
                }
            }
            Some(Err(_)) | None => self.ended = true,
        }
        Poll::Ready(frame)
    }
}

/// The body of a request; clones are the same body.
#[derive(Clone)]
pub(super) struct RequestBody(Arc<Mutex<Arriving>>);

impl RequestBody {
    pub fn new(incoming: Incoming, pacer: Arc<Mutex<Pacer>>) -> RequestBody {
        let ended = incoming.is_end_stream();
        let (early, wait) = (VecDeque::new(), Wait::default());
        let arriving = Arriving {
            incoming,
            early,
            pacer,
            wait,
            received: 0,
            ended,
        };
        RequestBody(Arc::new(Mutex::new(arriving)))
    }

    /// Reads the body ahead, unless it is very large: a client that is gone by the time a request
    /// is taken up has sent it all the same. Returns how much has come.
    pub async fn read_ahead(&self) -> u64 {
        const MOST: u64 = 64 << 20;
        std::future::poll_fn(|cx| {
            let mut arriving = lock(&self.0);
            while arriving.received < MOST {
                match ready!(arriving.poll_line(cx)) {
                    Some(frame) => arriving.early.push_back(frame),
                    None => break,
                }
            }
            Poll::Ready(arriving.received)
        })
        .await
    }

    /// Reads and forgets what is left; returns how much the whole body was.
    pub async fn drain(&self) -> u64 {
        std::future::poll_fn(|cx| {
            let mut arriving = lock(&self.0);
            while ready!(arriving.poll(cx)).is_some() {}
            Poll::Ready(arriving.received)
        })
        .await
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        lock(&self.0).poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let arriving = lock(&self.0);
        arriving.ended && arriving.early.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let arriving = lock(&self.0);
        if arriving.early.is_empty() {
            arriving.incoming.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

/// The body of a response.
pub(super) struct ResponseBody {
    inner: s3s::Body,
    entry: Entry,
    pacer: Arc<Mutex<Pacer>>,
    wait: Wait,
    /// Bytes per second of this body alone.
    trickle: Option<u64>,
    /// What is left of a chunk too large to be sent at once.
    rest: Bytes,
    /// The client is not told how much is to come.
    chunked: bool,
    cut: Cut,
}

/// Where the body is cut off.
enum Cut {
    Never,
    After(u64),
    /// Everything before the cut was handed over; time to send it.
    Flush,
    Now,
}

impl ResponseBody {
    pub fn new(inner: s3s::Body, entry: Entry, pacer: Arc<Mutex<Pacer>>) -> ResponseBody {
        let (wait, rest) = (Wait::default(), Bytes::new());
        ResponseBody {
            inner,
            entry,
            pacer,
            wait,
            trickle: None,
            rest,
            chunked: false,
            cut: Cut::Never,
        }
    }

    pub fn trickle(&mut self, rate: u64) {
        self.trickle = Some(rate.max(1));
    }

    /// Sends this first, and the length of the whole not at all.
    pub fn precede(&mut self, first: Bytes) {
        self.rest = first;
        self.chunked = true;
    }

    /// Ends the body with an error after `bytes`.
    pub fn cut_after(&mut self, bytes: u64) {
        self.cut = Cut::After(bytes);
    }

    fn rate(&self) -> u64 {
        match (lock(&self.pacer).rate(), self.trickle) {
            (rate, None) => rate,
            (0, Some(trickle)) => trickle,
            (rate, Some(trickle)) => rate.min(trickle),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        ready!(this.wait.poll(cx));
        match this.cut {
            Cut::After(0) => {
                // hyper sends what it has when the body is pending, but not when it fails.
                this.cut = Cut::Flush;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Cut::Flush => this.cut = Cut::Now,
            Cut::Never | Cut::After(_) | Cut::Now => {}
        }
        if let Cut::Now = this.cut {
            return Poll::Ready(Some(Err("the body is cut short by a fault".into())));
        }
        let mut data = if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        } else {
            std::mem::take(&mut this.rest)
        };
        let rate = this.rate();
        let mut most = data.len();
        if rate > 0 {
            // Small enough to come at a steady rate: a twentieth of a second's worth.
            most = most.min(usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1));
        }
        if let Cut::After(left) = &mut this.cut {
            most = most.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= most as u64;
        }
        this.rest = data.split_off(most);
        this.entry.sent += most as u64;
        if rate > 0 {
            let due = lock(&this.pacer).pass(most, rate);
            this.wait.until(due);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        // While something is owed, be it time or an error, the body has not ended.
        self.rest.is_empty() && matches!(self.cut, Cut::Never) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        match inner.exact() {
            _ if self.chunked => SizeHint::default(),
            Some(exact) => SizeHint::with_exact(exact + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}
