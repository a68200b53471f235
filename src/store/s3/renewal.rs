//! The keys of a mount, renewed while it runs: their source is asked again shortly before they expire, and when
//! the store refuses them (somebody may have put others into the file they came from).
//!
//! Invariants:
//! - One asking at a time, each within [`PATIENCE`]; for refused keys no two within a second, and with growing
//!   pauses as long as nothing new comes of it.
//! - A source that fails takes nothing away: the store is the judge of the keys at hand.

use std::time::{Duration, Instant, SystemTime};

use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::Credentials;
use tokio::sync::Mutex;

use super::Options;
use super::connect::provider;
use super::transport::{self, Proxies};

/// Files and processes answer at once or never; a metadata service within a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);
/// So long before they expire keys are renewed: a request takes its time to arrive.
const MARGIN: Duration = Duration::from_secs(10);
/// The pause after an asking, doubled by each that was in vain, up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

#[derive(Debug)]
pub(in crate::store) struct Renewing {
    options: Options,
    surroundings: ProviderConfig,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    source: SharedCredentialsProvider,
    keys: Option<Credentials>,
    asked: Option<Instant>,
    /// That it was asked for others than those the store refused.
    minded: Option<Instant>,
    /// Askings, one after the other, that brought nothing new.
    in_vain: u32,
}

impl Renewing {
    pub(in crate::store) async fn new(options: &Options, proxies: &Proxies) -> Renewing {
        let http_client = transport::to_credentials(options.ca_bundle.as_ref(), proxies);
        let surroundings = ProviderConfig::default().with_http_client(http_client);
        Renewing {
            held: Mutex::new(Held {
                source: provider(options, surroundings.clone()).await,
                keys: None,
                asked: None,
                minded: None,
                in_vain: 0,
            }),
            options: options.clone(),
            surroundings,
        }
    }

    /// The keys at hand, by which it can be told later whether they are still the same.
    pub(super) async fn current(&self) -> Option<Credentials> {
        self.held.lock().await.keys.clone()
    }

    /// The store has refused a request that was signed with `refused`: are there others by now?
    pub(super) async fn renew(&self, refused: Option<&Credentials>) -> bool {
        let mut held = self.held.lock().await;
        let is_other = |held: &Held| match (&held.keys, refused) {
            (Some(now), Some(refused)) => !same(now, refused),
            (now, _) => now.is_some(),
        };
        if is_other(&held) {
            return true;
        }
        if held.minded.is_some_and(|at| at.elapsed() < held.pause()) {
            return false;
        }
        held.minded = Some(Instant::now());
        // What it has read before it would say again.
        held.source = provider(&self.options, self.surroundings.clone()).await;
        let _ = held.ask().await;
        is_other(&held)
    }

    async fn keys(&self) -> Result<Credentials, CredentialsError> {
        let mut held = self.held.lock().await;
        if let Some(keys) = &held.keys
            && (lasts(keys) || held.waits())
        {
            return Ok(keys.clone());
        }
        let failed = held.ask().await.err();
        match (&held.keys, failed) {
            (Some(keys), _) => Ok(keys.clone()),
            (None, failed) => Err(failed.unwrap_or_else(|| CredentialsError::not_loaded("none"))),
        }
    }
}

impl Held {
    fn pause(&self) -> Duration {
        (PAUSES.0 * (1 << self.in_vain.min(8))).min(PAUSES.1)
    }

    /// It was asked in vain just now.
    fn waits(&self) -> bool {
        self.in_vain > 0
            && self
                .asked
                .is_some_and(|asked| asked.elapsed() < self.pause())
    }

    async fn ask(&mut self) -> Result<(), CredentialsError> {
        let said = tokio::time::timeout(PATIENCE, self.source.provide_credentials()).await;
        let said = said.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(PATIENCE)));
        let said = said.and_then(|keys| match are_sendable(&keys) {
            true => Ok(keys),
            false => Err(CredentialsError::invalid_configuration(UNSENDABLE)),
        });
        self.asked = Some(Instant::now());
        let before = self.keys.as_ref();
        let is_new = |keys: &Credentials| {
            before.is_none_or(|before| !same(before, keys) || before.expiry() != keys.expiry())
        };
        match said {
            Ok(keys) if is_new(&keys) => {
                tracing::debug!("the keys have been renewed");
                self.in_vain = 0;
                self.keys = Some(keys);
                Ok(())
            }
            said => {
                self.in_vain = self.in_vain.saturating_add(1);
                // That there are none to begin with is said by whoever wanted them.
                if let (Err(error), Some(_)) = (&said, before) {
                    tracing::warn!(
                        "the keys cannot be renewed: {}",
                        super::classify::deepest(error)
                    );
                }
                said.map(drop)
            }
        }
    }
}

pub(super) const UNSENDABLE: &str = "there is a character in the key's id, or in the token, that no request takes, like the end of a line: write them anew";

/// The SDK panics over others.
pub(super) fn are_sendable(keys: &Credentials) -> bool {
    let mut sent = [Some(keys.access_key_id()), keys.session_token()]
        .into_iter()
        .flatten();
    sent.all(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
}

fn same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.secret_access_key() == other.secret_access_key()
        && one.session_token() == other.session_token()
}

/// Long enough for a request.
fn lasts(keys: &Credentials) -> bool {
    keys.expiry()
        .is_none_or(|end| end > SystemTime::now() + MARGIN)
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(self.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys from a file, as of now.
    async fn from_file(file: &std::path::Path) -> Renewing {
        let options = Options {
            credentials_file: Some(file.to_path_buf()),
            ..Options::default()
        };
        let proxies = Proxies::of_environment().expect("usable, if any");
        Renewing::new(&options, &proxies).await
    }

    fn write(file: &std::path::Path, id: &str) {
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n");
        std::fs::write(file, text).expect("written");
    }

    #[tokio::test]
    async fn refused_keys_are_looked_for_where_they_came_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        write(&file, "one");
        let keys = from_file(&file).await;
        let one = keys.keys().await.expect("keys");
        assert_eq!(one.access_key_id(), "one");
        // The same are there: nothing is gained, and it is not asked again at once.
        assert!(!keys.renew(Some(&one)).await);
        write(&file, "two");
        assert!(!keys.renew(Some(&one)).await, "not so soon");
        keys.held.lock().await.minded = None;
        assert!(keys.renew(Some(&one)).await);
        assert_eq!(keys.keys().await.expect("keys").access_key_id(), "two");
        // Who comes late with the old ones need not ask.
        assert!(keys.renew(Some(&one)).await);
        // A file that went away leaves them.
        std::fs::remove_file(&file).expect("removed");
        let two = keys.current().await;
        keys.held.lock().await.minded = None;
        assert!(!keys.renew(two.as_ref()).await);
        assert_eq!(keys.keys().await.expect("keys").access_key_id(), "two");
    }
}
