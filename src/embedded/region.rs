//! A bucket that is in one region, as Amazon's are, and what those hear who ask for it in another.

use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use s3s::Body;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub name: String,
    pub astray: Astray,
}

/// What is said to requests that were signed for another region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Astray {
    /// 301 PermanentRedirect
    Moved,
    /// 307 TemporaryRedirect: of a bucket so new that its name leads nowhere yet
    Redirected,
    /// 400 AuthorizationHeaderMalformed
    Malformed,
}

impl Region {
    /// The answer to who has come to the wrong one.
    pub(super) fn send_away<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let signed = request.headers().get("authorization")?.to_str().ok()?;
        // Credential=KEY/DATE/REGION/s3/aws4_request
        let theirs = signed.split_once("Credential=")?.1.split('/').nth(2)?;
        if theirs == self.name {
            return None;
        }
        let name = &self.name;
        let endpoint = format!("s3.{name}.amazonaws.com");
        let (status, text) = match self.astray {
            Astray::Moved => (
                StatusCode::MOVED_PERMANENTLY,
                format!(
                    "<Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.</Message><Endpoint>{endpoint}</Endpoint>"
                ),
            ),
            Astray::Redirected => (
                StatusCode::TEMPORARY_REDIRECT,
                format!(
                    "<Code>TemporaryRedirect</Code><Message>Please re-send this request to the specified temporary endpoint. Continue to use the original request endpoint for future requests.</Message><Endpoint>{endpoint}</Endpoint>"
                ),
            ),
            Astray::Malformed => (
                StatusCode::BAD_REQUEST,
                format!(
                    "<Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region '{theirs}' is wrong; expecting '{name}'</Message><Region>{name}</Region>"
                ),
            ),
        };
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{text}</Error>");
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let region = HeaderValue::from_str(name).ok()?;
        headers.insert("x-amz-bucket-region", region);
        if self.astray == Astray::Redirected {
            let location = format!("https://{endpoint}{}", request.uri());
            headers.insert(LOCATION, HeaderValue::from_str(&location).ok()?);
        }
        Some(answer)
    }
}
