//! Small values in the form they travel in.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::store::ETag;

/// `bytes a-b/total` as a half-open range and the total.
pub(super) fn content_range(header: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    Some((first..last.checked_add(1)?, total.trim().parse().ok()?))
}

pub(super) fn quoted(etag: &ETag) -> String {
    format!("\"{etag}\"")
}

pub(super) fn unquoted(etag: &str) -> ETag {
    let etag = etag.trim();
    let strong = etag.strip_prefix("W/").unwrap_or(etag);
    ETag::new(strong.trim_matches('"'))
}

pub(super) fn encode_crc64(crc: u64) -> String {
    BASE64.encode(crc.to_be_bytes())
}

pub(super) fn decode_crc64(text: &str) -> Option<u64> {
    let bytes = BASE64.decode(text).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, 100)));
        assert_eq!(content_range("bytes 5-5/6"), Some((5..6, 6)));
        for bad in [
            "",
            "bytes */100",
            "bytes 0-9/*",
            "0-9/100",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn etags() {
        assert_eq!(unquoted("\"abc-2\""), ETag::new("abc-2"));
        assert_eq!(unquoted("W/\"abc\""), ETag::new("abc"));
        assert_eq!(unquoted("abc"), ETag::new("abc"));
        assert_eq!(quoted(&ETag::new("abc")), "\"abc\"");
    }

    #[test]
    fn checksums() {
        assert_eq!(encode_crc64(1), "AAAAAAAAAAE=");
        for crc in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(decode_crc64(&encode_crc64(crc)), Some(crc));
        }
        assert_eq!(decode_crc64("AAAA"), None);
        assert_eq!(decode_crc64("!"), None);
    }
}
