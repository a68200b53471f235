//! Answers in forms that stores are known for, or might have: ETags bare, weak or missing; lengths that lie;
//! XML with another namespace or none; dates in other forms. What can be understood is, what cannot is an
//! error, and nothing is made up. (`answers` plays thousands at random.)

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wholefs::store::s3::{Keys, Options, S3Store};
use wholefs::store::{
    Attributes, Body, CompletedPart, ETag, ErrorKind, Limits, ListEntry, ListPage, Precondition,
    Store, UploadId,
};

use crate::script::{Asked, Reply, Script};

/// A store whose requests are answered by `answer`, which does not see the check.
async fn store(
    provider: &str,
    answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
) -> (S3Store, Arc<Script>) {
    store_at("", provider, answer).await
}

/// `path`: where it is on its server.
async fn store_at(
    path: &str,
    provider: &str,
    answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
) -> (S3Store, Arc<Script>) {
    let script = Script::start(move |n, asked| match n {
        0 => Reply::xml(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        ),
        n => answer(n - 1, asked),
    });
    let options = Options {
        bucket: "bucket".into(),
        endpoint_url: Some(format!("{}{path}", script.url)),
        provider: Some(provider.into()),
        keys: Some(Keys {
            access_key_id: "any".into(),
            secret_access_key: "any".into(),
            session_token: None,
        }),
        limits: Limits {
            request_timeout: Duration::from_secs(5),
            attempts: 2,
        },
        ..Options::default()
    };
    let store = S3Store::connect(options).await.expect("connected");
    (store, Arc::new(script))
}

fn upload() -> UploadId {
    UploadId("up".into())
}

fn body() -> Body {
    Body::from_bytes(vec![7; 10].into())
}

async fn put(store: &S3Store) -> Result<ETag, wholefs::store::Error> {
    let attributes = Attributes::default();
    let none = Precondition::None;
    store.put("k", body(), &attributes, &none).await
}

async fn complete(store: &S3Store) -> Result<ETag, ErrorKind> {
    let parts = [CompletedPart {
        number: 1,
        etag: ETag::new("p"),
        crc64: None,
    }];
    let (id, none) = (upload(), Precondition::None);
    let done = store.complete_upload("k", &id, &parts, 10, &none).await;
    done.map_err(|error| error.kind)
}

/// The forms of one version's ETag, in headers and in XML.
const ETAGS: [(&str, &str); 5] = [
    ("\"e1\"", "&quot;e1&quot;"),
    ("e1", "e1"),
    ("W/\"e1\"", "W/&quot;e1&quot;"),
    ("  \"e1\"  ", "\"e1\""),
    ("\"e1", "&#34;e1&#34;"),
];

#[tokio::test]
async fn an_etag_is_one_in_whatever_form_it_comes() {
    for (header, xml) in ETAGS {
        let (store, script) = store("garage", move |_, asked| {
            let etag = || ("ETag", header.to_string());
            let query = asked.target.split_once('?').map_or("", |(_, query)| query);
            match asked.method.as_str() {
                "HEAD" => Reply::Answer(200, vec![etag(), ("Content-Length", "10".into())], vec![]),
                "PUT" if asked.header("x-amz-copy-source").is_some() => {
                    let root = if query.contains("uploadId") { "CopyPartResult" } else { "CopyObjectResult" };
                    Reply::xml(200, &format!("<{root}><ETag>{xml}</ETag></{root}>"))
                }
                "PUT" => Reply::Answer(200, vec![etag()], vec![]),
                "POST" => Reply::xml(200, &format!("<CompleteMultipartUploadResult><ETag>{xml}</ETag></CompleteMultipartUploadResult>")),
                _ if query.contains("list-type") => Reply::xml(200, &format!("<ListBucketResult><Contents><Key>k</Key><Size>10</Size><ETag>{xml}</ETag></Contents></ListBucketResult>")),
                _ if query.contains("uploadId") => Reply::xml(200, &format!("<ListPartsResult><Part><PartNumber>1</PartNumber><Size>10</Size><ETag>{xml}</ETag></Part></ListPartsResult>")),
                _ => Reply::Answer(206, vec![etag(), ("Content-Range", "bytes 2-5/10".into())], b"2345".to_vec()),
            }
        })
        .await;
        let one = ETag::new("e1");
        assert_eq!(put(&store).await.expect("put"), one, "{header}");
        assert_eq!(store.head("k").await.expect("there").etag, one, "{header}");
        let part = store.upload_part("k", &upload(), 1, body()).await;
        assert_eq!(part.expect("a part").etag, one, "{header}");
        let part = store.copy_part("k", &upload(), 1, "from", &one, 0..5).await;
        assert_eq!(part.expect("a part").etag, one, "{xml}");
        let copied = store.copy("k", "from", &one, 10, None).await;
        assert_eq!(copied.expect("a copy"), one, "{xml}");
        assert_eq!(complete(&store).await, Ok(one.clone()), "{xml}");
        let listed = store.list("", false, None, 10).await.expect("a page");
        let [ListEntry::Object(info)] = &listed.entries[..] else {
            panic!("{listed:?}")
        };
        assert_eq!(info.etag, one, "{xml}");
        assert_eq!(
            store.list_parts("k", &upload()).await.expect("parts")[0].etag,
            one
        );
        // It is read as that version, and asked for as S3 wants it.
        let mut read = store.get("k", &one, 2..6).await.expect("a download");
        assert_eq!(read.etag, one, "{header}");
        assert_eq!(
            read.body.next().await.expect("bytes").expect("bytes"),
            &b"2345"[..]
        );
        let asked = script.asked();
        assert_eq!(
            asked.last().and_then(|a| a.header("if-match")),
            Some("\"e1\"")
        );
    }
}

#[tokio::test]
async fn without_an_etag_nothing_is_believed_to_be_there() {
    let (store, _) = store("garage", |_, asked| match asked.method.as_str() {
        "HEAD" => Reply::Answer(200, vec![("Content-Length", "10".into())], vec![]),
        "GET" => Reply::Answer(
            206,
            vec![("Content-Range", "bytes 0-3/10".into())],
            b"0123".to_vec(),
        ),
        "POST" => Reply::xml(
            200,
            "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>",
        ),
        _ if asked.header("x-amz-copy-source").is_some() => {
            Reply::xml(200, "<CopyObjectResult></CopyObjectResult>")
        }
        _ => Reply::Answer(200, vec![("ETag", "\"\"".into())], vec![]),
    })
    .await;
    let kind = |error: wholefs::store::Error| (error.kind, error.code);
    let incomplete = |kind| Err((kind, "IncompleteAnswer".to_string()));
    let put = put(&store).await.map(drop);
    assert_eq!(put.map_err(kind), incomplete(ErrorKind::Unknown));
    assert_eq!(
        store.head("k").await.map(drop).map_err(kind),
        incomplete(ErrorKind::Transient)
    );
    let got = store.get("k", &ETag::new("e1"), 0..4).await.map(drop);
    assert_eq!(got.map_err(kind), incomplete(ErrorKind::Transient));
    let part = store.upload_part("k", &upload(), 1, body()).await.map(drop);
    assert_eq!(part.map_err(kind), incomplete(ErrorKind::Unknown));
    let one = ETag::new("e1");
    let copied = store.copy("k", "from", &one, 10, None).await.map(drop);
    assert_eq!(copied.map_err(kind), incomplete(ErrorKind::Unknown));
    // Whether it was done is found out by the token, as if there had been no answer.
    assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
}

#[tokio::test]
async fn lengths_that_lie_are_found_out() {
    // A whole object where a range was asked for, a range with more or less than it says, no length at all.
    let raw = |head: &str, body: &str| {
        Reply::Raw(format!("HTTP/1.1 {head}\r\nETag: \"e1\"\r\n\r\n{body}").into_bytes())
    };
    let answers: [(&str, &str, Option<&str>); 7] = [
        (
            "206 OK\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4",
            "2345",
            Some("2345"),
        ),
        (
            "206 OK\r\nContent-Range: bytes 2-5/10",
            "2345",
            Some("2345"),
        ),
        ("206 OK\r\nContent-Range: bytes 2-5/10", "23", None),
        ("206 OK\r\nContent-Range: bytes 2-5/10", "23456", None),
        (
            "206 OK\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 9",
            "2345",
            None,
        ),
        (
            "206 OK\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 3",
            "2345",
            None,
        ),
        ("200 OK\r\nContent-Length: 10", "0123456789", None),
    ];
    for (head, body, expected) in answers {
        let (store, _) = store("garage", move |_, _| raw(head, body)).await;
        let read = async {
            let mut download = store.get("k", &ETag::new("e1"), 2..6).await?;
            let mut bytes = Vec::new();
            while let Some(next) = download.body.next().await {
                bytes.extend_from_slice(&next?);
            }
            Ok::<_, wholefs::store::Error>(bytes)
        };
        let read = read.await;
        match expected {
            Some(bytes) => assert_eq!(read.expect("bytes"), bytes.as_bytes(), "{head}"),
            None => assert!(read.is_err(), "{head}: {read:?}"),
        }
    }
    // A HEAD that tells no size, or none that there is.
    for length in [None, Some("-1"), Some("ten"), Some("99999999999999999999")] {
        let (store, _) = store("garage", move |_, _| {
            let length = length.map_or(String::new(), |n| format!("Content-Length: {n}\r\n"));
            Reply::Raw(format!("HTTP/1.1 200 OK\r\nETag: \"e1\"\r\n{length}\r\n").into_bytes())
        })
        .await;
        let head = store.head("k").await;
        assert!(head.is_err(), "{length:?}: {head:?}");
    }
}

/// Who was told a wrong size before would read it as the whole object.
#[tokio::test]
async fn a_part_that_does_not_say_which_is_not_the_whole() {
    for (status, is_whole) in [("200 OK", true), ("206 Partial Content", false)] {
        let head = format!("HTTP/1.1 {status}\r\nETag: \"e1\"\r\nContent-Length: 4");
        let answer =
            move |_: usize, _: &Asked| Reply::Raw(format!("{head}\r\n\r\n0123").into_bytes());
        let (store, script) = store("garage", answer).await;
        let got = store.get("k", &ETag::new("e1"), 0..4).await;
        let kind = got.map(drop).map_err(|error| error.kind);
        let expected = if is_whole {
            Ok(())
        } else {
            Err(ErrorKind::Transient)
        };
        assert_eq!(kind, expected, "{status}");
        // Another answer may be a better one.
        let asked = script.asked();
        let asked = asked.iter().filter(|a| a.header("range").is_some()).count();
        assert_eq!(asked, if is_whole { 1 } else { 2 }, "{status}");
    }
}

const AMAZONS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The forms one document comes in: `root` is its name, `rest` what is in it.
fn documents(root: &str, rest: &str) -> Vec<(&'static str, String)> {
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    vec![
        ("bare", format!("<{root}>{rest}</{root}>")),
        (
            "declared",
            format!("{declaration}\n<{root} xmlns=\"{AMAZONS}\">{rest}</{root}>"),
        ),
        (
            "another namespace",
            format!("{declaration}<{root} xmlns='urn:other'>{rest}</{root}>"),
        ),
        (
            "a namespace more",
            format!(
                "{declaration}<{root} xmlns=\"{AMAZONS}\" xmlns:x=\"urn:x\" x:a=\"1\">{rest}</{root}>"
            ),
        ),
        (
            "trailing",
            format!("{declaration}<{root}>{rest}</{root}>\n\n"),
        ),
        (
            "elements nobody knows",
            format!("<{root}><New><Deep>1</Deep></New>{rest}<Last/></{root}>"),
        ),
        (
            "white space",
            format!(
                "{declaration}\r\n<{root} >\r\n  {}\r\n</{root} >",
                rest.replace("><", ">\r\n  <")
            ),
        ),
    ]
}

fn name(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Object(info) => &info.key,
        ListEntry::Prefix(prefix) => prefix,
    }
}

fn names(page: &ListPage) -> Vec<&str> {
    page.entries.iter().map(name).collect()
}

#[tokio::test]
async fn documents_are_understood_in_every_namespace() {
    let contents = "<IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key><Size>3</Size></Contents><CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>";
    for provider in ["garage", "ncloud"] {
        for (form, text) in documents("ListBucketResult", contents) {
            let (store, _) = store(provider, move |_, _| Reply::xml(200, &text)).await;
            let page = store.list("", true, None, 10).await;
            let page = page.unwrap_or_else(|error| panic!("{provider} {form}: {error}"));
            assert_eq!(names(&page), ["a&b", "d/"], "{provider} {form}");
        }
    }
    for (form, text) in documents("InitiateMultipartUploadResult", "<UploadId>u 1</UploadId>") {
        let (store, _) = store("garage", move |_, _| Reply::xml(200, &text)).await;
        let created = store.create_upload("k", &Attributes::default()).await;
        let created = created.unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(created.0, "u 1", "{form}");
    }
    for (form, text) in documents("CompleteMultipartUploadResult", "<ETag>e</ETag>") {
        let (store, _) = store("garage", move |_, _| Reply::xml(200, &text)).await;
        assert_eq!(complete(&store).await, Ok(ETag::new("e")), "{form}");
    }
    let parts = "<Part><PartNumber>3</PartNumber><Size>9</Size><ETag>p</ETag></Part>";
    for (form, text) in documents("ListPartsResult", parts) {
        let (store, _) = store("garage", move |_, _| Reply::xml(200, &text)).await;
        let parts = store.list_parts("k", &upload()).await;
        let parts = parts.unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!((parts[0].number, parts[0].size), (3, 9), "{form}");
    }
    let uploads = "<Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2026-11-24T10:21:29.000Z</Initiated></Upload>";
    for (form, text) in documents("ListMultipartUploadsResult", uploads) {
        let (store, _) = store("garage", move |_, _| Reply::xml(200, &text)).await;
        let page = store.list_uploads("", None).await;
        let page = page.unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(page.uploads[0].upload_id.0, "u", "{form}");
    }
    for (form, text) in documents("Error", "<Code>NoSuchUpload</Code><Message>m</Message>") {
        let (store, _) = store("garage", move |_, _| Reply::xml(404, &text)).await;
        let gone = store
            .list_parts("k", &upload())
            .await
            .map_err(|error| error.kind);
        assert_eq!(gone, Err(ErrorKind::NoSuchUpload), "{form}");
    }
}

/// The length that is said is that of the half: below HTTP nothing is amiss.
#[tokio::test]
async fn an_answer_that_ends_in_its_middle_is_none() {
    let entry = "<Contents><Key>a</Key><Size>3</Size></Contents>";
    let part = "<Part><PartNumber>3</PartNumber><Size>9</Size><ETag>p</ETag></Part>";
    let upload_of_k = "<Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2026-11-24T10:21:29.000Z</Initiated></Upload>";
    let mut tried = 0;
    for (root, rest) in [
        ("ListBucketResult", entry.repeat(2)),
        ("ListPartsResult", part.repeat(2)),
        ("ListMultipartUploadsResult", upload_of_k.repeat(2)),
        (
            "InitiateMultipartUploadResult",
            "<UploadId>u</UploadId>".into(),
        ),
        ("CompleteMultipartUploadResult", "<ETag>e</ETag>".into()),
        ("CopyObjectResult", "<ETag>e</ETag>".into()),
    ] {
        let whole = format!("<?xml version=\"1.0\"?><{root} xmlns=\"{AMAZONS}\">{rest}</{root}>");
        let ends = whole.match_indices('>').map(|(at, _)| at + 1);
        for end in ends {
            let text = whole[..end].to_string();
            let (store, _) = store("garage", move |_, _| Reply::xml(200, &text)).await;
            let found = match root {
                "ListBucketResult" => store.list("", true, None, 10).await.map(drop),
                "ListPartsResult" => store.list_parts("k", &upload()).await.map(drop),
                "ListMultipartUploadsResult" => store.list_uploads("", None).await.map(drop),
                "InitiateMultipartUploadResult" => {
                    let said = Attributes::default();
                    store.create_upload("k", &said).await.map(drop)
                }
                "CompleteMultipartUploadResult" => match complete(&store).await {
                    Ok(_) => Ok(()),
                    // Who asks what became of it is told by the same answers.
                    Err(_) => Err(store.head("k").await.expect_err("no ETag")),
                },
                _ => {
                    let etag = ETag::new("e");
                    store.copy("k", "from", &etag, 10, None).await.map(drop)
                }
            };
            assert_eq!(found.is_ok(), end == whole.len(), "{}", &whole[..end]);
            tried += 1;
        }
    }
    println!("{tried} answers, whole or cut");
}

/// 2026-11-24T10:21:29Z
const THEN: u64 = 1_795_515_689;

#[tokio::test]
async fn times_are_understood_in_every_form_or_not_believed() {
    let then = UNIX_EPOCH + Duration::from_secs(THEN);
    let unknown = UNIX_EPOCH;
    // Of headers.
    for (text, expected) in [
        (Some("Tue, 24 Nov 2026 10:21:29 GMT"), then),
        (Some("Tue, 24 Nov 2026 10:21:29 UTC"), unknown),
        (Some("Tuesday, 24-Nov-26 10:21:29 GMT"), unknown),
        (Some("2026-11-24T10:21:29Z"), then),
        (Some("2026-11-24T12:21:29+02:00"), then),
        (Some("1795515689"), unknown),
        (Some("yesterday"), unknown),
        (Some(""), unknown),
        (None, unknown),
    ] {
        let (store, _) = store("garage", move |_, asked| {
            let mut headers = vec![("ETag", "\"e1\"".to_string())];
            headers.extend(text.map(|text| ("Last-Modified", text.to_string())));
            match asked.method.as_str() {
                "HEAD" => {
                    headers.push(("Content-Length", "10".into()));
                    Reply::Answer(200, headers, vec![])
                }
                _ => {
                    headers.push(("Content-Range", "bytes 0-3/10".into()));
                    Reply::Answer(206, headers, b"0123".to_vec())
                }
            }
        })
        .await;
        let head = store.head("k").await;
        let head = head.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(head.modified, expected, "{text:?}");
        let got = store.get("k", &ETag::new("e1"), 0..4).await;
        assert!(got.is_ok(), "{text:?}: {:?}", got.err());
    }
    // Of listings.
    for text in [
        "2026-11-24T10:21:29.000Z",
        "2026-11-24T10:21:29Z",
        "2026-11-24T10:21:29.123456789Z",
        "2026-11-24T12:21:29+02:00",
    ] {
        let (store, _) = store("garage", move |_, _| {
            Reply::xml(200, &format!("<ListBucketResult><Contents><Key>k</Key><Size>1</Size><LastModified>{text}</LastModified></Contents></ListBucketResult>"))
        })
        .await;
        let page = store.list("", false, None, 10).await;
        let page = page.unwrap_or_else(|error| panic!("{text}: {error}"));
        let [ListEntry::Object(info)] = &page.entries[..] else {
            panic!("{page:?}")
        };
        // In whole seconds, as HEAD tells them.
        assert_is(info.modified, &[then], text);
    }
    for text in [
        "Tue, 24 Nov 2026 10:21:29 GMT",
        "2026-11-24 10:21:29",
        "yesterday",
        "",
    ] {
        let (store, _) = store("garage", move |_, _| {
            Reply::xml(200, &format!("<ListBucketResult><Contents><Key>k</Key><Size>1</Size><LastModified>{text}</LastModified></Contents></ListBucketResult>"))
        })
        .await;
        // It may be refused; it is never another time.
        if let Ok(page) = store.list("", false, None, 10).await {
            let [ListEntry::Object(info)] = &page.entries[..] else {
                panic!("{page:?}")
            };
            assert_is(info.modified, &[unknown, then], text);
        }
    }
}

#[track_caller]
fn assert_is(found: SystemTime, either: &[SystemTime], what: &str) {
    assert!(either.contains(&found), "{what}: {found:?}");
}

/// Stores that keep directories of their own: what marks one has no ETag, and one that nobody has marked answers all the same.
#[tokio::test]
async fn a_directory_needs_no_etag() {
    let (store, _) = store("generic", |_, asked| match asked.method.as_str() {
        "HEAD" => Reply::Answer(200, vec![("Content-Length", "4096".into())], vec![]),
        _ => Reply::Answer(200, vec![], vec![]),
    })
    .await;
    let attributes = Attributes::default();
    let none = Precondition::None;
    let nothing = Body::from_bytes(Vec::new().into());
    let marked = store.put("d/", nothing, &attributes, &none).await;
    let marked = marked.map_err(|error| error.kind);
    assert_eq!(marked, Ok(ETag::new("d41d8cd98f00b204e9800998ecf8427e")));
    let looked = |key| {
        let store = &store;
        async move { store.head(key).await.map_err(|error| error.kind) }
    };
    assert_eq!(looked("d/").await, Err(ErrorKind::Missing));
    // Of a file that is an answer which is not whole.
    assert_eq!(looked("f").await, Err(ErrorKind::Transient));
    assert!(put(&store).await.is_err());
}

#[tokio::test]
async fn a_copied_part_without_a_result_says_how_to_do_without() {
    let (store, _) = store("generic", |_, _| Reply::Answer(200, vec![], vec![])).await;
    let (upload, version) = (upload(), ETag::new("e"));
    let copied = store.copy_part("k", &upload, 1, "s", &version, 0..9);
    let error = copied.await.expect_err("no result");
    let remedy = "--capability part_copy=false";
    assert!(error.to_string().contains(remedy), "{error}");
}

/// Behind a server that has other things, too.
#[tokio::test]
async fn an_endpoint_may_have_a_path() {
    for path in ["/storage/v1/s3", "/storage/v1/s3/"] {
        let (store, script) = store_at(path, "garage", |_, _| {
            Reply::Answer(200, vec![("ETag", "\"e\"".into())], vec![])
        })
        .await;
        assert_eq!(put(&store).await.expect(path), ETag::new("e"));
        for asked in script.asked() {
            let target = &asked.target;
            assert!(target.starts_with("/storage/v1/s3/bucket"), "{target}");
        }
    }
}

/// The clock of this machine was set: the refusal tells the store's time, by which the next request is signed.
#[tokio::test]
async fn a_request_of_another_time_is_signed_anew() {
    let refusals = [
        ("RequestTimeTooSkewed", "The difference is too large."),
        ("AccessDenied", "Request has expired"),
    ];
    for (code, message) in refusals {
        let (store, script) = store("garage", move |n, _| match n {
            0 => Reply::xml(
                403,
                &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
            ),
            _ => Reply::Answer(200, vec![("ETag", "\"e\"".into())], vec![]),
        })
        .await;
        assert_eq!(put(&store).await.expect(code), ETag::new("e"));
        assert_eq!(script.asked().len(), 3, "the check, and twice");
    }
    let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let (store, script) = store("garage", move |_, _| Reply::xml(403, denied)).await;
    assert_eq!(put(&store).await.expect_err("no").kind, ErrorKind::Denied);
    assert_eq!(script.asked().len(), 2, "once");
}

/// An answer to HEAD has no body: why it refuses is asked for, and what can be mended is.
#[tokio::test]
async fn a_head_that_is_refused_is_told_why() {
    let refused = |code: &str| format!("<Error><Code>{code}</Code></Error>");
    for (status, code) in [(400, "ExpiredToken"), (403, "AccessDenied")] {
        let (store, _) = store("garage", move |_, asked| match asked.method.as_str() {
            "HEAD" => Reply::Answer(status, vec![], vec![]),
            _ => Reply::xml(status, &refused(code)),
        })
        .await;
        let error = store.head("k").await.expect_err(code);
        assert_eq!((error.kind, &*error.code), (ErrorKind::Denied, code));
    }
    // The clock was set; by the other's refusal it is known.
    let skewed = refused("RequestTimeTooSkewed");
    let (mended, script) = store("garage", move |n, asked| match asked.method.as_str() {
        "HEAD" if n == 0 => Reply::Answer(403, vec![], vec![]),
        "HEAD" => {
            let headers = vec![("ETag", "\"e\"".into()), ("Content-Length", "5".into())];
            Reply::Answer(200, headers, vec![])
        }
        _ if n == 1 => Reply::xml(403, &skewed),
        _ => Reply::Answer(206, vec![], b"x".to_vec()),
    })
    .await;
    assert_eq!(mended.head("k").await.expect("found").size, 5);
    assert_eq!(script.asked().len(), 5, "the check, and twice each");
    // Who says nothing twice has said what there is to say.
    let (store, _) = store("garage", |_, _| Reply::Answer(403, vec![], vec![])).await;
    assert_eq!(store.head("k").await.expect_err("no").code, "HTTP403");
}

/// What stands before a store has pages of its own, which say nothing of what the store has.
#[tokio::test]
async fn a_gateways_page_ends_no_upload() {
    let page = |status: u16, text: &'static str| {
        move |_: usize, _: &Asked| Reply::Answer(status, vec![], text.as_bytes().to_vec())
    };
    let texts = [
        "<html><body>404 Not Found</body></html>",
        "404 page not found",
        "{\"message\":\"no Route matched\"}",
        "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0\">\n<html xmlns=\"x\"><body>404</body></html>",
        "",
    ];
    for text in texts {
        let (store, _) = store("garage", page(404, text)).await;
        let abort = store.abort_upload("k", &upload()).await;
        assert_eq!(abort.expect_err(text).kind, ErrorKind::Unknown);
        let parts = store.list_parts("k", &upload()).await;
        assert_eq!(parts.expect_err(text).kind, ErrorKind::Transient);
        assert_eq!(complete(&store).await, Err(ErrorKind::Unknown));
    }
    let cut_off = "upstream connect error or disconnect/reset before headers";
    for text in texts.into_iter().chain([cut_off]) {
        let (broken, _) = store("garage", page(503, text)).await;
        let attributes = Attributes::default();
        let created = broken.create_upload("k", &attributes).await;
        assert_eq!(created.expect_err(text).kind, ErrorKind::Unknown);
    }
    // The store's own: with no body, or S3's.
    for body in [
        "",
        "<Error><Code>NoSuchUpload</Code></Error>",
        "<?xml version=\"1.0\"?><Error/>",
    ] {
        let of_a_store = move |_: usize, _: &Asked| {
            let id = ("x-amz-request-id", "1".to_string());
            Reply::Answer(404, vec![id], body.as_bytes().to_vec())
        };
        let (store, _) = store("garage", of_a_store).await;
        let abort = store.abort_upload("k", &upload()).await;
        assert!(
            abort.map_or_else(|error| error.kind == ErrorKind::NoSuchUpload, |_| true),
            "{body}"
        );
    }
}

/// Nor does such a page hide an object, or remove one.
#[tokio::test]
async fn a_gateways_page_hides_no_object_and_removes_none() {
    const PAGE: &str = "<html><body>404 Not Found</body></html>";
    let id = || ("x-amz-request-id", "1".to_string());
    for (body, there) in [
        ("x", true),
        ("<Error><Code>NoSuchKey</Code></Error>", false),
    ] {
        let answer = move |_: usize, asked: &Asked| match (asked.method.as_str(), there) {
            ("PUT", _) => Reply::Answer(200, vec![id(), ("ETag", "\"e\"".into())], vec![]),
            ("HEAD", _) => Reply::Answer(404, vec![], vec![]),
            (_, true) => {
                let range = ("Content-Range", "bytes 0-0/1".to_string());
                Reply::Answer(
                    206,
                    vec![id(), range, ("ETag", "\"e\"".into())],
                    body.into(),
                )
            }
            (_, false) => Reply::Answer(404, vec![id()], body.into()),
        };
        let (store, _) = store("garage", answer).await;
        // From now on it is known that this store gives its requests names.
        put(&store).await.expect("stored");
        let kind = store.head("k").await.map_err(|error| error.kind);
        let expected = if there {
            ErrorKind::Transient
        } else {
            ErrorKind::Missing
        };
        assert_eq!(kind.expect_err("no"), expected);
    }
    for (status, text) in [(404, PAGE), (404, ""), (200, PAGE)] {
        let page = move |_: usize, _: &Asked| Reply::Answer(status, vec![], text.into());
        let (store, _) = store("garage", page).await;
        let kind = |error: wholefs::store::Error| error.kind;
        let deleted = store.delete("k").await.map_err(kind);
        assert_eq!(deleted, Err(ErrorKind::Unknown), "{status} {text}");
        let created = store.create_upload("k", &Attributes::default()).await;
        assert_eq!(
            created.map_err(kind),
            Err(ErrorKind::Unknown),
            "{status} {text}"
        );
        assert_eq!(
            put(&store).await.map_err(kind),
            Err(ErrorKind::Unknown),
            "{status} {text}"
        );
    }
}

/// An upload whose beginning is not told is nobody's to take for ours, nor old enough to be swept.
#[tokio::test]
async fn an_upload_without_a_beginning_has_none() {
    for told in [
        "",
        "<Initiated>0001-01-01T00:00:00.000Z</Initiated>",
        "<Initiated>1970-01-01T00:00:00.000Z</Initiated>",
    ] {
        let answer = move |_: usize, _: &Asked| {
            let upload = format!("<Upload><Key>k</Key><UploadId>u</UploadId>{told}</Upload>");
            Reply::xml(
                200,
                &format!(
                    "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{upload}</ListMultipartUploadsResult>"
                ),
            )
        };
        let (store, _) = store("garage", answer).await;
        let page = store.list_uploads("k", None).await.expect("listed");
        assert_eq!(page.uploads[0].initiated, None, "{told}");
    }
}

#[tokio::test]
async fn an_entry_without_a_size_is_no_empty_file() {
    for size in ["", "<Size>x</Size>", "<Size>-1</Size>"] {
        let answer = move |_: usize, _: &Asked| {
            let entry = format!("<Contents><Key>k</Key>{size}<ETag>e</ETag></Contents>");
            Reply::xml(
                200,
                &format!(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>{entry}</ListBucketResult>"
                ),
            )
        };
        let (store, _) = store("garage", answer).await;
        assert!(store.list("", true, None, 10).await.is_err(), "{size}");
    }
}

#[tokio::test]
async fn a_listing_is_whole_or_an_error() {
    let pages = |_: usize, asked: &Asked| {
        let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let page = match asked.target.contains("continuation-token") {
            true => entry("b"),
            false => entry("a") + "<NextContinuationToken>t</NextContinuationToken>",
        };
        Reply::xml(200, &format!("<ListBucketResult>{page}</ListBucketResult>"))
    };
    let (store, _) = store("garage", pages).await;
    let found = store.first_below("", 10).await.expect("listed");
    assert_eq!(found.len(), 2, "{found:?}");
    let nameless =
        "<ListBucketResult><Contents><Key></Key><Size>1</Size></Contents></ListBucketResult>";
    let (store, _) = self::store("garage", move |_, _| Reply::xml(200, nameless)).await;
    store.first_below("", 10).await.expect_err("it has a name");
}

#[tokio::test]
async fn a_409_is_a_conflict_where_it_is_called_so() {
    for (code, kind) in [
        ("ConditionalRequestConflict", ErrorKind::Conflict),
        ("FileAlreadyExists", ErrorKind::Conflict),
        ("FileImmutable", ErrorKind::Invalid),
    ] {
        let text = format!("<Error><Code>{code}</Code></Error>");
        let (store, _) = store("garage", move |_, _| Reply::xml(409, &text)).await;
        assert_eq!(put(&store).await.expect_err(code).kind, kind, "{code}");
    }
}
