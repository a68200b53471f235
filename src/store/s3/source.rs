//! The source of a copy, looked at where the store does not look itself.
//!
//! Some stores take `x-amz-copy-source-if-match` and do not ask whether it does
//! ([`Capabilities::copy_conditions`](crate::store::Capabilities)). There the source is looked at before,
//! so that what is not there any more is not copied, and after: what is that version still was it all the
//! while. (Was it replaced, and put back before the second look, it has the same bytes and the same ETag.)
//!
//! A copy of an object onto itself leaves nothing to look at after. What somebody else wrote between the two
//! requests is whole, but gets the attributes of ours; that it has another size is found out.

use super::S3Store;
use super::classify::Op;
use crate::store::{ETag, ErrorKind, ObjectInfo, Result, Store};

impl S3Store {
    /// It still is this version, or the copy is refused.
    pub(super) async fn expect_source(&self, op: Op, source: &str, version: &ETag) -> Result<()> {
        self.expect(op, source, |found| found.etag == *version)
            .await
    }

    /// The copy of `size` bytes onto itself is what is there.
    pub(super) async fn expect_itself(
        &self,
        op: Op,
        key: &str,
        made: &ETag,
        size: u64,
    ) -> Result<()> {
        let is = |found: &ObjectInfo| found.etag == *made && found.size == size;
        self.expect(op, key, is).await
    }

    async fn expect(
        &self,
        op: Op,
        source: &str,
        is: impl Fn(&ObjectInfo) -> bool + Send,
    ) -> Result<()> {
        if self.capabilities.copy_conditions || is(&self.head(source).await?) {
            return Ok(());
        }
        let message = "it has been replaced by another version while it was to be copied";
        Err(op.error(ErrorKind::Conflict, source, "PreconditionFailed", message))
    }
}
