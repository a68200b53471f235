//! What the store says of a file, and what is made of it. The one place where an answer becomes what is known.
//!
//! Answers come in any order, and while this mount changes the same file. Invariants:
//! - Whoever asked later is believed: what is known is as old as the question, not as the answer.
//! - Whether an answer is news is decided in one step with taking note of it ([`Node::hear`]).
//! - A file that programs have open stays the version they opened. If another client has put something else under its name
//!   (or taken it away) it loses that, and the name leads to another inode from then on.

use std::sync::Arc;

use super::moment::Moment;
use super::node::{Answer, Heard, Kind, Name, Node, State, version_of};
use super::{Error, Fs, Result};
use crate::store::{self, ErrorKind, ObjectInfo};

impl Fs {
    /// Asks the store what a file (or a directory's marker) is now.
    pub(super) async fn refresh(&self, node: &Node) -> Result<()> {
        if !node.state().has_name() {
            // What has its name now is something else.
            return Ok(());
        }
        let asked = Moment::now();
        let answer = self.store.head(&node.key()).await;
        match node.is_directory() {
            true => self.marker_is(node, asked, answer),
            false => self.file_is(node, asked, answer),
        }
    }

    fn marker_is(
        &self,
        node: &Node,
        asked: Moment,
        answer: store::Result<ObjectInfo>,
    ) -> Result<()> {
        let marker = match answer {
            Ok(marker) => Some(marker),
            Err(error) if error.kind == ErrorKind::Missing => None,
            Err(error) => return Err(error.into()),
        };
        let is_there = marker.is_some();
        {
            let mut state = node.state();
            let directory = state.directory_mut();
            if directory.marker_asked > Some(asked) {
                return Ok(());
            }
            directory.marker_asked = Some(asked);
            if let Some(marker) = &marker {
                directory.marker = true;
                directory.modified = marker.modified;
            }
            let said = marker.and_then(|marker| marker.attributes);
            state.said = said.map(|said| Arc::new(*said));
        }
        if is_there {
            self.marker_says(node);
        }
        Ok(())
    }

    fn file_is(&self, node: &Node, asked: Moment, answer: store::Result<ObjectInfo>) -> Result<()> {
        match answer {
            Ok(object) => self.file_is_there(node, asked, &object),
            Err(error) if error.kind == ErrorKind::Missing => {
                let mut is_gone = false;
                self.hear(node, Answer { asked, now: None }, |state| {
                    is_gone = state.live_draft().is_none();
                    if is_gone {
                        (state.object, state.checked) = (None, None);
                    }
                });
                match is_gone {
                    true => Err(error.into()),
                    false => Ok(()),
                }
            }
            // Something newer has become known meanwhile, by a commit perhaps.
            Err(_) if !node.is_news(asked) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn file_is_there(&self, node: &Node, asked: Moment, object: &ObjectInfo) -> Result<()> {
        let version = version_of(object);
        let answer = Answer {
            asked,
            now: Some(&version),
        };
        let (mut is_of_its_kind, mut is_stale) = (true, false);
        let heard = self.hear(node, answer, |state| {
            is_of_its_kind = state.live_draft().is_some() || self.kind_of(object) == node.kind;
            if is_of_its_kind {
                state.saw(object, asked);
                let shown = state.shown();
                is_stale = shown.is_some_and(|size| size != object.size);
                // Until it asks again it believes nothing.
                state.show(shown.filter(|_| !is_stale));
            }
        });
        if heard != Heard::Noted {
            return Ok(());
        }
        if !is_of_its_kind {
            // A listing took it for a file. The kernel looks the name up again.
            if let Some(parent) = self.tree.get(node.parent()) {
                self.keeps(&parent);
                self.tree.replace(&parent, node);
            }
            return Err(Error::quiet(libc::ESTALE));
        }
        self.heard_of(node);
        // It reads no further than the size it believes in.
        if is_stale && let Some(kernel) = self.kernel.get() {
            kernel.forget_attributes(node.ino);
        }
        Ok(())
    }

    /// The node of a name under which the store has a file (or a link), and what became of that answer. `None`: the name
    /// was taken away, and what the bucket still has of it is going.
    pub(super) fn found(
        &self,
        parent: &Arc<Node>,
        name: &str,
        known: Option<Arc<Node>>,
        kind: Kind,
        answer: Answer<'_>,
        note: impl Fn(&mut State),
    ) -> Option<(Arc<Node>, Heard)> {
        if let Some(known) = known.filter(|known| !known.is_directory()) {
            let is_of_its_kind = known.kind == kind;
            let heard = self.hear(&known, answer, |state| {
                if is_of_its_kind {
                    note(state);
                }
            });
            if heard == Heard::Before || (heard == Heard::Noted && is_of_its_kind) {
                return Some((known, heard));
            }
        }
        loop {
            let node = self.tree.ensure(parent, name, kind)?;
            match self.hear(&node, answer, &note) {
                // The name is free for another one now.
                Heard::Another => {}
                heard => return Some((node, heard)),
            }
        }
    }

    /// The store has no file of that name. Answers its node, if that knows better.
    pub(super) fn is_missing(&self, parent: &Node, name: &str, asked: Moment) -> Option<Arc<Node>> {
        let child = self.tree.child(parent, name)?;
        let mut is_begun = false;
        let heard = self.hear(&child, Answer { asked, now: None }, |state| {
            is_begun = state.live_draft().is_some();
            if !is_begun {
                state.name = Name::Lost;
            }
        });
        let knows_better = is_begun || (heard == Heard::Before && !child.is_directory());
        if !knows_better {
            self.tree.lose(parent, &child);
        }
        knows_better.then_some(child)
    }

    /// What [`Node::hear`] makes of an answer. Who loses his name by it is nobody's child any more.
    fn hear(&self, node: &Node, answer: Answer<'_>, note: impl FnOnce(&mut State)) -> Heard {
        let heard = node.hear(answer, note);
        if heard == Heard::Another
            && let Some(parent) = node.above()
        {
            self.tree.lose(&parent, node);
        }
        heard
    }
}
