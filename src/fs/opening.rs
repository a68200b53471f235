//! Opening files: made, truncated, or as they are; which version an open file reads, and whether the kernel may
//! keep pages of it.

use std::ffi::OsStr;
use std::sync::Arc;

use super::file::{Pin, Use, fed, to_be_looked_up};
use super::node::{Kind, Name, Node};
use super::{Attributes, Caller, Error, Fs, Result};
use crate::draft::{Base, Draft, Reshape, Version};
use crate::read::{Pages, Reader};
use crate::store::{Archive, ErrorKind};

/// How an open was answered.
pub struct Opened {
    pub handle: u64,
    /// Reads and writes bypass the page cache.
    pub direct: bool,
    /// What the page cache holds of this inode is of the version opened.
    pub keep_cache: bool,
    /// It was made by being opened: closing it publishes it, if nobody writes it.
    pub is_new: bool,
}

/// What a draft begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing, which is to be published.
    Nothing,
    /// The object as it is, if there is one.
    Object,
}

enum Attached {
    Draft(Arc<Draft>),
    /// Another client has given its name to something else.
    Lost,
    /// It is just made another version.
    NotYet,
}

impl Fs {
    /// Creates a file, or opens one that came to be meanwhile.
    pub async fn create(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        flags: i32,
        mode: u32,
        caller: Caller,
        tid: u32,
    ) -> Result<(Arc<Node>, Attributes, Opened)> {
        let feeders = fed(tid);
        let (parent, name, passage) = self.place_for_creation(parent, name).await?;
        self.keep_known(&parent);
        // The kernel looked the name up a moment ago; that answer holds for this call.
        let existing = match self.known(&parent, &name) {
            Some(known) => known,
            None if self.was_absent(parent.ino, &name) => Err(Error::quiet(libc::ENOENT)),
            None => self.ask(&parent, &name).await,
        };
        let node = match existing {
            Ok(_) if flags & libc::O_EXCL != 0 => return Err(Error::quiet(libc::EEXIST)),
            Ok(node) if node.is_directory() => return Err(Error::quiet(libc::EISDIR)),
            Ok(node) => {
                // Who opens it needs one there, and may have to wait for it.
                drop(passage);
                let opened = self.open(node.ino, flags, tid).await?;
                self.tree.remember(&node);
                return Ok((node.clone(), self.attributes(&node), opened));
            }
            Err(error) if error.is_missing() => self.new_node(&parent, &name, Kind::File)?,
            Err(error) => return Err(error),
        };
        let draft = self.attach_new_draft(&node, Over::Nothing).await?;
        let said = self.said_of_new(Kind::File, &parent, &name, mode, caller);
        let _ = draft.say(|new| *new = said);
        if flags & libc::O_ACCMODE == libc::O_RDWR {
            draft.keep_all();
        }
        let mut used = Use::of(draft);
        used.feeders = feeders;
        let handle = self.add_file(node.clone(), flags, tid, used);
        parent.state().touch();
        self.tree.remember(&node);
        let attributes = self.attributes(&node);
        Ok((
            node,
            attributes,
            Opened {
                handle,
                direct: true,
                keep_cache: false,
                is_new: true,
            },
        ))
    }

    pub async fn open(self: &Arc<Self>, ino: u64, flags: i32, tid: u32) -> Result<Opened> {
        loop {
            let node = self.node(ino)?;
            // Who opens to read may truncate, too.
            if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC != 0 {
                self.truncate(ino, None, 0, tid).await?;
            }
            let opened = self.open_as_it_is(&node, flags, tid).await?;
            // Its name is going, and those who have it open may have been seen to before. Where the name leads then, or
            // that it leads nowhere, the kernel finds out.
            // (Who begins it anew has his draft, which is seen to itself.)
            let begins = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_TRUNC != 0;
            // (It may also have gone in the meantime.)
            let goes = self.parting.are_taken(&ino) || self.assert_named(&node).is_err();
            if begins || !goes {
                return Ok(opened);
            }
            drop(self.remove_file(opened.handle));
            self.parting.until_free(&ino).await;
            let named = self.assert_named(&node);
            self.tree.drop_if_idle(&node);
            named?;
        }
    }

    async fn open_as_it_is(&self, node: &Arc<Node>, flags: i32, tid: u32) -> Result<Opened> {
        let truncates = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_TRUNC != 0;
        let _passage = match truncates {
            true => Some(self.passages.enter([node]).await),
            false => None,
        };
        if node.is_directory() {
            return Err(Error::quiet(libc::EISDIR));
        }
        self.assert_goes_on()?;
        let mode = flags & libc::O_ACCMODE;
        let writes = mode != libc::O_RDONLY;
        let mut used = Use::default();
        if writes {
            used.feeders = fed(tid);
        }
        if writes && !super::names::can_be_made(&node.key()) {
            return Err(super::directory::not_in_xml(&node.key()));
        }
        if writes && flags & libc::O_TRUNC != 0 {
            let keeps = self.options.keeps_metadata && node.state().said.is_none();
            // Its mode and owner stay; and what is there now is what nobody else may replace.
            if (keeps || self.options.fail_on_conflict) && node.live_draft().is_none() {
                self.refresh(node).await.map_err(to_be_looked_up)?;
            }
            self.assert_named(node)?;
            let draft = self.truncated_draft(node).await?;
            used.draft = Some(draft);
        } else if node.live_draft().is_none() {
            // What another client changed is seen at once on open.
            self.refresh(node).await.map_err(to_be_looked_up)?;
            self.assert_at_hand(node).await?;
        }
        self.assert_named(node)?;
        if mode == libc::O_RDWR
            && let Some(draft) = &used.draft
        {
            draft.keep_all();
        }
        if mode != libc::O_WRONLY
            && let Some(draft) = node.live_draft()
        {
            draft.keep_all();
        }
        let direct = writes || node.live_draft().is_some();
        // What it opens it as stays what it is from here on.
        let _open = node.hold_open(writes);
        if !direct {
            let pages = |object: &Base| self.pages_of(node, object);
            used.pin = self.pin(node, pages)?;
        }
        let keep_cache = {
            let mut state = node.state();
            !direct && state.fill_pages()
        };
        if !keep_cache {
            self.pages_settled(node).await;
        }
        let handle = self.add_file(node.clone(), flags, tid, used);
        Ok(Opened {
            handle,
            direct,
            keep_cache,
            is_new: false,
        })
    }

    /// Its name leads elsewhere now? The kernel looks it up again.
    pub(super) fn assert_named(&self, node: &Node) -> Result<()> {
        let has_name = node.state().has_name();
        match !has_name && node.live_draft().is_none() {
            true => Err(Error::quiet(libc::ESTALE)),
            false => Ok(()),
        }
    }

    /// Is it in an archive? Then nobody could read it, nor change a part of it. Asks for its restore, if that
    /// is wanted.
    async fn assert_at_hand(&self, node: &Node) -> Result<()> {
        let (archive, object) = {
            let state = node.state();
            (state.used().archive, state.object.clone())
        };
        let (Some(archive), Some(object)) = (archive, object) else {
            return Ok(());
        };
        let key = node.key();
        // Only a read tells whether a class of that name is an archive here.
        let first = 0..object.size.min(1);
        let refused = match self.store.get(&key, &object.etag, first).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == ErrorKind::Archived => error,
            Err(error) => return Err(error.into()),
        };
        let later = |what: &str| Error::loud(libc::EAGAIN, format!("{refused}: {what}"));
        match (archive, self.options.restore_archived) {
            (Archive::BeingRestored, _) => Err(later(
                "it is being restored from its archive: open it again later",
            )),
            (_, None) => Err(later(
                "it is in an archive: restore it first, or mount with --restore-archived",
            )),
            (_, Some(days)) => {
                let days = (archive == Archive::Class).then_some(days);
                let asked = self.store.restore(&key, days).await;
                asked.map_err(|error| {
                    Error::loud(
                        libc::EACCES,
                        format!("{error}: its restore could not be asked for"),
                    )
                })?;
                Err(later(
                    "its restore from the archive was asked for and is on its way: open it again later",
                ))
            }
        }
    }

    /// A draft that starts from nothing: what was being written ends now.
    async fn truncated_draft(&self, node: &Arc<Node>) -> Result<Arc<Draft>> {
        loop {
            match node.live_draft() {
                None => return self.attach_new_draft(node, Over::Nothing).await,
                Some(draft) => match draft.reshape(&Reshape::Truncate(0)).await {
                    Ok(()) => return Ok(draft),
                    // It ended while we waited for its lock.
                    Err(_) if draft.outcome().is_some() => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    /// A draft, once nothing of the version before is being given to the kernel. Not of a file whose name another client
    /// has given to something else: nothing would come of it.
    pub(super) async fn attach_new_draft(
        &self,
        node: &Arc<Node>,
        over: Over,
    ) -> Result<Arc<Draft>> {
        // No more is given from here on.
        let _open = node.hold_open(true);
        self.pages_settled(node).await;
        loop {
            if let Some(draft) = node.live_draft() {
                return Ok(draft);
            }
            // A version that is being made is there in a moment, and the one before is past.
            node.revised().await;
            match self.attach(node, over, |node| !node.is_revised()) {
                Attached::Draft(draft) => return Ok(draft),
                Attached::Lost => return Err(Error::quiet(libc::ESTALE)),
                Attached::NotYet => {}
            }
        }
    }

    /// The same at once, of a draft over what is there, by whoever has the turn to publish it.
    pub(super) fn attach_now(&self, node: &Arc<Node>) -> Option<Arc<Draft>> {
        match self.attach(node, Over::Object, |_| true) {
            Attached::Draft(draft) => Some(draft),
            Attached::Lost | Attached::NotYet => None,
        }
    }

    fn attach(&self, node: &Arc<Node>, over: Over, may: impl FnOnce(&Node) -> bool) -> Attached {
        let object = node.state().object.clone();
        let base = object.clone().filter(|_| over == Over::Object);
        let base = base.map(|object| Base {
            key: node.key(),
            etag: object.etag,
            size: object.size,
        });
        let draft = self.new_draft(node, base, over == Over::Nothing);
        {
            let mut state = node.state();
            if let Some(other) = state.live_draft() {
                return Attached::Draft(other.clone());
            }
            if state.name == Name::Lost {
                return Attached::Lost;
            }
            // In this order: who revises it says so, and then looks for a draft.
            if !may(node) || state.object != object {
                return Attached::NotYet;
            }
            self.written.add(node, &draft);
            state.set_draft(draft.clone());
            state.set_cached(None);
            if !state.has_name() {
                draft.abort(crate::draft::Doom::Unlinked);
            }
        }
        // Pages of the old version must not be read as the new file's.
        self.forget_data(node.ino);
        Attached::Draft(draft)
    }

    /// The object as it is now, to be read, perhaps through the kernel's pages.
    pub(super) fn pin(
        &self,
        node: &Node,
        pages: impl FnOnce(&Base) -> Option<Arc<dyn Pages>>,
    ) -> Result<Option<Pin>> {
        let state = node.state();
        let Some(Version { etag, size, .. }) = state.object.clone() else {
            return Ok(None);
        };
        let object = Base {
            key: node.key(),
            etag: etag.clone(),
            size,
        };
        let reader = Reader::new(
            self.store.clone(),
            self.read_memory.clone(),
            self.options.read,
            node.key(),
            etag,
            size,
            state.used().version.clone(),
        );
        let reader = match pages(&object) {
            Some(pages) => reader.through(pages),
            None => reader,
        };
        Ok(Some(Pin {
            object,
            reader: Arc::new(reader),
            commits: state.used().commits,
        }))
    }
}
