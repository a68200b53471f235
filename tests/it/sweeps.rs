//! Sweeps: many names taken away one after another are answered at once and deleted behind. What that must
//! not be noticed by, and what is left of it when it goes wrong.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use wholefs::embedded::FaultId;

use crate::support::tools::{kill, sh_ok};
use crate::support::{Mount, Store, eventually, on_both_stores, seconds};

const FILES: usize = 20;

/// So many unlinks wait for the store, each, before a sweep is seen.
const WAITED_FOR: usize = 3;

/// A directory of small files, in a mount that asks the store about each name.
fn of_files(store: &Store) -> (Mount, Vec<PathBuf>) {
    store.put("dir/", "");
    for n in 0..FILES {
        store.put(&format!("dir/{n:02}"), format!("the bytes of {n}"));
    }
    let mount = Mount::with(store, &["--metadata-ttl", "0s"]);
    let files = (0..FILES)
        .map(|n| mount.path(&format!("dir/{n:02}")))
        .collect();
    (mount, files)
}

fn script(store: &Store, fault: &str) -> FaultId {
    store.faults().script(fault).expect("a fault")
}

#[track_caller]
fn remove(files: &[PathBuf]) {
    for file in files {
        fs::remove_file(file).expect("removed");
    }
}

fn names(at: &Path) -> Vec<String> {
    let entries = fs::read_dir(at).expect("listed");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

/// The objects of the directory, but for its marker.
fn left(store: &Store) -> Vec<String> {
    let mut keys = store.keys();
    keys.retain(|key| key != "dir/");
    keys
}

#[test]
fn names_of_a_sweep_are_gone_at_once_and_their_keys_soon() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    let mut reader = File::open(&files[10]).expect("opened");
    let hold = script(&store, "op=DeleteObjects:hold-before");
    remove(&files);
    // One that is open is fetched for who has it open, and deleted as ever.
    assert!(left(&store).len() < FILES - WAITED_FOR && !left(&store).is_empty());
    for file in &files {
        let gone = fs::metadata(file).expect_err("it is removed");
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{}", file.display());
        let gone = fs::remove_file(file).expect_err("it is removed");
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{}", file.display());
    }
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read on");
    assert_eq!(text, "the bytes of 10");
    store.faults().remove(hold);
    assert_eq!(names(&mount.path("dir")), [""; 0]);
    eventually(seconds(10), "all is deleted", || left(&store).is_empty());
}

#[test]
fn who_does_something_else_in_between_waits_for_each() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    for (n, file) in files.iter().enumerate() {
        remove(std::slice::from_ref(file));
        assert_eq!(store.get(&format!("dir/{n:02}")), None);
        fs::write(mount.path("dir/other"), [n as u8]).expect("written");
        remove(&[mount.path("dir/other")]);
    }
    assert_eq!(store.log().count("DeleteObjects"), 0);
}

#[test]
fn a_name_that_was_swept_can_be_given_again_at_once() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    // Whoever does not wait for it loses to it.
    script(&store, "op=DeleteObjects:delay=300ms");
    remove(&files);
    fs::write(&files[7], "another").expect("written");
    fs::create_dir(&files[8]).expect("made");
    fs::write(mount.path("new"), "moved here").expect("written");
    fs::rename(mount.path("new"), &files[9]).expect("renamed");
    assert_eq!(names(&mount.path("dir")), ["07", "08", "09"]);
    assert!(mount.terminate().success());
    assert_eq!(left(&store), ["dir/07", "dir/08/", "dir/09"]);
    assert_eq!(store.get("dir/07").as_deref(), Some(&b"another"[..]));
    assert_eq!(store.get("dir/09").as_deref(), Some(&b"moved here"[..]));
}

/// A mount of a directory whose names are more than what one call of the kernel takes.
fn of_very_many_files(store: &Store, many: usize) -> Mount {
    store.put("dir/", "");
    for n in 0..many {
        store.put(&format!("dir/{}", name(n)), "plain");
    }
    Mount::new(store)
}

fn name(n: usize) -> String {
    format!("{n:0200}")
}

/// Reads a directory further, as one does who takes few names at a time. None: that was all.
fn some_names(directory: &File) -> Vec<String> {
    let mut entries = vec![0u8; 4096];
    // SAFETY: the kernel writes no more than there is room for.
    let read = unsafe {
        let (at, room) = (entries.as_mut_ptr(), entries.len());
        libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), at, room)
    };
    entries.truncate(usize::try_from(read).expect("read"));
    let mut names = Vec::new();
    let mut rest = &entries[..];
    // Inode and offset, eight bytes each; the length of all, the kind, and the name until a zero.
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let name = rest[19..length].split(|byte| *byte == 0).next();
        names.push(String::from_utf8_lossy(name.expect("a name")).into_owned());
        rest = &rest[length..];
    }
    names
}

#[test]
fn a_listing_that_was_begun_before_a_sweep_does_not_bring_its_names_back() {
    const MANY: usize = 900;
    let store = Store::embedded();
    let mount = of_very_many_files(&store, MANY);
    let directory = mount.path("dir");
    let reading = File::open(&directory).expect("opened");
    assert!(!some_names(&reading).is_empty());
    // Of the page that was answered, and not told yet.
    let doomed: Vec<PathBuf> = (MANY - 20..MANY).map(|n| directory.join(name(n))).collect();
    let hold = script(&store, "op=DeleteObjects:hold-before");
    remove(&doomed);
    let rest = || Some(some_names(&reading)).filter(|some| !some.is_empty());
    let told: HashSet<String> = std::iter::from_fn(rest).flatten().collect();
    let is_told = |n: usize| told.contains(&name(n));
    assert!(is_told(MANY - 21));
    for (n, file) in (MANY - 20..).zip(&doomed).skip(WAITED_FOR) {
        let gone = fs::metadata(file).expect_err("it is removed");
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{}", file.display());
        assert!(!is_told(n), "{n} is listed");
    }
    store.faults().remove(hold);
    // Who writes a new one has it, whatever was on its way.
    fs::write(&doomed[10], "written anew").expect("written");
    assert!(mount.terminate().success());
    let written = format!("dir/{}", name(MANY - 20 + 10));
    assert_eq!(store.get(&written).as_deref(), Some(&b"written anew"[..]));
    assert_eq!(store.keys().len(), 1 + MANY - doomed.len() + 1);
}

#[test]
fn a_listing_does_not_end_at_names_that_are_all_going() {
    const MANY: usize = 2100;
    let store = Store::embedded();
    let mount = of_very_many_files(&store, MANY);
    let directory = mount.path("dir");
    let reading = File::open(&directory).expect("opened");
    let mut told = HashSet::new();
    // Well into the second page of the store's.
    while !told.contains(&name(1100)) {
        let some = some_names(&reading);
        assert!(!some.is_empty());
        told.extend(some);
    }
    let doomed: Vec<PathBuf> = (1100..2000)
        .filter(|n| !told.contains(&name(*n)))
        .map(|n| directory.join(name(n)))
        .collect();
    script(&store, "op=DeleteObjects:delay=1s");
    remove(&doomed);
    let rest = || Some(some_names(&reading)).filter(|some| !some.is_empty());
    told.extend(std::iter::from_fn(rest).flatten());
    for n in 2000..MANY {
        assert!(told.contains(&name(n)), "{n} is there, and is not listed");
    }
}

#[test]
fn a_directory_is_renamed_without_what_was_swept_from_it() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    script(&store, "op=DeleteObjects:delay=300ms");
    remove(&files[..10]);
    fs::rename(mount.path("dir"), mount.path("moved")).expect("renamed");
    let there: Vec<String> = (10..FILES).map(|n| format!("{n:02}")).collect();
    assert_eq!(names(&mount.path("moved")), there);
    assert!(mount.terminate().success());
    let keys: Vec<String> = there.iter().map(|n| format!("moved/{n}")).collect();
    let mut left = store.keys();
    left.retain(|key| key != "moved/");
    assert_eq!(left, keys);
}

#[test]
fn what_a_sweep_could_not_delete_is_there_again_and_told() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    remove(&files[..WAITED_FOR]);
    // One that is alone in its batch is deleted by itself.
    let refused = ["DeleteObjects", "DeleteObject"]
        .map(|operation| script(&store, &format!("op={operation}:error=403")));
    remove(&files[WAITED_FOR..]);
    let directory = mount.path("dir");
    let error = fs::remove_dir(&directory).expect_err("it is not empty");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let back: Vec<String> = (WAITED_FOR..FILES).map(|n| format!("{n:02}")).collect();
    assert_eq!(names(&directory), back);
    let text = fs::read_to_string(&files[FILES - 1]).expect("it is whole");
    assert_eq!(text, format!("the bytes of {}", FILES - 1));
    // Told once; what is true from now on is that it is not empty.
    let error = fs::remove_dir(&directory).expect_err("it is not empty");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    // fsync of the directory hears of it as well. (Those that are waited for are refused at once.)
    for file in &files[WAITED_FOR..] {
        fs::remove_file(file).ok();
    }
    let synced = File::open(&directory).expect("opened").sync_all();
    assert_eq!(synced.expect_err("refused").raw_os_error(), Some(libc::EIO));
    for refused in refused {
        store.faults().remove(refused);
    }
    sh_ok("rm -r \"$1\"", &[&directory]);
    assert_eq!(store.keys(), [""; 0]);
    let (said, status) = mount.terminate_and_tell();
    assert!(status.success());
    assert!(
        said.contains("its removal was answered, and now it is there again"),
        "{said}"
    );
}

#[test]
fn a_sweep_whose_requests_are_lost_or_refused_for_a_while_deletes_all() {
    for fault in ["drop-before", "drop-after", "error=500", "throttle"] {
        let store = Store::embedded();
        let (mount, files) = of_files(&store);
        remove(&files[..WAITED_FOR]);
        for operation in ["DeleteObjects", "DeleteObject"] {
            script(&store, &format!("op={operation},n=1:{fault}"));
        }
        remove(&files[WAITED_FOR..]);
        fs::remove_dir(mount.path("dir")).expect(fault);
        assert_eq!(store.keys(), [""; 0], "{fault}");
        let (said, status) = mount.terminate_and_tell();
        assert!(status.success() && !said.contains("WARN"), "{said}");
    }
}

#[test]
fn the_sync_of_a_directory_and_the_end_of_the_mount_wait_for_a_sweep() {
    let store = Store::embedded();
    let (mount, files) = of_files(&store);
    let (some, others) = files.split_at(10);
    remove(some);
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(mount.path("dir"));
    directory.expect("opened").sync_all().expect("synced");
    assert_eq!(left(&store).len(), others.len());
    remove(others);
    assert!(mount.unmount().success());
    assert_eq!(left(&store), [""; 0]);
}

#[test]
fn a_daemon_killed_in_a_sweep_leaves_names_of_the_sweep_and_nothing_torn() {
    let store = Store::embedded();
    let (mut mount, files) = of_files(&store);
    script(&store, "op=DeleteObjects:hold-before");
    let some = &files[..FILES - 5];
    remove(some);
    kill(mount.daemon(), libc::SIGKILL);
    mount.wait_for_death();
    store.faults().clear();
    let mount = Mount::new(&store);
    // What was waited for is gone; what was swept may be there, whole; what was not touched is there.
    let there = names(&mount.path("dir"));
    let numbers: Vec<usize> = there
        .iter()
        .map(|name| name.parse().expect("a number"))
        .collect();
    assert!(numbers.iter().all(|n| *n >= WAITED_FOR), "{there:?}");
    assert!(
        (some.len()..FILES).all(|n| numbers.contains(&n)),
        "{there:?}"
    );
    for (name, n) in there.iter().zip(numbers) {
        let text = fs::read_to_string(mount.path("dir").join(name)).expect("whole");
        assert_eq!(text, format!("the bytes of {n}"));
    }
    sh_ok("rm -r \"$1\"", &[&mount.path("dir")]);
    assert_eq!(store.keys(), [""; 0]);
}

fn a_removed_tree_is_gone_for_every_mount(store: &Store) {
    let mount = Mount::new(store);
    let tree = mount.path("tree");
    sh_ok(
        "for d in a b c/d; do mkdir -p \"$1/$d\"; for n in $(seq 30); do echo $n > \"$1/$d/$n\"; done; done",
        &[&tree],
    );
    let other = Mount::new(store);
    assert_eq!(names(&other.path("tree")), ["a", "b", "c"]);
    sh_ok("rm -r \"$1\"", &[&tree]);
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(names(&other.at), [""; 0]);
    assert_eq!(names(&mount.at), [""; 0]);
}

on_both_stores!(a_removed_tree_is_gone_for_every_mount);
