//! Every fault of the store at every request of a write and of a read: the file is whole (the old
//! one or the new one) or absent, errors reach the program, and nothing is left open.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Content, MIB, Mount, PART, Store, eventually, seconds};

/// Quick to give up, so that many cases can be tried.
const OPTIONS: [&str; 6] = [
    "--request-timeout",
    "1s",
    "--attempts",
    "3",
    "--part-size",
    "5M",
];
/// One request takes at most 3 attempts of a second and the pauses between them; an operation of
/// a program is a few requests one after the other. Beyond this it hangs.
const LONGEST: Duration = Duration::from_secs(120);

/// Nothing, the old file or the new one.
#[derive(Debug, PartialEq)]
enum Found {
    Nothing,
    Old,
    New,
}

#[track_caller]
fn found(store: &Store, key: &str, old: &Content, new: &Content, what: &str) -> Found {
    let object = store.objects().contains_key(key);
    if !object {
        Found::Nothing
    } else if store.compare(key, new).is_ok() {
        Found::New
    } else if store.compare(key, old).is_ok() {
        Found::Old
    } else {
        panic!("{what}: {key} is neither the old file nor the new one");
    }
}

/// The errno a person would expect.
fn honest(fault: &str, errno: Option<i32>) -> bool {
    errno == Some(libc::EIO) || (fault == "error=403" && errno == Some(libc::EACCES))
}

/// What a directory has is told by its listing, and an empty one tells nothing.
#[test]
fn a_bucket_that_is_gone_is_an_error_and_not_an_empty_directory() {
    let store = Store::embedded();
    store.put("dir/file", "there");
    let mount = Mount::with(&store, &["--metadata-ttl", "0s"]);
    let file = File::open(mount.path("dir/file")).expect("opened");
    let gone = (store.faults().script("error=404/NoSuchBucket")).expect("a fault");
    let failing = |what: &str, result: std::io::Result<()>| {
        let error = result.expect_err(what);
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{what}");
    };
    for dir in ["", "dir"] {
        let entries = std::fs::read_dir(mount.path(dir));
        failing(
            dir,
            entries.and_then(|mut entries| entries.try_for_each(|entry| entry.map(drop))),
        );
    }
    failing("a name", std::fs::metadata(mount.path("another")).map(drop));
    failing(
        "a new file",
        write(&mount.path("new"), &Content::new(1, MIB)),
    );
    failing("an open one", file.read_exact_at(&mut [0; 5], 0));
    store.faults().remove(gone);
    assert_eq!(
        std::fs::read(mount.path("dir/file")).expect("read"),
        b"there"
    );
    let (said, status) = mount.terminate_and_tell();
    assert!(status.success());
    assert!(
        said.contains("NoSuchBucket") && said.contains("make it again, or unmount"),
        "{said}"
    );
}

/// As a program does that heeds every error.
fn write(path: &Path, content: &Content) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let bytes = content.bytes();
    for block in bytes.chunks(1 << 20) {
        file.write_all(block)?;
    }
    // A file that is dropped has nobody to tell how its close went.
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is ours and not used again.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Four full parts and one that is not.
const SIZE: u64 = 4 * PART + MIB + 7;

/// One request of the write goes wrong; or all from that one on.
fn at_every_request_of_a_write(fault: &str) {
    let store = Store::embedded();
    let mount = Mount::with(&store, &OPTIONS);
    let (mut cases, mut errors) = (0, 0);
    for lasting in [false, true] {
        for overwrite in [false, true] {
            let mut n = 1;
            loop {
                let key = format!("{lasting}-{overwrite}-{n}");
                let (old, new) = (Content::new(1000, MIB), Content::new(n, SIZE));
                let before = match overwrite {
                    true => {
                        store.server().put_object(&store.bucket, &key, old.bytes());
                        Found::Old
                    }
                    false => Found::Nothing,
                };
                let text = format!("n={n}{}:{fault}", if lasting { ".." } else { "" });
                let what = format!(
                    "{text}, {}",
                    if overwrite {
                        "overwriting"
                    } else {
                        "a new file"
                    }
                );
                let added = store.faults().script(&text).expect("a fault");
                let begun = Instant::now();
                let wrote = write(&mount.path(&key), &new);
                let took = begun.elapsed();
                let fired = store.faults().fired(added);
                store.faults().remove(added);
                assert!(took < LONGEST, "{what}: {took:?}");
                // The old file's upload may still be on its way out, the object is settled.
                let after = found(&store, &key, &old, &new, &what);
                match &wrote {
                    Ok(()) => assert_eq!(after, Found::New, "{what}: said to be written"),
                    Err(error) => {
                        errors += 1;
                        let errno = error.raw_os_error();
                        assert!(honest(fault, errno), "{what}: {error}");
                        // A commit whose answer was lost may have happened all the same.
                        assert!(after == before || after == Found::New, "{what}: {after:?}");
                    }
                }
                store.assert_no_uploads_within(30, &what);
                // An upload that ends late publishes nothing either.
                assert_eq!(found(&store, &key, &old, &new, &what), after, "{what}");
                // The mount goes on, and shows what the bucket has.
                eventually(
                    seconds(10),
                    &format!("{what}: the mount shows {after:?}"),
                    || {
                        let mut bytes = Vec::new();
                        match File::open(mount.path(&key))
                            .and_then(|mut f| f.read_to_end(&mut bytes))
                        {
                            Ok(_) if after == Found::New => new.compare(&bytes[..]).is_ok(),
                            Ok(_) if after == Found::Old => old.compare(&bytes[..]).is_ok(),
                            Ok(_) => false,
                            Err(e) => {
                                after == Found::Nothing && e.kind() == std::io::ErrorKind::NotFound
                            }
                        }
                    },
                );
                store.server().delete_object(&store.bucket, &key);
                if fired == 0 {
                    assert!(
                        wrote.is_ok(),
                        "{what}: {wrote:?} although nothing went wrong"
                    );
                    break;
                }
                cases += 1;
                n += 1;
            }
            // Create, five parts and Complete at the least.
            assert!(n > 7, "{fault}: only {n} requests");
        }
    }
    println!("{fault}: {cases} writes, {errors} of them failed");
    assert!(cases >= 4 * 7);
    let peak = mount.peak_memory();
    assert!(peak <= (256 + 128) * MIB, "{} MiB", peak / MIB);
}

/// Three ranges of a file, far from each other; each in full or an errno.
fn read_ranges(path: &Path, content: &Content) -> Result<(), std::io::Error> {
    let file = File::open(path)?;
    let mut buffer = vec![0; 128 << 10];
    for at in [0, 2 * content.size / 3, content.size / 3] {
        file.read_exact_at(&mut buffer, at)?;
        assert_eq!(
            content.difference(at, &buffer),
            None,
            "a wrong byte, read at {at}"
        );
    }
    Ok(())
}

fn read_whole(path: &Path, content: &Content) -> Result<(), std::io::Error> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read(&mut buffer)? {
            0 if at == content.size => return Ok(()),
            0 => panic!("the file ends at {at} of {}", content.size),
            n => {
                assert_eq!(content.difference(at, &buffer[..n]), None, "a wrong byte");
                at += n as u64;
            }
        }
    }
}

type Reading = fn(&Path, &Content) -> Result<(), std::io::Error>;

fn at_every_request_of_a_read(fault: &str) {
    let store = Store::embedded();
    let mount = Mount::with(&store, &OPTIONS);
    let (mut cases, mut errors) = (0, 0);
    let ways: [(&str, Reading); 2] = [("ranges", read_ranges), ("whole", read_whole)];
    for lasting in [false, true] {
        for (way, read) in ways {
            let mut n = 1;
            loop {
                let key = format!("{lasting}-{way}-{n}");
                let content = Content::new(n, 24 * MIB + 5);
                store
                    .server()
                    .put_object(&store.bucket, &key, content.bytes());
                let text = format!("n={n}{}:{fault}", if lasting { ".." } else { "" });
                let added = store.faults().script(&text).expect("a fault");
                let begun = Instant::now();
                let done = read(&mount.path(&key), &content);
                let took = begun.elapsed();
                let fired = store.faults().fired(added);
                store.faults().remove(added);
                assert!(took < LONGEST, "{text}, {way}: {took:?}");
                if let Err(error) = &done {
                    errors += 1;
                    assert!(
                        honest(fault, error.raw_os_error()),
                        "{text}, {way}: {error}"
                    );
                }
                // Healed: the same file, from a new descriptor.
                eventually(
                    seconds(10),
                    &format!("{text}, {way}: readable again"),
                    || read(&mount.path(&key), &content).is_ok(),
                );
                store.server().delete_object(&store.bucket, &key);
                if fired == 0 {
                    assert!(
                        done.is_ok(),
                        "{text}, {way}: {done:?} although nothing went wrong"
                    );
                    break;
                }
                cases += 1;
                n += 1;
            }
            // The look at the name, and the ranges.
            assert!(n > 3, "{fault}, {way}: only {n} requests");
        }
    }
    println!("{fault}: {cases} reads, {errors} of them failed");
    assert!(cases >= 4 * 3);
    assert_eq!(store.open_uploads(), []);
}

macro_rules! each_fault {
    ($($name:ident: $fault:literal),* $(,)?) => {
        mod at_every_request_of_a_write {
            $(#[test] fn $name() { super::at_every_request_of_a_write($fault); })*
        }
        mod at_every_request_of_a_read {
            $(#[test] fn $name() { super::at_every_request_of_a_read($fault); })*
        }
    };
}

each_fault!(
    the_store_is_slow: "delay=200ms",
    the_store_fails: "error=500",
    the_store_throttles: "throttle",
    the_store_denies: "error=403",
    the_connection_drops_before: "drop-before",
    the_connection_drops_after: "drop-after",
    the_store_says_ok_and_means_an_error: "ok-with-error-body",
    the_store_says_an_error_and_has_done_it: "applied-error-body",
    the_answer_trickles: "trickle=100",
    the_store_hangs_before: "hang-before",
    the_store_hangs_after: "hang-after",
    the_answer_is_cut_short: "short-body",
);

#[test]
fn a_fault_of_every_tenth_request_is_not_noticed_by_programs() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M", "--request-timeout", "1s"]);
    for fault in [
        "error=500",
        "throttle",
        "drop-before",
        "drop-after",
        "short-body",
    ] {
        let content = Content::new(7, 33 * MIB);
        let before = store.faults().fired_total();
        for n in (10..=100).step_by(10) {
            store
                .faults()
                .script(&format!("n={n}:{fault}"))
                .expect("a fault");
        }
        for round in 0..6 {
            let key = format!("file-{round}");
            write(&mount.path(&key), &content).unwrap_or_else(|e| panic!("{fault}: {e}"));
            content.assert_file(&mount.path(&key));
        }
        store.faults().clear();
        // Behind them: who looks without the mount is not to meet one.
        for round in 0..6 {
            store.assert_holds(&format!("file-{round}"), &content);
        }
        let fired = store.faults().fired_total() - before;
        assert!(fired >= 5, "{fault} fired only {fired} times");
        store.assert_no_uploads_within(10, fault);
    }
}
