//! What requests a pattern of reads costs, and that it gets the right bytes.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;

fn plenty() -> Arc<ReadMemory> {
    Arc::new(ReadMemory::new(256 * MIB))
}

#[tokio::test(start_paused = true)]
async fn small_file_is_one_request() {
    for size in [1, 100, 128 * KIB, 128 * KIB + 1, MIB] {
        for len in [4 * KIB, 128 * KIB, MIB] {
            let store = Arc::new(Mock::new(size));
            let reader = store.reader(&plenty(), settings());
            let mut offset = 0;
            while offset < size {
                check(&reader, offset, len).await;
                offset += len;
            }
            check(&reader, offset, len).await;
            check(&reader, 0, size).await;
            assert_eq!(store.requests(), vec![0..size]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn small_file_read_in_parallel_is_one_request() {
    let store = Arc::new(Mock::new(MIB));
    let reader = store.reader(&plenty(), settings());
    join_all([3, 1, 0, 2, 7, 5, 6, 4].map(|i| check(&reader, i * 128 * KIB, 128 * KIB))).await;
    assert_eq!(store.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_nothing() {
    let memory = plenty();
    for size in [0, 1, 5 * MIB] {
        let store = Arc::new(Mock::new(size));
        let reader = store.reader(&memory, settings());
        for (offset, len) in [(size, 1), (size + 1, 10), (u64::MAX, 10), (0, 0), (size, 0)] {
            assert!(reader.read(offset, len).await.unwrap().is_empty());
        }
        assert_eq!(store.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn aligned_sequential_reads_are_not_copied() {
    for len in [128 * KIB, MIB] {
        let store = Arc::new(Mock::new(40 * MIB));
        let reader = store.reader(&plenty(), settings());
        for i in 0..40 * MIB / len {
            let data = reader.read(i * len, len as usize).await.unwrap();
            assert!(data.pieces().len() == 1, "{len} at {}", i * len);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whole_file_in_random_steps() {
    for seed in 1..6 {
        let mut dice = Dice::new(seed);
        let size = 30 * MIB + dice.roll(MIB);
        let mut mock = Mock::new(size);
        mock.chunk = 1 + dice.roll(300 * KIB);
        let store = Arc::new(mock);
        let reader = store.reader(&plenty(), settings());
        let mut offset = 0;
        while offset < size {
            let len = 1 + dice.roll(3 * MIB);
            check(&reader, offset, len).await;
            offset += len;
        }
        // Each byte once, and not too many requests.
        let mut requests = store.requests();
        requests.sort_by_key(|range| range.start);
        let mut at = 0;
        for range in &requests {
            assert_eq!(range.start, at);
            at = range.end;
        }
        assert_eq!(at, size);
        assert!(requests.len() <= 24, "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sequential_reader_is_read_ahead_in_parallel() {
    let store = Arc::new(Mock::new(400 * MIB));
    let reader = store.reader(&plenty(), settings());
    let mut most = 0;
    for i in 0..80 {
        check(&reader, i * MIB, MIB).await;
        most = most.max(store.open());
    }
    assert!((4..=32).contains(&most), "{most} requests at once");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = store.count();
    settle().await;
    let ahead = store
        .requests()
        .iter()
        .map(|range| range.end)
        .max()
        .unwrap();
    assert!((180 * MIB..=208 * MIB).contains(&ahead), "{ahead}");
    assert_eq!(store.count(), before, "nothing is fetched without reads");
    // All of that is here by now.
    check(&reader, 80 * MIB, 128 * KIB).await;
}

/// As the kernel does it: several requests in flight, in an order of their own, each in its task.
#[tokio::test(start_paused = true)]
async fn parallel_reads_out_of_order() {
    for seed in 1..8 {
        let mut dice = Dice::new(seed);
        let len = [64 * KIB, 128 * KIB, MIB][dice.roll(3) as usize];
        let size = 30 * MIB + dice.roll(MIB);
        let store = Arc::new(Mock::new(size));
        let reader = Arc::new(store.reader(&plenty(), settings()));
        check(&reader, 0, len).await;
        let mut offsets: Vec<u64> = (1..size.div_ceil(len)).map(|i| i * len).collect();
        for burst in offsets.chunks_mut(4) {
            for i in (1..burst.len()).rev() {
                burst.swap(i, dice.roll(i as u64 + 1) as usize);
            }
        }
        for burst in offsets.chunks(8) {
            let tasks = burst.iter().map(|offset| {
                let (reader, offset) = (reader.clone(), *offset);
                tokio::spawn(async move { check(&reader, offset, len).await })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        }
        let requested: u64 = store.requests().iter().map(|r| r.end - r.start).sum();
        assert_eq!(requested, size, "seed {seed}: each byte once");
        assert!(store.count() <= 24, "{:?}", store.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn whole_file_from_behind() {
    for len in [4 * KIB, 8 * KIB, 100_000, MIB] {
        let memory = plenty();
        let size = 30 * MIB + 17;
        let store = Arc::new(Mock::new(size));
        let reader = store.reader(&memory, settings());
        let mut end = size;
        while end > 0 {
            let offset = end.saturating_sub(len);
            check(&reader, offset, end - offset).await;
            end = offset;
        }
        assert!(store.count() <= 28, "{:?}", store.requests());
        assert!(memory.high_water() <= 20 * MIB);
    }
}

/// In the time of a request or two, each of the next reads is asked for.
#[tokio::test(start_paused = true)]
async fn who_skips_does_not_wait_for_each() {
    let mut mock = Mock::new(1000 * MIB);
    // The answer takes ten times as long.
    mock.delay = Duration::from_millis(2);
    let store = Arc::new(mock);
    let reader = store.reader(&plenty(), settings());
    let began = tokio::time::Instant::now();
    for i in 1..=160 {
        check(&reader, i * 5_000_000, 4 * KIB).await;
    }
    // Four alone, then sixteen at a time.
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(22) * 16, "{took:?}");
    assert!(store.count() <= 160 + 16, "{}", store.count());
}

#[tokio::test(start_paused = true)]
async fn random_reads_make_one_request_each() {
    let memory = plenty();
    let store = Arc::new(Mock::new(1000 * MIB));
    let reader = store.reader(&memory, settings());
    let mut dice = Dice::new(1);
    let mut expected = Vec::new();
    for _ in 0..500 {
        let offset = 1 + dice.roll(990 * MIB);
        let len = 1 + dice.roll(MIB);
        check(&reader, offset, len).await;
        // A read of up to a segment is one request, wherever it lies.
        expected.push(offset..offset + len);
    }
    assert_eq!(store.requests(), expected);
    assert_eq!(memory.high_water(), 0);
}

#[tokio::test(start_paused = true)]
async fn random_reads_of_a_near_object_bring_it_in_if_there_is_memory() {
    let size = 64 * MIB;
    for (limit, fits) in [(256 * MIB, true), (100 * MIB, false)] {
        let memory = Arc::new(ReadMemory::new(limit));
        let mut mock = Mock::new(size);
        mock.delay = Duration::ZERO;
        let store = Arc::new(mock);
        let reader = store.reader(&memory, settings());
        let mut dice = Dice::new(1);
        let mut read_some = async |count: usize| {
            for _ in 0..count {
                check(&reader, 1 + dice.roll(size - 4 * KIB), 4 * KIB).await;
            }
        };
        read_some(128).await;
        assert_eq!((store.count(), memory.high_water()), (128, 0));
        // As many ranges at once as help.
        for _ in 0..8 {
            read_some(1).await;
            settle().await;
        }
        let before = store.count();
        read_some(500).await;
        let expected = match fits {
            true => (before, size),
            false => (before + 500, 0),
        };
        assert_eq!((store.count(), memory.used()), expected, "in {limit}");
        let asked: u64 = store.requests().iter().map(|r| r.end - r.start).sum();
        assert!(asked <= size + 700 * 4 * KIB, "{asked} bytes asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn seek_stops_what_was_under_way() {
    let memory = plenty();
    let mut mock = Mock::new(1000 * MIB);
    mock.delay = Duration::from_millis(10);
    let store = Arc::new(mock);
    let reader = store.reader(&memory, settings());
    for i in 0..40 {
        check(&reader, i * MIB, MIB).await;
    }
    assert!(store.open() >= 4);
    assert!(memory.used() > 32 * MIB);
    check(&reader, 500 * MIB, 4 * KIB).await;
    check(&reader, 700 * MIB, 4 * KIB).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((store.open(), memory.used()), (0, 0));
    // Back to a stream, from modest beginnings.
    let before = store.count();
    for i in 0..64 {
        check(&reader, 600 * MIB + i * 128 * KIB, 128 * KIB).await;
    }
    let requests = &store.requests()[before..];
    assert_eq!(requests[0], 600 * MIB..600 * MIB + 128 * KIB);
    assert_eq!(requests[1], 600 * MIB + 128 * KIB..601 * MIB);
    assert!(requests.len() <= 16, "{requests:?}");
    assert!(memory.used() > 4 * MIB);
}

#[tokio::test(start_paused = true)]
async fn one_look_elsewhere_does_not_stop_a_stream() {
    let store = Arc::new(Mock::new(100 * MIB));
    let reader = store.reader(&plenty(), settings());
    for i in 0..60 {
        check(&reader, i * MIB, MIB).await;
        if i % 4 == 3 {
            check(&reader, 100 * MIB - i * 4 * KIB - 4 * KIB, 4 * KIB).await;
        }
    }
    let streamed: u64 = store
        .requests()
        .iter()
        .map(|r| r.end - r.start)
        .filter(|len| *len > 4 * KIB)
        .sum();
    assert!(streamed <= 100 * MIB, "no byte twice");
}

#[tokio::test(start_paused = true)]
async fn first_bytes_do_not_wait_for_the_whole_range() {
    let mut mock = Mock::new(100 * MIB);
    mock.delay = Duration::from_millis(100);
    let store = Arc::new(mock);
    let reader = store.reader(&plenty(), settings());
    let start = tokio::time::Instant::now();
    check(&reader, 0, 4 * KIB).await;
    // The answer, and two chunks of 64 KiB.
    assert!(
        start.elapsed() <= Duration::from_millis(1210),
        "{:?}",
        start.elapsed()
    );
}

/// All patterns mixed on one handle, with faults, from several tasks, in little memory.
#[tokio::test(start_paused = true)]
async fn mixed_patterns_get_the_right_bytes() {
    for seed in 1..40u64 {
        let mut dice = Dice::new(seed);
        let most = [MIB, 4 * MIB, 40 * MIB][dice.roll(3) as usize];
        let size = 1 + dice.roll(most);
        let limit = [0, MIB, 3 * MIB + 17, 16 * MIB, 256 * MIB][dice.roll(5) as usize];
        let faults = dice.roll(3) * 10;
        let mut mock = Mock::faulty(size, move |number, range| {
            let mut dice = Dice::new(seed << 32 | number as u64);
            if dice.roll(100) >= faults {
                return Fault::None;
            }
            let after = dice.roll(range.end - range.start);
            match dice.roll(5) {
                0 => Fault::Break(after, ErrorKind::Transient),
                1 => Fault::Break(after, ErrorKind::Unknown),
                2 => Fault::Short(after),
                3 => Fault::Long,
                _ => Fault::Refuse(ErrorKind::Throttled),
            }
        });
        mock.chunk = 1 + dice.roll(200 * KIB);
        mock.delay = Duration::from_millis(dice.roll(3));
        let store = Arc::new(mock);
        let memory = Arc::new(ReadMemory::new(limit));
        let settings = Settings {
            window_max: MIB << dice.roll(6),
            range: MIB << dice.roll(4),
            ..settings()
        };
        let reader = Arc::new(store.reader(&memory, settings));
        let mut tasks = Vec::new();
        for task in 0..1 + dice.roll(3) {
            let reader = reader.clone();
            let mut dice = Dice::new(seed * 100 + task);
            tasks.push(tokio::spawn(async move {
                let mut failed = 0;
                let mut at = 0;
                for _ in 0..60 {
                    match dice.roll(12) {
                        0 => at = dice.roll(size),
                        1 => at = 0,
                        2 => at = at.saturating_sub(dice.roll(3 * MIB)),
                        3 => at = (at + dice.roll(2 * MIB)).min(size),
                        _ => {}
                    }
                    let most = [4 * KIB, 128 * KIB, 3 * MIB][dice.roll(3) as usize];
                    let len = 1 + dice.roll(most);
                    // Some reads are given up half-way.
                    let patience =
                        Duration::from_millis(if dice.roll(10) == 0 { 15 } else { 1 << 20 });
                    match tokio::time::timeout(patience, try_check(&reader, at, len)).await {
                        Ok(Ok(())) => at += len,
                        Ok(Err(_)) => failed += 1,
                        Err(_) => assert!(patience.as_millis() == 15, "a read hangs"),
                    }
                }
                failed
            }));
        }
        for task in tasks {
            let failed = task.await.unwrap();
            assert!(failed == 0 || faults > 0);
        }
        assert!(memory.high_water() <= limit);
        drop(reader);
        settle().await;
        assert_eq!((memory.used(), store.open()), (0, 0), "seed {seed}");
    }
}

/// The same on two threads and in real time, for the orders paused time does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_get_the_right_bytes() {
    let mut mock = Mock::new(24 * MIB + 5);
    mock.delay = Duration::ZERO;
    let store = Arc::new(mock);
    let memory = Arc::new(ReadMemory::new(12 * MIB));
    let mut tasks = Vec::new();
    for seed in 1..9 {
        let reader = Arc::new(store.reader(&memory, settings()));
        for lane in 0..4 {
            let (reader, mut dice) = (reader.clone(), Dice::new(seed));
            tasks.push(tokio::spawn(async move {
                for i in 0..24 * MIB / (512 * KIB) {
                    check(&reader, (i * 4 + lane) * 128 * KIB, 128 * KIB).await;
                    if dice.roll(50) == 0 {
                        check(&reader, dice.roll(24 * MIB), 10_000).await;
                    }
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(memory.high_water() <= memory.limit());
    let mut waited = 0;
    while memory.used() > 0 || store.open() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited += 1;
        assert!(waited < 1000, "memory is not given back");
    }
}
