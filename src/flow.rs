//! How many bodies are worth having under way at once.
//!
//! More than a store (or the line to it, or this machine) can take do not arrive sooner: they wait behind one
//! another, in memory that others could use. So each is timed. While the fastest of the last few take about as long
//! as the fastest of a longer time, more are tried; when even they take much longer, all are in each other's way, and
//! there are to be fewer. (The fastest, because a store that answers one in ten late is no reason.) A store that says
//! it is asked too much shows the same way: what is sent again takes longer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Never fewer, if so many are allowed: of one or two alone nothing is learned.
const FLOOR: usize = 4;

/// So much longer than the fastest may they take before they are held to have waited for others.
const TOLERANCE: f64 = 1.5;

/// So many may wait for others, lest there is nothing to send when one is through.
const SLACK: f64 = 1.0;

/// How many times as many are tried while none are found to wait.
const GROWTH: f64 = 1.25;

/// A store that answers sooner is at hand: what is under way there is through before there are many.
const NEAR: Duration = Duration::from_millis(2);

/// The last few, of which the fastest counts.
const RECENT: usize = 8;

/// The fastest of so many is what is compared with. Then, if they were found to be in each other's way, there
/// are few for a moment, to see how fast one is.
const WINDOW: u32 = 128;

/// Decides how many. Pure: what it knows it is told.
#[derive(Debug)]
pub(crate) struct Flow {
    most: usize,
    limit: f64,
    /// The size of those that are compared; smaller ones tell little.
    size: u64,
    /// How many smaller ones came since.
    smaller: u32,
    recent: [f64; RECENT],
    fastest: f64,
    seen: u32,
    /// Requests that were answered, of the first of which it is seen how far the store is.
    answers: u32,
    is_near: bool,
}

impl Flow {
    pub(crate) fn new(most: usize) -> Flow {
        Flow {
            most: most.max(1),
            limit: most.max(1) as f64,
            size: 0,
            smaller: 0,
            recent: [f64::INFINITY; RECENT],
            fastest: f64::INFINITY,
            seen: 0,
            answers: 0,
            is_near: false,
        }
    }

    /// A request was answered after so long, but for its body. Of the first few it is seen where to begin.
    pub(crate) fn answered(&mut self, took: Duration) {
        if self.answers < RECENT as u32 {
            self.answers += 1;
            if took < NEAR {
                self.answers = RECENT as u32;
                self.is_near = true;
                self.limit = self.floor();
            }
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.round() as usize
    }

    /// `bytes` were through after `took`, `together` being under way (these included).
    pub(crate) fn passed(&mut self, bytes: u64, took: Duration, together: usize) {
        if bytes < self.size {
            self.smaller += 1;
            if self.smaller < WINDOW {
                return;
            }
        }
        if bytes != self.size {
            // What was learned of times is of the other size.
            *self = Flow {
                limit: self.limit,
                size: bytes,
                answers: self.answers,
                is_near: self.is_near,
                ..Flow::new(self.most)
            };
        }
        let took = took.as_secs_f64().max(1e-6);
        self.recent[self.seen as usize % RECENT] = took;
        self.fastest = self.fastest.min(took);
        self.seen += 1;
        if (self.seen as usize).is_multiple_of(RECENT) {
            self.judge(together);
        }
        if self.seen == WINDOW {
            (self.fastest, self.seen) = (f64::INFINITY, 0);
            if self.limit < self.most as f64 {
                self.limit = self.floor();
            }
        }
    }

    fn floor(&self) -> f64 {
        self.most.min(FLOOR) as f64
    }

    fn judge(&mut self, together: usize) {
        let now = self.recent.iter().copied().fold(f64::INFINITY, f64::min);
        let share = TOLERANCE * self.fastest / now;
        let wanted = self.limit * if share < 1.0 { share } else { GROWTH } + SLACK;
        // Those that are not used need not become more.
        if wanted < self.limit || together as f64 >= self.limit / 2.0 {
            self.limit = wanted.clamp(self.floor(), self.most as f64);
        }
    }
}

/// Lets as many through as [`Flow`] says, in the order they came.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// How many wait for their turn.
    waiting: AtomicUsize,
    /// One of them waits no more.
    fewer: Notify,
}

struct State {
    flow: Flow,
    /// Permits there are, free or taken.
    issued: usize,
}

impl Gate {
    pub(crate) fn new(most: usize) -> Arc<Gate> {
        let flow = Flow::new(most);
        let issued = flow.limit();
        Arc::new(Gate {
            permits: Arc::new(Semaphore::new(issued)),
            state: Mutex::new(State { flow, issued }),
            waiting: AtomicUsize::new(0),
            fewer: Notify::new(),
        })
    }

    pub(crate) async fn turn(self: &Arc<Gate>) -> Turn {
        let waiting = Waiting::new(self);
        let permit = self.permits.clone().acquire_owned().await;
        drop(waiting);
        self.begin(permit.expect("the gate is never closed"))
    }

    /// A turn, if there is one without waiting.
    pub(crate) fn try_turn(self: &Arc<Gate>) -> Option<Turn> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(self.begin(permit))
    }

    fn begin(self: &Arc<Gate>, permit: OwnedSemaphorePermit) -> Turn {
        Turn {
            permit: Some(permit),
            began: Instant::now(),
            gate: self.clone(),
        }
    }

    /// See [`Flow::answered`].
    pub(crate) fn answered(&self, took: Duration) {
        let mut state = self.state();
        state.flow.answered(took);
        let surplus = state.issued.saturating_sub(state.flow.limit());
        state.issued -= self.permits.forget_permits(surplus);
    }

    /// Is the store at hand?
    pub(crate) fn is_near(&self) -> bool {
        self.state().flow.is_near
    }

    /// How many may be under way just now.
    pub(crate) fn limit(&self) -> usize {
        self.state().flow.limit()
    }

    /// Do enough wait for their turn that nobody need hurry to bring more?
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > QUEUE
    }

    /// Until not so many wait.
    pub(crate) async fn until_not_full(&self) {
        loop {
            let fewer = self.fewer.notified();
            if !self.is_full() {
                return;
            }
            fewer.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many wait for their turn before those who bring them do.
const QUEUE: usize = 3;

struct Waiting<'a>(&'a Gate);

impl Waiting<'_> {
    fn new(gate: &Gate) -> Waiting<'_> {
        gate.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_waiters();
    }
}

/// The right to be under way, until it is dropped.
pub(crate) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    began: Instant,
    gate: Arc<Gate>,
}

impl Turn {
    /// It is over, and so many bytes have passed.
    pub(crate) fn passed(self, bytes: u64) {
        let took = self.began.elapsed();
        let mut state = self.gate.state();
        let together = state
            .issued
            .saturating_sub(self.gate.permits.available_permits());
        state.flow.passed(bytes, took, together);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.gate.state();
        let wanted = state.flow.limit();
        if state.issued > wanted {
            state.issued -= 1;
            permit.forget();
        } else {
            self.gate.permits.add_permits(wanted - state.issued);
            state.issued = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const PART: u64 = 8 << 20;

    /// A line: how long a request takes at the least, what a connection and what all of them together can do.
    struct Line {
        latency: f64,
        connection: f64,
        all: f64,
    }

    /// Rounds of as many parts as the flow wants; the last ones' number and rate.
    fn settle(flow: &mut Flow, line: &Line, rounds: usize) -> (usize, f64) {
        let mut last = (0, 0.0);
        for _ in 0..rounds {
            let together = flow.limit();
            let rate = line.connection.min(line.all / together as f64);
            let took = line.latency + PART as f64 / rate;
            last = (together, (together as u64 * PART) as f64 / took);
            for _ in 0..together {
                flow.passed(PART, Duration::from_secs_f64(took), together);
            }
        }
        last
    }

    #[test]
    fn a_near_store_gets_few_at_once_and_a_far_one_as_many_as_help() {
        let mib = (1 << 20) as f64;
        // At hand: one alone is almost as fast as all together.
        let near = Line {
            latency: 0.0003,
            connection: 2000.0 * mib,
            all: 2700.0 * mib,
        };
        let mut flow = Flow::new(32);
        // The first part of a file goes alone.
        flow.passed(PART, Duration::from_millis(4), 1);
        let (together, rate) = settle(&mut flow, &near, 20);
        assert!(together <= 10, "{together} at once");
        assert!(rate > 0.95 * near.all);
        // Far, and as many connections as there are help.
        let far = Line {
            latency: 0.02,
            connection: 80.0 * mib,
            all: 1e12,
        };
        let (together, _) = settle(&mut Flow::new(32), &far, 20);
        assert_eq!(together, 32);
        // Far, over a narrow line: more than a few only wait.
        let narrow = Line {
            latency: 0.02,
            connection: 80.0 * mib,
            all: 100.0 * mib,
        };
        let mut flow = Flow::new(32);
        flow.passed(PART, Duration::from_millis(120), 1);
        let (together, rate) = settle(&mut flow, &narrow, 20);
        assert!(together <= 10, "{together} at once");
        assert!(rate > 0.9 * narrow.all);
    }

    #[test]
    fn a_line_that_grows_wider_is_found_out() {
        let mib = (1 << 20) as f64;
        let narrow = Line {
            latency: 0.02,
            connection: 80.0 * mib,
            all: 100.0 * mib,
        };
        let mut flow = Flow::new(64);
        flow.passed(PART, Duration::from_millis(120), 1);
        assert!(settle(&mut flow, &narrow, 20).0 <= 10);
        let wide = Line {
            all: 1e12,
            ..narrow
        };
        let most = (0..40).map(|_| settle(&mut flow, &wide, 1).0).max();
        assert_eq!(most, Some(64));
    }

    #[test]
    fn small_bodies_and_few_of_them_change_nothing() {
        let mut flow = Flow::new(32);
        flow.passed(PART, Duration::from_millis(100), 1);
        for _ in 0..50 {
            flow.passed(4096, Duration::from_secs(1), 1);
        }
        assert_eq!(flow.limit(), 32);
    }

    #[tokio::test]
    async fn the_gate_lets_through_as_many_as_the_flow_says() {
        let gate = Gate::new(16);
        let free = |gate: &Arc<Gate>| gate.turn().now_or_never();
        let mut turns: Vec<Turn> = (0..16).map(|_| free(&gate).expect("free")).collect();
        assert!(free(&gate).is_none());
        // All wait for one another: told so, it wants fewer.
        gate.state().flow.passed(PART, Duration::from_millis(1), 16);
        for _ in 0..64 {
            gate.state().flow.passed(PART, Duration::from_secs(1), 16);
        }
        let fewer = gate.state().flow.limit();
        assert!(fewer <= 8, "{fewer}");
        turns.drain(..8).for_each(drop);
        assert!(
            free(&gate).is_none(),
            "those that are too many are withdrawn"
        );
        turns.clear();
        let held: Vec<Turn> = std::iter::from_fn(|| free(&gate)).collect();
        assert_eq!(held.len(), fewer);
    }
}
