//! A moment, in eight bytes: a million nodes have one each, and most of them none.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// In nanoseconds since the first of them, which is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Moment {
    pub fn now() -> Moment {
        Moment::ago(Duration::ZERO)
    }

    /// The moment that was so long ago, as far as there is one.
    pub fn ago(past: Duration) -> Moment {
        let since = FIRST.elapsed().saturating_sub(past);
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Moment(NonZeroU64::MIN.saturating_add(since))
    }

    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(Moment::now().0.get() - self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_each_other_and_take_eight_bytes() {
        let first = Moment::now();
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(100) {}
        let second = Moment::now();
        assert!(first < second);
        assert!(first.elapsed() > Duration::from_micros(100));
        assert!(Moment::ago(first.elapsed()) >= first && Moment::ago(Duration::MAX) <= first);
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
