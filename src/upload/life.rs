//! The life of one multipart upload, from its first sealed part until the store says that nothing
//! of it is left: a pure state machine. No I/O, no clock, no data: the driver performs the
//! [`Action`]s, keeps ids and receipts, and comes back with [`Event`]s in whatever order the world
//! produces them. That is what lets a test enumerate every order (see `life_tests`). How a commit is
//! brought to an end, and how an upload is removed, is in [`super::ending`].
//!
//! Invariants:
//! - No part is sent before the `Opened` record is durable.
//! - Complete is sent only when every sealed part is stored and the `Commit` record is durable;
//!   from then on nothing but the store's own answer ends the commit.
//! - No abort is sent while a Complete may still be applied.
//! - An abort is repeated after every part in flight has answered, and is over only when
//!   the store no longer knows the upload.
//! - A verdict is reported once, and it is true: `Failed` is not said while the journal may still
//!   tell a recovery to publish, and once the writer has heard anything no further Complete is sent.

use std::collections::BTreeSet;

use super::ending::{Ask, Commitment, Fate, Next, Removal, SETTLING};
pub use super::words::*;

/// Tries of one request before the writer is told; what must not be left behind is tried on after that.
pub const TRIES: u32 = 5;

/// Times the store may stay silent, through all its own retries, before the writer is told: what
/// waits for a silent store is a person. (One more around a commit: its outcome is worth the wait. Creates have
/// a time that they may take altogether, see [`super::search`]: each that is answered badly is tried again.)
const SILENCES: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Fresh,
    Beginning,
    Creating,
    /// Create's answer was lost: is there an upload of ours?
    Searching,
    Opening,
    Open,
    /// The Commit record is on its way to the disk.
    Committing,
    Completing(Commitment),
    /// The Abort record of a refused commit is on its way to the disk.
    Revoking,
    Removing(Removal),
    /// The file was unlinked during its commit: End must be durable before the object is deleted.
    EndingDurably,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    state: State,
    /// A pause is under way; `Woken` goes on where it began.
    pausing: bool,
    /// Tries of the state's request so far.
    tries: u32,
    /// Tries of one request before the writer is told.
    patience: u32,
    /// Creates whose answer was lost.
    lost_creates: u32,
    /// Sealed and not yet sent: before the upload is open, or while an earlier send of the same number is in flight.
    waiting: BTreeSet<u32>,
    in_flight: BTreeSet<u32>,
    stored: BTreeSet<u32>,
    commit_wanted: bool,
    /// Abort as soon as there is something to abort (or, during a commit: end durably).
    doomed: bool,
    reported: bool,
    /// The journal may have our Commit and no Abort after it: a recovery would publish.
    promised: bool,
    /// Some part was given up on and may be applied yet.
    strayed: bool,
    ending: Ending,
}

impl Default for Life {
    fn default() -> Life {
        Life::new()
    }
}

impl Life {
    pub fn new() -> Life {
        Life::with_patience(TRIES)
    }

    pub(super) fn with_patience(patience: u32) -> Life {
        Life {
            state: State::Fresh,
            pausing: false,
            tries: 0,
            patience,
            waiting: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            stored: BTreeSet::new(),
            commit_wanted: false,
            doomed: false,
            reported: false,
            promised: false,
            strayed: false,
            lost_creates: 0,
            ending: Ending::Aborted,
        }
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// From here on an abort comes too late: the commit decides, and its verdict is to be waited for.
    pub fn is_committing(&self) -> bool {
        self.promised && !self.is_over()
    }

    /// Is it over, and is the object, or was it, this upload's?
    pub fn was_committed(&self) -> bool {
        self.is_over() && self.ending == Ending::Committed
    }

    pub fn step(&mut self, event: Event) -> Actions {
        let mut out = Actions::new();
        match event {
            Event::PartSealed(number) => self.part_sealed(number, &mut out),
            Event::CommitWanted => {
                assert!(!self.commit_wanted, "a commit is wanted once");
                assert!(self.state != State::Fresh, "a commit without a part");
                self.commit_wanted = true;
                self.go_on(&mut out);
            }
            Event::AbortWanted => self.end_unpublished(&mut out),
            Event::Recorded(record) => self.recorded(record, &mut out),
            Event::RecordFailed(record) => self.record_failed(record, &mut out),
            Event::Created(answer) => self.created(answer, &mut out),
            Event::Found(search) => self.found(search, &mut out),
            Event::Strayed => {
                self.strayed = true;
                if let State::Removing(removal) = &mut self.state {
                    removal.strayed();
                }
            }
            Event::PartAnswered(number, answer) => self.part_answered(number, answer, &mut out),
            Event::Completed(completion) => {
                let next = self.commitment("Completed").completed(completion);
                self.commit_on(next, &mut out);
            }
            Event::TokenSeen(token) => {
                let next = self.commitment("TokenSeen").token_seen(token);
                self.commit_on(next, &mut out);
            }
            Event::AbortAnswered(answer) => {
                let in_flight = !self.in_flight.is_empty();
                let next = self
                    .removal("AbortAnswered")
                    .abort_answered(answer, in_flight);
                self.remove_on(next, &mut out);
            }
            Event::PartsListed(listing) => {
                let next = self.removal("PartsListed").parts_listed(listing);
                self.remove_on(next, &mut out);
            }
            Event::Woken => self.woken(&mut out),
        }
        self.check();
        out
    }

    fn part_sealed(&mut self, number: u32, out: &mut Actions) {
        assert!(
            !self.commit_wanted,
            "a part was sealed after the commit was wanted"
        );
        match self.state {
            State::Fresh => {
                self.waiting.insert(number);
                self.enter(State::Beginning, out);
            }
            State::Beginning
            | State::Creating
            | State::Searching
            | State::Opening
            | State::Open => {
                self.waiting.insert(number);
                self.go_on(out);
            }
            // The draft has not yet heard that it is lost.
            _ => {}
        }
    }

    /// Sends what may be sent and commits when all is stored.
    fn go_on(&mut self, out: &mut Actions) {
        if self.state != State::Open {
            return;
        }
        let ready: Vec<u32> = self.waiting.difference(&self.in_flight).copied().collect();
        for number in ready {
            self.waiting.remove(&number);
            self.stored.remove(&number);
            self.in_flight.insert(number);
            out.push(Action::SendPart(number));
        }
        if self.commit_wanted && self.waiting.is_empty() && self.in_flight.is_empty() {
            self.promised = true;
            self.enter(State::Committing, out);
        }
    }

    fn recorded(&mut self, record: Record, out: &mut Actions) {
        match (&self.state, record) {
            (State::Beginning, Record::Begin) if self.doomed => self.end(Ending::Aborted, out),
            (State::Beginning, Record::Begin) => self.enter(State::Creating, out),
            (State::Opening, Record::Opened) => {
                self.state = State::Open;
                self.go_on(out);
            }
            (State::Committing, Record::Commit) => {
                let commitment = Commitment::new();
                let next = commitment.start();
                self.state = State::Completing(commitment);
                self.commit_on(next, out);
            }
            (State::Revoking, Record::Abort) => {
                self.promised = false;
                self.report(Verdict::Failed, out);
                self.remove(self.removal_to_come(), out);
            }
            (State::EndingDurably, Record::End(_)) => self.ended_durably(out),
            // An abort overtook the record.
            _ => {}
        }
    }

    fn record_failed(&mut self, record: Record, out: &mut Actions) {
        match (&self.state, record) {
            // Nothing was asked of the store yet. The record may be on the disk all the same.
            (State::Beginning, Record::Begin) => self.fail_and_end(out),
            (State::Opening, Record::Opened) => {
                self.report(Verdict::Failed, out);
                self.remove(Removal::new(self.strayed), out);
            }
            // The disk refuses; the store can still be cleaned. Until it is, a Commit that got to
            // the disk all the same stands.
            (State::Committing, Record::Commit) | (State::Revoking, Record::Abort) => {
                self.remove(self.removal_to_come(), out);
            }
            (State::EndingDurably, Record::End(_)) => self.ended_durably(out),
            _ => {}
        }
    }

    fn created(&mut self, answer: Answer, out: &mut Actions) {
        assert!(self.state == State::Creating, "Created in {:?}", self.state);
        match answer {
            Answer::Done => self.opened(out),
            Answer::Unknown => {
                self.state = State::Searching;
                self.tries = 0;
                self.lost_creates += 1;
                // It may be applied yet; and a search that could miss it would have to be repeated
                // at the end, when other clients' uploads are harder to tell from it.
                self.pause(SETTLING, out);
            }
            Answer::NotApplied if !self.doomed && self.tries < self.patience => {
                self.pause(self.tries, out);
            }
            Answer::NotApplied | Answer::Refused => self.fail_and_end(out),
        }
    }

    fn found(&mut self, search: Search, out: &mut Actions) {
        assert!(self.state == State::Searching, "Found in {:?}", self.state);
        match search {
            Search::Ours => self.opened(out),
            Search::Nothing if self.doomed => self.end(Ending::Aborted, out),
            Search::Nothing if self.lost_creates >= self.patience => self.fail_and_end(out),
            Search::Nothing => self.enter(State::Creating, out),
            Search::Unanswered => {
                if self.tries >= self.patience.min(SILENCES) {
                    self.report(Verdict::Failed, out);
                    self.doomed = true;
                }
                self.pause(self.tries, out);
            }
        }
    }

    fn opened(&mut self, out: &mut Actions) {
        if self.doomed {
            self.remove(Removal::new(false), out);
        } else {
            self.enter(State::Opening, out);
        }
    }

    fn part_answered(&mut self, number: u32, answer: PartAnswer, out: &mut Actions) {
        assert!(
            self.in_flight.remove(&number),
            "part {number} answered but was not in flight"
        );
        self.strayed |= answer == PartAnswer::Failed;
        let drained = self.in_flight.is_empty();
        match &mut self.state {
            State::Open if answer == PartAnswer::Stored => {
                self.stored.insert(number);
                self.go_on(out);
            }
            State::Open => {
                self.report(Verdict::Failed, out);
                self.remove(Removal::new(self.strayed), out);
            }
            State::Removing(removal) => {
                if self.strayed {
                    removal.strayed();
                }
                if drained {
                    let next = removal.drained();
                    self.remove_on(next, out);
                }
            }
            state => panic!("part {number} answered in {state:?}"),
        }
    }

    fn commit_on(&mut self, next: Next<Fate>, out: &mut Actions) {
        match next {
            Next::Ask(ask) => out.push(ask.into()),
            Next::Pause(tries) => {
                let patience = self.patience.min(SILENCES + 1);
                let commitment = self.commitment("a pause");
                if commitment.tries() >= patience {
                    if !commitment.is_in_doubt() {
                        return self.enter(State::Revoking, out);
                    }
                    // The writer goes on without it, and may write anew: what is not published by
                    // now must not be published over that.
                    commitment.give_up();
                    self.report(Verdict::Uncertain, out);
                }
                self.pause(tries, out);
            }
            Next::Wait => unreachable!("a commit waits for nobody"),
            Next::Over(Fate::Published) => self.committed(out),
            Next::Over(Fate::Refused) => self.enter(State::Revoking, out),
            Next::Over(Fate::Vanished) => {
                self.ending = Ending::Lost;
                if self.strayed {
                    // A part that lands late may make the upload anew, and a recovery would publish that.
                    return self.enter(State::Revoking, out);
                }
                self.promised = false;
                self.report(Verdict::Failed, out);
                self.remove(self.removal_to_come(), out);
            }
        }
    }

    fn committed(&mut self, out: &mut Actions) {
        self.ending = Ending::Committed;
        if self.doomed {
            self.enter(State::EndingDurably, out);
        } else {
            self.report(Verdict::Committed, out);
            self.end(Ending::Committed, out);
        }
    }

    fn ended_durably(&mut self, out: &mut Actions) {
        self.report(Verdict::Committed, out);
        self.state = State::Over;
        out.push(Action::Over);
    }

    fn removal_to_come(&self) -> Removal {
        match self.ending {
            Ending::Lost => Removal::of_vanished(self.strayed),
            Ending::Committed | Ending::Aborted => Removal::new(self.strayed),
        }
    }

    fn remove(&mut self, mut removal: Removal, out: &mut Actions) {
        let next = removal.start(!self.in_flight.is_empty());
        self.state = State::Removing(removal);
        self.remove_on(next, out);
    }

    fn remove_on(&mut self, next: Next<()>, out: &mut Actions) {
        match next {
            Next::Ask(ask) => out.push(ask.into()),
            Next::Pause(tries) => {
                if self.promised && self.removal("a pause").tries() >= self.patience {
                    self.report(Verdict::Uncertain, out);
                }
                self.pause(tries, out);
            }
            Next::Wait => {}
            Next::Over(()) if self.promised => {
                self.report(Verdict::Failed, out);
                self.end(self.ending, out);
            }
            Next::Over(()) => self.end(self.ending, out),
        }
    }

    fn woken(&mut self, out: &mut Actions) {
        assert!(self.pausing, "Woken without a pause");
        self.pausing = false;
        let in_flight = !self.in_flight.is_empty();
        match &mut self.state {
            State::Creating if self.doomed => self.end(Ending::Aborted, out),
            State::Completing(commitment) => {
                let next = commitment.woken();
                self.commit_on(next, out);
            }
            State::Removing(removal) => {
                let next = removal.woken(in_flight);
                self.remove_on(next, out);
            }
            _ => self.request(out),
        }
    }

    /// What the draft wants: nothing of this upload may be published.
    fn end_unpublished(&mut self, out: &mut Actions) {
        match self.state {
            State::Fresh => {
                self.state = State::Over;
                out.push(Action::Over);
            }
            State::Beginning | State::Creating | State::Searching => self.doomed = true,
            State::Opening | State::Open => self.remove(Removal::new(self.strayed), out),
            // Too late to stop: the object is deleted after the commit, and End must be durable before that.
            State::Committing | State::Completing(_) => self.doomed = true,
            State::Revoking | State::Removing(_) | State::EndingDurably | State::Over => {}
        }
    }

    fn fail_and_end(&mut self, out: &mut Actions) {
        self.report(Verdict::Failed, out);
        self.end(Ending::Aborted, out);
    }

    fn end(&mut self, ending: Ending, out: &mut Actions) {
        self.ending = ending;
        self.state = State::Over;
        out.push(Action::Record(Record::End(ending)));
        out.push(Action::Over);
    }

    fn report(&mut self, verdict: Verdict, out: &mut Actions) {
        if !self.reported {
            self.reported = true;
            out.push(Action::Report(verdict));
        }
    }

    fn enter(&mut self, state: State, out: &mut Actions) {
        self.state = state;
        self.tries = 0;
        self.request(out);
    }

    fn pause(&mut self, tries: u32, out: &mut Actions) {
        self.pausing = true;
        out.push(Action::Pause(tries));
    }

    /// Asks what the state stands for (again).
    fn request(&mut self, out: &mut Actions) {
        self.tries = self.tries.saturating_add(1);
        let action = match &self.state {
            State::Beginning => Action::Record(Record::Begin),
            State::Creating => Action::Create,
            State::Searching => Action::FindUpload,
            State::Opening => Action::Record(Record::Opened),
            State::Committing => Action::Record(Record::Commit),
            State::Revoking => Action::Record(Record::Abort),
            State::EndingDurably => Action::Record(Record::End(Ending::Committed)),
            state => panic!("nothing to ask in {state:?}"),
        };
        out.push(action);
    }

    fn commitment(&mut self, what: &str) -> &mut Commitment {
        match &mut self.state {
            State::Completing(commitment) => commitment,
            state => panic!("{what} in {state:?}"),
        }
    }

    fn removal(&mut self, what: &str) -> &mut Removal {
        match &mut self.state {
            State::Removing(removal) => removal,
            state => panic!("{what} in {state:?}"),
        }
    }

    fn check(&self) {
        match self.state {
            State::Fresh
            | State::Beginning
            | State::Creating
            | State::Searching
            | State::Opening => {
                assert!(
                    self.in_flight.is_empty() && self.stored.is_empty(),
                    "a part was sent too early"
                );
            }
            State::Committing | State::Completing(_) | State::EndingDurably => {
                assert!(
                    self.in_flight.is_empty() && self.waiting.is_empty(),
                    "a commit with unsent parts"
                );
            }
            State::Over => assert!(self.in_flight.is_empty(), "ended with parts in flight"),
            _ => {}
        }
    }
}

impl From<Ask> for Action {
    fn from(ask: Ask) -> Action {
        match ask {
            Ask::Complete => Action::Complete,
            Ask::CheckToken => Action::CheckToken,
            Ask::SendAbort => Action::SendAbort,
            Ask::ListParts => Action::ListParts,
        }
    }
}
