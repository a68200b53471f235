//! The place a mount is at: its directory removed underneath, and tools that look who uses it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::mount::{Place, is_mounted};
use crate::support::tools::{have, kill, run_within, sh_ok};
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

const SIZE: u64 = 12 * MIB;

/// Somebody, to whom the directory is no mount point, removes it: the kernel takes the mount away.
fn remove_underneath(at: &Path) {
    sh_ok(
        "unshare --mount sh -euc 'umount \"$1\"; rmdir \"$1\"' sh \"$1\"",
        &[at],
    );
    assert!(!at.exists() && !is_mounted(at));
}

#[test]
fn whoever_has_a_file_open_when_the_mount_point_is_removed_goes_on() {
    let store = Store::embedded();
    store.put("old", Content::new(1, SIZE).bytes());
    let mut mount = Mount::with(&store, &["--part-size", "5M"]);
    let (mut writer, mut reader) = (Writer::start(), Writer::start());
    writer.open(&mount.path("new"), "wct").write(2, SIZE);
    reader.open(&mount.path("old"), "r");
    remove_underneath(&mount.at);
    reader.step(&format!("check 1 {SIZE}"));
    writer.write(2, SIZE).step("close");
    eventually(seconds(10), "it is published", || {
        store.compare("new", &Content::new(2, 2 * SIZE)).is_ok()
    });
    assert!(!mount.has_ended(), "there is a reader yet");
    reader.step("close");
    // The last one has gone, and nothing was amiss.
    assert_eq!(mount.wait_for_end().code(), Some(0));
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn a_mount_whose_directory_is_removed_ends_well() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    std::fs::write(mount.path("file"), "x").expect("written");
    remove_underneath(&mount.at);
    assert_eq!(mount.wait_for_end().code(), Some(0));

    // Told to end while somebody is there: what is open is given up, as ever.
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let mut writer = Writer::start();
    writer.open(&mount.path("torn"), "wct").write(1, SIZE);
    store.await_parts("torn", 1);
    remove_underneath(&mount.at);
    assert_eq!(mount.terminate().code(), Some(0));
    assert_eq!(store.open_uploads(), []);
    assert_eq!(store.keys(), ["file"]);
}

/// The kernel gives the number of a mount that is gone to the next one.
#[test]
fn who_is_late_to_end_leaves_the_mount_that_came_after() {
    let (store, place) = (Store::embedded(), Place::default());
    let source = format!("s3://{}", store.bucket);
    let options = ["--no-guardian"];
    let mut late = Mount::within(&place, "mnt", &store, &source, &options);
    let (at, daemon) = (late.at.clone(), late.daemon());
    kill(daemon, libc::SIGSTOP);
    let stat = format!("/proc/{daemon}/stat");
    eventually(seconds(10), "it is stopped", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    let path = CString::new(at.as_os_str().as_bytes()).expect("a path");
    // SAFETY: a string that ends.
    assert_eq!(unsafe { libc::umount2(path.as_ptr(), 0) }, 0);
    let mount = Mount::within(&place, "mnt", &store, &source, &options);
    kill(daemon, libc::SIGCONT);
    assert!(late.wait_for_death().success());
    assert!(is_mounted(&at));
    std::fs::write(mount.path("file"), "x").expect("it serves");
    assert!(mount.unmount().success());
}

#[test]
fn fuser_and_lsof_tell_who_uses_a_mount() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let mut user = Writer::start();
    user.open(&mount.path("file"), "wct").write(1, 1);
    for (tool, option) in [("fuser", Some("-m")), ("lsof", Some("-t"))] {
        if !have(tool, "WHOLEFS_REQUIRE_TOOLS") {
            continue;
        }
        let mut command = Command::new(tool);
        let seen = run_within(command.args(option).arg(&mount.at), seconds(30));
        let pids = seen.out.split_whitespace();
        let found = pids.filter_map(|pid| pid.trim_end_matches(char::is_alphabetic).parse().ok());
        let found: Vec<u32> = found.collect();
        assert!(
            found.contains(&user.pid()),
            "{tool}: {}{}",
            seen.out,
            seen.err
        );
    }
    user.step("close");
    store.assert_holds("file", &Content::new(1, 1));
}
