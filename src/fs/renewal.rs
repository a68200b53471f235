//! A directory in use stays known. What a reading of it told is believed for the TTL; who goes on asking for
//! its names would be sent to the store for each of them. So it is listed again before that time is over,
//! behind those who ask, and once for all of them.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::listing::{self, Listing};
use super::tree::{Node, State};
use super::{Fs, Result};

/// A page of a listing is worth so many questions after single names.
const WORTH: u32 = 4;

const PAGE: usize = listing::PAGE as usize;

/// A listing takes too long to be of use for less.
const SHORTEST: Duration = Duration::from_millis(200);

/// Larger directories are listed only when a program reads them.
const LARGEST: usize = 10_000;

impl Fs {
    /// Counts that a name in it is asked for. Is it time to list it again?
    pub(super) fn count_wanted(&self, directory: &Node) -> bool {
        let mut state = directory.state();
        state.wanted = state.wanted.saturating_add(1);
        self.due(&state)
    }

    fn due(&self, state: &State) -> bool {
        let pages = (state.children.len() / PAGE + 1) as u32;
        state.children.len() <= LARGEST
            && self.options.metadata_ttl >= SHORTEST
            && !state.renewing
            && state.wanted >= pages * WORTH
            && state
                .complete_for()
                .is_some_and(|long| long >= self.options.metadata_ttl / 2)
    }

    /// A name in it is asked for: has it listed again, if it is time.
    pub(super) fn keep_known(self: &Arc<Self>, directory: &Arc<Node>) {
        if !self.count_wanted(directory) {
            return;
        }
        {
            let mut state = directory.state();
            if std::mem::replace(&mut state.renewing, true) {
                return;
            }
            state.wanted = 0;
        }
        let (fs, directory) = (self.clone(), directory.clone());
        tokio::spawn(async move {
            if let Err(error) = fs.list_again(&directory).await {
                // Whoever asks himself hears of it.
                debug!("/{}: {}", directory.key(), error.why.unwrap_or_default());
            }
            directory.state().renewing = false;
        });
    }

    async fn list_again(&self, directory: &Arc<Node>) -> Result<()> {
        let listing = Listing::behind(directory.clone());
        let mut at = 0;
        let mut all_known = true;
        loop {
            let page = listing.read(self, at, PAGE).await?;
            for listed in &page {
                // A node for what the kernel has not heard of would never be forgotten again.
                match self.tree.child(directory, &listed.name) {
                    Some(_) => drop(self.node_of(directory, listed)),
                    None => all_known = false,
                }
            }
            at += page.len() as u64;
            if page.len() < PAGE || at as usize > LARGEST {
                break;
            }
        }
        if all_known {
            self.listed_all(&listing, at).await;
        }
        Ok(())
    }
}
