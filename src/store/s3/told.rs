//! What is read out of answers in which a store leaves something out, or says it in a way of its own.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;

use super::classify::{self, Failure, Op};
use super::forms::unquoted;
use crate::store::{Archive, ETag};

/// What marks a directory has nothing in it.
const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";

pub(super) fn etag(op: Op, key: &str, etag: Option<&str>) -> std::result::Result<ETag, Failure> {
    match etag.map(unquoted) {
        Some(etag) if !etag.is_empty() => Ok(etag),
        // Some stores keep what marks a directory as one, which has none.
        _ if key.ends_with('/') => Ok(ETag::new(MD5_OF_NOTHING)),
        _ => Err(Failure::incomplete(op, key, "no ETag")),
    }
}

/// Classes that have to be restored to be read; COS has names of its own.
const ARCHIVES: [&str; 3] = ["GLACIER", "DEEP_ARCHIVE", "ARCHIVE"];

/// What HEAD says of archives: by the class, by Intelligent-Tiering's own header, and of a restore.
pub(super) fn archive(head: &HeadObjectOutput) -> Option<Archive> {
    let kept = match head.storage_class() {
        Some(class) if ARCHIVES.contains(&class.as_str()) => Archive::Class,
        _ if head.archive_status().is_some() => Archive::Tier,
        _ => return None,
    };
    match head.restore() {
        None => Some(kept),
        Some(restore) if restore.contains("ongoing-request=\"true\"") => {
            Some(Archive::BeingRestored)
        }
        // A copy is there.
        Some(_) => None,
    }
}

/// What element `tag` says in a success that the SDK could not parse, but that is whole: its root begins
/// with `root`, and it ends with it.
pub(super) fn told_all_the_same<E>(
    error: &SdkError<E, HttpResponse>,
    root: &str,
    tag: &str,
) -> Option<String>
where
    E: std::error::Error + 'static,
{
    let response = error.raw_response()?;
    let body = response.body().bytes()?.trim_ascii();
    let text = std::str::from_utf8(body).ok()?;
    let (_, end) = text.rsplit_once("</")?;
    let whole = text.contains(&format!("<{root}")) && end.starts_with(root) && end.ends_with('>');
    (response.status().as_u16() == 200 && whole).then(|| classify::xml_text(body, tag))?
}
