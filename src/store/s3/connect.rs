//! Finding the bucket: credentials, region, endpoint, and the check at mount.
//!
//! Invariants:
//! - [`open`] answers within [`DEADLINE`], whatever a network or a metadata service does.
//! - What cannot work fails here, at mount, with one line that names the thing and the remedy.
//! - No secret gets into a message; an endpoint's user part is cut off before it is shown.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, IdentityCache, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::types::EncodingType;

use super::choice::{self, Why, host, region_in_host};
use super::classify::{Broken, Op, Seen, deepest, kind_of_answer, one_line, see};
use super::clock::ServerClock;
use super::cos::{CosAnswers, CosSigner};
use super::dates::Dates;
use super::ranges::Ranges;
use super::refusal::{ConnectError, Refusal};
use super::renewal::{self, Renewing};
use super::transport::{self, Proxies};
use super::whole::Whole;
use super::witness::Witness;
use super::{Amazon, Auth, Chosen, Options};
use crate::store::{Capabilities, ErrorKind};

/// The whole of connecting, whatever happens.
pub(in crate::store) const DEADLINE: Duration = Duration::from_secs(15);
/// How soon a metadata service answers.
const IMDS: Duration = Duration::from_secs(1);
/// One try of the check. Two fit, and the pause between.
pub(in crate::store) const CHECK: Duration = Duration::from_secs(6);
const CONNECT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
pub(in crate::store) const DEFAULT_REGION: &str = "us-east-1";

/// A bucket found: what the store is made of.
pub(super) struct Found {
    pub client: Client,
    pub capabilities: Capabilities,
    /// As it was given, or found.
    pub endpoint: Option<String>,
    pub chosen: Chosen,
    pub clock: ServerClock,
    pub witness: Witness,
    /// None are needed where nothing is signed.
    pub keys: Option<Arc<Renewing>>,
}

/// Loads credentials, finds the region and asks the bucket for one key.
pub(super) async fn open(options: &Options) -> Result<Found, ConnectError> {
    // Told when time runs out, so that the message can say what took it.
    let mut endpoint = None;
    match tokio::time::timeout(DEADLINE, search(options, &mut endpoint)).await {
        Ok(found) => found,
        Err(_) => Err(ConnectError::Unreachable {
            endpoint: endpoint.unwrap_or_else(|| "the credentials' source".to_string()),
            reason: format!("no answer within {} s", DEADLINE.as_secs()),
            remedy: "check the network, and the endpoint's address".to_string(),
        }),
    }
}

async fn search(options: &Options, shown: &mut Option<String>) -> Result<Found, ConnectError> {
    let is_arn = options.bucket.starts_with("arn:");
    if options.bucket.is_empty() || (options.bucket.contains('/') && !is_arn) {
        let message = format!(
            "{:?} is not a bucket name: give it without slashes",
            options.bucket
        );
        return Err(ConnectError::Options(message));
    }
    let proxies = Proxies::of_environment().map_err(ConnectError::Options)?;
    let keys = match options.no_sign_request {
        true => None,
        false => Some(Arc::new(Renewing::new(options, &proxies).await)),
    };
    let config = load(options, &proxies, keys.clone()).await?;
    let endpoint = endpoint(options, &config, "AWS_ENDPOINT_URL_S3")?;
    if endpoint.is_some() && options.amazon != Amazon::default() {
        return Err(ConnectError::Options(
            "--dual-stack, --fips and --accelerate choose among Amazon's own endpoints, and another one was named: leave them out, or the endpoint".to_string(),
        ));
    }
    let provider = options.provider.as_deref();
    let (row, mut why) = choice::choose(provider, endpoint.as_deref(), &options.bucket)
        .map_err(ConnectError::Options)?;
    let endpoint = match endpoint {
        // The program has looked already, so that its journal knows the address: it says why there is none.
        None if why == Why::Named => {
            choice::address(row, options.region.as_deref()).map_err(ConnectError::Options)?
        }
        endpoint => endpoint,
    };
    let address = endpoint.clone();
    if !row.auth.contains(&options.auth) {
        return Err(ConnectError::Options(format!(
            "--auth cos is Tencent COS's own signature, and the provider is {}: leave it out, or say --provider cos",
            row.capabilities.name
        )));
    }
    let (mut capabilities, mut facts) = (row.capabilities.clone(), row.facts);
    if let Some(path_style) = options.force_path_style {
        let is_address = endpoint
            .as_deref()
            .is_some_and(|url| host(url).parse::<std::net::IpAddr>().is_ok());
        if is_address && !path_style {
            return Err(ConnectError::Options(
                "the endpoint is an IP address, and no bucket can be put in front of that: use a host name, or path style".to_string(),
            ));
        }
        capabilities.virtual_host = !path_style;
    }
    if let Some(checksum) = options.checksum {
        capabilities.crc64 = checksum;
    }
    let known = |capabilities: &mut Capabilities| {
        let done = capabilities.override_with(&options.overrides);
        done.map_err(ConnectError::Options)
    };
    known(&mut capabilities)?;
    // An access point has a host name of its own, and no path.
    capabilities.virtual_host |= is_arn;
    let endpoint = endpoint.map(|e| without_bucket(&e, &options.bucket, capabilities.virtual_host));
    let mut region = choice::signed_for(row, &region(options, endpoint.as_deref()).await?);
    let mut check = Check {
        options,
        virtual_host: capabilities.virtual_host,
        list_v2: capabilities.list_v2,
        config: &config,
        proxies: &proxies,
        endpoint: endpoint.as_deref(),
        shown: endpoint
            .as_deref()
            .map_or_else(|| "Amazon S3".to_string(), presentable),
        clock: ServerClock::default(),
        witness: Witness::default(),
    };
    *shown = Some(check.shown.clone());
    if let Some(provider) = config.credentials_provider() {
        credentials(options, &provider).await?;
    }
    let mut answer = check.run(&region).await;
    if let Err(ConnectError::WrongRegion { actual, .. }) = &answer
        && options.region.is_none()
    {
        tracing::info!(
            from = region,
            to = actual,
            "the bucket names another region: using it"
        );
        region.clone_from(actual);
        answer = check.run(&region).await;
    }
    if why == Why::NothingTells
        && let Some((row, header)) = check.witness.seen()
    {
        tracing::debug!(provider = row.capabilities.name, header, "the answer tells");
        capabilities = choice::as_answered(row, check.virtual_host);
        (why, facts) = (Why::Answer(header), row.facts);
        if let Some(checksum) = options.checksum {
            capabilities.crc64 = checksum;
        }
        known(&mut capabilities)?;
        if answer.is_err() && capabilities.list_v2 != check.list_v2 {
            check.list_v2 = capabilities.list_v2;
            answer = check.run(&region).await;
        }
    }
    Ok(Found {
        client: answer?,
        capabilities,
        keys,
        endpoint: address,
        chosen: Chosen {
            why,
            facts,
            overrides: options.overrides.clone(),
        },
        clock: check.clock.clone(),
        witness: check.witness.clone(),
    })
}

/// What the environment and the profile say, without asking a metadata service for a region.
pub(in crate::store) async fn load(
    options: &Options,
    proxies: &Proxies,
    keys: Option<Arc<Renewing>>,
) -> Result<SdkConfig, ConnectError> {
    let http_client = transport::to_credentials(options.ca_bundle.as_ref(), proxies);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // The region is found by `region`; here it only keeps the loader from searching for one.
        .region(Region::new(
            options
                .region
                .clone()
                .unwrap_or_else(|| DEFAULT_REGION.to_string()),
        ))
        .http_client(http_client)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        // They are kept by `Renewing`, which knows when they are refused.
        .identity_cache(IdentityCache::no_cache())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    loader = match keys {
        None => loader.no_credentials(),
        Some(keys) => {
            let keys: Arc<dyn ProvideCredentials> = keys;
            loader.credentials_provider(SharedCredentialsProvider::new(keys))
        }
    };
    Ok(loader.load().await)
}

/// The keys given; or the chain; or the profile alone where one was asked for by name: it wins over the environment.
pub(super) async fn provider(
    options: &Options,
    surroundings: ProviderConfig,
) -> SharedCredentialsProvider {
    if let Some(keys) = &options.keys {
        return SharedCredentialsProvider::new(Credentials::new(
            &keys.access_key_id,
            &keys.secret_access_key,
            keys.session_token.clone(),
            None,
            "wholefs",
        ));
    }
    if options.profile.is_some() || options.credentials_file.is_some() {
        let mut provider = ProfileFileCredentialsProvider::builder().configure(&surroundings);
        if let Some(profile) = &options.profile {
            provider = provider.profile_name(profile);
        }
        if let Some(file) = &options.credentials_file {
            let files = EnvConfigFiles::builder()
                .with_file(EnvConfigFileKind::Credentials, file)
                .include_default_config_file(true);
            provider = provider.profile_files(files.build());
        }
        return SharedCredentialsProvider::new(provider.build());
    }
    let imds = aws_config::imds::Client::builder()
        .configure(&surroundings)
        .connect_timeout(IMDS)
        .read_timeout(IMDS)
        .max_attempts(2)
        .build();
    let chain = aws_config::default_provider::credentials::DefaultCredentialsChain::builder()
        .configure(surroundings)
        .imds_client(imds)
        .region(region_chain(options));
    SharedCredentialsProvider::new(chain.build().await)
}

fn has_half_a_key() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("AWS_ACCESS_KEY_ID") && !is_set("AWS_SECRET_ACCESS_KEY")
}

/// Asked once before anything else, so that "no credentials" is told apart from "denied".
pub(in crate::store) async fn credentials(
    options: &Options,
    provider: &SharedCredentialsProvider,
) -> Result<(), ConnectError> {
    let reason = match provider.provide_credentials().await {
        Ok(keys) if renewal::are_sendable(&keys) => return Ok(()),
        Ok(_) => renewal::UNSENDABLE.to_string(),
        Err(CredentialsError::ProviderTimedOut(_)) => format!(
            "their source did not answer within {} s",
            renewal::PATIENCE.as_secs()
        ),
        Err(CredentialsError::CredentialsNotLoaded(_)) if options.credentials_file.is_some() => {
            "it is not there, or says nothing of keys".to_string()
        }
        Err(CredentialsError::CredentialsNotLoaded(_)) if options.profile.is_some() => {
            "it is not in ~/.aws/config or ~/.aws/credentials, or says nothing of keys".to_string()
        }
        Err(_) if options.profile.is_none() && has_half_a_key() => {
            "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not".to_string()
        }
        Err(error) => match deepest(&error) {
            reason if reason.is_empty() => one_line(&error.to_string()),
            reason => reason,
        },
    };
    let reason = match (&options.profile, &options.credentials_file) {
        (None, None) => reason,
        (Some(profile), None) => format!("profile {profile:?}: {reason}"),
        (None, Some(file)) => format!("{}: {reason}", file.display()),
        (Some(profile), Some(file)) => {
            format!("profile {profile:?} of {}: {reason}", file.display())
        }
    };
    Err(ConnectError::NoCredentials {
        bucket: options.bucket.clone(),
        reason,
    })
}

fn region_chain(options: &Options) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    let region = options
        .region
        .clone()
        .or_else(|| region_in_arn(&options.bucket));
    RegionProviderChain::first_try(region.map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

/// `arn:PARTITION:s3:REGION:ACCOUNT:…`
fn region_in_arn(bucket: &str) -> Option<String> {
    let region = bucket.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_string())
}

/// As given; as the endpoint's host says; as environment or profile say; else the default, which
/// the bucket corrects.
pub(in crate::store) async fn region(
    options: &Options,
    endpoint: Option<&str>,
) -> Result<String, ConnectError> {
    let said = options.region.clone();
    let region = match said.or_else(|| endpoint.and_then(region_in_host)) {
        Some(region) => region,
        None => match region_chain(options).region().await {
            Some(region) => region.to_string(),
            None => DEFAULT_REGION.to_string(),
        },
    };
    // It goes into a header of each request.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match region.chars().all(is_name) {
        true => Ok(region),
        false => Err(ConnectError::Options(format!(
            "{region:?} is no region: look at --region, AWS_REGION and the profile"
        ))),
    }
}

/// `own`: the variable of the environment that names the service's endpoint.
pub(in crate::store) fn endpoint(
    options: &Options,
    config: &SdkConfig,
    own: &str,
) -> Result<Option<String>, ConnectError> {
    let environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = options
        .endpoint_url
        .clone()
        .or_else(|| environment(own))
        .or_else(|| config.endpoint_url().map(str::to_string));
    if let Some(url) = &endpoint {
        let known = url.starts_with("http://") || url.starts_with("https://");
        if !known || host(url).is_empty() || url.contains(|c: char| c.is_whitespace()) {
            return Err(ConnectError::Options(format!(
                "{:?} is not an endpoint: write it as http://host:port or https://host",
                presentable(url)
            )));
        }
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = &authority[..authority.find('/').unwrap_or(authority.len())];
        if authority.contains('@') {
            return Err(ConnectError::Options(format!(
                "the endpoint {:?} was given with a user in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile, instead",
                presentable(url)
            )));
        }
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let is_port = |port: &str| port.ends_with(']') || port.parse::<u16>().is_ok();
        if port.is_some_and(|port| !is_port(port)) {
            return Err(ConnectError::Options(format!(
                "{:?} is not an endpoint: its port is not a number up to 65535",
                presentable(url)
            )));
        }
    }
    Ok(endpoint.map(|url| url.trim_end_matches('/').to_string()))
}

/// The SDK puts the bucket right behind a path.
fn with_path_ended(endpoint: &str) -> String {
    let has_path = endpoint
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('/'));
    match has_path {
        true => format!("{endpoint}/"),
        false => endpoint.to_string(),
    }
}

/// Vendors show their endpoints with the bucket in front; the SDK puts it there itself.
fn without_bucket(endpoint: &str, bucket: &str, virtual_host: bool) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) if virtual_host => {
            let rest = rest.strip_prefix(&format!("{bucket}.")).unwrap_or(rest);
            format!("{scheme}://{rest}")
        }
        _ => endpoint.to_string(),
    }
}

/// An endpoint fit to be shown: without a user and a password.
pub(in crate::store) fn presentable(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let authority = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            one_line(&format!("{scheme}://{authority}{path}"))
        }
        None => one_line(endpoint.rsplit('@').next().unwrap_or_default()),
    }
}

/// The question at mount: one key, please.
struct Check<'a> {
    options: &'a Options,
    virtual_host: bool,
    list_v2: bool,
    config: &'a SdkConfig,
    proxies: &'a Proxies,
    endpoint: Option<&'a str>,
    /// The endpoint as messages show it.
    shown: String,
    clock: ServerClock,
    witness: Witness,
}

impl Check<'_> {
    async fn run(&mut self, region: &str) -> Result<Client, ConnectError> {
        let client = self.client(region);
        let mut last_try = false;
        loop {
            let seen = match tokio::time::timeout(CHECK, self.ask(&client)).await {
                Ok(Ok(())) => return Ok(client),
                Ok(Err(seen)) => seen,
                Err(_) => Seen::Broken(
                    Broken::Afterwards,
                    "Timeout",
                    format!("no answer within {} s", CHECK.as_secs()),
                ),
            };
            // A store in trouble for a moment is worth a second question, a closed port is not.
            let passing = match &seen {
                Seen::Answer(a) => {
                    matches!(
                        kind_of_answer(Op::LIST, a.status, &a.code),
                        ErrorKind::Throttled | ErrorKind::Transient
                    ) && a.speaks_s3
                        && a.elsewhere().is_none()
                }
                Seen::Broken(broken, ..) => *broken == Broken::Afterwards,
                _ => false,
            };
            if last_try || !passing {
                return Err(self.refusal(region).explain(seen, region));
            }
            last_try = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refusal(&self, region: &str) -> Refusal<'_> {
        let amazon = format!("https://s3.{region}.amazonaws.com");
        Refusal {
            bucket: &self.options.bucket,
            endpoint: &self.shown,
            endpoint_was_given: self.endpoint.is_some(),
            proxy: self.proxies.between(self.endpoint.unwrap_or(&amazon)),
            tls: self.is_tls(),
            own_authority: self.options.ca_bundle.is_some(),
            unsigned: self.options.no_sign_request,
        }
    }

    fn is_tls(&self) -> bool {
        self.endpoint.is_none_or(|e| e.starts_with("https:"))
    }

    fn client(&self, region: &str) -> Client {
        let ca = self.options.ca_bundle.as_ref();
        let amazon = self.options.amazon;
        let mut config = aws_sdk_s3::config::Builder::from(self.config)
            .http_client(transport::to_store(ca, self.proxies, self.is_tls()))
            .region(Region::new(region.to_string()))
            .force_path_style(!self.virtual_host)
            .interceptor(self.clock.clone())
            .interceptor(self.witness.clone())
            .interceptor(Dates)
            .interceptor(Ranges)
            .interceptor(Whole)
            .interceptor(self.options.said.clone());
        if let Some(endpoint) = self.endpoint {
            config = config.endpoint_url(with_path_ended(endpoint));
        }
        // What the environment or the profile says holds where no flag does.
        if amazon.dual_stack {
            config = config.use_dual_stack(true);
        }
        if amazon.fips {
            config = config.use_fips(true);
        }
        if amazon.accelerate {
            config = config.accelerate(true);
        }
        if self.options.auth == Auth::Cos {
            config = config
                .push_auth_scheme(CosSigner(self.clock.clone()))
                .interceptor(CosAnswers);
        }
        if self.options.no_sign_request {
            config = config.allow_no_auth();
        }
        Client::from_conf(config.build())
    }

    async fn ask(&self, client: &Client) -> Result<(), Seen> {
        let (bucket, prefix) = (&self.options.bucket, &self.options.prefix);
        if self.list_v2 {
            let ask = client
                .list_objects_v2()
                .bucket(bucket)
                .prefix(prefix)
                // A key may hold what XML cannot.
                .encoding_type(EncodingType::Url)
                .max_keys(1);
            ask.send().await.map(drop).map_err(|e| see(&e))
        } else {
            let ask = client
                .list_objects()
                .bucket(bucket)
                .prefix(prefix)
                // A key may hold what XML cannot.
                .encoding_type(EncodingType::Url)
                .max_keys(1);
            ask.send().await.map(drop).map_err(|e| see(&e))
        }
    }
}

#[cfg(test)]
mod published;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_shown_without_secrets() {
        assert_eq!(
            presentable("https://me:secret@host:9000/p"),
            "https://host:9000/p"
        );
        assert_eq!(presentable("me:secret@host"), "host");
        assert_eq!(presentable("http://host"), "http://host");
    }

    #[test]
    fn a_bucket_in_the_endpoint_is_not_doubled() {
        let url = "https://b-1.cos.ap-x.myqcloud.com";
        assert_eq!(
            without_bucket(url, "b-1", true),
            "https://cos.ap-x.myqcloud.com"
        );
        assert_eq!(without_bucket(url, "b-1", false), url);
        assert_eq!(without_bucket("http://h", "b", true), "http://h");
    }
}
