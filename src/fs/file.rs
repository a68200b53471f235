//! Open files: what each was opened for and which version it reads; reading and writing through them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::node::Node;
use super::opening::Over;
use super::{Attributes, Error, Fs, Posix, Result};
use crate::draft::{At, Base, Draft, Reshape};
use crate::host::beginning::Beginning;
use crate::host::feeder::Feeder;
use crate::host::holders::{Held, OpenedFile};
use crate::host::process::Thread;
use crate::read::{Data, Reader};
use crate::store::{ETag, ErrorKind, Result as StoreResult};

pub struct OpenFile {
    pub node: Arc<Node>,
    pub readable: bool,
    pub writable: bool,
    /// It is read through the kernel's pages, and was opened as this version.
    paged: Option<ETag>,
    /// Something was read.
    asked: AtomicBool,
    /// O_SYNC or O_DSYNC: a write is answered when the file is published with it.
    synced: bool,
    /// The process that opened it, as far as that can be told.
    pub(super) opener: Option<u32>,
    /// When, if to write: who was begun before has not inherited it.
    opened: Option<Beginning>,
    used: Mutex<Use>,
}

/// How an open file was used so far.
#[derive(Default)]
pub(super) struct Use {
    /// The version it reads when nothing is being written.
    pub pin: Option<Pin>,
    /// The draft it wrote to (or created).
    pub draft: Option<Arc<Draft>>,
    /// Bytes were written through this descriptor since the draft began.
    pub wrote: bool,
    /// A descriptor of it was closed: so there was one, and open(2) had gone well.
    pub had_descriptors: bool,
    /// Closed by somebody alive, and left for the release to commit.
    pub closed: bool,
    /// It was said that what it reads is in an archive.
    told: bool,
    /// Pages that came for it were those of a program that was killed, and are lost.
    pub torn: bool,
    writers: Vec<Writer>,
    /// Who feeds those that write it, or have opened it to write.
    pub feeders: Vec<Arc<Feeder>>,
}

/// A thread that wrote.
struct Writer {
    tid: u32,
    process: Option<u32>,
    /// Who started that: a script, mostly, of which it is one step.
    parent: Option<u32>,
}

/// Who feeds the one that opens a file, asked when he does: by the time it is open his feeder may be dead.
pub(super) fn fed(tid: u32) -> Vec<Arc<Feeder>> {
    let feeder = Thread::of(tid).process.and_then(Feeder::of);
    feeder.map(Arc::new).into_iter().collect()
}

impl Use {
    /// Of a file that begins with this draft.
    pub fn of(draft: Arc<Draft>) -> Use {
        Use {
            draft: Some(draft),
            ..Use::default()
        }
    }
}

#[derive(Clone)]
pub(super) struct Pin {
    pub reader: Arc<Reader>,
    pub object: Base,
    /// The node's count of commits when it was pinned.
    pub commits: u64,
}

/// The length of the kernel's pages.
fn page() -> u64 {
    // SAFETY: it asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    page.try_into().unwrap_or(4096)
}

/// More threads than this are not told apart.
const WRITERS_MAX: usize = 256;

impl OpenFile {
    pub(super) fn used(&self) -> MutexGuard<'_, Use> {
        self.used.lock().expect("no panic while held")
    }

    /// Takes note of who writes: when one of them is killed, the file is not whole.
    fn note_writer(&self, used: &mut Use, tid: u32) {
        used.closed = false;
        used.feeders.retain(|feeder| feeder.still_feeds());
        if tid != 0
            && used.writers.last().is_none_or(|last| last.tid != tid)
            && used.writers.len() < WRITERS_MAX
        {
            let Thread {
                process, parent, ..
            } = Thread::of(tid);
            let is_known =
                process == self.opener || used.writers.iter().any(|known| known.process == process);
            used.writers.retain(|known| known.tid != tid);
            used.writers.push(Writer {
                tid,
                process,
                parent,
            });
            if let Some(process) = process.filter(|_| !is_known) {
                let feeder = Feeder::of(process);
                let feeder = feeder.filter(|new| used.feeders.iter().all(|known| !known.is(new)));
                used.feeders.extend(feeder.map(Arc::new));
            }
        }
    }

    /// Is it a file of this size that another one writes, and nothing was written through this descriptor?
    fn has_written_nothing_to(&self, size: u64) -> bool {
        let live = self.node.live_draft();
        self.used().draft.is_none() && live.is_some_and(|draft| draft.size() == size)
    }

    /// Who feeds those that write it.
    pub(super) fn feeders(&self) -> Vec<Arc<Feeder>> {
        self.used().feeders.clone()
    }

    /// Did it write, or start whoever did?
    pub(super) fn is_writer(&self, process: u32) -> bool {
        let its = |writer: &Writer| [writer.process, writer.parent].contains(&Some(process));
        self.used().writers.iter().any(its)
    }

    pub(super) fn has_written(&self, process: u32) -> bool {
        let its = |writer: &Writer| writer.process == Some(process);
        self.used().writers.iter().any(its)
    }

    /// Who else opened it or wrote, or started one that did.
    pub(super) fn others_involved(&self, process: u32) -> BTreeSet<u32> {
        let used = self.used();
        let others = used.writers.iter().filter(|w| w.process != Some(process));
        let writers = others.flat_map(|writer| [writer.process, writer.parent]);
        let mut involved: BTreeSet<_> = writers.chain([self.opener]).flatten().collect();
        involved.remove(&process);
        involved
    }

    /// Did anybody else write?
    fn has_other_writers(&self, process: u32) -> bool {
        let another = |writer: &Writer| writer.process != Some(process);
        self.used().writers.iter().any(another)
    }

    /// Is it open still somewhere, when this process, which opened it and whose bytes they are, has closed it?
    /// `others` have opened it, too.
    pub(super) fn is_left_by_opener(
        &self,
        opened: &OpenedFile,
        process: u32,
        others: &[u32],
    ) -> Held {
        match &self.opened {
            // To whom it gave its descriptor it did that by starting him, as a rule.
            Some(opened_at) if !self.has_other_writers(process) => {
                opened.is_written_by_heirs_of(process, opened_at, others)
            }
            _ => opened.is_written_beside(process, others, |p| self.has_written(p)),
        }
    }
}

impl Fs {
    pub fn file(&self, handle: u64) -> Result<Arc<OpenFile>> {
        self.files
            .lock()
            .expect("no panic while held")
            .get(&handle)
            .cloned()
            .ok_or_else(|| Error::quiet(libc::EBADF))
    }

    pub(super) fn add_file(&self, node: Arc<Node>, flags: i32, tid: u32, used: Use) -> u64 {
        let mode = flags & libc::O_ACCMODE;
        // Whoever only reads ends nothing.
        let opener = match mode == libc::O_RDONLY && used.draft.is_none() {
            true => None,
            false => Thread::of(tid).process,
        };
        let file = OpenFile {
            node,
            readable: mode != libc::O_WRONLY,
            writable: mode != libc::O_RDONLY,
            paged: used.pin.as_ref().map(|pin| pin.object.etag.clone()),
            asked: AtomicBool::new(false),
            synced: flags & libc::O_DSYNC != 0,
            opener,
            opened: (mode != libc::O_RDONLY).then(Beginning::now),
            used: Mutex::new(used),
        };
        file.node.state().opened(file.writable);
        let handle = self.next_number();
        self.files
            .lock()
            .expect("no panic while held")
            .insert(handle, Arc::new(file));
        handle
    }

    pub fn open_files(&self) -> Vec<(u64, Arc<OpenFile>)> {
        self.files
            .lock()
            .expect("no panic while held")
            .iter()
            .map(|(h, f)| (*h, f.clone()))
            .collect()
    }

    /// What is being written through open files, and its keys.
    pub fn drafts(&self) -> Vec<(String, Arc<Draft>)> {
        let mut found: HashMap<u64, (String, Arc<Draft>)> = HashMap::new();
        for (_, file) in self.open_files() {
            if let Some(draft) = file.node.live_draft() {
                found.insert(file.node.ino, (file.node.key(), draft));
            }
        }
        found.into_values().collect()
    }

    pub(super) fn remove_file(&self, handle: u64) -> Option<Arc<OpenFile>> {
        let mut files = self.files.lock().expect("no panic while held");
        let file = files.remove(&handle)?;
        file.node.state().closed(file.writable);
        Some(file)
    }

    /// What of an object is here already; whatever needs waiting for (or a closer look) is left to
    /// [`read`](Self::read).
    pub fn try_read(&self, handle: u64, offset: u64, len: usize) -> Option<Data> {
        let file = self.file(handle).ok()?;
        if file.node.state().draft().is_some() || file.used().draft.is_some() {
            return None;
        }
        let reader = self.pinned(&file).ok()??;
        let data = reader.try_read(offset, len)?.ok();
        self.read_tells(&file.node, &reader);
        data
    }

    fn read_tells(&self, node: &Node, reader: &Reader) {
        if let Some(seen) = reader.seen() {
            node.is_still(reader.etag(), reader.size(), seen, self.store.clock());
        }
    }

    pub async fn read(&self, handle: u64, offset: u64, len: usize) -> Result<Data> {
        let file = self.file(handle)?;
        loop {
            let wrote_to = file.used().draft.clone();
            if let Some(Err(error)) = wrote_to.as_ref().and_then(|d| d.outcome()) {
                return Err(sticky(error));
            }
            if let Some(draft) = file.node.live_draft() {
                match draft.read(offset, len).await {
                    Ok(data) => {
                        let (data, end) = (Data::from(data), offset + len as u64);
                        let behind = offset + data.len() as u64..end;
                        match self.read_before_the_cut(&file, behind).await? {
                            None => return Ok(data),
                            Some(Ok(before)) => return Ok(data.followed_by(before)),
                            Some(Err(_)) if draft.outcome().is_some() => continue,
                            // Its bytes are gone for good.
                            Some(Err(_)) => return Err(Error::quiet(libc::ESTALE)),
                        }
                    }
                    // It ended while we waited: look again.
                    Err(_) if draft.outcome().is_some() => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            if file.node.state().draft().is_some() {
                // It has ended, perhaps well: then the version it became is a moment away, and the one before is past.
                file.node.at_rest().await;
            }
            let reader = self.reader(&file).await?;
            return match reader.read(offset, len).await {
                Ok(data) => {
                    self.read_tells(&file.node, &reader);
                    Ok(data)
                }
                // This mount gave it another key, or copied it onto itself: look again.
                Err(error)
                    if matches!(error.kind, ErrorKind::Missing | ErrorKind::Conflict)
                        && self.moved_on(&file).await =>
                {
                    continue;
                }
                // Once is enough: whoever reads tries again and again.
                Err(error) if error.kind == ErrorKind::Archived => {
                    let told = std::mem::replace(&mut file.used().told, true);
                    Err(match told {
                        true => Error::quiet(libc::EAGAIN),
                        false => error.into(),
                    })
                }
                // Read through an open file, an object that is gone is a stale one.
                Err(error) if error.kind == ErrorKind::Missing && !error.is_of_the_bucket() => {
                    Err(Error::loud(
                        libc::ESTALE,
                        format!("{error}: deleted since it was opened"),
                    ))
                }
                Err(error) => Err(error.into()),
            };
        }
    }

    /// The kernel asks for pages that are all behind what is being written: it has not cut the file off yet, as somebody
    /// emptied it. If it got nothing it would take that for zeros, and might show them; so it gets what was there before.
    async fn read_before_the_cut(
        &self,
        file: &OpenFile,
        behind: Range<u64>,
    ) -> Result<Option<StoreResult<Data>>> {
        if file.paged.is_none() {
            return Ok(None);
        }
        let Some(reader) = self.pinned(file)? else {
            return Ok(None);
        };
        let end = behind.end.min(reader.size());
        // To the end of a page it fills in zeros itself, which are behind the end as it knows it.
        if end <= behind.start.next_multiple_of(page()) {
            return Ok(None);
        }
        let len = (end - behind.start) as usize;
        Ok(Some(reader.read(behind.start, len).await))
    }

    /// The reader of the version this file was opened with, or of what was committed here since.
    async fn reader(&self, file: &OpenFile) -> Result<Arc<Reader>> {
        if let Some(reader) = self.pinned(file)? {
            return Ok(reader);
        }
        // Opened on a draft that was given up: what is in the bucket now?
        self.refresh(&file.node).await?;
        self.pinned(file)?.ok_or_else(|| Error::quiet(libc::ESTALE))
    }

    /// Has this mount made another version of what the file reads?
    async fn moved_on(&self, file: &OpenFile) -> bool {
        file.node.at_rest().await;
        let commits = file.node.state().used().commits;
        let used = file.used();
        used.pin.as_ref().is_some_and(|pin| pin.commits != commits)
    }

    fn pinned(&self, file: &OpenFile) -> Result<Option<Arc<Reader>>> {
        let mut used = file.used();
        let commits = file.node.state().used().commits;
        if used.pin.as_ref().is_none_or(|pin| pin.commits != commits) {
            used.pin = self.pin(&file.node, |_| None)?;
        }
        let Some(pin) = &used.pin else {
            return Ok(None);
        };
        if let Some(etag) = &file.paged
            && !file.asked.swap(true, Ordering::Relaxed)
        {
            file.node.state().was_read_as(etag);
        }
        Ok(Some(pin.reader.clone()))
    }

    /// Writes without waiting where that can be done; answers how many bytes were taken.
    pub fn try_write(&self, handle: u64, at: At, data: &[u8], tid: u32) -> Result<usize> {
        let file = self.file(handle)?;
        if file.synced {
            return Ok(0);
        }
        let Some(draft) = self.draft_to_write(&file, tid)? else {
            return Ok(0);
        };
        match draft.try_write(at, data) {
            Ok(taken) => Ok(taken),
            Err(_) if matches!(draft.outcome(), Some(Ok(_))) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Is there so much to be sent that who has written is to wait for his answer? Until when.
    pub fn must_wait(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let memory = &self.works.memory;
        let memory = (!memory.is_calm()).then(|| memory.clone());
        let sending = self.works.uploads.must_wait();
        (memory.is_some() || sending.is_some()).then_some(async move {
            if let Some(sending) = sending {
                sending.await;
            }
            if let Some(memory) = memory {
                memory.calm().await;
            }
        })
    }

    /// What [`try_write`](Self::try_write) has left of a write.
    pub async fn write(self: &Arc<Self>, handle: u64, at: At, data: &[u8], tid: u32) -> Result<()> {
        let file = self.file(handle)?;
        loop {
            let draft = match self.draft_to_write(&file, tid)? {
                Some(draft) => draft,
                None => self.draft_over_object(&file).await?,
            };
            match draft.write(at, data).await {
                Ok(()) if file.synced => return self.sync(handle, tid).await,
                Ok(()) => return Ok(()),
                // Committed by somebody meanwhile: go on over what is there now.
                Err(_) if matches!(draft.outcome(), Some(Ok(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// copy_file_range(2), left to the store. `None`: where that cannot be, the bytes must be copied.
    pub async fn copy_range(
        &self,
        from: u64,
        offset: u64,
        to: u64,
        at: u64,
        len: u64,
        tid: u32,
    ) -> Result<Option<u64>> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        if from.node.ino == to.node.ino || from.node.live_draft().is_some() {
            return Ok(None);
        }
        self.pinned(&from)?;
        let Some(object) = from.used().pin.as_ref().map(|pin| pin.object.clone()) else {
            return Ok(None);
        };
        let end = offset.saturating_add(len).min(object.size);
        if offset >= end {
            return Ok(Some(0));
        }
        // Over an object there is nothing to gain: it is changed like any file.
        let Some(draft) = self.draft_to_write(&to, tid)? else {
            return Ok(None);
        };
        let adopted = draft.copy_from(&object, at, offset..end).await?;
        Ok(adopted.then_some(end - offset))
    }

    /// The draft this file writes to, if there is one (and it takes note of the writer).
    fn draft_to_write(&self, file: &OpenFile, tid: u32) -> Result<Option<Arc<Draft>>> {
        if !file.writable {
            return Err(Error::quiet(libc::EBADF));
        }
        self.assert_goes_on()?;
        let mut used = file.used();
        if used.torn {
            return Err(Error::quiet(libc::EIO));
        }
        file.note_writer(&mut used, tid);
        match used.draft.as_ref().map(|d| (d.clone(), d.outcome())) {
            Some((draft, None)) => {
                used.wrote = true;
                return Ok(Some(draft.clone()));
            }
            Some((_, Some(Err(error)))) => return Err(sticky(error)),
            Some((_, Some(Ok(_)))) | None => {}
        }
        let live = file.node.live_draft();
        if let Some(draft) = &live {
            if file.readable {
                draft.keep_all();
            }
            used.draft = Some(draft.clone());
            used.wrote = true;
        }
        Ok(live)
    }

    /// Begins a draft over the object as it is now.
    async fn draft_over_object(&self, file: &OpenFile) -> Result<Arc<Draft>> {
        let _passage = self.passages.enter([&file.node]).await;
        self.assert_goes_on()?;
        let unknown = {
            let state = file.node.state();
            state.object.is_none() && state.has_name()
        };
        if unknown {
            self.refresh(&file.node).await?;
        }
        let draft = self.attach_new_draft(&file.node, Over::Object).await?;
        if file.readable {
            draft.keep_all();
        }
        let mut used = file.used();
        used.draft = Some(draft.clone());
        used.wrote = true;
        Ok(draft)
    }

    /// Somebody has written who may not keep the bits that let a program run with the rights of its owner, or its group.
    pub fn written_without_privilege(&self, handle: u64) {
        let file = self.file(handle).ok();
        let Some(draft) = file.and_then(|file| file.used().draft.clone()) else {
            return;
        };
        let _ = draft.say(|new| {
            let Some(mode) = Posix::of(&new.metadata).mode else {
                return;
            };
            let of_the_group = match mode & 0o010 {
                0 => 0,
                _ => libc::S_ISGID,
            };
            let kept = Some(mode & !(libc::S_ISUID | of_the_group));
            if kept != Some(mode) {
                let change = Posix {
                    mode: kept,
                    ..Posix::default()
                };
                change.say_in(&mut new.metadata);
            }
        });
    }

    /// ftruncate(2), through the descriptor `handle`, or truncate(2) by name.
    pub async fn truncate(
        self: &Arc<Self>,
        ino: u64,
        handle: Option<u64>,
        size: u64,
        tid: u32,
    ) -> Result<Attributes> {
        let node = self.node(ino)?;
        if node.is_directory() {
            return Err(Error::quiet(libc::EISDIR));
        }
        let file = handle
            .and_then(|h| self.file(h).ok())
            .filter(|f| f.writable);
        self.assert_storable(size)?;
        match file {
            // Who gives another one's file the size it has, has not written to it.
            Some(file) if file.has_written_nothing_to(size) => {}
            Some(file) => {
                self.reshape(&file, tid, Reshape::Truncate(size)).await?;
            }
            None => self.truncate_by_name(&node, size).await?,
        }
        Ok(self.attributes(&node))
    }

    /// Changes what an open file writes to, which begins now if it has not.
    async fn reshape(&self, file: &OpenFile, tid: u32, reshape: Reshape) -> Result<()> {
        loop {
            let draft = match self.draft_to_write(file, tid)? {
                Some(draft) => draft,
                None => self.draft_over_object(file).await?,
            };
            match draft.reshape(&reshape).await {
                Ok(()) => return Ok(()),
                // Committed by somebody meanwhile: go on over what is there now.
                Err(_) if matches!(draft.outcome(), Some(Ok(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn assert_storable(&self, size: u64) -> Result<()> {
        match size > self.store.capabilities().object_max {
            true => Err(Error::quiet(libc::EFBIG)),
            false => Ok(()),
        }
    }

    /// fallocate(2). There are no blocks to reserve: what it promises of space is the store's to keep.
    pub async fn allocate(
        &self,
        handle: u64,
        range: Range<u64>,
        mode: i32,
        tid: u32,
    ) -> Result<()> {
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE;
        let file = self.file(handle)?;
        if !file.writable {
            return Err(Error::quiet(libc::EBADF));
        }
        let keeps_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let zeroes = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => false,
            ZERO => true,
            PUNCH if keeps_size => true,
            _ => return Err(Error::quiet(libc::EOPNOTSUPP)),
        };
        if !keeps_size {
            self.assert_storable(range.end)?;
            let size = self.attributes(&file.node).size;
            if range.end > size {
                self.reshape(&file, tid, Reshape::Extend(range.end)).await?;
            }
        }
        if zeroes {
            self.reshape(&file, tid, Reshape::Zero(range)).await?;
        }
        Ok(())
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    pub async fn seek(&self, handle: u64, offset: u64, data: bool) -> Result<u64> {
        let file = self.file(handle)?;
        let found = loop {
            let Some(draft) = file.node.live_draft() else {
                // An object is all data.
                let size = self.attributes(&file.node).size;
                break (offset < size).then_some(if data { offset } else { size });
            };
            match draft.next(offset, data).await {
                Ok(found) => break found,
                Err(_) if draft.outcome().is_some() => {}
                Err(error) => return Err(error.into()),
            }
        };
        found.ok_or_else(|| Error::quiet(libc::ENXIO))
    }

    /// A file somebody is writing is cut and published with the rest; otherwise it is published now.
    async fn truncate_by_name(self: &Arc<Self>, node: &Arc<Node>, size: u64) -> Result<()> {
        let _passage = self.passages.enter([node]).await;
        self.assert_goes_on()?;
        if !super::names::can_be_made(&node.key()) {
            return Err(super::directory::not_in_xml(&node.key()));
        }
        loop {
            if let Some(draft) = node.live_draft() {
                match draft.reshape(&Reshape::Truncate(size)).await {
                    Ok(()) => return Ok(()),
                    Err(_) if draft.outcome().is_some() => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            self.refresh(node).await?;
            self.assert_named(node)?;
            let object = node
                .state()
                .object
                .clone()
                .ok_or_else(|| Error::quiet(libc::ENOENT))?;
            if object.size == size {
                return Ok(());
            }
            if size > 0 && self.store.capabilities().streamed {
                return Err(crate::draft::Error::Unchangeable.into());
            }
            let draft = self.attach_new_draft(node, Over::Object).await?;
            let cut = draft.reshape(&Reshape::Truncate(size)).await;
            if let Err(error) = cut {
                if draft.outcome().is_some() {
                    continue;
                }
                return Err(error.into());
            }
            return self.commit_to_the_end(node, &draft).await;
        }
    }
}

/// Deleted since the kernel looked the name up: it does so again, and then finds nothing, or makes it.
pub(super) fn to_be_looked_up(error: Error) -> Error {
    match error.is_missing() {
        true => Error::quiet(libc::ESTALE),
        false => error,
    }
}

/// A lost draft stays lost for the descriptors that wrote to it.
pub(super) fn sticky(error: &crate::draft::Error) -> Error {
    Error {
        why: None,
        ..Error::from(error.clone())
    }
}
