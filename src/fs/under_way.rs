//! What must not stop half way, whoever asked for it is killed: the end of the mount waits for it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Error, Fs, Result};

/// Counts what the end of the mount waits for, for as long as it lives.
pub(super) struct UnderWay(watch::Sender<usize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Fs {
    pub(super) fn under_way(&self) -> UnderWay {
        self.under_way.send_modify(|n| *n += 1);
        UnderWay(self.under_way.clone())
    }

    /// Has work done to its end, also when nobody waits for it any more.
    pub async fn to_its_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let under_way = self.under_way();
        let done = tokio::spawn(async move {
            let done = work.await;
            drop(under_way);
            done
        });
        done.await.unwrap_or_else(|_| Err(Error::quiet(libc::EIO)))
    }

    /// Waits until all of it is done, and answers how much is not.
    pub(super) async fn all_is_done(&self, deadline: tokio::time::Instant) -> usize {
        let mut under_way = self.under_way.subscribe();
        let _ = tokio::time::timeout_at(deadline, under_way.wait_for(|n| *n == 0)).await;
        *under_way.borrow()
    }
}
