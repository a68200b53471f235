//! Lines that prove themselves: the form of every log this program keeps on disk. Pure.
//!
//! A line is `<16 hex digits> <JSON>\n`. The digits are the CRC-64/NVME of a salt and the JSON. The first
//! line's salt is empty; every other line's is the first one's digits, so that a line proves to which file
//! it belongs.

use crc_fast::{CrcAlgorithm, Digest};

/// Digits of a checksum.
pub const DIGITS: usize = 16;

pub fn checksum(salt: &str, json: &[u8]) -> String {
    let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
    crc.update(salt.as_bytes());
    crc.update(json);
    format!("{:016x}", crc.finalize())
}

/// Appends a whole line.
pub fn write_line(out: &mut Vec<u8>, salt: &str, json: &str) {
    out.extend_from_slice(checksum(salt, json.as_bytes()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(json.as_bytes());
    out.push(b'\n');
}

/// The checksum's digits and the JSON of a line (with its newline), if the one is of the other.
pub fn read_line<'a>(line: &'a [u8], salt: &str) -> Result<(&'a str, &'a str), &'static str> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err("it is cut short");
    };
    if line.len() <= DIGITS || line[DIGITS] != b' ' {
        return Err("it is not a record");
    }
    let (digits, json) = (&line[..DIGITS], &line[DIGITS + 1..]);
    if checksum(salt, json).as_bytes() != digits {
        return Err("its checksum does not match");
    }
    match (std::str::from_utf8(digits), std::str::from_utf8(json)) {
        (Ok(digits), Ok(json)) => Ok((digits, json)),
        _ => Err("it is not text"),
    }
}
