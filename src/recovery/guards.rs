//! What a recovery has yet to publish, copy or delete is in doubt for the mount that serves meanwhile: each key until its own
//! end is known.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Which;
use crate::journal::Instance;
use crate::upload::{Doubt, Doubts};

/// The mount that recovers others; by default none.
#[derive(Clone, Debug, Default)]
pub struct Guarding {
    doubts: Doubts,
    /// What the mount's own keys begin with.
    prefix: String,
}

/// The keys of one dead instance, by its own names.
pub struct Guards(Mutex<HashMap<String, Vec<Doubt>>>);

impl Guarding {
    pub fn new(doubts: &Doubts, prefix: &str) -> Guarding {
        Guarding {
            doubts: doubts.clone(),
            prefix: with_slash(prefix),
        }
    }

    /// From now on what this instance has begun is in doubt.
    pub fn of(&self, instance: &Instance) -> Guards {
        let theirs = with_slash(&instance.identity().prefix);
        let rolls = instance
            .open
            .iter()
            .filter(|upload| Which::RollForwards.holds(upload));
        let renamed = (instance.intents.iter()).flat_map(|(_, intent)| [&intent.from, &intent.to]);
        let mut guards: HashMap<String, Vec<Doubt>> = HashMap::new();
        for key in rolls.map(|upload| &upload.key).chain(renamed) {
            let whole = format!("{theirs}{key}");
            // All of this mount may lie below a directory that was renamed.
            let is_all = whole.ends_with('/') && self.prefix.starts_with(&whole);
            let ours = match is_all {
                true => Some(""),
                false => whole.strip_prefix(&self.prefix),
            };
            if let Some(ours) = ours {
                let doubt = self.doubts.about(ours);
                guards.entry(key.clone()).or_default().push(doubt);
            }
        }
        Guards(Mutex::new(guards))
    }
}

impl Guards {
    pub(super) fn take(&self, key: &str) -> Option<Doubt> {
        let mut guards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guards.get_mut(key)?.pop()
    }
}

/// A prefix as keys begin with it.
pub fn with_slash(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') {
        prefix.to_string()
    } else {
        format!("{prefix}/")
    }
}
