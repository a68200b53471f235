//! Buckets kept in a directory.
//!
//! ```text
//! DIR/lock                                   held while a server uses the directory
//! DIR/data/ID                                bytes; ID is a decimal number
//! DIR/tmp/N                                  records being written
//! DIR/buckets/BUCKET/bucket.json
//! DIR/buckets/BUCKET/objects/KEY.json        what the object is, and which data it consists of
//! DIR/buckets/BUCKET/uploads/ID/upload.json
//! DIR/buckets/BUCKET/uploads/ID/NUMBER.json  a part
//! ```
//!
//! Invariants: a record is whole or absent (written aside, then renamed); a record is written after
//! the data it names; data no record names is removed when the directory is opened. So the server
//! may be killed at any moment. Power loss is another matter: nothing here is synced, this is a
//! demonstration's bucket.
//!
//! KEY is the key percent-encoded, or cut off and made unique by its MD5 where that is too long
//! for a file name; the key itself is in the record.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blob::{Blob, DataFile, Piece};
use super::digest::md5_hex;
use super::model::{Attributes, Bucket, Buckets, Object, Upload};
use super::multipart::Part;

#[derive(Serialize, Deserialize)]
struct BucketRecord {
    name: String,
    created: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct PieceRecord {
    data: u64,
    offset: u64,
    len: u64,
}

#[derive(Serialize, Deserialize)]
struct ObjectRecord {
    key: String,
    etag: String,
    crc64: Option<u64>,
    modified: SystemTime,
    attributes: Attributes,
    upload_id: Option<String>,
    pieces: Vec<PieceRecord>,
}

#[derive(Serialize, Deserialize)]
struct UploadRecord {
    key: String,
    id: String,
    attributes: Attributes,
    initiated: SystemTime,
    initiator: String,
    checksummed: bool,
}

#[derive(Serialize, Deserialize)]
struct PartRecord {
    number: u32,
    etag: String,
    crc64: Option<u64>,
    modified: SystemTime,
    pieces: Vec<PieceRecord>,
}

pub(super) struct Disk {
    root: PathBuf,
    next: AtomicU64,
    /// Locked; released by the system when the server ends, however it ends.
    _lock: File,
}

/// What a directory held when it was opened.
pub(super) struct Loaded {
    pub buckets: Buckets,
}

impl Disk {
    pub fn open(root: &Path) -> io::Result<(Disk, Loaded)> {
        for directory in ["data", "tmp", "buckets"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let lock = File::create(root.join("lock"))?;
        if let Err(error) = lock.try_lock() {
            let message = format!("{} is used by another server ({error})", root.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        for entry in fs::read_dir(root.join("tmp"))? {
            fs::remove_file(entry?.path())?;
        }
        let mut loader = Loader {
            data: root.join("data"),
            files: HashMap::new(),
            largest: 0,
        };
        let buckets = loader.buckets(&root.join("buckets"))?;
        loader.sweep()?;
        let next = AtomicU64::new(loader.largest + 1);
        Ok((
            Disk {
                root: root.to_owned(),
                next,
                _lock: lock,
            },
            Loaded { buckets },
        ))
    }

    /// A data file to be written. It is removed again unless an entry retains it.
    pub fn new_data(&self) -> Arc<DataFile> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::new(DataFile::new(
            id,
            self.root.join("data").join(id.to_string()),
        ))
    }

    fn bucket(&self, bucket: &str) -> PathBuf {
        self.root.join("buckets").join(file_name(bucket))
    }

    fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.bucket(bucket)
            .join("objects")
            .join(file_name(key) + ".json")
    }

    fn upload(&self, bucket: &str, id: &str) -> PathBuf {
        self.bucket(bucket).join("uploads").join(file_name(id))
    }

    fn write(&self, path: &Path, record: &impl Serialize) -> io::Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let aside = self.root.join("tmp").join(id.to_string());
        fs::write(&aside, serde_json::to_vec(record)?)?;
        fs::rename(&aside, path)
    }

    pub fn create_bucket(&self, bucket: &str, created: SystemTime) -> io::Result<()> {
        let directory = self.bucket(bucket);
        fs::create_dir_all(directory.join("objects"))?;
        fs::create_dir_all(directory.join("uploads"))?;
        let record = BucketRecord {
            name: bucket.to_owned(),
            created,
        };
        self.write(&directory.join("bucket.json"), &record)
    }

    pub fn delete_bucket(&self, bucket: &str) -> io::Result<()> {
        // Without its record the directory is no bucket, whatever is left of it.
        fs::remove_file(self.bucket(bucket).join("bucket.json"))?;
        fs::remove_dir_all(self.bucket(bucket))
    }

    pub fn save_object(&self, bucket: &str, key: &str, object: &Object) -> io::Result<()> {
        let record = ObjectRecord {
            key: key.to_owned(),
            etag: object.etag.clone(),
            crc64: object.crc64,
            modified: object.modified,
            attributes: object.attributes.clone(),
            upload_id: object.upload_id.clone(),
            pieces: pieces(&object.blob)?,
        };
        self.write(&self.object(bucket, key), &record)
    }

    pub fn remove_object(&self, bucket: &str, key: &str) -> io::Result<()> {
        fs::remove_file(self.object(bucket, key))
    }

    pub fn save_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        upload: &Upload,
    ) -> io::Result<()> {
        let record = UploadRecord {
            key: key.to_owned(),
            id: id.to_owned(),
            attributes: upload.attributes.clone(),
            initiated: upload.initiated,
            initiator: upload.initiator.clone(),
            checksummed: upload.checksummed,
        };
        let directory = self.upload(bucket, id);
        fs::create_dir_all(&directory)?;
        self.write(&directory.join("upload.json"), &record)
    }

    pub fn save_part(&self, bucket: &str, id: &str, number: u32, part: &Part) -> io::Result<()> {
        let record = PartRecord {
            number,
            etag: part.etag.clone(),
            crc64: part.crc64,
            modified: part.modified,
            pieces: pieces(&part.blob)?,
        };
        self.write(
            &self.upload(bucket, id).join(format!("{number}.json")),
            &record,
        )
    }

    pub fn remove_upload(&self, bucket: &str, id: &str) -> io::Result<()> {
        // Without its record the directory is no upload, whatever is left of it.
        fs::remove_file(self.upload(bucket, id).join("upload.json"))?;
        fs::remove_dir_all(self.upload(bucket, id))
    }
}

fn pieces(blob: &Blob) -> io::Result<Vec<PieceRecord>> {
    blob.pieces()
        .iter()
        .map(|piece| match piece {
            Piece::File { file, offset, len } => Ok(PieceRecord {
                data: file.id,
                offset: *offset,
                len: *len,
            }),
            _ => Err(io::Error::other("bytes that are not in the directory")),
        })
        .collect()
}

/// A file name for any key: injective, as far as MD5 is.
fn file_name(key: &str) -> String {
    const LONGEST: usize = 200;
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            // Not the dot at the front: no name is `.` or `..`.
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > LONGEST {
        name.truncate(LONGEST - 33);
        // `~` occurs in no encoded key.
        name.push('~');
        name.push_str(&md5_hex(key.as_bytes()));
    }
    name
}

struct Loader {
    data: PathBuf,
    files: HashMap<u64, Arc<DataFile>>,
    largest: u64,
}

impl Loader {
    fn buckets(&mut self, directory: &Path) -> io::Result<Buckets> {
        let mut buckets = Buckets::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let Some(record) = read::<BucketRecord>(&path.join("bucket.json"))? else {
                fs::remove_dir_all(&path)?;
                continue;
            };
            let mut bucket = Bucket::new(record.created);
            self.objects(&path.join("objects"), &mut bucket)?;
            self.uploads(&path.join("uploads"), &mut bucket)?;
            buckets.insert(record.name, bucket);
        }
        Ok(buckets)
    }

    fn objects(&mut self, directory: &Path, bucket: &mut Bucket) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let Some(record) = read::<ObjectRecord>(&entry?.path())? else {
                continue;
            };
            let object = Object {
                blob: self.blob(&record.pieces),
                etag: record.etag,
                crc64: record.crc64,
                modified: record.modified,
                attributes: record.attributes,
                upload_id: record.upload_id,
            };
            bucket.objects.insert(record.key, Arc::new(object));
        }
        Ok(())
    }

    fn uploads(&mut self, directory: &Path, bucket: &mut Bucket) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let record = read::<UploadRecord>(&path.join("upload.json"))?;
            // Killed between publishing the object and clearing the upload away.
            let record = record.filter(|upload| {
                let made = bucket
                    .objects
                    .get(&upload.key)
                    .and_then(|o| o.upload_id.as_ref());
                made != Some(&upload.id)
            });
            let Some(record) = record else {
                fs::remove_dir_all(&path)?;
                continue;
            };
            let mut parts = BTreeMap::new();
            for entry in fs::read_dir(&path)? {
                let path = entry?.path();
                if path.file_name().is_some_and(|name| name == "upload.json") {
                    continue;
                }
                let Some(part) = read::<PartRecord>(&path)? else {
                    continue;
                };
                let blob = self.blob(&part.pieces);
                let held = Part {
                    blob,
                    etag: part.etag,
                    crc64: part.crc64,
                    modified: part.modified,
                };
                parts.insert(part.number, held);
            }
            let upload = Upload {
                attributes: record.attributes,
                initiated: record.initiated,
                initiator: record.initiator,
                checksummed: record.checksummed,
                parts,
            };
            bucket.uploads.insert((record.key, record.id), upload);
        }
        Ok(())
    }

    /// The blob of an index entry: retained.
    fn blob(&mut self, pieces: &[PieceRecord]) -> Blob {
        let mut blob = Blob::default();
        for piece in pieces {
            let path = self.data.join(piece.data.to_string());
            let file = self.files.entry(piece.data);
            let file = file.or_insert_with(|| Arc::new(DataFile::new(piece.data, path)));
            blob.push(Piece::File {
                file: file.clone(),
                offset: piece.offset,
                len: piece.len,
            });
        }
        blob.retain();
        blob
    }

    /// Removes the data no record names.
    fn sweep(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.data)? {
            let entry = entry?;
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok());
            self.largest = self.largest.max(id.unwrap_or(0));
            if id.is_some_and(|id| !self.files.contains_key(&id)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The record at `path`, if there is one.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let record = serde_json::from_slice(&text);
    record.map(Some).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_legal_and_distinct() {
        let long = "x".repeat(1024);
        let keys = [
            ".",
            "..",
            "a/b",
            "a%2Fb",
            "a.b",
            "/",
            "ä",
            "\n",
            "~",
            "A",
            "a",
            &long[..1023],
            &long,
        ];
        let names: Vec<String> = keys.iter().map(|key| file_name(key)).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(
                name.len() <= 200 && !name.contains('/') && !name.starts_with('.'),
                "{name}"
            );
            assert!(!names[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn a_directory_is_used_by_one_server_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Disk::open(dir.path()).unwrap();
        let busy = Disk::open(dir.path()).err().unwrap();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        assert!(Disk::open(dir.path()).is_ok());
    }

    #[test]
    fn data_no_record_names_is_swept_and_the_rest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(dir.path()).unwrap();
        disk.create_bucket("b", SystemTime::now()).unwrap();
        let mut blob = Blob::default();
        let file = disk.new_data();
        fs::write(&file.path, b"named").unwrap();
        let named = file.path.clone();
        blob.push(Piece::File {
            file,
            offset: 0,
            len: 5,
        });
        let object = Object {
            blob,
            etag: "e".into(),
            crc64: Some(u64::MAX),
            modified: SystemTime::now(),
            attributes: Attributes::default(),
            upload_id: None,
        };
        let key = "k/".repeat(512);
        disk.save_object("b", &key, &object).unwrap();
        object.blob.retain();
        drop((object, disk));
        let orphan = dir.path().join("data/77");
        fs::write(&orphan, b"orphan").unwrap();

        let (disk, loaded) = Disk::open(dir.path()).unwrap();
        assert!(!orphan.exists() && named.exists());
        let found = &loaded.buckets["b"].objects[&key];
        assert_eq!(found.blob.to_vec().unwrap(), b"named");
        assert_eq!(found.crc64, Some(u64::MAX));
        assert!(
            disk.new_data().id > 77,
            "the number of a swept file is not used again"
        );
    }
}
