//! What is changed through a mapping, which outlives the descriptor it was made with.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
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

/// Pages have their place, and so has what is written when O_APPEND was taken back.
#[test]
fn what_is_changed_in_a_file_that_is_open_for_appending_stays_where_it_is() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("log");
    for way in ["a mapping", "without O_APPEND"] {
        store.put("log", vec![b'a'; 10_000]);
        let mut log = File::options()
            .read(true)
            .append(true)
            .open(&path)
            .expect("open");
        if way == "a mapping" {
            change_through_a_mapping(&log, b"HELLO");
        } else {
            // SAFETY: no pointers involved; the descriptor is open.
            assert_eq!(unsafe { libc::fcntl(log.as_raw_fd(), libc::F_SETFL, 0) }, 0);
            log.write_all_at(b"HELLO", 0).expect("written");
            // SAFETY: as before.
            let back = unsafe { libc::fcntl(log.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) };
            assert_eq!(back, 0);
        }
        log.write_all(b"end").expect("appended");
        log.sync_all().expect("published");
        drop(log);
        let mut expected = vec![b'a'; 10_000];
        expected[..5].copy_from_slice(b"HELLO");
        expected.extend_from_slice(b"end");
        assert!(store.get("log").expect("there") == expected, "{way}");
    }
    assert!(mount.terminate().success());
}

/// Page by page, when it is unmapped at the latest.
fn change_through_a_mapping(file: &File, text: &[u8]) {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a page that the file has, used as such and unmapped once.
    unsafe {
        let fd = file.as_raw_fd();
        let at = libc::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            libc::MAP_SHARED,
            fd,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        std::ptr::copy_nonoverlapping(text.as_ptr(), at.cast(), text.len());
        assert_eq!(libc::msync(at, 4096, libc::MS_SYNC), 0);
        assert_eq!(libc::munmap(at, 4096), 0);
    }
}

/// The copy that says it is made of what is there; what is changed meanwhile is changed in that.
#[test]
fn what_is_changed_through_a_mapping_while_its_mode_is_changed_is_not_lost() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("file");
    for round in 0..4 {
        store.put("file", vec![b'a'; 10_000]);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.expect("open");
        let slow = store.faults().script("op=CopyObject:delay=400ms");
        let slow = slow.expect("a fault");
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let mode = Permissions::from_mode(0o600 + round);
                std::fs::set_permissions(&path, mode).expect("changed");
            });
            eventually(seconds(10), "it is being copied", || {
                store.faults().fired(slow) > 0
            });
            change_through_a_mapping(&file, b"HELLO");
            file.sync_all().expect("published");
            drop(file);
            changing.join().expect("changed");
        });
        store.faults().remove(slow);
        let there = store.get("file").expect("there");
        assert!(there.starts_with(b"HELLOaaa"), "{round}");
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600 + round);
    }
    assert!(mount.terminate().success());
}
