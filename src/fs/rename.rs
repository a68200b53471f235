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

mod directory;
mod file;

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::copies::TRIES;
use super::node::{Kind, Node};
use super::passage::{Passage, Standstill};
use super::{Error, Fs, Result};
use crate::draft::{Draft, Moving};
use crate::store::ListEntry;
use crate::turns::Turn;

/// What a rename may do to a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    Replacing,
    /// RENAME_NOREPLACE
    OntoNothing,
}

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
        let slash = if source.is_directory() { "/" } else { "" };
        let new_key = format!("{}{new_name}{slash}", to.key());
        let doubts = self.works.uploads.doubts();
        doubts.settled(&source.key()).await?;
        doubts.settled(&new_key).await?;
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
            new_key,
            target,
            _passage: passage,
            _held: held,
        };
        // The kernel forgets what a killed caller renamed; it would be another node to who asks next.
        for node in [&whole.source, &whole.to] {
            self.tree.remember(node);
        }
        // A caller who is killed does not stop it half way.
        let fs = self.clone();
        fs.to_its_end(async move {
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
        })
        .await
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
    new_key: String,
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
}

async fn held<'a>(node: &Node, draft: &'a Draft) -> Result<Moving<'a>> {
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
