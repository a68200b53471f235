//! A directory in use stays known. What a reading of it told is believed for the TTL; who goes on asking for
//! its names would be sent to the store for each of them. So it is listed again before that time is over,
//! behind those who ask, and once for all of them.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::listing::{self, Listing, Read};
use super::node::{Node, State};
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
        let wanted = &mut state.directory_mut().wanted;
        *wanted = wanted.saturating_add(1);
        self.due(&state)
    }

    fn due(&self, state: &State) -> bool {
        let directory = state.directory();
        let pages = (directory.children.len() / PAGE + 1) as u32;
        directory.children.len() <= LARGEST
            && self.options.metadata_ttl >= SHORTEST
            && !directory.renewing
            // Whose names go needs no list of them.
            && !directory.row.is_sweep()
            && directory.wanted >= pages * WORTH
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
            let directory = state.directory_mut();
            if std::mem::replace(&mut directory.renewing, true) {
                return;
            }
            directory.wanted = 0;
        }
        let (fs, directory) = (self.clone(), directory.clone());
        tokio::spawn(async move {
            if let Err(error) = fs.list_again(&directory).await {
                // Whoever asks himself hears of it.
                debug!("/{}: {}", directory.key(), error.why.unwrap_or_default());
            }
            directory.state().directory_mut().renewing = false;
        });
    }

    async fn list_again(&self, directory: &Arc<Node>) -> Result<()> {
        let listing = Listing::behind(directory.clone());
        let mut at = 0;
        let mut all_known = true;
        while at as usize <= LARGEST {
            let read = listing.read(self, at, at == 0, |listed| {
                // A node for what the kernel has not heard of would never be forgotten again.
                match self.tree.child(directory, listed.name) {
                    Some(_) => drop(self.node_of(directory, &listed)),
                    None => all_known = false,
                }
                at = listed.next;
                true
            });
            let read = read.await?;
            if read == Read::Some {
                continue;
            }
            if all_known {
                self.note_read(directory, read);
            }
            break;
        }
        Ok(())
    }
}
