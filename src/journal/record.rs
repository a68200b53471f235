//! The journal's words: what a line says, and how it is written and read. Pure: text in, values out.
//!
//! Its lines are those of [`crate::lines`], and the first is the header: what an old block of the disk
//! still holds of another journal, or of this one before it was compacted, never passes for a record.
//!
//! Invariants:
//! - A record's JSON begins with `n`, its number (1, 2, 3… without a gap), and `s`, the number of
//!   the last record that was known to be durable when this one was written. See [`super::replay`].
//! - What a newer release adds to a known record is ignored; a kind that is not known is not guessed at.
//! - An upload's records come in one order only ([`Stage::after`]), checked on writing and on reading.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use crate::lines::{DIGITS, checksum, read_line, write_line};
use crate::store::{CompletedPart, ETag, Precondition, UploadId, VAULT_PROVIDER};
use crate::upload::ledger::Before;
use crate::upload::life::Ending;

/// The version this release writes. The first line's form is the same in every version.
pub const FORMAT: u32 = 1;

/// Which bucket a mount is of: what must be the same for its uploads to be ended by another mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `None`: AWS's own.
    pub endpoint: Option<String>,
    pub region: String,
    pub provider: String,
    pub bucket: String,
    pub prefix: String,
}

impl Identity {
    /// A vault, and no bucket.
    pub fn is_vault(&self) -> bool {
        self.provider == VAULT_PROVIDER
    }

    /// One name for an object, whatever prefix it is reached through.
    pub fn path_of(&self, key: &str) -> String {
        let endpoint = self.endpoint.as_deref().unwrap_or("aws");
        let slash = match self.prefix.is_empty() || self.prefix.ends_with('/') {
            true => "",
            false => "/",
        };
        format!("{endpoint} {}/{}{slash}{key}", self.bucket, self.prefix)
    }
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `"journal"`: tells a person, and `file(1)`, what this is.
    pub wholefs: String,
    pub format: u32,
    /// Records that were there when the file was born: none, or what compaction carried over.
    pub s: u64,
    /// Counts compactions, so that no two files of an instance have the same salt.
    pub generation: u64,
    /// Sixteen random hex digits, the directory's name.
    pub instance: String,
    /// Milliseconds since 1970.
    pub created: u64,
    pub pid: u32,
    pub mount_point: String,
    pub store: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Begin,
    Opened,
    Commit,
    Abort,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    Begin {
        id: u64,
        key: String,
        token: String,
        #[serde(with = "BeforeForm")]
        before: Before,
        /// Milliseconds since 1970, by this machine's clock.
        at: u64,
        /// The same moment by the store's, which listings go by. (Older releases did not say.)
        #[serde(default, skip_serializing_if = "Option::is_none")]
        there: Option<u64>,
    },
    Opened {
        id: u64,
        #[serde(with = "UploadIdForm")]
        upload_id: UploadId,
    },
    Commit {
        id: u64,
        size: u64,
        #[serde(with = "ConditionForm")]
        condition: Precondition,
        parts: Vec<Part>,
    },
    Abort {
        id: u64,
    },
    End {
        id: u64,
        #[serde(with = "EndingForm")]
        outcome: Ending,
    },
}

impl Record {
    pub fn id(&self) -> u64 {
        match self {
            Record::Begin { id, .. }
            | Record::Opened { id, .. }
            | Record::Commit { id, .. }
            | Record::Abort { id }
            | Record::End { id, .. } => *id,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Record::Begin { .. } => Kind::Begin,
            Record::Opened { .. } => Kind::Opened,
            Record::Commit { .. } => Kind::Commit,
            Record::Abort { .. } => Kind::Abort,
            Record::End { .. } => Kind::End,
        }
    }

    /// The record as JSON without its opening brace: [`number`] puts `n` and `s` before it.
    pub fn body(&self) -> String {
        let mut json = serde_json::to_string(self).expect("a record is plain data");
        assert!(
            json.starts_with("{\"kind\":"),
            "a record is an object that begins with its kind"
        );
        json.remove(0);
        json
    }
}

/// `[number, etag, crc64 in hex or null]`: short, as there may be ten thousand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part(u32, #[serde(with = "ETagForm")] ETag, Option<Hex>);

impl From<&CompletedPart> for Part {
    fn from(part: &CompletedPart) -> Part {
        Part(part.number, part.etag.clone(), part.crc64.map(Hex))
    }
}

impl From<&Part> for CompletedPart {
    fn from(part: &Part) -> CompletedPart {
        CompletedPart {
            number: part.0,
            etag: part.1.clone(),
            crc64: part.2.map(|h| h.0),
        }
    }
}

/// 64 bits in hex: as a number most readers of JSON would round it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Hex(u64);

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        format!("{:016x}", hex.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Hex, Self::Error> {
        u64::from_str_radix(&text, 16).map(Hex)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ETag")]
struct ETagForm(#[serde(getter = "ETag::to_string")] String);

impl From<ETagForm> for ETag {
    fn from(form: ETagForm) -> ETag {
        ETag::new(form.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "UploadId")]
struct UploadIdForm(String);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Before", rename_all = "lowercase")]
enum BeforeForm {
    Unknown,
    Nothing,
    Version(#[serde(with = "ETagForm")] ETag),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Precondition", rename_all = "lowercase")]
enum ConditionForm {
    None,
    Absent,
    Matches(#[serde(with = "ETagForm")] ETag),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ending", rename_all = "lowercase")]
enum EndingForm {
    Committed,
    Aborted,
    Lost,
}

/// How far an upload has come, as far as the journal has to know to tell sense from nonsense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    opened: bool,
    committing: bool,
    aborting: bool,
}

impl Stage {
    /// `None` before Begin and after End. `Err` says what is wrong with this record here.
    pub fn after(stage: Option<Stage>, kind: Kind) -> Result<Option<Stage>, &'static str> {
        let Some(stage) = stage else {
            return match kind {
                Kind::Begin => Ok(Some(Stage::default())),
                _ => Err("it is of an upload that is not open"),
            };
        };
        match kind {
            Kind::Begin => Err("it begins an upload that is open already"),
            Kind::Opened if stage.opened => Err("it opens an upload that is open already"),
            Kind::Opened => Ok(Some(Stage {
                opened: true,
                ..stage
            })),
            Kind::Commit if !stage.opened => Err("it commits an upload without an id"),
            Kind::Commit if stage.committing => Err("it commits a second time"),
            Kind::Commit if stage.aborting => Err("it commits what is being aborted"),
            Kind::Commit => Ok(Some(Stage {
                committing: true,
                ..stage
            })),
            // Said again by a recovery that was interrupted.
            Kind::Abort => Ok(Some(Stage {
                aborting: true,
                ..stage
            })),
            Kind::End => Ok(None),
        }
    }
}

/// Numbers a record's body: the JSON of a whole line.
pub fn number(n: u64, s: u64, body: &str) -> String {
    format!("{{\"n\":{n},\"s\":{s},{body}")
}

/// What [`number`] was given, word for word: compaction keeps even what this release does not know.
pub fn body_of(json: &str) -> Option<&str> {
    json.match_indices(',')
        .nth(1)
        .map(|(at, _)| &json[at + 1..])
}

/// The header's line, and the salt of all that follow it.
pub fn write_header(out: &mut Vec<u8>, header: &Header) -> String {
    let json = serde_json::to_string(header).expect("a header is plain data");
    write_line(out, "", &json);
    checksum("", json.as_bytes())
}

/// The two numbers every record begins with.
#[derive(Deserialize)]
pub struct Numbers {
    pub n: u64,
    pub s: u64,
}

pub enum Unread {
    /// A newer release's.
    UnknownKind(String),
    Malformed(String),
}

pub fn read_record(json: &str) -> Result<Record, Unread> {
    #[derive(Deserialize)]
    struct Probe {
        kind: String,
    }
    let malformed = |e: serde_json::Error| Unread::Malformed(e.to_string());
    let Probe { kind } = serde_json::from_str(json).map_err(malformed)?;
    match kind.as_str() {
        "begin" | "opened" | "commit" | "abort" | "end" => {
            serde_json::from_str(json).map_err(malformed)
        }
        _ => Err(Unread::UnknownKind(kind)),
    }
}

pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

pub fn from_unix_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
