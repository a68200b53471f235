//! Where the pages of a listing come from, one after the other.
//!
//! A store at hand is asked for a page when the one before it is here. Far from one most of that is waiting: so pages
//! are asked for before it is known where they begin ([`Ahead`]), and what comes is put together.
//!
//! Invariants: pages are handed on in the order of their keys, none twice; what was asked for ahead saves time, and
//! decides nothing: where it is missing, or cannot be right, the store is asked once more.

use std::collections::HashSet;
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
    /// Where the store said that the next page begins.
    said: Option<Continuation>,
    /// The last key that came, below the prefix.
    last: String,
    skips: Skips,
}

/// What the next page brings that has come before.
#[derive(Clone, Default)]
enum Skips {
    #[default]
    Nothing,
    /// It begins anew, the directory having been renamed: all that is not behind what has come.
    All,
    /// It begins within the last page, and this was the rest of that.
    These(HashSet<String>),
}

impl Place {
    /// Here is a directory that is read anew, or was renamed while it was read.
    fn begin(&mut self, prefix: String) {
        self.prefix = prefix;
        self.from = None;
        self.skips = match self.last.is_empty() {
            true => Skips::Nothing,
            false => Skips::All,
        };
    }

    fn below<'a>(&self, entry: &'a ListEntry) -> &'a str {
        below(&self.prefix, entry)
    }

    /// What is new on a page, which is the next one.
    fn turn(&mut self, page: &mut ListPage) {
        match &self.skips {
            // What ends a page may begin the next one.
            Skips::Nothing => {
                (page.entries).retain(|entry| self.below(entry) != self.last.as_str());
            }
            Skips::All => {
                (page.entries).retain(|entry| self.below(entry) > self.last.as_str());
            }
            Skips::These(known) => {
                (page.entries).retain(|entry| !known.contains(self.below(entry)));
            }
        }
        if let Some(last) = page.entries.last() {
            self.last = self.below(last).to_owned();
            self.skips = Skips::Nothing;
        }
        self.from.clone_from(&page.next);
        self.said.clone_from(&page.next);
    }

    /// Does this page, which is the next one, begin within what has come, though it should not?
    fn is_out_of_order(&self, page: &ListPage) -> bool {
        let mut entries = page.entries.iter();
        matches!(self.skips, Skips::Nothing)
            && entries.any(|entry| self.below(entry) <= self.last.as_str())
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

    /// The next page is one that begins behind a name of this page.
    pub(super) fn go_on(&mut self, from: Continuation, behind: &str, page: &ListPage) {
        let entries = page.entries.iter().map(|entry| self.below(entry));
        let known = entries.filter(|name| *name > behind).map(str::to_owned);
        self.skips = Skips::These(known.collect());
        self.from = Some(from);
    }

    /// It is not: it begins where the store said.
    fn go_back(&mut self) {
        self.skips = Skips::Nothing;
        self.from.clone_from(&self.said);
    }
}

pub(super) fn below<'a>(prefix: &str, entry: &'a ListEntry) -> &'a str {
    let key = entry.key();
    key.strip_prefix(prefix).unwrap_or(key)
}

/// A page that is here.
pub(super) struct Arrived {
    pub(super) page: ListPage,
    pub(super) asked: Moment,
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
            let from = place.from.clone();
            let asked = from.as_ref().and_then(|from| ahead.take(from));
            let arrived = match asked {
                None => self.ask(place.prefix.clone(), from.clone()).await?,
                Some(asked) if asked.is_guessed() => match asked.guessed().await {
                    Ok(arrived) => Some(arrived),
                    Err(why) => {
                        debug!("/{}: no more is asked for ahead: {why}", place.prefix);
                        ahead.give_up();
                        place.go_back();
                        continue;
                    }
                },
                Some(asked) => asked.page().await?,
            };
            // It is asked for again.
            let Some(mut arrived) = arrived.filter(|_| self.directory.key() == place.prefix) else {
                continue;
            };
            if place.is_out_of_order(&arrived.page) {
                debug!("/{}: not listed in order", place.prefix);
                ahead.give_up();
            }
            let before = arrived.page.entries.len();
            place.turn(&mut arrived.page);
            // Little is left of what was sampled.
            if self.samples && arrived.page.entries.len() * 4 < before * 3 {
                (arrived.found, arrived.sample) = self.sample(&arrived.page, from.is_none());
            }
            ahead.note(self, &arrived.page, place);
            return Ok(arrived);
        }
    }

    /// Asks for the page from there on; nothing: the directory went elsewhere meanwhile, and not all may have been there any more.
    pub(super) async fn ask(
        &self,
        prefix: String,
        from: Option<Continuation>,
    ) -> store::Result<Option<Arrived>> {
        self.sweeps.settle(&prefix).await;
        let asked = Moment::now();
        let page = (self.store.list(&prefix, true, from.as_ref(), PAGE)).await?;
        if self.directory.key() != prefix {
            return Ok(None);
        }
        let (found, sample) = self.sample(&page, from.is_none());
        Ok(Some(Arrived {
            page,
            asked,
            found,
            sample,
        }))
    }

    fn sample(&self, page: &ListPage, is_first: bool) -> (Found, Option<Sample>) {
        match self.samples {
            true => Sample::of_page(&self.store, &self.directory, page, is_first),
            false => (Found::Unasked, None),
        }
    }
}

#[cfg(test)]
mod tests;
