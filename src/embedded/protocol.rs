//! What a server speaks, as the front before it sees it; and S3.

use async_trait::async_trait;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use s3s::Body;
use s3s::service::S3Service;

use super::operation::{Target, bucket_of_host};

#[async_trait]
pub(super) trait Protocol: Send + Sync + 'static {
    /// What a request is about, for faults and the log.
    fn target(&self, head: &Parts) -> Target;

    /// `None`: it broke.
    async fn call(&self, request: Request<Body>) -> Option<Response<Body>>;

    /// A refusal in its own form, with the code it most often sends with the status if none is given.
    fn error(&self, status: StatusCode, code: Option<&str>, message: &str) -> Response<Body>;
}

pub(super) struct S3 {
    pub service: S3Service,
    /// The bucket must be in the host name.
    pub virtual_host_only: bool,
    pub base_domain: Option<String>,
}

impl S3 {
    fn names_its_bucket_in_the_path(&self, request: &Request<Body>) -> bool {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or("");
        let in_host = self
            .base_domain
            .as_deref()
            .and_then(|domain| bucket_of_host(host, domain));
        in_host.is_none() && !matches!(request.uri().path(), "" | "/")
    }
}

#[async_trait]
impl Protocol for S3 {
    fn target(&self, head: &Parts) -> Target {
        let (path, query) = (head.uri.path(), head.uri.query());
        let domain = self.base_domain.as_deref();
        Target::of(&head.method, path, query, &head.headers, domain)
    }

    async fn call(&self, request: Request<Body>) -> Option<Response<Body>> {
        if self.virtual_host_only && self.names_its_bucket_in_the_path(&request) {
            let message =
                "The bucket must be named in the host: path-style requests are not allowed.";
            return Some(self.error(StatusCode::FORBIDDEN, Some("AccessDenied"), message));
        }
        self.service.call(request).await.ok()
    }

    fn error(&self, status: StatusCode, code: Option<&str>, message: &str) -> Response<Body> {
        error(status, code.unwrap_or_else(|| usual_code(status)), message)
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
