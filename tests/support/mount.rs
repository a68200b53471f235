//! The program itself, mounted on a folder of the test's own.
//!
//! A mount that is dropped is unmounted by SIGTERM and must have ended well: exit status 0 and no
//! panic. A watchdog kills a daemon that hangs, so that nobody waits for it for ever. Mounts that are
//! to die are made in a [`Place`], which outlives them.

use std::ffi::CString;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::store::Store;
use super::tools::{die_with_parent, kill, kill_and_reap, run_within, sh_ok, wait};
use super::wait::{holds_within, seconds};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_wholefs");
const READY: &str = "wholefs: mounted ";
/// No scenario needs a mount for longer.
const WATCHDOG: Duration = Duration::from_secs(45 * 60);

pub struct Mount {
    /// The mount point.
    pub at: PathBuf,
    child: Child,
    guarded: bool,
    stderr: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
    /// Dropping it lets the watchdog go.
    watch: Option<Sender<()>>,
    over: bool,
    // After the mount itself.
    place: Place,
}

/// A folder of mount points with one state directory. It stays as long as a clone of it does, and
/// takes with it whatever is still mounted there.
#[derive(Clone)]
pub struct Place(Arc<Folder>);

struct Folder(TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        for mounted in mount_points_below(self.0.path()) {
            detach(&mounted);
        }
    }
}

impl Default for Place {
    fn default() -> Place {
        Place(Arc::new(Folder(
            tempfile::tempdir().expect("a temporary folder"),
        )))
    }
}

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.0.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A library that mounts here are started with, if there is one.
    pub fn preload(&self) -> PathBuf {
        self.path("preload.so")
    }

    /// Builds it, of what lies beside this file.
    #[track_caller]
    pub fn preload_of(&self, source: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/support")
            .join(source);
        sh_ok(
            "cc -O -shared -fPIC -o \"$1\" \"$2\"",
            &[&self.preload(), &source],
        );
    }

    /// The directories of mounts in the state directory, dead or alive.
    pub fn instances(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state()).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

/// The command with the store's address and keys; options and operands are still to come.
pub fn program(store: &Store) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("AWS_ACCESS_KEY_ID", &store.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.secret_key)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .env_remove("AWS_ENDPOINT_URL")
        .env_remove("AWS_ENDPOINT_URL_S3")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    // Whatever this machine has to go through, our servers are on it.
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name);
        command.env_remove(name.to_ascii_uppercase());
    }
    match &store.authority {
        Some(authority) => command.env("AWS_CA_BUNDLE", authority.file()),
        None => command.env_remove("AWS_CA_BUNDLE"),
    };
    if let Some(resolver) = store.resolver() {
        command.env("LD_PRELOAD", resolver);
    }
    command
}

/// `wholefs mount` with the store's address.
pub fn mount_command(store: &Store) -> Command {
    let mut command = program(store);
    command.arg("mount");
    // What is not said, the program finds out.
    let said = [
        ("--endpoint-url", store.endpoint.as_str()),
        ("--region", store.region),
        ("--provider", store.provider),
    ];
    for (flag, value) in said.into_iter().filter(|(_, value)| !value.is_empty()) {
        command.args([flag, value]);
    }
    command.args(store.auth().map(|auth| format!("--auth={auth}")));
    command
}

/// The last resort: takes the mount point away, whoever uses it.
pub fn detach(at: &Path) {
    if let Ok(path) = CString::new(at.as_os_str().as_bytes()) {
        // SAFETY: the path is a string that ends.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// `umount`, as soon as nobody is there. A process that another test has just forked has our open
/// files too, until it executes its program: that is why it may be busy for a moment.
#[track_caller]
pub fn umount(at: &Path) {
    let mut said = String::new();
    let done = holds_within(seconds(5), || {
        let outcome = run_within(Command::new("umount").arg(at), seconds(45));
        said = outcome.err.clone();
        outcome.ok()
    });
    assert!(done, "umount: {said}");
}

pub fn is_mounted(at: &Path) -> bool {
    mount_points_below(at).iter().any(|found| found == at)
}

/// The last mounted first.
fn mount_points_below(at: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc");
    let points = mounts.lines().rev().filter_map(|l| l.split(' ').nth(4));
    let below = points.map(PathBuf::from).filter(|p| p.starts_with(at));
    below.collect()
}

impl Mount {
    pub fn new(store: &Store) -> Mount {
        Mount::with(store, &[])
    }

    /// Mounts the bucket with further options.
    #[track_caller]
    pub fn with(store: &Store, options: &[&str]) -> Mount {
        Mount::of(store, &format!("s3://{}", store.bucket), options)
    }

    /// One whose threads come in between each other in any order.
    #[track_caller]
    pub fn with_pauses(store: &Store) -> Mount {
        let pauses = [("WHOLEFS_TEST_PAUSES", "50".to_string())];
        let source = format!("s3://{}", store.bucket);
        Mount::started(&Place::default(), "mnt", store, &source, &[], &pauses)
    }

    #[track_caller]
    pub fn of(store: &Store, source: &str, options: &[&str]) -> Mount {
        Mount::within(&Place::default(), "mnt", store, source, options)
    }

    /// Mounts at a folder of this name in a place where other mounts are, or have been.
    #[track_caller]
    pub fn within(
        place: &Place,
        point: &str,
        store: &Store,
        source: &str,
        options: &[&str],
    ) -> Mount {
        Mount::started(place, point, store, source, options, &[])
    }

    /// The same with more in the environment.
    #[track_caller]
    pub fn started(
        place: &Place,
        point: &str,
        store: &Store,
        source: &str,
        options: &[&str],
        environment: &[(&str, String)],
    ) -> Mount {
        let at = place.path(point);
        // One that holds a dead mount is there already.
        if let Err(error) = std::fs::create_dir_all(&at) {
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{at:?}");
        }
        let mut command = mount_command(store);
        command.args(["--foreground"]).args(options);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        command.arg("--state-dir").arg(place.state());
        command.arg(source).arg(&at).stderr(Stdio::piped());
        if place.preload().exists() {
            command.env("LD_PRELOAD", place.preload());
        }
        die_with_parent(&mut command);
        let mut child = command.spawn().expect("the program runs");
        let (ready, until_ready) = channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let reading = collect(&mut child, stderr.clone(), ready);
        let watch = watchdog(child.id(), at.clone());
        let mount = Mount {
            at,
            child,
            guarded: !options.contains(&"--no-guardian"),
            stderr,
            reading: Some(reading),
            watch: Some(watch),
            over: false,
            place: place.clone(),
        };
        if until_ready.recv_timeout(seconds(30)).is_err() {
            panic!("not mounted within 30 s: {command:?}");
        }
        mount
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// Where it is: it may outlive the mount.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// A place for files beside the mount.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves: the child of the guardian, which is ours; or, without one, ours.
    pub fn daemon(&self) -> u32 {
        if !self.guarded {
            return self.pid();
        }
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).expect("the guardian runs");
        let first = children.split_whitespace().next();
        first
            .and_then(|pid| pid.parse().ok())
            .expect("the daemon runs")
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while held").clone()
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon()));
        let status = status.expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    /// The most memory the daemon has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_kib("VmHWM") * 1024
    }

    pub fn memory(&self) -> u64 {
        self.status_kib("VmRSS") * 1024
    }

    /// SIGTERM, and the end it comes to within 45 s.
    #[track_caller]
    pub fn terminate(mut self) -> ExitStatus {
        self.end_by(|mount| kill(mount.pid(), libc::SIGTERM))
    }

    /// The same, with all that it ever said.
    #[track_caller]
    pub fn terminate_and_tell(mut self) -> (String, ExitStatus) {
        let status = self.end_by(|mount| kill(mount.pid(), libc::SIGTERM));
        (self.stderr(), status)
    }

    /// For one that was told to end already, or whose mount point was taken away.
    #[track_caller]
    pub fn wait_for_end(mut self) -> ExitStatus {
        self.end_by(|_| ())
    }

    /// `umount`, not lazy, and the end it comes to.
    #[track_caller]
    pub fn unmount(mut self) -> ExitStatus {
        self.end_by(|mount| umount(&mount.at))
    }

    /// Has the process ended that was started?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// For one that is to die: waits for the process that was started, and asks no more of it.
    #[track_caller]
    pub fn wait_for_death(&mut self) -> ExitStatus {
        let status = wait(&mut self.child, seconds(90));
        self.watch = None;
        self.over = status.is_some();
        status.unwrap_or_else(|| panic!("still running after 90 s"))
    }

    #[track_caller]
    fn end_by(&mut self, end: impl FnOnce(&Mount)) -> ExitStatus {
        end(self);
        let status = wait(&mut self.child, seconds(45));
        let status =
            status.unwrap_or_else(|| panic!("still running 45 s after it was told to end"));
        self.over = true;
        self.join();
        let stderr = self.stderr();
        assert!(
            !stderr.contains("panicked"),
            "the daemon panicked:\n{stderr}"
        );
        assert!(!is_mounted(&self.at), "still mounted");
        status
    }

    fn join(&mut self) {
        self.watch = None;
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.over {
            if std::thread::panicking() {
                eprintln!("--- the daemon said:\n{}---", self.stderr());
            }
            return;
        }
        if !std::thread::panicking() {
            let status = self.end_by(|mount| kill(mount.pid(), libc::SIGTERM));
            assert!(status.success(), "{status}:\n{}", self.stderr());
            return;
        }
        // The test has failed; now everything must go, well or not.
        let ended = wait(&mut self.child, Duration::ZERO).is_some();
        if !ended {
            // SAFETY: plain system call on numbers; the child has not been waited for.
            unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) };
            wait(&mut self.child, seconds(5));
        }
        detach(&self.at);
        kill_and_reap(&mut self.child);
        self.join();
        eprintln!("--- the daemon said:\n{}---", self.stderr());
    }
}

/// Keeps what the daemon says, and tells when it is ready.
fn collect(child: &mut Child, kept: Arc<Mutex<String>>, ready: Sender<()>) -> JoinHandle<()> {
    let pipe = child.stderr.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut ready = Some(ready);
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut kept = kept.lock().expect("no panic while held");
            kept.push_str(&line);
            kept.push('\n');
            drop(kept);
            if line.starts_with(READY)
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(());
            }
        }
    })
}

fn watchdog(pid: u32, at: PathBuf) -> Sender<()> {
    let (watch, let_go): (Sender<()>, Receiver<()>) = channel();
    std::thread::spawn(move || {
        if let_go.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the watchdog ends the daemon of {}", at.display());
            // Without its mount the daemon ends, and the guardian after it.
            detach(&at);
            // Still our child: the watch ends before it is waited for.
            // SAFETY: plain system call on numbers.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    });
    watch
}
