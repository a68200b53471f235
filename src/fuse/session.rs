//! A mount: begun, served by event threads, and ended from inside or outside.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fuser::{Config, MountOption, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Frontend;
use super::cache::Notifications;
use super::device::Device;
use crate::fs::Fs;
use crate::host::given::Given;
use crate::host::mountpoint::{self, Mount};

#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Shown as the source in mountinfo.
    pub source: String,
    pub read_only: bool,
    pub no_exec: bool,
    pub allow_other: bool,
    /// Extended attributes are there, to be asked for and to be set.
    pub xattrs: bool,
    pub threads: usize,
    /// It is mounted already.
    pub given: Option<Given>,
}

/// A live mount.
pub struct Mounted {
    /// `None`: somewhere, that cannot be known.
    mount: Option<Mount>,
    /// Resolves when the kernel ended the session.
    pub ended: oneshot::Receiver<io::Result<()>>,
}

/// Mounts and serves; returns when the kernel has answered, so the mount is ready.
pub fn mount(
    fs: Arc<Fs>,
    mount_point: &Path,
    options: &MountOptions,
    runtime: Handle,
) -> io::Result<Mounted> {
    if options.source.contains(',') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a comma in the source would be read as mount options",
        ));
    }
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.source.clone()),
        MountOption::CUSTOM("subtype=wholefs".to_string()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
        if options.read_only {
            MountOption::RO
        } else {
            MountOption::RW
        },
    ];
    if options.no_exec {
        config.mount_options.push(MountOption::NoExec);
    }
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(options.threads.max(1));
    let device = Arc::new(Device::default());
    let frontend = Frontend {
        fs: fs.clone(),
        runtime,
        xattrs: options.xattrs,
        refused_xattr: AtomicBool::new(false),
        device: device.clone(),
    };
    let session = match &options.given {
        None => Session::new(frontend, mount_point, &config)?,
        Some(given) => {
            // Who may come in is the kernel's to say, by what it was mounted with.
            config.acl = SessionACL::All;
            Session::from_fd(frontend, given.take(), config.acl, config)
                .map_err(|e| io::Error::other(format!("nothing is mounted by it: {e}")))?
        }
    };
    device.set(session.as_fd())?;
    // As long as it is there to be looked at.
    fs.mounted();
    let mount = match &options.given {
        None => Some(fs.mounted().as_ref().clone()),
        Some(given) => given.place().map(Mount::at),
    };
    fs.set_kernel_cache(Arc::new(Notifications::start(
        session.notifier(),
        device.clone(),
    )?));
    raise_read_ahead(mount_point);
    let (end, ended) = oneshot::channel();
    let own = options.given.is_none().then(|| mount.clone()).flatten();
    std::thread::Builder::new()
        .name("session".to_string())
        .spawn(move || {
            let result = match session.run() {
                // What an abort of the connection (a forced unmount) looks like.
                Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
                other => other,
            };
            // One that broke off is there still.
            let cleared = own.map(|mount| match result {
                Ok(()) => mount.clear(),
                Err(_) => mount.detach(),
            });
            if let Some(Err(error)) = cleared {
                tracing::debug!(%error, "cannot unmount");
            }
            let _ = end.send(result);
        })?;
    Ok(Mounted { mount, ended })
}

impl Mounted {
    /// Takes the mount point away, also from those who use it: what they have open fails from now on
    /// when this process ends.
    pub fn detach(&self) -> io::Result<()> {
        match &self.mount {
            Some(mount) => mount.detach(),
            None => Err(io::Error::other("whoever mounted it has to unmount it")),
        }
    }
}

/// The kernel reads ahead 128 KiB by default, too little for a distant store. Best effort: root only.
fn raise_read_ahead(mount_point: &Path) {
    const READ_AHEAD_KB: &str = "4096";
    // From mountinfo: asking our own mount for it would be a request to ourselves.
    let device = mountpoint::device(mount_point);
    if let Some(device) = device {
        let _ = std::fs::write(
            format!("/sys/class/bdi/{device}/read_ahead_kb"),
            READ_AHEAD_KB,
        );
    }
}
