//! Names: what other clients change, directories with and without a marker, keys that are no file
//! names, and very many entries. And readers whose object is replaced.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use wholefs::embedded::Options;

use crate::support::tools::sh_ok;
use crate::support::{Content, MIB, Mount, Store, eventually, on_both_stores, seconds};

fn names(at: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("UTF-8")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.len())
}

/// One second of life for what is known, and as much again for a busy machine.
const TTL: Duration = Duration::from_millis(2500);

fn another_clients_change_is_seen_within_the_time_to_live(store: &Store) {
    store.put("file", "four");
    let mount = Mount::with(store, &["--metadata-ttl", "1s"]);
    let path = mount.path("file");
    assert_eq!(length(&path), Some(4));
    assert_eq!(length(&mount.path("later")), None);
    store.put("file", "eight...");
    store.put("later", "x");
    store.put("dir/inside", "x");
    eventually(TTL, "the new size", || length(&path) == Some(8));
    eventually(TTL, "a new file", || {
        length(&mount.path("later")) == Some(1)
    });
    eventually(TTL, "a new directory", || {
        names(&mount.at) == ["dir", "file", "later"]
    });
    store.delete("file");
    eventually(TTL, "the file's end", || length(&path).is_none());
    assert_eq!(names(&mount.at), ["dir", "later"]);
    store.delete("dir/inside");
    eventually(TTL, "the directory's end", || {
        length(&mount.path("dir")).is_none()
    });
}

fn another_clients_change_is_seen_at_once_on_open(store: &Store) {
    store.put("file", "version 0");
    // As long as the test runs, only open() can bring the news.
    let mount = Mount::with(store, &["--metadata-ttl", "1h"]);
    let path = mount.path("file");
    for n in 0..5 {
        let text = format!("version {n}{}", "!".repeat(n));
        store.put("file", text.as_bytes());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
    }
    // Larger or smaller: what the kernel believes of its size must not stand in the way.
    for (seed, size) in [
        (1, 0),
        (2, 547),
        (3, 9 * MIB),
        (4, 52_254),
        (5, 5 * MIB),
        (6, 0),
    ] {
        let content = Content::new(seed, size);
        store.put("file", content.bytes());
        content.assert_file(&path);
        let seen = File::open(&path).and_then(|file| file.metadata());
        assert_eq!(seen.expect("metadata").len(), size);
    }
    store.delete("file");
    let gone = std::fs::read(&path).expect_err("it is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

fn a_reader_of_a_replaced_object_gets_estale_and_never_a_mixture(store: &Store) {
    let (old, new) = (Content::new(1, 96 * MIB), Content::new(2, 96 * MIB));
    store.put("file", old.bytes());
    let mount = Mount::new(store);
    let path = mount.path("file");
    let reader = File::open(&path).expect("open");
    let mut buffer = vec![0; 1 << 20];
    reader.read_exact_at(&mut buffer, 0).expect("read");
    assert_eq!(old.difference(0, &buffer), None);
    store.put("file", new.bytes());
    let mut stale = 0;
    for n in 1..96 {
        match reader.read_exact_at(&mut buffer, n * MIB) {
            Ok(()) => assert_eq!(old.difference(n * MIB, &buffer), None, "at {n} MiB"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "at {n} MiB");
                stale += 1;
            }
        }
    }
    assert!(stale > 0, "96 MiB cannot all have been read ahead");
    new.assert_file(&path);
    // Deleted is as stale as replaced.
    store.put("other", new.bytes());
    let reader = File::open(mount.path("other")).expect("open");
    reader.read_exact_at(&mut buffer, 0).expect("read");
    store.delete("other");
    let error = (1..96).find_map(|n| reader.read_exact_at(&mut buffer, n * MIB).err());
    assert_eq!(error.and_then(|e| e.raw_os_error()), Some(libc::ESTALE));
}

fn a_reader_does_not_take_the_end_of_another_version_for_its_own(store: &Store) {
    let (old, short) = (Content::new(1, 40 * MIB), Content::new(2, 3 * MIB));
    let mount = Mount::with(store, &["--metadata-ttl", "50ms"]);
    let path = mount.path("file");
    for replaced_by in [Some(short), None] {
        store.put("file", old.bytes());
        let reader = File::open(&path).expect("open");
        let mut buffer = vec![0; 1 << 20];
        reader.read_exact_at(&mut buffer, 0).expect("read");
        match replaced_by {
            Some(short) => store.put("file", short.bytes()),
            None => store.delete("file"),
        }
        // Until this mount has seen it.
        eventually(seconds(5), "seen", || match replaced_by {
            Some(short) => std::fs::metadata(&path).is_ok_and(|seen| seen.len() == short.size),
            None => std::fs::metadata(&path).is_err(),
        });
        assert_eq!(reader.metadata().expect("there").len(), old.size);
        for n in 0..40 {
            match reader.read_at(&mut buffer, n * MIB) {
                Ok(read) => {
                    assert!(read > 0, "an end at {n} MiB");
                    assert_eq!(old.difference(n * MIB, &buffer[..read]), None);
                }
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE)),
            }
        }
        if let Some(short) = replaced_by {
            short.assert_file(&path);
        }
    }
    assert!(mount.terminate().success());
}

fn whoever_has_a_file_open_keeps_it_when_its_name_goes(store: &Store) {
    let mount = Mount::new(store);
    let (small, large) = (Content::new(1, 20 * MIB + 7), Content::new(2, 80 * MIB));
    for (name, content) in [("read", small), ("changed", small), ("large", large)] {
        store.put(name, content.bytes());
    }
    let open = |name: &str| {
        File::options()
            .read(true)
            .write(true)
            .open(mount.path(name))
    };
    let reader = File::open(mount.path("read")).expect("open");
    let changer = open("changed").expect("open");
    changer.write_all_at(b"changed", 5 * MIB).expect("written");
    let of_large = File::open(mount.path("large")).expect("open");
    for name in ["read", "changed", "large"] {
        std::fs::remove_file(mount.path(name)).expect("removed");
    }
    assert_eq!(store.keys(), Vec::<String>::new());
    small.compare(&reader).expect("the whole of it");
    let mut expected = small.bytes();
    expected[5 * MIB as usize..][..7].copy_from_slice(b"changed");
    let mut seen = vec![0; expected.len()];
    changer.read_exact_at(&mut seen, 0).expect("read");
    assert!(seen == expected, "what was changed, over what was there");
    // Of what is too large to be kept here: its own bytes, or none.
    let mut buffer = vec![0; 1 << 20];
    let stale = (0..80).rev().find_map(|n| {
        let read = of_large.read_exact_at(&mut buffer, n * MIB);
        assert!(read.is_err() || large.difference(n * MIB, &buffer).is_none());
        read.err()
    });
    assert_eq!(stale.and_then(|e| e.raw_os_error()), Some(libc::ESTALE));
    drop((reader, changer, of_large));
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), Vec::<String>::new(), "nothing is published");
    store.assert_no_uploads_within(5, "unlinked while open");
}

#[test]
fn a_bucket_that_keeps_versions_is_read_on_whatever_others_do_on_moto() {
    let Some(store) = Store::moto() else { return };
    store.keep_versions();
    let (old, new) = (Content::new(1, 80 * MIB), Content::new(2, 80 * MIB));
    for name in ["deleted", "replaced", "unlinked"] {
        store.put(name, old.bytes());
    }
    let mount = Mount::new(&store);
    let open = |name: &str| File::open(mount.path(name)).expect("open");
    let readers = ["deleted", "replaced", "unlinked"].map(open);
    store.delete("deleted");
    store.put("replaced", new.bytes());
    std::fs::remove_file(mount.path("unlinked")).expect("removed");
    for reader in &readers {
        old.compare(reader).expect("the version it opened");
    }
    new.assert_file(&mount.path("replaced"));
    drop(readers);
    assert!(mount.terminate().success());
}

fn keys_that_are_no_file_names_do_not_harm_those_that_are(store: &Store) {
    let long = "x".repeat(255);
    let too_long = "y".repeat(256);
    let awkward = [
        "good",
        "a//b",
        "a/c",
        "dir/../x",
        "dir/./y",
        "dir/z",
        "only//",
        "both",
        "both/child",
        "both-not",
        "deep/marker/",
        long.as_str(),
        too_long.as_str(),
        "new\nline",
        "sp ace",
        "plus+%41&=?#",
        "ünï",
        "\u{1}",
    ];
    for key in awkward {
        store.put(key, key);
    }
    // Clients tidy paths, so these come by another way where that is to be had.
    if store.provider == "embedded" {
        for key in [".", "..", "../x", "./y", "/lead", " "] {
            store
                .server()
                .put_object(&store.bucket, key, key.to_owned());
        }
    }
    let mount = Mount::new(store);
    let mut expected = vec![
        "\u{1}".to_owned(),
        "a".into(),
        // The directory hides the file of its name.
        "both".into(),
        "both-not".into(),
        "deep".into(),
        "dir".into(),
        "good".into(),
        "new\nline".into(),
        "only".into(),
        "plus+%41&=?#".into(),
        "sp ace".into(),
        long.clone(),
        "ünï".into(),
    ];
    expected.sort();
    assert_eq!(names(&mount.at), expected);
    assert_eq!(names(&mount.path("a")), ["c"]);
    assert_eq!(names(&mount.path("dir")), ["z"]);
    assert_eq!(names(&mount.path("both")), ["child"]);
    assert_eq!(names(&mount.path("only")), [""; 0]);
    assert_eq!(names(&mount.path("deep")), ["marker"]);
    assert_eq!(names(&mount.path("deep/marker")), [""; 0]);
    // What is listed can be read, and is what it says.
    for key in awkward {
        let shown = key
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() < 256);
        if shown && key != "both" {
            let read = std::fs::read_to_string(mount.path(key));
            assert_eq!(read.unwrap_or_else(|e| panic!("{key:?}: {e}")), key);
        }
    }
    let error = std::fs::metadata(mount.path(&too_long)).expect_err("too long");
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    assert!(
        std::fs::metadata(mount.path("both"))
            .expect("there")
            .is_dir()
    );
    // What cannot be shown is said, once, with an example, and it is never touched.
    assert!(
        mount.stderr().contains("cannot be shown"),
        "{}",
        mount.stderr()
    );
    let before = store.keys();
    std::fs::remove_file(mount.path("dir/z")).expect("removed");
    let refused = std::fs::remove_dir(mount.path("dir")).expect_err("there is more in it");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    sh_ok("find \"$1\" -type f | wc -l", &[&mount.at]);
    let mut after = store.keys();
    after.retain(|key| key != "dir/");
    let mut expected = before;
    expected.retain(|key| key != "dir/z");
    assert_eq!(after, expected);
}

fn a_directory_is_made_and_removed_with_its_marker(store: &Store) {
    let mount = Mount::new(store);
    let dir = mount.path("dir");
    std::fs::create_dir(&dir).expect("made");
    assert_eq!(
        store.objects().into_iter().collect::<Vec<_>>(),
        [("dir/".to_owned(), 0)]
    );
    let again = std::fs::create_dir(&dir).expect_err("it is there");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    std::fs::write(mount.path("dir/file"), "x").expect("written");
    std::fs::create_dir(mount.path("dir/sub")).expect("made");
    assert_eq!(names(&dir), ["file", "sub"]);
    let refused = std::fs::remove_dir(&dir).expect_err("not empty");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    let refused = std::fs::remove_dir(mount.path("dir/file")).expect_err("no directory");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTDIR));
    let refused = std::fs::remove_file(mount.path("dir/sub")).expect_err("a directory");
    assert_eq!(refused.raw_os_error(), Some(libc::EISDIR));
    let refused = std::fs::write(mount.path("dir/none/file"), "x").expect_err("no directory");
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let refused = std::fs::write(mount.path("dir/file/below"), "x").expect_err("no directory");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTDIR));
    let refused = File::create(&dir).expect_err("a directory");
    assert_eq!(refused.raw_os_error(), Some(libc::EISDIR));
    std::fs::remove_file(mount.path("dir/file")).expect("removed");
    std::fs::remove_dir(mount.path("dir/sub")).expect("removed");
    std::fs::remove_dir(&dir).expect("removed");
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(names(&mount.at), [""; 0]);
    let missing = std::fs::remove_dir(&dir).expect_err("it is gone");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

fn a_directory_without_a_marker_stays_when_its_last_file_goes(store: &Store) {
    store.put("one/two/file", "x");
    store.put("one/two/other", "x");
    store.put("top", "x");
    let mount = Mount::new(store);
    assert_eq!(names(&mount.at), ["one", "top"]);
    assert_eq!(names(&mount.path("one")), ["two"]);
    for file in ["file", "other"] {
        std::fs::remove_file(mount.path("one/two").join(file)).expect("removed");
    }
    assert_eq!(names(&mount.path("one/two")), [""; 0]);
    assert_eq!(names(&mount.path("one")), ["two"]);
    // Also for whoever has never seen it with the file in it.
    let fresh = Mount::new(store);
    assert!(
        std::fs::metadata(fresh.path("one/two"))
            .expect("there")
            .is_dir()
    );
    drop(fresh);
    std::fs::remove_dir(mount.path("one/two")).expect("removed");
    assert!(
        std::fs::metadata(mount.path("one"))
            .expect("there")
            .is_dir()
    );
    std::fs::remove_dir(mount.path("one")).expect("removed");
    assert_eq!(store.keys(), ["top"]);
}

fn a_tree_is_copied_and_removed_by_the_usual_tools(store: &Store) {
    let mount = Mount::new(store);
    let source = mount.aside("tree");
    for n in 0..60u64 {
        let folder = source.join(format!("d{}/e{}", n % 4, n % 3));
        std::fs::create_dir_all(&folder).expect("made");
        Content::new(n, n * 777).save(&folder.join(format!("f{n}")));
    }
    std::fs::create_dir(source.join("empty")).expect("made");
    let target = mount.path("tree");
    sh_ok(
        "cp -r \"$1\" \"$2\" && diff -r \"$1\" \"$2\"",
        &[&source, &target],
    );
    let files = store
        .keys()
        .iter()
        .filter(|key| !key.ends_with('/'))
        .count();
    assert_eq!(files, 60);
    sh_ok(
        "test \"$(find \"$1\" -type f | wc -l)\" = 60; rm -r \"$1\"",
        &[&target],
    );
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(store.open_uploads(), []);
}

fn what_a_bucket_has_no_place_for_says_so_honestly(store: &Store) {
    store.put("file", "x");
    let mount = Mount::new(store);
    let refused = |result: i32| {
        assert_eq!(result, -1);
        std::io::Error::last_os_error().raw_os_error()
    };
    let linked = std::fs::hard_link(mount.path("file"), mount.path("link"));
    assert_eq!(
        linked.expect_err("refused").raw_os_error(),
        Some(libc::EPERM)
    );
    let special = CString::new(mount.path("special").as_os_str().as_bytes()).expect("a path");
    for kind in [libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFCHR, libc::S_IFBLK] {
        // SAFETY: the path ends with a zero.
        let made = unsafe { libc::mknod(special.as_ptr(), kind | 0o600, 0) };
        assert_eq!(refused(made), Some(libc::EPERM));
    }
    let unnamed = File::options()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&mount.at);
    let errno = unnamed.expect_err("refused").raw_os_error();
    assert_eq!(
        errno,
        Some(libc::EOPNOTSUPP),
        "programs fall back to a name"
    );
    assert_eq!(store.keys(), ["file"]);
    assert_eq!(names(&mount.at), ["file"]);
}

/// Every character of one byte and of two (Latin-1), within a name: kept as it is, or refused.
fn names_of_every_character_are_kept_or_refused(store: &Store) {
    let mount = Mount::new(store);
    let mut kept = Vec::new();
    for c in (1..=255u8).map(char::from).filter(|c| *c != '/') {
        let name = format!("a{c}b");
        match std::fs::write(mount.path(&name), &name) {
            Ok(()) => kept.push(name),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EILSEQ), "{name:?}");
                assert!(c < ' ', "{name:?}");
            }
        }
    }
    assert!(kept.len() >= 254 - 31, "{} names", kept.len());
    let mut expected = kept.clone();
    expected.sort();
    assert_eq!(store.keys(), expected);
    let mount = {
        assert!(mount.terminate().success());
        Mount::new(store)
    };
    let mut shown = names(&mount.at);
    shown.sort();
    assert_eq!(shown, expected);
    for (n, name) in kept.iter().enumerate() {
        let path = mount.path(name);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), *name);
        let moved = mount.path(&format!("{name} {n}"));
        std::fs::rename(&path, &moved).expect("renamed");
        std::fs::remove_file(&moved).expect("removed");
    }
    assert_eq!(store.keys(), Vec::<String>::new());
    assert!(mount.terminate().success());
}

/// On the embedded bucket, which keeps what S3 does: some stores keep less (Garage on LMDB: 511 bytes).
#[test]
fn names_and_paths_of_every_length_are_kept_or_refused() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let refused = |result: std::io::Result<()>| {
        assert_eq!(
            result.expect_err("refused").raw_os_error(),
            Some(libc::ENAMETOOLONG)
        );
    };
    let name = |len: usize| "n".repeat(len);
    std::fs::write(mount.path(&name(255)), "x").expect("255 bytes");
    refused(std::fs::write(mount.path(&name(256)), "x"));
    // A key of 1,024 bytes.
    let deep = mount.path(&[name(254) + "d", name(255), name(255), name(1)].join("/"));
    std::fs::create_dir_all(&deep).expect("made");
    let above = deep
        .strip_prefix(&mount.at)
        .expect("below")
        .as_os_str()
        .len()
        + 1;
    std::fs::write(deep.join(name(1024 - above)), "long").expect("a key of 1,024 bytes");
    assert_eq!(
        std::fs::read(deep.join(name(1024 - above))).expect("read"),
        b"long"
    );
    refused(std::fs::write(deep.join(name(1025 - above)), "x"));
    refused(std::fs::create_dir(deep.join("m".repeat(1024 - above))));
    assert!(store.keys().iter().any(|key| key.len() == 1024));
    std::fs::remove_dir_all(mount.path(&(name(254) + "d"))).expect("removed");
    // Forty levels.
    let levels: Vec<String> = (0..40).map(|n| format!("level-{n}")).collect();
    let bottom = mount.path(&levels.join("/"));
    std::fs::create_dir_all(&bottom).expect("made");
    std::fs::write(bottom.join("file"), "deep").expect("written");
    let moved = mount.path("moved");
    std::fs::rename(mount.path("level-0"), &moved).expect("renamed");
    let file = moved.join(levels[1..].join("/")).join("file");
    assert_eq!(std::fs::read_to_string(file).expect("read"), "deep");
    std::fs::remove_dir_all(&moved).expect("removed");
    assert_eq!(store.keys(), [name(255)]);
    assert!(mount.terminate().success());
}

fn names_that_no_store_can_answer_for_are_not_made(store: &Store) {
    store.put("\u{1}", "theirs");
    let mount = Mount::new(store);
    fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
        result.expect_err("refused").raw_os_error()
    }
    std::fs::write(mount.path("good"), "x").expect("written");
    for (bad, expected) in [
        ("a\u{1}b", libc::EILSEQ),
        ("\u{fffe}", libc::EILSEQ),
        (" ", libc::EINVAL),
        (" \t ", libc::EINVAL),
    ] {
        let path = mount.path(bad);
        assert_eq!(errno(File::create(&path)), Some(expected), "{bad:?}");
        assert_eq!(errno(std::fs::create_dir(&path)), Some(expected), "{bad:?}");
        let renamed = std::fs::rename(mount.path("good"), &path);
        assert_eq!(errno(renamed), Some(expected), "{bad:?}");
    }
    // What somebody else has made can be read and removed, and not written.
    let theirs = mount.path("\u{1}");
    assert_eq!(std::fs::read_to_string(&theirs).expect("read"), "theirs");
    assert_eq!(errno(File::create(&theirs)), Some(libc::EILSEQ));
    std::fs::remove_file(&theirs).expect("removed");
    assert_eq!(store.keys(), ["good"]);
    assert_eq!(store.open_uploads(), []);
}

fn a_read_only_mount_changes_nothing(store: &Store) {
    store.put("file", "x");
    store.put("dir/", "");
    let mount = Mount::with(store, &["--read-only"]);
    assert_eq!(std::fs::read(mount.path("file")).expect("read"), b"x");
    let errno = |result: std::io::Result<()>| result.expect_err("read-only").raw_os_error();
    for result in [
        std::fs::write(mount.path("file"), "y"),
        std::fs::write(mount.path("new"), "y"),
        std::fs::remove_file(mount.path("file")),
        std::fs::create_dir(mount.path("made")),
        std::fs::remove_dir(mount.path("dir")),
        File::options()
            .append(true)
            .open(mount.path("file"))
            .map(drop),
    ] {
        assert_eq!(errno(result), Some(libc::EROFS));
    }
    assert_eq!(store.keys(), ["dir/", "file"]);
}

/// Who makes one file after the other is not sent to the store for each name, however long that takes.
#[test]
fn a_directory_in_use_stays_known() {
    const LIFE: Duration = Duration::from_secs(2);
    let store = Store::embedded_with(Options {
        latency: Duration::from_millis(5),
        ..Options::default()
    });
    let mount = Mount::with(&store, &["--metadata-ttl", "2s"]);
    std::fs::create_dir(mount.path("dir")).expect("made");
    store.log().reset();
    let began = Instant::now();
    let mut files = 0;
    while began.elapsed() < LIFE * 3 || files < 100 {
        std::fs::write(mount.path(&format!("dir/{files}")), "x").expect("written");
        files += 1;
    }
    assert_eq!(store.log().count("PutObject"), files);
    let asked = store.log().count("HeadObject");
    let listed = store.log().count("ListObjectsV2");
    println!("{files} files made, {asked} names asked for, {listed} listings");
    // A machine that stands still for a second lets it be forgotten.
    assert!(asked < files / 5, "{asked} questions for {files} files");
    assert!(
        listed < files / 5 + 20,
        "{listed} listings for {files} files"
    );
    // And what another client makes meanwhile is seen in time all the same.
    store.put("dir/theirs", "x");
    let mut n = 0;
    eventually(LIFE * 4, "theirs", || {
        std::fs::write(mount.path(&format!("dir/more-{n}")), "x").expect("written");
        n += 1;
        mount.path("dir/theirs").exists()
    });
    assert!(mount.terminate().success());
}

on_both_stores!(
    another_clients_change_is_seen_within_the_time_to_live,
    another_clients_change_is_seen_at_once_on_open,
    a_reader_of_a_replaced_object_gets_estale_and_never_a_mixture,
    whoever_has_a_file_open_keeps_it_when_its_name_goes,
    a_reader_does_not_take_the_end_of_another_version_for_its_own,
    keys_that_are_no_file_names_do_not_harm_those_that_are,
    a_directory_is_made_and_removed_with_its_marker,
    a_directory_without_a_marker_stays_when_its_last_file_goes,
    a_tree_is_copied_and_removed_by_the_usual_tools,
    what_a_bucket_has_no_place_for_says_so_honestly,
    names_that_no_store_can_answer_for_are_not_made,
    names_of_every_character_are_kept_or_refused,
    a_read_only_mount_changes_nothing,
);

#[test]
fn a_directory_of_a_hundred_thousand_files_is_listed_whole_and_without_doubles() {
    let store = Store::embedded();
    let count = 100_000;
    for n in 0..count {
        store
            .server()
            .put_object(&store.bucket, &format!("dir/{n:06}"), "");
    }
    let mount = Mount::new(&store);
    let idle = mount.memory();
    let begun = Instant::now();
    let mut seen = HashSet::new();
    for entry in std::fs::read_dir(mount.path("dir")).expect("a listing") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8");
        assert!(seen.insert(name.clone()), "{name} comes twice");
    }
    assert_eq!(seen.len(), count);
    assert!((0..count).all(|n| seen.contains(&format!("{n:06}"))));
    let took = begun.elapsed();
    let grown = mount.peak_memory().saturating_sub(idle);
    println!(
        "100,000 entries in {took:?}, {} MiB more memory at most",
        grown / MIB
    );
    assert!(took < seconds(60), "{took:?}");
    assert!(grown < 128 * MIB, "{} MiB", grown / MIB);
    // As tools do it, who ask for each entry's attributes.
    let lines = sh_ok("ls -l \"$1\" | tail -n +2 | wc -l", &[&mount.path("dir")]);
    assert_eq!(lines.trim(), count.to_string());
    let grown = mount.peak_memory().saturating_sub(idle);
    println!("{} MiB after ls -l", grown / MIB);
    assert!(grown < 192 * MIB, "{} MiB", grown / MIB);
}

#[test]
fn a_directory_is_listed_whole_while_files_come_and_go() {
    let store = Store::embedded();
    for n in 0..3000 {
        store
            .server()
            .put_object(&store.bucket, &format!("stays-{n:04}"), "");
    }
    let mount = Mount::new(&store);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store
                    .server()
                    .put_object(&store.bucket, &format!("goes-{:03}", n % 500), "");
                store
                    .server()
                    .delete_object(&store.bucket, &format!("goes-{:03}", (n + 250) % 500));
                n += 1;
                std::thread::yield_now();
            }
        });
        let listings = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..10 {
                let names = names(&mount.at);
                let unique: HashSet<_> = names.iter().collect();
                assert_eq!(unique.len(), names.len(), "names come twice");
                let stay = names
                    .iter()
                    .filter(|name| name.starts_with("stays-"))
                    .count();
                assert_eq!(stay, 3000);
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        listings.expect("every listing is whole");
    });
}

/// A page of a listing may have fewer entries than were asked for, and more behind it.
#[test]
fn a_directory_is_as_full_as_all_pages_say() {
    let mut options = Options::default();
    options.dialect.page_most = 1;
    let store = Store::embedded_with(options);
    for key in ["a/", "a/x", "b/", "b/x", "c/", "c/x", "d/", "d/x", "d/y"] {
        store.put(key, if key.ends_with('/') { "" } else { key });
    }
    let mount = Mount::new(&store);
    for refused in [
        std::fs::rename(mount.path("a"), mount.path("b")),
        std::fs::remove_dir(mount.path("c")),
    ] {
        let error = refused.expect_err("it is not empty");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    }
    store.delete("d/");
    std::fs::remove_file(mount.path("d/x")).expect("removed");
    std::fs::remove_file(mount.path("d/y")).expect("removed");
    assert_eq!(store.keys(), ["a/", "a/x", "b/", "b/x", "c/", "c/x", "d/"]);
    assert_eq!(store.get("b/x").as_deref(), Some(&b"b/x"[..]));
    assert!(mount.terminate().success());
}
