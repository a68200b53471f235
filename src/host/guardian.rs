//! The guardian: a small parent process that outlives the daemon. When the daemon dies without
//! unmounting, the guardian takes the dead mount point away, so that nobody meets "Transport endpoint is
//! not connected", and has the journal's uploads ended; then it exits, or begins again.
//!
//! Invariants:
//! - It has one thread for ever (so it may fork), opens no connection and holds no lock.
//! - Signals meant for the mount go to the guardian and are passed on; the daemon that serves has a
//!   process group of its own, so that a terminal's Ctrl-C does not reach it twice.
//! - If the guardian itself is killed the daemon goes on, and says so.
//! - A daemon that is dead and not gone, because a thread of it waits in the kernel for a program that waits for the daemon, has its
//!   connection cut off.
//! - A daemon that says it is through is not waited for: the system takes its memory back behind it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::process;

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(u8),
    Killed(i32),
}

pub enum Side {
    Daemon(Line),
    /// In the guardian, after the daemon's end.
    Guardian(End),
}

/// The daemon's line to its guardian: the end of one pipe whose other end only the guardian has, and of one that ends there.
pub struct Line {
    life: File,
    farewell: File,
}

/// What the daemon can say when it is through.
pub struct Farewell(File);

static THROUGH: AtomicBool = AtomicBool::new(false);

impl Farewell {
    /// Nothing is left to be done, and nothing held that anybody might want.
    pub fn say(mut self) {
        THROUGH.store(true, Ordering::Relaxed);
        let _ = self.0.write_all(&[0]);
    }
}

impl Line {
    /// Calls `gone` when the guardian has died. Blocks a thread of its own until then.
    pub fn watch(self, gone: impl FnOnce() + Send + 'static) -> io::Result<Farewell> {
        let mut pipe = self.life;
        std::thread::Builder::new()
            .name("lifeline".to_string())
            .spawn(move || {
                let mut nothing = [0; 1];
                // Nothing is ever written: this returns when the other end is closed.
                while pipe
                    .read(&mut nothing)
                    .is_err_and(|e| e.kind() == io::ErrorKind::Interrupted)
                {}
                if !THROUGH.load(Ordering::Relaxed) {
                    gone();
                }
            })?;
        Ok(Farewell(self.farewell))
    }
}

const PASSED_ON: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

static DAEMON: AtomicI32 = AtomicI32::new(0);

static TOLD: AtomicBool = AtomicBool::new(false);

/// A signal to end was passed on to the daemon.
pub fn was_told_to_end() -> bool {
    TOLD.load(Ordering::Relaxed)
}

extern "C" fn pass_on(signal: libc::c_int) {
    TOLD.store(true, Ordering::Relaxed);
    let daemon = DAEMON.load(Ordering::Relaxed);
    if daemon > 0 {
        // SAFETY: kill(2) may be called in a signal handler; the process is our child.
        unsafe { libc::kill(daemon, signal) };
    }
}

/// Forks the daemon off and waits for its end. Returns twice: in the daemon at once, in the guardian at
/// the end. `in_guardian` runs right after the fork (to let go of what only the daemon needs), `when_stuck` if the daemon has died
/// and something of it has not: a thread that waits in the kernel for who waits for the daemon.
pub fn guard(in_guardian: impl FnOnce(), when_stuck: impl FnOnce()) -> io::Result<Side> {
    let (life, alive) = io::pipe()?;
    let (heard, farewell) = io::pipe()?;
    // A signal between the fork and the handlers waits.
    let before = block_signals();
    // SAFETY: the process has one thread (see the module's text), so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            restore_signals(&before);
            Err(error)
        }
        0 => {
            drop((alive, heard));
            set_handlers(libc::SIG_DFL);
            restore_signals(&before);
            Ok(Side::Daemon(Line {
                life: File::from(OwnedFd::from(life)),
                farewell: File::from(OwnedFd::from(farewell)),
            }))
        }
        pid => {
            drop((life, farewell));
            DAEMON.store(pid, Ordering::Relaxed);
            set_handlers(pass_on as extern "C" fn(libc::c_int) as usize);
            in_guardian();
            restore_signals(&before);
            let end = match last_word(heard, pid) {
                LastWord::Farewell => End::Exited(0),
                LastWord::Nothing => wait_for(pid)?,
                LastWord::Stuck => {
                    when_stuck();
                    wait_for(pid)?
                }
            };
            DAEMON.store(0, Ordering::Relaxed);
            set_handlers(libc::SIG_DFL);
            drop(alive);
            Ok(Side::Guardian(end))
        }
    }
}

/// Waits so long, or until the guardian is told to end.
pub fn pause(long: Duration) {
    set_handlers(pass_on as extern "C" fn(libc::c_int) as usize);
    let began = Instant::now();
    while began.elapsed() < long && !was_told_to_end() {
        std::thread::sleep(Duration::from_millis(50));
    }
    set_handlers(libc::SIG_DFL);
}

/// Runs `work` in a child of its own and answers its exit code: the guardian stays as small as it is.
pub fn in_child(work: impl FnOnce() -> u8) -> io::Result<End> {
    // SAFETY: one thread, as above.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = work();
            std::process::exit(i32::from(code));
        }
        pid => wait_for(pid),
    }
}

enum LastWord {
    Farewell,
    /// It is gone without.
    Nothing,
    /// It is dead, and holds what it had open.
    Stuck,
}

/// How often it is looked whether the daemon is dead, though the pipe has not ended.
const LOOK_AGAIN_MS: libc::c_int = 2_000;

/// Waits until the daemon has said that it is through, or is gone without (which ends the pipe).
fn last_word(mut heard: io::PipeReader, daemon: libc::pid_t) -> LastWord {
    loop {
        let mut asked = libc::pollfd {
            fd: heard.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor, and it is open.
        match unsafe { libc::poll(&raw mut asked, 1, LOOK_AGAIN_MS) } {
            0 if process::is_dead(daemon) => return LastWord::Stuck,
            // (Signals do not end it: they are passed on.)
            0 | -1 => {}
            _ => {
                return match heard.read_exact(&mut [0]) {
                    Ok(()) => LastWord::Farewell,
                    Err(_) => LastWord::Nothing,
                };
            }
        }
    }
}

fn wait_for(pid: libc::pid_t) -> io::Result<End> {
    loop {
        let mut status = 0;
        // SAFETY: `status` takes the answer.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            return Ok(if libc::WIFSIGNALED(status) {
                End::Killed(libc::WTERMSIG(status))
            } else {
                End::Exited(libc::WEXITSTATUS(status) as u8)
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn set_handlers(handler: libc::sighandler_t) {
    for signal in PASSED_ON {
        // SAFETY: the handler is the default or `pass_on`, which is safe to run at any moment.
        unsafe { libc::signal(signal, handler) };
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are initialised before they are read.
    unsafe {
        let mut set = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in PASSED_ON {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, &mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` was filled by sigprocmask.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}
