//! Many keys deleted by few requests: what is asked, what is believed of the answer, and what is done where a
//! store does not know the call.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use wholefs::embedded::{self, Dialect, Server};
use wholefs::store::s3::{Auth, CaBundle, Keys, Options, S3Store};
use wholefs::store::{Attributes, Body, Error, ErrorKind, Limits, Precondition, Store};

use crate::embedded::operations::raw;
use crate::script::{Asked, Reply, Script};
use crate::support::{self, on_both_stores};

const PREFIX: &str = "mounted/";

fn options(endpoint: &str, bucket: &str, provider: &str) -> Options {
    let theirs = embedded::Options::default();
    Options {
        bucket: bucket.into(),
        prefix: PREFIX.into(),
        endpoint_url: Some(endpoint.into()),
        provider: Some(provider.into()),
        keys: Some(Keys {
            access_key_id: theirs.access_key,
            secret_access_key: theirs.secret_key,
            session_token: None,
        }),
        limits: Limits {
            request_timeout: Duration::from_secs(5),
            attempts: 3,
        },
        ..Options::default()
    }
}

/// A server with a log that begins now, and a store on it.
async fn connected(dialect: Dialect, change: impl FnOnce(&mut Options)) -> (Server, S3Store) {
    let theirs = embedded::Options {
        dialect,
        ..embedded::Options::default()
    };
    let server = Server::start(theirs).await.expect("a server");
    let mut options = options(&server.endpoint(), "demo", "embedded");
    change(&mut options);
    let store = S3Store::connect(options).await.expect("connected");
    server.log().reset();
    (server, store)
}

fn put(server: &Server, keys: &[String]) {
    for key in keys {
        server.put_object("demo", &format!("{PREFIX}{key}"), "x");
    }
    server.put_object("demo", "outside", "x");
}

/// The keys left in the bucket.
fn left(server: &Server) -> Vec<String> {
    let objects = server.objects("demo").into_iter();
    objects.map(|object| object.key).collect()
}

fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("dir/{n} &<\u{fc}>'\"+%"))
        .collect()
}

fn kinds(done: Vec<Result<(), Error>>) -> Vec<Result<(), ErrorKind>> {
    let kinds = done.into_iter().map(|one| one.map_err(|error| error.kind));
    kinds.collect()
}

#[tokio::test]
async fn thousands_of_keys_are_a_few_requests() {
    let (server, store) = connected(Dialect::default(), |_| {}).await;
    let mut keys = many(2500);
    put(&server, &keys);
    keys.push("never was".into());
    assert_eq!(kinds(store.delete_many(&keys).await), vec![Ok(()); 2501]);
    assert_eq!(left(&server), ["outside"]);
    assert_eq!(server.log().count("DeleteObjects"), 3);
    assert_eq!(server.log().total(), 3);
    assert!(store.delete_many(&[]).await.is_empty());
    assert_eq!(server.log().total(), 3);
}

#[tokio::test]
async fn keys_that_xml_might_change_are_deleted_alone() {
    let (server, store) = connected(Dialect::default(), |_| {}).await;
    // Trimmed, each of the first would be one of the second.
    let odd = ["a ", "b\n", "c\r", "d\u{1}"].map(String::from);
    let plain = ["a", "b", "c", "d"].map(String::from);
    put(&server, &[odd.clone(), plain.clone()].concat());
    let keys = [
        odd.clone(),
        ["e".into(), "f".into(), "g".into(), "h".into()],
    ]
    .concat();
    assert_eq!(kinds(store.delete_many(&keys).await), vec![Ok(()); 8]);
    let full = plain.map(|key| format!("{PREFIX}{key}"));
    assert_eq!(left(&server), [&full[..], &["outside".into()]].concat());
    assert_eq!(server.log().count("DeleteObjects"), 1);
    assert_eq!(server.log().count("DeleteObject"), 4);
}

#[tokio::test]
async fn a_store_without_the_call_deletes_one_by_one() {
    let forbid = |options: &mut Options| {
        let name = "multi_delete";
        let value = wholefs::store::Value::Flag(false);
        options
            .overrides
            .push(wholefs::store::Override { name, value });
    };
    let (server, store) = connected(Dialect::default(), forbid).await;
    put(&server, &many(100));
    assert_eq!(
        kinds(store.delete_many(&many(100)).await),
        vec![Ok(()); 100]
    );
    assert_eq!(left(&server), ["outside"]);
    assert_eq!(server.log().count("DeleteObjects"), 0);
    assert_eq!(server.log().count("DeleteObject"), 100);
    for refusal in [
        "501/NotImplemented",
        "405/MethodNotAllowed",
        "404/NoSuchKey",
    ] {
        let (server, store) = connected(Dialect::default(), |_| {}).await;
        put(&server, &many(100));
        let fault = format!("op=DeleteObjects:error={refusal}");
        server.faults().script(&fault).expect("a fault");
        assert_eq!(
            kinds(store.delete_many(&many(100)).await),
            vec![Ok(()); 100]
        );
        assert_eq!(left(&server), ["outside"]);
        assert_eq!(server.log().count("DeleteObjects"), 1, "{refusal}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_not_asked_for_each_key() {
    let (server, store) = connected(Dialect::default(), |_| {}).await;
    let fault = "op=DeleteObjects:error=404/NoSuchBucket";
    server.faults().script(fault).expect("a fault");
    let done = kinds(store.delete_many(&many(10)).await);
    assert_eq!(done, vec![Err(ErrorKind::Missing); 10]);
    assert_eq!(server.log().total(), 1);
}

#[tokio::test]
async fn it_is_repeated_as_a_delete_is() {
    for fault in ["error=500", "throttle", "drop-before", "drop-after"] {
        let (server, store) = connected(Dialect::default(), |_| {}).await;
        put(&server, &many(10));
        let fault = format!("op=DeleteObjects,n=1..2:{fault}");
        server.faults().script(&fault).expect("a fault");
        assert_eq!(kinds(store.delete_many(&many(10)).await), vec![Ok(()); 10]);
        assert_eq!(left(&server), ["outside"]);
        assert_eq!(server.log().count("DeleteObjects"), 3, "{fault}");
        assert_eq!(server.log().count("DeleteObject"), 0, "{fault}");
    }
    let (server, store) = connected(Dialect::default(), |_| {}).await;
    let fault = "op=DeleteObjects:error=503/SlowDown";
    server.faults().script(fault).expect("a fault");
    let keys = many(3);
    let done = store.delete_many(&keys).await;
    let named = done.iter().map(|one| one.as_ref().expect_err("refused"));
    assert_eq!(
        named.clone().map(|e| &e.key).collect::<Vec<_>>(),
        keys.iter().collect::<Vec<_>>()
    );
    assert!(
        named
            .into_iter()
            .all(|error| error.kind == ErrorKind::Throttled)
    );
    assert_eq!(server.log().total(), 3);
}

/// A store whose requests are answered by `answer`, which does not see the check.
async fn scripted(
    answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
) -> (S3Store, Arc<Script>) {
    let script = Script::start(move |n, asked| match n {
        0 => Reply::xml(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        ),
        n => answer(n - 1, asked),
    });
    let options = options(&script.url, "bucket", "embedded");
    let store = S3Store::connect(options).await.expect("connected");
    (store, Arc::new(script))
}

fn deleted(keys: &[&str]) -> String {
    let one = |key: &&str| format!("<Deleted><Key>{PREFIX}{key}</Key></Deleted>");
    keys.iter().map(one).collect()
}

fn refused(key: &str, code: &str) -> String {
    format!("<Error><Key>{PREFIX}{key}</Key><Code>{code}</Code><Message>no</Message></Error>")
}

fn result(text: &str) -> Reply {
    let xml = format!("<?xml version=\"1.0\"?><DeleteResult>{text}</DeleteResult>");
    Reply::xml(200, &xml)
}

fn words(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}

#[tokio::test]
async fn each_key_has_an_answer_of_its_own() {
    let (store, script) = scripted(|n, _| match n {
        0 => {
            let some = [
                refused("slow", "SlowDown"),
                deleted(&["gone"]),
                refused("mine", "AccessDenied"),
                refused("broken", "InternalError"),
                refused("never-was", "NoSuchKey"),
                refused("odd", "Unheard-of"),
            ];
            result(&some.concat())
        }
        1 => result(&[refused("slow", "SlowDown"), deleted(&["broken"])].concat()),
        _ => result(&deleted(&["slow"])),
    })
    .await;
    let keys = words(&["gone", "slow", "mine", "broken", "never-was", "odd"]);
    let done = store.delete_many(&keys).await;
    let mine = done[2].clone().expect_err("refused");
    assert_eq!(
        (mine.key.as_str(), mine.code.as_str()),
        ("mine", "AccessDenied")
    );
    let (denied, odd) = (Err(ErrorKind::Denied), Err(ErrorKind::Invalid));
    assert_eq!(kinds(done), [Ok(()), Ok(()), denied, Ok(()), Ok(()), odd]);
    let asked = script.asked().split_off(1);
    // What has been answered is not asked again.
    let named = |asked: &Asked| {
        String::from_utf8_lossy(&asked.body)
            .matches("<Key>")
            .count()
    };
    assert_eq!(asked.iter().map(named).collect::<Vec<_>>(), [6, 2, 1]);
}

#[tokio::test]
async fn a_key_the_answer_does_not_name_is_deleted_alone() {
    let (store, script) = scripted(|_, asked| match asked.method.as_str() {
        "POST" => result(&deleted(&["a", "stranger"])),
        _ => Reply::Answer(204, vec![], vec![]),
    })
    .await;
    let done = kinds(store.delete_many(&words(&["a", "b", "c"])).await);
    assert_eq!(done, [Ok(()), Ok(()), Ok(())]);
    let asked = script.asked().split_off(1);
    let mut alone: Vec<&str> = asked
        .iter()
        .filter(|asked| asked.method == "DELETE")
        .map(|asked| asked.target.split('?').next().unwrap_or_default())
        .collect();
    alone.sort_unstable();
    assert_eq!(alone, ["/bucket/mounted/b", "/bucket/mounted/c"]);
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn md5_vouches_for_the_keys_and_no_other_checksum() {
    let (store, script) = scripted(|_, _| result(&deleted(&["a&amp;b", "c"]))).await;
    let done = kinds(store.delete_many(&words(&["a&b", "c"])).await);
    assert_eq!(done, [Ok(()), Ok(())]);
    let asked = &script.asked()[1];
    assert_eq!(asked.target.split('&').next(), Some("/bucket/?delete"));
    let md5 = BASE64.encode(Md5::digest(&asked.body));
    assert_eq!(asked.header("content-md5"), Some(md5.as_str()));
    for gone in [
        "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
    ] {
        assert_eq!(asked.header(gone), None, "{gone}");
    }
    let body = String::from_utf8_lossy(&asked.body);
    assert!(body.contains("<Key>mounted/a&amp;b</Key>"), "{body}");
    let signed = asked.header("authorization").expect("signed");
    assert!(signed.contains("content-md5;"), "{signed}");
}

#[tokio::test]
async fn stores_that_demand_md5_have_it_in_either_signature() {
    for name in ["ncloud", "cos"] {
        let dialect = Dialect {
            virtual_host_only: false,
            ..Dialect::named(name).expect("a dialect")
        };
        assert!(dialect.multi_delete_md5);
        for auth in [Auth::SigV4, Auth::Cos] {
            if (name, auth) == ("ncloud", Auth::Cos) {
                continue;
            }
            let as_it_is = |options: &mut Options| {
                options.provider = Some(name.into());
                options.force_path_style = Some(true);
                options.auth = auth;
            };
            let (server, store) = connected(dialect.clone(), as_it_is).await;
            put(&server, &many(20));
            assert_eq!(kinds(store.delete_many(&many(20)).await), vec![Ok(()); 20]);
            assert_eq!(left(&server), ["outside"], "{name} {auth:?}");
            assert_eq!(server.log().count("DeleteObject"), 0);
        }
    }
}

#[tokio::test]
async fn the_embedded_bucket_wants_the_keys_vouched_for() {
    for (demands, header, refusal) in [
        (true, "x-a: b", "<Code>InvalidRequest</Code>"),
        (
            true,
            "x-amz-checksum-crc32: AAAAAA==",
            "<Code>InvalidRequest</Code>",
        ),
        (false, "x-a: b", "<Code>InvalidRequest</Code>"),
        (true, "content-md5: nonsense", "<Code>InvalidDigest</Code>"),
        (
            false,
            "content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==",
            "<Code>BadDigest</Code>",
        ),
    ] {
        let dialect = Dialect {
            multi_delete_md5: demands,
            signatures: wholefs::embedded::Signatures::Unchecked,
            ..Dialect::default()
        };
        let (server, _) = connected(dialect, |_| {}).await;
        put(&server, &many(1));
        let body = "<Delete><Object><Key>outside</Key></Object></Delete>";
        let length = body.len();
        let request = format!(
            "POST /demo?delete HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{header}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = raw(&server, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains(refusal),
            "{answer}"
        );
        assert_eq!(left(&server).len(), 2);
    }
}

/// As `rm -r` of a directory, on stores that are not ours.
fn many_keys_are_deleted_in_few_requests(store: &support::Store) {
    let keys: Vec<String> = many(25);
    for key in &keys {
        store.put(&format!("{PREFIX}{key}"), "x");
    }
    store.put("outside", "x");
    let mut options = options(&store.endpoint, &store.bucket, store.provider);
    options.region = Some(store.region.into());
    options.keys = Some(Keys {
        access_key_id: store.access_key.clone(),
        secret_access_key: store.secret_key.clone(),
        session_token: None,
    });
    if let Some(authority) = &store.authority {
        options.ca_bundle = Some(CaBundle::read(&authority.file()).expect("a bundle"));
    }
    options.limits.request_timeout = Duration::from_secs(30);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let connected = S3Store::connect(options).await.expect("connected");
        let all = [&keys[..], &["never was".into()]].concat();
        assert_eq!(kinds(connected.delete_many(&all).await), vec![Ok(()); 26]);
        let asked = connected.tally().operations();
        assert_eq!(asked.get("DeleteObjects").map(|op| op.attempts), Some(1));
        assert!(!asked.contains_key("DeleteObject"), "{asked:?}");
        let none = Attributes::default();
        let put = connected.put("one", Body::default(), &none, &Precondition::None);
        put.await.expect("it goes on");
        assert_eq!(
            kinds(connected.delete_many(&["one".into()]).await),
            [Ok(())]
        );
    });
    assert_eq!(store.keys(), ["outside"]);
}

on_both_stores!(many_keys_are_deleted_in_few_requests);

#[test]
fn many_keys_are_deleted_in_few_requests_on_moto() {
    if let Some(store) = support::Store::moto() {
        many_keys_are_deleted_in_few_requests(&store);
    }
}
