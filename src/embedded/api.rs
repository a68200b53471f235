//! The S3 protocol's operations, each handed on to where it is done.
//!
//! The protocol crate has parsed the request and checked its signature; what is not listed here it
//! answers with 501 NotImplemented.

mod lists;
mod objects;
pub(super) mod rename;
mod uploads;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::Stream;
use hyper::{HeaderMap, StatusCode};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::host::{S3Host, VirtualHost};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError};

use super::blob::{Blob, BlobStream};
use super::error::Error;
use super::model::{Condition, Model};
use super::operation::bucket_of_host;

pub(super) struct Api {
    pub model: Arc<Model>,
}

impl From<Error> for S3Error {
    fn from(error: Error) -> S3Error {
        let code = S3ErrorCode::from_bytes(error.code.as_bytes());
        let conflicts = error.code == Error::FILE_ALREADY_EXISTS;
        let mut said =
            S3Error::with_message(code.unwrap_or(S3ErrorCode::InternalError), error.message);
        if conflicts {
            // Not a word of S3's, whose status the protocol crate would know.
            said.set_status_code(StatusCode::CONFLICT);
        }
        said
    }
}

/// The keys there are, the secret of each; others are refused with S3's code.
#[derive(Clone, Default)]
pub(super) struct Keys(pub Arc<RwLock<BTreeMap<String, SecretKey>>>);

impl Keys {
    /// Each id with its secret.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let pair = |(id, secret): (&String, &SecretKey)| (id.clone(), secret.expose().to_string());
        known.iter().map(pair).collect()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(access_key).cloned().ok_or_else(|| {
            let message = "The AWS Access Key Id you provided does not exist in our records.";
            S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, message)
        })
    }
}

/// Somebody the front has let in, whatever the protocol thinks of the signature; travels with the request as
/// an extension.
#[derive(Debug, Clone)]
pub(super) struct Vouched;

/// Signed requests, and those the front vouches for.
pub(super) struct Door;

#[async_trait::async_trait]
impl S3Access for Door {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        match context.credentials().is_some() || context.extensions_mut().get::<Vouched>().is_some()
        {
            true => Ok(()),
            false => Err(S3Error::with_message(
                S3ErrorCode::AccessDenied,
                "Signature is required",
            )),
        }
    }
}

/// `BUCKET.DOMAIN`, on whatever port; any other host is path-style.
pub(super) struct Domain(pub String);

impl S3Host for Domain {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(self.0.as_str());
        Ok(match bucket_of_host(host, &self.0) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

impl Stream for BlobBody {
    type Item = Result<Bytes, StdError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::pin::Pin::new(&mut self.0)
            .poll_next(cx)
            .map_err(StdError::from)
    }
}

/// A blob as the protocol crate sends bodies.
struct BlobBody(BlobStream);

impl ByteStream for BlobBody {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.0.left()).unwrap_or(usize::MAX))
    }
}

fn body_of(blob: Blob) -> StreamingBlob {
    StreamingBlob::new(BlobBody(blob.stream()))
}

fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

fn same_etag(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(its) => its.value() == etag,
    }
}

/// COS's header, and what is made of it where the request speaks COS's own protocol.
const FORBID_OVERWRITE: [&str; 2] = ["x-cos-forbid-overwrite", "x-amz-forbid-overwrite"];

fn condition(
    headers: &HeaderMap,
    if_match: Option<&IfMatch>,
    if_none_match: Option<&IfNoneMatch>,
) -> S3Result<Condition> {
    if matches!(if_none_match, Some(ETagCondition::ETag(_))) {
        let message = "If-None-Match of a write takes `*` only.";
        return Err(S3Error::with_message(S3ErrorCode::NotImplemented, message));
    }
    let if_match = if_match.map(|condition| match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.value().to_owned(),
    });
    Ok(Condition {
        if_match,
        if_absent: if_none_match.is_some(),
        forbid_overwrite: FORBID_OVERWRITE
            .iter()
            .any(|name| headers.get(*name).is_some_and(|said| said == "true")),
    })
}

fn owner() -> Owner {
    Owner {
        display_name: Some(OWNER.to_owned()),
        id: Some(OWNER.to_owned()),
    }
}

/// Who owns everything here.
const OWNER: &str = "wholefs";

fn ok<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Api {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let bucket = |(name, created): (String, std::time::SystemTime)| Bucket {
            name: Some(name),
            creation_date: Some(created.into()),
            ..Bucket::default()
        };
        let buckets = self.model.bucket_names().into_iter().map(bucket).collect();
        ok(ListBucketsOutput {
            buckets: Some(buckets),
            owner: Some(owner()),
            ..ListBucketsOutput::default()
        })
    }

    async fn create_bucket(&self, r: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.model.create_bucket(&r.input.bucket)?;
        ok(CreateBucketOutput {
            location: Some(format!("/{}", r.input.bucket)),
        })
    }

    async fn delete_bucket(&self, r: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        self.model.delete_bucket(&r.input.bucket)?;
        Ok(S3Response::with_status(
            DeleteBucketOutput::default(),
            hyper::StatusCode::NO_CONTENT,
        ))
    }

    async fn head_bucket(&self, r: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.model.with(&r.input.bucket, |_| Ok(()))?;
        ok(HeadBucketOutput {
            bucket_region: Some("us-east-1".into()),
            ..HeadBucketOutput::default()
        })
    }

    async fn get_bucket_location(
        &self,
        r: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.model.with(&r.input.bucket, |_| Ok(()))?;
        ok(GetBucketLocationOutput::default())
    }

    async fn get_object(&self, r: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.get(r.input)
    }

    async fn head_object(&self, r: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.head(r.input)
    }

    async fn put_object(&self, r: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.put(r).await
    }

    async fn copy_object(&self, r: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.copy(r.input).await
    }

    async fn delete_object(&self, r: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.delete(r)
    }

    async fn delete_objects(
        &self,
        r: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        self.delete_many(r.input)
    }

    async fn restore_object(
        &self,
        r: S3Request<RestoreObjectInput>,
    ) -> Answer<RestoreObjectOutput> {
        self.restore(r.input)
    }

    async fn list_objects(&self, r: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        self.list_v1(r.input)
    }

    async fn list_objects_v2(
        &self,
        r: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        self.list_v2(r.input)
    }

    async fn create_multipart_upload(
        &self,
        r: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.create_upload(r)
    }

    async fn upload_part(&self, r: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.part(r).await
    }

    async fn upload_part_copy(
        &self,
        r: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        self.part_copy(r).await
    }

    async fn complete_multipart_upload(
        &self,
        r: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.complete(r)
    }

    async fn abort_multipart_upload(
        &self,
        r: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.abort(r.input)
    }

    async fn list_parts(&self, r: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.list_parts_of(r.input)
    }

    async fn list_multipart_uploads(
        &self,
        r: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.list_uploads(r.input)
    }
}
