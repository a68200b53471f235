//! Keys on their way out and in: the mounted prefix added and stripped, URL encoding undone and done.
//!
//! Invariants:
//! - `strip(full(key)) == key` for every key; nothing outside the prefix is ever let in.
//! - Decoding happens only where the answer says that it encoded.

use std::fmt::Write;

/// The mounted prefix: empty, or ending with `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    pub fn new(prefix: &str) -> Prefix {
        match prefix {
            "" => Prefix::default(),
            p if p.ends_with('/') => Prefix(p.to_string()),
            p => Prefix(format!("{p}/")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bucket's key for one of ours.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.0)
    }

    /// Our key for one of the bucket's, if it lies below the prefix.
    pub fn strip<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0)
    }

    /// Makes one of the bucket's keys ours. Did it lie below the prefix?
    pub fn strip_off(&self, key: &mut String) -> bool {
        let is_below = key.starts_with(&self.0);
        if is_below {
            key.drain(..self.0.len());
        }
        is_below
    }
}

/// Undoes `encoding-type=url`. `+` is a space there, as in forms; a plus sign comes as `%2B`.
pub(super) fn decode(text: String) -> String {
    if !text.contains(['%', '+']) {
        return text;
    }
    let hex = |b: Option<&u8>| b.and_then(|&b| (b as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, hex(bytes.get(at)), hex(bytes.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    // S3 keys are UTF-8; what is not cannot be asked for either.
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `x-amz-copy-source`: bucket and key, URL-encoded but for the slashes. Of what an access point's ARN shows
/// it is the object's ARN.
pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    let between = match bucket.starts_with("arn:") {
        true => "/object/",
        false => "/",
    };
    format!("{}{between}{}", encoded(bucket), encoded(key))
}

/// A key in a header: URL-encoded but for the slashes.
pub(super) fn encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(byte as char)
            }
            // Writing to a String does not fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// Does a key come out of an XML document as it went in, whoever reads it? Not with what XML 1.0 cannot say,
/// nor with what readers trim or take for the end of a line.
pub(super) fn survives_xml(key: &str) -> bool {
    let lost = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{fffe}' | '\u{ffff}');
    key.trim() == key && !key.contains(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(Prefix::new("").as_str(), "");
        assert_eq!(Prefix::new("a/b").as_str(), "a/b/");
        assert_eq!(Prefix::new("a/b/").as_str(), "a/b/");
        let prefix = Prefix::new("a");
        assert_eq!(prefix.full("b"), "a/b");
        assert_eq!(prefix.strip("a/b"), Some("b"));
        assert_eq!(prefix.strip("a/"), Some(""));
        assert_eq!(prefix.strip("ab"), None);
    }

    #[test]
    fn encoded_keys() {
        for (encoded, key) in [
            ("plain/key.txt", "plain/key.txt"),
            ("a+b%2Bc", "a b+c"),
            ("%C3%A9%0A%25", "é\n%"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%e2%82%ac", "€"),
        ] {
            assert_eq!(decode(encoded.to_string()), key, "{encoded}");
        }
        assert_eq!(decode("%FF".to_string()), "\u{fffd}");
    }

    #[test]
    fn keys_that_xml_might_change_are_told_from_the_rest() {
        for kept in ["a", "a b/c d", "&<>'\"%+", "\u{fc}\u{20ac}", ""] {
            assert!(survives_xml(kept), "{kept:?}");
        }
        for lost in [
            " a", "a ", "a\n", "a\rb", "\t", "\u{1}", "a\u{85}b", "\u{a0}a", "\u{fffe}",
        ] {
            assert!(!survives_xml(lost), "{lost:?}");
        }
    }

    #[test]
    fn copy_sources() {
        assert_eq!(
            copy_source("b", "p/a b+é%.txt"),
            "b/p/a%20b%2B%C3%A9%25.txt"
        );
        assert_eq!(copy_source("b", "/x"), "b//x");
        assert_eq!(
            copy_source("arn:aws:s3:eu-west-1:1:accesspoint/logs", "p/k"),
            "arn%3Aaws%3As3%3Aeu-west-1%3A1%3Aaccesspoint/logs/object/p/k"
        );
    }
}
