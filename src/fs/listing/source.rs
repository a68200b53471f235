//! Where the pages of a listing come from, one after the other.
//!
//! A store at hand is asked for a page when the one before it is here. Far from one most of that is waiting: so pages
//! are asked for before it is known where they begin ([`Ahead`]), and what comes is put together.
//!
//! Invariants: pages are handed on in the order of their keys, none twice; what was asked for ahead saves time, and
//! decides nothing: where it is missing, or cannot be right, the store is asked once more.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;

use super::PAGE;
use super::ahead::Ahead;
use crate::fs::moment::Moment;
use crate::fs::node::Node;
use crate::fs::sample::{Found, Sample};
use crate::fs::sweep::Sweeps;
use crate::store::{self, Continuation, ListEntry, ListPage, Store};

/// How far a reading came.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// Where the directory was.
    pub(super) prefix: String,
    from: Option<Continuation>,
    /// The last key that came, below the prefix.
    last: String,
    /// The page from here on begins before what has come: that is skipped.
    skips: bool,
}

impl Place {
    /// Here is a directory that is read anew, or was renamed while it was read.
    fn begin(&mut self, prefix: String) {
        self.prefix = prefix;
        self.from = None;
        self.skips = !self.last.is_empty();
    }

    fn below<'a>(&self, entry: &'a ListEntry) -> &'a str {
        below(&self.prefix, entry)
    }

    /// What is new on a page, which is the next one.
    fn turn(&mut self, page: &mut ListPage) {
        if self.skips {
            (page.entries).retain(|entry| self.below(entry) > self.last.as_str());
        }
        if let Some(last) = page.entries.last() {
            self.last = self.below(last).to_owned();
        }
        self.from.clone_from(&page.next);
    }

    pub(super) fn is_last(&self) -> bool {
        self.from.is_none()
    }

    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Does what has come go as far as this name, or further?
    pub(super) fn has(&self, name: &str) -> bool {
        name <= self.last.as_str()
    }

    /// The next page is one that begins within what has come.
    pub(super) fn go_on(&mut self, from: Continuation) {
        self.from = Some(from);
        self.skips = true;
    }
}

pub(super) fn below<'a>(prefix: &str, entry: &'a ListEntry) -> &'a str {
    let key = entry.key();
    key.strip_prefix(prefix).unwrap_or(key)
}

/// A page that is here.
pub(super) struct Arrived {
    pub(super) page: ListPage,
    pub(super) at: Moment,
    pub(super) found: Found,
    pub(super) sample: Option<Sample>,
}

#[derive(Clone)]
pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) sweeps: Arc<Sweeps>,
    pub(super) directory: Arc<Node>,
    /// Has samples of them asked.
    pub(super) samples: bool,
    /// Somebody waits for them.
    pub(super) hurries: bool,
}

impl Source {
    /// Hands on the pages from a place on, each with the place behind it, until there are no more, or one does not come.
    pub(super) async fn pages(
        self,
        mut place: Place,
        to: mpsc::Sender<store::Result<(Arrived, Place)>>,
    ) {
        let mut ahead = Ahead::default();
        loop {
            let arrived = self.next(&mut place, &mut ahead).await;
            let goes_on = arrived.is_ok() && !place.is_last();
            let arrived = arrived.map(|arrived| (arrived, place.clone()));
            if to.send(arrived).await.is_err() || !goes_on {
                return;
            }
        }
    }

    /// The page from a place on, which is behind it then.
    async fn next(&self, place: &mut Place, ahead: &mut Ahead) -> store::Result<Arrived> {
        loop {
            let prefix = self.directory.key();
            if prefix != place.prefix {
                place.begin(prefix);
                *ahead = Ahead::default();
            }
            let asked = place.from.as_ref().and_then(|from| ahead.take(from));
            let mut arrived = match asked {
                None => self.ask(place.prefix.clone(), place.from.clone()).await?,
                Some(asked) => match asked.page().await {
                    Ok(arrived) => arrived,
                    Err(why) => {
                        debug!("/{}: no more is asked for ahead: {why}", place.prefix);
                        ahead.give_up();
                        place.begin(place.prefix.clone());
                        continue;
                    }
                },
            };
            // Of a directory that was renamed meanwhile not all may have been there any more.
            if self.directory.key() != place.prefix {
                continue;
            }
            place.turn(&mut arrived.page);
            ahead.note(self, &arrived.page, place);
            return Ok(arrived);
        }
    }

    /// Asks for the page from there on.
    pub(super) async fn ask(
        &self,
        prefix: String,
        from: Option<Continuation>,
    ) -> store::Result<Arrived> {
        self.sweeps.settle(&prefix).await;
        let page = (self.store.list(&prefix, true, from.as_ref(), PAGE)).await?;
        let at = Moment::now();
        let (found, sample) = match self.samples {
            true => Sample::of_page(&self.store, &self.directory, &page, from.is_none()),
            false => (Found::Unasked, None),
        };
        Ok(Arrived {
            page,
            at,
            found,
            sample,
        })
    }
}
