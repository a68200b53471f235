//! CRC-64/NVME of bytes that are not at hand: of two bodies one behind the other, from the checksums of each.
//! (`crc_fast` has that too, in a fifth of a millisecond: a file of 1,000 parts would wait for it.) Pure.

/// The polynomial, bits reversed, as the checksum runs through bytes.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// Of a body followed by another one of `len` bytes.
pub(crate) fn concatenated(first: u64, second: u64, len: u64) -> u64 {
    // What follows moves the first one up by eight bits a byte.
    product(power_of_x(len.wrapping_mul(8)), first) ^ second
}

/// The product of two polynomials, bits reversed (x⁰ is the highest), modulo the checksum's.
fn product(a: u64, mut b: u64) -> u64 {
    let mut sum = 0;
    for bit in (0..u64::BITS).rev() {
        if a >> bit & 1 == 1 {
            sum ^= b;
        }
        // Times x.
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    sum
}

fn power_of_x(mut exponent: u64) -> u64 {
    const ONE: u64 = 1 << 63;
    let (mut power, mut result) = (ONE >> 1, ONE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(power, result);
        }
        power = product(power, power);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc_fast::{CrcAlgorithm::Crc64Nvme, checksum};

    #[test]
    fn combining_is_concatenating() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        let whole = checksum(Crc64Nvme, &bytes);
        for cut in [0, 1, 7, 8, 9, 4096, 65_537, 99_999, 100_000] {
            let (first, second) = bytes.split_at(cut);
            let of = |bytes| checksum(Crc64Nvme, bytes);
            assert_eq!(
                concatenated(of(first), of(second), second.len() as u64),
                whole,
                "{cut}"
            );
        }
    }

    #[test]
    fn lengths_that_nobody_has_in_memory_are_as_the_library_says() {
        for len in [1 << 20, 5 << 30, (50 << 40) + 12_345] {
            let theirs = crc_fast::checksum_combine(Crc64Nvme, 0x1234_5678_9abc_def0, 42, len);
            assert_eq!(concatenated(0x1234_5678_9abc_def0, 42, len), theirs);
        }
    }
}
