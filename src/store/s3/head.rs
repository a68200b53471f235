//! HEAD, whose answers have no body: an object in a few headers, or a refusal that does not say why.

use super::S3Store;
use super::classify::{Came, Failure, Op};
use super::list::time;
use super::told::{archive, etag};
use crate::store::{Attributes, Error, ErrorKind, Metadata, ObjectInfo, Result};

/// Refusals that say no more than their number.
const UNTOLD: [&str; 2] = ["HTTP400", "HTTP403"];

impl S3Store {
    /// HEAD. A refusal has no body to say why: then the first byte is asked for, whose refusal has one; and what can be
    /// mended is, as for each request (keys are renewed, the clock is the store's). Nor has a "not found", which is the
    /// store's own if it has the name that this store gives to requests.
    pub(super) async fn head_or_why_not(&self, key: &str) -> Result<ObjectInfo> {
        let is_anybodys = |error: &Error| {
            let is_bare = error.kind == ErrorKind::Missing && error.request_id.is_none();
            is_bare && self.witness.names_requests()
        };
        let is_untold = |error: &Error| UNTOLD.contains(&error.code.as_str()) || is_anybodys(error);
        let head = self.head_once(key).await;
        if !head.as_ref().is_err_and(is_untold) {
            return head;
        }
        let request = || {
            let byte = self.client.get_object().range("bytes=0-0");
            byte.bucket(&self.bucket).key(self.full(key)).send()
        };
        let asked = self.call(Op::GET, key, self.patience(0), request, |_| Ok(()));
        match (asked.await, head) {
            // (Of an empty object there is no first byte.)
            (Err(why), Err(head)) if is_anybodys(&head) && why.kind != ErrorKind::Conflict => {
                match why.kind {
                    ErrorKind::Missing => Err(head),
                    _ => Err(why),
                }
            }
            (Err(why), head) if is_untold(&why) => head,
            (Err(why), _) if [ErrorKind::Denied, ErrorKind::Invalid].contains(&why.kind) => {
                Err(why)
            }
            // It is there, or what refused it is mended.
            _ => match self.head_once(key).await {
                Err(head) if is_anybodys(&head) => Err(Error {
                    kind: ErrorKind::Transient,
                    message: "not found, says somebody before the store, which has it".to_string(),
                    ..head
                }),
                head => head,
            },
        }
    }

    async fn head_once(&self, key: &str) -> Result<ObjectInfo> {
        let request = || {
            self.client
                .head_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .send()
        };
        self.call(Op::HEAD, key, self.patience(0), request, |head| {
            let metadata = head.metadata().into_iter().flatten();
            let metadata: Metadata = metadata
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect();
            // A directory of the store's own, and nothing that anybody put there.
            if key.ends_with('/') && head.e_tag().is_none() {
                let nothing = Op::HEAD.error(ErrorKind::Missing, key, "NoMarker", "no ETag");
                return Err(Failure {
                    error: nothing.into(),
                    came: Came::ToNothing,
                });
            }
            // Without it the file would seem to be empty.
            let size = head.content_length().and_then(|n| u64::try_from(n).ok());
            let Some(size) = size else {
                return Err(Failure::incomplete(Op::HEAD, key, "no Content-Length"));
            };
            Ok(ObjectInfo {
                key: key.to_string(),
                size,
                etag: etag(Op::HEAD, key, head.e_tag())?,
                modified: time(head.last_modified()),
                storage_class: head.storage_class().map(|c| c.as_str().to_string()),
                archive: archive(&head),
                version: head
                    .version_id()
                    .filter(|id| *id != "null")
                    .map(str::to_string),
                attributes: Some(Box::new(Attributes {
                    content_type: head.content_type().map(str::to_string),
                    cache_control: head.cache_control().map(str::to_string),
                    content_disposition: head.content_disposition().map(str::to_string),
                    content_encoding: head.content_encoding().map(str::to_string),
                    content_language: head.content_language().map(str::to_string),
                    metadata,
                })),
            })
        })
        .await
    }
}
