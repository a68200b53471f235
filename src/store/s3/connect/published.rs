//! The requests that Amazon signs on its page "Signature Calculations for the Authorization Header", signed by
//! the client that a mount has.

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_async::time::StaticTimeSource;

use super::*;
use crate::store::s3::{Keys, Said};

/// 2013-05-24T00:00:00Z
const THEN: Duration = Duration::from_secs(1_369_353_600);
const BUCKET: &str = "examplebucket";

/// Brings a request into the form it has on the page, which knows no SDK; keeps what it was signed with, and
/// lets nothing out.
#[derive(Clone, Debug, Default)]
struct AsOnThePage {
    date: Option<&'static str>,
    signed: Arc<Mutex<Option<String>>>,
}

impl Intercept for AsOnThePage {
    fn name(&self) -> &'static str {
        "AsOnThePage"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let (uri, query) = match request.uri().split_once('?') {
            Some((uri, query)) => (uri.to_string(), query.to_string()),
            None => (request.uri().to_string(), String::new()),
        };
        let query: Vec<&str> = query
            .split('&')
            .filter(|p| !p.starts_with("x-id="))
            .collect();
        request.set_uri(format!("{uri}?{}", query.join("&")))?;
        let shown = ["range", "x-amz-storage-class"];
        let names = request.headers().iter().map(|(name, _)| name.to_string());
        let names: Vec<String> = names
            .filter(|name| !shown.contains(&name.as_str()))
            .collect();
        let headers = request.headers_mut();
        for name in names {
            headers.remove(name);
        }
        if let Some(date) = self.date {
            headers.insert("date", date);
        }
        Ok(())
    }

    fn read_after_signing(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let signed = context.request().headers().get("authorization");
        *self.signed.lock().expect("no panic while held") = signed.map(str::to_string);
        Err("it is not to be sent".into())
    }
}

impl AsOnThePage {
    fn then(&self) -> aws_sdk_s3::config::Builder {
        let then = StaticTimeSource::new(UNIX_EPOCH + THEN);
        aws_sdk_s3::Config::builder().time_source(then)
    }

    /// Signed headers and signature.
    fn told(&self) -> (String, String) {
        let signed = self.signed.lock().expect("no panic while held").take();
        let signed = signed.expect("it was signed");
        let start = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=";
        let rest = signed
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("{signed}"));
        let (headers, signature) = rest.split_once(", Signature=").expect("a signature");
        (headers.to_string(), signature.to_string())
    }
}

/// The client of a mount of that bucket.
async fn client(said: Said) -> Client {
    let options = Options {
        bucket: BUCKET.to_string(),
        keys: Some(Keys {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_string(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_string(),
            session_token: None,
        }),
        said,
        ..Options::default()
    };
    let proxies = Proxies::default();
    let keys = Arc::new(Renewing::new(&options, &proxies).await);
    let config = load(&options, &proxies, Some(keys)).await.expect("loaded");
    let check = Check {
        options: &options,
        virtual_host: true,
        list_v2: true,
        config: &config,
        proxies: &proxies,
        endpoint: Some("https://s3.amazonaws.com"),
        shown: String::new(),
        clock: ServerClock::default(),
        witness: Witness::default(),
    };
    check.client("us-east-1")
}

/// Has the request signed, and answers with what.
macro_rules! signed {
    ($request:expr, $page:expr) => {{
        let page: &AsOnThePage = $page;
        let request = $request.bucket(BUCKET).customize();
        let request = request
            .config_override(page.then())
            .interceptor(page.clone());
        assert!(request.send().await.is_err());
        page.told()
    }};
}

fn as_told(headers: &str, signature: &str) -> (String, String) {
    (headers.to_string(), signature.to_string())
}

#[tokio::test]
async fn amazons_published_requests_are_signed_as_published() {
    let (client, page) = (client(Said::default()).await, AsOnThePage::default());
    assert_eq!(
        signed!(
            client.get_object().key("test.txt").range("bytes=0-9"),
            &page
        ),
        as_told(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        )
    );
    let bare = "host;x-amz-content-sha256;x-amz-date";
    assert_eq!(
        signed!(client.get_bucket_lifecycle_configuration(), &page),
        as_told(
            bare,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        )
    );
    assert_eq!(
        signed!(client.list_objects().max_keys(2).prefix("J"), &page),
        as_told(
            bare,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        )
    );
}

/// Its storage class is the one that a mount was told to write with.
#[tokio::test]
async fn amazons_published_upload_is_signed_as_published() {
    let said = Said {
        storage_class: Some("REDUCED_REDUNDANCY".to_string()),
        ..Said::default()
    };
    let client = client(said).await;
    let page = AsOnThePage {
        date: Some("Fri, 24 May 2013 00:00:00 GMT"),
        ..AsOnThePage::default()
    };
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"Welcome to Amazon S3.");
    let put = client.put_object().key("test$file.text").body(body);
    assert_eq!(
        signed!(put, &page),
        as_told(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        )
    );
}
