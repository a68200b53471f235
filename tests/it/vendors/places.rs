//! A provider and a region are enough to find a bucket: behind the vendors' own host names, which a proxy of
//! the tests' own plays.

use wholefs::embedded::{Astray, Dialect, Options, Region};

use crate::support::forward::Forward;
use crate::support::mount::Place;
use crate::support::{Authority, Content, MIB, Mount, Store};

struct Case {
    provider: &'static str,
    region: &'static str,
    bucket: &'static str,
    /// Of all requests.
    host: &'static str,
    /// What it is in where buckets are part of the host.
    domain: Option<&'static str>,
    /// As requests have to be signed for it.
    signed: &'static str,
    auth: &'static str,
}

const NCLOUD: Case = Case {
    provider: "ncloud",
    region: "kr",
    bucket: "demo",
    host: "kr.object.ncloudstorage.com",
    domain: None,
    signed: "kr-standard",
    auth: "sigv4",
};

const COS: Case = Case {
    provider: "cos",
    region: "ap-seoul",
    bucket: "demo-1250000000",
    host: "demo-1250000000.cos.ap-seoul.myqcloud.com",
    domain: Some("cos.ap-seoul.myqcloud.com"),
    signed: "ap-seoul",
    auth: "sigv4",
};

fn is_found(case: &Case) {
    let authority = Authority::new();
    // COS's own signature is of no region.
    let region = (case.auth == "sigv4").then(|| Region {
        name: case.signed.into(),
        astray: Astray::Malformed,
    });
    let options = Options {
        tls: Some(authority.certify(&[case.host])),
        buckets: vec![case.bucket.into()],
        base_domain: case.domain.map(str::to_owned),
        dialect: Dialect {
            region,
            ..Dialect::named(case.provider).expect("a dialect")
        },
        ..Options::default()
    };
    let mut store = Store::started(options, Some(authority));
    let proxy = Forward::to(&store.endpoint);
    store.endpoint = String::new();
    (store.region, store.provider) = (case.region, case.provider);
    let place = Place::default();
    let environment = [("HTTPS_PROXY", proxy.url.clone())];
    let source = format!("s3://{}", case.bucket);
    let options = ["--part-size", "5M", "--auth", case.auth];
    let mount = Mount::started(&place, "mnt", &store, &source, &options, &environment);
    let content = Content::new(5, 12 * MIB);
    content.save(&mount.path("file"));
    content.assert_file(&mount.path("file"));
    let held = store.server().object(case.bucket, "file");
    assert_eq!(content.compare(&held.expect("it is there")[..]), Ok(()));
    let hosts = proxy.tunnels();
    assert!(!hosts.is_empty(), "by the proxy");
    assert!(hosts.iter().all(|host| host == case.host), "{hosts:?}");
}

#[test]
fn ncloud_and_a_region_are_enough() {
    is_found(&NCLOUD);
}

#[test]
fn cos_and_a_region_are_enough_in_either_signature() {
    is_found(&COS);
    is_found(&Case { auth: "cos", ..COS });
}
