//! What the store's answers mean to an upload's life: the one translation, for the living and for
//! the recovery of the dead.

use super::life::{AbortAnswer, Answer, Completion, Listing, PartAnswer, Token};
use crate::store::{ETag, Error, ErrorKind, ListedPart, ObjectInfo, TOKEN_KEY};

pub(crate) fn created<T>(answer: &Result<T, Error>) -> Answer {
    match answer {
        Ok(_) => Answer::Done,
        Err(error) => match error.kind {
            ErrorKind::Throttled | ErrorKind::Transient => Answer::NotApplied,
            ErrorKind::Unknown => Answer::Unknown,
            _ => Answer::Refused,
        },
    }
}

pub(crate) fn part<T>(answer: &Result<T, Error>) -> PartAnswer {
    match answer {
        Ok(_) => PartAnswer::Stored,
        Err(error) => match error.kind {
            ErrorKind::Throttled
            | ErrorKind::Denied
            | ErrorKind::Invalid
            | ErrorKind::Missing
            | ErrorKind::NoSuchUpload
            | ErrorKind::Archived
            | ErrorKind::Conflict => PartAnswer::NotApplied,
            // The last attempt may have failed cleanly; an earlier one may be on its way.
            ErrorKind::Transient | ErrorKind::Unknown => PartAnswer::Failed,
        },
    }
}

pub(crate) fn completed<T>(answer: &Result<T, Error>) -> Completion {
    match answer {
        Ok(_) => Completion::Done,
        Err(error) => match error.kind {
            ErrorKind::NoSuchUpload => Completion::NoSuchUpload,
            ErrorKind::Conflict => Completion::Conflict,
            ErrorKind::Throttled | ErrorKind::Transient => Completion::NotApplied,
            ErrorKind::Unknown => Completion::Unknown,
            ErrorKind::Missing | ErrorKind::Archived | ErrorKind::Denied | ErrorKind::Invalid => {
                Completion::Refused
            }
        },
    }
}

/// Whose is the object? With its version, when it is ours.
pub(crate) fn token(answer: &Result<ObjectInfo, Error>, token: &str) -> (Token, Option<ETag>) {
    match answer {
        Ok(object) if carries(object, token) => (Token::Ours, Some(object.etag.clone())),
        Ok(_) => (Token::NotOurs, None),
        Err(error) if error.kind == ErrorKind::Missing => (Token::NotOurs, None),
        Err(_) => (Token::Unanswered, None),
    }
}

pub(crate) fn carries(object: &ObjectInfo, token: &str) -> bool {
    let said = object.attributes.as_ref();
    let found = said.and_then(|said| said.metadata.get(TOKEN_KEY));
    found.is_some_and(|found| found == token)
}

pub(crate) fn aborted(answer: &Result<(), Error>) -> AbortAnswer {
    match answer {
        Ok(()) => AbortAnswer::Done,
        Err(error) if error.kind == ErrorKind::NoSuchUpload => AbortAnswer::NoSuchUpload,
        Err(_) => AbortAnswer::Unanswered,
    }
}

pub(crate) fn listed(answer: &Result<Vec<ListedPart>, Error>) -> Listing {
    match answer {
        Ok(_) => Listing::StillThere,
        Err(error) => match error.kind {
            ErrorKind::NoSuchUpload => Listing::NoSuchUpload,
            ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Missing => Listing::Refused,
            _ => Listing::Unanswered,
        },
    }
}
