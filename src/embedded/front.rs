//! What happens to a request before and after the protocol sees it: log, faults, latency.
//!
//! Invariant: once a request's head has arrived the request is carried through even when the
//! client goes away, as a store in the network would; only what must not outlive the connection
//! (hanging, sending the answer) is left to the connection. That is why [`Front::handle`] runs in
//! a task of the server and its [`Reply`] is acted upon by the connection.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::header::{CONTENT_LENGTH, HeaderValue, RANGE};
use hyper::{Request, Response, StatusCode};

use super::alarm::pause;
use super::error::Error;
use super::faults::{Action, Faults, Verdict};
use super::log::{Entry, Outcome, RequestLog};
use super::protocol::Protocol;
use super::wire::{Pacer, RequestBody, ResponseBody, Speed};

/// When the head of a request arrived; travels with it as an extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived(pub Instant);

/// Both directions of one connection.
#[derive(Clone)]
pub(super) struct Lines {
    pub up: Arc<Mutex<Pacer>>,
    pub down: Arc<Mutex<Pacer>>,
}

impl Lines {
    pub fn new(speed: &Arc<Speed>) -> Lines {
        let line = || Arc::new(Mutex::new(Pacer::new(speed.clone())));
        Lines {
            up: line(),
            down: line(),
        }
    }
}

/// What the connection is to do.
pub(super) enum Reply {
    Answer(Box<Response<ResponseBody>>),
    Close(#[allow(dead_code, reason = "finishes the log entry when dropped")] Entry),
    /// Keep the connection, say nothing.
    Hang(Entry),
}

pub(super) struct Front {
    pub protocol: Box<dyn Protocol>,
    pub faults: Faults,
    pub log: RequestLog,
    pub speed: Arc<Speed>,
    pub print: bool,
}

impl Front {
    /// Carries a request through, and has the answer look as the vendor's do.
    pub async fn handle(&self, lines: Lines, request: Request<hyper::body::Incoming>) -> Reply {
        let look = self.protocol.look(&request);
        let mut reply = self.carry_through(lines, request).await;
        if let Reply::Answer(response) = &mut reply {
            self.protocol.dress(look, response, self.log.total());
        }
        reply
    }

    async fn carry_through(&self, lines: Lines, request: Request<hyper::body::Incoming>) -> Reply {
        let arrived = Arrived(Instant::now());
        let (mut head, incoming) = request.into_parts();
        let admitted = self.protocol.admit(&mut head);
        let target = self.protocol.target(&head);
        let verdict = self.faults.judge(target.operation, &target.key);
        let refusal = match admitted {
            Ok(()) => self.protocol.refusal(&head, &target),
            Err(error) => Some((StatusCode::FORBIDDEN, error)),
        };
        let range = head
            .headers
            .get(RANGE)
            .and_then(|range| range.to_str().ok())
            .map(str::to_owned);
        let mut entry = self.log.begin(target, range);
        entry.print = self.print;
        if verdict.fired.is_some() {
            entry.update(|record| record.fault.clone_from(&verdict.fired));
        }
        let body = RequestBody::new(incoming, lines.up.clone());

        let wait = self.speed.latency() + verdict.delay;
        if !wait.is_zero() || !verdict.hold_before.is_empty() {
            let waiting = async {
                pause(wait).await;
                self.faults.until_removed(&verdict.hold_before).await;
            };
            let reading = async {
                let received = body.read_ahead().await;
                entry.update(|record| record.received = received);
            };
            tokio::join!(waiting, reading);
        }

        let entry = match self.instead(&verdict, &body, &lines, entry).await {
            Ok(entry) => entry,
            Err(reply) => return reply,
        };
        if let Some((status, error)) = refusal {
            let Error { code, message } = error;
            return self
                .refuse(status, Some(code), &message, &body, &lines, entry)
                .await;
        }
        head.extensions.insert(arrived);
        let request = Request::from_parts(head, s3s::Body::http_body(body.clone()));
        let response = self.protocol.call(request).await;
        let received = body.drain().await;
        entry.update(|record| record.received = received);
        let Some(response) = response else {
            let message = "We encountered an internal error.";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return self
                .refuse(status, None, message, &body, &lines, entry)
                .await;
        };
        self.faults.until_removed(&verdict.hold_after).await;
        self.afterwards(&verdict, response, &lines, entry)
    }

    /// What a fault has happen instead of the request being applied, as an error.
    async fn instead(
        &self,
        verdict: &Verdict,
        body: &RequestBody,
        lines: &Lines,
        entry: Entry,
    ) -> Result<Entry, Reply> {
        let message = "This is a scripted fault.";
        match &verdict.action {
            Some(Action::DropBefore) => {
                entry.outcome(Outcome::Dropped);
                Err(Reply::Close(entry))
            }
            Some(Action::KillBefore(victim)) => {
                entry.outcome(Outcome::Dropped);
                self.faults.kill(*victim);
                Err(Reply::Close(entry))
            }
            Some(Action::HangBefore) => {
                // Read to the end, or the client's going away would not be noticed.
                let received = body.drain().await;
                entry.update(|record| {
                    record.received = received;
                    record.outcome = Outcome::Hung;
                });
                Err(Reply::Hang(entry))
            }
            Some(Action::Error { status, code }) => {
                let status =
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let code = code.as_deref();
                Err(self.refuse(status, code, message, body, lines, entry).await)
            }
            Some(Action::ErrorBody {
                code,
                applied: false,
            }) => Err(self
                .refuse(StatusCode::OK, Some(code), message, body, lines, entry)
                .await),
            _ => Ok(entry),
        }
    }

    /// What becomes of the answer.
    fn afterwards(
        &self,
        verdict: &Verdict,
        response: Response<s3s::Body>,
        lines: &Lines,
        entry: Entry,
    ) -> Reply {
        match &verdict.action {
            Some(Action::DropAfter) => {
                entry.outcome(Outcome::Dropped);
                return Reply::Close(entry);
            }
            Some(Action::KillAfter(victim)) => {
                entry.outcome(Outcome::Dropped);
                self.faults.kill(*victim);
                return Reply::Close(entry);
            }
            Some(Action::HangAfter) => {
                entry.outcome(Outcome::Hung);
                return Reply::Hang(entry);
            }
            Some(Action::ErrorBody {
                code,
                applied: true,
            }) => {
                let message = "This is a scripted fault.";
                let error = self.protocol.error(StatusCode::OK, Some(code), message);
                return answer(error, lines, entry, |_| {});
            }
            _ => {}
        }
        let length = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
            .or_else(|| http_body::Body::size_hint(response.body()).exact())
            .unwrap_or(0);
        answer(response, lines, entry, |body| match verdict.action {
            Some(Action::Trickle(rate)) => body.trickle(rate),
            Some(Action::ShortBody) => body.cut_after(length / 2),
            _ => {}
        })
    }

    /// Answers with an error document, the request's body read.
    async fn refuse(
        &self,
        status: StatusCode,
        code: Option<&str>,
        message: &str,
        body: &RequestBody,
        lines: &Lines,
        entry: Entry,
    ) -> Reply {
        let received = body.drain().await;
        entry.update(|record| record.received = received);
        let error = self.protocol.error(status, code, message);
        answer(error, lines, entry, |_| {})
    }
}

fn answer(
    mut response: Response<s3s::Body>,
    lines: &Lines,
    entry: Entry,
    adjust: impl FnOnce(&mut ResponseBody),
) -> Reply {
    entry.outcome(Outcome::Answered(response.status().as_u16()));
    if let Ok(id) = HeaderValue::from_str(&entry.id()) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    let response = response.map(|body| {
        let mut body = ResponseBody::new(body, entry, lines.down.clone());
        adjust(&mut body);
        body
    });
    Reply::Answer(Box::new(response))
}
