//! A bucket to mount: the embedded server in this process, or a Garage node. Whatever a scenario
//! asks of a bucket goes through a plain S3 client, so that it asks the same of both.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    timeout::TimeoutConfig,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::EncodingType;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use tokio::runtime::Runtime;
use wholefs::embedded::vault::{self, VaultServer};
use wholefs::embedded::{Faults, Options, RequestLog, Server};

use super::authority::Authority;
use super::content::Content;
use super::garage::{self, Garage};
use super::moto::Moto;
use super::servers::{self, CEPH, RCLONE, SWIFT};
use super::wait::{eventually, seconds};

enum Behind {
    Embedded(Server),
    Garage(#[allow(dead_code, reason = "ends the node when dropped")] Garage),
    Moto(Moto),
    Vault(VaultServer),
    /// One that other tests use too.
    Shared(&'static servers::Kind),
}

pub struct Store {
    pub endpoint: String,
    pub region: &'static str,
    /// The row of the dialect table.
    pub provider: &'static str,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
    /// Who has signed its certificate, where it speaks TLS.
    pub authority: Option<Authority>,
    client: Client,
    // Before the runtime: its tasks end with it.
    behind: Behind,
    runtime: Runtime,
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("store").enable_all();
    builder.build().expect("a runtime")
}

fn client(endpoint: &str, region: &'static str, access_key: &str, secret_key: &str) -> Client {
    trusting(None, endpoint, region, access_key, secret_key)
}

fn trusting(
    authority: Option<&Authority>,
    endpoint: &str,
    region: &'static str,
    access_key: &str,
    secret_key: &str,
) -> Client {
    let trusted = authority.map_or_else(TrustStore::default, |authority| {
        TrustStore::empty().with_pem_certificate(authority.pem())
    });
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls.expect("a way to speak TLS"))
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new(region))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // A server that has come to a standstill fails a test, and does not hold up all that come after it.
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(seconds(120))
                .build(),
        )
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// Undoes the encoding of keys in listings.
fn decode(key: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = key.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let (digits, behind) = rest.split_at(2);
                let digits = std::str::from_utf8(digits).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                rest = behind;
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("keys are UTF-8")
}

fn upload_id(answer: &HttpResponse) -> Option<String> {
    let text = std::str::from_utf8(answer.body().bytes()?).ok()?;
    let (id, _) = text.split_once("<UploadId>")?.1.split_once("</UploadId>")?;
    Some(id.to_owned())
}

impl Store {
    /// The embedded bucket in memory, as Amazon S3 behaves.
    pub fn embedded() -> Store {
        Store::embedded_with(Options::default())
    }

    /// Over TLS, too, where WHOLEFS_TESTS_OVER_TLS is set: for a run of the tests that stand on it.
    pub fn embedded_with(options: Options) -> Store {
        match std::env::var_os("WHOLEFS_TESTS_OVER_TLS") {
            Some(_) => Store::over_tls(options),
            None => Store::started(options, None),
        }
    }

    /// The embedded bucket over TLS, by the name of its address, with an authority of its own.
    pub fn over_tls(options: Options) -> Store {
        let authority = Authority::new();
        let names = [
            "127.0.0.1",
            "s3.test",
            "*.s3.test",
            "cos.test",
            "*.cos.test",
            "object.test",
            "*.object.test",
        ];
        let tls = Some(authority.certify(&names));
        Store::started(Options { tls, ..options }, Some(authority))
    }

    /// The options' TLS is signed by `authority`.
    pub fn started(options: Options, authority: Option<Authority>) -> Store {
        let (access_key, secret_key) = (options.access_key.clone(), options.secret_key.clone());
        let bucket = options.buckets[0].clone();
        let runtime = runtime();
        let server = runtime
            .block_on(Server::start(options))
            .expect("the embedded server starts");
        let endpoint = server.endpoint();
        Store {
            client: trusting(
                authority.as_ref(),
                &endpoint,
                "us-east-1",
                &access_key,
                &secret_key,
            ),
            authority,
            endpoint,
            region: "us-east-1",
            provider: "embedded",
            access_key,
            secret_key,
            bucket,
            behind: Behind::Embedded(server),
            runtime,
        }
    }

    /// The embedded bucket as a directory bucket of Amazon's, which can rename.
    pub fn that_renames() -> Store {
        let mut options = Options::default();
        options.dialect.rename = true;
        Store {
            provider: "aws-express",
            ..Store::embedded_with(options)
        }
    }

    /// A vault of Glacier's, by a server of ours.
    pub fn vault(manners: vault::Manners) -> Store {
        Store::vault_named("demo", manners)
    }

    pub fn vault_named(name: &str, manners: vault::Manners) -> Store {
        let runtime = runtime();
        let options = vault::Options {
            vaults: vec![name.into()],
            manners,
            ..vault::Options::default()
        };
        let server = runtime.block_on(VaultServer::start(options));
        let server = server.expect("the embedded vault starts");
        let endpoint = server.endpoint();
        Store {
            client: client(&endpoint, "us-east-1", "any", "any"),
            authority: None,
            endpoint,
            region: "us-east-1",
            provider: "",
            access_key: "any".into(),
            secret_key: "any".into(),
            bucket: name.into(),
            behind: Behind::Vault(server),
            runtime,
        }
    }

    /// For scenarios of vaults.
    #[track_caller]
    pub fn vault_server(&self) -> &VaultServer {
        match &self.behind {
            Behind::Vault(server) => server,
            _ => panic!("this scenario is for a vault"),
        }
    }

    /// `None`, said loudly, when there is no Garage here.
    pub fn garage() -> Option<Store> {
        let node = Garage::start()?;
        let (access_key, secret_key) = (garage::ACCESS_KEY.into(), garage::SECRET_KEY.into());
        Some(Store {
            client: client(
                &node.endpoint,
                garage::REGION,
                garage::ACCESS_KEY,
                garage::SECRET_KEY,
            ),
            endpoint: node.endpoint.clone(),
            region: garage::REGION,
            provider: "garage",
            access_key,
            secret_key,
            bucket: garage::BUCKET.into(),
            authority: None,
            behind: Behind::Garage(node),
            runtime: runtime(),
        })
    }

    /// `None`, said loudly, when there is no moto here.
    pub fn moto() -> Option<Store> {
        let server = Moto::start()?;
        let store = Store {
            client: client(&server.endpoint, "us-east-1", "any", "any"),
            endpoint: server.endpoint.clone(),
            region: "us-east-1",
            provider: "generic",
            access_key: "any".into(),
            secret_key: "any".into(),
            bucket: "tank".into(),
            authority: None,
            behind: Behind::Moto(server),
            runtime: runtime(),
        };
        let made = store.client.create_bucket().bucket(&store.bucket);
        let made = store.runtime.block_on(made.send());
        made.expect("a bucket is made");
        Some(store)
    }

    /// `None` also when this test is not for it.
    pub fn moto_for(test: &str) -> Option<Store> {
        match servers::excuses("moto", test) {
            true => None,
            false => Store::moto(),
        }
    }

    /// `None`, said loudly, when there is no Swift here, or when this test is not for it.
    pub fn swift(test: &str) -> Option<Store> {
        Store::shared(&SWIFT, test)
    }

    pub fn rclone(test: &str) -> Option<Store> {
        Store::shared(&RCLONE, test)
    }

    pub fn ceph(test: &str) -> Option<Store> {
        Store::shared(&CEPH, test)
    }

    /// A bucket of its own on a server of this kind.
    fn shared(kind: &'static servers::Kind, test: &str) -> Option<Store> {
        static BUCKETS: AtomicU32 = AtomicU32::new(0);
        if servers::excuses(kind.name, test) {
            return None;
        }
        let endpoint = kind.endpoint()?;
        let (access_key, secret_key) = (kind.access_key, kind.secret_key);
        let store = Store {
            authority: None,
            client: client(endpoint, "us-east-1", access_key, secret_key),
            endpoint: endpoint.to_owned(),
            region: "us-east-1",
            provider: kind.name,
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            bucket: format!("tank-{}", BUCKETS.fetch_add(1, Ordering::Relaxed)),
            behind: Behind::Shared(kind),
            runtime: runtime(),
        };
        let made = store.client.create_bucket().bucket(&store.bucket);
        let made = store.runtime.block_on(made.send());
        made.expect("a bucket is made");
        Some(store)
    }

    /// A scenario that asks for thousands of small answers, one after the other, asks for so many times fewer
    /// here: by how long each takes.
    pub fn slowness(&self) -> u64 {
        match &self.behind {
            Behind::Embedded(_) | Behind::Vault(_) => 1,
            Behind::Garage(_) => 4,
            Behind::Moto(_) => 16,
            Behind::Shared(kind) => kind.slowness,
        }
    }

    /// The embedded server: for scenarios that need its faults, its log or its inside.
    #[track_caller]
    pub fn server(&self) -> &Server {
        match &self.behind {
            Behind::Embedded(server) => server,
            Behind::Garage(_) | Behind::Moto(_) | Behind::Shared(_) | Behind::Vault(_) => {
                panic!("this scenario is for the embedded bucket alone")
            }
        }
    }

    pub fn faults(&self) -> &Faults {
        self.server().faults()
    }

    pub fn log(&self) -> &RequestLog {
        self.server().log()
    }

    /// A vendor's simulator, which this module's client cannot speak to, is looked at from inside.
    fn inside(&self) -> Option<&Server> {
        self.resolver().map(|_| self.server())
    }

    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        if let Some(server) = self.inside() {
            return server.put_object(&self.bucket, key, bytes.into());
        }
        let request = self.client.put_object().bucket(&self.bucket).key(key);
        let body = ByteStream::from(bytes.into());
        let put = self.runtime.block_on(request.body(body).send());
        put.unwrap_or_else(|e| panic!("putting {key}: {e:?}"));
    }

    /// With metadata and a content type, as another client would.
    pub fn put_with(&self, key: &str, text: &str, said: &HashMap<String, String>, kind: &str) {
        let request = self.client.put_object().bucket(&self.bucket).key(key);
        let request = request.set_metadata(Some(said.clone())).content_type(kind);
        let body = ByteStream::from(text.as_bytes().to_vec());
        let put = self.runtime.block_on(request.body(body).send());
        put.unwrap_or_else(|e| panic!("putting {key}: {e:?}"));
    }

    pub fn put_in_class(&self, key: &str, text: &str, class: &str) {
        let request = self.client.put_object().bucket(&self.bucket).key(key);
        let request = request.storage_class(class.into());
        let body = ByteStream::from(text.as_bytes().to_vec());
        let put = self.runtime.block_on(request.body(body).send());
        put.unwrap_or_else(|e| panic!("putting {key}: {e:?}"));
    }

    /// An object's metadata and content type.
    pub fn said_of(&self, key: &str) -> (HashMap<String, String>, Option<String>) {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let head = self.runtime.block_on(request.send());
        let head = head.unwrap_or_else(|e| panic!("looking at {key}: {e:?}"));
        let kind = head.content_type().map(str::to_owned);
        (head.metadata.unwrap_or_default(), kind)
    }

    pub fn keep_versions(&self) {
        use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
        let request = self.client.put_bucket_versioning().bucket(&self.bucket);
        let request = request.versioning_configuration(enabled.build());
        let done = self.runtime.block_on(request.send());
        done.expect("the bucket keeps versions");
    }

    pub fn delete(&self, key: &str) {
        if let Some(server) = self.inside() {
            return server.delete_object(&self.bucket, key);
        }
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        let deleted = self.runtime.block_on(request.send());
        deleted.unwrap_or_else(|e| panic!("deleting {key}: {e:?}"));
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(server) = self.inside() {
            return server.object(&self.bucket, key);
        }
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        self.runtime.block_on(async {
            match request.send().await {
                Ok(object) => {
                    let body = object.body.collect().await;
                    let body = body.unwrap_or_else(|e| panic!("reading {key}: {e:?}"));
                    Some(body.to_vec())
                }
                Err(e) if e.as_service_error().is_some_and(|e| e.is_no_such_key()) => None,
                Err(e) => panic!("getting {key}: {e:?}"),
            }
        })
    }

    /// Compares an object with a file of the local disk, chunk by chunk.
    pub fn compare(&self, key: &str, expected: &Content) -> Result<(), String> {
        if let Some(server) = self.inside() {
            let bytes = server.object(&self.bucket, key).ok_or("is not there")?;
            return expected.compare(&bytes[..]);
        }
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        self.runtime.block_on(async {
            let object = request.send().await.map_err(|e| format!("{e:?}"))?;
            let mut body = object.body;
            let mut at = 0;
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|e| format!("at {at}: {e:?}"))?;
                if let Some(at) = expected.difference(at, &chunk) {
                    return Err(format!("differs at byte {at} of {}", expected.size));
                }
                at += chunk.len() as u64;
            }
            match at == expected.size {
                true => Ok(()),
                false => Err(format!("has {at} bytes instead of {}", expected.size)),
            }
        })
    }

    #[track_caller]
    pub fn assert_holds(&self, key: &str, expected: &Content) {
        if let Err(error) = self.compare(key, expected) {
            panic!("the object {key}: {error}");
        }
    }

    /// Every object: key and size.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        if let Some(server) = self.inside() {
            let objects = server.objects(&self.bucket).into_iter();
            return objects.map(|object| (object.key, object.size)).collect();
        }
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        // XML has no way to say some characters that keys may have.
        let request = request.encoding_type(EncodingType::Url);
        let mut pages = request.into_paginator().send();
        self.runtime.block_on(async {
            let mut objects = BTreeMap::new();
            while let Some(page) = pages.next().await {
                for object in page.expect("a page of the listing").contents() {
                    let key = object.key().expect("a listed object has a key");
                    objects.insert(decode(key), object.size().unwrap_or(0) as u64);
                }
            }
            objects
        })
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects().into_keys().collect()
    }

    /// Another client's upload with one part; answers its id.
    pub fn begin_upload(&self, key: &str) -> String {
        let (bucket, client) = (&self.bucket, &self.client);
        self.runtime.block_on(async {
            let create = client.create_multipart_upload().bucket(bucket).key(key);
            let id = match create.send().await {
                Ok(created) => created.upload_id,
                // rclone calls the answer by a name that the SDK does not know.
                Err(error) => error.raw_response().and_then(upload_id),
            };
            let id = id.expect("an upload has an id");
            let part = client.upload_part().bucket(bucket).key(key).upload_id(&id);
            let part = part.part_number(1).body(ByteStream::from(vec![7; 1000]));
            part.send().await.expect("a part");
            id
        })
    }

    pub fn abort_upload(&self, key: &str, id: &str) {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket);
        let aborted = self.runtime.block_on(abort.key(key).upload_id(id).send());
        aborted.unwrap_or_else(|e| panic!("aborting {id} of {key}: {e:?}"));
    }

    /// Every open multipart upload: key and upload id.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        if let Some(server) = self.inside() {
            let uploads = server.uploads(&self.bucket).into_iter();
            return uploads.map(|upload| (upload.key, upload.id)).collect();
        }
        let request = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .max_uploads(1000);
        let listed = match self.runtime.block_on(request.send()) {
            // rclone, of a bucket that has none.
            Err(e) if e.code() == Some("NoSuchUpload") => return Vec::new(),
            listed => listed.expect("a listing of uploads"),
        };
        assert_ne!(
            listed.is_truncated(),
            Some(true),
            "over 1000 uploads are open"
        );
        let name = |upload: &aws_sdk_s3::types::MultipartUpload| {
            let text = |text: Option<&str>| text.expect("a listed upload has a name").to_owned();
            (text(upload.key()), text(upload.upload_id()))
        };
        listed.uploads().iter().map(name).collect()
    }

    /// How many parts the open uploads of this key hold by now.
    pub fn parts_of(&self, key: &str) -> usize {
        if let Some(server) = self.inside() {
            let uploads = server.uploads(&self.bucket).into_iter();
            return uploads.filter(|u| u.key == key).map(|u| u.parts).sum();
        }
        let uploads = self.open_uploads();
        let of_key = uploads.iter().filter(|(its_key, _)| its_key == key);
        of_key
            .map(|(key, id)| {
                if let Behind::Moto(moto) = &self.behind {
                    return moto.parts_of(&self.bucket, key, id);
                }
                let request = self.client.list_parts().bucket(&self.bucket);
                let sent = self.runtime.block_on(request.key(key).upload_id(id).send());
                // It may be gone by now.
                sent.map_or(0, |parts| parts.parts().len())
            })
            .sum()
    }

    /// Within the five seconds that the promise gives, or what else the test says.
    #[track_caller]
    pub fn assert_no_uploads_within(&self, time: u64, what: &str) {
        let mut left = Vec::new();
        let clean = super::wait::holds_within(seconds(time), || {
            left = self.open_uploads();
            left.is_empty()
        });
        assert!(
            clean,
            "{what}: after {time} s these uploads are open: {left:?}"
        );
    }

    /// Waits until the uploads of `key` hold so many parts.
    #[track_caller]
    pub fn await_parts(&self, key: &str, parts: usize) {
        eventually(seconds(60), &format!("{parts} parts of {key}"), || {
            self.parts_of(key) >= parts
        });
    }

    /// Compares an object with a file of the local disk through the S3 client.
    #[track_caller]
    pub fn assert_same_as_file(&self, key: &str, path: &Path) {
        let found = self.get(key).unwrap_or_else(|| panic!("no object {key}"));
        let expected = std::fs::read(path).expect("a file of the test's own");
        assert!(
            found == expected,
            "the object {key} ({} bytes) is not {} ({} bytes)",
            found.len(),
            path.display(),
            expected.len()
        );
    }
}
