//! Connecting to scripted bytes: what a mount fails with, whose store an answer gives away, and how it is spoken
//! to then.

use std::time::{Duration, Instant};

use wholefs::store::s3::{ConnectError, Options, S3Store};
use wholefs::store::{Attributes, Precondition, Store};

use crate::script::{Asked, Reply, Script};
use crate::store_wire::{EMPTY_LISTING, SECRET, body, options, put_ok};

/// The one line a mount fails with.
async fn refusal(options: Options) -> (ConnectError, String) {
    let began = Instant::now();
    let error = S3Store::connect(options).await.err().expect("refused");
    assert!(began.elapsed() < Duration::from_secs(15));
    let line = error.to_string();
    println!("{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(!line.contains(SECRET), "{line}");
    (error, line)
}

async fn refused_with(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (ConnectError, String) {
    let script = Script::start(move |_, _| reply());
    refusal(options(&script.url)).await
}

#[tokio::test]
async fn mounting_says_what_is_wrong() {
    let (e, line) = refused_with(|| Reply::error(404, "NoSuchBucket")).await;
    assert!(matches!(e, ConnectError::NoSuchBucket { .. }), "{line}");
    for (code, word) in [
        ("AccessDenied", "s3:ListBucket"),
        ("InvalidAccessKeyId", "access key id"),
        ("SignatureDoesNotMatch", "secret"),
        ("ExpiredToken", "renew"),
        ("RequestTimeTooSkewed", "clock"),
    ] {
        let (e, line) = refused_with(|| Reply::error(403, code)).await;
        assert!(matches!(e, ConnectError::Denied { .. }), "{line}");
        assert!(line.contains(word), "{line}");
    }
    let html = || Reply::Answer(200, vec![], b"<!doctype html><p>Welcome".to_vec());
    let (e, line) = refused_with(html).await;
    assert!(matches!(e, ConnectError::NotS3 { .. }), "{line}");
    let html = || Reply::Answer(404, vec![], b"<!doctype html><p>Nothing here".to_vec());
    let (e, line) = refused_with(html).await;
    assert!(matches!(e, ConnectError::NotS3 { .. }), "{line}");
    let (e, line) = refused_with(|| Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())).await;
    assert!(matches!(e, ConnectError::NotS3 { .. }), "{line}");
}

#[tokio::test]
async fn mounting_over_tls_from_a_plain_port_says_so() {
    let script = Script::start(|_, _| Reply::xml(200, EMPTY_LISTING));
    let (e, line) = refusal(options(&script.url.replace("http:", "https:"))).await;
    assert!(matches!(e, ConnectError::NotS3 { .. }), "{line}");
    assert!(line.contains("http://"), "{line}");
}

#[tokio::test]
async fn mounting_from_nowhere_says_so() {
    let began = Instant::now();
    let (e, line) = refusal(options("http://127.0.0.1:1")).await;
    assert!(matches!(e, ConnectError::Unreachable { .. }), "{line}");
    assert!(line.contains("connection refused"), "{line}");
    assert!(began.elapsed() < Duration::from_secs(2));
    let (e, line) = refusal(options("http://no-such-host.invalid")).await;
    assert!(matches!(e, ConnectError::Unreachable { .. }), "{line}");
    let (e, line) = refused_with(|| Reply::Hang(vec![])).await;
    assert!(matches!(e, ConnectError::Unreachable { .. }), "{line}");
}

#[tokio::test]
async fn wrong_options_are_told_at_once() {
    for wrong in [
        Options {
            bucket: String::new(),
            ..options("http://127.0.0.1:1")
        },
        Options {
            bucket: "a/b".into(),
            ..options("http://127.0.0.1:1")
        },
        Options {
            provider: Some("mino".into()),
            ..options("http://127.0.0.1:1")
        },
        options("127.0.0.1:9000"),
        options("http://"),
    ] {
        let (e, line) = refusal(wrong).await;
        assert!(matches!(e, ConnectError::Options(_)), "{line}");
    }
}

#[tokio::test]
async fn the_region_the_store_names_is_used_or_told() {
    let answer = |_: usize, asked: &Asked| {
        if asked
            .header("authorization")
            .is_some_and(|a| a.contains("/eu-far-1/s3/"))
        {
            return Reply::xml(200, EMPTY_LISTING);
        }
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message><Region>eu-far-1</Region></Error>";
        Reply::xml(400, body)
    };
    let script = Script::start(answer);
    let (e, line) = refusal(options(&script.url)).await;
    assert!(matches!(e, ConnectError::WrongRegion { .. }), "{line}");
    assert!(line.contains("eu-far-1"), "{line}");
    let options = Options {
        region: None,
        ..options(&script.url)
    };
    S3Store::connect(options)
        .await
        .expect("connected in the region named");
    let redirect = || {
        let region = ("x-amz-bucket-region", "eu-far-1".to_string());
        Reply::Answer(
            301,
            vec![region],
            b"<Error><Code>PermanentRedirect</Code></Error>".to_vec(),
        )
    };
    let (e, line) = refused_with(redirect).await;
    assert!(matches!(e, ConnectError::WrongRegion { .. }), "{line}");
}

#[tokio::test]
async fn mounting_with_a_profile_nobody_wrote_says_so() {
    let wrong = Options {
        keys: None,
        profile: Some("wholefs-no-such-profile".into()),
        ..options("http://127.0.0.1:1")
    };
    let (e, line) = refusal(wrong).await;
    assert!(matches!(e, ConnectError::NoCredentials { .. }), "{line}");
}

/// Run by the test below, in a process of its own with an environment of its own.
#[tokio::test]
#[ignore = "needs the environment the next test gives it"]
async fn child_without_credentials() {
    let options = Options {
        keys: None,
        ..options("http://127.0.0.1:1")
    };
    let (e, line) = refusal(options).await;
    assert!(matches!(e, ConnectError::NoCredentials { .. }), "{line}");
}

#[test]
fn mounting_without_credentials_does_not_wait_for_a_metadata_service() {
    let began = Instant::now();
    let test = "store_connect::child_without_credentials";
    let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", "/nonexistent")
        // An address for documentation: packets to it vanish.
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://192.0.2.1")
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
}

/// Connects without saying whose store it is.
async fn found_out(
    answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
) -> (Result<S3Store, ConnectError>, Vec<Asked>) {
    let script = Script::start(answer);
    let options = Options {
        provider: None,
        ..options(&script.url)
    };
    (S3Store::connect(options).await, script.asked())
}

fn named(status: u16, header: (&'static str, &str), body: &str) -> Reply {
    let kind = ("Content-Type", "application/xml".to_string());
    let header = (header.0, header.1.to_string());
    Reply::Answer(status, vec![kind, header], body.as_bytes().to_vec())
}

#[tokio::test]
async fn an_answer_tells_whose_store_it_is() {
    for (header, name) in [
        (("Server", "MinIO"), "minio"),
        (("Server", "Ceph Object Gateway (squid)"), "ceph"),
        (("X-Openstack-Request-Id", "tx1"), "swift"),
        (("Server", "AmazonS3"), "generic"),
    ] {
        let (store, _) = found_out(move |_, _| named(200, header, EMPTY_LISTING)).await;
        let store = store.expect("connected");
        assert_eq!(store.capabilities().name, name);
        // The answer does not tell of which release it is.
        assert!(!store.capabilities().conditional_writes);
        let why = store.chosen().why.to_string();
        let told = format!("by its answers: {}: {}", header.0.to_lowercase(), header.1);
        assert_eq!(why == told, name != "generic", "{why}");
    }
}

#[tokio::test]
async fn a_store_that_refuses_the_question_and_gives_itself_away_is_asked_in_its_own_way() {
    let (store, asked) = found_out(|_, asked| match asked.target.contains("list-type=2") {
        true => named(
            501,
            ("Server", "tencent-cos"),
            "<Error><Code>NotImplemented</Code></Error>",
        ),
        false => named(200, ("Server", "tencent-cos"), EMPTY_LISTING),
    })
    .await;
    let store = store.expect("connected");
    assert_eq!(store.capabilities().name, "cos");
    assert!(!store.capabilities().list_v2);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn cos_is_signed_for_and_named_in_its_own_way_and_nothing_of_the_sdks_is_left() {
    let script = Script::start(|n, _| match n {
        0 => Reply::xml(200, EMPTY_LISTING),
        1 => put_ok(),
        _ => {
            let etag = ("ETag", "\"e1\"".to_string());
            let length = ("Content-Length", "0".to_string());
            let said = ("x-cos-meta-a", "1".to_string());
            Reply::Answer(200, vec![etag, length, said], vec![])
        }
    });
    let options = Options {
        auth: wholefs::store::s3::Auth::Cos,
        provider: Some("cos".into()),
        force_path_style: Some(true),
        ..options(&script.url)
    };
    let store = S3Store::connect(options).await.expect("connected");
    let mut attributes = Attributes::default();
    attributes.metadata.insert("a".into(), "1".into());
    let put = store.put("k \u{fc}", body(), &attributes, &Precondition::None);
    put.await.expect("put");
    let head = store.head("k").await.expect("there");
    let said = head.attributes.expect("a HEAD tells").metadata;
    assert_eq!(said.get("a").map(String::as_str), Some("1"));
    for asked in script.asked() {
        let signature = asked.header("authorization").expect("signed");
        assert!(
            signature.starts_with("q-sign-algorithm=sha1&q-ak=AKIDEXAMPLE&"),
            "{signature}"
        );
        for gone in ["x-amz-date", "x-amz-content-sha256", "x-amz-meta-a"] {
            assert_eq!(asked.header(gone), None);
        }
        assert!(!signature.contains(SECRET));
    }
    assert_eq!(script.asked()[1].header("x-cos-meta-a"), Some("1"));
    let listed = &script.asked()[0];
    let signature = listed.header("authorization").expect("signed");
    assert!(
        signature.contains("q-url-param-list=encoding-type;max-keys"),
        "{signature}"
    );
}
