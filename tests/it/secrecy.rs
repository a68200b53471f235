//! What nobody is to learn, and nobody to forge: secrets are told nowhere, a mount's own files are its owner's, and a name
//! is a name, whatever a terminal or a log would take it for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::host::Host;
use crate::operator::status;
use crate::support::room::{ANOTHER, Room, USER};
use crate::support::tools::{Outcome, run_within};
use crate::support::{MIB, Store, Writer, eventually, seconds};

/// Colours, a line of a log, what ends a line elsewhere, the terminal's controls in one character, a change of direction.
const NAMES: [&str; 5] = [
    "\u{1b}[31mred\u{1b}[0m",
    "two\n1999-01-01T00:00:00Z ERROR forged",
    "other\r\nforged",
    "c1\u{9b}31m",
    "gpj.\u{202e}exe",
];

fn is_one_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || c == '\u{202e}')
}

#[test]
fn a_name_writes_no_lines_and_no_colours() {
    for form in ["text", "json"] {
        let host = Host::new();
        for name in NAMES {
            host.store.put(name, "x");
        }
        let log = host.place.path("log");
        let source = format!("s3://{}", host.store.bucket);
        let words = format!(
            "{},log_file={},log_format={form},log_level=debug,part_size=5M",
            host.words(),
            log.display()
        );
        assert!(host.helper(&source, &words).ok());
        // Somebody else's upload to such a name is listed in one line.
        let id = host.store.begin_upload("two\nlines\u{9b}31m");
        let state = host.place.state().display().to_string();
        let listed = [
            "uploads",
            &source,
            "--endpoint-url",
            &host.store.endpoint,
            "--state-dir",
            &state,
        ];
        let listed = host.wholefs(&listed).out;
        assert_eq!(listed.lines().count(), 1, "{listed:?}");
        assert!(
            is_one_line(listed.trim_end()) && listed.contains(&id),
            "{listed:?}"
        );
        for fault in ["op=GetObject:error=403", "op=UploadPart:error=403"] {
            host.store.faults().script(fault).expect("a fault");
        }
        for name in NAMES {
            fs::read(host.at.join(name)).expect_err("denied");
        }
        // A name of our own making, which is being written.
        let mut writer = Writer::start();
        let ours = host.at.join("c1\u{9b}31m ours");
        writer.open(&ours, "wct");
        let table = host
            .wholefs(&["status", "--once", "--state-dir", &state])
            .out;
        assert!(
            writer
                .attempt(&format!("write 1 {}", 12 * MIB))
                .and_then(|()| writer.attempt("close"))
                .is_err()
        );
        writer.exit(0);
        let events = status(&host)[0]["events"].to_string();
        let seen = host
            .wholefs(&["status", "--once", "--state-dir", &state])
            .out;
        eventually(seconds(10), "it is unmounted", || host.unmount().ok());

        let text = fs::read_to_string(&log).expect("written");
        for line in text.lines().chain(table.lines()).chain(seen.lines()) {
            assert!(is_one_line(line), "{line:?}");
        }
        for line in text.lines() {
            match form {
                "json" => _ = serde_json::from_str::<serde_json::Value>(line).expect("JSON"),
                _ => assert!(line.starts_with("20") && line.contains("Z "), "{line}"),
            }
        }
        // Each was told, legibly.
        for name in ["[31mred", "forged", "31m ours", "exe"] {
            assert!(text.contains(name), "{name}: {text}");
            assert!(events.contains(name) || name == "exe", "{name}: {events}");
        }
        assert!(table.contains("31m ours"), "{table}");
    }
}

#[test]
fn systemds_journal_and_syslog_get_one_line_for_a_warning() {
    for (service, directory) in [("run/systemd/journal/socket", "/run"), ("dev/log", "/dev")] {
        let store = Store::embedded();
        // A machine whose only service of the kind is ours.
        let furnish = format!(
            "mkdir -p new{directory}; mount -t tmpfs none new{directory}
             case {directory} in /dev)
                 for n in 'null 3' 'zero 5' 'urandom 9'; do mknod -m 666 new/dev/${{n% *}} c 1 ${{n#* }}; done
                 mknod -m 666 new/dev/fuse c 10 229; mount -t tmpfs none /run
             esac
             mkdir -p new/$(dirname {service}); touch new/{service}
             mount --bind socket new/{service}
             mount --rbind new{directory} {directory}"
        );
        let place = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(place.path().join("socket")).expect("bound");
        fs::set_permissions(
            place.path().join("socket"),
            fs::Permissions::from_mode(0o666),
        )
        .expect("our own");
        let furnish = furnish.replace(
            "--bind socket",
            &format!("--bind {}", place.path().join("socket").display()),
        );
        let Some(room) = Room::new(&store, 0, &furnish) else {
            return;
        };
        socket.set_read_timeout(Some(seconds(30))).expect("set");
        room.plays(0, "$mount");
        let forged = "a\u{1b}[31m\nPRIORITY=0\nforged";
        let refused = room.play(0, &format!(": > \"$at/{forged}\""));
        assert!(!refused.ok(), "XML cannot say that name");
        room.plays(0, "$wholefs unmount $at --state-dir $state");
        let mut heard = Vec::new();
        let mut bytes = [0; 1 << 16];
        while !heard
            .last()
            .is_some_and(|said: &String| said.contains("unmounted"))
        {
            let length = socket.recv(&mut bytes).expect("something is said");
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        let about = |word: &str| heard.iter().find(|said| said.contains(word)).cloned();
        assert!(about("mounted s3://").is_some(), "{heard:?}");
        let warned = about("create /a").unwrap_or_else(|| panic!("{heard:?}"));
        let lines: Vec<&str> = warned.lines().collect();
        assert!(lines.iter().all(|line| is_one_line(line)), "{warned:?}");
        match service {
            "dev/log" => {
                // <daemon.warning>, the time, and who says it.
                assert!(
                    warned.starts_with("<28>") && warned.contains("wholefs["),
                    "{warned}"
                );
                assert_eq!(lines.len(), 1, "{warned}");
            }
            _ => {
                assert!(lines.contains(&"PRIORITY=4"), "{warned}");
                assert!(lines.contains(&"SYSLOG_IDENTIFIER=wholefs"), "{warned}");
                assert!(!lines.contains(&"PRIORITY=0"), "{warned}");
            }
        }
    }
}

/// What is to be seen nowhere.
const SECRETS: [&str; 3] = [
    "s3cr3t-key-of-this-test",
    "s3ss10n-token-of-this-test",
    "pr0xy-password",
];

#[test]
fn secrets_are_told_nowhere() {
    let host = Host::new();
    let [secret, token, password] = SECRETS;
    host.store.server().accept_keys(&[
        (&host.store.access_key, &host.store.secret_key),
        ("test-id", secret),
    ]);
    let as_ours = |command: &mut std::process::Command| {
        command.env("AWS_ACCESS_KEY_ID", "test-id");
        command.env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_SESSION_TOKEN", token);
        // More than anybody should log.
        command.env("WHOLEFS_LOG", "trace");
        // Nothing here goes that way.
        command.env("HTTPS_PROXY", format!("http://me:{password}@127.0.0.1:9"));
    };
    let call = |arguments: &[&str]| -> Outcome {
        let mut command = host.command(crate::support::mount::PROGRAM.as_ref());
        as_ours(command.args(arguments));
        run_within(&mut command, seconds(60))
    };
    let (log, state) = (
        host.place.path("log"),
        host.place.state().display().to_string(),
    );
    let (at, source) = (
        host.at.display().to_string(),
        format!("s3://{}", host.store.bucket),
    );
    let words = format!("{},part_size=5M,log_file={}", host.words(), log.display());
    let mut said = Vec::new();
    let mut done = call(&["mount", &source, &at, "-o", &words]);
    assert!(done.ok(), "{}", done.err);
    said.push(done);
    fs::write(host.at.join("file"), vec![7; 12 << 20]).expect("written");
    assert_eq!(
        fs::read(host.at.join("file")).expect("read").len(),
        12 << 20
    );
    // While an upload is open, so that there is one in the journal.
    let mut writer = Writer::start();
    writer.open(&host.at.join("open"), "wct").write(1, 12 * MIB);
    host.store.await_parts("open", 1);
    host.store
        .faults()
        .script("op=HeadObject,n=1:error=403")
        .expect("a fault");
    fs::metadata(host.at.join("refused")).expect_err("denied");
    for command in [
        &["status", "--once", "--state-dir", &state][..],
        &["status", "--json", "--state-dir", &state],
        &[
            "uploads",
            &source,
            "--endpoint-url",
            &host.store.endpoint,
            "--state-dir",
            &state,
        ],
        &[
            "doctor",
            &source,
            "--endpoint-url",
            &host.store.endpoint,
            "--state-dir",
            &state,
        ],
        // What fails tells most.
        &["doctor", &source, "--endpoint-url", "https://127.0.0.1:1"],
        &[
            "mount",
            "s3://nosuch",
            "/mnt",
            "--nonempty",
            "--endpoint-url",
            &host.store.endpoint,
            "--state-dir",
            &state,
        ],
    ] {
        said.push(call(command));
    }
    let daemon = status(&host)[0]["pid"].as_u64().expect("a process");
    let shown = |file: String| fs::read(file).unwrap_or_default();
    let guardian = String::from_utf8(shown(format!("/proc/{daemon}/stat"))).expect("text");
    let guardian = guardian
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(1));
    let mut texts: Vec<Vec<u8>> = said
        .into_iter()
        .flat_map(|done| [done.out.into_bytes(), done.err.into_bytes()])
        .collect();
    for process in [daemon.to_string(), guardian.expect("a parent").to_string()] {
        texts.push(shown(format!("/proc/{process}/cmdline")));
        texts.push(shown(format!("/proc/{process}/comm")));
    }
    for instance in host.place.instances() {
        for file in fs::read_dir(instance).expect("there").flatten() {
            texts.push(shown(file.path().display().to_string()));
        }
    }
    writer.exit(0);
    done = call(&["unmount", &at, "--state-dir", &state]);
    texts.push(done.err.into_bytes());
    let text = fs::read(&log).expect("written");
    assert!(text.len() > 10_000, "that was no trace");
    texts.push(text);
    for text in texts {
        let text = String::from_utf8_lossy(&text);
        for secret in SECRETS {
            let told = text.lines().find(|line| line.contains(secret));
            assert!(told.is_none(), "{secret}: {}", told.unwrap_or_default());
        }
    }
}

#[test]
fn what_a_mount_keeps_is_its_owners_alone() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, USER, "command -v fusermount3 > /dev/null") else {
        return;
    };
    room.plays(
        USER,
        "umask 000; $mount --part-size 5M --metrics-listen $state/metrics --log-file $state/log",
    );
    room.plays(
        USER,
        "exec 3> $at/open; head -c 12000000 /dev/zero >&3; sleep 0; exec 3>&-; test -s $at/open",
    );
    let modes = room.plays(USER, "find $state -mindepth 1 -printf '%y %m %P\\n'");
    for entry in modes.lines() {
        let mode = entry
            .split(' ')
            .nth(1)
            .and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let name = entry.rsplit(' ').next().unwrap_or_default();
        // What was put there by a flag is as the flag's user has it.
        if !["log", "metrics"].contains(&name) && !entry.starts_with('s') {
            assert_eq!(mode.expect("a mode") & 0o077, 0, "{modes}");
        }
    }
    // The directory of an instance is shut, so that its socket is out of reach as well.
    for look in [
        "$wholefs status --once --state-dir $state",
        "$wholefs log $at debug --state-dir $state",
        "cat $state/*/journal",
        "ls $state/*/",
    ] {
        let refused = room.play(ANOTHER, look);
        assert!(!refused.ok(), "{look}: {}", refused.out);
        assert_eq!(refused.out, "", "{look}");
    }
    room.plays(USER, "$wholefs unmount $at --state-dir $state");
    assert!(Path::new(&room.place.state()).exists());
}
