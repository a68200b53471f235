//! SIGKILL at every request to a vault: the daemon dies just before, or just after, its k-th is applied; the
//! guardian, or the next mount, ends what it left, and the catalogue is right.

use std::sync::atomic::Ordering;

use super::Scene;
use crate::crashes::ends::{ENDS, End, Told};
use crate::crashes::scene::{Held, KEY, NEW, OLD, Turn, side_by_side};
use crate::support::mount::detach;
use crate::support::tools::kill;
use crate::support::{Mount, eventually, seconds};

#[derive(Clone, Copy, Debug)]
struct Lane {
    end: End,
    kill: &'static str,
    guarded: bool,
}

fn lanes(ends: &[End], guarded: bool) -> Vec<Lane> {
    let of = |&end: &End| ["kill-before", "kill-after"].map(|kill| Lane { end, kill, guarded });
    ends.iter().flat_map(of).collect()
}

impl Scene {
    #[track_caller]
    fn held(&self, what: &str) -> Held {
        match self.bytes(KEY) {
            None => Held::Nothing,
            Some(bytes) if NEW.compare(&bytes[..]).is_ok() => Held::New,
            Some(bytes) if OLD.compare(&bytes[..]).is_ok() => Held::Old,
            Some(bytes) => panic!("{what}: torn ({} bytes)", bytes.len()),
        }
    }

    fn mount_of(&self, lane: Lane) -> Mount {
        match lane.guarded {
            true => self.mount(),
            false => self.mount_with(&["--no-guardian"]),
        }
    }
}

impl Lane {
    /// Answers whether there was a k-th request.
    fn kill_at(self, k: u64) -> bool {
        let what = format!("{self:?} of request {k}");
        let scene = Scene::new();
        if self.end.has_old() {
            let mount = scene.mount();
            OLD.save(&mount.path(KEY));
            assert_eq!(scene.held(&what), Held::Old, "{what}: closed is kept");
        }
        let mut mount = scene.mount_of(self);
        let faults = scene.store.vault_server().faults();
        faults
            .target()
            .store(mount.daemon() as i32, Ordering::SeqCst);
        let fault = faults
            .script(&format!("n={k}:{}=target", self.kill))
            .expect("a fault");
        let told = self.end.play(&mount, KEY, &|| scene.parts());
        eventually(seconds(30), &what, || {
            faults.fired(fault) > 0 || scene.ours().is_empty()
        });
        if faults.fired(fault) == 0 {
            kill(mount.pid(), libc::SIGTERM);
        }
        let status = mount.wait_for_death();
        let killed = faults.fired(fault) > 0;
        faults.clear();
        assert_eq!(
            status.success(),
            !killed,
            "{what}: {status}\n{}",
            mount.stderr()
        );
        let sound = |told: Told, when: &str| {
            let (held, may) = (scene.held(&what), self.end.may_hold(told));
            assert!(
                may.contains(&held),
                "{what}, {when}: told {told:?}, held {held:?}"
            );
            held
        };
        if killed && self.guarded {
            assert_eq!(scene.ours(), [], "{what}: the guardian has ended them");
            sound(told, "after the guardian");
        }
        if !self.guarded {
            detach(&scene.place.path("mnt"));
        }
        // The next mount finds all in order, or makes it so.
        let next = scene.mount();
        eventually(seconds(30), &what, || {
            scene.ours().is_empty() && scene.journals().len() == 1
        });
        let held = sound(told, "in the next mount");
        let seen = std::fs::metadata(next.path(KEY))
            .map(|file| file.len())
            .ok();
        let expected = match held {
            Held::Nothing => None,
            Held::Old => Some(OLD.size),
            Held::New => Some(NEW.size),
        };
        assert_eq!(seen, expected, "{what}");
        assert!(next.terminate().success(), "{what}");
        scene.assert_clean(&what);
        assert_eq!(scene.journals().len(), 0, "{what}");
        killed
    }

    fn at_every_request(&self) -> u64 {
        let mut k = 1;
        loop {
            let _turn = Turn::take();
            if !self.kill_at(k) {
                return k - 1;
            }
            k += 1;
        }
    }
}

#[track_caller]
fn killed_everywhere(lanes: &[Lane], minimum: u64) {
    let kills = side_by_side(lanes, Lane::at_every_request);
    for (lane, kills) in lanes.iter().zip(&kills) {
        println!("{lane:?}: {kills} kills");
    }
    let all: u64 = kills.iter().sum();
    assert!(all >= minimum, "only {all} kills");
}

#[test]
fn a_daemon_killed_at_any_request_to_a_vault_leaves_it_clean_and_its_catalogue_right() {
    killed_everywhere(&lanes(&[End::Overwrite], true), 10);
}

mod long {
    use super::*;

    #[test]
    fn after_a_kill_at_any_request_to_a_vault_the_guardian_ends_everything() {
        killed_everywhere(&lanes(&ENDS, true), 50);
    }

    #[test]
    fn after_a_kill_at_any_request_to_a_vault_the_next_mount_ends_everything() {
        killed_everywhere(&lanes(&ENDS, false), 50);
    }
}
