//! A vault of Amazon S3 Glacier inside the program: archives without names, multipart uploads with tree
//! hashes, and jobs that take their time. Written from the vendor's API reference; it stands behind the same
//! front as the S3 server, with the same faults and the same log.
//!
//! `api` reads requests and writes answers, `model` does what they ask, `tree` is the checksum.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::faults::Faults;
use super::log::RequestLog;
use super::serving::{Manner, Serving};

mod api;
mod model;
mod tree;

use api::Api;
use model::Model;
pub use model::{ArchiveSummary, Manners, UploadSummary};

#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// Made at the start.
    pub vaults: Vec<String>,
    pub manners: Manners,
    /// Waited before every request.
    pub latency: Duration,
    /// Bytes per second, for each direction of each connection.
    pub bandwidth: Option<u64>,
    pub log_requests: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            vaults: vec!["demo".into()],
            manners: Manners::default(),
            latency: Duration::ZERO,
            bandwidth: None,
            log_requests: false,
        }
    }
}

/// A running server.
pub struct VaultServer {
    model: Arc<Mutex<Model>>,
    serving: Serving,
}

impl VaultServer {
    /// Starts a server; its tasks run on the current runtime.
    pub async fn start(options: Options) -> io::Result<VaultServer> {
        let mut model = Model::new(options.manners);
        for vault in &options.vaults {
            model.create_vault(vault);
        }
        let model = Arc::new(Mutex::new(model));
        let manner = Manner {
            latency: options.latency,
            bandwidth: options.bandwidth,
            print: options.log_requests,
        };
        let protocol = Api {
            model: model.clone(),
        };
        let serving = Serving::start(options.listen, None, protocol, manner).await?;
        Ok(VaultServer { model, serving })
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    pub fn faults(&self) -> &Faults {
        &self.serving.faults
    }

    pub fn log(&self) -> &RequestLog {
        &self.serving.log
    }

    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

/// A look inside, without HTTP.
impl VaultServer {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn archives(&self, vault: &str) -> Vec<ArchiveSummary> {
        self.model().archives(vault)
    }

    /// An archive's bytes.
    pub fn archive(&self, vault: &str, id: &str) -> Option<Vec<u8>> {
        self.model().bytes_of(vault, id)
    }

    /// The open multipart uploads.
    pub fn uploads(&self, vault: &str) -> Vec<UploadSummary> {
        self.model().open_uploads(vault)
    }

    /// Begins an upload as somebody else would; answers its id.
    pub fn create_upload(&self, vault: &str, description: &str) -> String {
        let begun = self.model().initiate(vault, description, 1 << 20);
        begun.expect("the vault exists")
    }

    /// The same, with an id that is already known.
    pub fn create_upload_named(&self, vault: &str, id: &str) {
        let begun = self.model().initiate_as(vault, id.to_string(), "", 1 << 20);
        begun.expect("the vault exists");
    }

    /// Makes an archive as somebody else would; answers its id.
    pub fn put_archive(&self, vault: &str, description: &str, bytes: &[u8]) -> String {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let made = self.model().upload_archive(vault, description, bytes);
        made.expect("the vault exists").0
    }
}
