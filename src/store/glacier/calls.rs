//! Each call of the trait: what the vault is asked, and what the catalogue is told.

use std::ops::{Bound, Range};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_glacier::primitives::{DateTime, DateTimeFormat};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::names::{Completing, Completion, Content, Entry, Record, now};
use super::{GIB, GlacierStore, description, missing, tree};
use crate::random::random_token;
use crate::store::s3::classify::{Failure, Op};
use crate::store::s3::exchange::Patience;
use crate::store::tally::Tally;
use crate::store::{
    Attributes, Body, BodyStream, Capabilities, CompletedPart, Continuation, Download, ETag,
    ErrorKind, ListEntry, ListPage, ListUploadsPage, ListedPart, ListedUpload, Metadata,
    ObjectInfo, PartReceipt, Precondition, Result, Store, UploadId, moment,
};

/// What is kept in the catalogue itself has at most so many bytes: a symbolic link's target fits.
const HERE_MAX: u64 = libc::PATH_MAX as u64;

fn info(key: &str, entry: &Entry) -> ObjectInfo {
    ObjectInfo {
        key: key.to_string(),
        size: entry.size,
        etag: entry.etag(),
        modified: entry.stored_at(),
        storage_class: None,
        version: None,
        // What is to be done about that is another command's.
        archive: None,
        attributes: Some(Box::new(entry.said.clone())),
    }
}

/// The name stands for this version? ([`ErrorKind::Conflict`] otherwise.)
fn same_version(op: Op, key: &str, entry: Option<&Entry>, etag: &ETag) -> Result<Entry> {
    match entry {
        None => Err(missing(op, key)),
        Some(entry) if entry.etag() == *etag => Ok(entry.clone()),
        Some(_) => {
            let message = "another archive has this name now";
            Err(op.error(ErrorKind::Conflict, key, "VersionChanged", message))
        }
    }
}

fn time(text: Option<&str>) -> SystemTime {
    let read = text.and_then(|text| DateTime::from_str(text, DateTimeFormat::DateTime).ok());
    let read = read.and_then(|time| SystemTime::try_from(time).ok());
    read.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Since 1970.
pub(super) fn milliseconds(text: &str) -> u64 {
    let since = time(Some(text)).duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What the catalogue has itself.
struct AtHand(Option<Bytes>);

#[async_trait]
impl BodyStream for AtHand {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        self.0.take().filter(|bytes| !bytes.is_empty()).map(Ok)
    }
}

#[async_trait]
impl Store for GlacierStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn tally(&self) -> &Tally {
        &self.line.tally
    }

    fn describe(&self) -> String {
        format!("glacier://{}", self.vault)
    }

    fn region(&self) -> Option<&str> {
        Some(&self.region)
    }

    fn request_timeout(&self) -> Duration {
        self.line.limits.request_timeout
    }

    /// The times told of files are the catalogue's, and so this machine's.
    fn clock(&self) -> SystemTime {
        SystemTime::now()
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        Ok(info(key, &self.entry(Op::HEAD, key)?))
    }

    async fn list(
        &self,
        prefix: &str,
        delimiter: bool,
        from: Option<&Continuation>,
        max: u32,
    ) -> Result<ListPage> {
        let names = self.catalogue.names();
        let start = match from {
            None => Bound::Included(prefix.to_string()),
            Some(Continuation::Said(name)) => Bound::Included(name.clone()),
            Some(Continuation::Behind(name)) => Bound::Excluded(name.clone()),
        };
        let mut entries: Vec<ListEntry> = Vec::new();
        for (name, entry) in names.files.range((start, Bound::Unbounded)) {
            let Some(rest) = name.strip_prefix(prefix) else {
                break;
            };
            let below = rest.find('/').filter(|_| delimiter);
            let rolled_up = below.map(|at| &name[..prefix.len() + at + 1]);
            if let (Some(ListEntry::Prefix(last)), Some(this)) = (entries.last(), rolled_up)
                && last == this
            {
                continue;
            }
            if entries.len() == max as usize {
                let next = Some(Continuation::Said(name.clone()));
                return Ok(ListPage { entries, next });
            }
            entries.push(match rolled_up {
                Some(prefix) => ListEntry::Prefix(prefix.to_string()),
                None => ListEntry::Object(info(name, entry)),
            });
        }
        Ok(ListPage {
            entries,
            next: None,
        })
    }

    async fn get(&self, key: &str, etag: &ETag, range: Range<u64>) -> Result<Download> {
        let entry = self.entry(Op::GET, key)?;
        let entry = same_version(Op::GET, key, Some(&entry), etag)?;
        let body = match &entry.content {
            Content::Archive { id, .. } => self.output(key, id, range).await?,
            Content::Here { text, .. } => {
                let bytes = BASE64.decode(text).ok();
                let within = range.start as usize..range.end as usize;
                let bytes = bytes.and_then(|b| b.get(within).map(Bytes::copy_from_slice));
                let bytes = bytes.ok_or_else(|| {
                    Op::GET.error(ErrorKind::Invalid, key, "InvalidRange", "it is shorter")
                })?;
                Box::new(AtHand(Some(bytes)))
            }
        };
        Ok(Download {
            etag: etag.clone(),
            object_size: entry.size,
            modified: None,
            body,
        })
    }

    async fn get_version(
        &self,
        key: &str,
        _version: &str,
        _etag: &ETag,
        _range: Range<u64>,
    ) -> Result<Download> {
        Err(missing(Op::GET, key))
    }

    async fn put(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
        _condition: &Precondition,
    ) -> Result<ETag> {
        if body.len() > HERE_MAX {
            let message =
                "only what is no larger than a link's target is put; all else goes up in parts";
            return Err(Op::PUT.error(ErrorKind::Invalid, key, "EntityTooLarge", message));
        }
        let entry = Entry {
            content: Content::Here {
                text: BASE64.encode(body.chunks().concat()),
                version: random_token(),
            },
            size: body.len(),
            stored: now(),
            said: attributes.clone(),
        };
        let etag = entry.etag();
        let put = Record::Put {
            name: key.to_string(),
            entry,
            upload: None,
        };
        self.record(Op::PUT, key, |_| Ok(vec![put])).await?;
        self.delete_garbage().await;
        Ok(etag)
    }

    /// A second name for the same archive, or something else to be said of it.
    async fn copy(
        &self,
        key: &str,
        source: &str,
        etag: &ETag,
        _size: u64,
        attributes: Option<&Attributes>,
    ) -> Result<ETag> {
        let (to, from, version) = (key.to_string(), source.to_string(), etag.clone());
        let said = attributes.cloned();
        let copied = self.record(Op::COPY, key, move |names| {
            let entry = same_version(Op::COPY, &from, names.files.get(&from), &version)?;
            let entry = Entry {
                said: said.unwrap_or_else(|| entry.said.clone()),
                // As a copy in a bucket, it is as old as that.
                stored: now(),
                ..entry
            };
            Ok(vec![Record::Put {
                name: to,
                entry,
                upload: None,
            }])
        });
        copied.await?;
        self.delete_garbage().await;
        Ok(etag.clone())
    }

    async fn rename(&self, key: &str, source: &str, etag: &ETag) -> Result<()> {
        let (to, from, version) = (key.to_string(), source.to_string(), etag.clone());
        let renamed = self.record(Op::RENAME, key, move |names| {
            same_version(Op::RENAME, &from, names.files.get(&from), &version)?;
            Ok(vec![Record::Rename { from, to }])
        });
        renamed.await?;
        self.delete_garbage().await;
        Ok(())
    }

    async fn restore(&self, key: &str, _days: Option<u32>) -> Result<()> {
        let message = "what an archive of a vault costs to bring back is for a person to decide";
        Err(Op::GET.error(ErrorKind::Invalid, key, "NotRestored", message))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let name = key.to_string();
        let removed = self.record(Op::DELETE, key, move |names| {
            Ok(match names.files.contains_key(&name) {
                true => vec![Record::Remove { name }],
                false => Vec::new(),
            })
        });
        removed.await?;
        self.delete_garbage().await;
        Ok(())
    }

    async fn create_upload(&self, key: &str, attributes: &Attributes) -> Result<UploadId> {
        let op = Op::INITIATE;
        let description = description::write(key, &attributes.metadata).ok_or_else(|| {
            op.error(
                ErrorKind::Invalid,
                key,
                "NameTooLong",
                "it does not fit into a description",
            )
        })?;
        let part_size = self.capabilities.part_max.to_string();
        let request = || {
            self.client
                .initiate_multipart_upload()
                .account_id("-")
                .vault_name(&self.vault)
                .archive_description(&description)
                .part_size(&part_size)
                .send()
        };
        let accept = |begun: aws_sdk_glacier::operation::initiate_multipart_upload::InitiateMultipartUploadOutput| match begun.upload_id() {
            Some(id) if !id.is_empty() => Ok(UploadId(id.to_string())),
            _ => Err(Failure::incomplete(op, key, "no upload id")),
        };
        let patience = self.line.limits.patience(0);
        let id = self.call(op, key, patience, request, accept).await?;
        self.begun().insert(id.clone(), attributes.clone());
        Ok(id)
    }

    async fn upload_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PartReceipt> {
        let op = Op::UPLOAD_PART;
        let start = u64::from(number.saturating_sub(1)) * self.capabilities.part_max;
        let Some(last) = (start + body.len())
            .checked_sub(1)
            .filter(|_| !body.is_empty())
        else {
            return Err(op.error(ErrorKind::Invalid, key, "EmptyPart", "no part is empty"));
        };
        let patience = Patience::from(self.line.limits.patience(body.len()));
        let request = || {
            self.client
                .upload_multipart_part()
                .account_id("-")
                .vault_name(&self.vault)
                .upload_id(&upload.0)
                .range(format!("bytes {start}-{last}/*"))
                .body(self.line.sending(&body, &patience))
                .send()
        };
        // Both checksums are computed by the SDK, from the bytes it sends; the vault refuses others.
        let sent = self.call(op, key, patience.clone(), request, |part| {
            let checksum = part.checksum().filter(|sum| tree::from_hex(sum).is_some());
            Ok(PartReceipt {
                etag: ETag::new(
                    checksum.ok_or_else(|| Failure::incomplete(op, key, "no tree hash"))?,
                ),
                crc64: None,
                strayed: false,
            })
        });
        patience.with_strays(sent.await)
    }

    async fn copy_part(
        &self,
        key: &str,
        _upload: &UploadId,
        _number: u32,
        _source: &str,
        _etag: &ETag,
        _range: Range<u64>,
    ) -> Result<PartReceipt> {
        let message = "a vault copies nothing";
        Err(Op::COPY_PART.error(ErrorKind::Invalid, key, "NotImplemented", message))
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
        if *condition != Precondition::None {
            let message = "a vault honours no conditions on writes";
            return Err(op.error(ErrorKind::Invalid, key, "ConditionUnsupported", message));
        }
        let hashes: Option<Vec<tree::Hash>> = parts
            .iter()
            .map(|part| tree::from_hex(&part.etag.to_string()))
            .collect();
        let hashes = hashes.ok_or_else(|| {
            op.error(
                ErrorKind::Invalid,
                key,
                "InvalidPart",
                "a part without a tree hash",
            )
        })?;
        let tree_hash = tree::hex(&tree::root(hashes));
        let said = self.said_of_upload(key, upload).await;
        let by = Completion {
            size,
            tree_hash: tree_hash.clone(),
        };
        let completing = Completing {
            said: said.clone(),
            by: Some(by.clone()),
        };
        let known = self.catalogue.names().completing.get(&upload.0) == Some(&completing);
        if !known {
            let completing = Record::Completing {
                upload: upload.0.clone(),
                said: said.clone(),
                by: Some(by.clone()),
            };
            self.record(op, key, |_| Ok(vec![completing])).await?;
        }
        let archive = self.completed(key, upload, &by).await?;
        let entry = Entry {
            content: Content::Archive {
                id: archive.clone(),
                tree_hash,
            },
            size,
            stored: now(),
            said,
        };
        let put = Record::Put {
            name: key.to_string(),
            entry,
            upload: Some(upload.0.clone()),
        };
        let (name, id, upload_id) = (key.to_string(), archive.clone(), upload.0.clone());
        let recorded = self.record(op, key, move |names| {
            let there = names.files.get(&name);
            let known = there.is_some_and(|entry| entry.archive() == Some(&id));
            // Completed before, and then a process died: what was said of it since stays.
            Ok(vec![match known {
                true => Record::Ended { upload: upload_id },
                false => put,
            }])
        });
        recorded.await?;
        self.begun().remove(upload);
        self.delete_garbage().await;
        Ok(ETag::new(archive))
    }

    async fn abort_upload(&self, key: &str, upload: &UploadId) -> Result<()> {
        let request = || {
            self.client
                .abort_multipart_upload()
                .account_id("-")
                .vault_name(&self.vault)
                .upload_id(&upload.0)
                .send()
        };
        let patience = self.line.limits.patience(0);
        let aborted = self
            .call(Op::ABORT, key, patience, request, |_| Ok(()))
            .await;
        let is_gone = matches!(&aborted, Err(error) if error.kind == ErrorKind::NoSuchUpload);
        if aborted.is_err() && !is_gone {
            return aborted;
        }
        self.begun().remove(upload);
        let completing = self.catalogue.names().completing.get(&upload.0).cloned();
        if let Some(completing) = completing {
            let mut records = Vec::new();
            if is_gone {
                let made = self.made_all_the_same(key, upload, &completing).await?;
                records.extend(made.map(|archive| Record::Garbage { archive }));
            }
            // Last: what it made is looked for as long as it has not ended.
            records.push(Record::Ended {
                upload: upload.0.clone(),
            });
            self.record(Op::ABORT, key, |_| Ok(records)).await?;
            self.delete_garbage().await;
        }
        aborted
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<ListedPart>> {
        let (parts, _) = self.parts_from(key, upload, None).await?;
        Ok(parts)
    }

    async fn size_of_upload(&self, key: &str, upload: &UploadId) -> Result<(usize, u64)> {
        let (mut count, mut bytes, mut from) = (0, 0, None);
        loop {
            let (parts, next) = self.parts_from(key, upload, from.clone()).await?;
            count += parts.len();
            bytes += parts.iter().map(|part| part.size).sum::<u64>();
            if next.is_none() || next == from {
                return Ok((count, bytes));
            }
            from = next;
        }
    }

    /// Those of others go by what they are described as: no token of ours is with them.
    async fn list_uploads(
        &self,
        prefix: &str,
        from: Option<&(String, String)>,
    ) -> Result<ListUploadsPage> {
        let op = Op::LIST_UPLOADS;
        let marker = from.map(|(marker, _)| marker.clone());
        let request = || {
            self.client
                .list_multipart_uploads()
                .account_id("-")
                .vault_name(&self.vault)
                .set_marker(marker.clone())
                .send()
        };
        let patience = self.line.limits.patience(0);
        let page = self.call(op, prefix, patience, request, Ok).await?;
        let uploads = page.uploads_list().iter().filter_map(|upload| {
            let described = upload.archive_description().unwrap_or_default();
            let (name, metadata) = description::read(described)
                .unwrap_or_else(|| (described.to_string(), Metadata::new()));
            name.starts_with(prefix).then_some(ListedUpload {
                key: name,
                upload_id: UploadId(upload.multipart_upload_id()?.to_string()),
                initiated: moment(time(upload.creation_date())),
                metadata: Some(metadata),
            })
        });
        let uploads = uploads.collect();
        let next = page
            .marker()
            .map(|marker| (marker.to_string(), String::new()));
        if next.is_some() && next.as_ref() == from {
            let message = "the vault says there is more, and does not say where";
            return Err(op.error(ErrorKind::Invalid, prefix, "ListingStuck", message));
        }
        Ok(ListUploadsPage { uploads, next })
    }
}

impl GlacierStore {
    /// Has the vault complete an upload. Of one that it has completed it names the archive again.
    async fn completed(&self, key: &str, upload: &UploadId, by: &Completion) -> Result<String> {
        let op = Op::COMPLETE;
        let request = || {
            self.client
                .complete_multipart_upload()
                .account_id("-")
                .vault_name(&self.vault)
                .upload_id(&upload.0)
                .archive_size(by.size.to_string())
                .checksum(&by.tree_hash)
                .send()
        };
        let accept = |done: aws_sdk_glacier::operation::complete_multipart_upload::CompleteMultipartUploadOutput| match done.archive_id() {
            Some(id) if !id.is_empty() => Ok(id.to_string()),
            _ => Err(Failure::incomplete(op, key, "no archive id")),
        };
        let steps =
            (by.size / GIB) as u32 + by.size.div_ceil(self.capabilities.part_max) as u32 / 1000;
        let patience = self.line.limits.request_timeout.saturating_mul(steps + 1);
        self.call(op, key, patience, request, accept).await
    }

    /// An upload that is gone and was being completed: the archive that it has become, which nobody will give a name.
    async fn made_all_the_same(
        &self,
        key: &str,
        upload: &UploadId,
        completing: &Completing,
    ) -> Result<Option<String>> {
        let lost = |why: &str| {
            tracing::warn!(
                "/{key}: an archive of it may be in the vault without a name ({why}): `wholefs vault inventory` lists what is there"
            );
        };
        let Some(by) = &completing.by else {
            lost("it is not known how it was completed");
            return Ok(None);
        };
        match self.completed(key, upload, by).await {
            Ok(archive) => Ok(Some(archive)),
            Err(error) if error.kind == ErrorKind::NoSuchUpload => {
                lost("the vault has forgotten the upload");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The parts of a page, and where the next one begins.
    async fn parts_from(
        &self,
        key: &str,
        upload: &UploadId,
        from: Option<String>,
    ) -> Result<(Vec<ListedPart>, Option<String>)> {
        let listed = self.parts_page(key, upload, from).await?;
        let parts = listed.parts().iter().filter_map(|part| {
            let (first, last) = part.range_in_bytes()?.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            Some(ListedPart {
                number: u32::try_from(first / self.capabilities.part_max + 1).ok()?,
                size: last.checked_sub(first)? + 1,
                etag: ETag::new(part.sha256_tree_hash()?),
            })
        });
        Ok((parts.collect(), listed.marker().map(str::to_string)))
    }

    async fn parts_page(
        &self,
        key: &str,
        upload: &UploadId,
        from: Option<String>,
    ) -> Result<aws_sdk_glacier::operation::list_parts::ListPartsOutput> {
        let request = || {
            self.client
                .list_parts()
                .account_id("-")
                .vault_name(&self.vault)
                .upload_id(&upload.0)
                .set_marker(from.clone())
                .send()
        };
        self.call(
            Op::LIST_PARTS,
            key,
            self.line.limits.patience(0),
            request,
            Ok,
        )
        .await
    }

    /// What is said of the file of an upload: as it was begun here; as a dead process noted; or as the vault
    /// tells of an open one.
    async fn said_of_upload(&self, key: &str, upload: &UploadId) -> Attributes {
        if let Some(said) = self.begun().get(upload) {
            return said.clone();
        }
        if let Some(completing) = self.catalogue.names().completing.get(&upload.0) {
            return completing.said.clone();
        }
        let page = self.parts_page(key, upload, None).await.ok();
        let description = page.as_ref().and_then(|page| page.archive_description());
        let metadata = description
            .and_then(description::read)
            .map(|(_, said)| said);
        Attributes {
            metadata: metadata.unwrap_or_default(),
            ..Attributes::default()
        }
    }
}
