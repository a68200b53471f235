//! Names of which it is not known yet what an earlier request will have done to them: a Complete that nobody answered
//! may be applied still, over whatever comes to its key meanwhile. So nothing does, until it is known.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::driver::pause;
use super::ending::SETTLING;
use crate::store::{Error, ErrorKind};

/// So long a close waits for what is in doubt: longer than a store that answers leaves it so.
const LONGEST: Duration = Duration::from_secs(60);

/// And so long who removes or renames something: the kernel keeps everybody else out of the directory meanwhile.
const OF_A_NAME: Duration = Duration::from_secs(10);

/// Keys in doubt; a directory's (with its slash, or nothing for the root) stands for all below it.
#[derive(Clone, Debug, Default)]
pub struct Doubts(Arc<watch::Sender<Vec<String>>>);

/// A key is in doubt for as long as this lives.
#[derive(Debug)]
pub struct Doubt {
    doubts: Doubts,
    key: String,
}

impl Doubts {
    pub fn about(&self, key: &str) -> Doubt {
        self.0.send_modify(|keys| keys.push(key.to_string()));
        Doubt {
            doubts: self.clone(),
            key: key.to_string(),
        }
    }

    /// Waits until a key, or all below a directory's, is in no doubt: for whoever takes a name away, or gives one.
    pub async fn settled(&self, key: &str) -> Result<(), Error> {
        self.settled_within(key, OF_A_NAME).await
    }

    /// The same, for whoever publishes a file.
    pub async fn settled_for_long(&self, key: &str) -> Result<(), Error> {
        self.settled_within(key, LONGEST).await
    }

    async fn settled_within(&self, key: &str, longest: Duration) -> Result<(), Error> {
        let touches = |doubted: &String| {
            let lies_in = |inner: &str, outer: &str| {
                (outer.is_empty() || outer.ends_with('/')) && inner.starts_with(outer)
            };
            doubted == key || lies_in(doubted, key) || lies_in(key, doubted)
        };
        let mut keys = self.0.subscribe();
        let settled = keys.wait_for(|keys| !keys.iter().any(touches));
        match tokio::time::timeout(longest, settled).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error {
                kind: ErrorKind::Transient,
                operation: "CompleteMultipartUpload",
                key: key.to_string(),
                code: "Unsettled".to_string(),
                message: "what was written to it before may be published yet: the store has not said what became of it"
                    .to_string(),
                request_id: None,
            }),
        }
    }
}

impl Doubt {
    /// Lets go of it when what nobody waits for any more has been applied, or never will be.
    pub fn lapse(self) {
        tokio::spawn(async move {
            tokio::time::sleep(pause(SETTLING, true)).await;
            drop(self);
        });
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.doubts.0.send_modify(|keys| {
            let at = keys.iter().position(|key| *key == self.key);
            keys.swap_remove(at.expect("it is in doubt"));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lies_in_doubt_is_waited_for_and_nothing_else() {
        let doubts = Doubts::default();
        let is_settled = async |key: &str| {
            let long = Duration::from_secs(1);
            let settled = tokio::time::timeout(long, doubts.settled(key)).await;
            settled.is_ok()
        };
        let (file, directory) = (doubts.about("a/file"), doubts.about("b/"));
        for (key, free) in [
            ("a/file", false),
            ("a/", false),
            ("a/file2", true),
            ("a", true),
            ("b/", false),
            ("b/c", false),
            ("b/c/", false),
            ("bc", true),
            ("c", true),
        ] {
            assert_eq!(is_settled(key).await, free, "{key}");
        }
        let again = doubts.about("a/file");
        drop(file);
        assert!(!is_settled("a/file").await, "another one is there");
        let refused = doubts.settled("a/file").await.map_err(|error| error.kind);
        assert_eq!(
            refused,
            Err(ErrorKind::Transient),
            "it is not waited for for ever"
        );
        drop((again, directory));
        assert!(is_settled("a/file").await && is_settled("b/c").await);
    }
}
