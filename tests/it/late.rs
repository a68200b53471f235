//! What comes late: requests that a store applies when nobody waits for them any more, and ends of a mount in the middle of
//! something long.

use std::fs;
use std::time::Instant;

use wholefs::embedded::{Dialect, Options};

use crate::support::mount::Place;
use crate::support::tools::kill;
use crate::support::{MIB, Mount, Store, Writer, eventually, seconds};

const QUICK: [&str; 6] = [
    "--part-size",
    "5M",
    "--request-timeout",
    "1s",
    "--attempts",
    "2",
];

/// Whoever was told that it is not known whether his file is published may write it anew, and that stays.
#[test]
fn a_commit_that_lands_late_replaces_nothing_that_came_after_it() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &QUICK);
    let faults = store.faults();
    for after in ["written", "renamed", "removed"] {
        let (path, other) = (mount.path("file"), mount.path("other"));
        fs::write(&path, "before").expect("written");
        fs::write(&other, "after").expect("written");
        let begun = store.log().count("CompleteMultipartUpload");
        let late = faults.script("op=CompleteMultipartUpload:hold-before");
        let late = late.expect("a fault");
        let mut writer = Writer::start();
        writer.open(&path, "wct").write(1, 12 * MIB);
        assert_eq!(writer.attempt("close"), Err(libc::EIO), "{after}");
        assert!(store.log().count("CompleteMultipartUpload") > begun);
        let (path, what) = (path.clone(), after);
        let next = std::thread::spawn(move || match what {
            "written" => fs::write(path, "after"),
            "renamed" => fs::rename(other, path),
            _ => fs::remove_file(path),
        });
        // Whatever is done of it at once is done by now.
        let settled = Instant::now() + seconds(1);
        eventually(seconds(5), "a moment has gone by", || {
            Instant::now() > settled
        });
        faults.remove(late);
        next.join().expect("no panic").expect(after);
        store.assert_no_uploads_within(60, after);
        let expected = (after != "removed").then_some(&b"after"[..]);
        assert_eq!(store.get("file").as_deref(), expected, "{after}");
        let _ = fs::remove_file(mount.path("file"));
    }
    assert!(mount.terminate().success());
}

/// An attempt at a part that nobody answered lands behind the abort, whatever was said of the one after it.
#[test]
fn an_attempt_at_a_part_that_lands_late_leaves_no_upload() {
    let store = Store::embedded_with(Options {
        dialect: Dialect {
            parts_land_after_abort: true,
            ..Dialect::default()
        },
        ..Options::default()
    });
    let mount = Mount::with(&store, &QUICK);
    let faults = store.faults();
    for second in ["error=403", "throttle", "stored"] {
        let late = faults.script("op=UploadPart,n=1:hold-before");
        let late = late.expect("a fault");
        let refused = match second {
            "stored" => None,
            refusal => {
                let text = format!("op=UploadPart,n=2..:{refusal}");
                Some(faults.script(&text).expect("a fault"))
            }
        };
        let mut writer = Writer::start();
        writer.open(&mount.path("file"), "wct").write(1, 6 * MIB);
        let aborts = store.log().count("AbortMultipartUpload");
        if second == "stored" {
            store.await_parts("file", 1);
            writer.die_of(libc::SIGKILL);
        } else {
            assert!(writer.attempt("close").is_err(), "{second}");
        }
        eventually(seconds(20), "it is aborted", || {
            store.log().count("AbortMultipartUpload") > aborts && store.open_uploads().is_empty()
        });
        faults.remove(late);
        let landed = || store.log().records().iter().all(|r| r.finished.is_some());
        eventually(seconds(20), "what was late has landed", landed);
        store.assert_no_uploads_within(20, second);
        refused.into_iter().for_each(|fault| faults.remove(fault));
    }
    assert!(mount.terminate().success());
    assert_eq!(store.open_uploads(), []);
}

/// What a dead mount had closed is waited for, but not for ever; and what is in doubt by that is written by nobody meanwhile.
#[test]
fn a_store_that_is_silent_about_one_file_does_not_keep_a_mount_from_serving() {
    let store = Store::embedded();
    let place = Place::default();
    let source = format!("s3://{}", store.bucket);
    let mount_again = || Mount::within(&place, "mnt", &store, &source, &["--no-guardian"]);
    let mut mount = mount_again();
    let hold = store
        .faults()
        .script("op=CompleteMultipartUpload,key=file:hold-before");
    let hold = hold.expect("a fault");
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 12 * MIB);
    writer.begin("close");
    eventually(seconds(20), "the commit is under way", || {
        store.faults().fired(hold) > 0
    });
    kill(mount.daemon(), libc::SIGKILL);
    mount.wait_for_death();
    drop(mount);
    let mount = mount_again();
    fs::write(mount.path("else"), "served").expect("written");
    let path = mount.path("file");
    let anew = std::thread::spawn(move || fs::write(path, "anew"));
    let settled = Instant::now() + seconds(1);
    eventually(seconds(5), "a moment has gone by", || {
        Instant::now() > settled
    });
    assert!(!anew.is_finished(), "it waits for what is in doubt");
    assert_eq!(store.get("else").as_deref(), Some(&b"served"[..]));
    store.faults().remove(hold);
    anew.join().expect("no panic").expect("written");
    assert_eq!(store.get("file").as_deref(), Some(&b"anew"[..]));
    store.assert_no_uploads_within(60, "in the end");
    assert_eq!(store.get("file").as_deref(), Some(&b"anew"[..]));
    assert!(mount.terminate().success());
}

/// A rename is many requests, and is whole or told of when a mount is told to end.
#[test]
fn a_rename_under_way_when_the_daemon_is_told_to_end_is_finished() {
    let store = Store::embedded();
    for name in 0..40 {
        store.put(&format!("old/{name}"), "x");
    }
    store.put("file", "x");
    let place = Place::default();
    let source = format!("s3://{}", store.bucket);
    for (from, to) in [("old", "new"), ("file", "name")] {
        let mount = Mount::within(&place, "mnt", &store, &source, &[]);
        let slow = store.faults().script("op=CopyObject:delay=1500ms");
        let slow = slow.expect("a fault");
        let (old, new) = (mount.path(from), mount.path(to));
        let renaming = std::thread::spawn(move || fs::rename(old, new));
        eventually(seconds(20), "it is under way", || {
            store.faults().fired(slow) > 0
        });
        assert_eq!(mount.terminate().code(), Some(0), "{from}");
        let _ = renaming.join().expect("no panic");
        store.faults().remove(slow);
        let left = store.keys();
        assert!(!left.iter().any(|key| key.starts_with(from)), "{left:?}");
    }
    assert_eq!(store.keys().len(), 41);
}

/// What cannot be brought to its end is told by how the mount ends, and ended by the next.
#[test]
fn copies_that_are_left_are_told_when_the_mount_ends() {
    let store = Store::embedded();
    for name in 0..4 {
        store.put(&format!("old/{name}"), "x");
    }
    let place = Place::default();
    let source = format!("s3://{}", store.bucket);
    let options = [&QUICK[..], &["--no-guardian"]].concat();
    let mount = Mount::within(&place, "mnt", &store, &source, &options);
    let faults = store.faults();
    let refused = faults
        .script("op=CopyObject,n=4..:error=403")
        .expect("a fault");
    let kept = faults.script("op=DeleteObject:error=500").expect("a fault");
    let kept_too = faults
        .script("op=DeleteObjects:error=500")
        .expect("a fault");
    fs::rename(mount.path("old"), mount.path("new")).expect_err("refused");
    let (said, _) = mount.terminate_and_tell();
    assert!(said.contains("not at their end"), "{said}");
    [refused, kept, kept_too]
        .into_iter()
        .for_each(|fault| faults.remove(fault));
    let mount = Mount::within(&place, "mnt", &store, &source, &options);
    assert_eq!(mount.terminate().code(), Some(0));
    assert_eq!(store.keys(), ["old/0", "old/1", "old/2", "old/3"]);
}
