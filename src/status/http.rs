//! Metrics over HTTP, to this machine alone: a loopback address, or a socket.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::metrics::prometheus;
use super::{Sources, serving};

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Of this machine.
    Port(std::net::SocketAddr),
    Socket(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Port(address) => write!(f, "{address}"),
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.starts_with('/') {
            return Ok(Address::Socket(text.into()));
        }
        let text = text
            .strip_prefix("localhost")
            .map_or_else(|| text.to_string(), |port| format!("127.0.0.1{port}"));
        let address: std::net::SocketAddr = text.parse().map_err(|_| {
            format!("{text:?} is neither ADDRESS:PORT nor a socket's absolute path")
        })?;
        match address.ip().is_loopback() {
            true => Ok(Address::Port(address)),
            false => Err(format!(
                "{address} is open to others, and nobody is asked who he is: give a loopback address (127.0.0.1:9330), or a socket"
            )),
        }
    }
}

/// Where metrics are served. A socket's name goes with it.
pub struct Served {
    pub at: String,
    socket: Option<PathBuf>,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Answers until the process ends.
pub async fn serve_metrics(address: &Address, sources: Arc<Sources>) -> io::Result<Served> {
    match address {
        Address::Port(address) => {
            let listener = TcpListener::bind(address).await?;
            let at = format!("http://{}/metrics", listener.local_addr()?);
            serving::serve(listener, move |stream| answer(stream, sources.clone()));
            Ok(Served { at, socket: None })
        }
        Address::Socket(path) => {
            if is_left_behind(path) {
                let _ = std::fs::remove_file(path);
            }
            let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse if !is_socket(path) => io::Error::new(
                    error.kind(),
                    "it is there, and is no socket: name a file that is not there, or a PORT",
                ),
                _ => error,
            })?;
            serving::serve(listener, move |stream| answer(stream, sources.clone()));
            let (at, socket) = (path.display().to_string(), Some(path.clone()));
            Ok(Served { at, socket })
        }
    }
}

/// A dead mount's socket; whatever else has this name is somebody's.
fn is_left_behind(path: &Path) -> bool {
    is_socket(path)
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|what| what.file_type().is_socket())
}

async fn answer<S>(stream: S, sources: Arc<Sources>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let page = service_fn(move |request: Request<Incoming>| {
        let answer = page_of(&request, &sources);
        async move { Ok::<_, Infallible>(answer) }
    });
    // Who says nothing is hung up on.
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(2));
    let _ = server.serve_connection(TokioIo::new(stream), page).await;
}

fn page_of(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    let known = ["/metrics", "/"].contains(&request.uri().path());
    let (status, text) = match (request.method(), known) {
        (&Method::GET, true) => (StatusCode::OK, prometheus(&sources.snapshot())),
        (&Method::GET, false) => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_string(),
        ),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        assert!(matches!("127.0.0.1:9330".parse(), Ok(Address::Port(_))));
        assert!(matches!("localhost:0".parse(), Ok(Address::Port(_))));
        assert!(matches!("[::1]:1".parse(), Ok(Address::Port(_))));
        assert_eq!("/run/x".parse(), Ok(Address::Socket("/run/x".into())));
        for refused in ["0.0.0.0:9330", "192.168.1.1:1", "9330", "x:1", ""] {
            assert!(refused.parse::<Address>().is_err(), "{refused}");
        }
    }
}
