//! Abort of an upload that is unknown, aborted already, or completed, and with a part in flight: what each
//! vendor's simulator says, and what the store makes of it. (A vault's are in `vault::protocol`.)

use std::time::Duration;

use wholefs::embedded::{self, Dialect, Server};
use wholefs::store::s3::{Auth, Keys, Options, S3Store};
use wholefs::store::{
    Attributes, Body, CompletedPart, Error, ErrorKind, Precondition, Store, UploadId,
};

/// A vendor's store but for its host names, which are seen on mounts.
async fn vendor(name: &str, auth: Auth) -> (Server, S3Store) {
    let theirs = embedded::Options {
        dialect: Dialect {
            virtual_host_only: false,
            ..Dialect::named(name).expect("a dialect")
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
        provider: Some(name.into()),
        force_path_style: Some(true),
        keys: Some(keys),
        auth,
        ..Options::default()
    };
    let store = S3Store::connect(options).await.expect("connected");
    (server, store)
}

const VENDORS: [(&str, Auth); 4] = [
    ("aws", Auth::SigV4),
    ("ncloud", Auth::SigV4),
    ("cos", Auth::SigV4),
    ("cos", Auth::Cos),
];

fn body() -> Body {
    Body::from_bytes(vec![7; 1 << 20].into())
}

fn kind<T>(result: Result<T, Error>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind)
}

async fn begun(store: &S3Store) -> (UploadId, CompletedPart) {
    let upload = store.create_upload("k", &Attributes::default()).await;
    let upload = upload.expect("an upload");
    let part = store.upload_part("k", &upload, 1, body()).await;
    let part = part.expect("a part");
    let part = CompletedPart {
        number: 1,
        etag: part.etag,
        crc64: part.crc64,
    };
    (upload, part)
}

#[tokio::test]
async fn aborts_of_what_is_not_open_are_told_as_such_by_each_vendor() {
    let gone = Err(ErrorKind::NoSuchUpload);
    for (name, auth) in VENDORS {
        let (server, store) = vendor(name, auth).await;
        let unknown = UploadId("nobody-knows-it".into());
        assert_eq!(
            kind(store.abort_upload("k", &unknown).await),
            gone,
            "{name}"
        );

        let (aborted, part) = begun(&store).await;
        assert_eq!(kind(store.abort_upload("k", &aborted).await), Ok(()));
        assert_eq!(
            kind(store.abort_upload("k", &aborted).await),
            gone,
            "{name}"
        );
        let parts = [part];
        let none = Precondition::None;
        let done = store
            .complete_upload("k", &aborted, &parts, 1 << 20, &none)
            .await;
        assert_eq!(kind(done.map(drop)), gone, "{name}");
        assert_eq!(server.object("demo", "k"), None);

        let (completed, part) = begun(&store).await;
        let parts = [part];
        let complete = || store.complete_upload("k", &completed, &parts, 1 << 20, &none);
        let etag = complete().await.expect("completed");
        assert_eq!(
            kind(store.abort_upload("k", &completed).await),
            gone,
            "{name}"
        );
        let left = kind(store.list_parts("k", &completed).await);
        assert_eq!(left, Err(ErrorKind::NoSuchUpload), "{name}");
        // The object has not been touched by that.
        assert_eq!(store.head("k").await.expect("there").etag, etag);
        assert_eq!(server.object("demo", "k"), Some(vec![7; 1 << 20]));
        // Completed twice: the same again with Amazon, NoSuchUpload where the vendor is silent.
        let again = kind(complete().await);
        let expected = if name == "aws" {
            Ok(etag)
        } else {
            Err(ErrorKind::NoSuchUpload)
        };
        assert_eq!(again, expected, "{name}");
        assert!(server.uploads("demo").is_empty());
    }
}

#[tokio::test]
async fn a_part_in_flight_at_an_abort_lands_or_fails_as_the_vendor_says() {
    for (name, auth) in VENDORS {
        let (server, store) = vendor(name, auth).await;
        let (upload, _) = begun(&store).await;
        let hold = server.faults().script("op=UploadPart:hold-before");
        let hold = hold.expect("a fault");
        let (flying, ()) = tokio::join!(store.upload_part("k", &upload, 2, body()), async {
            let arrived = server.log().until(|log| log.count("UploadPart") == 2);
            let arrived = tokio::time::timeout(Duration::from_secs(30), arrived).await;
            arrived.expect("the part is on its way");
            assert_eq!(kind(store.abort_upload("k", &upload).await), Ok(()));
            server.faults().remove(hold);
        });
        // Of COS its page says that it fails. Where a page is silent, as Ncloud's, the harder of two ways.
        let lands = name != "cos";
        assert_eq!(flying.is_ok(), lands, "{name}");
        let left = kind(store.list_parts("k", &upload).await);
        match lands {
            true => {
                assert_eq!(left.expect("it is there again").len(), 1, "{name}");
                assert_eq!(kind(store.abort_upload("k", &upload).await), Ok(()));
            }
            false => {
                let failed = kind(flying.map(drop));
                assert_eq!(failed, Err(ErrorKind::NoSuchUpload), "{name}");
            }
        }
        let left = kind(store.list_parts("k", &upload).await);
        assert_eq!(left, Err(ErrorKind::NoSuchUpload), "{name}");
        assert!(server.uploads("demo").is_empty());
    }
}
