//! A network that can be cut: two namespaces with a cable between them. The test's thread and all that it
//! starts are at the near end, where the bucket is; what is started [`beyond`](Network::beyond) is at the
//! far end, where the mount is.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;

use wholefs::embedded::Options;

use super::tools::{run, shout};
use super::{Store, eventually, seconds};

const NEAR: &str = "10.77.0.1";
const FAR: &str = "10.77.0.2";

#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The cable is pulled: nothing gets through, and the far machine notices after some seconds.
    Cable,
    /// Requests arrive, and their answers are swallowed on the way.
    Answers,
}

pub struct Network {
    near: File,
    far: File,
}

/// A network namespace for the calling thread, and for what it starts.
fn leave() -> std::io::Result<File> {
    // SAFETY: plain system call on a number.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => File::open("/proc/thread-self/ns/net"),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn enter(namespace: &File) {
    // SAFETY: plain system call on numbers.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(done, 0, "setns: {}", std::io::Error::last_os_error());
}

#[track_caller]
fn ip(arguments: &str) {
    let done = run(Command::new("ip").args(arguments.split(' ')));
    assert!(done.ok(), "ip {arguments}: {}", done.err);
}

impl Network {
    /// Plays a scenario at the near end, in a thread that is left in that network. Where none can be made
    /// it is skipped, and that is said.
    #[track_caller]
    pub fn play(scenario: impl FnOnce(&Network) + Send) {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let played = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name(name);
            let thread = builder.spawn_scoped(scope, || match Network::new() {
                Ok(network) => scenario(&network),
                Err(error) => shout(&format!("SKIPPED: no network of our own: {error}")),
            });
            thread.expect("a thread").join()
        });
        if let Err(panic) = played {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> std::io::Result<Network> {
        Command::new("ip").arg("-V").output()?;
        let far = std::thread::spawn(leave).join().expect("no panic")?;
        let near = leave()?;
        let network = Network { near, far };
        let there = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            network.far.as_raw_fd()
        );
        ip("link set lo up");
        ip(&format!(
            "link add near type veth peer name far netns {there}"
        ));
        ip(&format!("addr add {NEAR}/24 dev near"));
        ip("link set near up");
        network.beyond(|| {
            ip("link set lo up");
            ip(&format!("addr add {FAR}/24 dev far"));
            ip("link set far up");
        });
        Ok(network)
    }

    /// The embedded bucket at the near end, and a client of the test's own beside it, whom no cut concerns.
    pub fn store(&self) -> Store {
        let address = NEAR.parse().expect("an address");
        Store::embedded_with(Options {
            listen: SocketAddr::new(address, 0),
            ..Options::default()
        })
    }

    /// What this starts is at the far end.
    pub fn beyond<T>(&self, start: impl FnOnce() -> T) -> T {
        enter(&self.far);
        let started = start();
        enter(&self.near);
        started
    }

    pub fn cut(&self, cut: Cut) {
        match cut {
            Cut::Cable => ip("link set near down"),
            Cut::Answers => ip(&format!("route add blackhole {FAR}/32")),
        }
    }

    /// Comes back when something gets through to the store again.
    #[track_caller]
    pub fn mend(&self, cut: Cut, store: &Store) {
        match cut {
            Cut::Cable => ip("link set near up"),
            Cut::Answers => ip(&format!("route del blackhole {FAR}/32")),
        }
        let address = store.server().address();
        eventually(seconds(60), "the far end is there again", || {
            self.beyond(|| TcpStream::connect(address).is_ok())
        });
    }
}
