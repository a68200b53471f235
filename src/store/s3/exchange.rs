//! One call: sent as often as the policy allows, each time within its deadline, and counted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use tokio::sync::Semaphore;

use super::classify::{self, Came, Failure, Op};
use super::pace::{self, Excused, Turns};
use super::renewal::Renewing;
use super::{Options, body, retry};
use crate::store::tally::Tally;
use crate::store::{Body, Error, ErrorKind, Limits, PartReceipt, Result};

/// What a store's requests go through: how long and how often, how many at once, signed with what, how fast.
pub(in crate::store) struct Line {
    pub limits: Limits,
    pub tally: Arc<Tally>,
    connections: Semaphore,
    /// The store has answered something.
    was_there: AtomicBool,
    /// What requests are signed with, if they are.
    keys: Option<Arc<Renewing>>,
    up: Option<Arc<pace::Line>>,
    down: Option<Arc<pace::Line>>,
}

/// How long an attempt may take. What it waits for its turn on a limited line comes on top.
#[derive(Clone)]
pub(in crate::store) struct Patience {
    time: Duration,
    excused: Excused,
    /// An attempt was given up on that may be applied yet.
    strayed: Arc<AtomicBool>,
}

impl From<Duration> for Patience {
    fn from(time: Duration) -> Patience {
        Patience {
            time,
            excused: Excused::default(),
            strayed: Arc::default(),
        }
    }
}

impl Patience {
    /// What became of a part: also of an attempt before the one that was answered.
    pub fn with_strays(&self, sent: Result<PartReceipt>) -> Result<PartReceipt> {
        let says_so = [ErrorKind::Transient, ErrorKind::Unknown];
        match sent {
            sent if !self.strayed.load(Ordering::Relaxed) => sent,
            Ok(receipt) => Ok(PartReceipt {
                strayed: true,
                ..receipt
            }),
            Err(error) if says_so.contains(&error.kind) => Err(error),
            Err(error) => Err(Error {
                kind: ErrorKind::Unknown,
                message: format!("{} (an earlier attempt was not answered)", error.message),
                ..error
            }),
        }
    }

    /// The answer, if it comes in time.
    async fn wait_for<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        // What an attempt before this one had left over is not ours.
        self.excused.take();
        let mut request = std::pin::pin!(request);
        let mut time = self.time;
        loop {
            match tokio::time::timeout(time, &mut request).await {
                Ok(answer) => return Some(answer),
                Err(_) => time = self.excused.take(),
            }
            if time.is_zero() {
                return None;
            }
        }
    }
}

impl Line {
    pub fn new(options: &Options, keys: Option<Arc<Renewing>>) -> Line {
        let pace = |rate: Option<u64>| rate.map(|rate| Arc::new(pace::Line::new(rate)));
        let connections = options.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Line {
            limits: options.limits,
            tally: Arc::default(),
            connections: Semaphore::new(connections),
            was_there: AtomicBool::new(false),
            keys,
            up: pace(options.bandwidth.up),
            down: pace(options.bandwidth.down),
        }
    }

    /// The body of one attempt.
    pub fn sending(&self, body: &Body, patience: &Patience) -> ByteStream {
        let turns = Turns::on(self.up.clone(), patience.excused.clone());
        body::sending(body, &self.tally, turns)
    }

    /// For a body that comes.
    pub fn turns_to_receive(&self) -> Turns {
        Turns::on(self.down.clone(), Excused::default())
    }

    /// Sends what `request` makes, as often as the policy allows, each time within `patience`; and anew, if
    /// it is refused and there are other keys by now, or this machine's clock was set.
    /// `accept` looks at an answer that seems good, and may call it a failure after all.
    pub(in crate::store) async fn call<T, U, E, F, Fut>(
        &self,
        op: Op,
        key: &str,
        patience: impl Into<Patience>,
        mut request: F,
        accept: impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let patience = &patience.into();
        let signed_with = match &self.keys {
            Some(keys) => keys.current().await,
            None => None,
        };
        let mut sent = self.send(op, key, patience, &mut request, &accept).await;
        // Nothing was applied, and the answer has told what time it is there.
        if sent.as_ref().is_err_and(classify::is_of_the_clock) {
            sent = self.send(op, key, patience, &mut request, &accept).await;
        }
        match (&sent, &self.keys) {
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
        patience: &Patience,
        request: &mut F,
        accept: &impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let again = |cause| self.tally.retried(op.name, cause);
        let was_there = self.was_there.load(Ordering::Relaxed);
        retry::run(&self.limits, op, was_there, again, || {
            let request = request();
            async move {
                // Never closed, so this does not fail; waiting here is not the store's fault and
                // does not count against its deadline.
                let _permit = self.connections.acquire().await.ok();
                let began = Instant::now();
                let outcome = match patience.wait_for(request).await {
                    Some(Ok(answer)) => accept(answer),
                    Some(Err(error)) => Err(classify::failure(op, key, &error)),
                    None => Err(classify::timed_out(op, key, patience.time)),
                };
                if outcome.is_ok() {
                    self.was_there.store(true, Ordering::Relaxed);
                }
                if (outcome.as_ref()).is_err_and(|failed| failed.came == Came::PerhapsThrough) {
                    patience.strayed.store(true, Ordering::Relaxed);
                }
                let failure = outcome.as_ref().err().map(|failed| failed.error.kind);
                self.tally.answered(op.name, began.elapsed(), failure);
                outcome
            }
        })
        .await
    }
}
