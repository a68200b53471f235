//! A bucket with somebody else's upload in it, a place to mount it, and what must hold there
//! whatever has died. Looks at the bucket from inside: a look by a request would count as one.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Condvar, Mutex};

use wholefs::embedded::{Dialect, Options, UploadSummary};

use crate::support::mount::{Place, detach, is_mounted, program};
use crate::support::tools::{Outcome, kill, run};
use crate::support::wait::holds_within;
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

pub const KEY: &str = "file";
pub const OLD: Content = Content {
    seed: 99,
    size: 6 * MIB + 5,
};
/// Three parts.
pub const NEW: Content = Content {
    seed: 1,
    size: 12 * MIB,
};
/// What is written before the writer changes its mind.
pub const FIRST: Content = Content {
    seed: 5,
    size: 12 * MIB,
};
pub const OPTIONS: [&str; 2] = ["--part-size", "5M"];
pub const UNGUARDED: [&str; 3] = ["--part-size", "5M", "--no-guardian"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nothing,
    Old,
    New,
}

pub struct Scene {
    pub store: Store,
    pub place: Place,
    foreign: String,
}

impl Scene {
    pub fn new() -> Scene {
        Scene::with(Dialect::default())
    }

    pub fn with(dialect: Dialect) -> Scene {
        Scene::of(Options {
            dialect,
            ..Options::default()
        })
    }

    pub fn of(options: Options) -> Scene {
        Scene::on(Store::embedded_with(options))
    }

    pub fn on(store: Store) -> Scene {
        let (server, bucket) = (store.server(), &store.bucket);
        let foreign = server.create_upload(bucket, KEY);
        server.put_part(bucket, KEY, &foreign, 1, vec![7; 1 << 20]);
        Scene {
            store,
            place: Place::default(),
            foreign,
        }
    }

    pub fn put_old(&self) {
        let (server, bucket) = (self.store.server(), &self.store.bucket);
        server.put_object(bucket, KEY, OLD.bytes());
    }

    pub fn source(&self) -> String {
        format!("s3://{}", self.store.bucket)
    }

    pub fn at(&self) -> PathBuf {
        self.place.path("mnt")
    }

    #[track_caller]
    pub fn mount(&self, options: &[&str]) -> Mount {
        self.mount_at("mnt", options)
    }

    #[track_caller]
    pub fn mount_at(&self, point: &str, options: &[&str]) -> Mount {
        Mount::within(&self.place, point, &self.store, &self.source(), options)
    }

    pub fn foreign(&self) -> &str {
        &self.foreign
    }

    /// The open uploads but for the foreign one.
    pub fn ours(&self) -> Vec<UploadSummary> {
        let mut uploads = self.store.server().uploads(&self.store.bucket);
        uploads.retain(|upload| upload.id != self.foreign);
        uploads
    }

    /// How many parts our uploads of `key` have.
    pub fn parts_of(&self, key: &str) -> usize {
        let ours = self.ours();
        ours.iter().filter(|u| u.key == key).map(|u| u.parts).sum()
    }

    #[track_caller]
    pub fn held(&self, key: &str, what: &str) -> Held {
        match self.store.server().object(&self.store.bucket, key) {
            None => Held::Nothing,
            Some(bytes) if NEW.compare(&bytes[..]).is_ok() => Held::New,
            Some(bytes) if OLD.compare(&bytes[..]).is_ok() => Held::Old,
            Some(bytes) => panic!("{what}: {key} is torn ({} bytes)", bytes.len()),
        }
    }

    #[track_caller]
    pub fn assert_none_of_ours_within(&self, time: u64, what: &str) {
        let gone = holds_within(seconds(time), || self.ours().is_empty());
        assert!(gone, "{what}: after {time} s: {:?}", self.ours());
    }

    #[track_caller]
    pub fn assert_foreign_untouched(&self, what: &str) {
        let uploads = self.store.server().uploads(&self.store.bucket);
        let foreign = uploads.iter().find(|upload| upload.id == self.foreign);
        let foreign = foreign.unwrap_or_else(|| panic!("{what}: their upload is gone"));
        assert_eq!((foreign.parts, foreign.bytes), (1, MIB), "{what}: theirs");
    }

    /// Everything is over: no upload, no journal, no mount.
    #[track_caller]
    pub fn assert_at_rest(&self, what: &str) {
        self.assert_none_of_ours_within(20, what);
        self.assert_foreign_untouched(what);
        let left = self.place.instances();
        assert!(left.is_empty(), "{what}: journals are left: {left:?}");
        self.assert_plain(what);
    }

    /// The mount point is a directory like any other, and empty.
    #[track_caller]
    pub fn assert_plain(&self, what: &str) {
        assert!(!is_mounted(&self.at()), "{what}: still mounted");
        let entries = std::fs::read_dir(self.at()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(entries.count(), 0, "{what}: the mount point is not empty");
    }

    /// A writer that has sent so many parts of a file and has not closed it.
    #[track_caller]
    pub fn writer(&self, mount: &Mount, key: &str, parts: usize) -> Writer {
        let mut writer = Writer::start();
        writer.open(&mount.path(key), "wct");
        writer.write(NEW.seed, NEW.size);
        eventually(seconds(30), "parts are sent", || {
            self.parts_of(key) >= parts
        });
        writer
    }

    /// Kills a mount without a guardian, and takes away its dead mount point.
    #[track_caller]
    pub fn kill_unguarded(&self, mut mount: Mount) {
        kill(mount.daemon(), libc::SIGKILL);
        assert_killed(mount.wait_for_death());
        detach(&mount.at);
    }

    /// `wholefs recover` on the state directory; further options are still to come.
    pub fn recover(&self) -> Command {
        self.command("recover")
    }

    /// A subcommand that knows the state directory.
    pub fn command(&self, name: &str) -> Command {
        let mut command = program(&self.store);
        command.args(name.split(' '));
        command.arg("--state-dir").arg(self.place.state());
        command
    }

    /// Recovers to the end, which must be a good one.
    #[track_caller]
    pub fn recover_all(&self, what: &str) -> Outcome {
        let done = run(&mut self.recover());
        assert!(
            done.ok(),
            "{what}: {}\n{}{}",
            done.status,
            done.out,
            done.err
        );
        done
    }

    /// All that the journals say.
    pub fn journals(&self) -> String {
        let instances = self.place.instances().into_iter();
        let texts = instances.map(|i| std::fs::read_to_string(i.join("journal")));
        texts.map(Result::unwrap_or_default).collect()
    }
}

/// Has this process ended, waited for or not?
pub fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
        matches!(state, Some(b'Z' | b'X'))
    })
}

#[track_caller]
pub fn assert_killed(status: ExitStatus) {
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
}

/// Cases under way at once, over all tests: most of their time they wait.
const AT_ONCE: usize = 32;

static UNDER_WAY: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The right to run a case, as long as it is held.
pub struct Turn;

impl Turn {
    pub fn take() -> Turn {
        let (under_way, changed) = &UNDER_WAY;
        let count = under_way.lock().expect("no panic while held");
        let wait = changed.wait_while(count, |count| *count >= AT_ONCE);
        *wait.expect("no panic while held") += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *UNDER_WAY.0.lock().expect("no panic while held") -= 1;
        UNDER_WAY.1.notify_one();
    }
}

/// Runs `lane` for each of `over`, all side by side, and answers what they return. One that panics
/// fails the test when the others have ended.
#[track_caller]
pub fn side_by_side<T: Send + Sync, R: Send>(
    over: &[T],
    lane: impl Fn(&T) -> R + Send + Sync,
) -> Vec<R> {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let lane = &lane;
    let results: Vec<_> = std::thread::scope(|scope| {
        let spawn = |one| {
            let thread = std::thread::Builder::new().name(test.clone());
            let running = thread.spawn_scoped(scope, move || lane(one));
            running.expect("a thread")
        };
        let running: Vec<_> = over.iter().map(spawn).collect();
        running.into_iter().map(|lane| lane.join()).collect()
    });
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 0, "of {} lanes so many failed", over.len());
    results.into_iter().flatten().collect()
}
