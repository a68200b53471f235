//! Under a real systemd, booted in namespaces: mount units, automounts, the service, fstab.

use std::path::Path;
use std::process::Command;

use crate::support::Store;
use crate::support::mount::{PROGRAM, Place, program};
use crate::support::seconds;
use crate::support::tools::{run_within, shout};

/// What `boot` ends with where nothing can be booted.
const NOT_HERE: i32 = 125;

/// Runs a section of `tests/support/systemd/check`, whose lines say what was seen.
fn check(section: &str) {
    let store = Store::embedded();
    let place = Place::default();
    // Beside nothing of ours: the program as a machine has it.
    std::fs::copy(PROGRAM, place.path("wholefs")).expect("copied");
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let support = checkout.join("tests/support/systemd");
    let mut command = Command::new(support.join("boot"));
    // Either may lie in a folder that the booted system has a fresh one of.
    command.arg("--bind").arg(place.path(""));
    command.arg("--bind").arg(checkout);
    command.arg("--").arg(support.join("check")).arg(section);
    for (name, value) in program(&store).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
        .env("WHOLEFS", place.path("wholefs"))
        .env("ENDPOINT", &store.endpoint)
        .env("BUCKET", &store.bucket);
    let seen = run_within(&mut command, seconds(300));
    print!("{}", seen.out);
    if seen.status.code() == Some(NOT_HERE) {
        shout(&format!("systemd is not tested here: {}", seen.err.trim()));
        return;
    }
    assert!(
        seen.ok() && !seen.out.contains("FAILED"),
        "{}{}",
        seen.out,
        seen.err
    );
    assert!(seen.out.contains("ok "), "nothing was checked");
}

#[test]
fn the_units_are_understood() {
    check("verify");
}

#[test]
fn a_mount_unit_starts_serves_and_leaves_nothing() {
    check("mount");
}

#[test]
fn an_automount_mounts_at_the_first_access() {
    check("automount");
}

#[test]
fn the_service_is_begun_again_after_a_kill_and_recovers() {
    check("service");
}

#[test]
fn the_service_has_its_keys_from_a_credential() {
    check("credentials");
}

#[test]
fn a_wrong_bucket_fails_the_unit_and_its_status_says_why() {
    check("wrong_bucket");
}

#[test]
fn a_store_out_of_reach_does_not_hold_up_the_boot() {
    check("unreachable");
}

#[test]
fn lines_of_fstab_are_mounted_once_and_unmounted() {
    check("fstab");
}
