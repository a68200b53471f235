//! What the kernel tells in files of text. A name in it (a program's, a place's) is of any bytes, and keeps nobody from
//! reading the rest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most are smaller, and so told in one piece: who asks for the size of such a file is told that it is nothing.
const USUAL: usize = 4096;

pub(super) fn told(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = Vec::with_capacity(USUAL);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
