//! What goes wrong with a journal: one line that names the file, the cause and what helps.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::record::FORMAT;
use super::replay::Refusal;

#[derive(Debug)]
pub enum Error {
    Io {
        path: PathBuf,
        /// "cannot …"
        what: &'static str,
        source: io::Error,
    },
    /// The file is there, and it is not to be believed.
    Refused { path: PathBuf, refusal: Refusal },
}

impl Error {
    pub(super) fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, what, source }
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// For callers that map to an errno.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            Error::Refused { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, refusal) = match self {
            Error::Io { path, what, source } => {
                let remedy = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        " (run as the user who mounted, or name another --state-dir)"
                    }
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        " (make room there, or name another --state-dir)"
                    }
                    io::ErrorKind::ReadOnlyFilesystem => " (name a writable --state-dir)",
                    _ => "",
                };
                return write!(f, "{}: {what}: {source}{remedy}", path.display());
            }
            Error::Refused { path, refusal } => (path, refusal),
        };
        write!(f, "{}: ", path.display())?;
        match refusal {
            Refusal::Damaged { line, why } => {
                let directory = path.parent().unwrap_or(path).display();
                write!(
                    f,
                    "line {line} is damaged ({why}), so which uploads are open cannot be told: keep a copy, \
                     find them with `wholefs uploads s3://BUCKET`, then `mv {directory} {directory}.damaged` \
                     (see `wholefs recover --help`)"
                )
            }
            Refusal::Future { format } => write!(
                f,
                "written in format {format}, and this release reads format {FORMAT} only: \
                 run `wholefs recover` of the release that wrote it, or of a newer one"
            ),
            Refusal::UnknownKind { line, kind } => write!(
                f,
                "line {line} is a record of the kind {kind:?}, which this release does not know: \
                 run `wholefs recover` of the release that wrote it, or of a newer one"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Refused { .. } => None,
        }
    }
}
