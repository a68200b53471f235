//! Objects in archives: who opens one is told so, and can have its restore asked for.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use wholefs::embedded::{Dialect, Options};

use crate::support::{Mount, Store, eventually, seconds};

fn store(restore_takes: Duration) -> Store {
    let dialect = Dialect {
        restore_takes,
        ..Dialect::default()
    };
    let store = Store::embedded_with(Options {
        dialect,
        ..Options::default()
    });
    store.put_in_class("old", "kept for ten years", "DEEP_ARCHIVE");
    store.put_in_class("cold", "kept for a year", "GLACIER");
    store.put_in_class("cool", "at hand", "GLACIER_IR");
    store
}

#[track_caller]
fn assert_refused(path: &Path) {
    let error = File::open(path).expect_err("it is in an archive");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
}

/// Its log comes by a pipe, and so a moment later.
#[track_caller]
fn assert_said(mount: &Mount, words: &str) {
    eventually(seconds(10), words, || mount.stderr().contains(words));
}

#[test]
fn a_file_in_an_archive_cannot_be_read_and_the_log_says_why() {
    let store = store(Duration::ZERO);
    let mount = Mount::with(&store, &[]);
    for name in ["old", "cold"] {
        assert_refused(&mount.path(name));
        let append = File::options().append(true).open(mount.path(name));
        let error = append.expect_err("what is there cannot be had");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
    }
    assert_said(&mount, "\"old\"");
    assert_said(&mount, "restore it first");
    assert_eq!(store.log().count("RestoreObject"), 0);
    assert_eq!(
        fs::read_to_string(mount.path("cool")).expect("read"),
        "at hand"
    );
    // It is seen, and can be replaced and removed.
    assert_eq!(fs::metadata(mount.path("old")).expect("seen").len(), 18);
    fs::write(mount.path("old"), "new").expect("replaced");
    assert_eq!(fs::read_to_string(mount.path("old")).expect("read"), "new");
    fs::remove_file(mount.path("cold")).expect("removed");
    assert_eq!(store.keys(), ["cool", "old"]);
}

#[test]
fn the_restore_of_an_archived_file_is_asked_for_when_it_is_opened() {
    let store = store(Duration::from_secs(3600));
    let mount = Mount::with(&store, &["--restore-archived=3"]);
    for _ in 0..3 {
        assert_refused(&mount.path("old"));
    }
    assert_said(&mount, "asked for and is on its way");
    assert_said(&mount, "being restored");
    assert_eq!(store.log().count("RestoreObject"), 1);
}

#[test]
fn an_archived_file_that_was_restored_is_read_as_any_other() {
    let store = store(Duration::ZERO);
    let mount = Mount::with(&store, &["--restore-archived"]);
    assert_refused(&mount.path("cold"));
    eventually(seconds(20), "it is restored", || {
        fs::read_to_string(mount.path("cold")).is_ok_and(|text| text == "kept for a year")
    });
    assert_eq!(store.log().count("RestoreObject"), 1);
}
