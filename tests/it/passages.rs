//! What is done in a directory while that is given another name: it is done under the new one, all of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::support::tools::die_with_parent;
use crate::support::{Mount, Store, eventually, seconds};

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
        let hold = store.faults().script(moment).expect("a fault");
        let mut command = Command::new("mv");
        command.args(["-T".as_ref(), old.as_os_str(), new.as_os_str()]);
        die_with_parent(&mut command);
        let mut first = command.spawn().expect("started");
        eventually(seconds(10), "the request has come in", || {
            store.faults().fired(hold) > 0
        });
        first.kill().expect("killed");
        let ended = first.wait().expect("waited for");
        assert!(!ended.success());
        let newer = mount.path("newer");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| fs::rename(&old, &newer));
            for n in 0..300 {
                if second.is_finished() {
                    break;
                }
                let none = mount.path(&format!("elsewhere/none-{n}"));
                fs::metadata(none).expect_err("not there");
            }
            store.faults().remove(hold);
            let second = second.join().expect("no panic");
            let error = second.expect_err("nothing is there");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        });
        assert!(mount.terminate().success());
        assert_eq!(
            store.keys(),
            ["elsewhere/", "new/", "new/stays"],
            "{moment}"
        );
    }
}
