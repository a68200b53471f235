//! A proxy as HTTPS_PROXY and HTTP_PROXY name one: it opens tunnels (CONNECT) and passes on requests in
//! absolute form, wherever they want to go, to one place or to nowhere.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

pub struct Forward {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Forward {
    /// Everything that comes goes to this endpoint.
    pub fn to(endpoint: &str) -> Forward {
        let address = endpoint.split_once("://").expect("a URL").1;
        Forward::start(Some(address.parse().expect("an address")))
    }

    /// Everything is refused.
    pub fn to_nowhere() -> Forward {
        Forward::start(None)
    }

    fn start(upstream: Option<SocketAddr>) -> Forward {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = heads.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // An error is a connection that was dropped, by whoever.
                tokio::spawn(pass(stream, upstream, kept.clone()));
            }
        });
        Forward {
            url,
            heads,
            _runtime: runtime,
        }
    }

    /// The head of each connection's first request.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic while held").clone()
    }

    /// The hosts that tunnels were asked for to.
    pub fn tunnels(&self) -> Vec<String> {
        let heads = self.heads();
        let hosts = heads.iter().filter_map(|head| {
            let host = head.strip_prefix("CONNECT ")?.split(' ').next()?;
            Some(host.trim_end_matches(":443").to_owned())
        });
        hosts.collect()
    }
}

async fn pass(
    mut stream: TcpStream,
    upstream: Option<SocketAddr>,
    heads: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let tunnel = text.starts_with("CONNECT ");
    heads.lock().expect("no panic while held").push(text);
    let Some(upstream) = upstream else {
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(refused).await;
    };
    let mut server = TcpStream::connect(upstream).await?;
    match tunnel {
        true => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?
        }
        // A server takes the absolute form, too.
        false => server.write_all(&head).await?,
    }
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}
