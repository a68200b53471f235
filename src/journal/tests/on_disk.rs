//! Real directories, real locks, real processes: instances from birth to recovery.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};

use super::super::instances::{Lock, state_dir_for};
use super::super::{Instance, Journal, Note, OpenUpload, orphans, peek};
use super::identity;
use crate::store::{CompletedPart, ETag, Precondition, UploadId};
use crate::upload::ledger::{Before, Entry, Ledger};
use crate::upload::life::{Ending, Record};

const LEAST_RACES: usize = 150;

fn state() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn new_journal(state: &Path) -> Journal {
    Journal::create(state, &identity(), Path::new("/mnt/x")).expect("created")
}

async fn tell(journal: &Journal, id: u64, record: Record) {
    record_on(journal, id, record).await.expect("recorded");
}

async fn record_on(journal: &Journal, id: u64, record: Record) -> std::io::Result<()> {
    let upload_id = UploadId(format!("upload-{id}"));
    let parts = [CompletedPart {
        number: 1,
        etag: ETag::new("e"),
        crc64: Some(1 << 63),
    }];
    journal
        .record(Entry {
            record,
            durable: !matches!(record, Record::End(_)),
            id,
            key: "dir/file",
            token: "token",
            upload_id: Some(&upload_id),
            parts: &parts,
            size: 5,
            condition: &Precondition::Absent,
            before: &Before::Nothing,
            now_there: SystemTime::now(),
        })
        .await
}

fn only(state: &Path) -> Instance {
    let mut found = orphans(state, |_| true).expect("readable");
    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    assert_eq!((found.instances.len(), found.live), (1, 0));
    found.instances.remove(0)
}

fn entries(state: &Path) -> usize {
    fs::read_dir(state).expect("there").count()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_journal_with_nothing_open_leaves_nothing() {
    let state = state();
    let below = state.path().join("a/b");
    let journal = new_journal(&below);
    assert_eq!((mode(&below), mode(journal.directory())), (0o700, 0o700));
    for name in ["lock", "journal"] {
        assert_eq!(mode(&journal.directory().join(name)), 0o600);
    }
    tell(&journal, 1, Record::Begin).await;
    tell(&journal, 1, Record::Opened).await;
    tell(&journal, 1, Record::End(Ending::Aborted)).await;
    assert_eq!(journal.stats().records, 3);
    assert_eq!(journal.close(), 0);
    assert_eq!(entries(&below), 0);
    assert!(record_on(&journal, 2, Record::Begin).await.is_err());
}

#[tokio::test]
async fn a_journal_that_was_deleted_takes_nothing_more() {
    let state = state();
    let journal = new_journal(state.path());
    tell(&journal, 1, Record::Begin).await;
    fs::remove_dir_all(state.path()).expect("removed");
    let refused = record_on(&journal, 2, Record::Begin).await;
    let refused = refused.expect_err("nobody would read it").to_string();
    assert!(refused.contains("it was deleted"), "{refused}");
}

#[tokio::test]
async fn what_is_open_at_the_end_is_there_for_the_next() {
    let state = state();
    let start = SystemTime::now();
    let journal = new_journal(state.path());
    for record in [Record::Begin, Record::Opened, Record::Commit, Record::Abort] {
        tell(&journal, 7, record).await;
    }
    tell(&journal, 8, Record::Begin).await;
    assert_eq!(orphans(state.path(), |_| true).expect("readable").live, 1);
    assert_eq!(journal.close(), 2);
    let found = only(state.path());
    assert_eq!(found.identity(), &identity());
    assert_eq!(found.header.mount_point, "/mnt/x");
    let [first, second] = &found.open[..] else {
        panic!("{:?}", found.open)
    };
    let OpenUpload {
        began,
        upload_id,
        commit,
        ..
    } = first;
    assert!(*began + Duration::from_millis(2) > start && *began <= SystemTime::now());
    assert_eq!(upload_id, &Some(UploadId("upload-7".to_string())));
    let commit = commit.as_ref().expect("a commit");
    assert_eq!((commit.size, commit.parts[0].crc64), (5, Some(1 << 63)));
    assert_eq!(commit.condition, Precondition::Absent);
    assert!(first.aborting && !second.aborting);
    assert_eq!(
        (first.key.as_str(), &first.before),
        ("dir/file", &Before::Nothing)
    );
    assert_eq!(second.upload_id, None);
}

#[tokio::test]
async fn a_recovery_goes_on_where_one_was_interrupted() {
    let state = state();
    let journal = new_journal(state.path());
    for id in 1..=3 {
        tell(&journal, id, Record::Begin).await;
    }
    drop(journal);

    let first = only(state.path());
    let found = UploadId("found".to_string());
    first
        .note(1, Note::Opened(found.clone()))
        .await
        .expect("noted");
    first.note(1, Note::Abort).await.expect("noted");
    first
        .note(2, Note::End(Ending::Aborted))
        .await
        .expect("noted");
    drop(first);

    let second = only(state.path());
    assert_eq!(second.open.len(), 2);
    assert_eq!(second.open[0].upload_id, Some(found));
    assert!(second.open[0].aborting);
    let (one, three) = tokio::join!(
        second.note(1, Note::End(Ending::Aborted)),
        second.note(3, Note::End(Ending::Aborted))
    );
    one.and(three).expect("noted");
    assert_eq!(second.stats().open, 0);
    assert_eq!(second.finish(), 0);
    assert_eq!(entries(state.path()), 0);
}

#[tokio::test]
async fn an_unfinished_instance_is_kept() {
    let state = state();
    let journal = new_journal(state.path());
    tell(&journal, 1, Record::Begin).await;
    drop(journal);
    assert_eq!(only(state.path()).finish(), 1);
    assert_eq!(only(state.path()).open.len(), 1);
}

#[tokio::test]
async fn looking_tells_the_living_from_the_dead_and_takes_nothing() {
    let state = state();
    assert!(peek(&state.path().join("none")).expect("fine").is_empty());
    let (alive, dead) = (new_journal(state.path()), new_journal(state.path()));
    tell(&alive, 1, Record::Begin).await;
    tell(&dead, 2, Record::Begin).await;
    tell(&dead, 3, Record::Begin).await;
    let alive_at: PathBuf = alive.directory().to_path_buf();
    drop(dead);
    let glimpses = peek(state.path()).expect("readable");
    assert_eq!(glimpses.len(), 2);
    for glimpse in glimpses {
        let (_, open) = glimpse.content.expect("whole");
        assert_eq!(glimpse.live, glimpse.directory == alive_at);
        assert_eq!(open.len(), if glimpse.live { 1 } else { 2 });
    }
    let found = orphans(state.path(), |_| true).expect("readable");
    assert_eq!((found.instances.len(), found.live), (1, 1));
    tell(&alive, 1, Record::Opened).await;
}

#[tokio::test]
async fn what_cannot_be_believed_is_named_and_left_alone() {
    let state = state();
    let journal = new_journal(state.path());
    tell(&journal, 1, Record::Begin).await;
    tell(&journal, 2, Record::Begin).await;
    let path = journal.directory().join("journal");
    drop(journal);
    let mut bytes = fs::read(&path).expect("there");
    let second_line = bytes.iter().position(|&b| b == b'\n').expect("a header") + 1;
    bytes[second_line + 40] ^= 4;
    fs::write(&path, &bytes).expect("written");
    let good = new_journal(state.path());
    tell(&good, 1, Record::Begin).await;
    drop(good);
    let found = orphans(state.path(), |_| true).expect("readable");
    assert_eq!((found.instances.len(), found.damaged.len()), (1, 1));
    let text = found.damaged[0].1.to_string();
    assert!(text.contains("line 2") && text.contains(path.to_str().expect("text")));
    assert_eq!(fs::read(&path).expect("still there"), bytes);
    // Moved aside, it is nobody's business any more.
    let aside = format!("{}.damaged", path.parent().expect("a directory").display());
    fs::rename(path.parent().expect("a directory"), aside).expect("moved");
    drop(found);
    assert!(
        orphans(state.path(), |_| true)
            .expect("readable")
            .damaged
            .is_empty()
    );
}

#[test]
fn a_directory_without_a_journal_is_swept_when_it_is_old() {
    let state = state();
    let make = |name: &str, with: &[&str]| {
        let directory = state.path().join(name);
        fs::create_dir(&directory).expect("created");
        for file in with {
            fs::write(directory.join(file), "").expect("written");
        }
        directory
    };
    let old = [
        make("0000000000000001", &[]),
        make("0000000000000002", &["lock"]),
        make("0000000000000003", &["lock", "journal.new"]),
    ];
    for directory in &old {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        fs::File::open(directory)
            .and_then(|d| d.set_modified(hour_ago))
            .expect("aged");
    }
    let young = make("0000000000000004", &["lock"]);
    let foreign = make("something", &[]);
    let found = orphans(state.path(), |_| true).expect("readable");
    assert_eq!((found.instances.len(), found.damaged.len()), (0, 0));
    assert!(old.iter().all(|directory| !directory.exists()));
    assert!(young.exists() && foreign.exists());
}

/// Several take the same orphan at once, one looks, and whoever gets it removes it.
#[test]
fn only_one_of_many_gets_an_orphan() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut races = 0;
    for round in 0..LEAST_RACES {
        let state = state();
        let journal = new_journal(state.path());
        runtime.block_on(tell(&journal, 1, Record::Begin));
        drop(journal);
        let barrier = Arc::new(Barrier::new(5));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let (path, barrier) = (state.path().to_path_buf(), barrier.clone());
                let handle = runtime.handle().clone();
                std::thread::spawn(move || {
                    barrier.wait();
                    let found = orphans(&path, |_| true).expect("no error");
                    assert!(found.damaged.is_empty(), "{:?}", found.damaged);
                    let got = found.instances.len();
                    for instance in found.instances {
                        // Nobody else may have ended it before.
                        assert_eq!(instance.open.len(), 1);
                        if round % 2 == 0 {
                            std::thread::sleep(Duration::from_millis(3));
                        }
                        handle
                            .block_on(instance.note(1, Note::End(Ending::Aborted)))
                            .expect("noted");
                        assert_eq!(instance.finish(), 0);
                    }
                    got
                })
            })
            .collect();
        barrier.wait();
        for _ in 0..5 {
            for glimpse in peek(state.path()).expect("no error") {
                glimpse.content.expect("whole, or gone");
            }
        }
        let got: usize = takers
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum();
        assert_eq!(got, 1, "round {round}");
        assert_eq!(entries(state.path()), 0);
        races += 1;
    }
    println!("journal: {races} races of four for one orphan");
    assert!(races >= LEAST_RACES);
}

/// Whoever waits for a lock whose file is removed and made anew meanwhile does not get the old one.
#[test]
fn a_lock_that_was_got_is_on_the_file_that_is_there() {
    let (mut got, mut gone) = (0, 0);
    for round in 0..100 {
        let state = state();
        let path = state.path().join("lock");
        let holder = Lock::take(state.path()).expect("fine").expect("free");
        let taker = {
            let directory = state.path().to_path_buf();
            std::thread::spawn(move || Lock::take(&directory))
        };
        std::thread::sleep(Duration::from_millis(1 + round % 8));
        fs::remove_file(&path).expect("removed");
        // The new one is there before the old one can be got.
        fs::write(&path, "").expect("made anew");
        let inode = fs::metadata(&path).expect("there").ino();
        drop(holder);
        match taker.join().expect("no panic") {
            Ok(Some(lock)) => {
                assert_eq!(lock.inode().expect("open"), inode);
                got += 1;
            }
            Ok(None) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                gone += 1;
            }
        }
    }
    println!("journal: of 100 locks replaced under a waiter, {gone} noticed, {got} got anew");
    assert!(gone > 0, "no waiter ever saw it");
}

const CHILD: &str = "WHOLEFS_TEST_JOURNAL_CHILD";

/// Not a test of its own: what the process does that the next test kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(state) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let journal = new_journal(Path::new(&state));
    runtime.block_on(async {
        for id in 1.. {
            tell(&journal, id, Record::Begin).await;
            // Acknowledged: whoever reads this number may count on the record.
            fs::write(Path::new(&state).join("told.new"), id.to_string()).expect("told");
            fs::rename(
                Path::new(&state).join("told.new"),
                Path::new(&state).join("told"),
            )
            .expect("told");
        }
    });
}

#[test]
fn a_killed_process_leaves_its_lock_free_and_its_records_there() {
    let mut kept = 0;
    for round in 0..5u64 {
        let state = state();
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "journal::tests::on_disk::child_that_writes_until_it_is_killed",
            ])
            .env(CHILD, state.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let told = || {
            fs::read_to_string(state.path().join("told"))
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let start = Instant::now();
        while told() < 20 + round * 37 {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it does not write"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(orphans(state.path(), |_| true).expect("readable").live, 1);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let (told, found) = (told(), only(state.path()));
        assert!(
            found.open.len() as u64 >= told,
            "{told} were acknowledged, {} are there",
            found.open.len()
        );
        kept += told;
    }
    println!("journal: 5 processes killed, {kept} acknowledged records kept");
}

/// A file system of 256 KiB, filled up. Needs the right to mount.
#[tokio::test]
async fn a_full_file_system_refuses_and_recovers() {
    let state = state();
    let (source, kind, options) = (c"none", c"tmpfs", c"size=256k,mode=700");
    let at = std::ffi::CString::new(state.path().to_str().expect("text")).expect("no zero");
    // SAFETY: all are strings that outlive the call.
    let mounted = unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    if mounted != 0 {
        println!("journal: not tried on a full file system: mounting one is not permitted");
        return;
    }
    struct Unmount(std::ffi::CString);
    impl Drop for Unmount {
        fn drop(&mut self) {
            // SAFETY: a string that outlives the call.
            unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
        }
    }
    let _unmount = Unmount(at);

    let journal = new_journal(state.path());
    tell(&journal, 1, Record::Begin).await;
    tell(&journal, 1, Record::Opened).await;
    let ballast = state.path().join("ballast");
    let _ = fs::write(&ballast, vec![1u8; 1 << 20]);
    // What is left of the last page.
    let mut refused = None;
    for id in 2..200 {
        if let Err(error) = record_on(&journal, id, Record::Begin).await {
            refused = Some((id, error));
            break;
        }
    }
    let (id, error) = refused.expect("the disk is full");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert!(!journal.stats().poisoned);
    fs::remove_file(&ballast).expect("removed");
    tell(&journal, id, Record::Begin).await;
    assert_eq!(journal.close(), id as usize);
    assert_eq!(only(state.path()).open.len(), id as usize);
}

#[test]
fn the_state_directory_follows_the_user() {
    let path = |p: &str| Some(PathBuf::from(p));
    for (root, xdg, home, expected) in [
        (true, path("/x"), path("/root"), "/var/lib/wholefs"),
        (false, path("/x"), path("/home/a"), "/x/wholefs"),
        (
            false,
            path("x"),
            path("/home/a"),
            "/home/a/.local/state/wholefs",
        ),
        (false, None, path("/home/a"), "/home/a/.local/state/wholefs"),
        (false, None, None, "/var/lib/wholefs"),
    ] {
        assert_eq!(state_dir_for(root, xdg, home), PathBuf::from(expected));
    }
}
