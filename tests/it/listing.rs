//! Large directories of a store that is far: several pages are on their way at once, and what is shown is what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use wholefs::embedded::{Dialect, Options};

use crate::support::{Mount, Store, eventually, seconds};

/// Farther than what is held to be near.
const FAR: Duration = Duration::from_millis(20);

fn far(dialect: Dialect) -> Store {
    Store::embedded_with(Options {
        latency: FAR,
        dialect,
        ..Options::default()
    })
}

fn names(at: &Path) -> Vec<String> {
    let entries = fs::read_dir(at).expect("opened");
    entries
        .map(|entry| entry.expect("listed").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

fn assert_whole(listed: Vec<String>, expected: &BTreeSet<String>, what: &str) {
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "{what}: names come twice");
    let missing: Vec<_> = expected.difference(&unique).take(3).collect();
    let strange: Vec<_> = unique.difference(expected).take(3).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "{what}: {missing:?} are missing, {strange:?} are not there"
    );
}

fn random(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Keys below a directory, and the names it shows for them.
fn fill(store: &Store, dir: &str, keys: impl Iterator<Item = String>) -> BTreeSet<String> {
    let put = |key: String| {
        let (server, bucket) = (store.server(), &store.bucket);
        server.put_object(bucket, &format!("{dir}/{key}"), "");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    keys.map(put).collect()
}

/// How many listings were under way at once, at the most.
fn most_at_once(store: &Store, operation: &str) -> usize {
    let records = store.log().of(operation);
    let together = |at| {
        let is_on = |record: &&_| {
            let record: &wholefs::embedded::Record = record;
            record.started <= at && record.finished.is_none_or(|end| end > at)
        };
        records.iter().filter(is_on).count()
    };
    let most = records.iter().map(|record| together(record.started)).max();
    most.unwrap_or(0)
}

#[test]
fn a_far_directory_is_shown_whole_whatever_its_names_are() {
    for (options, operation) in [
        (&[][..], "ListObjectsV2"),
        (&["--capability", "list_v2=false"], "ListObjects"),
    ] {
        let store = far(Dialect::default());
        let count = 5_500;
        let shown = [
            // A name, and what is at once.
            (
                "numbered",
                2,
                fill(
                    &store,
                    "numbered",
                    (0..count).map(|n| format!("{n:06}.jpg")),
                ),
            ),
            (
                "random",
                2,
                fill(
                    &store,
                    "random",
                    (0..count).map(|n| format!("{:016x}", random(n))),
                ),
            ),
            (
                "of-any-length",
                2,
                fill(
                    &store,
                    "of-any-length",
                    (0..count).map(|n| format!("part-{n}")),
                ),
            ),
            (
                "directories",
                2,
                fill(
                    &store,
                    "directories",
                    (0..count).map(|n| format!("{n:05}/x")),
                ),
            ),
            (
                // Files hidden by directories of their name, and names that come between the two.
                "mixed",
                2,
                fill(
                    &store,
                    "mixed",
                    (0..count).flat_map(|n| match n % 11 {
                        0 => vec![format!("m{n:05}"), format!("m{n:05}/x")],
                        1 => vec![format!("m{:05}-", n - 1), format!("m{:05}!/y", n - 1)],
                        _ => vec![format!("m{n:05}")],
                    }),
                ),
            ),
            (
                "foreign",
                1,
                fill(&store, "foreign", (0..count).map(|n| format!("é{n:05}"))),
            ),
            (
                // The first page tells nothing of what comes.
                "heaps",
                2,
                fill(
                    &store,
                    "heaps",
                    (0..count).map(|n| match n / 1_100 {
                        0 => format!("0{n:09}"),
                        heap => format!(
                            "{}{:04x}",
                            ["aa", "b", "zz", "~"][heap as usize - 1],
                            random(n) >> 48
                        ),
                    }),
                ),
            ),
        ];
        let mount = Mount::with(&store, options);
        for (dir, at_once, expected) in shown {
            names(&mount.at);
            store.log().reset();
            assert_whole(names(&mount.path(dir)), &expected, dir);
            let (asked, most) = (
                store.log().count(operation),
                most_at_once(&store, operation),
            );
            println!(
                "{operation} {dir}: {} names, {asked} requests, {most} at once",
                expected.len()
            );
            assert!(most >= at_once, "{dir}: {most} at once");
            let pages = expected.len() as u64 / 1_000 + 1;
            assert!(
                asked <= 2 * pages + 2,
                "{dir}: {asked} requests for {pages} pages"
            );
        }
        assert!(mount.terminate().success());
    }
}

#[test]
fn a_page_is_asked_for_ahead_only_when_those_before_brought_something() {
    let store = far(Dialect::default());
    fill(&store, "dir", (0..20_000).map(|n| format!("{n:06}")));
    let mount = Mount::with(&store, &["--metadata", "none"]);
    names(&mount.at);
    store.log().reset();
    let held = store
        .faults()
        .script("op=ListObjectsV2,n=2..:hold-before")
        .expect("a fault");
    let under_way = |so_many: u64| store.log().under_way() == so_many;
    std::thread::scope(|scope| {
        let listed = scope.spawn(|| names(&mount.path("dir")).len());
        eventually(seconds(10), "the second page and the third", || {
            under_way(2)
        });
        let more = store
            .faults()
            .script("op=ListObjectsV2:hold-before")
            .expect("a fault");
        store.faults().remove(held);
        eventually(seconds(10), "then as many as have come", || under_way(3));
        store.faults().remove(more);
        assert_eq!(listed.join().expect("listed"), 20_000);
    });
}

#[test]
fn a_store_that_does_not_begin_where_it_is_told_is_listed_page_by_page() {
    let store = far(Dialect {
        start_after_ignored: true,
        ..Dialect::default()
    });
    let expected = fill(&store, "dir", (0..5_500).map(|n| format!("{n:06}")));
    let mount = Mount::new(&store);
    for _ in 0..2 {
        assert_whole(names(&mount.path("dir")), &expected, "dir");
    }
    assert!(mount.terminate().success());
}

/// The subdirectories first, as `rclone serve s3` has them.
#[test]
fn a_store_that_does_not_list_in_order_is_listed_page_by_page() {
    let store = far(Dialect {
        directories_first: true,
        ..Dialect::default()
    });
    let names = (0..5_500).map(|n| format!("{n:06}"));
    let below = (0..20).map(|n| format!("z{n:02}/x"));
    let expected = fill(&store, "dir", names.chain(below));
    let mount = Mount::new(&store);
    assert_whole(self::names(&mount.path("dir")), &expected, "dir");
    assert!(mount.terminate().success());
}

#[test]
fn a_page_that_was_asked_for_ahead_and_does_not_come_is_asked_for_again() {
    let store = far(Dialect::default());
    let expected = fill(&store, "dir", (0..5_500).map(|n| format!("{n:06}")));
    let mount = Mount::with(&store, &["--metadata", "none"]);
    names(&mount.at);
    let mut whole = 0;
    for nth in 2..6 {
        let fault = format!("op=ListObjectsV2,n={nth}:error=400/InvalidArgument");
        let fault = store.faults().script(&fault).expect("a fault");
        let entries = fs::read_dir(mount.path("dir")).expect("opened");
        let listed: Result<Vec<_>, _> = entries
            .map(|entry| entry.map(|entry| entry.file_name().into_string().expect("UTF-8")))
            .collect();
        match listed {
            Ok(listed) => {
                assert_whole(listed, &expected, &format!("dir, {nth}"));
                whole += 1;
            }
            // It was one that the store itself had named.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "{nth}"),
        }
        assert_eq!(store.faults().fired(fault), 1, "{nth}");
        store.faults().remove(fault);
    }
    assert!(whole > 0, "none of them was one that was guessed");
    assert!(mount.terminate().success());
}

#[test]
fn a_far_directory_that_is_renamed_while_it_is_listed_is_shown_whole() {
    let store = far(Dialect::default());
    let name = |n: u64| format!("{n:05}-{}", "n".repeat(200));
    let expected = fill(&store, "dir", (0..4_500).map(name));
    let mount = Mount::new(&store);
    let mut entries = fs::read_dir(mount.path("dir")).expect("opened");
    let mut listed: Vec<_> = entries.by_ref().take(1_500).collect();
    fs::rename(mount.path("dir"), mount.path("moved")).expect("renamed");
    listed.extend(entries);
    let listed = (listed.into_iter())
        .map(|entry| entry.expect("listed").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    assert_whole(listed, &expected, "dir");
    assert!(mount.terminate().success());
}
