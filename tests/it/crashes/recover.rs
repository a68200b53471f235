//! `wholefs recover` as a person meets it, and the uploads that are hardest to know.

use std::net::SocketAddr;

use serde_json::Value;
use wholefs::embedded::{Keep, Options};

use super::scene::{Held, KEY, NEW, OPTIONS, Scene, UNGUARDED, assert_killed};
use crate::support::mount::{Place, detach, program, umount};
use crate::support::tools::{run, run_within};
use crate::support::{MIB, Mount, Store, Writer, eventually, seconds};

/// A dead mount with a file that had been closed and two that had not.
#[track_caller]
fn one_closed_and_two_open(scene: &Scene) {
    let mut mount = scene.mount(&UNGUARDED);
    let open = ["a/open", "b"].map(|key| {
        let _ = std::fs::create_dir(mount.path("a"));
        scene.writer(&mount, key, 1)
    });
    let mut writer = scene.writer(&mount, KEY, 2);
    let faults = scene.store.faults();
    let target = mount.daemon() as i32;
    faults
        .target()
        .store(target, std::sync::atomic::Ordering::SeqCst);
    let kill = faults.script("op=CompleteMultipartUpload:kill-before=target");
    writer.attempt("close").expect_err("nobody answers");
    assert_killed(mount.wait_for_death());
    faults.remove(kill.expect("a fault"));
    drop(open);
    detach(&mount.at);
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let scene = Scene::new();
    one_closed_and_two_open(&scene);
    let (before, requests) = (scene.journals(), scene.store.log().total());
    let said = run(scene.recover().arg("--dry-run"));
    assert!(said.ok(), "{}", said.err);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    let bucket = &scene.store.bucket;
    let expected = [
        format!("would abort s3://{bucket}/a/open"),
        format!("would abort s3://{bucket}/b"),
        format!("would complete s3://{bucket}/{KEY}"),
    ];
    assert_eq!(lines, expected);
    let said = run(scene.recover().args(["--dry-run", "--json"]));
    assert!(said.ok(), "{}", said.err);
    let report = json(&said.out);
    let would = report["would"].as_array().expect("a list");
    assert_eq!(would.len(), 3, "{report}");
    let complete = would.iter().find(|w| w["action"] == "complete");
    let complete = complete.expect("one is completed");
    assert_eq!(
        (&complete["bucket"], &complete["key"]),
        (&bucket.as_str().into(), &KEY.into())
    );
    assert_eq!(scene.journals(), before);
    assert_eq!(scene.store.log().total(), requests, "nothing is asked");
    assert_eq!(scene.ours().len(), 3);

    let said = run(scene.recover().arg("--json"));
    assert!(said.ok(), "{}", said.err);
    let report = json(&said.out);
    for (field, count) in [
        ("completed", 1),
        ("aborted", 2),
        ("lost", 0),
        ("kept", 0),
        ("live", 0),
    ] {
        assert_eq!(report[field], count, "{field}: {report}");
    }
    assert_eq!(scene.held(KEY, "recovered"), Held::New);
    scene.assert_at_rest("recovered");

    let again = scene.recover_all("again");
    assert_eq!(again.out, "nothing to recover\n");
}

#[test]
fn what_somebody_else_wrote_since_the_crash_wins_and_the_loss_is_told() {
    let scene = Scene::new();
    one_closed_and_two_open(&scene);
    scene.put_old();
    let said = scene.recover_all("overtaken");
    assert_eq!(said.out, "0 completed, 2 aborted, 1 lost\n");
    assert!(
        said.err
            .contains("/file: had been closed, and is not in the bucket"),
        "{}",
        said.err
    );
    assert_eq!(scene.held(KEY, "overtaken"), Held::Old);
    scene.assert_at_rest("overtaken");
}

/// The same bucket at the same address, as often as it is started.
fn start(at: SocketAddr, folder: &std::path::Path) -> Store {
    Store::embedded_with(Options {
        listen: at,
        keep: Keep::Directory(folder.to_path_buf()),
        ..Options::default()
    })
}

#[test]
fn a_store_that_is_not_there_keeps_the_record_for_a_later_recovery() {
    let place = Place::default();
    let folder = place.path("bucket");
    let store = start(SocketAddr::from(([127, 0, 0, 1], 0)), &folder);
    let address = store.server().address();
    let source = format!("s3://{}", store.bucket);
    let mut mount = Mount::within(&place, "mnt", &store, &source, &UNGUARDED);
    let mut writer = Writer::start();
    writer
        .open(&mount.path(KEY), "wct")
        .write(NEW.seed, NEW.size);
    store.await_parts(KEY, 2);
    crate::support::tools::kill(mount.daemon(), libc::SIGKILL);
    assert_killed(mount.wait_for_death());
    drop(writer);
    detach(&mount.at);

    let recover = |more: &[&str]| {
        let mut command = program(&store);
        command.arg("recover").arg("--state-dir").arg(place.state());
        command
            .args(["--attempts", "2", "--request-timeout", "2s"])
            .args(more);
        command
    };
    let (mut first, mut second) = (recover(&[]), recover(&["--json"]));
    let mut last = recover(&[]);
    let mut elsewhere = recover(&["--endpoint-url", "http://127.0.0.1:1"]);
    drop(store);
    let said = run_within(&mut first, seconds(120));
    println!("unreachable: {}", said.err);
    assert_eq!(said.status.code(), Some(1), "{}{}", said.out, said.err);
    assert_eq!(
        said.out,
        "0 completed, 0 aborted, 1 kept for the next time\n"
    );
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    for part in ["connection refused", "run it again", &address.to_string()] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    let said = run_within(&mut second, seconds(120));
    assert_eq!(said.status.code(), Some(1), "{}{}", said.out, said.err);
    assert_eq!(json(&said.out)["kept"], 1);
    assert_eq!(place.instances().len(), 1);

    let store = start(address, &folder);
    assert_eq!(store.open_uploads().len(), 1);
    // Where they are is not for who recovers to say: at another address nothing would be found, and be over.
    let said = run(&mut elsewhere);
    assert_eq!(said.status.code(), Some(1), "{}{}", said.out, said.err);
    for part in [
        "http://127.0.0.1:1",
        &address.to_string(),
        "leave --endpoint-url out",
    ] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    assert_eq!(store.open_uploads().len(), 1);
    let said = run(&mut last);
    assert!(said.ok(), "{}{}", said.out, said.err);
    assert_eq!(said.out, "0 completed, 1 aborted\n");
    assert_eq!(store.open_uploads(), []);
    assert_eq!(store.keys(), [""; 0]);
    assert!(place.instances().is_empty());
}

#[test]
fn a_mount_serves_reads_while_its_recovery_is_refused_and_ends_it_later() {
    let scene = Scene::new();
    let mount = scene.mount(&UNGUARDED);
    let writer = scene.writer(&mount, "open", 1);
    scene.kill_unguarded(mount);
    drop(writer);
    scene.put_old();
    let faults = scene.store.faults();
    let refused = faults
        .script("op=AbortMultipartUpload:error=403")
        .expect("a fault");
    let mount = scene.mount(&OPTIONS);
    super::scene::OLD.assert_file(&mount.path(KEY));
    eventually(seconds(60), "it says so", || {
        let said = mount.stderr();
        said.contains("1 kept for the next time") && said.contains("AbortMultipartUpload")
    });
    assert_eq!(scene.ours().len(), 1);
    assert_eq!(scene.place.instances().len(), 2);
    faults.remove(refused);
    // By itself.
    scene.assert_none_of_ours_within(30, "tried again");
    eventually(seconds(20), "its journal is gone", || {
        scene.place.instances().len() == 1
    });
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("tried again");
}

// ---- The unknown upload

#[test]
fn a_create_whose_answer_is_lost_leaves_one_file_and_no_second_upload() {
    for (times, lost) in [
        (1, "drop-after"),
        (1, "applied-error-body"),
        (1, "short-body"),
        (4, "error=500"),
    ] {
        let scene = Scene::new();
        let mount = scene.mount(&["--part-size", "5M", "--request-timeout", "2s"]);
        let text = format!("op=CreateMultipartUpload,n=1..{times}:{lost}");
        let fault = scene.store.faults().script(&text).expect("a fault");
        let mut writer = Writer::start();
        writer
            .open(&mount.path(KEY), "wct")
            .write(NEW.seed, NEW.size);
        writer.step("close");
        assert_eq!(scene.store.faults().fired(fault), times, "{lost}");
        assert_eq!(scene.held(KEY, lost), Held::New, "{lost}");
        scene.assert_none_of_ours_within(5, lost);
        assert_eq!(mount.terminate().code(), Some(0), "{lost}");
        scene.assert_at_rest(lost);
    }
}

#[test]
fn recovery_leaves_a_live_mount_alone() {
    let scene = Scene::new();
    let mount = scene.mount(&OPTIONS);
    let mut writer = scene.writer(&mount, KEY, 2);
    for _ in 0..3 {
        let said = scene.recover_all("live").out;
        assert_eq!(said, "nothing to recover; 1 live mount left alone\n");
    }
    writer.write(NEW.seed, MIB).step("close");
    scene
        .store
        .assert_holds(KEY, &crate::support::Content::new(NEW.seed, NEW.size + MIB));
    drop(writer);
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("live");
}

/// Two services may each have a bucket of one name, and the address of a service need not be on the command line.
#[test]
fn a_bucket_of_the_same_name_elsewhere_is_another_bucket() {
    let (ours, theirs) = (Store::embedded(), Store::embedded());
    assert_eq!(ours.bucket, theirs.bucket);
    let place = Place::default();
    let at = place.path("mnt");
    std::fs::create_dir_all(&at).expect("a mount point");
    let state = place.state().display().to_string();
    let mount = |store: &Store| {
        let mut command = program(store);
        command
            .env("AWS_ENDPOINT_URL_S3", &store.endpoint)
            .env_remove("AWS_ENDPOINT_URL")
            .args(["mount", "--no-guardian", "--part-size", "5M"])
            .args(["--region", store.region, "--provider", store.provider])
            .args(["--state-dir", &state, &format!("s3://{}", store.bucket)])
            .arg(&at);
        let done = run_within(&mut command, seconds(30));
        assert!(done.ok(), "{}", done.err);
    };
    let daemon = || {
        let mut status = program(&ours);
        let said = run(status.args(["status", "--json", "--state-dir", &state]));
        let pid = json(&said.out)[0]["pid"].as_i64().expect("a process");
        i32::try_from(pid).expect("its number")
    };
    mount(&ours);
    let mut writer = Writer::start();
    writer.open(&at.join("file"), "wct").write(1, 12 * MIB);
    ours.await_parts("file", 1);
    // SAFETY: no pointers involved; the process is the mount's.
    unsafe { libc::kill(daemon(), libc::SIGKILL) };
    writer.attempt("close").expect_err("nobody answers");
    eventually(seconds(10), "the mount is dead", || {
        std::fs::metadata(&at).is_err()
    });
    detach(&at);
    // This one hears NoSuchUpload of everything.
    mount(&theirs);
    umount(&at);
    assert_eq!(ours.open_uploads().len(), 1, "it is still there");
    mount(&ours);
    ours.assert_no_uploads_within(10, "mounted where it was");
    umount(&at);
}

#[test]
fn a_state_directory_that_is_not_there_is_told() {
    let scene = Scene::new();
    let mut command = program(&scene.store);
    let said = run(command
        .args(["recover", "--state-dir"])
        .arg(scene.place.path("typo")));
    assert!(said.ok(), "{}", said.err);
    assert_eq!(said.out, "nothing to recover\n");
    assert!(
        said.err.contains("typo: there is no such directory"),
        "{}",
        said.err
    );
}
