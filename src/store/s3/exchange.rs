//! One call: sent as often as the policy allows, each time within its deadline, and counted.

use std::future::Future;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::Semaphore;

use super::classify::{self, Failure, Op};
use super::renewal::Renewing;
use super::retry;
use crate::store::tally::Tally;
use crate::store::{ErrorKind, Limits, Result};

/// What a store's requests go through.
pub(in crate::store) struct Line<'a> {
    pub limits: &'a Limits,
    pub connections: &'a Semaphore,
    pub tally: &'a Tally,
    /// What requests are signed with, if they are.
    pub keys: Option<&'a Renewing>,
}

impl Line<'_> {
    /// `accept` looks at an answer that seems good, and may call it a failure after all.
    pub(in crate::store) async fn call<T, U, E, F, Fut>(
        &self,
        op: Op,
        key: &str,
        patience: Duration,
        mut request: F,
        accept: impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let signed_with = match self.keys {
            Some(keys) => keys.current().await,
            None => None,
        };
        let sent = self.send(op, key, patience, &mut request, &accept).await;
        match (&sent, self.keys) {
            (Err(error), Some(keys))
                if error.kind == ErrorKind::Denied && keys.renew(signed_with.as_ref()).await =>
            {
                self.send(op, key, patience, &mut request, &accept).await
            }
            _ => sent,
        }
    }

    async fn send<T, U, E, F, Fut>(
        &self,
        op: Op,
        key: &str,
        patience: Duration,
        request: &mut F,
        accept: &impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let again = |cause| self.tally.retried(op.name, cause);
        retry::run(self.limits, op, again, || {
            let request = request();
            async move {
                // Never closed, so this does not fail; waiting here is not the store's fault and
                // does not count against its deadline.
                let _permit = self.connections.acquire().await.ok();
                let began = Instant::now();
                let outcome = match tokio::time::timeout(patience, request).await {
                    Ok(Ok(answer)) => accept(answer),
                    Ok(Err(error)) => Err(classify::failure(op, key, &error)),
                    Err(_) => Err(classify::timed_out(op, key, patience)),
                };
                let failure = outcome.as_ref().err().map(|failed| failed.error.kind);
                self.tally.answered(op.name, began.elapsed(), failure);
                outcome
            }
        })
        .await
    }
}
