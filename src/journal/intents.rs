//! Renames of directories under way: a file each beside the journal, `rename-N`, whose one line is
//! in the form of [`crate::lines`].
//!
//! Invariants:
//! - A file has its name only when it is whole and durable: it is written under another name first.
//! - Who holds the instance's lock, and nobody else, writes them.

use std::fs;
use std::io;
use std::path::Path;

use crate::durable::{self, NEW};
use crate::lines::{read_line, write_line};
use crate::upload::ledger::Intent;

const NAME: &str = "rename-";

/// Writes it, or removes it, durably. Blocks for as long as the disk takes.
pub(super) fn keep(directory: &Path, number: u64, intent: Option<&Intent>) -> io::Result<()> {
    let name = format!("{NAME}{number}");
    match intent {
        Some(intent) => {
            let json = serde_json::to_string(intent).expect("an intent is plain data");
            let mut line = Vec::new();
            write_line(&mut line, "", &json);
            durable::put(directory, &name, &line)
        }
        None => {
            fs::remove_file(directory.join(name))?;
            durable::sync_names(directory)
        }
    }
}

/// Those of an instance, by their numbers. One that is damaged is an error that names its file.
pub(super) fn read(directory: &Path) -> io::Result<Vec<(u64, Intent)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME));
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            continue;
        };
        let intent = understood(&fs::read(entry.path())?).ok_or_else(|| {
            let message = format!(
                "{}: damaged; look at both names of the directory it was for, and move it aside",
                entry.path().display()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        found.push((number, intent));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

fn understood(line: &[u8]) -> Option<Intent> {
    let (_, json) = read_line(line, "").ok()?;
    serde_json::from_str(json).ok()
}

/// What was being written when its process died.
pub(super) fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with(NAME) && name.ends_with(NEW))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_kept_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut intent = Intent {
            from: "a/".to_string(),
            to: "ü b/".to_string(),
            onto_empty: false,
            at: 1_700_000_000_000,
            until: None,
            copied: false,
        };
        keep(folder.path(), 1, Some(&intent)).unwrap();
        keep(folder.path(), 12, Some(&intent)).unwrap();
        intent.copied = true;
        keep(folder.path(), 1, Some(&intent)).unwrap();
        let found = read(folder.path()).unwrap();
        assert_eq!(found[0], (1, intent));
        assert_eq!(found[1].0, 12);
        assert!(!found[1].1.copied);
        keep(folder.path(), 12, None).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_kept_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // No file can take this one's place.
        fs::create_dir(folder.path().join("rename-5")).unwrap();
        let intent = Intent {
            from: "a/".to_string(),
            to: "b/".to_string(),
            onto_empty: false,
            at: 1,
            until: None,
            copied: false,
        };
        keep(folder.path(), 5, Some(&intent)).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_not_finished_does_not_count_and_what_is_damaged_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rename-3.new"), "0123").unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        sweep(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for damaged in ["", "0123456789abcdef {}\n", "x\n"] {
            fs::write(folder.path().join("rename-4"), damaged).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("rename-4"), "{error}");
        }
    }
}
