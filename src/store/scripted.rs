//! A store of which a test plays a call or two. No other is to be made.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::tally::Tally;
use super::*;

/// An entry of a listing, of an object of one byte.
pub(crate) fn listed(key: &str) -> ListEntry {
    ListEntry::Object(ObjectInfo {
        key: key.to_string(),
        size: 1,
        etag: ETag::new("e"),
        modified: SystemTime::UNIX_EPOCH,
        storage_class: None,
        archive: None,
        version: None,
        attributes: None,
    })
}

#[async_trait]
pub(crate) trait Scripted: Send + Sync + 'static {
    fn tally(&self) -> &Tally;

    fn capabilities(&self) -> &Capabilities {
        unimplemented!()
    }

    async fn list(&self, _prefix: &str, _from: Option<&Continuation>) -> Result<ListPage> {
        unimplemented!()
    }

    async fn get(&self, _etag: &ETag, _range: Range<u64>) -> Result<Download> {
        unimplemented!()
    }
}

#[async_trait]
impl<S: Scripted> Store for S {
    fn tally(&self) -> &Tally {
        Scripted::tally(self)
    }
    fn capabilities(&self) -> &Capabilities {
        Scripted::capabilities(self)
    }
    fn describe(&self) -> String {
        unimplemented!()
    }
    fn request_timeout(&self) -> Duration {
        unimplemented!()
    }
    fn clock(&self) -> SystemTime {
        SystemTime::now()
    }
    async fn head(&self, _: &str) -> Result<ObjectInfo> {
        unimplemented!()
    }
    async fn list(
        &self,
        prefix: &str,
        _: bool,
        from: Option<&Continuation>,
        _: u32,
    ) -> Result<ListPage> {
        Scripted::list(self, prefix, from).await
    }
    async fn get(&self, _: &str, etag: &ETag, range: Range<u64>) -> Result<Download> {
        Scripted::get(self, etag, range).await
    }
    async fn get_version(
        &self,
        _: &str,
        _: &str,
        etag: &ETag,
        range: Range<u64>,
    ) -> Result<Download> {
        Scripted::get(self, etag, range).await
    }
    async fn put(&self, _: &str, _: Body, _: &Attributes, _: &Precondition) -> Result<ETag> {
        unimplemented!()
    }
    async fn copy(
        &self,
        _: &str,
        _: &str,
        _: &ETag,
        _: u64,
        _: Option<&Attributes>,
    ) -> Result<ETag> {
        unimplemented!()
    }
    async fn rename(&self, _: &str, _: &str, _: &ETag) -> Result<()> {
        unimplemented!()
    }
    async fn restore(&self, _: &str, _: Option<u32>) -> Result<()> {
        unimplemented!()
    }

    async fn delete(&self, _: &str) -> Result<()> {
        unimplemented!()
    }
    async fn create_upload(&self, _: &str, _: &Attributes) -> Result<UploadId> {
        unimplemented!()
    }
    async fn upload_part(&self, _: &str, _: &UploadId, _: u32, _: Body) -> Result<PartReceipt> {
        unimplemented!()
    }
    async fn copy_part(
        &self,
        _: &str,
        _: &UploadId,
        _: u32,
        _: &str,
        _: &ETag,
        _: Range<u64>,
    ) -> Result<PartReceipt> {
        unimplemented!()
    }
    async fn complete_upload(
        &self,
        _: &str,
        _: &UploadId,
        _: &[CompletedPart],
        _: u64,
        _: &Precondition,
    ) -> Result<ETag> {
        unimplemented!()
    }
    async fn abort_upload(&self, _: &str, _: &UploadId) -> Result<()> {
        unimplemented!()
    }
    async fn list_parts(&self, _: &str, _: &UploadId) -> Result<Vec<ListedPart>> {
        unimplemented!()
    }
    async fn size_of_upload(&self, _: &str, _: &UploadId) -> Result<(usize, u64)> {
        unimplemented!()
    }
    async fn list_uploads(&self, _: &str, _: Option<&(String, String)>) -> Result<ListUploadsPage> {
        unimplemented!()
    }
}
