//! The signature of Tencent COS's own API (`q-sign-algorithm=sha1`), as
//! <https://www.tencentcloud.com/document/product/436/7778> describes it. Pure: the time is the caller's.

use std::ops::Range;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::{Digest, Sha1};

/// Everything but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What is signed. Nothing in it is encoded.
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a [(String, String)],
    pub headers: &'a [(String, String)],
}

/// The value of the header `Authorization`, good for the seconds `valid` (since 1970).
pub(super) fn authorization(
    request: &Request<'_>,
    secret_id: &str,
    secret_key: &str,
    valid: &Range<u64>,
) -> String {
    let time = format!("{};{}", valid.start, valid.end);
    // The key of the second HMAC is the text of the first, not its bytes.
    let sign_key = hmac(secret_key.as_bytes(), &time);
    let (headers, header_list) = list(request.headers);
    let (query, query_list) = list(request.query);
    let http_string = format!(
        "{}\n{}\n{query}\n{headers}\n",
        request.method.to_ascii_lowercase(),
        request.path
    );
    let digest = hex(&Sha1::digest(http_string.as_bytes()));
    let signature = hmac(sign_key.as_bytes(), &format!("sha1\n{time}\n{digest}\n"));
    format!(
        "q-sign-algorithm=sha1&q-ak={secret_id}&q-sign-time={time}&q-key-time={time}&q-header-list={header_list}&q-url-param-list={query_list}&q-signature={signature}"
    )
}

/// `a=1&b=2` and `a;b`, sorted by the names.
fn list(pairs: &[(String, String)]) -> (String, String) {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut pairs: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| (encoded(name).to_ascii_lowercase(), encoded(value)))
        .collect();
    pairs.sort();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let whole: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    (whole.join("&"), names.join(";"))
}

fn hmac(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        owned.collect()
    }

    const SECRET_ID: &str = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q";
    const SECRET_KEY: &str = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz";
    const HOST: &str = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com";

    // The vendor's page has both examples, nowadays with the last digits of keys and signatures made
    // unreadable; whole they are in the page's earlier editions and in the tests of the vendor's SDKs.

    #[test]
    fn the_vendors_example_of_an_upload() {
        let headers = pairs(&[
            ("Date", "Thu, 16 May 2019 06:45:51 GMT"),
            ("Host", HOST),
            ("Content-Type", "text/plain"),
            ("Content-Length", "13"),
            ("Content-MD5", "mQ/fVh815F3k6TAUm8m0eg=="),
            ("x-cos-acl", "private"),
            ("x-cos-grant-read", "uin=\"100000000011\""),
        ]);
        let request = Request {
            method: "PUT",
            path: "/exampleobject(腾讯云)",
            query: &[],
            headers: &headers,
        };
        assert_eq!(
            authorization(&request, SECRET_ID, SECRET_KEY, &(1557989151..1557996351)),
            "q-sign-algorithm=sha1&q-ak=AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q&q-sign-time=1557989151;1557996351&q-key-time=1557989151;1557996351&q-header-list=content-length;content-md5;content-type;date;host;x-cos-acl;x-cos-grant-read&q-url-param-list=&q-signature=3b8851a11a569213c17ba8fa7dcf2abec6935172"
        );
    }

    #[test]
    fn the_vendors_example_of_a_download() {
        let query = pairs(&[
            ("response-content-type", "application/octet-stream"),
            ("response-cache-control", "max-age=600"),
        ]);
        let headers = pairs(&[("Date", "Thu, 16 May 2019 06:55:53 GMT"), ("Host", HOST)]);
        let request = Request {
            method: "GET",
            path: "/exampleobject(腾讯云)",
            query: &query,
            headers: &headers,
        };
        assert_eq!(
            authorization(&request, SECRET_ID, SECRET_KEY, &(1557989753..1557996953)),
            "q-sign-algorithm=sha1&q-ak=AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q&q-sign-time=1557989753;1557996953&q-key-time=1557989753;1557996953&q-header-list=date;host&q-url-param-list=response-cache-control;response-content-type&q-signature=01681b8c9d798a678e43b685a9f1bba0f6c0e012"
        );
    }

    #[test]
    fn names_without_values_are_signed_too() {
        let (whole, names) = list(&pairs(&[("uploads", ""), ("Prefix", "a b")]));
        assert_eq!(whole, "prefix=a%20b&uploads=");
        assert_eq!(names, "prefix;uploads");
    }
}
