//! Archived objects (of the classes GLACIER and DEEP_ARCHIVE): refused to who reads them until somebody has
//! asked for their restore and it is done.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::error::{Error, Result};
use super::model::Object;

/// What was asked for in a bucket, by key.
#[derive(Debug, Default)]
pub(super) struct Restores(HashMap<String, Restore>);

#[derive(Debug)]
struct Restore {
    /// When the object was made that it is of.
    of: SystemTime,
    done: Instant,
    expires: SystemTime,
}

/// What HEAD says of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    UnderWay,
    /// A copy is there, and stays until then.
    Until(SystemTime),
}

/// The answer to who asks for a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is on its way.
    Accepted,
    /// It was there already.
    Done,
}

fn is_archived(object: &Object) -> bool {
    let class = object.attributes.storage_class.as_deref();
    matches!(class, Some("GLACIER" | "DEEP_ARCHIVE"))
}

impl Restores {
    fn of(&self, key: &str, object: &Object) -> Option<&Restore> {
        let found = self.0.get(key);
        found.filter(|restore| restore.of == object.modified)
    }

    pub fn check_readable(&self, key: &str, object: &Object) -> Result<()> {
        let here = |restore: &Restore| restore.done <= Instant::now();
        if !is_archived(object) || self.of(key, object).is_some_and(here) {
            return Ok(());
        }
        let message = "The operation is not valid for the object's storage class";
        Err(Error::new("InvalidObjectState", message))
    }

    pub fn progress(&self, key: &str, object: &Object) -> Option<Progress> {
        let restore = self.of(key, object)?;
        Some(match restore.done <= Instant::now() {
            true => Progress::Until(restore.expires),
            false => Progress::UnderWay,
        })
    }

    pub fn ask(&mut self, key: &str, object: &Object, takes: Duration, days: u32) -> Result<Asked> {
        if !is_archived(object) {
            let message = "Restore is not allowed for the object's current storage class";
            return Err(Error::new("InvalidObjectState", message));
        }
        match self.of(key, object) {
            Some(restore) if restore.done <= Instant::now() => return Ok(Asked::Done),
            Some(_) => {
                let message = "Object restore is already in progress";
                return Err(Error::new("RestoreAlreadyInProgress", message));
            }
            None => {}
        }
        let restore = Restore {
            of: object.modified,
            done: Instant::now() + takes,
            expires: SystemTime::now() + takes + Duration::from_secs(86_400 * u64::from(days)),
        };
        self.0.insert(key.to_owned(), restore);
        Ok(Asked::Accepted)
    }
}
