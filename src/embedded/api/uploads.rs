//! Multipart uploads: create, part, part by copy, complete, abort.

use std::time::{Instant, SystemTime};

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::objects::{ReadCondition, attributes, check_attributes, too_large, verify_trailers};
use super::{Answer, Api, condition, etag, ok};
use crate::embedded::digest::{crc_from_header, crc_to_header};
use crate::embedded::error::Error;
use crate::embedded::front::Arrived;
use crate::embedded::ingest::{Claims, Received, receive, received_copy};
use crate::embedded::model::Upload;
use crate::embedded::multipart::{Listed, Part as StoredPart, Request, check_part_number};

fn arrived(extensions: &hyper::http::Extensions) -> Instant {
    extensions
        .get::<Arrived>()
        .map_or_else(Instant::now, |arrived| arrived.0)
}

fn part_of(received: Received) -> StoredPart {
    StoredPart {
        blob: received.blob,
        etag: received.etag,
        crc64: received.crc64,
        modified: SystemTime::now(),
    }
}

fn full_object() -> ChecksumType {
    ChecksumType::from_static(ChecksumType::FULL_OBJECT)
}

impl Api {
    pub(super) fn create_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = request.input;
        let attributes = attributes!(input);
        check_attributes(&attributes)?;
        let crc64 = ChecksumAlgorithm::CRC64NVME;
        let algorithm = input.checksum_algorithm;
        let checksummed = algorithm
            .as_ref()
            .is_some_and(|algorithm| algorithm.as_str() == crc64);
        let initiator = request
            .credentials
            .map(|credentials| credentials.access_key);
        let upload = Upload {
            attributes,
            initiated: SystemTime::now(),
            initiator: initiator.unwrap_or_default(),
            checksummed,
            parts: Default::default(),
        };
        let id = self
            .model
            .create_upload(&input.bucket, &input.key, upload)?;
        ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: algorithm,
            checksum_type: input.checksum_type,
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(super) async fn part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> Answer<UploadPartOutput> {
        let arrived = arrived(&request.extensions);
        let trailers = request.trailing_headers;
        let input = request.input;
        let number = check_part_number(input.part_number.into())?;
        self.model
            .expect_upload(&input.bucket, &input.key, &input.upload_id)?;
        let crc64 = input.checksum_crc64nvme.as_deref();
        let claims = Claims::new(input.content_md5.as_deref(), crc64, input.content_length)?;
        let received = receive(&self.model, input.body, &claims).await?;
        verify_trailers(&received, trailers.as_ref())?;
        too_large(received.blob.len())?;
        let part = part_of(received);
        let output = UploadPartOutput {
            checksum_crc64nvme: part.crc64.map(crc_to_header),
            e_tag: Some(etag(&part.etag)),
            ..UploadPartOutput::default()
        };
        self.model.put_part(
            &input.bucket,
            &input.key,
            &input.upload_id,
            number,
            part,
            arrived,
        )?;
        ok(output)
    }

    pub(super) async fn part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let arrived = arrived(&request.extensions);
        let input = request.input;
        let number = check_part_number(input.part_number.into())?;
        self.model
            .expect_upload(&input.bucket, &input.key, &input.upload_id)?;
        let condition = ReadCondition {
            matches: input.copy_source_if_match.as_ref(),
            none_match: input.copy_source_if_none_match.as_ref(),
            modified_since: input.copy_source_if_modified_since.as_ref(),
            unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        let source = self.source(&input.copy_source, &condition)?;
        let size = source.blob.len();
        let span = match &input.copy_source_range {
            None => 0..size,
            Some(text) => copy_span(text, size)?,
        };
        too_large(span.end - span.start)?;
        let part = part_of(received_copy(&self.model, source.blob.slice(span)).await?);
        let result = CopyPartResult {
            checksum_crc64nvme: part.crc64.map(crc_to_header),
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(part.modified.into()),
            ..CopyPartResult::default()
        };
        self.model.put_part(
            &input.bucket,
            &input.key,
            &input.upload_id,
            number,
            part,
            arrived,
        )?;
        ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        })
    }

    pub(super) fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let input = request.input;
        let condition = condition(
            &request.headers,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
        )?;
        let listed = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let listed = listed.into_iter().map(|part| {
            Ok(Listed {
                number: part.part_number.unwrap_or_default().into(),
                etag: part.e_tag.map(|tag| tag.value().to_owned()),
                crc64: part
                    .checksum_crc64nvme
                    .as_deref()
                    .map(crc_from_header)
                    .transpose()?,
            })
        });
        let request = Request {
            parts: listed.collect::<Result<_, Error>>()?,
            size: input.mpu_object_size,
            crc64: input
                .checksum_crc64nvme
                .as_deref()
                .map(crc_from_header)
                .transpose()?,
        };
        let (bucket, key, id) = (&input.bucket, &input.key, &input.upload_id);
        let object = self.model.complete(bucket, key, id, &request, &condition)?;
        ok(CompleteMultipartUploadOutput {
            checksum_crc64nvme: object.crc64.map(crc_to_header),
            checksum_type: object.crc64.map(|_| full_object()),
            e_tag: Some(etag(&object.etag)),
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(super) fn abort(
        &self,
        input: AbortMultipartUploadInput,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.model
            .abort(&input.bucket, &input.key, &input.upload_id)?;
        ok(AbortMultipartUploadOutput::default())
    }
}

/// `bytes=FIRST-LAST`; both are needed, and both must lie within the source.
fn copy_span(text: &str, size: u64) -> S3Result<std::ops::Range<u64>> {
    match Range::parse(text) {
        Ok(Range::Int {
            first,
            last: Some(last),
        }) if last < size => Ok(first..last + 1),
        Ok(Range::Int { last: Some(_), .. }) => {
            let message = format!("Range specified is not valid for source object of size: {size}");
            Err(S3Error::with_message(S3ErrorCode::InvalidRange, message))
        }
        _ => {
            let message = "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy";
            Err(Error::invalid_argument(message).into())
        }
    }
}
