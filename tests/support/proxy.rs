//! A proxy in front of a store that is not ours, so that a daemon can be killed at its k-th request
//! there too: before the store hears of it, or after it has answered.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::tools::kill;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

#[derive(Clone, Copy)]
struct Plan {
    /// Requests until the one that kills.
    left: u64,
    moment: Moment,
    target: u32,
}

#[derive(Default)]
struct Plot {
    plan: Option<Plan>,
    fired: bool,
    /// Parts that the store has taken since.
    parts: usize,
}

pub struct Proxy {
    pub endpoint: String,
    plot: Arc<Mutex<Plot>>,
    _runtime: Runtime,
}

impl Proxy {
    /// In front of `http://ADDRESS`.
    pub fn to(endpoint: &str) -> Proxy {
        let upstream = endpoint.strip_prefix("http://").expect("plain HTTP");
        let upstream: SocketAddr = upstream.parse().expect("an address");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let plot = Arc::new(Mutex::new(Plot::default()));
        let shared = plot.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let plot = shared.clone();
                let service = service_fn(move |request| {
                    let plot = plot.clone();
                    async move { pass(request, upstream, &plot).await }
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    let connection = hyper::server::conn::http1::Builder::new();
                    // An error is a connection that was dropped, by whoever.
                    let _ = connection.serve_connection(io, service).await;
                });
            }
        });
        Proxy {
            endpoint: format!("http://{address}"),
            plot,
            _runtime: runtime,
        }
    }

    /// From now on: the `k`-th request kills `target`.
    pub fn kill_at(&self, k: u64, moment: Moment, target: u32) {
        *self.plot.lock().expect("no panic while held") = Plot {
            plan: Some(Plan {
                left: k,
                moment,
                target,
            }),
            fired: false,
            parts: 0,
        };
    }

    /// How many parts the store has taken since then.
    pub fn parts(&self) -> usize {
        self.plot.lock().expect("no panic while held").parts
    }

    pub fn has_killed(&self) -> bool {
        self.plot.lock().expect("no panic while held").fired
    }

    pub fn disarm(&self) {
        self.plot.lock().expect("no panic while held").plan = None;
    }
}

/// The plan, for the request whose turn it is.
fn turn(plot: &Mutex<Plot>) -> Option<Plan> {
    let mut plot = plot.lock().expect("no panic while held");
    let plan = plot.plan.as_mut()?;
    plan.left -= 1;
    match plan.left {
        0 => plot.plan.take(),
        _ => None,
    }
}

/// An error drops the connection.
async fn pass(
    request: Request<Incoming>,
    upstream: SocketAddr,
    plot: &Mutex<Plot>,
) -> io::Result<Response<Full<Bytes>>> {
    let plan = turn(plot);
    let execute = |plan: Plan| {
        kill(plan.target, libc::SIGKILL);
        plot.lock().expect("no panic while held").fired = true;
        Err(io::Error::other("the client was killed"))
    };
    if let Some(plan) = plan.filter(|plan| plan.moment == Moment::Before) {
        return execute(plan);
    }
    let is_part = request
        .uri()
        .query()
        .is_some_and(|q| q.contains("partNumber="));
    let (head, body) = request.into_parts();
    let body = Full::new(body.collect().await.map_err(io::Error::other)?.to_bytes());
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender
        .send_request(Request::from_parts(head, body))
        .await
        .map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let body = Full::new(body.collect().await.map_err(io::Error::other)?.to_bytes());
    if is_part && head.status.is_success() {
        plot.lock().expect("no panic while held").parts += 1;
    }
    match plan {
        Some(plan) => execute(plan),
        None => Ok(Response::from_parts(head, body)),
    }
}
