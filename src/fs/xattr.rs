//! Extended attributes: `user.*` kept with the object as s3fs keeps them (one metadata entry, `xattr`:
//! URL-encoded JSON of names and values in base64), and what wholefs knows of a file, to be read only.
//!
//! Invariants:
//! - Everything said of an object fits into what S3 takes ([`METADATA_MAX`]): what does not is refused
//!   here, not by the store at a close.
//! - What is no `user.*` is answered without asking the store.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::attributes::Change;
use super::node::Node;
use super::{Error, Fs, Result};
use crate::store::{ErrorKind, Metadata};

/// The metadata entry that carries them.
pub(super) const ENTRY: &str = "xattr";

/// All names and values of an object's metadata together: S3's 2 KB, but for what a commit adds (the time,
/// the upload's token).
const METADATA_MAX: usize = 2048 - 128;

/// What wholefs tells of a file under `user.wholefs.`: read only, and in no list, so that nobody copies it.
const OURS: &str = "user.wholefs.";

/// How setxattr(2) is to go about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Either,
    New,
    Existing,
}

type Pairs = BTreeMap<String, Vec<u8>>;

impl Fs {
    pub async fn get_xattr(self: &Arc<Self>, ino: u64, name: &OsStr) -> Result<Vec<u8>> {
        let name = user_name(name).ok_or_else(none)?;
        let node = self.node(ino)?;
        if let Some(what) = name.strip_prefix(OURS) {
            return self.known_of(&node, what).await;
        }
        let mut pairs = pairs_of(&self.metadata_of(&node).await?);
        pairs.remove(name).ok_or_else(none)
    }

    /// The names, each with a zero behind it.
    pub async fn list_xattr(self: &Arc<Self>, ino: u64) -> Result<Vec<u8>> {
        let node = self.node(ino)?;
        let mut names = Vec::new();
        for name in pairs_of(&self.metadata_of(&node).await?).keys() {
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        Ok(names)
    }

    pub async fn set_xattr(
        self: &Arc<Self>,
        ino: u64,
        name: &OsStr,
        value: &[u8],
        setting: Setting,
    ) -> Result<()> {
        let name = self.settable(name)?;
        let value = value.to_vec();
        self.change_pairs(ino, move |pairs| {
            match setting {
                Setting::New if pairs.contains_key(&name) => {
                    return Err(Error::quiet(libc::EEXIST));
                }
                Setting::Existing if !pairs.contains_key(&name) => return Err(none()),
                _ => {}
            }
            pairs.insert(name.clone(), value.clone());
            Ok(())
        })
        .await
    }

    pub async fn remove_xattr(self: &Arc<Self>, ino: u64, name: &OsStr) -> Result<()> {
        let name = self.settable(name)?;
        self.change_pairs(ino, move |pairs| {
            pairs.remove(&name).map(drop).ok_or_else(none)
        })
        .await
    }

    fn settable(&self, name: &OsStr) -> Result<String> {
        match user_name(name) {
            None if name == "user." => Err(Error::quiet(libc::EINVAL)),
            Some(name) if name.starts_with(OURS) => Err(Error::quiet(libc::EPERM)),
            Some(name) if self.options.keeps_metadata => Ok(name.to_string()),
            _ => Err(Error::quiet(libc::EOPNOTSUPP)),
        }
    }

    async fn change_pairs(
        self: &Arc<Self>,
        ino: u64,
        change: impl Fn(&mut Pairs) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        let node = self.node(ino)?;
        let change: Change = Arc::new(move |metadata: &mut Metadata| {
            let mut pairs = pairs_of(metadata);
            change(&mut pairs)?;
            let mut changed = metadata.clone();
            match pairs.is_empty() {
                true => changed.remove(ENTRY),
                false => changed.insert(ENTRY.to_string(), spelled(&pairs)),
            };
            let size: usize = changed.iter().map(|(k, v)| k.len() + v.len()).sum();
            if size > METADATA_MAX {
                return Err(Error::quiet(libc::E2BIG));
            }
            *metadata = changed;
            Ok(())
        });
        self.change_said(&node, change).await
    }

    /// What is said of a file now: of what is being written, else of the object.
    async fn metadata_of(self: &Arc<Self>, node: &Arc<Node>) -> Result<Metadata> {
        if let Some(draft) = node.live_draft() {
            return Ok(draft.attributes().metadata);
        }
        // As fresh as stat(2) would have it.
        self.getattr(node.ino).await?;
        let said = node.state().said.clone();
        Ok(said.map_or_else(Metadata::default, |said| said.metadata.clone()))
    }

    async fn known_of(&self, node: &Node, what: &str) -> Result<Vec<u8>> {
        let told = match what {
            "upload" => node.live_draft().map(|draft| draft.progress().to_string()),
            "etag" | "version" | "storage-class" if !node.is_directory() => {
                let object = match self.store.head(&node.key()).await {
                    Err(error) if error.kind == ErrorKind::Missing => return Err(none()),
                    answer => answer?,
                };
                match what {
                    "etag" => Some(object.etag.to_string()),
                    "version" => object.version,
                    // Stores that name none mean this one.
                    _ => Some(object.storage_class.unwrap_or("STANDARD".to_string())),
                }
            }
            _ => None,
        };
        told.map(String::into_bytes).ok_or_else(none)
    }
}

fn none() -> Error {
    Error::quiet(libc::ENODATA)
}

fn user_name(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    let rest = name.strip_prefix("user.")?;
    (!rest.is_empty()).then_some(name)
}

/// What cannot be understood is as if it was not there.
fn pairs_of(metadata: &Metadata) -> Pairs {
    let understood = metadata.get(ENTRY).and_then(|text| {
        let json = percent_decode_str(text).decode_utf8().ok()?;
        let pairs: BTreeMap<String, String> = serde_json::from_str(&json).ok()?;
        let decoded = pairs.into_iter();
        decoded
            .map(|(name, value)| Some((name, BASE64.decode(value).ok()?)))
            .collect()
    });
    understood.unwrap_or_default()
}

fn spelled(pairs: &Pairs) -> String {
    let encoded: BTreeMap<&String, String> = pairs
        .iter()
        .map(|(name, value)| (name, BASE64.encode(value)))
        .collect();
    let json = serde_json::to_string(&encoded).expect("names and base64 are JSON");
    utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_again() {
        let pairs: Pairs = [
            ("user.a".to_string(), b"1".to_vec()),
            ("user.ü \"x\"".to_string(), (0..=255).collect()),
            ("user.empty".to_string(), Vec::new()),
        ]
        .into();
        let text = spelled(&pairs);
        assert!(
            text.bytes().all(|b| b.is_ascii_graphic()),
            "a header's value: {text}"
        );
        let metadata = Metadata::from([(ENTRY.to_string(), text)]);
        assert_eq!(pairs_of(&metadata), pairs);
    }

    #[test]
    fn s3fs_form_is_read_and_nonsense_is_as_if_it_was_not_there() {
        let of = |text: &str| pairs_of(&Metadata::from([(ENTRY.to_string(), text.to_string())]));
        let theirs = of("%7B%22user.comment%22%3A%22aGVsbG8%3D%22%7D");
        assert_eq!(theirs["user.comment"], b"hello");
        for text in [
            "",
            "%",
            "{",
            "%7B%7D",
            "[]",
            "{\"user.a\":1}",
            "{\"user.a\":\"%%\"}",
        ] {
            assert!(of(text).is_empty(), "{text}");
        }
    }
}
