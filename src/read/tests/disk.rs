//! The cache by itself, and readers with one, against a scripted store.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::mock::{Fault, Mock, content};
use super::stream::{Source, Stream};
use super::{DiskCache, MIB, ReadMemory, Reader, Room, Settings};
use crate::store::ErrorKind;

fn memory(directory: &Path, limit: u64) -> (Arc<ReadMemory>, Arc<DiskCache>) {
    let cache = DiskCache::open(directory, "s3://bucket", Room::Bytes(limit)).unwrap();
    let memory = ReadMemory::new(64 << 20).with_disk(Some(cache.clone()));
    (Arc::new(memory), cache)
}

async fn check(reader: &Reader, offset: u64, len: u64) {
    let data = reader.read(offset, len as usize).await.unwrap();
    let bytes = data.pieces().concat();
    assert_eq!(bytes.len() as u64, len.min(reader.size() - offset));
    let right = bytes
        .iter()
        .zip(offset..)
        .all(|(byte, at)| *byte == content(at));
    assert!(right, "wrong bytes at {offset}");
}

/// Until all that comes is on disk.
async fn settle(cache: &Arc<DiskCache>) {
    loop {
        if cache.is_idle() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn until_found(cache: &Arc<DiskCache>, bytes: u64) {
    while cache.used() < bytes {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_was_read_once_is_not_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let size = 20 * MIB + 12_345;
    let mock = Arc::new(Mock::new(size));
    let used = {
        let (memory, cache) = memory(directory.path(), 1 << 30);
        let reader = mock.reader(&memory, Settings::default());
        for at in (0..size).step_by(128 << 10) {
            check(&reader, at, 128 << 10).await;
        }
        settle(&cache).await;
        let asked: u64 = mock
            .requests()
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        assert!(asked <= size + 2 * MIB, "{asked} of {size} bytes asked for");
        let before = mock.count();
        for at in (0..size).step_by(1 << 20) {
            check(&mock.reader(&memory, Settings::default()), at, 128 << 10).await;
        }
        let again = mock.count() - before;
        assert!(again <= 2, "{again} requests for what was read before");
        settle(&cache).await;
        cache.used()
    };
    // Another mount of the same bucket.
    let (memory, cache) = memory(directory.path(), 1 << 30);
    until_found(&cache, used).await;
    let before = mock.count();
    let reader = mock.reader(&memory, Settings::default());
    for at in (0..size.div_ceil(128 << 10)).rev() {
        check(&reader, at * (128 << 10), 128 << 10).await;
    }
    assert_eq!(mock.count(), before, "all of it is on disk");
    assert!(cache.counts().0 > 0);
}

#[tokio::test]
async fn a_random_read_brings_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mock = Arc::new(Mock::new(100 * MIB));
    let (memory, cache) = memory(directory.path(), 1 << 30);
    let reader = mock.reader(&memory, Settings::default());
    for at in [70 * MIB + 5000, 3 * MIB + 1, 99 * MIB + 1_000_000] {
        check(&reader, at, 4096).await;
        settle(&cache).await;
        let before = mock.count();
        for near in [at - at % MIB, at / 4096 * 4096, at + 4096] {
            check(&reader, near, 4096).await;
        }
        assert_eq!(mock.count(), before, "the segment around {at}");
    }
}

#[tokio::test]
async fn what_is_spoilt_on_disk_is_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let mock = Arc::new(Mock::new(4 * MIB));
    let (memory, cache) = memory(directory.path(), 1 << 30);
    check(&mock.reader(&memory, Settings::default()), 0, 4 * MIB).await;
    settle(&cache).await;
    let mut spoilt = 0;
    for folder in fs::read_dir(cache.directory()).unwrap().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let mut bytes = fs::read(file.path()).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(file.path(), bytes).unwrap();
            spoilt += 1;
        }
    }
    assert!(spoilt >= 3, "{spoilt} files");
    let before = mock.count();
    check(&mock.reader(&memory, Settings::default()), 0, 4 * MIB).await;
    assert!(mock.count() > before);
}

#[tokio::test]
async fn the_cache_keeps_within_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let mock = Arc::new(Mock::new(40 * MIB));
    let (memory, cache) = memory(directory.path(), 8 * MIB);
    let reader = mock.reader(&memory, Settings::default());
    for at in (0..40 * MIB).step_by(MIB as usize) {
        check(&reader, at, MIB).await;
    }
    settle(&cache).await;
    assert!(
        cache.used() <= 8 * MIB && cache.used() > 4 * MIB,
        "{}",
        cache.used()
    );
    let on_disk: u64 = fs::read_dir(cache.directory())
        .unwrap()
        .flatten()
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(on_disk <= 8 * MIB, "{on_disk} bytes on disk");
}

#[tokio::test]
async fn broken_bodies_leave_nothing_wrong_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, cache) = memory(directory.path(), 1 << 30);
    let script = |request: usize, _: &Range<u64>| match request % 3 {
        0 => Fault::Break(200_000, ErrorKind::Transient),
        1 => Fault::Short(100_000),
        _ => Fault::None,
    };
    let mock = Arc::new(Mock::faulty(9 * MIB, script));
    let quick = Settings {
        backoff: Duration::from_micros(10),
        ..Settings::default()
    };
    for _ in 0..3 {
        let reader = mock.reader(&memory, quick);
        for at in (0..9 * MIB).step_by(300_000) {
            check(&reader, at, 300_000).await;
        }
        settle(&cache).await;
    }
}

#[tokio::test]
async fn what_the_cache_lacks_here_and_there_is_no_attempt_at_what_broke() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, cache) = memory(directory.path(), 1 << 30);
    let quick = Settings {
        attempts: 2,
        backoff: Duration::from_micros(10),
        ..Settings::default()
    };
    // Every other segment is on disk; the last one that is not breaks once.
    let mock = Arc::new(Mock::new(8 * MIB));
    let reader = mock.reader(&memory, quick);
    for segment in [1, 3, 5, 7] {
        check(&reader, segment * MIB + 5000, 4096).await;
        settle(&cache).await;
    }
    let broken = |number, range: &Range<u64>| match (number, range.start) {
        (3, at) if at == 6 * MIB => Fault::Break(200_000, ErrorKind::Transient),
        _ => Fault::None,
    };
    let mock = Arc::new(Mock::faulty(8 * MIB, broken));
    let source = Source {
        store: mock.clone(),
        key: "dir/file".into(),
        etag: Mock::etag(),
        size: 8 * MIB,
        version: None,
        attempts: quick.attempts,
        backoff: quick.backoff,
        seen: Default::default(),
        disk: cache
            .object("dir/file", &Mock::etag(), 8 * MIB)
            .map(|object| (cache.clone(), object)),
    };
    let mut stream = Stream::new(&source, 0..8 * MIB);
    let mut at = 0;
    while let Some(bytes) = stream.next().await.expect("all of it comes") {
        assert!(
            bytes
                .iter()
                .zip(at..)
                .all(|(byte, at)| *byte == content(at))
        );
        at += bytes.len() as u64;
    }
    assert_eq!((at, mock.count()), (8 * MIB, 5));
}

/// What it kept itself is not free, and is no reason to keep less.
#[test]
fn half_of_what_is_free_is_half_of_it_without_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let open = |free| DiskCache::open(directory.path(), "s3://bucket", Room::HalfOf { free });
    let first = open(8 * MIB).unwrap();
    assert_eq!(first.limit(), 4 * MIB);
    let place = first.directory().join("ab");
    std::fs::create_dir(&place).unwrap();
    let object = "ab".repeat(16);
    for number in 0..3 {
        let kept = std::fs::File::create(place.join(format!("{object}-{number}"))).unwrap();
        kept.set_len(MIB).unwrap();
    }
    let left = first.directory().join("unfinished-1-2");
    std::fs::write(&left, "of a process that was killed").unwrap();
    drop(first);
    let again = std::iter::repeat_with(|| open(5 * MIB)).find_map(Result::ok);
    let again = again.expect("the first is gone at some time");
    while again.used() == 0 {
        std::thread::yield_now();
    }
    while again.limit() == 5 * MIB / 2 {
        std::thread::yield_now();
    }
    assert_eq!(again.limit(), (5 * MIB + again.used()) / 2);
    assert!(again.used() > 2 * MIB && !left.exists());
}

#[test]
fn a_cache_is_of_one_mount_of_a_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let first = DiskCache::open(directory.path(), "s3://bucket", Room::Bytes(MIB)).unwrap();
    let again = DiskCache::open(directory.path(), "s3://bucket", Room::Bytes(MIB));
    let error = again.err().expect("it is in use").to_string();
    assert!(error.contains("another mount"), "{error}");
    DiskCache::open(directory.path(), "s3://other", Room::Bytes(MIB)).unwrap();
    // Until its last reader is gone, the searching thread among them.
    drop(first);
    while DiskCache::open(directory.path(), "s3://bucket", Room::Bytes(MIB)).is_err() {
        std::thread::yield_now();
    }
}
