//! Copies inside the mount: made by the store, of whole files, without a byte through the machine; and
//! by the bytes where that cannot be.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::support::tools::run;
use crate::support::{Content, MIB, Mount, PART, Store, on_both_stores};

/// One call; how many bytes it copied.
fn copy_range(from: &File, offset: i64, to: &File, at: i64, len: usize) -> std::io::Result<usize> {
    let (mut offset, mut at) = (offset, at);
    // SAFETY: descriptors of ours, offsets that outlive the call.
    let copied = unsafe {
        libc::copy_file_range(
            from.as_raw_fd(),
            &mut offset,
            to.as_raw_fd(),
            &mut at,
            len,
            0,
        )
    };
    match copied {
        -1 => Err(std::io::Error::last_os_error()),
        n => Ok(n as usize),
    }
}

fn cp_makes_the_same_file(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    for (n, size) in [0, 1, 4096, PART - 1, PART, PART + 1, 33 * MIB + 7]
        .into_iter()
        .enumerate()
    {
        let content = Content::new(n as u64 + 1, size);
        let (from, to) = (
            mount.path(&format!("from-{n}")),
            mount.path(&format!("to-{n}")),
        );
        fs::write(&from, content.bytes()).expect("written");
        for _ in ["new", "again, over the first"] {
            let said = run(std::process::Command::new("cp").args([&from, &to]));
            assert!(said.ok(), "{}", said.err);
            content.assert_file(&to);
            store.assert_holds(&format!("to-{n}"), &content);
        }
    }
    assert_eq!(store.keys().len(), 14);
    assert_eq!(store.open_uploads(), []);
}

fn a_copy_that_is_changed_before_it_is_closed_has_the_changes(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    let content = Content::new(1, 12 * MIB);
    fs::write(mount.path("from"), content.bytes()).expect("written");
    let from = File::open(mount.path("from")).expect("open");
    let mut expected = content.bytes();

    let to = File::create(mount.path("to")).expect("made");
    assert_eq!(
        copy_range(&from, 0, &to, 0, 7 << 20).expect("copied"),
        7 << 20
    );
    assert_eq!(
        copy_range(&from, 7 << 20, &to, 7 << 20, 9 << 20).expect("copied"),
        5 << 20
    );
    assert_eq!(
        copy_range(&from, 12 << 20, &to, 12 << 20, 1).expect("the end"),
        0
    );
    to.write_all_at(b"changed", 6 << 20).expect("written");
    expected[6 << 20..][..7].copy_from_slice(b"changed");
    drop(to);
    assert!(store.get("to").is_some_and(|found| found == expected));

    // Ranges that are elsewhere go by the bytes.
    let mut to = File::create(mount.path("shifted")).expect("made");
    to.write_all(b"head").expect("written");
    let (mut done, end) = (0, 3 << 20);
    while done < end {
        let copied = copy_range(&from, 100 + done, &to, 4 + done, (end - done) as usize);
        done += copied.expect("copied") as i64;
    }
    drop(to);
    let shifted = [b"head", &content.range(100..100 + (3 << 20))[..]].concat();
    assert!(store.get("shifted").is_some_and(|found| found == shifted));
    assert_eq!(store.open_uploads(), []);
}

fn a_copy_can_be_read_before_it_is_closed(store: &Store) {
    let mount = Mount::new(store);
    let content = Content::new(1, 9 * MIB);
    fs::write(mount.path("from"), content.bytes()).expect("written");
    let from = File::open(mount.path("from")).expect("open");
    let to = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("to"))
        .expect("made");
    let mut at = 0;
    while at < content.size {
        let copied = copy_range(&from, at as i64, &to, at as i64, content.size as usize);
        at += copied.expect("copied") as u64;
    }
    let mut buffer = vec![0; 1 << 20];
    to.read_exact_at(&mut buffer, 5 * MIB).expect("read");
    assert_eq!(content.difference(5 * MIB, &buffer), None);
    content.assert_file(&mount.path("to"));
    assert_eq!(store.keys(), ["from"], "it is not published yet");
    drop(to);
    store.assert_holds("to", &content);
}

fn a_copy_whose_source_is_replaced_fails_and_publishes_nothing(store: &Store) {
    let mount = Mount::new(store);
    let content = Content::new(1, 9 * MIB);
    fs::write(mount.path("from"), content.bytes()).expect("written");
    let from = File::open(mount.path("from")).expect("open");
    let to = File::create(mount.path("to")).expect("made");
    assert_eq!(
        copy_range(&from, 0, &to, 0, 9 << 20).expect("copied"),
        9 << 20
    );
    store.put("from", "something else");
    let error = to.sync_all().expect_err("its bytes are gone");
    assert!(
        [libc::ESTALE, libc::EIO].contains(&error.raw_os_error().unwrap_or(0)),
        "{error}"
    );
    drop(to);
    assert_eq!(store.keys(), ["from"]);
    assert_eq!(store.open_uploads(), []);
}

on_both_stores!(
    cp_makes_the_same_file,
    a_copy_that_is_changed_before_it_is_closed_has_the_changes,
    a_copy_can_be_read_before_it_is_closed,
    a_copy_whose_source_is_replaced_fails_and_publishes_nothing,
);

/// What was copied onto a file goes with the file to another name, and nothing of what that was before.
#[test]
fn a_copy_that_is_not_closed_yet_is_renamed_with_its_file() {
    let store = Store::embedded();
    let old = Content::new(1, 12 * MIB);
    let new = Content::new(2, 11 * MIB);
    store.put("from", new.bytes());
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    for (from, to, key) in [
        ("dir/file", "dir/renamed", "dir/renamed"),
        ("dir", "other", "other/file"),
    ] {
        store.put("dir/file", old.bytes());
        let source = File::open(mount.path("from")).expect("open");
        let mut file = File::options();
        let file = file.write(true).truncate(true);
        let file = file.open(mount.path("dir/file")).expect("open");
        let len = 11 * MIB;
        assert_eq!(
            copy_range(&source, 0, &file, 0, len as usize).expect("copied") as u64,
            len
        );
        fs::rename(mount.path(from), mount.path(to)).expect("renamed");
        file.sync_all().expect("published");
        drop(file);
        store.assert_holds(key, &new);
        assert_eq!(store.get("dir/file"), None);
        fs::remove_dir_all(mount.path(to))
            .or_else(|_| fs::remove_file(mount.path(to)))
            .expect("removed");
    }
}

#[test]
fn cp_inside_the_mount_moves_no_bytes_through_the_machine() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    for (key, size) in [("small", 1000), ("middle", 64 * MIB), ("large", 600 * MIB)] {
        let content = Content::new(size, size);
        store
            .server()
            .put_object(&store.bucket, key, content.bytes());
        let moved = || -> u64 {
            let records = store.log().records();
            records.iter().map(|r| r.received + r.sent).sum()
        };
        let before = moved();
        let to = mount.path(&format!("{key} copy"));
        let said = run(std::process::Command::new("cp")
            .arg(mount.path(key))
            .arg(to));
        assert!(said.ok(), "{}", said.err);
        let moved = moved() - before;
        assert!(
            moved < 100_000 && (size < 10_000 || moved < size / 10),
            "{key}: {moved} bytes"
        );
        store.assert_holds(&format!("{key} copy"), &content);
    }
    assert!(store.log().count("UploadPartCopy") >= 3);
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn a_copier_that_is_killed_leaves_the_whole_file_or_none() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let content = Content::new(1, 300 * MIB);
    store
        .server()
        .put_object(&store.bucket, "large", content.bytes());
    let held = store.faults().script("op=UploadPartCopy:hold-before");
    let mut copier = std::process::Command::new("cp");
    let mut copier = copier
        .arg(mount.path("large"))
        .arg(mount.path("copy"))
        .spawn()
        .expect("cp runs");
    crate::support::eventually(crate::support::seconds(20), "it copies", || {
        store.log().count("CreateMultipartUpload") == 1
    });
    // It waits in close(): that is decided, whatever becomes of it.
    crate::support::tools::kill(copier.id(), libc::SIGKILL);
    store.faults().remove(held.expect("a fault"));
    copier.wait().expect("it ends");
    store.assert_no_uploads_within(20, "a killed copier");
    let copied = store.compare("copy", &content).is_ok();
    assert!(
        copied || !store.keys().contains(&"copy".to_string()),
        "torn"
    );
}
