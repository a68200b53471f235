//! Each kind of fault, the log, latency and bandwidth.

use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Instant;
use wholefs::embedded::{FaultId, Outcome};

fn script(server: &Server, text: &str) -> FaultId {
    server
        .faults()
        .script(text)
        .expect("the fault is well formed")
}

fn outcomes(server: &Server, operation: &str) -> Vec<Outcome> {
    server
        .log()
        .of(operation)
        .iter()
        .map(|record| record.outcome)
        .collect()
}

fn put_k(client: &Client) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
    client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(b"content".to_vec().into())
}

#[tokio::test]
async fn errors_come_instead_of_the_request() {
    let (server, client) = small_parts().await;
    let plain = script(&server, "n=1:error=500");
    script(&server, "n=2:error=409/OperationAborted");
    script(&server, "n=3:throttle");
    assert_eq!(code(put_k(&client).send().await), "InternalError");
    let second = put_k(&client).send().await;
    assert_eq!(status(second), 409);
    let third = put_k(&client).send().await;
    assert_eq!(code(third), "SlowDown");
    assert!(server.objects(BUCKET).is_empty());
    put_k(&client).send().await.unwrap();
    assert_eq!(
        (server.faults().fired(plain), server.faults().fired_total()),
        (1, 3)
    );
    let records = server.log().of("PutObject");
    assert_eq!(records[0].fault.as_deref(), Some("n=1:error=500"));
    assert_eq!(records[3].fault, None);
    let statuses: Vec<Outcome> = records.iter().map(|record| record.outcome).collect();
    assert_eq!(statuses, [500, 409, 503, 200].map(Outcome::Answered));
    // A HEAD is answered without a body.
    script(&server, "op=HeadObject:error=503");
    assert_eq!(
        status(client.head_object().bucket(BUCKET).key("k").send().await),
        503
    );
}

#[tokio::test]
async fn connections_are_dropped_before_and_after() {
    let (server, client) = small_parts().await;
    let before = script(&server, "op=PutObject:drop-before");
    assert!(unanswered(put_k(&client).send().await));
    assert!(server.objects(BUCKET).is_empty());
    server.faults().remove(before);
    script(&server, "op=PutObject:drop-after");
    assert!(unanswered(put_k(&client).send().await));
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"content");
    assert_eq!(
        outcomes(&server, "PutObject"),
        [Outcome::Dropped, Outcome::Dropped]
    );
    // Another connection is another story.
    assert_eq!(get(&client, "k").await, b"content");
}

#[tokio::test]
async fn success_with_an_error_inside() {
    let (server, client) = small_parts().await;
    let id = create(&client, "k").await;
    let parts = [part(&client, "k", &id, 1, b"content").await];
    let fault = script(&server, "op=CompleteMultipartUpload:ok-with-error-body");
    let inside = complete(&client, "k", &id, &parts).send().await;
    assert_eq!(code(inside), "InternalError");
    assert!(server.objects(BUCKET).is_empty());
    assert_eq!(server.uploads(BUCKET).len(), 1);
    server.faults().remove(fault);
    script(
        &server,
        "op=CompleteMultipartUpload:applied-error-body=SlowDown",
    );
    let inside = complete(&client, "k", &id, &parts).send().await;
    assert_eq!(code(inside), "SlowDown");
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"content");
    assert_eq!(
        outcomes(&server, "CompleteMultipartUpload"),
        [Outcome::Answered(200); 2]
    );
}

#[tokio::test]
async fn delays_and_trickles_take_their_time() {
    let (server, client) = small_parts().await;
    server.put_object(BUCKET, "k", vec![b'x'; 40]);
    let delay = script(&server, "op=HeadObject:delay=150ms");
    let begun = Instant::now();
    client
        .head_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(150));
    server.faults().remove(delay);
    script(&server, "op=GetObject:trickle=200");
    let begun = Instant::now();
    assert_eq!(get(&client, "k").await.len(), 40);
    // The last tenth is handed over when nine tenths of the time have passed.
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_short_body_breaks_off() {
    let (server, client) = small_parts().await;
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    server.put_object(BUCKET, "k", content.clone());
    script(&server, "op=GetObject,n=1:short-body");
    let mut answer = client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.content_length(), Some(100_000));
    let mut got = Vec::new();
    let ended = loop {
        match soon(answer.body.next()).await {
            Some(Ok(chunk)) => got.extend_from_slice(&chunk),
            Some(Err(_)) => break "broken off",
            None => break "whole",
        }
    };
    assert_eq!(ended, "broken off");
    assert_eq!(got, content[..50_000]);
    assert_eq!(get(&client, "k").await, content);
}

#[tokio::test]
async fn a_hung_request_ends_with_its_connection() {
    for (text, applied) in [
        ("op=PutObject:hang-before", false),
        ("op=PutObject:hang-after", true),
    ] {
        let (server, client) = small_parts().await;
        script(&server, text);
        let hanging = tokio::spawn(put_k(&client).send());
        soon(server.log().until(|log| {
            log.of("PutObject")
                .first()
                .is_some_and(|record| record.outcome == Outcome::Hung)
        }))
        .await;
        assert_eq!(server.objects(BUCKET).len(), usize::from(applied));
        assert!(server.log().of("PutObject")[0].finished.is_none());
        hanging.abort();
        soon(
            server
                .log()
                .until(|log| log.of("PutObject")[0].finished.is_some()),
        )
        .await;
    }
}

#[tokio::test]
async fn held_requests_go_on_when_let_go() {
    let (server, client) = small_parts().await;
    let before = script(&server, "op=PutObject:hold-before");
    let held = tokio::spawn(put_k(&client).send());
    soon(server.log().until(|log| log.count("PutObject") == 1)).await;
    assert!(server.objects(BUCKET).is_empty());
    server.faults().remove(before);
    soon(held).await.unwrap().unwrap();
    server.delete_object(BUCKET, "k");

    script(&server, "op=PutObject:hold-after");
    let held = tokio::spawn(put_k(&client).send());
    soon(server.log().until(|log| {
        log.records()
            .last()
            .is_some_and(|record| record.received > 0 && record.sequence == 2)
    }))
    .await;
    assert_eq!(server.objects(BUCKET).len(), 1);
    assert!(!held.is_finished());
    server.faults().clear();
    soon(held).await.unwrap().unwrap();
}

/// A request the client has sent in full is carried out, even when the client is gone by then.
#[tokio::test]
async fn what_was_sent_is_applied_without_the_client() {
    let (server, client) = small_parts().await;
    let hold = script(&server, "op=PutObject:hold-before");
    let gone = tokio::spawn(put_k(&client).send());
    soon(server.log().until(|log| log.count("PutObject") == 1)).await;
    // Once the body has been read ahead the connection is watched for its end.
    soon(
        server
            .log()
            .until(|log| log.of("PutObject")[0].received > 0),
    )
    .await;
    gone.abort();
    drop(client);
    server.faults().remove(hold);
    soon(
        server
            .log()
            .until(|log| log.of("PutObject")[0].finished.is_some()),
    )
    .await;
    assert_eq!(server.object(BUCKET, "k").unwrap(), b"content");
}

fn victim() -> Child {
    Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("a process to kill")
}

#[tokio::test]
async fn processes_are_killed_before_and_after() {
    for (when, applied) in [("before", false), ("after", true)] {
        for named in [true, false] {
            let (server, client) = small_parts().await;
            let mut child = victim();
            let pid = child.id() as i32;
            let text = if named {
                pid.to_string()
            } else {
                "target".into()
            };
            script(&server, &format!("op=PutObject:kill-{when}={text}"));
            server
                .faults()
                .target()
                .store(pid, std::sync::atomic::Ordering::SeqCst);
            assert!(unanswered(put_k(&client).send().await));
            let ended = child.wait().unwrap();
            assert_eq!(ended.signal(), Some(9));
            assert_eq!(server.objects(BUCKET).len(), usize::from(applied));
        }
    }
}

#[tokio::test]
async fn the_log_tells_what_happened() {
    let (server, client) = small_parts().await;
    put(&client, "k", b"content").await;
    let id = create(&client, "dir/up").await;
    part(&client, "dir/up", &id, 7, b"content").await;
    let ranged = client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .range("bytes=1-3")
        .send()
        .await
        .unwrap();
    ranged.body.collect().await.unwrap();
    let missing = client.get_object().bucket(BUCKET).key("none").send().await;
    assert_eq!(code(missing), "NoSuchKey");
    soon(
        server
            .log()
            .until(|log| log.records().iter().all(|record| record.finished.is_some())),
    )
    .await;
    let records = server.log().records();
    let sequence: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5]);
    let operations: Vec<&str> = records.iter().map(|record| record.operation).collect();
    assert_eq!(
        operations,
        [
            "PutObject",
            "CreateMultipartUpload",
            "UploadPart",
            "GetObject",
            "GetObject"
        ]
    );
    assert!(records[0].received >= 7);
    assert_eq!(
        (records[2].key.as_str(), records[2].part_number),
        ("dir/up", Some(7))
    );
    assert_eq!(records[2].upload_id.as_deref(), Some(id.as_str()));
    assert_eq!(
        (records[3].range.as_deref(), records[3].sent),
        (Some("bytes=1-3"), 3)
    );
    assert_eq!(records[3].outcome, Outcome::Answered(206));
    assert_eq!(records[4].outcome, Outcome::Answered(404));
    assert!(
        records
            .windows(2)
            .all(|pair| pair[0].started <= pair[1].started)
    );
    assert_eq!(
        (server.log().count("GetObject"), server.log().total()),
        (2, 5)
    );
    server.log().reset();
    assert_eq!(
        (
            server.log().count("GetObject"),
            server.log().records().len()
        ),
        (0, 0)
    );
    put(&client, "k", b"content").await;
    assert_eq!(server.log().records()[0].sequence, 1);
}

#[tokio::test]
async fn latency_and_bandwidth() {
    let options = Options {
        latency: Duration::from_millis(100),
        ..Options::default()
    };
    let server = server(options).await;
    let client = client(&server);
    let begun = Instant::now();
    put(&client, "k", &vec![b'x'; 200_000]).await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    server.set_latency(Duration::ZERO);
    server.set_bandwidth(Some(1_000_000));
    for direction in ["up", "down"] {
        let begun = Instant::now();
        match direction {
            "up" => put(&client, "k", &vec![b'x'; 200_000]).await,
            _ => assert_eq!(get(&client, "k").await.len(), 200_000),
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(140), "{direction}: {took:?}");
    }
    server.set_bandwidth(None);
    assert_eq!(get(&client, "k").await.len(), 200_000);
}
