//! The words in which an upload's life is told: what can happen to it ([`Event`]), what it wants done
//! ([`Action`]), and the answers that tell its machines apart what a store did. No data, no order.

/// What the journal is told. The driver adds ids, parts and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    Begin,
    Opened,
    Commit,
    /// A commit that was refused: recovery must not roll it forward.
    Abort,
    End(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ending {
    Committed,
    Aborted,
    /// The upload vanished (or its object was replaced) while its commit was unanswered.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The part's bytes are complete (again: a rewritten part is sealed anew under its number).
    PartSealed(u32),
    /// The writer closed or synced: publish what was sealed.
    CommitWanted,
    /// The writer died, the file was unlinked, truncated…: nothing of this may be published.
    AbortWanted,
    Recorded(Record),
    RecordFailed(Record),
    Created(Answer),
    Found(Search),
    PartAnswered(u32, PartAnswer),
    /// An attempt at a part was given up on and made again: the first may land yet.
    Strayed,
    Completed(Completion),
    TokenSeen(Token),
    AbortAnswered(AbortAnswer),
    PartsListed(Listing),
    Woken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    Done,
    /// Certainly not applied; trying again may help.
    NotApplied,
    Refused,
    /// Perhaps applied: the answer was lost.
    Unknown,
}

/// The look for an upload whose Create was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Search {
    Ours,
    Nothing,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartAnswer {
    Stored,
    /// Failed for good, and certainly nothing of it is on its way: never sent, or refused.
    NotApplied,
    /// Failed for good, after the store's own retries; it may have been applied, or may be yet.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Completion {
    Done,
    NotApplied,
    Refused,
    NoSuchUpload,
    /// The precondition did not hold.
    Conflict,
    Unknown,
}

/// Does the object under the key carry this upload's token?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Token {
    Ours,
    NotOurs,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AbortAnswer {
    Done,
    NoSuchUpload,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listing {
    NoSuchUpload,
    StillThere,
    Unanswered,
    /// The store cannot list parts, or we may not.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Append to the journal; answer `Recorded` when durable. `End` may be lazy.
    Record(Record),
    Create,
    FindUpload,
    SendPart(u32),
    Complete,
    CheckToken,
    SendAbort,
    ListParts,
    /// Come back with `Woken` after a pause that grows with the number of tries; see [`super::ending::SETTLING`].
    Pause(u32),
    /// To the draft, once.
    Report(Verdict),
    /// Nothing is left to do or to answer.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Committed,
    /// Not published, and it will not be.
    Failed,
    /// The store stopped answering around the commit: it is being resolved in the background.
    Uncertain,
}

pub type Actions = Vec<Action>;
