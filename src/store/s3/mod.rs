//! The bucket of an S3 service, by the AWS SDK: the only user of its S3 half. What is not S3's own
//! (connecting, classifying, repeating, bodies) `store::glacier` uses too.
//!
//! - `connect`: credentials, region, endpoint; the check at mount. `refusal`: why it failed.
//! - `dialects`: the table of what vendors can do. `choice`: which row it is; `witness`: by what it answers.
//! - `cos`, `cos_signature`: COS's own API instead of its S3 one.
//! - `headers`: what every request says beside its own.
//! - `classify`: what came back, sorted into the kinds callers branch on.
//! - `exchange`: one call, tried, timed and counted. `retry`: the one retry policy.
//! - `renewal`: the keys, asked for again when they expire or are refused.
//! - `calls`: each call of the trait, as S3's request and answer; `get`: the one whose answer is a stream.
//! - `delete_many`: the one call that answers for each of many keys.
//! - `source`: of copies, where the store does not look at it.
//! - `lifecycle`: the bucket's own rule against uploads left open.
//! - `transport`: whom TLS trusts, and the proxies. `pace`: the limit of bandwidth.
//! - `payload`: what a signature says of a body.
//! - `dates`: of objects, in forms the SDK does not know. `ranges`: parts of objects that do not say which.
//! - `body`, `forms`, `keys`, `list`: bytes, values, names and listings between our form and S3's.
//!
//! Invariants:
//! - Every request goes through [`Line::call`]: one deadline an attempt, one retry policy.
//! - The SDK repeats nothing, times nothing, computes no checksum and encodes no body in chunks.
//! - A request body's checksum is the one its [`Body`] came with, never one computed here.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::glacier::VaultOptions;
use super::{Bandwidth, Body, Capabilities, Limits, Override, Result};
use classify::{Failure, Op};
use exchange::{Line, Patience};
use forms::encode_crc64;
use keys::Prefix;
use payload::Payload;

pub(in crate::store) mod body;
mod calls;
mod choice;
pub(in crate::store) mod classify;
mod clock;
pub(in crate::store) mod connect;
mod contents;
mod cos;
mod cos_signature;
mod dates;
mod delete_many;
mod dialects;
pub(in crate::store) mod exchange;
mod forms;
mod get;
mod guard;
mod head;
mod headers;
mod keys;
mod lifecycle;
mod list;
pub(in crate::store) mod pace;
mod payload;
mod ranges;
mod refusal;
pub(in crate::store) mod renewal;
pub(in crate::store) mod retry;
mod source;
mod told;
pub(in crate::store) mod transport;
mod whole;
mod witness;

pub(in crate::store) use choice::of_provider;
pub use choice::{Why, address_of, capabilities, generic, providers};
pub use dialects::Facts;
pub use headers::Said;
pub use lifecycle::ABORT_RULE;
pub use refusal::ConnectError;
pub use transport::CaBundle;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Which bucket, and how to talk to it.
#[derive(Clone, Debug)]
pub struct Options {
    pub bucket: String,
    /// Empty, or ending with `/` (one is added where it is missing).
    pub prefix: String,
    pub endpoint_url: Option<String>,
    pub region: Option<String>,
    pub profile: Option<String>,
    /// Where profiles and their keys are, instead of the usual file.
    pub credentials_file: Option<std::path::PathBuf>,
    /// Used instead of the chain of environment, profile and metadata services.
    pub keys: Option<Keys>,
    /// Ask without signing, for public buckets.
    pub no_sign_request: bool,
    /// A row of the dialect table, where the endpoint's host does not give the vendor away.
    pub provider: Option<String>,
    /// It is not a bucket but a vault of Glacier's.
    pub vault: Option<VaultOptions>,
    pub force_path_style: Option<bool>,
    pub amazon: Amazon,
    /// Trusted instead of the system's authorities.
    pub ca_bundle: Option<CaBundle>,
    pub auth: Auth,
    /// Capabilities that somebody knows better than the table.
    pub overrides: Vec<Override>,
    pub said: Said,
    pub limits: Limits,
    pub bandwidth: Bandwidth,
    /// Overrides the dialect's word on the checksum header.
    pub checksum: Option<bool>,
    /// Requests waiting for their answer at any one time. A download's body is not counted: a
    /// reader that pauses must not keep a writer from committing.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bucket: String::new(),
            prefix: String::new(),
            endpoint_url: None,
            region: None,
            profile: None,
            credentials_file: None,
            keys: None,
            no_sign_request: false,
            provider: None,
            vault: None,
            force_path_style: None,
            amazon: Amazon::default(),
            ca_bundle: None,
            auth: Auth::default(),
            overrides: Vec::new(),
            said: Said::default(),
            limits: Limits::default(),
            bandwidth: Bandwidth::default(),
            checksum: None,
            max_connections: 128,
        }
    }
}

/// Which of Amazon's endpoints, where no other is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amazon {
    /// Those that have IPv6 addresses as well.
    pub dual_stack: bool,
    /// Those whose cryptography is validated by FIPS 140.
    pub fips: bool,
    /// Transfer acceleration: the edge that is nearest.
    pub accelerate: bool,
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// AWS's Signature Version 4.
    #[default]
    SigV4,
    /// Tencent COS's own.
    Cos,
}

/// Which row of the table it is, and why.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub why: Why,
    pub facts: Facts,
    pub overrides: Vec<Override>,
}

/// Credentials given outright.
#[derive(Clone)]
pub struct Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Options get logged; secrets do not.
        f.write_str("Keys(..)")
    }
}

/// A bucket, or a part of one, behind an S3 API.
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: Prefix,
    capabilities: Capabilities,
    endpoint: Option<String>,
    chosen: Chosen,
    clock: clock::ServerClock,
    witness: witness::Witness,
    line: Line,
}

impl S3Store {
    /// Finds the bucket and checks that it can be listed. Answers within 15 seconds.
    pub async fn connect(mut options: Options) -> std::result::Result<S3Store, ConnectError> {
        let prefix = Prefix::new(&options.prefix);
        options.prefix = prefix.as_str().to_string();
        let found = connect::open(&options).await?;
        Ok(S3Store {
            line: Line::new(&options, found.keys),
            client: found.client,
            bucket: options.bucket,
            prefix,
            capabilities: found.capabilities,
            endpoint: found.endpoint,
            chosen: found.chosen,
            clock: found.clock,
            witness: found.witness,
        })
    }

    /// How its capabilities were found.
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    async fn call<T, U, E, F, Fut>(
        &self,
        op: Op,
        key: &str,
        patience: impl Into<Patience>,
        request: F,
        accept: impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        self.line.call(op, key, patience, request, accept).await
    }

    /// The time an attempt has that moves this many bytes.
    fn patience(&self, bytes: u64) -> Duration {
        self.line.limits.patience(bytes)
    }

    fn patience_to_send(&self, body: &Body) -> Patience {
        self.patience(body.len()).into()
    }

    /// Complete puts the object together before it answers: by the minute, for the largest.
    fn patience_to_complete(&self, parts: usize, size: u64) -> Duration {
        let steps = size / GIB + parts as u64 / 1000;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.line
            .limits
            .request_timeout
            .saturating_mul(steps.saturating_add(1))
    }

    fn full(&self, key: &str) -> String {
        self.prefix.full(key)
    }

    fn payload(&self, body: &Body) -> Payload {
        match self.capabilities.unsigned_payload {
            true => Payload::unsigned(),
            false => Payload::hashed(body),
        }
    }

    /// The checksum header's value, where the store takes one.
    fn checksum(&self, body: &Body) -> Option<String> {
        self.capabilities.crc64.then(|| encode_crc64(body.crc64()))
    }
}
