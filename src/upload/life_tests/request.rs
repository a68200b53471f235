//! What the model's machines ask of the bucket, and what they hear.

use super::super::recovery::Base;
use super::super::words::*;
use super::bucket::{Parts, UploadNo};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ask {
    Create,
    Find,
    Part(UploadNo, u8, u8),
    /// The condition is on the base.
    Complete {
        upload: UploadNo,
        parts: Parts,
        conditional: bool,
        by_recovery: bool,
    },
    Token,
    Base,
    Abort(UploadNo),
    List(UploadNo),
}

impl Ask {
    pub fn changes_the_bucket(self) -> bool {
        !matches!(self, Ask::Find | Ask::Token | Ask::Base | Ask::List(_))
    }

    pub fn is_complete(self) -> bool {
        matches!(self, Ask::Complete { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reply {
    Created(Answer, Option<UploadNo>),
    Found(Search, Option<UploadNo>),
    Part(u8, u8, PartAnswer),
    Completed(Completion),
    Token(Token),
    Base(Base),
    Abort(AbortAnswer),
    List(Listing),
}

/// A request somebody waits for; `reply` is there once it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Request {
    pub ask: Ask,
    pub reply: Option<Reply>,
    /// An attempt at it was given up on, and it was made again.
    pub strayed: bool,
}

/// What is heard when the answer does not come.
pub(super) fn lost(ask: Ask) -> Reply {
    match ask {
        Ask::Create => Reply::Created(Answer::Unknown, None),
        Ask::Find => Reply::Found(Search::Unanswered, None),
        Ask::Part(_, number, version) => Reply::Part(number, version, PartAnswer::Failed),
        Ask::Complete { .. } => Reply::Completed(Completion::Unknown),
        Ask::Token => Reply::Token(Token::Unanswered),
        Ask::Base => Reply::Base(Base::Unanswered),
        Ask::Abort(_) => Reply::Abort(AbortAnswer::Unanswered),
        Ask::List(_) => Reply::List(Listing::Unanswered),
    }
}

/// A final answer: not applied.
pub(super) fn refused(ask: Ask) -> Reply {
    match ask {
        Ask::Create => Reply::Created(Answer::Refused, None),
        Ask::Part(_, number, version) => Reply::Part(number, version, PartAnswer::NotApplied),
        Ask::Complete { .. } => Reply::Completed(Completion::Refused),
        Ask::List(_) => Reply::List(Listing::Refused),
        other => lost(other),
    }
}

/// Not applied, but it may be the next time.
pub(super) fn put_off(ask: Ask) -> Reply {
    match ask {
        Ask::Create => Reply::Created(Answer::NotApplied, None),
        Ask::Complete { .. } => Reply::Completed(Completion::NotApplied),
        other => lost(other),
    }
}
