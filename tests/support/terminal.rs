//! A terminal, which script(1) has to give: a program in it, what it shows, and what one types.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::mount::Place;
use super::tools::{die_with_parent, kill_and_reap, wait};
use super::wait::{eventually, seconds};

pub struct Terminal {
    child: Child,
    typescript: PathBuf,
}

impl Terminal {
    /// Runs a shell's command in one of so many columns. `furnish` adds to its environment.
    pub fn start(
        place: &Place,
        columns: usize,
        command: &str,
        furnish: impl FnOnce(&mut Command),
    ) -> Terminal {
        let typescript = place.path("typescript");
        let _ = std::fs::remove_file(&typescript);
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-f", "-c"])
            .arg(format!("stty cols {columns} rows 30; exec {command}"))
            .arg(&typescript);
        script.env("TERM", "xterm").env("SHELL", "/bin/sh");
        script.stdin(Stdio::piped()).stdout(Stdio::null());
        furnish(&mut script);
        die_with_parent(&mut script);
        Terminal {
            child: script.spawn().expect("script(1)"),
            typescript,
        }
    }

    /// All that was written to it, escapes and all.
    pub fn written(&self) -> String {
        let bytes = std::fs::read(&self.typescript).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn types(&mut self, text: &str) {
        let keys = self.child.stdin.as_mut().expect("piped");
        keys.write_all(text.as_bytes()).expect("typed");
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        let seen = || self.written().contains(text);
        if !super::wait::holds_within(seconds(30), seen) {
            panic!("{text:?} is not shown:\n{}", self.written());
        }
    }

    /// How the program in it ends.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child, seconds(20)).expect("it ends");
        // script(1) has written all by then.
        eventually(seconds(5), "its end", || !self.written().is_empty());
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        kill_and_reap(&mut self.child);
    }
}
