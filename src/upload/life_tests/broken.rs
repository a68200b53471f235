//! Deliberately broken machines: the checks are checked by whether they catch them.

use super::super::life::{self, AbortAnswer, Listing, Record, Token};
use super::super::recovery::{self, Base};
use super::checks::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    SendsPartBeforeOpened,
    CompletesBeforeCommitIsDurable,
    FailsBeforeAbortIsDurable,
    DeletesBeforeEnd,
    LeavesOutAPart,
    SkipsTheSecondAbort,
    /// Is over as soon as an abort succeeds.
    TrustsTheFirstAbort,
    /// Does not list parts.
    DoesNotLook,
    DoesNotSettle,
    /// Judges a part by its last attempt alone.
    ForgetsStrays,
    DropsTheTokenCheck,
    TakesAnyObjectForItsOwn,
    TakesAnyUpload,
    ForgetsEnd,
    TellsTwice,
    SleepsForEver,
    /// Of recovery.
    ForgetsTheBase,
    BelievesInConditions,
    SecondRecoverySaysOtherwise,
}

impl Breakage {
    /// Each, and the invariants of which one must break (which comes first depends on the search).
    pub const ALL: [(Breakage, &'static [&'static str]); 19] = [
        (Breakage::SendsPartBeforeOpened, &[ATOMIC]),
        (Breakage::CompletesBeforeCommitIsDurable, &[ATOMIC]),
        (Breakage::FailsBeforeAbortIsDurable, &[NO_RESURRECTION]),
        (Breakage::DeletesBeforeEnd, &[NO_RESURRECTION]),
        (Breakage::LeavesOutAPart, &[ATOMIC]),
        (Breakage::SkipsTheSecondAbort, &[NO_LEAK]),
        (Breakage::TrustsTheFirstAbort, &[NO_LEAK]),
        (Breakage::DoesNotLook, &[NO_LEAK]),
        (Breakage::DoesNotSettle, &[NO_LEAK, ABORT_AFTER_DOUBT]),
        (Breakage::ForgetsStrays, &[NO_LEAK]),
        (
            Breakage::DropsTheTokenCheck,
            &[NO_RESURRECTION, NO_LOST_COMMIT, ABORT_AFTER_DOUBT],
        ),
        (Breakage::TakesAnyObjectForItsOwn, &[NO_LOST_COMMIT]),
        (Breakage::TakesAnyUpload, &[NO_COLLATERAL]),
        (Breakage::ForgetsEnd, &[QUIET_JOURNAL_EMPTY]),
        (Breakage::TellsTwice, &[VERDICT_ONCE]),
        (Breakage::SleepsForEver, &[LIVE]),
        (Breakage::ForgetsTheBase, &[NO_RESURRECTION]),
        (Breakage::BelievesInConditions, &[NO_RESURRECTION]),
        (Breakage::SecondRecoverySaysOtherwise, &[IDEMPOTENT]),
    ];

    /// What a broken living upload tells itself instead of doing what was decided.
    pub fn instead_of(
        breakage: Option<Breakage>,
        action: life::Action,
        witness: &mut Witness,
    ) -> Option<life::Event> {
        use life::{Action, Event};
        match (breakage?, action) {
            (Breakage::SendsPartBeforeOpened, Action::Record(Record::Opened))
            | (Breakage::CompletesBeforeCommitIsDurable, Action::Record(Record::Commit))
            | (Breakage::FailsBeforeAbortIsDurable, Action::Record(Record::Abort))
            | (Breakage::DeletesBeforeEnd, Action::Record(Record::End(_))) => {
                let Action::Record(record) = action else {
                    unreachable!()
                };
                Some(Event::Recorded(record))
            }
            (Breakage::SkipsTheSecondAbort, Action::SendAbort) => {
                witness.aborts += 1;
                (witness.aborts > 1).then_some(Event::AbortAnswered(AbortAnswer::Done))
            }
            (Breakage::DoesNotLook | Breakage::SkipsTheSecondAbort, Action::ListParts) => {
                Some(Event::PartsListed(Listing::NoSuchUpload))
            }
            (Breakage::DropsTheTokenCheck, Action::CheckToken) => {
                Some(Event::TokenSeen(Token::NotOurs))
            }
            (Breakage::TakesAnyObjectForItsOwn, Action::CheckToken) => {
                Some(Event::TokenSeen(Token::Ours))
            }
            _ => None,
        }
    }

    pub fn instead_of_recovery(
        breakage: Option<Breakage>,
        action: recovery::Action,
    ) -> Option<recovery::Event> {
        use recovery::{Action, Event};
        match (breakage?, action) {
            (Breakage::DoesNotLook, Action::ListParts) => {
                Some(Event::PartsListed(Listing::NoSuchUpload))
            }
            (Breakage::DropsTheTokenCheck, Action::CheckToken) => {
                Some(Event::TokenSeen(Token::NotOurs))
            }
            (Breakage::TakesAnyObjectForItsOwn, Action::CheckToken) => {
                Some(Event::TokenSeen(Token::Ours))
            }
            (Breakage::ForgetsTheBase, Action::CheckBase) => Some(Event::BaseSeen(Base::Unchanged)),
            _ => None,
        }
    }
}
