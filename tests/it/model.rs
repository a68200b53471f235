//! Random sequences of operations, on a mount and on a local twin: every answer is the same, and so is
//! the whole tree after each step, after each remount, and after each death of the daemon.
//!
//! A sequence follows from its seed. Those that have ever failed are [`PINNED`].

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::edits::Random;
use crate::support::mount::{Place, detach};
use crate::support::tools::{kill, shout};
use crate::support::{Mount, Store};

mod operation;
mod tree;

use operation::{Dice, Operation};
use tree::{Answer, Tree};

/// Seeds of sequences that once failed.
const PINNED: [u64; 0] = [];

/// Sequences, and operations in each; `scripts/soak` asks for more.
const SEQUENCES: u64 = 50;
const OPERATIONS: u64 = 400;

/// Every so often something that both trees must come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Remount,
    Kill,
}

/// Two trees that are to stay the same.
struct Twins {
    store: Store,
    place: Place,
    mount: Option<Mount>,
    mounted: Tree,
    local: Tree,
    _folder: tempfile::TempDir,
}

impl Twins {
    fn new() -> Twins {
        let (store, place) = (Store::embedded(), Place::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mount = Twins::mount(&store, &place);
        let tree = |root: PathBuf| Tree { root, held: None };
        Twins {
            mounted: tree(mount.path("")),
            local: tree(folder.path().to_path_buf()),
            mount: Some(mount),
            store,
            place,
            _folder: folder,
        }
    }

    fn mount(store: &Store, place: &Place) -> Mount {
        let source = format!("s3://{}", store.bucket);
        Mount::within(
            place,
            "mnt",
            store,
            &source,
            &["--xattrs", "--part-size", "5M"],
        )
    }

    fn step(&mut self, operation: &Operation, history: &str) {
        let expected = self.local.perform(operation);
        let found = self.mounted.perform(operation);
        assert!(
            expected == found || is_known(operation, expected, found),
            "{history}: {operation:?}: {expected:?} in the local tree, {found:?} in the mount"
        );
        assert!(
            (expected.is_ok()) == found.is_ok(),
            "{history}: {operation:?}: only one tree has changed"
        );
        self.compare(history, operation);
    }

    fn compare(&self, history: &str, what: &dyn std::fmt::Debug) {
        let (expected, found) = (self.local.all(), self.mounted.all());
        let paths = expected.keys().chain(found.keys());
        for path in paths {
            let (expected, found) = (expected.get(path), found.get(path));
            assert!(
                expected == found,
                "{history}: {what:?}: {path:?} is\n{found:?}, and should be\n{expected:?}"
            );
        }
    }

    fn happens(&mut self, event: Event) {
        // What is closed is published, so nothing of it may be lost.
        (self.local.held, self.mounted.held) = (None, None);
        let mut mount = self.mount.take().expect("mounted");
        match event {
            Event::Remount => assert!(mount.terminate().success()),
            Event::Kill => {
                kill(mount.daemon(), libc::SIGKILL);
                kill(mount.pid(), libc::SIGKILL);
                mount.wait_for_death();
                detach(&self.mounted.root);
            }
        }
        self.mount = Some(Twins::mount(&self.store, &self.place));
    }
}

/// Where the two may differ, and why.
fn is_known(operation: &Operation, expected: Answer, found: Answer) -> bool {
    match (operation, expected, found) {
        // Which of two errors is told, when both are true, is nobody's promise.
        (Operation::Rename { .. } | Operation::RenameNoReplace { .. }, Err(_), Err(_)) => true,
        _ => false,
    }
}

fn sequence(seed: u64, operations: u64) {
    let mut dice = Dice(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let mut twins = Twins::new();
    for number in 0..operations {
        let history = format!("seed {seed}, operation {number}");
        if dice.below(100) == 0 {
            let event = match dice.below(2) {
                0 => Event::Remount,
                _ => Event::Kill,
            };
            println!("{history}: {event:?}");
            twins.happens(event);
            twins.compare(&history, &event);
        }
        let operation = dice.operation(twins.local.held.is_some());
        println!("{history}: {operation:?}");
        twins.step(&operation, &history);
    }
    twins.happens(Event::Remount);
    twins.compare(&format!("seed {seed}"), &"the end");
    assert!(twins.mount.take().expect("mounted").terminate().success());
    twins.store.assert_no_uploads_within(5, "the end");
}

#[test]
fn a_mount_is_what_its_local_twin_is() {
    // One that has failed, and nothing else.
    if let Ok(seed) = std::env::var("WHOLEFS_MODEL_SEED") {
        return sequence(seed.parse().expect("a number"), OPERATIONS);
    }
    for seed in PINNED {
        sequence(seed, OPERATIONS);
    }
    for seed in 0..SEQUENCES {
        sequence(seed, OPERATIONS);
    }
    shout(&format!("{} operations compared", SEQUENCES * OPERATIONS));
}

/// `scripts/soak --minutes N` asks for this one.
#[test]
#[ignore = "takes as long as it is told to: scripts/soak"]
fn soak_of_the_model() {
    let minutes: u64 = match std::env::var("WHOLEFS_SOAK_MINUTES") {
        Ok(text) => text.parse().expect("minutes"),
        Err(_) => 1,
    };
    let from = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let begun = std::time::Instant::now();
    let mut sequences = 0;
    while begun.elapsed() < Duration::from_secs(minutes * 60) {
        sequence(from + sequences, OPERATIONS);
        sequences += 1;
    }
    shout(&format!(
        "{} operations compared, seeds from {from}",
        sequences * OPERATIONS
    ));
}
