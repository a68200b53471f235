//! What systemd is told (sd_notify): that the mount serves, what it is doing, that it ends, that it lives.
//! Without systemd nothing is said to nobody.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// A supervisor that is not there, or does not listen, changes nothing for the mount.
fn tell(states: &[NotifyState<'_>]) {
    let _ = notify(false, states);
}

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end may take so long.
pub fn stopping(status: &str, patience: Duration) {
    let patience = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status(status),
        NotifyState::ExtendTimeoutUsec(patience),
    ]);
}

pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be said: twice as often as is asked for. (Which process is meant is not
/// looked at: with a guardian it is the daemon's parent.)
pub fn watchdog_period() -> Option<Duration> {
    let asked = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let period = Duration::from_micros(asked) / 2;
    (!period.is_zero()).then_some(period)
}
