//! Replay under damage: a cut at every byte, every bit flipped, and noise. Each answer is foretold
//! exactly: the records before the damage, or a refusal when the file proves that more had been safe.

use super::super::error::Error;
use super::super::record::Record;
use super::super::replay::{Refusal, replay};
use super::{Dice, abort, begin, commit, end, file_of, open_after, opened};
use crate::upload::life::Ending::{Aborted, Committed};

const LEAST_CUTS: usize = 1_400;
const LEAST_FLIPS: usize = 11_000;
const LEAST_NOISE: usize = 40_000;

/// Three batches; the last was never followed by another, so nothing proves that it was synced.
fn batches() -> Vec<Vec<Record>> {
    vec![
        vec![begin(1, "a"), begin(2, "zwei/ü.txt"), begin(3, "c\nd\"e")],
        vec![opened(1), opened(2), commit(1, 3)],
        vec![end(1, Committed), abort(2), opened(3), end(2, Aborted)],
    ]
}

struct File {
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Where each line ends: the header's first.
    ends: Vec<usize>,
}

fn file() -> File {
    let batches = batches();
    let slices: Vec<&[Record]> = batches.iter().map(Vec::as_slice).collect();
    let bytes = file_of(&slices);
    let ends = (0..bytes.len())
        .filter(|&i| bytes[i] == b'\n')
        .map(|i| i + 1)
        .collect();
    File {
        bytes,
        records: batches.concat(),
        ends,
    }
}

/// The records proven durable by the first `n`, and with all of them.
const PROVEN: u64 = 6;

#[test]
fn a_cut_at_any_byte_leaves_the_whole_records() {
    let file = file();
    let mut tried = 0;
    for cut in 0..=file.bytes.len() {
        tried += 1;
        let found = replay(&file.bytes[..cut]);
        let whole = file.ends.iter().filter(|&&end| end <= cut).count();
        if whole == 0 {
            assert!(matches!(found, Err(Refusal::Damaged { line: 1, .. })));
            continue;
        }
        let found = found.unwrap_or_else(|e| panic!("cut at {cut}: {e:?}"));
        assert_eq!(found.open, open_after(&file.records[..whole - 1]), "{cut}");
        assert_eq!(found.length as usize, file.ends[whole - 1]);
        assert_eq!(found.torn as usize, cut - file.ends[whole - 1]);
        assert_eq!(replay(&file.bytes[..found.length as usize]), {
            let mut again = found.clone();
            again.torn = 0;
            Ok(again)
        });
    }
    println!("journal: {tried} cuts");
    assert!(tried >= LEAST_CUTS, "only {tried}");
}

#[test]
fn any_bit_flipped_is_noticed() {
    let file = file();
    let (mut tried, mut refused, mut cut) = (0, 0, 0);
    for byte in 0..file.bytes.len() {
        // The line it is in, counted from 1; record n is on line n + 1.
        let line = file.ends.iter().filter(|&&end| end <= byte).count() + 1;
        for bit in 0..8 {
            tried += 1;
            let mut bytes = file.bytes.clone();
            bytes[byte] ^= 1 << bit;
            match replay(&bytes) {
                Err(Refusal::Damaged { line: named, .. }) => {
                    assert!(
                        line as u64 <= PROVEN + 1,
                        "byte {byte} bit {bit} (line {line}) refused"
                    );
                    assert_eq!(named, line, "byte {byte} bit {bit}");
                    refused += 1;
                }
                Ok(found) => {
                    assert!(line as u64 > PROVEN + 1, "byte {byte} bit {bit} unnoticed");
                    let whole = line - 2;
                    assert_eq!(found.open, open_after(&file.records[..whole]));
                    assert_eq!(found.length as usize, file.ends[line - 2]);
                    cut += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    println!("journal: {tried} flipped bits, {refused} refused, {cut} cut off as torn");
    assert!(tried >= LEAST_FLIPS && refused > 0 && cut > 0);
}

#[test]
fn noise_gives_a_prefix_or_a_refusal() {
    let file = file();
    let prefixes: Vec<_> = (0..=file.records.len())
        .map(|n| open_after(&file.records[..n]))
        .collect();
    let mut dice = Dice(0x77);
    let (mut tried, mut refused) = (0, 0);
    while tried < LEAST_NOISE {
        tried += 1;
        let mut bytes = file.bytes.clone();
        for _ in 0..1 + dice.roll(4) {
            let len = bytes.len();
            let at = dice.roll(len);
            let until = (at + 1 + dice.roll(300)).min(len);
            match dice.roll(6) {
                0 => bytes[at..until].fill(0),
                1 => bytes[at..until]
                    .iter_mut()
                    .for_each(|b| *b = dice.roll(256) as u8),
                2 => drop(bytes.drain(at..until)),
                3 => {
                    let piece = bytes[at..until].to_vec();
                    let to = dice.roll(len);
                    bytes.splice(to..to, piece);
                }
                4 => {
                    // Whole lines repeated, swapped or left out.
                    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
                    let (i, j) = (dice.roll(lines.len()), dice.roll(lines.len()));
                    match dice.roll(3) {
                        0 => lines.swap(i, j),
                        1 => lines.insert(i, lines[j]),
                        _ => drop(lines.remove(i)),
                    }
                    bytes = lines.concat();
                }
                _ => bytes.truncate(at + 1),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        match replay(&bytes) {
            Err(_) => refused += 1,
            Ok(found) => {
                assert!(prefixes.contains(&found.open), "{found:?}");
                let n = found.last as usize;
                assert_eq!(found.open, prefixes[n]);
            }
        }
    }
    println!("journal: {tried} noisy files, {refused} refused");
    assert!(refused > 1000 && refused < tried - 1000);
}

#[test]
fn lines_of_another_journal_are_no_records() {
    let file = file();
    let mut other = super::header();
    other.instance = "ffffffffffffffff".to_string();
    let mut bytes = Vec::new();
    let salt = super::write_header(&mut bytes, &other);
    let n = file.records.len() as u64 + 1;
    let json = super::super::record::number(n, n - 1, &begin(77, "foreign").body());
    let mut foreign = Vec::new();
    super::super::record::write_line(&mut foreign, &salt, &json);
    let mut bytes = file.bytes.clone();
    bytes.extend(foreign);
    let found = replay(&bytes).expect("cut off");
    assert_eq!(found.open, open_after(&file.records));
}

#[test]
fn a_refusal_names_file_line_and_remedy_in_one_line() {
    let path = std::path::PathBuf::from("/state/00c0ffee00c0ffee/journal");
    let say = |refusal| {
        let path = path.clone();
        Error::Refused { path, refusal }.to_string()
    };
    let texts = [
        say(Refusal::Damaged {
            line: 7,
            why: "its checksum does not match".to_string(),
        }),
        say(Refusal::Future { format: 9 }),
        say(Refusal::UnknownKind {
            line: 7,
            kind: "rename".to_string(),
        }),
    ];
    for text in &texts {
        assert!(text.starts_with("/state/00c0ffee00c0ffee/journal: "));
        assert!(text.contains("wholefs recover") && !text.contains('\n'));
    }
    assert!(texts[0].contains("line 7"));
    assert!(texts[0].contains("mv /state/00c0ffee00c0ffee /state/00c0ffee00c0ffee.damaged"));
}
