//! The network goes away under a running mount, and comes back: nobody hangs, whoever wants to leave can,
//! what was begun is whole or is not there, and nothing has to be done by hand.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::door::Door;
use crate::support::mount::{Place, is_mounted, program, umount};
use crate::support::network::{Cut, Network};
use crate::support::tools::{Job, Outcome, run_within};
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

/// Gives up soon: a request takes at most two attempts of a second, and of a second more for every MiB.
const IMPATIENT: [&str; 8] = [
    "--request-timeout",
    "1s",
    "--attempts",
    "2",
    "--part-size",
    "5M",
    "--metadata-ttl",
    "0s",
];

/// Gives up never, as far as a test is concerned: what ends here was ended.
const PATIENT: [&str; 6] = [
    "--request-timeout",
    "1h",
    "--part-size",
    "5M",
    "--write-memory",
    "64M",
];

/// Outlasts a cut: many attempts, each soon over.
const STEADFAST: [&str; 6] = [
    "--request-timeout",
    "1s",
    "--attempts",
    "100",
    "--part-size",
    "5M",
];

const SIZE: u64 = 12 * MIB;

fn tool(arguments: &[&str], path: &Path) -> Outcome {
    let begun = Instant::now();
    // Whoever hangs longer fails the test.
    let mut command = Command::new(arguments[0]);
    let done = run_within(command.args(&arguments[1..]).arg(path), seconds(60));
    println!("{arguments:?}: {:?}", begun.elapsed());
    done
}

/// Attempts that have failed so far, as the mount itself tells.
fn failures(store: &Store, place: &Place) -> u64 {
    let mut command = program(store);
    command.args(["status", "--json", "--state-dir"]);
    let said = run_within(command.arg(place.state()), seconds(30));
    let mounts: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let operations = mounts[0]["operations"].as_object().expect("operations");
    let failed = operations
        .values()
        .filter_map(|operation| operation["failures"].as_object());
    failed
        .flat_map(|kinds| kinds.values())
        .filter_map(|n| n.as_u64())
        .sum()
}

/// A mount at the far end, of a bucket with a file in it.
fn mounted(network: &Network, options: &[&str]) -> (Store, Place, Mount) {
    let (store, place) = (network.store(), Place::default());
    store.put("old", Content::new(1, SIZE).bytes());
    let source = format!("s3://{}", store.bucket);
    let mount = network.beyond(|| Mount::within(&place, "mnt", &store, &source, options));
    (store, place, mount)
}

fn nobody_hangs_and_all_is_well_again(cut: Cut) {
    Network::play(|network| {
        let (store, _place, mount) = mounted(network, &IMPATIENT);
        Content::new(1, SIZE).assert_file(&mount.path("old"));
        store.put("other", "other");
        let mut writer = Writer::start();
        writer.open(&mount.path("torn"), "wct").write(4, SIZE);
        store.await_parts("torn", 2);
        network.cut(cut);
        let begun = Instant::now();
        assert_eq!(writer.attempt("close"), Err(libc::EIO));
        println!("close: {:?}", begun.elapsed());
        for looking in [&["ls"][..], &["stat"], &["cat"]] {
            let done = tool(looking, &mount.path("other"));
            assert!(!done.ok(), "{looking:?}: {}", done.out);
            assert!(done.err.contains("Input/output error"), "{}", done.err);
        }
        assert!(!tool(&["ls"], &mount.at).ok());
        let made = mount.aside("made");
        std::fs::write(&made, Content::new(2, SIZE).bytes()).expect("written");
        for writing in [&["cp", "-T", &made.display().to_string()][..], &["mkdir"]] {
            let done = tool(writing, &mount.path("new"));
            assert!(!done.ok(), "{writing:?}");
            assert!(done.err.contains("Input/output error"), "{}", done.err);
        }
        network.mend(cut, &store);
        eventually(seconds(60), "names are listed again", || {
            let listed = tool(&["ls"], &mount.at);
            listed.ok() && listed.out.starts_with("old\nother\n")
        });
        eventually(seconds(60), "files are looked at again", || {
            tool(&["stat"], &mount.path("other")).ok()
        });
        eventually(seconds(60), "files are read again", || {
            tool(&["cat"], &mount.path("other")).out == "other"
        });
        store.assert_no_uploads_within(60, "the network is back");
        // Whole, or not there: what was asked for in the meantime may have been done unheard.
        let objects = store.objects();
        for (key, seed) in [("new", 2), ("torn", 4)] {
            if objects.contains_key(key) {
                store.assert_holds(key, &Content::new(seed, SIZE));
            }
        }
        let last = Content::new(3, SIZE);
        std::fs::write(mount.path("last"), last.bytes()).expect("written");
        store.assert_holds("last", &last);
    });
}

#[test]
fn with_the_cable_pulled_nobody_hangs_and_all_is_well_again() {
    nobody_hangs_and_all_is_well_again(Cut::Cable);
}

#[test]
fn with_answers_lost_nobody_hangs_and_all_is_well_again() {
    nobody_hangs_and_all_is_well_again(Cut::Answers);
}

fn who_reads_and_writes_goes_on(cut: Cut) {
    Network::play(|network| {
        let (store, place, mount) = mounted(network, &STEADFAST);
        let new = Content::new(2, 40 * MIB);
        let (mut writer, mut reader) = (Writer::start(), Writer::start());
        writer.open(&mount.path("new"), "wct").write(new.seed, SIZE);
        store.await_parts("new", 1);
        reader.open(&mount.path("old"), "r");
        let before = failures(&store, &place);
        network.cut(cut);
        reader.begin(&format!("check 1 {SIZE}"));
        writer.begin(&format!("write {} {}", new.seed, new.size - SIZE));
        eventually(seconds(60), "it is noticed", || {
            failures(&store, &place) > before
        });
        network.mend(cut, &store);
        assert_eq!(reader.finish("check"), Ok(()));
        assert_eq!(writer.finish("write"), Ok(()));
        writer.step("close");
        store.assert_holds("new", &new);
        assert_eq!(store.open_uploads(), []);
    });
}

#[test]
fn with_the_cable_pulled_for_a_while_readers_and_writers_go_on() {
    who_reads_and_writes_goes_on(Cut::Cable);
}

#[test]
fn with_answers_lost_for_a_while_readers_and_writers_go_on() {
    who_reads_and_writes_goes_on(Cut::Answers);
}

/// A server that is begun again refuses connections for longer than a call has attempts.
#[test]
fn a_store_that_is_begun_again_is_waited_for() {
    let mut store = Store::embedded();
    let mut door = Door::to(&store.endpoint);
    store.endpoint = door.endpoint.clone();
    store.put("old", Content::new(1, SIZE).bytes());
    store.put("other", "other");
    let options = [
        "--part-size",
        "5M",
        "--attempts",
        "2",
        "--metadata-ttl",
        "0s",
    ];
    let mount = Mount::with(&store, &options);
    let (small, large) = (Content::new(2, 1000), Content::new(3, SIZE));
    let mut programs: Vec<Writer> = (0..4).map(|_| Writer::start()).collect();
    let [reader, of_small, of_large, looker] = &mut programs[..] else {
        unreachable!("four were made");
    };
    reader.open(&mount.path("old"), "r");
    of_small
        .open(&mount.path("small"), "wct")
        .write(2, small.size);
    of_large
        .open(&mount.path("large"), "wct")
        .write(3, large.size);
    store.await_parts("large", 2);
    let place = mount.place();
    let before = failures(&store, &place);
    door.shut();
    reader.begin(&format!("check 1 {SIZE}"));
    of_small.begin("close");
    of_large.begin("close");
    looker.begin(&format!("open r {}", mount.path("other").display()));
    eventually(seconds(60), "each was refused more than twice", || {
        failures(&store, &place) > before + 20
    });
    door.open();
    assert_eq!(reader.finish("check"), Ok(()));
    assert_eq!(of_small.finish("close"), Ok(()));
    assert_eq!(of_large.finish("close"), Ok(()));
    assert_eq!(looker.finish("open"), Ok(()));
    store.assert_holds("small", &small);
    store.assert_holds("large", &large);
    assert_eq!(store.open_uploads(), []);
    assert!(mount.terminate().success());
}

/// The process sleeps in this system call, by its number.
fn is_in(pid: u32, call: i64) -> bool {
    let now = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    now.split(' ').next() == Some(&call.to_string())
}

#[test]
fn ctrl_c_ends_a_reader_while_the_network_is_away() {
    Network::play(|network| {
        let (store, _place, mount) = mounted(network, &PATIENT);
        let mut reader = Writer::start();
        reader.open(&mount.path("old"), "r");
        network.cut(Cut::Cable);
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            let mut reader = std::mem::replace(&mut reader, Writer::start());
            if signal == libc::SIGINT {
                reader.begin(&format!("check 1 {SIZE}"));
                eventually(seconds(30), "it reads", || {
                    is_in(reader.pid(), libc::SYS_pread64)
                });
            } else {
                // Not known any more how it is, so the store is asked.
                reader.begin(&format!("open r {}", mount.path("another").display()));
                eventually(seconds(30), "it opens", || {
                    is_in(reader.pid(), libc::SYS_open) || is_in(reader.pid(), libc::SYS_openat)
                });
            }
            reader.die_of(signal);
        }
        // One that catches it hears of it.
        let script = "$SIG{INT} = sub { exit 7 }; opendir(my $d, $ARGV[0]); readdir $d; sysread(STDIN, $_, 1)";
        let job = Job::start(
            "exec perl -e \"$1\" \"$2\"",
            &[Path::new(script), &mount.at],
        );
        eventually(seconds(30), "it lists", || {
            is_in(job.pid(), libc::SYS_getdents64)
        });
        job.signal(libc::SIGINT);
        assert_eq!(job.wait().code(), Some(7));
        network.mend(Cut::Cable, &store);
        Content::new(1, SIZE).assert_file(&mount.path("old"));
    });
}

/// Both wait for the same pages, which were asked for when the first came.
#[test]
fn ctrl_c_ends_a_reader_of_what_a_killed_one_has_asked_for() {
    let store = Store::embedded();
    store.put("file", vec![7; MIB as usize]);
    let mount = Mount::new(&store);
    let silent = store.faults().script("op=GetObject:hang-before");
    silent.expect("a fault");
    let (file, opened) = (mount.path("file"), mount.aside("opened"));
    let reads = |job: &Job| {
        eventually(seconds(30), "it reads", || {
            opened.exists() && is_in(job.pid(), libc::SYS_read)
        });
        std::fs::remove_file(&opened).expect("there");
    };
    let script = "$SIG{INT} = sub { exit 7 }; open(my $f, '<', $ARGV[0]); open(my $o, '>', $ARGV[1]); close $o; sysread($f, $_, 4096)";
    let reader = || {
        let words = [Path::new(script), &file, &opened];
        Job::start("exec perl -e \"$1\" \"$2\" \"$3\"", &words)
    };
    let first = reader();
    reads(&first);
    first.die_of(libc::SIGKILL);
    let second = reader();
    reads(&second);
    second.signal(libc::SIGINT);
    assert_eq!(second.wait().code(), Some(7));
}

#[test]
fn a_writer_killed_while_the_network_is_away_dies_at_once_and_leaves_nothing() {
    Network::play(|network| {
        let (store, _place, mount) = mounted(network, &PATIENT);
        let (mut writing, mut closing) = (Writer::start(), Writer::start());
        for (writer, name) in [(&mut writing, "writing"), (&mut closing, "closing")] {
            writer.open(&mount.path(name), "wct").write(2, SIZE);
            store.await_parts(name, 2);
        }
        network.cut(Cut::Cable);
        closing.begin("close");
        eventually(seconds(30), "it closes", || {
            is_in(closing.pid(), libc::SYS_close)
        });
        // More than there is memory for.
        writing.begin(&format!("write 2 {}", 200 * MIB));
        eventually(seconds(60), "the memory is full", || {
            mount.memory() > 60 * MIB && is_in(writing.pid(), libc::SYS_write)
        });
        writing.die_of(libc::SIGKILL);
        closing.die_of(libc::SIGKILL);
        network.mend(Cut::Cable, &store);
        store.assert_no_uploads_within(60, "the network is back");
        // Its close had begun, so it is published all the same, or not at all.
        assert!(!store.objects().contains_key("writing"));
        if store.objects().contains_key("closing") {
            store.assert_holds("closing", &Content::new(2, SIZE));
        }
        Content::new(1, SIZE).assert_file(&mount.path("old"));
    });
}

fn a_mount_ends_while_the_network_is_away(end: fn(&Mount)) {
    Network::play(|network| {
        let mut options = PATIENT.to_vec();
        options.extend(["--shutdown-timeout", "2s"]);
        let (store, place, mount) = mounted(network, &options);
        let mut writer = Writer::start();
        writer.open(&mount.path("file"), "wct").write(2, SIZE);
        store.await_parts("file", 2);
        network.cut(Cut::Cable);
        writer.die_of(libc::SIGKILL);
        end(&mount);
        let at = mount.at.clone();
        // It has left an upload behind, and says so.
        assert_eq!(mount.wait_for_end().code(), Some(1));
        assert!(!is_mounted(&at));
        assert_eq!(store.open_uploads().len(), 1);
        network.mend(Cut::Cable, &store);
        let source = format!("s3://{}", store.bucket);
        let again = network.beyond(|| Mount::within(&place, "mnt", &store, &source, &[]));
        store.assert_no_uploads_within(60, "mounted again");
        assert_eq!(again.terminate().code(), Some(0));
    });
}

#[test]
fn umount_works_while_the_network_is_away() {
    a_mount_ends_while_the_network_is_away(|mount| umount(&mount.at));
}

#[test]
fn a_signal_ends_the_mount_while_the_network_is_away() {
    a_mount_ends_while_the_network_is_away(|mount| {
        crate::support::tools::kill(mount.pid(), libc::SIGTERM);
    });
}
