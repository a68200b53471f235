//! The two ways an upload ends, as small state machines: [`Commitment`] says Complete until it is
//! known whether the object is there, [`Removal`] aborts until nothing of the upload is left. A
//! living upload ([`super::life`]) and the recovery of a dead one ([`super::recovery`]) end by the
//! same two.
//!
//! A request that was given up (its answer lost, or its sender dead) may still be applied. Nothing
//! but time helps against that: **what nobody waits for any more is applied within a settling pause
//! ([`SETTLING`]) or never.** All of this module, and the search for an upload whose Create was not
//! answered, rests on that one assumption.
//!
//! Invariants:
//! - A commitment ends in doubt never: it says `Refused` only when no Complete can be applied any more.
//! - A removal is over only when the store no longer knows the upload (or will not tell) after an
//!   abort with no part in flight, and still does not once stray parts have settled.

use super::words::{AbortAnswer, Completion, Listing, Token};

/// A pause of so many tries is long enough for what nobody waits for to be applied, or never.
pub const SETTLING: u32 = 6;

/// What an ending asks of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Complete,
    CheckToken,
    SendAbort,
    ListParts,
}

/// What an ending wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next<T> {
    Ask(Ask),
    /// Pause, then call `woken`.
    Pause(u32),
    /// Parts in flight have yet to answer.
    Wait,
    Over(T),
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The object is, or was, this upload's.
    Published,
    /// Not published, nor will it be by any Complete sent so far: the upload can be aborted.
    Refused,
    /// The upload is gone and the object is not its own: somebody aborted it, or wrote since.
    Vanished,
}

/// What the answer to Complete left open, while the object's token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doubt {
    Unanswered,
    Refusal,
    UploadGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Complete,
    Token(Doubt),
}

/// Publishing: Complete, and the object's token wherever its answer is not the last word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commitment {
    asked: Asked,
    /// Some Complete may have been applied though nobody heard of it.
    doubted: bool,
    /// No Complete is on its way that nobody waits for.
    settled: bool,
    /// No further Complete is to be sent.
    given_up: bool,
    tries: u32,
}

impl Commitment {
    pub fn new() -> Commitment {
        Commitment {
            asked: Asked::Complete,
            doubted: false,
            settled: true,
            given_up: false,
            tries: 0,
        }
    }

    /// Of a process that died: it may have sent Complete.
    pub fn inherited() -> Commitment {
        Commitment {
            doubted: true,
            settled: false,
            ..Commitment::new()
        }
    }

    pub fn start(&self) -> Next<Fate> {
        Next::Ask(Ask::Complete)
    }

    /// How often the store has failed to answer so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    pub fn is_in_doubt(&self) -> bool {
        self.doubted
    }

    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// A settling pause has passed.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// From here on it is only found out what became of the Completes already sent.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    pub fn completed(&mut self, completion: Completion) -> Next<Fate> {
        assert!(
            self.asked == Asked::Complete,
            "Completed while {:?} was asked",
            self.asked
        );
        match completion {
            Completion::Done => Next::Over(Fate::Published),
            Completion::NotApplied => self.fail(),
            Completion::Refused if !self.doubted => Next::Over(Fate::Refused),
            Completion::Refused | Completion::Conflict => self.check(Doubt::Refusal),
            Completion::NoSuchUpload => self.check(Doubt::UploadGone),
            Completion::Unknown => {
                self.doubted = true;
                self.settled = false;
                self.tries += 1;
                self.check(Doubt::Unanswered)
            }
        }
    }

    pub fn token_seen(&mut self, token: Token) -> Next<Fate> {
        let Asked::Token(doubt) = self.asked else {
            panic!("TokenSeen while {:?} was asked", self.asked)
        };
        match (token, doubt) {
            (Token::Ours, _) => Next::Over(Fate::Published),
            // (Also where the upload is gone: a part that strayed may make it anew, and a Complete that strayed publish that.)
            (Token::NotOurs, _) if !self.settled => self.pause(),
            // Whatever took the upload away came before its token was looked for.
            (Token::NotOurs, Doubt::UploadGone) => Next::Over(Fate::Vanished),
            (Token::NotOurs, Doubt::Refusal) => Next::Over(Fate::Refused),
            (Token::NotOurs, Doubt::Unanswered) if self.given_up => Next::Over(Fate::Refused),
            (Token::NotOurs, Doubt::Unanswered) => self.pause(),
            (Token::Unanswered, _) => self.fail(),
        }
    }

    pub fn woken(&mut self) -> Next<Fate> {
        self.settled = true;
        match self.asked {
            Asked::Complete | Asked::Token(Doubt::Unanswered) if !self.given_up => {
                self.asked = Asked::Complete;
                Next::Ask(Ask::Complete)
            }
            Asked::Complete => self.check(Doubt::Unanswered),
            Asked::Token(doubt) => self.check(doubt),
        }
    }

    fn check(&mut self, doubt: Doubt) -> Next<Fate> {
        self.asked = Asked::Token(doubt);
        Next::Ask(Ask::CheckToken)
    }

    fn fail(&mut self) -> Next<Fate> {
        self.tries += 1;
        self.pause()
    }

    fn pause(&self) -> Next<Fate> {
        Next::Pause(match self.settled {
            true => self.tries,
            false => self.tries.max(SETTLING),
        })
    }
}

impl Default for Commitment {
    fn default() -> Commitment {
        Commitment::new()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Aborting,
    /// Aborted once; parts in flight have yet to answer.
    Draining,
    Verifying,
    /// Gone, unless a part that nobody waits for brings it back.
    Settling,
}

/// Aborting: as often as it takes until nothing is left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Removal {
    stage: Stage,
    /// The last abort was sent with no part in flight.
    clean: bool,
    /// A part may be on its way that nobody waits for.
    stray: bool,
    tries: u32,
}

impl Removal {
    /// `stray`: some part was given up on, so that it may be applied yet.
    pub fn new(stray: bool) -> Removal {
        Removal {
            stage: Stage::Aborting,
            clean: false,
            stray,
            tries: 0,
        }
    }

    /// Of an upload the store says it does not know: looks before it aborts.
    pub fn of_vanished(stray: bool) -> Removal {
        Removal {
            stage: Stage::Verifying,
            ..Removal::new(stray)
        }
    }

    pub fn tries(&self) -> u32 {
        self.tries
    }

    pub fn start(&mut self, in_flight: bool) -> Next<()> {
        self.ask(in_flight)
    }

    /// A part in flight was given up on.
    pub fn strayed(&mut self) {
        self.stray = true;
    }

    /// The last part in flight has answered.
    pub fn drained(&mut self) -> Next<()> {
        if self.stage != Stage::Draining {
            return Next::Wait;
        }
        self.abort(false)
    }

    pub fn abort_answered(&mut self, answer: AbortAnswer, in_flight: bool) -> Next<()> {
        assert!(
            self.stage == Stage::Aborting,
            "AbortAnswered while {:?}",
            self.stage
        );
        match answer {
            AbortAnswer::Unanswered => self.fail(),
            AbortAnswer::Done | AbortAnswer::NoSuchUpload if in_flight => {
                self.stage = Stage::Draining;
                Next::Wait
            }
            AbortAnswer::Done | AbortAnswer::NoSuchUpload if self.clean => {
                self.stage = Stage::Verifying;
                Next::Ask(Ask::ListParts)
            }
            // The last part answered while the abort was under way: it may have come after.
            AbortAnswer::Done | AbortAnswer::NoSuchUpload => self.abort(false),
        }
    }

    pub fn parts_listed(&mut self, listing: Listing) -> Next<()> {
        assert!(
            self.stage == Stage::Verifying,
            "PartsListed while {:?}",
            self.stage
        );
        match listing {
            // Where parts cannot be listed, a clean abort is the best evidence there is.
            Listing::NoSuchUpload | Listing::Refused if self.stray => {
                self.stage = Stage::Settling;
                Next::Pause(SETTLING)
            }
            Listing::NoSuchUpload | Listing::Refused => Next::Over(()),
            Listing::StillThere => {
                self.stage = Stage::Aborting;
                self.fail()
            }
            Listing::Unanswered => self.fail(),
        }
    }

    pub fn woken(&mut self, in_flight: bool) -> Next<()> {
        if self.stage == Stage::Settling {
            self.stray = false;
            // Should the parts not be listed this time, it is the abort that removes a straggler.
            self.stage = Stage::Aborting;
        }
        self.ask(in_flight)
    }

    fn ask(&mut self, in_flight: bool) -> Next<()> {
        match self.stage {
            Stage::Verifying => Next::Ask(Ask::ListParts),
            _ => self.abort(in_flight),
        }
    }

    fn abort(&mut self, in_flight: bool) -> Next<()> {
        self.stage = Stage::Aborting;
        self.clean = !in_flight;
        Next::Ask(Ask::SendAbort)
    }

    fn fail(&mut self) -> Next<()> {
        self.tries += 1;
        Next::Pause(self.tries)
    }
}
