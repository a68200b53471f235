//! Which files are being written, without a walk through all that are known.

use std::sync::{Arc, Mutex, Weak};

use super::node::Node;
use crate::draft::Draft;

#[derive(Default)]
pub(super) struct Written(Mutex<Vec<(Weak<Node>, Weak<Draft>)>>);

fn is_live((_, draft): &(Weak<Node>, Weak<Draft>)) -> bool {
    let draft = draft.upgrade();
    draft.is_some_and(|draft| draft.outcome().is_none())
}

impl Written {
    /// To be said before the node has the draft.
    pub fn add(&self, node: &Arc<Node>, draft: &Arc<Draft>) {
        let mut all = self.0.lock().expect("no panic while held");
        if all.len() == all.capacity() {
            // Before there is more room of it: what is over.
            all.retain(is_live);
        }
        all.push((Arc::downgrade(node), Arc::downgrade(draft)));
    }

    pub fn now(&self) -> Vec<Arc<Node>> {
        let mut all = self.0.lock().expect("no panic while held");
        all.retain(is_live);
        all.iter().filter_map(|(node, _)| node.upgrade()).collect()
    }
}
