//! Renames of directories that a crash cut off: once everything was copied the rest of the old is deleted;
//! before that the copies are. Either way the directory has one name afterwards, and is whole under it.
//!
//! Invariant: a key is deleted only when the other name has one of the same size in its place, and only if
//! its time says that it is the original (a copy) of this rename; a copy, only if it is known for one by its ETag, or by
//! the token that it carries on. What somebody else put below either name since stays.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::store::{ETag, ListEntry, Result, Store, TOKEN_KEY};
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
    going.retain(|rest, Found { size, modified, .. }| {
        let is_of_it = match intent.copied {
            true => *modified <= began + ROUNDED,
            false => {
                *modified + ROUNDED >= began && ended.is_none_or(|at| *modified <= at + ROUNDED)
            }
        };
        is_of_it && is_there.get(rest).is_some_and(|other| other.size == *size)
    });
    stream::iter(going)
        .map(|(rest, found)| {
            let (here, there) = (format!("{gone}{rest}"), format!("{kept}{rest}"));
            let is_same = is_there[&rest].etag == found.etag;
            async move {
                if intent.copied || is_same || carry_one_token(store, &here, &there).await? {
                    return store.delete(&here).await;
                }
                tracing::warn!(
                    "{here}: left where it is, beside {there}, which was to be renamed: it may be somebody else's"
                );
                Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Has one been copied from the other? What came in parts has another ETag as a copy, and the token of its upload still.
async fn carry_one_token(store: &dyn Store, one: &str, other: &str) -> Result<bool> {
    let token = async |key: &str| {
        let attributes = store.head(key).await?.attributes.unwrap_or_default();
        Ok(attributes.metadata.get(TOKEN_KEY).cloned())
    };
    let first = token(one).await?;
    Ok(first.is_some() && first == token(other).await?)
}

struct Found {
    size: u64,
    modified: SystemTime,
    etag: ETag,
}

/// What lies below a directory, by the keys behind its own.
async fn below(store: &dyn Store, directory: &str) -> Result<HashMap<String, Found>> {
    let mut found = HashMap::new();
    let mut from = None;
    loop {
        let page = store.list(directory, false, from.as_ref(), 1000).await?;
        for entry in page.entries {
            if let ListEntry::Object(object) = entry {
                let rest = object.key[directory.len()..].to_string();
                let (size, modified, etag) = (object.size, object.modified, object.etag);
                found.insert(
                    rest,
                    Found {
                        size,
                        modified,
                        etag,
                    },
                );
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(found),
        }
    }
}
