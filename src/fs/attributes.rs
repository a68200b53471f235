//! What stat(2) tells and chmod, chown and utimensat change; and symbolic links, which are a mode.
//!
//! A listing tells sizes and nothing else. So what is said of an object is asked when somebody wants to
//! know it, one request a file; whoever goes through a directory finds that somebody has asked ahead.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::copies::TRIES;
use super::file::to_be_looked_up;
use super::metadata::{self, Posix};
use super::moment::Moment;
use super::node::{Kind, Node, ROOT, State};
use super::{Error, Fs, Result};
use crate::draft::Version;
use crate::store::{self, Body, ErrorKind, Metadata, ObjectInfo, Precondition};
use crate::upload::ledger::Before;

/// What stat(2) tells.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub ino: u64,
    pub kind: Kind,
    pub size: u64,
    pub modified: SystemTime,
    pub accessed: SystemTime,
    /// ctime: the last change through this mount, else the store's own time of the object.
    pub changed: SystemTime,
    pub links: u32,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// For how long the kernel may believe this.
    pub ttl: Duration,
}

/// Who makes something.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// A change of what is said of a file. Made again when another client changed the file meanwhile.
pub(super) type Change = Arc<dyn Fn(&mut Metadata) -> Result<()> + Send + Sync>;

/// So many entries are asked about ahead, at the same time.
pub(super) const AHEAD: usize = 64;

/// The longest target of a symbolic link, as everywhere.
const TARGET_MAX: u64 = libc::PATH_MAX as u64;

impl Fs {
    pub fn attributes(&self, node: &Node) -> Attributes {
        let mut state = node.state();
        // One that was published a moment ago is it still, until the node is up to date.
        let draft = state.draft().cloned();
        let draft = draft.filter(|d| !matches!(d.outcome(), Some(Err(_))));
        let said = match &draft {
            Some(draft) => Some(Posix::of(&draft.attributes().metadata)),
            None => {
                let said = state.said.as_ref().or(state.used().said_before.as_ref());
                said.map(|said| Posix::of(&said.metadata))
            }
        };
        let known = draft.is_some() || self.is_said(node, &state);
        let said = said.unwrap_or_default();
        // What is read may have been found to be there long before.
        let age = state.checked.filter(|_| state.is_open());
        let age = age.map_or(Duration::ZERO, Moment::elapsed);
        let ttl = match known {
            true => self.options.metadata_ttl.saturating_sub(age),
            false => Duration::ZERO,
        };
        let (size, modified, ttl) = match (&draft, &state.object, node.kind) {
            (_, _, Kind::Directory) => {
                let kept = match node.ino {
                    ROOT => self.mounted_at,
                    _ => said.mtime.unwrap_or(state.directory().modified),
                };
                (0, state.directory().touched.unwrap_or(kept), ttl)
            }
            (Some(draft), _, _) => (draft.size(), draft.times().modified, Duration::ZERO),
            (None, Some(object), Kind::Symlink) if object.size == 0 => {
                let kept = state.said.as_ref();
                let target = kept.and_then(|said| metadata::geesefs_target(&said.metadata));
                let len = target.map_or(0, |target| target.len() as u64);
                (len, said.mtime.unwrap_or(object.modified), ttl)
            }
            (None, Some(object), _) => (object.size, said.mtime.unwrap_or(object.modified), ttl),
            (None, None, _) => (
                0,
                state.used().since.unwrap_or(self.mounted_at),
                Duration::ZERO,
            ),
        };
        state.show((!ttl.is_zero()).then_some(size));
        let all = match node.kind {
            Kind::Directory => 0o777,
            Kind::File => 0o666,
            Kind::Symlink => 0o777,
        };
        let ours = || match node.kind {
            Kind::Symlink => all,
            _ => all & !self.options.umask,
        };
        let options = &self.options;
        let changed = match &draft {
            Some(draft) => state.used().changed.max(Some(draft.times().changed)),
            None => state.used().changed.or(state.stored()),
        };
        let changed = changed.unwrap_or(modified);
        let links = match node.kind {
            _ if !state.has_name() => 0,
            Kind::Directory => 2,
            Kind::File | Kind::Symlink => 1,
        };
        Attributes {
            ino: node.ino,
            kind: node.kind,
            size,
            modified,
            accessed: state.used().accessed.or(said.atime).unwrap_or(modified),
            changed,
            links,
            mode: (said.mode.unwrap_or_else(ours) & 0o7777) as u16,
            uid: options.owner.or(said.uid).unwrap_or(options.uid),
            gid: options.group.or(said.gid).unwrap_or(options.gid),
            ttl,
        }
    }

    /// What is said of something new, if that is kept.
    pub(super) fn said_of_new(
        &self,
        kind: Kind,
        parent: &Node,
        name: &str,
        mode: u32,
        caller: Caller,
    ) -> store::Attributes {
        let mut said = store::Attributes::default();
        if kind == Kind::File {
            said.content_type = metadata::content_type(name);
        }
        if self.options.keeps_metadata {
            let above = self.attributes(parent);
            // In a directory of a group everything is the group's.
            let is_shared = u32::from(above.mode) & libc::S_ISGID != 0;
            let passed_on = match is_shared && kind == Kind::Directory {
                true => libc::S_ISGID,
                false => 0,
            };
            let posix = Posix {
                mode: Some((mode | passed_on) & 0o7777 | metadata::kind_bits(kind)),
                uid: Some(caller.uid),
                gid: Some(if is_shared { above.gid } else { caller.gid }),
                ..Posix::default()
            };
            posix.say_in(&mut said.metadata);
            let is_usual = kind == Kind::File
                && mode & 0o7777 == 0o666 & !self.options.umask
                && posix.uid == Some(self.options.uid)
                && posix.gid == Some(self.options.gid);
            if kind != Kind::Directory && !is_usual {
                self.keeps(parent);
            }
        }
        said
    }

    /// A listing took it for a file, and it is small enough to be a symbolic link.
    pub(super) fn may_be_a_link(&self, node: &Node) -> bool {
        let state = node.state();
        let size = state.object.as_ref().map_or(0, |object| object.size);
        self.options.keeps_metadata
            && node.kind == Kind::File
            && !state.is_said()
            && size < TARGET_MAX
            && state.live_draft().is_none()
    }

    /// Which of the two it is; the other takes its place.
    pub(super) async fn without_doubt(self: &Arc<Self>, node: Arc<Node>) -> Result<Arc<Node>> {
        self.look_ahead(&node);
        let _alone = self.asking.take(node.ino).await;
        if self.may_be_a_link(&node) {
            match self.refresh(&node).await {
                Err(error) if error.errno == libc::ESTALE => {
                    let parent = self.node(node.parent())?;
                    return self.ask_or_known(&parent, &node.name()).await;
                }
                done => done?,
            }
            if !node.state().has_name() {
                let parent = self.node(node.parent())?;
                return self.ask_or_known(&parent, &node.name()).await;
            }
        }
        Ok(node.clone())
    }

    pub(super) fn kind_of(&self, object: &ObjectInfo) -> Kind {
        let said = object.attributes.as_ref();
        let is_symlink = said.is_some_and(|said| metadata::is_symlink(&said.metadata));
        match self.options.keeps_metadata && is_symlink {
            true => Kind::Symlink,
            false => Kind::File,
        }
    }

    /// Attributes without asking the store, if they are known well enough.
    pub fn getattr_cached(&self, ino: u64) -> Option<Result<Attributes>> {
        let node = match self.node(ino) {
            Ok(node) => node,
            Err(error) => return Some(Err(error)),
        };
        let known = self.is_known(&node);
        self.calls.attributes.count(known);
        known.then(|| Ok(self.attributes(&node)))
    }

    fn is_known(&self, node: &Node) -> bool {
        let state = node.state();
        let fresh = node.is_directory() || state.is_fresh(self.options.metadata_ttl);
        (fresh && self.is_said(node, &state)) || !state.has_name() || state.live_draft().is_some()
    }

    /// Is it known what is said of it? A listing that shows a directory does not show its marker, so what
    /// that says has a time of its own.
    fn is_said(&self, node: &Node, state: &State) -> bool {
        let believed = |at: Moment| at.elapsed() < self.options.metadata_ttl;
        !self.options.keeps_metadata
            || match node.kind {
                Kind::Directory => {
                    node.ino == ROOT || state.directory().marker_asked.is_some_and(believed)
                }
                Kind::File | Kind::Symlink => state.is_said(),
            }
    }

    pub async fn getattr(self: &Arc<Self>, ino: u64) -> Result<Attributes> {
        let node = self.node(ino)?;
        self.look_ahead(&node);
        let _alone = self.asking.take(node.ino).await;
        if !self.is_known(&node) {
            // The kernel asks before it opens, too: told ESTALE it looks the name up again.
            self.refresh(&node).await.map_err(to_be_looked_up)?;
        }
        Ok(self.attributes(&node))
    }

    fn is_told(&self, node: &Node) -> bool {
        let state = node.state();
        match node.kind {
            Kind::Directory => self.is_said(node, &state),
            Kind::File | Kind::Symlink => {
                let fresh = state.is_fresh(self.options.metadata_ttl);
                state.said.is_some() || (state.is_said() && fresh)
            }
        }
    }

    /// Somebody goes from one entry of a listing to the next: asks about those that come.
    fn look_ahead(self: &Arc<Self>, node: &Node) {
        let Some(directory) = node.above() else {
            return;
        };
        let before = {
            let mut state = directory.state();
            std::mem::replace(&mut state.directory_mut().asked, node.ino)
        };
        if before + 1 != node.ino {
            return;
        }
        let follows = |other: &Arc<Node>| other.parent() == node.parent();
        for ino in node.ino + 1..=node.ino + AHEAD as u64 {
            let Some(next) = self.tree.get(ino).filter(follows) else {
                continue;
            };
            if self.is_told(&next) || self.asking.are_taken(&ino) {
                continue;
            }
            let Ok(permit) = self.looks_ahead.clone().try_acquire_owned() else {
                return;
            };
            let fs = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let _alone = fs.asking.take(ino).await;
                if !fs.is_told(&next) {
                    // Whoever asks himself hears of it.
                    let _ = fs.refresh(&next).await;
                }
            });
        }
    }

    /// chmod(2), chown(2), utimensat(2). Of a file that is being written it goes up with the file; of
    /// an object it needs a copy onto itself.
    pub async fn set_attributes(self: &Arc<Self>, ino: u64, change: Posix) -> Result<Attributes> {
        let node = self.node(ino)?;
        let change = Posix {
            mode: change
                .mode
                .map(|m| m & 0o7777 | metadata::kind_bits(node.kind)),
            ..change
        };
        if change.atime.is_some() {
            node.state().used_mut().accessed = change.atime;
        }
        let rest = Posix {
            atime: None,
            ..change
        };
        if rest == Posix::default() {
            // Not worth a copy: it goes up with the next change.
            return Ok(self.attributes(&node));
        }
        if !self.options.keeps_metadata {
            match (node.live_draft(), change.mtime) {
                // Programs that set a time before they close are not told that it is not kept.
                (Some(draft), Some(time)) => {
                    let rest = Posix {
                        mtime: None,
                        ..rest
                    };
                    self.changes_nothing(&node, rest)?;
                    draft.set_modified(time);
                }
                _ => self.changes_nothing(&node, rest)?,
            }
            return Ok(self.attributes(&node));
        }
        let say: Change = Arc::new(move |metadata: &mut Metadata| {
            change.say_in(metadata);
            Ok(())
        });
        self.change_said(&node, say).await?;
        if let (Some(draft), Some(time)) = (node.live_draft(), change.mtime) {
            draft.set_modified(time);
        }
        {
            let mut state = node.state();
            state.used_mut().changed = Some(SystemTime::now());
            if change.mtime.is_some() && node.is_directory() {
                state.directory_mut().touched = None;
            }
        }
        Ok(self.attributes(&node))
    }

    /// Changes what is said of a file: of a draft it goes up with the file, an object is copied onto itself.
    pub(super) async fn change_said(
        self: &Arc<Self>,
        node: &Arc<Node>,
        change: Change,
    ) -> Result<()> {
        let passage = self.passages.enter([node]).await;
        if !node.is_directory()
            && let Some(directory) = node.above()
        {
            self.keeps(&directory);
        }
        self.works.uploads.doubts().settled(&node.key()).await?;
        let (fs, changed) = (self.clone(), node.clone());
        // Not cut short when the caller is killed.
        self.to_its_end(async move {
            let _passage = passage;
            loop {
                while let Some(draft) = changed.live_draft() {
                    let mut done = Ok(());
                    if draft.say(|said| done = change(&mut said.metadata)) {
                        return done;
                    }
                    // Its commit has said it otherwise: from here on it is the object's.
                    fs.commit_to_the_end(&changed, &draft).await?;
                }
                if fs.say_of_object(&changed, &change).await? {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Where nothing is kept, only what changes nothing is granted.
    fn changes_nothing(&self, node: &Node, change: Posix) -> Result<()> {
        let now = self.attributes(node);
        let same = change
            .mode
            .is_none_or(|mode| mode & 0o7777 == u32::from(now.mode))
            && change.uid.is_none_or(|uid| uid == now.uid)
            && change.gid.is_none_or(|gid| gid == now.gid)
            && change.mtime.is_none();
        match same {
            true => Ok(()),
            false => Err(Error::quiet(libc::EOPNOTSUPP)),
        }
    }

    /// Answers false if somebody has begun to write it: then it is the draft's to say.
    async fn say_of_object(&self, node: &Arc<Node>, change: &Change) -> Result<bool> {
        if node.ino == ROOT {
            return Err(Error::loud(
                libc::EPERM,
                "the root of a bucket has no marker to say it of",
            ));
        }
        // A copy that is made of it while it is published may be there later than what is.
        let _turn = self.publishing.take(node.ino).await;
        for _ in 0..TRIES {
            self.refresh(node).await?;
            self.assert_named(node)?;
            let _revising = node.revise();
            let (object, said) = {
                let state = node.state();
                if state.live_draft().is_some() {
                    return Ok(false);
                }
                (state.object.clone(), state.said.clone().unwrap_or_default())
            };
            let mut said = store::Attributes::clone(&said);
            change(&mut said.metadata)?;
            if node.is_directory() {
                return self.put_marker(node, said).await.map(|()| true);
            }
            let object = object.ok_or_else(|| Error::quiet(libc::ENOENT))?;
            let (key, before) = (node.key(), Before::Version(object.etag.clone()));
            let copied = self.copy_object(&key, &object, &key, before, Some(&said));
            match copied.await {
                Ok(version) => {
                    let mut state = node.state();
                    let cached = state.is_cached();
                    state.set_cached(Some(version.clone()).filter(|_| cached));
                    state.made(version, said);
                    return Ok(true);
                }
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::loud(libc::EBUSY, "another client keeps changing it"))
    }

    pub(super) async fn put_marker(&self, node: &Node, said: store::Attributes) -> Result<()> {
        let nothing = Body::from_bytes(Default::default());
        let said = store::Attributes {
            content_type: Some("application/x-directory".to_string()),
            ..said
        };
        let key = node.key();
        self.store
            .put(&key, nothing, &said, &Precondition::None)
            .await?;
        let mut state = node.state();
        state.said = Some(Arc::new(said));
        let directory = state.directory_mut();
        directory.marker = true;
        directory.marker_asked = Some(Moment::now());
        drop(state);
        self.marker_says(node);
        Ok(())
    }

    pub async fn symlink(
        self: &Arc<Self>,
        parent: u64,
        name: &OsStr,
        target: &OsStr,
        caller: Caller,
    ) -> Result<Arc<Node>> {
        if !self.options.keeps_metadata {
            return Err(Error::quiet(libc::EPERM));
        }
        let (parent, name, passage) = self.place_for_creation(parent, name).await?;
        match self.ask_or_known(&parent, &name).await {
            Ok(_) => return Err(Error::quiet(libc::EEXIST)),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        let mut said = self.said_of_new(Kind::Symlink, &parent, &name, 0o777, caller);
        let modified = SystemTime::now();
        let time = Posix {
            mtime: Some(modified),
            ..Posix::default()
        };
        time.say_in(&mut said.metadata);
        let doubts = self.works.uploads.doubts();
        doubts.settled(&format!("{}{name}", parent.key())).await?;
        let node = self.new_node(&parent, &name, Kind::Symlink)?;
        let target = target.as_bytes().to_vec();
        let size = target.len() as u64;
        let body = Body::from_bytes(target.into());
        let (fs, made) = (self.clone(), node.clone());
        // A caller who is killed does not stop it half way.
        let put = self.to_its_end(async move {
            let _passage = passage;
            let key = made.key();
            match fs.store.put(&key, body, &said, &Precondition::None).await {
                Ok(etag) => {
                    let version = Version {
                        etag,
                        size,
                        modified,
                    };
                    made.state().made(version, said);
                    parent.state().touch();
                    Ok(())
                }
                Err(error) => {
                    fs.tree.detach(&parent, &made);
                    Err(Error::from(error))
                }
            }
        });
        put.await?;
        self.tree.remember(&node);
        Ok(node)
    }

    pub async fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        let node = self.node(ino)?;
        if node.kind != Kind::Symlink {
            return Err(Error::quiet(libc::EINVAL));
        }
        for _ in 0..TRIES {
            let (object, said) = {
                let state = node.state();
                (state.object.clone(), state.said.clone())
            };
            if let Some(target) = said.and_then(|s| metadata::geesefs_target(&s.metadata)) {
                return Ok(target);
            }
            let object = object.ok_or_else(|| Error::quiet(libc::ENOENT))?;
            if object.size > TARGET_MAX {
                return Err(Error::loud(libc::EIO, "a symbolic link that is too long"));
            }
            let mut target = Vec::new();
            let (key, range) = (node.key(), 0..object.size);
            match self.store.get(&key, &object.etag, range).await {
                Ok(mut download) => {
                    while let Some(bytes) = download.body.next().await {
                        target.extend_from_slice(&bytes.map_err(Error::from)?);
                    }
                    return Ok(target);
                }
                Err(error) if error.kind == ErrorKind::Conflict => self.refresh(&node).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::quiet(libc::EBUSY))
    }

    /// A directory was made just now.
    pub(super) fn note_made(&self, node: &Node) {
        let mut state = node.state();
        state.checked = Some(Moment::now());
        let doubts = state.directory().doubts;
        state.knows_all(Moment::now(), doubts);
    }
}
