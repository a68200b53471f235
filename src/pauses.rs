//! Random pauses, for tests: what happens nearly always in one order happens in all the others, too.
//!
//! A mount with `WHOLEFS_TEST_PAUSES=N` in its environment pauses once in N times where it looks at what another thread may be
//! changing; without it this costs a comparison.

use std::sync::LazyLock;
use std::time::Duration;

use crate::random::random_u64;

const LONGEST: Duration = Duration::from_millis(20);

static ONE_IN: LazyLock<u64> = LazyLock::new(|| {
    let said = std::env::var("WHOLEFS_TEST_PAUSES");
    said.ok().and_then(|said| said.parse().ok()).unwrap_or(0)
});

/// Others may come in between here.
pub(crate) fn may_pause() {
    if *ONE_IN != 0 {
        pause_once_in(*ONE_IN);
    }
}

#[cold]
fn pause_once_in(times: u64) {
    if random_u64().is_multiple_of(times) {
        let longest = LONGEST.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(random_u64() % longest));
    }
}
