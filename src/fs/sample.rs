//! Is anything said of the files of a directory? A listing does not tell, and to ask of each is a request a
//! file. Of a large directory a sample is asked, page by page: where nothing is said of any of it, the files
//! are shown as the listing tells, until somebody comes upon one of which something is said.
//!
//! Invariants:
//! - Of a directory that fits the smallest of listings ([`SMALL`]) each file is asked.
//! - Where something is known to be said of one file, nothing is believed of any other in its directory.
//! - What was looked up, opened or made is known for itself, whatever a sample says.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tracing::debug;

use super::metadata;
use super::node::Node;
use super::{Fs, Kind};
use crate::store::{self, ErrorKind, ListEntry, ListPage, Metadata, Store};

/// Directories with so many entries are what people look at by hand.
const SMALL: usize = 256;

/// So many files of the first page are asked about.
const FIRST: usize = 8;

/// And of each further one: what has told of eight files tells of most of the others.
const NEXT: usize = 4;

/// A sample on its way.
pub(super) struct Sample {
    /// Is anything said of one of them?
    answer: JoinHandle<store::Result<bool>>,
}

/// Nobody waits for it any more.
impl Drop for Sample {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// What a reading of a directory found to be said of a page of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// It did not look, or does not know yet.
    #[default]
    Unasked,
    Nothing,
    /// Or it may well be.
    Something,
}

impl Sample {
    fn of(store: &Arc<dyn Store>, keys: Vec<String>) -> Sample {
        let store = store.clone();
        let answer = tokio::spawn(async move {
            let mut asked: FuturesUnordered<_> = keys.iter().map(|key| store.head(key)).collect();
            while let Some(answer) = asked.next().await {
                let said = match answer {
                    Ok(object) => object.attributes,
                    // It went meanwhile.
                    Err(error) if error.kind == ErrorKind::Missing => None,
                    Err(error) => return Err(error),
                };
                if said.is_some_and(|said| metadata::is_anything_said(&said.metadata)) {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        Sample { answer }
    }

    /// A page of a directory is here: has a sample of it asked, if that tells anything.
    pub(super) fn of_page(
        store: &Arc<dyn Store>,
        directory: &Node,
        page: &ListPage,
        is_first: bool,
    ) -> (Found, Option<Sample>) {
        let is_small = is_first && page.next.is_none() && page.entries.len() <= SMALL;
        if is_small || directory.state().directory().keeps {
            return (Found::Something, None);
        }
        let size = if is_first { FIRST } else { NEXT };
        let keys = sampled(page, size, &directory.key());
        (Found::Unasked, Some(Sample::of(store, keys)))
    }

    /// Whoever waits may leave, and another go on waiting.
    pub(super) async fn found(&mut self, fs: &Fs, directory: &Node) -> Found {
        match (&mut self.answer).await {
            Ok(Ok(false)) => Found::Nothing,
            Ok(Ok(true)) => {
                fs.keeps(directory);
                Found::Something
            }
            Ok(Err(error)) => {
                // Whoever asks himself hears of it.
                debug!("/{}: no sample of it: {error}", directory.key());
                Found::Something
            }
            Err(_) => Found::Something,
        }
    }
}

/// The keys of files spread over the page; and the directory's own marker, if it is there: who makes one that
/// says something says something of the files, too.
fn sampled<'a>(page: &'a ListPage, size: usize, marker: &str) -> Vec<String> {
    let key = |entry: &'a ListEntry| match entry {
        ListEntry::Object(object) => Some(object.key.as_str()),
        ListEntry::Prefix(_) => None,
    };
    let (own, files): (Vec<_>, Vec<_>) = page
        .entries
        .iter()
        .filter_map(key)
        .partition(|key| *key == marker);
    let size = size.min(files.len());
    let spread = (0..size).map(|n| files[(2 * n + 1) * files.len() / (2 * size)]);
    own.into_iter().chain(spread).map(str::to_owned).collect()
}

impl Fs {
    /// Something is said of a file of this directory: all of them are asked about from now on.
    pub(super) fn keeps(&self, directory: &Node) {
        if !self.options.trusts_listings
            || std::mem::replace(&mut directory.state().directory_mut().keeps, true)
        {
            return;
        }
        for child in self.tree.children(directory) {
            let told = {
                let mut state = child.state();
                state.believe(Found::Something) && state.shown().is_some()
            };
            if told && let Some(kernel) = self.kernel.get() {
                kernel.forget_attributes(child.ino);
            }
        }
    }

    /// The same, if this is what is said of it.
    pub(super) fn heard(&self, directory: &Node, said: &Metadata) {
        let keeps = directory.state().directory().keeps;
        if !keeps && metadata::is_anything_said(said) {
            self.keeps(directory);
        }
    }

    /// What a directory's marker says has become known.
    pub(super) fn marker_says(&self, directory: &Node) {
        let said = directory.state().said.clone();
        if let Some(said) = said {
            self.heard(directory, &said.metadata);
        }
    }

    /// What was said of a child has become known.
    pub(super) fn heard_of(&self, child: &Node) {
        let said = child.state().said.clone();
        if let (Some(said), Some(directory)) = (said, child.above()) {
            self.heard(&directory, &said.metadata);
        }
    }

    /// A page told of a child.
    pub(super) fn believe(&self, directory: &Node, child: &Node, found: Found) {
        if child.kind != Kind::File {
            return;
        }
        child.state().believe(found);
        // Somebody may have heard something meanwhile, and not have known of this one.
        if found == Found::Nothing && directory.state().directory().keeps {
            child.state().believe(Found::Something);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scripted::listed;

    fn page(keys: impl Iterator<Item = String>) -> ListPage {
        ListPage {
            entries: keys.map(|key| listed(&key)).collect(),
            next: None,
        }
    }

    #[test]
    fn a_sample_is_spread_over_the_page_and_has_the_marker() {
        let files = |count: usize| (0..count).map(|n| format!("d/{n:04}"));
        let few = page(files(3));
        assert_eq!(sampled(&few, FIRST, "d/"), ["d/0000", "d/0001", "d/0002"]);
        let many = page(std::iter::once("d/".to_owned()).chain(files(1000)));
        let sample = sampled(&many, FIRST, "d/");
        assert_eq!(sample[..3], ["d/", "d/0062", "d/0187"]);
        assert_eq!(sample.last().map(String::as_str), Some("d/0937"));
        assert_eq!(sample.len(), 1 + FIRST);
        let next = page(files(1000));
        assert_eq!(
            sampled(&next, NEXT, "d/"),
            ["d/0125", "d/0375", "d/0625", "d/0875"]
        );
        assert_eq!(sampled(&page(files(0)), FIRST, "d/"), [""; 0]);
    }
}
