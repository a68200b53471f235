//! Taking its name away from a file that somebody has open, by unlink(2) or by a rename onto it: what is
//! being written is never published, and whoever has it open goes on with what was there.

use std::sync::Arc;

use tracing::debug;

use super::copies::TRIES;
use super::node::Node;
use super::{Error, Fs, Result};
use crate::draft::Doom;
use crate::turns::Turn;

/// So much of an object is fetched for those who have it open when its name goes. Of a larger one they
/// read on where the bucket keeps versions, and are told ESTALE elsewhere.
const KEPT_MAX: u64 = 64 << 20;

/// A name that is being taken away.
pub(super) struct Parting {
    /// The bucket may hold an object of it.
    pub published: bool,
    _turn: Turn,
    _going: Turn,
}

impl Fs {
    /// What has the name, with the turn to take that away. Whoever was killed while he renamed or removed it may be at
    /// it still.
    pub(super) async fn in_turn(
        self: &Arc<Self>,
        parent: &Arc<Node>,
        name: &str,
    ) -> Result<(Arc<Node>, Turn)> {
        for _ in 0..TRIES {
            let node = self.ask_or_known(parent, name).await?;
            let turn = self.naming.take(node.ino).await;
            if self.is_named(&node, parent, name) {
                return Ok((node, turn));
            }
        }
        Err(Error::quiet(libc::ENOENT))
    }

    pub(super) fn is_named(&self, node: &Node, parent: &Node, name: &str) -> bool {
        let now = self.tree.child(parent, name);
        now.is_some_and(|now| now.ino == node.ino)
    }

    /// The file's name is about to go. As long as the answer is held, nothing is published under it; what
    /// somebody begins to write meanwhile waits for what becomes of the name. What is being written is given up
    /// when the name is gone ([`parted`](Self::parted)), for the store may refuse that.
    pub(super) async fn part_with(self: &Arc<Self>, node: &Arc<Node>) -> Result<Parting> {
        let committing = node.live_draft().filter(|draft| draft.is_committing());
        if let Some(draft) = &committing {
            draft.abort(Doom::Unlinked);
        }
        // Too late to stop it, perhaps: wait for its end, then delete what it made.
        let turn = self.publishing.take(node.ino).await;
        if let Some(draft) = &committing
            && draft.is_uncertain()
        {
            // A request may be on its way that would bring the file back after a delete.
            return Err(Error::loud(
                libc::EIO,
                "the store does not say whether it was published; try again when it answers",
            ));
        }
        let published = committing.is_some() || node.state().object.is_some();
        // Who opens it from here on waits for what becomes of it.
        let going = self.parting.take(node.ino).await;
        if published && node.is_open() {
            self.keep_for_those_who_have_it_open(node).await;
        }
        Ok(Parting {
            published,
            _turn: turn,
            _going: going,
        })
    }

    async fn keep_for_those_who_have_it_open(&self, node: &Arc<Node>) {
        let draft = match node.live_draft() {
            Some(draft) => draft,
            None => {
                let object = node.state().object.clone();
                if object.is_none_or(|object| object.size > KEPT_MAX) {
                    return;
                }
                match self.attach_now(node) {
                    Some(draft) => draft,
                    None => return,
                }
            }
        };
        if let Err(error) = draft.fetch_base(KEPT_MAX).await {
            debug!("/{}: not kept for who has it open: {error}", node.key());
            self.forget_draft(node);
        }
    }

    /// The name is gone: what was being written under it is never published.
    pub(super) fn parted(&self, parent: &Node, node: &Arc<Node>) {
        if let Some(draft) = node.live_draft() {
            draft.abort(Doom::Unlinked);
        }
        self.tree.detach(parent, node);
    }

    /// The name could not be taken away: the file is what the bucket has, or what somebody has begun to write
    /// since.
    pub(super) fn not_parted(&self, node: &Arc<Node>) {
        if let Some(draft) = node.live_draft().filter(|draft| draft.is_unlinked()) {
            draft.lose("its name could not be taken away");
            self.forget_draft(node);
        }
    }

    /// Of what nobody has written to.
    fn forget_draft(&self, node: &Arc<Node>) {
        let mut state = node.state();
        if state.draft().is_some_and(|draft| !draft.is_dirty()) {
            state.drop_draft();
        }
    }
}
