//! What a command prints. Whoever closes the pipe has read enough, and nobody may end a command in the middle of its work by
//! that; a disk that is full is a failure, told when the work is done.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;

use serde::Serialize;

use super::Failure;
use crate::shown::InJson;

static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line on standard output, like `println!`.
macro_rules! say {
    ($($said:tt)*) => { $crate::cli::out::print(format_args!("{}\n", format_args!($($said)*))) };
}

/// A line on standard error that begins with the program's name.
macro_rules! complain {
    ($($said:tt)*) => { $crate::cli::out::to_stderr(format_args!($($said)*)) };
}

pub(super) use {complain, say};

pub(super) fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let printed = out.write_fmt(text).and_then(|()| out.flush());
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        FAILED
            .lock()
            .expect("no panic while held")
            .get_or_insert(error);
    }
}

/// The same in JSON, on a line.
pub(super) fn print_json(data: &impl Serialize) {
    let text = serde_json::to_string(data).expect("plain data");
    print(format_args!("{}\n", InJson(text)));
}

pub(super) fn to_stderr(line: Arguments<'_>) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "wholefs: {line}");
}

/// Was all of it printed?
pub(super) fn result() -> Result<(), Failure> {
    match FAILED.lock().expect("no panic while held").take() {
        None => Ok(()),
        Some(error) => Err(format!("cannot write to standard output: {error}").into()),
    }
}
