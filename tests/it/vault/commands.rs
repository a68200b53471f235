//! `wholefs vault`: the catalogue taken elsewhere, and made anew.

use std::fs;
use std::process::Stdio;

use wholefs::embedded::vault::Manners;

use super::Scene;
use crate::support::tools::wait;
use crate::support::{Content, MIB, Writer, eventually, seconds};

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
