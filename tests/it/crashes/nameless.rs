//! Uploads whose Create was not answered: nobody knows their ids, and they are found all the same;
//! and no other one is taken for them.

use std::sync::atomic::Ordering;

use super::scene::{Held, KEY, NEW, Scene, UNGUARDED, assert_killed};
use crate::support::mount::detach;
use crate::support::tools::run;
use crate::support::{Mount, Writer, eventually, seconds};

/// Kills a mount when it creates the upload of [`KEY`]: `before` the store has done so, or `after`.
#[track_caller]
fn killed_while_creating(scene: &Scene, mut mount: Mount, moment: &str) {
    let faults = scene.store.faults();
    let target = mount.daemon() as i32;
    faults.target().store(target, Ordering::SeqCst);
    let kill = faults.script(&format!("op=CreateMultipartUpload:kill-{moment}=target"));
    let mut writer = Writer::start();
    writer.open(&mount.path(KEY), "wct");
    let written = writer.attempt(&format!("write {} {}", NEW.seed, NEW.size));
    let closed = written.and_then(|()| writer.attempt("close"));
    closed.expect_err("nobody answers");
    assert_killed(mount.wait_for_death());
    faults.remove(kill.expect("a fault"));
    detach(&mount.at);
}

#[test]
fn an_upload_whose_id_nobody_knows_is_found_by_the_rule_and_no_other_is_touched() {
    let scene = Scene::new();
    let server = scene.store.server();
    let create = |key| server.create_upload(&scene.store.bucket, key);
    // Without a part, as ours is: of the same key but older, and of a key that begins the same.
    let older = create(KEY);
    let initiated = || {
        let uploads = scene.ours().into_iter();
        uploads
            .filter(|u| u.id == older)
            .map(|u| u.initiated)
            .next()
    };
    eventually(
        seconds(20),
        "it is older than any doubt about clocks",
        || {
            let age = initiated().and_then(|at| at.elapsed().ok());
            age.is_some_and(|age| age > std::time::Duration::from_secs(8))
        },
    );
    let longer = create("file-2");
    let theirs = |id: &str| id == older || id == longer;

    let mut mount = scene.mount(&UNGUARDED);
    let faults = scene.store.faults();
    let target = mount.daemon() as i32;
    faults
        .target()
        .store(target, std::sync::atomic::Ordering::SeqCst);
    let kill = faults.script("op=CreateMultipartUpload:kill-after=target");
    let mut writer = Writer::start();
    writer.open(&mount.path(KEY), "wct");
    let written = writer.attempt(&format!("write {} {}", NEW.seed, NEW.size));
    let closed = written.and_then(|()| writer.attempt("close"));
    closed.expect_err("nobody answers");
    assert_killed(mount.wait_for_death());
    faults.remove(kill.expect("a fault"));
    detach(&mount.at);
    let ours: Vec<_> = scene
        .ours()
        .into_iter()
        .filter(|u| !theirs(&u.id))
        .collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].parts, 0);
    assert!(
        !scene.journals().contains(&ours[0].id),
        "its id is not known"
    );

    let said = scene.recover_all("unknown").out;
    assert_eq!(said, "0 completed, 1 aborted\n");
    let mut left: Vec<String> = scene.ours().into_iter().map(|u| u.id).collect();
    left.sort();
    let mut expected = vec![older.clone(), longer.clone()];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(scene.held(KEY, "unknown"), Held::Nothing);
    for (key, id) in [(KEY, &older), ("file-2", &longer)] {
        assert!(server.abort_upload(&scene.store.bucket, key, id));
    }
    scene.assert_at_rest("unknown");
}

#[test]
fn two_uploads_of_one_key_whose_ids_nobody_knows_are_both_ended() {
    let scene = Scene::new();
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "after");
    // The next mount does not come to look for it before it dies of the same.
    let faults = scene.store.faults();
    let blind = faults.script("op=ListMultipartUploads:hold-before");
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "after");
    faults.remove(blind.expect("a fault"));
    assert_eq!(scene.ours().len(), 2);
    assert_eq!(scene.place.instances().len(), 2);
    let said = scene.recover_all("two unknown").out;
    assert_eq!(said, "0 completed, 2 aborted\n");
    scene.assert_at_rest("two unknown");
}

#[test]
fn a_clock_that_was_set_right_since_hides_no_upload() {
    let scene = Scene::new();
    scene.place.preload_of("slow_clock.c");
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "after");
    std::fs::remove_file(scene.place.preload()).expect("the clock is right again");
    assert_eq!(scene.ours().len(), 1);
    let said = scene.recover_all("the clock is right").out;
    assert_eq!(said, "0 completed, 1 aborted\n");
    scene.assert_at_rest("the clock is right");
}

#[test]
fn a_live_mounts_upload_is_not_taken_for_a_dead_ones() {
    let scene = Scene::new();
    // Nothing of it is in the bucket. Its recovery looks for it while the same file is written anew.
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "before");
    assert_eq!(scene.ours().len(), 0);
    let mount = scene.mount(&UNGUARDED);
    let faults = scene.store.faults();
    let without_parts = faults.script("op=UploadPart:hold-before");
    let mut writer = Writer::start();
    writer.open(&mount.path(KEY), "wct");
    writer.write(NEW.seed, NEW.size);
    eventually(seconds(20), "the file is written anew", || {
        scene.ours().len() == 1
    });
    eventually(seconds(60), "the dead one's recovery is over", || {
        scene.place.instances().len() == 1
    });
    assert_eq!(scene.ours().len(), 1, "the live one's upload");
    faults.remove(without_parts.expect("a fault"));
    writer.step("close");
    assert_eq!(scene.held(KEY, "written anew"), Held::New);
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("written anew");
}

#[test]
fn a_file_begun_anew_waits_until_its_first_upload_has_a_name() {
    let scene = Scene::new();
    let options = [&UNGUARDED[..], &["--request-timeout", "2s"]].concat();
    let mount = scene.mount(&options);
    let faults = scene.store.faults();
    let lost = faults.script("op=CreateMultipartUpload:hang-after");
    let lost = lost.expect("a fault");
    let mut writer = Writer::start();
    writer.open(&mount.path(KEY), "wct");
    writer.write(NEW.seed, NEW.size);
    eventually(seconds(20), "the answer is lost", || {
        faults.fired(lost) == 1
    });
    writer.step("truncate 0").step("seek 0");
    faults.remove(lost);
    writer.write(NEW.seed, NEW.size);
    writer.step("close");
    assert_eq!(scene.held(KEY, "begun anew"), Held::New);
    // The second was created when the first had been found, and not before.
    let asked = scene.store.log().records();
    let first = |what: &str| asked.iter().position(|r| r.operation == what);
    let last = |what: &str| asked.iter().rposition(|r| r.operation == what);
    let looked = first("ListMultipartUploads").expect("it was looked for");
    assert!(Some(looked) < last("CreateMultipartUpload"));
    scene.assert_none_of_ours_within(20, "begun anew");
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("begun anew");
}

#[test]
fn what_cannot_be_told_from_somebody_elses_is_kept_until_it_can() {
    let scene = Scene::new();
    let (server, bucket) = (scene.store.server(), &scene.store.bucket);
    // Begun at the same time, to the same key, and without a part so far.
    let theirs = server.create_upload(bucket, KEY);
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "after");
    assert_eq!(scene.ours().len(), 2);
    let said = run(scene.recover().args(["--request-timeout", "1s"]));
    assert_eq!(said.status.code(), Some(1), "{}", said.err);
    assert!(said.err.contains("wholefs uploads abort"), "{}", said.err);
    assert_eq!(scene.ours().len(), 2, "none is touched");
    assert_eq!(scene.place.instances().len(), 1, "it is not forgotten");
    // They go on.
    server.put_part(bucket, KEY, &theirs, 1, vec![7; 1000]);
    let said = scene.recover_all("told apart").out;
    assert_eq!(said, "0 completed, 1 aborted\n");
    let left: Vec<String> = scene.ours().into_iter().map(|u| u.id).collect();
    assert_eq!(left, [theirs.as_str()]);
    assert!(server.abort_upload(bucket, KEY, &theirs));
    scene.assert_at_rest("told apart");
}

#[test]
fn an_upload_somebody_has_just_begun_is_not_taken_for_a_lost_one() {
    let scene = Scene::new();
    let (server, bucket) = (scene.store.server(), &scene.store.bucket);
    // Ours was never made. Theirs comes within its time, and gets its first part a little later.
    killed_while_creating(&scene, scene.mount(&UNGUARDED), "before");
    let theirs = server.create_upload(bucket, KEY);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let looks = || scene.store.log().count("ListParts");
            eventually(seconds(60), "it is looked at", || looks() > 0);
            server.put_part(bucket, KEY, &theirs, 1, vec![7; 1000]);
        });
        scene.recover_all("just begun");
    });
    let left: Vec<String> = scene.ours().into_iter().map(|u| u.id).collect();
    assert_eq!(left, [theirs.as_str()]);
    assert!(server.abort_upload(bucket, KEY, &theirs));
    scene.assert_at_rest("just begun");
}
