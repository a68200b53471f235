//! How much is logged, to be changed while it is.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, Registry, reload};

struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What was said when the log began.
    usual: String,
}

static LEVEL: OnceLock<Level> = OnceLock::new();

/// The word that takes back what was changed.
const USUAL: &str = "usual";

/// A filter of this process's log that [`set`] changes.
pub fn changeable(filter: EnvFilter) -> reload::Layer<EnvFilter, Registry> {
    let usual = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    // A log that was begun before goes on as it is, and this one is not used.
    let _ = LEVEL.set(Level {
        filter: handle,
        usual,
    });
    filter
}

/// Answers what is logged, after it was changed to what is wanted.
pub(super) fn set(wanted: Option<&str>) -> Result<String, String> {
    let level = LEVEL.get().ok_or("this mount has no log")?;
    if let Some(word) = wanted {
        let filter = match word {
            USUAL => level.usual.clone(),
            "error" | "warn" | "info" | "debug" | "trace" => format!("wholefs={word}"),
            _ => {
                return Err(format!(
                    "{word:?} is no level of a log: say error, warn, info, debug, trace or usual"
                ));
            }
        };
        let changed = level.filter.modify(|now| *now = EnvFilter::new(filter));
        changed.map_err(|error| error.to_string())?;
    }
    let now = level.filter.with_current(ToString::to_string);
    now.map_err(|error| error.to_string())
}
