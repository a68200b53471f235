//! Keys that nobody typed in: the machine's role, a container's, a web identity's, single sign-on, a profile's role. Each
//! gives keys that end, and gives others under a running mount.

use std::fs;

use crate::support::key_service::{Answers, Asked, KeyService, Keys};
use crate::support::mount::Place;
use crate::support::tools::sh_ok;
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

const SIZE: u64 = 12 * MIB;

/// Far away from any test.
const LATER: &str = "2099-01-01T00:00:00Z";

fn keys(id: &str, expires: &str) -> Keys {
    Keys {
        id: id.to_owned(),
        expires: expires.to_owned(),
    }
}

/// What a mount finds in its environment, its home at this place, for a service at this address.
type Environment = fn(&Place, &str) -> Vec<(&'static str, String)>;

/// A mount that has its keys from such a service, and no others.
fn a_mount_has_its_keys_from(answers: Answers, environment: Environment) {
    let (store, place) = (Store::embedded(), Place::default());
    let accept = |ids: &[&str]| {
        let secrets: Vec<String> = ids.iter().map(|id| format!("secret-{id}")).collect();
        let theirs = ids.iter().copied().zip(secrets.iter().map(String::as_str));
        let ours = [(store.access_key.as_str(), store.secret_key.as_str())];
        store
            .server()
            .accept_keys(&theirs.chain(ours).collect::<Vec<_>>());
    };
    accept(&["one", "two"]);
    let service = KeyService::start(keys("one", &in_seconds(20)), answers);
    let home = place.path("home");
    fs::create_dir_all(home.join(".aws")).expect("made");
    let mut all = vec![
        ("HOME", home.display().to_string()),
        // Empty ones are none.
        ("AWS_ACCESS_KEY_ID", String::new()),
        ("AWS_SECRET_ACCESS_KEY", String::new()),
    ];
    all.extend(environment(&place, &service.endpoint));
    let source = format!("s3://{}", store.bucket);
    let options = ["--part-size", "5M", "--metadata-ttl", "0s"];
    let mount = Mount::started(&place, "mnt", &store, &source, &options, &all);
    let at_first = service.asked();
    assert!(!at_first.is_empty());
    fs::write(mount.path("before"), "x").expect("written");
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, SIZE);
    store.await_parts("file", 2);
    // They are asked for again before they end.
    service.gives(keys("two", LATER));
    eventually(seconds(60), "the service is asked again", || {
        fs::write(mount.path("before"), "y").expect("written");
        service.asked().len() > at_first.len()
    });
    accept(&["two"]);
    writer.write(1, SIZE).step("close");
    store.assert_holds("file", &Content::new(1, 2 * SIZE));
    // Those are withdrawn as well, sooner than was said.
    service.gives(keys("three", LATER));
    accept(&["three"]);
    fs::write(mount.path("after"), "x").expect("written");
    Content::new(1, 2 * SIZE).assert_file(&mount.path("file"));
    assert_eq!(store.keys(), ["after", "before", "file"]);
    assert!(!mount.stderr().contains("WARN"), "{}", mount.stderr());
    writer.exit(0);
}

fn in_seconds(seconds: u32) -> String {
    let script = format!("date -u +%Y-%m-%dT%H:%M:%SZ -d '+{seconds} seconds'");
    sh_ok(&script, &[]).trim().to_owned()
}

fn in_json(keys: &Keys) -> String {
    let Keys { id, expires } = keys;
    format!(
        "{{\"Code\": \"Success\", \"Type\": \"AWS-HMAC\", \"LastUpdated\": \"2026-01-01T00:00:00Z\", \"AccessKeyId\": \"{id}\", \
         \"SecretAccessKey\": \"secret-{id}\", \"Token\": \"token-{id}\", \"Expiration\": \"{expires}\"}}"
    )
}

/// STS' answer to this action.
fn in_xml(action: &str, keys: &Keys) -> String {
    let Keys { id, expires } = keys;
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>secret-{id}</SecretAccessKey>\
         <SessionToken>token-{id}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>\
         </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
}

#[test]
fn the_machines_role() {
    let answers = |asked: &Asked, keys: &Keys| {
        let token = "the-session-of-this-machine";
        let is_known = asked
            .headers
            .contains(&format!("x-aws-ec2-metadata-token: {token}"));
        let role = "/latest/meta-data/iam/security-credentials/";
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") => Some(token.to_owned()),
            ("GET", path) if is_known && path == role => Some("role".to_owned()),
            ("GET", path) if is_known && path == format!("{role}role") => Some(in_json(keys)),
            _ => None,
        }
    };
    a_mount_has_its_keys_from(Box::new(answers), |_, endpoint| {
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.to_owned())]
    });
}

#[test]
fn a_containers_role() {
    let answers = |asked: &Asked, keys: &Keys| {
        let is_known = asked.headers.contains("authorization: the-pods-token");
        (asked.path == "/v1/credentials" && is_known).then(|| in_json(keys))
    };
    a_mount_has_its_keys_from(Box::new(answers), |place, endpoint| {
        let token = place.path("token");
        fs::write(&token, "the-pods-token").expect("written");
        vec![
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("{endpoint}/v1/credentials"),
            ),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                token.display().to_string(),
            ),
        ]
    });
}

#[test]
fn a_web_identity() {
    let answers = |asked: &Asked, keys: &Keys| {
        let action = "AssumeRoleWithWebIdentity";
        let is_known = asked.body.contains(&format!("Action={action}&"))
            && asked.body.contains("WebIdentityToken=the-identity");
        is_known.then(|| in_xml(action, keys))
    };
    a_mount_has_its_keys_from(Box::new(answers), |place, endpoint| {
        let token = place.path("token");
        fs::write(&token, "the-identity").expect("written");
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
            (
                "AWS_ROLE_ARN",
                "arn:aws:iam::123456789012:role/backup".to_owned(),
            ),
            ("AWS_ENDPOINT_URL_STS", endpoint.to_owned()),
        ]
    });
}

#[test]
fn a_profiles_role() {
    let answers = |asked: &Asked, keys: &Keys| {
        let is_known = asked.body.contains("Action=AssumeRole&")
            && asked.headers.contains("Credential=the-source/");
        is_known.then(|| in_xml("AssumeRole", keys))
    };
    a_mount_has_its_keys_from(Box::new(answers), |place, endpoint| {
        let home = place.path("home/.aws");
        let config = "[profile backup]\nrole_arn = arn:aws:iam::123456789012:role/backup\nsource_profile = first\n\
                      [profile first]\naws_access_key_id = the-source\naws_secret_access_key = its-secret\n";
        fs::write(home.join("config"), config).expect("written");
        vec![
            ("AWS_PROFILE", "backup".to_owned()),
            ("AWS_ENDPOINT_URL_STS", endpoint.to_owned()),
        ]
    });
}

#[test]
fn single_sign_on() {
    let answers = |asked: &Asked, keys: &Keys| {
        let is_known = asked.headers.contains("x-amz-sso_bearer_token: signed-on")
            && asked.path.contains("account_id=123456789012");
        let Keys { id, expires } = keys;
        let moment = sh_ok(&format!("date -u +%s000 -d {expires}"), &[]);
        (asked.path.starts_with("/federation/credentials?") && is_known).then(|| {
            format!(
                "{{\"roleCredentials\": {{\"accessKeyId\": \"{id}\", \"secretAccessKey\": \"secret-{id}\", \
                 \"sessionToken\": \"token-{id}\", \"expiration\": {}}}}}",
                moment.trim()
            )
        })
    };
    a_mount_has_its_keys_from(Box::new(answers), |place, endpoint| {
        let home = place.path("home/.aws");
        let config = "[profile staff]\nsso_session = us\nsso_account_id = 123456789012\nsso_role_name = backup\n\
                      [sso-session us]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start\n";
        fs::write(home.join("config"), config).expect("written");
        fs::create_dir_all(home.join("sso/cache")).expect("made");
        // What `aws sso login` leaves: a file of the session's name, hashed.
        let cached = sh_ok("printf us | sha1sum | cut -d' ' -f1", &[]);
        let token = format!(
            "{{\"accessToken\": \"signed-on\", \"expiresAt\": \"{LATER}\", \"region\": \"us-east-1\", \
             \"startUrl\": \"https://x.awsapps.com/start\"}}"
        );
        let file = home.join(format!("sso/cache/{}.json", cached.trim()));
        fs::write(file, token).expect("written");
        vec![
            ("AWS_PROFILE", "staff".to_owned()),
            ("AWS_ENDPOINT_URL_SSO", endpoint.to_owned()),
        ]
    });
}
