//! One question a connection: who connects is sent a snapshot, as a line of JSON, and the connection ends.
//! The directory is its owner's alone, and so is the socket.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::{Snapshot, Sources};
use crate::journal::STATUS_SOCKET;

/// A mount that does not answer for so long is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until the process ends. Who reads slowly keeps nobody but himself waiting.
pub fn serve(directory: &Path, sources: Arc<Sources>) -> io::Result<()> {
    let path = directory.join(STATUS_SOCKET);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sources = sources.clone();
            tokio::spawn(async move {
                let mut line = serde_json::to_vec(&sources.snapshot()).expect("plain data");
                line.push(b'\n');
                let _ = tokio::time::timeout(PATIENCE, stream.write_all(&line)).await;
            });
        }
    });
    Ok(())
}

/// Asks the mount whose journal is in this directory.
pub fn ask(directory: &Path) -> io::Result<Snapshot> {
    let mut stream = UnixStream::connect(directory.join(STATUS_SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    stream.read_to_string(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}
