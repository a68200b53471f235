//! `--bandwidth-limit`: what moves takes its time, and no deadline minds.

use std::time::{Duration, Instant};

use crate::support::{Content, KIB, MIB, Mount, Store, Writer};

/// What a tenth of a second lets through at once, and what is in flight, may come sooner.
fn least(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64 * 0.8)
}

#[test]
fn what_goes_up_and_what_comes_down_keep_to_their_limits() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--bandwidth-limit", "1M:2M"]);
    let began = Instant::now();
    // Together, they are four seconds' worth.
    let sizes = [MIB, 3 * MIB];
    std::thread::scope(|scope| {
        for size in sizes {
            let path = mount.path(&format!("up-{size}"));
            scope.spawn(move || Content::new(size, size).save(&path));
        }
    });
    assert!(
        began.elapsed() >= least(4 * MIB, MIB),
        "{:?}",
        began.elapsed()
    );
    for size in sizes {
        store.assert_holds(&format!("up-{size}"), &Content::new(size, size));
    }
    drop(mount);
    let mount = Mount::with(&store, &["--bandwidth-limit", "1M:2M"]);
    store.put("down", Content::new(9, 8 * MIB).bytes());
    let began = Instant::now();
    Content::new(9, 8 * MIB).assert_file(&mount.path("down"));
    assert!(
        began.elapsed() >= least(8 * MIB, 2 * MIB),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_limit_is_no_slowness_of_the_store() {
    let store = Store::embedded();
    // A MiB may take four seconds, and has sixteen to go.
    let options = [
        "--bandwidth-limit",
        "64K",
        "--request-timeout",
        "2s",
        "--attempts",
        "1",
    ];
    let mount = Mount::with(&store, &options);
    let content = Content::new(3, MIB);
    content.save(&mount.path("file"));
    store.assert_holds("file", &content);
}

#[test]
fn a_store_that_is_silent_is_given_up_behind_a_limit_too() {
    let store = Store::embedded();
    let options = [
        "--bandwidth-limit",
        "1M",
        "--request-timeout",
        "1s",
        "--attempts",
        "1",
    ];
    let mount = Mount::with(&store, &options);
    let fault = store
        .faults()
        .script("op=PutObject:hang-before")
        .expect("a fault");
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct").write(1, 100 * KIB);
    assert_eq!(writer.attempt("close"), Err(libc::EIO));
    store.faults().remove(fault);
    drop(writer);
    Content::new(2, 100 * KIB).save(&mount.path("file"));
    store.assert_holds("file", &Content::new(2, 100 * KIB));
}
