//! The S3 store against scripted bytes: what goes over the wire exactly, and the answers no sane
//! server gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wholefs::store::s3::{Keys, Options, S3Store};
use wholefs::store::{
    Attributes, Body, CompletedPart, ETag, ErrorKind, Limits, Override, Precondition, Store,
    UploadId, Value,
};

use crate::script::{Asked, Reply, Script};

pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG";
pub const EMPTY_LISTING: &str =
    "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";

pub fn options(url: &str) -> Options {
    Options {
        bucket: "bucket".into(),
        endpoint_url: Some(url.into()),
        provider: Some("embedded".into()),
        region: Some("us-east-1".into()),
        keys: Some(Keys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: SECRET.into(),
            session_token: None,
        }),
        limits: Limits {
            request_timeout: Duration::from_millis(300),
            attempts: 3,
        },
        ..Options::default()
    }
}

/// A connected store whose requests are answered by `answer`, which does not see the check.
async fn store(
    answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
) -> (S3Store, Arc<Script>) {
    let script = Script::start(move |n, asked| match n {
        0 => Reply::xml(200, EMPTY_LISTING),
        n => answer(n - 1, asked),
    });
    let store = S3Store::connect(options(&script.url))
        .await
        .expect("connected");
    (store, Arc::new(script))
}

/// The requests after the check.
fn asked(script: &Script) -> Vec<Asked> {
    script.asked().split_off(1)
}

fn etag(tag: &str) -> ETag {
    ETag::new(tag)
}

pub fn body() -> Body {
    let whole = [vec![1u8; 100_000], vec![2u8; 50_000]].concat();
    let crc64 = Body::from_bytes(whole.into()).crc64();
    Body::new(
        vec![
            Bytes::from(vec![1u8; 100_000]),
            Bytes::from(vec![2u8; 50_000]),
        ],
        crc64,
    )
}

fn upload() -> UploadId {
    UploadId("up".into())
}

pub fn put_ok() -> Reply {
    Reply::Answer(200, vec![("ETag", "\"e1\"".into())], vec![])
}

async fn put(store: &S3Store, condition: &Precondition) -> Result<ETag, ErrorKind> {
    let put = store
        .put("k", body(), &Attributes::default(), condition)
        .await;
    put.map_err(|e| e.kind)
}

async fn complete(store: &S3Store) -> Result<ETag, ErrorKind> {
    let parts = [CompletedPart {
        number: 1,
        etag: etag("p1"),
        crc64: Some(7),
    }];
    let done = store
        .complete_upload("k", &upload(), &parts, 5, &Precondition::None)
        .await;
    done.map_err(|e| e.kind)
}

/// Reads a download to its end: the bytes, or the code of the error.
async fn read(store: &S3Store, range: std::ops::Range<u64>) -> Result<Vec<u8>, String> {
    let mut download = store
        .get("k", &etag("e1"), range)
        .await
        .map_err(|e| e.code)?;
    let mut bytes = Vec::new();
    while let Some(next) = download.body.next().await {
        bytes.extend_from_slice(&next.map_err(|e| e.code)?);
    }
    Ok(bytes)
}

fn partial(range: &str, body: &[u8]) -> Reply {
    let headers = vec![
        ("ETag", "\"e1\"".into()),
        ("Content-Range", format!("bytes {range}")),
    ];
    Reply::Answer(206, headers, body.to_vec())
}

#[tokio::test]
async fn bodies_go_out_whole_unsigned_and_checksummed() {
    let (store, script) = store(|_, _| put_ok()).await;
    assert_eq!(put(&store, &Precondition::None).await, Ok(etag("e1")));
    store
        .upload_part("k", &upload(), 3, body())
        .await
        .expect("a part");
    let asked = asked(&script);
    assert_eq!(asked.len(), 2);
    for request in &asked {
        assert_eq!(request.header("content-length"), Some("150000"));
        assert_eq!(request.header("transfer-encoding"), None);
        assert_eq!(request.header("content-encoding"), None);
        assert_eq!(request.header("x-amz-decoded-content-length"), None);
        assert_eq!(request.header("x-amz-trailer"), None);
        assert_eq!(request.header("expect"), None);
        assert_eq!(
            request.header("x-amz-content-sha256"),
            Some("UNSIGNED-PAYLOAD")
        );
        assert!(request.header("x-amz-checksum-crc64nvme").is_some());
        assert_eq!(request.header("x-amz-checksum-crc32"), None);
        assert!(request.header("authorization").is_some());
        assert_eq!(
            request.body,
            [vec![1u8; 100_000], vec![2u8; 50_000]].concat()
        );
    }
    assert!(
        asked[1].target.contains("partNumber=3"),
        "{}",
        asked[1].target
    );
}

#[tokio::test]
async fn a_body_is_signed_where_a_store_takes_no_other() {
    let script = Script::start(|n, _| match n {
        0 => Reply::xml(200, EMPTY_LISTING),
        _ => put_ok(),
    });
    let mut options = options(&script.url);
    let (name, value) = ("unsigned_payload", Value::Flag(false));
    options.overrides.push(Override { name, value });
    let store = S3Store::connect(options).await.expect("connected");
    put(&store, &Precondition::None).await.expect("put");
    let part = store.upload_part("k", &upload(), 1, body()).await;
    part.expect("a part");
    let whole = [vec![1u8; 100_000], vec![2u8; 50_000]].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &whole);
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    for request in asked(&script) {
        assert_eq!(request.header("x-amz-content-sha256"), Some(hex.as_str()));
        assert_eq!(request.header("content-length"), Some("150000"));
        assert_eq!(request.header("content-encoding"), None);
        assert_eq!(request.body, whole);
    }
}

#[tokio::test]
async fn without_the_capability_there_is_no_checksum() {
    let script = Script::start(|n, _| match n {
        0 => Reply::xml(200, EMPTY_LISTING),
        2 => Reply::xml(
            200,
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
        ),
        _ => put_ok(),
    });
    let options = Options {
        checksum: Some(false),
        ..options(&script.url)
    };
    let store = S3Store::connect(options).await.expect("connected");
    put(&store, &Precondition::None).await.expect("put");
    store
        .create_upload("k", &Attributes::default())
        .await
        .expect("created");
    for request in asked(&script) {
        for header in [
            "x-amz-checksum-crc64nvme",
            "x-amz-checksum-algorithm",
            "x-amz-sdk-checksum-algorithm",
            "x-amz-checksum-type",
        ] {
            assert_eq!(request.header(header), None, "{header}");
        }
    }
}

#[tokio::test]
async fn creating_and_completing_carry_what_proves_the_bytes() {
    let (store, script) = store(|n, _| match n {
        0 => Reply::xml(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"),
        _ => Reply::xml(200, "<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>"),
    })
    .await;
    let mut attributes = Attributes {
        content_type: Some("text/x".into()),
        ..Attributes::default()
    };
    attributes.metadata.insert("token".into(), "t1".into());
    assert_eq!(
        store
            .create_upload("k", &attributes)
            .await
            .expect("created")
            .0,
        "u"
    );
    assert_eq!(complete(&store).await, Ok(etag("e-1")));
    let asked = asked(&script);
    assert_eq!(
        asked[0].header("x-amz-checksum-algorithm"),
        Some("CRC64NVME")
    );
    assert_eq!(asked[0].header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert_eq!(asked[0].header("x-amz-meta-token"), Some("t1"));
    assert_eq!(asked[0].header("content-type"), Some("text/x"));
    assert_eq!(asked[1].header("x-amz-mp-object-size"), Some("5"));
    let xml = String::from_utf8_lossy(&asked[1].body).into_owned();
    assert!(
        xml.contains("<ChecksumCRC64NVME>AAAAAAAAAAc=</ChecksumCRC64NVME>"),
        "{xml}"
    );
    assert!(xml.contains("p1"), "{xml}");
}

#[tokio::test]
async fn an_echoed_checksum_that_differs_is_tried_again() {
    let (store, script) = store(|n, asked| {
        let sent = asked
            .header("x-amz-checksum-crc64nvme")
            .unwrap_or_default()
            .to_string();
        let told = if n == 0 {
            "AAAAAAAAAAE=".to_string()
        } else {
            sent
        };
        let headers = vec![
            ("ETag", "\"e1\"".into()),
            ("x-amz-checksum-crc64nvme", told),
        ];
        Reply::Answer(200, headers, vec![])
    })
    .await;
    let receipt = store
        .upload_part("k", &upload(), 1, body())
        .await
        .expect("a part");
    assert_eq!(receipt.crc64, Some(body().crc64()));
    assert_eq!(asked(&script).len(), 2);
}

#[tokio::test]
async fn conditions_travel_and_a_conflict_is_one() {
    let (store, script) = store(|n, _| match n {
        0 | 1 => Reply::error(412, "PreconditionFailed"),
        _ => Reply::error(409, "ConditionalRequestConflict"),
    })
    .await;
    assert_eq!(
        put(&store, &Precondition::Absent).await,
        Err(ErrorKind::Conflict)
    );
    let matches = Precondition::Matches(etag("old"));
    assert_eq!(put(&store, &matches).await, Err(ErrorKind::Conflict));
    assert_eq!(put(&store, &matches).await, Err(ErrorKind::Conflict));
    let asked = asked(&script);
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].header("if-none-match"), Some("*"));
    assert_eq!(asked[1].header("if-match"), Some("\"old\""));
}

#[tokio::test]
async fn a_condition_that_fails_after_a_lost_answer_is_unknown() {
    let (store, script) = store(|n, _| match n {
        0 => Reply::error(500, "InternalError"),
        _ => Reply::error(412, "PreconditionFailed"),
    })
    .await;
    assert_eq!(
        put(&store, &Precondition::Absent).await,
        Err(ErrorKind::Unknown)
    );
    assert_eq!(asked(&script).len(), 2);
}

#[tokio::test]
async fn a_condition_nobody_would_check_is_refused() {
    let script = Script::start(|_, _| Reply::xml(200, EMPTY_LISTING));
    let options = Options {
        provider: Some("garage".into()),
        ..options(&script.url)
    };
    let store = S3Store::connect(options).await.expect("connected");
    assert_eq!(
        put(&store, &Precondition::Absent).await,
        Err(ErrorKind::Invalid)
    );
    assert!(asked(&script).is_empty());
}

#[tokio::test]
async fn lost_answers() {
    let (store, script) = store(|_, _| Reply::Raw(vec![])).await;
    assert_eq!(
        put(&store, &Precondition::Absent).await,
        Err(ErrorKind::Unknown)
    );
    assert_eq!(asked(&script).len(), 1, "a guarded put is not repeated");
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    let created = store.create_upload("k", &Attributes::default()).await;
    assert_eq!(created.map_err(|e| e.kind), Err(ErrorKind::Unknown));
    let aborted = store.abort_upload("k", &upload()).await;
    assert_eq!(aborted.map_err(|e| e.kind), Err(ErrorKind::Unknown));
    assert_eq!(
        asked(&script).len(),
        4,
        "Create, Complete and Abort are sent once"
    );
    assert_eq!(
        put(&store, &Precondition::None).await,
        Err(ErrorKind::Unknown)
    );
    assert_eq!(asked(&script).len(), 7);
    assert_eq!(
        store.head("k").await.map_err(|e| e.kind),
        Err(ErrorKind::Transient)
    );
    assert_eq!(asked(&script).len(), 10);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let (store, script) = store(|_, _| Reply::Hang(vec![])).await;
    let began = Instant::now();
    let aborted = store
        .abort_upload("k", &upload())
        .await
        .expect_err("no answer");
    assert_eq!(
        (aborted.kind, aborted.code.as_str()),
        (ErrorKind::Unknown, "Timeout")
    );
    assert!(began.elapsed() < Duration::from_millis(900));
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    assert_eq!(asked(&script).len(), 2);
    let began = Instant::now();
    let head = store.head("k").await.expect_err("no answer");
    assert_eq!(
        (head.kind, head.code.as_str()),
        (ErrorKind::Transient, "Timeout")
    );
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(asked(&script).len(), 5);
}

#[tokio::test]
async fn errors_inside_a_200() {
    let (store, script) = store(|n, _| match n {
        0 => Reply::error(200, "InternalError"),
        1 => Reply::error(200, "PreconditionFailed"),
        2 => Reply::xml(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"),
        3 => Reply::xml(200, "not xml at all"),
        // White space first, and only then the declaration.
        4 => Reply::xml(200, "   \n <?xml version=\"1.0\"?><Error><Code>InvalidPart</Code></Error>"),
        _ => Reply::xml(200, "   \n <?xml version=\"1.0\"?><CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>"),
    })
    .await;
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    assert_eq!(complete(&store).await, Err(ErrorKind::Conflict));
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    assert_eq!(complete(&store).await, Err(ErrorKind::Invalid));
    assert_eq!(complete(&store).await, Ok(etag("e")));
    assert_eq!(asked(&script).len(), 6);
}

#[tokio::test]
async fn an_error_inside_the_200_of_a_copy_is_tried_again() {
    let (store, script) = store(|n, _| match n {
        0 => Reply::error(200, "InternalError"),
        _ => Reply::xml(200, "<CopyPartResult><ETag>\"c1\"</ETag></CopyPartResult>"),
    })
    .await;
    let receipt = store
        .copy_part("k", &upload(), 2, "a b+é", &etag("v"), 5..10)
        .await;
    assert_eq!(receipt.expect("copied").etag, etag("c1"));
    let asked = asked(&script);
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[1].header("x-amz-copy-source"),
        Some("bucket/a%20b%2B%C3%A9")
    );
    assert_eq!(asked[1].header("x-amz-copy-source-if-match"), Some("\"v\""));
    assert_eq!(
        asked[1].header("x-amz-copy-source-range"),
        Some("bytes=5-9")
    );
}

#[tokio::test]
async fn throttling_is_tried_again_and_slowly() {
    let (store, script) = store(|n, _| match n {
        0 | 1 => Reply::error(503, "SlowDown"),
        _ => put_ok(),
    })
    .await;
    assert_eq!(put(&store, &Precondition::None).await, Ok(etag("e1")));
    assert_eq!(asked(&script).len(), 3);
}

#[tokio::test]
async fn throttled_commits_say_so_and_are_not_repeated() {
    let (store, script) = store(|_, _| Reply::error(503, "SlowDown")).await;
    assert_eq!(complete(&store).await, Err(ErrorKind::Throttled));
    let created = store.create_upload("k", &Attributes::default()).await;
    assert_eq!(created.map_err(|e| e.kind), Err(ErrorKind::Throttled));
    assert_eq!(asked(&script).len(), 2);
}

#[tokio::test]
async fn downloads_are_checked() {
    let (store, script) = store(|n, _| match n {
        0 => partial("2-5/10", b"2345"),
        // A 200 to a whole object.
        1 => Reply::Answer(200, vec![("ETag", "\"e1\"".into())], b"0123".to_vec()),
        // A 200 where a part was asked for.
        2 => Reply::Answer(200, vec![("ETag", "\"e1\"".into())], b"0123456789".to_vec()),
        3 => partial("3-6/10", b"3456"),
        // Another version, by a store that ignores If-Match.
        4 => Reply::Answer(206, vec![("ETag", "\"e2\"".into()), ("Content-Range", "bytes 2-5/10".into())], b"2345".to_vec()),
        5 => partial("2-5/10", b"23"),
        6 => partial("2-5/10", b"234567"),
        7 => Reply::Raw(b"HTTP/1.1 206 OK\r\nETag: \"e1\"\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n23".to_vec()),
        8 => Reply::Hang(b"HTTP/1.1 206 OK\r\nETag: \"e1\"\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n23".to_vec()),
        9 => Reply::error(416, "InvalidRange"),
        _ => Reply::error(412, "PreconditionFailed"),
    })
    .await;
    let code = |code: &str| Err(code.to_string());
    assert_eq!(read(&store, 2..6).await, Ok(b"2345".to_vec()));
    assert_eq!(read(&store, 0..4).await, Ok(b"0123".to_vec()));
    assert_eq!(read(&store, 2..6).await, code("RangeIgnored"));
    assert_eq!(read(&store, 2..6).await, code("RangeIgnored"));
    assert_eq!(read(&store, 2..6).await, code("VersionChanged"));
    // A body of another length than its range is asked for again before any of it is read: the fifth and the sixth.
    assert_eq!(read(&store, 2..6).await, code("ShortBody"));
    let began = Instant::now();
    assert_eq!(read(&store, 2..6).await, code("Timeout"));
    assert!(began.elapsed() < Duration::from_millis(900));
    for _ in 0..2 {
        let error = store
            .get("k", &etag("e1"), 2..6)
            .await
            .err()
            .expect("an error");
        assert_eq!(error.kind, ErrorKind::Conflict);
    }
    let asked = asked(&script);
    assert_eq!(asked.len(), 11);
    assert_eq!(asked[0].header("range"), Some("bytes=2-5"));
    assert_eq!(asked[0].header("if-match"), Some("\"e1\""));
    assert_eq!(asked[0].header("x-amz-checksum-mode"), None);
}

#[tokio::test]
async fn trickling_ends_at_the_deadline() {
    let (store, _) = store(|_, _| {
        let head = "HTTP/1.1 206 OK\r\nETag: \"e1\"\r\nContent-Range: bytes 0-999/1000\r\nContent-Length: 1000\r\n\r\n";
        Reply::Trickle(head.as_bytes().to_vec(), Duration::from_millis(100))
    })
    .await;
    let began = Instant::now();
    assert_eq!(read(&store, 0..1000).await, Err("Timeout".into()));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn nothing_is_never_asked_for() {
    let (store, script) = store(|_, _| {
        let headers = vec![("ETag", "\"e1\"".into()), ("Content-Length", "0".into())];
        Reply::Answer(200, headers, vec![])
    })
    .await;
    assert_eq!(read(&store, 0..0).await, Ok(vec![]));
    assert!(asked(&script).iter().all(|a| a.method == "HEAD"));
}

#[tokio::test]
async fn heads_are_judged_by_status() {
    let (store, _) = store(|n, _| match n {
        0 => Reply::Answer(404, vec![], vec![]),
        // And why it says that, which nobody tells either.
        1 | 2 => Reply::Answer(403, vec![], vec![]),
        _ => Reply::Answer(
            200,
            vec![
                ("ETag", "\"e1\"".into()),
                ("Content-Length", "12".into()),
                ("Last-Modified", "Thu, 01 Jan 1970 00:00:09 GMT".into()),
                ("x-amz-meta-Token", "t".into()),
                ("x-amz-storage-class", "GLACIER".into()),
            ],
            vec![],
        ),
    })
    .await;
    assert_eq!(
        store.head("k").await.map_err(|e| e.kind),
        Err(ErrorKind::Missing)
    );
    assert_eq!(
        store.head("k").await.map_err(|e| e.kind),
        Err(ErrorKind::Denied)
    );
    let info = store.head("k").await.expect("an object");
    assert_eq!((info.size, info.etag), (12, etag("e1")));
    assert_eq!(
        info.modified,
        std::time::UNIX_EPOCH + Duration::from_secs(9)
    );
    assert_eq!(
        info.attributes
            .and_then(|said| said.metadata.get("token").cloned())
            .as_deref(),
        Some("t")
    );
    assert_eq!(info.storage_class.as_deref(), Some("GLACIER"));
}

#[tokio::test]
async fn first_version_listings_go_on_after_the_last_key() {
    let page = |more: bool, keys: &[&str]| {
        let keys: String = keys
            .iter()
            .map(|k| format!("<Contents><Key>{k}</Key><Size>1</Size></Contents>"))
            .collect();
        Reply::xml(
            200,
            &format!(
                "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>{keys}</ListBucketResult>"
            ),
        )
    };
    let script = Script::start(move |n, _| match n {
        0 => page(false, &[]),
        1 => page(true, &["m/a", "m/b%2Bc"]),
        _ => page(false, &["m/d"]),
    });
    let options = Options {
        provider: Some("ncloud".into()),
        prefix: "m".into(),
        ..options(&script.url)
    };
    let store = S3Store::connect(options).await.expect("connected");
    let first = store.list("", false, None, 2).await.expect("a page");
    assert_eq!(first.entries.len(), 2);
    let second = store
        .list("", false, first.next.as_ref(), 2)
        .await
        .expect("a page");
    assert!(second.next.is_none());
    let asked = asked(&script);
    assert!(
        !asked[0].target.contains("list-type=2"),
        "{}",
        asked[0].target
    );
    assert!(
        asked[1].target.contains("marker=m%2Fb%2Bc"),
        "{}",
        asked[1].target
    );
    assert!(
        asked[0].target.contains("prefix=m%2F"),
        "{}",
        asked[0].target
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_go_in_parallel_and_connections_are_used_again() {
    let (store, script) = store(|_, _| {
        std::thread::sleep(Duration::from_millis(100));
        put_ok()
    })
    .await;
    let store = Arc::new(store);
    let began = Instant::now();
    let mut connections = Vec::new();
    for _ in 0..3 {
        let calls = (0..64).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.upload_part("k", &upload(), n + 1, body()).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no panic").expect("a part");
        }
        connections.push(script.connections());
    }
    assert_eq!(asked(&script).len(), 192);
    assert!(connections[0] >= 64, "{connections:?}");
    assert!(connections[2] < 80, "{connections:?}");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}
