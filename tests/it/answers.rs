//! A store that answers in unexpected ways. Whatever it says: the mount lives, what is read is what was
//! written, and under a name is a whole file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::mangle::{Mangler, Random};
use crate::support::{Content, Mount, PART, Store, eventually, seconds};

/// A close tells nobody here that it failed; a sync does.
fn publish(path: &Path, content: &Content) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&content.bytes())?;
    file.sync_all()
}

/// What may be under a name by now: generations of contents; 0 is nothing.
struct Known {
    file: u64,
    may_be: Vec<u64>,
    last: u64,
}

impl Known {
    fn name(&self) -> String {
        format!("file-{}", self.file)
    }

    fn content(&self, generation: u64) -> Content {
        let mut random = Random(self.file * 1000 + generation + 1);
        random.below(1);
        let size = match random.below(12) {
            0 => 0,
            1 => PART + random.below(PART),
            _ => 1 + random.below(30_000),
        };
        Content::new(self.file * 1_000_000 + generation, size)
    }

    #[track_caller]
    fn assert_is_one(&self, found: &[u8], what: &str) {
        let mut written = self.may_be.iter().filter(|generation| **generation > 0);
        let one = written.any(|generation| self.content(*generation).compare(found).is_ok());
        if one {
            return;
        }
        let mut all = 1..=self.last;
        let older = all.find(|generation| self.content(*generation).compare(found).is_ok());
        panic!(
            "{what} {}: {} bytes that are none of {:?} (but {older:?})",
            self.name(),
            found.len(),
            self.may_be
        );
    }

    fn play(&mut self, mount: &Path, random: &mut Random) {
        let path = mount.join(self.name());
        match random.below(10) {
            0..4 => {
                self.last += 1;
                match publish(&path, &self.content(self.last)) {
                    Ok(()) => self.may_be = vec![self.last],
                    // A failure leaves what was, or it got through all the same.
                    Err(_) => self.may_be.push(self.last),
                }
            }
            4..8 => {
                if let Ok(found) = fs::read(&path) {
                    self.assert_is_one(&found, "read from");
                }
            }
            8 => match fs::remove_file(&path) {
                Ok(()) => self.may_be = vec![0],
                Err(_) => self.may_be.push(0),
            },
            _ => drop(fs::read_dir(mount).map(|entries| entries.flatten().count())),
        }
    }
}

/// `players` at once, each with a file of its own: most wait to try something again. Answers how many answers
/// were spoilt, of which one in `one_in` is.
fn spoilt_answers(answers: u64, one_in: u64, seed: u64, players: u64) -> u64 {
    let mut store = Store::embedded();
    let mangler = Mangler::to(&store.endpoint, seed, one_in);
    let direct = std::mem::replace(&mut store.endpoint, mangler.endpoint.clone());
    let options = [
        "--part-size",
        "5M",
        "--attempts",
        "3",
        "--request-timeout",
        "5s",
        "--metadata-ttl",
        "0s",
    ];
    let mount = Mount::with(&store, &options);
    mangler.begin();
    let (over, operations) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let at = &mount.at;
    let known: Vec<Known> = std::thread::scope(|scope| {
        let player = |file: u64| {
            scope.spawn(move || {
                let mut random = Random(seed * 100 + file + 1);
                let mut known = Known {
                    file,
                    may_be: vec![0],
                    last: 0,
                };
                while !over.load(Ordering::Relaxed) {
                    known.play(at, &mut random);
                    operations.fetch_add(1, Ordering::Relaxed);
                }
                known
            })
        };
        let players: Vec<_> = (1..=players).map(player).collect();
        let time = seconds(60 + answers / 5);
        eventually(time, "so many spoilt answers", || {
            let dead = players.iter().any(|player| player.is_finished());
            dead || mangler.spoilt() >= answers
        });
        over.store(true, Ordering::Relaxed);
        players
            .into_iter()
            .map(|player| player.join().expect("a file is what was written"))
            .collect()
    });
    mangler.end();
    println!(
        "seed {seed}: {} spoilt answers, {operations:?} operations",
        mangler.spoilt()
    );
    // The mount is well, and the bucket holds whole files.
    store.endpoint = direct;
    for known in &known {
        match store.get(&known.name()) {
            Some(found) => known.assert_is_one(&found, "in the bucket"),
            None => assert!(known.may_be.contains(&0), "{} is gone", known.name()),
        }
        let content = known.content(known.last + 1);
        let path = mount.path(&known.name());
        publish(&path, &content).expect("the mount is well");
        content.assert_file(&path);
        store.assert_holds(&known.name(), &content);
    }
    // Every upload has ended but those that were lost by what was said of them; and of such a one the mount
    // cannot tell whose it is, and says so.
    let place = mount.place();
    let (said, status) = mount.terminate_and_tell();
    let left = store.open_uploads().len() as u64;
    println!(
        "{left} uploads are left, and {} answers were spoilt of such",
        mangler.spoilt_of_uploads()
    );
    assert!(
        left <= mangler.spoilt_of_uploads(),
        "{left} are left\n{said}"
    );
    assert!(
        status.success() || said.contains("Ambiguous"),
        "{status}\n{said}"
    );
    assert!(
        left > 0 || place.instances().is_empty(),
        "journals are left\n{said}"
    );
    mangler.spoilt()
}

#[test]
fn whatever_a_store_answers_no_byte_is_wrong_and_no_file_is_torn() {
    spoilt_answers(300, 5, 7, 8);
}

mod long {
    use super::spoilt_answers;

    /// Each has a store of its own, too: what one is held up by is not what another is.
    const MOUNTS: u64 = 4;

    /// `WHOLEFS_ANSWERS=100000` for as many, of all mounts together. Its seed is new each time.
    #[test]
    #[ignore = "takes as long as one likes"]
    fn whatever_a_store_answers_thousands_of_times() {
        let answers = std::env::var("WHOLEFS_ANSWERS").ok();
        let answers: u64 = answers.map_or(1500, |n| n.parse().expect("a number"));
        let seed = u64::from(std::process::id()) * MOUNTS;
        let spoilt: u64 = std::thread::scope(|scope| {
            let play =
                |n| scope.spawn(move || spoilt_answers(answers.div_ceil(MOUNTS), 3, seed + n, 160));
            let mounts: Vec<_> = (0..MOUNTS).map(play).collect();
            let ends = mounts.into_iter().map(|mount| mount.join());
            ends.map(|end| end.expect("each mount is well")).sum()
        });
        println!("{spoilt} spoilt answers to {MOUNTS} mounts");
    }
}
