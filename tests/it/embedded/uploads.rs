//! Multipart uploads, and the errors that are theirs.

use super::operations::{HELLO, HELLO_ETAG, crc, hello_crc};
use super::*;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};

#[tokio::test]
async fn a_multipart_upload_from_beginning_to_end() {
    let (server, client) = small_parts().await;
    let request = client.create_multipart_upload().bucket(BUCKET).key("k");
    let request = request.metadata("token", "t").content_type("text/plain");
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    let made = request
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .unwrap();
    let id = made.upload_id().unwrap();
    part(&client, "k", id, 2, b"replaced later").await;
    let parts = [
        part(&client, "k", id, 1, b"hello,").await,
        part(&client, "k", id, 2, b" world").await,
    ];
    let held = &server.uploads(BUCKET)[0];
    assert_eq!((held.key.as_str(), held.parts, held.bytes), ("k", 2, 12));
    assert_eq!(held.initiator, "wholefs");

    let listed = client
        .list_parts()
        .bucket(BUCKET)
        .key("k")
        .upload_id(id)
        .max_parts(1)
        .send()
        .await
        .unwrap();
    assert!(listed.is_truncated().unwrap());
    assert_eq!(listed.parts()[0].e_tag(), parts[0].e_tag());
    assert_eq!(
        listed.parts()[0].checksum_crc64_nvme(),
        Some(crc(b"hello,").as_str())
    );
    let marker = listed.next_part_number_marker().unwrap();
    let listed = client
        .list_parts()
        .bucket(BUCKET)
        .key("k")
        .upload_id(id)
        .part_number_marker(marker);
    let listed = listed.send().await.unwrap();
    assert!(!listed.is_truncated().unwrap());
    assert_eq!(
        (listed.parts()[0].part_number(), listed.parts()[0].size()),
        (Some(2), Some(6))
    );

    let wrong = complete(&client, "k", id, &parts).checksum_crc64_nvme(crc(b"other"));
    assert_eq!(code(wrong.send().await), "BadDigest");
    assert_eq!(
        code(
            complete(&client, "k", id, &parts)
                .mpu_object_size(13)
                .send()
                .await
        ),
        "InvalidRequest"
    );
    let right = complete(&client, "k", id, &parts)
        .checksum_crc64_nvme(hello_crc())
        .mpu_object_size(12);
    let done = right
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .unwrap();
    assert_eq!(done.checksum_crc64_nvme(), Some(hello_crc().as_str()));
    assert!(done.e_tag().unwrap().ends_with("-2\""));
    assert_eq!(get(&client, "k").await, HELLO);
    assert_eq!(server.objects(BUCKET)[0].metadata["token"], "t");
    assert!(server.uploads(BUCKET).is_empty());
}

#[tokio::test]
async fn what_multipart_refuses() {
    let server = server(Options::default()).await;
    let client = client(&server);
    let id = create(&client, "k").await;
    let small = [
        part(&client, "k", &id, 1, b"a").await,
        part(&client, "k", &id, 2, b"b").await,
    ];
    assert_eq!(
        code(complete(&client, "k", &id, &small).send().await),
        "EntityTooSmall"
    );
    let swapped = [small[1].clone(), small[0].clone()];
    assert_eq!(
        code(complete(&client, "k", &id, &swapped).send().await),
        "InvalidPartOrder"
    );
    let tag = CompletedPart::builder()
        .part_number(1)
        .e_tag("\"0\"")
        .build();
    assert_eq!(
        code(complete(&client, "k", &id, &[tag]).send().await),
        "InvalidPart"
    );
    assert_eq!(
        code(complete(&client, "k", "nothing", &small).send().await),
        "NoSuchUpload"
    );
    let upload = || {
        client
            .upload_part()
            .bucket(BUCKET)
            .key("k")
            .body(HELLO.to_vec().into())
    };
    assert_eq!(
        code(upload().upload_id("nothing").part_number(1).send().await),
        "NoSuchUpload"
    );
    assert_eq!(
        code(upload().upload_id(&id).part_number(10_001).send().await),
        "InvalidArgument"
    );
    let wrong = upload()
        .upload_id(&id)
        .part_number(3)
        .checksum_crc64_nvme(crc(b"other"));
    assert_eq!(code(wrong.send().await), "BadDigest");
    assert_eq!(server.uploads(BUCKET)[0].parts, 2);

    let abort = || {
        client
            .abort_multipart_upload()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
            .send()
    };
    abort().await.unwrap();
    assert_eq!(code(abort().await), "NoSuchUpload");
    let list = client
        .list_parts()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&id)
        .send()
        .await;
    assert_eq!(code(list), "NoSuchUpload");
    assert!(server.uploads(BUCKET).is_empty() && server.objects(BUCKET).is_empty());
}

#[tokio::test]
async fn a_large_part_of_no_upload_gets_its_answer() {
    let (_server, client) = small_parts().await;
    let body = ByteStream::from(vec![7; 24 << 20]);
    let request = client
        .upload_part()
        .bucket(BUCKET)
        .key("k")
        .upload_id("nothing")
        .part_number(1);
    assert_eq!(code(request.body(body).send().await), "NoSuchUpload");
}

#[tokio::test]
async fn parts_are_copied_from_ranges_of_objects() {
    let (server, client) = small_parts().await;
    put(&client, "from", HELLO).await;
    let id = create(&client, "k").await;
    let copy = |number: i32, range: &str| {
        let request = client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id);
        request
            .part_number(number)
            .copy_source("demo/from")
            .copy_source_range(range)
    };
    let copied = copy(1, "bytes=7-11")
        .copy_source_if_match(HELLO_ETAG)
        .send()
        .await
        .unwrap();
    let tag = copied.copy_part_result().unwrap().e_tag().unwrap();
    let first = CompletedPart::builder().part_number(1).e_tag(tag).build();
    assert_eq!(code(copy(2, "bytes=7-12").send().await), "InvalidRange");
    assert_eq!(code(copy(2, "bytes=7-").send().await), "InvalidArgument");
    let refused = copy(2, "bytes=0-1")
        .copy_source_if_match("\"other\"")
        .send()
        .await;
    assert_eq!(code(refused), "PreconditionFailed");
    let parts = [first, part(&client, "k", &id, 2, b"!").await];
    // The copy does not depend on what becomes of its source.
    server.delete_object(BUCKET, "from");
    complete(&client, "k", &id, &parts).send().await.unwrap();
    assert_eq!(get(&client, "k").await, b"world!");
}

#[tokio::test]
async fn uploads_are_listed_in_pages() {
    let (server, client) = small_parts().await;
    let mut expected = Vec::new();
    for key in ["a", "d/1", "d/1", "d/2", "e"] {
        expected.push((key.to_owned(), server.create_upload(BUCKET, key)));
    }
    for size in 1..=6 {
        let (mut key, mut id, mut seen) = (None, None, Vec::new());
        loop {
            let page = client
                .list_multipart_uploads()
                .bucket(BUCKET)
                .max_uploads(size);
            let page = page
                .set_key_marker(key)
                .set_upload_id_marker(id)
                .send()
                .await
                .unwrap();
            assert!(page.uploads().len() <= size as usize);
            for upload in page.uploads() {
                seen.push((
                    upload.key().unwrap().to_owned(),
                    upload.upload_id().unwrap().to_owned(),
                ));
                assert_eq!(upload.initiator().unwrap().id(), Some("foreign"));
                assert!(upload.initiated().is_some());
            }
            if !page.is_truncated().unwrap() {
                break;
            }
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
        }
        assert_eq!(seen, expected, "by {size}");
    }
    let rolled = client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .delimiter("/")
        .send()
        .await
        .unwrap();
    assert_eq!(rolled.common_prefixes()[0].prefix(), Some("d/"));
    assert_eq!(
        (rolled.uploads().len(), rolled.common_prefixes().len()),
        (2, 1)
    );
    let prefix = client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .prefix("d/1")
        .send()
        .await
        .unwrap();
    assert_eq!(prefix.uploads().len(), 2);
    let behind = client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .key_marker("d/1")
        .send()
        .await
        .unwrap();
    assert_eq!(behind.uploads()[0].key(), Some("d/2"));
}
