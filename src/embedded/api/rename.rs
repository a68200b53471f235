//! RenameObject, which the protocol crate does not know: a route of our own, signed like any other.

use std::sync::Arc;

use hyper::http::Extensions;
use hyper::{HeaderMap, Method, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};

use crate::embedded::error::Error;
use crate::embedded::model::{Condition, Model};
use crate::embedded::operation::{Target, decode, parameter};

pub(in crate::embedded) struct Renames {
    pub model: Arc<Model>,
    pub base_domain: Option<String>,
}

#[async_trait::async_trait]
impl S3Route for Renames {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        let query = uri.query().unwrap_or_default();
        method == Method::PUT && parameter(query, "renameObject").is_some()
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if !self.model.dialect.rename {
            let message =
                "A header or query you provided implies functionality that is not implemented.";
            return Err(Error::new("NotImplemented", message).into());
        }
        let headers = &request.headers;
        let target = Target::of(
            &request.method,
            request.uri.path(),
            request.uri.query(),
            headers,
            self.base_domain.as_deref(),
        );
        let header = |name| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let tag = |name| {
            let tag = header(name).trim_matches('"');
            (!tag.is_empty()).then(|| tag.to_owned())
        };
        let source = decode(header("x-amz-rename-source"));
        if source.is_empty() || source.ends_with('/') || target.key.ends_with('/') {
            let message = "Objects whose keys end with a slash are not renamed.";
            return Err(Error::new("InvalidRequest", message).into());
        }
        let of_source = Condition {
            if_match: tag("x-amz-rename-source-if-match"),
            ..Condition::default()
        };
        let of_target = Condition {
            if_match: tag("if-match"),
            if_absent: header("if-none-match") == "*",
            forbid_overwrite: false,
        };
        self.model.rename(
            &target.bucket,
            &source,
            &target.key,
            header("x-amz-client-token"),
            [&of_source, &of_target],
        )?;
        Ok(S3Response::new(Body::empty()))
    }
}
