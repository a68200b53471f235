//! In which ways the server behaves like one vendor's store rather than another's.
//!
//! The default is Amazon S3. Each switch is one difference observed in the field; tests turn them
//! on one at a time or together to play MinIO, Garage, R2, Ncloud, COS and others.

use std::time::Duration;

/// The switches. All fields are independent of one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// What a CompleteMultipartUpload answers when the upload was completed before.
    pub complete_repeated: CompleteRepeated,
    /// Whether `If-Match` and `If-None-Match` on writes mean anything, or are silently ignored.
    pub conditional_writes: ConditionalWrites,
    /// ListMultipartUploads returns uploads only when `prefix` is exactly their key (MinIO).
    pub list_uploads_exact_key_only: bool,
    /// ListObjectsV2 is answered with 501 NotImplemented (Ncloud).
    pub list_v1_only: bool,
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
    Ignored,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            complete_repeated: CompleteRepeated::Succeeds,
            conditional_writes: ConditionalWrites::Honoured,
            list_uploads_exact_key_only: false,
            list_v1_only: false,
            equal_parts: false,
            rename: false,
            part_min: 5 << 20,
            parts_land_after_abort: false,
            restore_takes: Duration::ZERO,
            virtual_host_only: false,
        }
    }
}
