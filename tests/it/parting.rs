//! A name that is being taken away, and a program that begins to write to the file just then: whichever of the
//! two is through first, nothing is published under a name that is no longer the file's.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use wholefs::embedded::FaultId;

use crate::support::{Mount, Store, eventually, seconds};

fn script(store: &Store, fault: &str) -> FaultId {
    store.faults().script(fault).expect("a fault")
}

fn await_fired(store: &Store, fault: FaultId) {
    eventually(seconds(10), "the request has come in", || {
        store.faults().fired(fault) > 0
    });
}

fn truncated(file: &Path) -> File {
    File::options()
        .write(true)
        .truncate(true)
        .open(file)
        .expect("open")
}

/// Writes it to its end, whatever comes of it.
fn written_to(mut file: File) -> std::io::Result<()> {
    file.write_all(b"written while the name went")?;
    file.sync_all()
}

#[test]
fn what_is_begun_while_another_file_takes_the_name_is_never_published() {
    let store = Store::embedded();
    store.put("f", "the old");
    store.put("new", "the new");
    let mount = Mount::new(&store);
    let (f, new) = (mount.path("f"), mount.path("new"));
    fs::metadata(&f).expect("there");
    let hold = script(&store, "op=CopyObject:hold-before");
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| fs::rename(&new, &f));
        await_fired(&store, hold);
        let begun = truncated(&f);
        store.faults().remove(hold);
        renaming.join().expect("no panic").expect("renamed");
        written_to(begun).expect("as to any file whose name is gone");
    });
    assert_eq!(fs::read(&f).expect("read"), b"the new");
    assert!(mount.terminate().success());
    assert_eq!(store.get("f").as_deref(), Some(&b"the new"[..]));
    assert_eq!(store.keys(), ["f"]);
}

#[test]
fn what_is_begun_while_the_name_is_unlinked_is_never_published() {
    let store = Store::embedded();
    store.put("f", "the old");
    let mount = Mount::new(&store);
    let f = mount.path("f");
    fs::metadata(&f).expect("there");
    let hold = script(&store, "op=DeleteObject:hold-before");
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| fs::remove_file(&f));
        await_fired(&store, hold);
        let begun = truncated(&f);
        store.faults().remove(hold);
        removing.join().expect("no panic").expect("removed");
        written_to(begun).expect("as to any file whose name is gone");
    });
    assert!(!f.exists());
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn what_is_begun_while_a_removal_is_refused_is_published() {
    let store = Store::embedded();
    store.put("f", "the old");
    let mount = Mount::new(&store);
    let f = mount.path("f");
    fs::metadata(&f).expect("there");
    let hold = script(&store, "op=DeleteObject:hold-before");
    let refused = script(&store, "op=DeleteObject:error=403");
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| fs::remove_file(&f));
        await_fired(&store, hold);
        let begun = truncated(&f);
        store.faults().remove(hold);
        removing.join().expect("no panic").expect_err("refused");
        written_to(begun).expect("written");
    });
    store.faults().remove(refused);
    assert!(mount.terminate().success());
    let expected = b"written while the name went";
    assert_eq!(store.get("f").as_deref(), Some(&expected[..]));
}

#[test]
fn a_file_is_not_unlinked_while_the_store_may_still_publish_it() {
    let store = Store::embedded();
    let more = ["--request-timeout", "1s", "--attempts", "1"];
    let mount = Mount::with(&store, &more);
    let f = mount.path("f");
    let silent = script(&store, "op=PutObject:hang-before");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| written_to(File::create(&f).expect("created")));
        await_fired(&store, silent);
        let refused = fs::remove_file(&f).expect_err("it may come yet");
        assert_eq!(refused.raw_os_error(), Some(libc::EIO));
        writing
            .join()
            .expect("no panic")
            .expect_err("not published");
    });
    store.faults().remove(silent);
    let (said, status) = mount.terminate_and_tell();
    assert!(status.success());
    assert!(
        said.contains("does not say whether it was published"),
        "{said}"
    );
}
