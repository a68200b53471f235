//! The journal file being written: append, sync, compact. Synchronous and single-threaded; the
//! [`super::writer`] shares one among many tasks.
//!
//! Invariants:
//! - Records are numbered in the order they are written, without a gap, and tell truthfully (`s`)
//!   up to which of them the file was durable when they were written.
//! - After a failed sync nothing is known of the file any more: the log is poisoned, and not one
//!   byte is appended. Only opening the file again, and replaying it, tells what is there.
//! - A full disk does not poison. What was half appended is cut off again, durably, and each
//!   record of the batch is refused. An End that was refused is owed: it goes with the next batch
//!   that fits, so that a full disk leaves no ended upload behind as open.
//! - The file under its final name always begins with a whole header, and compaction replaces it
//!   by one that says the same: rename, then sync of the directory, before anything is appended.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::disk::{Disk, DiskFile};
use super::error::Error;
use super::record::{self, DIGITS, Header, Kind, Record, Stage};
use super::replay::{OpenUpload, Refusal, replay, stage_of};

pub(super) const JOURNAL: &str = "journal";
pub(super) const JOURNAL_NEW: &str = "journal.new";

/// A smaller file is not worth compacting.
pub(super) const COMPACT_ABOVE: u64 = 1 << 20;

/// A record on its way to the file.
pub(super) struct Pending {
    pub id: u64,
    pub kind: Kind,
    pub body: String,
}

impl From<&Record> for Pending {
    fn from(record: &Record) -> Pending {
        Pending {
            id: record.id(),
            kind: record.kind(),
            body: record.body(),
        }
    }
}

/// Why a record was not written. Many waiters get the same one.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    /// No room (the errno): later there may be.
    Full(i32),
    Poisoned(Arc<str>),
    /// The caller's mistake.
    Senseless(&'static str),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        match refused {
            // As it is, so that it becomes the writer's errno; file and remedy are in the log.
            Refused::Full(errno) => io::Error::from_raw_os_error(errno),
            Refused::Poisoned(why) => io::Error::other(why.to_string()),
            Refused::Senseless(why) => {
                io::Error::new(io::ErrorKind::InvalidInput, format!("not recorded: {why}"))
            }
        }
    }
}

struct Upload {
    stage: Stage,
    /// What its records take in the file.
    bytes: u64,
}

pub(super) struct Log {
    disk: Box<dyn Disk>,
    /// For messages.
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: Header,
    salt: String,
    length: u64,
    /// The last record's number.
    last: u64,
    /// The last one known to be durable.
    durable: u64,
    open: HashMap<u64, Upload>,
    open_bytes: u64,
    /// Ends that found no room.
    owed: Vec<Pending>,
    full: bool,
    poison: Option<Arc<str>>,
    compact_above: u64,
    /// After a compaction that failed: not again before the file is this long.
    compact_next: u64,
    pub records: u64,
    pub syncs: u64,
    pub compactions: u64,
}

impl Log {
    /// A new file, durable under its name.
    pub fn create(disk: Box<dyn Disk>, directory: &Path, header: Header) -> Result<Log, Error> {
        let path = directory.join(JOURNAL);
        let fail = |what| Error::io(&path, what);
        let mut text = Vec::new();
        let salt = record::write_header(&mut text, &header);
        let file = publish(&*disk, &text).map_err(|failed| fail(failed.what)(failed.source))?;
        Ok(Log {
            disk,
            path,
            file,
            header,
            salt,
            length: text.len() as u64,
            last: 0,
            durable: 0,
            open: HashMap::new(),
            open_bytes: 0,
            owed: Vec::new(),
            full: false,
            poison: None,
            compact_above: COMPACT_ABOVE,
            compact_next: 0,
            records: 0,
            syncs: 0,
            compactions: 0,
        })
    }

    /// A file that a process left behind: what was torn is cut off, and all that is left is made durable.
    pub fn open(
        disk: Box<dyn Disk>,
        directory: &Path,
    ) -> Result<(Log, Header, Vec<OpenUpload>), Error> {
        let path = directory.join(JOURNAL);
        let fail = |what| Error::io(&path, what);
        let bytes = disk.read(JOURNAL).map_err(fail("cannot read it"))?;
        let found = replay(&bytes).map_err(|refusal| Error::Refused {
            path: path.clone(),
            refusal,
        })?;
        let mut file = disk.open(JOURNAL).map_err(fail("cannot open it"))?;
        if found.torn > 0 {
            file.cut(found.length)
                .map_err(fail("cannot cut off its torn end"))?;
        } else {
            // Its writer may have died between write and sync, with the machine still running.
            file.sync().map_err(fail("cannot sync it"))?;
        }
        // Or between a compaction's rename and the sync of that.
        disk.sync_names()
            .map_err(fail("cannot sync its directory"))?;
        let mut open: HashMap<u64, Upload> = found
            .open
            .iter()
            .map(|upload| {
                let stage = stage_of(upload);
                (upload.id, Upload { stage, bytes: 0 })
            })
            .collect();
        let mut open_bytes = 0;
        for (id, json) in &found.lines {
            if let Some(upload) = open.get_mut(id) {
                let bytes = line_bytes(json.len());
                upload.bytes += bytes;
                open_bytes += bytes;
            }
        }
        let log = Log {
            disk,
            path,
            file,
            header: found.header.clone(),
            salt: found.salt,
            length: found.length,
            last: found.last,
            durable: found.last,
            open,
            open_bytes,
            owed: Vec::new(),
            full: false,
            poison: None,
            // A dead instance is only ended, and keeps every word of what may be a newer release's.
            compact_above: u64::MAX,
            compact_next: 0,
            records: 0,
            syncs: 0,
            compactions: 0,
        };
        Ok((log, found.header, found.open))
    }

    /// Writes records, all or none. They are durable after the next [`Log::sync`].
    pub fn append(&mut self, batch: Vec<Pending>) -> Vec<Result<(), Refused>> {
        if let Some(why) = &self.poison {
            return vec![Err(Refused::Poisoned(why.clone())); batch.len()];
        }
        let mut owed = std::mem::take(&mut self.owed);
        // Said again by whoever was refused.
        owed.retain(|o| !batch.iter().any(|p| p.id == o.id && p.kind == Kind::End));

        let mut text = Vec::new();
        let mut undo: Vec<(u64, Option<Upload>)> = Vec::new();
        let mut n = self.last;
        let mut answers = Vec::with_capacity(owed.len() + batch.len());
        for pending in owed.iter().chain(&batch) {
            let stage = self.open.get(&pending.id).map(|upload| upload.stage);
            match Stage::after(stage, pending.kind) {
                Err(why) => answers.push(Err(Refused::Senseless(why))),
                Ok(stage) => {
                    n += 1;
                    let start = text.len();
                    let json = record::number(n, self.durable, &pending.body);
                    record::write_line(&mut text, &self.salt, &json);
                    let bytes = (text.len() - start) as u64;
                    undo.push((pending.id, self.advance(pending.id, stage, bytes)));
                    answers.push(Ok(()));
                }
            }
        }
        if text.is_empty() {
            return answers.split_off(owed.len());
        }
        let Err(error) = self.file.append(&text) else {
            self.records += n - self.last;
            self.last = n;
            self.length += text.len() as u64;
            self.full = false;
            return answers.split_off(owed.len());
        };

        for (id, before) in undo.into_iter().rev() {
            self.restore(id, before);
        }
        let refused = match error.raw_os_error() {
            Some(errno) if errno == libc::ENOSPC || errno == libc::EDQUOT => {
                match self.file.cut(self.length) {
                    Ok(()) => {
                        self.durable = self.last;
                        if !self.full {
                            self.full = true;
                            warn!(
                                "{}: {error}: files of more than one part cannot be written until there is room (or use another --state-dir)",
                                self.path.display()
                            );
                        }
                        Refused::Full(errno)
                    }
                    Err(error) => self.poison("cannot be cut back on a full disk", &error),
                }
            }
            _ => self.poison("cannot be written", &error),
        };
        if matches!(refused, Refused::Full(_)) {
            let (kept, batch_answers) = (owed.len(), answers.split_off(owed.len()));
            assert!(kept == answers.len(), "one answer a record");
            let ends = batch
                .into_iter()
                .zip(&batch_answers)
                .filter(|(pending, answer)| pending.kind == Kind::End && answer.is_ok())
                .map(|(pending, _)| pending);
            self.owed = owed.into_iter().chain(ends).collect();
            answers = batch_answers;
        } else {
            answers.drain(..owed.len());
        }
        for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
            *answer = Err(refused.clone());
        }
        answers
    }

    /// Makes all that was written durable.
    pub fn sync(&mut self) -> Result<(), Refused> {
        if let Some(why) = &self.poison {
            return Err(Refused::Poisoned(why.clone()));
        }
        if self.durable == self.last {
            return Ok(());
        }
        self.syncs += 1;
        match self.file.sync() {
            Ok(()) => {
                self.durable = self.last;
                Ok(())
            }
            Err(error) => Err(self.poison("cannot be synced", &error)),
        }
    }

    /// Writes what is owed and syncs.
    pub fn flush(&mut self) -> Result<(), Refused> {
        self.append(Vec::new());
        self.sync()
    }

    /// Something was written (or is owed) that is not durable yet.
    pub fn is_behind(&self) -> bool {
        self.poison.is_none() && (self.durable < self.last || !self.owed.is_empty())
    }

    pub fn open_uploads(&self) -> usize {
        self.open.len()
    }

    pub fn bytes(&self) -> u64 {
        self.length
    }

    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    #[cfg(test)]
    pub fn compact_above(mut self, bytes: u64) -> Log {
        self.compact_above = bytes;
        self
    }

    /// Replaces the file by one that holds the open uploads' records only, when more than half of
    /// it is of no use any more. What fails before the rename costs nothing but the try.
    pub fn compact_if_due(&mut self) {
        let due = self.length > self.compact_above.max(self.compact_next)
            && self.length / 2 > self.open_bytes
            && self.poison.is_none();
        if !due {
            return;
        }
        match self.compact() {
            Ok(()) => self.compact_next = 0,
            Err(why) => {
                self.compact_next = self.length.saturating_add(self.compact_above);
                if self.poison.is_none() {
                    let _ = self.disk.remove(JOURNAL_NEW);
                    warn!(
                        "{}: cannot be compacted: {why}; it grows until that works",
                        self.path.display()
                    );
                }
            }
        }
    }

    fn compact(&mut self) -> Result<(), String> {
        let bytes = self.disk.read(JOURNAL).map_err(|e| e.to_string())?;
        let found = replay(&bytes).map_err(|refusal| match refusal {
            Refusal::Damaged { line, why } => format!("line {line} is damaged ({why})"),
            other => format!("{other:?}"),
        })?;
        if found.length != self.length || found.last != self.last {
            return Err("it holds something other than was written".to_string());
        }
        let mut bodies = Vec::new();
        for (id, json) in &found.lines {
            if self.open.contains_key(id) {
                let json = std::str::from_utf8(&bytes[json.clone()]).expect("replay read it");
                bodies.push((
                    *id,
                    record::body_of(json).expect("a record begins with n and s"),
                ));
            }
        }
        let kept = bodies.len() as u64;
        let header = Header {
            s: kept,
            generation: self.header.generation + 1,
            ..self.header.clone()
        };
        let mut text = Vec::new();
        let salt = record::write_header(&mut text, &header);
        let mut sizes: HashMap<u64, u64> = HashMap::new();
        for (index, (id, body)) in bodies.into_iter().enumerate() {
            let start = text.len();
            // `s` is the header's: all of this is durable before the file has its name.
            record::write_line(&mut text, &salt, &record::number(index as u64 + 1, 0, body));
            *sizes.entry(id).or_default() += (text.len() - start) as u64;
        }
        let file = publish(&*self.disk, &text).map_err(|failed| {
            if failed.replaced {
                // Which of the two files a crash would leave is not known.
                self.poison("cannot be replaced", &failed.source);
            }
            format!("{}: {}", failed.what, failed.source)
        })?;
        self.file = file;
        self.header = header;
        self.salt = salt;
        self.length = text.len() as u64;
        self.last = kept;
        self.durable = kept;
        self.open_bytes = 0;
        for (id, upload) in &mut self.open {
            upload.bytes = sizes.get(id).copied().unwrap_or_default();
            self.open_bytes += upload.bytes;
        }
        self.compactions += 1;
        Ok(())
    }

    /// Answers what was there before, for [`Log::restore`].
    fn advance(&mut self, id: u64, stage: Option<Stage>, bytes: u64) -> Option<Upload> {
        let before = self.open.remove(&id);
        let had = before.as_ref().map_or(0, |upload| upload.bytes);
        self.open_bytes -= had;
        if let Some(stage) = stage {
            let bytes = had + bytes;
            self.open_bytes += bytes;
            self.open.insert(id, Upload { stage, bytes });
        }
        before
    }

    fn restore(&mut self, id: u64, before: Option<Upload>) {
        if let Some(upload) = self.open.remove(&id) {
            self.open_bytes -= upload.bytes;
        }
        if let Some(upload) = before {
            self.open_bytes += upload.bytes;
            self.open.insert(id, upload);
        }
    }

    fn poison(&mut self, what: &str, error: &io::Error) -> Refused {
        let why: Arc<str> = format!(
            "{}: {what}: {error}; files of more than one part cannot be written until the bucket is mounted again (check that disk, or use another --state-dir)",
            self.path.display()
        )
        .into();
        warn!("{why}");
        self.poison = Some(why.clone());
        Refused::Poisoned(why)
    }
}

fn line_bytes(json: usize) -> u64 {
    (DIGITS + 1 + json + 1) as u64
}

struct Unpublished {
    what: &'static str,
    source: io::Error,
    /// The name may stand for either file now.
    replaced: bool,
}

/// Puts a whole file in the journal's place: it is there with all of its text, or not at all.
fn publish(disk: &dyn Disk, text: &[u8]) -> Result<Box<dyn DiskFile>, Unpublished> {
    let fail = |what, replaced| {
        move |source: io::Error| Unpublished {
            what,
            source,
            replaced,
        }
    };
    let mut file = disk
        .create(JOURNAL_NEW)
        .map_err(fail("cannot create it", false))?;
    file.append(text).map_err(fail("cannot write it", false))?;
    file.sync().map_err(fail("cannot sync it", false))?;
    disk.rename(JOURNAL_NEW, JOURNAL)
        .map_err(|source| Unpublished {
            what: "cannot rename it",
            replaced: !matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
            source,
        })?;
    disk.sync_names()
        .map_err(fail("cannot sync its directory", true))?;
    Ok(file)
}
