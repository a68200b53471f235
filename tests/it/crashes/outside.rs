//! A dead daemon seen by those who use the mount, and by its neighbours: the guardian, another
//! daemon on the same host.

use std::path::Path;
use std::time::Instant;

use super::scene::{Held, KEY, NEW, OPTIONS, Scene, UNGUARDED, assert_killed};
use crate::support::door::Door;
use crate::support::mount::{detach, is_mounted};
use crate::support::tools::kill;
use crate::support::{MIB, Mount, Store, Writer, eventually, seconds};

const WRITERS: [&str; 4] = ["one", "two", "three", "four"];

/// A finished file that somebody reads, and four that are being written.
struct Busy {
    reader: Writer,
    writers: Vec<Writer>,
}

impl Busy {
    #[track_caller]
    fn start(scene: &Scene, mount: &Mount) -> Busy {
        let mut finished = Writer::start();
        finished.open(&mount.path(KEY), "wct");
        finished.write(NEW.seed, NEW.size).step("close");
        let mut reader = Writer::start();
        reader.open(&mount.path(KEY), "r");
        reader.step(&format!("check {} {MIB}", NEW.seed));
        let slow = scene.store.faults().script("op=UploadPart:delay=20ms");
        slow.expect("a fault");
        let begin = |key: &&str| {
            let mut writer = scene.writer(mount, key, 1);
            writer.begin(&format!("write {} {}", NEW.seed, 4000 * MIB));
            writer
        };
        let writers = WRITERS.iter().map(begin).collect();
        Busy { reader, writers }
    }

    /// The mount has died: all of them hear of it.
    #[track_caller]
    fn assert_cut_off(mut self) {
        for writer in &mut self.writers {
            writer.finish("write").expect_err("the mount is gone");
        }
        let read = self
            .reader
            .attempt(&format!("check {} {}", NEW.seed, NEW.size));
        read.expect_err("the mount is gone");
    }
}

#[track_caller]
fn assert_finished_alone(scene: &Scene, what: &str) {
    scene.assert_none_of_ours_within(20, what);
    scene.assert_foreign_untouched(what);
    assert_eq!(scene.store.keys(), [KEY], "{what}");
    assert_eq!(scene.held(KEY, what), Held::New, "{what}");
}

fn is_plain(at: &Path) -> bool {
    std::fs::read_dir(at).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn a_daemon_killed_under_four_writers_leaves_a_plain_directory_at_once() {
    let scene = Scene::new();
    let mut mount = scene.mount(&OPTIONS);
    let busy = Busy::start(&scene, &mount);
    let killed = Instant::now();
    kill(mount.daemon(), libc::SIGKILL);
    eventually(seconds(5), "a plain directory", || is_plain(&mount.at));
    println!("a plain directory after {:?}", killed.elapsed());
    let mut looks = 0;
    while !mount.has_ended() {
        assert!(is_plain(&mount.at), "plain once, and then no more");
        looks += 1;
        assert!(killed.elapsed() < seconds(90), "the guardian does not end");
        std::thread::yield_now();
    }
    assert!(
        looks > 0,
        "recovery was over before the directory was clear"
    );
    assert_eq!(mount.wait_for_death().code(), Some(1));
    let said = mount.stderr();
    assert!(said.contains("4 aborted"), "{said}");
    busy.assert_cut_off();
    assert_finished_alone(&scene, "four writers");
    scene.assert_at_rest("four writers");
}

#[test]
fn a_mount_that_restarts_is_back_by_itself_after_each_death() {
    let scene = Scene::new();
    let mount = scene.mount(&["--part-size", "5M", "--restart"]);
    for round in 0..2 {
        let what = format!("death {round}");
        let busy = Busy::start(&scene, &mount);
        let dead = mount.daemon();
        kill(dead, libc::SIGKILL);
        busy.assert_cut_off();
        eventually(seconds(30), "it is back", || {
            let served = std::fs::metadata(mount.path(KEY));
            served.is_ok_and(|file| file.len() == NEW.size)
        });
        assert_ne!(mount.daemon(), dead);
        NEW.assert_file(&mount.path(KEY));
        assert_finished_alone(&scene, &what);
        // What the next round's file must not be mistaken for.
        std::fs::remove_file(mount.path(KEY)).expect("removed");
        assert_eq!(scene.held(KEY, &what), Held::Nothing);
    }
    std::fs::write(mount.path(KEY), NEW.bytes()).expect("written");
    eventually(seconds(30), "the dead ones' journals are gone", || {
        scene.place.instances().len() == 1
    });
    let said = mount.stderr();
    assert_eq!(said.matches("died (signal 9)").count(), 2, "{said}");
    assert_eq!(said.matches("INFO mounted").count(), 3, "{said}");
    assert_eq!(mount.terminate().code(), Some(0));
    assert_finished_alone(&scene, "restarted");
    scene.assert_at_rest("restarted");
}

#[test]
fn a_daemon_whose_guardian_is_killed_goes_on_and_the_next_mount_ends_what_it_leaves() {
    let scene = Scene::new();
    let mut mount = scene.mount(&OPTIONS);
    let daemon = mount.daemon();
    let mut writer = scene.writer(&mount, KEY, 1);
    kill(mount.pid(), libc::SIGKILL);
    assert_killed(mount.wait_for_death());
    eventually(seconds(10), "the daemon says so", || {
        mount.stderr().contains("the guardian was killed")
    });
    writer.step("close");
    assert_eq!(scene.held(KEY, "closed"), Held::New);
    let late = scene.writer(&mount, "late", 1);
    NEW.assert_file(&mount.path(KEY));

    kill_orphan(daemon);
    let connected = || std::fs::read_dir(&mount.at).map_err(|e| e.raw_os_error());
    eventually(seconds(10), "the mount is dead", || {
        connected().is_err_and(|errno| errno == Some(libc::ENOTCONN))
    });
    drop(late);
    // Whoever mounts there again finds it cleared.
    let next = scene.mount(&OPTIONS);
    assert_finished_alone(&scene, "the next mount");
    NEW.assert_file(&next.path(KEY));
    eventually(seconds(20), "its journal is gone", || {
        scene.place.instances().len() == 1
    });
    assert_eq!(next.terminate().code(), Some(0));
    scene.assert_at_rest("guardian and daemon killed");
}

/// A daemon without its guardian is nobody's child that we know of.
fn kill_orphan(daemon: u32) {
    let name = std::fs::read_to_string(format!("/proc/{daemon}/comm"));
    assert_eq!(name.expect("it runs").trim(), "wholefs");
    kill(daemon, libc::SIGKILL);
}

#[test]
fn of_two_daemons_on_one_host_the_killed_ones_uploads_are_ended_and_the_others_live() {
    let scene = Scene::new();
    for guarded in [true, false] {
        let what = format!("guarded: {guarded}");
        let options: &[&str] = if guarded { &OPTIONS } else { &UNGUARDED };
        let mut killed = scene.mount(options);
        let lives = scene.mount_at("other", options);
        // One of them on the same key.
        let dead = [KEY, "dead"].map(|key| scene.writer(&killed, key, 1));
        let mut living = Writer::start();
        living.open(&lives.path(KEY), "wct");
        living.write(NEW.seed, NEW.size);
        eventually(seconds(30), "four parts and more", || {
            scene.parts_of(KEY) >= 4
        });
        assert_eq!(scene.ours().len(), 3, "{what}");

        kill(killed.daemon(), libc::SIGKILL);
        killed.wait_for_death();
        drop(dead);
        if !guarded {
            detach(&killed.at);
            let said = scene.recover_all(&what).out;
            assert_eq!(
                said.trim(),
                "0 completed, 2 aborted; 1 live mount left alone",
                "{what}"
            );
        }
        let left = scene.ours();
        assert_eq!(left.len(), 1, "{what}: {left:?}");
        assert!(left[0].parts >= 2, "{what}: {left:?}");
        assert_eq!(scene.place.instances().len(), 1, "{what}");
        scene.assert_plain(&what);

        living.write(NEW.seed, 0).step("close");
        assert_eq!(scene.held(KEY, &what), Held::New, "{what}");
        assert!(is_mounted(&lives.at));
        assert_eq!(lives.terminate().code(), Some(0), "{what}");
        scene.assert_at_rest(&what);
        scene.store.delete(KEY);
    }
}

#[test]
fn a_mount_that_restarts_tries_on_while_the_store_refuses_it() {
    let scene = Scene::new();
    let mount = scene.mount(&["--part-size", "5M", "--restart"]);
    let denied = scene.store.faults().script("n=1..:error=403");
    let denied = denied.expect("a fault");
    kill(mount.daemon(), libc::SIGKILL);
    eventually(seconds(60), "it was refused twice", || {
        mount.stderr().matches("mounting s3://").count() >= 3
    });
    scene.store.faults().remove(denied);
    eventually(seconds(60), "it is back", || {
        crate::support::mount::is_mounted(&mount.at)
            && std::fs::write(mount.path(KEY), NEW.bytes()).is_ok()
            && scene.held(KEY, "back") == Held::New
    });
    assert_eq!(mount.terminate().code(), Some(0));
    scene.assert_at_rest("back");
}

/// It may just be begun again.
#[test]
fn a_guardian_tries_on_while_the_store_is_away() {
    let mut store = Store::embedded();
    let mut door = Door::to(&store.endpoint);
    store.endpoint = door.endpoint.clone();
    let mut mount = Mount::with(&store, &["--part-size", "5M"]);
    let mut writer = Writer::start();
    writer.open(&mount.path("torn"), "wct").write(1, 12 * MIB);
    store.await_parts("torn", 2);
    door.shut();
    kill(mount.daemon(), libc::SIGKILL);
    eventually(seconds(30), "it has tried", || {
        mount.stderr().contains("trying on")
    });
    door.open();
    mount.wait_for_death();
    assert_eq!(store.open_uploads(), []);
    assert_eq!(store.keys(), [""; 0]);
}
