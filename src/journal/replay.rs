//! From a journal's bytes to the uploads it leaves open. Pure, and total: any bytes give an answer.
//!
//! What a crash may do to a journal is bounded by what was durable: the records that were written
//! since the last sync may be there, missing, or torn in any place; those before it are whole. Each
//! record carries the number `s` of the last one that was durable when it was written, so the file
//! itself says how far it must be whole: up to the largest `s` that any whole line tells (the
//! header's included). Hence the one rule of replay:
//!
//! - The records 1, 2, 3… are taken as far as they are whole and without a gap.
//! - If that is at least as far as proven, the rest is what a crash left of unsynced writes, and is
//!   cut off. None of it was ever acknowledged.
//! - Otherwise something other than a crash damaged the file, and nothing of it is believed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

use super::record::{
    self, DIGITS, FORMAT, Header, Numbers, Record, Stage, Unread, from_unix_ms, read_line,
    read_record,
};
use crate::store::{CompletedPart, Precondition, UploadId};
use crate::upload::ledger::Before;

/// An upload that was begun and, as far as the journal knows, not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The writing process's number of it; unique in one journal.
    pub id: u64,
    pub key: String,
    pub token: String,
    /// What the key held when the file was begun.
    pub before: Before,
    /// When its Begin was recorded, by that machine's clock: Create was sent after that.
    pub began: SystemTime,
    /// By the store's, if that was written down.
    pub began_there: Option<SystemTime>,
    /// `None`: Create's answer was not recorded; there may be an upload nobody knows the id of.
    pub upload_id: Option<UploadId>,
    /// Its commit was decided, and perhaps sent.
    pub commit: Option<CommitRecord>,
    /// Decided after a refused commit, or by an earlier recovery: must not be rolled forward.
    pub aborting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    pub parts: Vec<CompletedPart>,
    pub size: u64,
    pub condition: Precondition,
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub header: Header,
    /// In the order of their ids.
    pub open: Vec<OpenUpload>,
    /// Bytes that count; what lies beyond is to be cut off.
    pub length: u64,
    /// Bytes beyond that.
    pub torn: u64,
    /// The last record's number.
    pub last: u64,
    /// The header's checksum.
    pub salt: String,
    /// Every record's upload, and where its JSON is.
    pub lines: Vec<(u64, Range<usize>)>,
}

/// Why a journal is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `line` counts from 1.
    Damaged {
        line: usize,
        why: String,
    },
    Future {
        format: u64,
    },
    UnknownKind {
        line: usize,
        kind: String,
    },
}

pub fn replay(bytes: &[u8]) -> Result<Replay, Refusal> {
    let mut lines = bytes.split_inclusive(|&b| b == b'\n');
    let first = lines.next().unwrap_or_default();
    let (header, salt) = read_header(first)?;

    let mut length = first.len();
    let mut jsons: Vec<Range<usize>> = Vec::new();
    let mut proven = header.s;
    let mut broken: Option<&'static str> = None;
    for line in lines {
        let expected = jsons.len() as u64 + 1;
        let numbers = read_line(line, &salt).and_then(|(_, json)| {
            serde_json::from_str::<Numbers>(json).map_err(|_| "it has no number")
        });
        match numbers {
            Ok(numbers) => {
                proven = proven.max(numbers.s);
                if broken.is_none() && numbers.n == expected {
                    jsons.push(length + DIGITS + 1..length + line.len() - 1);
                    length += line.len();
                } else {
                    broken.get_or_insert("a record is missing before it");
                }
            }
            Err(why) => {
                broken.get_or_insert(why);
            }
        }
    }
    let last = jsons.len() as u64;
    // Line 1 is the header, so record n is on line n + 1.
    if last < proven {
        return Err(Refusal::Damaged {
            line: jsons.len() + 2,
            why: format!(
                "{}, and records up to number {proven} had been safe on the disk",
                broken.unwrap_or("it is missing")
            ),
        });
    }

    let mut uploads = Uploads::default();
    let mut owners = Vec::with_capacity(jsons.len());
    for (index, range) in jsons.into_iter().enumerate() {
        let line = index + 2;
        let json = std::str::from_utf8(&bytes[range.clone()]).expect("read_line checked it");
        let record = read_record(json).map_err(|unread| match unread {
            Unread::UnknownKind(kind) => Refusal::UnknownKind { line, kind },
            Unread::Malformed(why) => Refusal::Damaged {
                line,
                why: format!("it is whole but not understood: {why}"),
            },
        })?;
        owners.push((record.id(), range));
        uploads.take(record).map_err(|why| Refusal::Damaged {
            line,
            why: format!("it is whole but makes no sense: {why}"),
        })?;
    }
    Ok(Replay {
        header,
        open: uploads.open(),
        length: length as u64,
        torn: (bytes.len() - length) as u64,
        last,
        salt,
        lines: owners,
    })
}

fn read_header(line: &[u8]) -> Result<(Header, String), Refusal> {
    #[derive(serde::Deserialize)]
    struct Probe {
        wholefs: String,
        format: u64,
    }
    let damaged = |why: String| Refusal::Damaged { line: 1, why };
    // The header was durable before the file had its name: no crash damages it.
    let (digits, json) = read_line(line, "").map_err(|why| damaged(why.to_string()))?;
    let probe: Probe =
        serde_json::from_str(json).map_err(|e| damaged(format!("it is no header: {e}")))?;
    if probe.wholefs != "journal" {
        return Err(damaged("it is not the header of a journal".to_string()));
    }
    if probe.format != u64::from(FORMAT) {
        return Err(Refusal::Future {
            format: probe.format,
        });
    }
    let header =
        serde_json::from_str(json).map_err(|e| damaged(format!("the header is odd: {e}")))?;
    Ok((header, digits.to_string()))
}

/// The uploads a sequence of records leaves open.
#[derive(Default)]
pub struct Uploads(BTreeMap<u64, (Stage, OpenUpload)>);

impl Uploads {
    pub fn take(&mut self, record: Record) -> Result<(), &'static str> {
        let id = record.id();
        let stage = Stage::after(self.0.get(&id).map(|(stage, _)| *stage), record.kind())?;
        let Some(stage) = stage else {
            self.0.remove(&id);
            return Ok(());
        };
        if let Record::Begin {
            id,
            key,
            token,
            before,
            at,
            there,
        } = record
        {
            let upload = OpenUpload {
                id,
                key,
                token,
                before,
                began: from_unix_ms(at),
                began_there: there.map(from_unix_ms),
                upload_id: None,
                commit: None,
                aborting: false,
            };
            self.0.insert(id, (stage, upload));
            return Ok(());
        }
        let (old, upload) = self.0.get_mut(&id).expect("only Begin comes first");
        *old = stage;
        match record {
            Record::Opened { upload_id, .. } => upload.upload_id = Some(upload_id),
            Record::Commit {
                size,
                condition,
                parts,
                ..
            } => {
                upload.commit = Some(CommitRecord {
                    parts: parts.iter().map(CompletedPart::from).collect(),
                    size,
                    condition,
                });
            }
            Record::Abort { .. } => upload.aborting = true,
            Record::Begin { .. } | Record::End { .. } => unreachable!("handled above"),
        }
        Ok(())
    }

    pub fn open(self) -> Vec<OpenUpload> {
        self.0.into_values().map(|(_, upload)| upload).collect()
    }
}

/// How far one upload has come, from what replay tells of it.
pub fn stage_of(upload: &OpenUpload) -> Stage {
    let mut stage = Stage::after(None, record::Kind::Begin).expect("Begin comes first");
    for (there, kind) in [
        (upload.upload_id.is_some(), record::Kind::Opened),
        (upload.commit.is_some(), record::Kind::Commit),
        (upload.aborting, record::Kind::Abort),
    ] {
        if there {
            stage = Stage::after(stage, kind).expect("in the order they are allowed in");
        }
    }
    stage.expect("not ended")
}
