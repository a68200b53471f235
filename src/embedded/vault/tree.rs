//! The tree hash, of the simulator's own: what it checks was computed by another program.

use bytes::Bytes;
use ring::digest::{SHA256, digest};

const LEAF: usize = 1 << 20;

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of each MiB.
pub(super) fn leaves(bytes: &Bytes) -> Vec<Vec<u8>> {
    bytes.chunks(LEAF).map(sha256).collect()
}

pub(super) fn root(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => sha256(b""),
        [one] => one.clone(),
        many => {
            // The left tree is the largest power of two of leaves that leaves some for the right.
            let left = (many.len().next_power_of_two() / 2).max(1);
            let (left, right) = many.split_at(left);
            sha256(&[root(left), root(right)].concat())
        }
    }
}
