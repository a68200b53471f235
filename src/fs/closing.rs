//! What ends a write: closing, syncing, dying, unmounting. Here a draft is published or given up, by the
//! [verdict](super::verdict).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::file::{OpenFile, sticky};
use super::node::{Name, Node};
use super::verdict::{Closer, LOOK_AGAIN, Looks, Step, Verdict, cut_short};
use super::{Error, Fs, Posix, Result};
use crate::draft::{Doom, Draft};
use crate::host::feeder::Feeder;
use crate::host::holders::{Held, OpenedFile};
use crate::host::process::{self, Fate, Thread};
use crate::host::signals;
use crate::pauses;

/// For how long it is looked whether somebody who was killed in open(2) begins to die.
const DYING_MAX: Duration = Duration::from_millis(100);

/// What its descriptors are told of a draft that is over.
fn ended(draft: &Draft) -> Option<Result<()>> {
    let outcome = draft.outcome()?;
    Some(outcome.as_ref().map(drop).map_err(sticky))
}

impl Fs {
    /// A descriptor is closed (one of perhaps many of the same open file).
    pub async fn flush(self: &Arc<Self>, handle: u64, tid: u32) -> Result<()> {
        let file = self.file(handle)?;
        let (draft, wrote) = {
            let mut used = file.used();
            used.had_descriptors = true;
            if used.torn {
                return Err(Error::quiet(libc::EIO));
            }
            (used.draft.clone(), used.wrote)
        };
        let Some(draft) = draft else { return Ok(()) };
        if let Some(ended) = ended(&draft) {
            return ended;
        }
        if self.is_left_to_its_writers(&file) {
            return Ok(());
        }
        let thread = Thread::of(tid);
        let process = thread.process;
        let may_be_opener = process.is_none() || file.opener.is_none() || process == file.opener;
        let involved = may_be_opener || process.is_some_and(|p| file.is_writer(p));
        let closer = Closer {
            fate: thread.fate(),
            involved,
            executes: !involved && thread.is_executing(),
        };
        let closer = Fs::fed_by_one_cut_short(&file).unwrap_or(closer);
        let verdict = self.settled_verdict(closer, || {
            match self.is_still_open(&file, process, wrote && may_be_opener) {
                Held::No if self.is_another_cut_short(&file, process) => Held::ByOneWhoDies,
                held => held,
            }
        });
        match verdict.await {
            Verdict::GiveUp(why) => {
                self.give_up(&file.node, &draft, why);
                Err(Error::quiet(libc::EIO))
            }
            Verdict::Later => {
                // By whoever opened it, and at each of its numbers: others who close it end nothing.
                let opened = OpenedFile::new(self.mounted(), file.node.ino);
                if may_be_opener && process.is_none_or(|opener| !opened.is_written_by(opener)) {
                    file.used().closed = true;
                }
                Ok(())
            }
            Verdict::Commit => {
                // While others were waited for.
                if let Some(ended) = ended(&draft) {
                    return ended;
                }
                file.used().closed = true;
                self.commit_to_the_end(&file.node, &draft).await
            }
        }
    }

    /// Who has only made it, to read it (as flock(1) does), has no part in what others write to it.
    fn is_left_to_its_writers(&self, file: &OpenFile) -> bool {
        let files = self.open_files();
        let mut others = files.iter().map(|(_, open)| open);
        !file.writable && others.any(|open| open.writable && open.node.ino == file.node.ino)
    }

    /// The verdict, when those are through who have the file open for the moment alone.
    async fn settled_verdict(&self, closer: Closer, held: impl Fn() -> Held) -> Verdict {
        let began = Instant::now();
        let mut looks = Looks::new(closer, self.options.abort_on_failure);
        loop {
            match looks.step(began.elapsed(), &held) {
                Step::Over(verdict) => return verdict,
                Step::LookAgain(soon) => tokio::time::sleep(soon).await,
            }
        }
    }

    /// Is somebody else whose file it is just dying? What he has open is not to be seen any more.
    fn is_another_cut_short(&self, file: &OpenFile, process: Option<u32>) -> bool {
        let Some(process) = process else { return false };
        (file.others_involved(process).into_iter()).any(|other| {
            let other = Thread::of(other);
            self.was_cut_short(&other).is_some() && other.closes_its_files()
        })
    }

    /// Who is fed through a pipe sees its end, and closes in order, also when its feeder was killed. (Of SIGPIPE that dies
    /// whose reader has had enough. And who ends by a code has closed what it had to say.)
    fn fed_by_one_cut_short(file: &OpenFile) -> Option<Closer> {
        const ENOUGH: Fate = Fate::Killed(libc::SIGPIPE as u8);
        let as_if_by = |feeder: Arc<Feeder>| Closer {
            fate: feeder.fate(),
            involved: true,
            executes: false,
        };
        let mut closers = file.feeders().into_iter().map(as_if_by);
        closers.find(|closer| matches!(closer.fate, Fate::Killed(_)) && closer.fate != ENOUGH)
    }

    fn feeder_cut_short(file: &OpenFile) -> Option<&'static str> {
        Fs::fed_by_one_cut_short(file).and_then(|closer| cut_short(closer, false))
    }

    fn was_cut_short(&self, involved: &Thread) -> Option<&'static str> {
        let closer = Closer {
            fate: involved.fate(),
            involved: true,
            executes: false,
        };
        cut_short(closer, self.options.abort_on_failure)
    }

    /// Is this close one of several of the same open file?
    fn is_still_open(&self, file: &OpenFile, process: Option<u32>, by_opener: bool) -> Held {
        // Cannot be told: treat it as the last.
        let Some(process) = process else {
            return Held::No;
        };
        let mut others: Vec<_> = (self.open_files().iter())
            .filter(|(_, f)| f.writable && f.node.ino == file.node.ino)
            .filter(|(_, f)| !std::ptr::eq(&**f, file))
            .filter_map(|(_, f)| f.opener)
            .collect();
        let opened = OpenedFile::new(self.mounted(), file.node.ino);
        match by_opener {
            // Two opens by one process look alike in /proc; then each close commits.
            true if others.contains(&process) => Held::No,
            true => file.is_left_by_opener(&opened, process, &others),
            false => {
                // Who opened this one, too, may have that.
                others.retain(|other| *other != process && Some(*other) != file.opener);
                opened.is_written_beside(process, &others, |p| file.has_written(p))
            }
        }
    }

    /// Pages of a mapping come: at the latest while the memory of who has mapped it is taken down, which a process that
    /// dies waits for. One that has closed the file before tells of its death in no other way. Do they count? (Whose
    /// they are is not told: they do, if they may be another's.)
    pub fn pages_count(&self, handle: u64) -> bool {
        let Ok(file) = self.file(handle) else {
            return true;
        };
        let Some(why) = self.writers_were_cut_short(&file) else {
            return true;
        };
        let draft = {
            let mut used = file.used();
            used.torn = true;
            used.draft.clone()
        };
        if let Some(draft) = draft.filter(|d| d.outcome().is_none() && !d.is_committing()) {
            self.give_up(&file.node, &draft, why);
        }
        self.forget_data(file.node.ino);
        false
    }

    /// Was whoever opened this file cut short, and has nobody else to do with its writing?
    fn writers_were_cut_short(&self, file: &OpenFile) -> Option<&'static str> {
        let cut_short = |opener: u32| self.was_cut_short(&Thread::of(opener));
        let opener = file.opener?;
        let why = cut_short(opener)?;
        let alone = !process::has_children(opener)
            && (self.open_files().iter())
                .filter(|(_, open)| open.writable && open.node.ino == file.node.ino)
                .all(|(_, open)| {
                    let its = open.opener;
                    its == Some(opener) || its.is_some_and(|other| cut_short(other).is_some())
                });
        alone.then_some(why)
    }

    /// Nobody ever had a descriptor of it: was its opener killed in the middle of open(2), which is how that fails when we have
    /// answered? He is not yet dying, perhaps.
    async fn opener_was_killed(&self, file: &OpenFile) -> Option<&'static str> {
        let opener = file.opener?;
        let began = Instant::now();
        loop {
            let thread = Thread::of(opener);
            let is_gone = thread.process.is_none() || signals::is_being_killed(opener);
            if is_gone || matches!(thread.fate(), Fate::Killed(_)) {
                return Some("the program that opened it was killed before it had it");
            }
            if began.elapsed() >= DYING_MAX {
                return None;
            }
            tokio::time::sleep(*LOOK_AGAIN.start()).await;
        }
    }

    /// The last descriptor of an open file is gone, from the moment of the call; what that leaves to be done is what is answered.
    pub fn release(self: &Arc<Self>, handle: u64) -> impl Future<Output = ()> + Send + use<> {
        let under_way = self.under_way();
        let file = self.remove_file(handle);
        let fs = self.clone();
        async move {
            let _under_way = under_way;
            if let Some(file) = file {
                fs.finish_release(&file).await;
            }
        }
    }

    async fn finish_release(&self, file: &OpenFile) {
        let (draft, closed, was_opened) = {
            let used = file.used();
            let was_opened = used.had_descriptors || used.wrote;
            (used.draft.clone(), used.closed, was_opened)
        };
        if let Some(draft) = draft.filter(|_| !self.is_left_to_its_writers(file)) {
            let is_left = draft.outcome().is_none() && draft.is_dirty() && !closed;
            let cut_short = match is_left {
                true if !was_opened => self.opener_was_killed(file).await,
                true => (self.writers_were_cut_short(file)).or_else(|| Fs::feeder_cut_short(file)),
                false => None,
            };
            if draft.outcome().is_some() {
                self.let_go(&file.node, &draft);
            } else if let Some(why) = cut_short {
                self.give_up(&file.node, &draft, why);
            } else if draft.is_dirty() {
                // Its error has nobody to go to but the log.
                let _ = self.finish_commit(&file.node, &draft).await;
            } else {
                self.drop_untouched(&file.node, &draft);
            }
        }
        {
            let mut state = file.node.state();
            if !state.has_name() && !state.is_open() {
                // It was nowhere but here, and nobody has it any more.
                state.drop_draft();
            }
        }
        self.tree.drop_if_idle(&file.node);
    }

    /// fsync(2): what was written is in the bucket when this returns.
    pub async fn sync(self: &Arc<Self>, handle: u64, tid: u32) -> Result<()> {
        let file = self.file(handle)?;
        let draft = file.used().draft.clone().or_else(|| file.node.live_draft());
        let Some(draft) = draft else { return Ok(()) };
        if let Some(why) = Fs::feeder_cut_short(&file).filter(|_| ended(&draft).is_none()) {
            self.give_up(&file.node, &draft, why);
            return Err(Error::quiet(libc::EIO));
        }
        match ended(&draft) {
            Some(ended) => ended,
            // Whose half it is, nobody else makes whole.
            None if !self.may_end_writing(&file, &draft, tid) => Err(Error::loud(
                libc::EBUSY,
                "another program is writing it: it is published when that closes it, or syncs it",
            )),
            None => self.commit_to_the_end(&file.node, &draft).await,
        }
    }

    /// Has this process to do with the writing of the file: can it write it, did it, or started it who does, or was it
    /// started by him? (It cannot always be told.) Or is the writing over, and the file on its way?
    fn may_end_writing(&self, file: &OpenFile, draft: &Arc<Draft>, tid: u32) -> bool {
        let thread = Thread::of(tid);
        let Some(process) = thread.process else {
            return true;
        };
        if file.writable || draft.is_committing() {
            return true;
        }
        let written: Vec<_> = (self.open_files().into_iter())
            .map(|(_, open)| open)
            .filter(|open| open.writable && open.node.ino == file.node.ino)
            .collect();
        let its = |open: &Arc<OpenFile>| {
            let is_child = |parent| open.opener == Some(parent) || open.has_written(parent);
            match open.opener {
                None => true,
                Some(opener) => {
                    opener == process
                        || open.is_writer(process)
                        || thread.parent.is_some_and(is_child)
                }
            }
        };
        written.iter().all(|open| open.used().closed)
            || written.iter().any(its)
            || OpenedFile::new(self.mounted(), file.node.ino).may_be_written_by(process)
    }

    /// The same as [`finish_commit`](Self::finish_commit), and not cut short when whoever waits for
    /// it goes away.
    pub(super) async fn commit_to_the_end(
        self: &Arc<Self>,
        node: &Arc<Node>,
        draft: &Arc<Draft>,
    ) -> Result<()> {
        let (fs, node, draft) = (self.clone(), node.clone(), draft.clone());
        self.to_its_end(async move { fs.finish_commit(&node, &draft).await })
            .await
    }

    /// Commits a draft and brings the node up to date. Must run to its end.
    async fn finish_commit(&self, node: &Node, draft: &Arc<Draft>) -> Result<()> {
        let _turn = self.publishing.take(node.ino).await;
        if self.options.keeps_metadata {
            let time = Posix {
                mtime: Some(draft.times().modified),
                ..Posix::default()
            };
            draft.say_if_not_begun(|said| time.say_in(&mut said.metadata));
        }
        // Until what is known of it is up to date again.
        let _revising = node.revise();
        let result = draft.commit().await;
        // It is over, and the node does not know yet.
        pauses::may_pause();
        if draft.outcome().is_some() {
            let was_current = {
                let mut state = node.state();
                let current = state.is_draft(draft);
                if current {
                    state.drop_draft();
                }
                // In one step: nobody sees it as neither.
                if let (true, Ok(Some(version))) = (current, &result) {
                    let used = state.used_mut();
                    used.changed = used.changed.max(Some(draft.times().changed));
                    state.made(version.clone(), draft.attributes());
                    state.set_cached(None);
                }
                current
            };
            match &result {
                Ok(Some(_)) if was_current => self.forget_data(node.ino),
                Err(_) if was_current => self.lost_draft(node),
                _ => {}
            }
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = Error::from(error);
                if let Some(why) = &error.why {
                    warn!("/{}: not published: {why}", node.key());
                }
                Err(Error::quiet(error.errno))
            }
        }
    }

    /// Nothing of this draft will be published; what was there before is there again.
    fn give_up(&self, node: &Node, draft: &Arc<Draft>, why: &'static str) {
        info!("/{}: not published: {why}", node.key());
        draft.abort(Doom::Abandoned(why));
        let current = {
            let mut state = node.state();
            let current = state.is_draft(draft);
            if current && !draft.is_committing() {
                state.drop_draft();
            }
            current
        };
        if current {
            self.lost_draft(node);
        }
    }

    /// A draft that ended in the middle of its writing.
    fn let_go(&self, node: &Node, draft: &Arc<Draft>) {
        // Who published it brings the node up to date.
        if !matches!(draft.outcome(), Some(Err(_))) {
            return;
        }
        let current = {
            let mut state = node.state();
            let current = state.is_draft(draft);
            if current {
                state.drop_draft();
            }
            current
        };
        if current {
            self.lost_draft(node);
        }
    }

    /// A file that was never published is no more.
    fn lost_draft(&self, node: &Node) {
        self.forget_data(node.ino);
        let is_no_more = {
            let mut state = node.state();
            // What the bucket has is to be asked anew.
            state.checked = None;
            // (Somebody may have begun it again.)
            let was_ever = state.object.is_some() || state.live_draft().is_some();
            let is_no_more = !was_ever && state.has_name();
            if is_no_more {
                state.name = Name::Lost;
            }
            is_no_more
        };
        if is_no_more {
            if let Some(parent) = self.tree.get(node.parent()) {
                self.tree.lose(&parent, node);
            }
            self.forget_name(node.parent(), &node.name());
        }
    }

    /// A file opened for writing and not written to.
    fn drop_untouched(&self, node: &Node, draft: &Arc<Draft>) {
        let others = self.open_files().iter().any(|(_, f)| {
            f.used()
                .draft
                .as_ref()
                .is_some_and(|d| Arc::ptr_eq(d, draft))
        });
        if !others {
            let mut state = node.state();
            if state.is_draft(draft) {
                state.drop_draft();
            }
        }
    }

    /// Nothing is begun any more when the mount ends.
    pub(super) fn assert_goes_on(&self) -> Result<()> {
        match self.ending.load(Ordering::Relaxed) {
            true => Err(Error::loud(libc::EIO, "the mount is ending")),
            false => Ok(()),
        }
    }

    /// What only a copy of its descriptor was closed of is open still. To be asked while it is mounted: afterwards nobody
    /// can tell.
    pub fn look_who_has_files_open(&self) {
        for (_, file) in self.open_files() {
            let is_left = {
                let used = file.used();
                let draft = used.draft.as_ref();
                used.closed && draft.is_some_and(|d| d.outcome().is_none() && d.is_dirty())
            };
            let opened = OpenedFile::new(self.mounted(), file.node.ino);
            if is_left && opened.is_written_by_anyone() {
                file.used().closed = false;
            }
        }
    }

    /// The mount ends: what was closed is finished, what is still open is given up, and every upload
    /// is seen to its end, all until `deadline`. Answers how many uploads, renames and the like were left behind.
    pub async fn end(self: &Arc<Self>, deadline: tokio::time::Instant) -> usize {
        self.ending.store(true, Ordering::Relaxed);
        let mut commits = tokio::task::JoinSet::new();
        for (_, file) in self.open_files() {
            let (draft, closed) = {
                let used = file.used();
                (used.draft.clone(), used.closed)
            };
            let Some(draft) = draft.filter(|d| d.outcome().is_none()) else {
                continue;
            };
            if (closed && draft.is_dirty()) || draft.is_committing() {
                let fs = self.clone();
                commits.spawn(async move {
                    let _ = fs.commit_to_the_end(&file.node, &draft).await;
                });
            } else if draft.is_dirty() {
                self.give_up(&file.node, &draft, "it was still open when the mount ended");
            }
        }
        self.end_sweeps(deadline).await;
        let _ = tokio::time::timeout_at(deadline, async {
            while commits.join_next().await.is_some() {}
        })
        .await;
        // Releases that came in before have their commits under way on their own; renames and removals are, too.
        let half_way = self.all_is_done(deadline).await;
        self.works.uploads.settle(deadline).await.max(half_way)
    }
}
