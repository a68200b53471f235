//! The server as the rest of the program sees it: options, life, and a look inside.
//!
//! Invariant: dropping a [`Server`] ends everything it has begun. Connections live in a set owned
//! by the accepting task, requests in a set of the server; both end with their owners.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SecretKey;
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::api::rename::Renames;
use super::api::{Api, Domain, Keys};
use super::dialect::Dialect;
use super::disk::Disk;
use super::error::Error;
use super::faults::Faults;
use super::front::{Front, Lines, Reply};
use super::ingest::receive_bytes;
use super::log::RequestLog;
use super::model::{Attributes, Condition, Model, Object, Upload};
use super::multipart::{Part, check_part_number};
use super::prefill::{self, Prefill};
use super::wire::Speed;

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

/// The requests being carried through; ends them when dropped.
type Requests = Arc<Mutex<JoinSet<()>>>;

/// A running server.
pub struct Server {
    keys: Keys,
    address: SocketAddr,
    model: Arc<Model>,
    faults: Faults,
    log: RequestLog,
    speed: Arc<Speed>,
    accepting: JoinHandle<()>,
    requests: Requests,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.take_requests().abort_all();
    }
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
        service.set_route(Renames {
            model: model.clone(),
            base_domain: options.base_domain.clone(),
        });
        if let Some(domain) = &options.base_domain {
            service.set_host(Domain(domain.clone()));
        }

        let speed = Arc::new(Speed::default());
        speed.set_latency(options.latency);
        speed.set_bandwidth(options.bandwidth);
        let (faults, log) = (Faults::default(), RequestLog::new());
        let front = Arc::new(Front {
            service: service.build(),
            faults: faults.clone(),
            log: log.clone(),
            speed: speed.clone(),
            dialect: options.dialect,
            base_domain: options.base_domain,
            print: options.log_requests,
        });
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let accepting = tokio::spawn(accept(listener, front, requests.clone()));
        let server = Server {
            keys,
            address,
            model,
            faults,
            log,
            speed,
            accepting,
            requests,
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
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub fn log(&self) -> &RequestLog {
        &self.log
    }

    /// Counts for requests that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.speed.set_latency(latency);
    }

    /// Counts for bytes that pass from now on.
    pub fn set_bandwidth(&self, bandwidth: Option<u64>) {
        self.speed.set_bandwidth(bandwidth);
    }

    /// Closes the listener and all connections, and ends all requests, finished or not.
    pub async fn stop(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        let mut requests = self.take_requests();
        requests.shutdown().await;
    }

    fn take_requests(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
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

async fn accept(listener: TcpListener, front: Arc<Front>, requests: Requests) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, front.clone(), requests.clone()));
            }
            // Out of file descriptors, or a connection that was gone before it was accepted.
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, front: Arc<Front>, requests: Requests) {
    // Small answers are to leave at once.
    let _ = stream.set_nodelay(true);
    let lines = Lines::new(&front.speed);
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, requests, lines) = (front.clone(), requests.clone(), lines.clone());
        async move {
            let (give, take) = oneshot::channel();
            {
                let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
                while requests.try_join_next().is_some() {}
                requests.spawn(async move {
                    // The connection may be gone; the reply then goes with it.
                    let _ = give.send(front.handle(lines, request).await);
                });
            }
            match take.await {
                Ok(Reply::Answer(response)) => Ok(*response),
                // hyper closes the connection without a word when the service fails.
                Ok(Reply::Close(_)) => Err("closed by a fault"),
                Ok(Reply::Hang(_entry)) => std::future::pending().await,
                Err(_) => Err("the server stops"),
            }
        }
    });
    // No timeout on idle connections: a client that reuses one in the moment it is closed would see
    // a fault nobody has scripted.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}
