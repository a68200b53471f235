//! Visits every world that can come about from a setup, depth first, each once; and from each lets
//! things run on without further trouble, to see that it ends.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use super::checks::{self, Broken};
use super::world::{Meter, Setup, Step, World};

/// What one exploration came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    pub worlds: u64,
    pub steps: u64,
    pub crashes: u64,
    pub faults: u64,
    pub foreign: u64,
    /// Worlds in which all was over.
    pub ends: u64,
    /// The most requests it took from anywhere to the end once faults stopped.
    pub longest: u64,
    pub meter: Meter,
}

impl std::ops::AddAssign for Tried {
    fn add_assign(&mut self, other: Tried) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.foreign += other.foreign;
        self.ends += other.ends;
        self.longest = self.longest.max(other.longest);
        self.meter += other.meter;
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>8} worlds, {:>8} steps, {:>7} crashes, {:>7} faults, {:>7} by others, {:>5} ends, at most {} requests to go",
            self.worlds,
            self.steps,
            self.crashes,
            self.faults,
            self.foreign,
            self.ends,
            self.longest
        )
    }
}

/// A broken invariant and how it came to that.
#[derive(Debug)]
pub(super) struct Trace {
    pub broken: Broken,
    pub steps: Vec<Step>,
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.broken.invariant, self.broken.how)?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:4}  {step:?}")?;
        }
        Ok(())
    }
}

/// Once faults stop, everything ends within so many requests.
const ENOUGH_REQUESTS: u64 = 30;
const ENOUGH_STEPS: u32 = 200;

/// Worlds are remembered by their hash alone, which is random enough to be its own.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are kept")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn explore(setup: &Setup) -> Result<Tried, Trace> {
    let mut tried = Tried::default();
    let mut seen: HashSet<u64, BuildHasherDefault<Itself>> = HashSet::default();
    let start = World::new(setup);
    seen.insert(hash(&start));
    let mut steps = Vec::new();
    start.steps(setup, &mut steps);
    // Each world on the way with the steps not yet tried from it.
    let mut path = vec![(start, steps)];
    let mut taken: Vec<Step> = Vec::new();
    while let Some((world, left)) = path.last_mut() {
        let Some(step) = left.pop() else {
            path.pop();
            taken.pop();
            continue;
        };
        let mut next = world.clone();
        taken.push(step);
        tried.steps += 1;
        count(step, &mut tried);
        let visited = next.apply(step, setup, &mut tried.meter).and_then(|()| {
            match seen.insert(hash(&next)) {
                true => run_on(&next, setup).map(Some),
                false => Ok(None),
            }
        });
        match visited {
            Err(broken) => {
                let steps = shorten(setup, &taken, broken.invariant);
                return Err(Trace { broken, steps });
            }
            Ok(None) => {
                taken.pop();
            }
            Ok(Some(requests)) => {
                tried.longest = tried.longest.max(requests);
                tried.ends += u64::from(next.is_quiet());
                let mut steps = Vec::new();
                next.steps(setup, &mut steps);
                path.push((next, steps));
            }
        }
    }
    tried.worlds = seen.len() as u64;
    Ok(tried)
}

fn count(step: Step, tried: &mut Tried) {
    match step {
        Step::Crash => tried.crashes += 1,
        Step::FailRecord { .. }
        | Step::Lose(_)
        | Step::Refuse(_)
        | Step::PutOff(_)
        | Step::Pretend(_) => tried.faults += 1,
        Step::ForeignPut | Step::ForeignDelete | Step::ForeignAbort => tried.foreign += 1,
        _ => {}
    }
}

/// No more trouble: everything that can happen does, in a fair order, until nothing is left. The
/// writer, if all wait for it, gives up.
fn run_on(world: &World, setup: &Setup) -> Result<u64, Broken> {
    let mut world = world.clone();
    let mut meter = Meter::default();
    let mut steps = Vec::new();
    for _ in 0..ENOUGH_STEPS {
        steps.clear();
        world.fair_steps(&mut steps);
        let step = match steps.first() {
            Some(step) => *step,
            None if world.is_quiet() => {
                return match meter.requests <= ENOUGH_REQUESTS {
                    true => Ok(meter.requests),
                    false => Err(stuck(format!("it took {} requests", meter.requests))),
                };
            }
            None if world.waits_for_the_writer() => Step::Abort,
            None => return Err(stuck(format!("it stands still: {world:?}"))),
        };
        world.apply(step, setup, &mut meter)?;
    }
    Err(stuck(format!(
        "no end after {ENOUGH_STEPS} steps: {world:?}"
    )))
}

fn stuck(how: String) -> Broken {
    Broken {
        invariant: checks::LIVE,
        how,
    }
}

/// The same invariant broken with fewer steps: leaves out what can be left out.
fn shorten(setup: &Setup, taken: &[Step], invariant: &str) -> Vec<Step> {
    let mut steps = taken.to_vec();
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match replay(setup, &fewer) {
            Some((broken, used)) if broken == invariant => {
                fewer.truncate(used);
                steps = fewer;
                at = 0;
            }
            _ => at += 1,
        }
    }
    steps
}

/// Which invariant these steps break, after how many of them; `None` if not all can be taken.
fn replay(setup: &Setup, steps: &[Step]) -> Option<(&'static str, usize)> {
    let mut world = World::new(setup);
    let mut possible = Vec::new();
    for (used, step) in (1..).zip(steps) {
        possible.clear();
        world.steps(setup, &mut possible);
        if !possible.contains(step) {
            return None;
        }
        let done = world
            .apply(*step, setup, &mut Meter::default())
            .and_then(|()| run_on(&world, setup));
        if let Err(broken) = done {
            return Some((broken.invariant, used));
        }
    }
    None
}
