//! A directory's other name: everything below it copied, then everything deleted, by an intent that recovery finishes
//! or takes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{info, warn};

use super::{Rename, held};
use crate::draft::{self, Version};
use crate::fs::moment::Moment;
use crate::fs::{Error, Result, node};
use crate::store::{self, ETag, ErrorKind, ListEntry, ObjectInfo};
use crate::upload::ledger::{Before, Intent};

/// Objects of a directory that are copied or deleted at the same time.
const AT_ONCE: usize = 32;

/// A directory with more objects is not renamed: what was copied is kept in memory.
const OBJECTS_MAX: usize = 1_000_000;

/// How often a long rename says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

impl Rename {
    pub(super) async fn directory(&self) -> Result<()> {
        let (fs, source) = (&self.fs, &self.source);
        let (old, new) = (source.key(), self.new_key.clone());
        let mut drafts = Vec::new();
        for node in fs.tree.below(source) {
            if let Some(draft) = self.settled_draft(&node).await? {
                drafts.push((node, draft));
            }
        }
        let mut held_drafts = Vec::new();
        for (node, draft) in &drafts {
            held_drafts.push((node, held(node, draft).await?));
        }
        let mut progress = Progress::new(&old, &new);
        let number = fs.next_number();
        let mut intent = Intent {
            from: old.to_string(),
            to: new.clone(),
            onto_empty: self.target.is_some(),
            at: milliseconds(fs.store.clock()),
            until: None,
            copied: false,
        };
        if let Err(error) = self.intend(number, Some(&intent)).await {
            // It may be there all the same, and nothing is to be ended by it.
            let _ = self.intend(number, None).await;
            return Err(error);
        }
        let mut copies = Copies::default();
        let mut done = self.copy_all(&old, &new, &mut copies, &mut progress).await;
        if done.is_ok() {
            intent.copied = true;
            done = self.intend(number, Some(&intent)).await;
        }
        if let Err(error) = done {
            intent.copied = false;
            self.take_back(copies, number, intent).await;
            return Err(error);
        }
        let copied = copies.made;
        let made: HashMap<&str, &Copied> = copied
            .iter()
            .map(|copy| (copy.rest.as_str(), copy))
            .collect();
        if let Some(target) = &self.target {
            fs.tree.detach(&self.to, target);
        }
        let old_name = source.name();
        // Nobody makes anything of the old name as long as its keys go.
        self.from.state().goes(&old_name);
        fs.tree.rename(source, &self.from, &self.to, &self.new_name);
        {
            let mut state = source.state();
            state.checked = Some(Moment::now());
            state.was_renamed();
        }
        let copy_of = |key: &str| {
            let rest = key.strip_prefix(&*new);
            made.get(rest.expect("nothing moves in a standstill"))
        };
        for node in fs.tree.below(source) {
            if node.is_directory() {
                node.state().was_renamed();
            } else {
                let copy = copy_of(&node.key());
                let mut state = node.state();
                match copy {
                    Some(copy) => state.was_copied(&copy.source, &copy.version),
                    None => (state.object, state.checked) = (None, None),
                }
                state.set_cached(None);
                state.used_mut().commits += 1;
            }
        }
        // A commit of one may be through in no time, and is news.
        for (node, moving) in held_drafts {
            let object = copy_of(&node.key());
            let object = object.map(|copy| (copy.source.clone(), copy.version.etag.clone()));
            let before = object.clone().map(|(_, is)| is);
            let before = before.map_or(Before::Nothing, Before::Version);
            moving.to(fs.target(&node.key(), before), object);
        }
        let deleted = self.delete_all(&old, copied, &mut progress).await;
        let names = std::iter::once(&*old_name);
        self.from.state().gone(names, false);
        fs.tree.drop_if_idle(&self.from);
        // Who is told that it is not whole goes on from what he sees.
        if let Err(error) = self.intend(number, None).await {
            let why = error.why.unwrap_or_default();
            warn!("/{new}: renamed, and kept as if it was not: {why}");
        }
        deleted
    }

    /// Keeps what is being done, for whoever has to end it after a crash.
    async fn intend(&self, number: u64, intent: Option<&Intent>) -> Result<()> {
        let kept = self.fs.works.uploads.ledger().intend(number, intent).await;
        kept.map_err(|error| draft::Error::Journal(Arc::new(error)).into())
    }

    /// Removes the copies of a rename that has failed. What cannot be removed now is by the next mount.
    async fn take_back(&self, copies: Copies, number: u64, mut intent: Intent) {
        let (fs, new) = (&self.fs, intent.to.clone());
        let mut going = copies.made;
        // The empty directory that had the name before.
        going.retain(|copy| !(intent.onto_empty && copy.rest.is_empty()));
        let undo = stream::iter(going).map(|copy| {
            let key = format!("{new}{}", copy.rest);
            async move { fs.store.delete(&key).await.is_err() }
        });
        let left = undo
            .buffer_unordered(AT_ONCE)
            .filter(|left| std::future::ready(*left));
        let left = left.count().await + copies.uncertain;
        self.forget_what_was_known();
        intent.until = Some(milliseconds(fs.store.clock()));
        let kept = self.intend(number, Some(&intent).filter(|_| left > 0));
        if let Err(error) = kept.await {
            warn!("/{new}: {}", error.why.unwrap_or_default());
        }
        if left > 0 {
            warn!("/{new}: {left} copies may be left, and are removed by the next mount");
        }
    }

    /// Copies everything below `old`, its marker last: until then an empty directory that has the new name stays as it is.
    async fn copy_all(
        &self,
        old: &str,
        new: &str,
        copies: &mut Copies,
        progress: &mut Progress,
    ) -> Result<()> {
        let fs = &self.fs;
        let (mut from, mut marker) = (None, Vec::new());
        loop {
            let page = fs.store.list(old, false, from.as_ref(), 1000).await?;
            let mut objects = Vec::new();
            for entry in page.entries {
                match entry {
                    ListEntry::Object(object) if object.key == old => marker.push(object),
                    ListEntry::Object(object) => objects.push(object),
                    ListEntry::Prefix(_) => {}
                }
            }
            if copies.made.len() + objects.len() > OBJECTS_MAX {
                return Err(Error::loud(
                    libc::E2BIG,
                    format!("more than {OBJECTS_MAX} objects are below it: move its parts"),
                ));
            }
            self.copy_these(objects, old, new, copies, progress).await?;
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        self.copy_these(marker, old, new, copies, progress).await
    }

    async fn copy_these(
        &self,
        objects: Vec<ObjectInfo>,
        old: &str,
        new: &str,
        copies: &mut Copies,
        progress: &mut Progress,
    ) -> Result<()> {
        let fs = &self.fs;
        let mut copying = stream::iter(objects)
            .map(|object| async move {
                let rest = object.key[old.len()..].to_string();
                let version = node::version_of(&object);
                let to = format!("{new}{rest}");
                let done = fs
                    .copy_object(&object.key, &version, &to, Before::Nothing, None)
                    .await;
                let source = version.etag;
                done.map(|version| Copied {
                    rest,
                    source,
                    version,
                })
            })
            .buffer_unordered(AT_ONCE);
        let mut failure = None;
        while let Some(copy) = copying.next().await {
            match copy {
                Ok(copy) => {
                    copies.made.push(copy);
                    progress.tell("copied", copies.made.len());
                }
                Err(error) => {
                    copies.uncertain += usize::from(may_be_there(&error));
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn delete_all(
        &self,
        old: &str,
        copied: Vec<Copied>,
        progress: &mut Progress,
    ) -> Result<()> {
        let fs = &self.fs;
        let (mut gone, mut failure) = (0, None);
        let mut deletes = stream::iter(copied)
            .map(|copy| async move { fs.store.delete(&format!("{old}{}", copy.rest)).await })
            .buffer_unordered(AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(()) => {
                    gone += 1;
                    progress.tell("deleted", gone);
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(()),
            Some(error) => {
                self.forget_what_was_known();
                Err(Error::loud(
                    libc::EIO,
                    format!(
                        "all of it is copied, and not all of the old could be deleted: {error}"
                    ),
                ))
            }
        }
    }
}

#[derive(Default)]
struct Copies {
    made: Vec<Copied>,
    /// So many others may be there.
    uncertain: usize,
}

/// A copy that has failed, perhaps behind the store's back: its answer was lost, or what it was made of was looked at afterwards.
fn may_be_there(failure: &store::Error) -> bool {
    let kinds = [
        ErrorKind::Unknown,
        ErrorKind::Transient,
        ErrorKind::Conflict,
    ];
    kinds.contains(&failure.kind)
}

struct Copied {
    /// The key behind the directory's.
    rest: String,
    source: ETag,
    version: Version,
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

struct Progress {
    what: String,
    said: Instant,
}

impl Progress {
    fn new(old: &str, new: &str) -> Progress {
        Progress {
            what: format!("renaming /{old} to /{new}"),
            said: Instant::now(),
        }
    }

    fn tell(&mut self, done: &str, count: usize) {
        if self.said.elapsed() > PROGRESS {
            self.said = Instant::now();
            info!("{}: {count} {done}", self.what);
        }
    }
}
