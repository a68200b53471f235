//! The budget under pressure.

use std::sync::Arc;

use super::*;

#[tokio::test(start_paused = true)]
async fn budget_is_never_exceeded_by_a_single_reader() {
    for limit in [0, 1, MIB - 1, MIB, 5 * MIB, 33 * MIB, 128 * MIB] {
        let memory = Arc::new(ReadMemory::new(limit));
        let store = Arc::new(Mock::new(160 * MIB));
        let reader = store.reader(&memory, settings());
        for i in 0..320 {
            check(&reader, i * 512 * KIB, 512 * KIB).await;
        }
        assert!(memory.high_water() <= limit);
        assert!(limit < 128 * MIB || memory.high_water() >= 56 * MIB);
        drop(reader);
        settle().await;
        assert_eq!(memory.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_readers_in_next_to_nothing() {
    for limit in [0, MIB, 7 * MIB] {
        let memory = Arc::new(ReadMemory::new(limit));
        let store = Arc::new(Mock::new(3 * MIB + 7));
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let reader = store.reader(&memory, settings());
                tokio::spawn(async move {
                    for i in 0..26 {
                        check(&reader, i * 128 * KIB, 128 * KIB).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(memory.high_water() <= limit);
        settle().await;
        assert_eq!((memory.used(), store.open()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_reader_stops_and_frees() {
    let memory = Arc::new(ReadMemory::new(256 * MIB));
    let mut mock = Mock::new(500 * MIB);
    mock.delay = Duration::from_millis(20);
    let store = Arc::new(mock);
    let reader = store.reader(&memory, settings());
    for i in 0..40 {
        check(&reader, i * MIB, MIB).await;
    }
    assert!(store.open() > 0 && memory.used() > 0);
    let before = store.count();
    drop(reader);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((store.open(), memory.used(), store.count()), (0, 0, before));
}

#[tokio::test(start_paused = true)]
async fn idle_readers_give_way() {
    let memory = Arc::new(ReadMemory::new(8 * MIB));
    let small = Arc::new(Mock::new(MIB));
    // Open files nobody reads on hold all there is.
    let mut idle = Vec::new();
    for _ in 0..8 {
        let reader = small.reader(&memory, settings());
        check(&reader, 0, 100).await;
        idle.push(reader);
    }
    assert_eq!(memory.used(), 8 * MIB);
    let large = Arc::new(Mock::new(20 * MIB));
    let reader = large.reader(&memory, settings());
    check(&reader, 0, 128 * KIB).await;
    assert_eq!(memory.used(), 8 * MIB, "they have been used just now");
    assert_eq!(large.requests(), vec![0..128 * KIB]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The last one is in use again.
    check(&idle[7], 500, 100).await;
    for i in 1..160 {
        check(&reader, i * 128 * KIB, 128 * KIB).await;
    }
    assert!(large.count() < 40, "{} requests", large.count());
    // Who was taken from just fetches again.
    assert_eq!(small.count(), 8);
    check(&idle[7], 1000, 100).await;
    assert_eq!(small.count(), 8);
    settle().await;
    check(&idle[0], 1000, 100).await;
    assert_eq!(small.count(), 9);
}

#[tokio::test(start_paused = true)]
async fn shares_are_fair_among_streams() {
    let memory = Arc::new(ReadMemory::new(48 * MIB));
    let store = Arc::new(Mock::new(100 * MIB));
    let readers: Vec<_> = (0..5).map(|_| store.reader(&memory, settings())).collect();
    for i in 0..60 {
        for reader in &readers {
            check(reader, i * MIB, MIB).await;
        }
    }
    // Nobody has had to fetch for himself: 5 readers, 60 to 70 MiB each in ranges of 1 to 8 MiB.
    let longest_wait = store
        .requests()
        .iter()
        .filter(|r| r.end - r.start < MIB)
        .count();
    assert_eq!(longest_wait, 0);
    assert!(memory.high_water() <= memory.limit());
}

/// An answer's first bytes come with its head, and are few.
#[tokio::test(start_paused = true)]
async fn few_bytes_at_first_do_not_have_the_many_after_them_copied() {
    const SIZE: u64 = 64 * MIB;
    let memory = Arc::new(ReadMemory::new(32 * MIB));
    let mut mock = Mock::new(SIZE);
    (mock.first, mock.chunk) = (Some(100 * KIB), 400 * KIB);
    let chunks = Arc::default();
    mock.chunks = Some(Arc::clone(&chunks));
    let store = Arc::new(mock);
    let reader = store.reader(&memory, settings());
    let mut given = 0;
    for at in (0..SIZE).step_by(MIB as usize) {
        let data = reader.read(at, MIB as usize).await.expect("a read");
        let chunks = chunks.lock().unwrap();
        let as_it_came = |piece: &&Bytes| {
            let within = |chunk: &Bytes| chunk.as_ptr_range().contains(&piece.as_ptr());
            chunks.iter().any(within)
        };
        let pieces = data.pieces().iter().filter(as_it_came);
        given += pieces.map(|piece| piece.len() as u64).sum::<u64>();
    }
    assert!(memory.high_water() <= 32 * MIB);
    // But the first and the last of each answer.
    let copied = store.count() as u64 * 500 * KIB;
    assert!(
        given >= SIZE - copied,
        "{given} bytes as they came, {} requests",
        store.count()
    );
    drop(reader);
    settle().await;
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn chunks_of_any_size_are_put_together() {
    const SIZE: u64 = 20 * MIB + 7;
    for first in [1, 100 * KIB, 256 * KIB, 3 * MIB] {
        for chunk in [100 * KIB, 256 * KIB - 1, 256 * KIB, 700 * KIB, 3 * MIB] {
            let memory = Arc::new(ReadMemory::new(32 * MIB));
            let mut mock = Mock::new(SIZE);
            (mock.first, mock.chunk) = (Some(first), chunk);
            let store = Arc::new(mock);
            let reader = store.reader(&memory, settings());
            for at in (0..SIZE).step_by(300 << 10) {
                check(&reader, at, 300 * KIB).await;
            }
            assert!(memory.high_water() <= 32 * MIB);
            drop(reader);
            settle().await;
            assert_eq!(memory.used(), 0, "{first} and {chunk} at a time");
        }
    }
}
