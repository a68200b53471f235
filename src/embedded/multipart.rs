//! The rules of multipart uploads, pure: what CompleteMultipartUpload accepts and what it makes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::blob::Blob;
use super::dialect::Dialect;
use super::digest::multipart_etag;
use super::error::{Error, Result};
use crate::crc64;

pub(super) const LAST_PART_NUMBER: u32 = 10_000;
/// The largest part, and the largest object of one PutObject.
pub(super) const LARGEST_PART: u64 = 5 << 30;

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub blob: Blob,
    pub etag: String,
    pub crc64: Option<u64>,
    pub modified: SystemTime,
}

/// One line of the list a Complete carries.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    pub number: i64,
    pub etag: Option<String>,
    pub crc64: Option<u64>,
}

/// What a Complete asks for, conditions on the object apart.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub parts: Vec<Listed>,
    pub size: Option<i64>,
    /// Of the whole object.
    pub crc64: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Assembled {
    pub blob: Blob,
    pub etag: String,
    /// Known when it is known of every part.
    pub crc64: Option<u64>,
}

pub(super) fn check_part_number(number: i64) -> Result<u32> {
    match u32::try_from(number) {
        Ok(number @ 1..=LAST_PART_NUMBER) => Ok(number),
        _ => Err(Error::invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
        )),
    }
}

/// Checks the list against the parts that are there and joins them.
pub(super) fn assemble(
    parts: &BTreeMap<u32, Part>,
    request: &Request,
    dialect: &Dialect,
) -> Result<Assembled> {
    if request.parts.is_empty() {
        return Err(Error::new(
            "MalformedXML",
            "You must specify at least one part",
        ));
    }
    let mut chosen: Vec<&Part> = Vec::with_capacity(request.parts.len());
    let mut last_number = 0;
    for listed in &request.parts {
        let number = check_part_number(listed.number)?;
        if number <= last_number {
            return Err(Error::new(
                "InvalidPartOrder",
                "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
            ));
        }
        if dialect.consecutive_parts && number != last_number + 1 {
            return Err(Error::new(
                "InvalidPart",
                "One or more of the specified parts could not be found: their numbers are not continuous.",
            ));
        }
        last_number = number;
        let invalid = || {
            Error::new(
                "InvalidPart",
                format!(
                    "Part {number} could not be found: it was not uploaded, or its entity tag or checksum is another."
                ),
            )
        };
        let part = parts.get(&number).ok_or_else(invalid)?;
        let tag_differs = listed.etag.as_ref().is_some_and(|etag| *etag != part.etag);
        let sums = listed.crc64.zip(part.crc64);
        if tag_differs || sums.is_some_and(|(listed, held)| listed != held) {
            return Err(invalid());
        }
        chosen.push(part);
    }

    let (last, others) = chosen.split_last().expect("the list is not empty");
    for part in others {
        if part.blob.len() < dialect.part_min {
            return Err(Error::new(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
            ));
        }
    }
    if dialect.equal_parts
        && let Some(first) = others.first()
    {
        let size = first.blob.len();
        if others.iter().any(|part| part.blob.len() != size) || last.blob.len() > size {
            return Err(Error::new(
                "InvalidPart",
                "All parts but the last must have the same length.",
            ));
        }
    }

    let mut blob = Blob::default();
    let mut crc64 = Some(0);
    for part in &chosen {
        crc64 = crc64
            .zip(part.crc64)
            .map(|(all, crc)| crc64::concatenated(all, crc, part.blob.len()));
        blob.append(&part.blob);
    }
    if request.size.is_some_and(|size| size != blob.len() as i64) {
        return Err(Error::new(
            "InvalidRequest",
            "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
        ));
    }
    if request
        .crc64
        .zip(crc64)
        .is_some_and(|(asked, computed)| asked != computed)
    {
        return Err(Error::bad_digest("CRC64NVME"));
    }
    let etag = multipart_etag(chosen.iter().map(|part| part.etag.as_str()));
    Ok(Assembled { blob, etag, crc64 })
}

#[cfg(test)]
mod tests {
    use super::super::blob::Piece;
    use super::super::digest::md5_hex;
    use super::*;
    use bytes::Bytes;

    fn part(bytes: &'static [u8]) -> Part {
        let mut blob = Blob::default();
        blob.push(Piece::Bytes(Bytes::from_static(bytes)));
        let mut digests = super::super::digest::Digests::new();
        digests.update(bytes);
        let (_, crc) = digests.finish();
        Part {
            blob,
            etag: md5_hex(bytes),
            crc64: Some(crc),
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    fn uploaded() -> BTreeMap<u32, Part> {
        BTreeMap::from([(1, part(b"aaaa")), (3, part(b"bbbb")), (9, part(b"cc"))])
    }

    fn asking(numbers: &[i64]) -> Request {
        let parts = uploaded();
        let listed = numbers.iter().map(|&number| Listed {
            number,
            etag: u32::try_from(number)
                .ok()
                .and_then(|n| parts.get(&n))
                .map(|p| p.etag.clone()),
            crc64: None,
        });
        Request {
            parts: listed.collect(),
            size: None,
            crc64: None,
        }
    }

    fn small() -> Dialect {
        Dialect {
            part_min: 4,
            ..Dialect::default()
        }
    }

    fn code(request: &Request, dialect: &Dialect) -> &'static str {
        assemble(&uploaded(), request, dialect).unwrap_err().code
    }

    #[test]
    fn the_listed_parts_are_joined_and_no_others() {
        let whole = assemble(&uploaded(), &asking(&[1, 3, 9]), &small()).unwrap();
        assert_eq!(whole.blob.to_vec().unwrap(), b"aaaabbbbcc");
        assert_eq!(whole.crc64, part(b"aaaabbbbcc").crc64);
        assert!(whole.etag.ends_with("-3"));
        let two = assemble(&uploaded(), &asking(&[1, 9]), &small()).unwrap();
        assert_eq!(two.blob.to_vec().unwrap(), b"aaaacc");
    }

    #[test]
    fn bad_lists_are_refused() {
        let dialect = small();
        assert_eq!(code(&asking(&[]), &dialect), "MalformedXML");
        assert_eq!(code(&asking(&[3, 1]), &dialect), "InvalidPartOrder");
        assert_eq!(code(&asking(&[1, 1]), &dialect), "InvalidPartOrder");
        assert_eq!(code(&asking(&[1, 2]), &dialect), "InvalidPart");
        assert_eq!(code(&asking(&[0, 1]), &dialect), "InvalidArgument");
        assert_eq!(code(&asking(&[1, 10_001]), &dialect), "InvalidArgument");
        assert_eq!(code(&asking(&[-1]), &dialect), "InvalidArgument");
        let mut other_tag = asking(&[1]);
        other_tag.parts[0].etag = Some("0".repeat(32));
        assert_eq!(code(&other_tag, &dialect), "InvalidPart");
        let mut other_sum = asking(&[1]);
        other_sum.parts[0].crc64 = Some(1);
        assert_eq!(code(&other_sum, &dialect), "InvalidPart");
    }

    #[test]
    fn only_the_last_part_may_be_small() {
        assert_eq!(
            code(&asking(&[1, 3, 9]), &Dialect::default()),
            "EntityTooSmall"
        );
        assert!(assemble(&uploaded(), &asking(&[9]), &Dialect::default()).is_ok());
        let mut parts = uploaded();
        parts.insert(2, part(b"x"));
        let mut request = asking(&[1, 3]);
        request.parts.insert(
            1,
            Listed {
                number: 2,
                etag: None,
                crc64: None,
            },
        );
        assert_eq!(
            assemble(&parts, &request, &small()).unwrap_err().code,
            "EntityTooSmall"
        );
    }

    #[test]
    fn equal_parts_means_all_but_the_last() {
        let dialect = Dialect {
            equal_parts: true,
            part_min: 0,
            ..Dialect::default()
        };
        assert!(assemble(&uploaded(), &asking(&[1, 3, 9]), &dialect).is_ok());
        let mut parts = uploaded();
        parts.insert(10, part(b"d"));
        let mut request = asking(&[1, 3, 9]);
        request.parts.push(Listed {
            number: 10,
            etag: None,
            crc64: None,
        });
        assert_eq!(
            assemble(&parts, &request, &dialect).unwrap_err().code,
            "InvalidPart"
        );
    }

    #[test]
    fn size_and_checksum_of_the_whole_are_checked() {
        let whole = part(b"aaaacc").crc64;
        let good = Request {
            size: Some(6),
            crc64: whole,
            ..asking(&[1, 9])
        };
        assert!(assemble(&uploaded(), &good, &small()).is_ok());
        let size = Request {
            size: Some(7),
            ..asking(&[1, 9])
        };
        assert_eq!(code(&size, &small()), "InvalidRequest");
        let sum = Request {
            crc64: Some(7),
            ..asking(&[1, 9])
        };
        assert_eq!(code(&sum, &small()), "BadDigest");
    }
}
