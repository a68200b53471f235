//! File contents that are a function of a seed: nothing to keep, and a misplaced byte shows.

use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

/// `size` bytes determined by `seed`. No two 8-byte words of any contents are likely to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub seed: u64,
    pub size: u64,
}

fn word(seed: u64, index: u64) -> [u8; 8] {
    // SplitMix64
    let mut z = seed
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// The bytes of contents with this seed from `offset` on.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(seed, at / 8);
        let skip = (at % 8) as usize;
        let n = (8 - skip).min(rest.len());
        rest[..n].copy_from_slice(&word[skip..skip + n]);
        rest = &mut rest[n..];
        at += n as u64;
    }
}

impl Content {
    pub fn new(seed: u64, size: u64) -> Content {
        Content { seed, size }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.range(0..self.size)
    }

    pub fn range(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        fill(self.seed, range.start, &mut bytes);
        bytes
    }

    /// Writes it to a file of the local disk.
    pub fn save(&self, path: &Path) {
        let mut file = std::fs::File::create(path).expect("a file of the test's own");
        let mut at = 0;
        while at < self.size {
            let end = self.size.min(at + (1 << 20));
            file.write_all(&self.range(at..end))
                .expect("room on the disk");
            at = end;
        }
    }

    /// Where `found`, beginning at `offset`, first differs.
    pub fn difference(&self, offset: u64, found: &[u8]) -> Option<u64> {
        let end = (offset + found.len() as u64).min(self.size);
        let expected = self.range(offset.min(end)..end);
        let differs = expected.iter().zip(found).position(|(a, b)| a != b);
        let differs = differs.or((expected.len() < found.len()).then_some(expected.len()));
        differs.map(|at| offset + at as u64)
    }

    /// Compares with everything a reader gives.
    pub fn compare(&self, mut reader: impl Read) -> Result<(), String> {
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) if at == self.size => return Ok(()),
                Ok(0) => return Err(format!("ends at {at} of {}", self.size)),
                Ok(n) => {
                    if let Some(at) = self.difference(at, &buffer[..n]) {
                        return Err(format!("differs at byte {at} of {}", self.size));
                    }
                    at += n as u64;
                }
                Err(error) => return Err(format!("at {at} of {}: {error}", self.size)),
            }
        }
    }

    #[track_caller]
    pub fn assert_file(&self, path: &Path) {
        let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if let Err(error) = self.compare(file) {
            panic!("{}: {error}", path.display());
        }
    }
}

#[test]
fn contents_are_the_same_from_wherever_they_are_read() {
    let content = Content::new(7, 1000);
    let whole = content.bytes();
    for from in [0u64, 1, 7, 8, 13, 999] {
        assert_eq!(
            content.range(from..1000),
            whole[from as usize..],
            "from {from}"
        );
    }
    assert_eq!(content.compare(&whole[..]), Ok(()));
    assert!(content.compare(&whole[..999]).is_err());
    assert!(content.compare(&[&whole[..], b"x"].concat()[..]).is_err());
    assert!(Content::new(8, 1000).compare(&whole[..]).is_err());
}
