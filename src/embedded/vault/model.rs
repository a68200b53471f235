//! What vaults hold and what can be done with them. Every operation is one step under one lock.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;

use super::tree;

/// What may be set about the server's behaviour.
#[derive(Debug, Clone)]
pub struct Manners {
    /// How long a job takes.
    pub job_delay: Duration,
    /// How long its output is kept.
    pub output_kept: Duration,
    /// An upload that nothing is done with for so long vanishes.
    pub upload_idle: Duration,
    /// Ended uploads are forgotten at once, where the vendor remembers them "for a short time".
    pub forgetful: bool,
    /// Uploads, jobs and parts in one page of a list.
    pub page: usize,
}

impl Default for Manners {
    fn default() -> Manners {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Manners {
            job_delay: Duration::from_secs(4 * 3600),
            output_kept: DAY,
            upload_idle: DAY,
            forgetful: false,
            page: 50,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSummary {
    pub id: String,
    pub description: String,
    pub size: u64,
    pub tree_hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSummary {
    pub id: String,
    pub description: String,
    pub part_size: u64,
    pub parts: usize,
}

/// A refusal, in the vendor's words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

pub(super) type Result<T> = std::result::Result<T, Refusal>;

pub(super) fn missing(what: &str) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        code: "ResourceNotFoundException",
        message: format!("The {what} was not found"),
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        code: "InvalidParameterValueException",
        message: message.into(),
    }
}

pub(super) struct Archive {
    pub description: String,
    pub created: SystemTime,
    pub chunks: Vec<Bytes>,
    pub size: u64,
    pub tree_hash: String,
}

pub(super) struct Part {
    pub bytes: Bytes,
    leaves: Vec<Vec<u8>>,
}

impl Part {
    pub fn new(bytes: Bytes) -> Part {
        let leaves = tree::leaves(&bytes);
        Part { bytes, leaves }
    }

    pub fn tree_hash(&self) -> String {
        tree::hex(&tree::root(&self.leaves))
    }
}

pub(super) struct Upload {
    pub description: String,
    pub part_size: u64,
    pub created: SystemTime,
    /// By their first byte.
    pub parts: BTreeMap<u64, Part>,
    touched: Instant,
}

enum Ended {
    Aborted,
    /// Into this archive.
    Completed(String),
}

#[derive(Clone)]
pub(super) struct Job {
    /// `None`: the inventory.
    pub archive: Option<String>,
    pub description: String,
    pub tier: String,
    pub created: SystemTime,
    begun: Instant,
}

#[derive(Default)]
struct Vault {
    archives: BTreeMap<String, Archive>,
    uploads: BTreeMap<String, Upload>,
    ended: HashMap<String, Ended>,
    jobs: BTreeMap<String, Job>,
}

pub(super) struct Model {
    pub manners: Manners,
    vaults: BTreeMap<String, Vault>,
    numbers: u64,
}

const MIB: u64 = 1 << 20;

impl Model {
    pub fn new(manners: Manners) -> Model {
        Model {
            manners,
            vaults: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub fn create_vault(&mut self, vault: &str) {
        self.vaults.entry(vault.to_string()).or_default();
    }

    /// Ids are long, and sort in the order they were given.
    fn new_id(&mut self) -> String {
        self.numbers += 1;
        let digits = format!("{:012}", self.numbers);
        format!(
            "{digits}-{}",
            &tree::hex(&tree::sha256(digits.as_bytes()))[..40]
        )
    }

    fn vault(&mut self, vault: &str) -> Result<&mut Vault> {
        let idle = self.manners.upload_idle;
        let found = self.vaults.get_mut(vault).ok_or_else(|| missing("vault"))?;
        found
            .uploads
            .retain(|_, upload| upload.touched.elapsed() <= idle);
        Ok(found)
    }

    /// How many archives, and their bytes.
    pub fn describe(&mut self, vault: &str) -> Result<(usize, u64)> {
        let archives = &self.vault(vault)?.archives;
        Ok((archives.len(), archives.values().map(|a| a.size).sum()))
    }

    /// Answers the archive's id and tree hash.
    pub fn upload_archive(
        &mut self,
        vault: &str,
        description: &str,
        bytes: Bytes,
    ) -> Result<(String, String)> {
        if bytes.is_empty() {
            return Err(invalid("Invalid Content-Length: 0"));
        }
        let id = self.new_id();
        let part = Part::new(bytes);
        let archive = Archive {
            description: description.to_string(),
            created: SystemTime::now(),
            size: part.bytes.len() as u64,
            tree_hash: part.tree_hash(),
            chunks: vec![part.bytes],
        };
        let hash = archive.tree_hash.clone();
        self.vault(vault)?.archives.insert(id.clone(), archive);
        Ok((id, hash))
    }

    pub fn delete_archive(&mut self, vault: &str, id: &str) -> Result<()> {
        let deleted = self.vault(vault)?.archives.remove(id);
        deleted.map(drop).ok_or_else(|| missing("archive"))
    }

    pub fn initiate(&mut self, vault: &str, description: &str, part_size: u64) -> Result<String> {
        let id = self.new_id();
        self.initiate_as(vault, id.clone(), description, part_size)?;
        Ok(id)
    }

    pub fn initiate_as(
        &mut self,
        vault: &str,
        id: String,
        description: &str,
        part_size: u64,
    ) -> Result<()> {
        let mib = part_size / MIB;
        if !part_size.is_multiple_of(MIB) || !mib.is_power_of_two() || mib > 4096 {
            return Err(invalid(format!(
                "Invalid part size: {part_size}: a power of two of MiB, up to 4 GiB"
            )));
        }
        let upload = Upload {
            description: description.to_string(),
            part_size,
            created: SystemTime::now(),
            parts: BTreeMap::new(),
            touched: Instant::now(),
        };
        self.vault(vault)?.uploads.insert(id, upload);
        Ok(())
    }

    /// `first..=last` is what the range says. A short part in the middle is taken, as by the vendor.
    pub fn put_part(
        &mut self,
        vault: &str,
        id: &str,
        (first, last): (u64, u64),
        part: Part,
    ) -> Result<()> {
        let upload = self.vault(vault)?.uploads.get_mut(id);
        let upload = upload.ok_or_else(|| missing("upload"))?;
        let length = part.bytes.len() as u64;
        if !first.is_multiple_of(upload.part_size) {
            return Err(invalid(format!(
                "Content-Range {first}-{last} does not align with the part size {}",
                upload.part_size
            )));
        }
        if length == 0 || length > upload.part_size || last.checked_sub(first) != Some(length - 1) {
            return Err(invalid(format!(
                "Content-Range {first}-{last} does not fit a body of {length} bytes in parts of {}",
                upload.part_size
            )));
        }
        if first / upload.part_size >= 10_000 {
            return Err(invalid("An upload has at most 10000 parts"));
        }
        upload.touched = Instant::now();
        upload.parts.insert(first, part);
        Ok(())
    }

    /// Answers the archive's id.
    pub fn complete(
        &mut self,
        vault: &str,
        id: &str,
        size: u64,
        tree_hash: &str,
    ) -> Result<String> {
        let forgetful = self.manners.forgetful;
        let new_id = self.new_id();
        let vault = self.vault(vault)?;
        if let (false, Some(Ended::Completed(archive))) = (forgetful, vault.ended.get(id)) {
            return Ok(archive.clone());
        }
        let upload = vault.uploads.get(id).ok_or_else(|| missing("upload"))?;
        let mut at = 0;
        let mut leaves = Vec::new();
        for (first, part) in &upload.parts {
            if *first != at {
                return Err(invalid(format!(
                    "The parts have a gap or a short one at {at}"
                )));
            }
            at += part.bytes.len() as u64;
            leaves.extend(part.leaves.iter().cloned());
        }
        if at == 0 || at != size {
            return Err(invalid(format!("The archive size is {at} and not {size}")));
        }
        let computed = tree::hex(&tree::root(&leaves));
        if computed != tree_hash {
            return Err(invalid(format!(
                "The tree hash is {computed} and not {tree_hash}"
            )));
        }
        let upload = vault.uploads.remove(id).ok_or_else(|| missing("upload"))?;
        let archive = Archive {
            description: upload.description,
            created: SystemTime::now(),
            chunks: upload.parts.into_values().map(|part| part.bytes).collect(),
            size,
            tree_hash: computed,
        };
        vault.archives.insert(new_id.clone(), archive);
        vault
            .ended
            .insert(id.to_string(), Ended::Completed(new_id.clone()));
        Ok(new_id)
    }

    /// An aborted upload may be aborted again, for a short time; a completed one cannot be.
    pub fn abort(&mut self, vault: &str, id: &str) -> Result<()> {
        let forgetful = self.manners.forgetful;
        let vault = self.vault(vault)?;
        if vault.uploads.remove(id).is_some() {
            vault.ended.insert(id.to_string(), Ended::Aborted);
            return Ok(());
        }
        match vault.ended.get(id) {
            Some(Ended::Aborted) if !forgetful => Ok(()),
            _ => Err(missing("upload")),
        }
    }

    pub fn upload(&mut self, vault: &str, id: &str) -> Result<&Upload> {
        let upload = self.vault(vault)?.uploads.get(id);
        upload.ok_or_else(|| missing("upload"))
    }

    pub fn uploads(&mut self, vault: &str) -> Result<Vec<(&String, &Upload)>> {
        Ok(self.vault(vault)?.uploads.iter().collect())
    }

    pub fn begin_job(
        &mut self,
        vault: &str,
        archive: Option<String>,
        tier: &str,
        description: &str,
    ) -> Result<String> {
        let id = self.new_id();
        let vault = self.vault(vault)?;
        if let Some(archive) = &archive
            && !vault.archives.contains_key(archive)
        {
            return Err(missing("archive"));
        }
        let job = Job {
            archive,
            description: description.to_string(),
            tier: tier.to_string(),
            created: SystemTime::now(),
            begun: Instant::now(),
        };
        vault.jobs.insert(id.clone(), job);
        Ok(id)
    }

    pub fn is_done(&self, job: &Job) -> bool {
        job.begun.elapsed() >= self.manners.job_delay
    }

    pub fn jobs(&mut self, vault: &str) -> Result<Vec<(String, Job)>> {
        let kept = self
            .manners
            .job_delay
            .saturating_add(self.manners.output_kept);
        let jobs = &mut self.vault(vault)?.jobs;
        jobs.retain(|_, job| job.begun.elapsed() <= kept);
        Ok(jobs
            .iter()
            .map(|(id, job)| (id.clone(), job.clone()))
            .collect())
    }

    pub fn archive(&mut self, vault: &str, id: &str) -> Result<&Archive> {
        let archive = self.vault(vault)?.archives.get(id);
        archive.ok_or_else(|| missing("archive"))
    }

    pub fn all_archives(&mut self, vault: &str) -> Result<Vec<(&String, &Archive)>> {
        Ok(self.vault(vault)?.archives.iter().collect())
    }

    pub fn archives(&self, vault: &str) -> Vec<ArchiveSummary> {
        let archives = self.vaults.get(vault).into_iter().flat_map(|v| &v.archives);
        let summary = |(id, archive): (&String, &Archive)| ArchiveSummary {
            id: id.clone(),
            description: archive.description.clone(),
            size: archive.size,
            tree_hash: archive.tree_hash.clone(),
        };
        archives.map(summary).collect()
    }

    pub fn bytes_of(&self, vault: &str, id: &str) -> Option<Vec<u8>> {
        Some(self.vaults.get(vault)?.archives.get(id)?.chunks.concat())
    }

    pub fn open_uploads(&mut self, vault: &str) -> Vec<UploadSummary> {
        let uploads = self.uploads(vault).unwrap_or_default();
        let summary = |(id, upload): (&String, &Upload)| UploadSummary {
            id: id.clone(),
            description: upload.description.clone(),
            part_size: upload.part_size,
            parts: upload.parts.len(),
        };
        uploads.into_iter().map(summary).collect()
    }
}
