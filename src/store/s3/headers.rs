//! What goes with every request, or with every one that makes an object: who pays, the storage class,
//! encryption, access; and the length of a body of nothing.
//!
//! Invariant: whatever makes an object (PutObject, CopyObject, CreateMultipartUpload) says the same, so
//! that a file is of one kind however it came to be.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// Header names and values; those that were not asked for are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub storage_class: Option<String>,
    /// `AES256`, `aws:kms`, `aws:kms:dsse`
    pub encryption: Option<String>,
    pub kms_key: Option<String>,
    pub acl: Option<String>,
    pub requester_pays: bool,
}

impl Said {
    fn of_objects(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("x-amz-storage-class", &self.storage_class),
            ("x-amz-server-side-encryption", &self.encryption),
            ("x-amz-server-side-encryption-aws-kms-key-id", &self.kms_key),
            ("x-amz-acl", &self.acl),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

impl Intercept for Said {
    fn name(&self) -> &'static str {
        "Said"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let makes = makes_an_object(request.method(), request.uri());
        // A body of nothing is said to be one: Ceph refuses a copied part that keeps silent about it.
        let empty = ["PUT", "POST"].contains(&request.method())
            && request.body().content_length() == Some(0);
        let headers = request.headers_mut();
        if empty {
            headers.insert("content-length", "0");
        }
        if self.requester_pays {
            headers.insert("x-amz-request-payer", "requester");
        }
        if makes {
            for (name, value) in self.of_objects() {
                headers.try_insert(name, value.clone())?;
            }
        }
        Ok(())
    }
}

fn makes_an_object(method: &str, uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let has = |name| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    match method {
        "PUT" => !has("uploadId") && !has("renameObject"),
        "POST" => has("uploads"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_an_object_is_told_from_the_rest() {
        for (method, uri, makes) in [
            ("PUT", "http://h/b/k?x-id=PutObject", true),
            ("PUT", "http://h/b/k", true),
            ("POST", "http://h/b/k?uploads", true),
            ("POST", "http://h/b/k?uploadId=1", false),
            (
                "PUT",
                "http://h/b/k?x-id=UploadPart&partNumber=1&uploadId=1",
                false,
            ),
            ("PUT", "http://h/b/k?renameObject", false),
            ("DELETE", "http://h/b/k", false),
            ("GET", "http://h/b/?list-type=2", false),
        ] {
            assert_eq!(makes_an_object(method, uri), makes, "{method} {uri}");
        }
    }
}
