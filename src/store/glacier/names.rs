//! The words of a catalogue, and what they come to. Pure, but for [`now`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::{Attributes, ETag};

/// Which vault a catalogue is of: its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultName {
    /// `None`: AWS's own.
    pub endpoint: Option<String>,
    pub region: String,
    pub account: String,
    pub vault: String,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Archive {
        id: String,
        tree_hash: String,
    },
    /// In the catalogue itself: no archive is empty, and a symbolic link is not worth one.
    Here {
        text: String,
        version: String,
    },
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub content: Content,
    pub size: u64,
    /// Milliseconds since 1970.
    pub stored: u64,
    #[serde(with = "Said")]
    pub said: Attributes,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attributes")]
struct Said {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_language: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl Entry {
    pub fn archive(&self) -> Option<&str> {
        match &self.content {
            Content::Archive { id, .. } => Some(id),
            Content::Here { .. } => None,
        }
    }

    pub fn etag(&self) -> ETag {
        ETag::new(match &self.content {
            Content::Archive { id, .. } => id,
            Content::Here { version, .. } => version,
        })
    }

    pub fn stored_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.stored)
    }
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What Complete says of an archive; said again, the vault answers the same archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub size: u64,
    pub tree_hash: String,
}

/// An upload that is being completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completing {
    pub said: Attributes,
    pub by: Option<Completion>,
}

/// A change, as a line of the log and of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// Complete is sent next: what is said of the file, for whoever has to send it again.
    Completing {
        upload: String,
        #[serde(with = "Said")]
        said: Attributes,
        /// How it is completed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Completion>,
    },
    /// Nothing more is to be known of that upload.
    Ended {
        upload: String,
    },
    /// The name stands for this from now on. `upload`: it came by that one.
    Put {
        name: String,
        entry: Entry,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upload: Option<String>,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// An archive without a name: to be deleted.
    Garbage {
        archive: String,
    },
    /// It is not there any more.
    Deleted {
        archive: String,
    },
}

/// What a catalogue says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub files: BTreeMap<String, Entry>,
    /// Archives that have no name any more and may still be there.
    pub garbage: BTreeSet<String>,
    /// Uploads that are being completed, and what is said of their files.
    pub completing: BTreeMap<String, Completing>,
    /// How many names an archive has.
    named: HashMap<String, usize>,
}

impl Names {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Completing { upload, said, by } => {
                self.completing.insert(upload, Completing { said, by });
            }
            Record::Ended { upload } => {
                self.completing.remove(&upload);
            }
            Record::Put {
                name,
                entry,
                upload,
            } => {
                if let Some(upload) = upload {
                    self.completing.remove(&upload);
                }
                // In this order: it may be the same archive, of which something else is said now.
                self.name(&entry);
                if let Some(before) = self.files.insert(name, entry) {
                    self.unname(&before);
                }
            }
            Record::Rename { from, to } => {
                if from != to
                    && let Some(entry) = self.files.remove(&from)
                    && let Some(before) = self.files.insert(to, entry)
                {
                    self.unname(&before);
                }
            }
            Record::Remove { name } => {
                if let Some(before) = self.files.remove(&name) {
                    self.unname(&before);
                }
            }
            Record::Garbage { archive } => {
                if !self.named.contains_key(&archive) {
                    self.garbage.insert(archive);
                }
            }
            Record::Deleted { archive } => {
                self.garbage.remove(&archive);
            }
        }
    }

    fn name(&mut self, entry: &Entry) {
        if let Some(archive) = entry.archive() {
            *self.named.entry(archive.to_string()).or_default() += 1;
            self.garbage.remove(archive);
        }
    }

    fn unname(&mut self, entry: &Entry) {
        let Some(archive) = entry.archive() else {
            return;
        };
        if let Some(names) = self.named.get_mut(archive) {
            *names -= 1;
            if *names == 0 {
                self.named.remove(archive);
                self.garbage.insert(archive.to_string());
            }
        }
    }

    pub fn knows(&self, archive: &str) -> bool {
        self.named.contains_key(archive) || self.garbage.contains(archive)
    }

    /// Everything, as the records that make it.
    pub fn records(&self) -> Vec<Record> {
        let completing = self
            .completing
            .iter()
            .map(|(upload, completing)| Record::Completing {
                upload: upload.clone(),
                said: completing.said.clone(),
                by: completing.by.clone(),
            });
        let files = self.files.iter().map(|(name, entry)| Record::Put {
            name: name.clone(),
            entry: entry.clone(),
            upload: None,
        });
        let garbage = self.garbage.iter().map(|archive| Record::Garbage {
            archive: archive.clone(),
        });
        completing.chain(files).chain(garbage).collect()
    }
}
