//! The daemon killed at every request to stores that are not ours: the same promise, looked at through
//! S3 alone.

use super::ends::{ENDS, End, Told};
use super::scene::{Held, NEW, OLD, OPTIONS, side_by_side};
use crate::support::mount::Place;
use crate::support::proxy::{Moment, Proxy};
use crate::support::tools::kill;
use crate::support::wait::holds_within;
use crate::support::{Mount, Store, eventually, seconds};

/// What tells a store apart here.
#[derive(Clone, Copy)]
struct Kind {
    start: fn() -> Option<Store>,
    /// It says when an upload began. Where it does not, nobody can tell an upload whose creation was
    /// not answered from somebody else's, and it is left.
    knows_the_time: bool,
}

struct Lane {
    end: End,
    moment: Moment,
    store: Store,
    proxy: Proxy,
    knows_the_time: bool,
    keeps_older_uploads: bool,
}

/// Some stores drop the uploads of a key that began before it was last written or deleted. Found out
/// without us.
fn keeps_older_uploads(store: &Store) -> bool {
    let id = store.begin_upload("probe");
    store.put("probe", "newer");
    let uploads = store.open_uploads();
    let kept = uploads.iter().any(|(_, its)| *its == id);
    if kept {
        store.abort_upload("probe", &id);
    }
    store.delete("probe");
    kept
}

impl Lane {
    fn new(kind: Kind, end: End, moment: Moment) -> Option<Lane> {
        let mut store = (kind.start)()?;
        let proxy = Proxy::to(&store.endpoint);
        store.endpoint = proxy.endpoint.clone();
        Some(Lane {
            keeps_older_uploads: keeps_older_uploads(&store),
            end,
            moment,
            store,
            proxy,
            knows_the_time: kind.knows_the_time,
        })
    }

    /// Answers how often the daemon could be killed.
    fn at_every_request(&self) -> u64 {
        let mut k = 1;
        while self.killed_at(k) {
            k += 1;
        }
        k - 1
    }

    /// `false`: the file came to its end in fewer requests.
    fn killed_at(&self, k: u64) -> bool {
        let (store, end) = (&self.store, self.end);
        let key = format!("{end:?}-{k}");
        let what = format!("{end:?}, {:?} request {k}", self.moment);
        if end.has_old() {
            store.put(&key, OLD.bytes());
        }
        let theirs = store.begin_upload(&key);
        let place = Place::default();
        let source = format!("s3://{}", store.bucket);
        let mut mount = Mount::within(&place, "mnt", store, &source, &OPTIONS);
        self.proxy.kill_at(k, self.moment, mount.daemon());
        let told = end.play(&mount, &key, &|| self.proxy.parts());
        eventually(seconds(30), &what, || {
            self.proxy.has_killed() || self.ours(&key, &theirs).is_empty()
        });
        if !self.proxy.has_killed() {
            kill(mount.pid(), libc::SIGTERM);
        }
        // The guardian's recovery is over then.
        let status = mount.wait_for_death();
        let killed = self.proxy.has_killed();
        self.proxy.disarm();
        assert_eq!(status.success(), !killed, "{what}: {status}");
        self.assert_sound(&key, told, &theirs, &what);
        assert_eq!(place.instances().len(), 0, "{what}: journals are left");
        if store.open_uploads().iter().any(|(_, id)| *id == theirs) {
            store.abort_upload(&key, &theirs);
        }
        killed
    }

    fn ours(&self, key: &str, theirs: &str) -> Vec<(String, String)> {
        let mut uploads = self.store.open_uploads();
        uploads.retain(|(its_key, id)| its_key == key && id != theirs);
        uploads
    }

    #[track_caller]
    fn assert_sound(&self, key: &str, told: Told, theirs: &str, what: &str) {
        let mut ours = Vec::new();
        let clean = holds_within(seconds(5), || {
            ours = self.ours(key, theirs);
            ours.is_empty()
        });
        if !clean {
            // Theirs has one part.
            let parts = self.store.parts_of(key);
            let nameless = ours.len() == 1 && parts == 1;
            let excused = !self.knows_the_time && nameless;
            assert!(excused, "{what}: left: {ours:?}, {parts} parts with theirs");
            println!("{what}: nobody can tell whose {ours:?} is");
            self.store.abort_upload(key, &ours[0].1);
        }
        let held = match self.store.get(key) {
            None => Held::Nothing,
            Some(bytes) if NEW.compare(&bytes[..]).is_ok() => Held::New,
            Some(bytes) if OLD.compare(&bytes[..]).is_ok() => Held::Old,
            Some(bytes) => panic!("{what}: {key} is torn ({} bytes)", bytes.len()),
        };
        let may = self.end.may_hold(told);
        assert!(may.contains(&held), "{what}: told {told:?}, held {held:?}");
        let untouched = match held {
            Held::Nothing => !self.end.has_old(),
            Held::Old => true,
            Held::New => false,
        };
        if untouched || self.keeps_older_uploads {
            let uploads = self.store.open_uploads();
            let there = uploads.iter().any(|(_, id)| id == theirs);
            assert!(there, "{what}: theirs is gone");
        }
    }
}

/// Lanes under way at once: each has its own store.
const AT_ONCE: usize = 4;

fn at_every_request(kind: Kind, minimum: u64) {
    let mut cases = Vec::new();
    for end in ENDS {
        cases.extend([Moment::Before, Moment::After].map(|moment| (end, moment)));
    }
    let mut all = 0;
    for cases in cases.chunks(AT_ONCE) {
        let kills = side_by_side(cases, |&(end, moment)| {
            let kills = Lane::new(kind, end, moment)?.at_every_request();
            println!("{end:?}, {moment:?}: {kills} kills");
            Some(kills)
        });
        if kills.contains(&None) {
            return;
        }
        all += kills.into_iter().flatten().sum::<u64>();
    }
    println!("{all} kills in all");
    assert!(all >= minimum, "only {all} kills");
}

mod long {
    use super::*;

    #[test]
    fn killed_at_any_request_to_garage_nothing_is_left_and_nothing_torn_on_garage() {
        let kind = Kind {
            start: Store::garage,
            knows_the_time: true,
        };
        at_every_request(kind, 80);
    }

    #[test]
    fn killed_at_any_request_to_moto_nothing_is_left_and_nothing_torn() {
        // It says of every upload that it began in 2010.
        let kind = Kind {
            start: Store::moto,
            knows_the_time: false,
        };
        at_every_request(kind, 80);
    }

    /// The servers of `scripts/test --servers`: one for all lanes, a bucket each.
    const ON_SWIFT: &str = "crashes::stores::on_swift";
    const ON_RCLONE: &str = "crashes::stores::on_rclone";
    const ON_CEPH: &str = "crashes::stores::on_ceph";

    #[test]
    fn killed_at_any_request_to_swift_nothing_is_left_and_nothing_torn_on_swift() {
        let kind = Kind {
            start: || Store::swift(ON_SWIFT),
            knows_the_time: true,
        };
        at_every_request(kind, 80);
    }

    #[test]
    fn killed_at_any_request_to_rclone_nothing_is_left_and_nothing_torn_on_rclone() {
        let kind = Kind {
            start: || Store::rclone(ON_RCLONE),
            knows_the_time: true,
        };
        at_every_request(kind, 80);
    }

    #[test]
    fn killed_at_any_request_to_ceph_nothing_is_left_and_nothing_torn_on_ceph() {
        let kind = Kind {
            start: || Store::ceph(ON_CEPH),
            knows_the_time: true,
        };
        at_every_request(kind, 80);
    }
}
