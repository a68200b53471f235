//! Objects: get, head, put, copy, delete.

use std::ops::Range as Span;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{CONTENT_RANGE, ETAG, HeaderValue};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Answer, Api, body_of, condition, etag, ok, same_etag};
use crate::embedded::archive::{Asked, Progress};
use crate::embedded::digest::crc_to_header;
use crate::embedded::error::Error;
use crate::embedded::ingest::{Claims, Received, receive, received_copy};
use crate::embedded::model::{Attributes, Condition, Object};
use crate::embedded::multipart::LARGEST_PART;

/// The conditions of a read, on the object or on the source of a copy.
pub(super) struct ReadCondition<'a> {
    pub matches: Option<&'a ETagCondition>,
    pub none_match: Option<&'a ETagCondition>,
    pub modified_since: Option<&'a Timestamp>,
    pub unmodified_since: Option<&'a Timestamp>,
}

impl ReadCondition<'_> {
    /// 412 or 304 where the condition does not hold, in the order RFC 9110 asks for.
    pub fn check(&self, object: &Object, copying: bool) -> S3Result<()> {
        // HTTP dates have whole seconds.
        let modified = object
            .modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified.as_secs());
        let modified = Timestamp::from(modified);
        let failed = || S3Error::from(Error::precondition_failed());
        match (self.matches, self.unmodified_since) {
            (Some(condition), _) if !same_etag(condition, &object.etag) => return Err(failed()),
            (None, Some(time)) if modified > *time => return Err(failed()),
            _ => {}
        }
        let unchanged = match (self.none_match, self.modified_since) {
            (Some(condition), _) => same_etag(condition, &object.etag),
            (None, Some(time)) => modified <= *time,
            (None, None) => false,
        };
        match (unchanged, copying) {
            (false, _) => Ok(()),
            (true, true) => Err(failed()),
            (true, false) => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", object.etag)) {
                    error.set_headers(HeaderMap::from_iter([(ETAG, tag)]));
                }
                Err(error)
            }
        }
    }
}

/// The bytes a `Range` header asks for, and the `Content-Range` that says so.
fn span_of(range: Option<Range>, size: u64) -> S3Result<(Span<u64>, Option<String>)> {
    let Some(range) = range else {
        return Ok((0..size, None));
    };
    match range.check(size) {
        Ok(span) if !span.is_empty() => {
            let text = format!("bytes {}-{}/{size}", span.start, span.end - 1);
            Ok((span, Some(text)))
        }
        _ => {
            let message = "The requested range is not satisfiable";
            let mut error = S3Error::with_message(S3ErrorCode::InvalidRange, message);
            if let Ok(all) = HeaderValue::from_str(&format!("bytes */{size}")) {
                error.set_headers(HeaderMap::from_iter([(CONTENT_RANGE, all)]));
            }
            Err(error)
        }
    }
}

fn length(span: &Span<u64>) -> Option<i64> {
    i64::try_from(span.end - span.start).ok()
}

/// Most of what HEAD and GET answer is the same, field for field.
macro_rules! describe {
    ($output:ident, $object:expr, $span:expr, $content_range:expr, $checksum:expr) => {{
        let object: &Object = $object;
        let attributes = &object.attributes;
        $output {
            accept_ranges: Some("bytes".into()),
            cache_control: attributes.cache_control.clone(),
            checksum_crc64nvme: $checksum,
            content_disposition: attributes.content_disposition.clone(),
            content_encoding: attributes.content_encoding.clone(),
            content_language: attributes.content_language.clone(),
            content_length: length($span),
            content_range: $content_range,
            content_type: Some(
                attributes
                    .content_type
                    .clone()
                    .unwrap_or_else(|| "binary/octet-stream".into()),
            ),
            e_tag: Some(etag(&object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: Some(attributes.metadata.clone().into_iter().collect()),
            storage_class: attributes.storage_class.clone().map(StorageClass::from),
            ..$output::default()
        }
    }};
}

/// What a write says about the object, from the fields all writes have in common.
macro_rules! attributes {
    ($input:expr) => {
        $crate::embedded::model::Attributes {
            content_type: $input.content_type.clone(),
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            storage_class: $input
                .storage_class
                .as_ref()
                .map(|class| class.as_str().to_owned()),
            metadata: $input
                .metadata
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        }
    };
}
pub(super) use attributes;

/// Refuses what S3 refuses.
pub(super) fn check_attributes(attributes: &Attributes) -> Result<(), Error> {
    let size: usize = attributes
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > 2048 {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(Error::new("MetadataTooLarge", message));
    }
    Ok(())
}

impl Api {
    /// A checksum is shown to who asked for it. In null mode it is not, as the zeros that are
    /// served in place of the bytes do not have it.
    fn shown_checksum(
        &self,
        object: &Object,
        mode: Option<&ChecksumMode>,
        whole: bool,
    ) -> Option<String> {
        let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        object
            .crc64
            .filter(|_| asked && whole && !self.model.null)
            .map(crc_to_header)
    }

    pub(super) fn get(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        let object = self.model.object(&input.bucket, &input.key)?;
        let condition = ReadCondition {
            matches: input.if_match.as_ref(),
            none_match: input.if_none_match.as_ref(),
            modified_since: input.if_modified_since.as_ref(),
            unmodified_since: input.if_unmodified_since.as_ref(),
        };
        condition.check(&object, false)?;
        self.check_readable(&input.bucket, &input.key, &object)?;
        let (span, content_range) = span_of(input.range, object.blob.len())?;
        let whole = content_range.is_none();
        let checksum = self.shown_checksum(&object, input.checksum_mode.as_ref(), whole);
        let body = body_of(object.blob.slice(span.clone()));
        let output = describe!(GetObjectOutput, &object, &span, content_range, checksum);
        ok(GetObjectOutput {
            body: Some(body),
            restore: self.restore_header(&input.bucket, &input.key, &object)?,
            ..output
        })
    }

    pub(super) fn head(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        let object = self.model.object(&input.bucket, &input.key)?;
        let condition = ReadCondition {
            matches: input.if_match.as_ref(),
            none_match: input.if_none_match.as_ref(),
            modified_since: input.if_modified_since.as_ref(),
            unmodified_since: input.if_unmodified_since.as_ref(),
        };
        condition.check(&object, false)?;
        let (span, content_range) = span_of(input.range, object.blob.len())?;
        let whole = content_range.is_none();
        let checksum = self.shown_checksum(&object, input.checksum_mode.as_ref(), whole);
        let output = describe!(HeadObjectOutput, &object, &span, content_range, checksum);
        ok(HeadObjectOutput {
            restore: self.restore_header(&input.bucket, &input.key, &object)?,
            ..output
        })
    }

    fn check_readable(&self, bucket: &str, key: &str, object: &Object) -> Result<(), Error> {
        self.model
            .with(bucket, |held| held.restores.check_readable(key, object))
    }

    /// `x-amz-restore`
    fn restore_header(&self, bucket: &str, key: &str, object: &Object) -> S3Result<Option<String>> {
        let progress = self
            .model
            .with(bucket, |held| Ok(held.restores.progress(key, object)))?;
        let Some(progress) = progress else {
            return Ok(None);
        };
        let Progress::Until(expires) = progress else {
            return Ok(Some("ongoing-request=\"true\"".to_owned()));
        };
        let mut date = Vec::new();
        Timestamp::from(expires)
            .format(TimestampFormat::HttpDate, &mut date)
            .map_err(S3Error::internal_error)?;
        let date = String::from_utf8_lossy(&date);
        Ok(Some(format!(
            "ongoing-request=\"false\", expiry-date=\"{date}\""
        )))
    }

    pub(super) fn restore(&self, input: RestoreObjectInput) -> Answer<RestoreObjectOutput> {
        let object = self.model.object(&input.bucket, &input.key)?;
        let takes = self.model.dialect.restore_takes;
        let days = input.restore_request.and_then(|request| request.days);
        let days = days
            .and_then(|days| u32::try_from(days).ok())
            .filter(|days| *days > 0);
        let Some(days) = days else {
            return Err(S3Error::new(S3ErrorCode::MalformedXML));
        };
        let asked = self.model.with(&input.bucket, |held| {
            held.restores.ask(&input.key, &object, takes, days)
        })?;
        let status = match asked {
            Asked::Accepted => hyper::StatusCode::ACCEPTED,
            Asked::Done => hyper::StatusCode::OK,
        };
        Ok(S3Response::with_status(
            RestoreObjectOutput::default(),
            status,
        ))
    }

    pub(super) async fn put(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let trailers = request.trailing_headers;
        let input = request.input;
        // Refused before the body where it is clear already.
        self.model.with(&input.bucket, |_| Ok(()))?;
        let attributes = attributes!(input);
        check_attributes(&attributes)?;
        let condition = condition(
            &request.headers,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        let crc64 = input.checksum_crc64nvme.as_deref();
        let claims = Claims::new(input.content_md5.as_deref(), crc64, input.content_length)?;
        let received = receive(&self.model, input.body, &claims).await?;
        verify_trailers(&received, trailers.as_ref())?;
        too_large(received.blob.len())?;
        let object = made_of(received, attributes);
        let object = self
            .model
            .put(&input.bucket, &input.key, object, &condition)?;
        ok(PutObjectOutput {
            checksum_crc64nvme: object.crc64.map(crc_to_header),
            checksum_type: object
                .crc64
                .map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            e_tag: Some(etag(&object.etag)),
            ..PutObjectOutput::default()
        })
    }

    /// The object a copy reads from, its conditions checked.
    pub(super) fn source(
        &self,
        source: &CopySource,
        condition: &ReadCondition<'_>,
    ) -> S3Result<Arc<Object>> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            let message = "Access points are not implemented.";
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, message));
        };
        let object = self.model.object(bucket, key)?;
        if !self.model.dialect.copy_conditions_ignored {
            condition.check(&object, true)?;
        }
        self.check_readable(bucket, key, &object)?;
        Ok(object)
    }

    pub(super) async fn copy(&self, input: CopyObjectInput) -> Answer<CopyObjectOutput> {
        self.model.with(&input.bucket, |_| Ok(()))?;
        let condition = ReadCondition {
            matches: input.copy_source_if_match.as_ref(),
            none_match: input.copy_source_if_none_match.as_ref(),
            modified_since: input.copy_source_if_modified_since.as_ref(),
            unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        let source = self.source(&input.copy_source, &condition)?;
        if source.blob.len() > LARGEST_PART {
            let message = "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
        }
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let itself = matches!(&input.copy_source, CopySource::Bucket { bucket, key, .. }
            if **bucket == *input.bucket && **key == *input.key);
        if itself && !replace && input.storage_class.is_none() {
            let message = "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
        }
        let given = attributes!(input);
        // The storage class is never copied.
        let attributes = if replace {
            given
        } else {
            Attributes {
                storage_class: given.storage_class,
                ..source.attributes.clone()
            }
        };
        check_attributes(&attributes)?;
        let received = received_copy(&self.model, source.blob.clone()).await?;
        let object = Object {
            crc64: received.crc64.or(source.crc64),
            ..made_of(received, attributes)
        };
        let object = self
            .model
            .put(&input.bucket, &input.key, object, &Condition::default())?;
        ok(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                checksum_crc64nvme: object.crc64.map(crc_to_header),
                e_tag: Some(etag(&object.etag)),
                last_modified: Some(object.modified.into()),
                ..CopyObjectResult::default()
            }),
            ..CopyObjectOutput::default()
        })
    }

    pub(super) fn delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let input = request.input;
        let condition = condition(&request.headers, input.if_match.as_ref(), None)?;
        self.model.delete(&input.bucket, &input.key, &condition)?;
        ok(DeleteObjectOutput::default())
    }

    pub(super) fn delete_many(&self, input: DeleteObjectsInput) -> Answer<DeleteObjectsOutput> {
        self.model.with(&input.bucket, |_| Ok(()))?;
        if input.delete.objects.len() > 1000 {
            return Err(S3Error::new(S3ErrorCode::MalformedXML));
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let if_match = object.e_tag.map(|tag| tag.value().to_owned());
            let condition = Condition {
                if_match,
                ..Condition::default()
            };
            match self.model.delete(&input.bucket, &object.key, &condition) {
                Ok(()) if quiet => {}
                Ok(()) => {
                    deleted.push(DeletedObject {
                        key: Some(object.key),
                        ..DeletedObject::default()
                    });
                }
                Err(error) => errors.push(s3s::dto::Error {
                    code: Some(error.code.to_owned()),
                    key: Some(object.key),
                    message: Some(error.message),
                    version_id: None,
                }),
            }
        }
        ok(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        })
    }
}

fn made_of(received: Received, attributes: Attributes) -> Object {
    Object {
        blob: received.blob,
        etag: received.etag,
        crc64: received.crc64,
        modified: SystemTime::now(),
        attributes,
        upload_id: None,
    }
}

/// The size a part or an object of one PUT may have.
pub(super) fn too_large(size: u64) -> Result<(), Error> {
    if size > LARGEST_PART {
        let message = "Your proposed upload exceeds the maximum allowed size";
        return Err(Error::new("EntityTooLarge", message));
    }
    Ok(())
}

/// Checks the checksum that came behind the body, if one did.
pub(super) fn verify_trailers(
    received: &Received,
    trailers: Option<&s3s::TrailingHeaders>,
) -> Result<(), Error> {
    let trailer = trailers.and_then(|trailers| {
        trailers.read(|headers| {
            let value = headers.get("x-amz-checksum-crc64nvme")?;
            value.to_str().ok().map(str::to_owned)
        })
    });
    received.verify_trailer(trailer.flatten().as_deref())
}
