//! What carries requests: whom TLS trusts, and which proxy is on the way.
//!
//! Invariants:
//! - A server's certificate is verified always: by the system's authorities, or by those of a file instead.
//! - A proxy that is named and cannot be used is an error; nothing goes around it in silence.
//! - A metadata service (of EC2, of ECS) is asked without a proxy: it is on this machine's own link.
//! - Nobody's certificates are read before somebody is spoken to whom they vouch for: a system has 140 of them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpConnector,
};
use hyper::Uri;
use hyper::http::uri::Authority;
use hyper_util::client::proxy::matcher::Matcher;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::connect::presentable;

/// The certificates of authorities, as a PEM file has them. Read and looked through: the SDK panics at
/// what it cannot use.
#[derive(Clone)]
pub struct CaBundle(Arc<[u8]>);

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({} bytes)", self.0.len())
    }
}

impl CaBundle {
    pub fn read(file: &Path) -> Result<CaBundle, String> {
        let remedy =
            "give the PEM file of your authority's certificate (--ca-bundle, AWS_CA_BUNDLE)";
        let pem = std::fs::read(file).map_err(|e| format!("it cannot be read ({e}): {remedy}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate =
                certificate.map_err(|e| format!("it is not whole PEM ({e}): {remedy}"))?;
            let number = roots.len() + 1;
            roots.add(certificate).map_err(|e| {
                format!("its certificate number {number} cannot be used ({e}): {remedy}")
            })?;
        }
        match roots.is_empty() {
            true => Err(format!("it has no certificate in it: {remedy}")),
            false => Ok(CaBundle(pem.into())),
        }
    }
}

/// The proxies that the environment names, read as curl reads them: the lower case first, what is empty is
/// not there.
#[derive(Debug, Default)]
pub(in crate::store) struct Proxies {
    /// For `http://`, for `https://`.
    http: Option<String>,
    https: Option<String>,
    none_for: String,
}

impl Proxies {
    pub(in crate::store) fn of_environment() -> Result<Proxies, String> {
        Proxies::named(|variable| std::env::var(variable).ok())
    }

    fn named(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let said = |name: &str| {
            let spellings = [name.to_ascii_lowercase(), name.to_ascii_uppercase()];
            let mut said = spellings.into_iter().map(|name| (variable(&name), name));
            said.find_map(|(value, name)| Some((name, value.filter(|value| !value.is_empty())?)))
        };
        let proxy = |name| {
            let named = said(name).or_else(|| said("all_proxy"));
            named.map(|(name, url)| usable(&name, &url)).transpose()
        };
        Ok(Proxies {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            none_for: said("no_proxy").map_or_else(String::new, |(_, list)| list),
        })
    }

    /// The proxy that requests to this URL go through, as messages show it.
    pub(in crate::store) fn between(&self, url: &str) -> Option<String> {
        let mut proxies = Matcher::builder().no(&self.none_for);
        if let Some(http) = &self.http {
            proxies = proxies.http(http);
        }
        if let Some(https) = &self.https {
            proxies = proxies.https(https);
        }
        let proxy = proxies.build().intercept(&url.parse::<Uri>().ok()?)?;
        Some(presentable(proxy.uri().to_string().trim_end_matches('/')))
    }

    fn config(&self, tls: bool) -> ProxyConfig {
        let made = match (tls, &self.http, &self.https) {
            (true, _, Some(url)) => ProxyConfig::https(url.as_str()),
            (false, Some(url), _) => ProxyConfig::http(url.as_str()),
            _ => Ok(ProxyConfig::disabled()),
        };
        made.map_or_else(
            |_| ProxyConfig::disabled(),
            |made| made.no_proxy(&self.none_for),
        )
    }
}

/// The proxy with its scheme, or why it cannot be one.
fn usable(variable: &str, url: &str) -> Result<String, String> {
    let url = match url.contains("://") {
        true => url.to_string(),
        false => format!("http://{url}"),
    };
    let understood = url.parse::<Uri>().is_ok_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        // A port that is no number is taken for none.
        let port = |authority: &Authority| {
            authority.port_u16().is_some() || authority.as_str().ends_with(authority.host())
        };
        scheme && uri.authority().is_some_and(port)
    });
    match understood {
        true => Ok(url),
        false => Err(format!(
            "{variable} names the proxy {:?}, which cannot be used: write it as http://host:port or https://host:port",
            presentable(&url)
        )),
    }
}

/// The client for the store: `tls` says by which of the two it is spoken to. A bundle is trusted instead of
/// the system's authorities.
pub(in crate::store) fn to_store(
    ca: Option<&CaBundle>,
    proxies: &Proxies,
    tls: bool,
) -> SharedHttpClient {
    let to_proxy = || proxies.http.as_ref().is_some_and(|url| is_https(url));
    let trusted = match ca {
        _ if !tls && !to_proxy() => TrustStore::empty(),
        Some(bundle) => TrustStore::empty().with_pem_certificate(&*bundle.0),
        None => TrustStore::default(),
    };
    client(trusted, proxies.config(tls))
}

/// The client for whoever gives credentials: Amazon's own services, so a bundle is trusted beside the
/// system's authorities; and metadata services, which speak plain HTTP and so meet no proxy.
pub(in crate::store) fn to_credentials(
    ca: Option<&CaBundle>,
    proxies: &Proxies,
) -> SharedHttpClient {
    let mut trusted = TrustStore::default();
    if let Some(bundle) = ca {
        trusted.add_pem_certificate(&*bundle.0);
    }
    client(trusted, proxies.config(true))
}

fn is_https(url: &str) -> bool {
    let scheme = "https://";
    url.get(..scheme.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// As the SDK makes its default client, but for the two arguments, and when it is needed.
fn client(trusted: TrustStore, proxy: ProxyConfig) -> SharedHttpClient {
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let trusted = TlsContext::builder().with_trust_store(trusted.clone());
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(trusted.build().unwrap_or_default())
            .proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    });
    SharedHttpClient::new(AtNeed(client))
}

/// A client that is asked for connections and nothing else: the SDK would have it make one at once.
#[derive(Debug)]
struct AtNeed(SharedHttpClient);

impl HttpClient for AtNeed {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(said: &[(&str, &str)]) -> Result<Proxies, String> {
        Proxies::named(|name| {
            let of_name = said.iter().find(|(known, _)| *known == name);
            of_name.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn proxy_variables_are_read_as_curl_reads_them() {
        let between = |said: &[(&str, &str)], url| proxies(said).expect("usable").between(url);
        let some = |url: &str| Some(url.to_string());
        let (tls, plain) = ("https://s3.example.org", "http://s3.example.org:9000");
        assert_eq!(between(&[], tls), None);
        assert_eq!(
            between(&[("HTTPS_PROXY", "http://p:1")], tls),
            some("http://p:1")
        );
        assert_eq!(between(&[("HTTPS_PROXY", "http://p:1")], plain), None);
        assert_eq!(between(&[("http_proxy", "p:1")], plain), some("http://p:1"));
        assert_eq!(
            between(&[("ALL_PROXY", "https://p:1")], tls),
            some("https://p:1")
        );
        assert_eq!(
            between(&[("all_proxy", "http://p:1")], plain),
            some("http://p:1")
        );
        // The lower case wins; what is empty is not there.
        let both = [("https_proxy", "http://l:1"), ("HTTPS_PROXY", "http://u:1")];
        assert_eq!(between(&both, tls), some("http://l:1"));
        let both = [("https_proxy", ""), ("HTTPS_PROXY", "http://u:1")];
        assert_eq!(between(&both, tls), some("http://u:1"));
        for (list, spared) in [
            ("example.org", true),
            (".example.org", true),
            ("ample.org", false),
            ("a, s3.example.org", true),
            ("*", true),
        ] {
            let said = [("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)];
            assert_eq!(between(&said, tls).is_none(), spared, "{list}");
        }
        let said = [("ALL_PROXY", "http://p:1"), ("no_proxy", "10.0.0.0/8,::1")];
        assert_eq!(between(&said, "http://10.1.2.3:9000"), None);
        assert_eq!(between(&said, "http://[::1]:9000"), None);
        assert!(between(&said, "http://11.1.2.3:9000").is_some());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
        for url in ["socks5://me:secret@p:1", "http://", "http://me:secret@p:x"] {
            let line = proxies(&[("HTTPS_PROXY", url)]).expect_err(url);
            assert!(
                line.contains("HTTPS_PROXY") && !line.contains("secret"),
                "{line}"
            );
        }
        let shown = proxies(&[("ALL_PROXY", "http://me:secret@p:1")]).expect("usable");
        assert_eq!(shown.between("https://h").as_deref(), Some("http://p:1"));
    }
}
