//! Whoever connects is answered, so many at once; the others wait.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections at once.
const AT_ONCE: usize = 16;

/// How long nobody is let in when that failed: there are no descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) trait Listener: Send + Sync + 'static {
    type Stream: Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Answers until the process ends.
pub(super) fn serve<L, Answering>(
    listener: L,
    answer: impl Fn(L::Stream) -> Answering + Send + 'static,
) where
    L: Listener,
    Answering: Future<Output = ()> + Send + 'static,
{
    let open = Arc::new(Semaphore::new(AT_ONCE));
    tokio::spawn(async move {
        loop {
            let permit = open.clone().acquire_owned().await;
            match listener.next().await {
                Ok(stream) => {
                    let answering = answer(stream);
                    tokio::spawn(async move {
                        answering.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!("a connection was not accepted: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Mutex, mpsc};

    use super::*;

    /// Lets in what it is told to.
    struct Scripted(Mutex<mpsc::Receiver<io::Result<usize>>>);

    impl Listener for Scripted {
        type Stream = usize;

        async fn next(&self) -> io::Result<usize> {
            match self.0.lock().await.recv().await {
                Some(next) => next,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_to_accept_is_not_the_end() {
        let (script, next) = mpsc::channel(4);
        let (answered, mut answers) = mpsc::channel(4);
        serve(Scripted(Mutex::new(next)), move |stream| {
            let answered = answered.clone();
            async move { answered.send(stream).await.expect("heard") }
        });
        for next in [
            Err(io::Error::from_raw_os_error(libc::EMFILE)),
            Err(io::Error::from_raw_os_error(libc::EMFILE)),
            Ok(7),
        ] {
            script.send(next).await.expect("taken");
        }
        assert_eq!(answers.recv().await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_are_answered_at_once() {
        let (script, next) = mpsc::channel(4 * AT_ONCE);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, mut all) = mpsc::channel(4 * AT_ONCE);
        let seen = most.clone();
        serve(Scripted(Mutex::new(next)), move |_| {
            let (now, most, done) = (now.clone(), seen.clone(), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(PAUSE).await;
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = done.send(()).await;
            }
        });
        for stream in 0..3 * AT_ONCE {
            script.send(Ok(stream)).await.expect("taken");
        }
        for _ in 0..3 * AT_ONCE {
            all.recv().await.expect("answered");
        }
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    }
}
