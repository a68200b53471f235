//! Glacier's tree hash. Pure. Of each MiB the SHA-256 is a leaf; neighbours are hashed together, level by
//! level, and one without a neighbour goes up as it is.
//!
//! Parts are a power of two MiB, and all but the last as large. So a part's tree hash is a node of the
//! archive's tree, and the archive's follows from its parts'.

use ring::digest::{Context, SHA256};

pub(super) type Hash = [u8; 32];

fn sha256(pieces: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The root above these nodes of one level; of nothing, the hash of nothing.
pub(super) fn root(mut level: Vec<Hash>) -> Hash {
    while level.len() > 1 {
        let pairs = level.chunks(2).map(|pair| match pair {
            [left, right] => sha256(&[left, right]),
            [alone] => *alone,
            _ => unreachable!("chunks of two"),
        });
        level = pairs.collect();
    }
    level.pop().unwrap_or_else(|| sha256(&[]))
}

pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Option<Hash> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = digit(index * 2)?;
    }
    (text.len() == 64).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: usize = 1 << 20;

    fn of(bytes: &[u8]) -> Hash {
        root(bytes.chunks(LEAF).map(|leaf| sha256(&[leaf])).collect())
    }

    #[test]
    fn the_hash_of_an_archive_follows_from_its_parts() {
        let bytes: Vec<u8> = (0..(7 * LEAF + 12_345) as u32)
            .map(|i| ((i * 31) >> 7) as u8)
            .collect();
        for length in [
            0,
            1,
            LEAF - 1,
            LEAF,
            LEAF + 1,
            3 * LEAF,
            5 * LEAF + 9,
            bytes.len(),
        ] {
            let whole = of(&bytes[..length]);
            for part in [1, 2, 4, 8] {
                let parts = bytes[..length].chunks(part * LEAF).map(of).collect();
                assert_eq!(root(parts), whole, "{length} bytes in parts of {part} MiB");
            }
        }
    }

    #[test]
    fn known_hashes() {
        // Of nothing, and of "abc": up to one MiB it is plain SHA-256.
        assert_eq!(
            hex(&of(b"")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&of(b"abc")), abc);
        assert_eq!(from_hex(abc), Some(of(b"abc")));
        for bad in ["", "ab", "zz", &abc[1..], &format!("{abc}00")] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
