//! The exhaustive proof of an upload's life: every order of events, faults, crashes and other
//! clients' doings, within a budget, in a model of journal and bucket. No runtime, no clock.

mod broken;
mod bucket;
mod checks;
mod explore;
mod journal;
mod perform;
mod request;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use broken::Breakage;
use bucket::Dialect;
use explore::{Trace, Tried};
use world::{Budget, Setup};

const DIALECTS: [Dialect; 9] = {
    const fn dialect(
        name: &'static str,
        completes_again: bool,
        parts_land_after_abort: bool,
        conditional: bool,
    ) -> Dialect {
        Dialect {
            name,
            completes_again,
            parts_land_after_abort,
            conditional,
            writes_kill_uploads: false,
        }
    }
    [
        dialect("again, land, conditions (S3)", true, true, true),
        dialect("again, land, ignores", true, true, false),
        dialect("again, -, conditions", true, false, true),
        dialect("again, -, ignores (COS)", true, false, false),
        dialect("gone, land, conditions", false, true, true),
        dialect("gone, land, ignores", false, true, false),
        dialect("gone, -, conditions (MinIO)", false, false, true),
        dialect("gone, -, ignores", false, false, false),
        Dialect {
            writes_kill_uploads: true,
            ..dialect(
                "gone, -, ignores, writes kill (Garage)",
                false,
                false,
                false,
            )
        },
    ]
};

const WORST: usize = 5;

/// One way to fill the budget; explored in each dialect.
struct Row {
    name: &'static str,
    parts: u8,
    resealed: u8,
    base: bool,
    on_conflict_fail: bool,
    budget: Budget,
    /// All dialects together visited so many worlds when this was written; fewer is a weaker proof.
    at_least: u64,
}

const NOTHING: Budget = Budget {
    faults: 0,
    crashes: 0,
    puts: 0,
    deletes: 0,
    sweeps: 0,
};

const ROWS: [Row; 5] = [
    Row {
        name: "orders: 3 parts, one sealed anew, a fault",
        parts: 3,
        resealed: 1,
        base: true,
        on_conflict_fail: false,
        budget: Budget {
            faults: 1,
            ..NOTHING
        },
        at_least: 1_600_000,
    },
    Row {
        name: "crashes: 3 parts, one sealed anew, 2 crashes, 1 fault",
        parts: 3,
        resealed: 1,
        base: true,
        on_conflict_fail: false,
        budget: Budget {
            faults: 1,
            crashes: 2,
            ..NOTHING
        },
        at_least: 3_000_000,
    },
    Row {
        name: "both: 2 parts, one sealed anew, 2 faults, 2 crashes, a foreign PUT",
        parts: 2,
        resealed: 1,
        base: false,
        on_conflict_fail: false,
        budget: Budget {
            faults: 2,
            crashes: 2,
            puts: 1,
            ..NOTHING
        },
        at_least: 6_100_000,
    },
    Row {
        name: "foreigners: 2 faults, 2 crashes, PUT, DELETE, sweep",
        parts: 1,
        resealed: 0,
        base: true,
        on_conflict_fail: false,
        budget: Budget {
            faults: 2,
            crashes: 2,
            puts: 1,
            deletes: 1,
            sweeps: 1,
        },
        at_least: 4_100_000,
    },
    Row {
        name: "foreigners, the commit on condition that there is nothing",
        parts: 1,
        resealed: 0,
        base: false,
        on_conflict_fail: true,
        budget: Budget {
            faults: 2,
            crashes: 2,
            puts: 1,
            deletes: 1,
            sweeps: 1,
        },
        at_least: 2_900_000,
    },
];

fn setup(row: &Row, dialect: Dialect, breakage: Option<Breakage>) -> Setup {
    Setup {
        dialect,
        parts: row.parts,
        resealed: row.resealed,
        base: row.base,
        on_conflict_fail: row.on_conflict_fail,
        budget: row.budget,
        breakage,
    }
}

/// An unoptimized build is too slow for all of it: it tries the dialect in which the most can go wrong.
fn dialects() -> impl Iterator<Item = Dialect> {
    DIALECTS
        .into_iter()
        .skip(if cfg!(debug_assertions) { WORST } else { 0 })
        .take(if cfg!(debug_assertions) {
            1
        } else {
            DIALECTS.len()
        })
}

/// Explores each of `jobs` on two threads; answers in their order.
fn explore_all(jobs: &[Setup]) -> Vec<Result<Tried, Trace>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((at, job)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(at).map(|job| (at, job))
                } {
                    let result = explore::explore(job);
                    results.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn every_world_an_upload_can_come_to_keeps_the_promises() {
    let jobs: Vec<Setup> = ROWS
        .iter()
        .flat_map(|row| dialects().map(|dialect| setup(row, dialect, None)))
        .collect();
    let mut results = explore_all(&jobs).into_iter();
    let mut all = Tried::default();
    for row in &ROWS {
        println!("{}", row.name);
        let mut sum = Tried::default();
        for dialect in dialects() {
            let result = results.next().expect("one for each job");
            let tried = result.unwrap_or_else(|trace| panic!("{}: {trace}", dialect.name));
            println!("  {:<44} {tried}", dialect.name);
            sum += tried;
        }
        println!("  {:<44} {sum}", "all dialects");
        assert!(
            cfg!(debug_assertions) || sum.worlds >= row.at_least,
            "{}: only {} worlds",
            row.name,
            sum.worlds
        );
        all += sum;
    }
    println!("all: {all}");
    println!("writers told: {:?}", all.meter.told);
    println!("recoveries: {:?}", all.meter.recovered);
    assert!(
        all.meter.told.iter().all(|n| *n > 0),
        "not every verdict came up"
    );
    assert!(
        all.meter.recovered.iter().all(|n| *n > 0),
        "not every outcome came up"
    );
}

#[test]
fn broken_machines_are_caught() {
    // Small enough to be quick, large enough for each of them.
    let row = Row {
        name: "",
        parts: 2,
        resealed: 0,
        base: true,
        on_conflict_fail: false,
        budget: Budget {
            faults: 2,
            crashes: 2,
            puts: 1,
            deletes: 1,
            sweeps: 1,
        },
        at_least: 0,
    };
    for (breakage, invariants) in Breakage::ALL {
        // The dialect in which the most can go wrong, and S3's.
        let caught = [DIALECTS[WORST], DIALECTS[0]]
            .into_iter()
            .find_map(|dialect| explore::explore(&setup(&row, dialect, Some(breakage))).err());
        let trace = caught.unwrap_or_else(|| panic!("{breakage:?} was not caught"));
        assert!(
            invariants.contains(&trace.broken.invariant),
            "{breakage:?} was caught by another invariant: {trace}"
        );
        println!(
            "{breakage:?}: caught by {:?} in {} steps ({})",
            trace.broken.invariant,
            trace.steps.len(),
            trace.broken.how
        );
    }
    println!("{} broken machines caught", Breakage::ALL.len());
}
