//! What is in the buckets, and how requests change it. No HTTP, no waiting.
//!
//! Invariants:
//! - Every change happens whole, under one lock: conditions are checked and the result put in
//!   place without another request in between.
//! - In directory mode a change reaches the directory first. One that fails there did not happen.
//! - The bytes of index entries are retained (see [`Blob::retain`]), of everything else not.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::archive::Restores;
use super::blob::Blob;
use super::dialect::{CompleteRepeated, ConditionalWrites, Dialect};
use super::disk::{Disk, Loaded};
use super::error::{Error, Result};
use super::multipart::{self, Part};

/// What a client says about an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub storage_class: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub blob: Blob,
    pub etag: String,
    pub crc64: Option<u64>,
    pub modified: SystemTime,
    pub attributes: Attributes,
    /// The multipart upload it came from.
    pub upload_id: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub attributes: Attributes,
    pub initiated: SystemTime,
    pub initiator: String,
    /// The client announced CRC-64/NVME checksums.
    pub checksummed: bool,
    pub parts: BTreeMap<u32, Part>,
}

/// The conditions of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// `Some("*")` is any object.
    pub if_match: Option<String>,
    /// `If-None-Match: *`
    pub if_absent: bool,
    /// `x-cos-forbid-overwrite: true`
    pub forbid_overwrite: bool,
}

impl Condition {
    fn check(&self, current: Option<&Arc<Object>>) -> Result<()> {
        if self.if_absent && current.is_some() {
            return Err(Error::precondition_failed());
        }
        match (&self.if_match, current) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Error::no_such_key()),
            (Some(etag), Some(object)) if *etag == object.etag || etag == "*" => Ok(()),
            (Some(_), Some(_)) => Err(Error::precondition_failed()),
        }
    }
}

/// Key and id: the order of ListMultipartUploads. Ids grow with time.
pub(super) type UploadName = (String, String);

#[derive(Debug)]
pub(super) struct Bucket {
    pub created: SystemTime,
    pub objects: BTreeMap<String, Arc<Object>>,
    pub uploads: BTreeMap<UploadName, Upload>,
    completed: Recent<(String, Arc<Object>)>,
    /// The new keys of RenameObject, by the clients' tokens.
    renamed: Recent<String>,
    pub restores: Restores,
    /// What was aborted and when, without its parts.
    aborted: Recent<(Instant, String, Upload)>,
}

impl Bucket {
    pub fn new(created: SystemTime) -> Bucket {
        Bucket {
            created,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            completed: Recent::default(),
            renamed: Recent::default(),
            restores: Restores::default(),
            aborted: Recent::default(),
        }
    }

    fn upload(&self, key: &str, id: &str) -> Result<&Upload> {
        self.uploads
            .get(&name(key, id))
            .ok_or_else(Error::no_such_upload)
    }
}

/// The last so many values by upload id.
#[derive(Debug)]
struct Recent<T> {
    values: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Recent<T> {
    const MOST: usize = 10_000;

    fn insert(&mut self, id: String, value: T) {
        if self.values.insert(id.clone(), value).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

/// What is kept for answering a repeated Complete: everything but the bytes.
fn answer_of(object: &Object) -> Arc<Object> {
    Arc::new(Object {
        blob: Blob::default(),
        etag: object.etag.clone(),
        crc64: object.crc64,
        modified: object.modified,
        attributes: Attributes::default(),
        upload_id: object.upload_id.clone(),
    })
}

fn name(key: &str, id: &str) -> UploadName {
    (key.to_owned(), id.to_owned())
}

pub(super) type Buckets = BTreeMap<String, Bucket>;

pub(super) struct Model {
    pub dialect: Dialect,
    pub disk: Option<Disk>,
    /// Bodies are counted and forgotten.
    pub null: bool,
    buckets: Mutex<Buckets>,
    /// Makes ids and the ETags of null mode unique, across restarts as well.
    epoch: u64,
    counter: AtomicU64,
}

impl Model {
    pub fn new(dialect: Dialect, null: bool, disk: Option<(Disk, Loaded)>) -> Model {
        let (disk, buckets) = match disk {
            Some((disk, loaded)) => (Some(disk), loaded.buckets),
            None => (None, Buckets::new()),
        };
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_micros() as u64);
        let model = Model {
            dialect,
            disk,
            null,
            buckets: Mutex::new(buckets),
            epoch,
            counter: AtomicU64::new(0),
        };
        for bucket in model.lock().values_mut() {
            let done: Vec<_> = bucket
                .objects
                .iter()
                .filter(|(_, o)| o.upload_id.is_some())
                .collect();
            for (key, object) in done {
                let id = object.upload_id.clone().unwrap_or_default();
                bucket
                    .completed
                    .insert(id, (key.clone(), answer_of(object)));
            }
        }
        model
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 32 hexadecimal digits that grow and never repeat.
    pub fn unique(&self) -> String {
        format!(
            "{:016x}{:016x}",
            self.epoch,
            self.counter.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// An ETag of bytes nobody kept. In the form of one that is no MD5 of them, or clients would compare.
    pub fn unique_etag(&self) -> String {
        format!("{}-1", self.unique())
    }

    /// Runs `f` on the bucket under the lock.
    pub fn with<T>(&self, bucket: &str, f: impl FnOnce(&mut Bucket) -> Result<T>) -> Result<T> {
        f(self
            .lock()
            .get_mut(bucket)
            .ok_or_else(Error::no_such_bucket)?)
    }

    pub fn bucket_names(&self) -> Vec<(String, SystemTime)> {
        self.lock()
            .iter()
            .map(|(name, bucket)| (name.clone(), bucket.created))
            .collect()
    }

    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        let mut buckets = self.lock();
        if buckets.contains_key(bucket) {
            return Err(Error::new(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
            ));
        }
        let created = SystemTime::now();
        if let Some(disk) = &self.disk {
            disk.create_bucket(bucket, created)?;
        }
        buckets.insert(bucket.to_owned(), Bucket::new(created));
        Ok(())
    }

    pub fn delete_bucket(&self, bucket: &str) -> Result<()> {
        let mut buckets = self.lock();
        let found = buckets.get(bucket).ok_or_else(Error::no_such_bucket)?;
        if !found.objects.is_empty() {
            return Err(Error::new(
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty",
            ));
        }
        if let Some(disk) = &self.disk {
            disk.delete_bucket(bucket)?;
        }
        if let Some(gone) = buckets.remove(bucket) {
            gone.uploads
                .values()
                .flat_map(|u| u.parts.values())
                .for_each(|p| p.blob.release());
        }
        Ok(())
    }

    pub fn object(&self, bucket: &str, key: &str) -> Result<Arc<Object>> {
        self.with(bucket, |b| {
            b.objects.get(key).cloned().ok_or_else(Error::no_such_key)
        })
    }

    fn check(&self, condition: &Condition, current: Option<&Arc<Object>>) -> Result<()> {
        match self.dialect.conditional_writes {
            ConditionalWrites::Honoured => condition.check(current),
            ConditionalWrites::ForbidOverwrite if condition.forbid_overwrite => match current {
                Some(_) => Err(Error::file_already_exists()),
                None => Ok(()),
            },
            ConditionalWrites::ForbidOverwrite | ConditionalWrites::Ignored => Ok(()),
        }
    }

    /// Puts the object in place; the caller has checked the conditions.
    fn place(
        &self,
        bucket: &str,
        held: &mut Bucket,
        key: &str,
        object: Object,
    ) -> Result<Arc<Object>> {
        if let Some(disk) = &self.disk {
            disk.save_object(bucket, key, &object)?;
        }
        object.blob.retain();
        let object = Arc::new(object);
        if let Some(old) = held.objects.insert(key.to_owned(), object.clone()) {
            old.blob.release();
        }
        Ok(object)
    }

    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<Arc<Object>> {
        self.with(bucket, |held| {
            self.check(condition, held.objects.get(key))?;
            self.place(bucket, held, key, object)
        })
    }

    /// Gives an object another key; `token` is the client's name of the request, by which a repetition is
    /// known.
    pub fn rename(
        &self,
        bucket: &str,
        source: &str,
        key: &str,
        token: &str,
        conditions: [&Condition; 2],
    ) -> Result<()> {
        self.with(bucket, |held| {
            if held.renamed.values.get(token).is_some_and(|to| to == key) {
                return Ok(());
            }
            let object = held.objects.get(source).ok_or_else(Error::no_such_key)?;
            let object = Object::clone(object);
            let [of_source, of_target] = conditions;
            self.check(of_source, held.objects.get(source))?;
            self.check(of_target, held.objects.get(key))?;
            if source != key {
                self.place(bucket, held, key, object)?;
                self.remove(bucket, held, source)?;
            }
            if !token.is_empty() {
                held.renamed.insert(token.to_owned(), key.to_owned());
            }
            Ok(())
        })
    }

    fn remove(&self, bucket: &str, held: &mut Bucket, key: &str) -> Result<()> {
        if let Some(disk) = &self.disk {
            disk.remove_object(bucket, key)?;
        }
        if let Some(old) = held.objects.remove(key) {
            old.blob.release();
        }
        Ok(())
    }

    /// Deleting what is not there succeeds, unless a condition says it must be there.
    pub fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> Result<()> {
        self.with(bucket, |held| {
            self.check(condition, held.objects.get(key))?;
            match held.objects.contains_key(key) {
                true => self.remove(bucket, held, key),
                false => Ok(()),
            }
        })
    }

    pub fn create_upload(&self, bucket: &str, key: &str, upload: Upload) -> Result<String> {
        let id = self.unique();
        self.with(bucket, |held| {
            if let Some(disk) = &self.disk {
                disk.save_upload(bucket, key, &id, &upload)?;
            }
            held.uploads.insert(name(key, &id), upload);
            Ok(id)
        })
    }

    /// In memory alone: what a directory holds keeps its name.
    pub fn rename_upload(&self, bucket: &str, key: &str, id: &str, new_id: &str) -> Result<()> {
        self.with(bucket, |held| {
            let upload = held.uploads.remove(&name(key, id));
            let upload = upload.ok_or_else(Error::no_such_upload)?;
            held.uploads.insert(name(key, new_id), upload);
            Ok(())
        })
    }

    /// Refuses a part before its body is read, where it is clear already.
    pub fn expect_upload(&self, bucket: &str, key: &str, id: &str) -> Result<()> {
        self.with(bucket, |held| match held.upload(key, id) {
            Ok(_) => Ok(()),
            Err(_)
                if self.dialect.parts_land_after_abort && held.aborted.values.contains_key(id) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    /// Puts a part in place. `arrived` is when its request began: a part that arrived before its
    /// upload was aborted may bring the upload back (see the dialect).
    pub fn put_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: u32,
        part: Part,
        arrived: Instant,
    ) -> Result<()> {
        self.with(bucket, |held| {
            if held.upload(key, id).is_err() {
                let aborted = held.aborted.values.get(id).filter(|(at, its_key, _)| {
                    self.dialect.parts_land_after_abort && arrived < *at && its_key == key
                });
                let (_, _, upload) = aborted.ok_or_else(Error::no_such_upload)?;
                let upload = upload.clone();
                if let Some(disk) = &self.disk {
                    disk.save_upload(bucket, key, id, &upload)?;
                }
                held.uploads.insert(name(key, id), upload);
            }
            if let Some(disk) = &self.disk {
                disk.save_part(bucket, id, number, &part)?;
            }
            part.blob.retain();
            let upload = held
                .uploads
                .get_mut(&name(key, id))
                .ok_or_else(Error::no_such_upload)?;
            if let Some(old) = upload.parts.insert(number, part) {
                old.blob.release();
            }
            Ok(())
        })
    }

    /// Takes the upload and its parts out of the index.
    fn remove_upload(
        &self,
        bucket: &str,
        held: &mut Bucket,
        key: &str,
        id: &str,
    ) -> Result<Upload> {
        held.upload(key, id)?;
        if let Some(disk) = &self.disk {
            disk.remove_upload(bucket, id)?;
        }
        let mut upload = held
            .uploads
            .remove(&name(key, id))
            .ok_or_else(Error::no_such_upload)?;
        for part in std::mem::take(&mut upload.parts).into_values() {
            part.blob.release();
        }
        Ok(upload)
    }

    pub fn abort(&self, bucket: &str, key: &str, id: &str) -> Result<()> {
        self.with(bucket, |held| {
            let upload = self.remove_upload(bucket, held, key, id)?;
            held.aborted
                .insert(id.to_owned(), (Instant::now(), key.to_owned(), upload));
            Ok(())
        })
    }

    pub fn complete(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        request: &multipart::Request,
        condition: &Condition,
    ) -> Result<Arc<Object>> {
        self.with(bucket, |held| {
            let Ok(upload) = held.upload(key, id) else {
                return match held.completed.values.get(id) {
                    Some((its_key, object))
                        if its_key == key
                            && self.dialect.complete_repeated == CompleteRepeated::Succeeds =>
                    {
                        Ok(object.clone())
                    }
                    _ => Err(Error::no_such_upload()),
                };
            };
            let whole = multipart::assemble(&upload.parts, request, &self.dialect)?;
            let object = Object {
                blob: whole.blob,
                etag: whole.etag,
                crc64: whole.crc64.or(request.crc64),
                modified: SystemTime::now(),
                attributes: upload.attributes.clone(),
                upload_id: Some(id.to_owned()),
            };
            self.check(condition, held.objects.get(key))?;
            let object = self.place(bucket, held, key, object)?;
            // The object is published. An upload left behind in the directory by a failure here
            // is recognized by its id when the directory is opened again.
            if let Err(error) = self.remove_upload(bucket, held, key, id) {
                tracing::warn!(key, id, %error, "a completed upload could not be cleared away");
            }
            held.completed
                .insert(id.to_owned(), (key.to_owned(), answer_of(&object)));
            Ok(object)
        })
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
