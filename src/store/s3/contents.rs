//! A listing's objects, read fast. A page of a thousand is a quarter of a megabyte of XML, and the SDK's reader,
//! which knows all of XML, took a third of all that `ls -l` of a large directory cost this mount.
//!
//! So the objects are taken out of the answer before the SDK reads it, if they are written as stores write them:
//! elements without attributes, text without sections. The rest, and whatever is written otherwise, the SDK reads.
//! Invariant: what comes out is what the SDK would have made of it, as far as anybody here asks.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeSerializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, FrozenLayer, Intercept};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2, ListObjectsV2Output};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat, SdkBody};
use aws_sdk_s3::types::Object;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};

/// Of the second version of the call.
#[derive(Debug)]
pub(super) struct QuickContents;

impl Intercept for QuickContents {
    fn name(&self) -> &'static str {
        "QuickContents"
    }

    fn read_before_execution(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(sdks) = ListObjectsV2::new().config() {
            let quick = SharedResponseDeserializer::new(Quick(sdks));
            config.interceptor_state().store_put(quick);
        }
        Ok(())
    }
}

/// In the place of the SDK's own, which is among these.
#[derive(Debug)]
struct Quick(FrozenLayer);

impl DeserializeResponse for Quick {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        let Some(sdks) = self.0.load::<SharedResponseDeserializer>() else {
            return Err(OrchestratorError::other(
                "the SDK has no reader of listings",
            ));
        };
        let body = response.body().bytes();
        let text = body.and_then(|body| std::str::from_utf8(body).ok());
        let Some((rest, objects)) = text.and_then(taken_apart) else {
            return sdks.deserialize_nonstreaming_with_config(response, config);
        };
        let mut without = HttpResponse::new(response.status(), SdkBody::from(rest));
        *without.headers_mut() = response.headers().clone();
        let read = sdks.deserialize_nonstreaming_with_config(&without, config)?;
        let with = |mut page: ListObjectsV2Output| {
            page.contents = Some(objects);
            Output::erase(page)
        };
        read.downcast().map_or_else(Ok, |page| Ok(with(page)))
    }
}

/// An answer's objects, and it without them; `None` if there are none, or if they had better be left to the SDK.
fn taken_apart(text: &str) -> Option<(String, Vec<Object>)> {
    // Comments and sections may have anything in them.
    if text.contains("<!") {
        return None;
    }
    let mut rest = String::new();
    let mut objects = Vec::new();
    let mut left = text;
    while let Some((before, behind)) = left.split_once("<Contents>") {
        rest.push_str(before);
        let object;
        (object, left) = object_of(behind)?;
        objects.push(object);
    }
    rest.push_str(left);
    (!objects.is_empty()).then_some((rest, objects))
}

/// The object, and what comes behind it.
fn object_of(mut text: &str) -> Option<(Object, &str)> {
    let mut object = Object::builder();
    loop {
        text = text.trim_ascii_start().strip_prefix('<')?;
        if let Some(behind) = text.strip_prefix("/Contents>") {
            return Some((object.build(), behind));
        }
        let (name, inner) = text.split_once('>')?;
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let value;
        (value, text) = element(name, inner)?;
        object = match name {
            "Key" => object.key(plain(value)?),
            "ETag" => object.e_tag(plain(value)?),
            "Size" => object.size(value.parse().ok()?),
            "LastModified" => object
                .last_modified(DateTime::from_str(value, DateTimeFormat::DateTimeWithOffset).ok()?),
            "Contents" => return None,
            _ => object,
        };
    }
}

/// What is in an element of that name, and what comes behind it.
fn element<'a>(name: &str, text: &'a str) -> Option<(&'a str, &'a str)> {
    let mut searched = 0;
    loop {
        let end = searched + text[searched..].find("</")?;
        let behind = text[end + 2..].strip_prefix(name);
        if let Some(behind) = behind.and_then(|behind| behind.strip_prefix('>')) {
            return Some((&text[..end], behind));
        }
        searched = end + 2;
    }
}

/// What text says, if nothing is in it but text.
fn plain(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut left = text;
    while let Some(at) = left.find(['&', '<']) {
        plain.push_str(&left[..at]);
        let (name, behind) = left[at..].strip_prefix('&')?.split_once(';')?;
        plain.push(match name {
            "quot" | "#34" => '"',
            "amp" | "#38" => '&',
            "lt" | "#60" => '<',
            "gt" | "#62" => '>',
            "apos" | "#39" => '\'',
            _ => return None,
        });
        left = behind;
    }
    plain.push_str(left);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>"#;
    const FOOT: &str = "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes></ListBucketResult>";

    #[test]
    fn objects_are_taken_out_and_the_rest_is_left() {
        let objects = r#"<Contents><Key>a &amp; b%2F&#39;</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>o</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>
            <Contents>
              <ChecksumAlgorithm>CRC32</ChecksumAlgorithm>
              <Key></Key>
              <RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>
            </Contents>"#;
        let (rest, objects) = taken_apart(&format!("{HEAD}{objects}{FOOT}")).expect("plain");
        assert_eq!(
            rest.replace(char::is_whitespace, ""),
            format!("{HEAD}{FOOT}").replace(char::is_whitespace, "")
        );
        let [first, second] = &objects[..] else {
            panic!("{objects:?}")
        };
        assert_eq!(first.key(), Some("a & b%2F'"));
        assert_eq!((first.e_tag(), first.size()), (Some("\"e\""), Some(7)));
        let modified = first.last_modified().expect("a time");
        assert_eq!(
            (modified.secs(), modified.subsec_nanos()),
            (1_767_323_045, 678_000_000)
        );
        assert_eq!((second.key(), second.size()), (Some(""), None));
    }

    #[test]
    fn what_is_written_in_another_way_is_left_to_the_sdk() {
        for object in [
            "",
            "<Contents/>",
            "<Contents><Key>a</Key>",
            "<Contents><Key>a</Contents>",
            "<Contents><Key>a",
            "<Contents><Key/></Contents>",
            "<Contents><Key x='y'>a</Key></Contents>",
            "<Contents><Key>a<b>c</b></Key></Contents>",
            "<Contents><Key><![CDATA[a]]></Key></Contents>",
            "<Contents><!-- a --><Key>a</Key></Contents>",
            "<Contents><Key>a&#x26;</Key></Contents>",
            "<Contents><Key>a & b</Key></Contents>",
            "<Contents><Size> 7</Size></Contents>",
            "<Contents><Size>many</Size></Contents>",
            "<Contents><LastModified>yesterday</LastModified></Contents>",
            "<Contents>a</Contents>",
            "<Contents><Contents><Key>a</Key></Contents></Contents>",
            "<s3:Contents><s3:Key>a</s3:Key></s3:Contents>",
        ] {
            let text = format!("{HEAD}{object}{FOOT}");
            assert!(taken_apart(&text).is_none(), "{object}");
        }
    }

    /// As the SDK reads it: alone, or what is left for it.
    fn read(text: &str, quick: bool) -> ListObjectsV2Output {
        let sdks = ListObjectsV2::new().config().expect("a configuration");
        let response = HttpResponse::new(200.try_into().expect("a status"), SdkBody::from(text));
        let config = ConfigBag::base();
        let read = match quick {
            true => Quick(sdks).deserialize_nonstreaming_with_config(&response, &config),
            false => {
                let sdks = sdks.load::<SharedResponseDeserializer>().expect("its own");
                sdks.deserialize_nonstreaming_with_config(&response, &config)
            }
        };
        read.expect("a page").downcast().expect("a page")
    }

    #[test]
    fn a_page_is_what_the_sdk_makes_of_it() {
        let object = |n: u32| {
            let (name, size) = (format!("a &lt;{n}&gt; + %C3%A9 \u{e9}"), n * 77);
            let time = match n % 3 {
                0 => "2026-01-02T03:04:05.678Z",
                1 => "2026-01-02T03:04:05Z",
                _ => "2026-01-02T03:04:05.678901+02:00",
            };
            format!(
                "<Contents><Key>{name}</Key><LastModified>{time}</LastModified><ETag>&#34;{n}&#34;</ETag><Size>{size}</Size></Contents>"
            )
        };
        let objects: String = (0..30).map(object).collect();
        let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><EncodingType>url</EncodingType>";
        for text in [
            format!("{HEAD}{more}{objects}{FOOT}"),
            format!("{HEAD}{objects}{more}{FOOT}"),
            format!("{HEAD}{more}{FOOT}"),
            format!("{HEAD}<!-- {objects} -->{objects}{FOOT}"),
        ] {
            assert_eq!(read(&text, true), read(&text, false), "{text}");
        }
    }
}
