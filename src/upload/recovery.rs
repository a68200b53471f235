//! The recovery of one upload that the journal of a dead process holds open: a pure state machine in
//! the manner of [`super::life`], on the same two endings ([`super::ending`]). No I/O, no clock, no
//! data: the performer does the [`Action`]s and comes back with [`Event`]s.
//!
//! It is a walk down a table. What the journal says picks the question; what the store says to it
//! either ends the upload or is written down, which makes it another row:
//!
//! | journal says | asked of the store            | it says                            | do                        |
//! |--------------|-------------------------------|------------------------------------|---------------------------|
//! | `Begun`      | an upload of ours by the rule?| one                                | note it: now `Opened`     |
//! | `Begun`      |                               | none                               | End(Aborted)              |
//! | `Opened`     | abort until it is gone        | gone                               | End(Aborted)              |
//! | `Committing` | Complete                      | done; or the object has our token  | End(Committed)            |
//! | `Committing` |                               | NoSuchUpload, not our token        | look that it is gone, End(Lost) |
//! | `Committing` |                               | 412 or refused, not our token      | note it: now `Aborting`   |
//! | `Committing` |                               | the key was written since the crash| note it: now `Aborting`   |
//! | `Aborting`   | abort until it is gone        | gone                               | End(Aborted), or Lost if it was us who noted it |
//! | any          |                               | nothing, or denied, for [`TRIES`]  | keep it for the next time |
//!
//! Invariants:
//! - What somebody else wrote since the crash wins: Complete carries the precondition on what the
//!   key held, or that is looked at just before.
//! - No abort is sent while a Complete may still be applied, whoever sent it.
//! - It ends: after [`TRIES`] failures of the store the record is kept, and nothing is said to be over.
//! - Run again after a crash at any point, it comes to the same end.

use super::ending::{Ask, Commitment, Fate, Next, Removal, SETTLING};
use super::life::TRIES;
use super::words::{AbortAnswer, Completion, Ending, Listing, Record, Search, Token};

/// The last record the journal has of the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Journal {
    /// `Begin`: a Create may have been sent; the upload's id is not known.
    Begun,
    /// `Opened`: parts may have been sent.
    Opened,
    /// `Commit`: Complete may have been sent, and is to be.
    Committing,
    /// `Abort` after `Commit`: it is not to be completed.
    Aborting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    Recorded(Record),
    RecordFailed(Record),
    Found(Search),
    BaseSeen(Base),
    Completed(Completion),
    TokenSeen(Token),
    AbortAnswered(AbortAnswer),
    PartsListed(Listing),
    Woken,
}

/// What the key holds, compared with what it held when the upload was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// The same version, or still nothing; or what it held was never known, and what it holds is
    /// not newer than the journal's record.
    Unchanged,
    /// An object with this upload's token.
    Ours,
    Changed,
    Unanswered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Look for the upload of an unanswered Create: this key, our window, no parts.
    /// When it is found, keep its id: all that follows is about it.
    FindUpload,
    /// Compare what the key holds with what it held before (and its token with ours).
    CheckBase,
    /// With the precondition on what the key held before, where the store honours it.
    Complete,
    CheckToken,
    SendAbort,
    ListParts,
    /// `Opened`, `Abort`: answer `Recorded` when durable. `End` may be lazy and is not waited for.
    Record(Record),
    /// Come back with `Woken` after a pause that grows with the number; see [`SETTLING`].
    Pause(u32),
    /// Nothing is left to do or to answer. The last action, once.
    Over(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// `End` was recorded. [`Ending::Lost`] is for the user to hear of: a commit was under way whose
    /// file is not in the bucket, or no longer.
    Ended(Ending),
    /// The store does not answer, or does not let us: the record stays for the next time.
    Kept,
}

pub type Actions = Vec<Action>;

/// What the store was found to say: the third column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Found,
    Gone,
    Published,
    Vanished,
    Refused,
    Overtaken,
    NoAnswer,
}

/// The fourth column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    End(Ending),
    /// Look that nothing is left of a vanished upload.
    LookThatGone,
    Note(Record),
    Keep,
}

/// The table. What it does not list cannot be said.
fn table(journal: Journal, says: Says) -> Do {
    match (journal, says) {
        (Journal::Begun, Says::Found) => Do::Note(Record::Opened),
        (Journal::Begun, Says::Gone) => Do::End(Ending::Aborted),
        (Journal::Opened, Says::Gone) => Do::End(Ending::Aborted),
        (Journal::Committing, Says::Published) => Do::End(Ending::Committed),
        (Journal::Committing, Says::Vanished) => Do::LookThatGone,
        (Journal::Committing, Says::Gone) => Do::End(Ending::Lost),
        (Journal::Committing, Says::Refused) => Do::Note(Record::Abort),
        (Journal::Committing, Says::Overtaken) => Do::Note(Record::Abort),
        (Journal::Aborting, Says::Gone) => Do::End(Ending::Aborted),
        (_, Says::NoAnswer) => Do::Keep,
        (journal, says) => unreachable!("{says:?} of an upload {journal:?}"),
    }
}

/// The question under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asking {
    NotStarted,
    /// Is there an upload of ours?
    Search,
    /// Has the key changed? The commitment waits.
    Base(Commitment),
    Commit(Commitment),
    Removal(Removal),
    Record(Record),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovery {
    journal: Journal,
    /// Complete cannot carry the precondition: look at the key before each.
    look_first: bool,
    asking: Asking,
    pausing: bool,
    /// Searches and looks at the key that were not answered.
    tries: u32,
    patience: u32,
    /// It was this recovery that found the commit refused.
    lost: bool,
}

impl Recovery {
    /// `conditional`: the store honours conditions on Complete, and it is known what the key held
    /// before. Otherwise recovery looks at the key just before each Complete.
    pub fn new(journal: Journal, conditional: bool) -> Recovery {
        Recovery::with_patience(journal, conditional, TRIES)
    }

    /// For as many failures of the store as `patience`.
    pub(super) fn with_patience(journal: Journal, conditional: bool, patience: u32) -> Recovery {
        Recovery {
            journal,
            look_first: !conditional,
            asking: Asking::NotStarted,
            pausing: false,
            tries: 0,
            patience,
            lost: false,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.asking, Asking::Over)
    }

    /// The first actions.
    pub fn start(&mut self) -> Actions {
        assert!(
            matches!(self.asking, Asking::NotStarted),
            "a recovery is started once"
        );
        let mut out = Actions::new();
        self.ask(&mut out);
        out
    }

    pub fn step(&mut self, event: Event) -> Actions {
        let mut out = Actions::new();
        match event {
            Event::Recorded(record) => self.noted(record, &mut out),
            // The disk refuses; the store can still be cleaned, and the next time finds it clean.
            Event::RecordFailed(record) => self.noted(record, &mut out),
            Event::Found(search) => self.found(search, &mut out),
            Event::BaseSeen(base) => self.base_seen(base, &mut out),
            Event::Completed(completion) => {
                let next = self.commitment("Completed").completed(completion);
                self.commit_on(next, &mut out);
            }
            Event::TokenSeen(token) => {
                let next = self.commitment("TokenSeen").token_seen(token);
                self.commit_on(next, &mut out);
            }
            Event::AbortAnswered(answer) => {
                let next = self.removal("AbortAnswered").abort_answered(answer, false);
                self.remove_on(next, &mut out);
            }
            Event::PartsListed(listing) => {
                let next = self.removal("PartsListed").parts_listed(listing);
                self.remove_on(next, &mut out);
            }
            Event::Woken => self.woken(&mut out),
        }
        out
    }

    /// The question that the journal's record picks: the second column.
    fn ask(&mut self, out: &mut Actions) {
        match self.journal {
            Journal::Begun => {
                self.asking = Asking::Search;
                // The dead process's Create may be on its way.
                self.pause(SETTLING, out);
            }
            // Its parts may be.
            Journal::Opened | Journal::Aborting => self.remove(Removal::new(true), out),
            Journal::Committing => {
                let commitment = Commitment::inherited();
                let next = commitment.start();
                self.asking = Asking::Commit(commitment);
                self.commit_on(next, out);
            }
        }
    }

    fn said(&mut self, says: Says, out: &mut Actions) {
        match table(self.journal, says) {
            Do::End(ending) => {
                let ending = match ending {
                    Ending::Aborted if self.lost => Ending::Lost,
                    ending => ending,
                };
                out.push(Action::Record(Record::End(ending)));
                self.over(Outcome::Ended(ending), out);
            }
            Do::LookThatGone => self.remove(Removal::of_vanished(true), out),
            Do::Note(record) => {
                self.lost = record == Record::Abort;
                self.asking = Asking::Record(record);
                out.push(Action::Record(record));
            }
            Do::Keep => self.over(Outcome::Kept, out),
        }
    }

    fn noted(&mut self, record: Record, out: &mut Actions) {
        match (&self.asking, record) {
            (Asking::Record(Record::Opened), Record::Opened) => self.journal = Journal::Opened,
            (Asking::Record(Record::Abort), Record::Abort) => self.journal = Journal::Aborting,
            // End is not waited for.
            (Asking::Over, Record::End(_)) => return,
            (asking, _) => panic!("an answer for {record:?} while {asking:?}"),
        }
        self.ask(out);
    }

    fn found(&mut self, search: Search, out: &mut Actions) {
        assert!(
            matches!(self.asking, Asking::Search),
            "Found while {:?}",
            self.asking
        );
        match search {
            Search::Ours => self.said(Says::Found, out),
            Search::Nothing => self.said(Says::Gone, out),
            Search::Unanswered => self.fail(out),
        }
    }

    fn base_seen(&mut self, base: Base, out: &mut Actions) {
        let Asking::Base(commitment) = &self.asking else {
            panic!("BaseSeen while {:?}", self.asking)
        };
        match base {
            Base::Ours => self.said(Says::Published, out),
            Base::Unchanged => {
                self.asking = Asking::Commit(commitment.clone());
                out.push(Action::Complete);
            }
            Base::Changed if commitment.is_settled() => self.said(Says::Overtaken, out),
            // Before its upload is aborted, the dead process's Complete must have come or not.
            Base::Changed => self.pause(SETTLING, out),
            Base::Unanswered => self.fail(out),
        }
    }

    fn commit_on(&mut self, next: Next<Fate>, out: &mut Actions) {
        match next {
            Next::Ask(Ask::Complete) if self.look_first => {
                self.asking = Asking::Base(self.commitment("a look at the key").clone());
                out.push(Action::CheckBase);
            }
            Next::Ask(ask) => out.push(ask.into()),
            Next::Pause(_) if self.commitment("a pause").tries() >= self.patience => {
                self.said(Says::NoAnswer, out);
            }
            Next::Pause(tries) => self.pause(tries, out),
            Next::Wait => unreachable!("a commit waits for nobody"),
            Next::Over(Fate::Published) => self.said(Says::Published, out),
            Next::Over(Fate::Refused) => self.said(Says::Refused, out),
            Next::Over(Fate::Vanished) => self.said(Says::Vanished, out),
        }
    }

    fn remove(&mut self, removal: Removal, out: &mut Actions) {
        self.asking = Asking::Removal(removal);
        let next = self.removal("an abort").start(false);
        self.remove_on(next, out);
    }

    fn remove_on(&mut self, next: Next<()>, out: &mut Actions) {
        match next {
            Next::Ask(ask) => out.push(ask.into()),
            Next::Pause(_) if self.removal("a pause").tries() >= self.patience => {
                self.said(Says::NoAnswer, out);
            }
            Next::Pause(tries) => self.pause(tries, out),
            Next::Wait => unreachable!("a dead process has no parts to wait for"),
            Next::Over(()) => self.said(Says::Gone, out),
        }
    }

    fn woken(&mut self, out: &mut Actions) {
        assert!(self.pausing, "Woken without a pause");
        self.pausing = false;
        match &mut self.asking {
            Asking::Search => out.push(Action::FindUpload),
            Asking::Base(commitment) => {
                commitment.settle();
                out.push(Action::CheckBase);
            }
            Asking::Commit(commitment) => {
                let next = commitment.woken();
                self.commit_on(next, out);
            }
            Asking::Removal(removal) => {
                let next = removal.woken(false);
                self.remove_on(next, out);
            }
            asking => panic!("Woken while {asking:?}"),
        }
    }

    fn fail(&mut self, out: &mut Actions) {
        self.tries += 1;
        if self.tries >= self.patience {
            self.said(Says::NoAnswer, out);
        } else {
            // What is asked next may rely on it.
            self.pause(self.tries.max(SETTLING), out);
        }
    }

    fn pause(&mut self, tries: u32, out: &mut Actions) {
        self.pausing = true;
        out.push(Action::Pause(tries));
    }

    fn over(&mut self, outcome: Outcome, out: &mut Actions) {
        self.asking = Asking::Over;
        out.push(Action::Over(outcome));
    }

    fn commitment(&mut self, what: &str) -> &mut Commitment {
        match &mut self.asking {
            Asking::Commit(commitment) => commitment,
            asking => panic!("{what} while {asking:?}"),
        }
    }

    fn removal(&mut self, what: &str) -> &mut Removal {
        match &mut self.asking {
            Asking::Removal(removal) => removal,
            asking => panic!("{what} while {asking:?}"),
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
