//! Directories and their names: reading them, making and removing them, taking files' names away.
//!
//! A directory is a marker object (`name/`), or just the beginning of other keys. One that loses its
//! last file does not vanish: it gets its marker then.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::warn;

use super::listing::{Listed, Listing, Read};
use super::node::{Answer, Heard, Kind, Node, ROOT, State};
use super::passage::Passage;
use super::{Attributes, Caller, Error, Fs, Result};
use crate::store::ListEntry;

impl Fs {
    pub fn open_directory(&self, ino: u64) -> Result<u64> {
        let node = self.node(ino)?;
        if !node.is_directory() {
            return Err(Error::quiet(libc::ENOTDIR));
        }
        let handle = self.next_number();
        self.listings
            .lock()
            .expect("no panic while held")
            .insert(handle, Arc::new(Listing::new(node)));
        Ok(handle)
    }

    pub fn close_directory(&self, handle: u64) {
        self.listings
            .lock()
            .expect("no panic while held")
            .remove(&handle);
    }

    pub fn listing(&self, handle: u64) -> Result<Arc<Listing>> {
        self.listings
            .lock()
            .expect("no panic while held")
            .get(&handle)
            .cloned()
            .ok_or_else(|| Error::quiet(libc::EBADF))
    }

    /// The node of a listed entry, with what the listing knows of it. `None`: its name is gone since.
    pub fn node_of(
        &self,
        parent: &Arc<Node>,
        listed: &Listed<'_>,
    ) -> Option<(Arc<Node>, Attributes)> {
        // A listing does not tell a symbolic link from a file.
        let known = self.tree.child(parent, listed.name);
        let is_symlink = known
            .as_ref()
            .is_some_and(|known| known.kind == Kind::Symlink);
        let kind = match listed.kind {
            Kind::File if is_symlink => Kind::Symlink,
            kind => kind,
        };
        let (asked, name) = (listed.asked, listed.name);
        let node = match listed.object {
            Some(seen) => {
                let now = Some(seen);
                let saw = |state: &mut State| state.saw_version(seen, asked);
                let (node, heard) =
                    self.found(parent, name, known, kind, Answer { asked, now }, saw)?;
                if heard == Heard::Noted {
                    self.believe(parent, &node, listed.found);
                }
                node
            }
            None => {
                let its = |known: &Arc<Node>| {
                    known.kind == kind || (!known.is_directory() && !known.is_news(asked))
                };
                let node = match known.filter(its) {
                    Some(known) => known,
                    None => self.tree.ensure(parent, name, kind)?,
                };
                if node.is_directory() {
                    let mut state = node.state();
                    state.checked = state.checked.max(Some(asked));
                }
                node
            }
        };
        let attributes = self.attributes(&node);
        Some((node, attributes))
    }

    pub fn remember(&self, node: &Arc<Node>) {
        self.tree.remember(node);
    }

    /// Whoever read it knows what was given out: if that was all, what is not among it is not there.
    pub fn note_read(&self, directory: &Node, read: Read) {
        if let Read::All { began, doubts } = read {
            directory.state().knows_all(began, doubts);
        }
    }

    /// What this directory has of files, and of directories of files, that the bucket does not have yet.
    pub(super) fn unpublished(&self, directory: &Node) -> HashMap<String, Kind> {
        let mut found = HashMap::new();
        for file in self.written.now() {
            let mut below = file;
            while let Some(above) = below.above().filter(|above| self.tree.has(above, &below)) {
                if above.ino == directory.ino {
                    found.insert(below.name().into(), below.kind);
                    break;
                }
                below = above;
            }
        }
        found
    }

    pub async fn mkdir(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        caller: Caller,
    ) -> Result<Arc<Node>> {
        let (parent, name, passage) = self.place_for_creation(parent, name).await?;
        match self.ask_or_known(&parent, &name).await {
            Ok(_) => return Err(Error::quiet(libc::EEXIST)),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        if parent.key().len() + name.len() + 1 > self.store.capabilities().key_max {
            return Err(Error::quiet(libc::ENAMETOOLONG));
        }
        let doubts = self.works.uploads.doubts();
        doubts.settled(&format!("{}{name}/", parent.key())).await?;
        let node = self.new_node(&parent, &name, Kind::Directory)?;
        let said = self.said_of_new(Kind::Directory, &parent, &name, mode, caller);
        let (fs, made) = (self.clone(), node.clone());
        // A caller who is killed does not stop it half way.
        let put = self.to_its_end(async move {
            let _passage = passage;
            let put = fs.put_marker(&made, said).await;
            match &put {
                Ok(()) => {
                    fs.note_made(&made);
                    parent.state().touch();
                }
                Err(_) => fs.tree.detach(&parent, &made),
            }
            put
        });
        put.await?;
        self.tree.remember(&node);
        Ok(node)
    }

    pub(super) async fn ask_or_known(
        self: &Arc<Self>,
        parent: &Arc<Node>,
        name: &str,
    ) -> Result<Arc<Node>> {
        self.keep_known(parent);
        match self.known(parent, name) {
            Some(known) => known,
            None => self.ask(parent, name).await,
        }
    }

    pub async fn rmdir(self: &Arc<Self>, parent: u64, name: &OsStr) -> Result<()> {
        let (parent, name) = self.place(parent, name)?;
        let passage = self.passages.enter([&parent]).await;
        let (node, turn) = self.in_turn(&parent, &name).await?;
        if !node.is_directory() {
            return Err(Error::quiet(libc::ENOTDIR));
        }
        if !self.unpublished(&node).is_empty() {
            return Err(Error::quiet(libc::ENOTEMPTY));
        }
        self.settle(&node).await?;
        self.works.uploads.doubts().settled(&node.key()).await?;
        let found = self.store.first_below(&node.key(), 2).await?;
        let mut marker = node.state().directory().marker;
        for entry in &found {
            match entry {
                ListEntry::Object(object) if *object.key == *node.key() => marker = true,
                ListEntry::Object(object) => {
                    let rest = object.key.strip_prefix(&*node.key()).unwrap_or(&object.key);
                    if !rest.split('/').all(super::names::is_name) && !rest.ends_with('/') {
                        return Err(Error::loud(
                            libc::ENOTEMPTY,
                            format!(
                                "it still holds the key {:?}, which cannot be shown as a file; remove it with an S3 client",
                                object.key
                            ),
                        ));
                    }
                    return Err(Error::quiet(libc::ENOTEMPTY));
                }
                ListEntry::Prefix(_) => return Err(Error::quiet(libc::ENOTEMPTY)),
            }
        }
        // A caller who is killed does not stop it half way.
        let fs = self.clone();
        self.to_its_end(async move {
            let _held = (passage, turn);
            fs.keep_directory(&parent).await?;
            if marker {
                fs.store.delete(&node.key()).await?;
            }
            parent.state().touch();
            fs.tree.detach(&parent, &node);
            Ok(())
        })
        .await
    }

    /// Takes a file's name away. What is being written under it is never published.
    pub async fn unlink(self: &Arc<Self>, parent: u64, name: &OsStr, caller: u32) -> Result<()> {
        let (parent, name) = self.place(parent, name)?;
        let passage = self.passages.enter([&parent]).await;
        let (node, turn) = self.in_turn(&parent, &name).await?;
        if node.is_directory() {
            return Err(Error::quiet(libc::EISDIR));
        }
        self.works.uploads.doubts().settled(&node.key()).await?;
        if !self.leaves_others(&parent, &node) {
            self.keep_directory(&parent).await?;
        }
        if !self.sweep(&parent, &node).await {
            // A caller who is killed does not stop it half way.
            let (fs, parent, node) = (self.clone(), parent.clone(), node.clone());
            self.to_its_end(async move {
                let _held = (passage, turn);
                fs.remove(&parent, &node).await
            })
            .await?;
        }
        parent.state().lost_a_name(caller);
        node.state().used_mut().changed = Some(SystemTime::now());
        Ok(())
    }

    async fn remove(self: &Arc<Self>, parent: &Node, node: &Arc<Node>) -> Result<()> {
        let _changing = node.change();
        let parting = self.part_with(node).await?;
        if parting.published
            && let Err(error) = self.store.delete(&node.key()).await
        {
            self.not_parted(node);
            return Err(error.into());
        }
        self.parted(parent, node);
        Ok(())
    }

    /// A directory that is only the beginning of other keys must not vanish with the last of them.
    pub(super) async fn keep_directory(&self, directory: &Arc<Node>) -> Result<()> {
        {
            let state = directory.state();
            let more_known = state
                .complete_for()
                .is_some_and(|long| long < self.options.metadata_ttl)
                && state.directory().children.len() > 1;
            if state.directory().marker || more_known {
                return Ok(());
            }
        }
        // What is to go is no reason to stay.
        self.sweeps.settle(&directory.key()).await;
        // Two keys or more: another stays (if that one goes too, it comes by here).
        let found = self.store.first_below(&directory.key(), 2).await?;
        let marker = found
            .iter()
            .any(|e| matches!(e, ListEntry::Object(o) if *o.key == *directory.key()));
        if marker {
            directory.state().directory_mut().marker = true;
        } else if found.len() < 2 {
            let said = directory.state().said.clone().unwrap_or_default();
            self.put_marker(directory, (*said).clone()).await?;
        }
        Ok(())
    }

    pub(super) fn new_node(&self, parent: &Arc<Node>, name: &str, kind: Kind) -> Result<Arc<Node>> {
        let node = self.tree.ensure(parent, name, kind);
        // Somebody took the name away since its end was waited for.
        node.ok_or(Error::quiet(libc::EBUSY))
    }

    /// Where something is made.
    pub(super) async fn place_for_creation(
        &self,
        parent: u64,
        name: &OsStr,
    ) -> Result<(Arc<Node>, String, Passage)> {
        let parent = self.node(parent)?;
        let passage = self.passages.enter([&parent]).await;
        let name = self.name_for_creation(&parent, name).await?;
        Ok((parent, name, passage))
    }

    /// Waits for the end of what had the name, if that is on its way.
    pub(super) async fn name_for_creation(&self, parent: &Node, name: &OsStr) -> Result<String> {
        self.assert_goes_on()?;
        match super::names::component(name) {
            Ok(component)
                if parent.key().len() + component.len() > self.store.capabilities().key_max =>
            {
                warn!(
                    "/{}{component}: longer than the {} bytes the store takes as a key",
                    parent.key(),
                    self.store.capabilities().key_max
                );
                Err(Error::quiet(libc::ENAMETOOLONG))
            }
            Ok(component) if !super::names::can_be_made(component) => Err(not_in_xml(component)),
            Ok(component) if parent.ino == ROOT && super::names::is_blank(component) => Err(
                Error::loud(libc::EINVAL, "a key that is all blank cannot be asked for"),
            ),
            Ok(component) => {
                let key = format!("{}{component}", parent.key());
                self.sweeps.settle(&key).await;
                Ok(component.to_string())
            }
            Err(super::names::BadName::TooLong) => Err(Error::quiet(libc::ENAMETOOLONG)),
            Err(super::names::BadName::NotUtf8) => Err(Error::loud(
                libc::EILSEQ,
                format!("{name:?}: keys are UTF-8; this name is not"),
            )),
        }
    }
}

pub(super) fn not_in_xml(name: &str) -> Error {
    Error::loud(
        libc::EILSEQ,
        format!("{name:?}: XML has no way to say this name, so an upload to it could not be ended"),
    )
}
