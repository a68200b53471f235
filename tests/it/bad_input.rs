//! What cannot be mounted: one line on stderr that names the thing and the remedy, exit status 1 (or
//! 2 where the command line is wrong), soon, without a panic.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::mount::{PROGRAM, detach, is_mounted, mount_command};
use crate::support::tools::{run, run_within};
use crate::support::{Mount, Store, seconds};

/// What every case starts from: a store that works and a folder to mount on.
struct Bench {
    store: Store,
    at: PathBuf,
    folder: TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if is_mounted(&self.at) {
            detach(&self.at);
        }
    }
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path().join("mnt");
        std::fs::create_dir(&at).expect("made");
        Bench {
            store: Store::embedded(),
            at,
            folder,
        }
    }

    fn source(&self) -> String {
        format!("s3://{}", self.store.bucket)
    }

    /// In the foreground and in the background the same: status, one line, and these words in it.
    #[track_caller]
    fn refuses(&self, status: i32, words: &[&str], adjust: impl Fn(&mut Command)) {
        for foreground in [true, false] {
            let mut command = mount_command(&self.store);
            if foreground {
                command.arg("--foreground");
            }
            adjust(&mut command);
            self.refused(command, status, words);
        }
    }

    /// The same for a mount whose options are all right and whose source and place are these.
    #[track_caller]
    fn refuses_place(&self, status: i32, words: &[&str], source: &str, at: &Path) {
        self.refuses(status, words, |command| {
            command.arg(source).arg(at);
        });
    }

    /// The same for these further options.
    #[track_caller]
    fn refuses_options(&self, status: i32, words: &[&str], options: &[&str]) {
        self.refuses(status, words, |command| {
            command.args(options).arg(self.source()).arg(&self.at);
        });
    }

    #[track_caller]
    fn refused(&self, mut command: Command, status: i32, words: &[&str]) {
        command.env("RUST_BACKTRACE", "1");
        let begun = Instant::now();
        let done = run_within(&mut command, seconds(30));
        let took = begun.elapsed();
        let said = format!("{command:?} gave {}:\n{}", done.status, done.err);
        assert_eq!(done.status.code(), Some(status), "{said}");
        assert_eq!(done.err.trim_end().lines().count(), 1, "{said}");
        assert!(done.err.starts_with("wholefs: "), "{said}");
        for word in words {
            assert!(done.err.contains(word), "{said}(`{word}` is missing)");
        }
        assert!(!done.err.contains("panicked"), "{said}");
        assert_eq!(done.out, "", "{said}");
        assert!(took < seconds(15), "{took:?}: {said}");
        assert!(!is_mounted(&self.at), "{said}");
    }

    /// A store at another address.
    fn elsewhere(&self, endpoint: &str) -> impl Fn(&mut Command) {
        let (endpoint, source, at) = (endpoint.to_owned(), self.source(), self.at.clone());
        move |command| {
            // Made anew, without the other endpoint.
            let foreground = command.get_args().any(|a| a == "--foreground");
            let keys: Vec<_> = command
                .get_envs()
                .filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())))
                .collect();
            *command = Command::new(PROGRAM);
            command
                .envs(keys)
                .arg("mount")
                .args(["--endpoint-url", &endpoint]);
            command.args(["--region", "us-east-1", "--provider", "embedded"]);
            if foreground {
                command.arg("--foreground");
            }
            command.arg(&source).arg(&at);
        }
    }
}

#[test]
fn a_bucket_that_is_not_there() {
    let bench = Bench::new();
    bench.refuses_place(1, &["nosuch"], "s3://nosuch", &bench.at);
    bench.refuses_place(1, &["nosuch"], "s3://nosuch/with/a/prefix", &bench.at);
}

#[test]
fn credentials_that_are_missing_or_wrong_or_not_enough() {
    let bench = Bench::new();
    let nobody = bench.folder.path().join("nobody");
    // A file of Windows' lines was read in.
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "wholefs\r"),
        ("AWS_SESSION_TOKEN", "a\nb"),
    ] {
        bench.refuses(1, &["no credentials", "the end of a line"], |command| {
            command.env(name, value).arg(bench.source()).arg(&bench.at);
        });
    }
    bench.refuses(1, &["credentials", "AWS_ACCESS_KEY_ID"], |command| {
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY");
        command
            .env("HOME", &nobody)
            .arg(bench.source())
            .arg(&bench.at);
    });
    let half = "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not";
    bench.refuses(1, &[half], |command| {
        command.env_remove("AWS_SECRET_ACCESS_KEY");
        command
            .env("HOME", &nobody)
            .arg(bench.source())
            .arg(&bench.at);
    });
    bench.refuses(1, &["demo"], |command| {
        command
            .env("AWS_SECRET_ACCESS_KEY", "wrong")
            .arg(bench.source())
            .arg(&bench.at);
    });
    bench.refuses(1, &["demo"], |command| {
        command
            .env("AWS_ACCESS_KEY_ID", "nobody")
            .arg(bench.source())
            .arg(&bench.at);
    });
    let profile = ["--profile", "nosuchprofile"];
    bench.refuses_options(1, &["nosuchprofile", "~/.aws/config"], &profile);
    let file = nobody.display().to_string();
    let words = ["credentials file", &file, "No such file"];
    bench.refuses_options(1, &words, &["--credentials-file", &file]);
    let file = bench.folder.path().join("keys").display().to_string();
    for text in ["a:b:c:d", "[default]\n"] {
        std::fs::write(&file, text).expect("written");
        bench.refuses(1, &[&file], |command| {
            command.env_remove("AWS_ACCESS_KEY_ID");
            command.args(["--credentials-file", &file]);
            command.arg(bench.source()).arg(&bench.at);
        });
    }
    let denies = bench
        .store
        .faults()
        .script("error=403/AccessDenied")
        .expect("a fault");
    bench.refuses_options(1, &["demo"], &[]);
    assert!(bench.store.faults().fired(denies) > 0);
}

#[test]
fn an_endpoint_that_is_not_there() {
    let bench = Bench::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    bench.refuses(
        1,
        &[&address],
        bench.elsewhere(&format!("http://{address}")),
    );
    // A name that cannot exist.
    bench.refuses(
        1,
        &["nosuch.invalid"],
        bench.elsewhere("http://nosuch.invalid:9000"),
    );
    bench.refuses(
        2,
        &["http://127.0.0.1:1/?x", "leave out"],
        bench.elsewhere("http://127.0.0.1:1/?x"),
    );
    for wrong in [
        "not a url",
        "ftp://127.0.0.1",
        "127.0.0.1:9000",
        "http://",
        "http://127.0.0.1:99999",
        "",
    ] {
        let status = 1..=2;
        let mut command = mount_command(&bench.store);
        bench.elsewhere(wrong)(&mut command);
        let code = run_within(&mut command, seconds(15)).status.code();
        assert!(
            code.is_some_and(|code| status.contains(&code)),
            "{wrong:?}: {code:?}"
        );
        bench.refused(command, code.unwrap_or(1), &[wrong]);
    }
    let mut command = mount_command(&bench.store);
    bench.elsewhere("http://me:secret@127.0.0.1:9")(&mut command);
    let said = run_within(&mut command, seconds(15));
    assert!(!said.err.contains("secret"), "{}", said.err);
    bench.refused(command, 1, &["http://127.0.0.1:9", "AWS_ACCESS_KEY_ID"]);
}

#[test]
fn an_endpoint_that_is_not_an_s3_service() {
    let bench = Bench::new();
    // What else listens on ports: web servers, mail servers, nothing sensible, and silence.
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot found",
        b"220 mail.example.org ESMTP\r\n",
        b"\x00\x01\x02\x03\xff",
        b"",
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        // Ends with the test's process; nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut asked = [0; 4096];
                    while stream.read(&mut asked).is_ok_and(|n| n > 0) {
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        bench.refuses(
            1,
            &[&address],
            bench.elsewhere(&format!("http://{address}")),
        );
    }
}

#[test]
fn a_mount_point_that_is_none() {
    let bench = Bench::new();
    let missing = bench.folder.path().join("missing");
    let shown = missing.display().to_string();
    bench.refuses_place(1, &[&shown, "mkdir"], &bench.source(), &missing);
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let shown = file.display().to_string();
    bench.refuses_place(1, &[&shown, "not a directory"], &bench.source(), &file);
    bench.refuses_place(1, &[&shown], &bench.source(), &file.join("below"));
    let full = bench.folder.path().join("full");
    std::fs::create_dir_all(full.join("something")).expect("made");
    let shown = full.display().to_string();
    bench.refuses_place(1, &[&shown, "--nonempty"], &bench.source(), &full);
}

#[test]
fn a_mount_point_that_is_mounted_already() {
    let bench = Bench::new();
    let mount = Mount::new(&bench.store);
    let shown = mount.at.display().to_string();
    bench.refuses_place(
        1,
        &[&shown, "already mounted", "umount"],
        &bench.source(),
        &mount.at,
    );
    // That has not harmed it.
    std::fs::write(mount.path("file"), "x").expect("written");
    assert_eq!(mount.unmount().code(), Some(0));
}

#[test]
fn a_mount_that_is_not_permitted() {
    let bench = Bench::new();
    // SAFETY: a plain system call.
    assert_eq!(
        unsafe { libc::getuid() },
        0,
        "these tests run as root, to become somebody else"
    );
    // Somebody else must be able to reach the program, and this folder.
    let program = bench.folder.path().join("wholefs");
    // Not copied by us: a child that another test forks meanwhile would have it open for writing still
    // when it is to run, which is ETXTBSY.
    let copied = run(Command::new("cp").arg(PROGRAM).arg(&program));
    assert!(copied.ok(), "{}", copied.err);
    let open = |path: &Path| {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("our own");
    };
    open(bench.folder.path());
    open(&program);
    let as_nobody = || {
        let mut command = Command::new(&program);
        command.env("AWS_ACCESS_KEY_ID", &bench.store.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", &bench.store.secret_key);
        command.args(["mount", "--endpoint-url", &bench.store.endpoint]);
        command.args(["--provider", "embedded", "--region", "us-east-1"]);
        // A place of its own for the journal: its HOME is still ours.
        command
            .arg("--state-dir")
            .arg(bench.folder.path().join("state"));
        command.uid(65534).gid(65534).current_dir("/");
        command
    };
    let state = bench.folder.path().join("state");
    std::fs::create_dir(&state).expect("our own");
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).expect("we are root");
    // The directory is root's.
    for foreground in [true, false] {
        let mut command = as_nobody();
        if foreground {
            command.arg("--foreground");
        }
        command.arg(bench.source()).arg(&bench.at);
        bench.refused(command, 1, &[&bench.at.display().to_string()]);
    }
    // And one that nobody may even look at.
    let closed = bench.folder.path().join("closed");
    std::fs::create_dir_all(closed.join("mnt")).expect("made");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("our own");
    let mut command = as_nobody();
    command.arg(bench.source()).arg(closed.join("mnt"));
    bench.refused(command, 1, &[&closed.display().to_string(), "permission"]);
}

#[test]
fn a_machine_without_dev_fuse() {
    let bench = Bench::new();
    // In a mount namespace of its own, where /dev is nearly empty.
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    for foreground in [true, false] {
        let inner = {
            let mut inner = mount_command(&bench.store);
            if foreground {
                inner.arg("--foreground");
            }
            inner.arg(bench.source()).arg(&bench.at);
            inner
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", PROGRAM]);
        command.args(inner.get_args());
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        bench.refused(command, 1, &["/dev/fuse", "modprobe fuse"]);
    }
}

#[test]
fn a_source_that_is_no_bucket_or_prefix() {
    let bench = Bench::new();
    for source in [
        "demo",
        "http://demo",
        "s3:/demo",
        "s3://",
        "s3:///prefix",
        "s3://demo//",
        "s3://demo//x",
        "s3://demo/a//b",
        "s3://demo/../x",
        "s3://demo/x/./y",
        "s3://demo/x,y",
        "",
    ] {
        bench.refuses_place(
            2,
            &[source, "s3://"].map(|w| {
                if source.starts_with("s3://demo/") {
                    source.trim_start_matches("s3://demo/")
                } else {
                    w
                }
            }),
            source,
            &bench.at,
        );
    }
    let long = format!("s3://demo/{}", "x".repeat(1100));
    for source in [
        long.as_str(),
        "s3://Not_A_Bucket",
        "s3://a",
        "s3://demo\n/x",
    ] {
        let mut command = mount_command(&bench.store);
        command.arg(source).arg(&bench.at);
        let code = run_within(&mut command, seconds(15)).status.code();
        assert!(matches!(code, Some(1 | 2)), "{source}: {code:?}");
        bench.refused(command, code.unwrap_or(1), &[]);
    }
    // A prefix under which there is an object and nothing else can be a directory yet.
    bench.store.put("file", "x");
    let mount = Mount::of(&bench.store, "s3://demo/file", &[]);
    assert_eq!(std::fs::read_dir(&mount.at).expect("a listing").count(), 0);
}

#[test]
fn flags_that_contradict_or_cannot_be() {
    let bench = Bench::new();
    bench.refuses_options(2, &["-o stands by itself"], &["-fo", "ro"]);
    bench.refuses_options(2, &["nosymfollow", "leave it out"], &["-o", "nosymfollow"]);
    let cases: [(&[&str], &[&str]); 26] = [
        (&["--part-size", "1M"], &["--part-size", "5M"]),
        (
            &["--part-size", "300M", "--write-memory", "256M"],
            &["--part-size", "--write-memory"],
        ),
        (&["--write-memory", "1M"], &["--write-memory", "64M"]),
        (&["--write-memory", "lots"], &["--write-memory", "lots"]),
        (&["--write-memory", "-5M"], &["'-5'"]),
        (
            &["--write-memory", "99999999999999999999G"],
            &["--write-memory"],
        ),
        (&["--metadata-ttl", "soon"], &["--metadata-ttl", "soon"]),
        (&["--metadata-ttl", "-1s"], &["'-1'"]),
        (&["--request-timeout", "0s"], &["--request-timeout"]),
        (&["--attempts", "0"], &["--attempts"]),
        (&["--attempts", "many"], &["--attempts", "many"]),
        (&["--upload-concurrency", "0"], &["--upload-concurrency"]),
        (
            &["--abort-on", "sometimes"],
            &["--abort-on", "sometimes", "signal"],
        ),
        (&["--umask", "999"], &["--umask", "999"]),
        (&["--uid", "nosuchuser"], &["--uid", "nosuchuser"]),
        (&["--provider", "nosuch"], &["nosuch"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (
            &["--no-sign-request", "--profile", "x"],
            &["--no-sign-request", "--profile"],
        ),
        (&["--spool-limit", "none"], &["--spool-limit"]),
        (&["--write-memory"], &["--write-memory"]),
        (&["--gid", "nosuchgroup"], &["--gid", "nosuchgroup"]),
        (
            &["--sse", "AES256", "--sse-kms-key-id", "key"],
            &["--sse-kms-key-id", "aws:kms"],
        ),
        // It is about mounts by name.
        (&["--config", "/nosuch"], &["--config", "leave it out"]),
        (
            &["-o", "atrr_timeout=1"],
            &["unknown option \"atrr_timeout\" (see"],
        ),
        (&["-o", "attr_timeout=1"], &["metadata_ttl"]),
        (&["-o", "read_olny"], &["did you mean \"read_only\"?"]),
    ];
    for (options, words) in cases {
        for foreground in [true, false] {
            let mut command = Command::new(PROGRAM);
            command.env("AWS_ACCESS_KEY_ID", &bench.store.access_key);
            command.env("AWS_SECRET_ACCESS_KEY", &bench.store.secret_key);
            command.args(["mount", "--endpoint-url", &bench.store.endpoint]);
            if foreground {
                command.arg("--foreground");
            }
            command.arg(bench.source()).arg(&bench.at).args(options);
            bench.refused(command, 2, words);
        }
    }
    let nowhere = bench.folder.path().join("nowhere");
    let shown = nowhere.display().to_string();
    bench.refuses_options(1, &[&shown, "--spool-dir"], &["--spool-dir", &shown]);
    // Nothing to mount, nowhere to mount it, a command that is none.
    for arguments in [
        &["mount"][..],
        &["mount", "s3://demo"],
        &["mont", "s3://demo", "/mnt"],
    ] {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        bench.refused(command, 2, &[]);
    }
}

#[test]
fn what_a_mount_keeps_for_itself_lies_elsewhere_and_is_its_own() {
    let bench = Bench::new();
    let at = bench.at.display().to_string();
    for flag in ["--spool-dir", "--cache", "--state-dir"] {
        bench.refuses_options(2, &[&at, flag, "elsewhere"], &[flag, &at]);
    }
    // What stands in a journal is done: who could have written it?
    let shared = bench.folder.path().join("shared");
    std::fs::create_dir(&shared).expect("made");
    let everybodys = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&shared, everybodys).expect("set");
    let shared = shared.display().to_string();
    bench.refuses_options(1, &[&shared, "chmod go-w"], &["--state-dir", &shared]);
    let mut recover = Command::new(PROGRAM);
    recover.args(["recover", "--state-dir", &shared]);
    bench.refused(recover, 1, &[&shared, "chmod go-w"]);
}

#[test]
fn a_machine_that_gives_nothing() {
    let bench = Bench::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 8; exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["uploads", "s3://demo", "--endpoint-url"]);
    command.arg(&bench.store.endpoint);
    bench.refused(command, 1, &["ulimit -n"]);
}

#[test]
fn what_no_header_can_say() {
    let bench = Bench::new();
    for flag in ["--storage-class", "--acl", "--sse-kms-key-id"] {
        for value in ["A\nB", "", "häufig"] {
            bench.refuses_options(2, &[flag, "ASCII"], &["--sse", "aws:kms", flag, value]);
        }
    }
}

#[test]
fn metrics_where_something_else_is() {
    let bench = Bench::new();
    let there = bench.folder.path().display().to_string();
    let words = [&there[..], "is no socket", "PORT"];
    bench.refuses_options(1, &words, &["--metrics-listen", &there]);
}

#[test]
fn a_remedy_can_be_typed_as_it_is_told() {
    let bench = Bench::new();
    for (name, typed) in [
        ("plain", "plain"),
        ("my photos", "my photos'"),
        ("it's", "it'\\''s'"),
    ] {
        let at = bench.folder.path().join(name);
        bench.refuses(1, &["mkdir -p", typed], |command| {
            command.arg(bench.source()).arg(&at);
        });
    }
    let ages = ["uploads", "sweep", "s3://demo", "--older-than", "-7d"];
    let mut command = Command::new(PROGRAM);
    command.args(ages);
    bench.refused(command, 2, &["-7d", "is not an age"]);
}

#[test]
fn a_region_that_is_none() {
    let bench = Bench::new();
    bench.refuses_options(1, &["no region", "--region"], &["--region", "eu-west-1\r"]);
}

#[test]
fn a_store_that_fails_from_the_start() {
    let bench = Bench::new();
    for fault in [
        "error=500",
        "throttle",
        "drop-before",
        "hang-before",
        "trickle=10",
        "ok-with-error-body",
    ] {
        let added = bench.store.faults().script(fault).expect("a fault");
        bench.refuses_options(
            1,
            &["demo"],
            &["--request-timeout", "1s", "--attempts", "3"],
        );
        assert!(bench.store.faults().fired(added) > 0, "{fault}");
        bench.store.faults().remove(added);
    }
    // With the limits as they are by default it takes no longer.
    let silent = bench.store.faults().script("hang-before").expect("a fault");
    bench.refuses_options(1, &["demo"], &[]);
    assert!(bench.store.faults().fired(silent) > 0);
}

#[test]
fn a_store_whose_parts_do_not_fit_the_memory_is_not_mounted() {
    let bench = Bench::new();
    let options = ["--capability", "part_min=100M"];
    bench.refuses_options(1, &["write memory", "give --write-memory 400M"], &options);
}
