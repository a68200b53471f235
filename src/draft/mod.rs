//! A file being written: one draft per inode, however many programs write to it, until it is
//! committed, fails, or is given up.
//!
//! Invariants:
//! - The object under the key changes only by [`Draft::commit`], and only to the whole draft.
//! - [`Draft::abort`] never waits and never needs the lock a blocked writer holds.
//! - Once a draft has an outcome it takes no more bytes; a later write begins a new draft.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

mod commit;
mod contents;
mod extents;
mod layout;
mod memory;
mod spool;
mod tail;
#[cfg(test)]
mod tests;
mod words;

pub use commit::COPY_AT_ONCE;
pub use contents::Base;
pub use layout::{Layout, PartRules};
pub use memory::WriteMemory;
pub use spool::SpoolSpace;
pub use words::{At, Doom, Error, Progress, Reshape, Target, Times, Version};

use crate::store::{self, Attributes, ETag, ErrorKind, Store};
use crate::upload::{self, Acknowledged, PartSource, Upload, Uploads, Why};
use contents::{Contents, Need, Place};
use memory::Grant;

/// What all drafts of a mount share.
pub struct Works {
    pub store: Arc<dyn Store>,
    pub uploads: Arc<Uploads>,
    pub memory: Arc<WriteMemory>,
    pub spool: Arc<SpoolSpace>,
    pub rules: PartRules,
    pub layout: Layout,
}

impl Works {
    pub fn new(
        store: Arc<dyn Store>,
        uploads: Arc<Uploads>,
        memory: Arc<WriteMemory>,
        spool: Arc<SpoolSpace>,
        part_size: u64,
    ) -> Arc<Works> {
        let caps = store.capabilities();
        let rules = PartRules {
            min: caps.part_min,
            max: caps.part_max,
            count: caps.parts_max,
            equal: caps.parts_equal,
            copy: caps.part_copy,
        };
        let layout = Layout::new(
            &rules,
            part_size.min(memory.largest_part()),
            memory.largest_part(),
        );
        Arc::new(Works {
            store,
            uploads,
            memory,
            spool,
            rules,
            layout,
        })
    }
}

/// What is to be said of the object, and whether its commit has said it.
struct Said {
    attributes: Attributes,
    last: bool,
}

pub struct Draft {
    works: Arc<Works>,
    /// Changes only before anything is sent, while the contents are held.
    target: Mutex<Target>,
    said: Mutex<Said>,
    /// What was said of it when its upload was begun: whatever is said later needs a copy.
    begun_with: Mutex<Option<Attributes>>,
    contents: tokio::sync::Mutex<Contents>,
    /// Mirrors of the contents, readable while a writer or a commit holds them.
    size: AtomicU64,
    times: Mutex<Times>,
    /// Something is to be committed.
    dirty: AtomicBool,
    committing: AtomicBool,
    /// Somebody who may read has it open: keep everything that is sent.
    keep_all: AtomicBool,
    doom: OnceLock<Doom>,
    upload: Mutex<Option<Arc<Upload>>>,
    outcome: OnceLock<Result<Version, Error>>,
}

impl Draft {
    /// `dirty`: there is something to commit already (a file just created or cut to nothing).
    pub fn new(
        works: &Arc<Works>,
        target: Target,
        attributes: Attributes,
        base: Option<Base>,
        dirty: bool,
    ) -> Arc<Draft> {
        let contents = Contents::new(base);
        Arc::new(Draft {
            works: works.clone(),
            target: Mutex::new(target),
            said: Mutex::new(Said {
                attributes,
                last: false,
            }),
            begun_with: Mutex::new(None),
            size: AtomicU64::new(contents.size),
            contents: tokio::sync::Mutex::new(contents),
            times: Mutex::new(Times::now()),
            dirty: AtomicBool::new(dirty),
            committing: AtomicBool::new(false),
            keep_all: AtomicBool::new(false),
            doom: OnceLock::new(),
            upload: Mutex::new(None),
            outcome: OnceLock::new(),
        })
    }

    fn target(&self) -> Target {
        self.target.lock().expect("no panic while held").clone()
    }

    pub fn attributes(&self) -> Attributes {
        self.said().attributes.clone()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no panic while held")
    }

    /// What a commit says of the object. Whatever is said from here on comes too late.
    fn last_word(&self) -> Attributes {
        let mut said = self.said();
        said.last = true;
        said.attributes.clone()
    }

    /// Changes what is to be said of the object. `false`: too late, it must be said of the object itself.
    #[must_use]
    pub fn say(&self, change: impl FnOnce(&mut Attributes)) -> bool {
        let mut said = self.said();
        if !said.last {
            change(&mut said.attributes);
        }
        !said.last
    }

    /// The same, unless its upload has begun with what was said until then.
    pub fn say_if_not_begun(&self, change: impl FnOnce(&mut Attributes)) {
        let begun = self.begun_with.lock().expect("no panic while held");
        if begun.is_none() {
            let _ = self.say(change);
        }
    }

    /// Publishes a draft that is nothing but a copy.
    pub async fn commit_copy(&self) -> store::Result<Version> {
        match self.commit().await {
            Ok(Some(version)) => Ok(version),
            Ok(None) => unreachable!("a copy is to be committed, and nobody unlinks it"),
            Err(Error::Store(error)) => Err(error),
            Err(error) => Err(store::Error {
                kind: match error {
                    Error::Replaced => ErrorKind::Conflict,
                    _ => ErrorKind::Transient,
                },
                operation: "UploadPartCopy",
                key: self.target().key,
                code: "Copy".to_string(),
                message: error.to_string(),
                request_id: None,
            }),
        }
    }

    /// Is a part of it under its name in the store?
    pub fn is_partly_uploaded(&self) -> bool {
        self.upload.lock().expect("no panic while held").is_some()
    }

    /// Holds it still for a rename: until the answer is dropped nobody writes to it or commits it.
    /// `None`: parts of it are on their way to where it is, and cannot be had back.
    pub async fn hold_to_move(&self) -> Option<Moving<'_>> {
        let contents = self.contents.lock().await;
        (!self.is_partly_uploaded()).then_some(Moving {
            draft: self,
            contents,
        })
    }

    pub fn progress(&self) -> Progress {
        let upload = self.upload.lock().expect("no panic while held").clone();
        let state = match (self.is_committing(), &upload) {
            (true, _) => "publishing",
            (false, Some(_)) => "uploading",
            (false, None) => "writing",
        };
        Progress {
            state,
            size: self.size(),
            acknowledged: upload.map_or_else(Acknowledged::default, |u| u.acknowledged()),
        }
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub fn times(&self) -> Times {
        *self.times.lock().expect("no panic while held")
    }

    pub fn set_modified(&self, time: SystemTime) {
        let mut times = self.times.lock().expect("no panic while held");
        *times = Times {
            modified: time,
            changed: SystemTime::now(),
        };
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Acquire)
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Result<Version, Error>> {
        self.outcome.get()
    }

    /// Its name is gone, or about to go.
    pub fn is_unlinked(&self) -> bool {
        self.doom.get() == Some(&Doom::Unlinked)
    }

    /// Its commit failed without the store saying whether it was applied: it may be yet.
    pub fn is_uncertain(&self) -> bool {
        matches!(self.outcome(), Some(Err(error)) if error.leaves_it_open())
    }

    pub fn keep_all(&self) {
        self.keep_all.store(true, Ordering::Relaxed);
    }

    /// Writes without waiting, if that can be done now; otherwise says how many bytes were taken.
    pub fn try_write(&self, at: At, data: &[u8]) -> Result<usize, Error> {
        let Ok(mut contents) = self.contents.try_lock() else {
            return Ok(0);
        };
        self.still_open()?;
        if self.doom.get().is_some() {
            return Ok(0);
        }
        let offset = self.resolve(at, &contents);
        self.assert_takes(&mut contents, offset, data.len())?;
        let mut taken = 0;
        while taken < data.len() {
            match contents.write(&self.works, offset + taken as u64, &data[taken..]) {
                Ok(n) => taken += n,
                Err(Ok(Need::Seal)) => self.seal(&mut contents)?,
                Err(Ok(Need::Memory | Need::Spool)) => break,
                Err(Err(error)) => return Err(self.ended_by(&mut contents, error)),
            }
        }
        if taken > 0 {
            self.wrote(&contents);
        }
        Ok(taken)
    }

    pub async fn write(&self, at: At, data: &[u8]) -> Result<(), Error> {
        let mut contents = self.contents.lock().await;
        let offset = self.resolve(at, &contents);
        self.settle_doom(&mut contents)?;
        self.assert_takes(&mut contents, offset, data.len())?;
        let mut taken = 0;
        while taken < data.len() {
            self.settle_doom(&mut contents)?;
            match contents.write(&self.works, offset + taken as u64, &data[taken..]) {
                Ok(n) => taken += n,
                Err(Ok(Need::Seal)) => self.seal(&mut contents)?,
                Err(Ok(Need::Memory)) => match self.works.memory.chunk().await {
                    Grant::Chunk(chunk) => contents.add_chunk(chunk),
                    Grant::Spill => self.spill(&mut contents)?,
                },
                Err(Ok(Need::Spool)) => self.spill(&mut contents)?,
                Err(Err(error)) => return Err(self.ended_by(&mut contents, error)),
            }
            self.wrote(&contents);
        }
        Ok(())
    }

    /// At most `len` bytes from `offset`.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut contents = self.contents.lock().await;
        self.settle_doom(&mut contents)?;
        let end = contents.size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        self.load(&contents, offset..end).await
    }

    /// Makes `at..` what `range` of an object in the store is, if that can be left to the store; it must
    /// be there until this is committed. `false`: the bytes are to be written.
    pub async fn copy_from(
        &self,
        source: &Base,
        at: u64,
        range: Range<u64>,
    ) -> Result<bool, Error> {
        let mut contents = self.contents.lock().await;
        self.settle_doom(&mut contents)?;
        // Where nothing of an object can be had, all of it can: as another name of it.
        let is_whole = at == 0 && range == (0..source.size) && contents.size == 0;
        let adopted = self.doom.get().is_none()
            && (is_whole || !self.streams())
            && contents.adopt(source, at, range);
        if adopted {
            self.wrote(&contents);
        }
        Ok(adopted)
    }

    /// Changes its size, or makes a range of it zero.
    pub async fn reshape(&self, reshape: &Reshape) -> Result<(), Error> {
        let mut contents = self.contents.lock().await;
        self.settle_doom(&mut contents)?;
        match reshape {
            Reshape::Truncate(0) if self.doom.get().is_none() => {
                // What was sent is of no use to anybody: end it now and start afresh.
                if let Some(upload) = self.upload.lock().expect("no panic while held").take() {
                    upload.abort(Why::Truncated);
                }
                // Nor is what it was begun with said of anything.
                *self.begun_with.lock().expect("no panic while held") = None;
                *contents = Contents::new(None);
            }
            Reshape::Extend(size) if *size <= contents.size => return Ok(()),
            Reshape::Truncate(size) if *size == contents.size && self.streams() => return Ok(()),
            _ if self.streams() && self.doom.get().is_none() => return Err(Error::Unchangeable),
            Reshape::Truncate(size) | Reshape::Extend(size) => {
                contents.truncate(&self.works, *size)?;
            }
            Reshape::Zero(range) => {
                let zeroed = contents.zero(&self.works, range.clone());
                zeroed.map_err(|error| self.ended_by(&mut contents, error))?;
            }
        }
        self.wrote(&contents);
        Ok(())
    }

    /// Where the next data (or the next hole) from `offset` on begins.
    pub async fn next(&self, offset: u64, data: bool) -> Result<Option<u64>, Error> {
        let mut contents = self.contents.lock().await;
        self.settle_doom(&mut contents)?;
        Ok(contents.next(offset, data))
    }

    /// Fetches what shows of the base, at most so much, so that it can go.
    pub async fn fetch_base(&self, most: u64) -> Result<(), Error> {
        let mut contents = self.contents.lock().await;
        self.settle_doom(&mut contents)?;
        let all = contents.sent_end()..contents.size;
        let of_base = |(range, place)| (place == Place::Base).then_some(range);
        let runs: Vec<Range<u64>> = contents
            .places(all)
            .into_iter()
            .filter_map(of_base)
            .collect();
        let wanted: u64 = runs.iter().map(|run| run.end - run.start).sum();
        if wanted > most {
            return Err(Error::NotHere);
        }
        for run in runs {
            let mut at = run.start;
            while at < run.end {
                let end = run.end.min(at + FETCHED_AT_ONCE);
                let bytes = self.load(&contents, at..end).await?;
                contents.spool_base(&self.works, at, &bytes)?;
                at = end;
            }
        }
        contents.forget_base();
        Ok(())
    }

    /// Ends it as lost, whatever was decided before.
    pub fn lose(&self, why: &'static str) {
        let _ = self.outcome.set(Err(Error::Aborted(why)));
    }

    /// Decides that nothing of this draft is published, and returns at once.
    pub fn abort(&self, doom: Doom) {
        let _ = self.doom.set(doom);
        if let Some(upload) = self.upload.lock().expect("no panic while held").as_ref() {
            upload.abort(match doom {
                Doom::Unlinked => Why::Unlinked,
                Doom::Abandoned(_) => Why::GivenUp,
            });
        }
        if let Doom::Abandoned(why) = doom
            && !self.is_committing()
        {
            let _ = self.outcome.set(Err(Error::Aborted(why)));
            // Memory and disk go back now if nobody is using them, else when the blocked writer returns.
            if let Ok(mut contents) = self.contents.try_lock() {
                *contents = Contents::new(None);
            }
        }
    }

    fn spill(&self, contents: &mut Contents) -> Result<(), Error> {
        let gone = contents.go_to_spool(&self.works);
        gone.map_err(|error| self.ended_by(contents, error))
    }

    /// A write that was refused leaves a file that is not whole: it is not published, even if its
    /// writer closes it without a look at the error. (What was only asked for at the wrong place,
    /// [`Error::NotHere`], leaves it as it was.)
    fn ended_by(&self, contents: &mut Contents, error: Error) -> Error {
        if !matches!(error, Error::NotHere) && self.doom.get().is_none() {
            let _ = self.outcome.set(Err(error.clone()));
            if let Some(upload) = self.upload.lock().expect("no panic while held").as_ref() {
                upload.abort(Why::Write);
            }
            // The budgets get back what it held.
            *contents = Contents::new(None);
        }
        error
    }

    fn streams(&self) -> bool {
        self.works.store.capabilities().streamed
    }

    /// May so many bytes be written there?
    fn assert_takes(&self, contents: &mut Contents, offset: u64, len: usize) -> Result<(), Error> {
        let end = offset.saturating_add(len as u64);
        if end > self.works.store.capabilities().object_max {
            return Err(self.ended_by(contents, Error::TooLarge));
        }
        self.assert_streamed(contents, offset)
    }

    /// Where files are written front to back only: is this the next byte?
    fn assert_streamed(&self, contents: &mut Contents, offset: u64) -> Result<(), Error> {
        if !self.streams() || self.doom.get().is_some() {
            return Ok(());
        }
        if contents.base.as_ref().is_some_and(|base| base.size > 0) {
            return Err(self.ended_by(contents, Error::Unchangeable));
        }
        match offset == contents.size {
            true => Ok(()),
            false => Err(self.ended_by(contents, Error::NotStreamed)),
        }
    }

    fn resolve(&self, at: At, contents: &Contents) -> u64 {
        match at {
            At::Offset(offset) => offset,
            At::End => contents.size,
        }
    }

    fn wrote(&self, contents: &Contents) {
        *self.times.lock().expect("no panic while held") = Times::now();
        self.size.store(contents.size, Ordering::Release);
        self.dirty.store(true, Ordering::Release);
    }

    /// An ended draft takes nothing more; a lost upload ends it.
    fn still_open(&self) -> Result<(), Error> {
        if let Some(outcome) = self.outcome.get() {
            return Err(match outcome {
                Ok(_) => Error::Aborted("already committed"),
                Err(error) => error.clone(),
            });
        }
        let failure = self
            .upload
            .lock()
            .expect("no panic while held")
            .as_ref()
            .and_then(|u| u.failure());
        match failure {
            Some(failure) if self.doom.get().is_none() => {
                let error = Error::from(failure);
                let _ = self.outcome.set(Err(error.clone()));
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Brings the contents in line with what was decided without the lock.
    fn settle_doom(&self, contents: &mut Contents) -> Result<(), Error> {
        if let Err(error) = self.still_open() {
            // Whatever was waiting here is of no more use: give the budgets back.
            *contents = Contents::new(None);
            return Err(error);
        }
        match self.doom.get() {
            Some(Doom::Unlinked) => contents.go_to_spool(&self.works),
            Some(Doom::Abandoned(why)) => Err(Error::Aborted(why)),
            None => Ok(()),
        }
    }

    fn seal(&self, contents: &mut Contents) -> Result<(), Error> {
        let (number, chunks, crc) =
            contents.seal_tail(&self.works, self.keep_all.load(Ordering::Relaxed));
        let hold = Box::new(self.works.memory.under_way(chunks.len()));
        self.send(
            number,
            PartSource::Bytes {
                body: store::Body::new(chunks, crc),
                hold,
            },
        )
    }

    fn send(&self, number: u32, source: PartSource) -> Result<(), Error> {
        let mut upload = self.upload.lock().expect("no panic while held");
        // Looked at under the lock that abort() takes: either it sees this upload, or we see its doom.
        match self.doom.get() {
            // Nobody will ever see this part in the bucket; what reads it back has its own copy.
            Some(Doom::Unlinked) => return Ok(()),
            Some(Doom::Abandoned(why)) => return Err(Error::Aborted(why)),
            None => {}
        }
        upload
            .get_or_insert_with(|| {
                let (target, said) = (self.target(), self.attributes());
                let begun = Upload::new(&self.works.uploads, &target.key, &said, &target.before);
                *self.begun_with.lock().expect("no panic while held") = Some(said);
                Arc::new(begun)
            })
            .part(number, source);
        Ok(())
    }

    /// The bytes of a range, wherever they are.
    async fn load(&self, contents: &Contents, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; (range.end - range.start) as usize];
        for (run, place) in contents.places(range.clone()) {
            let slice =
                &mut out[(run.start - range.start) as usize..(run.end - range.start) as usize];
            match place {
                Place::Base => {
                    let base = contents.base.as_ref().expect("a place in the base");
                    fetch(&*self.works.store, base, run.start, slice).await?;
                }
                local => contents.read_local(&local, run.start, slice)?,
            }
        }
        Ok(out)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nobody can commit it any more.
        if self.outcome.get().is_none() {
            self.abort(Doom::Abandoned("nobody has it open"));
        }
    }
}

/// A draft that is held to be moved.
pub struct Moving<'a> {
    draft: &'a Draft,
    contents: tokio::sync::MutexGuard<'a, Contents>,
}

impl Moving<'_> {
    /// `object`: what version its file's object was, and what it is under the new key, if it has one.
    pub fn to(mut self, target: Target, object: Option<(ETag, ETag)>) {
        let mut now = self.draft.target.lock().expect("no panic while held");
        // What was copied onto it is where it was; what another client has replaced cannot be had any more.
        if let (Some(base), Some((was, is))) = (&mut self.contents.base, object)
            && base.key == now.key
            && base.etag == was
        {
            base.key.clone_from(&target.key);
            base.etag = is;
        }
        *now = target;
    }
}

const FETCH_TRIES: u32 = 5;
const FETCHED_AT_ONCE: u64 = 4 << 20;

/// Reads a range of the base object, going on where a broken body stopped.
async fn fetch(store: &dyn Store, base: &Base, start: u64, out: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    let mut tries = 0;
    while filled < out.len() {
        let rest = start + filled as u64..start + out.len() as u64;
        let mut download = store.get(&base.key, &base.etag, rest).await?;
        if download.object_size != base.size {
            return Err(store::Error {
                kind: ErrorKind::Conflict,
                operation: "GetObject",
                key: base.key.clone(),
                code: "OtherSize".to_string(),
                message: format!(
                    "{} bytes, and it was said to have {}",
                    download.object_size, base.size
                ),
                request_id: None,
            }
            .into());
        }
        while let Some(chunk) = download.body.next().await {
            let chunk: Bytes = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    tries += 1;
                    let again = matches!(
                        error.kind,
                        ErrorKind::Transient | ErrorKind::Throttled | ErrorKind::Unknown
                    );
                    if !again || tries >= FETCH_TRIES {
                        return Err(error.into());
                    }
                    store.tally().retried(error.operation, error.kind);
                    tokio::time::sleep(upload::pause(tries, true)).await;
                    break;
                }
            };
            let taken = chunk.len().min(out.len() - filled);
            out[filled..filled + taken].copy_from_slice(&chunk[..taken]);
            filled += taken;
        }
    }
    Ok(())
}
