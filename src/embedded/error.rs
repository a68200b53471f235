//! What the model answers instead of a result: an S3 error code with a sentence.
//!
//! The model does not know HTTP. Codes are S3's own strings; the status belonging to each of them
//! is looked up by the protocol crate when the error leaves as XML.

use std::fmt;
use std::io;

/// A refusal in S3's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Error {
    pub code: &'static str,
    pub message: String,
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(code: &'static str, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
        }
    }

    pub fn no_such_bucket() -> Error {
        Error::new("NoSuchBucket", "The specified bucket does not exist.")
    }

    pub fn no_such_key() -> Error {
        Error::new("NoSuchKey", "The specified key does not exist.")
    }

    pub fn no_such_upload() -> Error {
        Error::new(
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
        )
    }

    pub fn precondition_failed() -> Error {
        Error::new(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        )
    }

    pub const FILE_ALREADY_EXISTS: &'static str = "FileAlreadyExists";

    /// COS's and OSS's word for what must not be overwritten.
    pub fn file_already_exists() -> Error {
        Error::new(
            Error::FILE_ALREADY_EXISTS,
            "The object you specified already exists and can not be overwritten.",
        )
    }

    pub fn invalid_argument(message: impl Into<String>) -> Error {
        Error::new("InvalidArgument", message)
    }

    pub fn bad_digest(what: &str) -> Error {
        Error::new(
            "BadDigest",
            format!("The {what} you specified did not match what we received."),
        )
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::new("InternalError", error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}
