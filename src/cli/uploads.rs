//! `wholefs uploads`: what is open in a bucket: ours, by the journals of this machine, and foreign, by
//! the bucket's own list; and ending what others left behind, only when asked.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::log::start_on_terminal;
use super::mount::block_on;
use super::out::{complain, print_json, say};
use super::store_flags::{BUCKET_SCHEME, StoreArguments, VAULT_SCHEME};
use super::{Failure, units};
use crate::journal::{Identity, default_state_dir, peek};
use crate::recovery::with_slash;
use crate::shown::Shown;
use crate::store::{self, ErrorKind, ListedUpload, Store, UploadId};
use crate::upload::answers;
use crate::upload::life::{AbortAnswer, Listing};

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  wholefs uploads
  wholefs uploads s3://backups
  wholefs uploads glacier://vault
  wholefs uploads abort s3://backups ID
  wholefs uploads sweep s3://backups --older-than 7d

Without a bucket: what the journals of this machine know. With one: also what others have open.
Uploads of a live mount are never touched; those of a dead one are for `wholefs recover`.
In a vault, those of others go by what they are described as."
)]
pub(crate) struct UploadsArguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
struct Look {
    /// s3://BUCKET, s3://BUCKET/PREFIX or glacier://VAULT
    source: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Place {
    /// Where the journals are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Subcommand)]
enum Action {
    /// Abort foreign uploads by their ids
    Abort {
        /// s3://BUCKET, s3://BUCKET/PREFIX or glacier://VAULT
        source: String,
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        place: Place,
    },
    /// Abort foreign uploads that are older than a given age
    Sweep {
        /// s3://BUCKET, s3://BUCKET/PREFIX or glacier://VAULT
        source: String,
        /// Only those begun longer ago than this (like 7d or 12h)
        #[arg(long, value_name = "AGE", value_parser = age, allow_hyphen_values = true)]
        older_than: Duration,
        /// Only those of keys that begin with this (below the source's own prefix)
        #[arg(
            long,
            value_name = "PREFIX",
            default_value = "",
            hide_default_value = true
        )]
        prefix: String,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
struct Consent {
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not an age: a number and d, h, m or s (like 7d or 12h)");
    // A number alone would mean seconds, and be meant as days.
    if !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(wrong());
    }
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        _ => units::duration(text).map_err(|_| wrong()),
    }
}

/// One open upload, as it is shown.
#[derive(Serialize)]
struct Open {
    /// `live`, `orphaned`, `aborting`, `foreign`; or `unclear`: a journal has an upload of this key
    /// whose id it does not know, or cannot be read.
    state: &'static str,
    key: String,
    upload_id: Option<String>,
    /// Where it is told when it was begun.
    age_seconds: Option<u64>,
    parts: Option<usize>,
    bytes: Option<u64>,
}

pub(crate) fn run(arguments: UploadsArguments) -> Result<(), Failure> {
    start_on_terminal()?;
    match arguments.action {
        None => block_on(show(arguments.look)),
        Some(Action::Abort {
            source,
            ids,
            consent,
            place,
        }) => block_on(end_foreign(source, place, consent, Wanted::Ids(ids))),
        Some(Action::Sweep {
            source,
            older_than,
            prefix,
            consent,
            place,
        }) => block_on(end_foreign(
            source,
            place,
            consent,
            Wanted::OlderThan(older_than, prefix),
        )),
    }
}

/// What the journals of this machine know. A mount goes on meanwhile: read after the bucket's list,
/// they name every upload of ours that is in it.
struct Ours {
    by_id: HashMap<UploadId, &'static str>,
    /// What is uploaded by those whose id is not known, or not yet.
    nameless: HashSet<String>,
    shown: Vec<Open>,
    /// Journals that could not be read.
    damaged: usize,
}

impl Ours {
    /// `None` for what is certainly somebody else's.
    fn state_of(&self, key: &str, id: &UploadId) -> Option<&'static str> {
        match self.by_id.get(id) {
            Some(state) => Some(state),
            None if self.nameless.contains(key) => Some("unclear"),
            None => None,
        }
    }
}

/// `s3://bucket/` or `glacier://vault/`
pub(super) fn root_of(identity: &Identity) -> String {
    let scheme = match identity.is_vault() {
        true => VAULT_SCHEME,
        false => BUCKET_SCHEME,
    };
    format!("{scheme}{}/", identity.bucket)
}

/// `below`: as [`Looked::root`].
fn ours(state: &std::path::Path, below: Option<&str>) -> Result<Ours, Failure> {
    let mut ours = Ours {
        by_id: HashMap::new(),
        nameless: HashSet::new(),
        shown: Vec::new(),
        damaged: 0,
    };
    for glimpse in peek(state).map_err(|e| e.to_string())? {
        let (header, open) = match glimpse.content {
            Ok(content) => content,
            Err(error) => {
                complain!("{error}");
                ours.damaged += 1;
                continue;
            }
        };
        for upload in open {
            let state = match (glimpse.live, upload.aborting) {
                (_, true) => "aborting",
                (true, false) => "live",
                (false, false) => "orphaned",
            };
            let prefix = with_slash(&header.store.prefix);
            let key = format!("{}{prefix}{}", root_of(&header.store), upload.key);
            match &upload.upload_id {
                Some(id) => {
                    ours.by_id.insert(id.clone(), state);
                }
                None => {
                    ours.nameless.insert(key.clone());
                }
            }
            if below.is_some_and(|root| !key.starts_with(root)) {
                continue;
            }
            ours.shown.push(Open {
                state,
                key,
                upload_id: upload.upload_id.map(|id| id.0),
                age_seconds: Some(upload.began.elapsed().map_or(0, |age| age.as_secs())),
                parts: upload.commit.as_ref().map(|c| c.parts.len()),
                bytes: upload.commit.as_ref().map(|c| c.size),
            });
        }
    }
    Ok(ours)
}

/// What is looked at.
struct Looked {
    store: Arc<dyn Store>,
    /// What all of its keys begin with: `s3://bucket/prefix/`, `glacier://vault/`
    root: String,
}

async fn connect(source: &str, place: &Place) -> Result<Looked, Failure> {
    let state = place.state_dir.clone().unwrap_or_else(default_state_dir);
    let options = place.store.options_to_look(source, &state)?;
    let (vault, prefix) = (options.vault.is_some(), with_slash(&options.prefix));
    let scheme = if vault { VAULT_SCHEME } else { BUCKET_SCHEME };
    let root = format!("{scheme}{}/{prefix}", options.bucket);
    let store = store::open(options).await.map_err(|e| e.to_string())?;
    Ok(Looked { store, root })
}

/// What is not listed is not seen: who asks has to know.
fn told_of_exact_keys(store: &dyn Store) {
    let capabilities = store.capabilities();
    if !capabilities.uploads_by_prefix {
        eprintln!(
            "wholefs: {} lists the uploads of an exact key alone, so those of others are not seen here",
            capabilities.name
        );
    }
}

/// Every upload the bucket lists below the prefix, page by page.
async fn listed(store: &dyn Store) -> Result<Vec<ListedUpload>, Failure> {
    let mut all = Vec::new();
    let mut from = None;
    loop {
        let page = store
            .list_uploads("", from.as_ref())
            .await
            .map_err(|e| e.to_string())?;
        all.extend(page.uploads);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(all),
        }
    }
}

async fn show(look: Look) -> Result<(), Failure> {
    let state = look
        .place
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    let ours = match &look.source {
        None => ours(&state, None)?,
        Some(source) => {
            let Looked { store, root } = connect(source, &look.place).await?;
            let listed = listed(store.as_ref()).await?;
            told_of_exact_keys(store.as_ref());
            let mut ours = ours(&state, Some(&root))?;
            let otherwise = match ours.damaged {
                0 => "foreign",
                _ => "unclear",
            };
            for upload in listed {
                let size = match store.size_of_upload(&upload.key, &upload.upload_id).await {
                    Ok(size) => Some(size),
                    // Ended meanwhile.
                    Err(error) if error.kind == ErrorKind::NoSuchUpload => continue,
                    Err(_) => None,
                };
                let (parts, bytes) = size.unzip();
                let key = format!("{root}{}", upload.key);
                let state = ours.state_of(&key, &upload.upload_id);
                let age = age_of(&upload, store.clock());
                let id = Some(upload.upload_id.0);
                match ours.shown.iter_mut().find(|shown| shown.upload_id == id) {
                    Some(shown) => (shown.parts, shown.bytes) = (parts, bytes),
                    None => ours.shown.push(Open {
                        state: state.unwrap_or(otherwise),
                        key,
                        age_seconds: age.map(|age| age.as_secs()),
                        upload_id: id,
                        parts,
                        bytes,
                    }),
                }
            }
            ours
        }
    };
    match (look.json, ours.shown.is_empty()) {
        (true, _) => print_json(&ours.shown),
        (false, true) if ours.damaged == 0 => say!("no open uploads"),
        (false, _) => tell(ours.shown),
    }
    match ours.damaged {
        0 => Ok(()),
        _ => Err(Failure::from(
            "what a journal has open that cannot be read is not in this list, or unclear in it"
                .to_string(),
        )),
    }
}

fn tell(shown: Vec<Open>) {
    for upload in shown {
        let size = upload
            .bytes
            .map_or_else(String::new, |b| format!("  {b} bytes"));
        let parts = upload
            .parts
            .map_or_else(String::new, |p| format!("  {p} parts"));
        let id = upload
            .upload_id
            .unwrap_or_else(|| "(id not known)".to_string());
        say!(
            "{:9} {:>9}  {}{parts}{size}  {id}",
            upload.state,
            shown_age(upload.age_seconds),
            Shown(&upload.key)
        );
    }
}

fn age_of(upload: &ListedUpload, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(upload.initiated?).unwrap_or_default())
}

fn shown_age(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "?".to_string(), |seconds| format!("{seconds}s"))
}

/// Which uploads to end.
enum Wanted {
    Ids(Vec<String>),
    OlderThan(Duration, String),
}

/// How often an upload is looked at that was aborted, and the pause between.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Aborts it, and looks: not all who say that they have done so have.
async fn abort(store: &dyn Store, upload: &ListedUpload) -> Result<(), String> {
    let (key, id) = (&upload.key, &upload.upload_id);
    for _ in 0..LOOKS {
        let aborted = store.abort_upload(key, id).await;
        if answers::aborted(&aborted) == AbortAnswer::Unanswered {
            return aborted.map_err(|error| error.to_string());
        }
        let parts = store.list_parts(key, id).await;
        match answers::listed(&parts) {
            Listing::NoSuchUpload | Listing::Refused => return Ok(()),
            Listing::Unanswered => return parts.map(drop).map_err(|error| error.to_string()),
            // A part that was on its way, or a list that is late.
            Listing::StillThere => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
    let id = &id.0;
    Err(format!(
        "{id} is still there, though the store says it is aborted: run it again"
    ))
}

async fn end_foreign(
    source: String,
    place: Place,
    consent: Consent,
    wanted: Wanted,
) -> Result<(), Failure> {
    let Looked { store, root } = connect(&source, &place).await?;
    told_of_exact_keys(store.as_ref());
    let state = place.state_dir.clone().unwrap_or_else(default_state_dir);
    let listed = listed(store.as_ref()).await?;
    let ours = ours(&state, None)?;
    if ours.damaged > 0 && matches!(wanted, Wanted::OlderThan(..)) {
        return Err(Failure::from(
            "a journal of this machine cannot be read, so its uploads cannot be told from others': do as its line says, or abort others' by their ids".to_string(),
        ));
    }
    let (mut refused, mut ageless) = (0, 0);
    let mut chosen = Vec::new();
    for upload in listed {
        let is_wanted = match &wanted {
            Wanted::Ids(ids) => ids.contains(&upload.upload_id.0),
            Wanted::OlderThan(least, prefix) => {
                let age = age_of(&upload, store.clock());
                let is_below = upload.key.starts_with(prefix);
                ageless += usize::from(is_below && age.is_none());
                is_below && age.is_some_and(|age| age > *least)
            }
        };
        if !is_wanted {
            continue;
        }
        let key = format!("{root}{}", upload.key);
        match ours.state_of(&key, &upload.upload_id) {
            Some(state) => {
                complain!(
                    "{} is {state}, of a mount of this machine: left alone (wholefs recover ends those of dead mounts)",
                    upload.upload_id.0
                );
                refused += 1;
            }
            None => chosen.push(upload),
        }
    }
    if ageless > 0 {
        complain!(
            "{ageless} are left alone: the store does not tell when they were begun (wholefs uploads abort takes them by their ids)"
        );
    }
    // Of those that were named, each counts.
    let missing = match &wanted {
        Wanted::Ids(ids) => ids.len().saturating_sub(chosen.len()),
        Wanted::OlderThan(..) => 0,
    };
    if missing > refused {
        complain!(
            "{} of the uploads named are not open in {source}",
            missing - refused
        );
    }
    if chosen.is_empty() && missing > 0 {
        return Err(Failure::from("nothing was aborted".to_string()));
    }
    if chosen.is_empty() {
        say!("nothing to abort");
        return Ok(());
    }
    for upload in &chosen {
        say!(
            "{:>9}  {root}{}  {}",
            shown_age(age_of(upload, store.clock()).map(|age| age.as_secs())),
            Shown(&upload.key),
            upload.upload_id.0
        );
    }
    if !consent.yes && !agreed(chosen.len())? {
        return Err(Failure::from("nothing was aborted".to_string()));
    }
    let mut failed = 0;
    for upload in &chosen {
        if let Err(why) = abort(&*store, upload).await {
            complain!("{root}{}: {why}", Shown(&upload.key));
            failed += 1;
        }
    }
    say!("{} aborted", chosen.len() - failed);
    if failed > 0 {
        return Err(Failure::from(format!(
            "{failed} could not be aborted: run it again"
        )));
    }
    if missing > 0 {
        return Err(Failure::from(format!("{missing} were not aborted")));
    }
    Ok(())
}

fn agreed(count: usize) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "aborting needs consent: answer on a terminal, or say --yes",
        ));
    }
    print!(
        "Abort these {count} uploads? They may belong to programs that are still writing. [y/N] "
    );
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| e.to_string())?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
