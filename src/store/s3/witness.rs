//! Remembers whose store it was that answered, where an answer tells.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::choice::by_answer;
use super::classify::{REQUEST_IDS, one_line};
use super::dialects::Row;

/// The row an answer gave away, and the header that did.
type Seen = Option<(&'static Row, String)>;

#[derive(Clone, Default)]
pub(super) struct Witness {
    seen: Arc<Mutex<Seen>>,
    names_requests: Arc<AtomicBool>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}

impl Witness {
    pub fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|(row, header)| (*row, one_line(header)))
    }
}

impl Witness {
    /// This store gives its requests names: an answer that has none may be somebody else's.
    pub fn names_requests(&self) -> bool {
        self.names_requests.load(Ordering::Relaxed)
    }
}

impl Intercept for Witness {
    fn name(&self) -> &'static str {
        "Witness"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        if REQUEST_IDS.iter().any(|name| headers.get(name).is_some()) {
            self.names_requests.store(true, Ordering::Relaxed);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_none() {
            *seen = by_answer(|name| headers.get(name));
        }
        Ok(())
    }
}
