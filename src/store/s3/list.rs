//! Listings: what the two versions of the call and their many dialects answer, made one page.
//!
//! Invariants:
//! - Entries are in bytewise order, keys relative to the mounted prefix; odd keys are left in, only
//!   what lies outside the prefix (a store that ignores it) is left out.
//! - A listing that does not advance is an error, not an endless loop.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};

use super::classify::{Op, UNREADABLE};
use super::forms::unquoted;
use super::keys::{Prefix, decode};
use crate::store::{Continuation, ErrorKind, ListEntry, ListPage, ObjectInfo, Result};

/// What a page says of the next one.
pub(super) enum Next {
    /// V2: opaque, never encoded.
    Token(Option<String>),
    /// V1: where there is one. Without it, and it is left out where there is no delimiter, the
    /// listing goes on after the last entry.
    Marker(Option<String>),
    Done,
}

pub(super) struct Page {
    pub objects: Vec<Object>,
    pub prefixes: Vec<CommonPrefix>,
    pub encoding: Option<EncodingType>,
    pub next: Next,
}

impl Page {
    /// The page as callers see it, of what is below `asked`; `from` is what it was asked with.
    pub fn read(
        self,
        mount: &Prefix,
        asked: &str,
        from: Option<&Continuation>,
    ) -> Result<ListPage> {
        let text = decoder(self.encoding.as_ref());
        let is_nameless = |name: &Option<String>| name.as_ref().is_none_or(String::is_empty);
        let mut names = (self.objects.iter().map(|object| &object.key))
            .chain(self.prefixes.iter().map(|prefix| &prefix.prefix));
        if names.any(is_nameless) {
            let message = "an entry has no name that could be read";
            return Err(Op::LIST.error(ErrorKind::Transient, asked, UNREADABLE, message));
        }
        // Nobody's empty file.
        let size = |object: &Object| object.size.and_then(|size| u64::try_from(size).ok());
        if let Some(object) = self.objects.iter().find(|object| size(object).is_none()) {
            let key = object.key.as_deref().unwrap_or_default();
            let message = format!("{key:?} has no size that could be read");
            return Err(Op::LIST.error(ErrorKind::Transient, asked, UNREADABLE, &message));
        }
        let objects = self.objects.into_iter().filter_map(|o| {
            Some(ListEntry::Object(ObjectInfo {
                size: size(&o)?,
                key: text(o.key?),
                etag: unquoted(o.e_tag.as_deref().unwrap_or_default()),
                modified: whole_seconds(time(o.last_modified.as_ref())),
                storage_class: None,
                archive: None,
                version: None,
                attributes: None,
            }))
        });
        let prefixes = self.prefixes.into_iter();
        let prefixes = prefixes.filter_map(|p| Some(ListEntry::Prefix(text(p.prefix?))));
        let mut entries: Vec<ListEntry> = objects.chain(prefixes).collect();
        entries.sort_by(|a, b| a.key().cmp(b.key()));

        let is_done = matches!(self.next, Next::Done);
        let said = match from {
            Some(Continuation::Said(text)) => Some(text),
            _ => None,
        };
        let next = match self.next {
            Next::Done | Next::Token(None) => None,
            Next::Token(Some(token)) => Some(token),
            Next::Marker(Some(marker)) => Some(text(marker)),
            Next::Marker(None) => entries.last().map(|entry| entry.key().to_string()),
        };
        if !is_done && (next.is_none() || next.as_ref() == said) {
            let message = "the store says there is more, and does not say where";
            return Err(Op::LIST.error(ErrorKind::Invalid, asked, "ListingStuck", message));
        }

        entries.retain_mut(|entry| {
            let (ListEntry::Object(ObjectInfo { key, .. }) | ListEntry::Prefix(key)) = entry;
            let is_below = mount.strip_off(key) && key.starts_with(asked);
            if !is_below {
                tracing::debug!(key, "listed, though it is not below the prefix asked for");
            }
            is_below
        });
        Ok(ListPage {
            entries,
            next: next.map(Continuation::Said),
        })
    }
}

/// Decodes keys if the answer says that it encoded them: some stores ignore the wish.
pub(super) fn decoder(encoding: Option<&EncodingType>) -> impl Fn(String) -> String + use<> {
    let encoded = encoding == Some(&EncodingType::Url);
    move |text| match encoded {
        true => decode(text),
        false => text,
    }
}

/// As every other answer tells it: a listing may have the milliseconds, and a time must not change by who was asked.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A store that gives no time, or one out of range, gets the epoch.
pub(super) fn time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|t| SystemTime::try_from(*t).ok())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Object {
        Object::builder().key(key).size(1).e_tag("\"e\"").build()
    }

    fn prefix(prefix: &str) -> CommonPrefix {
        CommonPrefix::builder().prefix(prefix).build()
    }

    fn names(page: &ListPage) -> Vec<&str> {
        page.entries
            .iter()
            .map(|entry| match entry {
                ListEntry::Object(o) => o.key.as_str(),
                ListEntry::Prefix(p) => p.as_str(),
            })
            .collect()
    }

    #[test]
    fn objects_and_prefixes_are_merged_bytewise() {
        let page = Page {
            objects: vec![object("m/a"), object("m/b.txt"), object("m/c+%2B")],
            prefixes: vec![prefix("m/b/"), prefix("m/%C3%A9/")],
            encoding: Some(EncodingType::Url),
            next: Next::Done,
        };
        let page = page.read(&Prefix::new("m/"), "", None).expect("a page");
        assert_eq!(names(&page), ["a", "b.txt", "b/", "c +", "é/"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn keys_are_taken_as_they_are_where_nothing_was_encoded() {
        let page = Page {
            objects: vec![object("a+%41"), object("elsewhere")],
            prefixes: vec![],
            encoding: None,
            next: Next::Marker(None),
        };
        let page = page.read(&Prefix::default(), "", None).expect("a page");
        assert_eq!(names(&page), ["a+%41", "elsewhere"]);
        assert_eq!(page.next, Some(Continuation::Said("elsewhere".into())));
    }

    #[test]
    fn what_is_outside_the_prefix_is_left_out() {
        let page = Page {
            objects: vec![object("m/"), object("n/a")],
            prefixes: vec![],
            encoding: None,
            next: Next::Done,
        };
        assert_eq!(
            names(&page.read(&Prefix::new("m"), "", None).expect("a page")),
            [""]
        );
        // Of a store that ignores what it was asked for, too.
        let page = Page {
            objects: vec![object("m/a/1"), object("m/b"), object("n/a/2")],
            prefixes: vec![prefix("m/a/d/"), prefix("m/b/")],
            encoding: None,
            next: Next::Done,
        };
        let page = page.read(&Prefix::new("m"), "a/", None).expect("a page");
        assert_eq!(names(&page), ["a/1", "a/d/"]);
    }

    #[test]
    fn a_listing_that_does_not_advance_is_an_error() {
        let from = Continuation::Said("a".into());
        for next in [
            Next::Marker(Some("a".to_string())),
            Next::Marker(None),
            Next::Token(None),
        ] {
            let page = Page {
                objects: vec![object("a")],
                prefixes: vec![],
                encoding: None,
                next,
            };
            let error = page
                .read(&Prefix::default(), "", Some(&from))
                .expect_err("stuck");
            assert_eq!(error.code, "ListingStuck");
        }
    }
}
