//! Objects that are brought whole into the kernel's pages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;

/// Takes what it is given, and looks at it.
struct Kernel {
    size: u64,
    /// How long it takes for that.
    delay: Duration,
    /// So many loads it wants.
    wants: usize,
    taken: Mutex<BTreeMap<u64, u64>>,
    given: AtomicUsize,
    claimed: Arc<()>,
}

impl Kernel {
    fn of(store: &Mock) -> Kernel {
        Kernel {
            size: store.size,
            delay: Duration::ZERO,
            wants: usize::MAX,
            taken: Mutex::default(),
            given: AtomicUsize::new(0),
            claimed: Arc::default(),
        }
    }

    /// Where what it has from the beginning on ends.
    fn has(&self) -> u64 {
        let taken = self.taken.lock().unwrap();
        taken.iter().fold(0, |at, (start, len)| match *start == at {
            true => at + len,
            false => at,
        })
    }

    fn bytes(&self) -> u64 {
        self.taken.lock().unwrap().values().sum()
    }
}

#[async_trait]
impl Pages for Kernel {
    fn room(&self) -> u64 {
        1 << 40
    }

    fn claim(&self) -> Option<Box<dyn Send + Sync>> {
        (Arc::strong_count(&self.claimed) == 1).then(|| Box::new(self.claimed.clone()) as Box<_>)
    }

    async fn keep(&self, offset: u64, data: Data) -> bool {
        tokio::time::sleep(self.delay).await;
        let end = offset + data.len() as u64;
        let page = 64 * KIB;
        assert!(offset.is_multiple_of(page) && (end.is_multiple_of(page) || end == self.size));
        let bytes = data.pieces().concat();
        let right = bytes
            .iter()
            .zip(offset..)
            .all(|(byte, at)| *byte == content(at));
        assert!(right, "wrong bytes at {offset}");
        let before = self.taken.lock().unwrap().insert(offset, data.len() as u64);
        assert_eq!(before, None, "given twice");
        self.given.fetch_add(1, Ordering::Relaxed) + 1 < self.wants
    }
}

struct Bench {
    store: Arc<Mock>,
    memory: Arc<ReadMemory>,
    kernel: Arc<Kernel>,
    reader: Reader,
    dice: Dice,
}

impl Bench {
    /// Of a store that answers at once, and a kernel as it is made.
    fn new(size: u64, make: impl FnOnce(&mut Kernel)) -> Bench {
        let mock = at_once(size);
        let mut kernel = Kernel::of(&mock);
        make(&mut kernel);
        Bench::with(mock, kernel)
    }

    fn with(mock: Mock, kernel: Kernel) -> Bench {
        let (store, kernel) = (Arc::new(mock), Arc::new(kernel));
        let memory = Arc::new(ReadMemory::new(64 * MIB));
        let reader = store.reader(&memory, settings()).through(kernel.clone());
        Bench {
            store,
            memory,
            kernel,
            reader,
            dice: Dice::new(7),
        }
    }

    /// Reads here and there.
    async fn read(&mut self, times: usize) {
        for _ in 0..times {
            let offset = self.dice.roll(self.store.size - 4 * KIB);
            check(&self.reader, offset, 4 * KIB).await;
        }
    }

    /// Requests that were not a read's own.
    fn ranges(&self) -> usize {
        let is_long = |range: &&std::ops::Range<u64>| range.end - range.start > 4 * KIB;
        self.store.requests().iter().filter(is_long).count()
    }

    fn nothing_is_left(&self) {
        assert_eq!((self.memory.used(), self.store.open()), (0, 0));
        assert_eq!(Arc::strong_count(&self.kernel.claimed), 1);
        assert!(self.memory.high_water() <= self.memory.limit());
    }
}

fn at_once(size: u64) -> Mock {
    let mut mock = Mock::new(size);
    mock.delay = Duration::ZERO;
    mock
}

#[tokio::test(start_paused = true)]
async fn each_page_is_given_once_and_right() {
    for chunk in [1000, 64 * KIB, 100_003, 3 * MIB] {
        let mut mock = at_once(20 * MIB + 5);
        mock.chunk = chunk;
        let kernel = Kernel::of(&mock);
        let mut bench = Bench::with(mock, kernel);
        bench.read(31).await;
        settle().await;
        assert_eq!((bench.kernel.bytes(), bench.store.count()), (0, 31));
        bench.read(1).await;
        settle().await;
        assert_eq!(bench.kernel.has(), bench.store.size, "chunks of {chunk}");
        assert_eq!(
            (bench.kernel.bytes(), bench.ranges()),
            (bench.store.size, 3)
        );
        bench.nothing_is_left();
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_given_up() {
    let mut bench = Bench::new(4096 * MIB, |kernel| {
        kernel.delay = Duration::from_millis(50)
    });
    bench.read(32).await;
    settle().await;
    let kept = bench.kernel.bytes();
    assert!(
        (30 * MIB..60 * MIB).contains(&kept),
        "{kept} bytes of four gigabytes"
    );
    // Its requests take no time here: nothing is ever paid for.
    bench.read(1000).await;
    settle().await;
    assert_eq!(bench.kernel.bytes(), kept);
    bench.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_kernel_wants_no_more_or_the_file_is_closed() {
    let mut bench = Bench::new(512 * MIB, |kernel| kernel.wants = 3);
    bench.read(32).await;
    settle().await;
    let given = bench.kernel.given.load(Ordering::Relaxed);
    assert!((3..=6).contains(&given), "{given} loads");
    bench.nothing_is_left();

    let mut bench = Bench::new(512 * MIB, |kernel| kernel.delay = Duration::from_millis(5));
    bench.read(32).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let Bench {
        store,
        memory,
        kernel,
        reader,
        ..
    } = bench;
    assert!(kernel.bytes() > 0 && memory.used() > 0);
    drop(reader);
    settle().await;
    assert!(kernel.bytes() < 64 * MIB);
    assert_eq!((memory.used(), store.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_reader_of_a_file_brings_it_and_a_failure_is_nobodys() {
    let mut bench = Bench::new(64 * MIB, |_| ());
    let claim = bench.kernel.claim();
    bench.read(40).await;
    settle().await;
    assert_eq!((bench.kernel.bytes(), bench.ranges()), (0, 0));
    drop(claim);
    bench.read(32).await;
    settle().await;
    assert_eq!(bench.kernel.has(), bench.store.size);

    let mut mock = at_once(64 * MIB);
    mock.script = Box::new(|_, range| match range.end - range.start > 4 * KIB {
        true => Fault::Refuse(ErrorKind::Denied),
        false => Fault::None,
    });
    let kernel = Kernel::of(&mock);
    let mut bench = Bench::with(mock, kernel);
    bench.read(200).await;
    settle().await;
    assert_eq!(bench.kernel.bytes(), 0);
    bench.nothing_is_left();
}
