//! On a host: called by mount(8), named in a configuration file, watched by a supervisor, installed.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::mount::{PROGRAM, Place, detach, is_mounted, program};
use crate::support::tools::{Outcome, kill, run, run_within, sh, sh_ok};
use crate::support::{Mount, Store, eventually, seconds};

/// A place with the helper's link in it, as the installation makes it.
pub struct Host {
    pub store: Store,
    pub place: Place,
    pub at: PathBuf,
}

impl Host {
    pub fn new() -> Host {
        let place = Place::default();
        let at = place.path("mnt");
        fs::create_dir(&at).expect("made");
        symlink(PROGRAM, place.path("mount.wholefs")).expect("linked");
        Host {
            store: Store::embedded(),
            place,
            at,
        }
    }

    pub fn words(&self) -> String {
        let state = self.place.state();
        let (endpoint, state) = (&self.store.endpoint, state.display());
        format!("rw,_netdev,x-systemd.requires=x,endpoint_url={endpoint},state_dir={state}")
    }

    /// The store's keys, and nothing of this machine's settings.
    pub fn command(&self, program_: &Path) -> Command {
        let mut command = program(&self.store);
        let environment: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        command = Command::new(program_);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("HOME", self.place.path("home"));
        command
    }

    /// As mount(8) calls it.
    pub fn helper(&self, source: &str, words: &str) -> Outcome {
        let mut command = self.command(&self.place.path("mount.wholefs"));
        command.arg(source).arg(&self.at).args(["-n", "-o", words]);
        run_within(&mut command, seconds(30))
    }

    pub fn wholefs(&self, arguments: &[&str]) -> Outcome {
        run_within(
            self.command(Path::new(PROGRAM)).args(arguments),
            seconds(30),
        )
    }

    pub fn unmount(&self) -> Outcome {
        let (at, state) = (self.at.display().to_string(), self.place.state());
        let state = state.display().to_string();
        self.wholefs(&["unmount", &at, "--state-dir", &state])
    }

    fn source(&self) -> String {
        sh_ok("findmnt -no SOURCE \"$1\"", &[&self.at])
            .trim()
            .to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if is_mounted(&self.at) {
            detach(&self.at);
        }
    }
}

#[test]
fn called_by_mount_it_returns_when_it_serves_or_says_why_not() {
    let host = Host::new();
    let bucket = format!("s3://{}/", host.store.bucket);
    let done = host.helper(&bucket, &host.words());
    assert!(done.ok(), "{}", done.err);
    assert_eq!(done.err, "");
    // By this `mount -a` knows that it is mounted.
    assert_eq!(host.source(), bucket);
    fs::write(host.at.join("file"), "x").expect("written");
    let again = host.helper(&bucket, &host.words());
    assert_eq!(again.status.code(), Some(32));
    assert!(again.err.contains("already mounted"), "{}", again.err);
    assert!(host.unmount().ok());
    assert_eq!(host.store.get("file").as_deref(), Some(&b"x"[..]));

    let read_only = host.helper(&bucket, &format!("{},ro", host.words()));
    assert!(read_only.ok(), "{}", read_only.err);
    let refused = fs::write(host.at.join("other"), "x").expect_err("read only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert!(host.unmount().ok());

    for (source, words, code, said) in [
        ("s3://nosuch", "", 32, "\"nosuch\" does not exist"),
        (&bucket, ",remount", 1, "unmount it"),
        (&bucket, ",endpoint_ulr=x", 1, "\"endpoint_url\""),
        ("elsewhere", "", 1, "s3://BUCKET"),
    ] {
        let refused = host.helper(source, &format!("{}{words}", host.words()));
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{source} {words}: {}",
            refused.err
        );
        assert!(refused.err.contains(said), "{}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert!(!is_mounted(&host.at));
    }
}

#[test]
fn a_mount_is_named_in_the_configuration_file() {
    let host = Host::new();
    let own = host.place.path("home/.config/wholefs");
    fs::create_dir_all(&own).expect("made");
    let text = format!(
        "[defaults]\nendpoint_url = {:?}\nstate_dir = {:?}\nread_only = true\n\n\
         [mounts.docs]\nsource = \"s3://{}/docs\"\ndirectory = {:?}\nread_only = false\n\n\
         [mounts.wrong]\nsource = \"s3://x\"\npart_sise = \"8M\"\n\
         [mounts.odd]\nsource = \"s3://x\"\npart_size = \"lots\"\n",
        host.store.endpoint,
        host.place.state(),
        host.store.bucket,
        host.at,
    );
    // What the mount says wins over the defaults: `false` takes a flag back.
    fs::write(own.join("config.toml"), &text).expect("written");
    let done = host.wholefs(&["mount", "docs"]);
    assert!(done.ok(), "{}", done.err);
    fs::write(host.at.join("file"), "x").expect("written");
    // By its name it is known to the other commands as well, with its state directory.
    let status = host.wholefs(&["status", "docs", "--once"]);
    assert!(
        status.out.starts_with("docs at "),
        "{}{}",
        status.out,
        status.err
    );
    assert_eq!(host.wholefs(&["log", "docs"]).out, "wholefs=info\n");
    let unmounted = host.wholefs(&["unmount", "docs"]);
    assert!(
        unmounted.ok() && unmounted.err.is_empty(),
        "{}",
        unmounted.err
    );
    assert_eq!(host.store.keys(), ["docs/file"]);

    // The doctor looks at what would be mounted.
    let well = host.wholefs(&["doctor", "docs"]);
    assert!(well.ok(), "{}{}", well.out, well.err);
    let bucket = format!("s3://{}/docs/ can be listed", host.store.bucket);
    assert!(well.out.contains(&bucket), "{}", well.out);
    let unknown = host.wholefs(&["doctor", "dogs"]);
    assert_eq!((unknown.status.code(), unknown.out.as_str()), (Some(2), ""));
    assert!(
        unknown.err.contains("are docs, odd, wrong"),
        "{}",
        unknown.err
    );

    // What the command says wins over both.
    let done = host.wholefs(&["mount", "docs", "--read-only"]);
    assert!(done.ok(), "{}", done.err);
    assert!(fs::write(host.at.join("file"), "y").is_err());
    assert!(host.unmount().ok());

    let elsewhere = host.place.path("elsewhere.toml");
    fs::write(&elsewhere, text.replace("docs", "pages")).expect("written");
    let elsewhere = elsewhere.display().to_string();
    let well = host.wholefs(&["doctor", "pages", "--config", &elsewhere]);
    assert!(well.ok(), "{}{}", well.out, well.err);
    for without in [&["doctor"][..], &["doctor", "s3://x"]] {
        let refused = host.wholefs(&[without, &["--config", &elsewhere]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
        assert!(refused.err.contains("leave it out"), "{}", refused.err);
    }

    for (name, said) in [
        ("dogs", "are docs, odd, wrong"),
        ("wrong", "\"part_size\""),
        ("odd", "[mounts.odd]: invalid value 'lots'"),
    ] {
        let refused = host.wholefs(&["mount", name]);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
        assert!(refused.err.contains(said), "{}", refused.err);
        assert!(refused.err.contains("config.toml"), "{}", refused.err);
    }
    fs::write(own.join("config.toml"), "[defaults]\nx =\n").expect("written");
    let refused = host.wholefs(&["mount", "docs"]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
    assert!(refused.err.contains("line 2"), "{}", refused.err);
}

#[test]
fn unmount_says_who_is_in_the_way_and_waits_for_the_end() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    assert!(host.helper(&source, &host.words()).ok());
    let kept = fs::File::create(host.at.join("file")).expect("made");
    let busy = host.unmount();
    assert_eq!(busy.status.code(), Some(1));
    let us = format!("({})", std::process::id());
    assert!(
        busy.err.contains(&us) && busy.err.contains("--lazy"),
        "{}",
        busy.err
    );
    // Not whoever asks, though it has the same open (a shell gave it).
    let asked = sh(
        "exec 7< \"$1/file\"; \"$2\" unmount \"$1\" --state-dir \"$3\"",
        &[&host.at, Path::new(PROGRAM), &host.place.state()],
    );
    assert!(
        asked.err.contains(&us) && !asked.err.contains("wholefs ("),
        "{}",
        asked.err
    );
    drop(kept);
    eventually(seconds(10), "it is released", || host.unmount().ok());
    // Its daemon has ended, and its journal with it.
    assert_eq!(
        fs::read_dir(host.place.state()).map_or(0, Iterator::count),
        0
    );
    let nothing = host.unmount();
    assert!(
        nothing.err.contains("no mount of wholefs"),
        "{}",
        nothing.err
    );

    assert!(host.helper(&source, &host.words()).ok());
    let mut kept = fs::File::create(host.at.join("kept")).expect("made");
    let at = host.at.display().to_string();
    assert!(host.wholefs(&["unmount", "--lazy", &at]).ok());
    assert!(!is_mounted(&host.at));
    std::io::Write::write_all(&mut kept, b"to the end").expect("written");
    drop(kept);
    eventually(seconds(10), "it is published", || {
        host.store.get("kept").as_deref() == Some(&b"to the end"[..])
    });

    // Whose journal is elsewhere cannot be waited for: that is said.
    assert!(host.helper(&source, &host.words()).ok());
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = elsewhere.path().display().to_string();
    let unwaited = host.wholefs(&["unmount", &at, "--state-dir", &elsewhere]);
    assert!(
        unwaited.ok() && unwaited.err.contains("--state-dir"),
        "{}",
        unwaited.err
    );
}

#[test]
fn a_supervisor_is_told_what_the_mount_is_doing() {
    let store = Store::embedded();
    let place = Place::default();
    fs::create_dir(place.path("mnt")).expect("made");
    let socket = UnixDatagram::bind(place.path("notify")).expect("bound");
    socket.set_read_timeout(Some(seconds(30))).expect("set");
    let heard = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).expect("something is said");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let watched = [
        ("NOTIFY_SOCKET", place.path("notify").display().to_string()),
        ("WATCHDOG_USEC", "200000".to_owned()),
    ];
    let source = format!("s3://{}", store.bucket);
    let mount = Mount::started(&place, "mnt", &store, &source, &[], &watched);
    let first = heard();
    assert!(first.contains("READY=1"), "{first}");
    let status = format!("STATUS=serving s3://{}", store.bucket);
    assert!(first.contains(&status), "{first}");
    for _ in 0..3 {
        assert_eq!(heard().trim(), "WATCHDOG=1");
    }
    assert!(mount.terminate().success());
    let last = std::iter::repeat_with(heard).find(|said| said.contains("STOPPING=1"));
    assert!(last.expect("it ends").contains("EXTEND_TIMEOUT_USEC="));
}

#[test]
fn what_is_written_has_the_class_encryption_and_access_asked_for() {
    let store = Store::embedded();
    let options = [
        "--storage-class",
        "STANDARD_IA",
        "--sse",
        "aws:kms",
        "--sse-kms-key-id",
        "key",
        "--acl",
        "bucket-owner-full-control",
        "--requester-pays",
        "--part-size",
        "5M",
    ];
    let mount = Mount::with(&store, &options);
    fs::write(mount.path("small"), "x").expect("written");
    fs::write(mount.path("large"), vec![0; 6 << 20]).expect("written");
    fs::rename(mount.path("small"), mount.path("renamed")).expect("renamed");
    for key in ["large", "renamed"] {
        let found = store.server().objects(&store.bucket);
        let object = found
            .into_iter()
            .find(|object| object.key == key)
            .expect(key);
        assert_eq!(
            object.storage_class.as_deref(),
            Some("STANDARD_IA"),
            "{key}"
        );
    }
    assert!(mount.terminate().success());
    let wrong =
        run(crate::support::mount::mount_command(&store).args(["--sse", "rot13", "s3://x", "/"]));
    assert!(wrong.err.contains("AES256"), "{}", wrong.err);
}

#[test]
fn it_is_installed_and_removed_without_a_trace() {
    let place = Place::default();
    let root = place.path("root");
    fs::create_dir(&root).expect("made");
    let install = |arguments: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install");
        let mut command = Command::new(script);
        command
            .args(arguments)
            .env("DESTDIR", &root)
            .env("WHOLEFS_BIN", PROGRAM);
        run_within(&mut command, seconds(60))
    };
    let nothing = install(&["--uninstall"]);
    assert!(
        nothing.err.contains("nothing of wholefs"),
        "{}",
        nothing.err
    );
    for _ in 0..2 {
        let done = install(&[]);
        assert!(done.ok(), "{}", done.err);
    }
    let there = |path: &str| root.join(path).exists();
    assert!(there("usr/local/bin/wholefs"));
    assert!(there("usr/local/share/man/man1/wholefs-mount.1"));
    assert!(there("usr/local/lib/systemd/system/wholefs@.service"));
    let helper = fs::read_link(root.join("sbin/mount.fuse.wholefs")).expect("a link");
    assert_eq!(helper, Path::new("/usr/local/bin/wholefs"));
    let unit = fs::read_to_string(root.join("usr/local/lib/systemd/system/wholefs@.service"));
    assert!(
        unit.expect("read")
            .contains("ExecStart=/usr/local/bin/wholefs")
    );
    for completions in [
        "bash-completion/completions/wholefs",
        "zsh/site-functions/_wholefs",
        "fish/vendor_completions.d/wholefs.fish",
    ] {
        assert!(
            there(&format!("usr/local/share/{completions}")),
            "{completions}"
        );
    }
    fs::write(root.join("usr/local/share/theirs"), "").expect("written");
    assert!(install(&["--uninstall"]).ok());
    let left = sh_ok("find \"$1\" ! -type d", &[&root]);
    assert_eq!(
        left.trim(),
        root.join("usr/local/share/theirs").display().to_string()
    );
    assert!(!there("usr/local/share/wholefs") && !there("usr/local/share/doc/wholefs"));
}

#[test]
fn relative_paths_mean_the_same_when_the_mount_is_in_the_background() {
    let host = Host::new();
    let folder = host.place.path("folder");
    for name in ["spool", "cache"] {
        fs::create_dir_all(folder.join(name)).expect("made");
    }
    host.store.put("read", vec![5; 100_000]);
    let mut command = host.command(Path::new(PROGRAM));
    let endpoint = &host.store.endpoint;
    command.args(["mount", "--endpoint-url", endpoint, "--state-dir", "state"]);
    command.args([
        "--spool-dir",
        "spool",
        "--cache",
        "cache",
        "--log-file",
        "log",
    ]);
    command
        .arg(format!("s3://{}", host.store.bucket))
        .arg(&host.at);
    let mounted = run_within(command.current_dir(&folder), seconds(30));
    assert!(mounted.ok(), "{}", mounted.err);
    // From its end to its beginning: it waits in the spool.
    let file = fs::File::create_new(host.at.join("written")).expect("created");
    for at in (0..4).rev() {
        file.write_all_at(&[at as u8; 4096], at * 4096)
            .expect("written");
    }
    drop(file);
    assert_eq!(fs::read(host.at.join("read")).expect("read").len(), 100_000);
    let cached = || sh_ok("find \"$1\" -type f -name '*-0'", &[&folder.join("cache")]);
    eventually(seconds(10), "it is in the cache", || !cached().is_empty());
    let at = host.at.display().to_string();
    let state = folder.join("state").display().to_string();
    let unmounted = host.wholefs(&["unmount", &at, "--state-dir", &state]);
    assert!(unmounted.ok(), "{}", unmounted.err);
    assert_eq!(host.store.get("written").expect("published").len(), 16_384);
    let log = fs::read_to_string(folder.join("log")).expect("the log is where it was said");
    assert!(log.contains("unmounted"), "{log}");
}

/// As some tell all daemons to open their logs again.
#[test]
fn signals_that_mean_nothing_to_a_mount_do_not_end_it() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &[]);
    for pid in [mount.daemon(), mount.pid()] {
        for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
            kill(pid, signal);
        }
    }
    fs::write(mount.path("file"), "x").expect("written");
    assert_eq!(store.get("file").expect("published"), b"x");
    assert!(mount.terminate().success());
}

/// Whoever detached a mount that was busy may have mounted something else there by the time it ends.
#[test]
fn a_mount_that_was_detached_takes_nothing_away_that_came_to_its_place() {
    let store = Store::embedded();
    let place = Place::default();
    let source = format!("s3://{}", store.bucket);
    for how in ["closed", "terminated", "killed"] {
        let mut first = Mount::within(&place, "mnt", &store, &source, &[]);
        let file = fs::File::create(first.path("file")).expect("made");
        file.write_all_at(b"half", 0).expect("written");
        detach(&first.at);
        let second = Mount::within(&place, "mnt", &store, &source, &[]);
        match how {
            "closed" => drop(file),
            "terminated" => kill(first.daemon(), libc::SIGTERM),
            _ => kill(first.daemon(), libc::SIGKILL),
        }
        first.wait_for_death();
        assert!(is_mounted(&second.at), "{how}");
        fs::write(second.path(how), how).expect("written");
        assert!(store.keys().contains(&how.to_owned()), "{how}");
        assert!(second.unmount().success(), "{how}");
    }
}
