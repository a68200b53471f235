//! A server as such: a listener, its connections and requests, with a [`Front`] before a protocol.
//!
//! Invariant: dropping a [`Serving`] ends everything it has begun. Connections live in a set owned
//! by the accepting task, requests in a set of the server; both end with their owners.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::faults::Faults;
use super::front::{Front, Lines, Reply};
use super::log::RequestLog;
use super::protocol::Protocol;
use super::wire::Speed;

/// The requests being carried through; ends them when dropped.
type Requests = Arc<Mutex<JoinSet<()>>>;

pub(super) struct Serving {
    pub address: SocketAddr,
    pub faults: Faults,
    pub log: RequestLog,
    pub speed: Arc<Speed>,
    accepting: JoinHandle<()>,
    requests: Requests,
}

/// How fast a server answers, and whether it writes a line for each request.
pub(super) struct Manner {
    pub latency: Duration,
    pub bandwidth: Option<u64>,
    pub print: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
        self.take_requests().abort_all();
    }
}

impl Serving {
    /// Its tasks run on the current runtime.
    pub async fn start(
        listen: SocketAddr,
        protocol: impl Protocol,
        manner: Manner,
    ) -> io::Result<Serving> {
        let speed = Arc::new(Speed::default());
        speed.set_latency(manner.latency);
        speed.set_bandwidth(manner.bandwidth);
        let (faults, log) = (Faults::default(), RequestLog::new());
        let front = Arc::new(Front {
            protocol: Box::new(protocol),
            faults: faults.clone(),
            log: log.clone(),
            speed: speed.clone(),
            print: manner.print,
        });
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let accepting = tokio::spawn(accept(listener, front, requests.clone()));
        Ok(Serving {
            address,
            faults,
            log,
            speed,
            accepting,
            requests,
        })
    }

    /// Closes the listener and all connections, and ends all requests, finished or not.
    pub async fn stop(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        let mut requests = self.take_requests();
        requests.shutdown().await;
    }

    fn take_requests(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>, requests: Requests) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, front.clone(), requests.clone()));
            }
            // Out of file descriptors, or a connection that was gone before it was accepted.
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, front: Arc<Front>, requests: Requests) {
    // Small answers are to leave at once.
    let _ = stream.set_nodelay(true);
    let lines = Lines::new(&front.speed);
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, requests, lines) = (front.clone(), requests.clone(), lines.clone());
        async move {
            let (give, take) = oneshot::channel();
            {
                let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
                while requests.try_join_next().is_some() {}
                requests.spawn(async move {
                    // The connection may be gone; the reply then goes with it.
                    let _ = give.send(front.handle(lines, request).await);
                });
            }
            match take.await {
                Ok(Reply::Answer(response)) => Ok(*response),
                // hyper closes the connection without a word when the service fails.
                Ok(Reply::Close(_)) => Err("closed by a fault"),
                Ok(Reply::Hang(_entry)) => std::future::pending().await,
                Err(_) => Err("the server stops"),
            }
        }
    });
    // No timeout on idle connections: a client that reuses one in the moment it is closed would see
    // a fault nobody has scripted.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}
