//! `wholefs vault`: the catalogue taken elsewhere, and made anew.

use std::fs;
use std::process::Stdio;

use wholefs::embedded::vault::Manners;

use super::{SOURCE, Scene};
use crate::support::mount::{detach, program};
use crate::support::tools::{Outcome, kill, run, wait};
use crate::support::{Content, MIB, Mount, Writer, eventually, seconds};

#[test]
fn a_catalogue_is_listed_exported_and_imported() {
    let scene = Scene::new();
    let mount = scene.mount();
    fs::create_dir(mount.path("a")).expect("a directory");
    Content::new(1, 5 * MIB).save(&mount.path("a/file"));
    fs::write(mount.path("empty"), "").expect("written");
    // Beside a living mount.
    let listed = scene.run("list", &[]).out;
    assert!(
        listed.contains("\"a/file\"") && listed.contains("5242880"),
        "{listed}"
    );
    let exported = scene.run("export", &[]).out;
    let before = scene.names().files;
    drop(mount);
    // Another machine, or this one without its disk.
    fs::remove_dir_all(scene.place.state().join("vaults")).expect("lost");
    let aside = scene.place.path("export");
    for (text, works) in [(format!("{exported}nonsense\n"), false), (exported, true)] {
        fs::write(&aside, text).expect("written");
        let mut command = scene.command("import", &[]);
        command.stdin(fs::File::open(&aside).expect("opened"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program runs");
        let status = wait(&mut child, seconds(60)).expect("it ends");
        assert_eq!(status.success(), works);
    }
    assert_eq!(scene.names().files, before);
    let mount = scene.mount();
    assert_eq!(
        fs::metadata(mount.path("a/file")).expect("there").len(),
        5 * MIB
    );
    drop(mount);
    scene.assert_clean("imported");
}

#[test]
fn a_lost_catalogue_is_made_anew_from_the_inventory() {
    let scene = Scene::new();
    let mount = scene.mount();
    let content = Content::new(1, 5 * MIB);
    content.save(&mount.path("ein Name: mit Ümlaut & 100 %"));
    fs::write(mount.path("small"), "small").expect("written");
    drop(mount);
    let before = scene.names().files;
    fs::remove_dir_all(scene.place.state().join("vaults")).expect("lost");
    let told = scene.run("inventory", &[]).out;
    assert!(told.contains("hours"), "{told}");
    let told = scene.run("inventory", &["--wait"]).out;
    assert!(
        told.contains("2 names added") && told.contains("1 are of other programs"),
        "{told}"
    );
    let after = scene.names().files;
    assert!(after.keys().eq(before.keys()));
    for (name, entry) in &before {
        assert_eq!(
            (&entry.content, entry.size),
            (&after[name].content, after[name].size)
        );
        let mode =
            |entry: &wholefs::store::glacier::Entry| entry.said.metadata.get("mode").cloned();
        assert_eq!(mode(entry), mode(&after[name]), "{name}");
    }
    // Said again it adds nothing.
    let told = scene.run("inventory", &["--wait"]).out;
    assert!(told.contains("0 names added"), "{told}");
    scene.assert_clean("made anew");
}

#[test]
fn an_archive_whose_complete_was_never_answered_is_found_by_the_inventory() {
    // This vault forgets at once what it completed.
    let scene = Scene::with(Manners {
        job_delay: std::time::Duration::ZERO,
        forgetful: true,
        ..Manners::default()
    });
    let mount = scene.mount();
    let faults = scene.store.vault_server().faults();
    faults
        .script("op=CompleteMultipartUpload,n=1:drop-after")
        .expect("a fault");
    let content = Content::new(1, 5);
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 5);
    let told = writer.attempt("close");
    assert!(told.is_err(), "nobody can tell that it is there");
    eventually(seconds(30), "its upload is over", || {
        scene.ours().is_empty()
    });
    drop(mount);
    assert!(scene.names().files.is_empty());
    scene.run("inventory", &["--wait"]);
    scene.assert_holds("file", &content);
    scene.assert_clean("found");
}

/// This one answers again, when it is asked again.
#[test]
fn an_archive_that_was_completed_and_given_up_is_deleted() {
    let scene = Scene::new();
    let mount = scene.mount();
    let faults = scene.store.vault_server().faults();
    let lost = faults.script("op=CompleteMultipartUpload:drop-after");
    let lost = lost.expect("a fault");
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 5);
    let told = writer.attempt("close");
    assert!(told.is_err(), "nobody can tell that it is there");
    // With the foreign one.
    let archives = || scene.store.vault_server().archives("demo").len();
    assert_eq!(archives(), 2);
    faults.remove(lost);
    eventually(seconds(30), "it is gone again", || archives() == 1);
    drop(mount);
    assert!(scene.names().files.is_empty());
    scene.assert_clean("given up");
}

#[test]
fn what_stands_in_the_way_of_a_vault_is_said() {
    let scene = Scene::new();
    let mount = scene.mount();
    let run = |action: &str, vault: &str| {
        let mut command = scene.command(action, &[]);
        let arguments: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
        let arguments = arguments
            .into_iter()
            .map(|a| if a == "demo" { vault.into() } else { a });
        let mut again = std::process::Command::new(command.get_program());
        again
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "any")
            .env("AWS_SECRET_ACCESS_KEY", "any");
        command = again;
        crate::support::tools::run(&mut command)
    };
    let unknown = run("inventory", "nowhere");
    assert!(
        unknown.err.contains("\"nowhere\" does not exist"),
        "{}",
        unknown.err
    );
    let unlisted = run("list", "nowhere");
    assert!(
        unlisted.err.contains("no catalogue of vault"),
        "{}",
        unlisted.err
    );
    let bad = run("inventory", "a,b");
    assert!(bad.err.contains("is not a vault"), "{}", bad.err);
    for outcome in [&unknown, &unlisted, &bad] {
        assert!(!outcome.ok());
        assert_eq!(outcome.err.trim_end().lines().count(), 1, "{}", outcome.err);
    }
    drop(mount);
}

/// A subcommand of the program's own, about the vault.
fn about_the_vault(scene: &Scene, words: &[&str]) -> Outcome {
    let mut command = program(&scene.store);
    command.args(words);
    command.args(["--endpoint-url", &scene.store.endpoint]);
    command.args(["--region", scene.store.region]);
    run(command.arg("--state-dir").arg(scene.place.state()))
}

#[test]
fn the_uploads_of_a_vault_are_listed_and_those_of_others_swept() {
    let scene = Scene::new();
    let uploads = |words: &[&str]| about_the_vault(&scene, &[&["uploads"], words].concat());
    let begun = |mount: &Mount, name: &str| {
        let parts = scene.parts();
        let mut writer = Writer::start();
        writer.open(&mount.path(name), "wct").write(2, 13 * MIB);
        eventually(seconds(60), "a part is there", || scene.parts() > parts);
        writer
    };
    let mut dead = scene.mount_with(&["--no-guardian"]);
    let orphaned = begun(&dead, "left behind");
    kill(dead.daemon(), libc::SIGKILL);
    dead.wait_for_death();
    detach(&dead.at);
    let of = |listed: &str, key: &str| {
        let line = listed.lines().find(|line| line.contains(key));
        line.unwrap_or_else(|| panic!("no {key} in {listed}"))
            .to_string()
    };
    let listed = uploads(&[SOURCE]);
    assert!(listed.ok(), "{}", listed.err);
    let ours = of(&listed.out, "glacier://demo/left behind");
    assert!(
        ours.starts_with("orphaned ") && ours.contains("parts"),
        "{ours}"
    );
    let theirs = of(&listed.out, "glacier://demo/tape 7");
    assert!(theirs.starts_with("foreign "), "{theirs}");
    assert!(theirs.contains(&scene.foreign_upload), "{theirs}");
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    // By the journals alone it is a vault's as well.
    let known = uploads(&[]).out;
    assert!(of(&known, "glacier://demo/left behind").starts_with("orphaned "));
    let json = uploads(&[SOURCE, "--json"]).out;
    assert!(json.contains("\"state\":\"foreign\""), "{json}");

    // Young ones are left alone, and so are ours, however old.
    let young = uploads(&["sweep", SOURCE, "--older-than", "1d", "--yes"]);
    assert!(
        young.ok() && young.out.contains("nothing to abort"),
        "{}",
        young.out
    );
    let other = uploads(&[
        "sweep",
        SOURCE,
        "--older-than",
        "0s",
        "--prefix",
        "tapes",
        "--yes",
    ]);
    assert!(other.out.contains("nothing to abort"), "{}", other.out);
    let unasked = uploads(&["sweep", SOURCE, "--older-than", "0s"]);
    assert!(
        !unasked.ok() && unasked.err.contains("--yes"),
        "{}",
        unasked.err
    );
    assert_eq!(scene.store.vault_server().uploads("demo").len(), 2);
    let id = scene.ours()[0].id.clone();
    let ours = uploads(&["abort", SOURCE, &id, "--yes"]);
    assert!(
        !ours.ok() && ours.err.contains("left alone"),
        "{}",
        ours.err
    );
    let swept = uploads(&["sweep", SOURCE, "--older-than", "0s", "--yes"]);
    assert!(
        swept.ok() && swept.out.contains("1 aborted"),
        "{}{}",
        swept.out,
        swept.err
    );
    let left = scene.store.vault_server().uploads("demo");
    assert_eq!(left.iter().map(|up| &up.id).collect::<Vec<_>>(), [&id]);
    // One that is gone is said to be.
    let gone = uploads(&["abort", SOURCE, &scene.foreign_upload, "--yes"]);
    assert!(!gone.ok() && gone.err.contains("not open"), "{}", gone.err);

    let mount = scene.mount();
    eventually(seconds(30), "what was orphaned is ended", || {
        scene.ours().is_empty()
    });
    let live = begun(&mount, "under way");
    let listed = uploads(&[SOURCE]).out;
    assert!(
        of(&listed, "glacier://demo/under way").starts_with("live "),
        "{listed}"
    );
    drop((orphaned, live, dead));
}

#[test]
fn a_doctor_looks_at_a_vault_and_leaves_nothing() {
    let scene = Scene::new();
    let doctor = |words: &[&str]| about_the_vault(&scene, &[&["doctor"], words].concat());
    let server = scene.store.vault_server();
    let before = (server.uploads("demo"), server.archives("demo"));
    let empty = doctor(&[SOURCE]);
    assert!(empty.ok(), "{}{}", empty.out, empty.err);
    assert!(empty.out.contains("warn  catalogue"), "{}", empty.out);
    let mount = scene.mount();
    fs::write(mount.path("file"), "here").expect("written");
    // Beside a living mount.
    let well = doctor(&[SOURCE]);
    assert!(well.ok(), "{}{}", well.out, well.err);
    for line in [
        "ok    vault ",
        "files: 1;",
        "ok    upload ",
        "ok    upload a part ",
        "ours is found by its token",
        "ok    abort ",
        "ok    abort again ",
        "nothing is left",
        "ok    list jobs ",
    ] {
        assert!(well.out.contains(line), "{line}: {}", well.out);
    }
    drop(mount);
    fs::remove_dir_all(scene.place.state()).expect("removed");
    assert_eq!(server.uploads("demo"), before.0);
    assert_eq!(server.archives("demo").len(), before.1.len() + 1);

    server.log().reset();
    let looked = doctor(&[SOURCE, "--read-only"]);
    assert!(
        looked.ok() && looked.out.contains("not tried"),
        "{}",
        looked.out
    );
    assert_eq!(server.log().count("InitiateMultipartUpload"), 0);
    for (operation, permission) in [
        ("InitiateMultipartUpload", "glacier:InitiateMultipartUpload"),
        ("UploadMultipartPart", "glacier:UploadMultipartPart"),
        ("ListMultipartUploads", "glacier:ListMultipartUploads"),
        ("ListParts", "glacier:ListParts"),
        ("ListJobs", "glacier:ListJobs"),
    ] {
        let fault = server.faults().script(&format!("op={operation}:error=403"));
        let denied = doctor(&[SOURCE]);
        server.faults().remove(fault.expect("a fault"));
        assert!(
            denied.out.contains(permission),
            "{permission}: {}",
            denied.out
        );
        assert_eq!(server.uploads("demo"), before.0, "{operation}");
    }
    let nowhere = doctor(&["glacier://elsewhere"]);
    assert!(
        !nowhere.ok() && nowhere.out.contains("FAIL  vault"),
        "{}",
        nowhere.out
    );
    let rule = doctor(&[SOURCE, "--add-lifecycle-rule", "7"]);
    assert_eq!(rule.status.code(), Some(2), "{}", rule.err);
}

#[test]
fn what_is_for_buckets_is_refused_of_a_vault() {
    let scene = Scene::new();
    for flags in [
        "--provider=aws",
        "--auth=cos",
        "--capability=part_min=1M",
        "--path-style",
        "--storage-class=STANDARD_IA",
        "--sse=AES256",
        "--acl=public-read",
        "--requester-pays",
        "--dual-stack",
        "--fips",
        "--accelerate",
    ] {
        let flag = flags.split('=').next().expect("a flag");
        let told = format!("{flag} is for buckets");
        let mount = scene.place.path("mnt");
        let mount = mount.to_str().expect("UTF-8");
        for words in [&["doctor", SOURCE][..], &["mount", SOURCE, mount]] {
            let refused = run(program(&scene.store).args(words).arg(flags));
            let (status, said) = (refused.status.code(), refused.err);
            assert_eq!(status, Some(2), "{words:?} {flags}: {said}");
            assert!(said.contains(&told), "{words:?} {flags}: {said}");
        }
        let refused = run(&mut scene.command("inventory", &[flags]));
        assert!(refused.err.contains(&told), "{flags}: {}", refused.err);
    }
}
