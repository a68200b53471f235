//! What a bucket can do, in S3's own words.
//!
//! Everything above this module speaks through [`Store`] and branches on [`ErrorKind`]; nothing
//! above it knows a vendor, an SDK type or an HTTP status. Vendors differ by data
//! ([`Capabilities`]), chosen once at mount.
//!
//! Invariants:
//! - Keys are relative to the mounted prefix; the implementation adds the prefix and nobody else does.
//! - Each call has a deadline and a bounded number of attempts (see [`Limits`]); none hangs.
//! - A call whose outcome cannot be known answers [`ErrorKind::Unknown`], never a plain failure,
//!   when repeating it is not harmless. `create_upload` and `complete_upload` are sent once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;

mod body;
mod error;
mod etag;
mod fields;
pub mod glacier;
pub mod s3;
#[cfg(test)]
pub(crate) mod scripted;
pub mod tally;

pub use body::Body;
pub use error::{Error, ErrorKind};
pub use etag::ETag;
pub use fields::{Override, Value};
pub use glacier::PROVIDER as VAULT_PROVIDER;

/// The metadata key of the token by which an object, or an open upload, is recognised as ours.
pub const TOKEN_KEY: &str = "wholefs-token";

pub type Result<T> = std::result::Result<T, Error>;

/// The store's name of an open multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(pub String);

/// What HEAD tells, or as much of it as a listing knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub size: u64,
    pub etag: ETag,
    pub modified: SystemTime,
    /// HEAD tells.
    pub storage_class: Option<String>,
    /// Where its bytes are, if they may have to be restored before they can be read (and HEAD tells).
    pub archive: Option<Archive>,
    /// The store's own name of this version, where the bucket keeps versions (and HEAD tells).
    pub version: Option<String>,
    /// `None` where the answer does not carry it (listings).
    pub attributes: Option<Box<Attributes>>,
}

/// Which archive an object is in. With some stores a class of that name is none: a read tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// Its storage class is one: a copy can be had, for some days.
    Class,
    /// It was moved there because nobody read it (S3's Intelligent-Tiering): it comes back for good.
    Tier,
    /// Somebody has asked for it; it takes hours.
    BeingRestored,
}

/// User metadata, names in lower case without the `x-amz-meta-` prefix.
pub type Metadata = BTreeMap<String, String>;

/// What is said of an object when it is created, and told with it ever after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    /// User metadata (`x-amz-meta-*`).
    pub metadata: Metadata,
}

/// A condition on what the key holds at the moment of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Matches(ETag),
}

/// A page of a listing, in the store's order (bytewise by key).
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects and common prefixes, merged in the store's order. Keys relative to the mounted prefix.
    pub entries: Vec<ListEntry>,
    /// Pass this to the next call; `None` when the listing is complete.
    pub next: Option<Continuation>,
}

#[derive(Clone, Debug)]
pub enum ListEntry {
    Object(ObjectInfo),
    /// A common prefix, with its trailing delimiter.
    Prefix(String),
}

impl ListEntry {
    pub fn key(&self) -> &str {
        match self {
            ListEntry::Object(ObjectInfo { key, .. }) | ListEntry::Prefix(key) => key,
        }
    }
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// As the page before said: opaque to callers (a token for V2, a marker for V1).
    Said(String),
    /// Behind this key, be it there or not. Where [`Capabilities::sorted_lists`] says so.
    Behind(String),
}

/// A ranged GET under way: what it is of, and its bytes as they arrive.
pub struct Download {
    pub etag: ETag,
    /// The whole object's size, from Content-Range.
    pub object_size: u64,
    /// The store's own time of the object, if it told.
    pub modified: Option<SystemTime>,
    pub body: DownloadBody,
}

/// The bytes of a ranged GET. `next` answers `None` only after exactly the bytes asked for:
/// a short or long body is an error.
#[async_trait]
pub trait BodyStream: Send {
    async fn next(&mut self) -> Option<Result<Bytes>>;
}
pub type DownloadBody = Box<dyn BodyStream>;

/// What the store acknowledged of a part (or of a part copied on the server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReceipt {
    pub etag: ETag,
    /// The store's own CRC-64/NVME of the part, where it tells one.
    pub crc64: Option<u64>,
    /// An earlier attempt at it was not answered, and may land yet.
    pub strayed: bool,
}

/// A part as Complete names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: u32,
    pub etag: ETag,
    pub crc64: Option<u64>,
}

/// A part as ListParts shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    pub number: u32,
    pub size: u64,
    pub etag: ETag,
}

/// An upload as ListMultipartUploads shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    pub key: String,
    pub upload_id: UploadId,
    /// `None`: the store does not tell, or nothing that can be.
    pub initiated: Option<SystemTime>,
    /// The metadata it was begun with, where a listing tells that: our token proves that it is ours, or not.
    pub metadata: Option<Metadata>,
}

/// None of the times that are told where there is none: zeros, the year one.
fn moment(time: SystemTime) -> Option<SystemTime> {
    /// Older than any object store.
    const YEAR_2000: Duration = Duration::from_secs(946_684_800);
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.is_ok_and(|since| since > YEAR_2000).then_some(time)
}

#[derive(Clone, Debug, Default)]
pub struct ListUploadsPage {
    pub uploads: Vec<ListedUpload>,
    /// (key marker, upload id marker) of the next page.
    pub next: Option<(String, String)>,
}

/// What a store can do and how much of it. Data, not code: one value a vendor.
#[derive(Clone, Debug)]
pub struct Capabilities {
    pub name: &'static str,
    /// All parts but the last at least this large.
    pub part_min: u64,
    pub part_max: u64,
    pub parts_max: u32,
    pub object_max: u64,
    /// All parts but the last must have the same size.
    pub parts_equal: bool,
    /// UploadPartCopy is there, for ranges.
    pub part_copy: bool,
    /// A copy whose source is another version than was named is refused; else its source is looked at.
    pub copy_conditions: bool,
    /// RenameObject is there, for objects.
    pub rename: bool,
    /// The largest object a single PUT takes. Nothing: only what is empty is put, the rest goes up in parts.
    pub put_max: u64,
    /// The largest object a single copy takes.
    pub copy_max: u64,
    /// Files are written front to back and never changed: nothing of an object can be had for a new one.
    pub streamed: bool,
    /// Checksum header `x-amz-checksum-crc64nvme` is taken and checked.
    pub crc64: bool,
    /// If-Match / If-None-Match on PutObject and Complete are honoured.
    pub conditional_writes: bool,
    /// A write of a new object is refused where one is; where `conditional_writes` hold, it is anyway.
    pub conditional_creates: bool,
    /// The vendor's own header for that, instead of If-None-Match.
    pub creates_by: Option<&'static str>,
    /// Version of the list call.
    pub list_v2: bool,
    /// Listings are in the order of the keys, and begin behind any key that is named.
    pub sorted_lists: bool,
    /// DeleteObjects is there.
    pub multi_delete: bool,
    /// A body goes with UNSIGNED-PAYLOAD; else its SHA-256 is computed and signed.
    pub unsigned_payload: bool,
    /// Open uploads are listed by what their keys begin with; else those of an exact key alone.
    pub uploads_by_prefix: bool,
    pub virtual_host: bool,
    pub key_max: usize,
}

impl Capabilities {
    /// Can a write be refused because somebody else's came first? Else the reason, and what helps.
    pub fn minds_conflicts(&self) -> std::result::Result<(), String> {
        if self.conditional_writes || self.conditional_creates {
            return Ok(());
        }
        let name = self.name;
        Err(match self.creates_by {
            Some(header) => format!(
                "needs a store that honours conditions on writes, and {name} ignores {header} in a bucket that ever kept versions: if this one never did, add --capability conditional_creates=true"
            ),
            None => format!(
                "needs a store that honours conditions on writes, which is not known of provider {name}: leave the flag out, or name the provider if it is another one"
            ),
        })
    }
}

/// Bytes of objects a second, of all requests together; `None`: as many as there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub up: Option<u64>,
    pub down: Option<u64>,
}

/// How long and how often a call is tried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What an attempt may take, and once more for each MiB that it carries ([`patience`](Self::patience)).
    pub request_timeout: Duration,
    /// Attempts a call, the first included.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_timeout: Duration::from_secs(30),
            attempts: 5,
        }
    }
}

impl Limits {
    /// The time an attempt has that moves this many bytes.
    fn patience(&self, bytes: u64) -> Duration {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        self.request_timeout.saturating_mul(mib.saturating_add(1))
    }
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    fn capabilities(&self) -> &Capabilities;

    /// What was asked of it so far.
    fn tally(&self) -> &tally::Tally;

    /// `s3://bucket/prefix`, for messages.
    fn describe(&self) -> String;

    /// The service's address, however it was found, where it is not the vendor's usual one.
    fn endpoint(&self) -> Option<&str> {
        None
    }

    /// Where it is, if there may be others of its name elsewhere.
    fn region(&self) -> Option<&str> {
        None
    }

    /// How long one attempt at a request without a body may take.
    fn request_timeout(&self) -> Duration;

    /// What time the store thinks it is.
    fn clock(&self) -> SystemTime;

    async fn head(&self, key: &str) -> Result<ObjectInfo>;

    /// Keys that start with `prefix`; with `delimiter`, those below the next `/` are rolled up.
    async fn list(
        &self,
        prefix: &str,
        delimiter: bool,
        from: Option<&Continuation>,
        max: u32,
    ) -> Result<ListPage>;

    /// The first keys that start with `prefix`, `count` of them if there are so many. (A page may have fewer than were asked for,
    /// or none at all, and more behind it.)
    async fn first_below(&self, prefix: &str, count: usize) -> Result<Vec<ListEntry>> {
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let wanted = (count - found.len()) as u32;
            let page = self.list(prefix, false, from.as_ref(), wanted).await?;
            found.extend(page.entries);
            from = page.next;
            if found.len() >= count || from.is_none() {
                return Ok(found);
            }
        }
    }

    /// The bytes `range` of the object as long as it is the version `etag`; [`ErrorKind::Conflict`]
    /// when it is another one, checked against the answer too, for stores that ignore If-Match.
    async fn get(&self, key: &str, etag: &ETag, range: std::ops::Range<u64>) -> Result<Download>;

    /// The same of a version that is not the key's any more, in a bucket that keeps versions; `version`
    /// is the store's own name of it ([`ObjectInfo::version`]).
    async fn get_version(
        &self,
        key: &str,
        version: &str,
        etag: &ETag,
        range: std::ops::Range<u64>,
    ) -> Result<Download>;

    /// Commits a whole object in one request. Answers its version.
    async fn put(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
        condition: &Precondition,
    ) -> Result<ETag>;

    /// Makes `key` what `source` is, as long as that is the version `etag` ([`ErrorKind::Conflict`]
    /// otherwise): with all that is said of it, or with `attributes` instead. At most
    /// [`Capabilities::copy_max`] bytes. Answers the version it made. Repeating it is harmless. Without
    /// [`Capabilities::copy_conditions`] a Conflict may come when `key` is another version of `source` already.
    async fn copy(
        &self,
        key: &str,
        source: &str,
        etag: &ETag,
        size: u64,
        attributes: Option<&Attributes>,
    ) -> Result<ETag>;

    /// Gives the object `source` the key `key` in one step, as long as it is the version `etag`
    /// ([`ErrorKind::Conflict`] otherwise); it stays that version. Where [`Capabilities::rename`] says so.
    async fn rename(&self, key: &str, source: &str, etag: &ETag) -> Result<()>;

    /// Asks for the bytes of an archived object, as a copy for so many days ([`Archive::Class`]) or for good
    /// ([`Archive::Tier`]). They come by and by; asking twice is harmless.
    async fn restore(&self, key: &str, days: Option<u32>) -> Result<()>;

    /// Succeeds also when there is nothing to delete.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Deletes all of these, however many, in as few requests as the store has a way for
    /// ([`Capabilities::multi_delete`]). Answers for each of them, in their order, what [`Store::delete`] would.
    async fn delete_many(&self, keys: &[String]) -> Vec<Result<()>> {
        delete_each(self, keys).await
    }

    /// Sent exactly once: a second try after a lost answer would leave an upload nobody knows.
    async fn create_upload(&self, key: &str, attributes: &Attributes) -> Result<UploadId>;

    async fn upload_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartReceipt>;

    /// A part from a range of the object `source` (which must still be the version `etag`).
    async fn copy_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        etag: &ETag,
        range: std::ops::Range<u64>,
    ) -> Result<PartReceipt>;

    /// Sent exactly once; see [`ErrorKind::Unknown`]. `size` is what the object must come to.
    async fn complete_upload(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[CompletedPart],
        size: u64,
        condition: &Precondition,
    ) -> Result<ETag>;

    /// Sent once, so that the caller counts; [`ErrorKind::NoSuchUpload`] when it is gone.
    async fn abort_upload(&self, key: &str, upload: &UploadId) -> Result<()>;

    /// A page of them, which is enough to know whether anything is left of this upload.
    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<ListedPart>>;

    /// How many parts there are of it, and their bytes.
    async fn size_of_upload(&self, key: &str, upload: &UploadId) -> Result<(usize, u64)>;

    async fn list_uploads(
        &self,
        prefix: &str,
        from: Option<&(String, String)>,
    ) -> Result<ListUploadsPage>;
}

/// How many are deleted at once where each is a request of its own.
const DELETED_AT_ONCE: usize = 32;

/// [`Store::delete_many`] for who has nothing better.
async fn delete_each<S: Store + ?Sized>(store: &S, keys: &[String]) -> Vec<Result<()>> {
    let mut done = Vec::with_capacity(keys.len());
    for some in keys.chunks(DELETED_AT_ONCE) {
        done.extend(join_all(some.iter().map(|key| store.delete(key))).await);
    }
    done
}

/// Opens the bucket, or the vault, that the options name.
pub async fn open(options: s3::Options) -> std::result::Result<Arc<dyn Store>, s3::ConnectError> {
    Ok(match options.vault {
        None => Arc::new(s3::S3Store::connect(options).await?),
        Some(_) => Arc::new(glacier::GlacierStore::connect(options).await?),
    })
}
