//! What the machine gives: processes, mount points, daemons, limits.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod daemon;
pub mod given;
pub mod guardian;
pub mod mountpoint;
pub mod nss;
pub mod process;
pub mod supervisor;

/// Where there is no HOME (in systemd's units) the user's own says where keys and settings are.
/// Must run before any thread is started.
pub fn ensure_home() {
    if std::env::var_os("HOME").is_some_and(|home| !home.is_empty()) {
        return;
    }
    // SAFETY: one thread; the entry is copied before anything else asks for one.
    unsafe {
        let entry = libc::getpwuid(libc::getuid());
        if !entry.is_null() {
            let home = CStr::from_ptr((*entry).pw_dir);
            std::env::set_var("HOME", OsStr::from_bytes(home.to_bytes()));
        }
    }
}

/// Many open files need many descriptors (spools, connections): take what the machine allows.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Hands the memory of very many small things that are no more to the machine, which the allocator keeps to itself
/// as long as anything small lies behind them. Behind whoever calls: it takes a moment.
pub fn give_memory_back() {
    static UNDER_WAY: AtomicBool = AtomicBool::new(false);
    if !cfg!(target_env = "gnu") || UNDER_WAY.swap(true, Ordering::Relaxed) {
        return;
    }
    let giving = std::thread::Builder::new()
        .name("memory".to_string())
        .spawn(|| {
            #[cfg(target_env = "gnu")]
            // SAFETY: it takes a number, and may be called at any time.
            unsafe {
                libc::malloc_trim(0);
            }
            UNDER_WAY.store(false, Ordering::Relaxed);
        });
    // Later, then.
    if giving.is_err() {
        UNDER_WAY.store(false, Ordering::Relaxed);
    }
}

/// A panic is a broken invariant: better to end at once, and let what watches clean up, than to go
/// on with half a truth. One line, no backtrace.
pub fn die_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        let what = info
            .payload()
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        eprintln!(
            "wholefs: internal error{place}: {what}: please report this; uploads under way are ended by the next mount"
        );
        std::process::abort();
    }));
}
