//! Each call of [`Store`] as S3's request, and S3's answer as ours.
//!
//! Invariants:
//! - An answer is believed only as far as it can be checked: a missing ETag, another range, another
//!   version or another checksum than was sent is an error.
//! - The prefix is added to every key that goes out and stripped from every key that comes in.

use std::collections::HashMap;
use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart as SdkPart,
    EncodingType, MetadataDirective, RestoreRequest,
};

use super::classify::{Came, Failure, Op};
use super::contents::QuickContents;
use super::exchange::Patience;
use super::forms::{decode_crc64, encode_crc64, quoted, unquoted};
use super::list::{Next, Page, decoder, time};
use super::told::{etag, told_all_the_same};
use super::{S3Store, keys};
use crate::random::random_token;
use crate::store::tally::Tally;
use crate::store::{
    Attributes, Body, Capabilities, CompletedPart, Continuation, Download, ETag, Error, ErrorKind,
    ListPage, ListUploadsPage, ListedPart, ListedUpload, ObjectInfo, PartReceipt, Precondition,
    Result, Store, UploadId, moment,
};

#[async_trait]
impl Store for S3Store {
    fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    fn tally(&self) -> &Tally {
        &self.line.tally
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.as_str())
    }

    fn request_timeout(&self) -> std::time::Duration {
        self.line.limits.request_timeout
    }

    fn clock(&self) -> std::time::SystemTime {
        self.clock.now()
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.head_or_why_not(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        delimiter: bool,
        from: Option<&Continuation>,
        max: u32,
    ) -> Result<ListPage> {
        let delimiter = delimiter.then_some("/".to_string());
        let max = i32::try_from(max).unwrap_or(i32::MAX);
        let (said, behind) = match from {
            None => (None, None),
            Some(Continuation::Said(text)) => (Some(text.clone()), None),
            Some(Continuation::Behind(key)) => (None, Some(self.full(key))),
        };
        let full = self.full(prefix);
        if self.capabilities.list_v2 {
            let request = || {
                self.client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(&full)
                    .set_delimiter(delimiter.clone())
                    .set_continuation_token(said.clone())
                    .set_start_after(behind.clone())
                    .max_keys(max)
                    .encoding_type(EncodingType::Url)
                    .customize()
                    .interceptor(QuickContents)
                    .send()
            };
            let page = self
                .call(Op::LIST, prefix, self.patience(0), request, Ok)
                .await?;
            let next = match page.is_truncated() {
                Some(true) => Next::Token(page.next_continuation_token),
                // Who says where it goes on says that it does.
                None if page.next_continuation_token.is_some() => {
                    Next::Token(page.next_continuation_token)
                }
                _ => Next::Done,
            };
            let page = Page {
                objects: page.contents.unwrap_or_default(),
                prefixes: page.common_prefixes.unwrap_or_default(),
                encoding: page.encoding_type,
                next,
            };
            page.read(&self.prefix, prefix, from)
        } else {
            let request = || {
                self.client
                    .list_objects()
                    .bucket(&self.bucket)
                    .prefix(&full)
                    .set_delimiter(delimiter.clone())
                    .set_marker(said.clone().or_else(|| behind.clone()))
                    .max_keys(max)
                    .encoding_type(EncodingType::Url)
                    .send()
            };
            let page = self
                .call(Op::LIST, prefix, self.patience(0), request, Ok)
                .await?;
            let next = match page.is_truncated() {
                Some(true) => Next::Marker(page.next_marker.filter(|m| !m.is_empty())),
                None if page.next_marker.as_ref().is_some_and(|m| !m.is_empty()) => {
                    Next::Marker(page.next_marker)
                }
                _ => Next::Done,
            };
            let page = Page {
                objects: page.contents.unwrap_or_default(),
                prefixes: page.common_prefixes.unwrap_or_default(),
                encoding: page.encoding_type,
                next,
            };
            page.read(&self.prefix, prefix, from)
        }
    }

    async fn get(&self, key: &str, version: &ETag, range: Range<u64>) -> Result<Download> {
        self.get_any(key, None, version, range).await
    }

    async fn get_version(
        &self,
        key: &str,
        version: &str,
        etag: &ETag,
        range: Range<u64>,
    ) -> Result<Download> {
        self.get_any(key, Some(version), etag, range).await
    }

    async fn put(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
        condition: &Precondition,
    ) -> Result<ETag> {
        let op = match condition {
            Precondition::None => Op::PUT,
            _ => Op::PUT_GUARDED,
        };
        let guard = self.guard(op, key, condition).await?;
        let patience = self.patience_to_send(&body);
        let payload = self.payload(&body);
        let request = || {
            self.client
                .put_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .set_content_type(attributes.content_type.clone())
                .set_cache_control(attributes.cache_control.clone())
                .set_content_disposition(attributes.content_disposition.clone())
                .set_content_encoding(attributes.content_encoding.clone())
                .set_content_language(attributes.content_language.clone())
                .set_metadata(metadata(attributes))
                .set_checksum_crc64_nvme(self.checksum(&body))
                .body(self.line.sending(&body, &patience))
                .customize()
                .interceptor(payload.clone())
                .interceptor(guard.clone())
                .send()
        };
        self.call(op, key, patience.clone(), request, |put| {
            self.echoed(op, key, &body, put.checksum_crc64_nvme())?;
            etag(op, key, put.e_tag())
        })
        .await
    }

    async fn copy(
        &self,
        key: &str,
        source: &str,
        version: &ETag,
        size: u64,
        attributes: Option<&Attributes>,
    ) -> Result<ETag> {
        let op = Op::COPY;
        let replaces = attributes.is_some();
        let said = attributes.cloned().unwrap_or_default();
        self.expect_source(op, source, version).await?;
        let request = || {
            self.client
                .copy_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .copy_source(keys::copy_source(&self.bucket, &self.full(source)))
                .copy_source_if_match(quoted(version))
                .set_metadata_directive(replaces.then_some(MetadataDirective::Replace))
                .set_content_type(said.content_type.clone())
                .set_cache_control(said.cache_control.clone())
                .set_content_disposition(said.content_disposition.clone())
                .set_content_encoding(said.content_encoding.clone())
                .set_content_language(said.content_language.clone())
                .set_metadata(metadata(&said))
                .send()
        };
        let made = self
            .call(op, key, self.patience(size), request, |copied| {
                let result = copied.copy_object_result();
                etag(op, key, result.and_then(|r| r.e_tag()))
            })
            .await?;
        match key == source {
            true => self.expect_itself(op, key, &made, size).await?,
            false => self.expect_source(op, source, version).await?,
        }
        Ok(made)
    }

    async fn rename(&self, key: &str, source: &str, version: &ETag) -> Result<()> {
        // By it the store knows a repetition, which would not find the source any more.
        let token = random_token();
        let request = || {
            self.client
                .rename_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .rename_source(keys::encoded(&self.full(source)))
                .source_if_match(quoted(version))
                .client_token(&token)
                .send()
        };
        self.call(Op::RENAME, key, self.patience(0), request, |_| Ok(()))
            .await
    }

    async fn restore(&self, key: &str, days: Option<u32>) -> Result<()> {
        let days = days.map(|days| i32::try_from(days).unwrap_or(i32::MAX));
        let wanted = RestoreRequest::builder().set_days(days).build();
        let request = || {
            self.client
                .restore_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .restore_request(wanted.clone())
                .send()
        };
        match self
            .call(Op::RESTORE, key, self.patience(0), request, |_| Ok(()))
            .await
        {
            Err(e) if e.code == "RestoreAlreadyInProgress" => Ok(()),
            done => done,
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let request = || {
            self.client
                .delete_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .send()
        };
        match self
            .call(Op::DELETE, key, self.patience(0), request, |_| Ok(()))
            .await
        {
            Err(e) if e.kind == ErrorKind::Missing && !e.is_of_the_bucket() => Ok(()),
            done => done,
        }
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<()>> {
        self.delete_all(keys).await
    }

    async fn create_upload(&self, key: &str, attributes: &Attributes) -> Result<UploadId> {
        let crc64 = self.capabilities.crc64;
        let request = || async {
            let answer = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(key))
                .set_content_type(attributes.content_type.clone())
                .set_cache_control(attributes.cache_control.clone())
                .set_content_disposition(attributes.content_disposition.clone())
                .set_content_encoding(attributes.content_encoding.clone())
                .set_content_language(attributes.content_language.clone())
                .set_metadata(metadata(attributes))
                .set_checksum_algorithm(crc64.then_some(ChecksumAlgorithm::Crc64Nvme))
                .set_checksum_type(crc64.then_some(ChecksumType::FullObject))
                .send()
                .await;
            match answer {
                Ok(created) => Ok(created.upload_id().map(str::to_string)),
                // rclone calls the answer by a name that the SDK does not know.
                Err(error) => {
                    match told_all_the_same(&error, "InitiateMultipartUpload", "UploadId") {
                        Some(id) => Ok(Some(id)),
                        None => Err(error),
                    }
                }
            }
        };
        self.call(Op::CREATE, key, self.patience(0), request, |id| match id {
            Some(id) if !id.is_empty() => Ok(UploadId(id)),
            _ => Err(Failure::incomplete(Op::CREATE, key, "no upload id")),
        })
        .await
    }

    async fn upload_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartReceipt> {
        let number = part_number(Op::PART, key, number)?;
        let patience = self.patience_to_send(&body);
        let payload = self.payload(&body);
        let request = || {
            self.client
                .upload_part()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(&upload.0)
                .part_number(number)
                .set_checksum_crc64_nvme(self.checksum(&body))
                .body(self.line.sending(&body, &patience))
                .customize()
                .interceptor(payload.clone())
                .send()
        };
        let sent = self.call(Op::PART, key, patience.clone(), request, |part| {
            let crc64 = self.echoed(Op::PART, key, &body, part.checksum_crc64_nvme())?;
            Ok(PartReceipt {
                etag: etag(Op::PART, key, part.e_tag())?,
                crc64,
                strayed: false,
            })
        });
        patience.with_strays(sent.await)
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        version: &ETag,
        range: Range<u64>,
    ) -> Result<PartReceipt> {
        let op = Op::COPY_PART;
        let number = part_number(op, key, number)?;
        let Some(bytes) = range.end.checked_sub(range.start).filter(|&n| n > 0) else {
            return Err(op.error(ErrorKind::Invalid, key, "EmptyRange", "nothing to copy"));
        };
        let request = || {
            self.client
                .upload_part_copy()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(&upload.0)
                .part_number(number)
                .copy_source(keys::copy_source(&self.bucket, &self.full(source)))
                .copy_source_if_match(quoted(version))
                .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1))
                .send()
        };
        let patience = Patience::from(self.patience(bytes));
        let copied = self
            .call(op, key, patience.clone(), request, |copied| {
                let Some(result) = copied.copy_part_result() else {
                    return Err(Failure::incomplete(op, key, "no result"));
                };
                let crc64 = result.checksum_crc64_nvme().and_then(decode_crc64);
                Ok(PartReceipt {
                    etag: etag(op, key, result.e_tag())?,
                    crc64,
                    strayed: false,
                })
            })
            .await;
        let copied = patience
            .with_strays(copied)
            .map_err(|error| match error.code.as_str() {
                "NotImplemented" | "IncompleteAnswer" => Error {
                    message: "this store copies no parts: mount with --capability part_copy=false"
                        .into(),
                    ..error
                },
                _ => error,
            })?;
        // Nothing is published before Complete: that it was the source is soon enough.
        self.expect_source(op, source, version).await?;
        Ok(copied)
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[CompletedPart],
        size: u64,
        condition: &Precondition,
    ) -> Result<ETag> {
        let op = Op::COMPLETE;
        let guard = self.guard(op, key, condition).await?;
        let crc64 = self.capabilities.crc64;
        let mut named = Vec::with_capacity(parts.len());
        for part in parts {
            let checksum = part.crc64.filter(|_| crc64).map(encode_crc64);
            named.push(
                SdkPart::builder()
                    .part_number(part_number(op, key, part.number)?)
                    .e_tag(quoted(&part.etag))
                    .set_checksum_crc64_nvme(checksum)
                    .build(),
            );
        }
        let named = CompletedMultipartUpload::builder()
            .set_parts(Some(named))
            .build();
        let request = || async {
            let answer = self
                .client
                .complete_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(&upload.0)
                .multipart_upload(named.clone())
                .set_mpu_object_size(crc64.then(|| i64::try_from(size).ok()).flatten())
                .customize()
                .interceptor(guard.clone())
                .send()
                .await;
            match answer {
                Ok(done) => Ok(done.e_tag().map(str::to_string)),
                // White space sent ahead of the XML, to keep the connection alive, is more than
                // the SDK's parser bears. The object is there all the same.
                Err(error) => {
                    match told_all_the_same(&error, "CompleteMultipartUploadResult", "ETag") {
                        Some(etag) => Ok(Some(etag)),
                        None => Err(error),
                    }
                }
            }
        };
        let patience = self.patience_to_complete(parts.len(), size);
        self.call(op, key, patience, request, |tag| {
            etag(op, key, tag.as_deref())
        })
        .await
    }

    async fn abort_upload(&self, key: &str, upload: &UploadId) -> Result<()> {
        let request = || {
            self.client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(&upload.0)
                .send()
        };
        self.call(Op::ABORT, key, self.patience(0), request, |_| Ok(()))
            .await
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<ListedPart>> {
        let (parts, _) = self.parts_behind(key, upload, 0).await?;
        Ok(parts)
    }

    async fn size_of_upload(&self, key: &str, upload: &UploadId) -> Result<(usize, u64)> {
        let (mut count, mut bytes, mut last) = (0, 0, 0);
        loop {
            let (parts, goes_on) = self.parts_behind(key, upload, last).await?;
            count += parts.len();
            bytes += parts.iter().map(|part| part.size).sum::<u64>();
            match parts.iter().map(|part| part.number).max() {
                Some(number) if goes_on && number > last => last = number,
                _ => return Ok((count, bytes)),
            }
        }
    }

    async fn list_uploads(
        &self,
        prefix: &str,
        from: Option<&(String, String)>,
    ) -> Result<ListUploadsPage> {
        let op = Op::LIST_UPLOADS;
        let (key_marker, id_marker) = from.cloned().unzip();
        let request = || {
            self.client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_key_marker(key_marker.clone())
                .set_upload_id_marker(id_marker.clone())
                .encoding_type(EncodingType::Url)
                .send()
        };
        let page = match self.call(op, prefix, self.patience(0), request, Ok).await {
            // Of a bucket that has none, some stores say so.
            Err(e) if e.kind == ErrorKind::NoSuchUpload => return Ok(ListUploadsPage::default()),
            page => page?,
        };
        let text = decoder(page.encoding_type());
        let within = self.full(prefix);
        let uploads = page.uploads().iter().filter_map(|upload| {
            let key = text(upload.key()?.to_string());
            // Some stores ignore the prefix; what is outside is nobody's business here.
            let relative = self
                .prefix
                .strip(key.strip_prefix(&within).map(|_| key.as_str())?)?;
            Some(ListedUpload {
                key: relative.to_string(),
                upload_id: UploadId(upload.upload_id()?.to_string()),
                initiated: moment(time(upload.initiated())),
                metadata: None,
            })
        });
        let uploads = uploads.collect();
        let next = page.is_truncated().unwrap_or(false).then(|| {
            let key = page
                .next_key_marker()
                .map(str::to_string)
                .map(&text)
                .unwrap_or_default();
            (
                key,
                page.next_upload_id_marker().unwrap_or_default().to_string(),
            )
        });
        if next.is_some() && (next.as_ref() == from || next == Some(Default::default())) {
            let message = "the store says there is more, and does not say where";
            return Err(op.error(ErrorKind::Invalid, prefix, "ListingStuck", message));
        }
        Ok(ListUploadsPage { uploads, next })
    }
}

impl S3Store {
    /// A page of the parts that have higher numbers than this, and whether there are more.
    async fn parts_behind(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
    ) -> Result<(Vec<ListedPart>, bool)> {
        let request = || {
            self.client
                .list_parts()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(&upload.0)
                .set_part_number_marker((number > 0).then(|| number.to_string()))
                .send()
        };
        self.call(Op::LIST_PARTS, key, self.patience(0), request, |page| {
            let parts = page.parts().iter().filter_map(|part| {
                Some(ListedPart {
                    number: u32::try_from(part.part_number()?).ok()?,
                    size: part.size().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                    etag: unquoted(part.e_tag().unwrap_or_default()),
                })
            });
            Ok((parts.collect(), page.is_truncated() == Some(true)))
        })
        .await
    }

    /// The checksum a store echoes must be the one that was sent.
    fn echoed(
        &self,
        op: Op,
        key: &str,
        body: &Body,
        echo: Option<&str>,
    ) -> std::result::Result<Option<u64>, Failure> {
        let crc64 = echo.and_then(decode_crc64);
        match crc64 {
            Some(told) if self.capabilities.crc64 && told != body.crc64() => {
                let message = format!("sent {:016x}, the store has {told:016x}", body.crc64());
                let error = op.error(ErrorKind::Transient, key, "ChecksumMismatch", &message);
                Err(Failure {
                    error: error.into(),
                    came: Came::PerhapsThrough,
                })
            }
            _ => Ok(crc64),
        }
    }
}

fn part_number(op: Op, key: &str, number: u32) -> Result<i32> {
    i32::try_from(number)
        .map_err(|_| op.error(ErrorKind::Invalid, key, "PartNumber", "out of range"))
}

fn metadata(attributes: &Attributes) -> Option<HashMap<String, String>> {
    let metadata = &attributes.metadata;
    (!metadata.is_empty()).then(|| {
        metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    })
}
