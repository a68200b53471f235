//! The log on a lying disk: a crash in every call, then every disk the machine may come back with;
//! a fault in every call, alone and followed by a crash.
//!
//! The invariant, checked after each: what is replayed is what some prefix of the records written
//! leaves open, and that prefix holds every record that was acknowledged as durable.

use std::path::Path;

use super::super::log::{JOURNAL, Log, Pending, Refused};
use super::super::record::{Kind, Record};
use super::super::replay::{OpenUpload, replay};
use super::lying_disk::{Choices, Fault, LyingDisk, World};
use super::{abort, begin, commit, end, file_of, header, open_after, opened};
use crate::upload::life::Ending::{Aborted, Committed, Lost};

/// All there are: no call of these scripts leaves more than [`MOST`] disks possible.
const LEAST_CRASHES: usize = 8_700;
const LEAST_SECOND_CRASHES: usize = 101_000;
const LEAST_FAULTS: usize = 151_000;
const MOST: usize = 4096;

/// Small enough that scripts of a few dozen records compact.
const COMPACT_ABOVE: u64 = 1500;

/// Records with whether somebody waits for them.
type Batch = Vec<(Record, bool)>;

fn scripts() -> Vec<Vec<Batch>> {
    let sure = |records: Vec<Record>| records.into_iter().map(|r| (r, true)).collect::<Batch>();
    let long = "k".repeat(400);
    vec![
        // One file after the other, each life whole.
        (1..=3)
            .flat_map(|id| {
                [
                    sure(vec![begin(id, "a/b.txt")]),
                    sure(vec![opened(id)]),
                    sure(vec![commit(id, id as u32)]),
                    vec![(end(id, Committed), false)],
                ]
            })
            .collect(),
        // Uploads side by side, batches larger than a sector, every kind of end.
        vec![
            sure((1..=5).map(|id| begin(id, "some/key")).collect()),
            sure((1..=5).map(opened).collect()),
            sure(vec![commit(1, 4), abort(2), begin(6, &long)]),
            vec![
                (end(2, Aborted), false),
                (commit(3, 9), true),
                (end(1, Committed), true),
            ],
            vec![(end(3, Lost), false)],
            vec![(opened(6), true), (abort(3 + 1), true)],
        ],
        // Enough of what ended to compact again and again, with some that stay open.
        (1..=8)
            .flat_map(|id| {
                let key = format!("{}{id}", &long[..60]);
                [
                    sure(vec![begin(2 * id, &key), begin(2 * id + 1, &key)]),
                    sure(vec![opened(2 * id), opened(2 * id + 1)]),
                    sure(vec![commit(2 * id, 5)]),
                    vec![
                        (end(2 * id, Committed), false),
                        (
                            if id % 4 == 0 {
                                abort(2 * id + 1)
                            } else {
                                end(2 * id + 1, Aborted)
                            },
                            id % 2 == 0,
                        ),
                    ],
                ]
            })
            .collect(),
        // Commits of many sectors, and lazy Ends that nobody syncs for a while.
        vec![
            sure((1..=6).map(|id| begin(id, &long[..90])).collect()),
            sure((1..=6).map(opened).collect()),
            sure(vec![commit(1, 50)]),
            vec![(end(1, Committed), false)],
            vec![(end(2, Aborted), false)],
            sure(vec![commit(3, 20), commit(4, 30)]),
            (3..=6).map(|id| (end(id, Committed), false)).collect(),
            vec![(begin(7, &long), false)],
            vec![(opened(7), false)],
            vec![(commit(7, 12), false)],
            sure(vec![begin(8, "x")]),
            sure((9..=20).map(|id| begin(id, &long[..id as usize])).collect()),
            sure((9..=20).map(opened).collect()),
            sure((9..=20).map(|id| commit(id, 3)).collect()),
        ],
    ]
}

/// What a second process writes after a crash: it ends what it finds and begins something itself.
fn sequel(open: &[OpenUpload]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = open
        .iter()
        .take(2)
        .map(|upload| vec![(abort(upload.id), true), (end(upload.id, Aborted), true)])
        .collect();
    batches.push(vec![(begin(900, "later/key"), true)]);
    batches.push(vec![(opened(900), true)]);
    batches
}

/// What may be found after a crash.
#[derive(Clone, Default)]
struct Model {
    /// What was there before, and what was written since, in order.
    written: Vec<Record>,
    /// How many of those were acknowledged.
    durable: usize,
    /// Written or not, in this order, after all that.
    perhaps: Vec<Record>,
    owed: Vec<Record>,
    poisoned: bool,
    refused: usize,
}

impl Model {
    /// Performs a batch as the writer thread does, and keeps account.
    fn perform(&mut self, log: &mut Log, disk: &LyingDisk, batch: &Batch) {
        let ends_again = |o: &Record| {
            batch
                .iter()
                .any(|(r, _)| r.kind() == Kind::End && r.id() == o.id())
        };
        self.owed.retain(|o| !ends_again(o));
        let all: Vec<Record> = self
            .owed
            .iter()
            .cloned()
            .chain(batch.iter().map(|(r, _)| r.clone()))
            .collect();
        let answers = log.append(batch.iter().map(|(r, _)| Pending::from(r)).collect());
        assert_eq!(answers.len(), batch.len());
        if disk.world().dead {
            self.perhaps.extend(all);
            return;
        }
        if answers.iter().all(Result::is_ok) {
            assert!(!self.poisoned, "poisoned means poisoned");
            self.written.extend(all);
            self.owed.clear();
        } else {
            assert!(answers.iter().all(Result::is_err), "all or none");
            self.refused += answers.len();
            match &answers[0] {
                Err(Refused::Full(errno)) => {
                    assert_eq!(*errno, libc::ENOSPC);
                    assert!(!self.poisoned);
                    // Cut back and synced: nothing of the batch, and all that was before it.
                    self.durable = self.written.len();
                    self.owed = all;
                    self.owed.retain(|r| r.kind() == Kind::End);
                }
                Err(Refused::Poisoned(why)) => {
                    assert!(
                        why.contains(JOURNAL) && why.contains("--state-dir"),
                        "{why}"
                    );
                    if !self.poisoned {
                        self.perhaps.extend(all);
                    }
                    self.poisoned = true;
                }
                other => panic!("{other:?}"),
            }
            return;
        }
        if batch.iter().any(|(_, durable)| *durable) {
            let synced = log.sync();
            if synced.is_ok() {
                assert!(!self.poisoned, "poisoned means poisoned");
                self.durable = self.written.len();
            } else if !disk.world().dead {
                self.poisoned = true;
            }
        }
        if !disk.world().dead {
            log.compact_if_due();
            if !disk.world().dead && log.is_poisoned() {
                self.poisoned = true;
            }
        }
    }

    fn run(&mut self, log: &mut Log, disk: &LyingDisk, script: &[Batch]) {
        for batch in script {
            if disk.world().dead {
                return;
            }
            // Whoever was refused its Begin does not go on: keep what makes sense.
            let mut open: Vec<u64> = self.now_open().iter().map(|u| u.id).collect();
            let batch: Batch = batch
                .iter()
                .filter(|(r, _)| match r.kind() {
                    Kind::Begin => {
                        open.push(r.id());
                        true
                    }
                    _ => open.contains(&r.id()) && self.makes_sense(r),
                })
                .cloned()
                .collect();
            if !batch.is_empty() {
                self.perform(log, disk, &batch);
            }
        }
    }

    fn now_open(&self) -> Vec<OpenUpload> {
        open_after(&self.written)
    }

    fn makes_sense(&self, record: &Record) -> bool {
        let ended = self.owed.iter().any(|o| o.id() == record.id());
        let upload = self.now_open().into_iter().find(|u| u.id == record.id());
        !ended
            && match record.kind() {
                Kind::Commit => upload.is_some_and(|u| u.upload_id.is_some() && !u.aborting),
                _ => true,
            }
    }

    fn allows(&self, found: &[OpenUpload]) -> bool {
        let all: Vec<Record> = self.written.iter().chain(&self.perhaps).cloned().collect();
        (self.durable..=all.len()).any(|n| open_after(&all[..n]) == found)
    }

    #[track_caller]
    fn check(&self, found: &[OpenUpload], what: &dyn std::fmt::Debug) {
        assert!(
            self.allows(found),
            "{what:?}: {} records, {} acknowledged, {} perhaps; found {found:#?}",
            self.written.len(),
            self.durable,
            self.perhaps.len()
        );
    }
}

fn path() -> &'static Path {
    Path::new("/state/00c0ffee00c0ffee")
}

fn create(disk: &LyingDisk) -> Option<Log> {
    let log = Log::create(disk.boxed(), path(), header()).ok()?;
    Some(log.compact_above(COMPACT_ABOVE))
}

fn reopen(disk: &LyingDisk) -> Option<(Log, Vec<OpenUpload>)> {
    let (log, _, open) = Log::open(disk.boxed(), path()).ok()?;
    Some((log, open))
}

/// Opens what a crash left, checks it, and that opening it once more changes nothing.
#[track_caller]
fn check_world(world: World, model: &Model, created: bool, what: &dyn std::fmt::Debug) -> World {
    let disk = LyingDisk::of(world);
    if disk.bytes(JOURNAL).is_none() {
        assert!(!created, "{what:?}: the journal is gone");
        return disk.world().clone();
    }
    let (_, open) = match Log::open(disk.boxed(), path()) {
        Ok((log, _, open)) => (log, open),
        Err(error) => panic!("{what:?}: {error}"),
    };
    model.check(&open, what);
    let cut = disk.bytes(JOURNAL).expect("still there");
    let again = replay(&cut).expect("what was opened replays");
    assert_eq!(again.open, open, "{what:?}: replay is idempotent");
    assert_eq!(again.torn, 0, "{what:?}: the torn end was cut off");
    disk.world().clone()
}

/// Whole lines of this instance's other lives: what an old block of the disk may hold.
fn stale() -> Vec<u8> {
    let mut other = header();
    other.generation = 7;
    let mut bytes = Vec::new();
    let salt = super::write_header(&mut bytes, &other);
    for n in 1..40 {
        let body = begin(n, "stale").body();
        let json = super::super::record::number(n, n - 1, &body);
        super::super::record::write_line(&mut bytes, &salt, &json);
    }
    bytes
}

/// Runs a script with these faults; answers the disk, the model, and whether the journal was created.
fn play(script: &[Batch], faults: Vec<(usize, usize, Fault)>) -> (LyingDisk, Model, bool) {
    let disk = LyingDisk::default();
    disk.world().faults = faults;
    let mut model = Model::default();
    let log = create(&disk);
    let created = log.is_some();
    if let Some(mut log) = log {
        model.run(&mut log, &disk, script);
    }
    (disk, model, created)
}

#[test]
fn a_crash_in_any_call_keeps_what_was_acknowledged() {
    let stale = stale();
    let mut tried = 0;
    let mut calls = 0;
    for (index, script) in scripts().iter().enumerate() {
        for call in 0.. {
            let (disk, model, created) = play(script, vec![(call, 1, Fault::Death)]);
            let world = disk.world().clone();
            let disks = Choices::each(MOST, call as u64, |choices| {
                let after = world.after_power_loss(choices, &stale);
                check_world(after, &model, created, &(index, call));
            });
            assert!(
                disks <= MOST,
                "call {call} of script {index} was only sampled"
            );
            tried += disks;
            // Without a power loss, everything written is there.
            check_world(world.restarted(), &model, created, &(index, call));
            tried += 1;
            calls += 1;
            if world.struck == 0 {
                break;
            }
        }
    }
    println!("journal: {tried} disks after a crash in each of {calls} calls");
    assert!(tried >= LEAST_CRASHES, "only {tried} cases");
}

#[test]
fn a_second_crash_after_the_first_keeps_it_too() {
    let stale = stale();
    let mut tried = 0;
    for (index, script) in scripts().iter().enumerate() {
        for call in 0.. {
            let (disk, model, created) = play(script, vec![(call, 1, Fault::Death)]);
            let world = disk.world().clone();
            let mut disks = vec![world.restarted()];
            Choices::each(4, call as u64, |choices| {
                disks.push(world.after_power_loss(choices, &stale));
            });
            for (nth, first) in disks.into_iter().enumerate() {
                if LyingDisk::of(first.clone()).bytes(JOURNAL).is_none() {
                    assert!(!created);
                    continue;
                }
                for second_call in 0.. {
                    let what = (index, call, nth, second_call);
                    let disk = LyingDisk::of(first.clone());
                    disk.world().faults = vec![(second_call, 1, Fault::Death)];
                    let mut second = model.clone();
                    // A name that nobody synced yet may still go.
                    let mut named = created;
                    if let Some((mut log, open)) = reopen(&disk) {
                        model.check(&open, &what);
                        // From here on, what was found is what counts.
                        named = true;
                        second = found_as_model(&model, &open);
                        second.run(&mut log, &disk, &sequel(&open));
                    }
                    let world = disk.world().clone();
                    tried += Choices::each(24, second_call as u64, |choices| {
                        let after = world.after_power_loss(choices, &stale);
                        check_world(after, &second, named, &what);
                    });
                    if world.struck == 0 {
                        break;
                    }
                }
            }
            if world.struck == 0 {
                break;
            }
        }
    }
    println!("journal: {tried} disks after a second crash");
    assert!(tried >= LEAST_SECOND_CRASHES, "only {tried} cases");
}

/// The prefix that was found, now durable: opening a journal makes it so.
fn found_as_model(model: &Model, open: &[OpenUpload]) -> Model {
    let all: Vec<Record> = model
        .written
        .iter()
        .chain(&model.perhaps)
        .cloned()
        .collect();
    let n = (model.durable..=all.len())
        .rev()
        .find(|&n| open_after(&all[..n]) == open)
        .expect("checked before");
    Model {
        written: all[..n].to_vec(),
        durable: n,
        ..Model::default()
    }
}

#[test]
fn a_fault_in_any_call_refuses_or_poisons_and_loses_nothing() {
    let stale = stale();
    let (mut tried, mut poisoned, mut full, mut recovered) = (0, 0, 0, 0);
    let mut faults: Vec<(usize, Fault)> = vec![(1, Fault::Errno(libc::EIO, 0))];
    for eighths in [0, 3, 8] {
        faults.push((1, Fault::Errno(libc::EIO, eighths)));
        for calls in [1, 3, 6, usize::MAX] {
            faults.push((calls, Fault::Errno(libc::ENOSPC, eighths)));
        }
    }
    for (index, script) in scripts().iter().enumerate() {
        for &(calls, fault) in &faults {
            for call in 0.. {
                let what = (index, fault, calls, call);
                let (disk, model, created) = play(script, vec![(call, calls, fault)]);
                let world = disk.world().clone();
                poisoned += usize::from(model.poisoned);
                full += usize::from(model.refused > 0 && !model.poisoned);
                recovered += usize::from(model.refused > 0 && model.written.len() > model.refused);
                check_world(world.restarted(), &model, created, &what);
                tried += 1 + Choices::each(8, call as u64, |choices| {
                    let after = world.after_power_loss(choices, &stale);
                    check_world(after, &model, created, &what);
                });
                if world.struck == 0 {
                    break;
                }
                // And the process's death, in one of the calls that follow.
                for later in 1..=4 {
                    let died = vec![
                        (call + later, 1, Fault::Death),
                        (call, calls.min(later), fault),
                    ];
                    let (disk, model, created) = play(script, died);
                    let world = disk.world().clone();
                    tried += Choices::each(8, later as u64, |choices| {
                        let after = world.after_power_loss(choices, &stale);
                        check_world(after, &model, created, &(what, later));
                    });
                }
            }
        }
    }
    println!(
        "journal: {tried} disks after a fault; {poisoned} runs poisoned, {full} refused for want of room, {recovered} went on afterwards"
    );
    assert!(poisoned > 100 && full > 100 && recovered > 100);
    assert!(tried >= LEAST_FAULTS, "only {tried} cases");
}

#[test]
fn what_was_refused_for_want_of_room_is_not_there_and_ends_are_made_good() {
    let disk = LyingDisk::default();
    let mut log = create(&disk).expect("created");
    let say = |log: &mut Log, record: &Record| log.append(vec![Pending::from(record)]).remove(0);
    say(&mut log, &begin(1, "a")).expect("room");
    log.sync().expect("synced");
    let before = disk.bytes(JOURNAL);
    let now = disk.world().calls;
    disk.world().faults = vec![(now, 1, Fault::Errno(libc::ENOSPC, 3))];
    assert!(matches!(
        say(&mut log, &end(1, Aborted)),
        Err(Refused::Full(libc::ENOSPC))
    ));
    assert_eq!(disk.bytes(JOURNAL), before);
    assert_eq!(log.open_uploads(), 1);
    assert!(log.is_behind());
    log.flush().expect("there is room again");
    assert_eq!(log.open_uploads(), 0);
    assert!(!log.is_behind());
    let found = replay(&disk.bytes(JOURNAL).expect("there")).expect("whole");
    assert_eq!((found.open, found.last), (Vec::new(), 2));
}

#[test]
fn senseless_records_are_refused_one_by_one() {
    let disk = LyingDisk::default();
    let mut log = create(&disk).expect("created");
    let batch = [
        begin(1, "a"),
        begin(1, "a"),
        commit(1, 1),
        opened(2),
        opened(1),
        opened(1),
        end(3, Lost),
        abort(1),
        commit(1, 1),
    ];
    let answers = log.append(batch.iter().map(Pending::from).collect());
    let fine: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(
        fine,
        [true, false, false, false, true, false, false, true, false]
    );
    let found = replay(&disk.bytes(JOURNAL).expect("there")).expect("whole");
    assert_eq!(found.last, 3);
    assert!(found.open[0].aborting);
}

#[test]
fn compaction_keeps_the_file_small_and_what_is_open() {
    let disk = LyingDisk::default();
    let mut log = create(&disk).expect("created");
    let mut model = Model::default();
    let mut largest = 0;
    let keep: Vec<Batch> = vec![vec![
        (begin(1, "kept"), true),
        (opened(1), true),
        (commit(1, 3), true),
    ]];
    model.run(&mut log, &disk, &keep);
    for id in 2..500 {
        let life: Vec<Batch> = vec![
            vec![(begin(id, "gone"), true)],
            vec![(opened(id), true)],
            vec![(end(id, Aborted), false)],
        ];
        model.run(&mut log, &disk, &life);
        largest = largest.max(log.bytes());
    }
    let (_, open) = reopen(&disk).expect("whole");
    assert_eq!(open, model.now_open());
    assert_eq!(open.len(), 1);
    assert!(log.compactions > 20, "{}", log.compactions);
    assert!(
        largest < COMPACT_ABOVE + 1000,
        "the file grew to {largest} bytes"
    );
    let whole = file_of(&[]);
    assert!(log.bytes() > whole.len() as u64);
}
