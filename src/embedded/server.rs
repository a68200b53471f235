//! The server as the rest of the program sees it: options, life, and a look inside.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use s3s::auth::SecretKey;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;

use super::accept::Tls;
use super::api::rename::Renames;
use super::api::{Api, Domain, Door, Keys};
use super::dialect::Dialect;
use super::disk::Disk;
use super::error::Error;
use super::faults::Faults;
use super::ingest::receive_bytes;
use super::log::RequestLog;
use super::model::{Attributes, Condition, Model, Object, Upload};
use super::multipart::{Part, check_part_number};
use super::prefill::{self, Prefill};
use super::protocol::S3;
use super::serving::{Manner, Serving};

/// Where bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    Memory,
    /// In this directory, which is made where it is missing. One server at a time.
    Directory(PathBuf),
    /// Nowhere: zeros are served in their place.
    Null,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub keep: Keep,
    pub dialect: Dialect,
    pub access_key: String,
    pub secret_key: String,
    /// Made at the start where they are missing.
    pub buckets: Vec<String>,
    /// Waited before every request.
    pub latency: Duration,
    /// Bytes per second, for each direction of each connection.
    pub bandwidth: Option<u64>,
    /// `BUCKET.DOMAIN` in the `Host` header names a bucket.
    pub base_domain: Option<String>,
    /// Speak TLS, with this certificate.
    pub tls: Option<Tls>,
    /// Write a line to the program's log for every request.
    pub log_requests: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            keep: Keep::Memory,
            dialect: Dialect::default(),
            access_key: "wholefs".into(),
            secret_key: "wholefs-secret".into(),
            buckets: vec!["demo".into()],
            latency: Duration::ZERO,
            bandwidth: None,
            base_domain: None,
            tls: None,
            log_requests: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSummary {
    pub key: String,
    pub size: u64,
    pub etag: String,
    pub modified: SystemTime,
    pub content_type: Option<String>,
    pub storage_class: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSummary {
    pub key: String,
    pub id: String,
    pub parts: usize,
    pub bytes: u64,
    pub initiated: SystemTime,
    pub initiator: String,
}

/// A running server.
pub struct Server {
    keys: Keys,
    scheme: &'static str,
    model: Arc<Model>,
    serving: Serving,
}

impl Server {
    /// Starts a server; its tasks run on the current runtime.
    pub async fn start(options: Options) -> io::Result<Server> {
        let disk = match &options.keep {
            Keep::Directory(directory) => Some(Disk::open(directory)?),
            Keep::Memory | Keep::Null => None,
        };
        let model = Model::new(options.dialect.clone(), options.keep == Keep::Null, disk);
        for bucket in &options.buckets {
            make_bucket(&model, bucket)?;
        }
        let model = Arc::new(model);

        let mut service = S3ServiceBuilder::new(Api {
            model: model.clone(),
        });
        let keys = Keys::default();
        service.set_auth(keys.clone());
        service.set_access(Door);
        service.set_route(Renames {
            model: model.clone(),
            base_domain: options.base_domain.clone(),
        });
        let mut config = S3Config::default();
        // It counts for signatures in headers as well.
        let skew = options.dialect.clock_skew.as_secs();
        config.presigned_url_max_skew_time_secs = u32::try_from(skew).unwrap_or(u32::MAX);
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        if let Some(domain) = &options.base_domain {
            service.set_host(Domain(domain.clone()));
        }

        let protocol = S3 {
            service: service.build(),
            keys: keys.clone(),
            dialect: options.dialect,
            base_domain: options.base_domain,
        };
        let manner = Manner {
            latency: options.latency,
            bandwidth: options.bandwidth,
            print: options.log_requests,
        };
        let tls = options.tls.as_ref().map(Tls::acceptor).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = Serving::start(options.listen, tls, protocol, manner).await?;
        let server = Server {
            keys,
            scheme,
            model,
            serving,
        };
        server.accept_keys(&[(&options.access_key, &options.secret_key)]);
        Ok(server)
    }

    /// From now on these keys (id and secret) are known, and no others.
    pub fn accept_keys(&self, pairs: &[(&str, &str)]) {
        let pair = |(id, secret): &(&str, &str)| (id.to_string(), SecretKey::from(*secret));
        let mut known = self.keys.0.write().unwrap_or_else(PoisonError::into_inner);
        *known = pairs.iter().map(pair).collect();
    }

    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    /// `http://127.0.0.1:PORT`, or `https:`
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.serving.address)
    }

    pub fn faults(&self) -> &Faults {
        &self.serving.faults
    }

    pub fn log(&self) -> &RequestLog {
        &self.serving.log
    }

    /// Counts for requests that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.serving.speed.set_latency(latency);
    }

    /// Counts for bytes that pass from now on.
    pub fn set_bandwidth(&self, bandwidth: Option<u64>) {
        self.serving.speed.set_bandwidth(bandwidth);
    }

    /// Closes the listener and all connections, and ends all requests, finished or not.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

/// A look inside, and setting up, without HTTP. What cannot be done panics: it is the test's
/// mistake, not a client's.
impl Server {
    pub fn objects(&self, bucket: &str) -> Vec<ObjectSummary> {
        let listed = self.model.with(bucket, |bucket| {
            let summary = |(key, object): (&String, &Arc<Object>)| ObjectSummary {
                key: key.clone(),
                size: object.blob.len(),
                etag: object.etag.clone(),
                modified: object.modified,
                content_type: object.attributes.content_type.clone(),
                storage_class: object.attributes.storage_class.clone(),
                metadata: object.attributes.metadata.clone(),
            };
            Ok(bucket.objects.iter().map(summary).collect())
        });
        listed.unwrap_or_default()
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let object = self.model.object(bucket, key).ok()?;
        object.blob.to_vec().ok()
    }

    /// Puts an object in place, and makes the bucket where it is missing.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        let put = || {
            make_bucket(&self.model, bucket)?;
            let received = receive_bytes(&self.model, bytes.into())?;
            let object = Object {
                blob: received.blob,
                etag: received.etag,
                crc64: received.crc64,
                modified: SystemTime::now(),
                attributes: Attributes::default(),
                upload_id: None,
            };
            self.model.put(bucket, key, object, &Condition::default())
        };
        put().expect("an object is put in place");
    }

    /// Zeros, of a server that keeps none of its bytes.
    pub fn prefill(&self, bucket: &str, prefill: &Prefill) {
        assert!(self.model.null, "zeros are for null mode alone");
        prefill::fill(&self.model, bucket, prefill).expect("the bucket exists");
    }

    pub fn delete_object(&self, bucket: &str, key: &str) {
        self.model
            .delete(bucket, key, &Condition::default())
            .expect("the bucket exists");
    }

    /// The open multipart uploads.
    pub fn uploads(&self, bucket: &str) -> Vec<UploadSummary> {
        let listed = self.model.with(bucket, |bucket| {
            let summary = |((key, id), upload): (&(String, String), &Upload)| UploadSummary {
                key: key.clone(),
                id: id.clone(),
                parts: upload.parts.len(),
                bytes: upload.parts.values().map(|part| part.blob.len()).sum(),
                initiated: upload.initiated,
                initiator: upload.initiator.clone(),
            };
            Ok(bucket.uploads.iter().map(summary).collect())
        });
        listed.unwrap_or_default()
    }

    /// Begins an upload as somebody else (`foreign`) and returns its id.
    pub fn create_upload(&self, bucket: &str, key: &str) -> String {
        let upload = Upload {
            attributes: Attributes::default(),
            initiated: SystemTime::now(),
            initiator: "foreign".into(),
            checksummed: false,
            parts: BTreeMap::new(),
        };
        self.model
            .create_upload(bucket, key, upload)
            .expect("the bucket exists")
    }

    /// Gives an open upload the id that a book calls it by.
    pub fn rename_upload(&self, bucket: &str, key: &str, id: &str, new_id: &str) {
        self.model
            .rename_upload(bucket, key, id, new_id)
            .expect("the upload is open");
    }

    /// Adds a part to an open upload.
    pub fn put_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: u32,
        bytes: impl Into<Bytes>,
    ) {
        let put = || {
            let number = check_part_number(number.into())?;
            let received = receive_bytes(&self.model, bytes.into())?;
            let part = Part {
                blob: received.blob,
                etag: received.etag,
                crc64: received.crc64,
                modified: SystemTime::now(),
            };
            self.model
                .put_part(bucket, key, id, number, part, Instant::now())
        };
        put().expect("a part is put in place");
    }

    /// Aborts an upload as somebody else would; false when there is none.
    pub fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> bool {
        self.model.abort(bucket, key, id).is_ok()
    }
}

fn make_bucket(model: &Model, bucket: &str) -> Result<(), Error> {
    if !s3s::path::check_bucket_name(bucket) {
        let message = format!("`{bucket}` cannot be the name of a bucket");
        return Err(Error::new("InvalidBucketName", message));
    }
    match model.create_bucket(bucket) {
        Err(error) if error.code == "BucketAlreadyOwnedByYou" => Ok(()),
        other => other,
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}
