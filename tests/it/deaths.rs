//! Writers that die by a signal: nothing of theirs is published, the old object stays, and no upload
//! is left open. And writers that end without a signal, whose files are kept.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::mount::detach;
use crate::support::tools::{Job, kill, sh, sh_ok, shout};
use crate::support::{
    Content, MIB, Mount, PART, Store, Writer, eventually, on_both_stores, seconds,
};

const OPTIONS: [&str; 2] = ["--part-size", "5M"];

/// The files a scenario's writer writes to: one that is new, and one that has an old object.
const FILES: [&str; 2] = ["new", "old"];
const OLD: Content = Content {
    seed: 99,
    size: 6 * MIB + 5,
};

fn mount(store: &Store) -> Mount {
    mount_with(store, &[])
}

fn mount_with(store: &Store, more: &[&str]) -> Mount {
    store.put("old", OLD.bytes());
    Mount::with(store, &[&OPTIONS, more].concat())
}

/// What must be so within five seconds of the death of all writers, and stay so.
#[track_caller]
fn assert_nothing_happened(store: &Store, mount: Mount, what: &str) {
    assert_unchanged(store, what);
    let old = mount.path("old");
    eventually(seconds(5), "the mount shows the old file again", || {
        std::fs::metadata(&old).is_ok_and(|old| old.len() == OLD.size)
    });
    OLD.assert_file(&old);
    let new = std::fs::metadata(mount.path("new"));
    let new = new.expect_err("there is no new file");
    assert_eq!(new.raw_os_error(), Some(libc::ENOENT), "{what}");
    let status = mount.terminate();
    assert!(status.success(), "{what}: {status}");
    assert_unchanged(store, what);
}

#[track_caller]
fn assert_unchanged(store: &Store, what: &str) {
    store.assert_no_uploads_within(5, what);
    assert_eq!(store.keys(), ["old"], "{what}");
    store.assert_holds("old", &OLD);
}

/// A writer that has written so much to a file it has made or replaces.
fn writer(mount: &Mount, file: &str, size: u64) -> Writer {
    let mut writer = Writer::start();
    writer.open(&mount.path(file), "wct").write(1, size);
    writer
}

pub fn a_writer_killed_by_any_signal_publishes_nothing(store: &Store) {
    let signals = [
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGXCPU,
    ];
    let mount = mount(store);
    for file in FILES {
        for signal in signals {
            writer(&mount, file, 12 * MIB).die_of(signal);
            assert_unchanged(store, &format!("{file}, signal {signal}"));
        }
    }
    assert_nothing_happened(store, mount, "all signals");
}

fn a_writer_that_crashes_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        let mut segv = writer(&mount, file, 12 * MIB);
        segv.begin("segv");
        segv.dies_of(libc::SIGSEGV);
        let mut abort = writer(&mount, file, 12 * MIB);
        abort.begin("abort");
        abort.dies_of(libc::SIGABRT);
    }
    assert_nothing_happened(store, mount, "SIGSEGV and SIGABRT");
}

fn a_multithreaded_writer_that_is_killed_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            let mut writer = writer(&mount, file, 6 * MIB);
            writer
                .step("threads 7")
                .step(&format!("write-from-thread 1 {}", 6 * MIB));
            writer.die_of(signal);
            assert_unchanged(store, &format!("{file}, signal {signal}"));
        }
    }
    assert_nothing_happened(store, mount, "a writer of many threads");
}

fn a_writer_killed_before_its_first_part_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        for size in [0, 1, MIB] {
            writer(&mount, file, size).die_of(libc::SIGKILL);
        }
    }
    assert_nothing_happened(store, mount, "before the first part");
}

pub fn a_writer_killed_after_its_tenth_part_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        let writer = writer(&mount, file, 10 * PART + MIB);
        store.await_parts(file, 10);
        writer.die_of(libc::SIGKILL);
        assert_unchanged(store, file);
    }
    assert_nothing_happened(store, mount, "after the tenth part");
}

fn a_writer_killed_in_the_middle_of_a_write_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        let mut writer = writer(&mount, file, MIB);
        // Far more than is written before the signal comes.
        writer.begin(&format!("write 1 {}", 2000 * MIB));
        store.await_parts(file, 1);
        writer.die_of(libc::SIGKILL);
        assert_unchanged(store, file);
    }
    assert_nothing_happened(store, mount, "in the middle of a write");
}

fn an_appending_writer_that_is_killed_leaves_the_file_as_it_was(store: &Store) {
    let mount = mount(store);
    for size in [1, 12 * MIB] {
        let mut writer = Writer::start();
        writer.open(&mount.path("old"), "wa").write(1, size);
        writer.die_of(libc::SIGKILL);
        assert_unchanged(store, &format!("{size} bytes appended"));
    }
    assert_nothing_happened(store, mount, "appending");
}

pub fn a_writer_killed_in_the_middle_of_a_random_write_leaves_the_file_as_it_was(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        let mut writer = Writer::start();
        writer.open(&mount.path(file), "rwc");
        for offset in [9 * MIB, MIB + 1, 5 * MIB - 1, 0] {
            writer.step(&format!("seek {offset}")).write(1, 2 * MIB);
        }
        writer.die_of(libc::SIGKILL);
        assert_unchanged(store, file);
    }
    assert_nothing_happened(store, mount, "random writes");
}

fn a_killed_writer_with_a_forked_child_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        // All of them at once, as the terminal does it.
        let mut together = writer(&mount, file, 12 * MIB);
        together.step("fork").signal_group(libc::SIGINT);
        together.dies_of(libc::SIGINT);
        assert_unchanged(store, &format!("{file}, parent and child together"));
        // One after the other: the child has the descriptor still.
        let mut parent = writer(&mount, file, 12 * MIB);
        parent.step("fork").signal(libc::SIGKILL);
        let left = parent.pid();
        parent.dies_of(libc::SIGKILL);
        // SAFETY: a plain system call; the group lives on in the child.
        assert_eq!(unsafe { libc::kill(-(left as i32), libc::SIGKILL) }, 0);
        assert_unchanged(store, &format!("{file}, the child after its parent"));
        // What its writer did not finish, nobody else's good end makes whole.
        let mut parent = writer(&mount, file, 12 * MIB);
        let family = parent.step("fork-exit 2").family();
        parent.die_of(libc::SIGKILL);
        assert_unchanged(store, &format!("{file}, while the child has it open"));
        family.ended();
        assert_unchanged(store, &format!("{file}, after the child ended well"));
    }
    assert_nothing_happened(store, mount, "a forked child");
}

fn a_dd_that_is_killed_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        // Not SIGINT: see below.
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            let job = Job::start(
                "exec dd if=/dev/zero of=\"$1\" bs=1M status=none",
                &[&mount.path(file)],
            );
            store.await_parts(file, 2);
            job.die_of(signal);
            assert_unchanged(store, &format!("{file}, signal {signal}"));
        }
    }
    assert_nothing_happened(store, mount, "dd");
}

/// GNU dd catches SIGINT, stops between two blocks, closes its file and only then dies of the signal.
/// Its close is that of a living program, and its file what it says it has written.
fn a_dd_that_is_interrupted_closes_its_file_itself(store: &Store) {
    let mount = mount(store);
    let said = mount.aside("said");
    let script = "exec dd if=/dev/zero of=\"$1\" bs=1M 2> \"$2\"";
    let job = Job::start(script, &[&mount.path("new"), &said]);
    store.await_parts("new", 2);
    job.die_of(libc::SIGINT);
    store.assert_no_uploads_within(5, "dd");
    let said = std::fs::read_to_string(said).expect("dd says what it did");
    let bytes = |line: &str| line.split_once(" bytes")?.0.parse::<u64>().ok();
    let copied = said.lines().find_map(bytes);
    assert_eq!(store.objects().get("new").copied(), copied, "{said}");
    store.assert_holds("old", &OLD);
}

fn a_cp_stopped_with_control_c_publishes_nothing(store: &Store) {
    let mount = mount(store);
    let source = mount.aside("source");
    // Sparse: it takes no room, and cp is told to write the zeros.
    let sparse = std::fs::File::create(&source).expect("a file of the test's own");
    sparse.set_len(100 << 30).expect("a sparse file");
    for file in FILES {
        let job = Job::start(
            "cp --sparse=never \"$1\" \"$2\"",
            &[&source, &mount.path(file)],
        );
        store.await_parts(file, 2);
        job.die_of(libc::SIGINT);
        assert_unchanged(store, file);
    }
    assert_nothing_happened(store, mount, "cp");
}

fn a_killed_shell_redirection_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let job = Job::start("cat /dev/zero > \"$1\"; true", &[&mount.path(file)]);
            store.await_parts(file, 1);
            job.die_of(signal);
            assert_unchanged(store, &format!("{file}, signal {signal}"));
        }
    }
    assert_nothing_happened(store, mount, "cat > file");
}

fn a_killed_group_of_commands_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        for signal in [libc::SIGINT, libc::SIGKILL] {
            // What is written is complete; the group is not.
            let script = "{ head -c 12000000 /dev/zero; sleep 1000; true; } > \"$1\"; true";
            let job = Job::start(script, &[&mount.path(file)]);
            store.await_parts(file, 2);
            job.die_of(signal);
            assert_unchanged(store, &format!("{file}, signal {signal}"));
        }
    }
    assert_nothing_happened(store, mount, "{ cmd; sleep; } > file");
}

/// A script that has written half, and is on its way to the other one; `$2` says so.
const HALF: &str = "sh -c 'head -c 12000000 /dev/zero; : > \"$1\"; sleep 1000; head -c 12000000 /dev/zero' sh \"$2\"";

/// Whoever opened a file for others and closes it ends nothing, whoever wrote; nor do the steps of a script that
/// are through.
fn a_script_whose_opener_has_closed_publishes_nothing_when_it_is_killed(store: &Store) {
    let mount = mount(store);
    let until_half = "until [ -e \"$2\" ]; do sleep 0.02; done";
    let scripts = [
        format!("exec 3> \"$1\"; {HALF} >&3 & {until_half}; exec 3>&-; : > \"$2.closed\"; wait"),
        format!("exec 3> \"$1\"; {HALF} >&3 & exec 3>&-; {until_half}; : > \"$2.closed\"; wait"),
        format!("{{ {HALF} & {until_half}; }} > \"$1\"; : > \"$2.closed\"; wait"),
        format!("({HALF} & {until_half}; exit 0) > \"$1\"; : > \"$2.closed\"; sleep 1000; true"),
    ];
    for (n, script) in scripts.iter().enumerate() {
        for file in FILES {
            let half = mount.aside(&format!("half-{n}-{file}"));
            let job = Job::start(script, &[&mount.path(file), &half]);
            let closed = half.with_extension("closed");
            eventually(seconds(20), "the opener has closed", || closed.exists());
            assert_eq!(store.keys(), ["old"], "{script}: before it is killed");
            store.assert_holds("old", &OLD);
            job.die_of(libc::SIGKILL);
            assert_unchanged(store, &format!("{file}: {script}"));
        }
    }
    assert_nothing_happened(store, mount, "an opener that closed");
}

/// As in a container, or a service with a file system of its own: the same mount has another number there.
fn a_writer_in_another_mount_namespace_publishes_nothing_when_it_is_killed(store: &Store) {
    if !sh("unshare -m true", &[]).ok() {
        return shout("not tried: mount namespaces (unshare -m is not permitted)");
    }
    let mount = mount(store);
    for file in FILES {
        let half = mount.aside(&format!("half-{file}"));
        let script =
            format!("unshare -m sh -uc '{{ {HALF}; true; }} > \"$1\"' sh \"$1\" \"$2\"; true");
        // Quotes within quotes are too much for one line.
        let script = script.replace(HALF, "head -c 12000000 /dev/zero; : > \"$2\"; sleep 1000");
        let job = Job::start(&script, &[&mount.path(file), &half]);
        eventually(seconds(20), "half is written", || half.exists());
        assert_eq!(store.keys(), ["old"], "before it is killed");
        store.assert_holds("old", &OLD);
        job.die_of(libc::SIGKILL);
        assert_unchanged(store, file);
    }
    // One that ends well is kept.
    let script = "unshare -m sh -c 'head -c 12000000 /dev/zero > \"$0\"' \"$1\"";
    sh_ok(script, &[&mount.path("new")]);
    let kept = store.get("new").map(|bytes| bytes.len());
    assert_eq!(kept, Some(12_000_000));
    std::fs::remove_file(mount.path("new")).expect("removed");
    assert_nothing_happened(store, mount, "another namespace");
}

/// Nobody can tell any more where such a mount is.
fn a_script_that_writes_to_a_mount_that_was_detached_publishes_nothing_when_it_is_killed(
    store: &Store,
) {
    for file in FILES {
        let mount = mount(store);
        let half = mount.aside(&format!("half-{file}"));
        let script = format!(
            "exec 3> \"$1\"; until [ -e \"$2.go\" ]; do sleep 0.02; done; {HALF} >&3; true"
        );
        let job = Job::start(&script, &[&mount.path(file), &half]);
        eventually(seconds(20), "it is open", || {
            mount.path(file).metadata().is_ok_and(|f| f.len() == 0)
        });
        detach(&mount.at);
        std::fs::write(half.with_extension("go"), "").expect("made");
        eventually(seconds(20), "half is written", || half.exists());
        assert_eq!(store.keys(), ["old"], "before it is killed");
        store.assert_holds("old", &OLD);
        job.die_of(libc::SIGKILL);
        assert_unchanged(store, file);
        mount.wait_for_end();
    }
}

fn a_command_cut_off_by_timeout_publishes_nothing(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        let job = Job::start("timeout 1 cat /dev/zero > \"$1\"", &[&mount.path(file)]);
        // 124 says that it has struck; 125, that its own copy of the descriptor did not close well.
        assert!(matches!(job.wait().code(), Some(124 | 125)));
        assert_unchanged(store, file);
    }
    assert_nothing_happened(store, mount, "timeout 1 cmd > file");
}

pub fn a_writer_that_ends_without_closing_has_its_file_kept(store: &Store) {
    let mount = mount(store);
    for (n, end) in ["exit 0", "exit 3", "return 0", "return 3"]
        .iter()
        .enumerate()
    {
        for (m, size) in [1, 12 * MIB].into_iter().enumerate() {
            for file in FILES {
                let content = Content::new((10 * n + m + 1) as u64, size);
                let mut writer = Writer::start();
                writer
                    .open(&mount.path(file), "wct")
                    .write(content.seed, size);
                writer.begin(end);
                assert_eq!(writer.wait().signal_free(), end.ends_with('0'), "{end}");
                store.assert_holds(file, &content);
                assert_eq!(store.open_uploads(), [], "{end}");
            }
        }
    }
}

trait SignalFree {
    /// Ended by itself; with success?
    fn signal_free(&self) -> bool;
}

impl SignalFree for std::process::ExitStatus {
    fn signal_free(&self) -> bool {
        self.code().expect("not by a signal") == 0
    }
}

fn a_multithreaded_writer_that_ends_well_has_its_file_kept(store: &Store) {
    let mount = mount(store);
    for end in ["exit 0", "return 0"] {
        // exit() of many threads kills the others: that is no death by a signal.
        let mut writer = writer(&mount, "new", 6 * MIB);
        writer
            .step("threads 7")
            .step(&format!("write-from-thread 1 {}", 6 * MIB));
        writer.begin(end);
        assert!(writer.wait().success());
        store.assert_holds("new", &Content::new(1, 12 * MIB));
        assert_eq!(store.open_uploads(), []);
        std::fs::remove_file(mount.path("new")).expect("removed");
    }
}

fn who_ends_because_a_signal_told_him_to_publishes_nothing_that_he_has_not_closed(store: &Store) {
    let mount = mount(store);
    for file in FILES {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            writer(&mount, file, 12 * MIB).exit(128 + signal);
            assert_unchanged(store, &format!("{file}, exit code 128 + {signal}"));
        }
    }
    let mut closes = writer(&mount, "closed", 12 * MIB);
    closes.step("close").begin("exit 143");
    closes.wait();
    store.assert_holds("closed", &Content::new(1, 12 * MIB));
    std::fs::remove_file(mount.path("closed")).expect("removed");
    assert_nothing_happened(store, mount, "told to end");
}

fn a_program_that_fails_publishes_nothing_when_asked_so(store: &Store) {
    let mount = mount_with(store, &["--abort-on", "failure"]);
    for file in FILES {
        for size in [1, 12 * MIB] {
            writer(&mount, file, size).exit(3);
            assert_unchanged(store, &format!("{file}, {size} bytes"));
        }
    }
    // What it has closed itself is complete, whatever it ends with.
    let mut closes = writer(&mount, "closed", 12 * MIB);
    closes.step("close").begin("exit 3");
    closes.wait();
    store.assert_holds("closed", &Content::new(1, 12 * MIB));
    // And success without closing is success.
    writer(&mount, "closed", MIB).exit(0);
    store.assert_holds("closed", &Content::new(1, MIB));
    std::fs::remove_file(mount.path("closed")).expect("removed");
    assert_nothing_happened(store, mount, "--abort-on failure");
}

fn a_writer_that_executes_another_program_is_not_held_up(store: &Store) {
    let mount = mount(store);
    for size in [1, 12 * MIB] {
        // The kernel closes the descriptor in the middle of execve(2), with locks held that make
        // whoever looks at the process in /proc wait: a daemon that looks waits for itself.
        let mut writer = writer(&mount, "new", size);
        for _ in 0..20 {
            writer.step("fork-exec");
        }
        writer.write(1, MIB).step("close");
        store.assert_holds("new", &Content::new(1, size + MIB));
        // And as the last descriptor: to become another program is no death.
        let mut becomes = Writer::start();
        becomes
            .open(&mount.path("new"), "wct")
            .write(2, size)
            .begin("exec");
        assert!(becomes.wait().success());
        let content = Content::new(2, size);
        eventually(seconds(5), "published", || {
            store.compare("new", &content).is_ok()
        });
        store.assert_no_uploads_within(5, "execve");
    }
}

fn a_shell_redirection_that_ends_well_is_kept(store: &Store) {
    let mount = mount(store);
    let scripts = [
        "head -c 12000000 /dev/zero > \"$1\"",
        "{ head -c 6000000 /dev/zero; head -c 6000000 /dev/zero; } > \"$1\"",
        "head -c 6000000 /dev/zero > \"$1\"; head -c 6000000 /dev/zero >> \"$1\"",
        "(head -c 12000000 /dev/zero | cat) > \"$1\"",
        "exec > \"$1\"; head -c 12000000 /dev/zero",
        "dd if=/dev/zero of=\"$1\" bs=1000000 count=12 status=none",
    ];
    for script in scripts {
        let job = Job::start(script, &[&mount.path("file")]);
        assert!(job.wait().success(), "{script}");
        let size = || store.objects().get("file").copied();
        // A descriptor that several processes had may be released after the last has ended.
        eventually(seconds(5), script, || size() == Some(12_000_000));
        store.assert_no_uploads_within(5, script);
        std::fs::remove_file(mount.path("file")).expect("removed");
    }
    OLD.assert_file(&mount.path("old"));
}

on_both_stores!(
    a_writer_killed_by_any_signal_publishes_nothing,
    a_writer_that_crashes_publishes_nothing,
    a_multithreaded_writer_that_is_killed_publishes_nothing,
    a_writer_killed_before_its_first_part_publishes_nothing,
    a_writer_killed_after_its_tenth_part_publishes_nothing,
    a_writer_killed_in_the_middle_of_a_write_publishes_nothing,
    an_appending_writer_that_is_killed_leaves_the_file_as_it_was,
    a_writer_killed_in_the_middle_of_a_random_write_leaves_the_file_as_it_was,
    a_killed_writer_with_a_forked_child_publishes_nothing,
    a_dd_that_is_killed_publishes_nothing,
    a_dd_that_is_interrupted_closes_its_file_itself,
    a_cp_stopped_with_control_c_publishes_nothing,
    a_killed_shell_redirection_publishes_nothing,
    a_killed_group_of_commands_publishes_nothing,
    a_script_whose_opener_has_closed_publishes_nothing_when_it_is_killed,
    a_writer_in_another_mount_namespace_publishes_nothing_when_it_is_killed,
    a_script_that_writes_to_a_mount_that_was_detached_publishes_nothing_when_it_is_killed,
    a_command_cut_off_by_timeout_publishes_nothing,
    a_writer_that_ends_without_closing_has_its_file_kept,
    a_multithreaded_writer_that_ends_well_has_its_file_kept,
    a_program_that_fails_publishes_nothing_when_asked_so,
    who_ends_because_a_signal_told_him_to_publishes_nothing_that_he_has_not_closed,
    a_writer_that_executes_another_program_is_not_held_up,
    a_shell_redirection_that_ends_well_is_kept,
);

#[test]
fn a_writer_killed_while_it_waits_for_a_slow_store_publishes_nothing() {
    let store = Store::embedded();
    let mount = mount_with(&store, &["--write-memory", "64M"]);
    let slow = store
        .faults()
        .script("op=UploadPart:delay=1s")
        .expect("a fault");
    for file in FILES {
        let mut writer = writer(&mount, file, MIB);
        writer.begin(&format!("write 1 {}", 2000 * MIB));
        // The budget is spent and the writer waits: what was written, so says the mount, stands still.
        let written = || std::fs::metadata(mount.path(file)).map_or(0, |file| file.len());
        eventually(seconds(30), "the writer waits", || {
            let before = written();
            std::thread::sleep(Duration::from_millis(100));
            before >= 32 * MIB && written() == before
        });
        writer.die_of(libc::SIGKILL);
        assert_unchanged(&store, file);
    }
    store.faults().remove(slow);
    assert_nothing_happened(&store, mount, "killed in back-pressure");
}

#[test]
fn a_writer_killed_while_the_store_is_silent_publishes_nothing() {
    let store = Store::embedded();
    let more = [
        "--write-memory",
        "64M",
        "--request-timeout",
        "2s",
        "--attempts",
        "2",
    ];
    let mount = mount_with(&store, &more);
    for file in FILES {
        let mut writer = writer(&mount, file, MIB);
        let silent = store
            .faults()
            .script("op=UploadPart:hold-before")
            .expect("a fault");
        writer.begin(&format!("write 1 {}", 2000 * MIB));
        eventually(seconds(30), "a part is on its way", || {
            store.faults().fired(silent) >= 4
        });
        let begun = Instant::now();
        writer.die_of(libc::SIGKILL);
        assert!(
            begun.elapsed() < seconds(20),
            "the dead writer was held for {:?}",
            begun.elapsed()
        );
        store.faults().remove(silent);
        store.assert_no_uploads_within(15, file);
        assert_unchanged(&store, file);
    }
    assert_nothing_happened(&store, mount, "killed while the store was silent");
}

#[test]
fn an_abort_the_store_refuses_at_first_is_repeated_until_it_is_done() {
    let store = Store::embedded();
    let mount = mount_with(&store, &["--request-timeout", "3s", "--attempts", "2"]);
    for fault in [
        "error=500",
        "drop-before",
        "drop-after",
        "hang-before",
        "error=403",
    ] {
        let text = format!("op=AbortMultipartUpload:{fault}");
        let refuses = store.faults().script(&text).expect("a fault");
        let writer = writer(&mount, "new", 12 * MIB);
        // A writer killed before its upload has begun leaves nothing to abort.
        store.await_parts("new", 1);
        writer.die_of(libc::SIGKILL);
        eventually(seconds(10), &text, || store.faults().fired(refuses) >= 1);
        store.faults().remove(refuses);
        store.assert_no_uploads_within(30, &text);
    }
    assert_nothing_happened(&store, mount, "aborts refused");
}

#[test]
fn parts_that_land_after_the_abort_are_aborted_as_well() {
    use wholefs::embedded::{Dialect, Options};
    let dialect = Dialect {
        parts_land_after_abort: true,
        ..Dialect::default()
    };
    let store = Store::embedded_with(Options {
        dialect,
        ..Options::default()
    });
    let mount = mount(&store);
    for file in FILES {
        let late = store
            .faults()
            .script("op=UploadPart:hold-before")
            .expect("a fault");
        let writer = writer(&mount, file, 12 * MIB);
        eventually(seconds(10), "parts are on their way", || {
            store.faults().fired(late) >= 2
        });
        let aborts = store.log().count("AbortMultipartUpload");
        writer.die_of(libc::SIGKILL);
        eventually(seconds(5), "an abort is sent at once", || {
            store.log().count("AbortMultipartUpload") > aborts
        });
        store.faults().remove(late);
        assert_unchanged(&store, file);
    }
    assert_nothing_happened(&store, mount, "parts in flight");
}

#[test]
fn another_clients_upload_to_the_same_key_is_left_alone() {
    let store = Store::embedded();
    let mount = mount(&store);
    let theirs = store.server().create_upload(&store.bucket, "old");
    store
        .server()
        .put_part(&store.bucket, "old", &theirs, 1, vec![7; 6 << 20]);
    for size in [MIB, 12 * MIB] {
        writer(&mount, "old", size).die_of(libc::SIGKILL);
        writer(&mount, "old", size).exit(0);
        store.assert_holds("old", &Content::new(1, size));
    }
    std::fs::remove_file(mount.path("old")).expect("removed");
    eventually(seconds(5), "only theirs is left", || {
        store.open_uploads() == [("old".to_owned(), theirs.clone())]
    });
    assert!(mount.terminate().success());
    assert_eq!(store.open_uploads(), [("old".to_owned(), theirs)]);
    assert_eq!(store.parts_of("old"), 1);
}

/// Two processes have a file, of which one writes it and is killed by the other. That looks on until what the killed one has
/// open is not to be seen any more, which is before it is closed: other files come first, of which each is asked about. Then
/// it closes the file. Says what came of that, and whether the killed one was through by then.
const CLOSES_WHILE_THE_WRITER_DIES: &str = r#"
import os, signal, sys
path, who_dies = sys.argv[1:]
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
has_written, wrote = os.pipe()
parent = os.getpid()
child = os.fork()
if (child == 0) == (who_dies == "child"):
    last = os.dup2(file, 1000)
    os.close(file)
    other = os.open(path + ".other", os.O_WRONLY | os.O_CREAT)
    for copy in range(900): os.dup(other)
    os.write(last, bytes(12 << 20))
    os.write(wrote, b"x")
    signal.pause()
os.read(has_written, 1)
dies = child or parent
os.kill(dies, signal.SIGKILL)
while next(os.scandir(f"/proc/{dies}/fdinfo"), None): pass
state = next(line for line in open(f"/proc/{dies}/status") if line.startswith("State:"))
try: os.close(file); closed = "closed"
except OSError: closed = "error"
print(closed, "late" if "Z" in state else "early", flush=True)
"#;

/// Who has the file as well ends nothing while its writer dies, though that does not seem to have it any more.
#[test]
fn what_is_closed_while_its_writer_dies_is_not_published() {
    let store = Store::embedded();
    let mount = mount(&store);
    for who_dies in ["parent", "child"] {
        for file in FILES {
            let tries = (0..10).map(|_| {
                let mut command = std::process::Command::new("python3");
                command.args(["-c", CLOSES_WHILE_THE_WRITER_DIES]);
                // The output ends with the last of them.
                let output = command.arg(mount.path(file)).arg(who_dies).output();
                let said = String::from_utf8(output.expect("started").stdout).expect("text");
                assert_unchanged(&store, &format!("{file}, the {who_dies} dies: {said}"));
                said
            });
            let mut early = tries.filter(|said| said.ends_with("early\n"));
            assert_eq!(early.next().as_deref(), Some("error early\n"), "{file}");
        }
    }
    assert_nothing_happened(&store, mount, "closed while the writer dies");
}

#[test]
fn who_is_killed_in_the_middle_of_making_a_file_has_made_none() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let makes = "import os,signal,sys\nos.write(1,b'.')\nos.read(0,1)\n\
                 f=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT|os.O_EXCL)\nsignal.pause()";
    for n in 0..200 {
        let mut command = Command::new("python3");
        command
            .args(["-S", "-E", "-c", makes])
            .arg(mount.path(&format!("f{n}")));
        let mut maker = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut is_ready = [0];
        maker
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut is_ready)
            .expect("ready");
        maker
            .stdin
            .as_mut()
            .expect("a pipe")
            .write_all(b"x")
            .expect("told");
        // Somewhere in its open(2), or before or behind it.
        std::thread::sleep(Duration::from_micros(n * 37 % 1500));
        maker.kill().expect("killed");
        maker.wait().expect("dead");
    }
    assert!(mount.unmount().success());
    assert_eq!(store.keys(), [""; 0]);
}

/// The kernel is told to forget a name, which waits for the directory, which somebody has who waits for the daemon: a thread
/// that waits so does not die with it.
#[test]
fn a_daemon_that_dies_while_the_kernel_waits_for_it_is_cut_off() {
    nobody_waits_for_a_daemon_that_is_gone(libc::SIGKILL);
}

#[test]
fn a_daemon_that_ends_while_the_kernel_waits_for_it_is_cut_off() {
    nobody_waits_for_a_daemon_that_is_gone(libc::SIGTERM);
}

fn nobody_waits_for_a_daemon_that_is_gone(signal: i32) {
    let store = Store::embedded();
    let options = ["--metadata-ttl", "0s", "--shutdown-timeout", "2s"];
    let mut mount = Mount::with(&store, &options);
    let held = [
        "op=HeadObject,key=slow:hold-before",
        "op=ListObjectsV2,key=slow:hold-before",
    ];
    let held = held.map(|fault| store.faults().script(fault).expect("a fault"));
    let mut dies = Writer::start();
    dies.open(&mount.path("new"), "wct");
    dies.step("write 1 9");
    let mut waits = Writer::start();
    waits.begin(&format!("open wct {}", mount.path("slow").display()));
    eventually(seconds(20), "somebody asks the store", || {
        held.iter().any(|fault| store.faults().fired(*fault) > 0)
    });
    drop(dies);
    let daemon = mount.daemon();
    let threads = || {
        let threads = std::fs::read_dir(format!("/proc/{daemon}/task"));
        threads
            .into_iter()
            .flatten()
            .flatten()
            .map(|thread| thread.path())
    };
    eventually(
        seconds(20),
        "the daemon's thread waits in the kernel",
        || {
            threads().any(|thread| {
                let read = |what| std::fs::read_to_string(thread.join(what)).unwrap_or_default();
                let waits =
                    |stat: String| stat.rsplit(')').next().is_some_and(|s| s.starts_with(" D"));
                read("comm").starts_with("kernel-cache") && waits(read("stat"))
            })
        },
    );
    kill(daemon, signal);
    mount.wait_for_death();
    assert!(waits.finish("open").is_err());
    for fault in held {
        store.faults().remove(fault);
    }
    assert_eq!(store.keys(), [""; 0]);
}

/// The kernel keeps 15 bytes of a program's name, and ends in the middle of a letter if need be.
#[test]
fn a_killed_program_whose_name_is_no_text_publishes_nothing() {
    let store = Store::embedded();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mount = mount(&store);
        let program = mount.aside("архивирование");
        std::os::unix::fs::symlink("/bin/dd", &program).expect("made");
        for file in FILES {
            let mut command = Command::new(&program);
            command.arg(format!("of={}", mount.path(file).display()));
            command
                .arg("bs=1M")
                .stdin(Stdio::piped())
                .stderr(Stdio::null());
            let mut writer = command.spawn().expect("dd runs");
            let mut input = writer.stdin.take().expect("a pipe");
            input.write_all(&vec![1; 12 << 20]).expect("taken");
            store.await_parts(file, 2);
            let name = std::fs::read(format!("/proc/{}/comm", writer.id())).expect("it lives");
            assert!(String::from_utf8(name).is_err());
            kill(writer.id(), signal);
            writer.wait().expect("dead");
        }
        assert_nothing_happened(&store, mount, &format!("signal {signal}"));
    }
}
