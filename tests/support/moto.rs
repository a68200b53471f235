//! moto's S3 server, a fake that many test against: one process on loopback, everything in memory.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::tools::{die_with_parent, kill_and_reap};
use super::wait::{holds_within, seconds};

pub struct Moto {
    pub endpoint: String,
    process: Child,
}

/// The Python that has it: `$WHOLEFS_MOTO`, or where `scripts/test` installs it.
fn python() -> Option<PathBuf> {
    let installed = || {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cache/wholefs/moto-5.2.1/bin/python3"))
    };
    let named = std::env::var_os("WHOLEFS_MOTO").map(PathBuf::from);
    named.or_else(installed).filter(|python| python.is_file())
}

impl Moto {
    /// `None`, said loudly, when there is no moto here.
    pub fn start() -> Option<Moto> {
        let Some(python) = python() else {
            super::tools::shout("SKIPPED: no moto here (run scripts/test, or set WHOLEFS_MOTO)");
            return None;
        };
        let started = (0..5).find_map(|_| Moto::try_start(&python));
        Some(started.expect("moto starts"))
    }

    fn try_start(python: &PathBuf) -> Option<Moto> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let mut command = Command::new(python);
        command
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        let mut process = command.spawn().expect("Python runs");
        let mut gone = false;
        let up = holds_within(seconds(30), || {
            gone = process.try_wait().is_ok_and(|ended| ended.is_some());
            gone || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if up && !gone {
            return Some(Moto {
                endpoint: format!("http://127.0.0.1:{port}"),
                process,
            });
        }
        kill_and_reap(&mut process);
        None
    }
}

impl Moto {
    /// Its answer to ListParts is one that no S3 client reads; it believes any signature.
    pub fn parts_of(&self, bucket: &str, key: &str, upload: &str) -> usize {
        let address = self.endpoint.strip_prefix("http://").expect("plain HTTP");
        let mut stream = TcpStream::connect(address).expect("moto is there");
        let request = format!(
            "GET /{bucket}/{key}?uploadId={upload} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer.matches("<PartNumber>").count()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        kill_and_reap(&mut self.process);
    }
}
