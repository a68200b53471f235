//! Each operation on buckets and objects, and the errors that are its own.

use super::*;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, Delete, MetadataDirective, ObjectIdentifier,
};

pub(super) const HELLO: &[u8] = b"hello, world";
pub(super) const HELLO_ETAG: &str = "\"e4d7f1b4ed2e42d15898f4b27b019da4\"";
/// CRC-64/NVME of [`HELLO`].
pub(super) fn hello_crc() -> String {
    crc(HELLO)
}

pub(super) fn crc(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
}

#[tokio::test]
async fn buckets() {
    let (server, client) = small_parts().await;
    client.create_bucket().bucket("other").send().await.unwrap();
    let listed = client.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed
        .buckets()
        .iter()
        .map(|bucket| bucket.name().unwrap())
        .collect();
    assert_eq!(names, ["demo", "other"]);
    client.head_bucket().bucket("other").send().await.unwrap();
    client
        .get_bucket_location()
        .bucket("other")
        .send()
        .await
        .unwrap();
    let again = client.create_bucket().bucket("other").send().await;
    assert_eq!(code(again), "BucketAlreadyOwnedByYou");
    server.put_object("other", "k", "x");
    assert_eq!(
        code(client.delete_bucket().bucket("other").send().await),
        "BucketNotEmpty"
    );
    server.delete_object("other", "k");
    client.delete_bucket().bucket("other").send().await.unwrap();
    assert_eq!(
        status(client.head_bucket().bucket("other").send().await),
        404
    );
    let nowhere = client
        .put_object()
        .bucket("other")
        .key("k")
        .body(HELLO.to_vec().into());
    assert_eq!(code(nowhere.send().await), "NoSuchBucket");
    server.stop().await;
}

#[tokio::test]
async fn an_object_keeps_everything_said_about_it() {
    let (server, client) = small_parts().await;
    let key = "a b/ü&<>\"'+%~/../x";
    let request = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(HELLO.to_vec().into());
    let made = request
        .content_type("text/plain")
        .cache_control("no-cache")
        .metadata("token", "value of it")
        .storage_class(aws_sdk_s3::types::StorageClass::StandardIa)
        .checksum_crc64_nvme(hello_crc())
        .send()
        .await
        .unwrap();
    assert_eq!(made.e_tag(), Some(HELLO_ETAG));
    assert_eq!(made.checksum_crc64_nvme(), Some(hello_crc().as_str()));
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key(key)
        .checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.content_length(), Some(HELLO.len() as i64));
    assert_eq!(head.content_type(), Some("text/plain"));
    assert_eq!(head.cache_control(), Some("no-cache"));
    assert_eq!(head.e_tag(), Some(HELLO_ETAG));
    assert_eq!(head.checksum_crc64_nvme(), Some(hello_crc().as_str()));
    assert_eq!(head.storage_class().unwrap().as_str(), "STANDARD_IA");
    assert_eq!(head.metadata().unwrap()["token"], "value of it");
    assert_eq!(get(&client, key).await, HELLO);
    assert_eq!(server.objects(BUCKET)[0].key, key);
    assert_eq!(server.object(BUCKET, key).unwrap(), HELLO);

    client
        .delete_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .unwrap();
    assert_eq!(
        code(client.get_object().bucket(BUCKET).key(key).send().await),
        "NoSuchKey"
    );
    assert_eq!(
        status(client.head_object().bucket(BUCKET).key(key).send().await),
        404
    );
}

#[tokio::test]
async fn a_body_that_is_not_what_was_said_is_refused_and_leaves_nothing() {
    let (server, client) = small_parts().await;
    let request = || {
        client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(HELLO.to_vec().into())
    };
    assert_eq!(
        code(request().checksum_crc64_nvme(crc(b"other")).send().await),
        "BadDigest"
    );
    assert_eq!(
        code(
            request()
                .content_md5("1B2M2Y8AsgTpgAmY7PhCfg==")
                .send()
                .await
        ),
        "BadDigest"
    );
    assert_eq!(
        code(request().content_md5("nonsense").send().await),
        "InvalidDigest"
    );
    assert!(server.objects(BUCKET).is_empty());
    // Computed by the SDK and sent behind the body, as it does for files.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), HELLO).unwrap();
    let body = ByteStream::from_path(file.path()).await.unwrap();
    let request = client.put_object().bucket(BUCKET).key("k").body(body);
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    request.send().await.unwrap();
    assert_eq!(get(&client, "k").await, HELLO);
}

#[tokio::test]
async fn unsigned_payloads_are_taken() {
    let (server, client) = small_parts().await;
    let request = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(HELLO.to_vec().into());
    request
        .customize()
        .disable_payload_signing()
        .send()
        .await
        .unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap(), HELLO);
}

#[tokio::test]
async fn ranges_and_conditions_of_reads() {
    let (_server, client) = small_parts().await;
    put(&client, "k", HELLO).await;
    let get = || client.get_object().bucket(BUCKET).key("k");
    for (range, content_range, expected) in [
        ("bytes=0-4", "bytes 0-4/12", &HELLO[..5]),
        ("bytes=7-", "bytes 7-11/12", &HELLO[7..]),
        ("bytes=7-100", "bytes 7-11/12", &HELLO[7..]),
        ("bytes=-5", "bytes 7-11/12", &HELLO[7..]),
        ("bytes=-100", "bytes 0-11/12", HELLO),
    ] {
        let answer = get().range(range).send().await.unwrap();
        assert_eq!(answer.content_range(), Some(content_range), "{range}");
        assert_eq!(answer.content_length(), Some(expected.len() as i64));
        assert_eq!(
            answer.body.collect().await.unwrap().to_vec(),
            expected,
            "{range}"
        );
    }
    assert_eq!(code(get().range("bytes=12-").send().await), "InvalidRange");
    assert_eq!(status(get().range("bytes=12-20").send().await), 416);
    put(&client, "empty", b"").await;
    let empty = client
        .get_object()
        .bucket(BUCKET)
        .key("empty")
        .range("bytes=0-")
        .send()
        .await;
    assert_eq!(code(empty), "InvalidRange");

    get().if_match(HELLO_ETAG).send().await.unwrap();
    assert_eq!(
        code(get().if_match("\"other\"").send().await),
        "PreconditionFailed"
    );
    get().if_none_match("\"other\"").send().await.unwrap();
    assert_eq!(status(get().if_none_match(HELLO_ETAG).send().await), 304);
    let head = client.head_object().bucket(BUCKET).key("k");
    assert_eq!(
        status(head.clone().if_none_match(HELLO_ETAG).send().await),
        304
    );
    assert_eq!(status(head.if_match("\"other\"").send().await), 412);
    let (past, future) = (
        DateTime::from_secs(1_000_000_000),
        DateTime::from_secs(4_000_000_000),
    );
    get().if_modified_since(past).send().await.unwrap();
    assert_eq!(status(get().if_modified_since(future).send().await), 304);
    assert_eq!(status(get().if_unmodified_since(past).send().await), 412);
    get().if_unmodified_since(future).send().await.unwrap();
}

#[tokio::test]
async fn conditions_of_writes() {
    let (server, client) = small_parts().await;
    let request = || {
        client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(HELLO.to_vec().into())
    };
    assert_eq!(
        code(request().if_match(HELLO_ETAG).send().await),
        "NoSuchKey"
    );
    request().if_none_match("*").send().await.unwrap();
    assert_eq!(
        code(request().if_none_match("*").send().await),
        "PreconditionFailed"
    );
    request().if_match(HELLO_ETAG).send().await.unwrap();
    assert_eq!(status(request().if_match("\"other\"").send().await), 412);

    let id = create(&client, "k").await;
    let parts = [part(&client, "k", &id, 1, b"new").await];
    let refused = complete(&client, "k", &id, &parts)
        .if_none_match("*")
        .send()
        .await;
    assert_eq!(code(refused), "PreconditionFailed");
    let refused = complete(&client, "k", &id, &parts)
        .if_match("\"other\"")
        .send()
        .await;
    assert_eq!(code(refused), "PreconditionFailed");
    assert_eq!(server.object(BUCKET, "k").unwrap(), HELLO);
    assert_eq!(server.uploads(BUCKET).len(), 1);
    complete(&client, "k", &id, &parts)
        .if_match(HELLO_ETAG)
        .send()
        .await
        .unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"new");
}

#[tokio::test]
async fn copies() {
    let (server, client) = small_parts().await;
    let request = client
        .put_object()
        .bucket(BUCKET)
        .key("from/ü +")
        .body(HELLO.to_vec().into());
    request
        .metadata("kept", "yes")
        .content_type("text/plain")
        .send()
        .await
        .unwrap();
    let source = "demo/from/%C3%BC%20%2B";
    let copy = || {
        client
            .copy_object()
            .bucket(BUCKET)
            .key("to")
            .copy_source(source)
    };
    let made = copy().send().await.unwrap();
    assert_eq!(made.copy_object_result().unwrap().e_tag(), Some(HELLO_ETAG));
    let summary = || {
        server
            .objects(BUCKET)
            .into_iter()
            .find(|object| object.key == "to")
            .unwrap()
    };
    assert_eq!(summary().metadata["kept"], "yes");
    assert_eq!(summary().content_type.as_deref(), Some("text/plain"));
    let replaced = copy()
        .metadata_directive(MetadataDirective::Replace)
        .metadata("new", "1");
    replaced.send().await.unwrap();
    assert!(summary().metadata.contains_key("new") && !summary().metadata.contains_key("kept"));
    assert_eq!(get(&client, "to").await, HELLO);
    let refused = copy().copy_source_if_match("\"other\"").send().await;
    assert_eq!(code(refused), "PreconditionFailed");
    let missing = client
        .copy_object()
        .bucket(BUCKET)
        .key("to")
        .copy_source("demo/none");
    assert_eq!(code(missing.send().await), "NoSuchKey");
    let itself = client
        .copy_object()
        .bucket(BUCKET)
        .key("to")
        .copy_source("demo/to");
    assert_eq!(code(itself.send().await), "InvalidRequest");
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let (server, client) = small_parts().await;
    for key in ["a", "b", "c"] {
        server.put_object(BUCKET, key, key);
    }
    let keys = ["a", "c", "never was"];
    let objects = keys.map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(objects.to_vec()))
        .build()
        .unwrap();
    let answer = client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.deleted().len(), 3);
    assert!(answer.errors().is_empty());
    let left: Vec<String> = server
        .objects(BUCKET)
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(left, ["b"]);
}

#[tokio::test]
async fn listings_page_through_keys_and_prefixes() {
    let (server, client) = small_parts().await;
    for key in ["a", "d/1", "d/2", "e/1", "f", "ü"] {
        server.put_object(BUCKET, key, "xy");
    }
    let expected = ["a", "d/", "e/", "f", "ü"];
    for size in 1..=6 {
        let mut seen = Vec::new();
        let mut token = None;
        loop {
            let page = client
                .list_objects_v2()
                .bucket(BUCKET)
                .delimiter("/")
                .max_keys(size);
            let page = page.set_continuation_token(token).send().await.unwrap();
            assert_eq!(
                page.key_count().unwrap() as usize,
                page.contents().len() + page.common_prefixes().len()
            );
            let mut here: Vec<String> = page
                .contents()
                .iter()
                .map(|o| o.key().unwrap().into())
                .collect();
            here.extend(
                page.common_prefixes()
                    .iter()
                    .map(|p| p.prefix().unwrap().into()),
            );
            here.sort();
            seen.extend(here);
            token = page.next_continuation_token.clone();
            assert_eq!(token.is_some(), page.is_truncated().unwrap());
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "V2 by {size}");

        let mut seen = Vec::new();
        let mut marker = None;
        loop {
            let page = client
                .list_objects()
                .bucket(BUCKET)
                .delimiter("/")
                .max_keys(size);
            let page = page.set_marker(marker).send().await.unwrap();
            let mut here: Vec<String> = page
                .contents()
                .iter()
                .map(|o| o.key().unwrap().into())
                .collect();
            here.extend(
                page.common_prefixes()
                    .iter()
                    .map(|p| p.prefix().unwrap().into()),
            );
            here.sort();
            seen.extend(here);
            marker = page.next_marker.clone();
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "V1 by {size}");
    }
    let from = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("d/")
        .start_after("d/1")
        .send()
        .await
        .unwrap();
    let object = &from.contents()[0];
    assert_eq!((object.key(), object.size()), (Some("d/2"), Some(2)));
    assert_eq!(from.contents().len(), 1);
    let bad = client
        .list_objects_v2()
        .bucket(BUCKET)
        .continuation_token("bad")
        .send()
        .await;
    assert_eq!(code(bad), "InvalidArgument");
}

/// The body is read before a refusal is sent: the answer arrives, whatever the size.
#[tokio::test]
async fn keys_are_checked() {
    let server = server(Options::default()).await;
    let wrong_key = client_with(&server, "somebody", "wholefs-secret");
    assert_eq!(
        code(wrong_key.list_buckets().send().await),
        "InvalidAccessKeyId"
    );
    let wrong_secret = client_with(&server, "wholefs", "something");
    assert_eq!(
        code(wrong_secret.list_buckets().send().await),
        "SignatureDoesNotMatch"
    );
    // With a body on its way, too.
    let body = ByteStream::from(vec![7; 8 << 20]);
    let put = wrong_secret
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(body)
        .send()
        .await;
    assert_eq!(code(put), "SignatureDoesNotMatch");
    assert!(server.objects(BUCKET).is_empty());

    let answer = raw(
        &server,
        "GET /demo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("AccessDenied"),
        "{answer}"
    );
}

#[tokio::test]
async fn nonsense_is_answered_and_does_no_harm() {
    let (server, client) = small_parts().await;
    for request in [
        "GET /%ff%fe HTTP/1.1",
        "GET /demo?list-type=2&max-keys=-1 HTTP/1.1",
        "PUT /demo/k?partNumber=x&uploadId= HTTP/1.1",
        "BREW /demo/k HTTP/1.1",
        "POST / HTTP/1.1",
        "GET /demo/k?uploadId=%zz&partNumber=99999999999999999999 HTTP/1.1",
    ] {
        let text =
            format!("{request}\r\nhost: x\r\nauthorization: nonsense\r\nconnection: close\r\n\r\n");
        let answer = raw(&server, &text).await;
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"),
            "{request}: {answer}"
        );
    }
    put(&client, "k", HELLO).await;
}

/// Some clients wait for "100 Continue" though they have nothing to send, and misread what comes next on
/// a connection where none came.
#[tokio::test]
async fn who_expects_to_go_on_with_nothing_gets_a_connection_of_his_own() {
    let server = server(Options::default()).await;
    let empty =
        "PUT /demo/key HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n";
    let answer = raw(&server, empty).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 403"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let full = "PUT /demo/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nx";
    let answer = raw(&server, full).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n"), "{answer}");
}

/// Sends the text, returns everything that comes back until the connection closes.
pub async fn raw(server: &Server, text: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
