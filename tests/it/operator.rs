//! What an operator sees: status, metrics, the doctor, the log.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::host::Host;
use crate::support::mount::{Place, is_mounted, mount_command, program};
use crate::support::tools::{Outcome, die_with_parent, kill, run_within};
use crate::support::{MIB, Store, Writer, eventually, seconds};

pub fn status(host: &Host) -> serde_json::Value {
    let state = host.place.state().display().to_string();
    let said = host.wholefs(&["status", "--json", "--state-dir", &state]);
    assert!(said.ok(), "{}", said.err);
    serde_json::from_str(&said.out).expect("JSON")
}

#[test]
fn status_tells_what_a_mount_is_doing() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    let words = format!("{},part_size=5M", host.words());
    assert!(host.helper(&source, &words).ok());
    // Two parts are in the bucket, and a third is refused once.
    let refused = host
        .store
        .faults()
        .script("op=UploadPart,n=2:error=503/SlowDown");
    refused.expect("a fault");
    let mut writer = Writer::start();
    let name = "a file";
    writer.open(&host.at.join(name), "wct").write(1, 12 * MIB);
    let mount = || status(&host)[0].clone();
    eventually(seconds(20), "two parts", || {
        mount()["writing"][0]["parts"] == 2
    });
    let seen = mount();
    assert_eq!(seen["source"], source);
    assert_eq!(seen["mount_point"], host.at.display().to_string());
    assert_eq!(seen["writing"][0]["key"], name);
    assert_eq!(seen["writing"][0]["state"], "uploading");
    assert_eq!(seen["writing"][0]["size"], 12 * MIB);
    assert_eq!(seen["writing"][0]["acknowledged"], 10 * MIB);
    assert_eq!(
        (&seen["uploads"], &seen["journal"]["open"]),
        (&1.into(), &1.into())
    );
    assert!(seen["bytes_sent"].as_u64().expect("a number") >= 10 * MIB);
    assert!(seen["write_memory"]["used"].as_u64() > Some(0));
    let parts = &seen["operations"]["UploadPart"];
    assert_eq!(
        (&parts["attempts"], &parts["failures"]["Throttled"]),
        (&3.into(), &1.into())
    );
    assert_eq!(parts["retries"]["Throttled"], 1);

    // In words, once, since nobody looks on.
    let state = host.place.state().display().to_string();
    let at = host.at.display().to_string();
    let words = host.wholefs(&["status", &at, "--state-dir", &state]);
    assert!(
        words
            .out
            .contains("  83 %  10.0 MiB of 12.0 MiB  /a file\n"),
        "{}",
        words.out
    );

    // What went wrong is told.
    host.store
        .faults()
        .script("op=UploadPart:error=403")
        .expect("a fault");
    assert!(
        writer
            .attempt(&format!("write 2 {}", 12 * MIB))
            .and_then(|()| writer.attempt("close"))
            .is_err()
    );
    let told = |seen: &serde_json::Value| seen["events"].to_string().contains("AccessDenied");
    eventually(seconds(10), "the refusal", || told(&mount()));
    writer.exit(0);
    host.store.faults().clear();

    // It is its owner's alone.
    let instances = host.place.instances();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(&instances[0]) & 0o077, 0);
    let elsewhere = host.wholefs(&["status", "/", "--state-dir", &state]);
    assert!(
        elsewhere.err.contains("no mount answers at /"),
        "{}",
        elsewhere.err
    );
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
    assert_eq!(host.place.instances().len(), 0);
    let none = host.wholefs(&["status", "--state-dir", &state]);
    assert!(none.err.contains("no mount answers here"), "{}", none.err);
}

pub fn page(mut stream: impl Read + Write) -> String {
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    text
}

#[test]
fn metrics_are_served_to_this_machine_alone() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let socket = host.place.path("metrics");
    for address in [format!("127.0.0.1:{port}"), socket.display().to_string()] {
        let words = format!("{},metrics_listen={address}", host.words());
        let mounted = host.helper(&source, &words);
        assert!(mounted.ok(), "{}", mounted.err);
        fs::write(host.at.join("file"), vec![0; 1000]).expect("written");
        let text = match address.starts_with('/') {
            true => page(UnixStream::connect(&socket).expect("connected")),
            false => page(TcpStream::connect(&address).expect("connected")),
        };
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        for line in [
            "wholefs_store_request_seconds_count{operation=\"PutObject\"} 1",
            "wholefs_bytes_total{direction=\"up\"} 1000",
            "wholefs_uploads_open 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(host.unmount().ok());
    }
    eventually(seconds(10), "the socket's name went with it", || {
        !socket.exists()
    });
    // What somebody has there is his.
    fs::write(&socket, "a file").expect("written");
    let words = format!("{},metrics_listen={}", host.words(), socket.display());
    let refused = host.helper(&source, &words);
    assert!(
        refused.err.contains("cannot serve metrics at"),
        "{}",
        refused.err
    );
    assert_eq!(fs::read_to_string(&socket).expect("still there"), "a file");
    let open = host.helper(
        &source,
        &format!("{},metrics_listen=0.0.0.0:0", host.words()),
    );
    assert_eq!(open.status.code(), Some(1));
    assert!(open.err.contains("loopback"), "{}", open.err);
}

#[test]
fn the_doctor_finds_what_is_well_and_what_is_in_the_way() {
    let host = Host::new();
    let state = host.place.state().display().to_string();
    let source = format!("s3://{}", host.store.bucket);
    let asked = |more: &[&str]| {
        let mut all = vec![
            "doctor",
            "--state-dir",
            &state,
            "--endpoint-url",
            &host.store.endpoint,
        ];
        all.extend(more);
        host.wholefs(&all)
    };
    let line = |said: &Outcome, what: &str| {
        let found = said.out.lines().find(|line| line[6..].starts_with(what));
        found.unwrap_or_default().to_owned()
    };
    let well = asked(&[&source, "--provider", "embedded"]);
    assert!(well.ok(), "{}{}", well.out, well.err);
    for what in [
        "/dev/fuse",
        "put",
        "get",
        "copy",
        "delete",
        "conditions",
        "checksums",
        "abort",
    ] {
        assert!(line(&well, what).starts_with("ok"), "{what}: {}", well.out);
    }
    assert_eq!(host.store.keys(), [""; 0]);
    assert_eq!(host.store.open_uploads(), []);
    let unknown = asked(&[&source]);
    assert!(
        line(&unknown, "provider").contains("--provider"),
        "{}",
        unknown.out
    );

    for (fault, what, needed) in [
        ("op=PutObject:error=403", "put", "--read-only"),
        (
            "op=DeleteObject,n=2..:error=403",
            "delete",
            "s3:DeleteObject",
        ),
        (
            "op=AbortMultipartUpload,n=1:error=403",
            "abort",
            "s3:AbortMultipartUpload",
        ),
    ] {
        host.store.faults().script(fault).expect("a fault");
        let ill = asked(&[&source, "--provider", "embedded"]);
        host.store.faults().clear();
        assert_eq!(ill.status.code(), Some(1), "{}", ill.out);
        let line = line(&ill, what);
        assert!(
            line.starts_with("FAIL") && line.contains(needed),
            "{}",
            ill.out
        );
        assert!(ill.err.contains("in the way"), "{}", ill.err);
    }
    host.store.log().reset();
    assert!(asked(&[&source, "--read-only"]).ok());
    let changes = [
        "PutObject",
        "DeleteObject",
        "CreateMultipartUpload",
        "CopyObject",
    ];
    assert_eq!(changes.map(|change| host.store.log().count(change)), [0; 4]);
    let none = asked(&["s3://nosuch"]);
    assert!(
        line(&none, "bucket").contains("does not exist"),
        "{}",
        none.out
    );
}

#[test]
fn the_doctor_adds_a_rule_that_aborts_what_is_left_open() {
    let Some(store) = Store::moto() else { return };
    let source = format!("s3://{}", store.bucket);
    let asked = |more: &[&str]| {
        let mut command = program(&store);
        command.args(["doctor", &source, "--endpoint-url", &store.endpoint]);
        run_within(command.args(more), seconds(30))
    };
    let before = asked(&["--read-only"]);
    assert!(
        before.out.contains("--add-lifecycle-rule"),
        "{}",
        before.out
    );
    // That would be a change.
    let refused = asked(&["--read-only", "--add-lifecycle-rule", "7"]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
    assert!(asked(&["--add-lifecycle-rule", "7"]).ok());
    let after = asked(&["--read-only"]);
    assert!(after.out.contains("open for 7 days"), "{}", after.out);
}

#[test]
fn in_the_background_it_logs_to_a_file_or_to_the_machine() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    let log = host.place.path("log");
    let words = format!(
        "{},log_file={},log_format=json",
        host.words(),
        log.display()
    );
    assert!(host.helper(&source, &words).ok());
    // Who turns it over moves it away, and tells nobody.
    let older = host.place.path("log.1");
    fs::rename(&log, &older).expect("renamed");
    assert!(host.unmount().ok());
    let texts = [older, log.clone()].map(|path| fs::read_to_string(path).expect("written"));
    assert!(
        texts.iter().all(|text| text.lines().count() == 1),
        "{texts:?}"
    );
    let text = texts.concat();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // A healthy mount says that it began and that it ended.
    let said: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["message"].as_str())
        .collect();
    assert_eq!(said.len(), 2, "{text}");
    assert!(
        said[0].starts_with("mounted") && said[1].starts_with("unmounted"),
        "{text}"
    );
    assert!(lines[0]["level"] == "INFO" && lines[0]["timestamp"].is_string());

    let nowhere = host.place.path("nosuch/log");
    let words = format!("{},log_file={}", host.words(), nowhere.display());
    let refused = host.helper(&source, &words);
    assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    assert!(refused.err.contains("log file"), "{}", refused.err);
    let words = format!(
        "{},log_file={},log_level=error",
        host.words(),
        log.display()
    );
    fs::remove_file(&log).expect("removed");
    assert!(host.helper(&source, &words).ok());
    assert!(host.unmount().ok());
    assert_eq!(fs::read_to_string(&log).expect("made"), "");
}

/// Whoever takes the log may stop (a terminal after Ctrl-S, a container's pipe): no program waits for him.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let (store, place) = (Store::embedded(), Place::default());
    let at = place.path("mnt");
    fs::create_dir(&at).expect("made");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = mount_command(&store);
    command
        .args(["--foreground", "--state-dir"])
        .arg(place.state());
    command.arg(format!("s3://{}", store.bucket)).arg(&at);
    command.stderr(writer.try_clone().expect("another"));
    die_with_parent(&mut command);
    let mut mount = command.spawn().expect("the program runs");
    eventually(seconds(30), "it is mounted", || is_mounted(&at));
    store
        .faults()
        .script("op=PutObject:error=403")
        .expect("a fault");
    let refused = |name: &str| {
        let path = at.join(name).display().to_string();
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "bs=1", "count=1", &format!("of={path}")]);
        let done = run_within(&mut command, seconds(30));
        assert!(done.err.contains("denied"), "{name}: {}", done.err);
    };
    // Descriptions of our own, so that only we do not wait.
    let at_once = |fd: i32, how: &mut fs::OpenOptions| {
        let opened = how
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{fd}"));
        opened.expect("opened again")
    };
    let mut filling = at_once(writer.as_raw_fd(), File::options().write(true));
    let mut reading = at_once(reader.as_raw_fd(), File::options().read(true));
    for size in [4096, 1] {
        while filling.write_all(&vec![b'.'; size]).is_ok() {}
    }
    for name in ["a", "b", "c"] {
        refused(name);
    }
    let mut said = Vec::new();
    let _ = reading.read_to_end(&mut said);
    refused("d");
    eventually(seconds(10), "it is told", || {
        let _ = reading.read_to_end(&mut said);
        let text = String::from_utf8_lossy(&said);
        text.contains("lines that nobody took: 3") && text.contains("/d: not published")
    });
    while filling.write_all(&[b'.'; 4096]).is_ok() {}
    kill(mount.id(), libc::SIGTERM);
    assert!(mount.wait().expect("over").success());
}
