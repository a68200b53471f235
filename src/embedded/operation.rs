//! Which S3 operation an HTTP request is, and on what: pure, from the request line and headers.
//!
//! Faults and the log need this before, and even without, the request being understood: the
//! protocol crate's own routing is not accessible and would refuse a bad signature first.

use hyper::header::HOST;
use hyper::{HeaderMap, Method};

/// What a request is about. Strings are empty where the request names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// S3's name of the operation, or `Unknown`.
    pub operation: &'static str,
    pub bucket: String,
    pub key: String,
    pub upload_id: Option<String>,
    pub part_number: Option<u32>,
}

impl Target {
    /// `base_domain` is the domain under which `BUCKET.DOMAIN` is a bucket.
    pub fn of(
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        base_domain: Option<&str>,
    ) -> Target {
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or("");
        let (bucket, key) = match base_domain.and_then(|domain| bucket_of_host(host, domain)) {
            Some(bucket) => (bucket.to_owned(), decode(path.trim_start_matches_once('/'))),
            None => {
                let path = path.trim_start_matches_once('/');
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                (decode(bucket), decode(key))
            }
        };
        let level = match (bucket.is_empty(), key.is_empty()) {
            (true, _) => Level::Service,
            (false, true) => Level::Bucket,
            (false, false) => Level::Object,
        };
        Target {
            operation: operation_of(method, level, query.unwrap_or(""), headers),
            bucket,
            key,
            upload_id: parameter(query.unwrap_or(""), "uploadId").map(decode),
            part_number: parameter(query.unwrap_or(""), "partNumber").and_then(|n| n.parse().ok()),
        }
    }
}

trait TrimOnce {
    fn trim_start_matches_once(&self, c: char) -> &str;
}

impl TrimOnce for str {
    /// Keys may begin with a slash of their own.
    fn trim_start_matches_once(&self, c: char) -> &str {
        self.strip_prefix(c).unwrap_or(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Service,
    Bucket,
    Object,
}

/// The bucket a `Host` header names under `domain`; the port does not matter.
pub fn bucket_of_host<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let at = name.len().checked_sub(domain.len())?;
    let (bucket, suffix) = name.split_at_checked(at)?;
    let bucket = bucket.strip_suffix('.')?;
    (suffix.eq_ignore_ascii_case(domain) && !bucket.is_empty()).then_some(bucket)
}

/// S3's name for the request; `Unknown` where it has none.
pub fn operation_of(
    method: &Method,
    level: Level,
    query: &str,
    headers: &HeaderMap,
) -> &'static str {
    let has = |name| parameter(query, name).is_some();
    let copies = headers.contains_key("x-amz-copy-source");
    match (method.as_str(), level) {
        ("GET", Level::Service) => "ListBuckets",
        ("HEAD", Level::Bucket) => "HeadBucket",
        ("GET", Level::Bucket) if has("uploads") => "ListMultipartUploads",
        ("GET", Level::Bucket) if has("location") => "GetBucketLocation",
        ("GET", Level::Bucket) if has("versions") => "ListObjectVersions",
        ("GET", Level::Bucket) if has("versioning") => "GetBucketVersioning",
        ("GET", Level::Bucket) if has("lifecycle") => "GetBucketLifecycleConfiguration",
        ("GET", Level::Bucket) if parameter(query, "list-type") == Some("2") => "ListObjectsV2",
        ("GET", Level::Bucket) => "ListObjects",
        ("PUT", Level::Bucket) if has("lifecycle") => "PutBucketLifecycleConfiguration",
        ("PUT", Level::Bucket) if has("versioning") => "PutBucketVersioning",
        ("PUT", Level::Bucket) => "CreateBucket",
        ("POST", Level::Bucket) if has("delete") => "DeleteObjects",
        ("DELETE", Level::Bucket) if has("lifecycle") => "DeleteBucketLifecycle",
        ("DELETE", Level::Bucket) => "DeleteBucket",
        ("HEAD", Level::Object) => "HeadObject",
        ("GET", Level::Object) if has("attributes") => "GetObjectAttributes",
        ("GET", Level::Object) if has("tagging") => "GetObjectTagging",
        ("GET", Level::Object) if has("acl") => "GetObjectAcl",
        ("GET", Level::Object) if has("uploadId") => "ListParts",
        ("GET", Level::Object) => "GetObject",
        ("POST", Level::Object) if has("uploads") => "CreateMultipartUpload",
        ("POST", Level::Object) if has("restore") => "RestoreObject",
        ("POST", Level::Object) if has("uploadId") => "CompleteMultipartUpload",
        ("PUT", Level::Object) if has("tagging") => "PutObjectTagging",
        ("PUT", Level::Object) if has("acl") => "PutObjectAcl",
        ("PUT", Level::Object) if has("uploadId") && has("partNumber") => {
            if copies {
                "UploadPartCopy"
            } else {
                "UploadPart"
            }
        }
        ("PUT", Level::Object) if has("renameObject") => "RenameObject",
        ("PUT", Level::Object) => {
            if copies {
                "CopyObject"
            } else {
                "PutObject"
            }
        }
        ("DELETE", Level::Object) if has("tagging") => "DeleteObjectTagging",
        ("DELETE", Level::Object) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", Level::Object) => "DeleteObject",
        _ => "Unknown",
    }
}

/// The raw value of a query parameter; empty for one without a value.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(its_name, value)| (its_name == name).then_some(value))
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Target {
        let (path, query) = match uri.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (uri, None),
        };
        let headers = headers.iter().map(|(name, value)| {
            (
                name.parse::<hyper::header::HeaderName>().unwrap(),
                value.parse().unwrap(),
            )
        });
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Target::of(&method, path, query, &headers.collect(), Some("s3.test"))
    }

    #[test]
    fn every_operation_has_its_name() {
        let copy = [("x-amz-copy-source", "b/k")];
        for (request, headers, expected) in [
            ("GET /", &[][..], "ListBuckets"),
            ("PUT /b", &[], "CreateBucket"),
            ("PUT /b/", &[], "CreateBucket"),
            ("HEAD /b", &[], "HeadBucket"),
            ("DELETE /b", &[], "DeleteBucket"),
            ("GET /b?location", &[], "GetBucketLocation"),
            ("GET /b/?prefix=a", &[], "ListObjects"),
            ("GET /b/?list-type=2&prefix=a", &[], "ListObjectsV2"),
            ("GET /b?uploads&prefix=x", &[], "ListMultipartUploads"),
            ("GET /b?uploads=", &[], "ListMultipartUploads"),
            ("POST /b?delete", &[], "DeleteObjects"),
            ("GET /b/k", &[], "GetObject"),
            ("GET /b/k?x-id=GetObject", &[], "GetObject"),
            ("HEAD /b/k", &[], "HeadObject"),
            ("PUT /b/k", &[], "PutObject"),
            ("PUT /b/k", &copy, "CopyObject"),
            ("DELETE /b/k", &[], "DeleteObject"),
            ("POST /b/k?uploads", &[], "CreateMultipartUpload"),
            ("PUT /b/k?partNumber=7&uploadId=u", &[], "UploadPart"),
            ("PUT /b/k?partNumber=7&uploadId=u", &copy, "UploadPartCopy"),
            ("GET /b/k?uploadId=u", &[], "ListParts"),
            ("POST /b/k?uploadId=u", &[], "CompleteMultipartUpload"),
            ("DELETE /b/k?uploadId=u", &[], "AbortMultipartUpload"),
            ("PATCH /b/k", &[], "Unknown"),
            ("POST /b/k", &[], "Unknown"),
        ] {
            let (method, uri) = request.split_once(' ').unwrap();
            assert_eq!(
                target(method, uri, headers).operation,
                expected,
                "{request}"
            );
        }
    }

    #[test]
    fn bucket_key_and_upload_are_found_in_path_and_query() {
        let found = target("PUT", "/b/a%20b//c%2Fd?partNumber=7&uploadId=x%2By", &[]);
        assert_eq!(
            (found.bucket.as_str(), found.key.as_str()),
            ("b", "a b//c/d")
        );
        assert_eq!(found.upload_id.as_deref(), Some("x+y"));
        assert_eq!(found.part_number, Some(7));
        assert_eq!(target("GET", "/b//k", &[]).key, "/k");
    }

    #[test]
    fn the_host_may_name_the_bucket() {
        let found = target("GET", "/a/b", &[("host", "my.bucket.s3.test:8080")]);
        assert_eq!(
            (found.bucket.as_str(), found.key.as_str()),
            ("my.bucket", "a/b")
        );
        let found = target("GET", "/?list-type=2", &[("host", "b.s3.test")]);
        assert_eq!(
            (found.bucket.as_str(), found.operation),
            ("b", "ListObjectsV2")
        );
        for host in [
            "s3.test",
            "xs3.test",
            ".s3.test",
            "127.0.0.1:80",
            "s3.test:80",
            "",
        ] {
            assert_eq!(bucket_of_host(host, "s3.test"), None, "{host}");
        }
    }

    #[test]
    fn broken_escapes_are_left_alone() {
        for (text, expected) in [
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%+1", "%+1"),
            ("%41%", "A%"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decode(text), expected);
        }
    }
}
