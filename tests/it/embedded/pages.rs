//! The vendors' own pages on aborting an upload: each page's example request, as it would go over the wire,
//! and its example answer: the status line and the headers that are neither dates nor names of requests.

use super::*;
use wholefs::embedded::Signatures;

/// What is said to it is answered at once, and the connection stays.
async fn ask(server: &Server, request: &str) -> (String, Vec<(String, String)>, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let request = request.replace('\n', "\r\n") + "\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let ended = |said: &[u8]| {
        let text = String::from_utf8_lossy(said);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then_some(value)?
                .parse::<usize>()
                .ok()
        });
        (body.len() >= length.unwrap_or(0)).then(|| (head.to_owned(), body.to_owned()))
    };
    let (head, body) = soon(async {
        loop {
            if let Some(whole) = ended(&said) {
                return whole;
            }
            assert_ne!(
                stream.read_buf(&mut said).await.unwrap(),
                0,
                "it was cut off"
            );
        }
    })
    .await;
    let mut lines = head.lines();
    let status = lines.next().unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    (status, headers.collect(), body)
}

struct Page {
    dialect: &'static str,
    domain: &'static str,
    bucket: &'static str,
    key: &'static str,
    upload: &'static str,
    request: &'static str,
    status: &'static str,
    /// An empty value: it is there, whatever it says.
    headers: &'static [(&'static str, &'static str)],
}

const AMAZON: Page = Page {
    dialect: "aws",
    domain: "s3.amazonaws.com",
    bucket: "example-bucket",
    key: "example-object",
    upload: "VXBsb2FkIElEIGZvciBlbHZpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZ",
    request: "DELETE /example-object?uploadId=VXBsb2FkIElEIGZvciBlbHZpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZ HTTP/1.1
Host: example-bucket.s3.amazonaws.com
Date: Mon, 1 Nov 2010 20:34:56 GMT
Authorization: AWS AKIAIOSFODNN7EXAMPLE:0RQf3/cRonhpaBX5sCYVf1bNRuU=",
    status: "HTTP/1.1 204 OK",
    // The page's Content-Length: 0 is not sent: since RFC 7230 a 204 has none.
    headers: &[
        ("x-amz-id-2", ""),
        ("x-amz-request-id", ""),
        ("date", ""),
        ("connection", "keep-alive"),
        ("server", "AmazonS3"),
    ],
};

const NCLOUD: Page = Page {
    dialect: "ncloud",
    domain: "kr.object.ncloudstorage.com",
    bucket: "some-bucket",
    key: "multipart-object-123",
    upload: "0000015a-df89-51d0-2790-dee1ac994053",
    request: "DELETE /some-bucket/multipart-object-123?uploadId=0000015a-df89-51d0-2790-dee1ac994053 HTTP/1.1
Authorization: {authorization-string}
x-amz-date: 20170318T035641Z
Host: kr.object.ncloudstorage.com",
    status: "HTTP/1.1 204 No Content",
    headers: &[("date", ""), ("accept-ranges", "bytes")],
};

/// The page's second form of the request, with the bucket in the host.
const NCLOUD_BY_HOST: Page = Page {
    request: "DELETE /multipart-object-123?uploadId=0000015a-df89-51d0-2790-dee1ac994053 HTTP/1.1
Authorization: {authorization-string}
x-amz-date: 20170318T035641Z
Host: some-bucket.kr.object.ncloudstorage.com",
    ..NCLOUD
};

const COS: Page = Page {
    dialect: "cos",
    domain: "cos.ap-beijing.myqcloud.com",
    bucket: "examplebucket-1250000000",
    key: "exampleobject",
    upload: "1484727270323ddb949d528c629235314a9ead80f0ba5d993a3d76b460e6a9cceb9633b08e",
    request: "DELETE /exampleobject?uploadId=1484727270323ddb949d528c629235314a9ead80f0ba5d993a3d76b460e6a9cceb9633b08e HTTP/1.1
Host: examplebucket-1250000000.cos.ap-beijing.myqcloud.com
Date: Tue, 26 Oct 2013 21:22:00 GMT
Authorization: q-sign-algorithm=sha1&q-ak=AKIDWtTCBYjM5OwLB9CAwA1Qb2ThTSUj****&q-sign-time=1484728626;32557624626&q-key-time=1484728626;32557624626&q-header-list=host&q-url-param-list=uploadId&q-signature=2d3036b57cade4a257b48a3a5dc922779a56****",
    status: "HTTP/1.1 204 OK",
    // As with Amazon, a 204 has no Content-Length.
    headers: &[
        ("content-type", "application/xml"),
        ("connection", "keep-alive"),
        ("date", ""),
        ("server", "tencent-cos"),
        ("x-cos-request-id", ""),
    ],
};

const PAGES: [Page; 4] = [AMAZON, NCLOUD, NCLOUD_BY_HOST, COS];

impl Page {
    /// Its vendor's simulator. The pages' keys are nobody's: signatures are not looked at.
    async fn simulator(&self) -> Server {
        let mut dialect = Dialect::named(self.dialect).unwrap();
        dialect.signatures = Signatures::Unchecked;
        server(Options {
            dialect,
            buckets: vec![self.bucket.to_owned()],
            base_domain: Some(self.domain.to_owned()),
            ..Options::default()
        })
        .await
    }

    fn begin(&self, server: &Server) {
        let id = server.create_upload(self.bucket, self.key);
        server.rename_upload(self.bucket, self.key, &id, self.upload);
        server.put_part(self.bucket, self.key, self.upload, 1, "a part");
    }

    /// The page's request: 404, and the code the page names.
    async fn assert_unknown(&self, server: &Server, what: &str) {
        let (status, _, body) = ask(server, self.request).await;
        assert_eq!(status, "HTTP/1.1 404 Not Found", "{what}");
        assert!(body.contains("<Code>NoSuchUpload</Code>"), "{what}: {body}");
    }
}

#[tokio::test]
async fn each_pages_example_is_answered_as_the_page_says() {
    for page in PAGES {
        let server = page.simulator().await;
        page.begin(&server);
        let (status, headers, body) = ask(&server, page.request).await;
        assert_eq!(status, page.status, "{}", page.request);
        for (name, value) in page.headers {
            let found = headers.iter().find(|(its, _)| its == name);
            let (_, found) = found.unwrap_or_else(|| panic!("no {name}: {headers:?}"));
            assert!(value.is_empty() || found == value, "{name}: {found}");
        }
        assert_eq!(body, "");
        assert!(server.uploads(page.bucket).is_empty());
    }
}

#[tokio::test]
async fn an_upload_that_is_unknown_or_aborted_or_completed_is_no_such_upload() {
    for page in PAGES {
        let server = page.simulator().await;
        page.assert_unknown(&server, "unknown").await;
        page.begin(&server);
        ask(&server, page.request).await;
        page.assert_unknown(&server, "aborted").await;

        page.begin(&server);
        // Its MD5.
        let etag = "9db120e8880f33acf4ddeb40892c390c";
        let parts = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"{etag}\"</ETag></Part></CompleteMultipartUpload>"
        );
        let complete = format!(
            "{}\nContent-Length: {}\n\n{parts}",
            page.request.replacen("DELETE", "POST", 1),
            parts.len()
        );
        let (status, _, _) = ask(&server, &complete).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{complete}");
        page.assert_unknown(&server, "completed").await;
        let object = server.object(page.bucket, page.key);
        assert_eq!(object.as_deref(), Some(&b"a part"[..]), "it stays");
    }
}

#[tokio::test]
async fn cos_keeps_the_connection_alive_with_white_space() {
    let server = COS.simulator().await;
    COS.begin(&server);
    server
        .faults()
        .script("op=CompleteMultipartUpload:ok-with-error-body")
        .unwrap();
    let request = COS.request.replacen("DELETE", "POST", 1);
    let request = request + "\nConnection: close\nContent-Length: 0\n\n";
    let answer = super::operations::raw(&server, &request.replace('\n', "\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_ascii_lowercase()
            .contains("transfer-encoding: chunked"),
        "{head}"
    );
    // A chunk of white space first.
    assert!(body.starts_with("5\r\n \n \n \r\n"), "{body:?}");
    assert!(body.contains("<Error>"), "{body}");
}

#[tokio::test]
async fn the_vendors_other_manners() {
    // COS: no gap in the numbers, no bucket in the path.
    let mut dialect = Dialect::named("cos").unwrap();
    dialect.virtual_host_only = false;
    dialect.part_min = 0;
    dialect.refuse_checksums = false;
    let cos = server(Options {
        dialect,
        ..Options::default()
    })
    .await;
    let sdk = client(&cos);
    let id = create(&sdk, "k").await;
    let parts = [
        part(&sdk, "k", &id, 1, b"a").await,
        part(&sdk, "k", &id, 3, b"b").await,
    ];
    assert_eq!(
        code(complete(&sdk, "k", &id, &parts).send().await),
        "InvalidPart"
    );
    let long = "k".repeat(851);
    let refused = sdk.get_object().bucket(BUCKET).key(long).send().await;
    assert_eq!(code(refused), "KeyTooLongError");

    // Ncloud: the checksums of newer SDKs are forbidden, which the SDK sends unless told not to.
    let dialect = Dialect::named("ncloud").unwrap();
    let ncloud = server(Options {
        dialect,
        ..Options::default()
    })
    .await;
    let put = client(&ncloud).put_object().bucket(BUCKET).key("k");
    assert_eq!(status(put.body(b"x".to_vec().into()).send().await), 403);
}

/// Taken and not obeyed, the object would be there for whoever asks without the key.
#[tokio::test]
async fn a_key_of_the_customers_is_refused() {
    let bucket = server(Options::default()).await;
    let sdk = client(&bucket);
    let put = sdk.put_object().bucket(BUCKET).key("k");
    let put = put
        .sse_customer_algorithm("AES256")
        .sse_customer_key("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
        .sse_customer_key_md5("fAXimYzWOyt0OD2eRvVbpQ==");
    let refused = put.body(b"x".to_vec().into()).send().await;
    assert_eq!(code(refused), "NotImplemented");
}
