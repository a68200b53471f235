//! One question a connection, a line; the answer is a line of JSON, and the connection ends. The directory
//! is its owner's alone, and so is the socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::serving;
use super::{Snapshot, Sources, level};
use crate::journal::STATUS_SOCKET;

/// A mount that does not answer for so long is in trouble; so is one that asks.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question is shorter.
const LONGEST: u64 = 256;

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Status,
    /// How much is logged? From now on this much, if a level is named.
    Log(Option<String>),
}

/// Answers until the process ends. Who asks or reads slowly keeps nobody but himself waiting.
pub fn serve(directory: &Path, sources: Arc<Sources>) -> io::Result<()> {
    let path = directory.join(STATUS_SOCKET);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    serving::serve(listener, move |stream| {
        let sources = sources.clone();
        async move {
            let _ = tokio::time::timeout(PATIENCE, answer(stream, &sources)).await;
        }
    });
    Ok(())
}

async fn answer(stream: tokio::net::UnixStream, sources: &Sources) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut question = String::new();
    let mut reading = BufReader::new(reading.take(LONGEST));
    reading.read_line(&mut question).await?;
    let mut line = match serde_json::from_str(&question) {
        Ok(Question::Status) => serde_json::to_vec(&sources.snapshot()),
        Ok(Question::Log(wanted)) => serde_json::to_vec(&level::set(wanted.as_deref())),
        // Of another version, or no question of ours at all.
        Err(error) => return Err(io::Error::other(error)),
    }
    .expect("plain data");
    line.push(b'\n');
    writing.write_all(&line).await
}

/// Asks the mount whose journal is in this directory.
pub fn ask(directory: &Path) -> io::Result<Snapshot> {
    put(directory, &Question::Status)
}

/// How much that mount logs, from now on what is `wanted`, if anything is; it may refuse, with a line.
pub fn ask_level(directory: &Path, wanted: Option<&str>) -> io::Result<Result<String, String>> {
    put(directory, &Question::Log(wanted.map(str::to_string)))
}

fn put<T: DeserializeOwned>(directory: &Path, question: &Question) -> io::Result<T> {
    let mut stream = UnixStream::connect(directory.join(STATUS_SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question).expect("plain data");
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
