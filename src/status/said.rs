//! What an event of the log says, in one line: the names in it are of somebody else's choosing.

use std::fmt::{self, Debug, Write};

use tracing::Event;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::shown::Shown;

/// Its message, and the fields behind it.
pub fn said(event: &Event<'_>) -> String {
    let mut line = Line(String::new());
    event.record(&mut line);
    line.0
}

/// The same, where a log writes the rest of the line itself.
pub fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let one = |to: &mut Writer<'_>, field: &Field, value: &dyn Debug| write(to, field, value);
    debug_fn(one).delimited(" ")
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        // Writing to a String does not fail.
        let _ = write(&mut self.0, field, value);
    }
}

fn write(to: &mut impl Write, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(to, "{}", Shown(format_args!("{value:?}"))),
        name => write!(to, "{name}={}", Shown(format_args!("{value:?}"))),
    }
}
