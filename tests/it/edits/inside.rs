//! What the embedded bucket alone tells of files being written: what goes over the wire, where the budgets end,
//! and what becomes of a file that the store does not do as it is asked.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

use super::{assert_object, mount, patched, writer};
use crate::support::tools::sh_ok;
use crate::support::{Content, KIB, MIB, Mount, PART, Store, eventually, seconds};

/// Bytes of objects and parts that were sent to the store and fetched from it since the last reset.
fn traffic(store: &Store) -> (u64, u64) {
    let records = store.log().records();
    let sum = |operations: [&str; 2], bytes: fn(&wholefs::embedded::Record) -> u64| {
        let of_these = records.iter().filter(|r| operations.contains(&r.operation));
        of_these.map(bytes).sum()
    };
    let sent = sum(["UploadPart", "PutObject"], |r| r.received);
    (sent, sum(["GetObject", "GetObject"], |r| r.sent))
}

#[test]
fn appending_a_line_to_a_large_object_sends_the_line_alone() {
    let store = Store::embedded();
    let content = Content::new(1, 40 * MIB);
    store.put("log", content.bytes());
    let mount = mount(&store);
    store.log().reset();
    sh_ok("echo a line >> \"$1\"", &[&mount.path("log")]);
    let (sent, fetched) = traffic(&store);
    assert!(
        store.log().count("UploadPartCopy") > 0,
        "{:?}",
        store.log().counts()
    );
    assert!(sent < 64 * KIB, "{sent} bytes were sent");
    assert_eq!(fetched, 0, "nothing is fetched to be sent again");
    assert_object(&store, "log", &[&content.bytes()[..], b"a line\n"].concat());
    // A small object cannot be copied on the server: parts are at least 5 MiB.
    store.put("small", "first\n");
    sh_ok("echo second >> \"$1\"", &[&mount.path("small")]);
    assert_eq!(store.get("small").as_deref(), Some(&b"first\nsecond\n"[..]));
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn changing_the_middle_of_a_large_object_moves_little_more_than_a_part() {
    let store = Store::embedded();
    let content = Content::new(1, 100 * MIB);
    store.put("file", content.bytes());
    let mount = mount(&store);
    store.log().reset();
    let file = OpenOptions::new()
        .write(true)
        .open(mount.path("file"))
        .expect("open");
    file.write_all_at(b"changed", 50 * MIB).expect("written");
    drop(file);
    let (sent, fetched) = traffic(&store);
    assert!(sent <= 2 * PART + MIB, "{sent} bytes were sent");
    assert!(fetched <= 2 * PART + MIB, "{fetched} bytes were fetched");
    assert_object(
        &store,
        "file",
        &patched(content.bytes(), &[(50 * MIB, b"changed")]),
    );
}

#[test]
fn a_small_file_is_one_request_and_a_large_one_is_parts_in_parallel() {
    let store = Store::embedded();
    let mount = mount(&store);
    store.log().reset();
    std::fs::write(mount.path("small"), Content::new(1, MIB).bytes()).expect("written");
    assert_eq!(store.log().count("PutObject"), 1);
    assert_eq!(store.log().count("CreateMultipartUpload"), 0);
    let waits = store
        .faults()
        .script("op=UploadPart:hold-before")
        .expect("a fault");
    let large = mount.path("large");
    let writing = std::thread::spawn(move || {
        std::fs::write(large, Content::new(2, 33 * MIB).bytes()).expect("written");
    });
    eventually(
        seconds(20),
        "several parts are on their way at once",
        || store.faults().fired(waits) >= 2,
    );
    store.faults().remove(waits);
    writing.join().expect("written");
    assert_eq!(store.log().count("CreateMultipartUpload"), 1);
    assert_eq!(store.log().count("UploadPart"), 7);
    assert_eq!(store.log().count("CompleteMultipartUpload"), 1);
    store.assert_holds("large", &Content::new(2, 33 * MIB));
}

#[test]
fn the_head_can_be_rewritten_when_the_file_is_larger_than_the_memory() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--write-memory", "64M"]);
    let content = Content::new(1, 200 * MIB);
    let mut file = File::create(mount.path("file")).expect("made");
    let mut at = 0;
    while at < content.size {
        file.write_all(&content.range(at..at + MIB))
            .expect("written");
        at += MIB;
    }
    file.write_all_at(b"a header", 0).expect("the head is kept");
    // What is neither the head nor recent is gone, and that is said honestly.
    let refused = file.write_all_at(b"too late", 60 * MIB);
    let refused = refused.expect_err("it was sent long ago");
    assert_eq!(refused.raw_os_error(), Some(libc::ESPIPE));
    eventually(seconds(5), "a remedy is named", || {
        mount.stderr().contains("--write-memory")
    });
    drop(file);
    assert_object(
        &store,
        "file",
        &patched(content.bytes(), &[(0, b"a header")]),
    );
}

#[test]
fn random_writes_beyond_the_spools_limit_are_refused() {
    let store = Store::embedded();
    store.put("file", "the old object");
    let mount = Mount::with(&store, &["--spool-limit", "64M"]);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(mount.path("file")).expect("open");
    let block = Content::new(1, MIB).bytes();
    // Backwards: no streaming.
    let refused = (0..200)
        .rev()
        .find_map(|n| file.write_all_at(&block, n * MIB).err());
    let refused = refused.expect("64 MiB are not 200");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    eventually(seconds(5), "a remedy is named", || {
        mount.stderr().contains("--spool-limit")
    });
    // The error stays with the descriptor, and what is in the bucket stays as well.
    let again = file.sync_all().expect_err("the file is not whole");
    assert_eq!(again.raw_os_error(), Some(libc::ENOSPC));
    drop(file);
    store.assert_no_uploads_within(5, "given up");
    assert_eq!(store.get("file").as_deref(), Some(&b"the old object"[..]));
    // The space is free again.
    let content = Content::new(2, 40 * MIB);
    let file = File::create(mount.path("other")).expect("made");
    for n in (0..40).rev() {
        file.write_all_at(&content.range(n * MIB..(n + 1) * MIB), n * MIB)
            .expect("written");
    }
    drop(file);
    store.assert_holds("other", &content);
}

// ---- A store that does not do it

#[test]
fn an_unlink_the_store_refuses_takes_nothing_from_its_writer() {
    let store = Store::embedded();
    let mount = mount(&store);
    for size in [MIB, 12 * MIB] {
        store.put("file", "the old object");
        let mut writer = writer(&mount, "file", "rwct", size);
        let refused = store.faults().script("op=DeleteObject:error=403");
        let refused = refused.expect("a fault");
        let error = std::fs::remove_file(mount.path("file")).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        store.faults().remove(refused);
        writer.write(1, 3).step("close");
        writer.exit(0);
        store.assert_no_uploads_within(5, "refused");
        store.assert_holds("file", &Content::new(1, size + 3));
        std::fs::remove_file(mount.path("file")).expect("unlinked");
        assert_eq!(store.keys(), [""; 0]);
    }
    assert!(mount.terminate().success());
}

#[test]
fn who_reads_a_file_that_could_not_be_kept_at_its_unlink_is_told_that_it_is_stale() {
    let store = Store::embedded();
    let mount = mount(&store);
    store.put("file", "what it was");
    let reader = File::open(mount.path("file")).expect("open");
    let refused = store.faults().script("op=GetObject:error=403");
    let refused = refused.expect("a fault");
    std::fs::remove_file(mount.path("file")).expect("unlinked");
    assert!(store.faults().fired(refused) > 0);
    store.faults().remove(refused);
    assert_eq!(store.keys(), [""; 0]);
    let mut bytes = [0; 4];
    let error = reader.read_at(&mut bytes, 0).expect_err("it is gone");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    drop(reader);
    assert!(mount.terminate().success());
}
