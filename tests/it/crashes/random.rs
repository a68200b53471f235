//! Random sequences: files are written, closed, cut, unlinked; writers and daemons are killed, mounts
//! come and go; another client puts, deletes and uploads beside it all. A model of a few lines knows
//! what each file must be at the end of each step.
//!
//! Every sequence follows from one seed. Those that have ever failed are [`PINNED`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wholefs::embedded::FaultId;

use super::scene::{Scene, assert_killed, side_by_side};
use crate::support::mount::detach;
use crate::support::tools::kill;
use crate::support::{Content, KIB, MIB, Mount, Writer, eventually, seconds};

/// Seeds of sequences that once failed.
const PINNED: [u64; 0] = [];

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Opens the file afresh, or goes on with the one that is open.
    Write {
        file: usize,
        size: u64,
    },
    /// Cut to nothing and written anew.
    Restart {
        file: usize,
        size: u64,
    },
    Sync {
        file: usize,
    },
    Close {
        file: usize,
    },
    KillWriter {
        file: usize,
    },
    /// Opened, appended to, closed.
    Append {
        file: usize,
        size: u64,
    },
    Unlink {
        file: usize,
    },
    /// To another name, whatever has it.
    Rename {
        file: usize,
        to: usize,
    },
    TheirPut {
        file: usize,
        size: u64,
    },
    TheirDelete {
        file: usize,
    },
    TheirUpload {
        file: usize,
    },
    Crash,
    /// At one of the requests to come.
    CrashAt {
        request: u64,
        after: bool,
    },
    Remount,
    /// `wholefs recover`, beside the mount.
    Recover,
}

fn steps() -> impl Strategy<Value = (bool, Vec<Step>)> {
    let file = 0..KEYS.len();
    let size = prop_oneof![
        1 => Just(0),
        4 => 1..64 * KIB,
        3 => 6 * MIB..13 * MIB,
    ];
    let of_file = (file.clone(), size.clone());
    let step = prop_oneof![
        8 => of_file.clone().prop_map(|(file, size)| Step::Write { file, size }),
        2 => of_file.clone().prop_map(|(file, size)| Step::Restart { file, size }),
        2 => file.clone().prop_map(|file| Step::Sync { file }),
        9 => file.clone().prop_map(|file| Step::Close { file }),
        2 => file.clone().prop_map(|file| Step::KillWriter { file }),
        2 => of_file.clone().prop_map(|(file, size)| Step::Append { file, size }),
        3 => file.clone().prop_map(|file| Step::Unlink { file }),
        3 => (file.clone(), file.clone()).prop_map(|(file, to)| Step::Rename { file, to }),
        2 => of_file.prop_map(|(file, size)| Step::TheirPut { file, size }),
        1 => file.clone().prop_map(|file| Step::TheirDelete { file }),
        1 => file.prop_map(|file| Step::TheirUpload { file }),
        1 => Just(Step::Crash),
        3 => (1..9u64, any::<bool>()).prop_map(|(request, after)| Step::CrashAt { request, after }),
        1 => Just(Step::Remount),
        1 => Just(Step::Recover),
    ];
    (any::<bool>(), proptest::collection::vec(step, 4..24))
}

/// A file's bytes: pieces one behind the other.
type Pieces = Vec<Content>;

fn differs(expected: Option<&Pieces>, found: Option<&[u8]>) -> Option<String> {
    let (expected, mut found) = match (expected, found) {
        (None, None) => return None,
        (Some(_), None) => return Some("is not there".to_string()),
        (None, Some(found)) => return Some(format!("is there ({} bytes)", found.len())),
        (Some(expected), Some(found)) => (expected, found),
    };
    let (size, length) = (expected.iter().map(|p| p.size).sum::<u64>(), found.len());
    if size != length as u64 {
        return Some(format!("has {length} bytes instead of {size}"));
    }
    for piece in expected {
        let (of_piece, rest) = found.split_at(piece.size as usize);
        if let Some(at) = piece.difference(0, of_piece) {
            return Some(format!("differs at byte {at} of a piece of {}", piece.size));
        }
        found = rest;
    }
    None
}

struct Draft {
    hand: Writer,
    content: Content,
    /// The file was there when it was opened, or is since a sync.
    published: bool,
    /// There is something to publish since.
    dirty: bool,
}

#[derive(Default)]
struct File {
    held: Option<Pieces>,
    /// What the step under way would make of it: whoever dies meanwhile leaves the one or the other.
    perhaps: Option<Option<Pieces>>,
    draft: Option<Draft>,
}

/// What was tried, over all sequences.
#[derive(Default)]
struct Tally {
    sequences: AtomicU64,
    steps: AtomicU64,
    deaths: AtomicU64,
    commits: AtomicU64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        write!(
            f,
            "{} sequences, {} steps, {} deaths of the daemon, {} commits",
            of(&self.sequences),
            of(&self.steps),
            of(&self.deaths),
            of(&self.commits)
        )
    }
}

/// Some step could not be done: the daemon is dead, or it is an error.
struct Failed(String);

struct World<'a> {
    scene: Scene,
    mount: Option<Mount>,
    guarded: bool,
    files: [File; KEYS.len()],
    theirs: Vec<String>,
    armed: Option<FaultId>,
    next_seed: u64,
    /// Its rename was cut short: one of the names has it.
    renaming: Option<Pieces>,
    tally: &'a Tally,
}

impl World<'_> {
    fn play(guarded: bool, steps: &[Step], tally: &Tally) {
        let scene = Scene::new();
        let theirs = vec![scene.foreign().to_string()];
        let mut world = World {
            scene,
            mount: None,
            guarded,
            files: Default::default(),
            theirs,
            armed: None,
            next_seed: 1,
            renaming: None,
            tally,
        };
        world.begin();
        for step in steps {
            tally.steps.fetch_add(1, Ordering::Relaxed);
            let done = world.step(step).and_then(|()| world.look());
            let dead = world.is_dying(&done);
            match done {
                Err(Failed(why)) if !dead => panic!("{step:?}: {why}"),
                _ if dead => world.bury(&format!("{step:?}")),
                _ => world.compare(&format!("{step:?}")),
            }
        }
        world.end();
        tally.sequences.fetch_add(1, Ordering::Relaxed);
    }

    fn begin(&mut self) {
        let options: &[&str] = match self.guarded {
            true => &["--part-size", "5M"],
            false => &["--part-size", "5M", "--no-guardian"],
        };
        self.mount = Some(self.scene.mount(options));
    }

    fn mount(&self) -> &Mount {
        self.mount.as_ref().expect("it is mounted")
    }

    /// Whether the daemon was killed, or is about to be: then what failed need not have succeeded.
    fn is_dying(&self, done: &Result<(), Failed>) -> bool {
        let Some(armed) = self.armed else {
            return false;
        };
        let fired = || self.scene.store.faults().fired(armed) > 0;
        match done {
            Ok(()) => fired(),
            Err(_) => crate::support::wait::holds_within(seconds(2), fired),
        }
    }

    fn seed(&mut self) -> u64 {
        self.next_seed += 1;
        self.next_seed
    }

    fn step(&mut self, step: &Step) -> Result<(), Failed> {
        let server = self.scene.store.server();
        let bucket = self.scene.store.bucket.clone();
        match *step {
            Step::Write { file, size } => self.write(file, size),
            Step::Restart { file, size } => {
                let seed = self.seed();
                let Some(draft) = &mut self.files[file].draft else {
                    return Ok(());
                };
                draft.content = Content::new(seed, 0);
                draft.dirty = true;
                draft.attempt("truncate 0")?;
                draft.attempt("seek 0")?;
                self.write(file, size)
            }
            Step::Sync { file } => self.publish(file, "sync"),
            Step::Close { file } => {
                let done = self.publish(file, "close");
                self.files[file].draft = None;
                done
            }
            Step::KillWriter { file } => {
                if let Some(draft) = self.files[file].draft.take() {
                    draft.hand.die_of(libc::SIGKILL);
                }
                Ok(())
            }
            Step::Append { file, size } => self.append(file, size),
            Step::Unlink { file } => self.unlink(file),
            Step::Rename { file, to } => self.rename(file, to),
            Step::TheirPut { file, size } => {
                let content = Content::new(self.next_seed + 1, size);
                server.put_object(&bucket, KEYS[file], content.bytes());
                self.next_seed += 1;
                self.files[file].held = Some(vec![content]);
                Ok(())
            }
            Step::TheirDelete { file } => {
                server.delete_object(&bucket, KEYS[file]);
                self.files[file].held = None;
                Ok(())
            }
            Step::TheirUpload { file } => {
                let id = server.create_upload(&bucket, KEYS[file]);
                server.put_part(&bucket, KEYS[file], &id, 1, vec![7; 1000]);
                self.theirs.push(id);
                Ok(())
            }
            Step::Crash => {
                kill(self.mount().daemon(), libc::SIGKILL);
                self.bury("a crash");
                Ok(())
            }
            Step::CrashAt { request, after } => {
                if self.armed.is_none() {
                    let faults = self.scene.store.faults();
                    let target = self.mount().daemon() as i32;
                    faults.target().store(target, Ordering::SeqCst);
                    let moment = if after { "after" } else { "before" };
                    self.arm(&format!("n={request}:kill-{moment}=target"));
                }
                Ok(())
            }
            Step::Remount => {
                self.give_up_drafts();
                let mount = self.mount.take().expect("it is mounted");
                kill(mount.pid(), libc::SIGTERM);
                let mut mount = mount;
                let status = mount.wait_for_death();
                let killed = self
                    .armed
                    .is_some_and(|a| self.scene.store.faults().fired(a) > 0);
                assert!(status.success() || killed, "remount: {status}");
                self.after_death("remount", mount);
                Ok(())
            }
            Step::Recover => {
                self.scene.recover_all("beside the mount");
                Ok(())
            }
        }
    }

    fn arm(&mut self, script: &str) {
        let fault = self.scene.store.faults().script(script);
        self.armed = Some(fault.expect("a fault"));
    }

    fn write(&mut self, file: usize, size: u64) -> Result<(), Failed> {
        let seed = self.seed();
        if self.files[file].draft.is_none() {
            let path = self.mount().path(KEYS[file]);
            let mut draft = Draft {
                hand: Writer::start(),
                content: Content::new(seed, 0),
                published: self.files[file].held.is_some(),
                dirty: true,
            };
            draft.attempt(&format!("open wct {}", path.display()))?;
            self.files[file].draft = Some(draft);
        }
        let draft = self.files[file].draft.as_mut().expect("it was opened");
        draft.attempt(&format!("write {} {size}", draft.content.seed))?;
        draft.content.size += size;
        draft.dirty |= size > 0;
        Ok(())
    }

    fn publish(&mut self, file: usize, how: &str) -> Result<(), Failed> {
        let Some(draft) = &mut self.files[file].draft else {
            return Ok(());
        };
        let published = Some(vec![draft.content]);
        let done = draft.attempt(how);
        // What was synced and not written to since is left to whoever has changed it meanwhile.
        if !std::mem::replace(&mut draft.dirty, false) {
            return done;
        }
        draft.published |= done.is_ok();
        self.becomes(file, published, done)
    }

    /// The step would make it so: whether it did is known when it was not told an error.
    fn becomes(
        &mut self,
        file: usize,
        what: Option<Pieces>,
        done: Result<(), Failed>,
    ) -> Result<(), Failed> {
        match &done {
            Ok(()) => {
                self.tally.commits.fetch_add(1, Ordering::Relaxed);
                self.files[file].held = what;
            }
            Err(_) => self.files[file].perhaps = Some(what),
        }
        done
    }

    fn append(&mut self, file: usize, size: u64) -> Result<(), Failed> {
        let seed = self.seed();
        let File {
            held: Some(before),
            draft: None,
            ..
        } = &self.files[file]
        else {
            return Ok(());
        };
        let content = Content::new(seed, size);
        let longer = Some([&before[..], &[content]].concat());
        let path = self.mount().path(KEYS[file]);
        let mut hand = Writer::start();
        let steps = [
            format!("open wa {}", path.display()),
            format!("write {seed} {size}"),
            "close".to_string(),
        ];
        let done = steps.iter().try_for_each(|step| attempt(&mut hand, step));
        self.becomes(file, longer, done)
    }

    fn unlink(&mut self, file: usize) -> Result<(), Failed> {
        let draft = self.files[file].draft.take();
        if self.files[file].held.is_none() && draft.is_none() {
            return Ok(());
        }
        let done = std::fs::remove_file(self.mount().path(KEYS[file]));
        let done = done.map_err(|e| Failed(format!("unlink: {e}")));
        // What somebody else has put there meanwhile is not what was unlinked.
        let left = match &draft {
            Some(draft) if !draft.published => self.files[file].held.clone(),
            _ => None,
        };
        self.becomes(file, left, done)?;
        // Nobody hears of what is written to it from now on.
        if let Some(mut draft) = draft {
            draft.attempt(&format!("write {} 1000", draft.content.seed))?;
            draft.attempt("close")?;
        }
        Ok(())
    }

    /// Of files that nobody is writing: those who are written have tests of their own.
    fn rename(&mut self, file: usize, to: usize) -> Result<(), Failed> {
        let written = self.files[file].draft.is_some() || self.files[to].draft.is_some();
        let Some(moved) = self.files[file].held.clone() else {
            return Ok(());
        };
        if written || file == to {
            return Ok(());
        }
        let (from, path) = (self.mount().path(KEYS[file]), self.mount().path(KEYS[to]));
        let done = std::fs::rename(from, path);
        let done = done.map_err(|e| Failed(format!("rename: {e}")));
        self.renaming = done.is_err().then(|| moved.clone());
        self.becomes(file, None, done)?;
        self.files[to].held = Some(moved);
        Ok(())
    }

    /// The mount shows what there is.
    fn look(&mut self) -> Result<(), Failed> {
        for (file, key) in self.files.iter().zip(KEYS) {
            if file.draft.is_some() {
                continue;
            }
            let found = match std::fs::read(self.mount().path(key)) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Failed(format!("reading {key}: {error}"))),
            };
            if let Some(why) = differs(file.held.as_ref(), found.as_deref()) {
                return Err(Failed(format!("in the mount, {key} {why}")));
            }
        }
        Ok(())
    }

    /// The bucket has what there is.
    #[track_caller]
    fn compare(&self, what: &str) {
        for (file, key) in self.files.iter().zip(KEYS) {
            let object = self
                .scene
                .store
                .server()
                .object(&self.scene.store.bucket, key);
            if let Some(why) = differs(file.held.as_ref(), object.as_deref()) {
                panic!("{what}: in the bucket, {key} {why}");
            }
        }
    }

    fn give_up_drafts(&mut self) {
        for file in &mut self.files {
            file.draft = None;
        }
    }

    #[track_caller]
    fn bury(&mut self, what: &str) {
        self.tally.deaths.fetch_add(1, Ordering::Relaxed);
        let mut mount = self.mount.take().expect("it was mounted");
        let status = mount.wait_for_death();
        if !self.guarded {
            assert_killed(status);
        }
        self.give_up_drafts();
        self.after_death(what, mount);
    }

    /// A mount has ended, well or not: the next ends what it left.
    #[track_caller]
    fn after_death(&mut self, what: &str, mount: Mount) {
        detach(&mount.at);
        drop(mount);
        self.scene.store.faults().clear();
        self.armed = None;
        self.begin();
        self.settle(what, 1);
        if let Some(moved) = self.renaming.take() {
            self.find_moved(&moved, what);
        }
        for (file, key) in self.files.iter_mut().zip(KEYS) {
            let object = self
                .scene
                .store
                .server()
                .object(&self.scene.store.bucket, key);
            let why = differs(file.held.as_ref(), object.as_deref());
            match (why, file.perhaps.take()) {
                (None, _) => {}
                (Some(_), Some(other)) if differs(other.as_ref(), object.as_deref()).is_none() => {
                    file.held = other;
                }
                (Some(why), _) => panic!("{what}, then a mount: {key} {why}"),
            }
        }
        if let Err(Failed(why)) = self.look() {
            panic!("{what}, then a mount: {why}");
        }
    }

    /// A rename leaves the old name or both, or the new one.
    #[track_caller]
    fn find_moved(&mut self, moved: &Pieces, what: &str) {
        let mut found = 0;
        for (file, key) in self.files.iter_mut().zip(KEYS) {
            let (server, bucket) = (self.scene.store.server(), &self.scene.store.bucket);
            let object = server.object(bucket, key);
            if differs(Some(moved), object.as_deref()).is_none() {
                file.held = Some(moved.clone());
                found += 1;
            }
        }
        assert!(
            found > 0,
            "{what}, then a mount: neither name has what was renamed"
        );
    }

    /// No upload is open but theirs, and so many journals are left.
    #[track_caller]
    fn settle(&self, what: &str, journals: usize) {
        let ours = || {
            let mut uploads = self.scene.store.server().uploads(&self.scene.store.bucket);
            uploads.retain(|upload| !self.theirs.contains(&upload.id));
            uploads
        };
        let settled = crate::support::wait::holds_within(seconds(20), || {
            ours().is_empty() && self.scene.place.instances().len() == journals
        });
        let left = self.scene.place.instances();
        assert!(settled, "{what}: left: {:?} {left:?}", ours());
        let uploads = self.scene.store.server().uploads(&self.scene.store.bucket);
        for id in &self.theirs {
            let theirs = uploads.iter().find(|upload| upload.id == *id);
            assert!(theirs.is_some_and(|u| u.parts == 1), "{what}: theirs");
        }
    }

    fn end(mut self) {
        self.scene.store.faults().clear();
        self.give_up_drafts();
        let mount = self.mount.take().expect("it is mounted");
        let status = mount.terminate();
        assert!(status.success(), "the end: {status}");
        self.settle("the end", 0);
        self.compare("the end");
    }
}

impl Draft {
    fn attempt(&mut self, step: &str) -> Result<(), Failed> {
        attempt(&mut self.hand, step)
    }
}

fn attempt(hand: &mut Writer, step: &str) -> Result<(), Failed> {
    hand.attempt(step).map_err(|errno| {
        let error = std::io::Error::from_raw_os_error(errno);
        Failed(format!("the writer's step `{step}`: {error}"))
    })
}

fn play(seed: u64, tally: &Tally) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        max_shrink_iters: 16,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&steps(), |(guarded, steps)| {
        World::play(guarded, &steps, tally);
        Ok(())
    });
    if let Err(error) = result {
        panic!("seed {seed}: {error}");
    }
}

/// Sequences at the same time.
const LANES: u64 = 8;

fn play_side_by_side(tally: &Tally, seeds: impl Fn(u64) -> Vec<u64> + Send + Sync) {
    let lanes: Vec<u64> = (0..LANES).collect();
    side_by_side(&lanes, |&lane| {
        for seed in seeds(lane) {
            play(seed, tally);
        }
    });
    println!("{tally}");
}

#[test]
fn random_sequences_of_writes_and_crashes_keep_every_promise() {
    let tally = Tally::default();
    play_side_by_side(&tally, |lane| {
        let mut seeds: Vec<u64> = (0..10).map(|n| n * LANES + lane).collect();
        let pinned = PINNED.iter().skip(lane as usize).step_by(LANES as usize);
        seeds.extend(pinned);
        seeds
    });
    let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
    assert!(of(&tally.sequences) >= 10 * LANES + PINNED.len() as u64);
    assert!(of(&tally.deaths) >= 60, "{tally}");
    assert!(of(&tally.commits) >= 60, "{tally}");
}

#[test]
#[ignore = "as long as one likes: scripts/soak"]
fn soak() {
    let minutes = std::env::var("WHOLEFS_SOAK_MINUTES").unwrap_or_default();
    let minutes: u64 = minutes.parse().expect("WHOLEFS_SOAK_MINUTES is a number");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = now.expect("after 1970").as_secs() << 20;
    println!("seeds from {first} on");
    let tally = Tally::default();
    let next = AtomicU64::new(first);
    let lanes: Vec<u64> = (0..LANES).collect();
    side_by_side(&lanes, |_| {
        while Instant::now() < end {
            play(next.fetch_add(1, Ordering::Relaxed), &tally);
        }
    });
    println!("{tally}");
    eventually(seconds(1), "something was tried", || {
        tally.sequences.load(Ordering::Relaxed) > 0
    });
}
