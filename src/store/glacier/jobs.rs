//! What a vault does in hours: bringing an archive back, and telling what is in it. The vault itself remembers
//! its jobs, for as long as it keeps their output; nothing of them is noted here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_sdk_glacier::types::{ActionCode, GlacierJobDescription, JobParameters, StatusCode};
use serde::Deserialize;

use super::names::{Content, Entry, Record};
use super::{GlacierStore, description, missing};
use crate::store::s3::body::Receiving;
use crate::store::s3::classify::{Failure, Op};
use crate::store::{Attributes, DownloadBody, Error, ErrorKind, Result};

/// How fast an archive is wanted, and paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Bulk,
    Standard,
    Expedited,
}

/// A job, as far as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Begun now, or some time ago.
    Running,
    /// Its output is there.
    Done(String),
    /// The vault has given it up, and says why; no other was begun.
    Failed(String),
}

/// What a rebuilding has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: usize,
    /// Archives that have their name in the catalogue, or are known as garbage.
    pub known: usize,
    /// Older ones of a name, or of a name that stands for something else.
    pub passed_over: usize,
    /// Archives that others made.
    pub foreign: usize,
}

/// What is not there is not asked for again so soon.
const BELIEVED: Duration = Duration::from_secs(1);
/// An inventory is read whole; this is of some million archives.
const INVENTORY_MAX: u64 = 4 << 30;

/// Which jobs have brought archives back, as the vault last told.
#[derive(Default)]
pub(super) struct Outputs {
    known: Mutex<(HashMap<String, String>, Option<Instant>)>,
}

impl Outputs {
    /// The archive's job, and whether the vault need not be asked.
    fn of(&self, archive: &str) -> (Option<String>, bool) {
        let known = self.known.lock().expect("no panic while held");
        let job = known.0.get(archive).cloned();
        let fresh = known.1.is_some_and(|at| at.elapsed() < BELIEVED);
        (job.clone(), job.is_some() || fresh)
    }

    fn learn(&self, jobs: HashMap<String, String>) {
        *self.known.lock().expect("no panic while held") = (jobs, Some(Instant::now()));
    }

    fn forget(&self, archive: &str) {
        let mut known = self.known.lock().expect("no panic while held");
        known.0.remove(archive);
    }
}

/// A vault's inventory, as its job tells it.
#[derive(Deserialize)]
struct Inventory {
    #[serde(rename = "ArchiveList")]
    archives: Vec<Archive>,
}

#[derive(Deserialize)]
struct Archive {
    #[serde(rename = "ArchiveId")]
    id: String,
    #[serde(rename = "ArchiveDescription", default)]
    description: String,
    #[serde(rename = "CreationDate", default)]
    created: String,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "SHA256TreeHash", default)]
    tree_hash: String,
}

impl GlacierStore {
    /// Can it be asked which archives were brought back? Without that none is ever read.
    pub async fn can_tell_of_jobs(&self) -> Result<()> {
        self.brought_back("").await.map(drop)
    }

    /// The bytes of an archive that was brought back.
    pub(super) async fn output(
        &self,
        key: &str,
        archive: &str,
        range: Range<u64>,
    ) -> Result<DownloadBody> {
        let (mut job, fresh) = self.outputs.of(archive);
        if !fresh {
            self.outputs.learn(self.brought_back(key).await?);
            job = self.outputs.of(archive).0;
        }
        let Some(job) = job else {
            return Err(self.archived(key));
        };
        match self.read_output(key, &job, range).await {
            // Its time is over.
            Err(error) if error.kind == ErrorKind::Missing => {
                self.outputs.forget(archive);
                Err(self.archived(key))
            }
            output => output,
        }
    }

    fn archived(&self, key: &str) -> Error {
        let message = format!(
            "it is in the archive: `wholefs vault retrieve {} {key:?}` brings it back",
            self.vault
        );
        Op::GET.error(ErrorKind::Archived, key, "Archived", &message)
    }

    async fn read_output(&self, key: &str, job: &str, range: Range<u64>) -> Result<DownloadBody> {
        let op = Op::JOB_OUTPUT;
        let bytes = range.end - range.start;
        let request = || {
            self.client
                .get_job_output()
                .account_id("-")
                .vault_name(&self.vault)
                .job_id(job)
                .range(format!("bytes={}-{}", range.start, range.end - 1))
                .send()
        };
        let patience = self.line.limits.patience(0);
        let begins = format!("bytes {}-{}/", range.start, range.end - 1);
        let accept =
            |output: aws_sdk_glacier::operation::get_job_output::GetJobOutputOutput| match output
                .content_range()
                .is_none_or(|range| range.starts_with(&begins))
            {
                true => Ok(output),
                false => Err(Failure::incomplete(
                    op,
                    key,
                    "another range than was asked for",
                )),
            };
        let output = self.call(op, key, patience, request, accept).await?;
        Ok(Box::new(Receiving {
            key: key.to_string(),
            request_id: aws_sdk_glacier::operation::RequestId::request_id(&output)
                .map(str::to_string),
            stream: output.body,
            left: bytes,
            stall: self.line.limits.request_timeout,
            patience: self.line.limits.request_timeout,
            ended: false,
            tally: self.line.tally.clone(),
            turns: self.line.turns_to_receive(),
        }))
    }

    async fn jobs(&self, key: &str) -> Result<Vec<GlacierJobDescription>> {
        let mut jobs = Vec::new();
        let mut marker = None;
        loop {
            let request = || {
                self.client
                    .list_jobs()
                    .account_id("-")
                    .vault_name(&self.vault)
                    .set_marker(marker.clone())
                    .send()
            };
            let patience = self.line.limits.patience(0);
            let page = self
                .call(Op::DESCRIBE_JOBS, key, patience, request, Ok)
                .await?;
            let next = page.marker.filter(|next| marker.as_ref() != Some(next));
            jobs.extend(page.job_list.unwrap_or_default());
            match next {
                Some(next) => marker = Some(next),
                None => return Ok(jobs),
            }
        }
    }

    async fn brought_back(&self, key: &str) -> Result<HashMap<String, String>> {
        let jobs = self.jobs(key).await?;
        let done = jobs
            .into_iter()
            .filter(|job| has(job, &StatusCode::Succeeded) && brings_all_of_it(job));
        Ok(done
            .filter_map(|job| Some((job.archive_id?, job.job_id?)))
            .collect())
    }

    /// Has a file brought back, unless that is under way or done; or looks how far that is, if no job is to be begun.
    pub async fn retrieve(&self, name: &str, tier: Tier, may_begin: bool) -> Result<Job> {
        let entry = self.entry(Op::GET, name)?;
        let Some(archive) = entry.archive() else {
            return Ok(Job::Done(String::new()));
        };
        let jobs = self.jobs(name).await?;
        let its = |job: &&GlacierJobDescription| {
            job.archive_id() == Some(archive) && brings_all_of_it(job)
        };
        if let Some(job) = known(jobs.iter().filter(its), may_begin) {
            return Ok(job);
        }
        let tier = match tier {
            Tier::Bulk => "Bulk",
            Tier::Standard => "Standard",
            Tier::Expedited => "Expedited",
        };
        let wanted = JobParameters::builder()
            .r#type("archive-retrieval")
            .archive_id(archive)
            .tier(tier);
        self.begin(name, wanted.build()).await
    }

    /// The vault's inventory: a job of it, unless one is under way or done; or how far that is, as above.
    pub async fn inventory(&self, may_begin: bool) -> Result<Job> {
        let jobs = self.jobs("").await?;
        let its = |job: &&GlacierJobDescription| lists_all(job);
        if let Some(job) = known(jobs.iter().filter(its), may_begin) {
            return Ok(job);
        }
        let wanted = JobParameters::builder()
            .r#type("inventory-retrieval")
            .format("JSON");
        self.begin("", wanted.build()).await
    }

    async fn begin(&self, key: &str, wanted: JobParameters) -> Result<Job> {
        let request = || {
            self.client
                .initiate_job()
                .account_id("-")
                .vault_name(&self.vault)
                .job_parameters(wanted.clone())
                .send()
        };
        let patience = self.line.limits.patience(0);
        self.call(Op::INITIATE_JOB, key, patience, request, |_| {
            Ok(Job::Running)
        })
        .await
    }

    /// Adds to the catalogue what an inventory knows and it does not. Nothing is taken away: an inventory
    /// is a day old.
    pub async fn rebuild(&self, job: &str) -> Result<Imported> {
        let op = Op::JOB_OUTPUT;
        let request = || {
            self.client
                .get_job_output()
                .account_id("-")
                .vault_name(&self.vault)
                .job_id(job)
                .send()
        };
        let patience = self.line.limits.patience(0);
        let mut output = self.call(op, "", patience, request, Ok).await?;
        let mut text = Vec::new();
        let broken = |message: &str| op.error(ErrorKind::Transient, "", "Inventory", message);
        loop {
            let next = tokio::time::timeout(self.line.limits.request_timeout, output.body.next());
            match next.await {
                Ok(Some(Ok(bytes))) => text.extend_from_slice(&bytes),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(broken(&error.to_string())),
                Err(_) => return Err(broken("it comes too slowly")),
            }
            if text.len() as u64 > INVENTORY_MAX {
                return Err(broken("it is too long"));
            }
        }
        let inventory: Inventory =
            serde_json::from_slice(&text).map_err(|e| broken(&e.to_string()))?;
        let (give, take) = std::sync::mpsc::channel();
        let added = self.record(op, "", move |names| {
            let (records, imported) = sorted_out(inventory, names);
            let _ = give.send(imported);
            Ok(records)
        });
        added.await?;
        take.recv().map_err(|_| missing(op, ""))
    }
}

fn has(job: &GlacierJobDescription, status: &StatusCode) -> bool {
    job.status_code() == Some(status)
}

/// Of an archive, as a whole: another program may have had a range of it brought back, or have asked it something.
fn brings_all_of_it(job: &GlacierJobDescription) -> bool {
    let all = job
        .archive_size_in_bytes()
        .map(|size| format!("0-{}", size - 1));
    let range = job.retrieval_byte_range();
    job.action()
        .is_none_or(|action| *action == ActionCode::ArchiveRetrieval)
        && range.is_none_or(|range| Some(range) == all.as_deref())
}

/// An inventory of all there is, in the form that is read here.
fn lists_all(job: &GlacierJobDescription) -> bool {
    let asked = job.inventory_retrieval_parameters();
    job.archive_id().is_none()
        && job
            .action()
            .is_none_or(|action| *action == ActionCode::InventoryRetrieval)
        && asked.is_none_or(|asked| {
            asked.format().is_none_or(|format| format == "JSON")
                && asked.start_date().is_none()
                && asked.end_date().is_none()
                && asked.limit().is_none()
        })
}

/// `None`: another is to be begun.
fn known<'a>(
    jobs: impl Iterator<Item = &'a GlacierJobDescription>,
    may_begin: bool,
) -> Option<Job> {
    let mut found = (!may_begin).then(|| Job::Failed("it is not there any more".to_string()));
    for job in jobs {
        if has(job, &StatusCode::Succeeded) {
            return job.job_id().map(|id| Job::Done(id.to_string()));
        }
        if has(job, &StatusCode::InProgress) {
            found = Some(Job::Running);
        }
        let why = job
            .status_message()
            .filter(|_| has(job, &StatusCode::Failed));
        if let (Some(Job::Failed(said)), Some(why)) = (&mut found, why) {
            *said = why.to_string();
        }
    }
    found
}

/// Of several archives of a name the newest has it.
fn sorted_out(mut inventory: Inventory, names: &super::Names) -> (Vec<Record>, Imported) {
    let mut imported = Imported::default();
    let mut records = Vec::new();
    let mut taken: std::collections::HashSet<String> = names.files.keys().cloned().collect();
    // ISO 8601, all of one form: they sort as text.
    inventory.archives.sort_by(|a, b| b.created.cmp(&a.created));
    for archive in inventory.archives {
        if names.knows(&archive.id) {
            imported.known += 1;
            continue;
        }
        let Some((name, metadata)) = description::read(&archive.description) else {
            imported.foreign += 1;
            continue;
        };
        if !taken.insert(name.clone()) {
            imported.passed_over += 1;
            continue;
        }
        imported.added += 1;
        records.push(Record::Put {
            name,
            entry: Entry {
                content: Content::Archive {
                    id: archive.id,
                    tree_hash: archive.tree_hash,
                },
                size: archive.size,
                stored: super::calls::milliseconds(&archive.created),
                said: Attributes {
                    metadata,
                    ..Attributes::default()
                },
            },
            upload: None,
        });
    }
    (records, imported)
}

#[cfg(test)]
mod tests {
    use aws_sdk_glacier::types::InventoryRetrievalJobDescription;

    use super::*;

    fn job(id: &str, status: StatusCode) -> GlacierJobDescription {
        let job = GlacierJobDescription::builder()
            .job_id(id)
            .status_code(status);
        job.build()
    }

    #[test]
    fn a_job_of_another_program_counts_if_it_brings_all_of_it() {
        let of_archive = |range: Option<&str>, action| {
            let job = GlacierJobDescription::builder().archive_id("a");
            let job = job.archive_size_in_bytes(10).action(action);
            brings_all_of_it(
                &job.set_retrieval_byte_range(range.map(str::to_string))
                    .build(),
            )
        };
        assert!(of_archive(None, ActionCode::ArchiveRetrieval));
        assert!(of_archive(Some("0-9"), ActionCode::ArchiveRetrieval));
        assert!(!of_archive(Some("0-8"), ActionCode::ArchiveRetrieval));
        assert!(!of_archive(Some("5-9"), ActionCode::ArchiveRetrieval));
        assert!(!of_archive(None, ActionCode::Select));
    }

    #[test]
    fn an_inventory_of_another_program_counts_if_it_lists_all_in_json() {
        let asked = InventoryRetrievalJobDescription::builder;
        let listing =
            |asked: aws_sdk_glacier::types::builders::InventoryRetrievalJobDescriptionBuilder| {
                let job = GlacierJobDescription::builder();
                lists_all(&job.inventory_retrieval_parameters(asked.build()).build())
            };
        assert!(listing(asked()) && listing(asked().format("JSON")));
        assert!(!listing(asked().format("CSV")));
        assert!(!listing(asked().format("JSON").limit("10")));
        assert!(!listing(asked().start_date("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn a_job_is_begun_where_none_is_and_once() {
        let [done, runs] = [StatusCode::Succeeded, StatusCode::InProgress].map(|s| job("j", s));
        let failed = GlacierJobDescription::builder().status_code(StatusCode::Failed);
        let failed = failed.status_message("no").build();
        let known =
            |jobs: &[&GlacierJobDescription], may_begin| known(jobs.iter().copied(), may_begin);
        assert_eq!(known(&[], true), None);
        assert_eq!(known(&[&failed], true), None);
        assert_eq!(
            known(&[&failed], false),
            Some(Job::Failed("no".to_string()))
        );
        for may_begin in [false, true] {
            assert_eq!(known(&[&failed, &runs], may_begin), Some(Job::Running));
            assert_eq!(known(&[&runs, &failed], may_begin), Some(Job::Running));
            let there = Some(Job::Done("j".to_string()));
            assert_eq!(known(&[&runs, &done, &failed], may_begin), there);
        }
    }
}
