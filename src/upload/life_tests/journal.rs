//! The journal and its disk: records get there in order, some time after they are written, and are
//! acknowledged some time after that. After one that failed, none gets there until a new mount.

use super::super::life::Record;
use super::super::recovery::Journal;
use super::bucket::{Parts, UploadNo};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    record: Record,
    upload: Option<UploadNo>,
    parts: Parts,
    durable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    /// What a mount would find: the last record, and what records said on the way.
    last: Option<Record>,
    upload: Option<UploadNo>,
    parts: Parts,
    /// Written and not acknowledged, oldest first; the durable ones come first.
    pending: Vec<Line>,
    poisoned: bool,
}

impl Disk {
    pub fn append(&mut self, record: Record, upload: Option<UploadNo>, parts: Parts) {
        self.pending.push(Line {
            record,
            upload,
            parts,
            durable: false,
        });
    }

    fn next_to_flush(&self) -> Option<usize> {
        self.pending.iter().position(|line| !line.durable)
    }

    pub fn can_flush(&self) -> bool {
        !self.poisoned && self.next_to_flush().is_some()
    }

    pub fn flush(&mut self) {
        let next = self.next_to_flush().expect("a record to flush");
        self.pending[next].durable = true;
        let line = self.pending[next];
        self.keep(line);
    }

    fn keep(&mut self, line: Line) {
        // After End, whatever an overtaken step still writes is about nothing.
        if matches!(self.last, Some(Record::End(_))) {
            return;
        }
        self.last = Some(line.record);
        self.upload = line.upload.or(self.upload);
        if line.record == Record::Commit {
            self.parts = line.parts;
        }
    }

    pub fn can_acknowledge(&self) -> bool {
        self.pending.first().is_some_and(|line| line.durable)
    }

    pub fn acknowledge(&mut self) -> Record {
        self.pending.remove(0).record
    }

    /// Nothing gets to the disk any more, and it says so.
    pub fn must_fail(&self) -> bool {
        self.poisoned && self.pending.first().is_some_and(|line| !line.durable)
    }

    /// The oldest record that is not durable fails, though it may be on the disk (`durable`).
    pub fn fail(&mut self, durable: bool) -> Record {
        let next = self.next_to_flush().expect("a record to fail");
        let line = self.pending.remove(next);
        if durable {
            self.keep(line);
        }
        self.poisoned = true;
        line.record
    }

    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    pub fn lose_power(&mut self) {
        self.pending.clear();
    }

    pub fn reopen(&mut self) {
        self.poisoned = false;
    }

    pub fn says(&self, record: Record) -> bool {
        self.last == Some(record)
    }

    pub fn has_opened(&self) -> bool {
        self.upload.is_some()
    }

    /// What a mount would find open.
    pub fn found(&self) -> Option<(Journal, Option<UploadNo>, Parts)> {
        let journal = match self.last? {
            Record::Begin => Journal::Begun,
            Record::Opened => Journal::Opened,
            Record::Commit => Journal::Committing,
            Record::Abort => Journal::Aborting,
            Record::End(_) => return None,
        };
        Some((journal, self.upload, self.parts))
    }

    pub fn is_open(&self) -> bool {
        self.found().is_some()
    }
}
