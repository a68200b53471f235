//! Finding the vault: what it shares with a bucket (credentials, region, endpoint), and the check at mount.

use std::sync::Arc;

use aws_sdk_glacier::Client;
use aws_sdk_glacier::config::Region;

use crate::store::ErrorKind;
use crate::store::s3::classify::{Broken, Op, Seen, kind_of_answer, see};
use crate::store::s3::connect::{
    CHECK, DEADLINE, credentials, endpoint, load, presentable, region,
};
use crate::store::s3::renewal::Renewing;
use crate::store::s3::transport::{self, Proxies};
use crate::store::s3::{ConnectError, Options};

use super::names::VaultName;

/// A vault found.
pub(super) struct Found {
    pub client: Client,
    pub keys: Arc<Renewing>,
    pub name: VaultName,
}

/// Loads credentials, finds the region and has the vault described.
pub(super) async fn find(options: &Options) -> Result<Found, ConnectError> {
    match tokio::time::timeout(DEADLINE, search(options)).await {
        Ok(found) => found,
        Err(_) => Err(ConnectError::Unreachable {
            endpoint: "Amazon S3 Glacier".to_string(),
            reason: format!("no answer within {} s", DEADLINE.as_secs()),
            remedy: "check the network, the region, and the endpoint's address".to_string(),
        }),
    }
}

async fn search(options: &Options) -> Result<Found, ConnectError> {
    let vault = &options.bucket;
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if vault.is_empty() || vault.len() > 255 || !vault.chars().all(fits) {
        return Err(ConnectError::Options(format!(
            "{vault:?} is not a vault's name: letters, digits, '_', '-' and '.' make one"
        )));
    }
    let proxies = Proxies::of_environment().map_err(ConnectError::Options)?;
    let keys = Arc::new(Renewing::new(options, &proxies).await);
    let config = load(options, &proxies, Some(keys.clone())).await?;
    let endpoint = endpoint(options, &config, "AWS_ENDPOINT_URL_GLACIER")?;
    let region = region(options, endpoint.as_deref()).await?;
    let shown = endpoint
        .as_deref()
        .map_or_else(|| format!("Amazon S3 Glacier in {region}"), presentable);
    if let Some(provider) = config.credentials_provider() {
        credentials(options, &provider).await?;
    }
    let tls = endpoint
        .as_deref()
        .is_none_or(|url| url.starts_with("https:"));
    let http_client = transport::to_store(options.ca_bundle.as_ref(), &proxies, tls);
    let mut config = aws_sdk_glacier::config::Builder::from(&config)
        .http_client(http_client)
        .region(Region::new(region.clone()));
    if let Some(endpoint) = &endpoint {
        config = config.endpoint_url(endpoint);
    }
    let client = Client::from_conf(config.build());
    let ask = client.describe_vault().account_id("-").vault_name(vault);
    let seen = match tokio::time::timeout(CHECK, ask.send()).await {
        Ok(Ok(described)) => {
            let arn = described.vault_arn().unwrap_or_default();
            let name = VaultName {
                endpoint,
                account: account_of(arn),
                region,
                vault: vault.clone(),
            };
            return Ok(Found { client, keys, name });
        }
        Ok(Err(error)) => see(&error),
        Err(_) => Seen::Broken(
            Broken::Afterwards,
            "Timeout",
            format!("no answer within {} s", CHECK.as_secs()),
        ),
    };
    Err(explain(seen, vault, shown))
}

/// `arn:aws:glacier:REGION:ACCOUNT:vaults/NAME`
fn account_of(arn: &str) -> String {
    arn.split(':').nth(4).unwrap_or_default().to_string()
}

fn explain(seen: Seen, vault: &str, endpoint: String) -> ConnectError {
    let vault = vault.to_string();
    match seen {
        Seen::Answer(answer) => {
            let said = match answer.code.as_str() {
                "" => format!("HTTP {}", answer.status),
                code => code.to_string(),
            };
            match kind_of_answer(Op::LIST, answer.status, &answer.code) {
                ErrorKind::Missing => ConnectError::Options(format!(
                    "vault {vault:?} does not exist at {endpoint}: check its name and the region, or create it first"
                )),
                ErrorKind::Denied => ConnectError::Denied {
                    bucket: vault,
                    endpoint,
                    code: said,
                    remedy: "check the keys, and that they may glacier:DescribeVault".to_string(),
                },
                _ => ConnectError::Other {
                    bucket: vault,
                    endpoint,
                    reason: format!("{said} {}", answer.message),
                },
            }
        }
        Seen::Credentials { message, .. } => ConnectError::NoCredentials {
            bucket: vault,
            reason: message,
        },
        Seen::Unbuildable(reason) => ConnectError::Other {
            bucket: vault,
            endpoint,
            reason,
        },
        Seen::Broken(_, code, message) => ConnectError::Unreachable {
            endpoint,
            reason: format!("{code}: {message}"),
            remedy: "check the endpoint's address, and the network".to_string(),
        },
    }
}
