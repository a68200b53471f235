//! The last warnings and errors of this process, for who asks when the log is far away.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const KEPT: usize = 20;

static LAST: Mutex<VecDeque<Event>> = Mutex::new(VecDeque::new());

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since 1970.
    pub at: u64,
    pub level: String,
    pub message: String,
}

/// A layer that keeps them.
pub struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN || !event.metadata().target().starts_with("wholefs") {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut last = LAST.lock().expect("no panic while held");
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(Event {
            at: now.map_or(0, |now| now.as_secs()),
            level: level.to_string(),
            message: message.0,
        });
    }
}

/// The message, and the fields behind it.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

pub(super) fn all() -> Vec<Event> {
    let last = LAST.lock().expect("no panic while held");
    last.iter().cloned().collect()
}
