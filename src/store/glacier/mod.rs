//! A vault of Amazon S3 Glacier as a store: archives without names, which are read hours after they were
//! asked for. Names, sizes and times are the catalogue's; the vault has the bytes.
//!
//! - `names`: which name is which archive; `catalogue`: that, on the disk. `description`: what a vault keeps beside the bytes.
//! - `connect`: finding the vault. `calls`: each call of the trait. `jobs`: having archives brought back, and
//!   the vault's inventory. `tree`: its checksum.
//!
//! Invariants:
//! - Every byte comes by a multipart upload, however few: Complete, repeated, answers the same archive id,
//!   where an UploadArchive without an answer would leave an archive that nobody knows and that is billed
//!   for good. What is empty is no archive, and a symbolic link is not worth one: the catalogue has those.
//! - Parts of a store all have one size ([`VaultOptions::part_size`]), which Glacier fixes at the beginning of
//!   an upload. So a part's range follows from its number.
//! - Before Complete is sent the catalogue knows what is said of the file; once it is answered the name stands
//!   for the archive, durably, before anybody hears of it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_glacier::Client;
use aws_sdk_glacier::config::http::HttpResponse;
use aws_sdk_glacier::error::{ProvideErrorMetadata, SdkError};

use super::error::CATALOGUE_FULL;
use super::s3::classify::{Failure, Nature, Op};
use super::s3::exchange::{Line, Patience};
use super::s3::{ConnectError, Options, of_provider};
use super::{Attributes, Capabilities, Error, ErrorKind, Result, UploadId};

mod calls;
mod catalogue;
mod connect;
mod description;
mod jobs;
mod names;
mod tree;

pub use catalogue::{Catalogue, CatalogueError};
pub use jobs::{Imported, Job, Tier};
pub use names::{Content, Entry, Names, Record, VaultName};

/// How a vault is told from buckets, in journals.
pub const PROVIDER: &str = "glacier";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PARTS_MAX: u32 = 10_000;
const PART_MAX: u64 = 4 * GIB;

/// What else there is to say of a vault.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// The state directory, for the catalogue.
    pub state: PathBuf,
    /// Brought down to a power of two MiB.
    pub part_size: u64,
    /// The catalogue is only looked at: somebody else may be writing it.
    pub look_only: bool,
}

impl Op {
    const DESCRIBE_JOBS: Op = Op::new("ListJobs", Nature::Read, false);
    const JOB_OUTPUT: Op = Op::new("GetJobOutput", Nature::Read, false);
    const INITIATE_JOB: Op = Op::new("InitiateJob", Nature::Commit, false);
    const DELETE_ARCHIVE: Op = Op::new("DeleteArchive", Nature::Write, false);
    const INITIATE: Op = Op::new("InitiateMultipartUpload", Nature::Commit, false);
    const UPLOAD_PART: Op = Op::new("UploadMultipartPart", Nature::Write, true);
}

pub struct GlacierStore {
    client: Client,
    vault: String,
    region: String,
    capabilities: Capabilities,
    line: Line,
    catalogue: Arc<Catalogue>,
    /// What is said of the files whose uploads were begun here.
    begun: Mutex<HashMap<UploadId, Attributes>>,
    /// Archives that the vault has refused to delete: asked for once in the life of a mount.
    refused: Mutex<HashSet<String>>,
    outputs: jobs::Outputs,
}

/// The largest part of at most `wanted` bytes.
fn part_size(wanted: u64) -> u64 {
    let mib = (wanted.min(PART_MAX) / MIB).max(1);
    MIB << mib.ilog2()
}

/// The table's row, with parts of this size.
fn capabilities(part_size: u64) -> Capabilities {
    Capabilities {
        part_min: part_size,
        part_max: part_size,
        object_max: part_size * u64::from(PARTS_MAX),
        key_max: description::NAME_MAX,
        ..of_provider(PROVIDER)
    }
}

impl GlacierStore {
    /// Finds the vault, takes its catalogue, and deletes what a crash left without a name.
    pub async fn connect(options: Options) -> std::result::Result<GlacierStore, ConnectError> {
        let Some(of_vault) = options.vault.clone() else {
            return Err(ConnectError::Options("it is not a vault".to_string()));
        };
        let found = connect::find(&options).await?;
        let line = Line::new(&options, Some(found.keys));
        let (state, name) = (of_vault.state, found.name);
        let region = name.region.clone();
        let catalogue = tokio::task::spawn_blocking(move || match of_vault.look_only {
            true => Catalogue::look(&state, &name),
            false => Catalogue::open(&state, &name),
        });
        let catalogue = catalogue
            .await
            .map_err(|e| ConnectError::Options(e.to_string()))?
            .map_err(|e| ConnectError::Options(e.to_string()))?;
        let store = GlacierStore {
            client: found.client,
            line,
            vault: options.bucket,
            region,
            capabilities: capabilities(part_size(of_vault.part_size)),
            catalogue: Arc::new(catalogue),
            begun: Mutex::default(),
            refused: Mutex::default(),
            outputs: jobs::Outputs::default(),
        };
        if !of_vault.look_only {
            store.delete_garbage().await;
        }
        Ok(store)
    }

    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    async fn call<T, U, E, F, Fut>(
        &self,
        op: Op,
        key: &str,
        patience: impl Into<Patience>,
        request: F,
        accept: impl Fn(T) -> std::result::Result<U, Failure>,
    ) -> Result<U>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        self.line.call(op, key, patience, request, accept).await
    }

    /// Makes what `decide` says, from what the catalogue says at that moment, durable.
    async fn record(
        &self,
        op: Op,
        key: &str,
        decide: impl FnOnce(&Names) -> Result<Vec<Record>> + Send + 'static,
    ) -> Result<()> {
        let catalogue = self.catalogue.clone();
        let recorded = tokio::task::spawn_blocking(move || {
            catalogue.record(|names| decide(names).map_err(NotRecorded::Store))
        });
        match recorded.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NotRecorded::Store(error))) => Err(error),
            // Whoever asked has to find out what became of what he asked for.
            Ok(Err(NotRecorded::Disk(error))) => {
                let code = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CATALOGUE_FULL,
                    _ => "Catalogue",
                };
                let message = format!("cannot be written: {error}");
                Err(op.error(ErrorKind::Unknown, key, code, &message))
            }
            Err(error) => Err(op.error(ErrorKind::Unknown, key, "Catalogue", &error.to_string())),
        }
    }

    /// Deletes the archives that have no name any more. What cannot be deleted now stays known, and is tried
    /// again behind the next change, or by the next mount if it was refused.
    async fn delete_garbage(&self) {
        let refused = || self.refused.lock().expect("no panic while held");
        let garbage: Vec<String> = {
            let (names, refused) = (self.catalogue.names(), refused());
            let wanted = names
                .garbage
                .iter()
                .filter(|archive| !refused.contains(*archive));
            wanted.cloned().collect()
        };
        for archive in garbage {
            if let Err(error) = self.delete_archive(&archive).await {
                tracing::warn!(
                    "{error}: an archive without a name is still in the vault; the next mount tries again"
                );
                // One that is not to be deleted keeps no other; what a vault does not do now it does later.
                match error.kind {
                    ErrorKind::Denied | ErrorKind::Invalid => {
                        refused().insert(archive);
                    }
                    ErrorKind::Conflict => {}
                    _ => return,
                }
            }
        }
    }

    async fn delete_archive(&self, archive: &str) -> Result<()> {
        let op = Op::DELETE_ARCHIVE;
        let request = || {
            self.client
                .delete_archive()
                .account_id("-")
                .vault_name(&self.vault)
                .archive_id(archive)
                .send()
        };
        match self
            .call(op, archive, self.line.limits.patience(0), request, |_| {
                Ok(())
            })
            .await
        {
            Err(error) if error.kind != ErrorKind::Missing => return Err(error),
            _ => {}
        }
        let archive = archive.to_string();
        let deleted = Record::Deleted {
            archive: archive.clone(),
        };
        self.record(op, &archive, |_| Ok(vec![deleted])).await
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<UploadId, Attributes>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, op: Op, key: &str) -> Result<Entry> {
        let entry = self.catalogue.names().files.get(key).cloned();
        entry.ok_or_else(|| missing(op, key))
    }
}

fn missing(op: Op, key: &str) -> Error {
    op.error(
        ErrorKind::Missing,
        key,
        "NoSuchName",
        "it is not in the catalogue",
    )
}

enum NotRecorded {
    Store(Error),
    Disk(io::Error),
}

impl From<io::Error> for NotRecorded {
    fn from(error: io::Error) -> NotRecorded {
        NotRecorded::Disk(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_row_is_of_vaults() {
        let row = of_provider(PROVIDER);
        assert_eq!((row.part_min, row.part_max), (MIB, PART_MAX));
        assert_eq!(row.parts_max, PARTS_MAX);
        assert_eq!(row.key_max, description::NAME_MAX);
        assert!(row.streamed && row.parts_equal);
    }

    #[test]
    fn parts_are_powers_of_two_mib() {
        for (wanted, size) in [
            (0, MIB),
            (MIB, MIB),
            (5 * MIB, 4 * MIB),
            (8 * MIB, 8 * MIB),
            (100 * MIB, 64 * MIB),
            (9 * GIB, 4 * GIB),
        ] {
            assert_eq!(part_size(wanted), size, "{wanted}");
        }
    }
}
