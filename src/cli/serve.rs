//! A mount from its store to its end: what `mount` and `demo` have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, info, warn};

use super::units::size_as_given;
use crate::draft::{SpoolSpace, Works, WriteMemory};
use crate::fs::{Fs, Options as FsOptions};
use crate::fuse::{self, MountOptions, mount};
use crate::host::{daemon::Readiness, mountpoint, supervisor};
use crate::journal::Journal;
use crate::read::{DiskCache, ReadMemory, Room};
use crate::status::{self, Address, Sources};
use crate::store::Store;
use crate::upload::ledger::{Forgetful, Ledger};
use crate::upload::{Doubts, Uploads};

/// Everything about a mount but its store.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub mount_point: PathBuf,
    pub mount: MountOptions,
    pub fs: FsOptions,
    pub part_size: u64,
    pub write_memory: u64,
    pub read_memory: u64,
    pub cache: Option<Cache>,
    pub spool_directory: PathBuf,
    pub spool_limit: u64,
    pub upload_concurrency: usize,
    pub shutdown_timeout: Duration,
    pub metrics: Option<Address>,
    /// What dead mounts had begun and is not at its end.
    pub doubts: Doubts,
}

/// Where on disk, and how much of it, what was read is kept.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    pub directory: PathBuf,
    pub room: Room,
}

impl Cache {
    fn open(&self, store: &dyn Store) -> Result<Arc<DiskCache>, String> {
        let place = [store.endpoint(), store.region()].map(Option::unwrap_or_default);
        let source = format!("{} {}", place.join(" "), store.describe());
        DiskCache::open(&self.directory, &source, self.room).map_err(|e| {
            format!(
                "the cache directory {} cannot be used: {e}: name another with --cache",
                self.directory.display()
            )
        })
    }
}

/// What comes behind the uploads' end takes no longer.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Mounts, says so, serves until unmounted or told to end, and leaves nothing behind.
pub(crate) async fn serve(
    store: Arc<dyn Store>,
    journal: Option<Arc<Journal>>,
    settings: Settings,
    readiness: &mut Readiness,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let began = Instant::now();
    let ledger: Arc<dyn Ledger> = match &journal {
        Some(journal) => journal.clone(),
        None => Arc::new(Forgetful),
    };
    let uploads = Uploads::new(
        store.clone(),
        ledger,
        settings.upload_concurrency,
        settings.doubts.clone(),
    );
    let memory = WriteMemory::new(settings.write_memory);
    let (least, most) = (store.capabilities().part_min, memory.largest_part());
    if least > most {
        return Err(format!(
            "a part of this store has {} at the least, and a quarter of the write memory is {}: give --write-memory {}",
            size_as_given(least),
            size_as_given(most),
            size_as_given(4 * least),
        ));
    }
    let spool = SpoolSpace::new(settings.spool_directory.clone(), settings.spool_limit);
    let works = Works::new(store.clone(), uploads, memory, spool, settings.part_size);
    let cache = settings.cache.as_ref();
    let cache = cache.map(|cache| cache.open(&*store)).transpose()?;
    let read_memory = Arc::new(ReadMemory::new(settings.read_memory).with_disk(cache));
    let fs = Fs::new(
        store.clone(),
        works.clone(),
        read_memory.clone(),
        settings.fs.clone(),
    );
    let sources = Arc::new(Sources {
        source: settings.mount.source.clone(),
        mount_point: settings.mount_point.display().to_string(),
        began,
        store: store.clone(),
        fs: fs.clone(),
        works,
        read_memory,
        journal: journal.clone(),
    });
    let _metrics = match &settings.metrics {
        Some(address) => {
            let served = status::serve_metrics(address, sources.clone()).await;
            let served = served.map_err(|e| format!("cannot serve metrics at {address}: {e}"))?;
            debug!("metrics are at {}", served.at);
            Some(served)
        }
        None => None,
    };
    if let Some(journal) = &journal
        && let Err(error) = status::serve(journal.directory(), sources)
    {
        // The mount is of use without.
        warn!("`wholefs status` will not know of this mount: {error}");
    }

    let told = status::tell_of_repeats();

    // Before the mount: a signal in between must not leave it behind.
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| format!("cannot listen for signals: {e}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| format!("cannot listen for signals: {e}"))?;
    let mut hangup =
        signal(SignalKind::hangup()).map_err(|e| format!("cannot listen for signals: {e}"))?;

    let mut mounted = mount(
        fs.clone(),
        &settings.mount_point,
        &settings.mount,
        tokio::runtime::Handle::current(),
    )
    .map_err(|e| mountpoint::explain(&e, &settings.mount_point))?;
    // While it has its place.
    let connection = fs.mounted().clone();
    ready();
    readiness.ready();
    let what = format!(
        "{} at {}",
        settings.mount.source,
        settings.mount_point.display()
    );
    supervisor::ready(&format!("serving {what}"));
    info!("mounted {what}");
    if let Some(period) = supervisor::watchdog_period() {
        tokio::spawn(async move {
            loop {
                supervisor::alive();
                tokio::time::sleep(period).await;
            }
        });
    }

    let mut broken = None;
    let asked = tokio::select! {
        result = &mut mounted.ended => {
            broken = result.ok().and_then(Result::err);
            if let Some(error) = &broken {
                // At once: what is open still may take its time, and fail as well.
                warn!("the session broke off: {error}");
            }
            None
        }
        _ = terminate.recv() => Some("SIGTERM"),
        _ = interrupt.recv() => Some("SIGINT"),
        _ = hangup.recv() => Some("SIGHUP"),
    };
    let deadline = tokio::time::Instant::now() + settings.shutdown_timeout;
    let patience = settings.shutdown_timeout + AFTERWARDS;
    supervisor::stopping("finishing what is closed", patience);
    let left = match asked {
        None => fs.end(deadline).await,
        Some(signal) => {
            info!(
                "{signal}: finishing what is closed, giving up what is open (up to {:?})",
                settings.shutdown_timeout
            );
            fs.look_who_has_files_open();
            if let Err(error) = mounted.detach() {
                warn!("cannot unmount {}: {error}", settings.mount_point.display());
            }
            tokio::select! {
                left = fs.end(deadline) => left,
                // Whoever asks again does not want to wait.
                () = asked_again(&mut terminate, &mut interrupt) => {
                    fs.end(tokio::time::Instant::now()).await
                }
            }
        }
    };
    drop(told);
    if fuse::is_held_up().await {
        connection.abort();
    }
    if left > 0 {
        return Err(format!(
            "{left} uploads, renames or removals could not be ended in time; the next mount, or `wholefs recover`, ends what it can"
        ));
    }
    if let Some(error) = broken {
        return Err(format!("it ended by itself: {error}"));
    }
    info!("unmounted {}", settings.mount.source);
    Ok(())
}

/// For so long a signal is the same request: who tells every process to end has told the guardian, too, which passes it on.
const THE_SAME: Duration = Duration::from_secs(2);

async fn asked_again(terminate: &mut Signal, interrupt: &mut Signal) {
    let mut later = std::pin::pin!(tokio::time::sleep(THE_SAME));
    let mut is_later = false;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => if is_later { return },
            _ = interrupt.recv() => if is_later { return },
            () = &mut later, if !is_later => is_later = true,
        }
    }
}
