//! What the kernel tells in files of text. A name in it (a program's, a place's) is of any bytes, and keeps nobody from
//! reading the rest.

use std::path::Path;
use std::{fs, io};

pub(super) fn told(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
