//! COS's own API in terms of S3's: its signature checked, its names of headers exchanged.
//!
//! <https://www.tencentcloud.com/document/product/436/7778> describes the signature. The client's side of
//! it is elsewhere in the crate and shares nothing with this one, so that each shows the other to be right.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::{Digest, Sha1};

use super::error::{Error, Result};
use super::operation::{bucket_of_host, decode};

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Is this request signed in COS's way?
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    let said = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    said.is_some_and(|said| said.starts_with(b"q-sign-algorithm="))
}

/// Is it signed with these keys, for a time that includes `now` (seconds since 1970)?
pub(super) fn check(request: &Parts, access_key: &str, secret_key: &str, now: u64) -> Result<()> {
    let denied = |message: &str| Error::new("AccessDenied", message);
    let said = request.headers.get(AUTHORIZATION);
    let said = said.and_then(|said| said.to_str().ok()).unwrap_or_default();
    let said: BTreeMap<&str, &str> = said
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let part = |name: &str| {
        let part = said.get(name).copied();
        part.ok_or_else(|| denied("The Authorization header is incomplete."))
    };
    if part("q-sign-algorithm")? != "sha1" {
        return Err(denied("The signature algorithm is not known."));
    }
    if part("q-ak")? != access_key {
        let message = "The access key Id you provided does not exist in our records.";
        return Err(Error::new("InvalidAccessKeyId", message));
    }
    let time = part("q-key-time")?;
    let mut ends = time.split(';').map(str::parse::<u64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(from)), Some(Ok(until))) if (from..=until).contains(&now) => {}
        _ => return Err(denied("Request has expired")),
    }
    let headers = request.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let query = request.uri.query().unwrap_or_default().split('&');
    let query = query.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    let header_list = part("q-header-list")?;
    if !header_list.split(';').any(|name| name == "host") {
        return Err(denied("The host is not signed."));
    }
    let http_string = format!(
        "{}\n{}\n{}\n{}\n",
        request.method.as_str().to_ascii_lowercase(),
        decode(request.uri.path()),
        chosen(query, part("q-url-param-list")?),
        chosen(headers, header_list),
    );
    let digest = hex(&Sha1::digest(http_string.as_bytes()));
    let text = format!("sha1\n{}\n{digest}\n", part("q-sign-time")?);
    let key = hex(&hmac(secret_key.as_bytes(), time).finalize().into_bytes());
    let right = hmac(key.as_bytes(), &text).finalize().into_bytes();
    if hex(&right) != part("q-signature")? {
        let message =
            "The request signature we calculated does not match the signature you provided.";
        return Err(Error::new("SignatureDoesNotMatch", message));
    }
    Ok(())
}

/// Of `pairs` those in the list, as they are signed.
fn chosen(pairs: impl Iterator<Item = (String, String)>, list: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let list: Vec<String> = list.split(';').map(str::to_ascii_lowercase).collect();
    let pairs = pairs.map(|(name, value)| (encoded(&name).to_ascii_lowercase(), encoded(&value)));
    let mut pairs: Vec<_> = pairs.filter(|(name, _)| list.contains(name)).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

fn hmac(key: &[u8], text: &str) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// COS's headers of a request become S3's. `domain` is what comes behind a bucket in a host's name.
pub(super) fn request_to_s3(headers: &mut HeaderMap, domain: Option<&str>) {
    rename(headers, "x-cos-", "x-amz-");
    if let Some(source) = text(headers, "x-amz-copy-source")
        && let Some((host, key)) = source.trim_start_matches('/').split_once('/')
        && let Some(bucket) = domain.and_then(|domain| bucket_of_host(host, domain))
        && let Ok(source) = HeaderValue::from_str(&format!("{bucket}/{key}"))
    {
        headers.insert("x-amz-copy-source", source);
    }
    if let Some(directive) = text(headers, "x-amz-metadata-directive") {
        let replaced = directive.eq_ignore_ascii_case("replaced");
        let directive = if replaced { "REPLACE" } else { "COPY" };
        headers.insert(
            "x-amz-metadata-directive",
            HeaderValue::from_static(directive),
        );
    }
}

/// S3's headers of an answer become COS's.
pub(super) fn answer_to_cos(headers: &mut HeaderMap) {
    rename(headers, "x-amz-", "x-cos-");
}

fn rename(headers: &mut HeaderMap, from: &str, to: &str) {
    let found: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(from))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in found {
        headers.remove(&name);
        if let Ok(name) = HeaderName::try_from(name.as_str().replacen(from, to, 1)) {
            headers.insert(name, value);
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// The host of a request, for those who must know the bucket.
pub(super) fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// The vendor's example of a download, as it goes over the wire.
    fn download(authorization: &str) -> Parts {
        let request = Request::get("/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)?response-content-type=application%2Foctet-stream&response-cache-control=max-age%3D600")
            .header("Date", "Thu, 16 May 2019 06:55:53 GMT")
            .header("Host", "examplebucket-1250000000.cos.ap-beijing.myqcloud.com")
            .header("Authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    const SIGNED: &str = "q-sign-algorithm=sha1&q-ak=AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q&q-sign-time=1557989753;1557996953&q-key-time=1557989753;1557996953&q-header-list=date;host&q-url-param-list=response-cache-control;response-content-type&q-signature=01681b8c9d798a678e43b685a9f1bba0f6c0e012";

    fn code(authorization: &str, now: u64) -> Option<&'static str> {
        let (id, secret) = (
            "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q",
            "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz",
        );
        let checked = check(&download(authorization), id, secret, now);
        checked.err().map(|error| error.code)
    }

    #[test]
    fn the_vendors_example_opens_the_door_in_its_time() {
        assert_eq!(code(SIGNED, 1557989753), None);
        assert_eq!(code(SIGNED, 1557989752), Some("AccessDenied"));
        assert_eq!(code(SIGNED, 1557996954), Some("AccessDenied"));
    }

    #[test]
    fn nothing_else_does() {
        for (changed, expected) in [
            (SIGNED.replace("c0e012", "c0e013"), "SignatureDoesNotMatch"),
            (SIGNED.replace("AKID", "BKID"), "InvalidAccessKeyId"),
            (SIGNED.replace("date;host", "date"), "AccessDenied"),
            (SIGNED.replace("date;host", "host"), "SignatureDoesNotMatch"),
            (SIGNED.replace("&q-ak", "&q-no"), "AccessDenied"),
            (SIGNED.replace("=sha1", "=md5"), "AccessDenied"),
        ] {
            assert_eq!(code(&changed, 1557990000), Some(expected), "{changed}");
        }
    }

    #[test]
    fn headers_change_their_names_and_back() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-cos-meta-a", "1"),
            ("x-cos-copy-source", "b-1.cos.test:80/dir/k"),
            ("x-cos-metadata-directive", "Replaced"),
            ("content-type", "text/plain"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        request_to_s3(&mut headers, Some("cos.test"));
        assert_eq!(headers["x-amz-meta-a"], "1");
        assert_eq!(headers["x-amz-copy-source"], "b-1/dir/k");
        assert_eq!(headers["x-amz-metadata-directive"], "REPLACE");
        answer_to_cos(&mut headers);
        assert_eq!(headers["x-cos-meta-a"], "1");
        assert!(headers.keys().all(|name| !name.as_str().contains("amz")));
    }
}
