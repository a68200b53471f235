//! What POSIX says of a file, in an object's metadata: `mode`, `uid`, `gid`, `mtime` and `atime`, as s3fs writes
//! them; the forms of others are read as well. Pure.
//!
//! Invariants:
//! - What cannot be understood is as if it was not there.
//! - Metadata of others stays as it is.

use std::time::{Duration, SystemTime};

use super::node::Kind;
use super::xattr;
use crate::store::{Attributes, Metadata};

/// What is said of a file; `None`: nothing, so the mount's own rules hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posix {
    /// With the kind of file, as in stat(2).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<SystemTime>,
    pub atime: Option<SystemTime>,
}

impl Posix {
    pub fn of(metadata: &Metadata) -> Posix {
        let number = |name: &str| metadata.get(name).and_then(|text| text.trim().parse().ok());
        // The largest is nobody's: what belongs to it the kernel does not let anybody change.
        let owner = |name: &str| number(name).filter(|owner| *owner != u32::MAX);
        Posix {
            mode: number("mode"),
            uid: owner("uid"),
            gid: owner("gid"),
            mtime: metadata.get("mtime").and_then(|text| time(text.trim())),
            atime: metadata.get("atime").and_then(|text| time(text.trim())),
        }
    }

    /// Says it in an object's metadata; what is `None` is left as it is.
    pub fn say_in(&self, metadata: &mut Metadata) {
        let numbers = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        for (name, number) in numbers {
            if let Some(number) = number {
                metadata.insert(name.to_string(), number.to_string());
            }
        }
        for (name, time) in [("mtime", self.mtime), ("atime", self.atime)] {
            if let Some(time) = time {
                metadata.insert(name.to_string(), spelled(time));
            }
        }
    }

    fn is_symlink(&self) -> bool {
        self.mode
            .is_some_and(|mode| mode & libc::S_IFMT == libc::S_IFLNK)
    }
}

/// What stat(2)'s mode says of the kind.
pub fn kind_bits(kind: Kind) -> u32 {
    match kind {
        Kind::File => libc::S_IFREG,
        Kind::Directory => libc::S_IFDIR,
        Kind::Symlink => libc::S_IFLNK,
    }
}

/// Is it a symbolic link, by s3fs's form (a mode, and the target as its bytes) or geesefs's?
pub fn is_symlink(metadata: &Metadata) -> bool {
    metadata.contains_key(GEESEFS_TARGET) || Posix::of(metadata).is_symlink()
}

/// Is anything said of it that a listing does not tell?
pub fn is_anything_said(metadata: &Metadata) -> bool {
    Posix::of(metadata) != Posix::default()
        || is_symlink(metadata)
        || metadata.contains_key(xattr::ENTRY)
}

/// Where geesefs keeps a symbolic link's target; the object itself is empty.
const GEESEFS_TARGET: &str = "--symlink-target";

/// The target of a symbolic link of geesefs's.
pub fn geesefs_target(metadata: &Metadata) -> Option<Vec<u8>> {
    let text = metadata.get(GEESEFS_TARGET)?;
    Some(percent_encoding::percent_decode_str(text).collect())
}

/// The type of content that a name's extension means.
pub fn content_type(name: &str) -> Option<String> {
    let guess = mime_guess::from_path(name).first_raw();
    guess.map(str::to_string)
}

/// A file gets another name: is its type of content another one too? Not if somebody chose it.
pub fn content_type_renamed(said: &Attributes, old: &str, new: &str) -> Option<String> {
    const UNKNOWN: [&str; 2] = ["binary/octet-stream", "application/octet-stream"];
    let guessed = match said.content_type.as_deref() {
        None => true,
        Some(now) => UNKNOWN.contains(&now) || content_type(old).as_deref() == Some(now),
    };
    content_type(new).filter(|new| guessed && said.content_type.as_ref() != Some(new))
}

/// What is said of a file whose bytes change: all that was said, but for its times.
pub fn rewritten(said: &Attributes) -> Attributes {
    let mut said = said.clone();
    said.metadata.remove("mtime");
    said.metadata.remove("atime");
    said
}

/// Seconds since 1970 with a fraction of up to nine digits, or none: s3fs's form and rclone's.
fn time(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: u64 = whole.trim_start_matches('-').parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{fraction:0<9}");
    let nanoseconds: u32 = digits[..9].parse().ok()?;
    let since = Duration::new(seconds, nanoseconds);
    match negative {
        false => SystemTime::UNIX_EPOCH.checked_add(since),
        true => SystemTime::UNIX_EPOCH.checked_sub(since),
    }
}

fn spelled(time: SystemTime) -> String {
    let (sign, since) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => ("", since),
        Err(before) => ("-", before.duration()),
    };
    format!("{sign}{}.{:09}", since.as_secs(), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn what_is_said_is_read_again() {
        let times = [
            (0, 0),
            (1, 1),
            (1_700_000_000, 123_456_789),
            (4_000_000_000, 0),
        ];
        for (seconds, nanoseconds) in times {
            let since = Duration::new(seconds, nanoseconds);
            for mtime in [
                SystemTime::UNIX_EPOCH + since,
                SystemTime::UNIX_EPOCH - since,
            ] {
                let said = Posix {
                    mode: Some(0o100_640),
                    uid: Some(0),
                    gid: Some(u32::MAX - 1),
                    mtime: Some(mtime),
                    atime: Some(SystemTime::UNIX_EPOCH),
                };
                let mut kept = metadata(&[("theirs", "stays"), ("mode", "1")]);
                said.say_in(&mut kept);
                assert_eq!(Posix::of(&kept), said);
                assert_eq!(kept["theirs"], "stays");
            }
        }
    }

    #[test]
    fn the_forms_of_others_are_read() {
        let s3fs = metadata(&[
            ("mode", "33188"),
            ("uid", "1000"),
            ("gid", "1000"),
            ("mtime", "1700000000"),
        ]);
        let said = Posix::of(&s3fs);
        assert_eq!(said.mode, Some(0o100_644));
        assert_eq!((said.uid, said.gid), (Some(1000), Some(1000)));
        let nobodys = u32::MAX.to_string();
        let unusable = Posix::of(&metadata(&[("uid", &nobodys), ("gid", &nobodys)]));
        assert_eq!((unusable.uid, unusable.gid), (None, None));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(said.mtime, Some(at));
        let rclone = Posix::of(&metadata(&[("mtime", "1700000000.123456789")]));
        assert_eq!(rclone.mtime, Some(at + Duration::from_nanos(123_456_789)));
        let short = Posix::of(&metadata(&[("mtime", "1700000000.5")]));
        assert_eq!(short.mtime, Some(at + Duration::from_millis(500)));
        assert!(is_symlink(&metadata(&[("mode", "41471")])));
        assert!(!is_symlink(&s3fs));
        let geesefs = metadata(&[("--symlink-target", "a%20b/c")]);
        assert!(is_symlink(&geesefs));
        assert_eq!(geesefs_target(&geesefs).as_deref(), Some(&b"a b/c"[..]));
    }

    #[test]
    fn a_type_of_content_follows_the_name_unless_somebody_chose_it() {
        let said = |content_type: Option<&str>| Attributes {
            content_type: content_type.map(str::to_string),
            ..Attributes::default()
        };
        let renamed = |now, old, new| content_type_renamed(&said(now), old, new);
        assert_eq!(content_type("a.JPG").as_deref(), Some("image/jpeg"));
        assert_eq!(content_type("a.no-such"), None);
        let jpeg = Some("image/jpeg".to_string());
        assert_eq!(renamed(None, ".a.jpg.x7f", "a.jpg"), jpeg);
        assert_eq!(
            renamed(Some("binary/octet-stream"), "a.part", "a.jpg"),
            jpeg
        );
        assert_eq!(renamed(Some("text/html"), "a.html", "a.jpg"), jpeg);
        assert_eq!(renamed(Some("text/x-ours"), "a.html", "a.jpg"), None);
        assert_eq!(renamed(Some("text/html"), "a.html", "a.old"), None);
        assert_eq!(renamed(Some("image/jpeg"), "a.jpg", "b.jpg"), None);
    }

    #[test]
    fn nonsense_is_as_if_it_was_not_there() {
        let texts = [
            "",
            "x",
            "-",
            ".",
            "1e9",
            "99999999999999999999",
            "1.x",
            "-1.-1",
            "１",
        ];
        for text in texts {
            let names = ["mode", "uid", "gid", "mtime", "atime"];
            let said = Posix::of(&metadata(&names.map(|name| (name, text))));
            assert_eq!(said, Posix::default(), "{text:?}");
        }
    }
}
