//! Why a bucket cannot be mounted, said in one line that names the thing and the remedy.
//!
//! Invariant: nothing secret is in a message, and nothing a server sent is in it unbounded.

use super::classify::{Answer, Op, Seen, UNREADABLE, kind_of_answer, one_line};
use crate::store::ErrorKind;
use crate::store::error::NO_SUCH_BUCKET;

/// Why a bucket cannot be mounted: one line that names the thing and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Options(String),
    #[error(
        "no credentials for bucket {bucket:?} ({reason}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or say --no-sign-request if the bucket is public"
    )]
    NoCredentials { bucket: String, reason: String },
    #[error(
        "bucket {bucket:?} does not exist at {endpoint}: check its name and the endpoint, or create it first"
    )]
    NoSuchBucket { bucket: String, endpoint: String },
    #[error("access to bucket {bucket:?} at {endpoint} was denied ({code}): {remedy}")]
    Denied {
        bucket: String,
        endpoint: String,
        code: String,
        remedy: String,
    },
    #[error("cannot reach {endpoint} ({reason}): {remedy}")]
    Unreachable {
        endpoint: String,
        reason: String,
        remedy: String,
    },
    #[error("{endpoint} does not answer as an S3 service ({reason}): {remedy}")]
    NotS3 {
        endpoint: String,
        reason: String,
        remedy: String,
    },
    #[error("bucket {bucket:?} is in region {actual:?}, not in {given:?}: give {remedy}")]
    WrongRegion {
        bucket: String,
        given: String,
        actual: String,
        remedy: String,
    },
    #[error(
        "the check of bucket {bucket:?} at {endpoint} failed ({reason}): check the bucket's name, the region and the endpoint, or try again later"
    )]
    Other {
        bucket: String,
        endpoint: String,
        reason: String,
    },
}

/// What an explanation needs to know of the question.
pub(super) struct Refusal<'a> {
    pub bucket: &'a str,
    /// As messages show it.
    pub endpoint: &'a str,
    /// It was named, and is not what the region makes it.
    pub endpoint_was_given: bool,
    /// The proxy that requests to it go through.
    pub proxy: Option<String>,
    pub tls: bool,
    /// Another authority than the system's was named.
    pub own_authority: bool,
    pub unsigned: bool,
}

impl Refusal<'_> {
    pub fn explain(&self, seen: Seen, region: &str) -> ConnectError {
        let bucket = self.bucket.to_string();
        let endpoint = self.endpoint.to_string();
        match seen {
            Seen::Answer(answer) => self.explain_answer(answer, region),
            Seen::Credentials { message, .. } => ConnectError::NoCredentials {
                bucket,
                reason: message,
            },
            Seen::Unbuildable(reason) => ConnectError::Other {
                bucket,
                endpoint,
                reason,
            },
            Seen::Broken(_, code, message) => self.explain_broken(code, message),
        }
    }

    fn explain_broken(&self, code: &str, message: String) -> ConnectError {
        let endpoint = self.endpoint.to_string();
        let lower = message.to_ascii_lowercase();
        let tls = self.tls;
        let certificate = lower.contains("certificate") || lower.contains("unknownissuer");
        let not_tls = lower.contains("corrupt message")
            || lower.contains("invalidcontenttype")
            || lower.contains("handshake eof")
            || lower.contains("alert");
        // The parser's complaint about bytes that are no HTTP.
        let not_http = lower.contains("invalid http") || lower.contains("parse");
        if tls && certificate {
            return ConnectError::Unreachable {
                endpoint,
                remedy: self.certificate_remedy(&lower).to_string(),
                reason: message,
            };
        }
        if let Some(proxy) = &self.proxy
            && code != UNREADABLE
            && !not_tls
            && !not_http
        {
            return ConnectError::Unreachable {
                endpoint,
                reason: format!("through the proxy {proxy}: {message}"),
                remedy: "check the proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY), or name the endpoint's host in NO_PROXY".to_string(),
            };
        }
        if tls && not_tls {
            let remedy = "it may speak plain HTTP: try http://".to_string();
            return ConnectError::NotS3 {
                endpoint,
                reason: format!("no TLS: {message}"),
                remedy,
            };
        }
        if code == UNREADABLE || not_http {
            let remedy = match tls {
                true => "check the endpoint's address and port",
                false => "check the endpoint's address and port, or try https://",
            };
            return ConnectError::NotS3 {
                endpoint,
                reason: message,
                remedy: remedy.to_string(),
            };
        }
        let (reason, remedy) = match code {
            "ConnectionRefused" => (
                "connection refused".to_string(),
                "nothing listens there: check the port, or start the server",
            ),
            "NoSuchHost" => (
                "no such host".to_string(),
                "check the endpoint's name, and the DNS of this machine",
            ),
            "Timeout" | "ConnectTimeout" => (
                message,
                "check the endpoint's address, and the firewalls on the way",
            ),
            _ => (
                format!("{code}: {message}"),
                "check the endpoint's address, and the network",
            ),
        };
        ConnectError::Unreachable {
            endpoint,
            reason,
            remedy: remedy.to_string(),
        }
    }

    /// What is wrong with a certificate, as rustls says it.
    fn certificate_remedy(&self, lower: &str) -> &'static str {
        if lower.contains("not valid for name") || lower.contains("notvalidforname") {
            return "the certificate is another host's: check the endpoint's name";
        }
        if lower.contains("expired") || lower.contains("not valid yet") {
            return "renew the server's certificate, or check this machine's clock";
        }
        match self.own_authority {
            true => {
                "the authority in the file given by --ca-bundle (AWS_CA_BUNDLE) has not signed it: give the one that has"
            }
            false => {
                "if a private authority has signed it, give that one's certificate with --ca-bundle FILE"
            }
        }
    }

    fn explain_answer(&self, answer: Answer, region: &str) -> ConnectError {
        let bucket = self.bucket.to_string();
        let endpoint = self.endpoint.to_string();
        let elsewhere = answer.elsewhere().map(str::to_string);
        let other = answer.other_endpoint(self.bucket);
        let other = other.filter(|other| self.endpoint_was_given && other != self.endpoint);
        let Answer {
            status,
            code,
            message,
            speaks_s3,
            ..
        } = answer;
        let message = one_line(&message);
        if let Some(actual) = elsewhere
            && actual != region
        {
            let remedy = match other {
                Some(other) => format!("--region {actual} --endpoint-url {other}"),
                None => format!("--region {actual}"),
            };
            return ConnectError::WrongRegion {
                bucket,
                given: region.to_string(),
                actual,
                remedy,
            };
        }
        if !speaks_s3 || (status < 300 && code.is_empty()) {
            let reason = format!("HTTP {status} with something other than S3's XML");
            let remedy = match &self.proxy {
                Some(proxy) => format!(
                    "it may be the proxy {proxy} that answers: check it, or name the endpoint's host in NO_PROXY"
                ),
                None => "check the endpoint's address: it is the API's, not the console's".into(),
            };
            return ConnectError::NotS3 {
                endpoint,
                reason,
                remedy,
            };
        }
        let said = match code.as_str() {
            "" => format!("HTTP {status}"),
            code => code.to_string(),
        };
        match kind_of_answer(Op::LIST, status, &code) {
            ErrorKind::Missing if code == NO_SUCH_BUCKET || code == "NoSuchKey" => {
                ConnectError::NoSuchBucket { bucket, endpoint }
            }
            ErrorKind::Missing => ConnectError::NotS3 {
                endpoint,
                reason: format!("{said} to a listing"),
                remedy: "check the endpoint's address and its path".to_string(),
            },
            ErrorKind::Denied => {
                let remedy = match code.as_str() {
                    "InvalidAccessKeyId" => {
                        "the store does not know the access key id: check it, and the endpoint"
                    }
                    "SignatureDoesNotMatch" => "the secret access key is wrong: check it",
                    "ExpiredToken" | "TokenRefreshRequired" => {
                        "the session has expired: renew the credentials"
                    }
                    "InvalidToken" => "the session token is wrong: renew the credentials",
                    "RequestTimeTooSkewed" => "this machine's clock is wrong: set it",
                    "AuthorizationHeaderMalformed" => "check the region, and the access key id",
                    _ if self.unsigned => "the bucket is not public: sign the requests",
                    _ => "the credentials need s3:ListBucket on the bucket, for this prefix",
                };
                ConnectError::Denied {
                    bucket,
                    endpoint,
                    code: said,
                    remedy: remedy.to_string(),
                }
            }
            ErrorKind::Throttled => {
                let reason = format!("{said}: the store asks for less, try again later");
                ConnectError::Other {
                    bucket,
                    endpoint,
                    reason,
                }
            }
            _ if matches!(status, 301 | 307) => ConnectError::Other {
                bucket,
                endpoint,
                reason: match other {
                    Some(other) => {
                        format!("{said}: the bucket is elsewhere, give --endpoint-url {other}")
                    }
                    None => {
                        format!("{said}: the bucket is elsewhere, give its own endpoint or region")
                    }
                },
            },
            _ => {
                let reason = match message.as_str() {
                    "" => said,
                    message => format!("{said}: {message}"),
                };
                ConnectError::Other {
                    bucket,
                    endpoint,
                    reason,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_one_line() {
        let e = ConnectError::Denied {
            bucket: "b".into(),
            endpoint: "http://h".into(),
            code: "ExpiredToken".into(),
            remedy: "renew".into(),
        };
        assert_eq!(e.to_string().lines().count(), 1);
    }
}
