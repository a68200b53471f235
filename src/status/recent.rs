//! The last warnings and errors of this process, for who asks when the log is far away.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::said::said;

const KEPT: usize = 20;

static LAST: Mutex<VecDeque<Event>> = Mutex::new(VecDeque::new());

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Seconds since 1970.
    pub at: u64,
    pub level: String,
    pub message: String,
    /// How often the very same was said.
    pub times: u64,
}

/// A layer that keeps what it is given.
pub struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        keep(
            &mut LAST.lock().expect("no panic while held"),
            Event {
                at: now.map_or(0, |now| now.as_secs()),
                level: event.metadata().level().to_string(),
                message: said(event),
                times: 1,
            },
        );
    }
}

/// The newest last; what was said before moves there.
fn keep(last: &mut VecDeque<Event>, event: Event) {
    let same = |old: &Event| old.level == event.level && gist(&old.message) == gist(&event.message);
    let before = last.iter().position(same).and_then(|at| last.remove(at));
    if last.len() == KEPT {
        last.pop_front();
    }
    let times = before.map_or(0, |before| before.times) + event.times;
    last.push_back(Event { times, ..event });
}

/// The store has another name for each request.
fn gist(message: &str) -> &str {
    message.split(" (request ").next().unwrap_or_default()
}

pub(super) fn all() -> Vec<Event> {
    let last = LAST.lock().expect("no panic while held");
    last.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_kept_once_and_counted() {
        let mut last = VecDeque::new();
        let said = |at, message: &str| Event {
            at,
            level: "WARN".to_string(),
            message: message.to_string(),
            times: 1,
        };
        for at in 0..100 {
            keep(&mut last, said(at, &format!("{}", at % 3)));
        }
        let kept: Vec<_> = last.iter().map(|event| (event.at, event.times)).collect();
        assert_eq!(kept, [(97, 33), (98, 33), (99, 34)]);
        for at in 0..100 {
            keep(&mut last, said(at, &format!("another {at}")));
        }
        assert_eq!(last.len(), KEPT);
    }
}
