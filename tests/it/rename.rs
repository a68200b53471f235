//! Names that change: files and directories, closed, being written and being read; what is in the way;
//! and what is left when the store fails or the daemon dies in the middle.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::mount::Place;
use crate::support::tools::run;
use crate::support::{
    Content, MIB, Mount, PART, Store, Writer, eventually, on_both_stores, seconds,
};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    let error = result.expect_err("it is refused");
    error.raw_os_error().expect("an errno")
}

fn rename_with(from: &Path, to: &Path, flags: u32) -> std::io::Result<()> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
    let (from, to) = (path(from), path(to));
    // SAFETY: strings that end.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn a_file_gets_another_name(store: &Store) {
    let mount = Mount::new(store);
    let (small, large) = (Content::new(1, 1000), Content::new(2, 12 * MIB));
    for (name, content) in [("small", small), ("large", large)] {
        let (from, to) = (mount.path(name), mount.path(&format!("{name} as renamed")));
        fs::write(&from, content.bytes()).expect("written");
        let before = fs::metadata(&from).expect("metadata");
        fs::rename(&from, &to).expect("renamed");
        assert_eq!(errno(fs::metadata(&from)), libc::ENOENT);
        content.assert_file(&to);
        let after = fs::metadata(&to).expect("metadata");
        assert_eq!(after.ino(), before.ino());
        assert_eq!(after.modified().ok(), before.modified().ok());
        store.assert_holds(&format!("{name} as renamed"), &content);
        // The old name is free.
        fs::write(&from, "another").expect("written");
        assert_eq!(fs::read_to_string(&from).expect("read"), "another");
        content.assert_file(&to);
    }
    fs::create_dir(mount.path("directory")).expect("made");
    let to = mount.path("directory/small");
    fs::rename(mount.path("small as renamed"), &to).expect("renamed");
    small.assert_file(&to);
    let keys = [
        "directory/",
        "directory/small",
        "large",
        "large as renamed",
        "small",
    ];
    assert_eq!(store.keys(), keys);
    assert_eq!(store.open_uploads(), []);
}

pub fn a_file_replaces_another(store: &Store) {
    let mount = Mount::new(store);
    let (old, new) = (Content::new(1, 6 * MIB), Content::new(2, 3 * MIB));
    let (from, to) = (mount.path("new"), mount.path("old"));
    fs::write(&to, old.bytes()).expect("written");
    let reader = File::open(&to).expect("open");
    fs::write(&from, new.bytes()).expect("written");
    assert_eq!(
        errno(rename_with(&from, &to, libc::RENAME_NOREPLACE)),
        libc::EEXIST
    );
    assert_eq!(
        errno(rename_with(&from, &to, libc::RENAME_EXCHANGE)),
        libc::EINVAL
    );
    old.assert_file(&to);
    fs::rename(&from, &to).expect("renamed");
    new.assert_file(&to);
    assert_eq!(store.keys(), ["old"]);
    // Who had the replaced one open has it still.
    let mut buffer = vec![0; 1 << 20];
    reader.read_exact_at(&mut buffer, 4 * MIB).expect("read");
    assert_eq!(old.difference(4 * MIB, &buffer), None);
    let free = mount.path("free");
    rename_with(&to, &free, libc::RENAME_NOREPLACE).expect("renamed");
    new.assert_file(&free);
    // Onto itself it stays what it is.
    fs::rename(&free, &free).expect("renamed");
    new.assert_file(&free);
    assert_eq!(store.keys(), ["free"]);
}

fn what_cannot_be_renamed_says_why(store: &Store) {
    let mount = Mount::new(store);
    let path = |name: &str| mount.path(name);
    fs::write(path("file"), "a file").expect("written");
    fs::create_dir_all(path("full/below")).expect("made");
    fs::create_dir(path("empty")).expect("made");
    fs::write(path("full/file"), "another").expect("written");
    let rename = |from: &str, to: &str| errno(fs::rename(path(from), path(to)));
    assert_eq!(rename("nothing", "something"), libc::ENOENT);
    assert_eq!(rename("file", "no/such/directory"), libc::ENOENT);
    assert_eq!(rename("file", "empty"), libc::EISDIR);
    assert_eq!(rename("empty", "file"), libc::ENOTDIR);
    assert_eq!(rename("empty", "full"), libc::ENOTEMPTY);
    assert_eq!(rename("full", "full/below/itself"), libc::EINVAL);
    assert_eq!(rename("file", &"n".repeat(256)), libc::ENAMETOOLONG);
    let keys = ["empty/", "file", "full/", "full/below/", "full/file"];
    assert_eq!(store.keys(), keys);
    // An empty one makes room.
    fs::rename(path("full"), path("empty")).expect("renamed");
    assert_eq!(
        store.keys(),
        ["empty/", "empty/below/", "empty/file", "file"]
    );
}

fn a_directory_gets_another_name_with_all_that_is_below(store: &Store) {
    let mount = Mount::new(store);
    let mut expected = BTreeMap::new();
    for directory in ["tree", "tree/a", "tree/a/b", "tree/empty"] {
        fs::create_dir(mount.path(directory)).expect("made");
        for n in 0..30 {
            if directory != "tree/empty" {
                let name = format!("{directory}/file-{n}");
                fs::write(mount.path(&name), &name).expect("written");
                expected.insert(name.replacen("tree", "moved/tree-2", 1), name);
            }
        }
    }
    let large = Content::new(1, 12 * MIB);
    fs::write(mount.path("tree/a/large"), large.bytes()).expect("written");
    let reader = File::open(mount.path("tree/a/large")).expect("open");
    fs::create_dir(mount.path("moved")).expect("made");
    let before = fs::metadata(mount.path("tree/a/b")).expect("metadata");
    fs::rename(mount.path("tree"), mount.path("moved/tree-2")).expect("renamed");
    for (name, text) in &expected {
        let found = fs::read_to_string(mount.path(name)).expect("read");
        assert_eq!(found, *text);
    }
    assert_eq!(errno(fs::metadata(mount.path("tree"))), libc::ENOENT);
    assert!(fs::metadata(mount.path("moved/tree-2/empty")).is_ok_and(|m| m.is_dir()));
    let after = fs::metadata(mount.path("moved/tree-2/a/b")).expect("metadata");
    assert_eq!(after.ino(), before.ino());
    // Who reads it reads on.
    let mut buffer = vec![0; 1 << 20];
    reader.read_exact_at(&mut buffer, 10 * MIB).expect("read");
    assert_eq!(large.difference(10 * MIB, &buffer), None);
    assert!(store.keys().iter().all(|key| key.starts_with("moved/")));
    assert_eq!(store.keys().len(), expected.len() + 1 + 5);
    large.assert_file(&mount.path("moved/tree-2/a/large"));
}

pub fn a_file_being_written_is_published_under_its_new_name(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    for old in [None, Some(Content::new(9, 6 * MIB))] {
        let (from, to) = (mount.path("before"), mount.path("after"));
        if let Some(old) = old {
            fs::write(&from, old.bytes()).expect("written");
        }
        let content = Content::new(3, MIB);
        let mut writer = Writer::start();
        writer.open(&from, "wct").write(3, MIB / 2);
        fs::rename(&from, &to).expect("renamed");
        // What was published before has the new name as well, until the file is closed.
        match old {
            Some(old) => store.assert_holds("after", &old),
            None => assert_eq!(store.keys(), [""; 0]),
        }
        // A log that is rotated: the next one has the old name.
        fs::write(&from, "the next one").expect("written");
        writer.write(3, MIB / 2).step("close");
        store.assert_holds("after", &content);
        content.assert_file(&to);
        assert_eq!(store.keys(), ["after", "before"]);
        assert_eq!(fs::read_to_string(&from).expect("read"), "the next one");
        fs::remove_file(&from).expect("removed");
        fs::remove_file(&to).expect("removed");
    }
    // Appended to: what was there comes from the object's new place.
    let old = Content::new(5, 7 * MIB);
    fs::write(mount.path("log"), old.range(0..6 * MIB)).expect("written");
    let mut log = File::options().append(true).open(mount.path("log"));
    let log = log.as_mut().expect("open");
    log.write_all(&old.range(6 * MIB..6 * MIB + 1000))
        .expect("written");
    fs::rename(mount.path("log"), mount.path("log.1")).expect("renamed");
    log.write_all(&old.range(6 * MIB + 1000..7 * MIB))
        .expect("written");
    log.sync_all().expect("synced");
    store.assert_holds("log.1", &old);
    assert_eq!(store.keys(), ["log.1"]);
    assert_eq!(store.open_uploads(), []);
}

fn a_file_that_is_partly_uploaded_stays_where_it_is(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    let content = Content::new(1, 4 * PART);
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 3 * PART);
    store.await_parts("file", 1);
    let refused = fs::rename(mount.path("file"), mount.path("other"));
    assert_eq!(errno(refused), libc::EBUSY);
    eventually(seconds(5), "it says what helps", || {
        mount.stderr().contains("rename it when it is closed")
    });
    writer.write(1, PART).step("close");
    fs::rename(mount.path("file"), mount.path("other")).expect("renamed");
    store.assert_holds("other", &content);
    assert_eq!(store.keys(), ["other"]);
}

fn a_killed_writer_of_a_renamed_file_leaves_both_names_as_they_were(store: &Store) {
    let mount = Mount::new(store);
    let old = Content::new(1, MIB);
    fs::write(mount.path("file"), old.bytes()).expect("written");
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(2, MIB);
    fs::rename(mount.path("file"), mount.path("renamed")).expect("renamed");
    writer.die_of(libc::SIGKILL);
    eventually(seconds(5), "the old content is shown", || {
        fs::metadata(mount.path("renamed")).is_ok_and(|m| m.len() == old.size)
    });
    old.assert_file(&mount.path("renamed"));
    assert_eq!(store.keys(), ["renamed"]);
    store.assert_holds("renamed", &old);
}

fn tools_that_rename_work(store: &Store) {
    let mount = Mount::new(store);
    let script = r#"
        set -e
        printf 'one\ntwo\n' > list
        sed -i s/one/three/ list
        sort -o list list
        test "$(cat list)" = "$(printf 'three\ntwo')"
        mkdir -p deep/er && echo x > deep/er/file
        mv deep other && test "$(cat other/er/file)" = x && ! test -e deep
        mv list other/ && test -f other/list
        mv -n other/list other/er/file && test -f other/list
        mv -f other/list other/er/file && ! test -e other/list
        mv -T other/er moved && test "$(head -c 5 moved/file)" = three
    "#;
    let said = run(std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(mount.path("")));
    assert!(said.ok(), "{}{}", said.out, said.err);
    assert_eq!(store.keys(), ["moved/", "moved/file", "other/"]);
}

on_both_stores!(
    a_file_gets_another_name,
    a_file_replaces_another,
    what_cannot_be_renamed_says_why,
    a_directory_gets_another_name_with_all_that_is_below,
    a_file_being_written_is_published_under_its_new_name,
    a_file_that_is_partly_uploaded_stays_where_it_is,
    a_killed_writer_of_a_renamed_file_leaves_both_names_as_they_were,
    tools_that_rename_work,
);

#[test]
fn a_large_file_is_copied_in_parts_by_a_journalled_upload() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let content = Content::new(1, 300 * MIB);
    store
        .server()
        .put_object(&store.bucket, "large", content.bytes());
    let sent = || -> u64 { store.log().records().iter().map(|r| r.received).sum() };
    let before = sent();
    fs::rename(mount.path("large"), mount.path("renamed")).expect("renamed");
    assert!(store.log().count("UploadPartCopy") > 1);
    assert!(sent() - before < MIB, "no bytes go through the machine");
    store.assert_holds("renamed", &content);
    assert_eq!(store.keys(), ["renamed"]);
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn a_rename_that_the_store_refuses_changes_nothing() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--request-timeout", "1s", "--attempts", "2"]);
    fs::create_dir(mount.path("directory")).expect("made");
    for n in 0..5 {
        fs::write(mount.path(&format!("directory/{n}")), "x").expect("written");
    }
    let keys = store.keys();
    for fault in ["error=403", "error=500", "drop-before"] {
        let refused = store
            .faults()
            .script(&format!("op=CopyObject,n=3..:{fault}"));
        let refused = refused.expect("a fault");
        let error = fs::rename(mount.path("directory"), mount.path("other"));
        let error = error.expect_err("refused");
        assert!(
            error.raw_os_error() == Some(libc::EIO) || error.kind() == ErrorKind::PermissionDenied,
            "{error}"
        );
        store.faults().remove(refused);
        assert_eq!(store.keys(), keys, "{fault}");
        let mut text = String::new();
        let file = File::open(mount.path("directory/3"));
        file.expect("open").read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
        assert_eq!(errno(fs::metadata(mount.path("other"))), libc::ENOENT);
    }
    fs::rename(mount.path("directory"), mount.path("other")).expect("renamed");
}

#[test]
fn an_empty_directory_stays_as_it_was_when_the_rename_onto_it_is_refused() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    for (name, mode) in [("directory", 0o755), ("empty", 0o700)] {
        fs::create_dir(mount.path(name)).expect("made");
        fs::set_permissions(mount.path(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    for n in 0..5 {
        fs::write(mount.path(&format!("directory/{n}")), "x").expect("written");
    }
    let keys = store.keys();
    for nth in 1..=6 {
        let refused = format!("op=CopyObject,n={nth}:error=403");
        let refused = store.faults().script(&refused).expect("a fault");
        let error = fs::rename(mount.path("directory"), mount.path("empty"));
        assert_eq!(
            error.expect_err("refused").kind(),
            ErrorKind::PermissionDenied
        );
        store.faults().remove(refused);
        assert_eq!(store.keys(), keys, "{nth}");
        let mode = fs::metadata(mount.path("empty"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700, "{nth}");
    }
    fs::rename(mount.path("directory"), mount.path("empty")).expect("renamed");
    let found = fs::read_dir(mount.path("empty")).expect("listed").count();
    assert_eq!(found, 5);
    assert_eq!(mount.terminate().code(), Some(0));
}

#[test]
fn copies_whose_answers_were_lost_are_taken_back_by_the_next_mount() {
    let (store, place) = (Store::embedded(), Place::default());
    let source = format!("s3://{}", store.bucket);
    let options = ["--request-timeout", "1s", "--attempts", "2"];
    let mount = Mount::within(&place, "mnt", &store, &source, &options);
    fs::create_dir(mount.path("directory")).expect("made");
    for n in 0..5 {
        fs::write(mount.path(&format!("directory/{n}")), "x").expect("written");
    }
    let keys = store.keys();
    let lost = store.faults().script("op=CopyObject,n=3..:drop-after");
    let lost = lost.expect("a fault");
    let error = fs::rename(mount.path("directory"), mount.path("other"));
    assert_eq!(errno(error), libc::EIO);
    store.faults().remove(lost);
    assert!(store.keys().len() > keys.len(), "copies nobody knows of");
    assert_eq!(mount.terminate().code(), Some(0));
    let mount = Mount::within(&place, "mnt", &store, &source, &options);
    eventually(seconds(30), "they are taken back", || store.keys() == keys);
    assert_eq!(mount.terminate().code(), Some(0));
    assert!(place.instances().is_empty());
}

#[test]
fn ten_thousand_files_are_renamed_with_their_directory() {
    let store = Store::embedded();
    for n in 0..10_000 {
        let key = format!("directory/{n:05}");
        store.server().put_object(&store.bucket, &key, "x");
    }
    let mount = Mount::new(&store);
    fs::rename(mount.path("directory"), mount.path("renamed")).expect("renamed");
    let found = fs::read_dir(mount.path("renamed")).expect("listed").count();
    assert_eq!(found, 10_000);
    assert_eq!(errno(fs::metadata(mount.path("directory"))), libc::ENOENT);
}

/// The old name is deleted, and the mount does not know yet that it is done.
#[test]
fn who_reads_or_looks_while_a_file_is_being_renamed_reads_on() {
    let store = Store::embedded();
    let content = Content::new(1, 12 * MIB);
    store
        .server()
        .put_object(&store.bucket, "old", content.bytes());
    let mount = Mount::with(&store, &["--metadata-ttl", "0s"]);
    let (old, new) = (mount.path("old"), mount.path("new"));
    let reader = File::open(&old).expect("open");
    let mut first = [0; 4096];
    reader.read_exact_at(&mut first, 0).expect("read");
    let held = store.faults().script("op=DeleteObject:hold-after");
    let held = held.expect("a fault");
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| fs::rename(&old, &new));
        eventually(seconds(10), "the old key is deleted", || {
            store.faults().fired(held) > 0
        });
        let heads = store.log().count("HeadObject");
        let looking = scope.spawn(|| fs::metadata(&old));
        let reading = scope.spawn(|| content.compare(&reader));
        eventually(seconds(10), "the old name is looked up", || {
            store.log().count("HeadObject") > heads
        });
        store.faults().remove(held);
        renaming.join().expect("no panic").expect("renamed");
        reading.join().expect("no panic").expect("the same bytes");
        if let Err(error) = looking.join().expect("no panic") {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    });
    let mut last = [0; 4096];
    let end = content.size - 4096;
    reader.read_exact_at(&mut last, end).expect("read");
    assert_eq!(last[..], content.range(end..content.size));
    content.assert_file(&new);
    assert_eq!(fs::metadata(&new).expect("metadata").nlink(), 1);
}

#[test]
fn a_store_that_can_rename_does_it_in_one_step() {
    let store = Store::that_renames();
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let content = Content::new(1, 12 * MIB);
    let (old, new) = (mount.path("old"), mount.path("ä new+one"));
    for lost in ["", "drop-before", "drop-after"] {
        fs::write(&old, content.bytes()).expect("written");
        fs::write(&new, "replaced").expect("written");
        let reader = File::open(&old).expect("open");
        store.log().reset();
        if !lost.is_empty() {
            let lost = format!("op=RenameObject,n=1:{lost}");
            store.faults().script(&lost).expect("a fault");
        }
        fs::rename(&old, &new).expect("renamed");
        let tries = if lost.is_empty() { 1 } else { 2 };
        assert_eq!(store.log().count("RenameObject"), tries, "{lost}");
        assert_eq!(store.log().count("CopyObject"), 0, "{lost}");
        assert_eq!(store.log().count("DeleteObject"), 0, "{lost}");
        assert_eq!(errno(fs::metadata(&old)), libc::ENOENT);
        content.assert_file(&new);
        content.compare(&reader).expect("who reads it reads on");
        assert_eq!(store.keys(), ["ä new+one"]);
        store.assert_holds("ä new+one", &content);
        store.faults().clear();
        fs::remove_file(&new).expect("removed");
    }
    // Changed by another client since it was looked at: that is what is renamed.
    fs::write(&old, "ours").expect("written");
    store.put("old", "theirs");
    fs::rename(&old, &new).expect("renamed");
    assert_eq!(fs::read_to_string(&new).expect("read"), "theirs");
    // What is to be said of it is another: the store cannot do that in one step.
    fs::rename(&new, mount.path("page.html")).expect("renamed");
    assert_eq!(store.said_of("page.html").1.as_deref(), Some("text/html"));
    // While it is written it moves too, and what is written follows.
    let mut writer = Writer::start();
    writer.open(&mount.path("page.html"), "wct").write(1, MIB);
    fs::rename(mount.path("page.html"), mount.path("other.html")).expect("renamed");
    assert_eq!(store.get("other.html").as_deref(), Some(&b"theirs"[..]));
    writer.step("close");
    writer.exit(0);
    store.assert_holds("other.html", &Content::new(1, MIB));
    assert_eq!(store.keys(), ["other.html"]);
    assert!(mount.terminate().success());
}

/// What is known of the files of a directory stays known under its new name.
#[test]
fn the_files_of_a_renamed_directory_are_not_asked_for_anew() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    fs::create_dir(mount.path("old")).expect("made");
    for n in 0..20 {
        fs::write(mount.path(&format!("old/{n}")), format!("{n}")).expect("written");
    }
    fs::rename(mount.path("old"), mount.path("new")).expect("renamed");
    store.log().reset();
    for n in 0..20 {
        let file = fs::metadata(mount.path(&format!("new/{n}"))).expect("there");
        assert_eq!(file.len(), n.to_string().len() as u64);
    }
    assert_eq!(store.log().count("HeadObject"), 0);
    // Nor when a listing shows them.
    assert_eq!(fs::read_dir(mount.path("new")).expect("listed").count(), 20);
    for n in 0..20 {
        fs::metadata(mount.path(&format!("new/{n}"))).expect("there");
    }
    assert_eq!(store.log().count("HeadObject"), 0);
    for n in 0..20 {
        let text = fs::read_to_string(mount.path(&format!("new/{n}"))).expect("read");
        assert_eq!(text, n.to_string());
    }
    assert!(mount.terminate().success());
}

#[test]
fn a_rename_that_is_refused_takes_nothing_from_what_is_being_written_to_its_target() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let mut target = File::create(mount.path("target")).expect("made");
    target.write_all(b"precious").expect("written");
    let mut large = Writer::start();
    large.open(&mount.path("large"), "wct");
    large.step(&format!("write 1 {}", 6 * MIB));
    store.await_parts("large", 1);
    let refused = fs::rename(mount.path("large"), mount.path("target"));
    assert_eq!(errno(refused), libc::EBUSY);
    target.write_all(b" and more").expect("it is there still");
    drop(target);
    large.step("close");
    assert_eq!(
        store.get("target").as_deref(),
        Some(&b"precious and more"[..])
    );
    assert_eq!(store.keys(), ["large", "target"]);
}

/// Whether it is small, or has parts in the bucket already.
#[test]
fn a_rename_that_the_store_refuses_takes_nothing_from_what_is_being_written_to_its_target() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    fs::write(mount.path("other"), "other").expect("written");
    for (name, size) in [("small", 3), ("large", 6 * MIB)] {
        store.put(name, "old");
        let mut written = Writer::start();
        written.open(&mount.path(name), "wt").write(1, size);
        if size > MIB {
            store.await_parts(name, 1);
        }
        let refused = store
            .faults()
            .script("op=CopyObject:error=403/AccessDenied");
        let refused = refused.expect("a fault");
        let renamed = fs::rename(mount.path("other"), mount.path(name));
        assert_eq!(errno(renamed), libc::EACCES, "{name}");
        assert_eq!(store.faults().fired(refused), 1, "{name}");
        store.faults().remove(refused);
        written.write(1, 3).step("close");
        store.assert_holds(name, &Content::new(1, size + 3));
        assert!(store.open_uploads().is_empty(), "{name}");
    }
}

#[test]
fn what_a_file_being_written_has_replaced_goes_with_its_name() {
    for moved_on in [false, true] {
        let store = Store::embedded();
        let mount = Mount::new(&store);
        store.put("name", "old");
        let mut new = File::create(mount.path("aside")).expect("made");
        new.write_all(b"new").expect("written");
        fs::rename(mount.path("aside"), mount.path("name")).expect("renamed");
        match moved_on {
            true => fs::rename(mount.path("name"), mount.path("further")).expect("renamed"),
            false => fs::remove_file(mount.path("name")).expect("removed"),
        }
        assert!(!mount.path("name").exists(), "moved on: {moved_on}");
        drop(new);
        let left: &[&str] = if moved_on { &["further"] } else { &[] };
        assert_eq!(store.keys(), left);
        if moved_on {
            assert_eq!(store.get("further").as_deref(), Some(&b"new"[..]));
        }
    }
}

/// Stores that keep directories of their own copy none of their keys (SeaweedFS).
#[test]
fn a_directory_whose_key_is_not_copied_is_renamed() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    fs::create_dir_all(mount.path("directory/sub")).expect("made");
    fs::write(mount.path("directory/file"), "x").expect("written");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(mount.path("directory/sub"), mode).expect("set");
    let refused = store
        .faults()
        .script("op=CopyObject,key=sub/:error=404/NoSuchKey");
    let refused = refused.expect("a fault");
    fs::rename(mount.path("directory"), mount.path("other")).expect("renamed");
    assert!(store.faults().fired(refused) > 0);
    assert!(store.keys().iter().all(|key| key.starts_with("other/")));
    assert!(store.keys().contains(&"other/sub/".to_string()));
    let sub = fs::metadata(mount.path("other/sub")).expect("there");
    assert_eq!(sub.permissions().mode() & 0o777, 0o700);
    assert!(mount.terminate().success());
}
