//! How many bodies are worth having under way at once.
//!
//! More than a store (or the line to it, or this machine) can take do not arrive sooner: they wait behind one
//! another, in memory that others could use. So each is timed. While one takes about as long as the fastest of
//! late, more are tried; when all take much longer, they are in each other's way, and there are to be fewer.
//! A store that says it is asked too much shows the same way: what is sent again takes longer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Never fewer, if so many are allowed: by one or two alone nothing is learned.
const FLOOR: usize = 8;

/// So much longer than the fastest may one take before it is held to have waited for others.
const TOLERANCE: f64 = 2.0;

/// So many may wait for others, lest there is nothing to send when one is through.
const SLACK: f64 = 4.0;

/// How much a single time counts.
const WEIGHT: f64 = 0.3;

/// The fastest of so many, and of as many before them, is what is compared with.
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
    /// The fastest in this window and in the last one.
    fastest: Option<Duration>,
    fastest_before: Option<Duration>,
    seen: u32,
}

impl Flow {
    pub(crate) fn new(most: usize) -> Flow {
        Flow {
            most: most.max(1),
            limit: most.max(1) as f64,
            size: 0,
            smaller: 0,
            fastest: None,
            fastest_before: None,
            seen: 0,
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
            // Another size: what was learned of times is of the other one.
            (self.size, self.smaller) = (bytes, 0);
            (self.fastest, self.fastest_before, self.seen) = (None, None, 0);
        }
        self.fastest = Some(self.fastest.map_or(took, |fastest| fastest.min(took)));
        self.seen += 1;
        let fastest = [self.fastest, self.fastest_before].into_iter().flatten().min();
        if self.seen == WINDOW {
            (self.fastest_before, self.fastest, self.seen) = (self.fastest.take(), None, 0);
        }
        let fastest = fastest.unwrap_or(took).as_secs_f64();
        let share = (TOLERANCE * fastest / took.as_secs_f64().max(1e-9)).min(1.0);
        let wanted = self.limit * share + SLACK;
        // Those that are not used need not become more.
        if wanted < self.limit || together as f64 >= self.limit / 2.0 {
            self.limit += (wanted - self.limit) * WEIGHT;
        }
        self.limit = self.limit.clamp(self.most.min(FLOOR) as f64, self.most as f64);
    }
}

/// Lets as many through as [`Flow`] says, in the order they came.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
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
        })
    }

    pub(crate) async fn turn(self: &Arc<Gate>) -> Turn {
        let permit = self.permits.clone().acquire_owned().await;
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let together = state.issued.saturating_sub(self.gate.permits.available_permits());
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
        let near = Line { latency: 0.0003, connection: 2000.0 * mib, all: 2700.0 * mib };
        let mut flow = Flow::new(32);
        // The first part of a file goes alone.
        flow.passed(PART, Duration::from_millis(4), 1);
        let (together, rate) = settle(&mut flow, &near, 20);
        assert!(together <= 10, "{together} at once");
        assert!(rate > 0.95 * near.all);
        // Far, and as many connections as there are help.
        let far = Line { latency: 0.02, connection: 80.0 * mib, all: 1e12 };
        let (together, _) = settle(&mut Flow::new(32), &far, 20);
        assert_eq!(together, 32);
        // Far, over a narrow line: more than a few only wait.
        let narrow = Line { latency: 0.02, connection: 80.0 * mib, all: 100.0 * mib };
        let mut flow = Flow::new(32);
        flow.passed(PART, Duration::from_millis(120), 1);
        let (together, rate) = settle(&mut flow, &narrow, 20);
        assert!(together <= 10, "{together} at once");
        assert!(rate > 0.95 * narrow.all);
    }

    #[test]
    fn a_line_that_grows_wider_is_found_out() {
        let mib = (1 << 20) as f64;
        let narrow = Line { latency: 0.02, connection: 80.0 * mib, all: 100.0 * mib };
        let mut flow = Flow::new(64);
        flow.passed(PART, Duration::from_millis(120), 1);
        assert!(settle(&mut flow, &narrow, 20).0 <= 10);
        let wide = Line { all: 1e12, ..narrow };
        assert_eq!(settle(&mut flow, &wide, 40).0, 64);
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
        let mut turns: Vec<Turn> = (0..16).map(|_| gate.try_turn().expect("free")).collect();
        assert!(gate.try_turn().is_none());
        // All wait for one another: told so, it wants fewer.
        gate.state().flow.passed(PART, Duration::from_millis(1), 16);
        for _ in 0..64 {
            gate.state().flow.passed(PART, Duration::from_secs(1), 16);
        }
        let fewer = gate.state().flow.limit();
        assert_eq!(fewer, FLOOR);
        turns.drain(..FLOOR).for_each(drop);
        assert!(gate.try_turn().is_none(), "those that are too many are withdrawn");
        turns.clear();
        let held: Vec<Turn> = std::iter::from_fn(|| gate.try_turn()).collect();
        assert_eq!(held.len(), fewer);
    }
}
