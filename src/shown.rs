//! Text that comes from elsewhere, fit to be shown: names of objects and answers of stores hold what somebody else put
//! there, and neither a terminal is to obey it nor a log to take it for lines of its own.

use std::fmt::{self, Display, Formatter, Write};

/// As it is, on one line, with escapes for what is no text.
pub struct Shown<T>(pub T);

impl<T: Display> Display for Shown<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            Escaping(f, |f, c| write!(f, "{}", c.escape_default())),
            "{}",
            self.0
        )
    }
}

/// JSON as it is, with JSON's own escapes for what is no text (which it need not escape all).
pub struct InJson<T>(pub T);

impl<T: Display> Display for InJson<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            Escaping(f, |f, c| write!(f, "\\u{:04x}", u32::from(c))),
            "{}",
            self.0
        )
    }
}

type Escape = fn(&mut Formatter<'_>, char) -> fmt::Result;

struct Escaping<'a, 'b>(&'a mut Formatter<'b>, Escape);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Escaping(to, escape) = self;
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_no_text(*c)) {
            to.write_str(&rest[..at])?;
            escape(to, c)?;
            rest = &rest[at + c.len_utf8()..];
        }
        to.write_str(rest)
    }
}

/// What moves the cursor, changes colours, ends lines, or (of the marks of direction) puts what follows elsewhere.
fn is_no_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        for (name, expected) in [
            ("a b/ü.tar \\ \"x\"", "a b/ü.tar \\ \"x\""),
            ("\x1b[31mred", "\\u{1b}[31mred"),
            ("two\nlines\r\t\0", "two\\nlines\\r\\t\\u{0}"),
            ("c1\u{9b}31m\x7f", "c1\\u{9b}31m\\u{7f}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("", ""),
        ] {
            assert_eq!(Shown(name).to_string(), expected);
            let json = InJson(serde_json::to_string(name).expect("text")).to_string();
            assert!(!json.contains(is_no_text), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), name);
        }
    }
}
