//! S3 servers that are not ours, and too heavy to be started for each test: one of each kind for all
//! tests of the process, a bucket for each test.
//!
//! A shell keeps the server and its folder, and reads from us. However this process ends, its end of
//! the pipe closes, and the shell ends the server and takes the folder with it.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::tools::shout;
use super::wait::{holds_within, seconds};

const KEEPER: &str = r#"
    folder=$1; shift
    "$@" > "$folder/log" 2>&1 & server=$!
    cat > /dev/null
    kill $server; wait $server 2> /dev/null
    rm -rf "$folder"
"#;

/// One kind of server.
pub struct Kind {
    /// Also its row of the dialect table, and what the list of exclusions calls it.
    pub name: &'static str,
    pub access_key: &'static str,
    pub secret_key: &'static str,
    /// Names the program, if it is not where `scripts/test` installs it.
    variable: &'static str,
    /// Below the home directory, or from the root on.
    installed: &'static str,
    /// What is in capitals is filled in.
    command: &'static [&'static str],
    /// See [`Store::slowness`](super::Store::slowness).
    pub slowness: u64,
    running: OnceLock<Option<Running>>,
}

struct Running {
    endpoint: String,
    /// Ends the server when its standard input closes, with this process at the latest.
    _keeper: Child,
}

/// OpenStack Swift with s3api.
pub static SWIFT: Kind = Kind {
    name: "swift",
    access_key: "test:tester",
    secret_key: "testing",
    variable: "WHOLEFS_SWIFT",
    installed: ".cache/wholefs/swift-2.38.3/bin/python3",
    command: &[
        "PROGRAM",
        "SUPPORT/swift_node.py",
        "FOLDER",
        "PORT",
        "ACCESS",
        "SECRET",
    ],
    slowness: 16,
    running: OnceLock::new(),
};

/// `rclone serve s3` over a folder of the local disk.
pub static RCLONE: Kind = Kind {
    name: "rclone",
    access_key: "tester",
    secret_key: "testing-testing",
    variable: "WHOLEFS_RCLONE",
    installed: ".cache/wholefs/rclone-1.75.2/bin/rclone",
    command: &[
        "PROGRAM",
        "serve",
        "s3",
        "--config=/dev/null",
        "--auth-key=ACCESS,SECRET",
        "--addr=127.0.0.1:PORT",
        "FOLDER/data",
    ],
    slowness: 1,
    running: OnceLock::new(),
};

/// Ceph's radosgw over a monitor and an OSD that keeps everything in memory.
pub static CEPH: Kind = Kind {
    name: "ceph",
    access_key: "tester",
    secret_key: "testing",
    variable: "WHOLEFS_CEPH",
    installed: "/usr/bin/radosgw",
    command: &[
        "bash",
        "SUPPORT/ceph_node.sh",
        "FOLDER",
        "PORT",
        "ACCESS",
        "SECRET",
        "PROGRAM",
    ],
    slowness: 4,
    running: OnceLock::new(),
};

/// Is this test not for the server of that name? The reason is said.
pub fn excuses(server: &str, test: &str) -> bool {
    let list = include_str!("../suites/servers.exclusions");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let its = lines.filter_map(|line| line.strip_prefix(server)?.trim_start().split_once(' '));
    let mut reasons = its.filter(|(name, _)| test.ends_with(name));
    let reason = reasons.next().map(|(_, reason)| reason.trim());
    if let Some(reason) = reason {
        shout(&format!("EXCLUDED on {server}: {reason}"));
    }
    reason.is_some()
}

impl Kind {
    fn program(&self) -> Option<PathBuf> {
        let installed = || {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(self.installed))
        };
        let named = std::env::var_os(self.variable).map(PathBuf::from);
        named.or_else(installed).filter(|program| program.is_file())
    }

    /// Where it is; `None`, said loudly, when there is none here.
    pub fn endpoint(&self) -> Option<&str> {
        let Some(program) = self.program() else {
            assert!(
                std::env::var_os("WHOLEFS_REQUIRE_SERVERS")
                    .is_none_or(|v| v.is_empty() || v == "0"),
                "WHOLEFS_REQUIRE_SERVERS is set and there is no {}: run scripts/test --servers",
                self.name
            );
            shout(&format!(
                "SKIPPED: no {} here (run scripts/test --servers, or set {})",
                self.name, self.variable
            ));
            return None;
        };
        let start = || (0..3).find_map(|_| self.try_start(&program));
        let running = self.running.get_or_init(start).as_ref();
        Some(&running.expect("the server starts").endpoint)
    }

    fn try_start(&self, program: &Path) -> Option<Running> {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        std::fs::create_dir(folder.join("data")).expect("a folder of the test's own");
        // Free when it is chosen, and perhaps taken when it is used: then another.
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("bound").port()
        };
        let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support");
        let filled_in = |word: &&str| {
            word.replace("PROGRAM", &program.to_string_lossy())
                .replace("SUPPORT", support)
                .replace("FOLDER", &folder.to_string_lossy())
                .replace("PORT", &port.to_string())
                .replace("ACCESS", self.access_key)
                .replace("SECRET", self.secret_key)
        };
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder);
        keeper.args(self.command.iter().map(filled_in));
        // A Ctrl-C is for the tests; the server ends after them.
        keeper.stdin(Stdio::piped()).process_group(0);
        let running = Running {
            endpoint: format!("http://127.0.0.1:{port}"),
            _keeper: keeper.spawn().expect("sh runs"),
        };
        let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        if holds_within(seconds(20), answers) {
            return Some(running);
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        eprintln!("{} did not start; its log:\n{log}", self.name);
        None
    }
}
