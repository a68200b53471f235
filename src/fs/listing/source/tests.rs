//! A far directory, whatever becomes of the requests for its pages and in whatever order they are answered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::fs::Kind;
use crate::store::scripted::{self, Scripted};
use crate::store::tally::Tally;
use crate::store::{Capabilities, ErrorKind, Result};

/// As many names as a guess needs.
const LENGTH: usize = 100;
const PAGES: usize = 5;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Soon,
    /// When those that were asked for after it are here.
    Late,
    Fails,
    /// Where it was to begin is ignored; where the store itself said that a page begins never is.
    Elsewhere,
}

const FATES: [Fate; 4] = [Fate::Soon, Fate::Late, Fate::Fails, Fate::Elsewhere];

/// A store that has one directory.
struct Directory {
    names: Vec<String>,
    capabilities: Capabilities,
    tally: Tally,
    /// Of the second request and those after it; the others come soon.
    fates: Vec<Fate>,
    asked: AtomicUsize,
    came: AtomicUsize,
    /// Requests for pages that the store had named, which failed.
    refused: AtomicUsize,
}

impl Directory {
    fn new(names: Vec<String>, fates: Vec<Fate>) -> Directory {
        let tally = Tally::default();
        tally.answered("ListObjectsV2", Duration::from_millis(20), None);
        Directory {
            names,
            capabilities: crate::store::s3::generic(),
            tally,
            fates,
            asked: AtomicUsize::new(0),
            came: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    fn page(&self, start: usize) -> ListPage {
        let end = self.names.len().min(start + LENGTH);
        ListPage {
            entries: self.names[start..end]
                .iter()
                .map(|name| scripted::listed(name))
                .collect(),
            next: (end < self.names.len()).then(|| Continuation::Said(end.to_string())),
        }
    }
}

#[async_trait]
impl Scripted for Directory {
    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn list(&self, prefix: &str, from: Option<&Continuation>) -> Result<ListPage> {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        let fate = match before.checked_sub(1) {
            Some(nth) => self.fates.get(nth).copied().unwrap_or(Fate::Soon),
            None => Fate::Soon,
        };
        let time = if fate == Fate::Late { 500 } else { 20 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        self.came.fetch_add(1, Ordering::Relaxed);
        if fate == Fate::Fails {
            if !matches!(from, Some(Continuation::Behind(_))) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            return Err(store::Error {
                kind: ErrorKind::Invalid,
                operation: "ListObjectsV2",
                key: prefix.into(),
                code: "Scripted".into(),
                message: String::new(),
                request_id: None,
            });
        }
        Ok(self.page(match from {
            None => 0,
            Some(Continuation::Said(at)) => at.parse().expect("as it was said"),
            Some(Continuation::Behind(_)) if fate == Fate::Elsewhere => 0,
            Some(Continuation::Behind(name)) => self.names.partition_point(|n| n <= name),
        }))
    }
}

/// The names that were handed on, and whether all the pages came.
async fn listed(store: &Arc<Directory>) -> (Vec<String>, bool) {
    let source = Source {
        store: store.clone(),
        sweeps: Arc::default(),
        directory: Node::root(1, Kind::Directory),
        samples: false,
        hurries: true,
    };
    let (to, mut pages) = mpsc::channel(1);
    let task = tokio::spawn(source.pages(Place::default(), to));
    let (mut names, mut is_whole) = (Vec::new(), true);
    while let Some(page) = pages.recv().await {
        match page {
            Ok((arrived, _)) => {
                names.extend(
                    arrived
                        .page
                        .entries
                        .iter()
                        .map(|entry| entry.key().to_owned()),
                );
            }
            Err(_) => is_whole = false,
        }
    }
    task.await.expect("no panic");
    (names, is_whole)
}

/// Evenly; ever closer, so that guesses begin too far on; ever further apart, so that they begin too early.
fn names(kind: usize) -> Vec<String> {
    let count = PAGES * LENGTH;
    let at = |n: usize| match kind {
        0 => n * 3,
        1 => 1_000_000 - (count - n) * (count - n),
        _ => n * n,
    };
    (0..count).map(|n| format!("{:07}", at(n))).collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_its_requests_a_directory_is_shown_whole_or_not_at_all() {
    const SCRIPTED: u32 = 5;
    let (mut tried, mut whole, mut mended, mut most) = (0, 0, 0, 0);
    for kind in 0..3 {
        let names = names(kind);
        for script in 0..FATES.len().pow(SCRIPTED) {
            let fate = |nth| FATES[script / FATES.len().pow(nth) % FATES.len()];
            let fates: Vec<Fate> = (0..SCRIPTED).map(fate).collect();
            let store = Arc::new(Directory::new(names.clone(), fates.clone()));
            let (listed, is_whole) = listed(&store).await;
            let refused = store.refused.load(Ordering::Relaxed);
            let what = format!("names {kind}, {fates:?}, {refused} refused");
            assert!(names.starts_with(&listed), "{what}: {listed:?}");
            assert_eq!(is_whole, listed.len() == names.len(), "{what}");
            // What was guessed may come to nothing, and it is whole all the same.
            assert!(is_whole || refused > 0, "{what}");
            let asked = store.asked.load(Ordering::Relaxed);
            assert!(asked <= 2 * PAGES, "{what}: {asked} requests");
            most = most.max(asked);
            whole += usize::from(is_whole);
            mended += usize::from(is_whole && fates[..2].contains(&Fate::Fails));
            tried += 1;
        }
    }
    println!(
        "{tried} listings of {PAGES} pages: {whole} whole, {mended} of them though a request had failed; {most} requests at the most"
    );
    assert!(whole > mended && mended > 0 && most > PAGES);
}
