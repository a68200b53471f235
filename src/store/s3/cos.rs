//! Speaking COS's own API instead of its S3 one (`--auth cos`): the same requests, signed in its way, with
//! its names of headers.
//!
//! The signer takes the place of the SDK's for SigV4: credentials come from wherever they come from anyway.
//! Invariant: the rest of `store/s3` sees S3's names only, in what it sends and in what comes back.

use std::time::UNIX_EPOCH;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Credentials, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::auth::{
    AuthScheme, AuthSchemeEndpointConfig, AuthSchemeId, Sign,
};
use aws_smithy_runtime_api::client::identity::{Identity, SharedIdentityResolver};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::GetIdentityResolver;
use percent_encoding::percent_decode_str;

use super::clock::ServerClock;
use super::cos_signature::{Request, authorization};

/// The SDK's name of the scheme whose place this takes.
const SIGV4: AuthSchemeId = AuthSchemeId::new("sigv4");
/// How long a signature holds, and how far the store's clock may be behind what its answers told.
const VALID: u64 = 15 * 60;
const SLACK: u64 = 60;

/// Signs, with the store's own time.
#[derive(Clone, Debug)]
pub(super) struct CosSigner(pub ServerClock);

impl AuthScheme for CosSigner {
    fn scheme_id(&self) -> AuthSchemeId {
        SIGV4
    }

    fn identity_resolver(
        &self,
        resolvers: &dyn GetIdentityResolver,
    ) -> Option<SharedIdentityResolver> {
        resolvers.identity_resolver(SIGV4)
    }

    fn signer(&self) -> &dyn Sign {
        self
    }
}

impl Sign for CosSigner {
    fn sign_http_request(
        &self,
        request: &mut HttpRequest,
        identity: &Identity,
        _endpoint: AuthSchemeEndpointConfig<'_>,
        _components: &RuntimeComponents,
        _config: &ConfigBag,
    ) -> Result<(), BoxError> {
        let keys = identity
            .data::<Credentials>()
            .ok_or("these are no credentials of the kind COS takes")?;
        let rest = request.uri().split_once("://").map_or("", |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (authority, path) = (
            authority.to_string(),
            decoded(if path.is_empty() { "/" } else { path }),
        );
        let query: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        in_its_words(request, &authority)?;
        if let Some(token) = keys.session_token() {
            let headers = request.headers_mut();
            headers.try_insert("x-cos-security-token", token.to_string())?;
        }
        let signed = |name: &str| {
            name.starts_with("x-cos-") || name == "content-type" || name == "content-md5"
        };
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .filter(|(name, _)| signed(name))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        headers.push(("host".to_string(), authority));
        let now = self.0.now().duration_since(UNIX_EPOCH)?.as_secs();
        let what = Request {
            method: request.method(),
            path: &path,
            query: &query,
            headers: &headers,
        };
        let valid = now.saturating_sub(SLACK)..now + VALID;
        let (id, secret) = (keys.access_key_id(), keys.secret_access_key());
        let authorization = authorization(&what, id, secret, &valid);
        let headers = request.headers_mut();
        headers.try_insert("authorization", authorization)?;
        Ok(())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// S3's headers become COS's; what only the SDK's signer needs goes.
fn in_its_words(request: &mut HttpRequest, authority: &str) -> Result<(), BoxError> {
    let ours: Vec<(String, String)> = request
        .headers()
        .iter()
        .filter(|(name, _)| name.starts_with("x-amz-"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let headers = request.headers_mut();
    for (name, value) in ours {
        headers.remove(&name);
        let name = name.trim_start_matches("x-amz-");
        let value = match name {
            "content-sha256" | "date" | "user-agent" | "security-token" => continue,
            // The bucket is in the host here as well: `bucket.host/key`.
            "copy-source" => {
                let (_, key) = value.split_once('/').ok_or("a copy without a source")?;
                format!("{authority}/{key}")
            }
            "metadata-directive" if value == "REPLACE" => "Replaced".to_string(),
            "metadata-directive" => "Copy".to_string(),
            "server-side-encryption" if value.starts_with("aws:kms") => "cos/kms".to_string(),
            _ => value,
        };
        let name = match name {
            "server-side-encryption-aws-kms-key-id" => "server-side-encryption-cos-kms-key-id",
            name => name,
        };
        headers.try_insert(format!("x-cos-{name}"), value)?;
    }
    Ok(())
}

/// COS's headers become S3's.
#[derive(Clone, Debug)]
pub(super) struct CosAnswers;

impl Intercept for CosAnswers {
    fn name(&self) -> &'static str {
        "CosAnswers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response_mut().headers_mut();
        let theirs: Vec<(String, String)> = headers
            .iter()
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("x-cos-")?;
                Some((format!("x-amz-{name}"), value.to_string()))
            })
            .collect();
        for (name, value) in theirs {
            headers.try_insert(name, value)?;
        }
        Ok(())
    }
}
