//! A Garage node of the test's own: one process on loopback, its data in a temporary folder.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::tools::{die_with_parent, kill_and_reap};
use super::wait::{holds_within, seconds};

pub const BUCKET: &str = "tank";
pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
pub const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const REGION: &str = "garage";

pub struct Garage {
    pub endpoint: String,
    process: Child,
    folder: TempDir,
}

/// Where the program is: `$WHOLEFS_GARAGE`, or where `scripts/test` installs it.
fn program() -> Option<PathBuf> {
    let installed = || {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cache/wholefs/garage-2.5.0/bin/garage"))
    };
    let named = std::env::var_os("WHOLEFS_GARAGE").map(PathBuf::from);
    named.or_else(installed).filter(|program| program.is_file())
}

impl Garage {
    /// `None`, said loudly, when there is no Garage here.
    pub fn start() -> Option<Garage> {
        let Some(program) = program() else {
            assert!(
                std::env::var_os("WHOLEFS_REQUIRE_GARAGE").is_none_or(|v| v.is_empty() || v == "0"),
                "WHOLEFS_REQUIRE_GARAGE is set and there is no Garage: run scripts/test, or set WHOLEFS_GARAGE"
            );
            super::tools::shout(
                "SKIPPED: no Garage here (run scripts/test, or set WHOLEFS_GARAGE)",
            );
            return None;
        };
        // The ports are free when they are chosen and may be taken when they are used: then others.
        let started = (0..5).find_map(|_| Garage::try_start(&program));
        Some(started.expect("Garage starts"))
    }

    fn try_start(program: &PathBuf) -> Option<Garage> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ports = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        let (s3, rpc) = (port(&ports.0), port(&ports.1));
        let at = folder.path().display();
        let config = format!(
            "metadata_dir = \"{at}/meta\"\ndata_dir = \"{at}/data\"\ndb_engine = \"lmdb\"\n\
             replication_factor = 1\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{SECRET_KEY}\"\n\
             [s3_api]\napi_bind_addr = \"127.0.0.1:{s3}\"\ns3_region = \"{REGION}\"\n"
        );
        let file = folder.path().join("garage.toml");
        std::fs::write(&file, config).expect("a file of the test's own");
        let log = File::create(folder.path().join("log")).expect("a file of the test's own");
        drop(ports);
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(&file)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
            .env("RUST_LOG", "info")
            .stdout(log.try_clone().expect("another descriptor"))
            .stderr(log);
        die_with_parent(&mut command);
        let process = command.spawn().expect("Garage runs");
        let mut garage = Garage {
            endpoint: format!("http://127.0.0.1:{s3}"),
            process,
            folder,
        };
        // It listens only after the bucket is made.
        let mut gone = false;
        let up = holds_within(seconds(30), || {
            gone = garage.process.try_wait().is_ok_and(|ended| ended.is_some());
            gone || TcpStream::connect(("127.0.0.1", s3)).is_ok()
        });
        if up && !gone {
            return Some(garage);
        }
        let log = std::fs::read_to_string(garage.folder.path().join("log")).unwrap_or_default();
        eprintln!("Garage did not start; its log:\n{log}");
        None
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        kill_and_reap(&mut self.process);
    }
}
