//! The format itself: every file ever written in format 1 replays for ever, and what is written
//! today is, byte for byte, what was written then. The fixtures are never generated anew: when one
//! of these tests fails, the code is wrong, or it is time for format 2.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::record::{FORMAT, Identity, Record, checksum, write_line};
use super::super::replay::{OpenUpload, Refusal, Replay, replay};
use super::{abort, begin, commit, end, file_of, header, open_after, opened};
use crate::upload::life::Ending::{Aborted, Committed, Lost};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/journal")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn whole(name: &str) -> Replay {
    replay(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

fn ids(open: &[OpenUpload]) -> Vec<u64> {
    open.iter().map(|upload| upload.id).collect()
}

fn every_kind() -> Vec<u8> {
    file_of(&[
        &[
            begin(1, "plain.txt"),
            begin(2, "ä/ö \"ü\"\n.txt"),
            begin(3, ""),
        ],
        &[opened(1), opened(2), opened(3)],
        &[commit(1, 3), commit(2, 1), abort(3)],
        &[end(1, Committed), begin(4, "only/begun"), begin(5, "x")],
        &[opened(5), end(5, Lost), begin(6, "y"), end(6, Aborted)],
    ])
}

#[test]
fn a_begin_may_say_what_time_it_was_at_the_store() {
    let line = r#"{"kind":"begin","id":1,"key":"k","token":"t","before":"nothing","at":1790000000001,"there":1790000600001}"#;
    let said: Record = serde_json::from_str(line).expect("a record");
    assert_eq!(serde_json::to_string(&said).expect("JSON"), line);
    let began = open_after(&[said])[0].began_there.expect("said");
    let since = began
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    assert_eq!(since.as_millis(), 1_790_000_600_001);
    assert_eq!(open_after(&[begin(1, "k")])[0].began_there, None);
}

#[test]
fn every_kind_of_record_of_format_1_replays_and_is_written_the_same() {
    let bytes = fixture("format-1-every-kind.journal");
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(&every_kind())
    );
    let found = replay(&bytes).expect("whole");
    assert_eq!(found.header, header());
    assert_eq!(found.torn, 0);
    assert_eq!(
        found.open,
        open_after(&[
            begin(2, "ä/ö \"ü\"\n.txt"),
            opened(2),
            commit(2, 1),
            begin(3, ""),
            opened(3),
            abort(3),
            begin(4, "only/begun"),
        ])
    );
}

#[test]
fn an_empty_journal_of_format_1_replays() {
    let found = whole("format-1-empty.journal");
    assert_eq!((found.open, found.last), (Vec::new(), 0));
}

#[test]
fn a_torn_journal_of_format_1_is_cut() {
    let found = whole("format-1-torn.journal");
    assert_eq!(ids(&found.open), [2, 3]);
    assert!(found.torn > 0);
    assert!(found.open.iter().all(|upload| upload.upload_id.is_some()));
}

#[test]
fn a_compacted_journal_of_format_1_replays() {
    let found = whole("format-1-compacted.journal");
    assert_eq!((found.header.s, found.header.generation), (3, 1));
    assert_eq!(ids(&found.open), [2, 3]);
}

#[test]
fn what_a_newer_release_adds_to_known_records_is_passed_over() {
    let found = whole("format-1-newer-fields.journal");
    assert_eq!(ids(&found.open), [1]);
    assert_eq!(found.header.store.endpoint, None);
    assert_eq!(found.open[0].key, "with/more");
}

#[test]
fn damage_before_what_was_safe_refuses() {
    assert!(matches!(
        replay(&fixture("format-1-damaged.journal")),
        Err(Refusal::Damaged { line: 3, .. })
    ));
}

#[test]
fn unsafe_records_after_a_gap_are_cut_with_it() {
    let found = whole("format-1-lost-sector.journal");
    assert_eq!(ids(&found.open), [1]);
    assert!(found.torn > 0);
}

#[test]
fn an_unknown_kind_refuses() {
    assert_eq!(
        replay(&fixture("format-1-unknown-kind.journal")),
        Err(Refusal::UnknownKind {
            line: 3,
            kind: "moved".to_string()
        })
    );
}

#[test]
fn a_later_format_refuses_whatever_else_it_says() {
    let mut bytes = Vec::new();
    write_line(
        &mut bytes,
        "",
        "{\"wholefs\":\"journal\",\"format\":2,\"new\":[1]}",
    );
    bytes.extend(b"anything at all");
    assert_eq!(replay(&bytes), Err(Refusal::Future { format: 2 }));
    assert_eq!(FORMAT, 1);
}

#[test]
fn what_is_no_journal_is_refused() {
    for text in [
        "",
        "\n",
        "hello\n",
        "0000000000000000 {}\n",
        &"\0".repeat(5000),
    ] {
        assert!(
            matches!(
                replay(text.as_bytes()),
                Err(Refusal::Damaged { line: 1, .. })
            ),
            "{text:?}"
        );
    }
    let mut other = Vec::new();
    write_line(&mut other, "", "{\"wholefs\":\"something\",\"format\":1}");
    assert!(matches!(
        replay(&other),
        Err(Refusal::Damaged { line: 1, .. })
    ));
}

/// The catalogue's check value, so that anybody can tell which CRC this is.
#[test]
fn the_checksum_is_crc_64_nvme() {
    assert_eq!(checksum("", b"123456789"), "ae8b14860a799888");
    assert_eq!(checksum("1234", b"56789"), "ae8b14860a799888");
}

#[test]
fn identities_compare_by_all_they_say() {
    let ours = super::identity();
    let other = Identity {
        endpoint: None,
        ..ours.clone()
    };
    assert_ne!(ours, other);
    let text = serde_json::to_string(&ours).expect("plain data");
    assert_eq!(
        serde_json::from_str::<Identity>(&text).expect("the same"),
        ours
    );
}

/// The wall around the pure parts.
#[test]
fn the_pure_parts_know_no_machine() {
    for (name, source) in [
        ("record.rs", include_str!("../record.rs")),
        ("replay.rs", include_str!("../replay.rs")),
    ] {
        for line in source.lines().filter(|l| l.starts_with("use ")) {
            let allowed = [
                "use std::time::",
                "use std::collections::",
                "use std::ops::",
                "use serde::",
                "use crc_fast::",
                "use super::record::",
                "use crate::store::{",
                "use crate::upload::ledger::Before;",
                "use crate::upload::life::Ending;",
            ];
            assert!(
                allowed.iter().any(|a| line.starts_with(a)),
                "{name} may not say: {line}"
            );
        }
        for word in ["::now()", "std::fs", "std::io", "std::thread", "tokio"] {
            assert!(!source.contains(word), "{name} may not say {word}");
        }
    }
}
