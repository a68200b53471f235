//! A ranged GET: an answer is the object's only if it is of the version and of the range that were asked for.

use std::ops::Range;

use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::get_object::GetObjectOutput;

use super::classify::{Failure, Op};
use super::forms::{content_range, quoted, unquoted};
use super::list::time;
use super::ranges::UNSAID;
use super::{S3Store, body};
use crate::store::{Download, ETag, ErrorKind, Result, Store};

impl S3Store {
    /// A ranged GET of what the key holds, or of an older version.
    pub(super) async fn get_any(
        &self,
        key: &str,
        version_id: Option<&str>,
        version: &ETag,
        range: Range<u64>,
    ) -> Result<Download> {
        let Some(bytes) = range.end.checked_sub(range.start).filter(|&n| n > 0) else {
            // There is no way to ask for nothing; the version and the size come by HEAD.
            let head = self.head(key).await?;
            same_version(key, version, &head.etag)?;
            return Ok(Download {
                etag: head.etag,
                object_size: head.size,
                modified: Some(head.modified),
                body: Box::new(body::Nothing),
            });
        };
        let request = || {
            self.client
                .get_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .range(format!("bytes={}-{}", range.start, range.end - 1))
                .if_match(quoted(version))
                .set_version_id(version_id.map(str::to_string))
                .send()
        };
        // Without a version it is not an object: an error in a 200's clothes.
        // Nor is a body of another length than its range: what there is of it is not the object's.
        let said = i64::try_from(bytes).ok();
        let accept = |answer: GetObjectOutput| {
            let whole = answer.content_length().is_none() || answer.content_length() == said;
            match answer.e_tag() {
                None => Err(Failure::incomplete(
                    Op::GET,
                    key,
                    "an object without an ETag",
                )),
                Some(_) if answer.content_range() == Some(UNSAID) => {
                    let what = "a part of an object without its range";
                    Err(Failure::incomplete(Op::GET, key, what))
                }
                Some(_) if answer.content_range().is_some() && !whole => {
                    let what = "a range in a body of another length";
                    Err(Failure::incomplete(Op::GET, key, what))
                }
                Some(_) => Ok(answer),
            }
        };
        let answer = self
            .call(Op::GET, key, self.patience(0), request, accept)
            .await?;
        // Some stores ignore If-Match.
        let etag = unquoted(answer.e_tag().unwrap_or_default());
        same_version(key, version, &etag)?;
        let length = answer.content_length().and_then(|n| u64::try_from(n).ok());
        let object_size = match answer.content_range().map(content_range) {
            Some(Some((got, total))) if got == range => total,
            // A 200: fine if everything is what was asked for.
            None if range.start == 0 && length == Some(range.end) => range.end,
            _ => {
                let got = answer.content_range().unwrap_or("the whole object");
                let message = format!("asked for {range:?}, got {got}");
                return Err(Op::GET.error(ErrorKind::Invalid, key, "RangeIgnored", &message));
            }
        };
        let modified = answer.last_modified().map(|told| time(Some(told)));
        let body = body::Receiving {
            key: key.to_string(),
            request_id: answer.request_id().map(str::to_string),
            stream: answer.body,
            left: bytes,
            stall: self.line.limits.request_timeout,
            patience: self.patience(0),
            ended: false,
            tally: self.line.tally.clone(),
            turns: self.line.turns_to_receive(),
        };
        Ok(Download {
            etag,
            object_size,
            modified,
            body: Box::new(body),
        })
    }
}

fn same_version(key: &str, asked: &ETag, got: &ETag) -> Result<()> {
    if asked == got {
        return Ok(());
    }
    let message = format!("asked for version {asked}, it is {got} now");
    Err(Op::GET.error(ErrorKind::Conflict, key, "VersionChanged", &message))
}
