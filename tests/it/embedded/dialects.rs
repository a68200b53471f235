//! Each switch of the dialect, seen from outside. What Amazon S3 does is tested in `operations`.

use super::operations::raw;
use super::*;
use aws_sdk_s3::presigning::PresigningConfig;
use wholefs::embedded::{CompleteRepeated, ConditionalWrites, Fault};

async fn speaking(dialect: Dialect) -> (Server, Client) {
    let server = server(Options {
        dialect,
        ..Options::default()
    })
    .await;
    let client = client(&server);
    (server, client)
}

#[tokio::test]
async fn a_repeated_complete() {
    for repeated in [CompleteRepeated::Succeeds, CompleteRepeated::NoSuchUpload] {
        let (server, client) = speaking(Dialect {
            complete_repeated: repeated,
            ..Dialect::default()
        })
        .await;
        let id = create(&client, "k").await;
        let parts = [part(&client, "k", &id, 1, b"x").await];
        let first = complete(&client, "k", &id, &parts).send().await.unwrap();
        let again = complete(&client, "k", &id, &parts).send().await;
        match repeated {
            CompleteRepeated::Succeeds => assert_eq!(again.unwrap().e_tag(), first.e_tag()),
            CompleteRepeated::NoSuchUpload => assert_eq!(code(again), "NoSuchUpload"),
        }
        assert_eq!(server.object(BUCKET, "k").unwrap(), b"x");
    }
}

#[tokio::test]
async fn conditions_are_silently_ignored() {
    let dialect = Dialect {
        conditional_writes: ConditionalWrites::Ignored,
        ..Dialect::default()
    };
    let (server, client) = speaking(dialect).await;
    for bytes in [b"1", b"2"] {
        let request = client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(bytes.to_vec().into());
        request.if_none_match("*").send().await.unwrap();
    }
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"2");
    let id = create(&client, "k").await;
    let parts = [part(&client, "k", &id, 1, b"3").await];
    complete(&client, "k", &id, &parts)
        .if_match("\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"3");
}

#[tokio::test]
async fn uploads_are_listed_for_exact_keys_only() {
    let (server, client) = speaking(Dialect {
        list_uploads_exact_key_only: true,
        ..Dialect::default()
    })
    .await;
    server.create_upload(BUCKET, "dir/k");
    for (prefix, count) in [("", 0), ("dir/", 0), ("dir/k", 1), ("dir/k2", 0)] {
        let listed = client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .prefix(prefix)
            .send()
            .await
            .unwrap();
        assert_eq!(listed.uploads().len(), count, "{prefix:?}");
    }
}

#[tokio::test]
async fn the_second_version_of_listing_is_unknown() {
    let (server, client) = speaking(Dialect {
        list_v1_only: true,
        ..Dialect::default()
    })
    .await;
    server.put_object(BUCKET, "k", "x");
    let refused = client.list_objects_v2().bucket(BUCKET).send().await;
    assert_eq!(status(refused), 501);
    let listed = client.list_objects().bucket(BUCKET).send().await.unwrap();
    assert_eq!(listed.contents().len(), 1);
}

#[tokio::test]
async fn parts_must_be_equal() {
    let dialect = Dialect {
        equal_parts: true,
        part_min: 0,
        ..Dialect::default()
    };
    let (_server, client) = speaking(dialect).await;
    for (sizes, fits) in [
        ([2, 2, 1], true),
        ([2, 2, 2], true),
        ([2, 1, 2], false),
        ([2, 2, 3], false),
    ] {
        let id = create(&client, "k").await;
        let mut parts = Vec::new();
        for (number, size) in (1..).zip(sizes) {
            parts.push(part(&client, "k", &id, number, &vec![b'x'; size]).await);
        }
        let done = complete(&client, "k", &id, &parts).send().await;
        if fits {
            done.unwrap();
        } else {
            assert_eq!(code(done), "InvalidPart", "{sizes:?}");
        }
    }
}

#[tokio::test]
async fn the_smallest_part_is_settable() {
    let (_server, client) = speaking(Dialect {
        part_min: 3,
        ..Dialect::default()
    })
    .await;
    for (first, fits) in [(&b"abc"[..], true), (b"ab", false)] {
        let id = create(&client, "k").await;
        let parts = [
            part(&client, "k", &id, 1, first).await,
            part(&client, "k", &id, 2, b"z").await,
        ];
        let done = complete(&client, "k", &id, &parts).send().await;
        if fits {
            done.unwrap();
        } else {
            assert_eq!(code(done), "EntityTooSmall");
        }
    }
}

#[tokio::test]
async fn a_part_in_flight_lands_after_the_abort() {
    for lands in [true, false] {
        let dialect = Dialect {
            parts_land_after_abort: lands,
            ..Dialect::default()
        };
        let (server, client) = speaking(dialect).await;
        let id = create(&client, "k").await;
        part(&client, "k", &id, 1, b"before").await;
        let hold = server
            .faults()
            .add("op=UploadPart:hold-before".parse::<Fault>().unwrap());
        let flying = client
            .upload_part()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
            .part_number(2);
        let flying = tokio::spawn(flying.body(b"in flight".to_vec().into()).send());
        soon(server.log().until(|log| log.count("UploadPart") == 2)).await;
        let abort = || {
            client
                .abort_multipart_upload()
                .bucket(BUCKET)
                .key("k")
                .upload_id(&id)
                .send()
        };
        abort().await.unwrap();
        assert!(server.uploads(BUCKET).is_empty());
        server.faults().remove(hold);
        let landed = soon(flying).await.unwrap();
        if lands {
            landed.unwrap();
            let listed = client
                .list_parts()
                .bucket(BUCKET)
                .key("k")
                .upload_id(&id)
                .send()
                .await
                .unwrap();
            let numbers: Vec<_> = listed
                .parts()
                .iter()
                .map(|part| part.part_number().unwrap())
                .collect();
            assert_eq!(numbers, [2]);
            abort().await.unwrap();
        } else {
            assert_eq!(code(landed), "NoSuchUpload");
        }
        assert!(server.uploads(BUCKET).is_empty());
        // What is sent after the abort does not land.
        let late = client
            .upload_part()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
            .part_number(3);
        assert_eq!(
            code(late.body(b"late".to_vec().into()).send().await),
            "NoSuchUpload"
        );
        assert!(server.uploads(BUCKET).is_empty());
    }
}

/// Signed for a virtual host by the SDK, sent by hand: names under `localhost` need not resolve.
async fn get_by_host(server: &Server, path_style: bool) -> String {
    let credentials =
        aws_sdk_s3::config::Credentials::new("wholefs", "wholefs-secret", None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://s3.test:{}", server.address().port()))
        .credentials_provider(credentials)
        .force_path_style(path_style)
        .build();
    let for_a_minute = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let request = Client::from_conf(config)
        .get_object()
        .bucket(BUCKET)
        .key("dir/k");
    let signed = request.presigned(for_a_minute).await.unwrap();
    let (host, path) = signed
        .uri()
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    assert_eq!(host.starts_with("demo."), !path_style);
    raw(
        server,
        &format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn the_bucket_may_or_must_be_in_the_host() {
    for must in [false, true] {
        let dialect = Dialect {
            virtual_host_only: must,
            ..Dialect::default()
        };
        let base_domain = Some("s3.test".to_owned());
        let server = server(Options {
            dialect,
            base_domain,
            ..Options::default()
        })
        .await;
        server.put_object(BUCKET, "dir/k", "the content");
        let answer = get_by_host(&server, false).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("the content"),
            "{answer}"
        );
        let answer = get_by_host(&server, true).await;
        let expected = if must { "HTTP/1.1 403" } else { "HTTP/1.1 200" };
        assert!(answer.starts_with(expected), "{answer}");
        let by_address = client(&server).head_bucket().bucket(BUCKET).send().await;
        assert_eq!(by_address.is_err(), must);
        let record = &server.log().of("GetObject")[0];
        assert_eq!(
            (record.bucket.as_str(), record.key.as_str()),
            (BUCKET, "dir/k")
        );
    }
}
