//! Listings: objects, uploads, parts. The paging itself is in [`crate::embedded::list`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::{Answer, Api, etag, ok, owner};
use crate::embedded::digest::crc_to_header;
use crate::embedded::error::Error;
use crate::embedded::list::{After, Page, common_prefix, page, page_directories_first, url_encode};
use crate::embedded::model::{Object as StoredObject, Upload, UploadName};

/// The most entries of a page of any listing, and how many there are unless asked otherwise.
const MOST: i32 = 1000;

fn page_size(asked: Option<i32>) -> Result<i32, Error> {
    match asked.unwrap_or(MOST) {
        asked if asked < 0 => Err(Error::invalid_argument(
            "Argument must be an integer of at least 0",
        )),
        asked => Ok(asked.min(MOST)),
    }
}

/// Names as the client wants them.
struct Encoding(Option<EncodingType>);

impl Encoding {
    fn text(&self, text: &str) -> String {
        match &self.0 {
            Some(kind) if kind.as_str() == EncodingType::URL => url_encode(text),
            _ => text.to_owned(),
        }
    }

    fn prefixes(&self, prefixes: &[String]) -> Vec<CommonPrefix> {
        prefixes
            .iter()
            .map(|prefix| CommonPrefix {
                prefix: Some(self.text(prefix)),
            })
            .collect()
    }

    fn objects(&self, page: &Page<'_, Arc<StoredObject>>, with_owner: bool) -> Vec<Object> {
        let object = |(key, object): &(&str, &Arc<StoredObject>)| Object {
            checksum_algorithm: object
                .crc64
                .map(|_| vec![ChecksumAlgorithm::from_static(ChecksumAlgorithm::CRC64NVME)]),
            checksum_type: object
                .crc64
                .map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            e_tag: Some(etag(&object.etag)),
            key: Some(self.text(key)),
            last_modified: Some(object.modified.into()),
            owner: with_owner.then(owner),
            restore_status: None,
            size: i64::try_from(object.blob.len()).ok(),
            storage_class: Some(
                object
                    .attributes
                    .storage_class
                    .clone()
                    .unwrap_or_else(|| "STANDARD".into())
                    .into(),
            ),
        };
        page.items.iter().map(object).collect()
    }
}

impl Api {
    /// The objects are copied into the answer under the lock, a page at a time.
    fn listing<T>(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        after: &After,
        max: i32,
        answer: impl FnOnce(Page<'_, Arc<StoredObject>>) -> T,
    ) -> S3Result<T> {
        let max = usize::try_from(max).unwrap_or(0);
        let max = max.min(self.model.dialect.page_most);
        let listed = self.model.with(bucket, |bucket| {
            let page = match self.model.dialect.directories_first {
                true => page_directories_first(&bucket.objects, prefix, delimiter, after, max),
                false => page(&bucket.objects, prefix, delimiter, after, max),
            };
            Ok(answer(page))
        });
        Ok(listed?)
    }

    pub(super) fn list_v1(&self, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
        let max = page_size(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or("");
        let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
        let after = After::marker(input.marker.as_deref(), prefix, delimiter);
        let encoding = Encoding(input.encoding_type.clone());
        let output = self.listing(&input.bucket, prefix, delimiter, &after, max, |page| {
            let next = match &page.next {
                // Without a delimiter the client is to take the last key.
                After::Key(last) | After::Prefix(last) if page.truncated && delimiter.is_some() => {
                    Some(encoding.text(last))
                }
                _ => None,
            };
            ListObjectsOutput {
                contents: Some(encoding.objects(&page, true)),
                common_prefixes: Some(encoding.prefixes(&page.prefixes)),
                is_truncated: Some(page.truncated),
                next_marker: next,
                ..ListObjectsOutput::default()
            }
        })?;
        ok(ListObjectsOutput {
            delimiter: delimiter.map(|text| encoding.text(text)),
            encoding_type: input.encoding_type,
            marker: Some(encoding.text(input.marker.as_deref().unwrap_or(""))),
            max_keys: Some(max),
            prefix: Some(encoding.text(prefix)),
            name: Some(input.bucket),
            ..output
        })
    }

    pub(super) fn list_v2(&self, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
        if self.model.dialect.list_v1_only {
            let message =
                "A header or query you provided implies functionality that is not implemented.";
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, message));
        }
        let max = page_size(input.max_keys)?;
        let prefix = input.prefix.as_deref().unwrap_or("");
        let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => After::from_token(token).ok_or_else(|| {
                Error::invalid_argument("The continuation token provided is incorrect")
            })?,
            (None, Some(key)) if !key.is_empty() && !self.model.dialect.start_after_ignored => {
                After::Key(key.clone())
            }
            (None, _) => After::Start,
        };
        let encoding = Encoding(input.encoding_type.clone());
        let with_owner = input.fetch_owner.unwrap_or(false);
        let output = self.listing(&input.bucket, prefix, delimiter, &after, max, |page| {
            ListObjectsV2Output {
                contents: Some(encoding.objects(&page, with_owner)),
                common_prefixes: Some(encoding.prefixes(&page.prefixes)),
                is_truncated: Some(page.truncated),
                key_count: i32::try_from(page.items.len() + page.prefixes.len()).ok(),
                next_continuation_token: page.next.to_token().filter(|_| page.truncated),
                ..ListObjectsV2Output::default()
            }
        })?;
        ok(ListObjectsV2Output {
            continuation_token: input.continuation_token,
            delimiter: delimiter.map(|text| encoding.text(text)),
            encoding_type: input.encoding_type,
            max_keys: Some(max),
            prefix: Some(encoding.text(prefix)),
            start_after: input.start_after.as_deref().map(|text| encoding.text(text)),
            name: Some(input.bucket),
            ..output
        })
    }

    pub(super) fn list_parts_of(&self, input: ListPartsInput) -> Answer<ListPartsOutput> {
        let max = page_size(input.max_parts)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let after = Bound::Excluded(u32::try_from(marker).unwrap_or(0));
        let output = self.model.with(&input.bucket, |bucket| {
            let name = (input.key.clone(), input.upload_id.clone());
            let upload = bucket
                .uploads
                .get(&name)
                .ok_or_else(Error::no_such_upload)?;
            let mut rest = upload.parts.range((after, Bound::Unbounded)).peekable();
            let taken = rest.by_ref().take(usize::try_from(max).unwrap_or(0));
            let parts: Vec<Part> = taken
                .map(|(number, part)| Part {
                    checksum_crc64nvme: part.crc64.map(crc_to_header),
                    e_tag: Some(etag(&part.etag)),
                    last_modified: Some(part.modified.into()),
                    part_number: i32::try_from(*number).ok(),
                    size: i64::try_from(part.blob.len()).ok(),
                    ..Part::default()
                })
                .collect();
            let truncated = max > 0 && rest.peek().is_some();
            Ok(ListPartsOutput {
                checksum_algorithm: algorithm(upload),
                initiator: Some(initiator(upload)),
                is_truncated: Some(truncated),
                next_part_number_marker: parts.last().and_then(|part| part.part_number),
                parts: Some(parts),
                storage_class: Some(storage_class(upload)),
                ..ListPartsOutput::default()
            })
        })?;
        ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            max_parts: Some(max),
            owner: Some(owner()),
            part_number_marker: Some(marker),
            upload_id: Some(input.upload_id),
            ..output
        })
    }

    pub(super) fn list_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> Answer<ListMultipartUploadsOutput> {
        let max = page_size(input.max_uploads)?;
        let prefix = input.prefix.as_deref().unwrap_or("");
        let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
        let encoding = Encoding(input.encoding_type.clone());
        let exact = self.model.dialect.list_uploads_exact_key_only;
        let marker = UploadMarker::new(
            input.key_marker.as_deref(),
            input.upload_id_marker.as_deref(),
            prefix,
            delimiter,
        );
        let output = self.model.with(&input.bucket, |bucket| {
            let most = usize::try_from(max).unwrap_or(0);
            let page = uploads_page(&bucket.uploads, prefix, exact, delimiter, &marker, most);
            let upload = |((key, id), upload): &(&UploadName, &Upload)| MultipartUpload {
                checksum_algorithm: algorithm(upload),
                checksum_type: None,
                initiated: Some(upload.initiated.into()),
                initiator: Some(initiator(upload)),
                key: Some(encoding.text(key)),
                owner: Some(owner()),
                storage_class: Some(storage_class(upload)),
                upload_id: Some(id.clone()),
            };
            let next = page.next.filter(|_| page.truncated);
            Ok(ListMultipartUploadsOutput {
                common_prefixes: Some(encoding.prefixes(&page.prefixes)),
                is_truncated: Some(page.truncated),
                next_key_marker: next.as_ref().map(|(key, _)| encoding.text(key)),
                next_upload_id_marker: next.map(|(_, id)| id),
                uploads: Some(page.uploads.iter().map(upload).collect()),
                ..ListMultipartUploadsOutput::default()
            })
        })?;
        ok(ListMultipartUploadsOutput {
            delimiter: delimiter.map(|text| encoding.text(text)),
            encoding_type: input.encoding_type,
            key_marker: Some(encoding.text(input.key_marker.as_deref().unwrap_or(""))),
            max_uploads: Some(max),
            prefix: Some(encoding.text(prefix)),
            upload_id_marker: input.upload_id_marker,
            bucket: Some(input.bucket),
            ..output
        })
    }
}

fn algorithm(upload: &Upload) -> Option<ChecksumAlgorithm> {
    upload
        .checksummed
        .then(|| ChecksumAlgorithm::from_static(ChecksumAlgorithm::CRC64NVME))
}

fn initiator(upload: &Upload) -> Initiator {
    Initiator {
        display_name: Some(upload.initiator.clone()),
        id: Some(upload.initiator.clone()),
    }
}

fn storage_class(upload: &Upload) -> StorageClass {
    upload
        .attributes
        .storage_class
        .clone()
        .unwrap_or_else(|| "STANDARD".into())
        .into()
}

/// Where a listing of uploads goes on.
enum UploadMarker {
    Start,
    /// Behind all uploads of this key.
    Key(String),
    /// Behind this upload.
    Upload(String, String),
    /// Behind everything that begins so.
    Prefix(String),
}

impl UploadMarker {
    fn new(
        key: Option<&str>,
        id: Option<&str>,
        prefix: &str,
        delimiter: Option<&str>,
    ) -> UploadMarker {
        match (
            After::marker(key, prefix, delimiter),
            id.filter(|id| !id.is_empty()),
        ) {
            (After::Start, _) => UploadMarker::Start,
            (After::Prefix(prefix), _) => UploadMarker::Prefix(prefix),
            (After::Key(key), None) => UploadMarker::Key(key),
            (After::Key(key), Some(id)) => UploadMarker::Upload(key, id.to_owned()),
        }
    }

    fn passed(&self, (key, id): &UploadName) -> bool {
        match self {
            UploadMarker::Start => true,
            UploadMarker::Key(last) => key > last,
            UploadMarker::Upload(last, last_id) => (key, id) > (last, last_id),
            UploadMarker::Prefix(last) => key > last && !key.starts_with(last.as_str()),
        }
    }
}

struct UploadsPage<'a> {
    uploads: Vec<(&'a UploadName, &'a Upload)>,
    prefixes: Vec<String>,
    truncated: bool,
    /// Key and upload id of the last entry; the id of a prefix is empty.
    next: Option<UploadName>,
}

/// Uploads are few beside objects: a plain walk will do.
fn uploads_page<'a>(
    all: &'a BTreeMap<UploadName, Upload>,
    prefix: &str,
    exact: bool,
    delimiter: Option<&str>,
    marker: &UploadMarker,
    max: usize,
) -> UploadsPage<'a> {
    let mut page = UploadsPage {
        uploads: Vec::new(),
        prefixes: Vec::new(),
        truncated: false,
        next: None,
    };
    let meant = |key: &str| {
        if exact {
            key == prefix
        } else {
            key.starts_with(prefix)
        }
    };
    for (name, upload) in all
        .iter()
        .filter(|(name, _)| meant(&name.0) && marker.passed(name))
    {
        let rolled = common_prefix(&name.0, prefix, delimiter);
        if rolled.is_some() && rolled == page.prefixes.last().map(String::as_str) {
            continue;
        }
        if page.uploads.len() + page.prefixes.len() >= max {
            page.truncated = max > 0;
            break;
        }
        match rolled {
            Some(rolled) => {
                page.next = Some((rolled.to_owned(), String::new()));
                page.prefixes.push(rolled.to_owned());
            }
            None => {
                page.next = Some(name.clone());
                page.uploads.push((name, upload));
            }
        }
    }
    page
}
