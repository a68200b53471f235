//! What the machine gives: processes, mount points, daemons, limits.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod beginning;
pub mod daemon;
pub mod feeder;
pub mod given;
pub mod guardian;
pub mod hearer;
pub mod holders;
pub mod journald;
pub mod memory;
pub mod mountpoint;
pub mod nss;
pub mod process;
pub mod signals;
pub mod supervisor;
mod told;

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

/// A user's number, by that or by name.
pub fn user(text: &str) -> Result<u32, String> {
    let name = CString::new(text).unwrap_or_default();
    let number = text.parse().ok().or_else(|| {
        // SAFETY: the name ends, and the entry is read before anything else asks for one.
        unsafe { libc::getpwnam(name.as_ptr()).as_ref() }.map(|entry| entry.pw_uid)
    });
    // The last one means "nobody said".
    let number = number.filter(|&number| number != u32::MAX);
    number.ok_or_else(|| format!("there is no user {text:?}: give a name, or a number"))
}

/// A group's number, likewise.
pub fn group(text: &str) -> Result<u32, String> {
    let name = CString::new(text).unwrap_or_default();
    let number = text.parse().ok().or_else(|| {
        // SAFETY: the name ends, and the entry is read before anything else asks for one.
        unsafe { libc::getgrnam(name.as_ptr()).as_ref() }.map(|entry| entry.gr_gid)
    });
    let number = number.filter(|&number| number != u32::MAX);
    number.ok_or_else(|| format!("there is no group {text:?}: give a name, or a number"))
}

/// Signals that mean nothing here, and would end the process: a mount is not to go because somebody asks all daemons
/// to open their logs again, nor because one file of its own may not grow (who writes that is told). What is forked off has
/// it so, too.
pub fn mind_no_stray_signals() {
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGXFSZ] {
        // SAFETY: no handler of ours is involved.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
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
        let line = format!(
            "internal error{place}: {what}: please report this; uploads under way are ended by the next mount"
        );
        eprintln!("wholefs: {line}");
        // In the background nobody reads that.
        tracing::error!("{line}");
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_numbers_and_names() {
        assert_eq!((user("17"), group("17")), (Ok(17), Ok(17)));
        assert_eq!((user("root"), group("root")), (Ok(0), Ok(0)));
        for text in ["", "no such name", "-1", "4294967296"] {
            let (user, group) = (user(text).expect_err(text), group(text).expect_err(text));
            assert!(user.contains("no user") && group.contains("no group"));
        }
    }
}
