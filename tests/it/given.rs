//! A mount that the caller has made, and whose descriptor he names as the mount point: `/dev/fd/N`.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::host::Host;
use crate::support::mount::{PROGRAM, detach, is_mounted, umount};
use crate::support::room::USER;
use crate::support::tools::{Outcome, kill, run, run_within};
use crate::support::{Content, MIB, Writer, eventually, seconds};

const SIZE: u64 = 12 * MIB;

/// What the program gets it as.
const NUMBER: i32 = 10;

/// Opens /dev/fuse and mounts, for this user.
fn mount(at: &Path, user: u32, options: &str) -> File {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.expect("tests run as root");
    let text = |text: &[u8]| CString::new(text).expect("no NUL");
    let at = text(at.as_os_str().as_bytes());
    let options = format!(
        "fd={},rootmode=40000,user_id={user},group_id={user},{options}",
        device.as_raw_fd()
    );
    let options = text(options.as_bytes());
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: strings that end and outlive the call.
    let done = unsafe {
        libc::mount(
            c"launched".as_ptr(),
            at.as_ptr(),
            c"fuse.wholefs".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(done, 0, "mount: {}", std::io::Error::last_os_error());
    device
}

/// Starts the program with the descriptor; it answers when it serves.
fn serve(host: &Host, device: &File, user: u32, further: &[&str]) -> Outcome {
    let program = host.place.path("wholefs");
    // Not copied by us, see `Room`.
    let copied = run(Command::new("cp").arg("-u").arg(PROGRAM).arg(&program));
    assert!(copied.ok(), "{}", copied.err);
    let mut command = host.command(&program);
    let source = format!("s3://{}", host.store.bucket);
    let descriptor = format!("/dev/fd/{NUMBER}");
    command
        .args(["mount", &source, &descriptor, "-o", &host.words()])
        .args(further)
        .uid(user)
        .gid(user);
    let device = device.as_raw_fd();
    // SAFETY: a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::dup2(device, NUMBER) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    run_within(&mut command, seconds(30))
}

/// Mounted and served, and the descriptor the program's alone.
#[track_caller]
fn served(user: u32, options: &str) -> Host {
    let host = Host::new();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(host.place.path(""), open).expect("our own");
    fs::create_dir(host.place.state()).expect("made");
    chown(host.place.state(), Some(user), Some(user)).expect("tests run as root");
    let device = mount(&host.at, user, options);
    let done = serve(&host, &device, user, &[]);
    assert!(done.ok(), "{}", done.err);
    host
}

/// The process that serves.
fn daemon(host: &Host) -> u32 {
    let state = host.place.state().display().to_string();
    let said = host.wholefs(&["status", "--json", "--state-dir", &state]);
    let mounts: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let pid = mounts[0]["pid"].as_u64().expect("a mount");
    // It tells where it is as well.
    assert_eq!(mounts[0]["mount_point"], host.at.display().to_string());
    u32::try_from(pid).expect("a pid")
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_mount_that_the_caller_made_is_served_until_it_is_unmounted() {
    let host = served(0, "default_permissions,allow_other");
    let (content, daemon) = (Content::new(1, SIZE), daemon(&host));
    fs::write(host.at.join("file"), content.bytes()).expect("written");
    host.store.assert_holds("file", &content);
    content.assert_file(&host.at.join("file"));
    let mut writer = Writer::start();
    writer.open(&host.at.join("torn"), "wct").write(1, SIZE);
    writer.die_of(libc::SIGKILL);
    host.store
        .assert_no_uploads_within(5, "its writer was killed");
    umount(&host.at);
    eventually(seconds(30), "the daemon ends", || !is_there(daemon));
    assert_eq!(host.store.keys(), ["file"]);

    // By its own command as well, which waits.
    let host = served(0, "default_permissions");
    fs::write(host.at.join("file"), "x").expect("written");
    assert!(host.unmount().ok());
    assert!(!is_mounted(&host.at));
    assert_eq!(host.store.keys(), ["file"]);
}

#[test]
fn a_signal_takes_a_given_mount_away_and_a_death_clears_it() {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let host = served(0, "default_permissions");
        let daemon = daemon(&host);
        let mut writer = Writer::start();
        writer.open(&host.at.join("torn"), "wct").write(1, SIZE);
        host.store.await_parts("torn", 1);
        kill(daemon, signal);
        eventually(seconds(30), "the mount is gone", || !is_mounted(&host.at));
        eventually(seconds(30), "the daemon has ended", || !is_there(daemon));
        let refused = writer.attempt("write 1 1").expect_err("the mount is gone");
        assert_eq!(refused, libc::ENOTCONN);
        host.store
            .assert_no_uploads_within(30, "the daemon has ended");
        assert_eq!(host.store.keys(), Vec::<String>::new());
    }
}

#[test]
fn a_program_without_any_right_serves_what_it_is_given() {
    let host = served(USER, "default_permissions,allow_other");
    let content = Content::new(1, SIZE);
    // Its files are its user's; root may do all.
    fs::write(host.at.join("file"), content.bytes()).expect("written");
    host.store.assert_holds("file", &content);
    let daemon = daemon(&host);
    kill(daemon, libc::SIGTERM);
    eventually(seconds(30), "the daemon has ended", || !is_there(daemon));
}

#[test]
fn mount_fuse3_drops_its_privileges_and_gives_the_mount() {
    let host = Host::new();
    let mut command = host.command(Path::new("/sbin/mount.fuse3"));
    let words = format!("{},drop_privileges,default_permissions", host.words());
    let what = format!("{PROGRAM}#s3://{}", host.store.bucket);
    command.arg(what).arg(&host.at).args(["-o", &words]);
    if !Path::new("/sbin/mount.fuse3").exists() {
        return crate::support::tools::shout("SKIPPED: no mount.fuse3 here");
    }
    let done = run_within(&mut command, seconds(30));
    assert!(done.ok(), "{}", done.err);
    let daemon = daemon(&host);
    let status = fs::read_to_string(format!("/proc/{daemon}/status")).expect("it runs");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    fs::write(host.at.join("file"), "x").expect("written");
    assert_eq!(host.store.get("file").as_deref(), Some(&b"x"[..]));
    umount(&host.at);
    eventually(seconds(30), "the daemon ends", || !is_there(daemon));
}

#[test]
fn what_is_no_mount_or_cannot_be_had_of_one_is_refused() {
    let host = Host::new();
    let null = File::open("/dev/null").expect("opened");
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    let fuse = fuse.expect("tests run as root");
    for (device, further, said) in [
        (&null, &[][..], "is not /dev/fuse"),
        (&fuse, &[], "nothing is mounted by it"),
        (&fuse, &["--restart"], "--restart"),
    ] {
        let refused = serve(&host, device, 0, further);
        assert!(!refused.ok(), "{said}");
        assert!(refused.err.contains(said), "{}", refused.err);
        assert_eq!(refused.err.trim_end().lines().count(), 1, "{}", refused.err);
    }
    for (options, further, said) in [
        (
            "default_permissions",
            &["--read-only"][..],
            "mount it with ro",
        ),
        ("allow_other", &[], "default_permissions"),
    ] {
        let device = mount(&host.at, 0, options);
        let refused = serve(&host, &device, 0, further);
        // Nobody serves it, so nobody may look at it before it is gone.
        drop(device);
        detach(&host.at);
        assert!(refused.err.contains(said), "{}", refused.err);
    }
}
