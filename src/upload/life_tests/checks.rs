//! What must hold in every world that can come about: the invariants, each by its name.

use super::super::life::{Ending, Record, Verdict};
use super::super::recovery::{Base, Outcome};
use super::bucket::{FOREIGN, Object, Parts, UploadNo};
use super::world::World;

pub(super) const NO_LEAK: &str = "no leak";
pub(super) const NO_LOST_COMMIT: &str = "no lost commit";
pub(super) const ATOMIC: &str = "atomic";
pub(super) const NO_RESURRECTION: &str = "no resurrection";
pub(super) const NO_COLLATERAL: &str = "no collateral";
pub(super) const IDEMPOTENT: &str = "idempotent recovery";
pub(super) const QUIET_JOURNAL_EMPTY: &str = "quiet journal empty";
pub(super) const LIVE: &str = "live";
pub(super) const ABORT_AFTER_DOUBT: &str = "abort never follows an unresolved Complete";
pub(super) const VERDICT_ONCE: &str = "verdict once";

/// A broken invariant.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub invariant: &'static str,
    pub how: String,
}

type Check = Result<(), Broken>;

fn hold(condition: bool, invariant: &'static str, how: &str) -> Check {
    match condition {
        true => Ok(()),
        false => Err(Broken {
            invariant,
            how: how.to_string(),
        }),
    }
}

/// What the checks remember of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Witness {
    /// The journal was asked for something: before that nothing is worth a crash.
    pub begun: bool,
    /// Our object was under the key at some time.
    pub published: bool,
    /// And somebody (or the unlinker) wrote or deleted it since.
    pub overwritten: bool,
    /// The versions of all parts when the commit was wanted.
    pub wanted: Parts,
    /// A recovery's last look at the key found it unchanged, and nothing was written since; or was.
    looked: bool,
    raced: bool,
    /// The process that began it is dead.
    pub recovering: bool,
    /// How an earlier recovery ended.
    pub ended: Option<Ending>,
    kept: bool,
    /// The store lied about an abort; or would not list parts. Against both at once nothing helps.
    pub pretended: bool,
    pub unlisted: bool,
    /// For a broken variant that acts on the second abort only.
    pub aborts: u8,
}

impl Witness {
    pub fn looks(&mut self, base: Base) {
        self.looked = base == Base::Unchanged;
        self.raced = false;
    }

    pub fn foreign_write(&mut self) {
        self.raced |= self.looked;
    }

    pub fn recovers(&mut self) {
        self.looked = false;
        self.raced = false;
        self.kept = false;
        self.recovering = true;
    }

    pub fn recovered(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ended(ending) => self.ended = Some(ending),
            Outcome::Kept => self.kept = true,
        }
    }
}

pub(super) fn always(world: &World) -> Check {
    let ours = world.bucket.object == Object::Ours;
    let told = world.writer.told;
    hold(
        world.bucket.foreign_upload_lives,
        NO_COLLATERAL,
        "somebody else's upload was ended",
    )?;
    hold(
        told != Some(Verdict::Committed) || ours || world.witness.overwritten,
        NO_LOST_COMMIT,
        "told Committed, and the object is not there though nobody else wrote",
    )?;
    hold(
        told != Some(Verdict::Failed) || !ours,
        NO_RESURRECTION,
        "told Failed, and the object is there",
    )?;
    hold(
        !world.writer.abort || world.writer.unlinks || !ours || told.is_some(),
        NO_RESURRECTION,
        "given up in time, and the object is there",
    )?;
    hold(
        !world.writer.deleted || !ours,
        NO_RESURRECTION,
        "deleted after its commit, and the object is there again",
    )?;
    hold(
        !world.is_quiet() || !world.bucket.has_open_upload(),
        NO_LEAK,
        "all is over, nothing is in the journal, and an upload is open",
    )
}

/// At the moment our object appears. `recovering`: by the Complete of a recovery that waits for it.
pub(super) fn publishes(world: &World, parts: &Parts, before: Object, recovering: bool) -> Check {
    hold(
        *parts == world.witness.wanted,
        ATOMIC,
        "published without all parts of the file as it was when the commit was wanted",
    )?;
    hold(
        !world.writer.abort || world.writer.unlinks || world.writer.told.is_some(),
        NO_RESURRECTION,
        "published after it was given up",
    )?;
    hold(
        world.witness.ended.is_none(),
        IDEMPOTENT,
        "a recovery published after another had come to an end",
    )?;
    hold(
        !recovering || before == world.bucket.base() || world.witness.raced,
        NO_RESURRECTION,
        "a recovery published over what somebody else wrote",
    )
}

pub(super) fn sends_part(world: &World) -> Check {
    hold(
        world.disk.has_opened(),
        ATOMIC,
        "a part was sent before Opened was durable",
    )
}

/// By a living upload.
pub(super) fn sends_complete(world: &World) -> Check {
    hold(
        world.disk.says(Record::Commit),
        ATOMIC,
        "Complete was sent before Commit was durable",
    )?;
    hold(
        world.writer.told.is_none(),
        NO_RESURRECTION,
        "Complete was sent after the writer was told",
    )
}

pub(super) fn sends_abort(world: &World, upload: UploadNo) -> Check {
    hold(
        upload != FOREIGN,
        NO_COLLATERAL,
        "an abort was sent for somebody else's upload",
    )?;
    hold(
        !world.complete_is_under_way(),
        ABORT_AFTER_DOUBT,
        "an abort was sent while a Complete may be applied",
    )?;
    hold(
        world.bucket.object != Object::Ours,
        ABORT_AFTER_DOUBT,
        "an abort was sent for the upload of the published object",
    )
}

pub(super) fn tells(world: &World, verdict: Verdict) -> Check {
    hold(
        world.writer.told.is_none(),
        VERDICT_ONCE,
        "the writer was told twice",
    )?;
    hold(
        verdict != Verdict::Committed || world.witness.published,
        NO_LOST_COMMIT,
        "told Committed of what was never published",
    )
}

/// The unlinker is about to delete what was committed meanwhile.
pub(super) fn deletes(world: &World) -> Check {
    let ended = world.disk.says(Record::End(Ending::Committed));
    hold(
        ended || world.disk.is_poisoned(),
        NO_RESURRECTION,
        "the object was deleted before End was durable",
    )
}

/// A machine says it is over.
pub(super) fn over(world: &World) -> Check {
    hold(!world.waits(), LIVE, "over, though something is under way")?;
    hold(
        !world.writer.commit
            || world.writer.abort
            || world.writer.told.is_some()
            || world.witness.recovering,
        VERDICT_ONCE,
        "over, and whoever wanted the commit was told nothing",
    )
}

pub(super) fn recovered(world: &World, outcome: Outcome) -> Check {
    let Outcome::Ended(ending) = outcome else {
        return hold(
            world.disk.is_open(),
            QUIET_JOURNAL_EMPTY,
            "kept, and the journal has nothing of it",
        );
    };
    let published = ending == Ending::Committed;
    let same = match world.witness.ended {
        None => true,
        // Once somebody wrote over it, what is left of the truth depends on the store's answer.
        Some(_) if world.witness.overwritten => true,
        // Lost is noted as Abort.
        Some(ended) => (ended == Ending::Committed) == published,
    };
    hold(same, IDEMPOTENT, "two recoveries came to different ends")?;
    hold(
        !published || world.witness.published,
        NO_LOST_COMMIT,
        "a recovery calls committed what was never published",
    )?;
    hold(
        published || world.bucket.object != Object::Ours,
        NO_LOST_COMMIT,
        "a recovery calls lost or aborted what is published",
    )
}

/// A mount finds something in the journal though nothing crashed.
pub(super) fn mounts(world: &World) -> Check {
    hold(
        world.witness.kept || world.disk.is_poisoned(),
        QUIET_JOURNAL_EMPTY,
        "all is over, and the journal holds it open",
    )
}
