//! Copies of what is replaced meanwhile, in stores that do not ask whether the source is the version that
//! was named: nothing wrong passes as a success.

use std::fs::{self, File};
use std::time::Duration;

use wholefs::embedded::{self, Dialect, Server};
use wholefs::store::s3::{Keys, Options, S3Store};
use wholefs::store::{Attributes, Body, ETag, Error, ErrorKind, Precondition, Store as _};

use crate::support::mount::{Place, program};
use crate::support::tools::run;
use crate::support::{Content, MIB, Mount, Store};

/// Such a server, and a store that knows it for one or is told that it is none.
async fn careless(provider: &str) -> (Server, S3Store) {
    let theirs = embedded::Options {
        dialect: Dialect {
            copy_conditions_ignored: true,
            part_min: 1,
            ..Dialect::default()
        },
        ..embedded::Options::default()
    };
    let keys = Keys {
        access_key_id: theirs.access_key.clone(),
        secret_access_key: theirs.secret_key.clone(),
        session_token: None,
    };
    let server = Server::start(theirs).await.expect("a server");
    let options = Options {
        bucket: "demo".into(),
        endpoint_url: Some(server.endpoint()),
        provider: Some(provider.into()),
        keys: Some(keys),
        ..Options::default()
    };
    let store = S3Store::connect(options).await.expect("connected");
    (server, store)
}

async fn put(store: &S3Store, key: &str, bytes: &'static [u8]) -> ETag {
    let none = Precondition::None;
    let body = Body::from_bytes(bytes.into());
    let said = Attributes::default();
    store.put(key, body, &said, &none).await.expect("put")
}

fn kind<T>(result: Result<T, Error>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind)
}

/// Does `meanwhile` when the server has the copy and has not begun with it.
async fn held<T>(
    server: &Server,
    operation: &str,
    copy: impl Future<Output = T>,
    meanwhile: impl Future,
) -> T {
    let before = server.log().count(operation);
    let hold = server
        .faults()
        .script(&format!("op={operation}:hold-before"));
    let hold = hold.expect("a fault");
    let (copied, ()) = tokio::join!(copy, async {
        let arrived = server.log().until(|log| log.count(operation) > before);
        let arrived = tokio::time::timeout(Duration::from_secs(30), arrived).await;
        arrived.expect("the copy is on its way");
        meanwhile.await;
        server.faults().remove(hold);
    });
    copied
}

#[tokio::test]
async fn a_source_that_was_replaced_before_is_not_copied() {
    let (server, store) = careless("generic").await;
    let old = put(&store, "from", b"old").await;
    let id = store.create_upload("to", &Attributes::default()).await;
    let id = id.expect("an upload");
    put(&store, "from", b"newer").await;
    let copied = store.copy("to", "from", &old, 3, None).await;
    assert_eq!(kind(copied), Err(ErrorKind::Conflict));
    assert_eq!(server.log().count("CopyObject"), 0);
    assert_eq!(server.object("demo", "to"), None);
    let part = store.copy_part("to", &id, 1, "from", &old, 0..3).await;
    assert_eq!(kind(part.map(drop)), Err(ErrorKind::Conflict));
    store.delete("from").await.expect("deleted");
    let copied = store.copy("to", "from", &old, 3, None).await;
    assert_eq!(kind(copied), Err(ErrorKind::Missing));
    assert_eq!(server.object("demo", "to"), None);
}

#[tokio::test]
async fn a_source_that_is_replaced_while_it_is_copied_is_told() {
    let (server, store) = careless("generic").await;
    let old = put(&store, "from", b"old").await;
    let copy = store.copy("to", "from", &old, 3, None);
    let copied = held(&server, "CopyObject", copy, put(&store, "from", b"newer")).await;
    assert_eq!(kind(copied), Err(ErrorKind::Conflict));

    let old = put(&store, "from", b"old").await;
    let id = store.create_upload("parts", &Attributes::default()).await;
    let id = id.expect("an upload");
    let part = store.copy_part("parts", &id, 1, "from", &old, 0..3);
    let newer = put(&store, "from", b"newer");
    let copied = held(&server, "UploadPartCopy", part, newer).await;
    assert_eq!(kind(copied.map(drop)), Err(ErrorKind::Conflict));

    // Onto itself: by its size.
    let old = put(&store, "itself", b"old").await;
    let said = Attributes {
        content_type: Some("text/plain".into()),
        ..Attributes::default()
    };
    let copy = store.copy("itself", "itself", &old, 3, Some(&said));
    let newer = put(&store, "itself", b"newer");
    let copied = held(&server, "CopyObject", copy, newer).await;
    assert_eq!(kind(copied), Err(ErrorKind::Conflict));
    assert_eq!(server.object("demo", "itself"), Some(b"newer".to_vec()));
}

#[tokio::test]
async fn what_is_not_replaced_is_copied() {
    let (server, store) = careless("generic").await;
    let etag = put(&store, "from", b"whole").await;
    let copied = store.copy("to", "from", &etag, 5, None).await;
    assert_eq!(copied.expect("copied"), etag);
    assert_eq!(server.object("demo", "to"), Some(b"whole".to_vec()));
    assert_eq!(server.log().count("HeadObject"), 2);
    let said = Attributes {
        content_type: Some("text/plain".into()),
        ..Attributes::default()
    };
    let copied = store.copy("to", "to", &etag, 5, Some(&said)).await;
    assert!(copied.is_ok(), "{copied:?}");
    assert_eq!(server.object("demo", "to"), Some(b"whole".to_vec()));
}

/// What the capability is for: where the store is said to ask itself, it is not looked at.
#[tokio::test]
async fn a_store_that_asks_itself_is_believed() {
    let (server, store) = careless("embedded").await;
    let old = put(&store, "from", b"old").await;
    put(&store, "from", b"newer").await;
    let copied = store.copy("to", "from", &old, 3, None).await;
    assert!(copied.is_ok(), "{copied:?}");
    assert_eq!(server.log().count("HeadObject"), 0);
}

fn bucket() -> Store {
    let mut store = Store::embedded_with(embedded::Options {
        dialect: Dialect {
            copy_conditions_ignored: true,
            ..Dialect::default()
        },
        ..embedded::Options::default()
    });
    store.provider = "generic";
    store
}

#[test]
fn a_file_made_of_another_that_is_replaced_is_not_published() {
    let store = bucket();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let content = Content::new(1, 33 * MIB);
    fs::write(mount.path("file"), content.bytes()).expect("written");
    // Most of it is copied from the version before, in parts.
    let file = File::options().write(true).open(mount.path("file"));
    let file = file.expect("open");
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 12 << 20).expect("written");
    let newer = Content::new(2, 33 * MIB);
    store.put("file", newer.bytes());
    let error = file.sync_all().expect_err("what it was made of is gone");
    let errno = error.raw_os_error().unwrap_or(0);
    assert!([libc::ESTALE, libc::EIO].contains(&errno), "{error}");
    drop(file);
    store.assert_holds("file", &newer);
    assert_eq!(store.open_uploads(), []);
}

#[test]
fn doctor_tells_who_looks_at_the_versions_that_are_copied() {
    for (provider, told, well) in [
        ("generic", "are looked at before and after", true),
        ("embedded", "--capability copy_conditions=false", false),
    ] {
        let store = bucket();
        let place = Place::default();
        let mut command = program(&store);
        command
            .args(["doctor", "--provider", provider, "--state-dir"])
            .arg(place.state());
        command.arg(format!("s3://{}", store.bucket));
        let said = run(command.args(["--endpoint-url", &store.endpoint]));
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains(told), "{provider}: {all}");
        assert_eq!(said.ok(), well, "{provider}: {all}");
    }
}
