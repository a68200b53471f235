//! What is done in a directory while that is given another name: it is done under the new one, all of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use wholefs::embedded::{FaultId, Keep, Options, Prefill};

use crate::support::tools::die_with_parent;
use crate::support::{Content, MIB, Mount, Store, eventually, seconds};

/// What is in the directory before.
const BEFORE: [&str; 9] = [
    "", "stays", "appended", "anew", "cut", "said", "inner", "gone", "sub/",
];

/// Each by a program of its own, whose working directory it is.
const DONE: [&str; 11] = [
    "echo made > made",
    "echo made > sub/made",
    "echo more >> appended",
    "echo anew > anew",
    "truncate -s 3 cut",
    "chmod 600 said",
    "mkdir dir",
    "ln -s target link",
    "mv inner moved",
    "rm gone",
    "touch -d 2001-02-03 stays",
];

const AFTER: [&str; 12] = [
    "", "anew", "appended", "cut", "dir/", "link", "made", "moved", "said", "stays", "sub/",
    "sub/made",
];

fn start(script: &str, inside: &File) -> Child {
    let inside = inside.as_raw_fd();
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    die_with_parent(&mut command);
    // Its name may lead nowhere just now.
    // SAFETY: a plain system call; the descriptor is open as long as this process is in the test.
    unsafe {
        command.pre_exec(move || match libc::fchdir(inside) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().expect("started")
}

/// While the first copy is on its way, and when all is copied and nothing deleted.
#[test]
fn what_is_done_in_a_directory_that_is_being_renamed_has_its_new_name() {
    for moment in [
        "op=CopyObject,key=new/stays:hold-before",
        "op=DeleteObject,key=old/stays:hold-before",
    ] {
        let store = Store::embedded();
        store.put("elsewhere/", "");
        for name in BEFORE {
            store.put(&format!("old/{name}"), "the old");
        }
        let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
        let (old, new) = (mount.path("old"), mount.path("new"));
        // What is in it can be asked for while the kernel keeps the root for the rename.
        let elsewhere = mount.path("elsewhere");
        fs::metadata(&elsewhere).expect("there");
        let inside = File::open(&old).expect("opened");
        for entry in fs::read_dir(&old).expect("listed") {
            fs::metadata(entry.expect("an entry").path()).expect("there");
        }
        let hold = store.faults().script(moment).expect("a fault");
        std::thread::scope(|scope| {
            let renaming = scope.spawn(|| fs::rename(&old, &new));
            eventually(seconds(10), "the request has come in", || {
                store.faults().fired(hold) > 0
            });
            let mut doing = DONE.map(|script| start(script, &inside));
            // In the time of so many questions to the store they would be through, if they did not wait.
            for n in 0..300 {
                fs::metadata(elsewhere.join(format!("none-{n}"))).expect_err("not there");
            }
            let ended = doing.each_mut().map(|one| one.try_wait().expect("asked"));
            store.faults().remove(hold);
            renaming.join().expect("no panic").expect("renamed");
            for (script, one) in DONE.iter().zip(&mut doing) {
                let status = one.wait().expect("waited for");
                assert!(status.success(), "{moment}: {script}: {status}");
            }
            assert_eq!(ended, [None; DONE.len()], "{moment}: {DONE:?}");
        });
        drop(inside);
        assert!(mount.terminate().success());
        let mut keys = AFTER.map(|name| format!("new/{name}")).to_vec();
        keys.insert(0, "elsewhere/".into());
        assert_eq!(store.keys(), keys, "{moment}");
        for (name, text) in [
            ("made", "made\n"),
            ("sub/made", "made\n"),
            ("appended", "the oldmore\n"),
            ("anew", "anew\n"),
            ("cut", "the"),
            ("said", "the old"),
            ("moved", "the old"),
            ("stays", "the old"),
        ] {
            let found = store.get(&format!("new/{name}"));
            assert_eq!(found.as_deref(), Some(text.as_bytes()), "{moment}: {name}");
        }
        let (said, _) = store.said_of("new/said");
        assert_eq!(said.get("mode").map(String::as_str), Some("33152"));
        let (said, _) = store.said_of("new/stays");
        let time = said.get("mtime").expect("a time");
        assert!(time.starts_with("9811"), "{time}");
    }
}

/// Its caller is gone before there is a standstill, and everything goes on.
#[test]
fn a_rename_that_is_given_up_while_it_waits_holds_nobody_up() {
    let store = Store::embedded();
    for name in ["old/", "old/stays"] {
        store.put(name, "the old");
    }
    let mount = Mount::with(&store, &[]);
    let (old, new) = (mount.path("old"), mount.path("new"));
    let hold = store
        .faults()
        .script("op=PutObject,key=old/dir/:hold-before");
    let hold = hold.expect("a fault");
    std::thread::scope(|scope| {
        let making = scope.spawn(|| fs::create_dir(old.join("dir")));
        eventually(seconds(10), "the request has come in", || {
            store.faults().fired(hold) > 0
        });
        let mut command = Command::new("mv");
        command.args(["-T".as_ref(), old.as_os_str(), new.as_os_str()]);
        die_with_parent(&mut command);
        let mut renaming = command.spawn().expect("started");
        let waits = format!("/proc/{}/wchan", renaming.id());
        eventually(seconds(10), "it waits for its answer", || {
            fs::read_to_string(&waits).is_ok_and(|at| at.contains("request_wait_answer"))
        });
        renaming.kill().expect("killed");
        let ended = renaming.wait().expect("waited for");
        assert!(!ended.success());
        store.faults().remove(hold);
        making.join().expect("no panic").expect("made");
    });
    // It was renamed all the same, or it was not; the file can be written under the name that it has.
    let at = if new.exists() { &new } else { &old };
    fs::write(at.join("made"), "made").expect("written");
    assert!(mount.terminate().success());
    let keys = store.keys();
    let at = if keys[0].starts_with("new/") {
        "new"
    } else {
        "old"
    };
    let expected = ["", "dir/", "made", "stays"].map(|name| format!("{at}/{name}"));
    assert_eq!(keys, expected);
}

/// Opened and emptied while its copy is on its way: it is the same file, by its new name.
#[test]
fn a_file_that_is_written_anew_while_it_is_renamed_is_so_under_its_new_name() {
    let store = Store::embedded();
    store.put("old", "the old");
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let (old, new) = (mount.path("old"), mount.path("new"));
    fs::metadata(&old).expect("there");
    let hold = store.faults().script("op=CopyObject:hold-before");
    let hold = hold.expect("a fault");
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| fs::rename(&old, &new));
        eventually(seconds(10), "the request has come in", || {
            store.faults().fired(hold) > 0
        });
        let mut command = Command::new("dd");
        command.args(["conv=nocreat", "status=none"]);
        command.arg(format!("of={}", old.display()));
        command.stdin(Stdio::piped());
        die_with_parent(&mut command);
        let mut writing = command.spawn().expect("started");
        let at = format!("/proc/{}", writing.id());
        eventually(
            seconds(10),
            "it has the file open, or waits for that",
            || {
                let opened = fs::read_link(format!("{at}/fd/1")).is_ok_and(|at| at == old);
                let waits = fs::read_to_string(format!("{at}/wchan"));
                opened || waits.is_ok_and(|at| at.contains("request_wait_answer"))
            },
        );
        store.faults().remove(hold);
        renaming.join().expect("no panic").expect("renamed");
        let mut input = writing.stdin.take().expect("a pipe");
        input.write_all(b"anew").expect("taken");
        drop(input);
        assert!(writing.wait().expect("waited for").success());
    });
    assert_eq!(fs::read(&new).expect("read"), b"anew");
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), ["new"]);
    assert_eq!(store.get("new").as_deref(), Some(&b"anew"[..]));
}

/// The first goes on when its caller is killed; the second finds nothing there any more.
#[test]
fn a_directory_that_is_being_renamed_is_not_renamed_a_second_time() {
    for moment in [
        "op=CopyObject,key=new/stays:hold-before",
        "op=DeleteObject,key=old/stays:hold-before",
    ] {
        let store = Store::embedded();
        for name in ["elsewhere/", "old/", "old/stays"] {
            store.put(name, "the old");
        }
        let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
        let (old, new) = (mount.path("old"), mount.path("new"));
        fs::metadata(old.join("stays")).expect("there");
        let hold = killed_while_renaming(&store, &old, &new, moment);
        let newer = mount.path("newer");
        let second = meanwhile(&mount, &store, hold, || fs::rename(&old, &newer));
        let error = second.expect_err("nothing is there");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        assert!(mount.terminate().success());
        assert_eq!(
            store.keys(),
            ["elsewhere/", "new/", "new/stays"],
            "{moment}"
        );
    }
}

/// Begins to rename, and is killed when the store has been asked for this; the rename goes on.
fn killed_while_renaming(store: &Store, from: &Path, to: &Path, moment: &str) -> FaultId {
    let hold = store.faults().script(moment).expect("a fault");
    let mut command = Command::new("mv");
    command.args(["-T".as_ref(), from.as_os_str(), to.as_os_str()]);
    die_with_parent(&mut command);
    let mut renaming = command.spawn().expect("started");
    eventually(seconds(10), "the request has come in", || {
        store.faults().fired(hold) > 0
    });
    renaming.kill().expect("killed");
    assert!(!renaming.wait().expect("waited for").success());
    hold
}

/// Does this, and lets the store go on when so much time has gone that it would be done if it did not wait.
fn meanwhile<T: Send>(
    mount: &Mount,
    store: &Store,
    hold: FaultId,
    done: impl FnOnce() -> T + Send,
) -> T {
    // What is in it can be asked for while the kernel keeps the root for what is done.
    fs::metadata(mount.path("elsewhere")).expect("there");
    std::thread::scope(|scope| {
        let doing = scope.spawn(done);
        for n in 0..300 {
            if doing.is_finished() {
                break;
            }
            let none = mount.path(&format!("elsewhere/none-{n}"));
            fs::metadata(none).expect_err("not there");
        }
        store.faults().remove(hold);
        doing.join().expect("no panic")
    })
}

/// Its old key is deleted when the other file is there, else.
#[test]
fn a_file_that_takes_the_name_of_one_whose_rename_goes_on_keeps_it() {
    let store = Store::embedded();
    for (name, text) in [
        ("elsewhere/", ""),
        ("file", "the old"),
        ("other", "the other"),
    ] {
        store.put(name, text);
    }
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let [file, moved, other] = ["file", "moved", "other"].map(|name| mount.path(name));
    for path in [&file, &other, &mount.path("elsewhere")] {
        fs::metadata(path).expect("there");
    }
    let moment = "op=DeleteObject,key=file:hold-before";
    let hold = killed_while_renaming(&store, &file, &moved, moment);
    meanwhile(&mount, &store, hold, || fs::rename(&other, &file)).expect("renamed");
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), ["elsewhere/", "file", "moved"]);
    assert_eq!(store.get("file").as_deref(), Some(&b"the other"[..]));
    assert_eq!(store.get("moved").as_deref(), Some(&b"the old"[..]));
}

#[test]
fn a_file_whose_rename_goes_on_is_not_removed_by_its_old_name() {
    let store = Store::embedded();
    for (name, text) in [("elsewhere/", ""), ("file", "the old")] {
        store.put(name, text);
    }
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let [file, moved] = ["file", "moved"].map(|name| mount.path(name));
    for path in [&file, &mount.path("elsewhere")] {
        fs::metadata(path).expect("there");
    }
    let moment = "op=DeleteObject,key=file:hold-before";
    let hold = killed_while_renaming(&store, &file, &moved, moment);
    let removed = meanwhile(&mount, &store, hold, || fs::remove_file(&file));
    assert_eq!(
        removed.expect_err("moved").raw_os_error(),
        Some(libc::ENOENT)
    );
    fs::write(&file, "the new").expect("written");
    assert_eq!(fs::read(&moved).expect("read"), b"the old");
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), ["elsewhere/", "file", "moved"]);
    assert_eq!(store.get("file").as_deref(), Some(&b"the new"[..]));
}

#[test]
fn a_directory_does_not_take_a_name_whose_keys_are_being_deleted() {
    let store = Store::embedded();
    for (name, text) in [
        ("elsewhere/", ""),
        ("now/", ""),
        ("now/file", "the old"),
        ("next/", ""),
        ("next/file", "the next"),
    ] {
        store.put(name, text);
    }
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let [now, old, next] = ["now", "old", "next"].map(|name| mount.path(name));
    for path in [&now, &next, &mount.path("elsewhere")] {
        fs::metadata(path).expect("there");
    }
    let moment = "op=DeleteObject,key=now/file:hold-before";
    let hold = killed_while_renaming(&store, &now, &old, moment);
    let taken = meanwhile(&mount, &store, hold, || fs::rename(&next, &now));
    assert_eq!(
        taken.expect_err("not yet").raw_os_error(),
        Some(libc::EBUSY)
    );
    eventually(seconds(10), "the name is free", || {
        fs::rename(&next, &now).is_ok()
    });
    assert!(mount.terminate().success());
    let keys = ["elsewhere/", "now/", "now/file", "old/", "old/file"];
    assert_eq!(store.keys(), keys);
    assert_eq!(store.get("now/file").as_deref(), Some(&b"the next"[..]));
    assert_eq!(store.get("old/file").as_deref(), Some(&b"the old"[..]));
}

/// What another client has replaced meanwhile is not mixed with what was changed here.
#[test]
fn a_change_of_what_another_client_has_replaced_is_not_published_under_a_new_name() {
    for (from, to, key) in [
        ("dir/file", "dir/renamed", "dir/renamed"),
        ("dir", "other", "other/file"),
    ] {
        let store = Store::embedded();
        let [old, theirs] = [1, 2].map(|seed| Content::new(seed, 12 * MIB));
        store.put("dir/file", old.bytes());
        let mount = Mount::with(&store, &["--part-size", "5M"]);
        let mut options = File::options();
        let file = options.write(true).open(mount.path("dir/file"));
        let file = file.expect("opened");
        file.write_all_at(b"changed", 6 * MIB).expect("written");
        store.put("dir/file", theirs.bytes());
        fs::rename(mount.path(from), mount.path(to)).expect("renamed");
        file.sync_all().expect_err("what it was begun over is gone");
        drop(file);
        store.assert_holds(key, &theirs);
        assert!(mount.terminate().success());
        assert_eq!(store.open_uploads(), []);
    }
}

/// The pages that were asked for before, and those under the new name: every name once.
#[test]
fn a_directory_that_is_renamed_while_it_is_read_is_read_to_its_end() {
    let store = Store::embedded_with(Options {
        keep: Keep::Null,
        ..Options::default()
    });
    // So long that a program does not get all of a page at once.
    let key = format!("d/{}", "n".repeat(200));
    let prefill = Prefill {
        key,
        count: Some(3_500),
        size: 1,
    };
    store.server().prefill(&store.bucket, &prefill);
    let mount = Mount::with(&store, &["--metadata", "none"]);
    let mut entries = fs::read_dir(mount.path("d")).expect("opened");
    let first = entries.next().expect("there is one").expect("listed");
    fs::rename(mount.path("d"), mount.path("e")).expect("renamed");
    let rest = entries.map(|entry| entry.expect("listed").file_name());
    let mut names: Vec<_> = std::iter::once(first.file_name()).chain(rest).collect();
    assert_eq!(names.len(), 3_500);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3_500, "each comes once");
}
