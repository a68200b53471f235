//! How a mount ends: what was closed is kept, what is open is given up, nothing is left behind.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::support::calling::Calling;
use crate::support::mount::{detach, is_mounted, mount_command, umount};
use crate::support::tools::{Job, die_with_parent, run, sh, sh_ok};
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, on_both_stores, seconds};

fn mount(store: &Store) -> Mount {
    store.put("old", "the old object");
    Mount::with(store, &["--part-size", "5M"])
}

/// Files closed and files open, of one part and of several, new and old.
fn open_and_closed(mount: &Mount) -> Vec<Writer> {
    for (file, size) in [("closed", 12 * MIB), ("small", 1)] {
        Writer::start()
            .open(&mount.path(file), "wct")
            .write(1, size)
            .step("close");
    }
    let open = [
        ("open", 12 * MIB),
        ("open-small", 1),
        ("open-empty", 0),
        ("old", 12 * MIB),
    ];
    let open = open.into_iter().map(|(file, size)| {
        let mut writer = Writer::start();
        writer.open(&mount.path(file), "wct").write(1, size);
        writer
    });
    open.collect()
}

#[track_caller]
fn assert_closed_ones_alone(store: &Store) {
    assert_eq!(store.keys(), ["closed", "old", "small"]);
    store.assert_holds("closed", &Content::new(1, 12 * MIB));
    store.assert_holds("small", &Content::new(1, 1));
    assert_eq!(store.get("old").as_deref(), Some(&b"the old object"[..]));
    assert_eq!(store.open_uploads(), []);
}

pub fn a_signal_to_the_daemon_keeps_closed_files_and_gives_up_open_ones(store: &Store) {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mount = mount(store);
        let writers = open_and_closed(&mount);
        let begun = Instant::now();
        crate::support::tools::kill(mount.pid(), signal);
        let status = mount.wait_for_end();
        assert_eq!(status.code(), Some(0));
        assert!(begun.elapsed() < seconds(15), "{:?}", begun.elapsed());
        assert_closed_ones_alone(store);
        for mut writer in writers {
            let refused = writer.attempt("write 1 1").expect_err("the mount is gone");
            assert_eq!(refused, libc::ENOTCONN);
        }
        for key in ["closed", "small"] {
            store.delete(key);
        }
    }
}

/// One copy of a descriptor is closed by who ends well, as the shell's children do, and another is kept.
fn a_signal_gives_up_what_is_open_by_a_copy_of_its_descriptor(store: &Store) {
    let mount = mount(store);
    let script = "exec 3> \"$1/open\"; head -c 12000000 /dev/zero >&3; : > \"$2\"; exec sleep 600";
    let written = mount.aside("written");
    let job = Job::start(script, &[&mount.at, &written]);
    eventually(seconds(30), "it is written", || written.exists());
    crate::support::tools::kill(mount.pid(), libc::SIGTERM);
    assert_eq!(mount.wait_for_end().code(), Some(0));
    job.die_of(libc::SIGKILL);
    assert_eq!(store.keys(), ["old"]);
    assert_eq!(store.open_uploads(), []);
}

pub fn a_lazy_unmount_keeps_closed_files_and_gives_up_open_ones(store: &Store) {
    let mount = mount(store);
    let writers = open_and_closed(&mount);
    sh_ok("umount -l \"$1\"", &[&mount.at]);
    assert!(!is_mounted(&mount.at));
    // Its files live on until the last is closed; these are closed by their writers' deaths.
    for writer in writers {
        writer.die_of(libc::SIGKILL);
    }
    store.assert_no_uploads_within(5, "lazily unmounted");
    assert_eq!(mount.wait_for_end().code(), Some(0));
    assert_closed_ones_alone(store);
}

fn an_idle_mount_is_unmounted_by_umount(store: &Store) {
    let mount = mount(store);
    let content = Content::new(1, 12 * MIB);
    std::fs::write(mount.path("closed"), content.bytes()).expect("written");
    assert_eq!(mount.unmount().code(), Some(0));
    store.assert_holds("closed", &content);
    assert_eq!(store.open_uploads(), []);
}

fn a_busy_mount_is_not_unmounted_by_umount(store: &Store) {
    let mount = mount(store);
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 12 * MIB);
    let refused = sh("umount \"$1\"", &[&mount.at]);
    assert!(!refused.ok(), "it is busy");
    writer.write(1, MIB).step("close");
    store.assert_holds("file", &Content::new(1, 13 * MIB));
    drop(writer);
    assert_eq!(mount.unmount().code(), Some(0));
}

fn a_mount_goes_into_the_background_when_it_is_ready(store: &Store) {
    store.put("file", "there at once");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().join("mnt");
    std::fs::create_dir(&at).expect("made");
    /// The mount must not outlive the test.
    struct Gone<'a>(&'a std::path::Path);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            detach(self.0);
        }
    }
    let gone = Gone(&at);
    let mut command = mount_command(store);
    command.arg(format!("s3://{}", store.bucket)).arg(&at);
    // What its caller has open is not held for as long as it is mounted.
    let lock = folder.path().join("lock");
    let mut locked = Command::new("sh");
    locked.args(["-c", "exec 9>\"$0\"; flock 9; exec \"$@\""]);
    locked
        .arg(&lock)
        .arg(command.get_program())
        .args(command.get_args());
    locked.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let done = run(&mut locked);
    assert!(done.ok(), "{}", done.err);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("", ""));
    // No waiting: it returned, so it is mounted.
    assert!(is_mounted(&at));
    let free = File::open(&lock).expect("open").try_lock();
    assert!(free.is_ok(), "{free:?}");
    assert_eq!(
        std::fs::read(at.join("file")).expect("read"),
        b"there at once"
    );
    let content = Content::new(1, 12 * MIB);
    std::fs::write(at.join("new"), content.bytes()).expect("written");
    store.assert_holds("new", &content);
    let daemon = daemon_of(&at).expect("it runs");
    umount(&at);
    eventually(seconds(30), "the daemon has ended", || {
        daemon_of(&at) != Some(daemon)
    });
    assert_eq!(store.open_uploads(), []);
    drop(gone);
}

/// The process whose command line ends with this mount point.
fn daemon_of(at: &std::path::Path) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut numbers = processes.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    let ending = format!("\0{}\0", at.display());
    numbers.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(ending.as_bytes())
    })
}

on_both_stores!(
    a_signal_to_the_daemon_keeps_closed_files_and_gives_up_open_ones,
    a_signal_gives_up_what_is_open_by_a_copy_of_its_descriptor,
    a_lazy_unmount_keeps_closed_files_and_gives_up_open_ones,
    an_idle_mount_is_unmounted_by_umount,
    a_busy_mount_is_not_unmounted_by_umount,
    a_mount_goes_into_the_background_when_it_is_ready,
);

#[test]
fn a_close_under_way_when_the_daemon_is_told_to_end_is_finished() {
    // As a shutdown tells them: each process, and the guardian passes it on.
    for twice in [false, true] {
        a_close_under_way_is_finished(twice);
    }
}

fn a_close_under_way_is_finished(told_twice: bool) {
    let store = Store::embedded();
    let mount = mount(&store);
    let slow = store
        .faults()
        .script("op=CompleteMultipartUpload:delay=1500ms")
        .expect("a fault");
    let content = Content::new(1, 12 * MIB);
    let mut writer = Writer::start();
    writer
        .open(&mount.path("file"), "wct")
        .write(content.seed, content.size);
    writer.begin("close");
    eventually(seconds(20), "the commit is under way", || {
        store.faults().fired(slow) > 0
    });
    let daemon = mount.daemon();
    crate::support::tools::kill(mount.pid(), libc::SIGTERM);
    eventually(seconds(10), "it has heard the signal", || {
        mount.stderr().contains("SIGTERM")
    });
    if told_twice {
        crate::support::tools::kill(daemon, libc::SIGTERM);
    }
    assert_eq!(mount.wait_for_end().code(), Some(0));
    store.assert_holds("file", &content);
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn a_store_that_is_silent_does_not_keep_the_daemon_beyond_its_deadline() {
    let store = Store::embedded();
    let options = [
        "--part-size",
        "5M",
        "--shutdown-timeout",
        "3s",
        "--request-timeout",
        "60s",
    ];
    let mount = Mount::with(&store, &options);
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 12 * MIB);
    store.await_parts("file", 2);
    store
        .faults()
        .script("op=AbortMultipartUpload:hang-before")
        .expect("a fault");
    let begun = Instant::now();
    let status = mount.terminate();
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    // Something was left behind, and that is not success.
    assert_eq!(status.code(), Some(1));
    assert_eq!(store.open_uploads().len(), 1);
}

#[test]
fn a_demo_is_a_mounted_bucket_that_is_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (at, home) = (folder.path().join("mnt"), folder.path().join("home"));
    std::fs::create_dir_all(&home).expect("made");
    let content = Content::new(1, 12 * MIB);
    for round in 0..2 {
        let mut command = Command::new(crate::support::mount::PROGRAM);
        command
            .arg("demo")
            .arg(&at)
            .env("HOME", &home)
            .env_remove("XDG_DATA_HOME");
        command
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CACHE_HOME");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        std::fs::create_dir_all(&at).expect("made");
        let mut child = command.spawn().expect("the program runs");
        let mounted = crate::support::wait::holds_within(seconds(20), || is_mounted(&at));
        let done = mounted.then(|| match round {
            0 => std::fs::write(at.join("file"), content.bytes()).map_err(|e| e.to_string()),
            _ => {
                let file = std::fs::File::open(at.join("file")).map_err(|e| e.to_string());
                file.and_then(|file| content.compare(file))
            }
        });
        // SAFETY: plain system call on numbers; the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let ended = crate::support::tools::wait(&mut child, seconds(45));
        detach(&at);
        if ended.is_none() {
            crate::support::tools::kill_and_reap(&mut child);
        }
        assert_eq!(done, Some(Ok(())), "round {round}");
        assert_eq!(
            ended.and_then(|status| status.code()),
            Some(0),
            "round {round}"
        );
    }
}

#[track_caller]
fn close(file: File) {
    // SAFETY: the descriptor was given up just now and is closed once.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    assert_eq!(closed, 0, "{}", io::Error::last_os_error());
}

/// A thread that starts a program gives it all descriptors for a moment, and in the next the program closes them one after
/// another: none of that keeps a close from being one.
#[test]
fn what_is_closed_is_published_whatever_programs_other_threads_start() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let ends = AtomicBool::new(false);
    let starts = || {
        while !ends.load(Ordering::Relaxed) {
            let done = Command::new("true").status();
            assert!(done.expect("started").success());
        }
    };
    let late = std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(starts)));
        let mut late = Vec::new();
        for round in 0..30 {
            let name = |n: u32| format!("{round}-{n}");
            let create = |n| File::create(mount.path(&name(n))).expect("created");
            let mut files: Vec<_> = (0..12).map(create).collect();
            for file in &mut files {
                file.write_all(b"whole").expect("written");
            }
            for (n, file) in (0..).zip(files) {
                close(file);
                if store.get(&name(n)).as_deref() != Some(b"whole") {
                    late.push(name(n));
                }
            }
        }
        ends.store(true, Ordering::Relaxed);
        late
    });
    assert_eq!(late, Vec::<String>::new(), "closed before they were there");
}

/// What a process does between fork and exec: it writes a file of its own, which is closed by executing the program, and
/// before what it has inherited.
fn closes_another_first(path: &CString, inherited: RawFd) -> io::Result<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: plain system calls, allowed between fork and exec; the path and the byte are there for as long.
    let done = unsafe {
        let other = libc::open(path.as_ptr(), flags, 0o644);
        // Among the next descriptors, and among those that the kernel has not come to.
        let behind = [1, 64].map(|far| libc::fcntl(inherited, libc::F_DUPFD_CLOEXEC, other + far));
        other >= 0
            && behind.iter().all(|&copy| copy >= 0)
            && libc::write(other, c"x".as_ptr().cast(), 1) == 1
    };
    match done {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

/// As it does on a machine that is slow just then: what it keeps is not seen until it has closed what it does not. Of a file
/// that was written and of one that was only made.
#[test]
fn a_close_waits_for_a_child_that_takes_long_to_execute_its_program() {
    for text in ["whole", ""] {
        let store = Store::embedded();
        let mount = Mount::new(&store);
        let other = CString::new(mount.path("other").as_os_str().as_bytes()).expect("a path");
        let slow = (store.faults().script("op=PutObject,key=other:delay=2s")).expect("a fault");
        let mut file = File::create(mount.path("file")).expect("created");
        file.write_all(text.as_bytes()).expect("written");
        let inherited = file.as_raw_fd();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut command = Command::new("true");
                // SAFETY: plain system calls.
                unsafe { command.pre_exec(move || closes_another_first(&other, inherited)) };
                assert!(command.status().expect("started").success());
            });
            eventually(seconds(20), "the child executes its program", || {
                store.faults().fired(slow) > 0
            });
            close(file);
            assert_eq!(store.get("file").as_deref(), Some(text.as_bytes()));
        });
        assert_eq!(store.get("other").as_deref(), Some(&b"x"[..]));
    }
}

/// Makes a file and closes it while a child is about to execute a program. Answers whether it is there then.
fn is_published_though_a_child_is_begun(store: &Store, path: &Path, key: &str) -> bool {
    let file = File::create(path).expect("created");
    let (waits, goes_on) = io::pipe().expect("a pipe");
    let (mut begun, begins) = io::pipe().expect("a pipe");
    let [awaited, given, told] = [waits.as_raw_fd(), goes_on.as_raw_fd(), begins.as_raw_fd()];
    let wait = move || {
        // SAFETY: plain system calls, allowed between fork and exec, on descriptors and a byte that are there.
        unsafe {
            libc::close(given);
            libc::write(told, c"x".as_ptr().cast(), 1);
            libc::read(awaited, [0_u8].as_mut_ptr().cast(), 1);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _until_it_executes = (waits, begins);
            let mut command = Command::new("true");
            // SAFETY: as it says.
            unsafe { command.pre_exec(wait) };
            assert!(command.status().expect("started").success());
        });
        begun.read_exact(&mut [0]).expect("told");
        let closing = Calling::start(move || close(file));
        eventually(seconds(20), "the close waits", || {
            closing.waits_in(libc::SYS_close) || closing.has_ended()
        });
        // In the time of so many questions it would be through, if it did not wait.
        for n in 0..30 {
            std::fs::metadata(path.with_extension(n.to_string())).expect_err("not there");
        }
        let waits = !closing.has_ended();
        drop(goes_on);
        closing.end();
        waits && store.get(key).is_some()
    })
}

/// A file that was only made may have been made for a child to write. One that executes a program, which does not get it, was
/// not meant: it is waited for, if it does so in half a second, which a busy machine may not let it.
#[test]
fn a_close_waits_for_a_child_that_is_about_to_execute_its_program() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let published = (0..20)
        .map(|n| n.to_string())
        .filter(|key| is_published_though_a_child_is_begun(&store, &mount.path(key), key));
    assert_eq!(published.take(10).count(), 10, "of twenty");
}

/// A daemon: who opened the file ends, and what it began writes and closes it.
#[test]
fn who_ends_leaves_its_file_to_a_child_that_goes_on_with_it() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let script = "
import os, sys
file = open(sys.argv[1], 'wb')
if os.fork(): os._exit(0)
os.read(0, 1)
file.write(b'whole')
file.close()
";
    let (stays, goes_on) = io::pipe().expect("a pipe");
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(mount.path("file"));
    let parent = command.stdin(stays).status().expect("started");
    assert!(parent.success());
    assert_eq!(store.get("file"), None, "nothing is written yet");
    drop((command, goes_on));
    eventually(seconds(20), "the child has written it", || {
        store.get("file").as_deref() == Some(b"whole")
    });
}

/// A child that was there before the file was opened is sent it, goes on writing, and closes it.
#[test]
fn a_file_that_was_sent_to_a_child_is_published_when_that_closes_it() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let script = "
import os, socket, sys
ours, its = socket.socketpair()
if not os.fork():
    _, (file,), _, _ = socket.recv_fds(its, 1, 1)
    os.set_inheritable(file, True)
    its.send(b'x')
    os.read(0, 1)
    os.write(file, b'whole')
    os.close(file)
    os._exit(0)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b'half ')
socket.send_fds(ours, [b'x'], [file])
ours.recv(1)
os.close(file)
print('closed', flush=True)
os.wait()
";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(mount.path("file"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = command.spawn().expect("started");
    let mut said = BufReader::new(program.stdout.take().expect("piped")).lines();
    assert_eq!(said.next().expect("it says so").expect("text"), "closed");
    assert_eq!(store.get("file"), None, "it is being written");
    drop(program.stdin.take());
    assert!(program.wait().expect("waited for").success());
    assert_eq!(store.get("file").as_deref(), Some(&b"half whole"[..]));
}

/// A program whose first thread has ended is there as long as its others, and what it writes is not over when a child of it
/// closes its copy.
#[test]
fn a_program_whose_first_thread_has_ended_goes_on_writing() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let script = "
import ctypes, os, sys, threading
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b'half ')
ends_one_thread = {'x86_64': 60, 'aarch64': 93}[os.uname().machine]
first = f'/proc/{os.getpid()}/status'
def goes_on():
    while 'zombie' not in open(first).read(): pass
    child = os.fork()
    if not child:
        os.close(file)
        os._exit(0)
    os.waitpid(child, 0)
    print('closed', flush=True)
    os.read(0, 1)
    os.write(file, b'whole')
    os.close(file)
    print('closed', flush=True)
    os._exit(0)
threading.Thread(target=goes_on).start()
ctypes.CDLL(None).syscall(ends_one_thread, 0)
";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(mount.path("file"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = command.spawn().expect("started");
    let mut said = BufReader::new(program.stdout.take().expect("piped")).lines();
    let mut next = || said.next().expect("it says so").expect("text");
    assert_eq!(next(), "closed");
    assert_eq!(store.get("file"), None, "it is being written");
    drop(program.stdin.take());
    assert_eq!(next(), "closed");
    assert_eq!(store.get("file").as_deref(), Some(&b"half whole"[..]));
    assert!(program.wait().expect("waited for").success());
}

#[test]
fn who_has_only_truncated_is_told_how_that_went_whoever_else_has_the_file() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    store.put("file", "old");
    let mut other = Writer::start();
    other.open(&mount.path("file"), "rw");
    let refused = store.faults().script("op=PutObject:error=403/AccessDenied");
    let file = File::create(mount.path("file")).expect("opened");
    // SAFETY: it is ours, and nobody else closes it.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    let error = io::Error::last_os_error().raw_os_error();
    assert_eq!((closed, error), (-1, Some(libc::EACCES)));
    store.faults().remove(refused.expect("a fault"));
    assert_eq!(store.get("file").as_deref(), Some(&b"old"[..]));
}

/// Lock files are made so, by flock(1).
#[test]
fn a_file_that_is_made_to_be_read_is_there_when_it_is_closed() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    for n in 0..20 {
        let lock = mount.path(&format!("lock-{n}"));
        sh_ok("flock \"$1\" true", &[&lock]);
        assert!(lock.exists(), "{n}");
    }
    assert_eq!(store.keys().len(), 20);
    // So is one truncated.
    store.put("old", "old");
    let script =
        "perl -MFcntl -e 'sysopen(F, shift, O_RDONLY | O_TRUNC) and close F or die' \"$1\"";
    sh_ok(script, &[&mount.path("old")]);
    assert_eq!(store.get("old").as_deref(), Some(&b""[..]));
    assert!(mount.terminate().success());
}

/// What somebody else writes to it meanwhile is his.
#[test]
fn who_made_a_file_to_read_it_publishes_nothing_of_what_another_writes() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    for end in ["close", "exit", "kill"] {
        let path = mount.path(end);
        let (mut maker, mut writer) = (Writer::start(), Writer::start());
        maker.open(&path, "rc");
        writer.open(&path, "w").write(1, 1000);
        let mut lives_on = None;
        match end {
            "kill" => maker.die_of(libc::SIGKILL),
            "exit" => maker.exit(0),
            _ => {
                maker.step("close");
                lives_on = Some(maker);
            }
        }
        writer.write(1, 1000);
        assert_eq!(store.get(end), None, "{end}: half of it");
        writer.step("close");
        store.assert_holds(end, &Content::new(1, 2000));
        drop(lives_on);
    }
    assert!(mount.terminate().success());
}
