//! Checksums of bodies: MD5 (ETags are made of it) and CRC-64/NVME, computed as bytes pass.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use super::error::{Error, Result};

/// Both checksums of a stream of bytes.
pub(super) struct Digests {
    md5: Md5,
    crc: crc_fast::Digest,
}

impl Digests {
    pub fn new() -> Digests {
        Digests {
            md5: Md5::new(),
            crc: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc.update(bytes);
    }

    pub fn finish(self) -> ([u8; 16], u64) {
        (self.md5.finalize().into(), self.crc.finalize())
    }
}

pub(super) fn crc_to_header(crc: u64) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

pub(super) fn crc_from_header(text: &str) -> Result<u64> {
    let bytes = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| {
        Error::new(
            "InvalidRequest",
            "Value for x-amz-checksum-crc64nvme header is invalid.",
        )
    })?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) fn md5_from_header(text: &str) -> Result<[u8; 16]> {
    let bytes = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        Error::new(
            "InvalidDigest",
            "The Content-MD5 you specified is not valid.",
        )
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `md5(md5 ‖ md5 ‖ …)-N` of part ETags.
pub(super) fn multipart_etag<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut md5 = Md5::new();
    let mut count = 0;
    for etag in parts {
        // Part ETags are made by this server: 32 hexadecimal digits, but for null mode.
        match u128::from_str_radix(etag, 16) {
            Ok(value) => md5.update(value.to_be_bytes()),
            Err(_) => md5.update(etag.as_bytes()),
        }
        count += 1;
    }
    format!("{}-{count}", hex(&md5.finalize()))
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut digests = Digests::new();
        digests.update(b"1234");
        digests.update(b"56789");
        let (md5, crc) = digests.finish();
        assert_eq!(hex(&md5), "25f9e794323b453885f5181f1b624d0b");
        // The check value of CRC-64/NVME.
        assert_eq!(crc, 0xae8b_1486_0a79_9888);
        assert_eq!(crc_from_header(&crc_to_header(crc)), Ok(crc));
    }

    #[test]
    fn a_multipart_etag_hashes_the_parts_digests() {
        // Computed with md5sum over the two binary digests of "a" and "b".
        let parts = [md5_hex(b"a"), md5_hex(b"b")];
        let mut joined = Vec::new();
        for part in &parts {
            joined.extend_from_slice(&u128::from_str_radix(part, 16).unwrap().to_be_bytes());
        }
        let expected = format!("{}-2", md5_hex(&joined));
        assert_eq!(multipart_etag(parts.iter().map(String::as_str)), expected);
    }

    #[test]
    fn malformed_headers_are_refused() {
        assert_eq!(crc_from_header("AAAA").unwrap_err().code, "InvalidRequest");
        assert_eq!(
            md5_from_header("no base64!").unwrap_err().code,
            "InvalidDigest"
        );
    }
}
