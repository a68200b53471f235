//! Everything an upload's life touches, as one value: the machine (alive or recovering), what its
//! driver keeps, the journal on its disk, the bucket, the requests between them, the writer and
//! whoever else uses the bucket. A [`Step`] is one thing that can happen next; [`World::steps`]
//! lists them and [`World::apply`] lets one happen. Equal worlds have equal futures.

use super::super::ending::SETTLING;
use super::super::life::{self, Life};
use super::super::recovery::{self, Recovery};
use super::super::words::*;
use super::broken::Breakage;
use super::bucket::{Bucket, Dialect, Object, Parts, UploadNo};
use super::checks::{self, Broken, Witness};
use super::journal::Disk;
use super::request::{Ask, Reply, Request, lost, put_off, refused};

/// Failures of a request before the machines change their mind: small, so that a few faults get there.
pub(super) const PATIENCE: u32 = 2;

/// What is tried: how much of everything, and in which world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub dialect: Dialect,
    pub parts: u8,
    /// Parts sealed a second time.
    pub resealed: u8,
    /// The key held an object before.
    pub base: bool,
    /// The writer's own commit carries a condition on the base.
    pub on_conflict_fail: bool,
    pub budget: Budget,
    pub breakage: Option<Breakage>,
}

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Answers lost, requests refused or put off, records that fail.
    pub faults: u8,
    pub crashes: u8,
    /// Somebody else's PUT of the key, DELETE of it, and abort of our upload.
    pub puts: u8,
    pub deletes: u8,
    pub sweeps: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Machine {
    Living(Life),
    Recovering(Recovery),
    /// Over, or nothing to recover.
    Idle,
}

/// What the driver keeps in memory; of a recovering process, what it read in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub upload: Option<UploadNo>,
    /// The latest version sealed of each part (0: none), and the latest the store acknowledged.
    pub sealed: Parts,
    pub receipts: Parts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub sealed: u8,
    resealed: u8,
    pub commit: bool,
    pub abort: bool,
    /// The abort came while a commit could no longer be stopped: the object is deleted after it.
    pub unlinks: bool,
    pub told: Option<Verdict>,
    pub deleted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Seal(u8),
    Reseal(u8),
    Commit,
    Abort,
    /// The unlinker deletes what was committed meanwhile.
    Delete,
    /// The oldest record not on the disk gets there; the oldest there is acknowledged.
    Flush,
    Acknowledge,
    /// The oldest record fails, though it may be on the disk.
    FailRecord {
        durable: bool,
    },
    Apply(Ask),
    Answer(Ask),
    /// The answer is lost (and the request too, or it is applied later).
    Lose(Ask),
    /// The same of an attempt at a part, which is made again.
    Repeat(Ask),
    Refuse(Ask),
    PutOff(Ask),
    /// The store says it aborted, and did not (or not all of it).
    Pretend(Ask),
    /// What nobody waits for any more is applied, or dies.
    Land(Ask),
    Drop(Ask),
    Wake,
    Crash,
    /// The next mount finds a record that was kept, or could not be ended.
    Mount,
    ForeignPut,
    ForeignDelete,
    ForeignAbort,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub machine: Machine,
    pub pause: Option<u32>,
    pub client: Client,
    pub disk: Disk,
    pub bucket: Bucket,
    /// Sorted.
    pub requests: Vec<Request>,
    /// Applied later or never, and nobody waits for it. Sorted.
    limbo: Vec<Ask>,
    pub writer: Writer,
    budget: Budget,
    pub witness: Witness,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    pub requests: u64,
    /// Verdicts: Committed, Failed, Uncertain.
    pub told: [u64; 3],
    /// Recoveries: Committed, Aborted, Lost, Kept.
    pub recovered: [u64; 4],
}

impl std::ops::AddAssign for Meter {
    fn add_assign(&mut self, other: Meter) {
        self.requests += other.requests;
        self.told
            .iter_mut()
            .zip(other.told)
            .for_each(|(a, b)| *a += b);
        let recovered = self.recovered.iter_mut().zip(other.recovered);
        recovered.for_each(|(a, b)| *a += b);
    }
}

pub(super) type Outcomes = Result<(), Broken>;

impl World {
    pub fn new(setup: &Setup) -> World {
        World {
            machine: Machine::Living(Life::with_patience(PATIENCE)),
            pause: None,
            client: Client::default(),
            disk: Disk::default(),
            bucket: Bucket::new(setup.base),
            requests: Vec::new(),
            limbo: Vec::new(),
            writer: Writer::default(),
            budget: setup.budget,
            witness: Witness::default(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.machine == Machine::Idle
    }

    pub fn is_living(&self) -> bool {
        matches!(self.machine, Machine::Living(_))
    }

    /// Nothing is under way and nothing will be, but for faults and foreigners.
    pub fn is_quiet(&self) -> bool {
        self.is_idle()
            && self.limbo.is_empty()
            && !self.disk.is_busy()
            && !self.disk.is_open()
            && !self.may_delete()
    }

    fn may_delete(&self) -> bool {
        self.writer.unlinks
            && self.writer.told == Some(Verdict::Committed)
            && !self.writer.deleted
            && !self.witness.recovering
    }

    /// Somebody waits for something.
    pub fn waits(&self) -> bool {
        !self.requests.is_empty() || self.pause.is_some()
    }

    pub fn waits_for_the_writer(&self) -> bool {
        self.is_living() && !self.writer.commit && !self.writer.abort
    }

    /// Some Complete may be applied yet.
    pub fn complete_is_under_way(&self) -> bool {
        let waiting = |r: &Request| r.ask.is_complete() && r.reply.is_none();
        self.requests.iter().any(waiting) || self.limbo.iter().any(|a| a.is_complete())
    }

    /// What happens without anybody's doing, the fairest first.
    pub fn fair_steps(&self, out: &mut Vec<Step>) {
        if self.disk.can_flush() {
            out.push(Step::Flush);
        }
        if self.disk.can_acknowledge() {
            out.push(Step::Acknowledge);
        }
        if self.disk.must_fail() {
            out.push(Step::FailRecord { durable: false });
        }
        for request in &self.requests {
            out.push(match request.reply {
                None => Step::Apply(request.ask),
                Some(_) => Step::Answer(request.ask),
            });
        }
        for (at, ask) in self.limbo.iter().enumerate() {
            if at == 0 || self.limbo[at - 1] != *ask {
                out.push(Step::Land(*ask));
                out.push(Step::Drop(*ask));
            }
        }
        // The assumption of `ending`: after a settling pause nothing is on its way any more.
        if self
            .pause
            .is_some_and(|n| n < SETTLING || self.limbo.is_empty())
        {
            out.push(Step::Wake);
        }
        if self.may_delete() {
            out.push(Step::Delete);
        }
        let settled = self.is_idle() && !self.disk.is_busy() && !self.may_delete();
        if settled && self.disk.is_open() {
            out.push(Step::Mount);
        }
    }

    fn writers_steps(&self, setup: &Setup, out: &mut Vec<Step>) {
        if !self.is_living() {
            return;
        }
        let writer = &self.writer;
        if !writer.commit {
            if writer.sealed < setup.parts {
                out.push(Step::Seal(writer.sealed + 1));
            }
            if writer.resealed < setup.resealed {
                out.extend((1..=writer.sealed).map(Step::Reseal));
            }
            if writer.sealed > 0 {
                out.push(Step::Commit);
            }
        }
        if !writer.abort {
            out.push(Step::Abort);
        }
    }

    pub fn steps(&self, setup: &Setup, out: &mut Vec<Step>) {
        self.fair_steps(out);
        self.writers_steps(setup, out);
        let budget = &self.budget;
        if budget.faults > 0 {
            for request in &self.requests {
                out.push(Step::Lose(request.ask));
                if request.reply.is_none() {
                    let unseen = matches!(request.ask, Ask::List(_)) && self.witness.pretended;
                    if !matches!(request.ask, Ask::Find | Ask::Token | Ask::Base) && !unseen {
                        out.push(Step::Refuse(request.ask));
                    }
                    if matches!(request.ask, Ask::Part(..)) && !request.strayed {
                        out.push(Step::Repeat(request.ask));
                    }
                    if matches!(request.ask, Ask::Create | Ask::Complete { .. }) {
                        out.push(Step::PutOff(request.ask));
                    }
                    if matches!(request.ask, Ask::Abort(_)) && !self.witness.unlisted {
                        out.push(Step::Pretend(request.ask));
                    }
                }
            }
            if self.disk.can_flush() {
                out.push(Step::FailRecord { durable: false });
                out.push(Step::FailRecord { durable: true });
            }
        }
        let begun = self.witness.begun;
        if budget.crashes > 0 && begun && (!self.is_idle() || self.disk.is_busy()) {
            out.push(Step::Crash);
        }
        if begun && budget.puts > 0 {
            out.push(Step::ForeignPut);
        }
        if begun && budget.deletes > 0 && self.bucket.object != Object::Absent {
            out.push(Step::ForeignDelete);
        }
        if budget.sweeps > 0 && self.bucket.has_open_upload() {
            out.push(Step::ForeignAbort);
        }
    }

    /// Lets one step happen. `Err`: an invariant broke.
    pub fn apply(&mut self, step: Step, setup: &Setup, meter: &mut Meter) -> Outcomes {
        match step {
            Step::Seal(number) => {
                self.writer.sealed = number;
                self.seal(number, setup, meter)?;
            }
            Step::Reseal(number) => {
                self.writer.resealed += 1;
                self.seal(number, setup, meter)?;
            }
            Step::Commit => {
                self.writer.commit = true;
                self.witness.wanted = self.client.sealed;
                self.live(life::Event::CommitWanted, setup, meter)?;
            }
            Step::Abort => {
                self.writer.abort = true;
                if let Machine::Living(life) = &self.machine {
                    self.writer.unlinks = life.is_committing();
                }
                self.live(life::Event::AbortWanted, setup, meter)?;
            }
            Step::Delete => {
                checks::deletes(self)?;
                self.writer.deleted = true;
                self.bucket.object = Object::Absent;
                self.witness.overwritten = true;
            }
            Step::Flush => self.disk.flush(),
            Step::Acknowledge => {
                let record = self.disk.acknowledge();
                self.recorded(record, true, setup, meter)?;
            }
            Step::FailRecord { durable } => {
                if !self.disk.must_fail() {
                    self.budget.faults -= 1;
                }
                let record = self.disk.fail(durable);
                self.recorded(record, false, setup, meter)?;
            }
            Step::Apply(ask) => {
                let reply = self.serve(ask, false, setup)?;
                let request = self.request(ask);
                self.requests[request].reply = Some(reply);
                self.requests.sort_unstable();
            }
            Step::Answer(ask) => {
                let request = self.request(ask);
                let request = self.requests.remove(request);
                if request.strayed {
                    self.live(life::Event::Strayed, setup, meter)?;
                }
                self.hear(request.reply.expect("it was applied"), setup, meter)?;
            }
            Step::Lose(ask) => {
                self.budget.faults -= 1;
                let request = self.request(ask);
                let request = self.requests.remove(request);
                if request.reply.is_none() && ask.changes_the_bucket() {
                    self.leave_in_limbo(ask);
                }
                self.hear(lost(ask), setup, meter)?;
            }
            Step::Repeat(ask) => {
                self.budget.faults -= 1;
                let request = self.request(ask);
                self.requests[request].strayed = true;
                self.requests.sort_unstable();
                self.leave_in_limbo(ask);
            }
            Step::Refuse(ask) | Step::PutOff(ask) | Step::Pretend(ask) => {
                self.budget.faults -= 1;
                let request = self.request(ask);
                let request = self.requests.remove(request);
                let reply = match step {
                    // The first attempt is not answered by the second.
                    Step::Refuse(_) if request.strayed => lost(ask),
                    Step::Refuse(_) => refused(ask),
                    Step::PutOff(_) => put_off(ask),
                    _ => Reply::Abort(AbortAnswer::Done),
                };
                self.witness.unlisted |= matches!(reply, Reply::List(_));
                self.witness.pretended |= matches!(reply, Reply::Abort(AbortAnswer::Done));
                self.hear(reply, setup, meter)?;
            }
            Step::Land(ask) => {
                self.take_from_limbo(ask);
                self.serve(ask, true, setup)?;
            }
            Step::Drop(ask) => self.take_from_limbo(ask),
            Step::Wake => {
                self.pause = None;
                self.either(life::Event::Woken, recovery::Event::Woken, setup, meter)?;
            }
            Step::Crash => {
                self.budget.crashes -= 1;
                self.die();
                self.mount(setup, meter)?;
            }
            Step::Mount => {
                checks::mounts(self)?;
                self.mount(setup, meter)?;
            }
            Step::ForeignPut => {
                self.budget.puts -= 1;
                self.foreign_write(Object::Foreign, setup);
            }
            Step::ForeignDelete => {
                self.budget.deletes -= 1;
                self.foreign_write(Object::Absent, setup);
            }
            Step::ForeignAbort => {
                self.budget.sweeps -= 1;
                self.bucket.sweep();
            }
        }
        checks::always(self)
    }

    fn foreign_write(&mut self, object: Object, setup: &Setup) {
        self.bucket.foreign_write(object, &setup.dialect);
        self.witness.overwritten |= self.witness.published;
        self.witness.foreign_write();
    }

    fn seal(&mut self, number: u8, setup: &Setup, meter: &mut Meter) -> Outcomes {
        self.client.sealed[number as usize - 1] += 1;
        self.live(life::Event::PartSealed(number.into()), setup, meter)
    }

    fn request(&self, ask: Ask) -> usize {
        let found = self.requests.iter().position(|r| r.ask == ask);
        found.expect("a request under way")
    }

    pub fn leave_in_limbo(&mut self, ask: Ask) {
        self.limbo.push(ask);
        self.limbo.sort_unstable();
    }

    fn take_from_limbo(&mut self, ask: Ask) {
        let at = self.limbo.iter().position(|a| *a == ask);
        self.limbo.remove(at.expect("a request in limbo"));
    }

    /// The process is gone: what it waited for may happen yet, what only it knew is lost.
    fn die(&mut self) {
        self.disk.lose_power();
        self.forget();
    }

    pub fn forget(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            if request.reply.is_none() && request.ask.changes_the_bucket() {
                self.leave_in_limbo(request.ask);
            }
        }
        self.pause = None;
        self.machine = Machine::Idle;
        self.client = Client::default();
    }

    fn mount(&mut self, setup: &Setup, meter: &mut Meter) -> Outcomes {
        self.disk.reopen();
        self.witness.recovers();
        let Some((journal, upload, parts)) = self.disk.found() else {
            return Ok(());
        };
        self.client = Client {
            upload,
            sealed: parts,
            receipts: parts,
        };
        let conditional =
            setup.dialect.conditional || setup.breakage == Some(Breakage::BelievesInConditions);
        let mut recovery = Recovery::with_patience(journal, conditional, PATIENCE);
        let actions = recovery.start();
        self.machine = Machine::Recovering(recovery);
        for action in actions {
            self.perform_recovery(action, setup, meter)?;
        }
        Ok(())
    }
}
