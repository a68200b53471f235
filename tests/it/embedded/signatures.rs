//! The requests that Amazon signs on its page "Signature Calculations for the Authorization Header", byte for
//! byte: the embedded bucket accepts them, were it still that day, and no other signature.

use super::operations::raw;
use super::*;

const THE_DAY: &str = "20130524T000000Z";
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const WELCOME: &str = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";

/// Request line, further headers, body, its hash, signed headers, signature, and the status of the answer.
type Published = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
);

const PUBLISHED: [Published; 4] = [
    (
        "PUT /test%24file.text",
        &[
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        "Welcome to Amazon S3.",
        WELCOME,
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        200,
    ),
    (
        "GET /test.txt",
        &[("Range", "bytes=0-9")],
        "",
        NOTHING,
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        206,
    ),
    (
        // It has no rules; who is let in hears that.
        "GET /?lifecycle",
        &[],
        "",
        NOTHING,
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        501,
    ),
    (
        "GET /?max-keys=2&prefix=J",
        &[],
        "",
        NOTHING,
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        200,
    ),
];

async fn example(clock_skew: Duration) -> Server {
    let server = server(Options {
        dialect: Dialect {
            clock_skew,
            ..Dialect::default()
        },
        access_key: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        buckets: vec!["examplebucket".into()],
        base_domain: Some("s3.amazonaws.com".into()),
        ..Options::default()
    })
    .await;
    server.put_object("examplebucket", "test.txt", "0123456789abcdef");
    server
}

async fn asked(server: &Server, published: &Published, signature: &str) -> String {
    let (line, headers, body, hash, signed, _, _) = published;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    raw(
        server,
        &format!(
            "{line} HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},Signature={signature}\r\n{headers}x-amz-content-sha256: {hash}\r\nx-amz-date: {THE_DAY}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    )
    .await
}

#[tokio::test]
async fn amazons_published_requests_are_accepted_as_published() {
    let server = example(Duration::from_secs(100 * 366 * 86_400)).await;
    for published in &PUBLISHED {
        let (line, signature, status) = (published.0, published.5, published.6);
        let answer = asked(&server, published, signature).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {answer}"
        );
        let other = format!("{}{}", &signature[1..], &signature[..1]);
        let answer = asked(&server, published, &other).await;
        let refused =
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("SignatureDoesNotMatch");
        assert!(refused, "{line}: {answer}");
    }
    let object = &server.objects("examplebucket")[0];
    assert_eq!(object.key, "test$file.text");
    assert_eq!(object.storage_class.as_deref(), Some("REDUCED_REDUNDANCY"));
}

#[tokio::test]
async fn a_signature_of_another_day_is_refused() {
    let server = example(Dialect::default().clock_skew).await;
    for published in &PUBLISHED {
        let answer = asked(&server, published, published.5).await;
        assert!(answer.contains("RequestTimeTooSkewed"), "{answer}");
    }
}
