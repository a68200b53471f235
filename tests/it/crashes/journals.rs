//! The state directory in trouble: restored from before a power loss, on a full disk, damaged, of
//! another bucket.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use wholefs::embedded::Options;

use super::scene::{Held, KEY, NEW, OPTIONS, Scene, UNGUARDED, assert_killed, side_by_side};
use crate::support::mount::{detach, mount_command};
use crate::support::tools::{kill, run, sh_ok};
use crate::support::{Content, MIB, Mount, Writer, eventually, seconds};

// ---- Power loss

/// Where the machine stops, and what the key may hold after the recovery.
const MOMENTS: [(&str, &[Held]); 7] = [
    ("op=CreateMultipartUpload:hold-before", &[Held::Nothing]),
    ("op=CreateMultipartUpload:hold-after", &[Held::Nothing]),
    ("op=UploadPart:hold-before", &[Held::Nothing]),
    ("op=UploadPart,n=2..:hold-before", &[Held::Nothing]),
    ("op=UploadPart:hold-after", &[Held::Nothing]),
    ("op=CompleteMultipartUpload:hold-before", &[Held::New]),
    ("op=CompleteMultipartUpload:hold-after", &[Held::New]),
];

#[test]
fn a_power_loss_at_any_moment_of_a_write_is_recovered_from() {
    let tried = side_by_side(&MOMENTS, |(moment, may_hold)| {
        let scene = Scene::new();
        scene.place.preload_of("synced.c");
        let mut mount = scene.mount(&UNGUARDED);
        let held = scene.store.faults().script(moment).expect("a fault");
        let mut writer = Writer::start();
        writer.open(&mount.path(KEY), "wct");
        writer.begin(&format!("write {} {}", NEW.seed, NEW.size));
        writer.begin("close");
        eventually(seconds(30), moment, || scene.store.faults().fired(held) > 0);

        // The machine stands still; what was synced of its journal is what there is after it.
        let daemon = mount.daemon();
        kill(daemon, libc::SIGSTOP);
        let stat = format!("/proc/{daemon}/stat");
        eventually(seconds(10), "it is stopped", || {
            std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
        let (state, copy) = (scene.place.state(), scene.place.path("copy"));
        sh_ok("cp -a \"$1\" \"$2\"", &[&state, &copy]);
        kill(daemon, libc::SIGKILL);
        assert_killed(mount.wait_for_death());
        detach(&mount.at);
        std::fs::remove_dir_all(&state).expect("the original is gone");
        std::fs::rename(&copy, &state).expect("the copy in its place");
        for instance in scene.place.instances() {
            let synced = ["journal.synced", "journal.new.synced"].map(|name| instance.join(name));
            let synced = synced.iter().find(|path| path.exists());
            let synced = synced.expect("it was synced when it was made");
            std::fs::rename(synced, instance.join("journal")).expect("renamed");
            sh_ok("rm -f \"$1\"/*.synced \"$1\"/*.unfinished", &[&instance]);
        }
        // What the dead machine sent may still arrive.
        scene.store.faults().remove(held);
        drop(writer);

        scene.recover_all(moment);
        let found = scene.held(KEY, moment);
        assert!(may_hold.contains(&found), "{moment}: {found:?}");
        scene.assert_at_rest(moment);
    });
    println!("{} moments", tried.len());
    assert!(tried.len() >= 7);
}

// ---- A full disk

/// Takes all the room below `at`, until it is removed.
fn fill_up(at: &Path) -> PathBuf {
    let filler = at.join("filler");
    let mut file = File::create(&filler).expect("made");
    // To the last byte.
    for size in [4096, 512, 1] {
        while let Ok(wrote) = file.write(&vec![0; size]) {
            assert!(wrote > 0);
        }
    }
    filler
}

/// Writes and closes; the errno of the first that fails.
fn write(path: &Path, content: &Content) -> Result<(), i32> {
    let mut writer = Writer::start();
    writer.attempt(&format!("open wct {}", path.display()))?;
    writer.attempt(&format!("write {} {}", content.seed, content.size))?;
    writer.attempt("close")
}

#[test]
fn on_a_full_disk_large_files_fail_at_once_and_small_ones_go_on() {
    let scene = Scene::new();
    scene.put_old();
    let state = scene.place.state();
    std::fs::create_dir(&state).expect("made");
    sh_ok(
        "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$1\"",
        &[&state],
    );
    let mount = scene.mount(&OPTIONS);
    // One that has begun when the disk fills up, and has its commit still to be noted.
    let mut begun = scene.writer(&mount, "begun", 1);
    let filler = fill_up(&state);
    // The journal's own last block has room for a few records.
    eventually(seconds(60), "the disk is full", || {
        let refused = write(&mount.path("large"), &NEW);
        let full = refused == Err(libc::ENOSPC);
        assert!(full || refused == Ok(()), "{refused:?}");
        full
    });
    if scene.held("large", "while there was room") != Held::Nothing {
        std::fs::remove_file(mount.path("large")).expect("removed");
    }

    let small = Content::new(3, MIB);
    for round in 0..3 {
        let began = Instant::now();
        for key in [KEY, "large"] {
            let refused = write(&mount.path(key), &NEW);
            assert_eq!(refused, Err(libc::ENOSPC), "{key}, round {round}");
        }
        println!("two refused within {:?}", began.elapsed());
        assert!(began.elapsed() < seconds(10), "{:?}", began.elapsed());
        let key = format!("small-{round}");
        assert_eq!(write(&mount.path(&key), &small), Ok(()), "{key}");
        scene.store.assert_holds(&key, &small);
        scene.store.delete(&key);
    }
    let (old, new) = (mount.path("directory"), mount.path("renamed"));
    scene.store.put("directory/file", "x");
    let refused = std::fs::rename(&old, &new).expect_err("it cannot be noted");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    assert!(old.join("file").exists() && !new.exists());
    scene.store.delete("directory/file");
    assert_eq!(begun.attempt("close"), Err(libc::ENOSPC));
    drop(begun);
    scene.assert_none_of_ours_within(10, "a full disk");
    assert_eq!(scene.held(KEY, "a full disk"), Held::Old);
    assert_eq!(scene.store.keys(), [KEY]);

    std::fs::remove_file(filler).expect("there is room again");
    for key in [KEY, "large"] {
        assert_eq!(write(&mount.path(key), &NEW), Ok(()), "{key}, with room");
        assert_eq!(scene.held(key, "with room"), Held::New);
    }
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("with room");
    sh_ok("umount \"$1\"", &[&state]);
}

#[test]
fn a_daemon_killed_on_a_full_disk_is_recovered_from_on_the_full_disk() {
    let scene = Scene::new();
    scene.put_old();
    let state = scene.place.state();
    std::fs::create_dir(&state).expect("made");
    sh_ok(
        "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$1\"",
        &[&state],
    );
    let mount = scene.mount(&UNGUARDED);
    let writer = scene.writer(&mount, KEY, 2);
    let filler = fill_up(&state);
    scene.kill_unguarded(mount);
    drop(writer);
    // The bucket is cleaned, whether or not that can be noted.
    let done = run(&mut scene.recover());
    println!("{}\n{}{}", done.status, done.out, done.err);
    scene.assert_none_of_ours_within(1, "on a full disk");
    assert_eq!(scene.held(KEY, "on a full disk"), Held::Old);
    std::fs::remove_file(filler).expect("there is room again");
    scene.recover_all("with room");
    scene.assert_at_rest("with room");
    sh_ok("umount \"$1\"", &[&state]);
}

// ---- Damage

/// The only instance's journal.
fn journal(scene: &Scene) -> PathBuf {
    let instances = scene.place.instances();
    assert_eq!(instances.len(), 1);
    instances[0].join("journal")
}

/// `wholefs mount`, which is to fail.
#[track_caller]
fn refused_mount(scene: &Scene) -> String {
    let mut command = mount_command(&scene.store);
    command
        .arg("--foreground")
        .arg("--state-dir")
        .arg(scene.place.state());
    let refused = run(command.arg(scene.source()).arg(scene.at()));
    assert_eq!(refused.status.code(), Some(1), "{}", refused.err);
    refused.err
}

#[test]
fn a_damaged_journal_refuses_the_mount_and_names_the_file_and_the_remedy() {
    let scene = Scene::new();
    let mount = scene.mount(&UNGUARDED);
    let writers = [KEY, "second", "third"].map(|key| scene.writer(&mount, key, 1));
    scene.kill_unguarded(mount);
    drop(writers);
    let path = journal(&scene);
    let whole = std::fs::read(&path).expect("a journal");
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines >= 7, "a header, three begun, three opened: {lines}");
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    // In the middle of the header, of the first record, of the second.
    let mut tried = 0;
    for (line, end) in ends.iter().enumerate().take(3) {
        let mut damaged = whole.clone();
        damaged[end - 20] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let said = refused_mount(&scene);
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in [
            path.to_str().expect("a plain path").to_string(),
            format!("line {}", line + 1),
            format!(
                "mv {0} {0}.damaged",
                path.parent().expect("a folder").display()
            ),
        ] {
            assert!(said.contains(&part), "{part:?} is not in: {said}");
        }
        // Nothing is done on its word.
        let done = run(&mut scene.recover());
        assert_eq!(done.status.code(), Some(1), "{}{}", done.out, done.err);
        assert!(
            done.err.contains(path.to_str().expect("plain")),
            "{}",
            done.err
        );
        assert_eq!(scene.ours().len(), 3);
        assert_eq!(std::fs::read(&path).expect("there"), damaged, "left alone");
        tried += 1;
    }
    assert_eq!(tried, 3);
    scene.assert_plain("refused");

    // The remedy: moved aside, it is not looked at any more.
    let instance = path.parent().expect("a folder");
    let aside = instance.with_extension("damaged");
    std::fs::rename(instance, &aside).expect("moved aside");
    let mount = scene.mount(&OPTIONS);
    assert_eq!(mount.terminate().code(), Some(0));
    assert_eq!(scene.ours().len(), 3);
    // Whole again, it is one like any other.
    std::fs::write(aside.join("journal"), &whole).expect("written");
    std::fs::rename(&aside, instance).expect("moved back");
    scene.recover_all("mended");
    scene.assert_at_rest("mended");
}

#[test]
fn a_torn_tail_is_what_a_crash_leaves_and_refuses_nothing() {
    let scene = Scene::new();
    let mount = scene.mount(&UNGUARDED);
    let writer = scene.writer(&mount, KEY, 1);
    scene.kill_unguarded(mount);
    drop(writer);
    let path = journal(&scene);
    let mut file = File::options().append(true).open(&path).expect("a journal");
    file.write_all(b"0123456789abcdef {\"n\":3,\"s\":2,\"ki")
        .expect("torn");
    drop(file);
    let mount = scene.mount(&OPTIONS);
    scene.assert_none_of_ours_within(20, "a torn tail");
    eventually(seconds(20), "its journal is gone", || {
        scene.place.instances().len() == 1
    });
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("a torn tail");
}

// ---- Of another bucket

#[test]
fn an_instance_of_another_bucket_is_left_alone_and_counted() {
    let scene = Scene::of(Options {
        buckets: vec!["demo".into(), "other".into()],
        ..Options::default()
    });
    let server = scene.store.server();
    let other = Mount::within(&scene.place, "mnt", &scene.store, "s3://other", &UNGUARDED);
    let mut writer = Writer::start();
    writer.open(&other.path(KEY), "wct");
    writer.write(NEW.seed, NEW.size);
    let parts = || -> usize { server.uploads("other").iter().map(|u| u.parts).sum() };
    eventually(seconds(30), "two parts", || parts() == 2);
    scene.kill_unguarded(other);
    drop(writer);

    let requests = scene.store.log().total();
    let mount = scene.mount(&OPTIONS);
    let counted = format!("of other buckets in {}: 1 ", scene.place.state().display());
    assert!(mount.stderr().contains(&counted), "{}", mount.stderr());
    std::fs::write(mount.path(KEY), NEW.bytes()).expect("written");
    let error = std::fs::metadata(mount.path("missing")).expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(mount.terminate().code(), Some(0));
    let records = scene.store.log().records();
    let since = records.iter().filter(|r| r.sequence > requests);
    assert_eq!(since.filter(|r| r.bucket == "other").count(), 0);
    assert_eq!(parts(), 2);
    assert_eq!(scene.place.instances().len(), 1);

    scene.recover_all("the other bucket");
    assert_eq!(server.uploads("other"), []);
    scene.assert_at_rest("the other bucket");
}
