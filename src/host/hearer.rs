//! Whoever takes the log may stop: a terminal after Ctrl-S, a pipe that nobody reads, a journal that is stuck. He is
//! waited for a moment, once, and the log goes on without him until he takes something again: no program waits for it.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How long he is waited for.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Hearer {
    /// Lines that he did not take, since he took one.
    missed: u64,
}

impl Hearer {
    pub fn is_waited_for(&self) -> bool {
        self.missed == 0
    }

    /// `send` says whether a line was taken.
    pub fn tell(&mut self, line: &str, send: impl Fn(&str) -> bool) {
        let missed = format!("(lines that nobody took: {})\n", self.missed);
        let is_back = self.missed == 0 || send(&missed);
        if is_back && send(line) {
            self.missed = 0;
        } else {
            self.missed += 1;
        }
    }
}

/// Standard error, of which each write is a line.
#[derive(Debug, Default)]
pub struct Stderr(Hearer);

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let wait = match self.0.is_waited_for() {
            true => PATIENCE,
            false => Duration::ZERO,
        };
        let send = |line: &str| {
            // What a pipe takes at once or not at all.
            let mut pieces = line.as_bytes().chunks(libc::PIPE_BUF);
            pieces.all(|piece| takes(wait) && io::stderr().write_all(piece).is_ok())
        };
        let text = String::from_utf8_lossy(line);
        self.0.tell(&text, send);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Does standard error take something within that time?
fn takes(wait: Duration) -> bool {
    let mut asked = libc::pollfd {
        fd: io::stderr().as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one entry, which lives for the call.
    unsafe { libc::poll(&raw mut asked, 1, wait.as_millis() as i32) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn who_takes_nothing_is_told_how_much_he_missed() {
        let (takes, taken) = (Cell::new(true), RefCell::new(Vec::new()));
        let send = |line: &str| {
            if takes.get() {
                taken.borrow_mut().push(line.trim_end().to_string());
            }
            takes.get()
        };
        let mut hearer = Hearer::default();
        hearer.tell("a", send);
        takes.set(false);
        hearer.tell("b", send);
        assert!(!hearer.is_waited_for());
        hearer.tell("c", send);
        takes.set(true);
        hearer.tell("d", send);
        assert!(hearer.is_waited_for());
        hearer.tell("e", send);
        let expected = ["a", "(lines that nobody took: 2)", "d", "e"];
        assert_eq!(*taken.borrow(), expected);
    }
}
