//! Renames of directories that a crash cut off: once everything was copied the rest of the old is deleted;
//! before that the copies are. Either way the directory has one name afterwards, and is whole under it.
//!
//! Invariant: a key is deleted only when the other name has one of the same size in its place, and only if
//! its time says that it is the original (a copy) of this rename: what somebody else put below either name
//! since stays.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::store::{ListEntry, Result, Store};
use crate::upload::ledger::Intent;

/// Keys deleted at the same time.
const AT_ONCE: usize = 32;

/// Stores tell times in whole seconds, and so do we of their clock.
const ROUNDED: Duration = Duration::from_secs(2);

/// Ends it. Doing it again changes nothing.
pub(super) async fn end_rename(store: &dyn Store, intent: &Intent) -> Result<()> {
    let (kept, gone) = match intent.copied {
        true => (&intent.to, &intent.from),
        false => (&intent.from, &intent.to),
    };
    let (is_there, mut going) = (below(store, kept).await?, below(store, gone).await?);
    if !intent.copied && intent.onto_empty {
        // The empty directory that had the name before.
        going.remove("");
    }
    let moment = |at| SystemTime::UNIX_EPOCH + Duration::from_millis(at);
    let (began, ended) = (moment(intent.at), intent.until.map(moment));
    going.retain(|rest, (size, modified)| {
        let is_of_it = match intent.copied {
            true => *modified <= began + ROUNDED,
            false => {
                *modified + ROUNDED >= began && ended.is_none_or(|at| *modified <= at + ROUNDED)
            }
        };
        is_of_it && is_there.get(rest).is_some_and(|(other, _)| other == size)
    });
    stream::iter(going.into_keys())
        .map(|rest| async move { store.delete(&format!("{gone}{rest}")).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// What lies below a directory: the keys behind its own, their sizes and times.
async fn below(store: &dyn Store, directory: &str) -> Result<HashMap<String, (u64, SystemTime)>> {
    let mut found = HashMap::new();
    let mut from = None;
    loop {
        let page = store.list(directory, false, from.as_ref(), 1000).await?;
        for entry in page.entries {
            if let ListEntry::Object(object) = entry {
                let rest = object.key[directory.len()..].to_string();
                found.insert(rest, (object.size, object.modified));
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(found),
        }
    }
}
