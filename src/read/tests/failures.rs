//! What fails, who is told, and what goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;

use super::*;

fn plenty() -> Arc<ReadMemory> {
    Arc::new(ReadMemory::new(256 * MIB))
}

const BROKEN: [ErrorKind; 3] = [
    ErrorKind::Transient,
    ErrorKind::Throttled,
    ErrorKind::Unknown,
];

#[tokio::test(start_paused = true)]
async fn body_broken_at_every_position_is_resumed() {
    // A small object byte by byte, read ahead and not.
    for limit in [0, 16 * MIB] {
        for after in 0..100 {
            for fault in 0..5 {
                let mut mock = Mock::faulty(100, move |number, _| match (number, fault) {
                    (0, 3) => Fault::Short(after),
                    (0, 4) => Fault::Long,
                    (0, kind) => Fault::Break(after, BROKEN[kind]),
                    _ => Fault::None,
                });
                mock.chunk = 7;
                let store = Arc::new(mock);
                let reader = store.reader(&Arc::new(ReadMemory::new(limit)), settings());
                check(&reader, 0, 100).await;
                // A body that is too long is not trusted with its last chunk.
                let resumed = if fault == 4 { 98 } else { after };
                assert_eq!(store.requests(), vec![0..100, resumed..100]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn large_bodies_broken_around_every_boundary() {
    let size = 4 * MIB + 100;
    for boundary in [0, 64 * KIB, 128 * KIB, MIB, 2 * MIB] {
        for shift in [-1i64, 0, 1] {
            let Some(after) = boundary.checked_add_signed(shift) else {
                continue;
            };
            let mut mock = Mock::faulty(size, move |number, _| match number % 2 {
                0 => Fault::Break(after, ErrorKind::Unknown),
                _ => Fault::None,
            });
            mock.chunk = 100_000;
            let store = Arc::new(mock);
            let reader = store.reader(&plenty(), settings());
            let mut offset = 0;
            while offset < size {
                check(&reader, offset, 100 * KIB).await;
                offset += 100 * KIB;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_and_spaced() {
    let store = Arc::new(Mock::faulty(MIB, |number, _| match number {
        0..4 => Fault::Break(10, ErrorKind::Transient),
        _ => Fault::None,
    }));
    let start = tokio::time::Instant::now();
    let reader = store.reader(&plenty(), settings());
    check(&reader, 0, 100).await;
    assert_eq!(store.count(), 5);
    let pauses = start.elapsed();
    assert!(
        pauses >= Duration::from_millis(750) && pauses < Duration::from_millis(1700),
        "{pauses:?}"
    );

    for attempts in [0, 1, 2, 5] {
        let store = Arc::new(Mock::faulty(MIB, |_, _| {
            Fault::Break(0, ErrorKind::Throttled)
        }));
        let reader = store.reader(
            &plenty(),
            Settings {
                attempts,
                ..settings()
            },
        );
        let error = try_check(&reader, 0, 100).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Throttled);
        assert_eq!(store.count(), attempts.max(1) as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn failure_reaches_all_who_wait_and_nobody_after() {
    for kind in [
        ErrorKind::Missing,
        ErrorKind::Denied,
        ErrorKind::Invalid,
        ErrorKind::Transient,
    ] {
        let store = Arc::new(Mock::faulty(50 * MIB, move |number, _| match number {
            0 => Fault::Refuse(kind),
            _ => Fault::None,
        }));
        let reader = store.reader(&plenty(), settings());
        let results = join_all((0..8).map(|i| try_check(&reader, i * 128 * KIB, 128 * KIB))).await;
        for result in results {
            assert_eq!(result.unwrap_err().kind, kind);
        }
        // Told to those who waited: the next read tries anew.
        for i in 0..100 {
            check(&reader, i * 512 * KIB, 512 * KIB).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_before_a_failure_are_answered() {
    let store = Arc::new(Mock::faulty(50 * MIB, |_, range| match range.start {
        0 => Fault::Break(300 * KIB, ErrorKind::Denied),
        _ => Fault::None,
    }));
    let reader = store.reader(&plenty(), settings());
    let results = join_all((0..8).map(|i| try_check(&reader, i * 100 * KIB, 100 * KIB))).await;
    let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, false, true, true, true, true, true]);
}

#[tokio::test(start_paused = true)]
async fn failed_read_ahead_poisons_nothing() {
    let bad = Arc::new(AtomicU32::new(1));
    let on = bad.clone();
    let store = Arc::new(Mock::faulty(50 * MIB, move |_, range| {
        if on.load(Ordering::Relaxed) == 1 && range.end > 3 * MIB {
            Fault::Refuse(ErrorKind::Denied)
        } else {
            Fault::None
        }
    }));
    let reader = store.reader(&plenty(), settings());
    for i in 0..8 {
        check(&reader, i * 256 * KIB, 256 * KIB).await;
    }
    settle().await;
    assert!(
        store.requests().iter().any(|range| range.end > 3 * MIB),
        "it was tried"
    );
    bad.store(0, Ordering::Relaxed);
    for i in 8..200 {
        check(&reader, i * 256 * KIB, 256 * KIB).await;
    }
}

#[tokio::test(start_paused = true)]
async fn conflict_is_for_ever() {
    for fault in [
        Fault::Refuse(ErrorKind::Conflict),
        Fault::Break(70 * KIB, ErrorKind::Conflict),
        Fault::Replaced,
    ] {
        for demanded in [true, false] {
            let memory = plenty();
            let store = Arc::new(Mock::faulty(50 * MIB, move |number, range| {
                let hit = if demanded {
                    number == 0
                } else {
                    range.start >= 3 * MIB
                };
                if hit { fault } else { Fault::None }
            }));
            let reader = store.reader(&memory, settings());
            if demanded {
                let results = join_all((0..8).map(|i| try_check(&reader, i * MIB, MIB))).await;
                assert!(results.iter().any(Result::is_err));
            } else {
                // Found out by the read-ahead, before a read came so far.
                for i in 0..8 {
                    check(&reader, i * 256 * KIB, 256 * KIB).await;
                }
                settle().await;
            }
            let before = store.count();
            for offset in [0, 128 * KIB, 2 * MIB, 40 * MIB] {
                let error = try_check(&reader, offset, 1000).await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Conflict);
            }
            assert_eq!(store.count(), before, "it is not asked again");
            settle().await;
            assert_eq!((memory.used(), store.open()), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn conflict_of_a_random_read_is_for_ever() {
    let store = Arc::new(Mock::faulty(50 * MIB, |_, _| {
        Fault::Refuse(ErrorKind::Conflict)
    }));
    let reader = store.reader(&plenty(), settings());
    for _ in 0..3 {
        let error = try_check(&reader, 7 * MIB, 1000).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
    }
    assert_eq!(store.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_read_given_up_leaves_the_others_alone() {
    let store = Arc::new(Mock::new(50 * MIB));
    let reader = Arc::new(store.reader(&plenty(), settings()));
    let given_up = tokio::spawn({
        let reader = reader.clone();
        async move { check(&reader, 0, MIB).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    given_up.abort();
    check(&reader, 0, MIB).await;
    assert_eq!(store.count(), 2);
}
