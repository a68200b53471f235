//! The bytes of a request: a list of shared buffers and their checksum, cheap to clone, so that an
//! attempt can be repeated without a copy.

use std::sync::Arc;

use bytes::Bytes;

#[derive(Clone, Debug, Default)]
pub struct Body {
    chunks: Arc<[Bytes]>,
    len: u64,
    crc64: u64,
}

impl Body {
    /// `crc64` is the CRC-64/NVME of the concatenation, computed when the bytes arrived from the
    /// writer, so that whatever happens to them later in memory is found out by the store.
    pub fn new(chunks: Vec<Bytes>, crc64: u64) -> Body {
        let len = chunks.iter().map(|c| c.len() as u64).sum();
        Body {
            chunks: chunks.into(),
            len,
            crc64,
        }
    }

    pub fn from_bytes(bytes: Bytes) -> Body {
        let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        Body::new(vec![bytes], crc64)
    }

    /// Nothing but zeros, in no more memory than a list of the same buffer takes.
    pub fn zeros(len: u64) -> Body {
        static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
        let mut chunks = Vec::new();
        let mut left = len;
        while left > 0 {
            let chunk = &ZEROS[..left.min(ZEROS.len() as u64) as usize];
            chunks.push(Bytes::from_static(chunk));
            left -= chunk.len() as u64;
        }
        Body::new(chunks, crc_of_zeros(len))
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn crc64(&self) -> u64 {
        self.crc64
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

/// Worked out by doubling, without going through them.
fn crc_of_zeros(len: u64) -> u64 {
    use crate::crc64::concatenated;
    use crc_fast::{CrcAlgorithm::Crc64Nvme, checksum};
    let one = checksum(Crc64Nvme, &[0]);
    let (mut crc, mut so_far) = (checksum(Crc64Nvme, &[]), 0);
    for bit in (0..u64::BITS - len.leading_zeros()).rev() {
        crc = concatenated(crc, crc, so_far);
        so_far *= 2;
        if len >> bit & 1 == 1 {
            crc = concatenated(crc, one, 1);
            so_far += 1;
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_the_checksum_of_as_many_zeros() {
        for len in [
            0,
            1,
            2,
            3,
            255,
            4096,
            65_537,
            (1 << 20) - 1,
            3 << 20,
            5_242_881,
        ] {
            let zeros = Body::zeros(len as u64);
            let direct = Body::from_bytes(vec![0; len].into());
            assert_eq!(zeros.crc64(), direct.crc64(), "{len}");
            let sent: usize = zeros.chunks().iter().map(|chunk| chunk.len()).sum();
            assert_eq!(sent, len);
        }
    }
}
