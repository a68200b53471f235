//! Performs what [`Life`] decides for one upload: a task that owns the state machine, sends the
//! requests, and keeps what the machine does not know (ids, receipts, bodies, errors).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::answers;
use super::counts::Why;
use super::doubts::Doubt;
use super::ending::SETTLING;
use super::handle::{Command, Failure, PartSource, Shared};
use super::ledger::{Before, Entry};
use super::life::{
    AbortAnswer, Action, Event, Life, Listing, PartAnswer, Record, Search, Token, Verdict,
};
use super::search::{SearchWindow, Siblings, create_in_time, find_upload};
use super::uploads::Uploads;
use crate::random::{random_token, random_u64};
use crate::store::{
    Attributes, CompletedPart, ETag, Error, ErrorKind, PartReceipt, Precondition, TOKEN_KEY,
    UploadId,
};
use crate::turns::Turn;

struct Commit {
    size: u64,
    parts: u32,
    condition: Precondition,
    reply: Option<oneshot::Sender<Result<ETag, Failure>>>,
}

/// What a finished request brings back.
struct Done {
    event: Event,
    upload_id: Option<UploadId>,
    receipt: Option<(PartReceipt, u64)>,
    etag: Option<ETag>,
    failure: Option<Failure>,
    turn: Option<Turn>,
    begun: Option<tokio::time::Instant>,
}

impl Done {
    fn of(event: Event) -> Done {
        Done {
            event,
            upload_id: None,
            receipt: None,
            etag: None,
            failure: None,
            turn: None,
            begun: None,
        }
    }

    fn failed(event: Event, error: Error) -> Done {
        Done {
            failure: Some(Failure::Store(error)),
            ..Done::of(event)
        }
    }
}

fn split<T>(answer: Result<T, Error>) -> (Option<T>, Option<Failure>) {
    match answer {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(Failure::Store(error))),
    }
}

pub(super) struct Driver {
    uploads: Arc<Uploads>,
    id: u64,
    key: String,
    attributes: Attributes,
    token: String,
    before: Before,
    life: Life,
    upload_id: Option<UploadId>,
    /// Sealed and not yet sent.
    sealed: BTreeMap<u32, PartSource>,
    /// Of each part the store has.
    receipts: BTreeMap<u32, PartReceipt>,
    commit: Option<Commit>,
    committed: Option<ETag>,
    last_error: Option<Failure>,
    shared: Shared,
    searches: SearchWindow,
    /// Just before its Begin was written.
    begun: tokio::time::Instant,
    /// Held from Begin until the upload has a name, or never will.
    turn: Option<Turn>,
    /// Its writer has been told that it is not known whether it is published.
    doubt: Option<Doubt>,
    /// The draft wants nothing any more: whoever only waits for his turn need not.
    given_up: Arc<Notify>,
    tasks: JoinSet<Done>,
}

impl Driver {
    pub fn new(
        uploads: &Arc<Uploads>,
        key: &str,
        attributes: &Attributes,
        before: &Before,
        shared: Shared,
    ) -> Driver {
        let token = random_token();
        let mut attributes = attributes.clone();
        let said = &mut attributes.metadata;
        said.insert(TOKEN_KEY.to_string(), token.clone());
        Driver {
            uploads: uploads.clone(),
            id: uploads.begin(),
            key: key.to_string(),
            attributes,
            token,
            before: before.clone(),
            life: Life::new(),
            upload_id: None,
            sealed: BTreeMap::new(),
            receipts: BTreeMap::new(),
            commit: None,
            committed: None,
            last_error: None,
            shared,
            searches: SearchWindow::default(),
            begun: tokio::time::Instant::now(),
            turn: None,
            doubt: None,
            given_up: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
        }
    }

    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut listening = true;
        while !self.life.is_over() {
            tokio::select! {
                command = inbox.recv(), if listening => match command {
                    Some(command) => self.obey(command),
                    None => {
                        listening = false;
                        if self.commit.is_none() {
                            self.given_up.notify_one();
                            self.step(Event::AbortWanted);
                        }
                    }
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.take(done),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
            }
        }
        // The last record (End) may still be on its way to the journal.
        while self.tasks.join_next().await.is_some() {}
        if let Some(id) = &self.upload_id {
            self.uploads.ids().remove(id);
        }
        let failure = || self.shared.failure().map(|failure| failure.why());
        self.uploads.end(match self.committed {
            Some(_) => Ok(()),
            None => Err(failure().unwrap_or(Why::Dropped)),
        });
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Part(number, source) => {
                if self.shared.failure().is_some() {
                    return;
                }
                self.sealed.insert(number, source);
                self.step(Event::PartSealed(number));
            }
            Command::Commit {
                size,
                parts,
                condition,
                reply,
            } => {
                if let Some(failure) = self.shared.failure() {
                    let _ = reply.send(Err(failure));
                    return;
                }
                self.commit = Some(Commit {
                    size,
                    parts,
                    condition,
                    reply: Some(reply),
                });
                self.step(Event::CommitWanted);
            }
            Command::Abort(why) => {
                self.sealed.clear();
                if !self.life.is_committing() {
                    self.fail(Failure::Aborted(why));
                }
                self.given_up.notify_one();
                self.step(Event::AbortWanted);
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        // Bytes of parts that will never be sent go back to the budget now.
        self.sealed.clear();
        self.shared.fail(&failure);
        if let Some(reply) = self.commit.as_mut().and_then(|c| c.reply.take()) {
            let _ = reply.send(Err(failure));
        }
    }

    fn take(&mut self, done: Done) {
        if done.turn.is_some() {
            self.turn = done.turn;
        }
        self.begun = done.begun.unwrap_or(self.begun);
        if let Some(id) = done.upload_id {
            self.uploads.ids().insert(id.clone());
            self.turn = None;
            if let Some(before) = self.upload_id.replace(id) {
                self.uploads.ids().remove(&before);
            }
        }
        if let Event::PartAnswered(number, _) = done.event {
            let length = done.receipt.as_ref().map(|(_, length)| *length);
            self.shared.sent().answered(number, length);
            if (done.receipt.as_ref()).is_some_and(|(receipt, _)| receipt.strayed) {
                self.step(Event::Strayed);
            }
            self.receipts
                .extend(done.receipt.map(|(receipt, _)| (number, receipt)));
        }
        if let Some(etag) = done.etag {
            self.committed = Some(etag);
        }
        if let Some(failure) = done.failure {
            if let Failure::Store(error) = &failure {
                debug!(upload = self.id, "{error}");
            }
            self.last_error = Some(failure);
        }
        self.step(done.event);
    }

    fn step(&mut self, event: Event) {
        let actions = self.life.step(event);
        debug!(upload = self.id, key = %self.key, ?event, ?actions, "step");
        for action in actions {
            self.perform(action);
        }
        if self.doubt.is_some() && !self.life.is_committing() {
            self.doubt = None;
            match self.life.was_committed() {
                true => warn!("{}: published after all", self.key),
                false => info!("{}: not published, as it is known now", self.key),
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let store = self.uploads.store.clone();
        let key = self.key.clone();
        match action {
            Action::Record(record) => self.record(record),
            Action::Create => {
                self.searches.create_sent(store.clock());
                let (attributes, gate) = (self.attributes.clone(), self.uploads.parts.clone());
                let begun = self.begun;
                self.tasks.spawn(async move {
                    let began = Instant::now();
                    let create = store.create_upload(&key, &attributes);
                    let timeout = store.request_timeout();
                    let answer = create_in_time(&key, begun, timeout, create).await;
                    if answer.is_ok() {
                        gate.answered(began.elapsed());
                    }
                    let event = Event::Created(answers::created(&answer));
                    let (id, failure) = split(answer);
                    Done {
                        upload_id: id,
                        failure,
                        ..Done::of(event)
                    }
                });
            }
            Action::FindUpload => {
                let (window, token) = (self.searches.clone(), self.token.clone());
                let uploads = self.uploads.clone();
                self.tasks.spawn(async move {
                    // Nobody else's of this key is nameless: it is our turn.
                    let siblings = async || {
                        Ok(Siblings {
                            named: uploads.ids().clone(),
                            nameless: 0,
                        })
                    };
                    match find_upload(&*store, &key, &token, &window, siblings).await {
                        Ok(Some(id)) => Done {
                            upload_id: Some(id),
                            ..Done::of(Event::Found(Search::Ours))
                        },
                        Ok(None) => Done::of(Event::Found(Search::Nothing)),
                        Err(error) => Done::failed(Event::Found(Search::Unanswered), error),
                    }
                });
            }
            Action::SendPart(number) => self.send_part(number),
            Action::Complete => {
                let (id, parts) = (self.id(), self.completed_parts());
                let commit = self.commit.as_ref().expect("a commit is under way");
                let (size, condition) = (commit.size, commit.condition.clone());
                self.tasks.spawn(async move {
                    let answer = store
                        .complete_upload(&key, &id, &parts, size, &condition)
                        .await;
                    let event = Event::Completed(answers::completed(&answer));
                    let (etag, failure) = split(answer);
                    Done {
                        etag,
                        failure,
                        ..Done::of(event)
                    }
                });
            }
            Action::CheckToken => {
                let token = self.token.clone();
                self.tasks.spawn(async move {
                    let answer = store.head(&key).await;
                    let (seen, etag) = answers::token(&answer, &token);
                    let failure = match seen {
                        Token::Unanswered => split(answer).1,
                        Token::Ours | Token::NotOurs => None,
                    };
                    Done {
                        etag,
                        failure,
                        ..Done::of(Event::TokenSeen(seen))
                    }
                });
            }
            Action::SendAbort => {
                let id = self.id();
                self.tasks.spawn(async move {
                    let answer = store.abort_upload(&key, &id).await;
                    let said = answers::aborted(&answer);
                    let failure = (said == AbortAnswer::Unanswered).then(|| split(answer).1);
                    Done {
                        failure: failure.flatten(),
                        ..Done::of(Event::AbortAnswered(said))
                    }
                });
            }
            Action::ListParts => {
                let id = self.id();
                self.tasks.spawn(async move {
                    let answer = store.list_parts(&key, &id).await;
                    let said = answers::listed(&answer);
                    let failure = (said != Listing::NoSuchUpload).then(|| split(answer).1);
                    Done {
                        failure: failure.flatten(),
                        ..Done::of(Event::PartsListed(said))
                    }
                });
            }
            Action::Pause(tries) => {
                let mut hurry = self.uploads.hurry.subscribe();
                let is_refused = matches!(&self.last_error, Some(Failure::Store(error))
                    if [ErrorKind::Denied, ErrorKind::Invalid].contains(&error.kind));
                let does = match is_refused {
                    true => "refuses to end an upload",
                    false => "does not answer for an upload that must end",
                };
                let is_much = tries > super::life::TRIES && tries.is_power_of_two();
                if is_much || is_refused && tries == 1 {
                    warn!(
                        "{}: the store {does}; trying on ({tries} tries): {}",
                        self.key,
                        self.why()
                    );
                }
                self.tasks.spawn(async move {
                    let hurried = async { hurry.wait_for(|hurry| *hurry).await.is_ok() };
                    let long = tokio::time::timeout(pause(tries, false), hurried);
                    if long.await.is_ok() {
                        tokio::time::sleep(pause(tries, true)).await;
                    }
                    Done::of(Event::Woken)
                });
            }
            Action::Report(verdict) => self.report(verdict),
            Action::Over => {
                self.sealed.clear();
                if let Some(reply) = self.commit.as_mut().and_then(|c| c.reply.take()) {
                    let _ = reply.send(Err(Failure::Aborted(Why::Dropped)));
                }
            }
        }
    }

    fn report(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Committed => {
                let etag = self
                    .committed
                    .clone()
                    .expect("a committed upload has a version");
                if let Some(reply) = self.commit.as_mut().and_then(|c| c.reply.take()) {
                    let _ = reply.send(Ok(etag));
                }
            }
            Verdict::Failed => {
                let failure = self.last_error.clone();
                let failure = failure.unwrap_or(Failure::Aborted(Why::Dropped));
                self.fail(failure);
            }
            Verdict::Uncertain => {
                self.doubt = Some(self.uploads.doubts().about(&self.key));
                // Whatever the last answer was: the outcome is open.
                let failure = match self.last_error.clone() {
                    Some(Failure::Store(error)) => Failure::Store(Error {
                        kind: ErrorKind::Unknown,
                        ..error
                    }),
                    other => other.unwrap_or(Failure::Aborted(Why::Dropped)),
                };
                self.fail(failure);
            }
        }
    }

    fn why(&self) -> String {
        match &self.last_error {
            Some(Failure::Store(error)) => error.to_string(),
            Some(Failure::Journal(error)) => error.to_string(),
            Some(Failure::Aborted(_)) | None => "no answer".to_string(),
        }
    }

    fn record(&mut self, record: Record) {
        let ledger = self.uploads.ledger.clone();
        let now_there = self.uploads.store.clock();
        let (id, key, token) = (self.id, self.key.clone(), self.token.clone());
        let before = self.before.clone();
        let upload_id = self.upload_id.clone();
        // The last End of a life that is over is all that nothing waits for.
        let durable = !self.life.is_over();
        let (parts, size, condition) = match (&self.commit, record) {
            (Some(commit), Record::Commit) => (
                self.completed_parts(),
                commit.size,
                commit.condition.clone(),
            ),
            _ => (Vec::new(), 0, Precondition::None),
        };
        let (uploads, given_up) = (self.uploads.clone(), self.given_up.clone());
        self.tasks.spawn(async move {
            let turn = match record {
                Record::Begin => match uploads.turn_of(&key, &given_up).await {
                    Ok(turn) => Some(turn),
                    // Nothing was written, and nothing will be asked of the store.
                    Err(failure) => {
                        return Done {
                            failure: Some(failure),
                            ..Done::of(Event::RecordFailed(record))
                        };
                    }
                },
                _ => None,
            };
            let entry = Entry {
                record,
                durable,
                id,
                key: &key,
                token: &token,
                upload_id: upload_id.as_ref(),
                parts: &parts,
                size,
                condition: &condition,
                before: &before,
                now_there,
            };
            let begun = (record == Record::Begin).then(tokio::time::Instant::now);
            match ledger.record(entry).await {
                Ok(()) => Done {
                    turn,
                    begun,
                    ..Done::of(Event::Recorded(record))
                },
                Err(error) => {
                    let failure = Some(Failure::Journal(Arc::new(error)));
                    Done {
                        failure,
                        ..Done::of(Event::RecordFailed(record))
                    }
                }
            }
        });
    }

    fn send_part(&mut self, number: u32) {
        let source = self
            .sealed
            .remove(&number)
            .expect("a part that is sent was sealed");
        let len = source.len();
        let (store, key, id) = (self.uploads.store.clone(), self.key.clone(), self.id());
        let gate = self.uploads.parts.clone();
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let turn = gate.turn().await;
            // Lost while it waited for its turn: it need not be sent.
            if shared.failure().is_some() {
                return Done::of(Event::PartAnswered(number, PartAnswer::NotApplied));
            }
            let answer = match source {
                PartSource::Bytes { body, hold } => {
                    let count = shared.sent().begins(number);
                    let answer = store
                        .upload_part(&key, &id, number, body.watched(count))
                        .await;
                    drop(hold);
                    if answer.is_ok() {
                        turn.passed(len);
                    }
                    answer
                }
                PartSource::Copy {
                    source,
                    etag,
                    range,
                } => {
                    store
                        .copy_part(&key, &id, number, &source, &etag, range)
                        .await
                }
            };
            let event = Event::PartAnswered(number, answers::part(&answer));
            let (receipt, failure) = split(answer);
            Done {
                receipt: receipt.map(|receipt| (receipt, len)),
                failure,
                ..Done::of(event)
            }
        });
    }

    fn id(&self) -> UploadId {
        self.upload_id.clone().expect("the upload is open")
    }

    fn completed_parts(&self) -> Vec<CompletedPart> {
        let last = self.commit.as_ref().map_or(0, |c| c.parts);
        let parts: Vec<CompletedPart> = self
            .receipts
            .range(..=last)
            .map(|(&number, r)| CompletedPart {
                number,
                etag: r.etag.clone(),
                crc64: r.crc64,
            })
            .collect();
        assert!(
            parts.len() == last as usize,
            "a commit of {last} parts with {} receipts",
            parts.len()
        );
        parts
    }
}

/// Grows from 100 ms to a minute, with jitter so that many uploads do not come back at once.
pub(crate) fn pause(tries: u32, hurry: bool) -> Duration {
    // Never shorter than a settling pause is (see `ending`).
    let longest = if hurry { 100 << SETTLING } else { 60_000 };
    let bound = (100u64 << tries.min(16)).min(longest);
    Duration::from_millis(bound / 2 + random_u64() % (bound / 2 + 1))
}
