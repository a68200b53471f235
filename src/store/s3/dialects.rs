//! What each vendor can do: a table, and the choice of a row.
//!
//! Invariants:
//! - Vendors differ by data. No code elsewhere asks for a vendor's name.
//! - A row promises only what is known to hold. A capability denied wrongly costs a convenience; one
//!   promised wrongly costs data (a condition ignored) or every upload (a header refused).
//! - A store nobody named and no host gives away gets `generic`, which promises least.

use crate::nearest::nearest;
use crate::store::Capabilities;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A vendor: what it can do, and how it is recognised.
struct Row {
    capabilities: Capabilities,
    /// Buckets whose names end so are this vendor's, where no endpoint is named.
    buckets: &'static [&'static str],
    /// Host names ending so (at a label's border) are this vendor's.
    hosts: &'static [&'static str],
    /// What comes before and after the region in this vendor's host names.
    region_between: &'static [(&'static str, &'static str)],
}

const GENERIC: Capabilities = Capabilities {
    name: "generic",
    part_min: 5 * MIB,
    part_max: 5 * GIB,
    parts_max: 10_000,
    object_max: 5 * TIB,
    parts_equal: false,
    part_copy: true,
    rename: false,
    put_max: 5 * GIB,
    copy_max: 5 * GIB,
    streamed: false,
    crc64: false,
    conditional_writes: false,
    list_v2: true,
    virtual_host: false,
    key_max: 1024,
};

static TABLE: &[Row] = &[
    Row {
        capabilities: Capabilities {
            name: "aws",
            object_max: 10_000 * 5 * GIB,
            crc64: true,
            conditional_writes: true,
            virtual_host: true,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["amazonaws.com", "amazonaws.com.cn"],
        region_between: &[("s3.", ".amazonaws.com"), ("s3.", ".amazonaws.com.cn")],
    },
    Row {
        // Directory buckets. Their listings are not sorted; an object beside a directory of the same
        // name is not always hidden by it therefore.
        capabilities: Capabilities {
            name: "aws-express",
            object_max: 10_000 * 5 * GIB,
            crc64: true,
            conditional_writes: true,
            virtual_host: true,
            rename: true,
            ..GENERIC
        },
        buckets: &["--x-s3"],
        hosts: &[],
        region_between: &[],
    },
    Row {
        // If-Match and If-None-Match are ignored in silence; no least part size. The checksum is
        // taken and checked by 2.x, whose source says so; with 1.x, switch it off.
        capabilities: Capabilities {
            name: "garage",
            part_min: 1,
            crc64: true,
            ..GENERIC
        },
        buckets: &[],
        hosts: &[],
        region_between: &[],
    },
    Row {
        // Only releases since 2025 take CRC-64/NVME.
        capabilities: Capabilities {
            name: "minio",
            conditional_writes: true,
            ..GENERIC
        },
        buckets: &[],
        hosts: &[],
        region_between: &[],
    },
    Row {
        // Only recent releases honour conditions, older ones ignore them: not promised.
        capabilities: Capabilities {
            name: "ceph",
            ..GENERIC
        },
        buckets: &[],
        hosts: &[],
        region_between: &[],
    },
    Row {
        // Conditions hold on PutObject but are not documented for Complete: not promised.
        capabilities: Capabilities {
            name: "r2",
            parts_equal: true,
            object_max: 5 * TIB - 5 * GIB,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["r2.cloudflarestorage.com"],
        region_between: &[],
    },
    Row {
        capabilities: Capabilities {
            name: "b2",
            object_max: 10_000_000_000_000,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["backblazeb2.com"],
        region_between: &[("s3.", ".backblazeb2.com")],
    },
    Row {
        capabilities: Capabilities {
            name: "gcs",
            part_copy: false,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["storage.googleapis.com"],
        region_between: &[],
    },
    Row {
        capabilities: Capabilities {
            name: "ncloud",
            list_v2: false,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["ncloudstorage.com", "ncpstorage.com"],
        region_between: &[],
    },
    Row {
        // Path style answers 403 for newer buckets.
        capabilities: Capabilities {
            name: "cos",
            part_min: MIB,
            object_max: 48_800_000_000_000,
            virtual_host: true,
            key_max: 850,
            ..GENERIC
        },
        buckets: &[],
        hosts: &["myqcloud.com"],
        region_between: &[("cos.", ".myqcloud.com")],
    },
    Row {
        capabilities: Capabilities {
            name: "wasabi",
            ..GENERIC
        },
        buckets: &[],
        hosts: &["wasabisys.com"],
        region_between: &[("s3.", ".wasabisys.com")],
    },
    Row {
        // The bucket this program carries itself.
        capabilities: Capabilities {
            name: "embedded",
            crc64: true,
            conditional_writes: true,
            ..GENERIC
        },
        buckets: &[],
        hosts: &[],
        region_between: &[],
    },
    Row {
        capabilities: GENERIC,
        buckets: &[],
        hosts: &[],
        region_between: &[],
    },
];

/// The row for `provider`, else for the endpoint's host, else `generic`; no endpoint means AWS, where
/// the bucket's name tells which kind it is.
pub fn capabilities(
    provider: Option<&str>,
    endpoint: Option<&str>,
    bucket: &str,
) -> Result<Capabilities, String> {
    row(provider, endpoint, bucket).map(|row| row.capabilities.clone())
}

fn row(
    provider: Option<&str>,
    endpoint: Option<&str>,
    bucket: &str,
) -> Result<&'static Row, String> {
    if let Some(name) = provider {
        return by_name(&name.to_ascii_lowercase()).ok_or_else(|| unknown(name));
    }
    let Some(endpoint) = endpoint else {
        let named_so = |row: &&Row| row.buckets.iter().any(|suffix| bucket.ends_with(suffix));
        let row = TABLE.iter().find(named_so).or_else(|| by_name("aws"));
        return row.ok_or_else(|| unknown("aws"));
    };
    let host = host(endpoint);
    TABLE
        .iter()
        .find(|row| row.hosts.iter().any(|suffix| below(&host, suffix)))
        .or_else(|| by_name("generic"))
        .ok_or_else(|| unknown("generic"))
}

/// The region an endpoint's host name states, where the vendor's host names do.
pub(super) fn region_in_host(endpoint: &str) -> Option<String> {
    let host = host(endpoint);
    TABLE
        .iter()
        .flat_map(|row| row.region_between)
        .find_map(|(before, after)| {
            let start = match host.strip_prefix(before) {
                Some(_) => before.len(),
                // The bucket may come first: `bucket.s3.region.vendor`.
                None => host.find(&format!(".{before}"))? + 1 + before.len(),
            };
            let region = host.get(start..)?.strip_suffix(after)?;
            (!region.is_empty() && !region.contains('.')).then(|| region.to_string())
        })
}

fn by_name(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.capabilities.name == name)
}

fn unknown(name: &str) -> String {
    let names = || TABLE.iter().map(|row| row.capabilities.name);
    let lower = name.to_ascii_lowercase();
    let nearest = nearest(&lower, names()).unwrap_or_default();
    let all = names().collect::<Vec<_>>().join(", ");
    format!("unknown provider {name:?}; did you mean {nearest:?}? Known providers: {all}")
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
            assert!(message.contains(row.capabilities.name), "{message}");
        }
    }

    #[test]
    fn rows_hold_together() {
        for row in TABLE {
            let c = &row.capabilities;
            assert!(c.part_min >= 1 && c.part_min <= c.part_max, "{}", c.name);
            assert!(
                c.object_max <= u64::from(c.parts_max) * c.part_max,
                "{}",
                c.name
            );
            assert!(c.put_max <= c.object_max, "{}", c.name);
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
        assert_eq!(region("https://s3.amazonaws.com"), None);
        assert_eq!(region("http://localhost:9000"), None);
    }
}
