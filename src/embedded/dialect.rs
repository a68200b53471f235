//! In which ways the server behaves like one vendor's store rather than another's.
//!
//! The default is Amazon S3, less what only matters to who looks for it. Each switch is one difference
//! observed in the field, or told by a vendor's pages; tests turn them on one at a time, or together by a
//! vendor's name ([`Dialect::named`]).

use std::time::Duration;

use super::region::Region;

/// The switches. All fields are independent of one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// What a CompleteMultipartUpload answers when the upload was completed before.
    pub complete_repeated: CompleteRepeated,
    /// Whether `If-Match` and `If-None-Match` on writes mean anything, or are silently ignored.
    pub conditional_writes: ConditionalWrites,
    /// Conditions on the source of a copy are ignored in silence (moto, Ceph).
    pub copy_conditions_ignored: bool,
    /// ListMultipartUploads returns uploads only when `prefix` is exactly their key (MinIO).
    pub list_uploads_exact_key_only: bool,
    /// ListObjectsV2 is answered with 501 NotImplemented (Ncloud).
    pub list_v1_only: bool,
    /// Listings have all common prefixes before the first key (`rclone serve s3`).
    pub directories_first: bool,
    /// `start-after` of ListObjectsV2 means nothing.
    pub start_after_ignored: bool,
    /// The most entries that a page of a listing has, however many are asked for.
    pub page_most: usize,
    /// Complete refuses parts of unequal size, the last one excepted (R2).
    pub equal_parts: bool,
    /// RenameObject is answered (S3's directory buckets).
    pub rename: bool,
    /// The smallest size of a part that is not the last.
    pub part_min: u64,
    /// An UploadPart that was in flight when its upload was aborted is kept, and with it the
    /// upload, until it is aborted again (S3 documents this).
    pub parts_land_after_abort: bool,
    /// How long the restore of an archived object takes (GLACIER, DEEP_ARCHIVE).
    pub restore_takes: Duration,
    /// Requests that name the bucket in the path are answered with 403 (COS). Needs
    /// `Options::base_domain`, or every bucket is out of reach.
    pub virtual_host_only: bool,
    /// Complete refuses numbers of parts that leave one out (COS).
    pub consecutive_parts: bool,
    /// Complete sends white space ahead of what it has to say, be that an error (COS).
    pub keep_alive: bool,
    /// The checksum headers of newer SDKs are answered with 403 (Ncloud).
    pub refuse_checksums: bool,
    /// DeleteObjects is refused without Content-MD5 (COS, Ncloud). Elsewhere any checksum will do.
    pub multi_delete_md5: bool,
    /// The longest key.
    pub key_max: usize,
    pub signatures: Signatures,
    /// How far the time a request was signed at may be from ours.
    pub clock_skew: Duration,
    /// Where the bucket is, if only there requests are answered that were signed for there.
    pub region: Option<Region>,
    /// Whose headers answers carry.
    pub vendor: Option<Vendor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteRepeated {
    /// The same success again (Amazon S3, Ceph, Swift).
    Succeeds,
    /// 404 (MinIO, Garage, RustFS).
    NoSuchUpload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    Honoured,
    /// Only `x-cos-forbid-overwrite`; the others are ignored.
    ForbidOverwrite,
    Ignored,
}

/// Which signatures open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// AWS's, version 4.
    SigV4,
    /// COS's own as well; who signs so is spoken to with COS's names of headers.
    CosToo,
    /// Any, right or wrong: for requests out of a book, whose keys nobody has.
    Unchecked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Amazon,
    Ncloud,
    Cos,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            complete_repeated: CompleteRepeated::Succeeds,
            conditional_writes: ConditionalWrites::Honoured,
            copy_conditions_ignored: false,
            directories_first: false,
            start_after_ignored: false,
            page_most: 1000,
            list_uploads_exact_key_only: false,
            list_v1_only: false,
            equal_parts: false,
            rename: false,
            part_min: 5 << 20,
            parts_land_after_abort: false,
            restore_takes: Duration::ZERO,
            virtual_host_only: false,
            consecutive_parts: false,
            keep_alive: false,
            refuse_checksums: false,
            multi_delete_md5: false,
            key_max: 1024,
            signatures: Signatures::SigV4,
            clock_skew: Duration::from_secs(15 * 60),
            region: None,
            vendor: None,
        }
    }
}

impl Dialect {
    /// The names [`Dialect::named`] knows.
    pub const NAMES: [&'static str; 3] = ["aws", "ncloud", "cos"];

    /// All that is known of a vendor's store. Where its pages are silent, the harder of two ways.
    pub fn named(name: &str) -> Option<Dialect> {
        let silent = Dialect {
            complete_repeated: CompleteRepeated::NoSuchUpload,
            conditional_writes: ConditionalWrites::Ignored,
            copy_conditions_ignored: true,
            ..Dialect::default()
        };
        Some(match name {
            "aws" => Dialect {
                parts_land_after_abort: true,
                vendor: Some(Vendor::Amazon),
                ..Dialect::default()
            },
            "ncloud" => Dialect {
                list_v1_only: true,
                refuse_checksums: true,
                multi_delete_md5: true,
                parts_land_after_abort: true,
                vendor: Some(Vendor::Ncloud),
                ..silent
            },
            "cos" => Dialect {
                part_min: 1 << 20,
                virtual_host_only: true,
                consecutive_parts: true,
                keep_alive: true,
                refuse_checksums: true,
                multi_delete_md5: true,
                key_max: 850,
                conditional_writes: ConditionalWrites::ForbidOverwrite,
                copy_conditions_ignored: false,
                signatures: Signatures::CosToo,
                vendor: Some(Vendor::Cos),
                ..silent
            },
            _ => return None,
        })
    }
}
