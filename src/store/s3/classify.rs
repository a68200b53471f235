//! What came back, sorted: an SDK error becomes one of the [`ErrorKind`]s callers branch on.
//!
//! Invariants:
//! - The store's own code decides first, the HTTP status second.
//! - A request that was never sent (connection refused, no such host) is never `Unknown`.
//! - A request that may have been applied, and whose repetition is not harmless, is never anything
//!   else than `Unknown`.
//! - Messages are one line, bounded, and carry nothing but what the store said.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy::Error as HttpClientError;

use crate::store::error::NO_SUCH_BUCKET;
use crate::store::{Error, ErrorKind};

/// What it means to repeat a call, or not to know its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Nature {
    /// Changes nothing.
    Read,
    /// Changes something, the same thing however often.
    Write,
    /// A write with a condition, which its own first success would make fail.
    Guarded,
    /// Create, Complete: sent once; whoever lost the answer has to find out what happened.
    Commit,
    /// Abort: sent once so that the caller counts, though harmless to repeat.
    Abort,
}

/// A call as the classification sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Op {
    /// S3's name of the operation.
    pub name: &'static str,
    pub nature: Nature,
    /// It speaks of an open upload, so that a bare 404 means that one.
    pub of_upload: bool,
}

impl Op {
    pub const HEAD: Op = Op::new("HeadObject", Nature::Read, false);
    pub const GET: Op = Op::new("GetObject", Nature::Read, false);
    pub const LIST: Op = Op::new("ListObjects", Nature::Read, false);
    pub const PUT: Op = Op::new("PutObject", Nature::Write, false);
    pub const PUT_GUARDED: Op = Op::new("PutObject", Nature::Guarded, false);
    pub const COPY: Op = Op::new("CopyObject", Nature::Write, false);
    pub const RENAME: Op = Op::new("RenameObject", Nature::Write, false);
    pub const DELETE: Op = Op::new("DeleteObject", Nature::Write, false);
    pub const DELETE_MANY: Op = Op::new("DeleteObjects", Nature::Write, false);
    pub const CREATE: Op = Op::new("CreateMultipartUpload", Nature::Commit, false);
    pub const PART: Op = Op::new("UploadPart", Nature::Write, true);
    pub const COPY_PART: Op = Op::new("UploadPartCopy", Nature::Write, true);
    pub const COMPLETE: Op = Op::new("CompleteMultipartUpload", Nature::Commit, true);
    pub const ABORT: Op = Op::new("AbortMultipartUpload", Nature::Abort, true);
    pub const LIST_PARTS: Op = Op::new("ListParts", Nature::Read, true);
    pub const LIST_UPLOADS: Op = Op::new("ListMultipartUploads", Nature::Read, false);

    pub const RESTORE: Op = Op::new("RestoreObject", Nature::Write, false);
    pub const GET_LIFECYCLE: Op = Op::new("GetBucketLifecycleConfiguration", Nature::Read, false);
    pub const PUT_LIFECYCLE: Op = Op::new("PutBucketLifecycleConfiguration", Nature::Write, false);

    pub(in crate::store) const fn new(name: &'static str, nature: Nature, of_upload: bool) -> Op {
        Op {
            name,
            nature,
            of_upload,
        }
    }

    pub fn error(self, kind: ErrorKind, key: &str, code: &str, message: &str) -> Error {
        Error {
            kind,
            operation: self.name,
            key: key.to_string(),
            code: code.to_string(),
            message: one_line(message),
            request_id: None,
        }
    }
}

/// A failed attempt.
#[derive(Debug)]
pub(in crate::store) struct Failure {
    pub error: Box<Error>,
    pub came: Came,
}

/// How far a failed attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Came {
    /// Nobody took a connection.
    Nowhere,
    /// It was refused, or never left this process.
    ToNothing,
    /// The store may have done what it was asked all the same.
    PerhapsThrough,
}

impl Failure {
    /// A success that leaves out what it was asked for.
    pub fn incomplete(op: Op, key: &str, what: &str) -> Failure {
        let kind = kind_of_broken(op, Broken::Afterwards);
        Failure {
            error: op.error(kind, key, "IncompleteAnswer", what).into(),
            came: Came::PerhapsThrough,
        }
    }
}

/// Where an attempt that got no answer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Broken {
    /// Before the first byte of the request left.
    BeforeSending,
    /// After that: timeout, reset, an answer cut short.
    Afterwards,
}

/// The kind of a failure without an answer.
pub(in crate::store) fn kind_of_broken(op: Op, broken: Broken) -> ErrorKind {
    match (broken, op.nature) {
        (Broken::BeforeSending, _) | (_, Nature::Read) => ErrorKind::Transient,
        _ => ErrorKind::Unknown,
    }
}

/// The kind of an answer: `code` is the store's (may be empty), `status` HTTP's.
pub(in crate::store) fn kind_of_answer(op: Op, status: u16, code: &str) -> ErrorKind {
    let kind = kind_of_code(op, code).unwrap_or_else(|| kind_of_status(op, status, code));
    let late = status == 200;
    match (kind, op.nature) {
        // The error came inside a 200: the store had begun, nobody can tell how far it got.
        (ErrorKind::Transient | ErrorKind::Throttled, Nature::Commit) if late => ErrorKind::Unknown,
        // A 5xx may be a gateway that lost the real answer.
        (ErrorKind::Transient, Nature::Commit) if status >= 500 => ErrorKind::Unknown,
        _ => kind,
    }
}

fn kind_of_code(op: Op, code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchUpload" => ErrorKind::NoSuchUpload,
        "ResourceNotFoundException" if op.of_upload => ErrorKind::NoSuchUpload,
        "ResourceNotFoundException" => ErrorKind::Missing,
        // Of these calls no key has to be there, and Swift and Ceph say so of an upload that is gone.
        "NoSuchKey" if [Op::PART.name, Op::ABORT.name, Op::LIST_PARTS.name].contains(&op.name) => {
            ErrorKind::NoSuchUpload
        }
        "NoSuchKey" | NO_SUCH_BUCKET | "NoSuchVersion" => ErrorKind::Missing,
        // The last one is COS's, to its header for new objects.
        "PreconditionFailed" | "ConditionalRequestConflict" | "FileAlreadyExists" => {
            ErrorKind::Conflict
        }
        // The range was inside the version that was asked for, so this is another version.
        "InvalidRange" if op.name == Op::GET.name => ErrorKind::Conflict,
        "InvalidObjectState" => ErrorKind::Archived,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "AuthorizationHeaderMalformed"
        | "ExpiredToken"
        | "Forbidden"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "InvalidToken"
        | "MissingAuthenticationTokenException"
        | "NotSignedUp"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "Unauthorized"
        | "UnauthorizedAccess"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests" => ErrorKind::Throttled,
        // Refused before they were applied; the bytes or the way they came were at fault.
        "BadDigest"
        | "IncompleteBody"
        | "OperationAborted"
        | "RequestTimeout"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => ErrorKind::Transient,
        "InternalError" => ErrorKind::Transient,
        // Said with 403, 5xx or 409, and yet no later attempt helps; or said inside a 200, and yet
        // a plain refusal.
        "EntityTooLarge" | "EntityTooSmall" | "InvalidArgument" | "InvalidPart"
        | "InvalidPartOrder" | "InvalidRequest" | "KeyTooLongError" | "MalformedXML"
        | "MetadataTooLarge" | "NotImplemented" | "QuotaExceeded" | "XMinioStorageFull" => {
            ErrorKind::Invalid
        }
        _ => return None,
    })
}

fn kind_of_status(op: Op, status: u16, code: &str) -> ErrorKind {
    match status {
        // Only what a store calls "not found" in so many words, or does not name at all.
        404 if op.of_upload && (code.is_empty() || code == "NotFound") => ErrorKind::NoSuchUpload,
        404 => ErrorKind::Missing,
        412 => ErrorKind::Conflict,
        // Of what is not named it is not known whether there was a condition.
        409 if code.is_empty() || code == "Conflict" => ErrorKind::Conflict,
        409 => ErrorKind::Invalid,
        416 if op.name == Op::GET.name => ErrorKind::Conflict,
        401 | 403 => ErrorKind::Denied,
        429 | 503 => ErrorKind::Throttled,
        307 | 408 => ErrorKind::Transient,
        501 | 505 | 507 => ErrorKind::Invalid,
        500.. => ErrorKind::Transient,
        // A 200 that nobody could read: as good as no answer.
        0..300 => kind_of_broken(op, Broken::Afterwards),
        _ => ErrorKind::Invalid,
    }
}

/// What every store can be asked: of another call a page may say that nobody knows it.
const KNOWN: [&str; 6] = [
    Op::GET.name,
    Op::LIST.name,
    Op::PUT.name,
    Op::COPY.name,
    Op::DELETE.name,
    Op::CREATE.name,
];

/// How stores name a request in its answer.
pub(super) const REQUEST_IDS: [&str; 2] = ["x-amz-request-id", "x-amzn-requestid"];

/// What there is to read off an answer, whether the SDK could parse it or not.
#[derive(Debug, Default)]
pub(in crate::store) struct Answer {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub request_id: Option<String>,
    /// The bucket's region, where a redirect names it.
    pub region: Option<String>,
    /// The host to ask instead, likewise.
    pub endpoint: Option<String>,
    /// It looks like S3's XML, or is empty as HEAD's always is.
    pub speaks_s3: bool,
    /// It is empty, and has nothing in its headers that stores say.
    is_bare: bool,
}

impl Answer {
    /// A page of whoever stands before the store: that an upload is not there is not his to say, and his 503 may come of an
    /// answer that broke off.
    fn is_of_a_gateway(&self) -> bool {
        self.code.is_empty() && (!self.speaks_s3 || self.is_bare)
    }

    /// The region to ask instead, if this is an answer to who has come to the wrong one.
    pub fn elsewhere(&self) -> Option<&str> {
        let region = self.region.as_deref().filter(|name| is_host(name))?;
        let codes = [
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ];
        let astray = matches!(self.status, 301 | 307) || codes.contains(&self.code.as_str());
        // HEAD's answers have no code.
        let unnamed = self.status == 400 && self.code.is_empty();
        (astray || unnamed).then_some(region)
    }

    /// The endpoint to ask instead, without the bucket.
    pub fn other_endpoint(&self, bucket: &str) -> Option<String> {
        let host = self.endpoint.as_deref().filter(|host| is_host(host))?;
        let host = host.strip_prefix(&format!("{bucket}.")).unwrap_or(host);
        Some(format!("https://{host}"))
    }

    fn of<E: ProvideErrorMetadata>(response: &HttpResponse, error: Option<&E>) -> Answer {
        let header = |name: &str| response.headers().get(name).map(str::to_string);
        let body = response.body().bytes().unwrap_or_default();
        let text = |tag| xml_text(body, tag);
        let code = error
            .and_then(|e| e.code())
            .map(str::to_string)
            .or_else(|| text("Code"));
        let message = error
            .and_then(|e| e.message())
            .map(str::to_string)
            .or_else(|| text("Message"));
        let request_id: Option<String> = REQUEST_IDS.iter().find_map(|name| header(name));
        let is_bare = body.trim_ascii().is_empty() && request_id.is_none();
        // The SDK has a name for an empty 404.
        let code = code.filter(|_| !is_bare);
        Answer {
            status: response.status().as_u16(),
            code: code.map(|c| one_line(&c)).unwrap_or_default(),
            message: message.unwrap_or_default(),
            request_id: request_id.map(|id| one_line(&id)),
            region: header("x-amz-bucket-region").or_else(|| text("Region")),
            endpoint: text("Endpoint"),
            speaks_s3: speaks_s3(body),
            is_bare,
        }
    }
}

/// Is it XML that an S3 service would send (and not XHTML, as the pages of some gateways are), or nothing?
fn speaks_s3(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    for (opened, closed) in [("<?xml", "?>"), ("<!--", "-->")] {
        while let Some((_, behind)) = rest
            .starts_with(opened)
            .then(|| rest.split_once(closed))
            .flatten()
        {
            rest = behind.trim_start();
        }
    }
    let Some(tag) = rest.strip_prefix('<') else {
        return rest.is_empty();
    };
    let name = tag.split([' ', '>', '/', '\n', '\t', '\r']).next();
    let name = name.map(|name| name.rsplit(':').next().unwrap_or(name));
    let of_s3 = [
        "Error",
        "List",
        "Complete",
        "Initiate",
        "Copy",
        "Delete",
        "Lifecycle",
    ];
    name.is_some_and(|name| of_s3.iter().any(|of_s3| name.starts_with(of_s3)))
}

/// Was it refused because this machine's clock is another than the store's? (COS, and vaults, have no code of their own for it.)
pub(in crate::store) fn is_of_the_clock(error: &crate::store::Error) -> bool {
    match error.code.as_str() {
        "RequestTimeTooSkewed" | "RequestExpired" => true,
        "AccessDenied" => error.message.contains("Request has expired"),
        "InvalidSignatureException" => ["Signature expired", "not yet current"]
            .iter()
            .any(|said| error.message.contains(said)),
        _ => false,
    }
}

/// Our code for an answer that ended early or was not S3's XML.
pub(in crate::store) const UNREADABLE: &str = "UnreadableAnswer";

/// A failed exchange, before it is judged.
pub(in crate::store) enum Seen {
    Answer(Answer),
    /// No (whole) answer: where it broke, our name for it, what the lower layers said.
    Broken(Broken, &'static str, String),
    /// The SDK had no credentials to sign with. Nothing was sent.
    Credentials {
        missing: bool,
        message: String,
    },
    /// The SDK refused to build the request. Nothing was sent.
    Unbuildable(String),
}

pub(in crate::store) fn see<E>(error: &SdkError<E, HttpResponse>) -> Seen
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => Seen::Unbuildable(deepest(error)),
        SdkError::TimeoutError(_) => Seen::Broken(Broken::Afterwards, "Timeout", deepest(error)),
        SdkError::ServiceError(e) => Seen::Answer(Answer::of(e.raw(), Some(e.err()))),
        SdkError::ResponseError(e) => {
            let answer = Answer::of::<E>(e.raw(), None);
            // An error answer keeps its meaning, also inside a 200 the SDK could not parse; a
            // success cut short, or in another language, is no answer.
            if answer.status >= 300 || !answer.code.is_empty() {
                Seen::Answer(answer)
            } else {
                Seen::Broken(Broken::Afterwards, UNREADABLE, deepest(error))
            }
        }
        SdkError::DispatchFailure(failure) => {
            let texts: Vec<String> = chain(error).map(|e| e.to_string()).collect();
            match find::<HttpClientError>(error) {
                Some(e) if e.is_connect() => {
                    let code = connect_code(error, &texts);
                    Seen::Broken(Broken::BeforeSending, code, deepest(error))
                }
                Some(_) => Seen::Broken(Broken::Afterwards, lost_code(error), deepest(error)),
                None if failure.is_timeout() || failure.is_io() => {
                    Seen::Broken(Broken::Afterwards, lost_code(error), deepest(error))
                }
                None if texts.iter().any(|t| t.contains("redentials")) => Seen::Credentials {
                    missing: texts.iter().any(|t| {
                        t.contains("was not enabled") || t.contains("not properly configured")
                    }),
                    message: deepest(error),
                },
                None => Seen::Unbuildable(deepest(error)),
            }
        }
        _ => Seen::Broken(Broken::Afterwards, "Unrecognised", deepest(error)),
    }
}

/// The verdict on a failed attempt.
pub(in crate::store) fn failure<E>(op: Op, key: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match see(error) {
        Seen::Answer(answer) => {
            let of_a_gateway = answer.is_of_a_gateway();
            let says_nothing = of_a_gateway
                && match answer.status {
                    // A HEAD's answer is bare always: see `head`.
                    404 if op.nature == Nature::Read => {
                        op.of_upload || KNOWN.contains(&op.name) && !answer.speaks_s3
                    }
                    404 => op.of_upload || KNOWN.contains(&op.name),
                    status => op.nature == Nature::Commit && status >= 500,
                };
            let kind = match says_nothing {
                true => kind_of_broken(op, Broken::Afterwards),
                false => kind_of_answer(op, answer.status, &answer.code),
            };
            let elsewhere = answer.elsewhere().map(|region| {
                format!("the bucket is in the region {region}: mount it with --region {region}")
            });
            let (code, message) = match answer.code.as_str() {
                // A success the SDK could not parse: it says why.
                "" if answer.status < 300 => (UNREADABLE.to_string(), deepest(error)),
                "" => (format!("HTTP{}", answer.status), answer.message),
                code => (code.to_string(), answer.message),
            };
            let message = elsewhere.unwrap_or(message);
            let mut error = op.error(kind, key, &code, &message);
            error.request_id = answer.request_id;
            let perhaps = answer.status < 300
                || (answer.status >= 500 && (kind != ErrorKind::Throttled || of_a_gateway));
            Failure {
                error: error.into(),
                came: if perhaps {
                    Came::PerhapsThrough
                } else {
                    Came::ToNothing
                },
            }
        }
        Seen::Broken(broken, code, message) => Failure {
            error: op
                .error(kind_of_broken(op, broken), key, code, &message)
                .into(),
            came: match broken {
                Broken::BeforeSending => Came::Nowhere,
                Broken::Afterwards => Came::PerhapsThrough,
            },
        },
        Seen::Credentials { missing, message } => {
            let kind = if missing {
                ErrorKind::Denied
            } else {
                ErrorKind::Transient
            };
            Failure {
                error: op.error(kind, key, "Credentials", &message).into(),
                came: Came::ToNothing,
            }
        }
        Seen::Unbuildable(message) => Failure {
            error: op
                .error(ErrorKind::Invalid, key, "InvalidRequest", &message)
                .into(),
            came: Came::ToNothing,
        },
    }
}

/// The verdict on an attempt that ran into our deadline.
pub(in crate::store) fn timed_out(op: Op, key: &str, after: std::time::Duration) -> Failure {
    let message = format!("no answer within {:.1} s", after.as_secs_f64());
    Failure {
        error: op
            .error(
                kind_of_broken(op, Broken::Afterwards),
                key,
                "Timeout",
                &message,
            )
            .into(),
        came: Came::PerhapsThrough,
    }
}

fn connect_code(error: &(dyn std::error::Error + 'static), texts: &[String]) -> &'static str {
    use std::io::ErrorKind as Io;
    if texts
        .iter()
        .any(|t| t.contains("dns error") || t.contains("failed to lookup address"))
    {
        return "NoSuchHost";
    }
    match io_kind(error) {
        Some(Io::ConnectionRefused) => "ConnectionRefused",
        Some(Io::NetworkUnreachable | Io::HostUnreachable) => "Unreachable",
        Some(Io::InvalidData) => "TlsFailed",
        _ if texts.iter().any(|t| t.contains("timeout")) => "ConnectTimeout",
        _ => "ConnectFailed",
    }
}

fn lost_code(error: &(dyn std::error::Error + 'static)) -> &'static str {
    use std::io::ErrorKind as Io;
    match io_kind(error) {
        Some(Io::ConnectionReset) => "ConnectionReset",
        Some(Io::BrokenPipe) => "BrokenPipe",
        Some(Io::TimedOut) => "Timeout",
        _ => "ConnectionLost",
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    // The deepest is the cause; those above may be wrappers of kind `Other`.
    chain(error)
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .last()
        .map(|e| e.kind())
}

fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref::<T>())
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| match e.downcast_ref::<std::io::Error>() {
        // `source()` of an io::Error skips the error it wraps.
        Some(io) => io
            .get_ref()
            .map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => e.source(),
    })
}

/// The innermost explanation: what the lower layers said, without the wrappers' names.
pub(in crate::store) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    one_line(
        &chain(error)
            .last()
            .map(ToString::to_string)
            .unwrap_or_default(),
    )
}

/// Bounded and on one line, whatever a server sent.
pub(in crate::store) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(LONGEST));
        if line.len() > LONGEST {
            let end = (0..=LONGEST)
                .rev()
                .find(|&i| line.is_char_boundary(i))
                .unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// Fit to be shown as a region's or a host's name, whoever sent it.
fn is_host(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    !name.is_empty() && name.len() < 254 && name.bytes().all(fine)
}

/// The text of the first element `tag`, for answers the SDK could not make sense of.
pub(in crate::store) fn xml_text(body: &[u8], tag: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let start = text.find(&format!("<{tag}>"))? + tag.len() + 2;
    let end = start + text.get(start..)?.find(&format!("</{tag}>"))?;
    Some(
        text.get(start..end)?
            .replace("&quot;", "\"")
            .replace("&#34;", "\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::*;

    #[test]
    fn answers() {
        for (op, status, code, expected) in [
            (Op::HEAD, 404, "", Missing),
            (Op::HEAD, 404, "NotFound", Missing),
            (Op::HEAD, 403, "", Denied),
            (Op::HEAD, 412, "", Conflict),
            (Op::GET, 404, "NoSuchKey", Missing),
            (Op::ABORT, 404, "NoSuchKey", NoSuchUpload),
            (Op::LIST_PARTS, 404, "NoSuchKey", NoSuchUpload),
            (Op::COPY_PART, 404, "NoSuchKey", Missing),
            (Op::COMPLETE, 404, "NoSuchKey", Missing),
            (Op::GET, 412, "PreconditionFailed", Conflict),
            (Op::GET, 416, "InvalidRange", Conflict),
            (Op::GET, 403, "InvalidObjectState", Archived),
            (Op::LIST, 404, "NoSuchBucket", Missing),
            (Op::LIST, 400, "ExpiredToken", Denied),
            (Op::LIST, 400, "UnrecognizedClientException", Denied),
            (Op::LIST, 403, "SignatureDoesNotMatch", Denied),
            (Op::PUT, 400, "RequestTimeout", Transient),
            (Op::PUT, 400, "BadDigest", Transient),
            (Op::PUT, 400, "InvalidDigest", Invalid),
            (Op::PUT, 500, "InternalError", Transient),
            (Op::PUT, 502, "", Transient),
            (Op::PUT, 503, "SlowDown", Throttled),
            (Op::PUT, 429, "", Throttled),
            (Op::PUT, 507, "XMinioStorageFull", Invalid),
            (Op::PUT, 501, "NotImplemented", Invalid),
            (Op::PUT_GUARDED, 409, "ConditionalRequestConflict", Conflict),
            (Op::PUT_GUARDED, 409, "FileAlreadyExists", Conflict),
            (Op::PUT_GUARDED, 409, "OperationAborted", Transient),
            (Op::PUT_GUARDED, 500, "InternalError", Transient),
            (Op::CREATE, 500, "InternalError", Unknown),
            (Op::CREATE, 504, "", Unknown),
            (Op::CREATE, 503, "SlowDown", Throttled),
            (Op::CREATE, 403, "AccessDenied", Denied),
            (Op::COMPLETE, 500, "InternalError", Unknown),
            (Op::COMPLETE, 503, "ServiceUnavailable", Throttled),
            (Op::COMPLETE, 200, "InternalError", Unknown),
            (Op::COMPLETE, 200, "SlowDown", Unknown),
            (Op::COMPLETE, 200, "PreconditionFailed", Conflict),
            (Op::COMPLETE, 200, "", Unknown),
            (Op::COMPLETE, 200, "InvalidPart", Invalid),
            (Op::COMPLETE, 200, "Unheard-of", Unknown),
            (Op::COMPLETE, 400, "EntityTooSmall", Invalid),
            (Op::COMPLETE, 404, "NoSuchUpload", NoSuchUpload),
            (Op::COMPLETE, 409, "FileAlreadyExists", Conflict),
            (Op::COMPLETE, 412, "PreconditionFailed", Conflict),
            (Op::ABORT, 404, "", NoSuchUpload),
            (Op::ABORT, 404, "NoSuchBucket", Missing),
            (Op::ABORT, 500, "InternalError", Transient),
            (Op::ABORT, 503, "SlowDown", Throttled),
            (Op::LIST_PARTS, 404, "NoSuchUpload", NoSuchUpload),
            (Op::PART, 404, "NoSuchUpload", NoSuchUpload),
            (Op::COPY_PART, 404, "NoSuchKey", Missing),
            (Op::COPY_PART, 200, "InternalError", Transient),
            (Op::COPY_PART, 412, "PreconditionFailed", Conflict),
            (Op::LIST, 301, "PermanentRedirect", Invalid),
        ] {
            assert_eq!(
                kind_of_answer(op, status, code),
                expected,
                "{} {status} {code}",
                op.name
            );
        }
    }

    #[test]
    fn broken_exchanges() {
        for (op, before, after) in [
            (Op::GET, Transient, Transient),
            (Op::LIST_PARTS, Transient, Transient),
            (Op::PUT, Transient, Unknown),
            (Op::PART, Transient, Unknown),
            (Op::PUT_GUARDED, Transient, Unknown),
            (Op::CREATE, Transient, Unknown),
            (Op::COMPLETE, Transient, Unknown),
            (Op::ABORT, Transient, Unknown),
        ] {
            assert_eq!(
                kind_of_broken(op, Broken::BeforeSending),
                before,
                "{}",
                op.name
            );
            assert_eq!(kind_of_broken(op, Broken::Afterwards), after, "{}", op.name);
        }
    }

    #[test]
    fn lines_are_single_and_bounded() {
        assert_eq!(one_line(" a\n\tb\r\n c\u{7}"), "a b c");
        assert!(one_line(&"é".repeat(1000)).len() <= 310);
        assert!(one_line(&"x y ".repeat(1000)).len() <= 310);
    }

    #[test]
    fn text_of_an_element() {
        let body = b"  \n<?xml?><Error><Code>SlowDown</Code><Region>eu</Region></Error>";
        assert_eq!(xml_text(body, "Code").as_deref(), Some("SlowDown"));
        assert_eq!(xml_text(body, "Region").as_deref(), Some("eu"));
        assert_eq!(xml_text(body, "Message"), None);
        assert_eq!(xml_text(b"<Code>cut", "Code"), None);
        assert_eq!(xml_text(b"\xff<Code>x</Code>", "Code"), None);
    }
}
