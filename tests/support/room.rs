//! A room of its own within the machine: a mount and a process namespace, in which everything ends with the test.
//! There /dev/fuse can be opened by everybody, as on most machines, and the rest is as the test wants it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::mount::{PROGRAM, Place, program};
use super::tools::{Outcome, die_with_parent, kill_and_reap, run, run_within, shout};
use super::{Store, seconds};

/// Nobody in particular.
pub const USER: u32 = 65534;
pub const ANOTHER: u32 = 65533;

pub struct Room<'a> {
    keeper: Child,
    /// The first process within.
    init: u32,
    store: &'a Store,
    pub place: Place,
}

impl<'a> Room<'a> {
    /// With a directory `mnt` and a state directory that are the user's. `furnish` is a script that is played
    /// within first. `None`, said loudly, where no room can be made.
    #[track_caller]
    pub fn new(store: &'a Store, user: u32, furnish: &str) -> Option<Room<'a>> {
        let place = Place::default();
        // Everybody must be able to reach the program. (Not copied by us: a child that another test forks
        // meanwhile would have it open for writing when it is to run.)
        let made = run(Command::new("sh").args([
            "-euc",
            "chmod 755 \"$1\"; cd \"$1\"; cp \"$2\" wholefs; mkdir mnt state dev; chown \"$3\" mnt state",
            "sh",
            &place.path("").display().to_string(),
            PROGRAM,
            &user.to_string(),
        ]));
        assert!(made.ok(), "{}", made.err);
        let script = format!(
            "mount -t tmpfs none dev; mknod -m 666 dev/fuse c 10 229; mount --bind dev/fuse /dev/fuse\n\
             {furnish}\necho ready; exec cat"
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "--pid", "--fork"])
            .args(["--mount-proc", "--kill-child", "sh", "-euc", &script])
            .current_dir(place.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut keeper = command.spawn().expect("unshare runs");
        let mut out = BufReader::new(keeper.stdout.take().expect("a pipe")).lines();
        if !out.any(|line| line.is_ok_and(|line| line == "ready")) {
            kill_and_reap(&mut keeper);
            shout("SKIPPED: no namespaces of our own here");
            return None;
        }
        let children = format!("/proc/{0}/task/{0}/children", keeper.id());
        let children = std::fs::read_to_string(children).expect("unshare waits");
        let init = children
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok());
        Some(Room {
            init: init.expect("it has a child"),
            keeper,
            store,
            place,
        })
    }

    /// Plays a script within as this user: `$wholefs` is the program, `$mount` mounts the bucket at `$at` (options
    /// may follow), `$state` is where its journal is.
    #[track_caller]
    pub fn play(&self, user: u32, script: &str) -> Outcome {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--"]);
        let id = user.to_string();
        command.args([
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--",
        ]);
        command.args(["sh", "-euc", script]);
        for (name, value) in program(self.store).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let shown = |path: &Path| path.display().to_string();
        let (wholefs, at) = (
            shown(&self.place.path("wholefs")),
            shown(&self.place.path("mnt")),
        );
        let (state, store) = (shown(&self.place.state()), self.store);
        let mount = format!(
            "{wholefs} mount s3://{} {at} --endpoint-url {} --region {} --provider {} --state-dir {state}",
            store.bucket, store.endpoint, store.region, store.provider
        );
        command
            .env("HOME", self.place.path("home"))
            .env("wholefs", wholefs)
            .env("mount", mount)
            .env("state", state)
            .env("at", at);
        run_within(&mut command, seconds(60))
    }

    /// The same, and it must succeed; what it said.
    #[track_caller]
    pub fn plays(&self, user: u32, script: &str) -> String {
        let done = self.play(user, script);
        assert!(done.ok(), "{script}: {}\n{}", done.status, done.err);
        done.out
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // All within go with it.
        kill_and_reap(&mut self.keeper);
    }
}
