//! Small files that are there with all of their text, or as they were, whatever the machine does in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What has this behind its name is not whole yet; after a crash it is of no use.
pub const NEW: &str = ".new";

/// Puts `text` in the place of a directory's file, durably. (If only the directory cannot be synced, it may be there when this is an error.)
pub fn put(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let new = directory.join(format!("{name}{NEW}"));
    let written = write(&new, text).and_then(|()| fs::rename(&new, directory.join(name)));
    if written.is_err() {
        // A full disk is not kept full by what was in vain.
        let _ = fs::remove_file(&new);
    }
    written?;
    sync_names(directory)
}

/// Makes a directory that nobody else may enter, and what it lies in, and makes sure that a power loss does not unmake them.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = (directory.ancestors())
        .take_while(|above| !above.exists())
        .collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    for made in missing {
        match made.parent() {
            Some(parent) if parent != Path::new("") => sync_names(parent)?,
            _ => sync_names(Path::new("."))?,
        }
    }
    Ok(())
}

/// Makes durable which names a directory has.
pub fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // Not truncated but made anew: what is left there may have other permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
