//! What each vendor can do: a table. The choice of a row is `choice`.
//!
//! Invariants:
//! - Vendors differ by data. No code elsewhere asks for a vendor's name.
//! - A row promises only what is known to hold. A capability denied wrongly costs a convenience; one
//!   promised wrongly costs data (a condition ignored) or every upload (a header refused).
//! - docs/PROVIDERS.md shows this table, and a test compares the two.

use super::Auth;
use crate::store::Capabilities;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const TB: u64 = 1_000_000_000_000;

/// A vendor: what it can do, and how it is recognised.
pub(super) struct Row {
    pub capabilities: Capabilities,
    pub facts: Facts,
    /// The signatures it takes.
    pub auth: &'static [Auth],
    /// Buckets whose names end so are this vendor's.
    pub buckets: &'static [&'static str],
    /// Host names ending so (at a label's border) are this vendor's.
    pub hosts: &'static [&'static str],
    /// What comes before and after the region in this vendor's host names.
    pub region_between: &'static [(&'static str, &'static str)],
    pub address: Address,
    /// Answers that nobody else gives.
    pub signs: &'static [Sign],
}

/// What a person should know of it, and no code goes by. What is empty is not known.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The headers that its conditions on writes have; whether they are relied on is a capability.
    pub conditions: &'static str,
    /// What Complete says of an upload that it has completed before.
    pub complete_twice: &'static str,
    /// What becomes of parts that are in flight when their upload is aborted.
    pub in_flight: &'static str,
    pub remark: &'static str,
}

/// Where the service is when no endpoint is named.
pub(super) enum Address {
    /// The SDK knows.
    Amazons,
    /// It does, and there are vaults.
    Vaults,
    /// One a region: as it is given, where it is (`{region}` stands for it), and as it is signed for. An
    /// empty name is any region.
    Regions(&'static [(&'static str, &'static str, &'static str)]),
    /// Wherever somebody runs it.
    Anywhere,
}

/// What an answer gives its sender away by: a header that begins so. An empty beginning: that it is there.
pub(super) struct Sign(pub &'static str, pub &'static str);

const GENERIC: Capabilities = Capabilities {
    name: "generic",
    part_min: 5 * MIB,
    part_max: 5 * GIB,
    parts_max: 10_000,
    object_max: 5 * TIB,
    parts_equal: false,
    part_copy: true,
    copy_conditions: false,
    rename: false,
    put_max: 5 * GIB,
    copy_max: 5 * GIB,
    streamed: false,
    crc64: false,
    conditional_writes: false,
    conditional_creates: false,
    creates_by: None,
    list_v2: true,
    sorted_lists: true,
    multi_delete: true,
    unsigned_payload: true,
    uploads_by_prefix: true,
    virtual_host: false,
    key_max: 1024,
};

const UNKNOWN: Facts = Facts {
    conditions: "",
    complete_twice: "",
    in_flight: "",
    remark: "",
};

const AS_AMAZONS: &str = "If-Match, If-None-Match";

const NOBODY: Row = Row {
    capabilities: GENERIC,
    facts: UNKNOWN,
    auth: &[Auth::SigV4],
    buckets: &[],
    hosts: &[],
    region_between: &[],
    address: Address::Anywhere,
    signs: &[],
};

pub(super) static TABLE: &[Row] = &[
    Row {
        capabilities: Capabilities {
            name: "aws",
            object_max: 10_000 * 5 * GIB,
            crc64: true,
            conditional_writes: true,
            virtual_host: true,
            copy_conditions: true,
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            complete_twice: "succeeds",
            in_flight: "may land after the abort",
            ..UNKNOWN
        },
        hosts: &["amazonaws.com", "amazonaws.com.cn"],
        region_between: &[("s3.", ".amazonaws.com"), ("s3.", ".amazonaws.com.cn")],
        address: Address::Amazons,
        ..NOBODY
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
            copy_conditions: true,
            sorted_lists: false,
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            remark: "directory buckets: files are renamed in one step, listings are not sorted, an open upload keeps the bucket from being deleted",
            ..UNKNOWN
        },
        buckets: &["--x-s3"],
        address: Address::Amazons,
        ..NOBODY
    },
    Row {
        capabilities: Capabilities {
            name: "ncloud",
            list_v2: false,
            ..GENERIC
        },
        facts: Facts {
            remark: "a checksum it does not know is answered with 403: none is sent",
            ..UNKNOWN
        },
        hosts: &[
            "object.ncloudstorage.com",
            "object.ncpstorage.com",
            "object.gov-ncloudstorage.com",
        ],
        region_between: &[
            ("", ".object.ncloudstorage.com"),
            ("", ".object.ncpstorage.com"),
        ],
        address: Address::Regions(&[
            ("kr", "https://kr.object.ncloudstorage.com", "kr-standard"),
            ("us", "https://us.object.ncloudstorage.com", "us-standard"),
            ("sg", "https://sg.object.ncloudstorage.com", "sg-standard"),
            ("de", "https://de.object.ncloudstorage.com", "de-standard"),
            ("jp", "https://jp.object.ncpstorage.com", "jp-standard"),
        ]),
        ..NOBODY
    },
    Row {
        // The vendor's newer service. Its pages follow Amazon's; what they do not say is denied.
        capabilities: Capabilities {
            name: "ncloud-storage",
            virtual_host: true,
            ..GENERIC
        },
        facts: Facts {
            remark: "the newer service, of *.ncloudstorage.com without .object.",
            ..UNKNOWN
        },
        hosts: &["ncloudstorage.com"],
        region_between: &[("", ".ncloudstorage.com")],
        address: Address::Regions(&[("kr", "https://kr.ncloudstorage.com", "kr")]),
        ..NOBODY
    },
    Row {
        // Path style answers 403 for newer buckets. x-cos-forbid-overwrite is ignored in a bucket that ever
        // kept versions: for those to promise who know that theirs did not.
        capabilities: Capabilities {
            name: "cos",
            part_min: MIB,
            object_max: 48_800_000_000_000,
            virtual_host: true,
            list_v2: false,
            key_max: 850,
            creates_by: Some("x-cos-forbid-overwrite"),
            ..GENERIC
        },
        facts: Facts {
            conditions: "x-cos-forbid-overwrite, of new objects; not in a bucket that ever kept versions",
            in_flight: "fail",
            remark: "the bucket's name ends with the APPID; --auth cos signs in its own way",
            ..UNKNOWN
        },
        hosts: &["myqcloud.com"],
        region_between: &[("cos.", ".myqcloud.com")],
        address: Address::Regions(&[("", "https://cos.{region}.myqcloud.com", "{region}")]),
        signs: &[Sign("server", "tencent-cos")],
        auth: &[Auth::SigV4, Auth::Cos],
        ..NOBODY
    },
    Row {
        // If-Match and If-None-Match are ignored in silence; no least part size. The checksum is
        // taken and checked by 2.x, whose source says so; with 1.x, switch it off.
        capabilities: Capabilities {
            name: "garage",
            part_min: 1,
            crc64: true,
            copy_conditions: true,
            ..GENERIC
        },
        facts: Facts {
            complete_twice: "NoSuchUpload",
            remark: "conditions on writes are ignored in silence; a PUT or DELETE of the key ends its uploads; 1.x needs --capability crc64=false",
            ..UNKNOWN
        },
        ..NOBODY
    },
    Row {
        // Only releases since 2025 take CRC-64/NVME.
        capabilities: Capabilities {
            name: "minio",
            conditional_writes: true,
            uploads_by_prefix: false,
            copy_conditions: true,
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            complete_twice: "NoSuchUpload",
            remark: "no lifecycle rule aborts uploads",
            ..UNKNOWN
        },
        signs: &[Sign("server", "minio")],
        ..NOBODY
    },
    Row {
        // Only recent releases honour conditions, older ones ignore them: not promised. That of a copy's
        // source it looks for under another header's name.
        capabilities: Capabilities {
            name: "ceph",
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            complete_twice: "succeeds",
            remark: "recent releases honour conditions on writes: --capability conditional_writes=true",
            ..UNKNOWN
        },
        signs: &[Sign("server", "Ceph Object Gateway")],
        ..NOBODY
    },
    Row {
        // Conditions hold on PutObject but are not documented for Complete, and of a part's source they are
        // said not to: not promised.
        capabilities: Capabilities {
            name: "r2",
            parts_equal: true,
            object_max: 5 * TIB - 5 * GIB,
            ..GENERIC
        },
        facts: Facts {
            conditions: "If-Match, If-None-Match, of PutObject",
            remark: "uploads are aborted by the service after 7 days",
            ..UNKNOWN
        },
        hosts: &["r2.cloudflarestorage.com"],
        ..NOBODY
    },
    Row {
        capabilities: Capabilities {
            name: "b2",
            object_max: 10 * TB,
            ..GENERIC
        },
        facts: Facts {
            remark: "https only",
            ..UNKNOWN
        },
        hosts: &["backblazeb2.com"],
        region_between: &[("s3.", ".backblazeb2.com")],
        address: Address::Regions(&[("", "https://s3.{region}.backblazeb2.com", "{region}")]),
        ..NOBODY
    },
    Row {
        capabilities: Capabilities {
            name: "gcs",
            part_copy: false,
            ..GENERIC
        },
        facts: Facts {
            remark: "conditions do not hold for uploads in parts",
            ..UNKNOWN
        },
        hosts: &["storage.googleapis.com"],
        address: Address::Regions(&[("", "https://storage.googleapis.com", "auto")]),
        signs: &[Sign("x-guploader-uploadid", "")],
        ..NOBODY
    },
    Row {
        // CopyObject is documented up to 1 GB; x-oss-forbid-overwrite is ignored like COS's.
        capabilities: Capabilities {
            name: "oss",
            part_min: 100 * KIB,
            object_max: 48_800_000_000_000,
            copy_max: GIB,
            virtual_host: true,
            key_max: 1023,
            creates_by: Some("x-oss-forbid-overwrite"),
            ..GENERIC
        },
        facts: Facts {
            conditions: "x-oss-forbid-overwrite, of new objects; not in a bucket that ever kept versions",
            ..UNKNOWN
        },
        hosts: &["aliyuncs.com"],
        region_between: &[("oss-", ".aliyuncs.com")],
        address: Address::Regions(&[("", "https://oss-{region}.aliyuncs.com", "{region}")]),
        signs: &[Sign("server", "AliyunOSS"), Sign("x-oss-request-id", "")],
        ..NOBODY
    },
    Row {
        capabilities: Capabilities {
            name: "wasabi",
            ..GENERIC
        },
        hosts: &["wasabisys.com"],
        region_between: &[("s3.", ".wasabisys.com")],
        address: Address::Regions(&[("", "https://s3.{region}.wasabisys.com", "{region}")]),
        signs: &[Sign("server", "WasabiS3")],
        ..NOBODY
    },
    Row {
        // OpenStack Swift's s3api. An upload of over 1000 parts is refused unless its operator allows
        // more; conditions on Complete are ignored.
        capabilities: Capabilities {
            name: "swift",
            parts_max: 1000,
            object_max: 1000 * 5 * GIB,
            ..GENERIC
        },
        facts: Facts {
            conditions: "If-None-Match",
            complete_twice: "succeeds",
            remark: "Complete sends white space while it works",
            ..UNKNOWN
        },
        signs: &[Sign("x-openstack-request-id", "tx")],
        ..NOBODY
    },
    Row {
        capabilities: Capabilities {
            name: "seaweedfs",
            sorted_lists: false,
            ..GENERIC
        },
        facts: Facts {
            remark: "before 2026-09 an abort of a completed upload deleted the object's data: wholefs sends none",
            ..UNKNOWN
        },
        signs: &[Sign("server", "SeaweedFS")],
        ..NOBODY
    },
    Row {
        // Its early releases are too many to promise conditions.
        capabilities: Capabilities {
            name: "rustfs",
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            complete_twice: "NoSuchUpload",
            remark: "conditions on writes: --capability conditional_writes=true",
            ..UNKNOWN
        },
        signs: &[Sign("server", "RustFS")],
        ..NOBODY
    },
    Row {
        // `rclone serve s3`.
        capabilities: Capabilities {
            name: "rclone",
            part_min: 1,
            part_copy: false,
            sorted_lists: false,
            ..GENERIC
        },
        facts: Facts {
            complete_twice: "NoSuchUpload",
            ..UNKNOWN
        },
        signs: &[Sign("server", "rclone/")],
        ..NOBODY
    },
    Row {
        // The bucket this program carries itself.
        capabilities: Capabilities {
            name: "embedded",
            crc64: true,
            conditional_writes: true,
            copy_conditions: true,
            ..GENERIC
        },
        facts: Facts {
            conditions: AS_AMAZONS,
            complete_twice: "succeeds",
            in_flight: "fail",
            remark: "`wholefs bucket`, and the bucket of `wholefs demo`",
        },
        ..NOBODY
    },
    Row {
        capabilities: GENERIC,
        ..NOBODY
    },
    Row {
        // Parts have one size, a power of two MiB; here is from which to which. Names are the catalogue's:
        // what is copied or renamed is a line of that.
        capabilities: Capabilities {
            name: "glacier",
            part_min: MIB,
            part_max: 4 * GIB,
            object_max: 10_000 * 4 * GIB,
            parts_equal: true,
            part_copy: false,
            rename: true,
            put_max: 0,
            copy_max: u64::MAX,
            streamed: true,
            multi_delete: false,
            // The SDK hashes what it sends there in any case.
            unsigned_payload: false,
            key_max: 700,
            ..GENERIC
        },
        facts: Facts {
            complete_twice: "succeeds",
            remark: "vaults: a drop box, which is read hours after it was asked for; an abort may be repeated, and of a completed upload it fails; an idle upload is gone after a day",
            ..UNKNOWN
        },
        address: Address::Vaults,
        ..NOBODY
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Value;

    fn size(bytes: u64) -> String {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB")];
        let whole = units.iter().find(|(unit, _)| bytes.is_multiple_of(*unit));
        match whole {
            Some((unit, name)) => format!("{} {name}", bytes / unit),
            None if bytes.is_multiple_of(TB / 10) => format!("{:.1} TB", bytes as f64 / TB as f64),
            None if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
            None => bytes.to_string(),
        }
    }

    /// As docs/PROVIDERS.md shows it.
    fn shown() -> String {
        let value = |name: &str, value: Value| match value {
            Value::Flag(true) => "yes".to_string(),
            Value::Flag(false) => "no".to_string(),
            Value::Number(n) if name == "parts_max" || name == "key_max" => n.to_string(),
            Value::Number(0) => "0".to_string(),
            Value::Number(u64::MAX) => "any".to_string(),
            Value::Number(n) => size(n),
        };
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut head = vec!["provider".to_string()];
        head.extend(GENERIC.fields().map(|(name, _)| format!("`{name}`")));
        let line = head.iter().map(|_| "---".to_string()).collect();
        let mut text = row(head) + &row(line);
        for Row { capabilities, .. } in TABLE {
            let mut cells = vec![format!("**{}**", capabilities.name)];
            let fields = capabilities.fields();
            cells.extend(fields.into_iter().map(|(name, v)| value(name, v)));
            text += &row(cells);
        }
        let columns = [
            "provider",
            "known by",
            "where it is",
            "signed by",
            "conditions on writes",
            "Complete twice",
            "parts in flight at an abort",
            "to know of it",
        ];
        let line = columns.map(|_| "---".to_string());
        text += "\n";
        text += &(row(columns.map(str::to_string).to_vec()) + &row(line.to_vec()));
        for one in TABLE {
            let hosts = one.hosts.iter().map(|host| format!("`*.{host}`"));
            let buckets = one.buckets.iter().map(|end| format!("buckets `*{end}`"));
            let signs = one.signs.iter().map(|sign| match sign.1 {
                "" => format!("its header `{}`", sign.0),
                start => format!("its header `{}: {start}…`", sign.0),
            });
            let mut known: Vec<String> = hosts.chain(buckets).chain(signs).collect();
            let places = match one.address {
                Address::Amazons => vec!["Amazon's regions".to_string()],
                Address::Vaults => {
                    known.push("`glacier://VAULT`".to_string());
                    vec!["Amazon's regions".to_string()]
                }
                Address::Anywhere => vec!["`--endpoint-url`".to_string()],
                Address::Regions(all) => all.iter().map(|one| format!("`{}`", one.1)).collect(),
            };
            let auth = one.auth.iter().map(|auth| match auth {
                Auth::SigV4 => "SigV4",
                Auth::Cos => "`--auth cos`",
            });
            let (facts, name) = (&one.facts, format!("**{}**", one.capabilities.name));
            let (known, places) = (known.join(", "), places.join(", "));
            let auth = auth.collect::<Vec<_>>().join(", ");
            let told = [
                facts.conditions,
                facts.complete_twice,
                facts.in_flight,
                facts.remark,
            ];
            let told = told.into_iter().map(str::to_string);
            text += &row([name, known, places, auth]
                .into_iter()
                .chain(told)
                .collect());
        }
        text
    }

    #[test]
    fn the_providers_page_shows_this_table() {
        let page = include_str!("../../../docs/PROVIDERS.md");
        let shown = shown();
        assert!(
            page.contains(&shown),
            "docs/PROVIDERS.md is to have this:\n{shown}"
        );
    }
}
