//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// A machine that does ten other things at once is slower than the one a bound was thought of for.
/// What is awaited comes when it comes: only a test that fails waits so long.
const PATIENCE: u64 = 4;

/// A bound on waiting for what takes at most so long on an idle machine.
pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n * PATIENCE)
}

/// Asks until it holds. Panics, naming `what`, when it does not within `deadline`.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    if !holds_within(deadline, &mut condition) {
        panic!("not within {deadline:?}: {what}");
    }
}

/// Asks until it holds or the time is over.
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        if begun.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
