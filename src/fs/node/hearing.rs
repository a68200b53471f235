//! What a node makes of what the store says: whether it is later than what is known, and whether it is still about this node.

use std::time::{Duration, SystemTime};

use super::{Name, Node, State, seconds};
use crate::draft::Version;
use crate::fs::moment::Moment;
use crate::read::Seen;
use crate::store::ETag;

/// What the store says of a file.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// When it was asked.
    pub asked: Moment,
    /// The version that it has; `None`: no such file.
    pub now: Option<&'a Version>,
}

/// What became of an answer of the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Noted,
    /// It is not about what the file is now: something newer is known, or about to be.
    Before,
    /// Programs have opened it as another version, which it stays: the kernel's pages and size of an inode are of one
    /// version only. It has lost its name (or had before).
    Another,
}

impl Node {
    /// Takes note of an answer of the store's, unless something newer is known, or another inode is to be what it tells of.
    ///
    /// That is decided and done in one step: what becomes known in between, by a commit perhaps, would be lost.
    pub fn hear(&self, answer: Answer<'_>, note: impl FnOnce(&mut State)) -> Heard {
        let mut state = self.state();
        if !self.would_be_news(&state, answer.asked) {
            return Heard::Before;
        }
        if !self.is_directory() && state.is_open_as_another(answer.now) {
            state.name = Name::Lost;
        }
        if state.name == Name::Lost {
            return Heard::Another;
        }
        note(&mut state);
        Heard::Noted
    }

    /// Is what the store answered to a question of that moment later than what is known? What this mount
    /// is about to make of a file is not in it, and is not another client's doing.
    pub fn is_news(&self, asked: Moment) -> bool {
        self.would_be_news(&self.state(), asked)
    }

    fn would_be_news(&self, state: &State, asked: Moment) -> bool {
        self.is_at_rest() && state.checked.is_none_or(|known| known <= asked)
    }

    /// The store was found to have this version when it was read: it need not be asked whether it has. The same bytes with
    /// other attributes are told by their time; but not by that of the second in which they were looked at last, as
    /// the store's clock is `now`.
    pub fn is_still(&self, etag: &ETag, size: u64, seen: Seen, now: SystemTime) {
        let asked = Moment::ago(seen.asked.elapsed());
        let mut state = self.state();
        if !self.would_be_news(&state, asked) {
            return;
        }
        let is_it = (state.object.as_ref())
            .is_some_and(|object| object.etag == *etag && object.size == size);
        let (Some(known), Some(stored)) = (state.checked, state.stored()) else {
            return;
        };
        if !is_it || state.said.is_none() || !state.has_name() || state.draft().is_some() {
            return;
        }
        let looked = now.checked_sub(known.elapsed());
        let age = looked.and_then(|looked| looked.duration_since(stored).ok());
        if seconds(stored) != seconds(seen.modified) {
            state.checked = None;
        } else if age.is_some_and(|age| age >= SAME_SECOND) {
            state.checked = Some(asked);
        }
    }
}

impl State {
    /// Have programs opened it as another version than the one that is there now (`None`: none is)?
    fn is_open_as_another(&self, now: Option<&Version>) -> bool {
        self.draft().is_none()
            && self.has_name()
            && self.is_open()
            && match (&self.object, now) {
                (Some(opened), Some(now)) => opened.etag != now.etag || opened.size != now.size,
                (Some(_), None) => true,
                (None, _) => false,
            }
    }
}

/// What happens so long after something else is of another second.
const SAME_SECOND: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::node::Kind;
    use crate::store::Attributes;

    fn version(number: u64) -> Version {
        Version {
            etag: ETag::new(format!("{number:032}")),
            size: number,
            modified: SystemTime::UNIX_EPOCH,
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        Asks(usize),
        IsAnswered(usize),
        AnotherClientPuts,
        CommitBegins,
        CommitEnds,
    }

    fn orders(rest: &[Event], so_far: &mut Vec<Event>, play: &mut impl FnMut(&[Event])) {
        use Event::*;
        if rest.is_empty() {
            play(so_far);
        }
        for (at, event) in rest.iter().enumerate() {
            let before = match event {
                IsAnswered(who) => Some(Asks(*who)),
                CommitEnds => Some(CommitBegins),
                Asks(_) | AnotherClientPuts | CommitBegins => None,
            };
            if before.is_none_or(|before| so_far.contains(&before)) {
                let mut rest = rest.to_vec();
                so_far.push(rest.remove(at));
                orders(&rest, so_far, play);
                so_far.pop();
            }
        }
    }

    /// What the store has is a number that grows.
    fn played(events: &[Event]) {
        let file = Node::root(2, Kind::File);
        file.state().saw_version(&version(1), Moment::now());
        let (mut stored, mut known, mut latest) = (1, 1, 1);
        let mut questions = [None; 2];
        let mut changing = None;
        for event in events {
            match *event {
                Event::Asks(who) => questions[who] = Some((Moment::now(), stored)),
                Event::IsAnswered(who) => {
                    let (asked, seen) = questions[who].expect("it was asked");
                    latest = latest.max(seen);
                    let now = &version(seen);
                    let answer = Answer {
                        asked,
                        now: Some(now),
                    };
                    file.hear(answer, |state| state.saw_version(now, asked));
                }
                Event::AnotherClientPuts => stored += 1,
                Event::CommitBegins => changing = Some(file.change()),
                Event::CommitEnds => {
                    stored += 1;
                    latest = stored;
                    file.state().made(version(stored), Attributes::default());
                    changing = None;
                }
            }
            let knows = file.state().object.as_ref().map_or(0, |object| object.size);
            assert!(
                knows >= known,
                "{knows} after {known}: {event:?} of {events:?}"
            );
            known = knows;
        }
        assert!(changing.is_none() && known == latest, "{known}: {events:?}");
    }

    #[test]
    fn what_is_known_is_the_latest_in_every_order_of_questions_answers_and_changes() {
        use Event::*;
        let events = [
            Asks(0),
            Asks(1),
            IsAnswered(0),
            IsAnswered(1),
            AnotherClientPuts,
            CommitBegins,
            CommitEnds,
        ];
        let mut tried = 0;
        orders(&events, &mut Vec::new(), &mut |events| {
            played(events);
            tried += 1;
        });
        assert_eq!(tried, 5040 / 8);
        println!("{tried} orders");
    }

    #[test]
    fn a_file_that_is_open_stays_its_version_and_loses_its_name() {
        let file = Node::root(2, Kind::File);
        file.state().saw_version(&version(5), Moment::now());
        let open = file.hold_open(false);
        let hear = |now: Option<&Version>| {
            let asked = Moment::now();
            file.hear(Answer { asked, now }, |state| {
                state.checked = Some(asked);
            })
        };
        assert_eq!(hear(Some(&version(5))), Heard::Noted);
        assert_eq!(hear(Some(&version(6))), Heard::Another);
        assert_eq!(file.state().name, Name::Lost);
        assert_eq!(file.state().object.as_ref().map(|o| o.size), Some(5));
        // Nothing is its own any more.
        drop(open);
        assert_eq!(hear(Some(&version(5))), Heard::Another);
    }
}
