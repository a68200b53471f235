//! The vendors this program began with, each on its simulator (`embedded`, by the dialect's name): files of
//! all sizes, every way a write can end, and what tells one vendor from another.

use std::io::{Read, Write};

use crate::crashes::ends::{ENDS, Told};
use crate::crashes::scene::{KEY, NEW, OLD, OPTIONS, Scene};
use crate::support::mount::program;
use crate::support::tools::run;
use crate::support::{Content, KIB, MIB, Mount, Store};
use crate::{deaths, edits, endings, rename};

mod aborts;
mod places;

/// Empty, small, several parts; written, read by another mount, deleted.
fn files_of_several_sizes_come_and_go(store: &Store) {
    come_and_go(store, &[0, 1, 100 * KIB, 23 * MIB]);
}

fn come_and_go(store: &Store, sizes: &[u64]) {
    let file = |size| format!("dir/{size} \u{fc}+%.bin");
    let content = |size| Content::new(7, size);
    let mount = Mount::with(store, &OPTIONS);
    std::fs::create_dir(mount.path("dir")).expect("made");
    for &size in sizes {
        let mut written = std::fs::File::create(mount.path(&file(size))).expect("created");
        written.write_all(&content(size).bytes()).expect("written");
        written.sync_all().expect("synced");
        drop(written);
        store.assert_holds(&file(size), &content(size));
    }
    assert!(mount.terminate().success());
    let mount = Mount::with(store, &[]);
    let listed = std::fs::read_dir(mount.path("dir")).expect("listed");
    assert_eq!(listed.count(), sizes.len());
    for &size in sizes {
        let mut read = Vec::new();
        let mut opened = std::fs::File::open(mount.path(&file(size))).expect("opened");
        opened.read_to_end(&mut read).expect("read");
        assert_eq!(content(size).compare(&read[..]), Ok(()), "{size}");
        let renamed = mount.path(&format!("dir/renamed-{size}"));
        std::fs::rename(mount.path(&file(size)), &renamed).expect("renamed");
        store.assert_holds(&format!("dir/renamed-{size}"), &content(size));
        std::fs::remove_file(&renamed).expect("removed");
    }
    std::fs::remove_dir(mount.path("dir")).expect("removed");
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(store.open_uploads(), []);
}

/// Closed, overwritten, unlinked, truncated, killed: nothing is left, and nobody else is touched.
fn a_write_may_end_in_every_way(store: Store) {
    let scene = Scene::on(store);
    let mount = scene.mount(&OPTIONS);
    for end in ENDS {
        if end.has_old() {
            scene.put_old();
        }
        let told = end.play(&mount, KEY, &|| scene.parts_of(KEY));
        let what = format!("{end:?}");
        scene.assert_none_of_ours_within(20, &what);
        let held = scene.held(KEY, &what);
        assert!(end.may_hold(told).contains(&held), "{what}: {held:?}");
        let killed = end == crate::crashes::ends::End::Killed;
        assert_eq!(told == Told::Done, !killed, "{what}");
        scene.assert_foreign_untouched(&what);
        scene.store.delete(KEY);
    }
    assert!(mount.terminate().success());
    scene.assert_at_rest("all of them");
}

/// One as large as the test machines bear.
fn a_large_file_comes_and_goes(store: &Store) {
    come_and_go(store, &[200 * MIB]);
}

macro_rules! on_each_simulator {
    ($($vendor:ident),*) => { $(mod $vendor {
        use super::*;
        #[test] fn files_of_several_sizes() { files_of_several_sizes_come_and_go(&Store::$vendor()); }
        #[test] fn every_end_of_a_write() { a_write_may_end_in_every_way(Store::$vendor()); }
        #[test] fn a_signal_to_the_daemon() {
            endings::a_signal_to_the_daemon_keeps_closed_files_and_gives_up_open_ones(&Store::$vendor());
        }
        #[test] fn a_lazy_unmount() {
            endings::a_lazy_unmount_keeps_closed_files_and_gives_up_open_ones(&Store::$vendor());
        }
        #[test] fn a_writer_killed_by_any_signal() {
            deaths::a_writer_killed_by_any_signal_publishes_nothing(&Store::$vendor());
        }
        #[test] fn a_writer_killed_after_its_tenth_part() {
            deaths::a_writer_killed_after_its_tenth_part_publishes_nothing(&Store::$vendor());
        }
        #[test] fn a_writer_killed_in_a_random_write() {
            deaths::a_writer_killed_in_the_middle_of_a_random_write_leaves_the_file_as_it_was(&Store::$vendor());
        }
        #[test] fn a_synced_file() {
            edits::a_synced_file_is_in_the_bucket_and_its_writer_goes_on(&Store::$vendor());
        }
        #[test] fn a_file_truncated_to_nothing() {
            edits::a_file_truncated_to_nothing_in_the_middle_starts_afresh(&Store::$vendor());
        }
        #[test] fn a_file_truncated_in_the_middle() {
            edits::a_file_truncated_in_the_middle_keeps_what_is_before(&Store::$vendor());
        }
        #[test] fn a_second_opener_that_truncates() {
            edits::a_second_opener_that_truncates_starts_the_file_afresh(&Store::$vendor());
        }
        #[test] fn a_file_renamed_over_another() {
            rename::a_file_replaces_another(&Store::$vendor());
        }
        #[test] fn a_file_renamed_while_it_is_written() {
            rename::a_file_being_written_is_published_under_its_new_name(&Store::$vendor());
        }
        #[test] fn a_writer_that_ends_without_closing() {
            deaths::a_writer_that_ends_without_closing_has_its_file_kept(&Store::$vendor());
        }
    })* };
}
on_each_simulator!(amazon, ncloud, cos, cos_as_s3);

mod long {
    use super::*;

    #[test]
    fn a_file_of_200_mib_comes_and_goes_on_each_vendor() {
        for store in [
            Store::amazon(),
            Store::ncloud(),
            Store::cos(),
            Store::cos_as_s3(),
        ] {
            a_large_file_comes_and_goes(&store);
        }
    }
}

#[test]
fn a_part_that_cannot_be_uploaded_is_an_error_and_leaves_nothing_on_any_vendor() {
    for store in [Store::amazon(), Store::ncloud(), Store::cos()] {
        let mount = Mount::with(&store, &["--part-size", "5M", "--attempts", "1"]);
        let fault = store.faults().script("op=UploadPart,n=2:error=500");
        fault.expect("a fault");
        let mut file = std::fs::File::create(mount.path("file")).expect("created");
        let written = file.write_all(&NEW.bytes()).and_then(|()| file.sync_all());
        assert!(written.is_err(), "{}", store.provider);
        drop(file);
        store.assert_no_uploads_within(20, store.provider);
        assert_eq!(store.keys(), [""; 0], "{}", store.provider);
    }
}

#[test]
fn white_space_ahead_of_an_error_is_no_success() {
    let store = Store::cos();
    store.put("file", OLD.bytes());
    let mount = Mount::with(&store, &OPTIONS);
    let fault = "op=CompleteMultipartUpload:ok-with-error-body=EntityTooSmall";
    store.faults().script(fault).expect("a fault");
    let mut file = std::fs::File::create(mount.path("file")).expect("created");
    let written = file.write_all(&NEW.bytes()).and_then(|()| file.sync_all());
    assert!(written.is_err(), "the store has said no");
    drop(file);
    store.faults().clear();
    store.assert_holds("file", &OLD);
    store.assert_no_uploads_within(20, "refused");
}

#[test]
fn cos_refuses_another_key_in_either_signature() {
    for store in [Store::cos(), Store::cos_as_s3()] {
        let doctor = |secret: &str| {
            let mut command = program(&store);
            command.env("AWS_SECRET_ACCESS_KEY", secret);
            command.args(["doctor", &format!("s3://{}", store.bucket)]);
            command.args(["--endpoint-url", &store.endpoint, "--region", store.region]);
            command.args(["--provider", "cos"]);
            command.args(store.auth().map(|auth| format!("--auth={auth}")));
            run(&mut command)
        };
        let well = doctor(&store.secret_key);
        assert!(well.ok(), "{}{}", well.out, well.err);
        assert!(
            well.out.contains("cos (as --provider says)"),
            "{}",
            well.out
        );
        let ill = doctor("another");
        assert!(!ill.ok(), "{}", ill.out);
        assert!(
            ill.out.contains("secret access key is wrong"),
            "{}",
            ill.out
        );
    }
}

#[test]
fn the_longest_key_of_a_vendor_is_the_longest_name_on_its_mount() {
    let store = Store::cos();
    let mount = Mount::new(&store);
    let folder = "d".repeat(200);
    let deep = [folder.as_str(); 4].join("/");
    std::fs::create_dir_all(mount.path(&deep)).expect("made");
    // 804 bytes by now, with the slash.
    let longest = format!("{deep}/{}", "f".repeat(46));
    std::fs::write(mount.path(&longest), "x").expect("850 bytes are fine");
    assert_eq!(store.get(&longest).as_deref(), Some(&b"x"[..]));
    let longer = format!("{longest}f");
    let refused = std::fs::write(mount.path(&longer), "x").expect_err("851 bytes are not");
    assert_eq!(refused.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn what_is_known_better_is_taken_and_shown() {
    let store = Store::embedded();
    let mut command = program(&store);
    command.args(["doctor", &format!("s3://{}", store.bucket)]);
    command.args(["--endpoint-url", &store.endpoint, "--region", store.region]);
    command.args(["--capability", "conditional_writes=true,list_v2=false"]);
    let said = run(&mut command);
    assert!(said.ok(), "{}{}", said.out, said.err);
    for told in [
        "conditional_writes=true,list_v2=false",
        "are honoured on writes",
        "generic (neither",
    ] {
        assert!(said.out.contains(told), "{told}: {}", said.out);
    }
    assert_eq!(store.log().count("ListObjectsV2"), 0);
    // And so is all that could be known better.
    let all = wholefs::store::s3::capabilities(Some("generic"), None, "b");
    for (name, _) in all.expect("a row").fields() {
        assert!(
            said.out.contains(&format!(" {name}=")),
            "{name}: {}",
            said.out
        );
    }
    assert!(said.out.contains(" list_v2=false "), "{}", said.out);
    command.args(["--capability", "listv2=false"]);
    let refused = run(&mut command);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.err);
    assert!(
        refused.err.contains("did you mean \"list_v2\""),
        "{}",
        refused.err
    );
}

#[test]
fn what_is_known_of_a_store_is_told() {
    let store = Store::embedded();
    let about = |words: &[&str], provider: &str| {
        let mut command = program(&store);
        command.args(words).arg(format!("s3://{}", store.bucket));
        command.args(["--endpoint-url", &store.endpoint, "--region", store.region]);
        run(command.args(["--provider", provider]))
    };
    let said = about(&["doctor", "--read-only"], "aws");
    let of_vendor = about(&["doctor", "--read-only"], "minio");
    for (said, told) in [
        (&said.out, "Complete twice     succeeds"),
        (&said.out, "parts in flight    may land after the abort"),
        (&said.out, "its conditions     If-Match, If-None-Match"),
        (&of_vendor.out, "Complete twice     NoSuchUpload"),
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // Who sees no uploads of others hears that it is the store that does not show them.
    let uploads = about(&["uploads"], "minio");
    assert!(
        uploads.ok() && uploads.err.contains("an exact key"),
        "{}",
        uploads.err
    );
    assert_eq!(about(&["uploads"], "embedded").err, "");
    // A signature that nobody else takes, and a vault's row.
    let signed = about(&["doctor", "--auth", "cos"], "embedded");
    assert!(
        !signed.ok() && signed.out.contains("--provider cos"),
        "{}",
        signed.out
    );
    let vaults = about(&["doctor"], "glacier");
    assert!(vaults.err.contains("glacier://VAULT"), "{}", vaults.err);
}

#[test]
fn bodies_are_signed_where_a_store_takes_no_others() {
    let store = Store::embedded();
    let options = [
        "--part-size",
        "5M",
        "--capability",
        "unsigned_payload=false",
    ];
    let mount = Mount::with(&store, &options);
    for (name, size) in [("small", 1000), ("large", 13 * MIB)] {
        let content = Content::new(size, size);
        content.save(&mount.path(name));
        store.assert_holds(name, &content);
        content.assert_file(&mount.path(name));
    }
}

#[test]
fn a_provider_that_is_nowhere_says_what_it_needs() {
    let store = Store::embedded();
    for (provider, region, told) in [
        ("ncloud", "kp", "did you mean \"kr\""),
        ("minio", "us-east-1", "give --endpoint-url"),
    ] {
        let mut command = program(&store);
        command.env_remove("AWS_ENDPOINT_URL");
        command.args(["doctor", "s3://bucket", "--provider", provider]);
        command.args(["--region", region]);
        let said = run(&mut command);
        assert!(!said.ok(), "{}", said.out);
        assert!(said.out.contains(told), "{}{}", said.out, said.err);
    }
}
