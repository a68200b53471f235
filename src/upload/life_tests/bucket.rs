//! The bucket: one key, our uploads for it, somebody else's, and how vendors differ.

use super::super::life::{AbortAnswer, Completion, Listing, PartAnswer};
use super::super::recovery::Base;

/// Versions of the parts, 0 where there is none.
pub(super) type Parts = [u8; 3];

pub(super) type UploadNo = u8;

/// The upload of somebody else for the same key. It has no part yet, which is when it is hardest to
/// tell from ours; it was not begun while a Create of ours was unanswered.
pub(super) const FOREIGN: UploadNo = u8::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub name: &'static str,
    /// Completing again what was completed succeeds; otherwise NoSuchUpload.
    pub completes_again: bool,
    /// Parts in flight at an abort may land after it, and then the upload is there again.
    pub parts_land_after_abort: bool,
    /// Conditions on Complete are honoured; otherwise silently ignored.
    pub conditional: bool,
    /// A PUT or DELETE of the key ends the uploads for it.
    pub writes_kill_uploads: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Object {
    Absent,
    Base,
    Foreign,
    Ours,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Open,
    Aborted,
    Completed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Upload {
    life: Life,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    pub object: Object,
    base: Object,
    uploads: Vec<Upload>,
    pub foreign_upload_lives: bool,
}

impl Bucket {
    pub fn new(base: bool) -> Bucket {
        let base = match base {
            true => Object::Base,
            false => Object::Absent,
        };
        Bucket {
            object: base,
            base,
            uploads: Vec::new(),
            foreign_upload_lives: true,
        }
    }

    pub fn has_open_upload(&self) -> bool {
        self.uploads.iter().any(|u| u.life == Life::Open)
    }

    pub fn base(&self) -> Object {
        self.base
    }

    pub fn create(&mut self) -> UploadNo {
        self.uploads.push(Upload {
            life: Life::Open,
            parts: Parts::default(),
        });
        self.uploads.len() as UploadNo - 1
    }

    /// The rule: open, begun while a Create of ours was under way, without a part, and the only one.
    pub fn find(&self, lax: bool) -> Option<UploadNo> {
        let fits = |u: &Upload| u.life == Life::Open && u.parts == Parts::default();
        let mut ours = (0..).zip(&self.uploads).filter(|(_, u)| fits(u));
        match (ours.next(), ours.next()) {
            (Some((number, _)), None) => Some(number),
            (None, _) if lax => Some(FOREIGN),
            _ => None,
        }
    }

    pub fn put_part(
        &mut self,
        upload: UploadNo,
        number: u8,
        version: u8,
        dialect: &Dialect,
    ) -> PartAnswer {
        let Some(upload) = self.uploads.get_mut(upload as usize) else {
            return PartAnswer::NotApplied;
        };
        match upload.life {
            Life::Open => {}
            Life::Aborted if dialect.parts_land_after_abort => {
                upload.life = Life::Open;
                upload.parts = Parts::default();
            }
            Life::Aborted | Life::Completed => return PartAnswer::NotApplied,
        }
        upload.parts[number as usize - 1] = version;
        PartAnswer::Stored
    }

    /// The answer, and whether the object was published by this very request.
    pub fn complete(
        &mut self,
        upload: UploadNo,
        parts: &Parts,
        conditional: bool,
        dialect: &Dialect,
    ) -> (Completion, bool) {
        let Some(upload) = self.uploads.get_mut(upload as usize) else {
            return (Completion::NoSuchUpload, false);
        };
        match upload.life {
            Life::Completed if dialect.completes_again => return (Completion::Done, false),
            Life::Completed | Life::Aborted => return (Completion::NoSuchUpload, false),
            Life::Open => {}
        }
        let listed = |(listed, held): (&u8, &u8)| *listed == 0 || listed == held;
        if *parts == Parts::default() || !parts.iter().zip(&upload.parts).all(listed) {
            return (Completion::Refused, false);
        }
        if conditional && dialect.conditional && self.object != self.base {
            return (Completion::Conflict, false);
        }
        upload.life = Life::Completed;
        upload.parts = Parts::default();
        self.object = Object::Ours;
        (Completion::Done, true)
    }

    pub fn compare(&self) -> Base {
        match self.object {
            Object::Ours => Base::Ours,
            object if object == self.base => Base::Unchanged,
            _ => Base::Changed,
        }
    }

    pub fn abort(&mut self, upload: UploadNo) -> AbortAnswer {
        if upload == FOREIGN {
            self.foreign_upload_lives = false;
            return AbortAnswer::Done;
        }
        match self.uploads.get_mut(upload as usize) {
            Some(upload) if upload.life == Life::Open => {
                upload.life = Life::Aborted;
                upload.parts = Parts::default();
                AbortAnswer::Done
            }
            _ => AbortAnswer::NoSuchUpload,
        }
    }

    pub fn list(&self, upload: UploadNo) -> Listing {
        match self.uploads.get(upload as usize) {
            Some(upload) if upload.life == Life::Open => Listing::StillThere,
            _ => Listing::NoSuchUpload,
        }
    }

    pub fn foreign_write(&mut self, object: Object, dialect: &Dialect) {
        self.object = object;
        if dialect.writes_kill_uploads {
            self.sweep();
        }
    }

    /// Somebody aborts what is open, as a lifecycle rule would.
    pub fn sweep(&mut self) {
        for upload in self.uploads.iter_mut().filter(|u| u.life == Life::Open) {
            upload.life = Life::Aborted;
            upload.parts = Parts::default();
        }
    }
}
