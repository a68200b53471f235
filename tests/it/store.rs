//! The S3 store against the embedded server: each call, each kind of error, and how often a call
//! was sent, by the server's own log.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use wholefs::embedded::{self, Dialect, Server};
use wholefs::store::s3::{ConnectError, Keys, Options, S3Store};
use wholefs::store::{
    Attributes, Body, CompletedPart, Continuation, ETag, Error, ErrorKind, Limits, ListEntry,
    PartReceipt, Precondition, Store, UploadId,
};

mod failures;

const BUCKET: &str = "demo";
const PREFIX: &str = "mounted/here/";
const KIB: usize = 1 << 10;

async fn server(dialect: Dialect) -> Server {
    let options = embedded::Options {
        dialect,
        ..embedded::Options::default()
    };
    Server::start(options).await.expect("a server")
}

fn options(server: &Server) -> Options {
    let theirs = embedded::Options::default();
    Options {
        bucket: BUCKET.into(),
        prefix: PREFIX.into(),
        endpoint_url: Some(server.endpoint()),
        provider: Some("embedded".into()),
        keys: Some(Keys {
            access_key_id: theirs.access_key,
            secret_access_key: theirs.secret_key,
            session_token: None,
        }),
        limits: Limits {
            request_timeout: Duration::from_millis(400),
            attempts: 3,
        },
        ..Options::default()
    }
}

/// A server with parts of any size, a store on it, and a log that begins now.
async fn connected() -> (Server, S3Store) {
    let server = server(Dialect {
        part_min: 1,
        ..Dialect::default()
    })
    .await;
    let store = S3Store::connect(options(&server)).await.expect("connected");
    server.log().reset();
    (server, store)
}

fn body(size: usize) -> Body {
    Body::from_bytes(
        (0..size)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<u8>>()
            .into(),
    )
}

fn bytes(size: usize) -> Vec<u8> {
    body(size).chunks().concat()
}

fn kind<T>(result: Result<T, Error>) -> Result<T, ErrorKind> {
    result.map_err(|e| e.kind)
}

async fn put(store: &S3Store, key: &str, body: Body) -> ETag {
    let attributes = Attributes::default();
    store
        .put(key, body, &attributes, &Precondition::None)
        .await
        .expect("an object")
}

async fn create(store: &S3Store, key: &str) -> UploadId {
    store
        .create_upload(key, &Attributes::default())
        .await
        .expect("an upload")
}

async fn part(store: &S3Store, key: &str, id: &UploadId, number: u32, size: usize) -> PartReceipt {
    store
        .upload_part(key, id, number, body(size))
        .await
        .expect("a part")
}

fn named(number: u32, receipt: &PartReceipt) -> CompletedPart {
    CompletedPart {
        number,
        etag: receipt.etag.clone(),
        crc64: receipt.crc64,
    }
}

/// Reads to the end: the bytes, or the error that ended it.
async fn read(
    store: &S3Store,
    key: &str,
    etag: &ETag,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, Error> {
    let mut download = store.get(key, etag, range).await?;
    let mut whole = Vec::new();
    while let Some(next) = download.body.next().await {
        whole.extend_from_slice(&next?);
    }
    Ok(whole)
}

fn names(entries: &[ListEntry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| match entry {
            ListEntry::Object(o) => o.key.as_str(),
            ListEntry::Prefix(p) => p.as_str(),
        })
        .collect()
}

fn said(info: &wholefs::store::ObjectInfo) -> Option<&wholefs::store::Metadata> {
    info.attributes.as_ref().map(|said| &said.metadata)
}
#[tokio::test]
async fn an_object_comes_and_goes() {
    let (server, store) = connected().await;
    assert_eq!(store.describe(), "s3://demo/mounted/here/");
    let mut attributes = Attributes {
        content_type: Some("text/plain".into()),
        ..Attributes::default()
    };
    attributes.metadata.insert("token".into(), "abc".into());
    let body = Body::new(
        vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")],
        Body::from_bytes(Bytes::from_static(b"hello world")).crc64(),
    );
    let key = "a dir/odd +%é&=?#'\"<key>.txt";
    let before = SystemTime::now() - Duration::from_secs(2);
    let etag = store
        .put(key, body, &attributes, &Precondition::None)
        .await
        .expect("put");

    let info = store.head(key).await.expect("there");
    assert_eq!((info.key.as_str(), info.size, &info.etag), (key, 11, &etag));
    assert!(info.modified >= before && info.modified <= SystemTime::now());
    assert_eq!(said(&info), Some(&attributes.metadata));
    assert_eq!(
        server.objects(BUCKET)[0].content_type.as_deref(),
        Some("text/plain")
    );
    assert_eq!(server.objects(BUCKET)[0].key, format!("{PREFIX}{key}"));

    assert_eq!(
        read(&store, key, &etag, 0..11).await.expect("bytes"),
        b"hello world"
    );
    assert_eq!(read(&store, key, &etag, 6..8).await.expect("bytes"), b"wo");
    let download = store.get(key, &etag, 6..8).await.expect("a download");
    assert_eq!((download.object_size, &download.etag), (11, &etag));
    assert_eq!(read(&store, key, &etag, 4..4).await.expect("nothing"), b"");

    store.delete(key).await.expect("deleted");
    store.delete(key).await.expect("nothing to delete is fine");
    assert_eq!(kind(store.head(key).await), Err(ErrorKind::Missing));
    assert_eq!(
        kind(read(&store, key, &etag, 0..1).await),
        Err(ErrorKind::Missing)
    );
    assert!(server.objects(BUCKET).is_empty());
}

#[tokio::test]
async fn an_empty_object() {
    let (_server, store) = connected().await;
    let etag = put(&store, "empty", Body::default()).await;
    assert_eq!(store.head("empty").await.expect("there").size, 0);
    assert_eq!(
        read(&store, "empty", &etag, 0..0).await.expect("nothing"),
        b""
    );
}

#[tokio::test]
async fn another_version_is_a_conflict() {
    let (_server, store) = connected().await;
    let old = put(&store, "k", body(10)).await;
    let new = put(&store, "k", body(20)).await;
    assert_ne!(old, new);
    assert_eq!(
        kind(read(&store, "k", &old, 0..5).await),
        Err(ErrorKind::Conflict)
    );
    assert_eq!(
        kind(read(&store, "k", &old, 0..0).await),
        Err(ErrorKind::Conflict)
    );
    assert_eq!(
        read(&store, "k", &new, 0..5).await.expect("bytes"),
        bytes(5)
    );
}

#[tokio::test]
async fn conditions() {
    let (_server, store) = connected().await;
    let attributes = Attributes::default();
    let put = |condition: Precondition| {
        let (store, attributes) = (&store, &attributes);
        async move { kind(store.put("k", body(10), attributes, &condition).await) }
    };
    let wrong = Precondition::Matches(ETag::new("0123"));
    let etag = put(Precondition::Absent).await.expect("absent");
    assert_eq!(put(Precondition::Absent).await, Err(ErrorKind::Conflict));
    assert_eq!(put(wrong.clone()).await, Err(ErrorKind::Conflict));
    put(Precondition::Matches(etag)).await.expect("it matches");

    let id = create(&store, "k").await;
    let receipt = part(&store, "k", &id, 1, 100).await;
    let parts = [named(1, &receipt)];
    for condition in [Precondition::Absent, wrong] {
        let done = store
            .complete_upload("k", &id, &parts, 100, &condition)
            .await;
        assert_eq!(kind(done), Err(ErrorKind::Conflict));
    }
    let etag = store.head("k").await.expect("there").etag;
    let done = store
        .complete_upload("k", &id, &parts, 100, &Precondition::Matches(etag))
        .await;
    done.expect("it matches");
}

async fn listing(dialect: Dialect, provider: &str) {
    let server = server(dialect).await;
    let store = S3Store::connect(Options {
        provider: Some(provider.into()),
        ..options(&server)
    })
    .await
    .expect("connected");
    let keys = ["a", "b b+%", "d.txt", "d/e", "d/f", "d0", "é/x", "\n"];
    for key in keys {
        server.put_object(BUCKET, &format!("{PREFIX}{key}"), key.as_bytes().to_vec());
    }
    server.put_object(BUCKET, "mounted/elsewhere", "x");
    server.put_object(BUCKET, "unmounted", "x");

    for max in [1, 2, 3, 1000] {
        for (prefix, delimiter, expected) in [
            (
                "",
                false,
                vec!["\n", "a", "b b+%", "d.txt", "d/e", "d/f", "d0", "é/x"],
            ),
            (
                "",
                true,
                vec!["\n", "a", "b b+%", "d.txt", "d/", "d0", "é/"],
            ),
            ("d/", true, vec!["d/e", "d/f"]),
            ("d", true, vec!["d.txt", "d/", "d0"]),
            ("nothing", true, vec![]),
        ] {
            let mut from: Option<Continuation> = None;
            let mut found = Vec::new();
            loop {
                let page = store
                    .list(prefix, delimiter, from.as_ref(), max)
                    .await
                    .expect("a page");
                assert!(page.entries.len() <= max as usize);
                found.extend(names(&page.entries).iter().map(ToString::to_string));
                from = page.next;
                if from.is_none() {
                    break;
                }
                assert!(found.len() <= keys.len(), "{found:?}");
            }
            assert_eq!(found, expected, "{prefix:?} {delimiter} {max}");
        }
    }
    let page = store.list("a", false, None, 10).await.expect("a page");
    let [ListEntry::Object(info)] = page.entries.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!((info.key.as_str(), info.size), ("a", 1));
    assert_eq!(info.etag, store.head("a").await.expect("there").etag);
}

#[tokio::test]
async fn listing_version_two() {
    listing(Dialect::default(), "embedded").await;
}

#[tokio::test]
async fn listing_version_one() {
    listing(
        Dialect {
            list_v1_only: true,
            ..Dialect::default()
        },
        "ncloud",
    )
    .await;
}

#[tokio::test]
async fn an_upload_from_begin_to_end() {
    let (server, store) = connected().await;
    let mut attributes = Attributes::default();
    attributes.metadata.insert("token".into(), "t".into());
    let source = put(&store, "source é", body(100 * KIB)).await;
    let id = store
        .create_upload("big", &attributes)
        .await
        .expect("an upload");
    let uploads = store.list_uploads("big", None).await.expect("uploads");
    assert_eq!(uploads.uploads.len(), 1);
    assert_eq!(
        (
            uploads.uploads[0].key.as_str(),
            &uploads.uploads[0].upload_id
        ),
        ("big", &id)
    );
    assert!(
        store
            .list_parts("big", &id)
            .await
            .expect("parts")
            .is_empty()
    );

    let one = part(&store, "big", &id, 1, 64 * KIB).await;
    assert!(one.crc64.is_none_or(|crc| crc == body(64 * KIB).crc64()));
    let two = store
        .copy_part("big", &id, 2, "source é", &source, 1024..3072)
        .await
        .expect("copied");
    let listed = store.list_parts("big", &id).await.expect("parts");
    let listed: Vec<_> = listed
        .into_iter()
        .map(|p| (p.number, p.size, p.etag))
        .collect();
    assert_eq!(
        listed,
        [
            (1, 64 * KIB as u64, one.etag.clone()),
            (2, 2048, two.etag.clone())
        ]
    );
    let parts = [named(1, &one), named(2, &two)];
    let size = 64 * KIB as u64 + 2048;
    let etag = store
        .complete_upload("big", &id, &parts, size, &Precondition::None)
        .await
        .expect("done");
    let info = store.head("big").await.expect("there");
    assert_eq!((info.size, &info.etag), (size, &etag));
    assert_eq!(said(&info), Some(&attributes.metadata));
    let expected = [bytes(64 * KIB), bytes(100 * KIB)[1024..3072].to_vec()].concat();
    assert_eq!(
        server.object(BUCKET, &format!("{PREFIX}big")),
        Some(expected)
    );
    assert_eq!(
        kind(store.list_parts("big", &id).await),
        Err(ErrorKind::NoSuchUpload)
    );
    assert_eq!(
        kind(store.abort_upload("big", &id).await),
        Err(ErrorKind::NoSuchUpload)
    );
    assert!(
        store
            .list_uploads("", None)
            .await
            .expect("uploads")
            .uploads
            .is_empty()
    );
}

#[tokio::test]
async fn an_upload_aborted() {
    let (server, store) = connected().await;
    let id = create(&store, "k").await;
    let receipt = part(&store, "k", &id, 1, 10).await;
    store.abort_upload("k", &id).await.expect("aborted");
    assert!(server.uploads(BUCKET).is_empty());
    assert_eq!(
        kind(store.abort_upload("k", &id).await),
        Err(ErrorKind::NoSuchUpload)
    );
    let more = store.upload_part("k", &id, 2, body(10)).await;
    assert_eq!(kind(more), Err(ErrorKind::NoSuchUpload));
    let done = store
        .complete_upload("k", &id, &[named(1, &receipt)], 10, &Precondition::None)
        .await;
    assert_eq!(kind(done), Err(ErrorKind::NoSuchUpload));
    let copied = store
        .copy_part("k", &id, 1, "none", &ETag::new("e"), 0..1)
        .await;
    assert!(matches!(
        kind(copied),
        Err(ErrorKind::NoSuchUpload | ErrorKind::Missing)
    ));
}

#[tokio::test]
async fn copies_of_what_is_not_there_any_more() {
    let (_server, store) = connected().await;
    let id = create(&store, "k").await;
    let old = put(&store, "source", body(10)).await;
    put(&store, "source", body(11)).await;
    let copied = store.copy_part("k", &id, 1, "source", &old, 0..5).await;
    assert_eq!(kind(copied), Err(ErrorKind::Conflict));
    let copied = store.copy_part("k", &id, 1, "none", &old, 0..5).await;
    assert_eq!(kind(copied), Err(ErrorKind::Missing));
}

#[tokio::test]
async fn what_a_complete_names_is_checked() {
    let (_server, store) = connected().await;
    let id = create(&store, "k").await;
    let receipt = part(&store, "k", &id, 1, 10).await;
    let wrong = CompletedPart {
        number: 1,
        etag: ETag::new("0123"),
        crc64: None,
    };
    let done = store
        .complete_upload("k", &id, &[wrong], 10, &Precondition::None)
        .await;
    assert_eq!(kind(done), Err(ErrorKind::Invalid));
    let parts = [named(1, &receipt)];
    let done = store
        .complete_upload("k", &id, &parts, 11, &Precondition::None)
        .await;
    assert_eq!(
        kind(done),
        Err(ErrorKind::Invalid),
        "another size than was said"
    );
    store
        .complete_upload("k", &id, &parts, 10, &Precondition::None)
        .await
        .expect("done");
}

#[tokio::test]
async fn a_part_damaged_on_the_way_is_refused() {
    let (server, store) = connected().await;
    let id = create(&store, "k").await;
    let damaged = Body::new(vec![Bytes::from_static(b"not what the checksum says")], 42);
    let refused = store.upload_part("k", &id, 1, damaged).await;
    assert_eq!(kind(refused), Err(ErrorKind::Transient));
    assert!(store.list_parts("k", &id).await.expect("parts").is_empty());
    assert_eq!(server.log().count("UploadPart"), 3);
}

#[tokio::test]
async fn an_upload_of_more_parts_than_a_page_has_is_counted_whole() {
    let (_server, store) = connected().await;
    let id = create(&store, "k").await;
    assert_eq!(store.size_of_upload("k", &id).await.expect("none"), (0, 0));
    // A page has a thousand.
    let (count, size) = (1003, 10);
    for number in 1..=count {
        part(&store, "k", &id, number, size).await;
    }
    let listed = store.list_parts("k", &id).await.expect("a page");
    assert!(listed.len() < count as usize, "{} in a page", listed.len());
    let told = store.size_of_upload("k", &id).await.expect("parts");
    assert_eq!(told, (count as usize, u64::from(count) * size as u64));
}

#[tokio::test]
async fn uploads_outside_the_prefix_are_not_shown() {
    let (server, store) = connected().await;
    server.create_upload(BUCKET, "outside");
    server.create_upload(BUCKET, "mounted/here");
    let mut ids: Vec<String> = Vec::new();
    for key in ["a +é", "a +é", "b"] {
        ids.push(server.create_upload(BUCKET, &format!("{PREFIX}{key}")));
    }
    let page = store.list_uploads("", None).await.expect("uploads");
    let keys: Vec<&str> = page.uploads.iter().map(|u| u.key.as_str()).collect();
    assert_eq!(keys, ["a +é", "a +é", "b"]);
    assert_eq!(page.next, None);
    let page = store.list_uploads("b", None).await.expect("uploads");
    assert_eq!(page.uploads.len(), 1);
    assert_eq!(page.uploads[0].upload_id.0, ids[2]);
    let minute = Duration::from_secs(60);
    assert!(page.uploads[0].initiated > Some(SystemTime::now() - minute));
}

#[tokio::test]
async fn uploads_come_page_by_page() {
    let (server, store) = connected().await;
    for n in 0..1005 {
        server.create_upload(BUCKET, &format!("{PREFIX}k{n}"));
    }
    let first = store.list_uploads("", None).await.expect("uploads");
    let next = first.next.expect("more");
    let second = store.list_uploads("", Some(&next)).await.expect("uploads");
    assert_eq!(first.uploads.len() + second.uploads.len(), 1005);
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn mounting() {
    let server = server(Dialect::default()).await;
    let refused = |change: fn(&mut Options)| {
        let mut options = options(&server);
        change(&mut options);
        async move { S3Store::connect(options).await.err().expect("refused") }
    };
    let error = refused(|o| o.bucket = "not-there".into()).await;
    assert!(
        matches!(error, ConnectError::NoSuchBucket { .. }),
        "{error}"
    );
    let error = refused(|o| o.keys.as_mut().expect("keys").access_key_id = "who".into()).await;
    assert!(
        matches!(&error, ConnectError::Denied { code, .. } if code == "InvalidAccessKeyId"),
        "{error}"
    );
    let error = refused(|o| o.keys.as_mut().expect("keys").secret_access_key = "no".into()).await;
    assert!(
        matches!(&error, ConnectError::Denied { code, .. } if code == "SignatureDoesNotMatch"),
        "{error}"
    );
    let error = refused(|o| o.no_sign_request = true).await;
    assert!(matches!(error, ConnectError::Denied { .. }), "{error}");
    server
        .faults()
        .script("n=1:error=503/SlowDown")
        .expect("a fault");
    S3Store::connect(options(&server))
        .await
        .expect("one bad moment is forgiven");
    S3Store::connect(Options {
        prefix: String::new(),
        ..options(&server)
    })
    .await
    .expect("no prefix");
}

/// For servers of others: `WHOLEFS_TEST_S3="ENDPOINT BUCKET PROVIDER KEY SECRET"`, the bucket empty.
#[tokio::test]
#[ignore = "needs a server, named in WHOLEFS_TEST_S3"]
async fn the_same_elsewhere() {
    let text = std::env::var("WHOLEFS_TEST_S3").expect("WHOLEFS_TEST_S3");
    let words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
    let [endpoint, bucket, provider, key, secret] = words.as_slice() else {
        panic!("five words: {text}")
    };
    let options = Options {
        bucket: bucket.clone(),
        prefix: PREFIX.into(),
        endpoint_url: Some(endpoint.clone()),
        provider: Some(provider.clone()),
        keys: Some(Keys {
            access_key_id: key.clone(),
            secret_access_key: secret.clone(),
            session_token: None,
        }),
        ..Options::default()
    };
    let store = S3Store::connect(options)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let step = store.capabilities().part_min.max(1 << 20) as usize;

    let odd = "odd +%é&=?.txt";
    let etag = put(&store, odd, body(100 * KIB)).await;
    assert_eq!(
        read(&store, odd, &etag, 5..105).await.expect("bytes"),
        bytes(105)[5..]
    );
    let error = read(&store, odd, &ETag::new("0123"), 5..105)
        .await
        .expect_err("another version");
    assert_eq!(error.kind, ErrorKind::Conflict);

    let mut attributes = Attributes::default();
    attributes.metadata.insert("token".into(), "t".into());
    let source = put(&store, "source", body(step)).await;
    let id = store
        .create_upload("big", &attributes)
        .await
        .expect("an upload");
    let page = store.list_uploads("big", None).await.expect("uploads");
    assert!(page.uploads.iter().any(|u| u.upload_id == id), "{page:?}");
    let mut parts = vec![named(1, &part(&store, "big", &id, 1, step).await)];
    let mut size = step;
    if store.capabilities().part_copy {
        let range = 0..step as u64;
        let copied = store
            .copy_part("big", &id, 2, "source", &source, range)
            .await
            .expect("copied");
        parts.push(named(2, &copied));
        size += step;
    }
    parts.push(named(3, &part(&store, "big", &id, 3, 10).await));
    size += 10;
    assert_eq!(
        store.list_parts("big", &id).await.expect("parts").len(),
        parts.len()
    );
    let none = Precondition::None;
    let etag = store
        .complete_upload("big", &id, &parts, size as u64, &none)
        .await
        .expect("done");
    let info = store.head("big").await.expect("there");
    assert_eq!((info.size, &info.etag), (size as u64, &etag));
    assert_eq!(
        said(&info).and_then(|m| m.get("token")).map(String::as_str),
        Some("t")
    );
    assert_eq!(
        kind(store.list_parts("big", &id).await),
        Err(ErrorKind::NoSuchUpload)
    );

    let id = create(&store, "aborted").await;
    part(&store, "aborted", &id, 1, 10).await;
    store.abort_upload("aborted", &id).await.expect("aborted");
    assert_eq!(
        kind(store.list_parts("aborted", &id).await),
        Err(ErrorKind::NoSuchUpload)
    );

    let page = store.list("", true, None, 100).await.expect("a page");
    assert_eq!(names(&page.entries), ["big", odd, "source"]);
    for key in ["big", odd, "source", "never was"] {
        store.delete(key).await.expect("deleted");
    }
}
