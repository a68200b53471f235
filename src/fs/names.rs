//! Which keys are file names, and which names can be keys. Pure.
//!
//! A key is a path of components joined by `/`; a directory's marker and a prefix end in `/`. What
//! cannot be a file name (empty, `.`, `..`, over 255 bytes, with a NUL) is not shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The longest name Linux takes.
pub const NAME_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    TooLong,
    /// S3 keys are UTF-8.
    NotUtf8,
}

/// The component a name would be in a key.
pub fn component(name: &OsStr) -> Result<&str, BadName> {
    if name.len() > NAME_MAX {
        return Err(BadName::TooLong);
    }
    std::str::from_utf8(name.as_bytes()).map_err(|_| BadName::NotUtf8)
}

/// Can a file of this name be made? The answers about uploads are XML 1.0, which has no way to say some
/// characters: an upload to such a key could never be ended.
pub fn can_be_made(name: &str) -> bool {
    name.chars().all(|c| match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    })
}

/// Keys that are all blank cannot be asked for.
pub fn is_blank(key: &str) -> bool {
    key.trim().is_empty()
}

/// Can a component of a key be shown as a file's name?
pub fn is_name(component: &str) -> bool {
    !component.is_empty()
        && component != "."
        && component != ".."
        && component.len() <= NAME_MAX
        && !component.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_xml_cannot_carry_are_not_made() {
        for good in [
            "a",
            "ü",
            "\t",
            "\n",
            "\r",
            "\u{7f}",
            "\u{fffd}",
            "\u{1f600}",
        ] {
            assert!(can_be_made(good), "{good:?}");
        }
        for bad in ["\u{1}", "a\u{1f}b", "\u{fffe}", "\u{ffff}"] {
            assert!(!can_be_made(bad), "{bad:?}");
        }
        assert!(is_blank(" ") && is_blank("\t ") && !is_blank(" a"));
    }

    #[test]
    fn names_that_cannot_be_files_are_told_apart() {
        for good in [
            "a",
            "..a",
            "a.",
            "ü",
            "a b",
            "-",
            "\u{1}",
            "\n",
            "...",
            &"x".repeat(255),
        ] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "/", "a\0", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert_eq!(component(OsStr::from_bytes(b"\xff")), Err(BadName::NotUtf8));
        assert_eq!(
            component(OsStr::new(&"x".repeat(256))),
            Err(BadName::TooLong)
        );
        assert_eq!(component(OsStr::new("ok")), Ok("ok"));
    }
}
