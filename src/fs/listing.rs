//! One reading of a directory: a snapshot that grows page by page as it is read, a page or two ahead of the reader.
//!
//! Invariants: an entry once given keeps its offset as long as the directory is open; no name comes
//! twice; a file under the same name as a directory is hidden by it; what cannot be a file name is
//! counted and not shown; files being written are there before the bucket has them.

mod ahead;
mod guess;
mod source;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tracing::warn;

use super::moment::Moment;
use super::names::{is_blank, is_name};
use super::node::{Kind, Node, version_of};
use super::sample::{Found, Sample};
use super::{Error, Fs, Result};
use crate::draft::Version;
use crate::store::{self, ListEntry};
use source::{Arrived, Place, Source};

pub(super) const PAGE: u32 = 1000;

pub struct Listing {
    pub node: Arc<Node>,
    snapshot: Mutex<Snapshot>,
    /// Nobody sees it, so nobody need be told what it does not show.
    behind: bool,
}

#[derive(Default)]
struct Snapshot {
    pages: Vec<Page>,
    /// The pages before this one are read: of theirs names are kept, and nothing else.
    read: usize,
    progress: Progress,
    /// Of the last page.
    sample: Option<Sample>,
    /// When the store was asked for the last page.
    asked: Option<Moment>,
    undecided: Vec<Undecided>,
    /// Children the bucket does not have (yet): files being written.
    unpublished: HashMap<String, Kind>,
    hidden: usize,
    example: Option<String>,
    began: Option<Moment>,
    /// The directory's doubts when it began.
    doubts: u64,
}

/// A file that a directory of the same name may yet follow (`foo` … `foo/`).
struct Undecided {
    name: String,
    version: Version,
    asked: Option<Moment>,
}

enum Progress {
    /// The page from here on is wanted next, and nobody has asked for it.
    At(Place),
    Coming(Coming),
    Done,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::At(Place::default())
    }
}

/// Pages on their way. One is asked for as soon as the one before it is here, and a sample of each as soon as
/// that is: a reader is not waited for until two are ahead of him, and some more of a store that is far.
struct Coming {
    /// Behind those that were taken in.
    place: Place,
    pages: mpsc::Receiver<store::Result<(Arrived, Place)>>,
    task: AbortHandle,
}

/// Nobody waits for them any more.
impl Drop for Coming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A million entries are a few thousand allocations.
#[derive(Default)]
struct Page {
    /// How many entries come before it.
    before: usize,
    /// All names behind each other.
    names: String,
    entries: Vec<Entry>,
    /// The entries' objects, until they are read.
    objects: Vec<Option<Version>>,
    /// When the store was asked for what is on it, at the latest.
    asked: Option<Moment>,
    /// What is said of them.
    found: Found,
}

struct Entry {
    name_end: u32,
    kind: Kind,
}

/// An entry as it is given out.
pub struct Listed<'a> {
    pub name: &'a str,
    pub kind: Kind,
    pub object: Option<&'a Version>,
    /// When the store was asked, at the latest.
    pub asked: Moment,
    /// What is said of such as are on its page.
    pub found: Found,
    /// Where to go on behind this entry.
    pub next: u64,
}

/// How far a reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// There may be more.
    Some,
    /// Every child has been given out: as they were at that moment, if there were no more doubts since.
    All { began: Moment, doubts: u64 },
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

    /// Gives out the entries from `offset` on that are here, one at least if there is one, as long as they are
    /// taken. From 0 on, the directory is read anew; but for who goes on reading (is not at a `beginning`) one that is
    /// known to be empty: he is told so, and that was it.
    pub async fn read(
        &self,
        fs: &Fs,
        offset: u64,
        beginning: bool,
        mut take: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<Read> {
        let mut snapshot = self.snapshot.lock().await;
        if offset == 0 && (beginning || !snapshot.is_of_nothing()) {
            *snapshot = Snapshot {
                unpublished: fs.unpublished(&self.node),
                began: Some(Moment::now()),
                doubts: self.node.state().directory().doubts,
                ..Snapshot::default()
            };
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        while snapshot.len() <= start && !matches!(snapshot.progress, Progress::Done) {
            self.next_page(fs, &mut snapshot).await?;
        }
        snapshot.let_go_before(start);
        self.wait_for_sample(fs, &mut snapshot).await;
        let end = snapshot.len();
        let untaken = (start..end).find(|at| !take(snapshot.listed(*at)));
        let began = snapshot.began.filter(|_| untaken.is_none());
        Ok(match (&snapshot.progress, began) {
            (Progress::Done, Some(began)) => Read::All {
                began,
                doubts: snapshot.doubts,
            },
            _ => Read::Some,
        })
    }

    /// Takes the next page in.
    async fn next_page(&self, fs: &Fs, snapshot: &mut Snapshot) -> Result<()> {
        let place = match &snapshot.progress {
            Progress::Coming(_) => None,
            Progress::At(place) => Some(place.clone()),
            Progress::Done => Some(Place::default()),
        };
        if let Some(place) = place {
            snapshot.progress = Progress::Coming(self.ask(fs, place));
        }
        let Progress::Coming(coming) = &mut snapshot.progress else {
            unreachable!("they were asked for");
        };
        // Whoever waits may leave, and another go on waiting.
        let arrived = match coming.pages.recv().await {
            Some(Ok(arrived)) => arrived,
            failed => {
                // It can be asked for again.
                snapshot.progress = Progress::At(std::mem::take(&mut coming.place));
                return Err(match failed {
                    Some(Err(error)) => error.into(),
                    _ => Error::quiet(libc::EIO),
                });
            }
        };
        let (arrived, place) = arrived;
        let Arrived {
            page,
            asked,
            found,
            sample,
        } = arrived;
        let (is_last, prefix) = (place.is_last(), place.prefix.clone());
        coming.place = place;
        snapshot.sample = sample;
        snapshot.turn_page(page.entries.len(), asked, found);
        for entry in page.entries {
            snapshot.take(&prefix, entry);
        }
        if is_last {
            snapshot.finish();
            if !self.behind {
                snapshot.tell_what_is_hidden(&prefix);
            }
            snapshot.progress = Progress::Done;
        }
        Ok(())
    }

    async fn wait_for_sample(&self, fs: &Fs, snapshot: &mut Snapshot) {
        if let Some(sample) = &mut snapshot.sample {
            let found = sample.found(fs, &self.node).await;
            snapshot.sample = None;
            if let Some(page) = snapshot.pages.last_mut() {
                page.found = found;
            }
        }
    }

    fn ask(&self, fs: &Fs, place: Place) -> Coming {
        let source = Source {
            store: fs.store.clone(),
            sweeps: fs.sweeps.clone(),
            directory: self.node.clone(),
            samples: fs.options.trusts_listings && !self.behind,
            hurries: !self.behind,
        };
        let (to, pages) = mpsc::channel(1);
        let task = tokio::spawn(source.pages(place.clone(), to)).abort_handle();
        Coming { place, pages, task }
    }
}

impl Snapshot {
    fn len(&self) -> usize {
        let last = self.pages.last();
        last.map_or(0, |page| page.before + page.entries.len())
    }

    /// What is pushed from now on, so many entries perhaps, is on a page of its own.
    fn turn_page(&mut self, entries: usize, asked: Moment, found: Found) {
        let before = self.len();
        if let Some(last) = self.pages.last_mut() {
            last.names.shrink_to_fit();
        }
        self.asked = Some(asked);
        // What came before and is undecided is told with this one.
        let before_it = self.undecided.iter().map(|undecided| undecided.asked);
        self.pages.push(Page {
            before,
            // And one of the page before, which was undecided.
            entries: Vec::with_capacity(entries + 1),
            objects: Vec::with_capacity(entries + 1),
            asked: before_it.fold(self.asked, Option::min),
            found,
            ..Page::default()
        });
    }

    /// Read, and nothing was there.
    fn is_of_nothing(&self) -> bool {
        self.began.is_some() && self.len() == 0 && matches!(self.progress, Progress::Done)
    }

    /// Whoever is past a page has been told what is on it; what became of it since, its nodes know.
    fn let_go_before(&mut self, start: usize) {
        while let Some(page) = self.pages.get_mut(self.read)
            && page.before + page.entries.len() <= start
        {
            page.objects = Vec::new();
            self.read += 1;
        }
    }

    fn take(&mut self, prefix: &str, entry: ListEntry) {
        let (mut key, object) = match entry {
            ListEntry::Object(mut object) => {
                let key = std::mem::take(&mut object.key);
                (key, Some(version_of(&object)))
            }
            ListEntry::Prefix(prefix) => (prefix, None),
        };
        // Nothing: the directory's own marker.
        let rest = match key.strip_prefix(prefix) {
            None | Some("") => return,
            Some(rest) => rest,
        };
        let name = rest.strip_suffix('/').unwrap_or(rest);
        if !is_name(name) || (object.is_some() && is_blank(&key)) {
            self.hidden += 1;
            self.example.get_or_insert(key);
            return;
        }
        // Whatever this entry no longer begins with will not be followed by a directory of its name.
        let goes_on = |undecided: &mut Undecided| !rest.starts_with(undecided.name.as_str());
        while let Some(file) = self.undecided.pop_if(goes_on) {
            self.push(&file.name, Kind::File, Some(file.version));
        }
        match object {
            None => {
                if let Some(at) = self.undecided.iter().position(|file| file.name == name) {
                    self.undecided.remove(at);
                    self.hidden += 1;
                    self.example
                        .get_or_insert_with(|| format!("{prefix}{name}"));
                }
                self.push(name, Kind::Directory, None);
            }
            Some(version) => {
                key.truncate(prefix.len() + name.len());
                key.drain(..prefix.len());
                self.undecided.push(Undecided {
                    name: key,
                    version,
                    asked: self.asked,
                });
            }
        }
    }

    fn finish(&mut self) {
        for file in std::mem::take(&mut self.undecided) {
            self.push(&file.name, Kind::File, Some(file.version));
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
        let page = self.pages.last_mut().expect("a page was begun");
        page.names.push_str(name);
        page.entries.push(Entry {
            name_end: u32::try_from(page.names.len()).expect("names of a page are few and short"),
            kind,
        });
        page.objects.push(object);
    }

    fn listed(&self, index: usize) -> Listed<'_> {
        let page = self.pages.partition_point(|page| page.before <= index) - 1;
        let page = &self.pages[page];
        let at = index - page.before;
        let entry = &page.entries[at];
        let start = match at {
            0 => 0,
            at => page.entries[at - 1].name_end,
        };
        Listed {
            name: &page.names[start as usize..entry.name_end as usize],
            kind: entry.kind,
            object: page.objects.get(at).and_then(Option::as_ref),
            asked: page.asked.unwrap_or_else(Moment::now),
            found: page.found,
            next: index as u64 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scripted::listed as object;

    fn names(entries: Vec<ListEntry>, unpublished: &[&str]) -> (Vec<String>, usize) {
        let mut snapshot = Snapshot {
            unpublished: unpublished
                .iter()
                .map(|n| (n.to_string(), Kind::File))
                .collect(),
            ..Snapshot::default()
        };
        for page in entries.chunks(2) {
            snapshot.turn_page(page.len(), Moment::now(), Found::default());
            for entry in page {
                snapshot.take("d/", entry.clone());
            }
        }
        snapshot.finish();
        let names = (0..snapshot.len())
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
    fn what_a_page_tells_is_as_old_as_its_question_or_that_of_a_file_left_over_from_the_one_before()
    {
        let mut snapshot = Snapshot::default();
        let asked: Vec<_> = (0..3).map(|_| Moment::now()).collect();
        for (page, names) in [["d/a", "d/b"], ["d/c", "d/d"], ["d/e", "d/f"]]
            .iter()
            .enumerate()
        {
            snapshot.turn_page(2, asked[page], Found::default());
            for name in names {
                snapshot.take("d/", object(name));
            }
        }
        snapshot.finish();
        let told = (0..6).map(|at| snapshot.listed(at));
        let told: Vec<_> = told.map(|file| (file.name, file.asked)).collect();
        // `b` is told with the second page, as `c` may be of its name.
        let expected = [
            ("a", asked[0]),
            ("b", asked[0]),
            ("c", asked[0]),
            ("d", asked[1]),
            ("e", asked[1]),
            ("f", asked[1]),
        ];
        assert_eq!(told, expected);
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
