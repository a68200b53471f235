//! Memory, a directory, nothing at all; and that a server ends when it is ended.

use super::*;
use std::path::Path;
use wholefs::embedded::Keep;

async fn kept_in(directory: &Path) -> (Server, Client) {
    let dialect = Dialect {
        part_min: 0,
        ..Dialect::default()
    };
    let keep = Keep::Directory(directory.to_owned());
    let server = server(Options {
        keep,
        dialect,
        ..Options::default()
    })
    .await;
    let client = client(&server);
    (server, client)
}

fn files_of_data(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("data")).unwrap().count()
}

#[tokio::test]
async fn a_directory_outlives_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let long = format!("dir/{}/ü", "k".repeat(1000));
    let large: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let (server, client) = kept_in(directory.path()).await;
    put(&client, &long, b"content").await;
    put(&client, "large", &large).await;
    put(&client, "empty", b"").await;
    put(&client, "gone", b"deleted").await;
    client
        .delete_object()
        .bucket(BUCKET)
        .key("gone")
        .send()
        .await
        .unwrap();
    client
        .create_bucket()
        .bucket("second")
        .send()
        .await
        .unwrap();
    let copy = client
        .copy_object()
        .bucket("second")
        .key("copy")
        .copy_source("demo/large");
    copy.send().await.unwrap();
    let id = create(&client, "up").await;
    let first = part(&client, "up", &id, 1, b"first ").await;
    let done = create(&client, "done").await;
    let parts = [part(&client, "done", &done, 1, b"whole").await];
    let etag = complete(&client, "done", &done, &parts)
        .send()
        .await
        .unwrap()
        .e_tag;
    let (objects, uploads) = (server.objects(BUCKET), server.uploads(BUCKET));
    server.stop().await;

    let (server, client) = kept_in(directory.path()).await;
    assert_eq!(server.objects(BUCKET), objects);
    assert_eq!(server.uploads(BUCKET), uploads);
    assert_eq!(get(&client, &long).await, b"content");
    assert_eq!(get(&client, "large").await, large);
    assert_eq!(get(&client, "empty").await, b"");
    assert_eq!(server.object("second", "copy").unwrap(), large);
    // An upload begun before goes on; one completed before is known as that.
    let parts_of_up = [first, part(&client, "up", &id, 2, b"second").await];
    complete(&client, "up", &id, &parts_of_up)
        .send()
        .await
        .unwrap();
    assert_eq!(get(&client, "up").await, b"first second");
    let again = complete(&client, "done", &done, &parts)
        .send()
        .await
        .unwrap();
    assert_eq!(again.e_tag, etag);
    // Ids go on growing.
    assert!(create(&client, "k").await > id);
}

#[tokio::test]
async fn a_directory_holds_no_bytes_nobody_refers_to() {
    let directory = tempfile::tempdir().unwrap();
    let (server, client) = kept_in(directory.path()).await;
    put(&client, "k", b"first").await;
    put(&client, "k", b"second").await;
    assert_eq!(files_of_data(directory.path()), 1);
    let copy = client
        .copy_object()
        .bucket(BUCKET)
        .key("copy")
        .copy_source("demo/k");
    copy.send().await.unwrap();
    client
        .delete_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(get(&client, "copy").await, b"second");
    client
        .delete_object()
        .bucket(BUCKET)
        .key("copy")
        .send()
        .await
        .unwrap();
    assert_eq!(files_of_data(directory.path()), 0);

    let id = create(&client, "up").await;
    for bytes in [b"1", b"2"] {
        part(&client, "up", &id, 1, bytes).await;
    }
    assert_eq!(files_of_data(directory.path()), 1);
    let refused = client
        .upload_part()
        .bucket(BUCKET)
        .key("up")
        .upload_id(&id)
        .part_number(2);
    let refused = refused
        .body(b"x".to_vec().into())
        .checksum_crc64_nvme("AAAAAAAAAAA=");
    assert_eq!(code(refused.send().await), "BadDigest");
    assert_eq!(files_of_data(directory.path()), 1);
    client
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("up")
        .upload_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(files_of_data(directory.path()), 0);
    server.stop().await;
}

#[tokio::test]
async fn null_mode_keeps_sizes_and_serves_zeros() {
    let dialect = Dialect {
        part_min: 0,
        ..Dialect::default()
    };
    let server = server(Options {
        keep: Keep::Null,
        dialect,
        ..Options::default()
    })
    .await;
    let client = client(&server);
    let request = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(vec![7; 3_000_000].into());
    let first = request
        .checksum_crc64_nvme("AAAAAAAAAAA=")
        .send()
        .await
        .unwrap();
    // The claim is believed: nothing is computed.
    assert_eq!(first.checksum_crc64_nvme(), Some("AAAAAAAAAAA="));
    let again = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(vec![7; 3_000_000].into());
    let again = again.send().await.unwrap();
    assert_ne!(first.e_tag(), again.e_tag(), "ETags are unique");
    assert_eq!(get(&client, "k").await, vec![0; 3_000_000]);

    let id = create(&client, "up").await;
    let mut parts = vec![part(&client, "up", &id, 1, &[1; 1000]).await];
    let copy = client
        .upload_part_copy()
        .bucket(BUCKET)
        .key("up")
        .upload_id(&id)
        .part_number(2);
    let copy = copy
        .copy_source("demo/k")
        .copy_source_range("bytes=0-499")
        .send()
        .await
        .unwrap();
    let tag = copy.copy_part_result().unwrap().e_tag().unwrap();
    parts.push(CompletedPart::builder().part_number(2).e_tag(tag).build());
    complete(&client, "up", &id, &parts)
        .mpu_object_size(1500)
        .send()
        .await
        .unwrap();
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("up")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(1500));
    assert!(head.e_tag().unwrap().ends_with("-2\""));
    let ranged = client
        .get_object()
        .bucket(BUCKET)
        .key("up")
        .range("bytes=1400-")
        .send()
        .await
        .unwrap();
    assert_eq!(ranged.body.collect().await.unwrap().to_vec(), vec![0; 100]);
}

#[tokio::test]
async fn a_stopped_server_leaves_nothing_running() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for stopped in [true, false] {
        for _ in 0..20 {
            let server = server(Options::default()).await;
            server.faults().script("hang-before").unwrap();
            let mut stream = tokio::net::TcpStream::connect(server.address())
                .await
                .unwrap();
            let request = b"GET /demo/k HTTP/1.1\r\nhost: x\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, request)
                .await
                .unwrap();
            soon(server.log().until(|log| log.total() == 1)).await;
            let address = server.address();
            if stopped {
                server.stop().await;
                assert!(tokio::net::TcpStream::connect(address).await.is_err());
            } else {
                drop(server);
            }
            // The connection is closed, with or without a reset.
            let mut nothing = Vec::new();
            let _ = soon(tokio::io::AsyncReadExt::read_to_end(
                &mut stream,
                &mut nothing,
            ))
            .await;
            assert!(nothing.is_empty());
        }
    }
    soon(async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let first = server(Options::default()).await;
    let taken = Server::start(Options {
        listen: first.address(),
        ..Options::default()
    })
    .await;
    assert_eq!(taken.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    let named = Server::start(Options {
        buckets: vec!["No".into()],
        ..Options::default()
    })
    .await;
    assert!(named.err().unwrap().to_string().contains("No"));
}
