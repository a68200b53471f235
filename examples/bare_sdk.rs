//! The AWS SDK alone, with no filesystem over it: what sending and fetching cost at the least, in requests as
//! wholefs sends them. `scripts/bench` measures it beside wholefs, and fills stores with it.
//!
//! `bare_sdk put|get ENDPOINT REGION BUCKET SIZE AT_ONCE KEY…`: each key beside the others, in parts (or ranges)
//! of 8 MiB, AT_ONCE of them under way for each. Prints one line of JSON.

use std::error::Error;
use std::time::Instant;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine;
use bytes::{Buf, Bytes};
use crc_fast::{CrcAlgorithm, checksum};
use futures_util::stream::{self, StreamExt, TryStreamExt};

const PART: u64 = 8 << 20;
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone)]
struct Bucket {
    client: Client,
    name: String,
    size: u64,
    at_once: usize,
    /// Part bodies are cut from it: nothing is made or copied for them. As many parts as are under way, of memory that was
    /// written to, as whoever has something to send has it: zeros that nobody wrote are one page, which never leaves
    /// the processor's cache.
    parts: Bytes,
}

impl Bucket {
    /// Where each part or range begins and how long it is.
    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let size = self.size;
        (0..size.div_ceil(PART)).map(move |n| (n * PART, PART.min(size - n * PART)))
    }

    /// The body of a part, and its checksum as S3 takes it: computed each time, as a filesystem must.
    fn body(&self, number: usize, len: u64) -> (ByteStream, String) {
        let from = number % self.at_once * PART as usize;
        let bytes = self.parts.slice(from..from + len as usize);
        let crc = checksum(CrcAlgorithm::Crc64Nvme, &bytes);
        let crc = base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes());
        (ByteStream::from(bytes), crc)
    }

    async fn put(&self, key: &str) -> Result<()> {
        if self.size <= PART {
            let (body, crc) = self.body(0, self.size);
            let put = self.client.put_object().bucket(&self.name).key(key);
            let put = put.checksum_crc64_nvme(crc).body(body);
            put.customize().disable_payload_signing().send().await?;
            return Ok(());
        }
        let create = self.client.create_multipart_upload();
        let create = create.bucket(&self.name).key(key);
        let create = create.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
        let create = create.checksum_type(ChecksumType::FullObject);
        let id = create.send().await?.upload_id.ok_or("no upload id")?;
        let parts = stream::iter(self.ranges().zip(1..))
            .map(|((_, len), number)| self.part(key, &id, number, len))
            .buffered(self.at_once);
        let parts = parts.try_collect().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let complete = self.client.complete_multipart_upload();
        let complete = complete.bucket(&self.name).key(key).upload_id(id);
        complete.multipart_upload(parts.build()).send().await?;
        Ok(())
    }

    async fn part(&self, key: &str, id: &str, number: i32, len: u64) -> Result<CompletedPart> {
        let (body, crc) = self.body(number as usize, len);
        let part = self.client.upload_part().bucket(&self.name).key(key);
        let part = part.upload_id(id).part_number(number);
        let part = part.checksum_crc64_nvme(&crc).body(body);
        let sent = part.customize().disable_payload_signing().send().await?;
        let part = CompletedPart::builder().part_number(number);
        let part = part.checksum_crc64_nvme(crc);
        Ok(part.set_e_tag(sent.e_tag).build())
    }

    async fn get(&self, key: &str) -> Result<()> {
        let ranges = stream::iter(self.ranges()).map(Ok);
        let each = |(from, len)| async move {
            let range = format!("bytes={from}-{}", from + len - 1);
            let get = self.client.get_object().bucket(&self.name).key(key);
            let body = get.range(range).send().await?.body;
            // Kept until it is whole, as whoever reads it has to.
            let received = body.collect().await?.remaining() as u64;
            match received == len {
                true => Ok(()),
                false => Err(format!("{received} bytes instead of {len}").into()),
            }
        };
        ranges.try_for_each_concurrent(self.at_once, each).await
    }
}

fn client(endpoint: &str, region: &str) -> Result<Client> {
    let (key, secret) = (
        std::env::var("AWS_ACCESS_KEY_ID")?,
        std::env::var("AWS_SECRET_ACCESS_KEY")?,
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(region.to_string()))
        .credentials_provider(Credentials::new(key, secret, None, None, "environment"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .force_path_style(true);
    Ok(Client::from_conf(config.build()))
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what, endpoint, region, bucket, size, at_once, ref keys @ ..] = arguments[..] else {
        return Err("see the head of examples/bare_sdk.rs".into());
    };
    let at_once = at_once.parse()?;
    let bucket = Bucket {
        client: client(endpoint, region)?,
        name: bucket.to_string(),
        size: size.parse()?,
        at_once,
        parts: Bytes::from(vec![0x5a; at_once * PART as usize]),
    };
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for key in keys {
        let (bucket, key, puts) = (bucket.clone(), key.to_string(), what == "put");
        running.spawn(async move {
            match puts {
                true => bucket.put(&key).await,
                false => bucket.get(&key).await,
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let (seconds, bytes) = (
        began.elapsed().as_secs_f64(),
        bucket.size * keys.len() as u64,
    );
    println!(
        "{{\"seconds\": {seconds:.6}, \"bytes\": {bytes}, \"operations\": {}}}",
        keys.len()
    );
    Ok(())
}
