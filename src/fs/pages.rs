//! The kernel's pages of a file, to be given what somebody reads here and there in it: see [`crate::read`].
//!
//! Invariant: nobody reads a page that was given here of another version than the one he opened. Pages are given only
//! while the kernel's are of that version, and nobody could write (what he wrote through a mapping would be written over); and
//! who changes that waits, before he answers, until what is just being given is there ([`Fs::pages_settled`]), so that it is
//! given up with all others.

use std::sync::Arc;

use async_trait::async_trait;

use super::node::Node;
use super::{Fs, KernelCache};
use crate::draft::Base;
use crate::host::memory;
use crate::read::{Data, Pages};
use crate::turns::Turns;

/// Files to whose pages something is being given: one at a time.
#[derive(Clone, Default)]
pub(super) struct Giving {
    loads: Arc<Turns<u64>>,
    /// By whom.
    claims: Arc<Turns<u64>>,
}

struct PagesOf {
    node: Arc<Node>,
    object: Base,
    kernel: Arc<dyn KernelCache>,
    giving: Giving,
}

impl Fs {
    /// The kernel's pages of a file, as that version of it. `None`: there is no mount yet.
    pub(super) fn pages_of(&self, node: &Arc<Node>, object: &Base) -> Option<Arc<dyn Pages>> {
        Some(Arc::new(PagesOf {
            node: node.clone(),
            object: object.clone(),
            kernel: self.kernel.get()?.clone(),
            giving: self.giving.clone(),
        }))
    }

    /// What pages of a file are given from now on is what they are to be.
    pub(super) async fn pages_settled(&self, node: &Node) {
        if self.giving.loads.are_taken(&node.ino) {
            // In the order of asking: lanes take their turns without end.
            drop(self.giving.loads.take(node.ino).await);
        }
    }
}

impl PagesOf {
    fn are_of_this_version(&self) -> bool {
        let state = self.node.state();
        let cached = state.used().cached.as_ref();
        state.draft().is_none()
            && !state.is_open_to_write()
            && cached.is_some_and(|cached| {
                cached.etag == self.object.etag && cached.size == self.object.size
            })
    }
}

#[async_trait]
impl Pages for PagesOf {
    fn room(&self) -> u64 {
        // Others use the other half.
        memory::available() / 2
    }

    fn claim(&self) -> Option<Box<dyn Send + Sync>> {
        let claim = self.giving.claims.try_take(self.node.ino)?;
        Some(Box::new(claim))
    }

    async fn keep(&self, offset: u64, data: Data) -> bool {
        let turn = self.giving.loads.take(self.node.ino).await;
        if !self.are_of_this_version() {
            return false;
        }
        let (kernel, ino) = (self.kernel.clone(), self.node.ino);
        // It may have to wait for a read of such a page that is under way. Nobody else has a turn meanwhile, whatever
        // becomes of us.
        let kept = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            kernel.keep_data(ino, offset, &data)
        });
        kept.await.unwrap_or(false)
    }
}
