//! The vault's own protocol: the vendor's example to the letter, and how uploads end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wholefs::embedded::vault::Manners;
use wholefs::store::glacier::{GlacierStore, VaultOptions};
use wholefs::store::s3::{Keys, Options};
use wholefs::store::{
    Attributes, Body, CompletedPart, ErrorKind, Metadata, Precondition, Store as _, TOKEN_KEY,
};

use crate::support::store::Store;
use crate::support::{Content, MIB};

/// "Abort Multipart Upload (DELETE uploadID)" of the vendor's reference: its example request.
const EXAMPLE: &str = "DELETE /-/vaults/examplevault/multipart-uploads/OW2fM5iVylEpFEMM9_HpKowRapC3vn5sSL39_396UW9zLFUWVrnRHaPjUJddQ5OxSHVXjYtrN47NBZ-khxOjyEXAMPLE HTTP/1.1\r
Host: glacier.us-west-2.amazonaws.com\r
x-amz-Date: 20170210T120000Z\r
x-amz-glacier-version: 2012-06-01\r
Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20141123/us-west-2/glacier/aws4_request,SignedHeaders=host;x-amz-date;x-amz-glacier-version,Signature=9257c16da6b25a715ce900a5b45b03da0447acf430195dcb540091b12966f2a2\r
\r
";
const EXAMPLE_ID: &str =
    "OW2fM5iVylEpFEMM9_HpKowRapC3vn5sSL39_396UW9zLFUWVrnRHaPjUJddQ5OxSHVXjYtrN47NBZ-khxOjyEXAMPLE";

/// Sends bytes as they are, and answers the status line and the headers, names in lower case.
fn exchange(endpoint: &str, request: &str) -> (String, Vec<(String, String)>) {
    let address = endpoint.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("the server");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a deadline");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let mut lines = head.trim_end().lines();
    let status = lines.next().expect("a status line").trim_end().to_owned();
    let named = |line: &str| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    (status, lines.map(named).collect())
}

#[test]
fn the_vendors_example_of_an_abort_is_answered_as_there() {
    let store = Store::vault_named("examplevault", Manners::default());
    let server = store.vault_server();
    server.create_upload_named("examplevault", EXAMPLE_ID);
    // "However, stopping an already-stopped upload will succeed, for a short time."
    for _ in 0..2 {
        let (status, headers) = exchange(&store.endpoint, EXAMPLE);
        assert_eq!(status, "HTTP/1.1 204 No Content");
        for name in ["x-amzn-requestid", "date"] {
            assert!(
                headers
                    .iter()
                    .any(|(its, value)| its == name && !value.is_empty()),
                "{headers:?}"
            );
        }
        assert!(
            !headers.iter().any(|(name, _)| name == "content-type"),
            "{headers:?}"
        );
        assert_eq!(server.uploads("examplevault"), []);
    }
    // Without a signature, or the version of the interface, nothing is done.
    for header in ["Authorization", "x-amz-glacier-version"] {
        let without: Vec<&str> = EXAMPLE
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(header))
            .collect();
        let (status, _) = exchange(&store.endpoint, &without.concat());
        assert!(status.starts_with("HTTP/1.1 4"), "{status}");
    }
}

async fn connected(store: &Store, state: &std::path::Path) -> GlacierStore {
    let options = Options {
        bucket: store.bucket.clone(),
        endpoint_url: Some(store.endpoint.clone()),
        region: Some(store.region.to_string()),
        keys: Some(Keys {
            access_key_id: "any".to_string(),
            secret_access_key: "any".to_string(),
            session_token: None,
        }),
        vault: Some(VaultOptions {
            state: state.to_path_buf(),
            part_size: 2 * MIB,
            look_only: false,
        }),
        ..Options::default()
    };
    GlacierStore::connect(options).await.expect("connected")
}

fn said(token: &str) -> Attributes {
    let metadata = [(TOKEN_KEY, token), ("mode", "33188")];
    Attributes {
        metadata: Metadata::from(metadata.map(|(k, v)| (k.to_string(), v.to_string()))),
        ..Attributes::default()
    }
}

fn body(content: &Content, range: std::ops::Range<u64>) -> Body {
    Body::from_bytes(content.range(range).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_vault_is_found_by_its_token_and_ends_once() {
    let state = tempfile::tempdir().expect("a folder");
    let server = tokio::task::spawn_blocking(|| Store::vault(Manners::default())).await;
    let server = server.expect("a server");
    let store = connected(&server, state.path()).await;
    let content = Content::new(1, 5 * MIB + 1);
    let upload = store
        .create_upload("a name/ü", &said("t1"))
        .await
        .expect("begun");
    let other = store
        .create_upload("a name/ü", &said("t2"))
        .await
        .expect("begun");
    let listed = store
        .list_uploads("a name/ü", None)
        .await
        .expect("listed")
        .uploads;
    let tokens: Vec<_> = listed
        .iter()
        .map(|u| {
            (
                u.upload_id.clone(),
                u.metadata.as_ref().unwrap()[TOKEN_KEY].clone(),
            )
        })
        .collect();
    assert!(
        tokens.contains(&(upload.clone(), "t1".into())),
        "{tokens:?}"
    );
    assert_eq!(tokens.len(), 2);
    // Parts come in any order.
    let mut parts = Vec::new();
    for number in [3, 1, 2] {
        let start = u64::from(number - 1) * 2 * MIB;
        let part = body(&content, start..content.size.min(start + 2 * MIB));
        let receipt = store
            .upload_part("a name/ü", &upload, number, part)
            .await
            .expect("stored");
        parts.push(CompletedPart {
            number,
            etag: receipt.etag,
            crc64: None,
        });
    }
    parts.sort_by_key(|part| part.number);
    assert_eq!(
        store
            .list_parts("a name/ü", &upload)
            .await
            .expect("parts")
            .len(),
        3
    );
    let complete = || {
        store.complete_upload(
            "a name/ü",
            &upload,
            &parts,
            content.size,
            &Precondition::None,
        )
    };
    let etag = complete().await.expect("completed");
    // Said again it is the same archive.
    assert_eq!(complete().await.expect("completed"), etag);
    let head = store.head("a name/ü").await.expect("named");
    assert_eq!((head.size, &head.etag), (content.size, &etag));
    assert_eq!(head.attributes.expect("said").metadata[TOKEN_KEY], "t1");
    let kind = |result: Result<(), wholefs::store::Error>| result.map_err(|e| e.kind);
    let abort = |id| store.abort_upload("a name/ü", id);
    // Completed, unknown, open, and aborted already.
    assert_eq!(kind(abort(&upload).await), Err(ErrorKind::NoSuchUpload));
    let unknown = wholefs::store::UploadId("nobody-knows".into());
    assert_eq!(kind(abort(&unknown).await), Err(ErrorKind::NoSuchUpload));
    assert_eq!(kind(abort(&other).await), Ok(()));
    assert_eq!(kind(abort(&other).await), Ok(()));
    for gone in [&upload, &other] {
        let listed = store.list_parts("a name/ü", gone).await.map_err(|e| e.kind);
        assert_eq!(listed, Err(ErrorKind::NoSuchUpload));
    }
    drop(store);
    tokio::task::spawn_blocking(move || drop(server))
        .await
        .expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vault_must_refuse_it_refuses() {
    let state = tempfile::tempdir().expect("a folder");
    let server = tokio::task::spawn_blocking(|| Store::vault(Manners::default())).await;
    let server = server.expect("a server");
    let store = connected(&server, state.path()).await;
    let content = Content::new(1, 4 * MIB);
    let upload = store.create_upload("k", &said("t")).await.expect("begun");
    // A short part in the middle is taken, and Complete then fails.
    let mut parts = Vec::new();
    for (number, part) in [
        (1, body(&content, 0..MIB)),
        (2, body(&content, 2 * MIB..4 * MIB)),
    ] {
        let receipt = store
            .upload_part("k", &upload, number, part)
            .await
            .expect("stored");
        parts.push(CompletedPart {
            number,
            etag: receipt.etag,
            crc64: None,
        });
    }
    let none = Precondition::None;
    let refused = store
        .complete_upload("k", &upload, &parts, 3 * MIB, &none)
        .await;
    assert_eq!(refused.map_err(|e| e.kind), Err(ErrorKind::Invalid));
    // As it does when the tree hash is another's.
    let part = body(&content, 0..2 * MIB);
    store
        .upload_part("k", &upload, 1, part)
        .await
        .expect("stored");
    let refused = store
        .complete_upload("k", &upload, &parts, 4 * MIB, &none)
        .await;
    assert_eq!(refused.map_err(|e| e.kind), Err(ErrorKind::Invalid));
    let larger = store
        .upload_part("k", &upload, 1, body(&content, 0..3 * MIB))
        .await;
    assert_eq!(larger.map_err(|e| e.kind), Err(ErrorKind::Invalid));
    assert!(
        store
            .head("k")
            .await
            .is_err_and(|e| e.kind == ErrorKind::Missing)
    );
    drop(store);
    tokio::task::spawn_blocking(move || drop(server))
        .await
        .expect("ended");
}
