//! Publishing a draft: one PUT when it is small, otherwise the parts that are missing, the ranges
//! that can be copied on the server, and Complete.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::warn;

use super::contents::{Base, Contents};
use super::layout::{Source, plan};
use super::{Doom, Draft, Error, Version};
use crate::store::{self, Body, ETag, ErrorKind, Precondition};
use crate::upload::PartSource;

/// From this size on a copy is made of parts, in parallel.
pub const COPY_AT_ONCE: u64 = 256 << 20;

impl Draft {
    /// Publishes the whole draft and ends it. Repeating it answers the same.
    /// `None`: there was nothing to publish, or nothing may be (the file was unlinked).
    pub async fn commit(&self) -> Result<Option<Version>, Error> {
        let mut contents = self.contents.lock().await;
        if let Some(Ok(version)) = self.outcome() {
            return Ok(Some(version.clone()));
        }
        self.settle_doom(&mut contents)?;
        if !self.is_dirty() || self.doom.get().is_some() {
            return Ok(None);
        }
        self.committing.store(true, Ordering::Release);
        let result = self.publish(&mut contents).await;
        let result = match (result, self.doom.get()) {
            // The name went away during the commit: there is nothing to say to whoever closes it.
            (Err(error), Some(Doom::Unlinked)) if !error.leaves_it_open() => {
                self.said().last = false;
                // Who has it open goes on with what it was.
                if contents.take_back(&self.works).is_err() {
                    self.lose("its name is gone, and it could not be kept on disk (--spool-dir)");
                }
                self.committing.store(false, Ordering::Release);
                return Ok(None);
            }
            (Err(_), Some(Doom::Abandoned(why))) => Err(Error::Aborted(why)),
            (Err(error), Some(Doom::Unlinked) | None) => Err(error),
            (Ok(etag), _) => Ok(Version {
                etag,
                size: contents.size,
                modified: self.times().modified,
            }),
        };
        let _ = self.outcome.set(result.clone());
        *contents = Contents::new(None);
        self.upload.lock().expect("no panic while held").take();
        self.committing.store(false, Ordering::Release);
        result.map(Some)
    }

    async fn publish(&self, contents: &mut Contents) -> Result<ETag, Error> {
        let doubts = self.works.uploads.doubts();
        doubts.settled_for_long(&self.target().key).await?;
        if let Some(base) = self.single_copy(contents) {
            let (key, store) = (self.target().key, &self.works.store);
            let said = self.last_word();
            let copied = store.copy(&key, &base.key, &base.etag, base.size, Some(&said));
            return Ok(self.or_in_doubt(copied.await)?);
        }
        if !contents.spooled && contents.tail.end() < contents.size {
            // Bytes of the base, or a hole made by extending: not a stream any more.
            contents.go_to_spool(&self.works)?;
        }
        let size = contents.size;
        let small = size
            <= self
                .works
                .layout
                .first()
                .min(self.works.store.capabilities().put_max);
        if contents.sent.is_empty() && small {
            return self.put(contents).await;
        }
        let parts = if contents.sent.is_empty() && contents.spooled {
            self.send_planned(contents).await?
        } else {
            self.send_rest(contents).await?
        };
        let upload = self.upload.lock().expect("no panic while held").clone();
        let upload = upload.ok_or(Error::Aborted("given up while it was committed"))?;
        let etag = upload.commit(parts, size, self.target().condition).await?;
        Ok(self.said_later(etag, size).await)
    }

    /// What is to be said of an object and was not known when its upload began (its time, mostly) needs
    /// a copy onto itself. The bytes are published by now: that this fails is no reason to say they are not.
    async fn said_later(&self, etag: ETag, size: u64) -> ETag {
        let said = self.last_word();
        let begun = self.begun_with.lock().expect("no panic while held").take();
        if begun.as_ref() == Some(&said) || self.doom.get().is_some() {
            return etag;
        }
        let (key, store) = (self.target().key, &self.works.store);
        if size > store.capabilities().copy_max {
            warn!("/{key}: too large for a copy: its times and modes are those of its creation");
            return etag;
        }
        match store.copy(&key, &key, &etag, size, Some(&said)).await {
            Ok(etag) => etag,
            Err(error) => {
                warn!("/{key}: published, but not its times and modes: {error}");
                etag
            }
        }
    }

    /// The object of which the store makes this in one request.
    fn single_copy<'a>(&self, contents: &'a Contents) -> Option<&'a Base> {
        let (target, capabilities) = (self.target(), self.works.store.capabilities());
        let largest = COPY_AT_ONCE.min(capabilities.copy_max);
        contents.copy_of().filter(|base| {
            // A copy takes no condition on what it replaces.
            let free = target.condition == Precondition::None && base.key != target.key;
            free && (base.size <= largest || !capabilities.part_copy)
        })
    }

    async fn put(&self, contents: &mut Contents) -> Result<ETag, Error> {
        let streamed = !contents.spooled && contents.tail.end() == contents.size;
        let (body, _hold) = if streamed {
            let (chunks, crc) = contents.put_aside();
            (Body::new(chunks, crc), None)
        } else {
            let (body, hold) = self.load_piece(contents, 0..contents.size).await?;
            (body, Some(hold))
        };
        if self.doom.get().is_some() {
            return Err(Error::Aborted("given up before it was sent"));
        }
        let target = self.target();
        let said = self.last_word();
        let store = &self.works.store;
        let put = store.put(&target.key, body, &said, &target.condition);
        Ok(self.or_in_doubt(put.await)?)
    }

    /// What nobody answered for may be applied yet: nothing comes to its key before that.
    fn or_in_doubt(&self, published: store::Result<ETag>) -> store::Result<ETag> {
        published.inspect_err(|error| {
            if error.kind == ErrorKind::Unknown {
                self.works.uploads.doubts().about(&error.key).lapse();
            }
        })
    }

    /// A file on the base of another (or spooled before anything was sent): copies what did not change.
    async fn send_planned(&self, contents: &Contents) -> Result<u32, Error> {
        let works = &self.works;
        let pieces = plan(
            contents.runs(),
            &works.rules,
            works.layout.first(),
            works.memory.largest_part(),
        )
        .ok_or(Error::TooManyParts)?;
        for (number, piece) in (1..).zip(&pieces) {
            let range = piece.range.clone();
            let source = match piece.source {
                Source::Base => {
                    let base = contents.base.as_ref().expect("copied pieces have a base");
                    PartSource::Copy {
                        source: base.key.clone(),
                        etag: base.etag.clone(),
                        range,
                    }
                }
                Source::Zeros => zeros(&range),
                Source::Here => self.load_part(contents, range).await?,
            };
            self.send_unless_lost(number, source)?;
        }
        Ok(pieces.len() as u32)
    }

    /// A file whose first parts were streamed: what was rewritten since, and what is left.
    async fn send_rest(&self, contents: &mut Contents) -> Result<u32, Error> {
        for index in 0..contents.sent.len() {
            if contents.sent[index].stale {
                let range = contents.sent[index].range.clone();
                let hold = self.works.memory.reserve(range.end - range.start).await;
                let body = body_of(contents.stale_part(index)?);
                self.send_unless_lost(
                    index as u32 + 1,
                    PartSource::Bytes {
                        body,
                        hold: Box::new(hold),
                    },
                )?;
                contents.sent[index].stale = false;
            }
        }
        if !contents.spooled {
            if contents.tail.len > 0 {
                self.seal(contents)?;
            }
            return Ok(contents.sent.len() as u32);
        }
        let mut number = contents.sent.len() as u32;
        let mut at = contents.sent_end();
        while at < contents.size {
            number += 1;
            let len = self.works.layout.size(number).ok_or(Error::TooManyParts)?;
            let end = (at + len).min(contents.size);
            let source = self.load_part(contents, at..end).await?;
            self.send_unless_lost(number, source)?;
            at = end;
        }
        Ok(number)
    }

    fn send_unless_lost(&self, number: u32, source: PartSource) -> Result<(), Error> {
        let failure = self
            .upload
            .lock()
            .expect("no panic while held")
            .as_ref()
            .and_then(|u| u.failure());
        match failure {
            Some(failure) => Err(failure.into()),
            None => self.send(number, source),
        }
    }

    async fn load_part(
        &self,
        contents: &Contents,
        range: std::ops::Range<u64>,
    ) -> Result<PartSource, Error> {
        if contents.is_hole(range.clone()) {
            return Ok(zeros(&range));
        }
        let (body, hold) = self.load_piece(contents, range).await?;
        Ok(PartSource::Bytes {
            body,
            hold: Box::new(hold),
        })
    }

    async fn load_piece(
        &self,
        contents: &Contents,
        range: std::ops::Range<u64>,
    ) -> Result<(Body, tokio::sync::OwnedSemaphorePermit), Error> {
        let hold = self.works.memory.reserve(range.end - range.start).await;
        let bytes = self.load(contents, range).await?;
        Ok((Body::from_bytes(Bytes::from(bytes)), hold))
    }
}

/// They take no memory.
fn zeros(range: &std::ops::Range<u64>) -> PartSource {
    PartSource::Bytes {
        body: Body::zeros(range.end - range.start),
        hold: Box::new(()),
    }
}

fn body_of(chunks: Vec<Bytes>) -> Body {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    chunks.iter().for_each(|c| digest.update(c));
    Body::new(chunks, digest.finalize())
}
