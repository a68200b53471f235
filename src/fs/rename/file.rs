//! A file's other name: one object copied and deleted, or moved by the store, and what is being written of it taken along.

use std::sync::Arc;

use super::{Rename, held, partly_uploaded};
use crate::draft::Version;
use crate::fs::copies::TRIES;
use crate::fs::moment::Moment;
use crate::fs::node::Kind;
use crate::fs::sample::Found;
use crate::fs::{Error, Result, metadata};
use crate::store::{self, Attributes, ErrorKind};
use crate::upload::ledger::Before;

impl Rename {
    pub(super) async fn file(&self) -> Result<()> {
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
        let (fs, source, new_key) = (&self.fs, &self.source, self.new_key.as_str());
        if source.state().said.is_none() && self.changes_its_type(new_key) {
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
                fs.works.uploads.doubts().settled(new_key).await?;
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
        let in_one_step = fs.store.capabilities().rename && self.said_under(new_key).is_none();
        let moved = match in_one_step {
            true => self.moved(&old_key, new_key).await,
            false => self.copied(&old_key, new_key).await,
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
                let (old, new) = (&old_key, new_key);
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
            moving.to(fs.target(new_key, before), object);
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
}
