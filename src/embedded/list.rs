//! Paging through sorted keys as S3 does: pure, over any sorted map.
//!
//! Invariants: entries come in the order of their bytes; a key and a common prefix each count as
//! one entry of the page; a page is truncated exactly when another entry follows; going on from
//! the last entry of a page repeats nothing and skips nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a listing starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum After {
    Start,
    /// Behind this key.
    Key(String),
    /// Behind everything that begins with this prefix.
    Prefix(String),
}

impl After {
    /// What a `marker` means: it may be a key or, with a delimiter, a common prefix returned by
    /// the page before.
    pub fn marker(marker: Option<&str>, prefix: &str, delimiter: Option<&str>) -> After {
        match marker {
            None | Some("") => After::Start,
            Some(marker) => match common_prefix(marker, prefix, delimiter) {
                Some(common) if common == marker => After::Prefix(marker.to_owned()),
                _ => After::Key(marker.to_owned()),
            },
        }
    }

    /// As an opaque token; [`After::from_token`] reads it.
    pub fn to_token(&self) -> Option<String> {
        let text = match self {
            After::Start => return None,
            After::Key(key) => format!("k{key}"),
            After::Prefix(prefix) => format!("p{prefix}"),
        };
        Some(text.bytes().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn from_token(token: &str) -> Option<After> {
        if !token.is_ascii() || !token.len().is_multiple_of(2) {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..token.len() / 2)
            .map(|i| u8::from_str_radix(&token[2 * i..2 * i + 2], 16).ok())
            .collect();
        let text = String::from_utf8(bytes?).ok()?;
        match text.split_at_checked(1)? {
            ("k", key) => Some(After::Key(key.to_owned())),
            ("p", prefix) => Some(After::Prefix(prefix.to_owned())),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Page<'a, T> {
    pub items: Vec<(&'a str, &'a T)>,
    pub prefixes: Vec<String>,
    pub truncated: bool,
    /// Where the next page starts; `Start` when this page is empty.
    pub next: After,
}

/// The prefix `key` is rolled up into, if it is.
pub(super) fn common_prefix<'a>(
    key: &'a str,
    prefix: &str,
    delimiter: Option<&str>,
) -> Option<&'a str> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let rest = key.strip_prefix(prefix)?;
    let at = rest.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// One page of at most `max` entries.
pub(super) fn page<'a, T>(
    map: &'a BTreeMap<String, T>,
    prefix: &str,
    delimiter: Option<&str>,
    after: &After,
    max: usize,
) -> Page<'a, T> {
    let mut page = Page {
        items: Vec::new(),
        prefixes: Vec::new(),
        truncated: false,
        next: After::Start,
    };
    if max == 0 {
        return page;
    }
    let mut from = match after {
        After::Start => Bound::Included(prefix.to_owned()),
        After::Key(key) if key.as_str() < prefix => Bound::Included(prefix.to_owned()),
        After::Key(key) => Bound::Excluded(key.clone()),
        After::Prefix(skipped) => match behind(skipped) {
            Some(start) => Bound::Included(start.max(prefix.to_owned())),
            None => return page,
        },
    };
    loop {
        let start = (from.as_ref().map(String::as_str), Bound::Unbounded);
        let mut range = map
            .range::<str, _>(start)
            .take_while(|(key, _)| key.starts_with(prefix));
        // Walk until a key rolls up; behind its prefix the walk starts anew, so that a directory
        // of a million keys costs one step.
        let rolled = loop {
            let Some((key, value)) = range.next() else {
                return page;
            };
            if page.items.len() + page.prefixes.len() == max {
                page.truncated = true;
                return page;
            }
            match common_prefix(key, prefix, delimiter) {
                Some(common) => break common.to_owned(),
                None => {
                    page.items.push((key, value));
                    page.next = After::Key(key.clone());
                }
            }
        };
        page.next = After::Prefix(rolled.clone());
        let next = behind(&rolled);
        page.prefixes.push(rolled);
        match next {
            Some(start) => from = Bound::Included(start),
            None => return page,
        }
    }
}

/// The same of a store that has all common prefixes before the first key.
pub(super) fn page_directories_first<'a, T>(
    map: &'a BTreeMap<String, T>,
    prefix: &str,
    delimiter: Option<&str>,
    after: &After,
    max: usize,
) -> Page<'a, T> {
    let all = page(map, prefix, delimiter, &After::Start, usize::MAX);
    let directories = all.prefixes.len();
    let entries = directories + all.items.len();
    let start = match after {
        After::Start => 0,
        After::Prefix(last) => all.prefixes.partition_point(|prefix| prefix <= last),
        After::Key(last) => {
            directories + all.items.partition_point(|(key, _)| *key <= last.as_str())
        }
    };
    let end = start.saturating_add(max).min(entries);
    let prefixes = all.prefixes[start.min(directories)..end.min(directories)].to_vec();
    let items = &all.items[start.saturating_sub(directories)..end.saturating_sub(directories)];
    Page {
        next: match (items.last(), prefixes.last()) {
            (Some((key, _)), _) => After::Key((*key).to_owned()),
            (None, Some(prefix)) => After::Prefix(prefix.clone()),
            (None, None) => After::Start,
        },
        items: items.to_vec(),
        prefixes,
        truncated: end < entries,
    }
}

/// The first string that is behind everything beginning with `prefix`; none when nothing is.
fn behind(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The order of `char` is the order of UTF-8 bytes. The step over the surrogates is hidden
        // in the range.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// `encoding-type=url`: everything but unreserved characters and the slash is percent-encoded.
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| ((*key).to_owned(), ())).collect()
    }

    fn entries<T>(page: &Page<'_, T>) -> Vec<String> {
        let items = page.items.iter().map(|(key, _)| (*key).to_owned());
        let mut all: Vec<String> = items.chain(page.prefixes.iter().cloned()).collect();
        all.sort();
        all
    }

    /// What the listing is by definition, without any cleverness.
    fn by_definition(keys: &[&str], prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        let mut all: Vec<String> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| {
                common_prefix(key, prefix, delimiter)
                    .unwrap_or(key)
                    .to_owned()
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    const KEYS: &[&str] = &[
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "a0",
        "b/c/d",
        "b/c/e",
        "b!",
        "\u{10ffff}/x",
        "z\u{10ffff}/y",
        "é/1",
        "é/2",
    ];

    #[test]
    fn pages_of_every_size_join_to_the_definition() {
        let map = map(KEYS);
        for prefix in ["", "a", "a/", "b/", "b/c/", "é", "nothing", "\u{10ffff}"] {
            for delimiter in [None, Some("/"), Some("c/"), Some("")] {
                let expected = by_definition(KEYS, prefix, delimiter);
                for max in 1..=KEYS.len() + 1 {
                    for tokens in [true, false] {
                        let mut after = After::Start;
                        let mut seen = Vec::new();
                        loop {
                            let page = page(&map, prefix, delimiter, &after, max);
                            let here = entries(&page);
                            assert!(here.len() <= max);
                            seen.extend(here);
                            if !page.truncated {
                                break;
                            }
                            after = if tokens {
                                After::from_token(&page.next.to_token().unwrap()).unwrap()
                            } else {
                                let (After::Key(last) | After::Prefix(last)) = &page.next else {
                                    panic!("a truncated page without a last entry");
                                };
                                After::marker(Some(last), prefix, delimiter)
                            };
                        }
                        assert_eq!(seen, expected, "{prefix:?} {delimiter:?} by {max}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_last_page_is_not_truncated() {
        let map = map(&["a", "b"]);
        assert!(!page(&map, "", None, &After::Start, 2).truncated);
        assert!(page(&map, "", None, &After::Start, 1).truncated);
        let none = page(&map, "", None, &After::Start, 0);
        assert!(!none.truncated && none.items.is_empty());
    }

    #[test]
    fn a_start_inside_a_directory_still_shows_the_directory() {
        let map = map(&["d/1", "d/2", "e"]);
        let page = page(&map, "", Some("/"), &After::Key("d/1".into()), 10);
        assert_eq!(entries(&page), ["d/", "e"]);
    }

    #[test]
    fn foreign_tokens_are_no_tokens() {
        for token in ["", "zz", "6", "7861", "é", "6bff"] {
            assert_eq!(After::from_token(token), None, "{token}");
        }
    }

    #[test]
    fn urls_keep_the_slash() {
        assert_eq!(url_encode("a b/ü+.~"), "a%20b/%C3%BC%2B.~");
    }
}
