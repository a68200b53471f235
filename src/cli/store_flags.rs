//! The flags about the store, and what they say as the store's options and as the journal's identity.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Failure, arn, lasting_path, units};
use crate::journal::Identity;
use crate::store::glacier::VaultOptions;
use crate::store::s3::{
    Amazon, Auth, CaBundle, Options as StoreOptions, Said, address_of, capabilities,
};
use crate::store::{Bandwidth, Limits, Override, Store, Value};

#[derive(Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreArguments {
    /// Where the S3 service is, if it is not Amazon's [env: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The bucket's region [env: AWS_REGION]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// A profile of the AWS configuration files
    #[arg(long, value_name = "NAME", help_heading = "Credentials")]
    profile: Option<String>,
    /// A file of keys in AWS's form, instead of ~/.aws/credentials
    #[arg(long, value_name = "FILE", value_parser = lasting_path(), help_heading = "Credentials")]
    credentials_file: Option<PathBuf>,
    /// Do not sign requests: for public buckets
    #[arg(long, conflicts_with_all = ["profile", "credentials_file", "auth"], help_heading = "Credentials")]
    no_sign_request: bool,
    /// Whose store it is, if its address does not tell (garage, minio, ceph, r2…)
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// How requests are signed
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Signature::Sigv4, help_heading = "Credentials")]
    auth: Signature,
    /// What is known better than the table of providers has it, like conditional_writes=true,part_min=1M
    /// (`wholefs doctor` shows what is taken for true)
    #[arg(long, value_name = "NAME=VALUE,…", value_delimiter = ',', value_parser = capability)]
    capability: Vec<Override>,
    /// Put the bucket into the path (or into the host name: --path-style=false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    path_style: Option<bool>,
    /// The class of what is written (STANDARD_IA, INTELLIGENT_TIERING…)
    #[arg(long, value_name = "CLASS", value_parser = sendable, help_heading = "What is written")]
    storage_class: Option<String>,
    /// How the store encrypts what is written: AES256, aws:kms or aws:kms:dsse
    #[arg(long, value_name = "ALGORITHM", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"], help_heading = "What is written")]
    sse: Option<String>,
    /// With which key of the key service
    #[arg(
        long,
        value_name = "KEY",
        requires = "sse",
        value_parser = sendable,
        help_heading = "What is written"
    )]
    sse_kms_key_id: Option<String>,
    /// Who may read what is written, besides its owner (bucket-owner-full-control, public-read…)
    #[arg(long, value_name = "NAME", value_parser = sendable, help_heading = "What is written")]
    acl: Option<String>,
    /// Pay for the requests instead of the bucket's owner
    #[arg(long)]
    requester_pays: bool,
    /// Trust the authorities in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE", hide_env_values = true, value_parser = ca_bundle, help_heading = "Network")]
    ca_bundle: Option<CaBundle>,
    /// Amazon's endpoints with IPv6 addresses
    #[arg(long)]
    dual_stack: bool,
    /// Amazon's endpoints with validated cryptography (FIPS 140)
    #[arg(long)]
    fips: bool,
    /// Amazon's transfer acceleration
    #[arg(long, conflicts_with = "fips")]
    accelerate: bool,
    /// Bytes a second for what files hold, of all together: 10M, or UP:DOWN (5M:20M, 1M:off)
    #[arg(long, value_name = "RATE", default_value = "off", value_parser = units::bandwidth, help_heading = "Network")]
    bandwidth_limit: Bandwidth,
    /// How long one request may take, and as long again for each MiB that it carries
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, help_heading = "Network")]
    request_timeout: Duration,
    /// How often a request is tried
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Network")]
    pub attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Signature {
    /// AWS's Signature Version 4
    Sigv4,
    /// Tencent COS's own (q-sign-algorithm=sha1)
    Cos,
}

/// `name=value`.
fn capability(text: &str) -> Result<Override, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let (name, kind) = Override::known(name.trim())?;
    let value = match (kind, value.trim()) {
        (Value::Flag(_), "true") => Value::Flag(true),
        (Value::Flag(_), "false") => Value::Flag(false),
        (Value::Flag(_), _) => return Err(format!("{name} is true or false: {name}=true")),
        (Value::Number(_), number) => Value::Number(units::size(number)?),
    };
    Ok(Override { name, value })
}

impl StoreArguments {
    /// The options for one bucket and prefix.
    pub(super) fn options(&self, bucket: String, prefix: String) -> Result<StoreOptions, Failure> {
        self.options_at(self.endpoint(S3_ENDPOINT), bucket, prefix)
    }

    fn options_at(
        &self,
        endpoint: Option<String>,
        bucket: String,
        prefix: String,
    ) -> Result<StoreOptions, Failure> {
        if self.request_timeout.is_zero() {
            return Err(Failure::usage(
                "--request-timeout 0 leaves no time for an answer: give at least 100ms",
            ));
        }
        if let Some(file) = &self.credentials_file {
            File::open(file).map_err(|error| {
                format!(
                    "the credentials file {} cannot be read: {error}",
                    file.display()
                )
            })?;
        }
        if let Some(endpoint) = endpoint.as_deref().filter(|url| url.contains(['?', '#'])) {
            return Err(Failure::usage(format!(
                "{endpoint:?} is not an endpoint: leave out what begins with ? or #"
            )));
        }
        if self.sse_kms_key_id.is_some() && self.sse.as_deref() == Some("AES256") {
            return Err(Failure::usage(
                "--sse-kms-key-id is a key of the key service, and AES256 does without: say --sse aws:kms, or leave the key out",
            ));
        }
        capabilities(self.provider.as_deref(), endpoint.as_deref(), &bucket)
            .map_err(Failure::usage)?;
        Ok(StoreOptions {
            bucket,
            prefix,
            endpoint_url: endpoint,
            region: self.region.clone(),
            profile: self.profile.clone(),
            no_sign_request: self.no_sign_request,
            provider: self.provider.clone(),
            force_path_style: self.path_style,
            auth: match self.auth {
                Signature::Sigv4 => Auth::SigV4,
                Signature::Cos => Auth::Cos,
            },
            overrides: self.capability.clone(),
            limits: Limits {
                request_timeout: self.request_timeout,
                attempts: self.attempts,
            },
            credentials_file: self.credentials_file.clone(),
            ca_bundle: self.ca_bundle.clone(),
            amazon: Amazon {
                dual_stack: self.dual_stack,
                fips: self.fips,
                accelerate: self.accelerate,
            },
            bandwidth: self.bandwidth_limit,
            said: Said {
                storage_class: self.storage_class.clone(),
                encryption: self.sse.clone(),
                kms_key: self.sse_kms_key_id.clone(),
                acl: self.acl.clone(),
                requester_pays: self.requester_pays,
            },
            ..StoreOptions::default()
        })
    }

    pub(super) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The options for what is to be looked at: a bucket, or a vault whose catalogue is below `state`.
    pub(super) fn options_to_look(
        &self,
        source: &str,
        state: &Path,
    ) -> Result<StoreOptions, Failure> {
        match source.strip_prefix(VAULT_SCHEME) {
            Some(vault) => self.vault(vault, state, PART_SIZE_OF_VAULTS, true),
            None => self.options_for(source, state),
        }
    }

    /// The options for what is to be mounted: a bucket, or a vault whose catalogue is below `state`.
    pub(super) fn options_for(&self, source: &str, state: &Path) -> Result<StoreOptions, Failure> {
        match source.strip_prefix(VAULT_SCHEME) {
            Some(vault) => self.vault(vault, state, PART_SIZE_OF_VAULTS, false),
            None => {
                let (bucket, prefix) = parse_source(source).map_err(Failure::usage)?;
                self.options(bucket, prefix)
            }
        }
    }

    /// `look_only`: its catalogue may be somebody else's to write.
    pub(super) fn vault(
        &self,
        vault: &str,
        state: &Path,
        part_size: u64,
        look_only: bool,
    ) -> Result<StoreOptions, Failure> {
        if self.no_sign_request {
            return Err(Failure::usage("a vault answers signed requests only"));
        }
        if let Some(flag) = self.of_buckets() {
            return Err(Failure::usage(format!(
                "{flag} is for buckets, and {VAULT_SCHEME}{vault} is a vault: leave it out"
            )));
        }
        self.vault_known(vault, state, part_size, look_only)
    }

    /// What was said that a vault has no use for.
    fn of_buckets(&self) -> Option<&'static str> {
        let said = [
            ("--provider", self.provider.is_some()),
            ("--auth", self.auth != Signature::Sigv4),
            ("--capability", !self.capability.is_empty()),
            ("--path-style", self.path_style.is_some()),
            ("--storage-class", self.storage_class.is_some()),
            ("--sse", self.sse.is_some()),
            ("--acl", self.acl.is_some()),
            ("--requester-pays", self.requester_pays),
            ("--dual-stack", self.dual_stack),
            ("--fips", self.fips),
            ("--accelerate", self.accelerate),
        ];
        let mut those = said.iter().filter(|(_, is_said)| *is_said);
        those.next().map(|(flag, _)| *flag)
    }

    /// Other stores may be meant by the flags, too.
    fn vault_known(
        &self,
        vault: &str,
        state: &Path,
        part_size: u64,
        look_only: bool,
    ) -> Result<StoreOptions, Failure> {
        let vault = vault.strip_suffix('/').unwrap_or(vault);
        if vault.contains(['/', ',']) || vault.is_empty() {
            return Err(Failure::usage(format!(
                "{vault:?} is not a vault: write {VAULT_SCHEME}VAULT (it is mounted as a whole)"
            )));
        }
        let endpoint = self.endpoint(VAULT_ENDPOINT);
        let mut options = self.options_at(endpoint, vault.to_string(), String::new())?;
        options.vault = Some(VaultOptions {
            state: state.to_path_buf(),
            part_size,
            look_only,
        });
        Ok(options)
    }

    /// Of a vault, as far as it is said.
    pub(super) fn endpoint_of_vaults(&self) -> Option<String> {
        self.said_endpoint(VAULT_ENDPOINT)
    }

    /// By the flag, or by the environment: the service's own variable before that of all services.
    fn said_endpoint(&self, own: &str) -> Option<String> {
        let flag = self.endpoint_url.clone();
        flag.or_else(|| variable(own))
            .or_else(|| variable("AWS_ENDPOINT_URL"))
    }

    /// As said, or where the provider is in the region given: journals know a store by it, so that a bucket
    /// of one is never taken for that of another.
    fn endpoint(&self, own: &str) -> Option<String> {
        let said = self.said_endpoint(own);
        let (None, Some(provider)) = (&said, &self.provider) else {
            return said;
        };
        let region = self.region.clone();
        let region = region
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        // A profile may name the endpoint; if nothing does, connecting says so.
        address_of(provider, region.as_deref()).ok().flatten()
    }

    /// The options for the store that a journal names, as far as nothing else was said.
    pub(super) fn options_of(
        &self,
        identity: &Identity,
        state: &Path,
    ) -> Result<StoreOptions, Failure> {
        let theirs = identity.endpoint.as_deref();
        if let Some(said) = &self.endpoint_url
            && Some(said.trim_end_matches('/')) != theirs
        {
            return Err(Failure::from(format!(
                "{}: its uploads are at {}, as its journal says, and not at {said}: leave --endpoint-url out",
                identity.bucket,
                theirs.unwrap_or("Amazon's own address"),
            )));
        }
        let mut options = match identity.is_vault() {
            true => self.vault_known(&identity.bucket, state, PART_SIZE_OF_VAULTS, false)?,
            false => self.options(identity.bucket.clone(), identity.prefix.clone())?,
        };
        options.endpoint_url = identity.endpoint.clone();
        let known = |text: &String| (!text.is_empty()).then(|| text.clone());
        options.region = options.region.or_else(|| known(&identity.region));
        if !identity.is_vault() {
            options.provider = options.provider.or_else(|| known(&identity.provider));
        }
        Ok(options)
    }
}

const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";
const VAULT_ENDPOINT: &str = "AWS_ENDPOINT_URL_GLACIER";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What goes to the store as a header.
fn sendable(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "{text:?} has nothing, or what no request can say: name it in plain ASCII"
        )),
    }
}

fn ca_bundle(file: &str) -> Result<CaBundle, String> {
    CaBundle::read(file.as_ref())
}

/// How a journal names the store its uploads are in.
pub(super) fn identity(options: &StoreOptions, store: &dyn Store) -> Identity {
    Identity {
        // From a flag, the environment or a profile: of one name there is a bucket at each service.
        endpoint: (options.endpoint_url.as_deref())
            .or(store.endpoint())
            .map(|url| url.trim_end_matches('/').to_string()),
        region: match store.region() {
            Some(region) => region.to_string(),
            None => options.region.clone().unwrap_or_default(),
        },
        provider: store.capabilities().name.to_string(),
        bucket: options.bucket.clone(),
        prefix: options.prefix.clone(),
    }
}

pub(super) const BUCKET_SCHEME: &str = "s3://";
pub(super) const VAULT_SCHEME: &str = "glacier://";

/// Where no file is written, it does not matter.
pub(super) const PART_SIZE_OF_VAULTS: u64 = 8 << 20;

/// A prefix as long as the longest keys would leave no room for a name.
const LONGEST_PREFIX: usize = 1000;

/// `s3://bucket/prefix` into its halves.
pub(super) fn parse_source(source: &str) -> Result<(String, String), String> {
    let rest = source.strip_prefix("s3://").ok_or_else(|| {
        format!("{source:?} is not something to mount: write s3://BUCKET or s3://BUCKET/PREFIX")
    })?;
    let (bucket, prefix) = match arn::split(rest) {
        Some(point) => point?,
        None => rest.split_once('/').unwrap_or((rest, "")),
    };
    if bucket.is_empty() {
        return Err(format!(
            "{source:?} names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX"
        ));
    }
    if source.contains(|c: char| c.is_control()) {
        return Err(format!(
            "{source:?} cannot be mounted: it has a control character"
        ));
    }
    let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
    let bad = |component: &str| component.is_empty() || component == "." || component == "..";
    if !trimmed.is_empty() && trimmed.split('/').any(bad) {
        return Err(format!(
            "the prefix {prefix:?} cannot be a directory: it has an empty, '.' or '..' component"
        ));
    }
    if prefix == "/" {
        return Err(format!(
            "the prefix {prefix:?} cannot be a directory: leave it out"
        ));
    }
    if trimmed.len() > LONGEST_PREFIX {
        return Err(format!(
            "the prefix is {} bytes long, and keys have at most {LONGEST_PREFIX}: shorten it",
            trimmed.len()
        ));
    }
    if source.contains(',') {
        return Err(format!(
            "{source:?} cannot be mounted: a comma in the source would be read as mount options"
        ));
    }
    Ok((bucket.to_string(), trimmed.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_a_word_and_a_value() {
        let value = |text| capability(text).map(|found| found.to_string());
        assert_eq!(value("list_v2=false"), Ok("list_v2=false".to_string()));
        assert_eq!(value("part_min=1M"), Ok("part_min=1048576".to_string()));
        for (bad, told) in [
            ("listv2=false", "did you mean \"list_v2\""),
            ("list_v2=maybe", "true or false"),
            ("list_v2", "true or false"),
            ("part_min=", "size"),
            ("", "unknown capability"),
        ] {
            let error = value(bad).expect_err(bad);
            assert!(error.contains(told), "{bad}: {error}");
        }
    }

    #[test]
    fn a_source_is_a_bucket_and_perhaps_a_prefix() {
        let parts = |b: &str, p: &str| Ok((b.to_string(), p.to_string()));
        assert_eq!(parse_source("s3://b"), parts("b", ""));
        assert_eq!(parse_source("s3://b/"), parts("b", ""));
        assert_eq!(parse_source("s3://b/a/c"), parts("b", "a/c"));
        assert_eq!(parse_source("s3://b/a/c/"), parts("b", "a/c"));
        for bad in [
            "",
            "b",
            "s3://",
            "s3:///x",
            "s3://b//",
            "s3://b/a//c",
            "s3://b/../c",
            "s3://b/./",
            "s3://b/a,b",
            "/dev/sda",
        ] {
            assert!(parse_source(bad).is_err(), "{bad}");
        }
    }
}
