//! A refusal as the kernel wants it (an errno) and as a person wants it (why, and what helps).

use std::io;

use crate::draft;
use crate::store::{self, ErrorKind};

pub type Result<T> = std::result::Result<T, Error>;

/// `why` is logged, once, by whoever answers the kernel; an expected refusal has none.
#[derive(Clone, Debug)]
pub struct Error {
    pub errno: i32,
    pub why: Option<String>,
}

impl Error {
    pub fn quiet(errno: i32) -> Error {
        Error { errno, why: None }
    }

    pub fn loud(errno: i32, why: impl Into<String>) -> Error {
        Error {
            errno,
            why: Some(why.into()),
        }
    }

    pub fn is_missing(&self) -> bool {
        self.errno == libc::ENOENT
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        match error.kind {
            _ if error.is_of_the_catalogues_disk() => Error::loud(
                libc::ENOSPC,
                format!(
                    "{error}: make room on the disk of --state-dir, where the vault's catalogue is"
                ),
            ),
            // Nothing would be shown of it, and nothing lamented.
            ErrorKind::Missing if error.is_of_the_bucket() => Error::loud(
                libc::EIO,
                format!(
                    "{error}: the bucket was there when it was mounted: make it again, or unmount"
                ),
            ),
            ErrorKind::Missing => Error::quiet(libc::ENOENT),
            ErrorKind::Conflict => Error::loud(
                libc::ESTALE,
                format!("{error}: replaced by another client since it was opened; open it again"),
            ),
            // Later it may be there, and who asks again is not told otherwise.
            ErrorKind::Archived => Error::loud(libc::EAGAIN, error.to_string()),
            ErrorKind::Denied if error.code == "RequestTimeTooSkewed" => Error::loud(
                libc::EIO,
                format!("{error}: this machine's clock is wrong: set it, and the mount goes on"),
            ),
            ErrorKind::Denied => Error::loud(
                libc::EACCES,
                format!(
                    "{error}: the credentials of this mount are refused, or do not allow it: renew them where they came from, or have it allowed, and the mount goes on"
                ),
            ),
            ErrorKind::Throttled => Error::loud(
                libc::EIO,
                format!("{error}: the store asks for fewer requests, also after retries"),
            ),
            ErrorKind::Transient | ErrorKind::Unknown => Error::loud(
                libc::EIO,
                format!("{error}: the store failed, also after retries"),
            ),
            ErrorKind::NoSuchUpload => Error::loud(
                libc::EIO,
                format!("{error}: somebody else ended this upload; write the file again"),
            ),
            ErrorKind::Invalid if NAMES_REFUSED.contains(&error.code.as_str()) => Error::loud(
                libc::EINVAL,
                format!("{error}: this store takes no such name: choose another"),
            ),
            ErrorKind::Invalid => Error::loud(libc::EIO, error.to_string()),
        }
    }
}

/// How stores say that a key is none of theirs.
const NAMES_REFUSED: [&str; 3] = ["InvalidObjectName", "XMinioInvalidObjectName", "InvalidURI"];

/// A disk that has no room, or none for this user: programs know what that means.
fn full(error: &io::Error) -> Option<i32> {
    let errno = error.raw_os_error();
    errno.filter(|errno| [libc::ENOSPC, libc::EDQUOT].contains(errno))
}

impl From<draft::Error> for Error {
    fn from(error: draft::Error) -> Error {
        match error {
            draft::Error::Store(error)
                if error.kind == ErrorKind::Missing && !error.is_of_the_bucket() =>
            {
                Error::loud(
                    libc::ESTALE,
                    format!("{error}: gone from the bucket while it was written"),
                )
            }
            draft::Error::Store(error) => error.into(),
            draft::Error::Spool(error) => match full(&error) {
                Some(errno) => Error::loud(
                    errno,
                    "the spool is full (raise --spool-limit, or point --spool-dir to a larger disk)",
                ),
                None if error.raw_os_error() == Some(libc::EMFILE) => Error::loud(
                    libc::EMFILE,
                    "too many files are being written: the mount may have no more descriptors (raise its hard limit of open files: ulimit -Hn, LimitNOFILE=)",
                ),
                None => Error::loud(libc::EIO, format!("the spool (--spool-dir): {error}")),
            },
            draft::Error::Journal(error) => Error::loud(
                full(&error).unwrap_or(libc::EIO),
                format!("the journal (--state-dir): {error}"),
            ),
            draft::Error::NotStreamed => Error::loud(libc::ESPIPE, error.to_string()),
            draft::Error::Unchangeable => Error::loud(libc::EOPNOTSUPP, error.to_string()),
            draft::Error::NotHere => Error::loud(libc::ESPIPE, error.to_string()),
            draft::Error::TooManyParts | draft::Error::TooLarge => {
                Error::loud(libc::EFBIG, error.to_string())
            }
            draft::Error::Aborted(_) => Error::loud(libc::EIO, error.to_string()),
            draft::Error::Replaced => Error::loud(libc::ESTALE, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_store(code: &str) -> store::Error {
        store::Error {
            kind: ErrorKind::Invalid,
            operation: "PutObject",
            key: "k".to_string(),
            code: code.to_string(),
            message: String::new(),
            request_id: None,
        }
    }

    #[test]
    fn a_name_that_is_refused_and_a_disk_that_is_full_are_told_as_that() {
        for (code, errno) in [
            ("XMinioInvalidObjectName", libc::EINVAL),
            ("CatalogueFull", libc::ENOSPC),
            ("Other", libc::EIO),
        ] {
            assert_eq!(Error::from(of_store(code)).errno, errno, "{code}");
        }
        for (told, errno) in [
            (libc::ENOSPC, libc::ENOSPC),
            (libc::EDQUOT, libc::EDQUOT),
            (libc::EROFS, libc::EIO),
        ] {
            let disk = || io::Error::from_raw_os_error(told).into();
            for error in [draft::Error::Spool(disk()), draft::Error::Journal(disk())] {
                assert_eq!(Error::from(error).errno, errno, "{told}");
            }
        }
    }
}
