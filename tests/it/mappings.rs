//! What is changed through a mapping, which outlives the descriptor it was made with.

use std::fs::File;
use std::path::Path;

use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

const SIZE: u64 = 6 * MIB + 5;
/// What is there, what a writer closes, and what it changes that to.
const OLD: Content = content(99);
const CLOSED: Content = content(1);
const CHANGED: Content = content(2);

const fn content(seed: u64) -> Content {
    Content { seed, size: SIZE }
}

fn mount() -> (Store, Mount) {
    let store = Store::embedded();
    store.put("file", OLD.bytes());
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    (store, mount)
}

fn mapped(path: &Path) -> Writer {
    let mut writer = Writer::start();
    writer.open(path, "rw").step(&format!("map {SIZE}"));
    writer
}

fn change(writer: &mut Writer, size: u64) {
    writer.step(&format!("poke {} {size}", CHANGED.seed));
}

#[track_caller]
fn assert_changed(store: &Store, mount: Mount) {
    eventually(seconds(5), "what was changed is published", || {
        store.compare("file", &CHANGED).is_ok()
    });
    assert!(mount.terminate().success());
    store.assert_no_uploads_within(5, "the end");
}

#[test]
fn what_was_changed_through_a_mapping_after_the_close_goes_with_a_killed_writer() {
    let (store, mount) = mount();
    let path = mount.path("file");
    let closed = || {
        let mut writer = mapped(&path);
        writer.write(CLOSED.seed, SIZE).step("close");
        store.assert_holds("file", &CLOSED);
        writer
    };
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        for size in [10_000, SIZE] {
            let mut writer = closed();
            change(&mut writer, size);
            writer.die_of(signal);
            let what = format!("{size} bytes changed, signal {signal}");
            eventually(seconds(5), &what, || {
                let file = File::open(&path);
                file.is_ok_and(|file| CLOSED.compare(file).is_ok())
            });
            store.assert_no_uploads_within(5, &what);
            store.assert_holds("file", &CLOSED);
        }
    }
    let mut writer = closed();
    change(&mut writer, SIZE);
    writer.exit(0);
    assert_changed(&store, mount);
}

/// The kernel hands over the changed pages of all of them when one of them dies.
#[test]
fn what_was_changed_through_a_mapping_stays_when_another_who_has_mapped_it_is_killed() {
    let (store, mount) = mount();
    let path = mount.path("file");
    let (mut writer, mut other) = (mapped(&path), mapped(&path));
    writer.step("close");
    other.step("close");
    change(&mut writer, SIZE);
    other.die_of(libc::SIGKILL);
    writer.exit(0);
    assert_changed(&store, mount);
}
