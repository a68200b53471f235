//! An archive's description: the one thing a vault keeps beside the bytes. Pure.
//!
//! It carries the name a file was written under and what was said of it then, our token above all: by that
//! an open upload is known as ours, and by the name a lost catalogue is made anew from the vault's inventory.
//!
//! `wholefs:1:NAME:KEY=VALUE&KEY=VALUE`, with whatever is no letter, digit or `-_.~/` percent-encoded. A name
//! that grows too long so is written as `wholefs:1b:BASE64:…`. What does not fit of what was said is left
//! out, but never the token.
//!
//! Invariants: at most [`LONGEST`] characters, printable ASCII; any name of at most [`NAME_MAX`] bytes fits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::store::{Metadata, TOKEN_KEY};

/// What Glacier takes.
pub(super) const LONGEST: usize = 1024;
/// In base64, with the token, this is not longer.
pub(super) const NAME_MAX: usize = 700;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// `None`: the name is too long.
pub(super) fn write(name: &str, said: &Metadata) -> Option<String> {
    let pair = |key: &str, value: &str| format!("{}={}", escaped(key), escaped(value));
    let token = said.get(TOKEN_KEY).map(|token| pair(TOKEN_KEY, token));
    let mut said_of_it = token.unwrap_or_default();
    let readable = format!("wholefs:1:{}:", escaped(name));
    let mut text = match readable.len() + said_of_it.len() <= LONGEST {
        true => readable,
        false => format!("wholefs:1b:{}:", BASE64.encode(name)),
    };
    for (key, value) in said.iter().filter(|(key, _)| *key != TOKEN_KEY) {
        let more = pair(key, value);
        if text.len() + said_of_it.len() + 1 + more.len() <= LONGEST {
            if !said_of_it.is_empty() {
                said_of_it.push('&');
            }
            said_of_it.push_str(&more);
        }
    }
    text.push_str(&said_of_it);
    (text.len() <= LONGEST).then_some(text)
}

/// `None`: it is not one of ours.
pub(super) fn read(description: &str) -> Option<(String, Metadata)> {
    let mut fields = description.strip_prefix("wholefs:")?.splitn(3, ':');
    let (form, name, said) = (fields.next()?, fields.next()?, fields.next()?);
    let plain = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let name = match form {
        "1" => plain(name)?,
        "1b" => String::from_utf8(BASE64.decode(name).ok()?).ok()?,
        _ => return None,
    };
    let mut metadata = Metadata::new();
    for pair in said.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        metadata.insert(plain(key)?, plain(value)?);
    }
    (!name.is_empty()).then_some((name, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(extra: &[(&str, &str)]) -> Metadata {
        let token = (TOKEN_KEY, "0123456789abcdef0123456789abcdef");
        let pairs = extra.iter().chain([&token]);
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn a_description_reads_as_what_it_was_written_for() {
        let said = said(&[("mode", "33188"), ("mtime", "1790000000.123456789")]);
        let text = write("2026/a b:ü.tar", &said).unwrap();
        assert!(
            text.starts_with("wholefs:1:2026/a%20b%3A%C3%BC.tar:wholefs-token="),
            "{text}"
        );
        assert_eq!(read(&text), Some(("2026/a b:ü.tar".to_string(), said)));
    }

    #[test]
    fn what_others_wrote_is_nobodys() {
        for foreign in [
            "",
            "photos 2012",
            "wholefs",
            "wholefs:1:",
            "wholefs:1::",
            "wholefs:2:a:",
            "wholefs:1:a:b",
        ] {
            assert_eq!(read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_longest_names_fit_and_keep_their_token() {
        for name in ["ü".repeat(NAME_MAX / 2), "x".repeat(NAME_MAX)] {
            let long = "y".repeat(900);
            let text = write(&name, &said(&[("user.comment", &long), ("mode", "33188")])).unwrap();
            let (back, metadata) = read(&text).unwrap();
            assert_eq!(back, name);
            assert!(metadata.contains_key(TOKEN_KEY) && !metadata.contains_key("user.comment"));
        }
        assert_eq!(write(&"ü".repeat(600), &said(&[])), None);
    }

    proptest! {
        #[test]
        fn any_name_is_ascii_fits_and_comes_back(name in "\\PC{1,170}", value in "\\PC{0,40}") {
            let said = said(&[("k", &value)]);
            let text = write(&name, &said).unwrap();
            prop_assert!(text.len() <= LONGEST && text.bytes().all(|b| (32..127).contains(&b)));
            let (back, metadata) = read(&text).unwrap();
            prop_assert_eq!(back, name);
            prop_assert_eq!(metadata.get(TOKEN_KEY), said.get(TOKEN_KEY));
        }
    }
}
