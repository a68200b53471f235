//! Several mounts of one bucket, and a plain S3 client beside them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::edits::Random;
use crate::support::mount::program;
use crate::support::tools::{run, sh, sh_ok};
use crate::support::{
    Content, KIB, MIB, Mount, Store, Writer, eventually, on_both_stores, seconds,
};

const PARTS: [&str; 2] = ["--part-size", "5M"];
/// One PUT, and an upload of several parts.
const SIZES: [u64; 2] = [1000, 11 * MIB];

fn begun(path: &Path, content: &Content) -> File {
    let mut file = File::create(path).expect("created");
    file.write_all(&content.bytes()).expect("written");
    file
}

/// close(2), with its answer.
fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was given up just now and is closed once.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn what_one_closed_the_other_sees_at_open(store: &Store) {
    let patient = [&PARTS[..], &["--metadata-ttl", "1h"]].concat();
    let (a, b) = (Mount::with(store, &patient), Mount::with(store, &patient));
    store.put("file", "theirs");
    for mount in [&a, &b] {
        assert_eq!(fs::read(mount.path("file")).expect("read"), b"theirs");
    }
    for round in 0..6 {
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let content = Content::new(round, SIZES[round as usize % 2] + round);
        close(begun(&writer.path("file"), &content)).expect("closed");
        content.assert_file(&reader.path("file"));
        content.assert_file(&writer.path("file"));
    }
    // Appended to by turns, nothing is lost.
    store.put("log", "");
    let mut expected = Vec::new();
    for round in 0..10u8 {
        let writer = if round % 2 == 0 { &a } else { &b };
        let line = format!("line {round}\n");
        let mut log = File::options()
            .append(true)
            .open(writer.path("log"))
            .expect("open");
        log.write_all(line.as_bytes()).expect("written");
        close(log).expect("closed");
        expected.extend_from_slice(line.as_bytes());
    }
    assert_eq!(store.get("log"), Some(expected));
    assert!(a.terminate().success() && b.terminate().success());
}

fn names_and_sizes_of_another_mount_are_seen_within_the_ttl(store: &Store) {
    let quick = ["--metadata-ttl", "200ms"];
    let (a, b) = (Mount::with(store, &quick), Mount::with(store, &quick));
    let names = |mount: &Mount| -> Vec<String> {
        let entries = fs::read_dir(mount.path("")).expect("listed");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("listed")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&b), Vec::<String>::new());
    assert!(!b.path("file").exists());
    fs::create_dir(a.path("directory")).expect("made");
    fs::write(a.path("file"), "1").expect("written");
    eventually(seconds(5), "both names", || {
        names(&b) == ["directory", "file"] && b.path("file").exists()
    });
    fs::write(a.path("file"), "longer").expect("written");
    eventually(seconds(5), "the size", || {
        fs::metadata(b.path("file")).is_ok_and(|seen| seen.len() == 6)
    });
    fs::rename(a.path("file"), a.path("directory/moved")).expect("renamed");
    eventually(seconds(5), "the rename", || {
        !b.path("file").exists() && b.path("directory/moved").exists()
    });
    fs::remove_file(b.path("directory/moved")).expect("removed");
    fs::remove_dir(b.path("directory")).expect("removed");
    eventually(seconds(5), "nothing", || names(&a).is_empty());
    assert!(a.terminate().success() && b.terminate().success());
}

fn of_two_writers_the_last_to_close_wins(store: &Store) {
    let (a, b) = (Mount::with(store, &PARTS), Mount::with(store, &PARTS));
    for (n, size) in SIZES.into_iter().enumerate() {
        for is_there in [false, true] {
            let name = format!("{n}-{is_there}");
            if is_there {
                store.put(&name, "old");
            }
            let (first, last) = (Content::new(1, size), Content::new(2, size + 1));
            let of_a = begun(&a.path(&name), &first);
            let of_b = begun(&b.path(&name), &last);
            close(of_a).expect("closed");
            store.assert_holds(&name, &first);
            close(of_b).expect("closed");
            store.assert_holds(&name, &last);
            last.assert_file(&a.path(&name));
            last.assert_file(&b.path(&name));
        }
    }
    assert!(a.terminate().success() && b.terminate().success());
    store.assert_no_uploads_within(5, "two writers");
}

on_both_stores!(
    what_one_closed_the_other_sees_at_open,
    names_and_sizes_of_another_mount_are_seen_within_the_ttl,
    of_two_writers_the_last_to_close_wins,
    nobody_ever_sees_a_mixture,
    an_open_file_does_not_become_another_clients,
);

/// A chmod leaves the ETag as it is.
#[test]
fn a_chmod_of_another_mount_is_seen_by_one_that_reads_the_file() {
    let store = Store::embedded();
    store.put("file", vec![7; (16 * MIB) as usize]);
    let second = || {
        SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs()
    };
    let stored = second();
    let quick = ["--metadata-ttl", "200ms"];
    let (a, b) = (Mount::with(&store, &quick), Mount::with(&store, &quick));
    let path = b.path("file");
    let file = File::open(&path).expect("opened");
    store.server().set_latency(Duration::from_millis(5));
    let mut reads = 0;
    let mut mode = || {
        reads += 1;
        let at = (1 + reads * (reads + 1) / 2 * 97) % (16 * 256) * 4 * KIB;
        file.read_exact_at(&mut [0; 4096], at).expect("read");
        fs::metadata(&path).expect("there").mode() & 0o7777
    };
    assert_eq!(mode(), 0o644);
    // At once; and when it is believed to be there without being asked for.
    fs::set_permissions(a.path("file"), Permissions::from_mode(0o640)).expect("changed");
    eventually(seconds(5), "the mode", || mode() == 0o640);
    eventually(seconds(10), "another second", || {
        mode();
        second() > stored + 3
    });
    fs::set_permissions(a.path("file"), Permissions::from_mode(0o600)).expect("changed");
    eventually(seconds(5), "the mode", || mode() == 0o600);
    assert!(a.terminate().success() && b.terminate().success());
}

#[test]
fn a_bystander_publishes_nothing_of_what_another_program_writes() {
    let store = Store::embedded();
    store.put("old", "the old object");
    let mount = Mount::with(&store, &PARTS);
    for name in ["new", "old"] {
        let path = mount.path(name);
        let before = store.get(name);
        let mut writer = Writer::start();
        writer.open(&path, "wct").write(1, 12 * MIB);
        let synced = sh("LC_ALL=C sync \"$1\"", &[&path]);
        assert!(
            !synced.ok() && synced.err.contains("busy"),
            "{}",
            synced.err
        );
        for script in ["truncate -s +0 \"$1\"", ": >> \"$1\"", ": < \"$1\""] {
            sh_ok(script, &[&path]);
            assert!(store.get(name) == before, "{name} after {script}");
        }
        // He himself may, and there is nothing to be refused then.
        writer.step("sync");
        store.assert_holds(name, &Content::new(1, 12 * MIB));
        sh_ok("sync \"$1\"", &[&path]);
        writer.step("close");
    }
    // Nor does a sibling: a script's next step while one in the background goes on.
    // Whatever else has written before it, or had it open.
    for (name, before) in [("sibling", ":"), ("others", "sh -c 'echo more'; sh -c :")] {
        let (path, marker) = (mount.path(name), mount.aside(name));
        let siblings = sh(
            &format!(
                "{{ echo half; {before}; : > \"$2\"; exec sleep 1000; }} > \"$1\" &
                until [ -e \"$2\" ]; do :; done
                LC_ALL=C sync \"$1\" || :; kill -KILL $!"
            ),
            &[&path, &marker],
        );
        assert!(siblings.err.contains("busy"), "{name}: {}", siblings.err);
        assert_eq!(store.get(name), None, "{name}");
    }
    // So may a program that was given the file, one that its writer started, and the script that had it written.
    for (name, script) in [
        (
            "by-a-child",
            "perl -MIO::Handle -e 'open(my $f, \">\", shift) or die; $f->print(\"one\\n\"); $f->flush; system(\"sync\", shift) and die; system(\"cat\", shift); kill KILL => $$' \"$1\" \"$1\" \"$1\"",
        ),
        (
            "given",
            "exec 3> \"$1\"; echo one >&3; sync \"$1\"; cat \"$1\"; kill -KILL $$",
        ),
        (
            "had-written",
            "exec 3> \"$1\"; sh -c 'echo one >&3'; perl -MIO::Handle -e 'open(my $f, \"+<\", shift); $f->sync or die' \"$1\" 3>&-; cat \"$1\"; kill -KILL $$",
        ),
    ] {
        assert_eq!(sh(script, &[&mount.path(name)]).out, "one\n", "{name}");
        assert_eq!(store.get(name).as_deref(), Some(&b"one\n"[..]), "{name}");
    }
    assert!(mount.terminate().success());
}

/// Opened for reading and writing, not written to yet, and then another client is first.
fn an_open_file_does_not_become_another_clients(store: &Store) {
    // Every look asks the store.
    let quick = [&PARTS[..], &["--metadata-ttl", "0s"]].concat();
    let mount = Mount::with(store, &quick);
    let path = mount.path("file");
    let (old, theirs) = (Content::new(1, 6 * MIB), Content::new(2, 5 * MIB));
    for replaced in [true, false] {
        store.put("file", old.bytes());
        let mine = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("open");
        match replaced {
            true => store.put("file", theirs.bytes()),
            false => store.delete("file"),
        }
        eventually(seconds(5), "somebody looks at the name", || {
            match (fs::metadata(&path), replaced) {
                (Ok(seen), true) => seen.len() == theirs.size,
                (seen, _) => seen.is_err() && !replaced,
            }
        });
        assert_eq!(
            fs::read_dir(mount.path("")).expect("listed").count(),
            usize::from(replaced)
        );
        let errno = |result: io::Result<()>| result.expect_err("stale").raw_os_error();
        assert_eq!(errno(mine.write_all_at(b"mine", 8)), Some(libc::ESTALE));
        assert_eq!(errno(mine.set_len(40)), Some(libc::ESTALE));
        assert_eq!(mine.metadata().expect("there").len(), old.size);
        drop(mine);
        match replaced {
            true => store.assert_holds("file", &theirs),
            false => assert_eq!(store.get("file"), None),
        }
    }
    // Its own commits, and those of others here, do not make it another one, whoever looks meanwhile.
    for size in SIZES {
        let mine = File::create(mount.path("mine")).expect("created");
        let mut expected = Vec::new();
        for round in 0..5 {
            let bytes = Content::new(round, size).bytes();
            mine.write_all_at(&bytes, expected.len() as u64)
                .expect("written");
            mine.sync_all().expect("published");
            expected.extend_from_slice(&bytes);
            assert_eq!(fs::read_dir(mount.path("")).expect("listed").count(), 1);
            eventually(seconds(5), "looked at", || {
                fs::metadata(mount.path("mine"))
                    .is_ok_and(|seen| seen.len() == expected.len() as u64)
            });
        }
        drop(mine);
        assert_eq!(store.get("mine"), Some(expected));
        store.delete("mine");
        eventually(seconds(5), "gone", || !mount.path("mine").exists());
    }
    assert!(mount.terminate().success());
}

#[test]
fn who_opened_a_file_whose_maker_was_killed_is_told() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("new");
    let mut maker = Writer::start();
    maker.open(&path, "wct").write(1, 10);
    let mine = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("open");
    maker.die_of(libc::SIGKILL);
    eventually(seconds(5), "given up", || !path.exists());
    let written = mine.write_all_at(b"mine", 0).and_then(|()| mine.sync_all());
    assert_eq!(
        written.expect_err("told").raw_os_error(),
        Some(libc::ESTALE)
    );
    drop(mine);
    assert_eq!(store.keys(), Vec::<String>::new());
    fs::write(&path, "again").expect("the name is free");
    assert!(mount.terminate().success());
}

/// Somebody else's doing between the begin and the close of a writer.
#[derive(Clone, Copy, Debug)]
enum Other {
    Mount,
    Client,
    Deletes,
}

#[test]
fn with_on_conflict_fail_the_first_to_close_wins() {
    the_first_to_close_wins(&Store::embedded(), &[]);
}

/// Its header guards new objects; what is replaced is looked at just before.
#[test]
fn on_cos_the_first_to_close_wins_where_the_bucket_is_said_to_have_kept_no_versions() {
    let said = ["--capability", "conditional_creates=true"];
    the_first_to_close_wins(&Store::cos(), &said);
    the_first_to_close_wins(&Store::cos_as_s3(), &said);
}

fn the_first_to_close_wins(store: &Store, options: &[&str]) {
    let minding = [&PARTS[..], &["--on-conflict", "fail"], options].concat();
    let (a, b) = (Mount::with(store, &minding), Mount::with(store, &minding));
    let mut tried = 0;
    for size in SIZES {
        for is_there in [false, true] {
            for other in [Other::Mount, Other::Client, Other::Deletes] {
                if matches!(other, Other::Deletes) && !is_there {
                    continue;
                }
                tried += 1;
                let name = format!("file-{tried}");
                if is_there {
                    store.put(&name, "old");
                }
                let (kept, refused) = (Content::new(1, size), Content::new(2, size + 1));
                let mine = begun(&a.path(&name), &refused);
                match other {
                    Other::Mount => close(begun(&b.path(&name), &kept)).expect("closed"),
                    Other::Client => store.put(&name, kept.bytes()),
                    Other::Deletes => store.delete(&name),
                }
                let error = close(mine).expect_err("somebody was first");
                let errno = error.raw_os_error();
                assert_eq!(errno, Some(libc::ESTALE), "{other:?}, {size} bytes");
                match other {
                    Other::Deletes => assert_eq!(store.get(&name), None),
                    _ => {
                        store.assert_holds(&name, &kept);
                        kept.assert_file(&a.path(&name));
                    }
                }
                // Who looks again goes on.
                close(begun(&a.path(&name), &refused)).expect("closed");
                store.assert_holds(&name, &refused);
            }
        }
    }
    assert_eq!(tried, 10);
    assert!(a.terminate().success() && b.terminate().success());
    store.assert_no_uploads_within(5, "conflicts");
}

/// A listing of before does not say that the name is free.
#[test]
fn who_came_second_sees_what_the_first_published_at_once() {
    let store = Store::embedded();
    let minding = ["--on-conflict", "fail", "--metadata-ttl", "1h"];
    let mount = Mount::with(&store, &minding);
    let path = mount.path("new");
    // The whole directory is known from here on.
    assert_eq!(fs::read_dir(mount.path("")).expect("listed").count(), 0);
    let (kept, refused) = (Content::new(1, 1000), Content::new(2, 1001));
    let mine = begun(&path, &refused);
    store.put("new", kept.bytes());
    let error = close(mine).expect_err("somebody was first");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    kept.assert_file(&path);
    assert!(mount.terminate().success());
}

/// What others did before it was opened is no conflict, however long it was known otherwise.
#[test]
fn with_on_conflict_fail_a_file_is_written_anew_over_what_is_there_when_it_is_opened() {
    let store = Store::embedded();
    for name in ["replaced", "deleted"] {
        store.put(name, "the old");
    }
    let minding = ["--on-conflict", "fail", "--metadata-ttl", "1h"];
    let mount = Mount::with(&store, &minding);
    for name in ["replaced", "deleted"] {
        fs::metadata(mount.path(name)).expect("there");
    }
    store.put("replaced", "theirs");
    store.delete("deleted");
    for name in ["replaced", "deleted"] {
        let ours = Content::new(1, 1000);
        close(begun(&mount.path(name), &ours)).expect("closed");
        store.assert_holds(name, &ours);
    }
    assert!(mount.terminate().success());
}

#[test]
fn minding_conflicts_is_refused_where_the_store_cannot() {
    let store = Store::embedded();
    for (provider, why) in [
        ("generic", "not known of provider generic"),
        ("cos", "add --capability conditional_creates=true"),
    ] {
        let mut command = program(&store);
        command.args(["mount", "--endpoint-url", &store.endpoint]);
        command.args(["--region", store.region, "--path-style"]);
        command.args(["--provider", provider, "--on-conflict", "fail"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        command
            .arg(format!("s3://{}", store.bucket))
            .arg(folder.path());
        let outcome = run(&mut command);
        assert!(!outcome.ok());
        let said = &outcome.err;
        assert!(said.contains("--on-conflict fail needs a store"), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// Two mounts and a client put whole files over each other: whoever reads finds one of them, whole.
fn nobody_ever_sees_a_mixture(store: &Store) {
    let (a, b) = (Mount::with(store, &PARTS), Mount::with(store, &PARTS));
    let mut dice = Random(0x5eed_0001);
    let contents: Vec<Content> = (0..8)
        .map(|seed| Content::new(seed, SIZES[seed as usize % 2] + seed))
        .collect();
    let mut holds = [None, None];
    let garage = store.provider == "garage";
    for _ in 0..120 {
        let which = dice.below(2) as usize;
        let name = ["x", "y"][which];
        let mount = if dice.below(2) == 0 { &a } else { &b };
        let content = &contents[dice.below(8) as usize];
        match dice.below(4) {
            0 => {
                close(begun(&mount.path(name), content)).expect("closed");
                holds[which] = Some(content);
            }
            1 => {
                store.put(name, content.bytes());
                holds[which] = Some(content);
            }
            2 => {
                // Killed by nobody, and overtaken: opened before the client's put, closed after.
                let file = begun(&mount.path(name), content);
                store.put(name, contents[0].bytes());
                holds[which] = match close(file) {
                    Ok(()) => Some(content),
                    Err(error) => {
                        // Garage drops a key's uploads when the key is written.
                        assert_eq!((error.raw_os_error(), garage), (Some(libc::EIO), true));
                        Some(&contents[0])
                    }
                };
            }
            _ => {}
        }
        if let Some(expected) = holds[which] {
            expected.assert_file(&a.path(name));
            expected.assert_file(&b.path(name));
            store.assert_holds(name, expected);
        }
    }
    assert!(a.terminate().success() && b.terminate().success());
    store.assert_no_uploads_within(5, "a loop of three");
}

/// Some read here and there, while others write the file anew. Each byte tells of which version it is: no open file goes
/// back to an older one, and none is older than what was there when it was opened.
fn no_byte_is_of_an_older_version(size: u64, mounted: impl FnOnce(&Store) -> Mount) {
    const VERSIONS: u8 = 40;
    let store = Store::embedded();
    let mount = mounted(&store);
    let path = mount.path("file");
    store.put("file", vec![1; size as usize]);
    let (published, looked) = (AtomicU8::new(1), AtomicU64::new(0));
    let look = |seed: u64| {
        let mut dice = Random(seed);
        while published.load(Ordering::SeqCst) < VERSIONS {
            let mut seen = published.load(Ordering::SeqCst);
            let file = File::open(&path).expect("opened");
            for _ in 0..32 + dice.below(64) {
                let (at, mut block) = (dice.below(size / 4096) * 4096, [0; 4096]);
                match file.read_at(&mut block, at) {
                    // Being written anew it is shorter.
                    Ok(4096) => {}
                    Ok(_) => continue,
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
                        break;
                    }
                }
                let version = block[0];
                let is_one = block.iter().all(|byte| *byte == version);
                assert!(is_one, "a mixture at {at}");
                assert!(version >= seen, "{version} at {at} after {seen}");
                seen = version;
                looked.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        (1..=3).for_each(|seed| drop(scope.spawn(move || look(seed))));
        let mut dice = Random(4);
        for version in 2..=VERSIONS {
            let bytes = vec![version; size as usize];
            let before = looked.load(Ordering::Relaxed);
            // (Written over without being emptied first it would be a mixture, until it is closed.)
            match dice.below(3) {
                0 => store.put("file", bytes),
                1 => {
                    fs::write(mount.path("beside"), bytes).expect("written");
                    fs::rename(mount.path("beside"), &path).expect("renamed");
                }
                _ => fs::write(&path, bytes).expect("written"),
            }
            let stored = store.get("file").and_then(|bytes| bytes.first().copied());
            assert_eq!(
                stored,
                Some(version),
                "what was said to be written is there"
            );
            published.store(version, Ordering::SeqCst);
            eventually(seconds(30), "it is looked at", || {
                version == VERSIONS || looked.load(Ordering::Relaxed) > before + 100
            });
        }
    });
    let expected = vec![VERSIONS; size as usize];
    assert_eq!(fs::read(&path).expect("read"), expected);
}

#[test]
fn what_is_read_ahead_is_never_of_an_older_version() {
    no_byte_is_of_an_older_version(6 * MIB, Mount::new);
}

/// The kernel is given the whole file then, after the first few reads.
#[test]
fn what_is_brought_in_whole_is_never_of_an_older_version() {
    no_byte_is_of_an_older_version(24 * MIB, Mount::new);
}

/// Orders of events that are rare are common here.
#[test]
fn no_byte_is_of_an_older_version_whoever_comes_in_between() {
    for size in [6 * MIB, 24 * MIB] {
        no_byte_is_of_an_older_version(size, Mount::with_pauses);
    }
}

/// The kernel has what a program wrote through a mapping, until it sends that to us: it must not be given what was there before.
#[test]
fn what_is_written_through_a_mapping_is_not_written_over_by_what_is_brought_in() {
    const SIZE: u64 = 24 * MIB;
    let store = Store::embedded();
    store.put("file", vec![1; SIZE as usize]);
    let mount = Mount::new(&store);
    let path = mount.path("file");
    let reader = File::open(&path).expect("opened");
    let writer = File::options().read(true).write(true).open(&path);
    let writer = writer.expect("opened");
    // SAFETY: a mapping of its own, of a file that stays as long as it is.
    let mapped = unsafe {
        let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let at = libc::mmap(
            std::ptr::null_mut(),
            SIZE as usize,
            all,
            shared,
            writer.as_raw_fd(),
            0,
        );
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        std::slice::from_raw_parts_mut(at.cast::<u8>(), SIZE as usize)
    };
    let written = 12 * MIB as usize;
    mapped[written..written + 4096].fill(7);
    let mut dice = Random(9);
    for _ in 0..200 {
        let mut block = [0; 4096];
        let at = dice.below(SIZE / 4096) * 4096;
        reader.read_exact_at(&mut block, at).expect("read");
        assert!(block.iter().all(|byte| [1, 7].contains(byte)));
    }
    eventually(seconds(10), "nothing is on its way", || {
        store.log().under_way() == 0
    });
    let mut expected = vec![1; SIZE as usize];
    expected[written..written + 4096].fill(7);
    assert!(mapped == expected, "what was written is there");
    // SAFETY: as above; nothing uses it from here on.
    unsafe { libc::munmap(mapped.as_mut_ptr().cast(), mapped.len()) };
    close(writer).expect("closed");
    drop(reader);
    assert!(mount.terminate().success());
    assert!(store.get("file") == Some(expected), "and published");
}

/// Each begins where the last has published, at whatever moment he comes.
#[test]
fn what_several_append_at_once_is_all_there() {
    const PROGRAMS: usize = 6;
    let store = Store::embedded();
    let mount = Mount::with_pauses(&store);
    let path = mount.path("log");
    let mut rounds = 0;
    for start in ["", "a first line that is there already\n"] {
        for _ in 0..15 {
            store.put("log", start);
            let append = |n: usize| {
                let mut log = File::options().append(true).open(&path)?;
                log.write_all(format!("line {n}\n").as_bytes())?;
                close(log)
            };
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..PROGRAMS)
                    .map(|n| scope.spawn(move || append(n)))
                    .collect();
                for one in all {
                    one.join().expect("no panic").expect("appended");
                }
            });
            let text = String::from_utf8(store.get("log").expect("there")).expect("text");
            let mut lines: Vec<&str> = text
                .strip_prefix(start)
                .expect("it begins so")
                .lines()
                .collect();
            lines.sort_unstable();
            let expected: Vec<String> = (0..PROGRAMS).map(|n| format!("line {n}")).collect();
            assert_eq!(lines, expected);
            rounds += 1;
        }
    }
    println!("{rounds} rounds of {PROGRAMS} at once");
    assert!(mount.terminate().success());
}
