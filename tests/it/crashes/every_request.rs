//! SIGKILL at every request: the daemon dies just before, or just after, its k-th request is applied,
//! for k from 1 until nothing is left to kill; the guardian, the next mount or `wholefs recover`
//! ends what it left; and `wholefs recover` dies at each of its own requests too.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use wholefs::embedded::{CompleteRepeated, ConditionalWrites, Dialect};

use super::ends::{ENDS, End, Told};
use super::scene::{Held, KEY, OPTIONS, Scene, Turn, UNGUARDED, assert_killed, side_by_side};
use crate::support::mount::detach;
use crate::support::tools::{die_with_parent, kill, kill_and_reap, wait};
use crate::support::{Mount, Store, eventually, seconds};

/// Stores that differ in what recovery has to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Complete of a completed upload succeeds again.
    Repeats,
    /// It says NoSuchUpload.
    Forgets,
    /// The same, and conditions on writes mean nothing.
    Unconditional,
    /// The vendors' simulators.
    Amazon,
    Ncloud,
    Cos,
}

impl Kind {
    fn scene(self) -> Scene {
        match self {
            Kind::Amazon => return Scene::on(Store::amazon()),
            Kind::Ncloud => return Scene::on(Store::ncloud()),
            Kind::Cos => return Scene::on(Store::cos()),
            Kind::Repeats | Kind::Forgets | Kind::Unconditional => {}
        }
        let repeated = match self {
            Kind::Repeats => CompleteRepeated::Succeeds,
            _ => CompleteRepeated::NoSuchUpload,
        };
        let conditional = match self {
            Kind::Unconditional => ConditionalWrites::Ignored,
            _ => ConditionalWrites::Honoured,
        };
        let mut scene = Scene::with(Dialect {
            complete_repeated: repeated,
            conditional_writes: conditional,
            ..Dialect::default()
        });
        if self == Kind::Unconditional {
            scene.store.provider = "garage";
        }
        scene
    }
}

const KILLS: [&str; 2] = ["kill-before", "kill-after"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lane {
    end: End,
    kind: Kind,
    kill: &'static str,
}

fn lanes(ends: &[End], kinds: &[Kind]) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for &end in ends {
        for &kind in kinds {
            lanes.extend(KILLS.map(|kill| Lane { end, kind, kill }));
        }
    }
    lanes
}

/// A daemon that was killed at its k-th request, and what it had told the writer by then.
struct Dead {
    end: End,
    scene: Scene,
    mount: Mount,
    told: Told,
    what: String,
}

impl Lane {
    /// `None`: the file came to its end in fewer requests, and all went well.
    fn kill_at(self, k: u64, options: &[&str]) -> Option<Dead> {
        let what = format!(
            "{:?}, {:?}, {} of request {k}",
            self.end, self.kind, self.kill
        );
        let scene = self.kind.scene();
        if self.end.has_old() {
            scene.put_old();
        }
        let mut mount = scene.mount(options);
        let faults = scene.store.faults();
        faults
            .target()
            .store(mount.daemon() as i32, Ordering::SeqCst);
        let fault = faults.script(&format!("n={k}:{}=target", self.kill));
        let fault = fault.expect("a fault");
        let told = self.end.play(&mount, KEY, &|| scene.parts_of(KEY));
        // What goes on behind the writer's back is to be killed as well, and the mount's own end.
        eventually(seconds(30), &what, || {
            faults.fired(fault) > 0 || scene.ours().is_empty()
        });
        if faults.fired(fault) == 0 {
            kill(mount.pid(), libc::SIGTERM);
        }
        let status = mount.wait_for_death();
        let killed = faults.fired(fault) > 0;
        faults.clear();
        let dead = Dead {
            end: self.end,
            scene,
            mount,
            told,
            what,
        };
        assert_eq!(status.success(), !killed, "{}: {status}", dead.what);
        if killed {
            return Some(dead);
        }
        dead.assert_sound();
        dead.scene.assert_at_rest(&dead.what);
        None
    }

    /// For each k as long as there is something to kill; answers for how many there was.
    fn at_every_request(self, options: &[&str], end: impl Fn(Dead)) -> u64 {
        let mut k = 1;
        loop {
            let _turn = Turn::take();
            match self.kill_at(k, options) {
                Some(dead) => end(dead),
                None => return k - 1,
            }
            k += 1;
        }
    }
}

impl Dead {
    #[track_caller]
    fn assert_sound(&self) {
        let Dead {
            scene, told, what, ..
        } = self;
        let held = scene.held(KEY, what);
        let may = self.end.may_hold(*told);
        assert!(may.contains(&held), "{what}: told {told:?}, held {held:?}");
        let others = scene.store.server().objects(&scene.store.bucket);
        assert!(
            others.iter().all(|object| object.key == KEY),
            "{what}: {others:?}"
        );
    }
}

#[track_caller]
fn report(family: &str, lanes: &[Lane], kills: &[u64], minimum: u64) {
    for (lane, kills) in lanes.iter().zip(kills) {
        println!("{family}: {lane:?}: {kills} kills");
        // Create, three parts and Complete, or an abort, at the least.
        assert!(*kills >= 5, "{lane:?}: only {kills}");
    }
    let all: u64 = kills.iter().sum();
    println!("{family}: {all} kills in all");
    assert!(all >= minimum, "{family}: only {all} kills");
}

fn ended_by_the_guardian(lanes: &[Lane], minimum: u64) {
    let kills = side_by_side(lanes, |lane| {
        lane.at_every_request(&OPTIONS, |dead| {
            // It has waited for recovery.
            dead.assert_sound();
            dead.scene.assert_at_rest(&dead.what);
            // What it said last may still be read.
            eventually(seconds(20), &dead.what, || {
                dead.mount.stderr().contains("died (signal 9)")
            });
        })
    });
    report("the guardian", lanes, &kills, minimum);
}

fn ended_by_the_next_mount(lanes: &[Lane], minimum: u64) {
    let kills = side_by_side(lanes, |lane| {
        lane.at_every_request(&UNGUARDED, |dead| {
            let (scene, what) = (&dead.scene, &dead.what);
            detach(&scene.at());
            let promised = is_promised(scene);
            let mount = scene.mount(&UNGUARDED);
            if promised {
                assert_eq!(scene.held(KEY, what), Held::New, "{what}: at the mount");
            }
            scene.assert_none_of_ours_within(20, what);
            eventually(seconds(20), what, || scene.place.instances().len() == 1);
            dead.assert_sound();
            let seen = std::fs::metadata(mount.path(KEY))
                .map(|file| file.len())
                .ok();
            let object = scene.store.server().object(&scene.store.bucket, KEY);
            assert_eq!(seen, object.map(|o| o.len() as u64), "{what}: in the mount");
            assert!(mount.terminate().success(), "{what}");
            dead.assert_sound();
            scene.assert_at_rest(what);
        })
    });
    report("the next mount", lanes, &kills, minimum);
}

/// A commit that is in the journal is a promise.
fn is_promised(scene: &Scene) -> bool {
    let journals = scene.journals();
    let ended = journals.contains(r#""kind":"abort""#) || journals.contains(r#""kind":"end""#);
    journals.contains(r#""kind":"commit""#) && !ended
}

/// How a recovery that was to be killed has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovered {
    Killed,
    /// It had fewer requests.
    ByItself,
    /// A request of the dead daemon came late and was counted as recovery's.
    Miscounted,
}

/// `wholefs recover`, killed at its r-th request.
#[track_caller]
fn recover_killed_at(scene: &Scene, kill: &str, r: u64, what: &str) -> Recovered {
    let faults = scene.store.faults();
    // Nothing is applied before it is known who is to die.
    let hold = faults.script("hold-before").expect("a fault");
    let fault = faults
        .script(&format!("n={r}:{kill}=target"))
        .expect("a fault");
    let mut command = scene.recover();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    die_with_parent(&mut command);
    let mut child = command.spawn().expect("the program runs");
    faults.target().store(child.id() as i32, Ordering::SeqCst);
    faults.remove(hold);
    let Some(status) = wait(&mut child, seconds(90)) else {
        kill_and_reap(&mut child);
        panic!("{what}: recovery does not end");
    };
    let fired = faults.fired(fault) > 0;
    faults.clear();
    match (status.success(), fired) {
        (true, false) => Recovered::ByItself,
        (true, true) => Recovered::Miscounted,
        (false, _) => {
            assert!(fired, "{what}: {status}");
            assert_killed(status);
            Recovered::Killed
        }
    }
}

/// One place to kill the daemon at, and then recovery at each of its own requests.
#[derive(Clone, Copy, Debug)]
struct TwoDeaths {
    lane: Lane,
    k: u64,
    kill: &'static str,
}

impl TwoDeaths {
    /// Answers how often recovery was killed; `None` when the daemon was not.
    fn at_every_request(&self) -> Option<u64> {
        let mut r = 1;
        loop {
            let _turn = Turn::take();
            let dead = self.lane.kill_at(self.k, &UNGUARDED)?;
            let scene = &dead.scene;
            let what = format!(
                "{}; then recovery's {} of request {r}",
                dead.what, self.kill
            );
            detach(&scene.at());
            let promised = is_promised(scene);
            let recovered = recover_killed_at(scene, self.kill, r, &what);
            if recovered == Recovered::Killed {
                scene.recover_all(&what);
            }
            dead.assert_sound();
            if promised {
                assert_eq!(scene.held(KEY, &what), Held::New, "{what}");
            }
            scene.assert_at_rest(&what);
            match recovered {
                Recovered::Killed => r += 1,
                Recovered::ByItself => return Some(r - 1),
                Recovered::Miscounted => {}
            }
        }
    }
}

/// More requests than a file's writing has.
const MOST: u64 = 10;

fn recovery_is_killed_too(lanes: &[Lane], minimum: u64) {
    let mut cases = Vec::new();
    for &lane in lanes {
        for kill in KILLS {
            cases.extend((1..=MOST).map(|k| TwoDeaths { lane, k, kill }));
        }
    }
    let kills = side_by_side(&cases, TwoDeaths::at_every_request);
    for (case, kills) in cases.iter().zip(&kills) {
        assert!(
            case.k < MOST || kills.is_none(),
            "{case:?}: there are more requests"
        );
    }
    for lane in lanes {
        let of_lane = cases.iter().zip(&kills).filter(|(c, _)| c.lane == *lane);
        let counts: Vec<u64> = of_lane.filter_map(|(_, kills)| *kills).collect();
        println!("recovery: {lane:?}: {counts:?} kills of recovery");
    }
    let all: u64 = kills.iter().flatten().sum();
    println!("recovery: {all} kills in all");
    assert!(all >= minimum, "only {all} kills");
}

#[test]
fn a_daemon_killed_at_any_request_of_a_close_leaves_nothing_open_and_nothing_torn() {
    ended_by_the_guardian(&lanes(&[End::Close], &[Kind::Repeats]), 14);
}

mod long {
    use super::*;

    #[test]
    fn after_a_kill_at_any_request_the_guardian_ends_everything() {
        ended_by_the_guardian(&lanes(&ENDS, &[Kind::Repeats, Kind::Forgets]), 190);
    }

    #[test]
    fn after_a_kill_at_any_request_the_next_mount_ends_everything() {
        let mut all = lanes(&ENDS, &[Kind::Repeats, Kind::Forgets]);
        all.extend(lanes(&[End::Close, End::Overwrite], &[Kind::Unconditional]));
        ended_by_the_next_mount(&all, 215);
    }

    const VENDORS: [Kind; 3] = [Kind::Amazon, Kind::Ncloud, Kind::Cos];

    #[test]
    fn after_a_kill_at_any_request_to_a_vendor_the_guardian_ends_everything() {
        ended_by_the_guardian(&lanes(&ENDS, &VENDORS), 250);
    }

    #[test]
    fn after_a_kill_at_any_request_to_a_vendor_the_next_mount_ends_everything() {
        ended_by_the_next_mount(&lanes(&[End::Close, End::Overwrite], &VENDORS), 80);
    }

    #[test]
    fn a_recovery_killed_at_any_request_is_finished_by_the_next() {
        let mut all = lanes(&[End::Close], &[Kind::Repeats, Kind::Forgets]);
        all.extend(lanes(
            &[End::Overwrite],
            &[Kind::Forgets, Kind::Unconditional],
        ));
        recovery_is_killed_too(&all, 340);
    }
}
