//! Which file is which archive: a vault knows archives by ids alone, so the names are kept here.
//!
//! [`Names`] is what is known; a log of [`Record`]s makes it durable, in the form of [`crate::lines`], below
//! the state directory: `vaults/<digits>/{catalogue,lock}`, one an endpoint, region, account and vault.
//!
//! Invariants:
//! - One process at a time writes a catalogue; who only looks needs no lock.
//! - What [`Catalogue::record`] has answered is there after any crash. Each record is synced before the
//!   next is written, so that a crash tears the last line at most; any other bad line is damage, and
//!   nothing of a damaged catalogue is believed.
//! - An archive without a name is garbage, and stays known as such until the vault has deleted it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::lines::{checksum, read_line, write_line};
use crate::ours::assert_ours;

use super::names::{Names, Record, VaultName};

const FORMAT: u32 = 1;
const CATALOGUE: &str = "catalogue";
/// Below this a log is not worth compacting.
const COMPACT_ABOVE: u64 = 64 << 10;
/// A dead mount's guardian holds the lock while it ends what was left open.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Header {
    /// Always `"catalogue"`.
    wholefs: String,
    format: u32,
    /// Counts compactions, so that no two files have the same salt.
    generation: u64,
    #[serde(flatten)]
    of: VaultName,
}

/// What a file of the log says.
struct Replayed {
    header: Header,
    salt: String,
    names: Names,
    /// Up to here it is whole.
    length: u64,
    records: usize,
}

/// `Err`: what is wrong, and with which line.
fn replay(bytes: &[u8]) -> Result<Replayed, String> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (digits, json) = read_line(first, "").map_err(|why| format!("line 1: {why}"))?;
    let header: Header = serde_json::from_str(json).map_err(|e| format!("line 1: {e}"))?;
    if header.wholefs != CATALOGUE || header.format != FORMAT {
        return Err(format!(
            "line 1: it is a {} of format {}, and this program reads a {CATALOGUE} of format {FORMAT}",
            header.wholefs, header.format
        ));
    }
    let mut found = Replayed {
        header,
        salt: digits.to_string(),
        names: Names::default(),
        length: first.len() as u64,
        records: 0,
    };
    let lines: Vec<&[u8]> = lines.collect();
    for (index, line) in lines.iter().enumerate() {
        let record = read_line(line, &found.salt)
            .map_err(str::to_string)
            .and_then(|(_, json)| serde_json::from_str(json).map_err(|e| e.to_string()));
        match record {
            Ok(record) => found.names.apply(record),
            // What a crash left of the last one, which was never answered.
            Err(_) if index + 1 == lines.len() && !line.ends_with(b"\n") => break,
            Err(why) => return Err(format!("line {}: {why}", index + 2)),
        }
        found.length += line.len() as u64;
        found.records += 1;
    }
    Ok(found)
}

/// Why a catalogue cannot be used: one line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the catalogue {path}: {what}")]
pub struct CatalogueError {
    pub path: String,
    pub what: String,
}

fn failed(path: &Path, what: impl std::fmt::Display) -> CatalogueError {
    CatalogueError {
        path: path.display().to_string(),
        what: what.to_string(),
    }
}

/// A vault's catalogue, being written, or only looked at.
pub struct Catalogue {
    names: RwLock<Names>,
    /// `None`: not to be written.
    log: Option<Mutex<Log>>,
}

struct Log {
    path: PathBuf,
    file: File,
    salt: String,
    length: u64,
    /// What is on the disk is not known any more.
    broken: Option<String>,
    /// The kernel lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Catalogue {
    /// Where the catalogue of a vault is.
    pub fn directory(state: &Path, of: &VaultName) -> PathBuf {
        let json = serde_json::to_string(of).expect("a name is plain data");
        state.join("vaults").join(checksum("", json.as_bytes()))
    }

    /// All catalogues below a state directory.
    pub fn all(state: &Path) -> Vec<(VaultName, PathBuf)> {
        let entries = fs::read_dir(state.join("vaults")).into_iter().flatten();
        let named = entries.flatten().filter_map(|entry| {
            let bytes = fs::read(entry.path().join(CATALOGUE)).ok()?;
            let first = bytes.split_inclusive(|byte| *byte == b'\n').next()?;
            let (_, json) = read_line(first, "").ok()?;
            let header: Header = serde_json::from_str(json).ok()?;
            Some((header.of, entry.path()))
        });
        named.collect()
    }

    /// What it says now. One that was never written says nothing.
    pub fn look(state: &Path, of: &VaultName) -> Result<Catalogue, CatalogueError> {
        let path = Catalogue::directory(state, of).join(CATALOGUE);
        let names = match fs::read(&path) {
            Ok(bytes) => replay(&bytes).map_err(|why| damaged(&path, &why))?.names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Names::default(),
            Err(error) => return Err(failed(&path, error)),
        };
        Ok(Catalogue {
            names: RwLock::new(names),
            log: None,
        })
    }

    /// Takes the catalogue to write it; waits for whoever has it, for a bounded time. Blocks.
    pub fn open(state: &Path, of: &VaultName) -> Result<Catalogue, CatalogueError> {
        let directory = Catalogue::directory(state, of);
        let path = directory.join(CATALOGUE);
        let fail = |error: io::Error| failed(&path, error);
        durable::make_directory(&directory).map_err(fail)?;
        // Before anything of it is believed: what it calls garbage is deleted from the vault.
        assert_ours(state).map_err(|why| {
            let state = state.display();
            failed(
                &path,
                format!("what lies in {state} cannot be believed: {why}"),
            )
        })?;
        let lock = locked(&directory.join("lock")).map_err(|what| failed(&path, what))?;
        let found = match fs::read(&path) {
            Ok(bytes) => replay(&bytes).map_err(|why| damaged(&path, &why))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                publish(&directory, of, 0, &Names::default()).map_err(fail)?;
                replay(&fs::read(&path).map_err(fail)?).map_err(|why| damaged(&path, &why))?
            }
            Err(error) => return Err(fail(error)),
        };
        if found.header.of != *of {
            return Err(failed(&path, "it is another vault's"));
        }
        let needed = found.names.records().len();
        let found = match found.length > COMPACT_ABOVE && found.records / 2 > needed {
            true => {
                let generation = found.header.generation + 1;
                publish(&directory, of, generation, &found.names).map_err(fail)?;
                replay(&fs::read(&path).map_err(fail)?).map_err(|why| damaged(&path, &why))?
            }
            false => found,
        };
        let file = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(fail)?;
        // What is torn goes; and its writer may have died between write and sync.
        file.set_len(found.length).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        Ok(Catalogue {
            names: RwLock::new(found.names),
            log: Some(Mutex::new(Log {
                path,
                file,
                salt: found.salt,
                length: found.length,
                broken: None,
                _lock: lock,
            })),
        })
    }

    pub fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what `decide` says, from what is there at that moment, durable, and then so. Blocks for as long
    /// as the disk takes.
    pub fn record<E: From<io::Error>>(
        &self,
        decide: impl FnOnce(&Names) -> Result<Vec<Record>, E>,
    ) -> Result<(), E> {
        let Some(log) = &self.log else {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into());
        };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let records = decide(&self.names())?;
        for record in records {
            log.append(&record)?;
            let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
            names.apply(record);
        }
        Ok(())
    }
}

impl Log {
    fn append(&mut self, record: &Record) -> io::Result<()> {
        if let Some(why) = &self.broken {
            return Err(io::Error::other(why.clone()));
        }
        let json = serde_json::to_string(record).expect("a record is plain data");
        let mut line = Vec::new();
        write_line(&mut line, &self.salt, &json);
        if let Err(error) = self.file.write_all(&line) {
            // No room, mostly: what was half written is cut off, and later there may be some.
            let cut = self.file.set_len(self.length);
            if cut.and_then(|()| self.file.sync_all()).is_err() {
                self.give_up("cannot be written", &error);
            }
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.give_up("cannot be synced", &error);
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn give_up(&mut self, what: &str, error: &io::Error) {
        let path = self.path.display();
        let why =
            format!("{path}: {what}: {error}; nothing is written until the vault is mounted again");
        tracing::warn!("{why}");
        self.broken = Some(why);
    }
}

fn damaged(path: &Path, why: &str) -> CatalogueError {
    failed(
        path,
        format!(
            "it is damaged ({why}), and nothing of it is believed: put a good copy in its place, or move it aside and make it anew by `wholefs vault import` or `wholefs vault inventory`"
        ),
    )
}

fn locked(path: &Path) -> Result<File, String> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| e.to_string())?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(
                    "another process has it (a mount of this vault?): only one may at a time"
                        .to_string(),
                );
            }
            Err(TryLockError::Error(error)) => return Err(error.to_string()),
        }
    }
}

/// Puts a whole file in the catalogue's place: it is there with all of its lines, or not at all.
fn publish(directory: &Path, of: &VaultName, generation: u64, names: &Names) -> io::Result<()> {
    let header = Header {
        wholefs: CATALOGUE.to_string(),
        format: FORMAT,
        generation,
        of: of.clone(),
    };
    let json = serde_json::to_string(&header).expect("a header is plain data");
    let mut text = Vec::new();
    write_line(&mut text, "", &json);
    let salt = checksum("", json.as_bytes());
    for record in names.records() {
        let json = serde_json::to_string(&record).expect("a record is plain data");
        write_line(&mut text, &salt, &json);
    }
    durable::put(directory, CATALOGUE, &text)
}

#[cfg(test)]
mod tests {
    use super::super::names::{Content, Entry};
    use super::*;
    use crate::store::Attributes;

    fn vault() -> VaultName {
        VaultName {
            endpoint: None,
            region: "eu-west-1".to_string(),
            account: "012345678901".to_string(),
            vault: "v".to_string(),
        }
    }

    fn archive(id: &str) -> Entry {
        Entry {
            content: Content::Archive {
                id: id.to_string(),
                tree_hash: String::new(),
            },
            size: 1,
            stored: 1,
            said: Attributes::default(),
        }
    }

    fn put(name: &str, id: &str) -> Record {
        Record::Put {
            name: name.to_string(),
            entry: archive(id),
            upload: None,
        }
    }

    fn record(catalogue: &Catalogue, record: Record) {
        let done: io::Result<()> = catalogue.record(|_| Ok(vec![record]));
        done.expect("recorded");
    }

    fn garbage(catalogue: &Catalogue) -> Vec<String> {
        catalogue.names().garbage.iter().cloned().collect()
    }

    #[test]
    fn an_archive_without_a_name_is_garbage_and_one_with_two_is_not() {
        let state = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(state.path(), &vault()).unwrap();
        record(&catalogue, put("a", "1"));
        record(&catalogue, put("b", "1"));
        record(&catalogue, put("a", "2"));
        assert!(garbage(&catalogue).is_empty());
        let (from, to) = ("a".to_string(), "b".to_string());
        record(&catalogue, Record::Rename { from, to });
        assert_eq!(garbage(&catalogue), ["1"]);
        // Something else is said of the same archive.
        record(&catalogue, put("b", "2"));
        record(&catalogue, Record::Remove { name: "b".into() });
        record(
            &catalogue,
            Record::Deleted {
                archive: "1".into(),
            },
        );
        assert_eq!(garbage(&catalogue), ["2"]);
        assert!(catalogue.names().files.is_empty());
    }

    #[test]
    fn what_was_recorded_is_there_again_wherever_a_crash_tore_the_last_line() {
        let state = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(state.path(), &vault()).unwrap();
        record(&catalogue, put("a", "1"));
        let before = catalogue.names().clone();
        record(&catalogue, put("b", "2"));
        let after = catalogue.names().clone();
        drop(catalogue);
        let path = Catalogue::directory(state.path(), &vault()).join(CATALOGUE);
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .unwrap()
            + 1;
        for length in last..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let catalogue = Catalogue::open(state.path(), &vault()).unwrap();
            let expected = if length == whole.len() {
                &after
            } else {
                &before
            };
            assert_eq!(&*catalogue.names(), expected, "{length} of {}", whole.len());
            record(&catalogue, put("c", "3"));
            drop(catalogue);
            let looked = Catalogue::look(state.path(), &vault()).unwrap();
            assert!(looked.names().files.contains_key("c"), "{length}");
        }
    }

    #[test]
    fn damage_is_told_and_believed_nowhere() {
        let state = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(state.path(), &vault()).unwrap();
        record(&catalogue, put("a", "1"));
        record(&catalogue, put("b", "2"));
        drop(catalogue);
        let path = Catalogue::directory(state.path(), &vault()).join(CATALOGUE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&path, &broken).unwrap();
            match Catalogue::look(state.path(), &vault()) {
                Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
                // The very last line feed: as if it had been torn off.
                Ok(_) => assert_eq!(at, whole.len() - 1),
            }
        }
    }

    #[test]
    fn a_log_that_says_little_in_many_lines_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(state.path(), &vault()).unwrap();
        for number in 0..400 {
            record(&catalogue, put("a", &number.to_string()));
            let archive = (number - 1).to_string();
            record(&catalogue, Record::Deleted { archive });
        }
        let names = catalogue.names().clone();
        drop(catalogue);
        let path = Catalogue::directory(state.path(), &vault()).join(CATALOGUE);
        let before = fs::metadata(&path).unwrap().len();
        let again = Catalogue::open(state.path(), &vault()).unwrap();
        assert_eq!(*again.names(), names);
        assert!(fs::metadata(&path).unwrap().len() < before / 10);
        assert_eq!(Catalogue::all(state.path()).len(), 1);
    }
}
