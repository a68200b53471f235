//! What is told of a mount while it works: the table on a terminal, what became of uploads, downloads,
//! the times of calls, and a log that can be turned up and does not repeat itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::host::Host;
use crate::operator::{page, status};
use crate::support::mount::PROGRAM;
use crate::support::prometheus;
use crate::support::terminal::Terminal;
use crate::support::tools::{kill, shout};
use crate::support::{MIB, Writer, eventually, seconds};

fn mounted(more: &str) -> Host {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    let done = host.helper(&source, &format!("{}{more}", host.words()));
    assert!(done.ok(), "{}", done.err);
    host
}

fn ends(host: &Host) -> Value {
    status(host)[0]["ended"].clone()
}

#[test]
fn what_became_of_uploads_is_counted_by_reason() {
    let host = mounted(",part_size=5M");
    let begin = |name: &str| {
        let mut writer = Writer::start();
        writer.open(&host.at.join(name), "wct").write(1, 6 * MIB);
        writer
    };
    let mut kept = begin("kept");
    kept.step("close");
    let mut unlinked = begin("unlinked");
    fs::remove_file(host.at.join("unlinked")).expect("removed");
    unlinked.step("close");
    let mut truncated = begin("truncated");
    truncated.step("truncate 0").step("close");
    begin("killed").die_of(libc::SIGKILL);
    eventually(seconds(20), "three ends", || {
        let aborted = &ends(&host)["aborted"];
        ["unlinked", "truncated", "given up"]
            .iter()
            .all(|why| aborted[why] == 1)
    });
    let seen = ends(&host);
    assert_eq!((&seen["begun"], &seen["committed"]), (&4.into(), &1.into()));
    let state = host.place.state().display().to_string();
    let table = host
        .wholefs(&["status", "--once", "--state-dir", &state])
        .out;
    assert!(table.contains("given up 1"), "{table}");
    for writer in [kept, unlinked, truncated] {
        writer.exit(0);
    }
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

#[test]
fn what_was_recovered_is_counted() {
    let host = mounted(",part_size=5M,no_guardian");
    let mut writer = Writer::start();
    writer.open(&host.at.join("file"), "wct").write(1, 6 * MIB);
    eventually(seconds(20), "an upload", || {
        status(&host)[0]["writing"][0]["parts"] == 1
    });
    let daemon = status(&host)[0]["pid"].as_u64().expect("a process");
    kill(daemon as u32, libc::SIGKILL);
    drop(writer);
    crate::support::mount::detach(&host.at);
    let source = format!("s3://{}", host.store.bucket);
    eventually(seconds(20), "it is mounted again", || {
        host.helper(&source, &host.words()).ok()
    });
    eventually(seconds(20), "the dead mount's upload is ended", || {
        ends(&host)["recovered"]["aborted"] == 1
    });
    assert!(host.unmount().ok());
}

#[test]
fn downloads_and_caches_are_told() {
    let host = mounted("");
    host.store.put("large", vec![7; 4 * MIB as usize]);
    let hold = host.store.faults().script("op=GetObject:hold-after");
    hold.expect("a fault");
    let path = host.at.join("large");
    let reading = thread::spawn(move || fs::read(path).expect("read").len());
    eventually(seconds(20), "a download", || {
        let seen = &status(&host)[0]["reading"][0];
        seen["key"] == "large"
            && seen["size"] == 4 * MIB
            && seen["coming"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    host.store.faults().clear();
    assert_eq!(reading.join().expect("no panic"), 4 * MIB as usize);
    let caches = status(&host)[0]["caches"].clone();
    let hits = |caches: &Value, cache: &str| caches[cache]["hits"].as_u64().expect("a number");
    assert!(hits(&caches, "read_ahead") > 0, "{caches}");
    assert!(caches["names"]["misses"].as_u64() > Some(0), "{caches}");
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

#[test]
fn calls_are_timed_and_the_page_is_prometheus_own() {
    let host = Host::new();
    let socket = host.place.path("metrics");
    let words = format!("{},metrics_listen={}", host.words(), socket.display());
    let source = format!("s3://{}", host.store.bucket);
    assert!(host.helper(&source, &words).ok());
    fs::write(host.at.join("file"), "x").expect("written");
    host.store.put("there", "y");
    assert_eq!(fs::read(host.at.join("there")).expect("read"), b"y");
    fs::rename(host.at.join("file"), host.at.join("other")).expect("renamed");
    fs::read_dir(&host.at).expect("listed").for_each(drop);
    fs::remove_file(host.at.join("other")).expect("removed");
    let asked = || page(UnixStream::connect(&socket).expect("connected"));
    // A call is counted when it was answered.
    let counted = |text: &str, call: &str| {
        let line = format!("wholefs_call_seconds_count{{operation=\"{call}\"}} ");
        let found = text.lines().find_map(|found| found.strip_prefix(&line));
        found.is_some_and(|count| count != "0")
    };
    for call in [
        "lookup", "create", "write", "close", "read", "rename", "unlink", "readdir",
    ] {
        eventually(seconds(10), call, || counted(&asked(), call));
    }
    let text = asked();
    let body = text.split_once("\r\n\r\n").expect("an answer").1;
    is_understood(body);
    assert!(host.unmount().ok());
}

/// By the parsers that are on this machine.
fn is_understood(page: &str) {
    const PARSE: &str = "import sys
from prometheus_client.parser import text_string_to_metric_families as parse
print(len(list(parse(sys.stdin.read()))))";
    let mut tried = 0;
    let promtool = prometheus::program("promtool").unwrap_or_default();
    for (program, arguments) in [
        (Path::new("/usr/bin/python3"), &["-c", PARSE][..]),
        (&promtool, &["check", "metrics"][..]),
    ] {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            continue;
        };
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(page.as_bytes());
        drop(stdin);
        let done = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&done.stderr);
        if said.contains("No module named") {
            continue;
        }
        assert!(done.status.success(), "{program:?}: {said}{page}");
        tried += 1;
    }
    if tried == 0 {
        shout("neither python3-prometheus-client nor promtool is here: the page was not parsed");
    }
}

#[test]
fn the_log_of_a_running_mount_is_turned_up_and_back() {
    let host = Host::new();
    let log = host.place.path("log");
    let source = format!("s3://{}", host.store.bucket);
    let words = format!("{},log_file={}", host.words(), log.display());
    assert!(host.helper(&source, &words).ok());
    let (at, state) = (
        host.at.display().to_string(),
        host.place.state().display().to_string(),
    );
    let level = |more: &[&str]| {
        let mut all = vec!["log", &at, "--state-dir", &state];
        all.extend(more);
        host.wholefs(&all)
    };
    let text = || fs::read_to_string(&log).expect("written");
    let upload = |name: &str| {
        let mut writer = Writer::start();
        let path = host.at.join(name);
        writer.open(&path, "wct").write(1, 9 * MIB).step("close");
        writer.exit(0);
    };
    assert_eq!(level(&[]).out, "wholefs=info\n");
    upload("quiet");
    assert!(!text().contains("DEBUG"), "{}", text());
    assert_eq!(level(&["debug"]).out, "wholefs=debug\n");
    upload("loud");
    eventually(seconds(10), "details", || text().contains("DEBUG"));
    eventually(seconds(10), "the upload is over", || {
        status(&host)[0]["uploads"] == 0
    });
    assert_eq!(level(&["usual"]).out, "wholefs=info\n");
    let before = text().len();
    upload("quiet again");
    assert!(!text()[before..].contains("DEBUG"), "{}", &text()[before..]);

    let wrong = level(&["loud"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.err.contains("error, warn, info"), "{}", wrong.err);
    let nowhere = host.wholefs(&["log", "/", "debug", "--state-dir", &state]);
    assert!(
        nowhere.err.contains("no mount answers at /"),
        "{}",
        nowhere.err
    );

    // What is no question has no answer, and whoever asks nothing is in nobody's way.
    let socket = host.place.instances()[0].join("status");
    let idle: Vec<_> = (0..8).map(|_| UnixStream::connect(&socket)).collect();
    let mut odd = UnixStream::connect(&socket).expect("connected");
    odd.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("asked");
    let mut answer = String::new();
    let _ = odd.read_to_string(&mut answer);
    assert_eq!(answer, "");
    assert_eq!(level(&[]).out, "wholefs=info\n");
    drop(idle);
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

#[test]
fn a_warning_that_repeats_is_written_a_few_times_and_counted() {
    const MANY: usize = 60;
    let host = Host::new();
    let log = host.place.path("log");
    let source = format!("s3://{}", host.store.bucket);
    let words = format!("{},log_file={}", host.words(), log.display());
    assert!(host.helper(&source, &words).ok());
    let refusal = host.store.faults().script("op=HeadObject:error=403");
    refusal.expect("a fault");
    for n in 0..MANY {
        let refused = fs::metadata(host.at.join(format!("file {n}"))).expect_err("denied");
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
    host.store.faults().clear();
    let seen = status(&host)[0].clone();
    let events = seen["events"].as_array().expect("a list");
    assert!(!events.is_empty() && events.len() <= 20, "{events:?}");
    // What was held back is told of at the end at the latest.
    assert!(host.unmount().ok());
    let text = fs::read_to_string(&log).expect("written");
    let written = text.lines().filter(|line| line.contains(" lookup /file "));
    let (counts, written): (Vec<&str>, Vec<&str>) =
        written.partition(|line| line.contains(" more in the last minute"));
    assert!(written.len() < MANY / 2, "{text}");
    let count = |line: &str| -> usize {
        let (_, rest) = line.split_once("… ").expect("a count");
        let number = rest.split(' ').next().and_then(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("{line}"))
    };
    let held_back: usize = counts.iter().map(|line| count(line)).sum();
    assert_eq!(written.len() + held_back, MANY, "{text}");
    // Each names the request, so that the store's people can find it.
    for line in written {
        assert!(line.contains("(request "), "{line}");
    }
}

#[test]
fn on_a_terminal_the_table_is_redrawn_in_place() {
    const WIDTH: usize = 60;
    let host = mounted("");
    let mut writer = Writer::start();
    let name = "name".repeat(20);
    writer.open(&host.at.join(&name), "wct").write(1, 1000);
    let command = watched(&host);
    let mut terminal = Terminal::start(&host.place, WIDTH, &command, |_| ());
    let frame = "\x1b[?2026h\x1b[H";
    eventually(seconds(30), "three pictures", || {
        terminal.written().matches(frame).count() >= 3
    });
    // Ctrl-C, as one types it.
    terminal.types("\x03");
    assert!(terminal.wait().success(), "{}", terminal.written());
    let text = terminal.written();
    // The other page is taken, never wiped, and given back.
    assert!(text.contains("\x1b[?1049h") && !text.contains("\x1b[2J"));
    let (_, left) = text.split_once("\x1b[?1049l").expect("the page is left");
    assert!(left.contains("namename") && left.contains("\r\n"), "{left}");
    for picture in text.split(frame).skip(1) {
        let picture = picture.split("\x1b[?2026l").next().unwrap_or_default();
        for line in picture.split("\r\n") {
            let line = line.replace("\x1b[K", "").replace("\x1b[J", "");
            assert!(line.chars().count() <= WIDTH, "{line:?}");
        }
    }
    assert!(text.contains("/s, "), "a rate: {text}");
    writer.step("close");
    writer.exit(0);
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

fn watched(host: &Host) -> String {
    let state = host.place.state();
    format!("{PROGRAM} status --state-dir {}", state.display())
}

#[test]
fn the_table_waits_for_a_mount_that_has_gone() {
    let host = mounted("");
    let source = format!("s3://{} at", host.store.bucket);
    let mut terminal = Terminal::start(&host.place, 120, &watched(&host), |_| ());
    terminal.shows(&source);
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
    terminal.shows("no mount answers here");
    let before = terminal.written().len();
    let again = host.helper(&format!("s3://{}", host.store.bucket), &host.words());
    assert!(again.ok(), "{}", again.err);
    eventually(seconds(30), "it is shown again", || {
        terminal.written()[before..].contains(&source)
    });
    terminal.types("\x03");
    assert!(terminal.wait().success());
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

#[test]
fn a_mount_that_does_not_answer_is_not_passed_over() {
    let host = mounted(",no_guardian");
    let elsewhere = host.place.path("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let asked = |more: &[&str]| {
        let state = host.place.state().display().to_string();
        let mut all = vec!["status", "--once", "--state-dir", &state];
        all.extend(more);
        host.wholefs(&all)
    };
    let daemon = status(&host)[0]["pid"].as_u64().expect("a process") as u32;
    kill(daemon, libc::SIGSTOP);
    let at = host.at.display().to_string();
    let said = format!("the mount at {at} (process {daemon}) does not answer");
    let alone = asked(&[&at]);
    // Another beside it is told of all the same.
    let source = format!("s3://{}", host.store.bucket);
    let (place, words) = (elsewhere.display().to_string(), host.words());
    let second = host.wholefs(&["mount", &source, &place, "-o", &words]);
    let both = asked(&[]);
    let unmounted = host.wholefs(&[
        "unmount",
        &place,
        "--state-dir",
        &host.place.state().display().to_string(),
    ]);
    kill(daemon, libc::SIGCONT);
    assert_eq!(alone.status.code(), Some(1));
    assert!(alone.err.contains(&said), "{}", alone.err);
    assert!(second.ok(), "{}", second.err);
    assert!(
        both.ok() && both.out.contains(&said),
        "{}{}",
        both.out,
        both.err
    );
    assert!(
        both.out.contains(&format!("{source} at {place}")),
        "{}",
        both.out
    );
    assert!(unmounted.ok(), "{}", unmounted.err);
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}

#[test]
fn a_files_bar_moves_while_a_part_is_under_way() {
    let host = mounted(",part_size=5M,bandwidth_limit=256K:off");
    let mut writer = Writer::start();
    writer.open(&host.at.join("slow"), "wct").write(1, 6 * MIB);
    let sent = || {
        let file = status(&host)[0]["writing"][0].clone();
        assert_eq!(file["acknowledged"], 0, "no part can be there yet");
        file["sent"].as_u64().expect("a number")
    };
    eventually(seconds(20), "some of it is sent", || sent() > 0);
    let before = sent();
    eventually(seconds(20), "more of it is sent", || sent() > before);
    writer.die_of(libc::SIGKILL);
    eventually(seconds(10), "it is given up", || {
        status(&host)[0]["writing"][0].is_null()
    });
    eventually(seconds(20), "it is unmounted", || host.unmount().ok());
}
