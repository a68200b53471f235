//! Proofs about the journal. Each counts what it tried, prints that, and fails when it tried less
//! than it used to.

mod crashes;
mod damage;
mod formats;
mod lying_disk;
mod on_disk;
mod queue;

use super::record::{Header, Identity, Part, Record, write_header};
use super::replay::{OpenUpload, Uploads};
use crate::store::{CompletedPart, ETag, Precondition, UploadId};
use crate::upload::ledger::Before;
use crate::upload::life::Ending;

fn identity() -> Identity {
    Identity {
        endpoint: Some("http://127.0.0.1:9000".to_string()),
        region: "us-east-1".to_string(),
        provider: "minio".to_string(),
        bucket: "photos".to_string(),
        prefix: "2026/".to_string(),
    }
}

fn header() -> Header {
    Header {
        wholefs: "journal".to_string(),
        format: 1,
        s: 0,
        generation: 0,
        instance: "00c0ffee00c0ffee".to_string(),
        created: 1_790_000_000_123,
        pid: 4711,
        mount_point: "/mnt/photos".to_string(),
        store: identity(),
    }
}

fn begin(id: u64, key: &str) -> Record {
    let before = match id % 3 {
        0 => Before::Unknown,
        1 => Before::Nothing,
        _ => Before::Version(ETag::new(format!("etag-before-{id}"))),
    };
    Record::Begin {
        id,
        key: key.to_string(),
        token: format!("{id:032x}"),
        before,
        at: 1_790_000_000_000 + id,
        there: None,
    }
}

fn opened(id: u64) -> Record {
    Record::Opened {
        id,
        upload_id: UploadId(format!("upload-{id}-{}", "x".repeat(id as usize % 40))),
    }
}

fn commit(id: u64, parts: u32) -> Record {
    let part = |number| CompletedPart {
        number,
        etag: ETag::new(format!("{:032x}", u64::from(number) * id)),
        crc64: (number % 2 == 1).then_some(u64::MAX - u64::from(number)),
    };
    Record::Commit {
        id,
        size: u64::from(parts) << 23,
        condition: match id % 3 {
            0 => Precondition::None,
            1 => Precondition::Absent,
            _ => Precondition::Matches(ETag::new(format!("etag-before-{id}"))),
        },
        parts: (1..=parts).map(|n| Part::from(&part(n))).collect(),
    }
}

fn abort(id: u64) -> Record {
    Record::Abort { id }
}

fn end(id: u64, outcome: Ending) -> Record {
    Record::End { id, outcome }
}

/// What these records leave open: the model every replay is held against.
fn open_after(records: &[Record]) -> Vec<OpenUpload> {
    let mut uploads = Uploads::default();
    for record in records {
        uploads.take(record.clone()).expect("a sensible sequence");
    }
    uploads.open()
}

/// A whole file: `batches` of records, each batch synced before the next was written.
fn file_of(batches: &[&[Record]]) -> Vec<u8> {
    let mut out = Vec::new();
    let salt = write_header(&mut out, &header());
    let (mut n, mut s) = (0, 0);
    for batch in batches {
        for record in *batch {
            n += 1;
            let json = super::record::number(n, s, &record.body());
            super::record::write_line(&mut out, &salt, &json);
        }
        s = n;
    }
    out
}

/// Small and repeatable: the tests' own dice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}
