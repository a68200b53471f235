//! An object's version, as the store names it. Most stores name it by an MD5 in hex, with the number of its parts
//! behind it: kept as what it says, a million of them are a million times 24 bytes and no allocation.
//!
//! Invariant: it is told again letter by letter as it came.

use std::fmt;

/// Without the quotes it travels in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// Thirty-two digits in lower case; and, unless it is 0, a dash and this number.
    Digest([u8; 16], u32),
    Text(Box<str>),
}

impl ETag {
    pub fn new(text: impl AsRef<str>) -> ETag {
        let text = text.as_ref();
        ETag(digest(text).unwrap_or_else(|| Form::Text(text.into())))
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Form::Text(text) if text.is_empty())
    }
}

fn digest(text: &str) -> Option<Form> {
    let (digits, rest) = text.as_bytes().split_first_chunk::<32>()?;
    let parts = match rest {
        [] => 0,
        // As the number is spelt, and no other way.
        [b'-', b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            text[33..].parse().ok()?
        }
        _ => return None,
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(Form::Digest(bytes, parts))
}

fn digit(hex: u8) -> Option<u8> {
    match hex {
        b'0'..=b'9' => Some(hex - b'0'),
        b'a'..=b'f' => Some(hex - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, parts) = match &self.0 {
            Form::Text(text) => return f.write_str(text),
            Form::Digest(bytes, parts) => (bytes, parts),
        };
        write!(f, "{:032x}", u128::from_be_bytes(*bytes))?;
        match parts {
            0 => Ok(()),
            parts => write!(f, "-{parts}"),
        }
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag(\"{self}\")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn each_is_told_as_it_came() {
        let others = [
            "",
            "e",
            "0123",
            "a-2",
            "0123456789ABCDEF0123456789abcdef",
            "0123456789abcdef0123456789abcdeg",
            "0123456789abcdef0123456789abcdéé",
        ];
        let behind = [
            "",
            "-",
            "-1",
            "-10000",
            "-4294967295",
            "-0",
            "-01",
            "-+1",
            "-1x",
            "--1",
            "-4294967296",
            "-é",
        ];
        let md5s = behind.map(|behind| format!("{MD5}{behind}"));
        let all: Vec<&str> = others
            .into_iter()
            .chain(md5s.iter().map(String::as_str))
            .collect();
        for text in &all {
            assert_eq!(ETag::new(text).to_string(), *text);
            for other in &all {
                assert_eq!(
                    ETag::new(text) == ETag::new(other),
                    text == other,
                    "{text:?} {other:?}"
                );
            }
        }
        assert!(ETag::new("").is_empty() && !ETag::new(MD5).is_empty());
    }

    #[test]
    fn an_md5_takes_no_memory_of_its_own() {
        for text in [MD5.to_string(), format!("{MD5}-1"), format!("{MD5}-10000")] {
            assert!(matches!(ETag::new(text).0, Form::Digest(..)));
        }
        assert_eq!(size_of::<ETag>(), 24);
        assert_eq!(size_of::<Option<ETag>>(), 24);
    }
}
