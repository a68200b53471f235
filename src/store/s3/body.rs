//! Bytes on their way: a request's shared buffers as an `http_body`, an answer's as a checked stream.
//!
//! Invariants:
//! - No byte is copied here; chunks go to the socket and come from it as they are.
//! - A request's length is known exactly before it is sent, so it is never sent chunked.
//! - A download ends well only after exactly the bytes asked for. Time counts only while its reader
//!   waits: who does not ask for bytes does not run out of time. Nor does who waits for his turn where the
//!   bandwidth is limited.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::MIB;
use super::classify::{Op, deepest};
use super::pace::Turns;
use crate::store::tally::Tally;
use crate::store::{Body, BodyStream, Error, ErrorKind, Result};

/// One sending of a [`Body`].
struct Sending {
    body: Body,
    next: usize,
    /// What is left of a chunk that may not pass at once.
    rest: Bytes,
    left: u64,
    tally: Arc<Tally>,
    turns: Turns,
}

impl Sending {
    fn new(body: &Body, tally: &Arc<Tally>, turns: Turns) -> Sending {
        body.begins();
        Sending {
            tally: tally.clone(),
            body: body.clone(),
            next: 0,
            rest: Bytes::new(),
            left: body.len(),
            turns,
        }
    }
}

/// The body of one attempt.
pub(in crate::store) fn sending(body: &Body, tally: &Arc<Tally>, turns: Turns) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(Sending::new(body, tally, turns)))
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        while self.rest.is_empty() {
            let Some(chunk) = self.body.chunks().get(self.next).cloned() else {
                return Poll::Ready(None);
            };
            self.next += 1;
            self.rest = chunk;
        }
        let left = self.left;
        let granted = ready!(self.turns.poll(context, left));
        let most = usize::try_from(granted).unwrap_or(usize::MAX);
        let most = most.min(self.rest.len());
        let piece = self.rest.split_to(most);
        let bytes = piece.len() as u64;
        self.turns.passed(bytes);
        self.left -= bytes;
        self.tally.sent(bytes);
        self.body.sent(bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The bytes of a ranged GET, counted and timed.
pub(in crate::store) struct Receiving {
    pub key: String,
    pub stream: ByteStream,
    /// Bytes still to come.
    pub left: u64,
    /// The longest wait for the next bytes.
    pub stall: Duration,
    /// What is left of the time to wait: every MiB that comes earns [`stall`](Self::stall) anew, so that
    /// a body that trickles is given up as soon as one that hangs.
    pub patience: Duration,
    pub ended: bool,
    pub tally: Arc<Tally>,
    /// The store's name of the request.
    pub request_id: Option<String>,
    pub turns: Turns,
}

impl Receiving {
    fn fail(&mut self, code: &str, message: &str) -> Option<Result<Bytes>> {
        self.ended = true;
        Some(Err(Error {
            request_id: self.request_id.clone(),
            ..Op::GET.error(ErrorKind::Transient, &self.key, code, message)
        }))
    }
}

#[async_trait]
impl BodyStream for Receiving {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.ended {
            if self.left > 0 {
                // What is given up while it waits is asked for again.
                std::future::poll_fn(|context| self.turns.poll(context, self.left)).await;
            }
            let limit = self.stall.min(self.patience);
            let began = Instant::now();
            let Ok(frame) = tokio::time::timeout(limit, self.stream.next()).await else {
                return self.fail("Timeout", "the body came too slowly or not at all");
            };
            self.patience = self.patience.saturating_sub(began.elapsed());
            match frame {
                Some(Ok(bytes)) if bytes.len() as u64 > self.left => {
                    return self.fail("LongBody", "more bytes came than were asked for");
                }
                // Some transports hand on empty frames.
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.left -= bytes.len() as u64;
                    self.turns.passed(bytes.len() as u64);
                    self.tally.received(bytes.len() as u64);
                    self.patience += self.stall.mul_f64(bytes.len() as f64 / MIB as f64);
                    return Some(Ok(bytes));
                }
                Some(Err(e)) => {
                    let code = if self.left > 0 {
                        "ShortBody"
                    } else {
                        "LongBody"
                    };
                    return self.fail(code, &deepest(&e));
                }
                None if self.left > 0 => {
                    let message = format!("the body ended {} bytes early", self.left);
                    return self.fail("ShortBody", &message);
                }
                None => self.ended = true,
            }
        }
        None
    }
}

/// The body of an empty range.
pub(in crate::store) struct Nothing;

#[async_trait]
impl BodyStream for Nothing {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;

    fn receiving(stream: ByteStream, left: u64) -> Receiving {
        Receiving {
            key: "k".into(),
            stream,
            left,
            stall: Duration::from_millis(50),
            patience: Duration::from_millis(200),
            ended: false,
            tally: Arc::default(),
            request_id: None,
            turns: Turns::default(),
        }
    }

    /// Reads to the end: the bytes, and the code of the error that ended it.
    async fn drain(mut body: Receiving) -> (usize, Option<String>) {
        let mut bytes = 0;
        while let Some(next) = body.next().await {
            match next {
                Ok(b) => bytes += b.len(),
                Err(e) => {
                    assert!(body.next().await.is_none());
                    return (bytes, Some(e.code));
                }
            }
        }
        (bytes, None)
    }

    #[test]
    fn chunks_are_shared_and_the_length_is_exact() {
        let chunks = vec![
            Bytes::from(vec![1; 1000]),
            Bytes::new(),
            Bytes::from(vec![2; 24]),
        ];
        let body = Body::new(chunks.clone(), 0);
        let mut sending = Box::pin(Sending::new(&body, &Arc::default(), Turns::default()));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(sending.size_hint().exact(), Some(1024));
        for expected in [&chunks[0], &chunks[2]] {
            assert!(!sending.is_end_stream());
            let Poll::Ready(Some(Ok(frame))) = sending.as_mut().poll_frame(&mut context) else {
                panic!("a frame")
            };
            let data = frame.into_data().expect("data");
            assert_eq!(data.as_ptr(), expected.as_ptr());
            assert_eq!(data.len(), expected.len());
        }
        assert!(sending.is_end_stream());
        assert!(matches!(
            sending.as_mut().poll_frame(&mut context),
            Poll::Ready(None)
        ));
    }

    #[tokio::test]
    async fn exactly_the_bytes_asked_for() {
        let stream = || ByteStream::from_static(b"0123456789");
        assert_eq!(drain(receiving(stream(), 10)).await, (10, None));
        assert_eq!(
            drain(receiving(stream(), 11)).await,
            (10, Some("ShortBody".into()))
        );
        assert_eq!(
            drain(receiving(stream(), 9)).await,
            (0, Some("LongBody".into()))
        );
    }

    /// A body that gives one byte each `every`, or hangs.
    struct Trickle(Option<tokio::time::Interval>);

    impl http_body::Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
            let Some(interval) = &mut self.0 else {
                return Poll::Pending;
            };
            interval
                .poll_tick(context)
                .map(|_| Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn neither_hanging_nor_trickling_outlasts_the_deadline() {
        let began = Instant::now();
        let stream = ByteStream::new(SdkBody::from_body_1_x(Trickle(None)));
        assert_eq!(
            drain(receiving(stream, 10)).await,
            (0, Some("Timeout".into()))
        );
        assert!(began.elapsed() < Duration::from_millis(500));

        let began = Instant::now();
        let interval = tokio::time::interval(Duration::from_millis(20));
        let stream = ByteStream::new(SdkBody::from_body_1_x(Trickle(Some(interval))));
        let (bytes, code) = drain(receiving(stream, 1_000_000)).await;
        assert_eq!(code.as_deref(), Some("Timeout"));
        assert!(bytes < 100);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
