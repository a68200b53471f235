//! Copying objects on the server: for renames, and for what is said of an object, which no store changes
//! in place.

use bytes::Bytes;

use super::Fs;
use crate::draft::{Base, COPY_AT_ONCE, Draft, Version};
use crate::store::{self, Attributes, Body, ETag, ErrorKind, Precondition};
use crate::upload::ledger::Before;

/// A source that another client changed while it was copied is copied anew so often.
pub(super) const TRIES: u32 = 5;

impl Fs {
    /// Makes `to` what `source` is, as long as that is this version: with all that is said of it, or with
    /// `said` instead. `before`: what `to` holds. Answers the version it has become.
    pub(super) async fn copy_object(
        &self,
        source: &str,
        object: &Version,
        to: &str,
        before: Before,
        said: Option<&Attributes>,
    ) -> store::Result<Version> {
        let capabilities = self.store.capabilities();
        let at_once = COPY_AT_ONCE.min(capabilities.copy_max);
        let etag = if object.size <= at_once || !capabilities.part_copy {
            let (etag, size) = (&object.etag, object.size);
            match self.store.copy(to, source, etag, size, said).await {
                Err(error) if source.ends_with('/') && size == 0 => {
                    self.mark_likewise(source, to, said, error).await?
                }
                copied => copied?,
            }
        } else {
            // An upload like any other, journalled and all, whose parts come from the source.
            let said = match said {
                Some(said) => said.clone(),
                None => *self
                    .store
                    .head(source)
                    .await?
                    .attributes
                    .unwrap_or_default(),
            };
            let base = Base {
                key: source.to_string(),
                etag: object.etag.clone(),
                size: object.size,
            };
            let target = self.target(to, before);
            let copy = Draft::new(&self.works, target, said, Some(base), true);
            copy.commit_copy().await?.etag
        };
        Ok(Version {
            etag,
            ..object.clone()
        })
    }

    /// Some stores keep directories of their own, and copy no key of one (SeaweedFS, versitygw). It is empty, so another is as
    /// good. `refused`: what was said to the copy, and holds if this one is not there.
    async fn mark_likewise(
        &self,
        source: &str,
        to: &str,
        said: Option<&Attributes>,
        refused: store::Error,
    ) -> store::Result<ETag> {
        if !matches!(refused.kind, ErrorKind::Missing | ErrorKind::Invalid) {
            return Err(refused);
        }
        let marker = match self.store.head(source).await {
            Ok(marker) if marker.size == 0 => marker,
            _ => return Err(refused),
        };
        let said = match said {
            Some(said) => said.clone(),
            None => *marker.attributes.unwrap_or_default(),
        };
        let nothing = Body::from_bytes(Bytes::new());
        self.store
            .put(to, nothing, &said, &Precondition::None)
            .await
    }
}
