//! A server as such: a listener, its connections and requests, with a [`Front`] before a protocol.
//!
//! Invariant: dropping a [`Serving`] ends everything it has begun. Connections live in a set owned
//! by the accepting task, requests in a set of the server; both end with their owners.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::accept::{Requests, accept};
use super::faults::Faults;
use super::front::Front;
use super::log::RequestLog;
use super::protocol::Protocol;
use super::wire::Speed;

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
        tls: Option<TlsAcceptor>,
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
        let accepting = tokio::spawn(accept(listener, tls, front, requests.clone()));
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
