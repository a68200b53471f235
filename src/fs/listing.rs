//! One reading of a directory: a snapshot that grows page by page as it is read.
//!
//! Invariants: an entry once given keeps its offset as long as the directory is open; no name comes
//! twice; a file under the same name as a directory is hidden by it; what cannot be a file name is
//! counted and not shown; files being written are there before the bucket has them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;
use tracing::warn;

use super::names::{is_blank, is_name};
use super::tree::{Kind, Node, version_of};
use super::{Fs, Result};
use crate::draft::Version;
use crate::store::{Continuation, ListEntry};

pub(super) const PAGE: u32 = 1000;

pub struct Listing {
    pub node: Arc<Node>,
    snapshot: Mutex<Snapshot>,
    /// Nobody sees it, so nobody need be told what it does not show.
    behind: bool,
}

#[derive(Default)]
struct Snapshot {
    /// All names behind each other, so that 100,000 entries are not 100,000 allocations.
    names: String,
    entries: Vec<Entry>,
    progress: Progress,
    /// Files that a directory of the same name may yet follow (`foo` … `foo/`).
    undecided: Vec<(String, Version)>,
    /// Children the bucket does not have (yet): files being written.
    unpublished: HashMap<String, Kind>,
    hidden: usize,
    example: Option<String>,
    began: Option<Instant>,
    /// The directory's doubts when it began.
    doubts: u64,
}

#[derive(Default)]
enum Progress {
    #[default]
    Fresh,
    At(Continuation),
    Done,
}

struct Entry {
    name_end: usize,
    kind: Kind,
    object: Option<Version>,
}

/// An entry as it is given out.
pub struct Listed {
    pub name: String,
    pub kind: Kind,
    pub object: Option<Version>,
    /// When the store was asked, at the latest.
    pub asked: Instant,
    /// Where to go on behind this entry.
    pub next: u64,
}

impl Listing {
    pub fn new(node: Arc<Node>) -> Listing {
        Listing {
            node,
            snapshot: Mutex::new(Snapshot::default()),
            behind: false,
        }
    }

    /// One that no program asked for.
    pub fn behind(node: Arc<Node>) -> Listing {
        Listing {
            behind: true,
            ..Listing::new(node)
        }
    }

    /// Up to `max` entries from `offset`; fewer only at the end. From 0 on, the directory is read anew.
    pub async fn read(&self, fs: &Fs, offset: u64, max: usize) -> Result<Vec<Listed>> {
        let mut snapshot = self.snapshot.lock().await;
        if offset == 0 {
            *snapshot = Snapshot {
                unpublished: fs.unpublished(&self.node),
                began: Some(Instant::now()),
                doubts: self.node.state().doubts,
                ..Snapshot::default()
            };
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        while snapshot.entries.len() < start.saturating_add(max)
            && !matches!(snapshot.progress, Progress::Done)
        {
            self.next_page(fs, &mut snapshot).await?;
        }
        let end = snapshot.entries.len().min(start.saturating_add(max));
        Ok((start..end).map(|i| snapshot.listed(i)).collect())
    }

    /// When the snapshot was begun, and with which doubts, if `offset` is its end: then every child was
    /// given out.
    pub async fn complete_at(&self, offset: u64) -> Option<(Instant, u64)> {
        let snapshot = self.snapshot.lock().await;
        let all = matches!(snapshot.progress, Progress::Done)
            && offset as usize >= snapshot.entries.len();
        let began = snapshot.began.filter(|_| all)?;
        Some((began, snapshot.doubts))
    }

    async fn next_page(&self, fs: &Fs, snapshot: &mut Snapshot) -> Result<()> {
        let prefix = &self.node.key();
        let from = match &snapshot.progress {
            Progress::At(from) => Some(from.clone()),
            _ => None,
        };
        let page = fs.store.list(prefix, true, from.as_ref(), PAGE).await?;
        for entry in page.entries {
            snapshot.take(prefix, entry);
        }
        snapshot.progress = match page.next {
            Some(next) => Progress::At(next),
            None => {
                snapshot.finish();
                if !self.behind {
                    snapshot.tell_what_is_hidden(prefix);
                }
                Progress::Done
            }
        };
        Ok(())
    }
}

impl Snapshot {
    fn take(&mut self, prefix: &str, entry: ListEntry) {
        let key = match &entry {
            ListEntry::Object(object) => object.key.as_str(),
            ListEntry::Prefix(prefix) => prefix.as_str(),
        };
        // The directory's own marker.
        if key == prefix {
            return;
        }
        let Some(rest) = key.strip_prefix(prefix).map(str::to_string) else {
            return;
        };
        let name = rest.strip_suffix('/').unwrap_or(&rest);
        let blank = matches!(entry, ListEntry::Object(_)) && is_blank(key);
        if !is_name(name) || blank {
            self.hidden += 1;
            self.example.get_or_insert_with(|| key.to_string());
            return;
        }
        // Whatever this entry no longer begins with will not be followed by a directory of its name.
        while let Some((undecided, _)) = self.undecided.last() {
            if rest.starts_with(undecided.as_str()) {
                break;
            }
            let (name, version) = self.undecided.pop().expect("just seen");
            self.push(&name, Kind::File, Some(version));
        }
        match entry {
            ListEntry::Prefix(_) => {
                if let Some(at) = self.undecided.iter().position(|(file, _)| file == name) {
                    self.undecided.remove(at);
                    self.hidden += 1;
                    self.example
                        .get_or_insert_with(|| format!("{prefix}{name}"));
                }
                self.push(name, Kind::Directory, None);
            }
            ListEntry::Object(object) => {
                self.undecided.push((name.to_string(), version_of(&object)))
            }
        }
    }

    fn finish(&mut self) {
        for (name, version) in std::mem::take(&mut self.undecided) {
            self.push(&name, Kind::File, Some(version));
        }
        for (name, kind) in std::mem::take(&mut self.unpublished) {
            self.push(&name, kind, None);
        }
    }

    fn tell_what_is_hidden(&self, prefix: &str) {
        if let Some(example) = &self.example {
            warn!(
                "/{prefix}: {} keys cannot be shown as files (for example {example:?}: an empty, '.', '..' or too long component, or hidden by a directory of the same name)",
                self.hidden
            );
        }
    }

    fn push(&mut self, name: &str, kind: Kind, object: Option<Version>) {
        self.unpublished.remove(name);
        self.names.push_str(name);
        self.entries.push(Entry {
            name_end: self.names.len(),
            kind,
            object,
        });
    }

    fn listed(&self, index: usize) -> Listed {
        let entry = &self.entries[index];
        let start = if index == 0 {
            0
        } else {
            self.entries[index - 1].name_end
        };
        Listed {
            name: self.names[start..entry.name_end].to_string(),
            kind: entry.kind,
            object: entry.object.clone(),
            asked: self.began.unwrap_or_else(Instant::now),
            next: index as u64 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{ETag, ObjectInfo};

    fn object(key: &str) -> ListEntry {
        ListEntry::Object(ObjectInfo {
            key: key.to_string(),
            size: 1,
            etag: ETag::new("e"),
            modified: SystemTime::UNIX_EPOCH,
            storage_class: None,
            archive: None,
            version: None,
            attributes: None,
        })
    }

    fn names(entries: Vec<ListEntry>, unpublished: &[&str]) -> (Vec<String>, usize) {
        let mut snapshot = Snapshot {
            unpublished: unpublished
                .iter()
                .map(|n| (n.to_string(), Kind::File))
                .collect(),
            ..Snapshot::default()
        };
        for entry in entries {
            snapshot.take("d/", entry);
        }
        snapshot.finish();
        let names = (0..snapshot.entries.len())
            .map(|i| {
                let listed = snapshot.listed(i);
                format!(
                    "{}{}",
                    listed.name,
                    if listed.kind == Kind::Directory {
                        "/"
                    } else {
                        ""
                    }
                )
            })
            .collect();
        (names, snapshot.hidden)
    }

    #[test]
    fn a_directory_hides_the_file_of_its_name_however_far_behind_it_comes() {
        let prefix = |p: &str| ListEntry::Prefix(p.to_string());
        let (names, hidden) = names(
            vec![
                object("d/"),
                object("d/a"),
                object("d/a!"),
                object("d/a!b"),
                object("d/a-"),
                prefix("d/a/"),
                object("d/ab"),
                object("d/b"),
            ],
            &["new", "b"],
        );
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, ["a!", "a!b", "a-", "a/", "ab", "b", "new"]);
        assert_eq!(hidden, 1);
    }

    #[test]
    fn keys_that_cannot_be_names_are_counted_and_not_shown() {
        let long = format!("d/{}", "x".repeat(256));
        let (names, hidden) = names(
            vec![
                ListEntry::Prefix("d//".into()),
                object("d/."),
                ListEntry::Prefix("d/../".into()),
                object(&long),
                object("d/ok"),
            ],
            &[],
        );
        assert_eq!((names, hidden), (vec!["ok".to_string()], 4));
    }
}
