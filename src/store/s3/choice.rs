//! The choice of a row of the dialect table: by the name given, else by the endpoint's host, else by what
//! the service answers.
//!
//! Invariants:
//! - A store nobody named and nothing gives away gets `generic`, which promises least.
//! - An answer tells whose software it is, not which release: what only newer releases hold to (conditions
//!   on writes) is promised to nobody who did not name the provider.

use super::dialects::{Address, Row, TABLE};
use crate::nearest::did_you_mean;
use crate::store::Capabilities;

/// How a row was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Named,
    NoEndpoint,
    BucketsName,
    Host,
    /// The header that gave it away.
    Answer(String),
    NothingTells,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Named => f.write_str("as --provider says"),
            Why::NoEndpoint => f.write_str("no endpoint is named"),
            Why::BucketsName => f.write_str("by the bucket's name"),
            Why::Host => f.write_str("by the endpoint's host"),
            Why::Answer(header) => write!(f, "by its answers: {header}"),
            Why::NothingTells => f.write_str(
                "neither the endpoint's host nor its answers tell whose it is: name it with --provider if you know",
            ),
        }
    }
}

/// What is promised where nothing is known.
pub fn generic() -> Capabilities {
    of_provider("generic")
}

/// A provider that the table has for certain.
pub(in crate::store) fn of_provider(name: &str) -> Capabilities {
    named(name).capabilities.clone()
}

/// What is known of a store before it is asked: of the provider named, else of the endpoint's host, else
/// `generic`; no endpoint means Amazon's, where the bucket's name tells which kind it is.
pub fn capabilities(
    provider: Option<&str>,
    endpoint: Option<&str>,
    bucket: &str,
) -> Result<Capabilities, String> {
    choose(provider, endpoint, bucket).map(|(row, _)| row.capabilities.clone())
}

pub(super) fn choose(
    provider: Option<&str>,
    endpoint: Option<&str>,
    bucket: &str,
) -> Result<(&'static Row, Why), String> {
    if let Some(name) = provider {
        let row = by_name(&name.to_ascii_lowercase()).ok_or_else(|| unknown(name))?;
        if matches!(row.address, Address::Vaults) {
            let name = row.capabilities.name;
            return Err(format!(
                "{name} has no buckets: write {name}://VAULT instead of --provider"
            ));
        }
        return Ok((row, Why::Named));
    }
    let by_bucket = |row: &&Row| row.buckets.iter().any(|suffix| bucket.ends_with(suffix));
    let by_bucket = || {
        TABLE
            .iter()
            .find(by_bucket)
            .map(|row| (row, Why::BucketsName))
    };
    let Some(endpoint) = endpoint else {
        return Ok(by_bucket().unwrap_or((named("aws"), Why::NoEndpoint)));
    };
    let host = host(endpoint);
    let by_host = |row: &&Row| row.hosts.iter().any(|suffix| below(&host, suffix));
    Ok(match TABLE.iter().find(by_host) {
        // A vendor of several kinds.
        Some(row) if matches!(row.address, Address::Amazons) => {
            by_bucket().unwrap_or((row, Why::Host))
        }
        Some(row) => (row, Why::Host),
        None => (named("generic"), Why::NothingTells),
    })
}

/// Whose answer this is, where it is sure, and the header that says so.
pub(super) fn by_answer<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
) -> Option<(&'static Row, String)> {
    TABLE.iter().find_map(|row| {
        row.signs.iter().find_map(|sign| {
            let value = header(sign.0)?;
            let start = value.get(..sign.1.len())?;
            let header = format!("{}: {value}", sign.0);
            start.eq_ignore_ascii_case(sign.1).then_some((row, header))
        })
    })
}

/// What is promised of a store that an answer has given away, to which path or host was right already.
pub(super) fn as_answered(row: &Row, virtual_host: bool) -> Capabilities {
    Capabilities {
        virtual_host,
        conditional_writes: false,
        ..row.capabilities.clone()
    }
}

/// Where the provider of this name is in a region; `None` where the SDK knows.
pub fn address_of(provider: &str, region: Option<&str>) -> Result<Option<String>, String> {
    let row = by_name(&provider.to_ascii_lowercase()).ok_or_else(|| unknown(provider))?;
    address(row, region)
}

pub(super) fn address(row: &Row, region: Option<&str>) -> Result<Option<String>, String> {
    let name = row.capabilities.name;
    let regions = match row.address {
        Address::Amazons | Address::Vaults => return Ok(None),
        Address::Anywhere => {
            return Err(format!(
                "provider {name:?} has no address of its own: give --endpoint-url"
            ));
        }
        Address::Regions(regions) => regions,
    };
    let names = || {
        regions
            .iter()
            .map(|(name, ..)| *name)
            .filter(|name| !name.is_empty())
    };
    let all = match names().collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "the bucket's own".to_string(),
        all => format!("one of {all}"),
    };
    let anywhere = |address: &&str| !address.contains("{region}");
    let one = regions.iter().filter(|one| one.0.is_empty());
    if let Some(address) = one.map(|one| one.1).find(anywhere) {
        return Ok(Some(address.to_string()));
    }
    let Some(region) = region else {
        return Err(format!(
            "provider {name:?} is at another address in each region: give --region ({all}) or --endpoint-url"
        ));
    };
    match in_region(row, region) {
        Some((_, address, _)) => Ok(Some(address.replace("{region}", region))),
        None => Err(format!(
            "provider {name:?} is not known to be in region {region:?}{}: give --region ({all}) or --endpoint-url",
            did_you_mean(region, names())
        )),
    }
}

/// What requests to a region are signed for, which may be a longer name than people use.
pub(super) fn signed_for(row: &Row, region: &str) -> String {
    match in_region(row, region) {
        Some((_, _, signed)) => signed.replace("{region}", region),
        None => region.to_string(),
    }
}

/// By the short name or by the one that is signed for.
fn in_region(
    row: &Row,
    region: &str,
) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let Address::Regions(regions) = row.address else {
        return None;
    };
    let fine = !region.is_empty()
        && region
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let known = |one: &&(&str, &str, &str)| one.0.is_empty() || one.0 == region || one.2 == region;
    regions.iter().find(known).filter(|_| fine)
}

/// A row the table has for certain.
fn named(name: &str) -> &'static Row {
    by_name(name).expect("a row of the table")
}

/// The region an endpoint's host name states, where the vendor's host names do.
pub(super) fn region_in_host(endpoint: &str) -> Option<String> {
    let host = host(endpoint);
    TABLE
        .iter()
        .flat_map(|row| row.region_between)
        .find_map(|(before, after)| {
            let host = host.strip_suffix(after)?;
            let start = match host.strip_prefix(before) {
                // The bucket may come first: `bucket.s3.region.vendor`.
                Some(_) if before.is_empty() => host.rfind('.').map_or(0, |dot| dot + 1),
                Some(_) => before.len(),
                None => host.find(&format!(".{before}"))? + 1 + before.len(),
            };
            let region = host.get(start..)?;
            (!region.is_empty() && !region.contains('.')).then(|| region.to_string())
        })
}

fn by_name(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.capabilities.name == name)
}

/// The names of all whose buckets can be mounted.
pub fn providers() -> impl Iterator<Item = &'static str> {
    let of_buckets = |row: &&Row| !matches!(row.address, Address::Vaults);
    TABLE
        .iter()
        .filter(of_buckets)
        .map(|row| row.capabilities.name)
}

fn unknown(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let meant = did_you_mean(&lower, providers());
    let all = providers().collect::<Vec<_>>().join(", ");
    format!("unknown provider {name:?}{meant} (known: {all})")
}

/// `host` is `domain` or lies below it.
fn below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The host of a URL in lower case, without scheme, user, port and path.
pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(provider: Option<&str>, endpoint: Option<&str>) -> &'static str {
        capabilities(provider, endpoint, "b").expect("a row").name
    }

    #[test]
    fn a_provider_wins_over_the_host() {
        assert_eq!(
            name(Some("minio"), Some("https://s3.amazonaws.com")),
            "minio"
        );
        assert_eq!(name(Some("AWS"), None), "aws");
    }

    #[test]
    fn hosts_give_vendors_away() {
        for (endpoint, expected) in [
            ("https://s3.eu-west-1.amazonaws.com", "aws"),
            ("https://s3.cn-north-1.amazonaws.com.cn/", "aws"),
            ("https://abc.r2.cloudflarestorage.com", "r2"),
            ("https://kr.object.ncloudstorage.com", "ncloud"),
            ("https://jp.object.ncpstorage.com", "ncloud"),
            ("https://b.kr.object.ncloudstorage.com", "ncloud"),
            ("https://kr.object.gov-ncloudstorage.com", "ncloud"),
            ("https://b.kr.ncloudstorage.com", "ncloud-storage"),
            ("https://oss-cn-hangzhou.aliyuncs.com", "oss"),
            ("https://cos.ap-seoul.myqcloud.com", "cos"),
            ("https://s3.us-west-004.backblazeb2.com", "b2"),
            ("https://STORAGE.googleapis.com:443/x", "gcs"),
            ("https://s3.wasabisys.com", "wasabi"),
            ("http://127.0.0.1:9000", "generic"),
            ("http://[::1]:9000", "generic"),
            ("https://notamazonaws.com", "generic"),
            ("https://amazonaws.com.evil.example", "generic"),
        ] {
            assert_eq!(name(None, Some(endpoint)), expected, "{endpoint}");
        }
        assert_eq!(name(None, None), "aws");
        let kind = |bucket| capabilities(None, None, bucket).expect("a row").name;
        assert_eq!(kind("logs--usw2-az1--x-s3"), "aws-express");
    }

    #[test]
    fn a_wrong_name_meets_the_nearest_and_all() {
        let message = capabilities(Some("mino"), None, "b").expect_err("unknown");
        assert!(message.contains("did you mean \"minio\""), "{message}");
        for row in TABLE {
            let is_vaults = matches!(row.address, Address::Vaults);
            let name = row.capabilities.name;
            assert_eq!(message.contains(name), !is_vaults, "{name}: {message}");
        }
        let message = capabilities(Some("glacier"), None, "b").expect_err("not of a bucket");
        assert!(message.contains("glacier://VAULT"), "{message}");
    }

    #[test]
    fn rows_hold_together() {
        for row in TABLE {
            let c = &row.capabilities;
            assert_eq!(c.check(), Ok(()), "{}", c.name);
            assert!(c.put_max <= c.object_max, "{}", c.name);
            assert!(c.copy_max <= c.object_max || c.streamed, "{}", c.name);
        }
        let ncloud = capabilities(Some("ncloud"), None, "b").expect("ncloud");
        assert!(!ncloud.list_v2 && !ncloud.crc64);
        assert!(
            capabilities(Some("cos"), None, "b")
                .expect("cos")
                .virtual_host
        );
        assert!(capabilities(Some("r2"), None, "b").expect("r2").parts_equal);
        assert!(!capabilities(Some("gcs"), None, "b").expect("gcs").part_copy);
        assert!(
            !capabilities(Some("garage"), None, "b")
                .expect("garage")
                .conditional_writes
        );
    }

    #[test]
    fn regions_in_host_names() {
        let region = |endpoint| region_in_host(endpoint);
        assert_eq!(
            region("https://s3.us-west-004.backblazeb2.com").as_deref(),
            Some("us-west-004")
        );
        assert_eq!(
            region("https://b-1.cos.ap-seoul.myqcloud.com").as_deref(),
            Some("ap-seoul")
        );
        assert_eq!(
            region("https://s3.eu-west-1.amazonaws.com").as_deref(),
            Some("eu-west-1")
        );
        assert_eq!(
            region("https://b.kr.object.ncloudstorage.com").as_deref(),
            Some("kr")
        );
        assert_eq!(
            region("https://oss-cn-hangzhou.aliyuncs.com").as_deref(),
            Some("cn-hangzhou")
        );
        assert_eq!(region("https://s3.amazonaws.com"), None);
        assert_eq!(region("http://localhost:9000"), None);
    }

    #[test]
    fn a_provider_and_a_region_are_an_address() {
        let at = |provider, region| {
            let (row, _) = choose(Some(provider), None, "b").expect("a row");
            address(row, region).map(|address| (address, region.map(|r| signed_for(row, r))))
        };
        let found =
            |address: &str, signed: &str| Ok((Some(address.to_string()), Some(signed.to_string())));
        assert_eq!(
            at("ncloud", Some("kr")),
            found("https://kr.object.ncloudstorage.com", "kr-standard")
        );
        assert_eq!(
            at("ncloud", Some("jp-standard")),
            found("https://jp.object.ncpstorage.com", "jp-standard")
        );
        assert_eq!(
            at("ncloud-storage", Some("kr")),
            found("https://kr.ncloudstorage.com", "kr")
        );
        assert_eq!(
            at("cos", Some("ap-seoul")),
            found("https://cos.ap-seoul.myqcloud.com", "ap-seoul")
        );
        assert_eq!(
            at("gcs", None),
            Ok((Some("https://storage.googleapis.com".to_string()), None))
        );
        assert_eq!(at("aws", Some("eu-west-1")).map(|found| found.0), Ok(None));
        for (provider, region, told) in [
            ("ncloud", None, "one of kr, us, sg, de, jp"),
            ("ncloud", Some("kp"), "did you mean \"kr\""),
            ("cos", None, "give --region"),
            ("cos", Some("evil.example/"), "is not known to be in"),
            ("minio", Some("x"), "--endpoint-url"),
        ] {
            let error = at(provider, region).expect_err(provider);
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_answer_gives_its_sender_away_only_where_it_is_sure() {
        let seen = |name: &str, value: &str| {
            let found = by_answer(|asked| (asked == name).then_some(value));
            found.map(|(row, _)| row.capabilities.name)
        };
        for (name, value, row) in [
            ("server", "MinIO", Some("minio")),
            ("server", "Ceph Object Gateway (squid)", Some("ceph")),
            ("server", "tencent-cos", Some("cos")),
            ("server", "rclone/v1.71.0", Some("rclone")),
            ("server", "SeaweedFS 30GB 3.88", Some("seaweedfs")),
            ("x-openstack-request-id", "tx0123", Some("swift")),
            // Many imitate these.
            ("server", "AmazonS3", None),
            ("x-amz-request-id", "tx0123", None),
            ("server", "nginx", None),
        ] {
            assert_eq!(seen(name, value), row, "{name}: {value}");
        }
        for row in TABLE {
            let told = as_answered(row, false);
            assert!(!told.conditional_writes && !told.virtual_host);
        }
    }
}
