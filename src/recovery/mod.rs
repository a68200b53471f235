//! Ending what a dead process left open: its journals are read, and for each upload the machine of
//! `upload::recovery` is asked what to do and the store is made to do it.
//!
//! Invariants:
//! - Only instances whose lock we hold are touched, and in the bucket only uploads their journals name.
//! - Whatever cannot be ended now stays in the journal; running again changes nothing that is done.
//! - Bounded: so many uploads at once, and each ends or is kept after a bounded number of tries.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tracing::{debug, info, warn};

use crate::journal::{self, Adoption, Identity, Instance, Note, OpenUpload};
use crate::store::{Error, ErrorKind, Precondition, Store, UploadId};
use crate::turns::{Turn, Turns};
use crate::upload::ledger::Before;
use crate::upload::life::{Ending, Record, Search};
use crate::upload::recovery::{Action, Base, Event, Journal, Outcome, Recovery};
use crate::upload::search::{SearchWindow, Siblings, find_upload};
use crate::upload::{Doubt, answers, pause};

mod guards;
mod renames;

pub use guards::{Guarding, Guards, with_slash};

/// Uploads that are ended at the same time.
const AT_ONCE: usize = 16;

/// Which uploads of an instance to see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those whose commit was decided: their files are to be there when the mount serves.
    RollForwards,
    Rest,
}

impl Which {
    fn holds(self, upload: &OpenUpload) -> bool {
        let rolls = upload.commit.is_some() && !upload.aborting;
        rolls == (self == Which::RollForwards)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Files finished that had been closed.
    pub completed: usize,
    pub aborted: usize,
    /// Closed files that are not in the bucket, or no longer: somebody else wrote or aborted.
    pub lost: usize,
    /// Renames of directories that were finished, or taken back.
    pub renames: usize,
    /// Not to be ended now; kept for the next time.
    pub kept: usize,
}

impl Summary {
    pub fn add(&mut self, other: Summary) {
        self.completed += other.completed;
        self.aborted += other.aborted;
        self.lost += other.lost;
        self.renames += other.renames;
        self.kept += other.kept;
    }

    pub fn total(&self) -> usize {
        self.completed + self.aborted + self.lost + self.renames + self.kept
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ended(Ending::Committed) => self.completed += 1,
            Outcome::Ended(Ending::Aborted) => self.aborted += 1,
            Outcome::Ended(Ending::Lost) => self.lost += 1,
            Outcome::Kept => self.kept += 1,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} completed, {} aborted", self.completed, self.aborted)?;
        if self.lost > 0 {
            write!(f, ", {} lost", self.lost)?;
        }
        if self.renames > 0 {
            write!(f, ", {} renames ended", self.renames)?;
        }
        if self.kept > 0 {
            write!(f, ", {} kept for the next time", self.kept)?;
        }
        Ok(())
    }
}

/// What lies below a state directory, sorted by whether `wanted` says it is ours to end.
pub struct Found {
    pub instances: Vec<Instance>,
    /// Open uploads of stores that were not asked for.
    pub elsewhere: usize,
    /// Instances of living processes.
    pub live: usize,
    /// One line each.
    pub damaged: Vec<String>,
}

/// Takes the dead instances that `wanted` picks.
pub fn find(state: &Path, wanted: impl Fn(&Identity) -> bool) -> Result<Found, journal::Error> {
    let orphans = journal::orphans(state, &wanted)?;
    let mut found = Found {
        instances: Vec::new(),
        elsewhere: orphans.elsewhere,
        live: orphans.live,
        damaged: orphans
            .damaged
            .iter()
            .map(|(_, error)| error.to_string())
            .collect(),
    };
    for instance in orphans.instances {
        if wanted(instance.identity()) || instance.count() == 0 {
            found.instances.push(instance);
        } else {
            found.elsewhere += instance.count();
        }
    }
    Ok(found)
}

/// The same service and bucket, whatever the prefix. (Of vaults each region may have one of the name.)
pub fn same_bucket(a: &Identity, b: &Identity) -> bool {
    let same_place = a.is_vault() == b.is_vault() && (a.region == b.region || !a.is_vault());
    a.endpoint == b.endpoint && a.bucket == b.bucket && same_place
}

/// Ends what `which` picks of an instance's uploads, several at once.
pub async fn end_uploads(
    store: &Arc<dyn Store>,
    instance: &Instance,
    which: Which,
    guards: &Guards,
) -> Summary {
    let mut ending: Vec<BoxFuture<'_, Outcome>> = Vec::new();
    for upload in &instance.open {
        if which.holds(upload) {
            ending.push(Box::pin(async move {
                let guard = guards.take(&upload.key);
                let outcome = end_upload(store, instance, upload).await;
                // What was asked for it may be done yet.
                if let (Outcome::Kept, Some(guard)) = (outcome, guard) {
                    guard.lapse();
                }
                outcome
            }));
        }
    }
    let outcomes: Vec<Outcome> = futures_util::stream::iter(ending)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut summary = Summary::default();
    outcomes
        .into_iter()
        .for_each(|outcome| summary.count(outcome));
    if which == Which::RollForwards {
        // After the uploads: some of them are copies of such a rename.
        end_renames(store, instance, guards, &mut summary).await;
    }
    summary
}

async fn end_renames(
    store: &Arc<dyn Store>,
    instance: &Instance,
    guards: &Guards,
    summary: &mut Summary,
) {
    for (number, intent) in &instance.intents {
        let (from, to) = (&intent.from, &intent.to);
        let held = [from, to].map(|key| guards.take(key));
        let ended = match renames::end_rename(&**store, intent).await {
            Ok(()) => instance
                .forget_intent(*number)
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match ended {
            Ok(()) => {
                let how = if intent.copied {
                    "finished"
                } else {
                    "taken back"
                };
                info!("/{from}: its rename to /{to} was cut off: {how}");
                summary.renames += 1;
            }
            Err(why) => {
                warn!(
                    "/{from}: its rename to /{to} was cut off, and is kept for the next time: {why}"
                );
                summary.kept += 1;
                held.into_iter().flatten().for_each(Doubt::lapse);
            }
        }
    }
}

/// How long to leave a store alone that did not answer.
const AGAIN: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// Ends what is left of an instance behind a running mount, after its roll-forwards: as long as the
/// store does not answer it is asked again, ever more rarely.
pub async fn end_behind(store: Arc<dyn Store>, instance: Instance, guarding: Guarding) {
    let directory = instance.directory.clone();
    let nothing_rolls = Guarding::default().of(&instance);
    let summary = end_uploads(&store, &instance, Which::Rest, &nothing_rolls).await;
    report(&store.describe(), &summary);
    if finish(instance).await == 0 {
        return;
    }
    let mut pauses = AGAIN
        .iter()
        .chain(std::iter::repeat(&AGAIN[AGAIN.len() - 1]));
    loop {
        tokio::time::sleep(*pauses.next().expect("it repeats for ever")).await;
        // What was ended meanwhile is noted in the journal: read it anew.
        let place = directory.clone();
        let again = match tokio::task::spawn_blocking(move || journal::adopt(&place)).await {
            Ok(Ok(Adoption::Ours(again))) => *again,
            Ok(Ok(Adoption::Nothing)) => return,
            // Somebody else is at it, or it cannot be read for now.
            Ok(Ok(Adoption::Live) | Err(_)) | Err(_) => continue,
        };
        let summary = end_all(&store, &again, &guarding.of(&again)).await;
        report(&store.describe(), &summary);
        if finish(again).await == 0 {
            return;
        }
    }
}

/// Ends everything an instance has open.
pub async fn end_all(store: &Arc<dyn Store>, instance: &Instance, guards: &Guards) -> Summary {
    let mut summary = end_uploads(store, instance, Which::RollForwards, guards).await;
    summary.add(end_uploads(store, instance, Which::Rest, guards).await);
    summary
}

/// Gives an instance back; answers how many uploads are left in it.
pub async fn finish(instance: Instance) -> usize {
    let left = instance.count();
    tokio::task::spawn_blocking(move || instance.finish())
        .await
        .unwrap_or(left)
}

/// What this process has ended of others' so far. What was kept is not in it: it comes again.
pub fn so_far() -> Summary {
    *SO_FAR.lock().expect("no panic while held")
}

static SO_FAR: Mutex<Summary> = Mutex::new(Summary {
    completed: 0,
    aborted: 0,
    lost: 0,
    renames: 0,
    kept: 0,
});

/// One line, if there is something to say.
pub fn report(store: &str, summary: &Summary) {
    let ended = Summary {
        kept: 0,
        ..*summary
    };
    SO_FAR.lock().expect("no panic while held").add(ended);
    if summary.kept > 0 {
        warn!(
            "recovery of {store}: {summary} (the store does not answer or does not let us; tried again later, and by the next mount)"
        );
    } else if summary.total() > 0 {
        info!("recovery of {store}: {summary}");
    }
}

async fn end_upload(store: &Arc<dyn Store>, instance: &Instance, upload: &OpenUpload) -> Outcome {
    let says = match (&upload.upload_id, &upload.commit, upload.aborting) {
        (None, _, _) => Journal::Begun,
        (Some(_), _, true) => Journal::Aborting,
        (Some(_), Some(_), false) => Journal::Committing,
        (Some(_), None, false) => Journal::Opened,
    };
    let honoured = store.capabilities().conditional_writes;
    let conditional = honoured && upload.before != Before::Unknown;
    let mut performer = Performer {
        store,
        instance,
        upload,
        upload_id: upload.upload_id.clone(),
        conditional,
        turn: None,
        last_error: None,
    };
    let mut machine = Recovery::new(says, conditional);
    let mut actions = machine.start();
    loop {
        let mut event = None;
        for action in actions {
            match action {
                Action::Over(outcome) => {
                    performer.tell(outcome);
                    return outcome;
                }
                action => event = performer.perform(action).await,
            }
        }
        let event = event.expect("a recovery that is not over waits for something");
        debug!(key = %upload.key, ?event, "recovery");
        actions = machine.step(event);
    }
}

/// One search for a lost upload of a key at a time, so that two do not find the same one.
static NAMELESS: LazyLock<Turns<String>> = LazyLock::new(Turns::default);

struct Performer<'a> {
    store: &'a Arc<dyn Store>,
    instance: &'a Instance,
    upload: &'a OpenUpload,
    upload_id: Option<UploadId>,
    conditional: bool,
    /// Held from the search until its outcome is noted.
    turn: Option<Turn>,
    /// What a person is told when the upload is kept.
    last_error: Option<Error>,
}

impl Performer<'_> {
    /// Passes the store's answer on, and keeps what went wrong.
    fn heard<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer {
            self.last_error = Some(error.clone());
        }
        answer
    }

    async fn perform(&mut self, action: Action) -> Option<Event> {
        let (store, key) = (self.store, &self.upload.key);
        Some(match action {
            Action::FindUpload => {
                let began = self.began_there();
                let window = SearchWindow::of_the_dead(began, store.request_timeout());
                self.turn = Some(NAMELESS.take(self.instance.identity().path_of(key)).await);
                let siblings = async || self.siblings().await;
                let token = &self.upload.token;
                let found = find_upload(&**store, key, token, &window, siblings).await;
                match self.heard(found) {
                    Ok(Some(id)) => {
                        self.upload_id = Some(id);
                        Event::Found(Search::Ours)
                    }
                    Ok(None) => Event::Found(Search::Nothing),
                    Err(_) => {
                        self.turn = None;
                        Event::Found(Search::Unanswered)
                    }
                }
            }
            Action::CheckBase => Event::BaseSeen(self.compare_base().await),
            Action::Complete => {
                let commit = self
                    .upload
                    .commit
                    .as_ref()
                    .expect("a commit is rolled forward");
                let condition = match (&self.upload.before, self.conditional) {
                    (_, false) | (Before::Unknown, _) => Precondition::None,
                    (Before::Nothing, true) => Precondition::Absent,
                    (Before::Version(etag), true) => Precondition::Matches(etag.clone()),
                };
                let answer = store
                    .complete_upload(key, self.id(), &commit.parts, commit.size, &condition)
                    .await;
                Event::Completed(answers::completed(&self.heard(answer)))
            }
            Action::CheckToken => {
                let answer = self.heard(store.head(key).await);
                Event::TokenSeen(answers::token(&answer, &self.upload.token).0)
            }
            Action::SendAbort => {
                let answer = store.abort_upload(key, self.id()).await;
                Event::AbortAnswered(answers::aborted(&self.heard(answer)))
            }
            Action::ListParts => {
                let answer = store.list_parts(key, self.id()).await;
                Event::PartsListed(answers::listed(&self.heard(answer)))
            }
            Action::Record(record) => {
                let note = match record {
                    Record::Opened => Note::Opened(self.id().clone()),
                    Record::Abort => Note::Abort,
                    Record::End(ending) => Note::End(ending),
                    Record::Begin | Record::Commit => unreachable!("recovery begins nothing"),
                };
                let noted = self.instance.note(self.upload.id, note).await;
                // From here on the journals name the upload, for whoever looks for another one.
                self.turn = None;
                match noted {
                    Ok(()) => Event::Recorded(record),
                    Err(error) => {
                        warn!("{key}: the journal: {error}");
                        Event::RecordFailed(record)
                    }
                }
            }
            Action::Pause(tries) => {
                tokio::time::sleep(pause(tries, true)).await;
                Event::Woken
            }
            Action::Over(_) => unreachable!("handled by the caller"),
        })
    }

    /// What the journals of this machine know of the key's other uploads.
    async fn siblings(&self) -> Result<Siblings, Error> {
        let (upload, directory) = (self.upload, &self.instance.directory);
        let wait = |message: String| Error {
            kind: ErrorKind::Transient,
            operation: "ListMultipartUploads",
            key: upload.key.clone(),
            code: "Ambiguous".to_string(),
            message,
            request_id: None,
        };
        let state = directory.parent().expect("an instance is in a directory");
        let glimpses = journal::peek(state).map_err(|e| wait(e.to_string()))?;
        let path = self.instance.identity().path_of(&upload.key);
        let mut siblings = Siblings {
            named: HashSet::new(),
            nameless: 0,
        };
        for glimpse in glimpses {
            // What is damaged tells nothing, and is reported elsewhere.
            let Ok((header, open)) = glimpse.content else {
                continue;
            };
            let here = glimpse.directory == *directory;
            for other in open {
                if header.store.path_of(&other.key) != path || (here && other.id == upload.id) {
                    continue;
                }
                match other.upload_id {
                    Some(id) => {
                        siblings.named.insert(id);
                    }
                    None if glimpse.live => {
                        let message = "a live mount has just begun to write the same file";
                        return Err(wait(message.to_string()));
                    }
                    None => siblings.nameless += 1,
                }
            }
        }
        Ok(siblings)
    }

    async fn compare_base(&mut self) -> Base {
        let answer = self.store.head(&self.upload.key).await;
        let object = match self.heard(answer) {
            Ok(object) => Some(object),
            Err(error) if error.kind == ErrorKind::Missing => None,
            Err(_) => return Base::Unanswered,
        };
        match (&object, &self.upload.before) {
            (Some(object), _) if answers::carries(object, &self.upload.token) => Base::Ours,
            (Some(object), Before::Version(etag)) if object.etag == *etag => Base::Unchanged,
            (None, Before::Nothing | Before::Unknown) => Base::Unchanged,
            (Some(object), Before::Unknown) if object.modified < self.began_there() => {
                Base::Unchanged
            }
            _ => Base::Changed,
        }
    }

    /// When it began, by the store's clock. Where that was not written down: this machine's is as far from it as it was.
    fn began_there(&self) -> SystemTime {
        let ours = self.upload.began;
        self.upload.began_there.unwrap_or_else(|| {
            match self.store.clock().duration_since(SystemTime::now()) {
                Ok(ahead) => ours + ahead,
                Err(behind) => ours - behind.duration(),
            }
        })
    }

    fn id(&self) -> &UploadId {
        self.upload_id.as_ref().expect("the upload is known")
    }

    fn tell(&self, outcome: Outcome) {
        let key = &self.upload.key;
        match outcome {
            Outcome::Ended(Ending::Committed) => info!("/{key}: had been closed: completed"),
            Outcome::Ended(Ending::Aborted) => debug!("/{key}: aborted"),
            Outcome::Ended(Ending::Lost) => warn!(
                "/{key}: had been closed, and is not in the bucket as it was written: somebody else wrote the key or aborted its upload since"
            ),
            Outcome::Kept => {
                let why = self.last_error.as_ref();
                let why = why.map_or_else(|| "no answer".to_string(), Error::to_string);
                warn!("/{key}: its upload could not be ended now and is kept in the journal: {why}")
            }
        }
    }
}
