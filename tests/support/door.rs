//! The way to a store that is begun again: for a while nobody takes a connection there.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub struct Door {
    pub endpoint: String,
    runtime: Runtime,
    upstream: SocketAddr,
    address: SocketAddr,
    /// Keeps the port, also while nobody listens there.
    _place: TcpSocket,
    open: Option<JoinSet<()>>,
}

impl Door {
    /// In front of `http://ADDRESS`, open.
    pub fn to(endpoint: &str) -> Door {
        let upstream = endpoint.strip_prefix("http://").expect("plain HTTP");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let place = bound("127.0.0.1:0".parse().expect("an address"));
        let address = place.local_addr().expect("bound");
        let mut door = Door {
            endpoint: format!("http://{address}"),
            runtime,
            upstream: upstream.parse().expect("an address"),
            address,
            _place: place,
            open: None,
        };
        door.open();
        door
    }

    pub fn open(&mut self) {
        let upstream = self.upstream;
        let _inside = self.runtime.enter();
        let listener = bound(self.address).listen(1024).expect("nobody listens");
        let mut all = JoinSet::new();
        all.spawn(pass_all(listener, upstream));
        self.open = Some(all);
    }

    /// Who is inside is thrown out, and who knocks is refused.
    pub fn shut(&mut self) {
        if let Some(mut all) = self.open.take() {
            self.runtime.block_on(all.shutdown());
        }
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Of several sockets of one address only one that listens is in the others' way.
    socket.set_reuseaddr(true).expect("allowed");
    socket.bind(address).expect("a free port");
    socket
}

async fn pass_all(listener: TcpListener, upstream: SocketAddr) {
    // They end with this task.
    let mut inside = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        inside.spawn(async move {
            // An error is a connection that was dropped, by whoever.
            if let Ok(mut server) = TcpStream::connect(upstream).await {
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            }
        });
        while inside.try_join_next().is_some() {}
    }
}
