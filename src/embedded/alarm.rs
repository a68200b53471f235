//! Waiting as long as is said, and hardly longer. The runtime's own timer counts whole milliseconds and rounds
//! them up, which is a twentieth of the latency that measurements name.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for `time` at least.
pub(super) async fn pause(time: Duration) {
    if time.is_zero() {
        return;
    }
    match after(time) {
        // That it can be read is all it has to say.
        Ok(alarm) if alarm.readable().await.is_ok() => {}
        // Too many wait already for one more to have a descriptor of its own.
        _ => tokio::time::sleep(time).await,
    }
}

/// Becomes readable then.
fn after(time: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no memory is handed over.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now, and is nobody else's.
    let alarm = unsafe { OwnedFd::from_raw_fd(fd) };
    let never = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at = libc::itimerspec {
        it_interval: never,
        it_value: libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        },
    };
    // SAFETY: `at` outlives the call, and what was set before is not asked for.
    let set = unsafe { libc::timerfd_settime(alarm.as_raw_fd(), 0, &at, std::ptr::null_mut()) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor stays the same, and open, as long as it is there.
    let registered = unsafe { AsyncFd::register_with_interest(alarm, Interest::READABLE) };
    Ok(registered?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn no_pause_is_shorter_than_was_said() {
        let times = [0, 1, 999_999, 1_500_000, 20_000_000, 1_010_000_000];
        for time in times.map(Duration::from_nanos) {
            let began = Instant::now();
            pause(time).await;
            assert!(began.elapsed() >= time, "{time:?}");
        }
    }
}
