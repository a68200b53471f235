//! A name that is being taken away, and a program that begins to write to the file just then: whichever of the
//! two is through first, nothing is published under a name that is no longer the file's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::channel;

use wholefs::embedded::FaultId;

use crate::support::tools::Job;
use crate::support::{Mount, Store, eventually, seconds};

fn script(store: &Store, fault: &str) -> FaultId {
    store.faults().script(fault).expect("a fault")
}

fn await_fired(store: &Store, fault: FaultId) {
    eventually(seconds(10), "the request has come in", || {
        store.faults().fired(fault) > 0
    });
}

/// Writes it from the beginning, and waits for what becomes of it.
fn write_anew(file: &Path) -> std::io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(file)?;
    file.write_all(WRITTEN)?;
    file.sync_all()
}

const WRITTEN: &[u8] = b"written while the name went";

/// `f` is taken away by `taking`; before the store has heard of it, somebody begins to write `f` anew.
/// Answers what was told to each.
fn written_meanwhile(
    store: &Store,
    mount: &Mount,
    operation: &str,
    taking: impl Fn() -> std::io::Result<()> + Sync,
) -> [std::io::Result<()>; 2] {
    let f = mount.path("f");
    let hold = script(store, &format!("op={operation}:hold-before"));
    std::thread::scope(|scope| {
        let taking = scope.spawn(&taking);
        await_fired(store, hold);
        // The kernel lets the open through, and holds the writer until the name is taken.
        let writing = scope.spawn(|| write_anew(&f));
        eventually(seconds(10), "the file is opened and truncated", || {
            fs::metadata(&f).is_ok_and(|now| now.len() == 0)
        });
        store.faults().remove(hold);
        [taking, writing].map(|thread| thread.join().expect("no panic"))
    })
}

/// A mount that shows at once what becomes of `f`.
fn mount(store: &Store) -> Mount {
    store.put("f", "the old");
    Mount::with(store, &["--metadata-ttl", "0s"])
}

#[test]
fn what_is_begun_while_another_file_takes_the_name_is_never_published() {
    let store = Store::embedded();
    store.put("new", "the new");
    let mount = mount(&store);
    let (f, new) = (mount.path("f"), mount.path("new"));
    let [renamed, written] =
        written_meanwhile(&store, &mount, "CopyObject", || fs::rename(&new, &f));
    renamed.expect("renamed");
    written.expect("as to any file whose name is gone");
    assert_eq!(fs::read(&f).expect("read"), b"the new");
    assert!(mount.terminate().success());
    assert_eq!(store.get("f").as_deref(), Some(&b"the new"[..]));
    assert_eq!(store.keys(), ["f"]);
}

#[test]
fn what_is_begun_while_the_name_is_unlinked_is_never_published() {
    let store = Store::embedded();
    let mount = mount(&store);
    let f = mount.path("f");
    let [removed, written] =
        written_meanwhile(&store, &mount, "DeleteObject", || fs::remove_file(&f));
    removed.expect("removed");
    written.expect("as to any file whose name is gone");
    assert!(!f.exists());
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn what_is_begun_while_a_removal_is_refused_is_published() {
    let store = Store::embedded();
    let mount = mount(&store);
    let f = mount.path("f");
    let refused = script(&store, "op=DeleteObject:error=403");
    let [removed, written] =
        written_meanwhile(&store, &mount, "DeleteObject", || fs::remove_file(&f));
    removed.expect_err("refused");
    written.expect("written");
    store.faults().remove(refused);
    assert!(mount.terminate().success());
    assert_eq!(store.get("f").as_deref(), Some(WRITTEN));
}

#[test]
fn a_removal_goes_on_when_who_asked_for_it_is_killed() {
    let store = Store::embedded();
    let mount = mount(&store);
    let f = mount.path("f");
    let _reader = File::open(&f).expect("opened");
    let hold = script(&store, "op=DeleteObject:hold-before");
    let removing = Job::start("exec rm -f \"$1\"", &[&f]);
    await_fired(&store, hold);
    removing.die_of(libc::SIGKILL);
    store.faults().remove(hold);
    eventually(seconds(10), "it is removed", || {
        store.get("f").is_none() && !f.exists()
    });
    fs::write(&f, WRITTEN).expect("written");
    assert!(mount.terminate().success());
    assert_eq!(store.get("f").as_deref(), Some(WRITTEN));
}

#[test]
fn what_is_written_to_a_replaced_file_is_published_also_when_the_old_name_stays() {
    let store = Store::embedded();
    store.put("new", "the new");
    let mount = mount(&store);
    let (f, new) = (mount.path("f"), mount.path("new"));
    let mut reader = File::open(&f).expect("opened");
    let refused = script(&store, "op=DeleteObject:error=403");
    fs::rename(&new, &f).expect_err("the old name stays");
    store.faults().remove(refused);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read on");
    assert_eq!(text, "the old");
    assert_eq!(fs::read(&f).expect("read"), b"the new");
    fs::write(&f, WRITTEN).expect("written");
    assert!(mount.terminate().success());
    assert_eq!(store.get("f").as_deref(), Some(WRITTEN));
    assert_eq!(store.get("new").as_deref(), Some(&b"the new"[..]));
}

/// Opened while its name goes, and read later: all of the old file, or of the new one.
#[test]
fn who_opens_a_file_while_its_name_goes_waits_for_what_becomes_of_it() {
    for (operation, replaced) in [
        ("CopyObject", true),
        ("DeleteObject", true),
        ("DeleteObject", false),
    ] {
        let store = Store::embedded();
        store.put("new", "the new");
        let mount = mount(&store);
        let (f, new) = (mount.path("f"), mount.path("new"));
        let hold = script(&store, &format!("op={operation}:hold-before"));
        let taking = std::thread::spawn({
            let f = f.clone();
            move || match replaced {
                true => fs::rename(&new, &f),
                false => fs::remove_file(&f),
            }
        });
        await_fired(&store, hold);
        let asked = store.log().count("HeadObject");
        let start = |_| {
            let (f, (taken, when_taken)) = (f.clone(), channel());
            let reading = std::thread::spawn(move || {
                let mut file = File::open(f)?;
                when_taken.recv().expect("it is told");
                let mut text = String::new();
                file.read_to_string(&mut text).map(|_| text)
            });
            (reading, taken)
        };
        // More than one: they must not wait for one another.
        let (readers, told): (Vec<_>, Vec<_>) = (0..4).map(start).unzip();
        // Looked up, and looked at once more for the open; then nothing is under way but what is held.
        eventually(seconds(10), "it is opened", || {
            store.log().count("HeadObject") > asked + 1 && store.log().under_way() == 1
        });
        store.faults().remove(hold);
        taking.join().expect("no panic").expect("taken");
        for taken in told {
            // Who found no file is gone.
            let _ = taken.send(());
        }
        eventually(seconds(20), "all are answered", || {
            readers.iter().all(|reading| reading.is_finished())
        });
        for reading in readers {
            match reading.join().expect("no panic") {
                Ok(text) if replaced => assert!(["the old", "the new"].contains(&&*text), "{text}"),
                Ok(text) => assert_eq!(text, "the old"),
                Err(error) => {
                    assert!(!replaced, "{operation}: {error}");
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
                }
            }
        }
    }
}
