//! The bandwidth that a mount may take: one line for each direction, shared by all requests in turns.
//!
//! Invariants:
//! - Bodies that wait get their turns in the order they came, a small piece each, so that none starves and none
//!   is silent for so long that the store gives it up.
//! - Nothing is kept here but times: whoever waits leaves his bytes where they are.
//! - Time spent waiting for a turn is excused: no deadline of a request counts it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// What was not used lately can be made up for, so that a late timer costs nothing.
const BURST: Duration = Duration::from_millis(100);
/// A piece is a 64th of a second's worth, within these.
const PIECE: (u64, u64) = (1 << 10, 64 << 10);

/// One direction.
#[derive(Debug)]
pub(in crate::store) struct Line {
    /// Bytes a second.
    rate: u64,
    piece: u64,
    /// Until then it is taken.
    taken: Mutex<Instant>,
}

impl Line {
    pub fn new(rate: u64) -> Line {
        Line {
            rate: rate.max(1),
            piece: (rate / 64).clamp(PIECE.0, PIECE.1),
            taken: Mutex::new(Instant::now()),
        }
    }

    /// Takes the next place in the line, for so many bytes. They may pass at the time returned.
    fn reserve(&self, bytes: u64) -> Instant {
        let mut taken = self.taken.lock().expect("no panic while held");
        let now = Instant::now();
        let from = (*taken).max(now.checked_sub(BURST).unwrap_or(now));
        *taken = from + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        from
    }
}

/// What a request waited for on our own account, and its deadline has to be moved by.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Excused(Arc<AtomicU64>);

impl Excused {
    fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What has come together since the last time.
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

/// One body's way over a line; without one, nothing is waited for.
#[derive(Default)]
pub(in crate::store) struct Turns {
    line: Option<Arc<Line>>,
    excused: Excused,
    /// Bytes that may pass now, or when the wait is over.
    granted: u64,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Turns {
    pub fn on(line: Option<Arc<Line>>, excused: Excused) -> Turns {
        Turns {
            line,
            excused,
            ..Turns::default()
        }
    }

    /// How many of the `left` bytes may pass, as soon as some may.
    pub fn poll(&mut self, context: &mut Context<'_>, left: u64) -> Poll<u64> {
        let Some(line) = &self.line else {
            return Poll::Ready(left);
        };
        if self.granted == 0 {
            self.granted = left.min(line.piece);
            let due = line.reserve(self.granted);
            let ahead = due.saturating_duration_since(Instant::now());
            if !ahead.is_zero() {
                self.excused.add(ahead);
                self.wait = Some(Box::pin(tokio::time::sleep_until(due)));
            }
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        Poll::Ready(self.granted.min(left))
    }

    /// So many have passed; what was more than granted is made up for by later turns.
    pub fn passed(&mut self, bytes: u64) {
        let Some(line) = &self.line else {
            return;
        };
        if bytes > self.granted {
            line.reserve(bytes - self.granted);
        }
        self.granted = self.granted.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(line: Arc<Line>, bytes: u64) -> Excused {
        let excused = Excused::default();
        let mut turns = Turns::on(Some(line), excused.clone());
        let mut left = bytes;
        while left > 0 {
            let granted = std::future::poll_fn(|context| turns.poll(context, left)).await;
            assert!(granted > 0 && granted <= left);
            turns.passed(granted);
            left -= granted;
        }
        excused
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_together_keep_to_the_rate_and_share_it() {
        let line = Arc::new(Line::new(1 << 20));
        let began = Instant::now();
        let bodies = [1u64 << 20, 1 << 20, 2 << 20];
        let bodies = bodies.map(|bytes| tokio::spawn(send(line.clone(), bytes)));
        let [first, second, third] = bodies;
        for body in [first, second] {
            let excused = body.await.expect("sent").take();
            // Each had a third of the line.
            assert!((2.5..3.5).contains(&began.elapsed().as_secs_f64()));
            assert!((2.0..3.5).contains(&excused.as_secs_f64()), "{excused:?}");
        }
        third.await.expect("sent");
        assert!((3.5..4.5).contains(&began.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_was_idle_owes_no_more_than_a_burst() {
        let line = Arc::new(Line::new(1 << 20));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        send(line, 2 << 20).await;
        assert!((1.8..2.2).contains(&began.elapsed().as_secs_f64()));
    }
}
