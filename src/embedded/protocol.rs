//! What a server speaks, as the front before it sees it; and S3.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use s3s::Body;
use s3s::service::S3Service;

use super::api::{Keys, Vouched};
use super::cos;
use super::dialect::{Dialect, Signatures};
use super::digest::{Digests, md5_from_header};
use super::error::Error;
use super::operation::{Target, bucket_of_host};
use super::wire::ResponseBody;

#[async_trait]
pub(super) trait Protocol: Send + Sync + 'static {
    /// What a request is about, for faults and the log.
    fn target(&self, head: &Parts) -> Target;

    /// Checks what the protocol cannot judge itself; from here on all headers have the names it knows.
    fn admit(&self, _head: &mut Parts) -> Result<(), Error> {
        Ok(())
    }

    /// Who would not be let in, before anything is done.
    fn refusal(&self, _head: &Parts, _target: &Target) -> Option<(StatusCode, Error)> {
        None
    }

    /// What the look of the answer depends on.
    fn look(&self, _request: &Request<Incoming>) -> Look {
        Look::default()
    }

    /// Has an answer look as the vendor's do. `number` is the request's.
    fn dress(&self, _look: Look, _response: &mut Response<ResponseBody>, _number: u64) {}

    /// `None`: it broke.
    async fn call(&self, request: Request<Body>) -> Option<Response<Body>>;

    /// A refusal in its own form, with the code it most often sends with the status if none is given.
    fn error(&self, status: StatusCode, code: Option<&str>, message: &str) -> Response<Body>;
}

#[derive(Clone, Copy, Default)]
pub(super) struct Look {
    /// It is signed in COS's own way.
    natively: bool,
    completes: bool,
}

pub(super) struct S3 {
    pub service: S3Service,
    pub keys: Keys,
    pub dialect: Dialect,
    pub base_domain: Option<String>,
}

#[async_trait]
impl Protocol for S3 {
    fn target(&self, head: &Parts) -> Target {
        let (path, query) = (head.uri.path(), head.uri.query());
        let domain = self.base_domain.as_deref();
        Target::of(&head.method, path, query, &head.headers, domain)
    }

    fn admit(&self, head: &mut Parts) -> Result<(), Error> {
        let natively = cos::is_signed(&head.headers);
        let admitted = match self.dialect.signatures {
            Signatures::SigV4 => return Ok(()),
            Signatures::CosToo if !natively => return Ok(()),
            Signatures::CosToo => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.unwrap_or_default().as_secs();
                // One of the pairs there are; the refusal is the last one's.
                let denied = Err(Error::new("InvalidAccessKeyId", "There are no keys."));
                let checked = self.keys.pairs().into_iter();
                let checked = checked.map(|(id, secret)| cos::check(head, &id, &secret, now));
                checked.fold(denied, |before, now| before.or(now))
            }
            Signatures::Unchecked => Ok(()),
        };
        head.headers.remove(AUTHORIZATION);
        head.extensions.insert(Vouched);
        if natively {
            cos::request_to_s3(&mut head.headers, self.base_domain.as_deref());
        }
        admitted
    }

    fn refusal(&self, head: &Parts, target: &Target) -> Option<(StatusCode, Error)> {
        let forbidden = |message: &str| {
            let error = Error::new("AccessDenied", message);
            Some((StatusCode::FORBIDDEN, error))
        };
        let domain = self.base_domain.as_deref();
        let in_host = domain.and_then(|domain| bucket_of_host(cos::host(&head.headers), domain));
        if self.dialect.virtual_host_only && !target.bucket.is_empty() && in_host.is_none() {
            return forbidden(
                "The bucket must be named in the host: path-style requests are not allowed.",
            );
        }
        if target.key.len() > self.dialect.key_max {
            let error = Error::new("KeyTooLongError", "Your key is too long");
            return Some((StatusCode::BAD_REQUEST, error));
        }
        // Taken and not obeyed, an object would be there in the clear for whoever asks without the key.
        let mut names = head.headers.keys().map(|name| name.as_str());
        if names.any(|name| name.contains("-server-side-encryption-customer-")) {
            let message = "Encryption with a key of the customer's is not implemented.";
            let error = Error::new("NotImplemented", message);
            return Some((StatusCode::NOT_IMPLEMENTED, error));
        }
        let checksummed = |name: &str| {
            name.starts_with("x-amz-checksum-") || name.starts_with("x-amz-sdk-checksum-")
        };
        if self.dialect.refuse_checksums
            && head.headers.keys().any(|name| checksummed(name.as_str()))
        {
            return forbidden("Access Denied");
        }
        None
    }

    fn look(&self, request: &Request<Incoming>) -> Look {
        let query = request.uri().query().unwrap_or_default();
        Look {
            natively: cos::is_signed(request.headers()),
            completes: request.method() == Method::POST && query.contains("uploadId="),
        }
    }

    fn dress(&self, look: Look, response: &mut Response<ResponseBody>, number: u64) {
        if self.dialect.keep_alive && look.completes && response.status() == StatusCode::OK {
            response.headers_mut().remove(CONTENT_LENGTH);
            response.body_mut().precede(Bytes::from_static(b" \n \n "));
        }
        if look.natively {
            cos::answer_to_cos(response.headers_mut());
        }
        if let Some(vendor) = self.dialect.vendor {
            vendor.dress(response, &format!("{number:016X}"));
        }
    }

    async fn call(&self, mut request: Request<Body>) -> Option<Response<Body>> {
        let region = self.dialect.region.as_ref();
        if let Some(answer) = region.and_then(|region| region.send_away(&request)) {
            return Some(answer);
        }
        if let Err(error) = self.check_keys_to_delete(&mut request).await {
            let status = StatusCode::BAD_REQUEST;
            return Some(self.error(status, Some(error.code), &error.message));
        }
        self.service.call(request).await.ok()
    }

    fn error(&self, status: StatusCode, code: Option<&str>, message: &str) -> Response<Body> {
        error(status, code.unwrap_or_else(|| usual_code(status)), message)
    }
}

/// No document of a thousand keys is larger.
const KEYS_MAX: usize = 8 << 20;

impl S3 {
    /// DeleteObjects takes no list of keys that nothing vouches for, and the protocol crate does not look.
    async fn check_keys_to_delete(&self, request: &mut Request<Body>) -> Result<(), Error> {
        let (uri, headers) = (request.uri(), request.headers());
        let domain = self.base_domain.as_deref();
        let target = Target::of(request.method(), uri.path(), uri.query(), headers, domain);
        if target.operation != "DeleteObjects" {
            return Ok(());
        }
        let mut names = headers.keys().map(|name| name.as_str());
        let checksummed = names.any(|name| name.starts_with("x-amz-checksum-"));
        let Some(md5) = headers.get("content-md5").cloned() else {
            return match checksummed && !self.dialect.multi_delete_md5 {
                true => Ok(()),
                false => {
                    let message = "Missing required header for this request: Content-MD5";
                    Err(Error::new("InvalidRequest", message))
                }
            };
        };
        let claimed = md5_from_header(md5.to_str().unwrap_or_default())?;
        let sent = request.body_mut().store_all_limited(KEYS_MAX).await;
        let sent = sent.map_err(|error| Error::new("IncompleteBody", error.to_string()))?;
        let mut digests = Digests::new();
        digests.update(&sent);
        match digests.finish().0 == claimed {
            true => Ok(()),
            false => Err(Error::bad_digest("Content-MD5")),
        }
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let code = code.replace('&', "&amp;").replace('<', "&lt;");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// The code S3 most often sends with a status.
fn usual_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "InvalidRequest",
        403 => "AccessDenied",
        404 => "NoSuchKey",
        409 => "ConditionalRequestConflict",
        411 => "MissingContentLength",
        412 => "PreconditionFailed",
        416 => "InvalidRange",
        429 => "TooManyRequests",
        500 => "InternalError",
        501 => "NotImplemented",
        503 => "ServiceUnavailable",
        _ => "ScriptedFault",
    }
}
