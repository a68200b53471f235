//! Modes, owners, times and symbolic links: kept with the objects as s3fs keeps them, whoever made
//! them, and gone nowhere when files are changed, renamed and copied.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::tools::run;
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, on_both_stores, seconds};

fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

fn set_time(path: &Path, time: SystemTime) {
    let file = File::open(path).expect("open");
    file.set_modified(time).expect("its time is set");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").mode() & 0o7777
}

/// Nothing of what a mount believes is left.
fn mounted_anew(mount: Mount, store: &Store) -> Mount {
    assert!(mount.terminate().success());
    Mount::new(store)
}

fn what_is_said_of_a_file_stays(store: &Store) {
    let mut mount = Mount::with(store, &["--part-size", "5M"]);
    let sizes = [("empty", 0), ("small", 1000), ("large", 12 * MIB)];
    let time = at(1_000_000_000, 123_456_789);
    for (name, size) in sizes {
        let path = mount.path(name);
        fs::write(&path, Content::new(1, size).bytes()).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("chmod");
        chown(&path, Some(1234), Some(4321)).expect("chown");
        set_time(&path, time);
    }
    fs::create_dir(mount.path("directory")).expect("made");
    let directory = mount.path("directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o750)).expect("chmod");
    for round in ["at once", "mounted anew"] {
        for (name, size) in sizes {
            let seen = fs::metadata(mount.path(name)).expect("metadata");
            assert_eq!(seen.mode(), 0o100_640, "{name}, {round}");
            assert_eq!((seen.uid(), seen.gid()), (1234, 4321), "{name}, {round}");
            assert_eq!(seen.modified().ok(), Some(time), "{name}, {round}");
            Content::new(1, size).assert_file(&mount.path(name));
        }
        assert_eq!(mode(&mount.path("directory")), 0o750, "{round}");
        mount = mounted_anew(mount, store);
    }
    // Changed bytes change the time, and nothing else.
    let changed = mount.path("small");
    let mut file = File::options().append(true).open(&changed).expect("open");
    file.write_all(b"more").expect("written");
    drop(file);
    fs::write(mount.path("large"), "cut and written anew").expect("written");
    let mount = mounted_anew(mount, store);
    for name in ["small", "large"] {
        let seen = fs::metadata(mount.path(name)).expect("metadata");
        assert_eq!((seen.mode(), seen.uid()), (0o100_640, 1234), "{name}");
        assert!(seen.modified().expect("a time") > time + Duration::from_secs(1000));
    }
    assert_eq!(store.open_uploads(), []);
}

fn what_is_said_while_a_file_is_written_goes_up_with_it(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    let time = at(1_234_567_890, 5);
    // The second has parts in the store when it is said.
    for (name, size) in [("small", 1000), ("large", 16 * MIB)] {
        let mut writer = Writer::start();
        writer.open(&mount.path(name), "wct").write(1, size);
        let path = mount.path(name);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
        chown(&path, Some(7), Some(8)).expect("chown");
        let file = File::options().write(true).open(&path).expect("open");
        file.set_modified(time).expect("its time is set");
        assert_eq!(mode(&path), 0o600);
        drop(file);
        writer.step("close");
        store.assert_holds(name, &Content::new(1, size));
    }
    let mount = mounted_anew(mount, store);
    for name in ["small", "large"] {
        let seen = fs::metadata(mount.path(name)).expect("metadata");
        assert_eq!(seen.mode(), 0o100_600, "{name}");
        assert_eq!((seen.uid(), seen.gid()), (7, 8), "{name}");
        assert_eq!(seen.modified().ok(), Some(time), "{name}");
    }
}

fn what_others_say_is_understood_and_kept(store: &Store) {
    let theirs = HashMap::from([
        ("mode".to_string(), "33152".to_string()),
        ("uid".to_string(), "1001".to_string()),
        ("gid".to_string(), "1002".to_string()),
        ("mtime".to_string(), "1500000000.25".to_string()),
        ("colour".to_string(), "green".to_string()),
    ]);
    store.put_with("theirs", "x", &theirs, "text/x-theirs");
    store.put("plain", "x");
    let mount = Mount::with(store, &["--umask", "027"]);
    let seen = fs::metadata(mount.path("theirs")).expect("metadata");
    assert_eq!(seen.mode(), 0o100_600);
    assert_eq!((seen.uid(), seen.gid()), (1001, 1002));
    assert_eq!(seen.modified().ok(), Some(at(1_500_000_000, 250_000_000)));
    let plain = fs::metadata(mount.path("plain")).expect("metadata");
    assert_eq!(plain.mode(), 0o100_640);
    let path = mount.path("theirs");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
    let colour = |key: &str| store.said_of(key).0.get("colour").cloned();
    assert_eq!(colour("theirs").as_deref(), Some("green"), "chmod");
    fs::write(&path, "changed").expect("written");
    assert_eq!(colour("theirs").as_deref(), Some("green"), "written");
    fs::rename(&path, mount.path("renamed")).expect("renamed");
    let (kept, kind) = store.said_of("renamed");
    assert_eq!(kept.get("colour").map(String::as_str), Some("green"));
    assert_eq!(kept.get("mode").map(String::as_str), Some("33188"));
    assert_eq!(kind.as_deref(), Some("text/x-theirs"));
}

fn symbolic_links_lead_where_they_say(store: &Store) {
    let mount = Mount::new(store);
    let path = |name: &str| mount.path(name);
    fs::create_dir(path("directory")).expect("made");
    fs::write(path("directory/file"), "behind").expect("written");
    symlink("directory/file", path("link")).expect("linked");
    symlink("directory", path("to directory")).expect("linked");
    symlink("nowhere", path("dangling")).expect("linked");
    let again = symlink("other", path("link")).expect_err("it is taken");
    assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
    let mount = mounted_anew(mount, store);
    let path = |name: &str| mount.path(name);
    // Through a listing first, which does not tell a link from a file.
    let mut names: Vec<_> = fs::read_dir(path("")).expect("listed").collect();
    names.sort_by_key(|entry| entry.as_ref().map(|e| e.file_name()).ok());
    assert_eq!(names.len(), 4);
    assert_eq!(fs::read_to_string(path("link")).expect("read"), "behind");
    assert_eq!(
        fs::read_to_string(path("to directory/file")).expect("read"),
        "behind"
    );
    assert_eq!(
        fs::read_link(path("dangling")).expect("read"),
        Path::new("nowhere")
    );
    let seen = fs::symlink_metadata(path("link")).expect("metadata");
    assert!(seen.is_symlink());
    assert_eq!(seen.len(), 14);
    let gone = fs::read(path("dangling")).expect_err("it leads nowhere");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    fs::rename(path("link"), path("renamed")).expect("renamed");
    assert_eq!(
        fs::read_link(path("renamed")).expect("read"),
        Path::new("directory/file")
    );
    fs::remove_file(path("renamed")).expect("removed");
    assert_eq!(
        fs::read_to_string(path("directory/file")).expect("read"),
        "behind"
    );
    assert_eq!(store.keys().len(), 4);
}

fn tools_keep_modes_owners_and_times(store: &Store) {
    let mount = Mount::new(store);
    let script = r#"
        set -e
        local="$1" mount="$2"
        mkdir "$local/tree" "$local/tree/below"
        echo one > "$local/tree/script" && chmod 755 "$local/tree/script"
        echo two > "$local/tree/below/secret" && chmod 600 "$local/tree/below/secret"
        ln -s below/secret "$local/tree/link"
        chown 12:34 "$local/tree/script"
        touch -d '2001-02-03 04:05:06.789' "$local/tree/script" "$local/tree/below/secret"
        cp -a "$local/tree" "$mount/copied"
        tar --format=posix -C "$local" -c tree | tar -C "$mount" -x
        cp -a "$mount/copied" "$mount/again"
        mv "$mount/again" "$mount/moved"
        show() { (cd "$1" && find . ! -type d -printf '%p %y %m %U %G %T@ %l\n' | sort); }
        show "$local/tree" > "$local/expected"
        for tree in copied tree moved; do
            show "$mount/$tree" > "$local/found"
            diff "$local/expected" "$local/found"
        done
        "$mount/moved/script" 2> /dev/null || test $? = 127
        touch "$mount/new" && touch -r "$local/tree/script" "$mount/new"
        test "$(stat -c %Y "$mount/new")" = "$(stat -c %Y "$local/tree/script")"
        install -m 711 "$local/tree/script" "$mount/installed"
        test "$(stat -c %a "$mount/installed")" = 711
    "#;
    let local = tempfile::tempdir().expect("a temporary folder");
    let said = run(Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(local.path())
        .arg(mount.path("")));
    assert!(said.ok(), "{}{}", said.out, said.err);
    assert_eq!(store.open_uploads(), []);
}

on_both_stores!(
    what_is_said_of_a_file_stays,
    what_is_said_while_a_file_is_written_goes_up_with_it,
    what_others_say_is_understood_and_kept,
    symbolic_links_lead_where_they_say,
    tools_keep_modes_owners_and_times,
);

#[test]
fn without_metadata_objects_are_plain_and_changes_are_refused() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--metadata", "none"]);
    let path = mount.path("file");
    fs::write(&path, "x").expect("written");
    let refused = fs::set_permissions(&path, Permissions::from_mode(0o600));
    assert_eq!(
        refused.expect_err("refused").raw_os_error(),
        Some(libc::EOPNOTSUPP)
    );
    let refused = symlink("file", mount.path("link"));
    assert_eq!(
        refused.expect_err("refused").raw_os_error(),
        Some(libc::EPERM)
    );
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("that changes nothing");
    assert_eq!(store.said_of("file").0, HashMap::new());
}

#[test]
fn whoever_goes_through_a_directory_finds_it_asked_ahead() {
    let store = Store::embedded();
    let count = 500;
    for n in 0..count {
        store.put(&format!("dir/{n:03}"), "x");
    }
    let mount = Mount::with(&store, &["--metadata-ttl", "1m", "--metadata", "full"]);
    let asked = || store.log().count("HeadObject");
    let names = fs::read_dir(mount.path("dir")).expect("listed");
    let mut names: Vec<_> = names.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let before = asked();
    assert!(before < 10, "a listing asks for nothing: {before}");
    for name in &names {
        fs::metadata(name).expect("metadata");
    }
    let stats = asked() - before;
    assert!(stats <= count + 5, "{stats} requests for {count} files");
    // Believed for a while.
    for name in &names {
        fs::metadata(name).expect("metadata");
    }
    assert!(asked() - before <= stats);
}

#[test]
fn what_is_made_in_a_directory_of_a_group_is_the_groups() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let shared = mount.path("shared");
    fs::create_dir(&shared).expect("made");
    chown(&shared, None, Some(34)).expect("chown");
    fs::set_permissions(&shared, Permissions::from_mode(0o2775)).expect("chmod");
    fs::write(shared.join("file"), "x").expect("written");
    fs::create_dir(shared.join("below")).expect("made");
    symlink("file", shared.join("link")).expect("linked");
    let mount = mounted_anew(mount, &store);
    let seen = |name: &str| fs::symlink_metadata(mount.path("shared").join(name)).expect("there");
    for name in ["file", "below", "link"] {
        assert_eq!(seen(name).gid(), 34, "{name}");
    }
    assert_eq!(seen("below").mode() & 0o7000, 0o2000);
    assert_eq!(seen("file").mode() & 0o7000, 0);
    assert!(mount.terminate().success());
}

#[test]
fn a_directory_of_another_client_s_attributes_are_seen_after_the_ttl() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--metadata-ttl", "100ms"]);
    let directory = mount.path("directory");
    fs::create_dir(&directory).expect("made");
    fs::set_permissions(&directory, Permissions::from_mode(0o750)).expect("chmod");
    let theirs = HashMap::from([("mode".to_owned(), "16832".to_owned())]);
    store.put_with("directory/", "", &theirs, "application/x-directory");
    eventually(seconds(5), "the mode is theirs", || {
        mode(&directory) == 0o700
    });
    assert!(mount.terminate().success());
}

#[test]
fn the_type_of_content_follows_the_name() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    for (name, size) in [("page.html", 10), ("film.mp4", 12 * MIB), ("plain", 10)] {
        fs::write(mount.path(name), Content::new(1, size).bytes()).expect("written");
    }
    let kind = |key: &str| store.said_of(key).1.unwrap_or_default();
    assert_eq!(kind("page.html"), "text/html");
    assert_eq!(kind("film.mp4"), "video/mp4");
    let unknown = kind("plain");
    // Programs write beside a file and rename: the name it ends with counts.
    fs::rename(mount.path("plain"), mount.path("picture.png")).expect("renamed");
    assert_eq!(kind("picture.png"), "image/png");
    fs::rename(mount.path("picture.png"), mount.path("anything")).expect("renamed");
    assert_eq!(kind("anything"), "image/png", "nothing better is known");
    assert_ne!(unknown, "image/png");
    // What somebody chose stays.
    store.put_with("theirs", "x", &HashMap::new(), "text/x-ours");
    fs::rename(mount.path("theirs"), mount.path("theirs.png")).expect("renamed");
    assert_eq!(kind("theirs.png"), "text/x-ours");
    assert!(mount.terminate().success());
}

#[test]
fn symbolic_links_of_geesefs_are_read() {
    let store = Store::embedded();
    let said = HashMap::from([("--symlink-target".to_owned(), "a%20b/c".to_owned())]);
    store.put_with("link", "", &said, "");
    let mount = Mount::new(&store);
    let link = mount.path("link");
    assert_eq!(fs::read_link(&link).expect("a link"), Path::new("a b/c"));
    assert_eq!(fs::symlink_metadata(&link).expect("there").len(), 5);
    assert!(mount.terminate().success());
}

#[test]
fn a_change_of_attributes_whose_answer_is_lost_is_made_once_and_readers_read_on() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M", "--metadata-ttl", "0s"]);
    let content = Content::new(1, 12 * MIB);
    let file = mount.path("file");
    fs::write(&file, content.bytes()).expect("written");
    let directory = mount.path("directory");
    fs::create_dir(&directory).expect("made");
    for (path, operation, moment, now) in [
        (&file, "CopyObject", "before", 0o600),
        (&file, "CopyObject", "after", 0o640),
        (&directory, "PutObject", "before", 0o700),
        (&directory, "PutObject", "after", 0o750),
    ] {
        // Its ETag becomes another when it is copied in one piece.
        let reader = File::open(&file).expect("open");
        let mut first = [0; 4096];
        reader.read_exact_at(&mut first, 0).expect("read");
        let lost = format!("op={operation},n=1:drop-{moment}");
        let lost = store.faults().script(&lost).expect("a fault");
        fs::set_permissions(path, Permissions::from_mode(now)).expect("chmod");
        assert_eq!(store.faults().fired(lost), 1);
        store.faults().clear();
        assert_eq!(mode(path), now);
        content.compare(&reader).expect("the same bytes");
    }
    store.assert_holds("file", &content);
    assert_eq!(store.open_uploads(), []);
    let mount = mounted_anew(mount, &store);
    assert_eq!(mode(&mount.path("file")), 0o640);
    assert!(mount.terminate().success());
}

/// Between the store's answer and the end of close() it is neither an empty file nor anybody's.
#[test]
fn who_looks_while_a_file_is_published_sees_it_as_it_is() {
    const FILES: usize = 400;
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let (at, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let looks = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let n = at.load(Ordering::Relaxed);
                let path = mount.path(&format!("file-{n}"));
                let mut grown = 0;
                while at.load(Ordering::Relaxed) == n && !done.load(Ordering::Relaxed) {
                    let Ok(seen) = fs::metadata(&path) else {
                        assert_eq!(grown, 0, "file-{n} is gone");
                        continue;
                    };
                    assert_eq!(seen.mode() & 0o777, 0o604, "file-{n}");
                    assert!(seen.len() >= grown, "file-{n} was {grown} bytes long");
                    grown = seen.len();
                    looks += 1;
                }
            }
            looks
        });
        for n in 0..FILES {
            at.store(n, Ordering::Relaxed);
            let mut options = fs::File::options();
            let options = options.write(true).create_new(true).mode(0o604);
            let mut file = options
                .open(mount.path(&format!("file-{n}")))
                .expect("made");
            file.write_all(b"ten bytes.").expect("written");
        }
        done.store(true, Ordering::Relaxed);
        looker.join().expect("nothing else was seen")
    });
    println!("{looks} looks at {FILES} files");
    assert!(mount.terminate().success());
}

/// A directory of so many files, of which those that are given say something: not the ones a sample has.
fn large_directory(count: usize, said: &[(usize, &str)]) -> Store {
    let store = Store::embedded();
    for n in 0..count {
        let key = format!("dir/{n:04}");
        match said.iter().find(|(at, _)| *at == n) {
            Some((_, mode)) => {
                let mode = HashMap::from([("mode".to_owned(), mode.to_string())]);
                store.put_with(&key, "target", &mode, "");
            }
            None => store.put(&key, "target"),
        }
    }
    store
}

/// The kind of file and the mode of all, as `ls -l` has them.
fn modes(mount: &Mount) -> Vec<u32> {
    let mut shown: Vec<_> = fs::read_dir(mount.path("dir"))
        .expect("listed")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let mode = fs::symlink_metadata(&path).expect("there").mode();
            (path, mode)
        })
        .collect();
    shown.sort();
    shown.into_iter().map(|(_, mode)| mode).collect()
}

const PRIVATE: &str = "33152";
const LINK: &str = "41471";

#[test]
fn a_large_directory_is_shown_with_the_modes_that_are_kept_in_it() {
    let all: Vec<_> = (0..1000).map(|n| (n, PRIVATE)).collect();
    let store = large_directory(1000, &all);
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    assert_eq!(modes(&mount), [0o100_600; 1000]);
    assert!(mount.terminate().success());
}

#[test]
fn of_a_small_directory_each_file_is_asked() {
    let store = large_directory(256, &[(0, PRIVATE), (77, LINK)]);
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    let shown = modes(&mount);
    assert_eq!((shown[0], shown[1]), (0o100_600, 0o100_644));
    assert_eq!(shown[77] & libc::S_IFMT, libc::S_IFLNK);
    assert!(mount.terminate().success());
}

#[test]
fn a_large_directory_of_plain_files_is_shown_as_the_listing_tells_until_something_is_heard() {
    const SAID: [(usize, &str); 3] = [(0, PRIVATE), (1, PRIVATE), (2, LINK)];
    for what in ["opened", "chmod", "made"] {
        let store = large_directory(1000, &SAID);
        let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
        let asked = || store.log().count("HeadObject");
        let before = asked();
        assert_eq!(modes(&mount), [0o100_644; 1000], "{what}");
        let looks = asked() - before;
        assert!(looks <= 16 + 5, "{what}: {looks} looks");
        let path = |name: &str| mount.path("dir").join(name);
        match what {
            "opened" => drop(File::open(path("0000")).expect("opened")),
            "chmod" => {
                let mode = Permissions::from_mode(0o640);
                fs::set_permissions(path("0500"), mode).expect("chmod");
            }
            _ => {
                let mut options = File::options();
                let options = options.write(true).create_new(true).mode(0o600);
                drop(options.open(path("made")).expect("made"));
            }
        }
        // What the kernel believed of the others is forgotten, too.
        assert_eq!(mode(&mount.path("dir/0001")), 0o600, "{what}");
        let shown = modes(&mount);
        assert_eq!(shown[..2], [0o100_600; 2], "{what}");
        assert_eq!(shown[2] & libc::S_IFMT, libc::S_IFLNK, "{what}");
        match what {
            "chmod" => assert_eq!(shown[500], 0o100_640),
            "made" => assert_eq!(shown[1000], 0o100_600),
            _ => assert_eq!(shown[500], 0o100_644),
        }
        assert!(mount.terminate().success());
    }
}

#[test]
fn in_a_directory_whose_marker_says_something_each_file_is_asked() {
    let store = large_directory(1000, &[(0, PRIVATE)]);
    let theirs = HashMap::from([("mode".to_owned(), "16877".to_owned())]);
    store.put_with("dir/", "", &theirs, "application/x-directory");
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    assert_eq!(modes(&mount)[0], 0o100_600);
    assert!(mount.terminate().success());
}

#[test]
fn a_file_that_was_changed_since_it_was_listed_is_asked() {
    let store = large_directory(1000, &[]);
    let mount = Mount::with(&store, &["--metadata-ttl", "1h"]);
    assert_eq!(modes(&mount), [0o100_644; 1000]);
    let theirs = HashMap::from([("mode".to_owned(), PRIVATE.to_owned())]);
    store.put_with("dir/0000", "changed", &theirs, "");
    assert_eq!(modes(&mount)[0], 0o100_600);
    assert!(mount.terminate().success());
}

#[test]
fn times_do_not_depend_on_who_was_asked_for_them() {
    let store = Store::embedded();
    for name in ["a", "b", "c"] {
        store.put(&format!("d/{name}"), "some");
        std::thread::sleep(Duration::from_millis(130));
    }
    let mount = Mount::new(&store);
    let times = |name: &str| {
        let told = fs::metadata(mount.path(&format!("d/{name}"))).expect("there");
        [
            told.mtime(),
            told.mtime_nsec(),
            told.ctime(),
            told.ctime_nsec(),
        ]
    };
    let asked_itself = times("a");
    let listed: Vec<_> = fs::read_dir(mount.path("d"))
        .expect("a directory")
        .collect();
    assert_eq!(listed.len(), 3);
    for name in ["a", "b", "c"] {
        let told = times(name);
        fs::read(mount.path(&format!("d/{name}"))).expect("read");
        assert_eq!(times(name), told, "{name}");
    }
    assert_eq!(times("a"), asked_itself);
}

#[test]
fn times_before_1970_are_kept_to_the_nanosecond() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("old");
    fs::write(&path, "x").expect("written");
    for before in [
        Duration::from_millis(250),
        Duration::new(1, 500_000_000),
        Duration::from_secs(1),
        Duration::new(86_400, 1),
    ] {
        let time = SystemTime::UNIX_EPOCH - before;
        set_time(&path, time);
        let told = fs::metadata(&path).and_then(|old| old.modified());
        assert_eq!(told.expect("told"), time, "{before:?}");
    }
    assert!(mount.terminate().success());
}

/// As everywhere: else a program would run with its owner's rights that somebody else has changed.
#[test]
fn who_writes_without_privilege_takes_the_set_id_bits_away() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--allow-other"]);
    // SAFETY: asks, touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let path = mount.path("program");
    for (of_somebody, kept) in [(0o6777, 0o777), (0o6767, 0o2767)] {
        fs::write(&path, "a program").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(of_somebody)).expect("set");
        assert_eq!(mode(&path), of_somebody);
        let script = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo x >> $0' $1";
        let done = run(Command::new("sh").args(["-c", script, "sh"]).arg(&path));
        assert!(done.ok(), "{}", done.err);
        assert_eq!(mode(&path), kept, "{of_somebody:o}");
    }
    assert!(mount.terminate().success());
}
