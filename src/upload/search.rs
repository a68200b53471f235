//! Finding the upload whose creation was not answered.
//!
//! Invariant: what is answered as ours is for exactly the key, began inside the window in which we asked for
//! it (by the store's clock), has no part (we never sent any), and is not known as another one of ours; and
//! there are no more of that description than uploads of ours whose ids are lost. (Nothing tells it from an
//! upload that somebody else begins at the same moment, to the same key, and never sends a part of.) Where a
//! listing tells what an upload was begun with, our token in that is the one proof, and no more is asked.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use crate::store::{Error, ErrorKind, Store, TOKEN_KEY, UploadId};

/// When our Creates were sent, by the store's clock: an upload initiated outside of that is not ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct SearchWindow {
    first_create: Option<SystemTime>,
    /// No Create of ours was applied after this (unknown while we may still send one).
    closed: Option<SystemTime>,
}

/// Stores tell times in whole seconds, and their servers' clocks differ a little.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// A Create is sent right after its Begin, and is given up after the request's timeout; or after this.
const LONGEST_CREATE: Duration = Duration::from_secs(60);

/// Between the two looks at whether an upload has parts.
const SECOND_LOOK: Duration = Duration::from_secs(5);

impl SearchWindow {
    /// Of a dead process whose journal says when it began.
    pub(crate) fn of_the_dead(began: SystemTime, request_timeout: Duration) -> SearchWindow {
        SearchWindow {
            first_create: Some(began),
            closed: Some(began + LONGEST_CREATE.max(request_timeout)),
        }
    }

    pub(crate) fn create_sent(&mut self, at: SystemTime) {
        self.first_create.get_or_insert(at);
    }

    fn contains(&self, initiated: SystemTime, now: SystemTime) -> bool {
        let latest = self.closed.map_or(now, |closed| closed.min(now));
        self.first_create.is_some_and(|sent| {
            initiated >= sent - CLOCK_TOLERANCE && initiated <= latest + CLOCK_TOLERANCE
        })
    }
}

/// What is known of our other uploads of the key, asked after the bucket's list was read: what began
/// meanwhile is not in it.
pub(crate) struct Siblings {
    /// Their ids.
    pub(crate) named: HashSet<UploadId>,
    /// How many others have lost theirs, as this one has.
    pub(crate) nameless: usize,
}

/// An upload whose Create was not answered, if it can be told for certain; any of ours will do, if
/// several are nameless.
pub(crate) async fn find_upload(
    store: &dyn Store,
    key: &str,
    token: &str,
    window: &SearchWindow,
    siblings: impl AsyncFnOnce() -> Result<Siblings, Error>,
) -> Result<Option<UploadId>, Error> {
    let mut candidates = Vec::new();
    let mut from = None;
    loop {
        let page = store.list_uploads(key, from.as_ref()).await?;
        let now = store.clock();
        for upload in page.uploads.into_iter().filter(|u| u.key == key) {
            match &upload.metadata {
                Some(said) if said.get(TOKEN_KEY).is_some_and(|theirs| theirs == token) => {
                    return Ok(Some(upload.upload_id));
                }
                None if window.contains(upload.initiated, now) => candidates.push(upload),
                _ => {}
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    if candidates.is_empty() {
        return Ok(None);
    }
    let siblings = siblings().await?;
    candidates.retain(|upload| !siblings.named.contains(&upload.upload_id));
    candidates.sort_by_key(|upload| std::cmp::Reverse(upload.initiated));
    let mut ours = Vec::new();
    for upload in candidates {
        if is_empty(store, key, &upload.upload_id).await? {
            ours.push(upload.upload_id);
        }
    }
    // Who has just begun an upload sends parts; ours never gets any.
    if !ours.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
    }
    let mut still = Vec::new();
    for id in ours {
        if is_empty(store, key, &id).await? {
            still.push(id);
        }
    }
    if still.len() > 1 + siblings.nameless {
        let ids: Vec<&str> = still.iter().map(|id| id.0.as_str()).collect();
        return Err(Error {
            kind: ErrorKind::Transient,
            operation: "ListMultipartUploads",
            key: key.to_string(),
            code: "Ambiguous".to_string(),
            message: format!(
                "{} open uploads could be the one whose creation was not answered, and none is touched: abort what is yours (wholefs uploads abort): {}",
                ids.len(),
                ids.join(", ")
            ),
            request_id: None,
        });
    }
    Ok(still.pop())
}

async fn is_empty(store: &dyn Store, key: &str, id: &UploadId) -> Result<bool, Error> {
    match store.list_parts(key, id).await {
        Ok(parts) => Ok(parts.is_empty()),
        Err(error) if error.kind == ErrorKind::NoSuchUpload => Ok(false),
        Err(error) => Err(error),
    }
}
