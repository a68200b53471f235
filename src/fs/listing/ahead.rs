//! Pages that are asked for before it is known where they begin.
//!
//! Invariants: no more are under way than pages have come and brought something ([`MOST`] at the most), so that a
//! listing asks for twice as many as it has at the worst; none of a store that is at hand, or whose listings are not sorted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::guess::Guess;
use super::source::{Arrived, Place, Source, below};
use crate::store::{self, Continuation, ListPage};

/// So many pages of a directory are asked for at once.
const MOST: usize = 16;

/// The second page is asked for, and the third, when the first is here.
const FEWEST: usize = 2;

/// A store that has ever answered sooner is at hand.
const FAR: Duration = Duration::from_millis(5);

/// A page that brings less than such a part of what pages have brought was not worth asking for.
const WORTH: usize = 4;

#[derive(Default)]
pub(super) struct Ahead {
    /// In the order of their beginnings.
    asked: VecDeque<Asked>,
    /// What the largest page brought.
    full: usize,
    /// So many more may be under way, now.
    earned: usize,
    /// One that is here is the last there is.
    ends: Arc<AtomicBool>,
    /// Nothing of it is to be relied upon here.
    is_over: bool,
}

impl Ahead {
    /// What was asked for from there on.
    pub(super) fn take(&mut self, from: &Continuation) -> Option<Asked> {
        self.asked.pop_front_if(|asked| asked.from == *from)
    }

    pub(super) fn give_up(&mut self) {
        self.asked.clear();
        self.is_over = true;
    }

    /// This is what a page brought, and that place is behind it: the next page may be on its way, and more are asked for.
    pub(super) fn note(&mut self, source: &Source, page: &ListPage, place: &mut Place) {
        let Some(said) = &page.next else {
            self.give_up();
            return;
        };
        self.full = self.full.max(page.entries.len());
        match page.entries.len() * WORTH >= self.full {
            true => self.earned = (self.earned + 1).min(MOST),
            false => self.earned /= 2,
        }
        // The last that begins within what has come goes on from there.
        while self
            .asked
            .get(1)
            .is_some_and(|asked| place.has(&asked.behind))
        {
            self.asked.pop_front();
            self.earned /= 2;
        }
        if let Some(asked) = self.asked.front().filter(|asked| place.has(&asked.behind)) {
            place.go_on(asked.from.clone(), &asked.behind, page);
        }
        let may = source.hurries && !self.is_over && self.earned > 0;
        if may && source.store.capabilities().sorted_lists && is_far(source) {
            self.ask(source, page, place, said);
        }
    }

    /// `said` is where the next page begins, as the store has it.
    fn ask(&mut self, source: &Source, page: &ListPage, place: &Place, said: &Continuation) {
        if self.asked.is_empty() {
            self.push(source, place, said.clone(), place.last().to_owned());
        }
        let wanted = self.earned.max(FEWEST);
        let Some(last) = self.asked.back() else {
            return;
        };
        if self.asked.len() >= wanted || self.ends.load(Ordering::Relaxed) {
            return;
        }
        let names: Vec<&str> = (page.entries.iter())
            .map(|entry| name(below(&place.prefix, entry)))
            .filter(|name| !name.is_empty())
            .collect();
        // What begins within what has come is no further ahead.
        let behind = match place.has(&last.behind) {
            true => place.last(),
            false => &last.behind,
        };
        let Some(mut guess) = Guess::new(&names, self.full, name(behind).to_owned()) else {
            return;
        };
        while self.asked.len() < wanted
            && let Some(behind) = guess.next()
        {
            if place.has(&behind) {
                continue;
            }
            let from = Continuation::Behind(format!("{}{behind}", place.prefix));
            self.push(source, place, from, behind);
        }
    }

    fn push(&mut self, source: &Source, place: &Place, from: Continuation, behind: String) {
        let (source, prefix, start) = (source.clone(), place.prefix.clone(), from.clone());
        let ends = self.ends.clone();
        let answer = tokio::spawn(async move {
            let arrived = source.ask(prefix, Some(start)).await?;
            if arrived.as_ref().is_some_and(|a| a.page.next.is_none()) {
                ends.store(true, Ordering::Relaxed);
            }
            Ok(arrived)
        });
        self.asked.push_back(Asked {
            from,
            behind,
            prefix: place.prefix.clone(),
            answer,
        });
    }
}

fn name(below: &str) -> &str {
    below.strip_suffix('/').unwrap_or(below)
}

fn is_far(source: &Source) -> bool {
    let quickest = source.store.tally().quickest();
    quickest.is_some_and(|quickest| quickest >= FAR)
}

/// A page on its way.
pub(super) struct Asked {
    from: Continuation,
    /// It begins behind this name.
    behind: String,
    prefix: String,
    answer: JoinHandle<store::Result<Option<Arrived>>>,
}

/// Nobody waits for it any more.
impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Asked {
    pub(super) fn is_guessed(&self) -> bool {
        matches!(self.from, Continuation::Behind(_))
    }

    /// The page, if there was one to be had; see [`Source::ask`].
    pub(super) async fn page(mut self) -> store::Result<Option<Arrived>> {
        (&mut self.answer).await.unwrap_or(Ok(None))
    }

    /// The page behind a name that was guessed; or why it is not to be had so.
    pub(super) async fn guessed(self) -> Result<Arrived, String> {
        let (prefix, behind) = (self.prefix.clone(), self.behind.clone());
        let arrived = self.page().await.map_err(|error| error.to_string())?;
        let arrived = arrived.ok_or("the directory went elsewhere")?;
        let mut entries = arrived.page.entries.iter();
        match entries.find(|entry| below(&prefix, entry) <= behind.as_str()) {
            None => Ok(arrived),
            Some(entry) => Err(format!(
                "asked for what is behind {behind:?}, the store lists {:?}",
                entry.key()
            )),
        }
    }
}
