//! What fails: how often it is tried, for how long, and what is said of it then.

use std::time::{Duration, Instant};

use wholefs::store::{Attributes, ErrorKind, Precondition, Store, UploadId};

use super::{BUCKET, KIB, body, connected, create, kind, named, part, put, read};

/// Each call, by S3's name, as often as it is to be sent when the failure passes after two.
#[tokio::test]
async fn harmless_calls_are_repeated_and_commits_are_not() {
    let (server, store) = connected().await;
    let etag = put(&store, "k", body(10)).await;
    let id = create(&store, "k").await;
    for fault in ["error=500", "throttle", "drop-before", "drop-after"] {
        for op in [
            "HeadObject",
            "GetObject",
            "ListObjectsV2",
            "PutObject",
            "UploadPart",
            "UploadPartCopy",
            "DeleteObject",
            "ListParts",
            "ListMultipartUploads",
        ] {
            server.log().reset();
            server.faults().clear();
            server
                .faults()
                .script(&format!("op={op},n=1..2:{fault}"))
                .expect("a fault");
            let outcome = match op {
                "HeadObject" => store.head("k").await.map(drop),
                "GetObject" => store.get("k", &etag, 0..5).await.map(drop),
                "ListObjectsV2" => store.list("", true, None, 10).await.map(drop),
                "PutObject" => {
                    let none = Precondition::None;
                    store
                        .put("k2", body(10), &Attributes::default(), &none)
                        .await
                        .map(drop)
                }
                "UploadPart" => store.upload_part("k", &id, 1, body(10)).await.map(drop),
                "UploadPartCopy" => store
                    .copy_part("k", &id, 2, "k", &etag, 0..5)
                    .await
                    .map(drop),
                "DeleteObject" => store.delete("k3").await,
                "ListParts" => store.list_parts("k", &id).await.map(drop),
                _ => store.list_uploads("", None).await.map(drop),
            };
            outcome.unwrap_or_else(|e| panic!("{fault} {op}: {e}"));
            assert_eq!(server.log().count(op), 3, "{fault} {op}");
        }
    }
    server.faults().clear();
    for (fault, expected) in [
        (
            "error=500",
            [ErrorKind::Unknown, ErrorKind::Unknown, ErrorKind::Transient],
        ),
        ("throttle", [ErrorKind::Throttled; 3]),
        ("drop-before", [ErrorKind::Unknown; 3]),
        ("drop-after", [ErrorKind::Unknown; 3]),
        ("hang-after", [ErrorKind::Unknown; 3]),
        ("error=403/AccessDenied", [ErrorKind::Denied; 3]),
    ] {
        let id = create(&store, "k").await;
        let receipt = part(&store, "k", &id, 1, 10).await;
        let parts = [named(1, &receipt)];
        server.log().reset();
        for op in [
            "CreateMultipartUpload",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
        ] {
            server
                .faults()
                .script(&format!("op={op}:{fault}"))
                .expect("a fault");
        }
        let created = store.create_upload("k", &Attributes::default()).await;
        let done = store
            .complete_upload("k", &id, &parts, 10, &Precondition::None)
            .await;
        let aborted = store.abort_upload("k", &id).await;
        let kinds = [kind(created).err(), kind(done).err(), kind(aborted).err()];
        assert_eq!(kinds, expected.map(Some), "{fault}");
        assert_eq!(server.log().total(), 3, "{fault}");
        server.faults().clear();
    }
}

#[tokio::test]
async fn attempts_are_bounded() {
    let (server, store) = connected().await;
    for (fault, expected, code) in [
        ("error=500", ErrorKind::Transient, "InternalError"),
        ("error=503/SlowDown", ErrorKind::Throttled, "SlowDown"),
    ] {
        server.log().reset();
        let id = server.faults().script(fault).expect("a fault");
        // HEAD's answer has no body to hold a code.
        let error = store.list("", true, None, 10).await.expect_err("it fails");
        assert_eq!((error.kind, error.code.as_str()), (expected, code));
        assert_eq!(server.log().total(), 3);
        server.faults().remove(id);
    }
}

#[tokio::test]
async fn a_guarded_put_whose_answer_is_lost() {
    let (server, store) = connected().await;
    server
        .faults()
        .script("op=PutObject:drop-after")
        .expect("a fault");
    let attributes = Attributes::default();
    let put = store
        .put("k", body(10), &attributes, &Precondition::Absent)
        .await;
    assert_eq!(kind(put), Err(ErrorKind::Unknown));
    assert_eq!(server.log().count("PutObject"), 1);
    assert_eq!(
        server.objects(BUCKET).len(),
        1,
        "it was applied all the same"
    );
}

#[tokio::test]
async fn a_complete_that_fails_inside_its_200() {
    let (server, store) = connected().await;
    for fault in [
        "ok-with-error-body",
        "applied-error-body",
        "ok-with-error-body=SlowDown",
    ] {
        let id = create(&store, "k").await;
        let receipt = part(&store, "k", &id, 1, 10).await;
        let fault = server
            .faults()
            .script(&format!("op=CompleteMultipartUpload:{fault}"))
            .expect("a fault");
        let parts = [named(1, &receipt)];
        let done = store
            .complete_upload("k", &id, &parts, 10, &Precondition::None)
            .await;
        assert_eq!(kind(done), Err(ErrorKind::Unknown));
        server.faults().remove(fault);
    }
    assert_eq!(server.log().count("CompleteMultipartUpload"), 3);
}

#[tokio::test]
async fn hanging_never_outlasts_the_deadline() {
    let (server, store) = connected().await;
    let etag = put(&store, "k", body(10)).await;
    let id = create(&store, "k").await;
    server.log().reset();
    server.faults().script("hang-before").expect("a fault");
    let began = Instant::now();
    assert_eq!(
        kind(store.get("k", &etag, 0..5).await.map(drop)),
        Err(ErrorKind::Transient)
    );
    // Three times 400 ms, and at most 100 + 200 ms between.
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    assert_eq!(
        kind(store.upload_part("k", &id, 1, body(KIB)).await),
        Err(ErrorKind::Unknown)
    );
    // Three times 400 ms for each of 1 + 1 MiB.
    assert!(
        began.elapsed() < Duration::from_millis(3700),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.log().total(), 6);
    let began = Instant::now();
    assert_eq!(
        kind(store.abort_upload("k", &id).await),
        Err(ErrorKind::Unknown)
    );
    assert!(
        began.elapsed() < Duration::from_millis(1000),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn bodies_that_end_early_or_trickle() {
    let (server, store) = connected().await;
    let etag = put(&store, "k", body(600 * KIB)).await;
    let whole = 0..600 * KIB as u64;
    let fault = server
        .faults()
        .script("op=GetObject:short-body")
        .expect("a fault");
    let error = read(&store, "k", &etag, whole.clone())
        .await
        .expect_err("too short");
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Transient, "ShortBody")
    );
    server.faults().remove(fault);
    server
        .faults()
        .script("op=GetObject:trickle=20K")
        .expect("a fault");
    let began = Instant::now();
    let error = read(&store, "k", &etag, whole).await.expect_err("too slow");
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Transient, "Timeout")
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn nobody_there() {
    let (server, store) = connected().await;
    server.stop().await;
    // What connections were kept are found closed; the next are refused.
    let _ = store.abort_upload("k", &UploadId("u".into())).await;
    let attributes = Attributes::default();
    let created = store
        .create_upload("k", &attributes)
        .await
        .expect_err("nobody");
    assert_eq!(
        (created.kind, created.code.as_str()),
        (ErrorKind::Transient, "ConnectionRefused")
    );
    let aborted = store.abort_upload("k", &UploadId("u".into())).await;
    assert_eq!(kind(aborted), Err(ErrorKind::Transient));
    let put = store
        .put("k", body(1), &attributes, &Precondition::Absent)
        .await;
    assert_eq!(kind(put), Err(ErrorKind::Transient));
}
