//! The store's clock, as its answers tell it. Which uploads began in which window is a question of
//! that clock, not of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

/// How far the store's clock is ahead of ours, in seconds; reads the `Date` of every answer.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerClock {
    ahead: Arc<AtomicI64>,
}

impl ServerClock {
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let offset = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        if ahead >= 0 {
            now + offset
        } else {
            now - offset
        }
    }

    fn saw(&self, date: &str) {
        let Ok(date) = DateTime::from_str(date, DateTimeFormat::HttpDate) else {
            return;
        };
        let ours = DateTime::from(SystemTime::now()).secs();
        let ahead = date.secs() - ours;
        // Whole seconds differ by one through rounding alone.
        let ahead = if ahead.abs() <= 1 { 0 } else { ahead };
        // A century off is a broken header, not a clock.
        if ahead.abs() < 100 * 366 * 86_400 {
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let said = response.headers().get("date");
        // A gateway that tells for the store that it is not there has a clock of its own.
        if let Some(date) = said.filter(|_| response.status().as_u16() < 500) {
            self.saw(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_clock_is_followed_and_nonsense_is_not() {
        let clock = ServerClock::default();
        let hour = Duration::from_secs(3600);
        let ahead = DateTime::from(SystemTime::now() + hour);
        clock.saw(&ahead.fmt(DateTimeFormat::HttpDate).unwrap());
        let off = clock.now().duration_since(SystemTime::now()).unwrap();
        assert!(off.abs_diff(hour) < Duration::from_secs(2), "{off:?}");
        for nonsense in ["", "yesterday", "Mon, 01 Jan 0001 00:00:00 GMT"] {
            clock.saw(nonsense);
        }
        assert!(clock.now() > SystemTime::now() + hour / 2);
    }
}
