//! Renames whose daemon dies in the middle, and what the next mount makes of them.

use std::fs;
use std::sync::atomic::Ordering;

use crate::support::mount::{Place, detach, mount_command};
use crate::support::tools::{kill, run_within};
use crate::support::{Content, MIB, Mount, Store, seconds};

/// Renames `old` to `new` through a mount of its own whose daemon is killed before or after its `k`-th
/// request. Answers whether it came to that; if not, the rename is done and the mount ended.
fn renamed_and_killed_at(
    store: &Store,
    place: &Place,
    options: &[&str],
    moment: &str,
    k: u64,
) -> bool {
    let source = format!("s3://{}", store.bucket);
    let mut mount = Mount::within(place, "mnt", store, &source, options);
    let faults = store.faults();
    let pid = mount.daemon() as i32;
    faults.target().store(pid, Ordering::SeqCst);
    let fault = faults.script(&format!("n={k}:kill-{moment}=target"));
    let fault = fault.expect("a fault");
    let renamed = fs::rename(mount.path("old"), mount.path("new"));
    let killed = faults.fired(fault) > 0;
    if !killed {
        renamed.expect("renamed");
        kill(mount.pid(), libc::SIGTERM);
    }
    mount.wait_for_death();
    detach(&mount.at);
    faults.clear();
    killed
}

#[test]
fn a_daemon_killed_at_any_request_of_a_rename_leaves_the_old_name_or_both() {
    let (content, target) = (Content::new(1, 300 * MIB), Content::new(2, MIB));
    let stores = [Store::embedded(), Store::that_renames()];
    let mut kills = 0;
    let moments = ["before", "after"];
    let tried = stores
        .iter()
        .flat_map(|store| moments.map(|moment| (store, moment)));
    for (store, moment) in tried {
        for k in 1.. {
            let server = store.server();
            server.put_object(&store.bucket, "old", content.bytes());
            server.put_object(&store.bucket, "new", target.bytes());
            let killed = renamed_and_killed_at(store, &Place::default(), &[], moment, k);
            let what = format!("killed {moment} request {k}");
            let old = store.compare("old", &content).is_ok();
            let new = store.compare("new", &content).is_ok();
            assert!(old || new, "{what}: neither name has it");
            assert!(new || store.compare("new", &target).is_ok(), "{what}: torn");
            store.assert_no_uploads_within(10, &what);
            if !killed {
                assert!(new && !old);
                break;
            }
            kills += 1;
        }
    }
    println!("{kills} kills");
    assert!(kills >= 16, "only {kills} kills");
}

const BELOW: [&str; 8] = ["", "1", "2", "3", "below/", "below/4", "below/5", "empty/"];

fn keys_of(directory: &str) -> Vec<String> {
    let keys = BELOW.iter().map(|rest| format!("{directory}/{rest}"));
    keys.collect()
}

/// Nothing is in the bucket but a directory `old`.
fn put_directory(store: &Store) {
    for key in store.keys() {
        store.delete(&key);
    }
    for rest in BELOW {
        let server = store.server();
        server.put_object(&store.bucket, &format!("old/{rest}"), rest.to_owned());
    }
}

fn left_in(place: &Place) -> usize {
    fs::read_dir(place.state()).map_or(0, Iterator::count)
}

/// The next mount, which ends what the last one began.
fn mounted_again(store: &Store, place: &Place) {
    let source = format!("s3://{}", store.bucket);
    let next = Mount::within(place, "mnt", store, &source, &["--no-guardian"]);
    assert!(next.terminate().success());
}

/// With the guardian, which recovers at once, and without, where the next mount does.
#[test]
fn a_daemon_killed_at_any_request_of_a_directorys_rename_leaves_one_name_and_all_of_it() {
    let store = Store::embedded();
    let (mut kills, mut finished) = (0, 0);
    for (guarded, onto_empty) in [(true, false), (true, true), (false, false)] {
        for moment in ["before", "after"] {
            for k in 1.. {
                put_directory(&store);
                let mut unchanged = keys_of("old");
                if onto_empty {
                    store.put("new/", "");
                    unchanged.insert(0, "new/".to_owned());
                }
                let place = Place::default();
                let options: &[&str] = if guarded { &[] } else { &["--no-guardian"] };
                let killed = renamed_and_killed_at(&store, &place, options, moment, k);
                let what = format!("killed {moment} request {k}, guarded: {guarded}");
                if !guarded {
                    mounted_again(&store, &place);
                }
                let found = store.keys();
                let is_new = found == keys_of("new");
                assert!(is_new || found == unchanged, "{what}: {found:?}");
                let name = if is_new { "new" } else { "old" };
                let content = store.get(&format!("{name}/below/5"));
                assert_eq!(content.as_deref(), Some(&b"below/5"[..]));
                let left = left_in(&place);
                assert_eq!(left, 0, "{what}: nothing is left in the state directory");
                finished += usize::from(killed && is_new);
                if !killed {
                    assert!(is_new);
                    break;
                }
                kills += 1;
            }
        }
    }
    println!("{kills} kills, {finished} finished, the others taken back");
    assert!(kills >= 90, "only {kills} kills");
    assert!(
        finished >= 20 && kills - finished >= 20,
        "{finished} of {kills} finished"
    );
}

/// Dies when some of the eight are copied (or deleted), and some are not. Answers where its journal is.
fn died_copying(store: &Store, copying: bool) -> Place {
    put_directory(store);
    let place = Place::default();
    let operation = if copying {
        "CopyObject"
    } else {
        "DeleteObject"
    };
    let source = format!("s3://{}", store.bucket);
    let mut mount = Mount::within(&place, "mnt", store, &source, &["--no-guardian"]);
    let pid = mount.daemon() as i32;
    let faults = store.faults();
    faults.target().store(pid, Ordering::SeqCst);
    // Three are not sent before the death of the daemon, however many are on their way.
    let never = faults.script(&format!("op={operation},key=/below/:hang-before"));
    never.expect("a fault");
    let fault = faults.script(&format!("op={operation},key=/3:kill-after=target"));
    let fault = fault.expect("a fault");
    let _ = fs::rename(mount.path("old"), mount.path("new"));
    mount.wait_for_death();
    detach(&mount.at);
    assert_eq!(faults.fired(fault), 1);
    faults.clear();
    assert!(left_in(&place) > 0);
    place
}

#[test]
fn what_others_put_below_either_name_of_a_cut_off_rename_stays() {
    let store = Store::embedded();
    for copying in [true, false] {
        let place = died_copying(&store, copying);
        let theirs = ["new/theirs", "old/theirs too"];
        for key in theirs {
            store.put(key, key);
        }
        // The same name, and another content.
        let (kept, other) = if copying {
            ("old", "new")
        } else {
            ("new", "old")
        };
        let replaced = format!("{other}/below/5");
        store.put(&replaced, "longer than it was");
        // Or one as long as it was.
        let copies = store.keys().into_iter();
        let mut copies = copies.filter(|key| key.starts_with("new/") && !key.ends_with('/'));
        let alike = copies.find(|key| ![theirs[0], &replaced].contains(&&**key));
        let alike = alike.expect("some were copied");
        if copying {
            let long = store.get(&alike).expect("it is there").len();
            store.put(&alike, vec![b'?'; long]);
        }
        mounted_again(&store, &place);
        let mut expected = [keys_of(kept), theirs.map(String::from).to_vec()].concat();
        expected.push(replaced);
        expected.extend(copying.then_some(alike));
        expected.sort();
        assert_eq!(store.keys(), expected, "copying: {copying}");
        assert_eq!(left_in(&place), 0);
    }
}

#[test]
fn a_cut_off_rename_the_store_does_not_let_end_is_ended_by_a_later_mount() {
    let store = Store::embedded();
    for copying in [true, false] {
        let place = died_copying(&store, copying);
        let refused = store.faults().script("op=DeleteObject:error=403");
        let refused = refused.expect("a fault");
        let source = format!("s3://{}", store.bucket);
        let mount = Mount::within(&place, "mnt", &store, &source, &["--no-guardian"]);
        // It serves all the same.
        assert!(mount.path("old").is_dir() && mount.path("new").is_dir());
        let said = mount.stderr();
        assert!(said.contains("rename"), "{said}");
        assert!(mount.terminate().success());
        assert!(store.faults().fired(refused) > 0 && left_in(&place) > 0);
        store.faults().clear();
        mounted_again(&store, &place);
        let kept = if copying { "old" } else { "new" };
        assert_eq!(store.keys(), keys_of(kept), "copying: {copying}");
        assert_eq!(left_in(&place), 0);
    }
}

#[test]
fn a_damaged_journal_of_a_rename_refuses_the_mount_and_is_named() {
    let store = Store::embedded();
    let place = died_copying(&store, true);
    let found = place.instances().into_iter().find_map(|instance| {
        let entries = fs::read_dir(instance).expect("listed").flatten();
        let mut paths = entries.map(|entry| entry.path());
        paths.find(|path| path.to_string_lossy().contains("/rename-"))
    });
    let found = found.expect("the rename is journalled");
    let whole = fs::read(&found).expect("read");
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&found, damaged).expect("written");
    let before = store.keys();
    let mut command = mount_command(&store);
    command.arg("--state-dir").arg(place.state());
    let point = place.path("mnt");
    let refused = run_within(
        command.arg(format!("s3://{}", store.bucket)).arg(&point),
        seconds(30),
    );
    assert!(!refused.ok());
    let name = found.display().to_string();
    assert!(refused.err.contains(&name), "{}", refused.err);
    assert_eq!(store.keys(), before);
    fs::write(&found, whole).expect("written");
    mounted_again(&store, &place);
    assert_eq!(store.keys(), keys_of("old"));
}
