//! Finding the upload whose creation was not answered.
//!
//! Invariant: what is answered as ours is for exactly the key, began inside the window in which we asked for
//! it (by the store's clock), has no part (we never sent any), and is not known as another one of ours; and
//! there are no more of that description than uploads of ours whose ids are lost; where the store does not tell
//! when one began, none is. (Nothing tells it from an
//! upload that somebody else begins at the same moment, to the same key, and never sends a part of.) Where a
//! listing tells what an upload was begun with, our token in that is the one proof, and no more is asked.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

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

/// For how long after its Begin a Create may be under way, at the least.
const CREATES_END: Duration = Duration::from_secs(60);

/// Until when, after its Begin, an upload may be created, so that recovery knows which it can be; with time for another try.
fn creates_end(request_timeout: Duration) -> Duration {
    CREATES_END.max(request_timeout.saturating_mul(2))
}

/// Sends a Create, and waits for its answer, for as long as the Begin before it allows.
pub(crate) async fn create_in_time(
    key: &str,
    begun: Instant,
    request_timeout: Duration,
    create: impl Future<Output = Result<UploadId, Error>>,
) -> Result<UploadId, Error> {
    let end = begun + creates_end(request_timeout);
    let late = |kind, message: &str| Error {
        kind,
        operation: "CreateMultipartUpload",
        key: key.to_string(),
        code: "TooLate".to_string(),
        message: message.to_string(),
        request_id: None,
    };
    if Instant::now() >= end {
        let message = "the store was asked for an upload for too long: write the file again";
        return Err(late(ErrorKind::Invalid, message));
    }
    let answer = tokio::time::timeout_at(end, create).await;
    answer.unwrap_or_else(|_| Err(late(ErrorKind::Unknown, "not answered in time")))
}

/// Between the two looks at whether an upload has parts.
const SECOND_LOOK: Duration = Duration::from_secs(5);

impl SearchWindow {
    /// Of a dead process whose journal says when it began.
    pub(crate) fn of_the_dead(began: SystemTime, request_timeout: Duration) -> SearchWindow {
        SearchWindow {
            first_create: Some(began),
            closed: Some(began + creates_end(request_timeout)),
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
                None if (upload.initiated).is_none_or(|at| window.contains(at, now)) => {
                    candidates.push(upload);
                }
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
    // Without its time one that has been there for long cannot be told from ours.
    let timeless = candidates.iter().any(|upload| upload.initiated.is_none());
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
    let is_ambiguous = still.len() > 1 + siblings.nameless || (!still.is_empty() && timeless);
    if is_ambiguous {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_created_is_where_recovery_looks_for_it_or_nowhere() {
        let mut tried = 0;
        for timeout in [1, 30, 60, 600].map(Duration::from_secs) {
            let end = creates_end(timeout);
            let second = Duration::from_secs(1);
            for (after, takes) in [
                (Duration::ZERO, second),
                (end - second, second / 2),
                (end - second, second * 2),
                (end, second),
                (end + second, second),
            ] {
                let (begun, began) = (Instant::now(), SystemTime::now());
                tokio::time::sleep(after).await;
                let under_way = std::cell::Cell::new(false);
                let create = async {
                    under_way.set(true);
                    tokio::time::sleep(takes).await;
                    Ok(UploadId("u".to_string()))
                };
                let answer = create_in_time("k", begun, timeout, create).await;
                let until = begun.elapsed();
                let kind = answer.map_err(|error| error.kind);
                match (after < end, after + takes <= end) {
                    (true, true) => assert!(kind.is_ok()),
                    (true, false) => assert_eq!(kind, Err(ErrorKind::Unknown)),
                    (false, _) => assert_eq!(kind, Err(ErrorKind::Invalid)),
                }
                assert_eq!(under_way.get(), after < end);
                let window = SearchWindow::of_the_dead(began, timeout);
                let now = began + until * 2;
                assert!(!under_way.get() || window.contains(began + until, now));
                tried += 1;
            }
        }
        println!("{tried} creates");
    }
}
