//! Telling the kernel what it should no longer believe, and what it is to have. The former mostly on a thread of its own:
//! to give up pages or names it may have to wait for requests that our other threads are answering.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};

use super::device::Device;
use crate::fs::{Data, KernelCache};

enum Stale {
    Data(u64),
    Name(u64, String),
}

pub(super) struct Notifications {
    notifier: Notifier,
    queue: mpsc::SyncSender<Stale>,
    device: Arc<Device>,
}

/// An offset that says: no pages, attributes alone. Those take no lock.
const NO_PAGES: i64 = -1;

/// More stale things than this are not queued: what the kernel caches expires by itself.
const QUEUE: usize = 10_000;

/// The thread is in a call of the kernel's, which may wait for whoever waits for us.
static IN_A_CALL: AtomicBool = AtomicBool::new(false);
/// Nothing is told any more.
static OVER: AtomicBool = AtomicBool::new(false);

/// How long such a call may take when everything is over.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Ends the telling. `true`: the kernel does not let the thread go, and it would keep whoever it waits for there, and the
/// connection, when the rest of this process has ended.
pub async fn is_held_up() -> bool {
    OVER.store(true, Ordering::SeqCst);
    let began = Instant::now();
    while IN_A_CALL.load(Ordering::SeqCst) {
        if began.elapsed() > LAST_CALL {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

impl Notifications {
    pub(super) fn start(notifier: Notifier, device: Arc<Device>) -> std::io::Result<Notifications> {
        let here = notifier.clone();
        let (queue, inbox) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("kernel-cache".to_string())
            .spawn(move || {
                for stale in inbox {
                    IN_A_CALL.store(true, Ordering::SeqCst);
                    if OVER.load(Ordering::SeqCst) {
                        break;
                    }
                    // ENOENT: the kernel does not have it anyway; ENODEV: there is no mount any more.
                    let _ = match stale {
                        Stale::Data(ino) => notifier.inval_inode(INodeNo(ino), 0, 0),
                        Stale::Name(parent, name) => {
                            notifier.inval_entry(INodeNo(parent), OsStr::new(&name))
                        }
                    };
                    IN_A_CALL.store(false, Ordering::SeqCst);
                }
                IN_A_CALL.store(false, Ordering::SeqCst);
            })?;
        Ok(Notifications {
            notifier: here,
            queue,
            device,
        })
    }
}

impl KernelCache for Notifications {
    fn forget_attributes(&self, ino: u64) {
        // As above: an inode the kernel does not have.
        let _ = self.notifier.inval_inode(INodeNo(ino), NO_PAGES, 0);
    }

    fn forget_data(&self, ino: u64) {
        let _ = self.queue.try_send(Stale::Data(ino));
    }

    fn forget_name(&self, parent: u64, name: &str) {
        let _ = self.queue.try_send(Stale::Name(parent, name.to_string()));
    }

    fn keep_data(&self, ino: u64, offset: u64, data: &Data) -> bool {
        self.device.store(ino, offset, data).is_ok()
    }
}
