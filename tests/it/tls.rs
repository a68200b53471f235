//! A bucket over TLS with an authority of its own: everything works as without, and nobody else is trusted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use wholefs::embedded::Options;

use crate::support::mount::{Place, detach, mount_command, program};
use crate::support::tools::{Outcome, die_with_parent, kill, kill_and_reap, run, run_within};
use crate::support::{
    Authority, Content, KIB, MIB, Mount, PART, Store, Writer, eventually, seconds,
};

fn ca(file: &Path) -> String {
    file.display().to_string()
}

/// Mounts over TLS by the flag, whatever the environment says.
fn mounted(place: &Place, store: &Store, options: &[&str]) -> Mount {
    let file = ca(&store.authority.as_ref().expect("TLS").file());
    let with_flag = [&["--ca-bundle", &file], options].concat();
    let nobodys = [("AWS_CA_BUNDLE", "/nonexistent".to_string())];
    let source = format!("s3://{}", store.bucket);
    Mount::started(place, "mnt", store, &source, &with_flag, &nobodys)
}

#[test]
fn a_bucket_over_tls_is_mounted_as_any_other() {
    let store = Store::over_tls(Options::default());
    assert!(store.endpoint.starts_with("https://"), "{}", store.endpoint);
    let place = Place::default();
    let mount = mounted(&place, &store, &["--part-size", "5M"]);
    for (name, size) in [
        ("nothing", 0),
        ("small", 100 * KIB),
        ("large", 24 * MIB + 17),
    ] {
        let content = Content::new(size + 1, size);
        content.save(&mount.path(name));
        store.assert_holds(name, &content);
    }
    drop(mount);
    let mount = mounted(&place, &store, &[]);
    for (name, size) in [
        ("nothing", 0),
        ("small", 100 * KIB),
        ("large", 24 * MIB + 17),
    ] {
        Content::new(size + 1, size).assert_file(&mount.path(name));
        fs::remove_file(mount.path(name)).expect("removed");
    }
    assert_eq!(store.keys(), [""; 0]);

    let mut writer = Writer::start();
    writer
        .open(&mount.path("unlinked"), "wct")
        .write(1, 3 * PART);
    store.await_parts("unlinked", 1);
    fs::remove_file(mount.path("unlinked")).expect("unlinked");
    store.assert_no_uploads_within(5, "unlinked in the middle");
    writer.step("close");

    let mut writer = Writer::start();
    writer.open(&mount.path("killed"), "wct").write(1, 3 * PART);
    store.await_parts("killed", 1);
    writer.die_of(libc::SIGKILL);
    store.assert_no_uploads_within(5, "the writer was killed");
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn what_a_dead_mount_left_is_ended_over_tls() {
    let store = Store::over_tls(Options::default());
    let place = Place::default();
    let begun = |mount: &Mount, key: &str| {
        let mut writer = Writer::start();
        writer.open(&mount.path(key), "wct").write(1, 3 * PART);
        store.await_parts(key, 1);
        writer
    };
    let mut mount = mounted(&place, &store, &["--part-size", "5M"]);
    let writer = begun(&mount, "guarded");
    kill(mount.daemon(), libc::SIGKILL);
    store.assert_no_uploads_within(20, "the guardian's turn");
    mount.wait_for_death();
    drop((writer, mount));

    let mut mount = mounted(&place, &store, &["--part-size", "5M", "--no-guardian"]);
    let writer = begun(&mount, "alone");
    kill(mount.daemon(), libc::SIGKILL);
    mount.wait_for_death();
    detach(&mount.at);
    assert_eq!(store.open_uploads().len(), 1);
    let recover = |command: &mut Command| -> Outcome {
        run(command.arg("recover").arg("--state-dir").arg(place.state()))
    };
    let refused = recover(program(&store).env_remove("AWS_CA_BUNDLE"));
    assert!(
        !refused.ok() && refused.err.contains("--ca-bundle"),
        "{}",
        refused.err
    );
    assert_eq!(store.open_uploads().len(), 1);
    let done = recover(&mut program(&store));
    assert!(done.ok(), "{}", done.err);
    assert_eq!(store.open_uploads(), []);
    drop((writer, mount));
}

/// Mounts, is refused with one line, and answers that.
#[track_caller]
fn refused(command: &mut Command, bucket: &str, code: i32) -> String {
    let place = Place::default();
    let at = place.path("mnt");
    fs::create_dir(&at).expect("made");
    let command = command.arg("--state-dir").arg(place.state());
    let done = run_within(command.arg(format!("s3://{bucket}")).arg(&at), seconds(30));
    assert_eq!(done.status.code(), Some(code), "{}", done.err);
    assert_eq!(done.err.trim_end().lines().count(), 1, "{}", done.err);
    done.err
}

#[test]
fn a_server_that_nobody_trusted_vouches_for_is_refused() {
    let store = Store::over_tls(Options::default());
    let bucket = store.bucket.as_str();
    let without = refused(mount_command(&store).env_remove("AWS_CA_BUNDLE"), bucket, 1);
    assert!(without.contains("--ca-bundle FILE"), "{without}");
    let other = Authority::new();
    let command = &mut mount_command(&store);
    let another = refused(command.arg("--ca-bundle").arg(other.file()), bucket, 1);
    assert!(another.contains("has not signed it"), "{another}");

    // The authority is the right one, the name is another's.
    let port = store.endpoint.rsplit(':').next().expect("a port");
    let command = &mut program(&store);
    command.args([
        "mount",
        "--endpoint-url",
        &format!("https://localhost:{port}"),
    ]);
    let misnamed = refused(command, bucket, 1);
    assert!(misnamed.contains("another host's"), "{misnamed}");
}

#[test]
fn a_ca_bundle_that_cannot_be_used_is_told_at_once() {
    let store = Store::over_tls(Options::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let right = fs::read_to_string(store.authority.as_ref().expect("TLS").file()).expect("read");
    let cut = right.replace("-----END", "-----ENDED");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text, word) in [
        ("missing.pem", None, "cannot be read"),
        ("empty.pem", Some(""), "no certificate"),
        ("words.pem", Some("not a certificate\n"), "no certificate"),
        ("cut.pem", Some(cut.as_str()), "not whole"),
        ("nonsense.pem", Some(nonsense), "number 1 cannot be used"),
    ] {
        let file = folder.path().join(name);
        if let Some(text) = text {
            fs::write(&file, text).expect("written");
        }
        for by_flag in [true, false] {
            let command = &mut mount_command(&store);
            match by_flag {
                true => command.arg("--ca-bundle").arg(&file),
                false => command.env("AWS_CA_BUNDLE", &file),
            };
            let said = refused(command, &store.bucket, 2);
            let words = [word, name, "--ca-bundle"];
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}

#[test]
fn the_embedded_bucket_speaks_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.certify_in_files(&["127.0.0.1"]);
    let store = Store::embedded();
    let mut command = program(&store);
    command.arg("bucket").stdout(Stdio::piped());
    command.arg("--tls-cert").arg(&certificate);
    let alone = run(&mut program_with(&command));
    assert_eq!(alone.status.code(), Some(2), "{}", alone.err);
    let swapped = run(program_with(&command).arg("--tls-key").arg(&certificate));
    assert_eq!(swapped.status.code(), Some(1), "{}", swapped.err);
    assert!(
        swapped.err.contains("the key of its TLS"),
        "{}",
        swapped.err
    );

    command.arg("--tls-key").arg(&key);
    die_with_parent(&mut command);
    let mut bucket = command.spawn().expect("the program runs");
    let mut endpoint = String::new();
    let out = bucket.stdout.take().expect("a pipe");
    BufReader::new(out)
        .read_line(&mut endpoint)
        .expect("a line");
    assert!(endpoint.starts_with("https://127.0.0.1:"), "{endpoint}");
    let listed = || {
        let mut command = program(&store);
        command.args(["uploads", "s3://demo", "--endpoint-url", endpoint.trim()]);
        command
            .args(["--provider", "embedded", "--ca-bundle"])
            .arg(authority.file());
        command
            .env("AWS_ACCESS_KEY_ID", "wholefs")
            .env("AWS_SECRET_ACCESS_KEY", "wholefs-secret");
        run(&mut command).ok()
    };
    eventually(seconds(20), "the bucket answers", listed);
    kill_and_reap(&mut bucket);
}

/// The same command once more.
fn program_with(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    again
}
