//! What only directories have: their children, as far as they are known, and the names that are going.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::State;
use crate::fs::children::Children;
use crate::fs::moment::Moment;
use crate::fs::sweep::Row;

/// What only directories have.
pub struct Directory {
    /// The children in the table.
    pub children: Children,
    /// When the store last said what their marker says, or that they have none.
    pub marker_asked: Option<Moment>,
    /// The child that was last asked about. Whoever asks about the next goes through all.
    pub asked: u64,
    /// Something is said of files in it.
    pub keeps: bool,
    /// A marker object is known to be there, so that they stay when they are empty.
    pub marker: bool,
    /// All children were listed (or there were none) at this moment.
    complete: Option<Moment>,
    /// How often that came into doubt.
    pub doubts: u64,
    /// Names asked for since it was listed.
    pub wanted: u32,
    /// It is being listed again, for those.
    pub renewing: bool,
    pub modified: SystemTime,
    /// When a name was made or taken away here last, through this mount.
    pub touched: Option<SystemTime>,
    /// Names that are taken away one after another.
    pub row: Row,
    /// Names that are gone, and whose keys are not deleted yet. None of them is among the children.
    pub going: BTreeSet<Box<str>>,
    /// What was taken away could not be deleted, and nobody was told so far.
    pub unswept: bool,
}

static NO_DIRECTORY: Directory = Directory::new(SystemTime::UNIX_EPOCH);

impl Directory {
    const fn new(modified: SystemTime) -> Directory {
        Directory {
            children: Children::new(),
            marker_asked: None,
            asked: 0,
            keeps: false,
            marker: false,
            complete: None,
            doubts: 0,
            wanted: 0,
            renewing: false,
            modified,
            touched: None,
            row: Row::NONE,
            going: BTreeSet::new(),
            unswept: false,
        }
    }

    /// Nothing of it would be lost with it.
    pub fn is_idle(&self) -> bool {
        self.children.is_empty() && self.going.is_empty() && !self.unswept
    }
}

impl State {
    pub fn directory(&self) -> &Directory {
        self.used().directory.as_deref().unwrap_or(&NO_DIRECTORY)
    }

    pub fn directory_mut(&mut self) -> &mut Directory {
        let directory = &mut self.used_mut().directory;
        directory.get_or_insert_with(|| Box::new(Directory::new(SystemTime::now())))
    }

    /// Of a directory: when was it seen that what is not among its children is not there?
    pub fn complete(&self) -> Option<Moment> {
        self.directory().complete
    }

    pub fn complete_for(&self) -> Option<Duration> {
        self.complete().map(Moment::elapsed)
    }

    /// All children are known as they were at that moment, if there has been no doubt since.
    pub fn knows_all(&mut self, at: Moment, doubts: u64) {
        let directory = self.directory_mut();
        if directory.doubts == doubts {
            directory.complete = Some(at);
            directory.wanted = 0;
        }
    }

    /// A child may be there that is not known.
    pub fn doubt(&mut self) {
        let directory = self.directory_mut();
        directory.complete = None;
        directory.doubts += 1;
    }

    /// It has another key: what a listing that is under way tells is not all of it.
    pub fn was_renamed(&mut self) {
        self.directory_mut().doubts += 1;
    }

    /// A name in this directory was made or taken away.
    pub fn touch(&mut self) {
        let now = SystemTime::now();
        let directory = self.directory_mut();
        directory.touched = Some(now);
        directory.row = Row::NONE;
        self.used_mut().changed = Some(now);
    }

    /// A file's name in this directory was taken away.
    pub fn lost_a_name(&mut self, caller: u32) {
        let mut row = self.directory().row;
        row.follow(caller);
        self.touch();
        self.directory_mut().row = row;
    }

    /// The keys of what had this name are to be deleted.
    pub fn goes(&mut self, name: &str) {
        self.directory_mut().going.insert(name.into());
    }

    /// Names are free again: what they were of is deleted, or (`kept`) of some it could not be.
    pub fn gone<'a>(&mut self, names: impl Iterator<Item = &'a str>, kept: bool) {
        let directory = self.directory_mut();
        for name in names {
            directory.going.remove(name);
        }
        if kept {
            directory.unswept = true;
            self.doubt();
        }
    }
}
