//! `wholefs uploads`: ours and others' told apart, and aborted is only what is certainly others'.

use std::process::Command;

use serde_json::Value;

use super::scene::{Held, KEY, NEW, OPTIONS, Scene, UNGUARDED};
use crate::support::tools::{Outcome, run};
use crate::support::{Mount, Writer, eventually};

/// An upload of a live mount, one of a dead one, and the foreign one.
struct Three {
    scene: Scene,
    mount: Mount,
    writer: Writer,
}

impl Three {
    #[track_caller]
    fn new() -> Three {
        let scene = Scene::new();
        // First the one that lives on: it would end what it finds of the dead.
        let mount = scene.mount(&OPTIONS);
        let dead = scene.mount_at("dead", &UNGUARDED);
        let orphaned = scene.writer(&dead, "orphaned", 2);
        scene.kill_unguarded(dead);
        drop(orphaned);
        let writer = scene.writer(&mount, "live", 2);
        let three = Three {
            scene,
            mount,
            writer,
        };
        assert_eq!(three.keys(), ["live", "orphaned"]);
        three
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.scene.ours().into_iter().map(|u| u.key).collect();
        keys.sort();
        keys
    }

    /// Nothing has happened to any of ours, and all ends as it should.
    #[track_caller]
    fn end_well(mut self) {
        assert_eq!(self.keys(), ["live", "orphaned"]);
        self.writer.step("close");
        assert_eq!(self.scene.held("live", "the live one"), Held::New);
        drop(self.writer);
        self.scene.recover_all("the orphaned one");
        assert_eq!(self.mount.terminate().code(), Some(0));
        self.scene.assert_none_of_ours_within(1, "the end");
        assert!(self.scene.place.instances().is_empty());
    }
}

fn uploads(scene: &Scene, what: &str) -> Command {
    let mut command = scene.command(format!("uploads {what}").trim_end());
    command.args(["--endpoint-url", &scene.store.endpoint]);
    command.args(["--region", scene.store.region]);
    command.args(["--provider", scene.store.provider]);
    command
}

#[track_caller]
fn listed(command: &mut Command) -> Vec<Value> {
    let said = run(command.arg("--json"));
    assert!(said.ok(), "{}", said.err);
    let list: Value = serde_json::from_str(&said.out).expect("JSON");
    let mut list = list.as_array().expect("a list").clone();
    list.sort_by_key(|upload| upload["key"].to_string());
    list
}

#[test]
fn uploads_are_shown_as_live_orphaned_and_foreign() {
    let three = Three::new();
    let scene = &three.scene;
    let source = scene.source();
    let state = |upload: &Value| upload["state"].as_str().expect("a state").to_owned();

    let all = listed(&mut uploads(scene, &source));
    assert_eq!(
        all.iter().map(state).collect::<Vec<_>>(),
        ["foreign", "live", "orphaned"]
    );
    for (upload, key) in all.iter().zip([KEY, "live", "orphaned"]) {
        assert_eq!(upload["key"], format!("{source}/{key}"));
        let inside = scene.store.server().uploads(&scene.store.bucket);
        let inside = inside.into_iter().find(|u| u.key == key).expect("open");
        assert_eq!(upload["upload_id"], inside.id);
        assert_eq!(upload["parts"], inside.parts);
        assert_eq!(upload["bytes"], inside.bytes);
        assert!(upload["age_seconds"].as_u64().expect("an age") < 600);
    }
    // By the journals alone: without a request, and without the foreign one.
    let requests = scene.store.log().total();
    let ours = listed(&mut uploads(scene, ""));
    assert_eq!(
        ours.iter().map(state).collect::<Vec<_>>(),
        ["live", "orphaned"]
    );
    assert_eq!(scene.store.log().total(), requests);
    // Below a prefix.
    let below = listed(&mut uploads(scene, &format!("{source}/nothing")));
    assert_eq!(below, [Value::Null; 0]);

    let said = run(&mut uploads(scene, &source));
    assert!(said.ok(), "{}", said.err);
    assert_eq!(said.out.lines().count(), 3, "{}", said.out);
    for word in ["live ", "orphaned ", "foreign ", "1 parts", "1048576 bytes"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    three.end_well();
}

#[track_caller]
fn assert_code(said: &Outcome, code: i32) {
    assert_eq!(said.status.code(), Some(code), "{}{}", said.out, said.err);
}

#[test]
fn nothing_is_aborted_without_consent() {
    let three = Three::new();
    let scene = &three.scene;
    let source = scene.source();
    let abort = format!("abort {source} {}", scene.foreign());
    let sweep = format!("sweep {source} --older-than 0s");
    for what in [abort, sweep] {
        let said = run(&mut uploads(scene, &what));
        assert_code(&said, 2);
        assert!(said.err.contains("--yes"), "{}", said.err);
        assert!(said.out.contains(scene.foreign()), "{}", said.out);
    }
    scene.assert_foreign_untouched("without consent");
    three.end_well();
}

#[test]
fn a_foreign_upload_is_aborted_by_its_id_and_none_of_ours_is() {
    let three = Three::new();
    let scene = &three.scene;
    let source = scene.source();
    for ours in scene.ours() {
        let said = run(&mut uploads(
            scene,
            &format!("abort {source} {} --yes", ours.id),
        ));
        assert_code(&said, 1);
        assert!(said.err.contains("left alone"), "{}", said.err);
    }
    let said = run(&mut uploads(
        scene,
        &format!("abort {source} no-such-id --yes"),
    ));
    assert_code(&said, 1);
    assert!(said.err.contains("not open"), "{}", said.err);
    scene.assert_foreign_untouched("not named");
    let said = run(&mut uploads(
        scene,
        &format!("abort {source} {} --yes", scene.foreign()),
    ));
    assert_code(&said, 0);
    assert!(said.out.ends_with("1 aborted\n"), "{}", said.out);
    assert_eq!(scene.store.open_uploads().len(), 2);
    three.end_well();
}

#[test]
fn a_sweep_takes_what_is_foreign_and_old_enough_and_never_ours() {
    let three = Three::new();
    let scene = &three.scene;
    let (source, server, bucket) = (scene.source(), scene.store.server(), &scene.store.bucket);
    for n in 0..3 {
        server.create_upload(bucket, &format!("theirs/{n}"));
    }
    let said = run(&mut uploads(
        scene,
        &format!("sweep {source} --older-than 7d --yes"),
    ));
    assert_code(&said, 0);
    assert_eq!(said.out, "nothing to abort\n");
    assert_eq!(server.uploads(bucket).len(), 6);
    let said = run(&mut uploads(
        scene,
        &format!("sweep {source} --prefix theirs --older-than 0s --yes"),
    ));
    assert_code(&said, 0);
    assert!(said.out.ends_with("3 aborted\n"), "{}", said.out);
    scene.assert_foreign_untouched("another prefix");
    let said = run(&mut uploads(
        scene,
        &format!("sweep {source} --older-than 0s --yes"),
    ));
    assert_code(&said, 0);
    assert!(said.out.ends_with("1 aborted\n"), "{}", said.out);
    let said = run(&mut uploads(
        scene,
        &format!("sweep {source} --older-than 0s --yes"),
    ));
    assert_eq!(said.out, "nothing to abort\n");
    three.end_well();
}

#[test]
fn a_sweep_never_takes_an_upload_that_a_live_mount_is_just_beginning() {
    let scene = Scene::new();
    let source = scene.source();
    let faults = scene.store.faults();
    let mount = scene.mount(&OPTIONS);
    // The bucket has the upload, and its mount does not know it yet.
    let held = faults
        .script("op=CreateMultipartUpload:hold-after")
        .expect("a fault");
    let mut writer = Writer::start();
    writer
        .open(&mount.path("new"), "wct")
        .write(NEW.seed, NEW.size);
    eventually(crate::support::seconds(20), "it is in the bucket", || {
        scene.ours().len() == 1
    });
    let id = scene.ours()[0].id.clone();
    assert!(!scene.journals().contains(&id));
    for what in [
        format!("sweep {source} --older-than 0s --yes"),
        format!("abort {source} {id} --yes"),
    ] {
        let said = run(&mut uploads(&scene, &what));
        assert!(said.err.contains("left alone"), "{}{}", said.out, said.err);
        assert_eq!(scene.ours().len(), 1, "{what}");
    }
    faults.remove(held);

    // And one that is begun while the sweep looks around.
    let held = faults
        .script("op=ListMultipartUploads:hold-after")
        .expect("a fault");
    let sweep = std::thread::scope(|scope| {
        let sweep = scope.spawn(|| {
            run(&mut uploads(
                &scene,
                &format!("sweep {source} --older-than 0s --yes"),
            ))
        });
        eventually(crate::support::seconds(20), "it asks", || {
            faults.fired(held) > 0
        });
        let second = scene.writer(&mount, "second", 1);
        faults.remove(held);
        let said = sweep.join().expect("no panic");
        (said, second)
    });
    let (said, mut second) = sweep;
    assert_code(&said, 0);
    for (writer, key) in [(&mut writer, "new"), (&mut second, "second")] {
        writer.step("close");
        assert_eq!(scene.held(key, "swept around"), Held::New, "{key}");
    }
    drop((writer, second));
    assert_eq!(mount.terminate().code(), Some(0));
}

#[test]
fn a_sweep_beside_a_damaged_journal_refuses_because_it_cannot_tell_whose_they_are() {
    let three = Three::new();
    let scene = &three.scene;
    let orphaned = scene
        .place
        .instances()
        .into_iter()
        .map(|i| i.join("journal"));
    let is_it = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).is_ok_and(|journal| journal.contains("orphaned"))
    };
    let path = orphaned.into_iter().find(is_it).expect("its journal");
    let whole = std::fs::read(&path).expect("read");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&path, &damaged).expect("written");
    // Nor does the list claim to know.
    let said = run(&mut uploads(scene, &scene.source()));
    assert_code(&said, 1);
    assert!(
        said.out.contains("unclear") && !said.out.contains("foreign"),
        "{}",
        said.out
    );
    let said = run(&mut uploads(
        scene,
        &format!("sweep {} --older-than 0s --yes", scene.source()),
    ));
    assert_code(&said, 1);
    assert!(
        said.err.contains(path.to_str().expect("plain")),
        "{}",
        said.err
    );
    scene.assert_foreign_untouched("a damaged journal");
    std::fs::write(&path, &whole).expect("written");
    three.end_well();
}
