//! Programs run as children, with a deadline; and what every child process needs.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait::{holds_within, seconds};

/// Longer than any tool takes on a working mount.
const PATIENCE: Duration = Duration::from_secs(150);

/// Writes a line past libtest's capture: what was skipped must be seen.
pub fn shout(line: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr().lock(), "wholefs tests: {name}: {line}");
}

/// This process gets SIGTERM when the thread that started it ends, however that ends. And signals mean to it what
/// they mean to a program that is started by hand, also where the tests run under nohup or behind `&`.
pub fn as_by_hand() {
    // SAFETY: plain system calls.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// As [`as_by_hand`].
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: it is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            as_by_hand();
            Ok(())
        });
    }
}

pub fn kill(pid: u32, signal: i32) {
    // SAFETY: plain system call on numbers; the pid is a child's that has not been waited for.
    let done = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(done, 0, "kill {pid}: {}", std::io::Error::last_os_error());
}

/// For a child that is the leader of its group: all of them.
pub fn kill_group(pid: u32, signal: i32) {
    // SAFETY: plain system call on numbers; the leader is a child that has not been waited for.
    let done = unsafe { libc::kill(-(pid as i32), signal) };
    assert_eq!(done, 0, "kill -{pid}: {}", std::io::Error::last_os_error());
}

pub fn kill_and_reap(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits with a deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let mut status = None;
    holds_within(deadline, || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    });
    status
}

pub struct Outcome {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn ok(&self) -> bool {
        self.status.success()
    }
}

/// Runs it to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    run_within(command, PATIENCE)
}

#[track_caller]
pub fn run_within(command: &mut Command, deadline: Duration) -> Outcome {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(command);
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let collect = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = collect(child.stdout.take().map(|p| Box::new(p) as _));
    let err = collect(child.stderr.take().map(|p| Box::new(p) as _));
    let Some(status) = wait(&mut child, deadline) else {
        kill_and_reap(&mut child);
        panic!("{command:?} did not end within {deadline:?}");
    };
    let text = |collected: std::thread::JoinHandle<String>| collected.join().unwrap_or_default();
    Outcome {
        status,
        out: text(out),
        err: text(err),
    }
}

/// Runs `script` with `sh -euc`, its arguments as `$1`, `$2`, …
#[track_caller]
pub fn sh(script: &str, arguments: &[&std::path::Path]) -> Outcome {
    run(Command::new("sh")
        .args(["-euc", script, "sh"])
        .args(arguments))
}

#[track_caller]
pub fn sh_ok(script: &str, arguments: &[&std::path::Path]) -> String {
    let outcome = sh(script, arguments);
    assert!(
        outcome.ok(),
        "{script} {arguments:?}: {}\n{}",
        outcome.status,
        outcome.err
    );
    outcome.out
}

/// A shell in the background that leads its own process group, as one started at a terminal.
pub struct Job {
    child: Child,
    over: bool,
}

impl Job {
    #[track_caller]
    pub fn start(script: &str, arguments: &[&std::path::Path]) -> Job {
        let mut command = Command::new("sh");
        command.args(["-uc", script, "sh"]).args(arguments);
        command.stdin(Stdio::null()).process_group(0);
        die_with_parent(&mut command);
        let child = command.spawn().expect("sh runs");
        Job { child, over: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        kill_group(self.pid(), signal);
    }

    #[track_caller]
    pub fn wait(mut self) -> ExitStatus {
        let ended = wait(&mut self.child, PATIENCE).expect("the job ends");
        self.over = true;
        ended
    }

    /// Signals the group and waits for its leader, who must have died of it.
    #[track_caller]
    pub fn die_of(self, signal: i32) {
        self.signal(signal);
        let status = self.wait();
        assert_eq!(status.signal(), Some(signal), "{status:?}");
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.over {
            // SAFETY: plain system call on numbers; the leader has not been waited for.
            unsafe { libc::kill(-(self.pid() as i32), libc::SIGKILL) };
            let _ = wait(&mut self.child, seconds(10));
        }
    }
}

/// Is this program here? Otherwise says so loudly, or fails when `required` is set to something.
pub fn have(program: &str, required: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok() {
        return true;
    }
    assert!(
        std::env::var_os(required).is_none_or(|v| v.is_empty() || v == "0"),
        "{required} is set and there is no {program} here"
    );
    shout(&format!("SKIPPED: no {program} here"));
    false
}
