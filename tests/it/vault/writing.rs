//! What programs do on it, and what they are refused.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::{SOURCE, Scene};
use crate::support::mount::program;
use crate::support::tools::{kill, run, sh_ok};
use crate::support::{Content, MIB, Writer, eventually, seconds};

#[track_caller]
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    let error = result.expect_err("to be refused");
    error.raw_os_error().expect("an errno")
}

#[test]
fn a_vault_takes_files_of_every_size_and_keeps_their_names() {
    let scene = Scene::new();
    let mount = scene.mount();
    let sizes = [
        0,
        1,
        MIB,
        4 * MIB - 1,
        4 * MIB,
        4 * MIB + 1,
        12 * MIB,
        200 * MIB,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        let content = Content::new(seed as u64, size);
        content.save(&mount.path("aside"));
        fs::rename(mount.path("aside"), mount.path(&size.to_string())).expect("renamed");
        assert_eq!(
            fs::metadata(mount.path(&size.to_string())).unwrap().len(),
            size
        );
        scene.assert_holds(&size.to_string(), &content);
    }
    assert!(mount.unmount().success());
    scene.assert_clean("unmounted");
    // By another mount, from the catalogue alone.
    let mount = scene.mount();
    let mut listed: Vec<u64> = fs::read_dir(&mount.at)
        .expect("a listing")
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    listed.sort();
    assert_eq!(listed, sizes);
}

#[test]
fn names_modes_times_links_and_directories_are_the_catalogues() {
    let scene = Scene::new();
    let mount = scene.mount();
    let (file, time) = (
        mount.path("a/b/file"),
        SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 5),
    );
    fs::create_dir_all(mount.path("a/b")).expect("directories");
    fs::write(&file, "seven b").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_modified(time))
        .expect("a time");
    symlink("b/file", mount.path("a/link")).expect("a link");
    fs::rename(mount.path("a"), mount.path("z")).expect("renamed");
    let archives = scene.store.vault_server().archives("demo").len();
    assert_eq!(archives, 2, "nothing was uploaded again");
    drop(mount);
    let mount = scene.mount();
    let seen = fs::metadata(mount.path("z/link")).expect("through the link");
    assert_eq!((seen.len(), seen.mode() & 0o7777), (7, 0o640));
    assert_eq!(seen.modified().unwrap(), time);
    assert_eq!(errno(fs::metadata(mount.path("a"))), libc::ENOENT);
    fs::remove_dir_all(mount.path("z")).expect("removed");
    scene.assert_clean("removed");
}

#[test]
fn an_overwritten_or_removed_file_leaves_no_archive() {
    let scene = Scene::new();
    let mount = scene.mount();
    for seed in 0..3 {
        Content::new(seed, 5 * MIB).save(&mount.path("file"));
        scene.assert_holds("file", &Content::new(seed, 5 * MIB));
        scene.assert_clean("overwritten");
    }
    fs::write(mount.path("other"), "other").expect("written");
    fs::rename(mount.path("other"), mount.path("file")).expect("renamed over it");
    scene.assert_clean("renamed over");
    fs::remove_file(mount.path("file")).expect("removed");
    scene.assert_clean("removed");
    assert!(scene.names().files.is_empty());
}

#[test]
fn a_vault_is_written_front_to_back_and_never_changed() {
    let scene = Scene::new();
    let mount = scene.mount();
    let old = Content::new(1, 5 * MIB);
    old.save(&mount.path("old"));
    let existing = |how: &dyn Fn(&mut OpenOptions) -> &mut OpenOptions| {
        let mut options = OpenOptions::new();
        how(&mut options).open(mount.path("old")).expect("opened")
    };
    // Nothing of an archive is changed.
    assert_eq!(
        errno(existing(&|o| o.write(true)).write(b"x")),
        libc::EOPNOTSUPP
    );
    assert_eq!(
        errno(existing(&|o| o.read(true).write(true)).write_at(b"x", 9)),
        libc::EOPNOTSUPP
    );
    assert_eq!(
        errno(existing(&|o| o.append(true)).write(b"x")),
        libc::EOPNOTSUPP
    );
    assert_eq!(
        errno(existing(&|o| o.write(true)).set_len(7)),
        libc::EOPNOTSUPP
    );
    let by_name = sh_ok(
        "truncate -s 7 \"$1\" 2>&1 || echo refused",
        &[&mount.path("old")],
    );
    assert!(by_name.contains("refused"), "{by_name}");
    scene.assert_holds("old", &old);
    // Written elsewhere than at its end, a new file is lost, and its writer hears of it.
    let mut file = File::create(mount.path("new")).expect("created");
    file.write_all(&vec![7; 6 * MIB as usize])
        .expect("front to back");
    file.seek(SeekFrom::Start(5)).expect("seeking is free");
    assert_eq!(errno(file.write(b"x")), libc::ESPIPE);
    drop(file);
    let file = File::create(mount.path("gap")).expect("created");
    assert_eq!(errno(file.write_at(b"x", 5)), libc::ESPIPE);
    drop(file);
    eventually(seconds(20), "their uploads are aborted", || {
        scene.ours().is_empty()
    });
    assert_eq!(scene.names().files.into_keys().collect::<Vec<_>>(), ["old"]);
    // An empty file is begun like a new one, and a program may say twice how long its file is.
    File::create(mount.path("empty")).expect("created");
    let mut file = OpenOptions::new()
        .append(true)
        .open(mount.path("empty"))
        .expect("opened");
    file.write_all(b"five!").expect("appended to nothing");
    file.set_len(5).expect("as long as it is");
    file.sync_all().expect("published");
    assert_eq!(scene.bytes("empty").as_deref(), Some(&b"five!"[..]));
    // What was synced is an archive.
    assert_eq!(errno(file.write(b"more")), libc::EOPNOTSUPP);
    drop(file);
    scene.assert_clean("in the end");
}

#[test]
fn an_archive_can_be_read_when_it_was_brought_back() {
    let scene = Scene::new();
    let mount = scene.mount();
    let content = Content::new(3, 9 * MIB + 1);
    content.save(&mount.path("file"));
    let mut file = File::open(mount.path("file")).expect("it is there");
    assert_eq!(errno(file.read(&mut [0; 10])), libc::EAGAIN);
    let remedy = "wholefs vault retrieve demo";
    eventually(seconds(20), "the log says what helps", || {
        mount.stderr().contains(remedy)
    });
    drop(file);
    let told = scene.run("retrieve", &["file"]).out;
    assert!(told.contains("on its way"), "{told}");
    scene.run("retrieve", &["file", "--tier", "Bulk", "--wait"]);
    let jobs = scene.store.vault_server().log().count("InitiateJob");
    assert_eq!(jobs, 1, "asked for once");
    eventually(seconds(20), "it can be read", || {
        content
            .compare(File::open(mount.path("file")).unwrap())
            .is_ok()
    });
    assert!(mount.unmount().success());
}

#[test]
fn who_is_killed_or_fails_leaves_a_vault_as_it_was() {
    let scene = Scene::new();
    let mount = scene.mount();
    let old = Content::new(1, 5 * MIB);
    old.save(&mount.path("old"));
    let begin = |name: &str| {
        let mut writer = Writer::start();
        writer.open(&mount.path(name), "wct").write(2, 13 * MIB);
        eventually(seconds(60), "a part is there", || scene.parts() > 0);
        writer
    };
    // Killed, over an old file.
    begin("old").die_of(libc::SIGKILL);
    eventually(seconds(20), "aborted", || scene.ours().is_empty());
    scene.assert_holds("old", &old);
    // Unlinked in the middle.
    let mut writer = begin("gone");
    fs::remove_file(mount.path("gone")).expect("unlinked");
    writer.write(2, MIB).step("close");
    // Cut to nothing and written anew.
    begin("anew")
        .step("truncate 0")
        .step("seek 0")
        .write(4, 5 * MIB)
        .step("close");
    scene.assert_holds("anew", &Content::new(4, 5 * MIB));
    // Renamed when parts of it are on their way.
    let mut writer = begin("here");
    assert_eq!(
        errno(fs::rename(mount.path("here"), mount.path("there"))),
        libc::EBUSY
    );
    writer.step("close");
    scene.assert_holds("here", &Content::new(2, 13 * MIB));
    // An exit code does not matter.
    begin("ended").exit(3);
    eventually(seconds(60), "published", || scene.bytes("ended").is_some());
    // A part is refused, for good.
    let faults = scene.store.vault_server().faults();
    faults
        .script("op=UploadMultipartPart:error=403")
        .expect("a fault");
    let mut writer = Writer::start();
    writer.open(&mount.path("refused"), "wct");
    let told = [format!("write 5 {}", 13 * MIB), "close".to_string()];
    assert!(told.iter().any(|step| writer.attempt(step).is_err()));
    faults.clear();
    eventually(seconds(30), "aborted", || scene.ours().is_empty());
    // The daemon is told to end: what is closed is kept, what is open given up.
    let open = begin("open");
    kill(mount.pid(), libc::SIGTERM);
    assert!(mount.wait_for_end().success());
    drop(open);
    scene.assert_clean("ended");
    let left: Vec<String> = scene.names().files.into_keys().collect();
    assert_eq!(left, ["anew", "ended", "here", "old"]);
}

#[test]
fn an_archive_that_a_vault_keeps_is_asked_for_once() {
    let scene = Scene::new();
    let mount = scene.mount();
    let faults = scene.store.vault_server().faults();
    let locked = faults
        .script("op=DeleteArchive:error=403")
        .expect("a fault");
    for n in 1..=4 {
        fs::write(mount.path("file"), n.to_string()).expect("written");
    }
    // Three have lost their name.
    assert_eq!(faults.fired(locked), 3);
    faults.remove(locked);
    assert!(mount.unmount().success());
    let mount = scene.mount();
    scene.assert_clean("the next mount deletes them");
    assert!(mount.unmount().success());
}

#[test]
fn a_catalogue_that_others_can_write_to_deletes_nothing() {
    let scene = Scene::new();
    let mount = scene.mount();
    let faults = scene.store.vault_server().faults();
    let locked = faults
        .script("op=DeleteArchive:error=403")
        .expect("a fault");
    for text in ["old", "new"] {
        fs::write(mount.path("file"), text).expect("written");
    }
    faults.remove(locked);
    assert!(mount.unmount().success());
    assert_eq!(scene.names().garbage.len(), 1);
    let allow = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(scene.place.state(), mode).expect("set");
    };
    allow(0o777);
    let mut command = program(&scene.store);
    command.args(["mount", "--foreground", "--endpoint-url"]);
    command.arg(&scene.store.endpoint).arg("--state-dir");
    command.arg(scene.place.state()).arg(SOURCE);
    let said = run(command.arg(scene.place.path("mnt")));
    assert_eq!(said.status.code(), Some(1), "{}", said.err);
    assert!(said.err.contains("chmod go-w"), "{}", said.err);
    let there = scene.store.vault_server().archives("demo");
    assert_eq!(there.len(), 3, "theirs, the old one and the new");
    allow(0o700);
    let mount = scene.mount();
    scene.assert_clean("it is ours again");
    assert!(mount.unmount().success());
}

#[test]
fn each_way_a_write_ends_ends_it_in_a_vault() {
    let scene = Scene::new();
    let mount = scene.mount();
    let begin = |name: &str| {
        let parts = scene.parts();
        let mut writer = Writer::start();
        writer.open(&mount.path(name), "wct").write(2, 13 * MIB);
        eventually(seconds(60), "a part is there", || scene.parts() > parts);
        writer
    };
    let aborted = |what: &str| {
        eventually(seconds(20), what, || scene.ours().is_empty());
        assert!(scene.names().files.is_empty(), "{what}");
    };
    for signal in [
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGSEGV,
    ] {
        begin("killed").die_of(signal);
        aborted(&format!("signal {signal}"));
    }
    // Another opens it anew: what the first had written is given up.
    let mut first = begin("file");
    let mut second = Writer::start();
    second.open(&mount.path("file"), "wt");
    aborted("O_TRUNC");
    second.write(3, 5 * MIB).step("close");
    first.step("close");
    scene.assert_holds("file", &Content::new(3, 5 * MIB));
    // Another file takes its name.
    let mut victim = begin("victim");
    fs::rename(mount.path("file"), mount.path("victim")).expect("renamed");
    eventually(seconds(20), "aborted", || scene.ours().is_empty());
    victim.step("close");
    scene.assert_holds("victim", &Content::new(3, 5 * MIB));
    // Its name changes before anything was sent.
    let mut small = Writer::start();
    small.open(&mount.path("before"), "wct").write(4, MIB);
    fs::rename(mount.path("before"), mount.path("after")).expect("renamed");
    small.step("close");
    scene.assert_holds("after", &Content::new(4, MIB));
    fs::remove_file(mount.path("victim")).expect("removed");
    fs::remove_file(mount.path("after")).expect("removed");
    // The mount's name is taken away: who has a file open goes on, and may be killed.
    let (mut kept, killed) = (begin("kept"), begin("killed"));
    sh_ok("umount -l \"$1\"", &[&mount.at]);
    kept.write(2, MIB).step("close");
    scene.assert_holds("kept", &Content::new(2, 14 * MIB));
    killed.die_of(libc::SIGKILL);
    drop((first, second, victim, small, kept));
    assert!(mount.wait_for_end().success());
    scene.assert_clean("lazily unmounted");
    assert_eq!(
        scene.names().files.into_keys().collect::<Vec<_>>(),
        ["kept"]
    );
}

#[test]
fn rsync_and_tar_drop_their_files_into_a_vault() {
    let scene = Scene::new();
    let mount = scene.mount();
    let from = mount.aside("from");
    fs::create_dir_all(from.join("sub")).expect("a folder");
    let content = Content::new(8, 5 * MIB + 3);
    content.save(&from.join("sub/file"));
    fs::write(from.join("small"), "small").expect("written");
    sh_ok("cp -a \"$1\" \"$2\"", &[&from, &mount.path("copied")]);
    scene.assert_holds("copied/sub/file", &content);
    sh_ok(
        "tar -C \"$1\" -cf - . > \"$2\"",
        &[&from, &mount.path("all.tar")],
    );
    if crate::support::tools::have("rsync", "WHOLEFS_REQUIRE_TOOLS") {
        sh_ok("rsync -a \"$1/\" \"$2\"", &[&from, &mount.path("synced")]);
        scene.assert_holds("synced/sub/file", &content);
        // Nothing has changed, so nothing is read or written.
        let before = scene.store.vault_server().archives("demo");
        sh_ok("rsync -a \"$1/\" \"$2\"", &[&from, &mount.path("synced")]);
        assert_eq!(scene.store.vault_server().archives("demo"), before);
    }
    scene.assert_clean("dropped");
}

#[test]
fn what_goes_into_a_vault_keeps_to_the_limit_of_bandwidth() {
    let scene = Scene::new();
    let mount = scene.mount_with(&["--bandwidth-limit", "1M"]);
    let began = std::time::Instant::now();
    Content::new(1, 3 * MIB).save(&mount.path("file"));
    // What a tenth of a second lets through at once may come sooner.
    assert!(began.elapsed().as_secs_f64() > 2.4, "{:?}", began.elapsed());
}
