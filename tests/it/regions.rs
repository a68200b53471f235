//! A bucket that is in another region than one asks, behind Amazon's own host names, which a proxy of the
//! tests' own plays: a mount goes there by itself, or says in one line what to give.

use std::fs::{self, File};
use std::io::Write;

use wholefs::embedded::{Astray, Dialect, Options, Region};
use wholefs::store::s3::{Keys, Options as S3Options, S3Store};
use wholefs::store::{Limits, Store as _};

use crate::script::{Reply, Script};
use crate::support::forward::Forward;
use crate::support::mount::{Place, mount_command};
use crate::support::tools::{kill, run_within};
use crate::support::{Authority, Content, MIB, Mount, PART, Store, Writer, eventually, seconds};

const ASTRAY: [Astray; 3] = [Astray::Moved, Astray::Redirected, Astray::Malformed];

fn host(region: &str) -> String {
    format!("s3.{region}.amazonaws.com")
}

/// A bucket in Ireland, and the way to all of Amazon's hosts.
fn in_ireland(astray: Astray) -> (Store, Forward) {
    let authority = Authority::new();
    let hosts = ["us-east-1", "us-west-2", "eu-west-1"].map(host);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let options = Options {
        tls: Some(authority.certify(&hosts)),
        dialect: Dialect {
            region: Some(Region {
                name: "eu-west-1".into(),
                astray,
            }),
            ..Dialect::default()
        },
        ..Options::default()
    };
    let mut store = Store::started(options, Some(authority));
    let proxy = Forward::to(&store.endpoint);
    // Nothing but the bucket's name is given.
    store.endpoint = String::new();
    (store.region, store.provider) = ("", "");
    (store, proxy)
}

#[test]
fn a_mount_follows_its_bucket_to_the_region_it_is_in() {
    for astray in ASTRAY {
        let (store, proxy) = in_ireland(astray);
        let place = Place::default();
        let environment = [
            ("HTTPS_PROXY", proxy.url.clone()),
            ("HOME", "/nonexistent".into()),
        ];
        let source = format!("s3://{}", store.bucket);
        let options = ["--path-style", "--part-size", "5M"];
        let mut mount = Mount::started(&place, "mnt", &store, &source, &options, &environment);
        let content = Content::new(5, 12 * MIB);
        content.save(&mount.path("file"));
        content.assert_file(&mount.path("file"));
        let hosts = proxy.tunnels();
        let (first, rest) = hosts.split_first().expect("it has asked");
        assert_eq!(*first, host("us-east-1"), "{astray:?}");
        assert!(
            rest.iter().all(|its| *its == host("eu-west-1")),
            "{hosts:?}"
        );
        // So does who ends what it leaves.
        let mut writer = Writer::start();
        writer
            .open(&mount.path("cut off"), "wct")
            .write(1, 3 * PART);
        let uploads = || store.server().uploads(&store.bucket);
        eventually(seconds(20), "a part", || {
            uploads().iter().any(|up| up.parts > 0)
        });
        kill(mount.daemon(), libc::SIGKILL);
        mount.wait_for_death();
        assert!(uploads().is_empty(), "{astray:?}: {:?}", uploads());
        drop((writer, mount));
        let held = store
            .server()
            .object(&store.bucket, "file")
            .expect("published");
        assert_eq!(content.compare(&held[..]), Ok(()));
        assert!(store.server().object(&store.bucket, "cut off").is_none());
    }
}

/// Mounts with these flags, is refused with one line, and answers that.
#[track_caller]
fn refused(store: &Store, proxy: Option<&Forward>, flags: &[&str]) -> String {
    let place = Place::default();
    let at = place.path("mnt");
    fs::create_dir(&at).expect("made");
    let mut command = mount_command(store);
    command.env("HOME", "/nonexistent").args(flags);
    command.envs(proxy.map(|proxy| ("HTTPS_PROXY", &proxy.url)));
    command.arg("--state-dir").arg(place.state());
    let done = run_within(command.arg("s3://demo").arg(&at), seconds(30));
    assert_eq!(done.status.code(), Some(1), "{}", done.err);
    assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
    done.err
}

#[test]
fn who_names_another_region_is_told_the_right_one() {
    for astray in ASTRAY {
        let (store, proxy) = in_ireland(astray);
        let told = refused(
            &store,
            Some(&proxy),
            &["--path-style", "--region", "us-west-2"],
        );
        let line = "bucket \"demo\" is in region \"eu-west-1\", not in \"us-west-2\": give --region eu-west-1\n";
        assert!(told.ends_with(line), "{astray:?}: {told}");
        // An endpoint in another region is another matter: the right one is named with it.
        let elsewhere = format!("https://{}", host("us-west-2"));
        let flags = [
            "--path-style",
            "--region",
            "us-west-2",
            "--endpoint-url",
            &elsewhere,
        ];
        let told = refused(&store, Some(&proxy), &flags);
        let both = "give --region eu-west-1 --endpoint-url https://s3.eu-west-1.amazonaws.com\n";
        let region = "give --region eu-west-1\n";
        let expected = match astray {
            // It names no endpoint.
            Astray::Malformed => region,
            Astray::Moved | Astray::Redirected => both,
        };
        assert!(told.ends_with(expected), "{astray:?}: {told}");
    }
}

#[test]
fn an_endpoint_that_sends_away_whoever_comes_is_told_with_the_one_to_ask() {
    let elsewhere = |status, region: &'static str, endpoint: &str| {
        let region = ("x-amz-bucket-region", region.to_string());
        let endpoint = format!("<Endpoint>{endpoint}</Endpoint>");
        let text =
            format!("<Error><Code>PermanentRedirect</Code><Message>no</Message>{endpoint}</Error>");
        Reply::Answer(status, vec![region], text.into_bytes())
    };
    // It goes on when it is signed for the region it names.
    for status in [301, 307] {
        let script = Script::start(move |_, _| {
            elsewhere(status, "eu-west-1", "demo.s3.eu-west-1.amazonaws.com")
        });
        let mut store = Store::embedded();
        (store.endpoint, store.region, store.provider) = (script.url.clone(), "", "aws");
        let told = refused(&store, None, &["--path-style"]);
        let expected = "give --endpoint-url https://s3.eu-west-1.amazonaws.com)";
        assert!(told.contains(expected), "{status}: {told}");
        assert_eq!(script.asked().len(), 2, "{status}");
    }
    // What is no host's name is not repeated.
    let script = Script::start(move |_, _| elsewhere(301, "eu-west-1", "evil host; rm -r"));
    let mut store = Store::embedded();
    (store.endpoint, store.region, store.provider) = (script.url.clone(), "eu-west-1", "aws");
    let told = refused(&store, None, &["--path-style"]);
    assert!(
        told.contains("is elsewhere") && !told.contains("evil"),
        "{told}"
    );
}

#[tokio::test]
async fn a_request_that_is_sent_to_another_region_says_how_to_mount_it() {
    let script = Script::start(|n, _| match n {
        0 => Reply::xml(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        ),
        n => {
            let region = ("x-amz-bucket-region", "eu-west-1".to_string());
            let status = [301, 307, 400][n % 3];
            Reply::Answer(status, vec![region], vec![])
        }
    });
    let options = S3Options {
        bucket: "demo".into(),
        endpoint_url: Some(script.url.clone()),
        provider: Some("embedded".into()),
        keys: Some(Keys {
            access_key_id: "any".into(),
            secret_access_key: "any".into(),
            session_token: None,
        }),
        limits: Limits {
            attempts: 1,
            ..Limits::default()
        },
        ..S3Options::default()
    };
    let store = S3Store::connect(options).await.expect("connected");
    for _ in 0..3 {
        let error = store
            .head("file")
            .await
            .expect_err("it is elsewhere")
            .to_string();
        let told = "the bucket is in the region eu-west-1: mount it with --region eu-west-1";
        assert!(error.contains(told), "{error}");
    }
}

/// The bucket goes to another region under a live mount, as one does that is deleted and made anew there.
#[test]
fn a_bucket_that_goes_elsewhere_under_a_mount_is_an_error_that_says_so() {
    for answer in [
        "301/PermanentRedirect",
        "307/TemporaryRedirect",
        "400/AuthorizationHeaderMalformed",
    ] {
        let store = Store::embedded();
        let old = Content::new(1, 3 * MIB);
        let mount = Mount::with(
            &store,
            &[
                "--part-size",
                "5M",
                "--attempts",
                "2",
                "--metadata-ttl",
                "0s",
            ],
        );
        old.save(&mount.path("file"));
        for operation in [
            "GetObject",
            "HeadObject",
            "UploadPart",
            "CompleteMultipartUpload",
        ] {
            let fault = store
                .faults()
                .script(&format!("op={operation}:error={answer}"));
            let fault = fault.expect("a fault");
            let done = match operation {
                "GetObject" | "HeadObject" => fs::read(mount.path("file")).map(drop),
                _ => File::create(mount.path("file")).and_then(|mut file| {
                    file.write_all(&Content::new(2, 12 * MIB).bytes())?;
                    file.sync_all()
                }),
            };
            let errno = done.expect_err("it is elsewhere").raw_os_error();
            let denied = answer.starts_with("400");
            let expected = if denied { libc::EACCES } else { libc::EIO };
            // HEAD's answer has no code, and 400 alone is no denial.
            let by_status = operation == "HeadObject" && errno == Some(libc::EIO);
            assert!(
                errno == Some(expected) || by_status,
                "{operation} {answer}: {errno:?}"
            );
            store.faults().remove(fault);
        }
        store.assert_no_uploads_within(30, answer);
        store.assert_holds("file", &old);
        old.assert_file(&mount.path("file"));
        let said = mount.stderr();
        let code = answer.split('/').nth(1).expect("a code");
        assert!(said.contains(code), "{answer}: {said}");
        assert!(mount.terminate().success());
    }
}
