//! Giving files and directories another name. A bucket knows no names, only keys: what is renamed is
//! copied on the server and then deleted under its old key. (Few stores can do it for a file in one step.)
//!
//! Invariants:
//! - The old key is deleted only when the whole object is there under the new one: whoever crashes
//!   between leaves the old name or both, never neither.
//! - Of a directory, nothing is deleted before everything is copied; what is intended is journalled, so
//!   that a crash leaves it whole under one of the names when recovery is through.
//! - Meanwhile nothing changes about it, nor below it ([`passage`](super::passage)).
//! - What is deleted is the version that was copied, as far as we know: whatever another client put
//!   there meanwhile makes the copy fail, and the rename begins anew.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{info, warn};

use super::copies::TRIES;
use super::moment::Moment;
use super::node::{self, Kind, Node};
use super::passage::{Passage, Standstill};
use super::sample::Found;
use super::{Error, Fs, Result, metadata};
use crate::draft::{self, Draft, Version};
use crate::store::{self, Attributes, ETag, ErrorKind, ListEntry, ObjectInfo};
use crate::turns::Turn;
use crate::upload::ledger::{Before, Intent};

/// What a rename may do to a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    Replacing,
    /// RENAME_NOREPLACE
    OntoNothing,
}

/// Objects of a directory that are copied or deleted at the same time.
const AT_ONCE: usize = 32;

/// A directory with more objects is not renamed: what was copied is kept in memory.
const OBJECTS_MAX: usize = 1_000_000;

/// How often a long rename says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

impl Fs {
    pub async fn rename(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        renaming: Renaming,
    ) -> Result<()> {
        let (from, name) = self.place(parent, name)?;
        let to = self.node(new_parent)?;
        let passage = self.passages.enter([&from, &to]).await;
        let new_name = self.name_for_creation(&to, new_name).await?;
        let Some((source, target, held)) = self.held_still(&from, &name, &to, &new_name).await?
        else {
            return Ok(());
        };
        if let Some(target) = &target {
            if renaming == Renaming::OntoNothing {
                return Err(Error::quiet(libc::EEXIST));
            }
            match (source.kind, target.kind) {
                (Kind::File | Kind::Symlink, Kind::Directory) => {
                    return Err(Error::quiet(libc::EISDIR));
                }
                (Kind::Directory, _) if !target.is_directory() => {
                    return Err(Error::quiet(libc::ENOTDIR));
                }
                (Kind::Directory, _) => self.assert_empty(target).await?,
                _ => {}
            }
        }
        self.keep_directory(&from).await?;
        if source.is_directory() {
            self.settle(&source).await?;
        }
        let whole = Rename {
            fs: self.clone(),
            source,
            from,
            to,
            new_name,
            target,
            _passage: passage,
            _held: held,
        };
        // The kernel forgets what a killed caller renamed; it would be another node to who asks next.
        for node in [&whole.source, &whole.to] {
            self.tree.remember(node);
        }
        // A caller who is killed does not stop it half way.
        let done = tokio::spawn(async move {
            let done = whole.perform().await;
            if done.is_ok() {
                whole.from.state().touch();
                whole.to.state().touch();
                whole.source.state().used_mut().changed = Some(SystemTime::now());
            }
            for node in [&whole.source, &whole.to] {
                whole.fs.tree.forget(node.ino, 1);
            }
            done
        });
        done.await.unwrap_or_else(|_| Err(Error::quiet(libc::EIO)))
    }

    /// What has the two names, in turn, and what is renamed at a standstill. `None`: it is the same.
    async fn held_still(
        self: &Arc<Self>,
        from: &Arc<Node>,
        name: &str,
        to: &Arc<Node>,
        new_name: &str,
    ) -> Result<Option<(Arc<Node>, Option<Arc<Node>>, Held)>> {
        for _ in 0..TRIES {
            let source = self.ask_or_known(from, name).await?;
            let target = match self.ask_or_known(to, new_name).await {
                Ok(target) if target.ino == source.ino => return Ok(None),
                Ok(target) => Some(target),
                Err(error) if error.is_missing() => None,
                Err(error) => return Err(error),
            };
            if source.is_directory() && to.key().starts_with(&*source.key()) {
                return Err(Error::quiet(libc::EINVAL));
            }
            if let Some(target) = &target
                && target.is_directory()
                && from.key().starts_with(&*target.key())
            {
                return Err(Error::quiet(libc::ENOTEMPTY));
            }
            if target.is_none() && to.state().directory().going.contains(new_name) {
                return Err(Error::loud(
                    libc::EBUSY,
                    "what had this name is being renamed still; try again",
                ));
            }
            // In one order, lest two who exchange names wait for each other.
            let mut both: Vec<u64> = [Some(&source), target.as_ref()]
                .into_iter()
                .flatten()
                .map(|node| node.ino)
                .collect();
            both.sort_unstable();
            let mut turns = Vec::with_capacity(both.len());
            for ino in both {
                turns.push(self.naming.take(ino).await);
            }
            let standstill = self.passages.stand_still(&source).await;
            let is_still_there = |target: &Arc<Node>| self.is_named(target, to, new_name);
            if self.is_named(&source, from, name) && target.as_ref().is_none_or(is_still_there) {
                let held = Held {
                    _turns: turns,
                    _standstill: standstill,
                };
                return Ok(Some((source, target, held)));
            }
        }
        Err(Error::quiet(libc::ENOENT))
    }

    async fn assert_empty(&self, directory: &Arc<Node>) -> Result<()> {
        // In this order: what is published between the two is in the listing.
        if !self.unpublished(directory).is_empty() {
            return Err(Error::quiet(libc::ENOTEMPTY));
        }
        self.settle(directory).await?;
        let found = self.store.first_below(&directory.key(), 2).await?;
        let mut others = found.iter().filter(
            |entry| !matches!(entry, ListEntry::Object(object) if *object.key == *directory.key()),
        );
        if others.next().is_some() {
            return Err(Error::quiet(libc::ENOTEMPTY));
        }
        Ok(())
    }
}

/// A rename that has been found possible.
struct Rename {
    fs: Arc<Fs>,
    source: Arc<Node>,
    from: Arc<Node>,
    to: Arc<Node>,
    new_name: String,
    target: Option<Arc<Node>>,
    _passage: Passage,
    _held: Held,
}

/// As long as it is there, nobody else takes either name away, and nothing changes about the source.
struct Held {
    _turns: Vec<Turn>,
    _standstill: Standstill,
}

impl Rename {
    async fn perform(&self) -> Result<()> {
        match self.source.kind {
            Kind::Directory => self.directory().await,
            Kind::File | Kind::Symlink => self.file().await,
        }
    }

    fn new_key(&self) -> String {
        let slash = if self.source.is_directory() { "/" } else { "" };
        format!("{}{}{slash}", self.to.key(), self.new_name)
    }

    async fn file(&self) -> Result<()> {
        for _ in 0..TRIES {
            if !self.file_as_it_is_known().await? {
                self.fs.refresh(&self.source).await?;
                self.fs.assert_named(&self.source)?;
                continue;
            }
            return Ok(());
        }
        Err(Error::loud(libc::EBUSY, "another client keeps changing it"))
    }

    /// Answers false if another client has changed it since it became known.
    async fn file_as_it_is_known(&self) -> Result<bool> {
        let (fs, source, new_key) = (&self.fs, &self.source, self.new_key());
        if source.state().said.is_none() && self.changes_its_type(&new_key) {
            fs.refresh(source).await?;
        }
        let _changing = (
            source.change(),
            self.target.as_ref().map(|node| node.change()),
        );
        let draft = self.settled_draft(source).await?;
        // Before anything is asked of the store.
        if draft
            .as_ref()
            .is_some_and(|draft| draft.is_partly_uploaded())
        {
            return Err(partly_uploaded(source));
        }
        // In this order: who publishes a file has its turn, and then waits for what holds it.
        let _parting = match &self.target {
            Some(target) => {
                // What is being published is waited for: it would be lost if the store refuses the rename.
                let _ = self.settled_draft(target).await;
                Some(fs.part_with(target).await?)
            }
            None => None,
        };
        let moving = match &draft {
            Some(draft) => Some(held(source, draft).await.inspect_err(|_| {
                if let Some(target) = &self.target {
                    fs.not_parted(target);
                }
            })?),
            None => None,
        };
        let old_key = source.key();
        let was = source.state().object.clone();
        // Where the store has a way to do that, and nothing else is to be said of it.
        let in_one_step = fs.store.capabilities().rename && self.said_under(&new_key).is_none();
        let moved = match in_one_step {
            true => self.moved(&old_key, &new_key).await,
            false => self.copied(&old_key, &new_key).await,
        };
        if let (Err(_), Some(target)) = (&moved, &self.target) {
            fs.not_parted(target);
        }
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) if error.kind == ErrorKind::Conflict => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if moved.is_some()
            && !in_one_step
            && let Err(error) = fs.store.delete(&old_key).await
        {
            // Both names are there, and the program is told that it did not go well.
            self.forget_what_was_known();
            // What had the new name is replaced all the same.
            if let Some(target) = &self.target {
                fs.parted(&self.to, target);
            }
            return Err(error.into());
        }
        if let Some(draft) = &draft {
            let _ = draft.say(|said| {
                let (old, new) = (&old_key, &new_key);
                if let Some(kind) = metadata::content_type_renamed(said, old, new) {
                    said.content_type = Some(kind);
                }
            });
        }
        // What a commit of it will replace: its own object, or what had the name.
        let replaced = moved.clone().or_else(|| self.replaced());
        let before = replaced
            .as_ref()
            .map_or(Before::Nothing, |v| Before::Version(v.etag.clone()));
        let object = was.zip(moved.as_ref());
        let object = object.map(|(was, is)| (was.etag, is.etag.clone()));
        if let Some(target) = &self.target {
            fs.parted(&self.to, target);
        }
        fs.tree.rename(source, &self.from, &self.to, &self.new_name);
        {
            let mut state = source.state();
            let cached = state.is_cached();
            state.set_cached(moved.clone().filter(|_| cached));
            // What had the name has it in the bucket until the file is published.
            state.object = replaced;
            state.stored_is_unknown();
            state.checked = Some(Moment::now());
            // A sample of where it was tells nothing of where it is.
            state.believe(Found::Something);
            // Who reads it reads on, under its new key.
            state.used_mut().commits += 1;
        }
        // A commit of it may be through in no time, and is news.
        if let Some(moving) = moving {
            moving.to(fs.target(&new_key, before), object);
        }
        fs.heard_of(source);
        Ok(true)
    }

    /// The object that has the new name, as far as it is known.
    fn replaced(&self) -> Option<Version> {
        self.target
            .as_ref()
            .and_then(|target| target.state().object.clone())
    }

    /// The draft of a file, when no commit of it is under way.
    async fn settled_draft(&self, node: &Arc<Node>) -> Result<Option<Arc<Draft>>> {
        while let Some(draft) = node.live_draft() {
            if !draft.is_committing() {
                return Ok(Some(draft));
            }
            self.fs.commit_to_the_end(node, &draft).await?;
        }
        Ok(None)
    }

    /// Has the store give the source's object, if there is one, its new key.
    async fn moved(&self, old_key: &str, new_key: &str) -> store::Result<Option<Version>> {
        let object = self.source.state().object.clone();
        if let Some(object) = &object {
            let renamed = self.fs.store.rename(new_key, old_key, &object.etag);
            renamed.await?;
        }
        Ok(object)
    }

    /// Copies the source's object, if there is one, as it is known.
    async fn copied(&self, old_key: &str, new_key: &str) -> store::Result<Option<Version>> {
        let Some(object) = self.source.state().object.clone() else {
            return Ok(None);
        };
        let before = self.replaced();
        let before = before.map_or(Before::Nothing, |v| Before::Version(v.etag));
        let said = self.said_under(new_key);
        let copied = self
            .fs
            .copy_object(old_key, &object, new_key, before, said.as_ref());
        let version = copied.await?;
        if let Some(said) = said {
            self.source.state().said = Some(Arc::new(said));
        }
        Ok(Some(version))
    }

    /// Is its new name one of another Content-Type?
    fn changes_its_type(&self, new_key: &str) -> bool {
        let new = metadata::content_type(new_key);
        self.source.kind == Kind::File
            && new.is_some()
            && new != metadata::content_type(&self.source.key())
    }

    /// What is to be said of it under its new key, if that is something else than now.
    fn said_under(&self, new_key: &str) -> Option<Attributes> {
        if !self.changes_its_type(new_key) {
            return None;
        }
        let said = self.source.state().said.clone()?;
        let renamed = metadata::content_type_renamed(&said, &self.source.key(), new_key)?;
        Some(Attributes {
            content_type: Some(renamed),
            ..Attributes::clone(&said)
        })
    }

    fn forget_what_was_known(&self) {
        for node in [Some(&self.source), self.target.as_ref()]
            .into_iter()
            .flatten()
        {
            node.state().checked = None;
        }
        for directory in [&self.from, &self.to] {
            directory.state().doubt();
        }
    }

    async fn directory(&self) -> Result<()> {
        let (fs, source) = (&self.fs, &self.source);
        let (old, new) = (source.key(), self.new_key());
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

async fn held<'a>(node: &Node, draft: &'a Draft) -> Result<crate::draft::Moving<'a>> {
    let held = draft.hold_to_move().await;
    held.ok_or_else(|| partly_uploaded(node))
}

fn partly_uploaded(node: &Node) -> Error {
    Error::loud(
        libc::EBUSY,
        format!(
            "/{} is being written and partly uploaded to where it is; rename it when it is closed",
            node.key()
        ),
    )
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
