//! The embedded S3 server, driven over loopback by the SDK an application would use.

mod dialects;
mod faults;
mod keeping;
pub mod operations;
mod pages;
mod signatures;
mod uploads;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use wholefs::embedded::{Dialect, Options, Server};

const BUCKET: &str = "demo";

async fn server(options: Options) -> Server {
    Server::start(options).await.expect("a server starts")
}

/// A server whose parts may be of any size, and a client of it.
async fn small_parts() -> (Server, Client) {
    let dialect = Dialect {
        part_min: 0,
        ..Dialect::default()
    };
    let server = server(Options {
        dialect,
        ..Options::default()
    })
    .await;
    let client = client(&server);
    (server, client)
}

fn client(server: &Server) -> Client {
    client_with(server, "wholefs", "wholefs-secret")
}

/// A client that asks once: what the server does is to be seen as it is.
fn client_with(server: &Server, access_key: &str, secret_key: &str) -> Client {
    let credentials = Credentials::new(access_key, secret_key, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The S3 error code of a request that was refused with an answer.
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> String {
    match result.expect_err("the request is refused") {
        SdkError::ServiceError(error) => error.err().code().unwrap_or("none").to_owned(),
        other => panic!("no answer at all: {other:?}"),
    }
}

/// The HTTP status of a request that was refused with an answer.
fn status<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, SdkError<E>>) -> u16 {
    let error = result.expect_err("the request is refused");
    error
        .raw_response()
        .expect("there is an answer")
        .status()
        .as_u16()
}

/// Whether the request ended without an answer.
fn unanswered<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, SdkError<E>>) -> bool {
    matches!(
        result.expect_err("the request fails"),
        SdkError::DispatchFailure(_)
    )
}

async fn put(client: &Client, key: &str, bytes: &[u8]) {
    let body = bytes.to_vec().into();
    client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(body)
        .send()
        .await
        .expect("a put succeeds");
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let answer = client
        .get_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .expect("a get succeeds");
    answer
        .body
        .collect()
        .await
        .expect("the body arrives")
        .to_vec()
}

async fn create(client: &Client, key: &str) -> String {
    let request = client.create_multipart_upload().bucket(BUCKET).key(key);
    let answer = request.send().await.expect("an upload begins");
    answer.upload_id.expect("an upload has an id")
}

async fn part(client: &Client, key: &str, id: &str, number: i32, bytes: &[u8]) -> CompletedPart {
    let request = client
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .part_number(number);
    let answer = request
        .body(bytes.to_vec().into())
        .send()
        .await
        .expect("a part arrives");
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(answer.e_tag)
        .build()
}

/// The request that completes the upload with these parts.
fn complete(
    client: &Client,
    key: &str,
    id: &str,
    parts: &[CompletedPart],
) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder
{
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts.to_vec()))
        .build();
    let request = client.complete_multipart_upload().bucket(BUCKET).key(key);
    request.upload_id(id).multipart_upload(parts)
}

/// What is awaited here comes, or the test has failed.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("this happens soon")
}
