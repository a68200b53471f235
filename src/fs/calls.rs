//! What programs asked of the mount and how long they waited, counted in fixed places: to count a call is
//! nothing beside the call.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the classes, in seconds; the last class has none.
pub const WAITS: [f64; 12] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0,
];

/// The same in nanoseconds.
const BOUNDS: [u64; WAITS.len()] = {
    let mut bounds = [0; WAITS.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = (WAITS[at] * 1e9) as u64;
        at += 1;
    }
    bounds
};

/// Of the writes that are answered at once one in so many is timed, and counts for all of them: two
/// looks at the clock cost more than everything else that is done for a small one.
const SAMPLE: u64 = 16;

macro_rules! calls {
    ($($call:ident $name:literal,)*) => {
        /// By the name it has in messages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Call {
            $($call,)*
        }

        impl Call {
            pub const ALL: &[Call] = &[$(Call::$call,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Call::$call => $name,)*
                }
            }
        }
    };
}

calls! {
    Lookup "lookup",
    Stat "stat",
    SetAttributes "setattr",
    MakeNode "mknod",
    MakeDirectory "mkdir",
    Unlink "unlink",
    RemoveDirectory "rmdir",
    Symlink "symlink",
    ReadLink "readlink",
    CopyRange "copy_file_range",
    Rename "rename",
    Create "create",
    Open "open",
    Read "read",
    Write "write",
    Close "close",
    Sync "fsync",
    ReadDirectory "readdir",
    SetXattr "setxattr",
    GetXattr "getxattr",
    ListXattr "listxattr",
    RemoveXattr "removexattr",
    Allocate "fallocate",
    Seek "seek",
}

/// How often something waited how long.
#[derive(Default)]
struct Waits {
    classes: [AtomicU64; WAITS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Waits {
    fn count(&self, waited: Duration, times: u64) {
        let nanoseconds = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        self.classes[class].fetch_add(times, Ordering::Relaxed);
        let all = nanoseconds.saturating_mul(times);
        self.nanoseconds.fetch_add(all, Ordering::Relaxed);
    }
}

/// The calls of a mount.
pub struct Calls {
    waits: [Waits; Call::ALL.len()],
    pub names: Answers,
    pub attributes: Answers,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            waits: std::array::from_fn(|_| Waits::default()),
            names: Answers::default(),
            attributes: Answers::default(),
        }
    }
}

thread_local! {
    static TURN: Cell<u64> = const { Cell::new(0) };
}

impl Calls {
    pub fn waited(&self, call: Call, began: Instant) {
        self.waits[call as usize].count(began.elapsed(), 1);
    }

    /// When it began, if it is to be timed: told to [`answered_at_once`](Self::answered_at_once).
    pub fn sample() -> Option<Instant> {
        let turn = TURN.get();
        TURN.set(turn.wrapping_add(1));
        turn.is_multiple_of(SAMPLE).then(Instant::now)
    }

    pub fn answered_at_once(&self, call: Call, sampled: Option<Instant>) {
        if let Some(began) = sampled {
            self.waits[call as usize].count(began.elapsed(), SAMPLE);
        }
    }

    /// Of a call: how many waited how long (by [`WAITS`]), and the seconds they waited in all.
    pub fn of(&self, call: Call) -> ([u64; WAITS.len() + 1], f64) {
        let waits = &self.waits[call as usize];
        let classes = std::array::from_fn(|class| waits.classes[class].load(Ordering::Relaxed));
        let nanoseconds = waits.nanoseconds.load(Ordering::Relaxed);
        (classes, nanoseconds as f64 / 1e9)
    }
}

/// How often what was wanted was known, and how often the store had to be asked.
#[derive(Default)]
pub struct Answers {
    known: AtomicU64,
    asked: AtomicU64,
}

impl Answers {
    pub(super) fn count(&self, known: bool) {
        let counter = if known { &self.known } else { &self.asked };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Known, and asked.
    pub fn counts(&self) -> (u64, u64) {
        let [known, asked] = [&self.known, &self.asked].map(|count| count.load(Ordering::Relaxed));
        (known, asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_in_one_class() {
        let waits = Waits::default();
        for microseconds in [1, 100, 101, 70_000_000] {
            waits.count(Duration::from_micros(microseconds), 1);
        }
        waits.count(Duration::from_millis(2), SAMPLE);
        let classes = waits.classes.map(AtomicU64::into_inner);
        assert_eq!(classes, [2, 1, 0, SAMPLE, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(waits.nanoseconds.into_inner() / 1_000_000, 70_032);
    }

    #[test]
    fn one_in_so_many_counts_for_all() {
        let calls = Calls::default();
        for _ in 0..4 * SAMPLE {
            calls.answered_at_once(Call::Write, Calls::sample());
        }
        assert_eq!(calls.of(Call::Write).0.iter().sum::<u64>(), 4 * SAMPLE);
        for (at, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, at);
        }
    }

    /// `cargo test -- --ignored --nocapture what_a_write_costs`
    #[test]
    #[ignore = "a measurement"]
    fn what_a_write_costs() {
        const MANY: u32 = 10_000_000;
        let calls = Calls::default();
        let began = Instant::now();
        for _ in 0..MANY {
            calls.answered_at_once(Call::Write, std::hint::black_box(Calls::sample()));
        }
        println!("{:?} a write", began.elapsed() / MANY);
    }
}
