//! The thread and its queue: shared syncs, laziness, back-pressure, failure; and how fast it is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::log::{JOURNAL, Log, Pending};
use super::super::record::Record;
use super::super::replay::replay;
use super::super::writer::Writer;
use super::lying_disk::{Choices, Fault, LyingDisk};
use super::{begin, commit, end, header, open_after, opened};
use crate::upload::life::Ending::Committed;

const LEAST_CRASHED_QUEUES: usize = 10_000;

fn writer(disk: &LyingDisk) -> Arc<Writer> {
    let log = Log::create(disk.boxed(), Path::new("/state/x"), header()).expect("created");
    Arc::new(Writer::new(log).expect("a thread"))
}

async fn say(writer: &Writer, record: &Record, durable: bool) -> std::io::Result<()> {
    writer.record(Pending::from(record), durable).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_records_share_syncs() {
    let state = tempfile::tempdir().expect("a directory");
    let disk = super::super::disk::Directory(state.path().to_path_buf());
    let log = Log::create(Box::new(disk), state.path(), header()).expect("created");
    let writer = Arc::new(Writer::new(log).expect("a thread"));
    let tasks: Vec<_> = (1..=400)
        .map(|id| {
            let writer = writer.clone();
            tokio::spawn(async move { say(&writer, &begin(id, "k"), true).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("recorded");
    }
    let stats = writer.stats();
    assert_eq!((stats.records, stats.open), (400, 400));
    assert!(stats.syncs < 400, "{} syncs for 400 records", stats.syncs);
}

#[tokio::test]
async fn a_lazy_record_is_answered_at_once_and_durable_soon() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    say(&writer, &begin(1, "k"), true).await.expect("recorded");
    let syncs = writer.stats().syncs;
    say(&writer, &end(1, Committed), false)
        .await
        .expect("written");
    assert_eq!(writer.stats().syncs, syncs, "no sync of its own");
    let start = Instant::now();
    while writer.stats().syncs == syncs {
        assert!(start.elapsed() < Duration::from_secs(10), "never synced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() > Duration::from_millis(300));
    // And only once.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(writer.stats().syncs, syncs + 1);
}

#[tokio::test]
async fn after_a_failed_sync_every_record_is_refused_and_nothing_written() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    say(&writer, &begin(1, "k"), true).await.expect("recorded");
    // The next call but one: append, then the sync.
    let call = disk.world().calls + 1;
    disk.world().faults = vec![(call, 1, Fault::Errno(libc::EIO, 0))];
    let error = say(&writer, &opened(1), true).await.expect_err("no sync");
    for text in ["/state/x/journal", "--state-dir"] {
        assert!(error.to_string().contains(text), "{error}");
    }
    let bytes = disk.bytes(JOURNAL);
    for record in [begin(2, "k"), end(1, Committed)] {
        let error = say(&writer, &record, false).await.expect_err("poisoned");
        assert!(error.to_string().contains("/state/x/journal"), "{error}");
    }
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(writer.stats().poisoned);
    drop(writer);
    assert_eq!(disk.bytes(JOURNAL), bytes);
}

#[tokio::test]
async fn a_full_disk_refuses_with_its_errno_and_later_it_works() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    say(&writer, &begin(1, "k"), true).await.expect("recorded");
    let call = disk.world().calls;
    disk.world().faults = vec![(call, 1, Fault::Errno(libc::ENOSPC, 5))];
    let error = say(&writer, &begin(2, "k"), true).await.expect_err("full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert!(!writer.stats().poisoned);
    say(&writer, &begin(3, "k"), true).await.expect("room");
    drop(writer);
    let found = replay(&disk.bytes(JOURNAL).expect("there")).expect("whole");
    assert_eq!(found.open, open_after(&[begin(1, "k"), begin(3, "k")]));
    assert_eq!(found.torn, 0);
}

#[tokio::test]
async fn an_end_that_found_no_room_is_written_by_itself_later() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    say(&writer, &begin(1, "k"), true).await.expect("recorded");
    let call = disk.world().calls;
    disk.world().faults = vec![(call, 1, Fault::Errno(libc::ENOSPC, 0))];
    let error = say(&writer, &end(1, Committed), false)
        .await
        .expect_err("full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let start = Instant::now();
    while writer.stats().open > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "never written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stopped_writer_has_written_all_and_refuses_more() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    say(&writer, &begin(1, "k"), false).await.expect("written");
    let log = writer.stop().expect("the log");
    assert!(!log.is_behind());
    let error = say(&writer, &begin(2, "k"), true).await.expect_err("ended");
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(writer.stop().is_none());
}

/// More than the queue has room for: whoever comes waits, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_wait_for_room() {
    let disk = LyingDisk::default();
    let writer = writer(&disk);
    let tasks: Vec<_> = (1..=20)
        .map(|id| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for record in [begin(id, "k"), opened(id), commit(id, 10_000)] {
                    say(&writer, &record, true).await.expect("recorded");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let bytes = disk.bytes(JOURNAL).expect("there");
    let found = replay(&bytes).expect("whole");
    assert_eq!(found.open.len(), 20);
    assert!(
        found
            .open
            .iter()
            .all(|u| u.commit.as_ref().is_some_and(|c| c.parts.len() == 10_000))
    );
    println!(
        "journal: a commit of 10000 parts takes {} KiB",
        bytes.len() / 20 / 1024
    );
}

/// Many tasks and a power loss in any call: what any of them was told stands.
#[test]
fn whatever_a_task_was_told_is_there_after_a_power_loss() {
    let mut tried = 0;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // Which records share a batch is up to the scheduler: each call several times.
    for call in (0..30).flat_map(|_| 5..25) {
        let disk = LyingDisk::default();
        disk.world().faults = vec![(call, 1, Fault::Death)];
        let told = runtime.block_on(async {
            let writer = writer(&disk);
            let tasks: Vec<_> = (1..=12)
                .map(|id| {
                    let writer = writer.clone();
                    tokio::spawn(async move {
                        let mut told = Vec::new();
                        for record in [begin(id, "k"), opened(id), commit(id, id as u32)] {
                            if say(&writer, &record, true).await.is_err() {
                                break;
                            }
                            told.push(record);
                        }
                        told
                    })
                })
                .collect();
            let mut told = Vec::new();
            for task in tasks {
                told.push(task.await.expect("no panic"));
            }
            told
        });
        let world = disk.world().clone();
        tried += Choices::each(40, call as u64, |choices| {
            let after = LyingDisk::of(world.after_power_loss(choices, b"old"));
            let found = replay(&after.bytes(JOURNAL).expect("there")).expect("whole");
            for told in told.iter().filter(|told| !told.is_empty()) {
                let id = told[0].id();
                let upload = found.open.iter().find(|u| u.id == id).expect("begun");
                let steps = 1
                    + usize::from(upload.upload_id.is_some())
                    + usize::from(upload.commit.is_some());
                assert!(steps >= told.len(), "call {call}: {told:?} but {upload:?}");
            }
        });
    }
    println!("journal: {tried} disks after a power loss under twelve tasks");
    assert!(tried >= LEAST_CRASHED_QUEUES, "only {tried} cases");
}

/// `cargo test --release --lib journal::tests::queue::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let state = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    for concurrent in [1u64, 16, 100] {
        let directory = state.path().join(concurrent.to_string());
        std::fs::create_dir(&directory).expect("created");
        let disk = super::super::disk::Directory(directory.clone());
        let log = Log::create(Box::new(disk), &directory, header()).expect("created");
        let writer = Arc::new(Writer::new(log).expect("a thread"));
        let start = Instant::now();
        let until = start + Duration::from_secs(3);
        let uploads: u64 = runtime.block_on(async {
            let tasks: Vec<_> = (0..concurrent)
                .map(|nth| {
                    let writer = writer.clone();
                    tokio::spawn(async move {
                        let mut done = 0;
                        while Instant::now() < until {
                            let id = (nth << 32) + done;
                            for record in [begin(id, "a/key"), opened(id), commit(id, 2)] {
                                say(&writer, &record, true).await.expect("recorded");
                            }
                            say(&writer, &end(id, Committed), false)
                                .await
                                .expect("recorded");
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.expect("no panic");
            }
            sum
        });
        let seconds = start.elapsed().as_secs_f64();
        let stats = writer.stats();
        println!(
            "{concurrent} concurrent: {:.0} records/s, {:.0} uploads/s, {:.0} syncs/s, {:.1} records a sync, {:.2} ms an upload, {} compactions",
            stats.records as f64 / seconds,
            uploads as f64 / seconds,
            stats.syncs as f64 / seconds,
            stats.records as f64 / stats.syncs as f64,
            seconds * 1000.0 * concurrent as f64 / uploads as f64,
            stats.compactions,
        );
    }
}
