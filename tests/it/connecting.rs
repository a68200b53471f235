//! The way to the store: through proxies, and to each of Amazon's endpoints, which a proxy of the tests' own
//! plays.

use wholefs::embedded::Options;

use crate::support::forward::Forward;
use crate::support::mount::{Place, mount_command, program};
use crate::support::tools::{run, run_within};
use crate::support::{Authority, Content, MIB, Mount, Store, seconds};

/// By a name that nobody but the proxy knows.
const NAME: &str = "s3.test";

fn mounted_through(store: &Store, variable: &str, proxy: &str) -> Mount {
    let environment = [(variable, proxy.to_string())];
    let source = format!("s3://{}", store.bucket);
    Mount::started(&Place::default(), "mnt", store, &source, &[], &environment)
}

#[track_caller]
fn a_file_goes_there_and_back(mount: &Mount, store: &Store) {
    let content = Content::new(5, 6 * MIB);
    content.save(&mount.path("file"));
    let held = store
        .server()
        .object(&store.bucket, "file")
        .expect("published");
    content.compare(&held[..]).expect("whole");
    content.assert_file(&mount.path("file"));
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let mut store = Store::over_tls(Options::default());
        let proxy = Forward::to(&store.endpoint);
        store.endpoint = format!("https://{NAME}");
        let mount = mounted_through(&store, variable, &proxy.url);
        a_file_goes_there_and_back(&mount, &store);
        let tunnels = proxy.tunnels();
        assert!(
            !tunnels.is_empty() && tunnels.iter().all(|host| host == NAME),
            "{tunnels:?}"
        );
    }
}

#[test]
fn http_goes_to_the_proxy_in_absolute_form() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let mut store = Store::started(Options::default(), None);
        let proxy = Forward::to(&store.endpoint);
        store.endpoint = format!("http://{NAME}:9000");
        let mount = mounted_through(&store, variable, &proxy.url.replace("//", "//me:s3cret@"));
        a_file_goes_there_and_back(&mount, &store);
        let heads = proxy.heads();
        assert!(!heads.is_empty());
        for head in heads {
            let line = head.lines().next().unwrap_or_default();
            let absolute = line.split(' ').nth(1).unwrap_or_default();
            assert!(absolute.starts_with("http://s3.test:9000/"), "{line}");
            let authorized = head.to_ascii_lowercase();
            assert!(authorized.contains("proxy-authorization: basic "), "{head}");
        }
    }
}

#[test]
fn hosts_of_no_proxy_are_met_directly() {
    let store = Store::embedded();
    let proxy = Forward::to_nowhere();
    let environment = [
        ("ALL_PROXY", proxy.url.clone()),
        ("NO_PROXY", "example.org,127.0.0.0/8".to_string()),
    ];
    let source = format!("s3://{}", store.bucket);
    let mount = Mount::started(&Place::default(), "mnt", &store, &source, &[], &environment);
    a_file_goes_there_and_back(&mount, &store);
    assert_eq!(proxy.heads(), [""; 0]);
}

#[test]
fn a_proxy_in_the_way_is_named_without_its_password() {
    let store = Store::over_tls(Options::default());
    let nowhere = Forward::to_nowhere().url;
    let refusing = Forward::to_nowhere();
    for (proxy, word) in [
        (refusing.url.replace("//", "//me:s3cret@"), "NO_PROXY"),
        (nowhere.replace("//", "//me:s3cret@"), "refused"),
        (
            "socks5://me:s3cret@127.0.0.1:1".to_string(),
            "HTTPS_PROXY names the proxy",
        ),
    ] {
        let place = Place::default();
        let at = place.path("mnt");
        std::fs::create_dir(&at).expect("made");
        let mut command = mount_command(&store);
        command
            .env("HTTPS_PROXY", &proxy)
            .arg("--state-dir")
            .arg(place.state());
        let done = run_within(command.arg("s3://demo").arg(&at), seconds(30));
        assert_eq!(done.status.code(), Some(1), "{}", done.err);
        assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
        let shown = proxy.replace("me:s3cret@", "");
        let named = done.err.contains(&shown) && done.err.contains(word);
        assert!(named && !done.err.contains("s3cret"), "{}", done.err);
    }
}

/// One of Amazon's hosts: flags, what is named, and the host that is to be asked.
type Row<'a> = (&'a [&'a str], &'a str, &'a str);

const POINT: &str = "arn:aws:s3:eu-west-1:123456789012:accesspoint/logs";
const OUTPOST: &str =
    "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01234567890123456/accesspoint/logs";
const ALIAS: &str = "logs-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias";

const AMAZON: [Row<'_>; 13] = [
    (&[], "bucket", "bucket.s3.eu-west-1.amazonaws.com"),
    (
        &["--dual-stack"],
        "bucket",
        "bucket.s3.dualstack.eu-west-1.amazonaws.com",
    ),
    (
        &["--fips"],
        "bucket",
        "bucket.s3-fips.eu-west-1.amazonaws.com",
    ),
    (
        &["--fips", "--dual-stack"],
        "bucket",
        "bucket.s3-fips.dualstack.eu-west-1.amazonaws.com",
    ),
    (
        &["--accelerate"],
        "bucket",
        "bucket.s3-accelerate.amazonaws.com",
    ),
    (
        &["--accelerate", "--dual-stack"],
        "bucket",
        "bucket.s3-accelerate.dualstack.amazonaws.com",
    ),
    (
        &[],
        ALIAS,
        "logs-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias.s3.eu-west-1.amazonaws.com",
    ),
    (
        &[],
        POINT,
        "logs-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
    ),
    (
        &["--dual-stack"],
        POINT,
        "logs-123456789012.s3-accesspoint.dualstack.eu-west-1.amazonaws.com",
    ),
    (
        &["--fips"],
        POINT,
        "logs-123456789012.s3-accesspoint-fips.eu-west-1.amazonaws.com",
    ),
    (
        &[],
        OUTPOST,
        "logs-123456789012.op-01234567890123456.s3-outposts.eu-west-1.amazonaws.com",
    ),
    (
        &[],
        "logs--euw1-az1--x-s3",
        "logs--euw1-az1--x-s3.s3express-euw1-az1.eu-west-1.amazonaws.com",
    ),
    (
        &["--dual-stack"],
        "logs--euw1-az1--x-s3",
        "logs--euw1-az1--x-s3.s3express-euw1-az1.dualstack.eu-west-1.amazonaws.com",
    ),
];

#[test]
fn each_of_amazons_endpoints_is_asked_by_its_name() {
    for (flags, named, host) in AMAZON {
        let (bucket, domain) = host.split_once('.').expect("a bucket in a domain");
        let authority = Authority::new();
        let options = Options {
            tls: Some(authority.certify(&[host])),
            buckets: vec![bucket.to_string()],
            base_domain: Some(domain.to_string()),
            ..Options::default()
        };
        let store = Store::started(options, Some(authority));
        let begun = store.server().create_upload(bucket, "2026/somebodys");
        let proxy = Forward::to(&store.endpoint);
        let mut command = program(&store);
        command
            .env("HTTPS_PROXY", &proxy.url)
            .env("HOME", "/nonexistent");
        command
            .env_remove("AWS_ENDPOINT_URL")
            .env_remove("AWS_ENDPOINT_URL_S3");
        command
            .args(["uploads", &format!("s3://{named}/2026")])
            .args(flags);
        let place = Place::default();
        command.arg("--state-dir").arg(place.state());
        let done = run(command.args(["--region", "eu-west-1", "--attempts", "1"]));
        let tunnels = proxy.tunnels();
        assert!(!tunnels.is_empty(), "{flags:?} {named}: {}", done.err);
        assert!(
            tunnels.iter().all(|tunnel| tunnel == host),
            "{flags:?} {named}: {tunnels:?}"
        );
        // Sessions of directory buckets, and the signature of Outposts, are not played here.
        if !host.contains("s3express") && !host.contains("s3-outposts") {
            assert!(done.ok(), "{flags:?} {named}: {}", done.err);
            assert!(done.out.contains(&begun), "{flags:?} {named}: {}", done.out);
        }
    }
}

#[test]
fn amazons_endpoints_are_refused_where_another_is_named() {
    let store = Store::embedded();
    for flag in ["--dual-stack", "--fips", "--accelerate"] {
        let mut command = program(&store);
        command.args([
            "uploads",
            "s3://demo",
            "--endpoint-url",
            &store.endpoint,
            flag,
        ]);
        let done = run(&mut command);
        assert_eq!(done.status.code(), Some(1), "{}", done.err);
        assert!(done.err.contains(flag), "{}", done.err);
        assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
    }
}
