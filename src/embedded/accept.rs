//! Connections: taken in, their TLS shaken hands over, their requests handed on.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::front::{Front, Lines, Reply};

/// The requests being carried through; ends them when dropped.
pub(super) type Requests = Arc<Mutex<JoinSet<()>>>;

/// What a server shows for itself, in PEM: its certificate, with those that lead to an authority behind it,
/// and the key.
#[derive(Clone)]
pub struct Tls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business.
        f.write_str("Tls(..)")
    }
}

impl Tls {
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let unusable = |what: &str, why: String| {
            io::Error::other(format!("the {what} of its TLS cannot be used: {why}"))
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|e| unusable("certificate", e.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|e| unusable("key", e.to_string()))?;
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| unusable("certificate", e.to_string()))?;
        Ok(Arc::new(config).into())
    }
}

pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    front: Arc<Front>,
    requests: Requests,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers are to leave at once.
                let _ = stream.set_nodelay(true);
                let (tls, front, requests) = (tls.clone(), front.clone(), requests.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, front, requests).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, front, requests).await,
                            Err(error) => tracing::debug!(%error, "a handshake failed"),
                        },
                    }
                });
            }
            // Out of file descriptors, or a connection that was gone before it was accepted.
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve<S>(stream: S, front: Arc<Front>, requests: Requests)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lines = Lines::new(&front.speed);
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, requests, lines) = (front.clone(), requests.clone(), lines.clone());
        async move {
            let waits_in_vain =
                request.headers().contains_key(EXPECT) && request.body().is_end_stream();
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
                Ok(Reply::Answer(mut response)) => {
                    // hyper says no "100 Continue" where nothing is to come; some clients count on
                    // one all the same, and take the next answer on the connection for this one's.
                    if waits_in_vain {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    Ok(*response)
                }
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
