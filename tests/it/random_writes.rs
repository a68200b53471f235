//! fio, which writes in every order and checks each block it has written.

use std::path::Path;
use std::process::Command;

use crate::support::tools::{have, run};
use crate::support::{Content, MIB, Mount, Store, on_both_stores};

/// Half as large again as the write budget of these mounts.
const SIZE: u64 = 96 * MIB;
const OPTIONS: [&str; 4] = ["--write-memory", "64M", "--part-size", "5M"];

/// fio's `rw` and the block size.
const PATTERNS: [(&str, &str, &str); 6] = [
    ("sequential", "write", "256k"),
    ("random", "randwrite", "64k"),
    ("small-random", "randwrite", "4k-37k"),
    ("reverse", "write:-128k", "64k"),
    ("strided", "write:64k", "64k"),
    ("mixed", "randrw", "32k"),
];

#[track_caller]
fn fio(path: &Path, rw: &str, block: &str, more: &[&str]) {
    let mut command = Command::new("fio");
    command
        .args([
            "--name=job",
            "--ioengine=psync",
            "--fallocate=none",
            "--thread=0",
        ])
        .args([
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--randseed=7",
        ])
        // The state of a verification is for runs that go on later.
        .args([
            "--verify_state_save=0",
            "--norandommap=0",
            "--group_reporting",
        ])
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--rw={rw}"))
        .arg(match block.contains('-') {
            true => format!("--bsrange={block}"),
            false => format!("--bs={block}"),
        })
        .args(more)
        .current_dir(
            path.parent()
                .and_then(Path::parent)
                .expect("a folder of the test's own"),
        );
    let done = run(&mut command);
    assert!(
        done.ok(),
        "fio {rw} {block}: {}\n{}\n{}",
        done.status,
        done.out,
        done.err
    );
    assert!(!done.out.contains("verify:"), "{}", done.out);
}

fn each_pattern(store: &Store, existing: bool) {
    if !have("fio", "WHOLEFS_REQUIRE_FIO") {
        return;
    }
    let mount = Mount::with(store, &OPTIONS);
    let old = Content::new(3, SIZE);
    for (name, rw, block) in PATTERNS {
        // What is not written yet is read as well, which a new file does not have.
        if !existing && rw == "randrw" {
            continue;
        }
        if existing {
            store.put(name, old.bytes());
        }
        // Each block is read back by a request of its own.
        let written = match name {
            "small-random" => SIZE / 8 / store.slowness(),
            "random" | "strided" | "mixed" => SIZE / store.slowness(),
            _ => SIZE,
        };
        let (size, io_size) = (format!("--size={SIZE}"), format!("--io_size={written}"));
        let mut options = vec![size.as_str(), io_size.as_str()];
        if !existing {
            // Otherwise fio makes the file itself, from the beginning to the end, before it begins.
            options.push("--create_on_open=1");
            options.push("--overwrite=0");
        }
        fio(&mount.path(name), rw, block, &options);
        assert_eq!(store.open_uploads(), [], "{name}");
        if existing {
            let found = store.get(name).expect("published");
            assert_eq!(found.len() as u64, SIZE, "{name}");
        }
        // What the bucket holds is what the mount shows.
        let found = store.get(name).expect("published");
        let shown = std::fs::read(mount.path(name)).expect("read");
        assert!(found == shown, "{name}");
        store.delete(name);
    }
    assert!(mount.terminate().success());
    assert_eq!(store.open_uploads(), []);
}

fn new_files_are_written_in_every_order(store: &Store) {
    each_pattern(store, false);
}

fn existing_files_are_written_in_every_order(store: &Store) {
    each_pattern(store, true);
}

fn a_few_random_writes_leave_the_rest_of_a_large_file_alone(store: &Store) {
    if !have("fio", "WHOLEFS_REQUIRE_FIO") {
        return;
    }
    let mount = Mount::with(store, &OPTIONS);
    let old = Content::new(3, SIZE);
    store.put("file", old.bytes());
    fio(
        &mount.path("file"),
        "randwrite",
        "16k",
        &[&format!("--size={SIZE}"), "--io_size=1m"],
    );
    let found = store.get("file").expect("published");
    assert_eq!(found.len() as u64, SIZE);
    let blocks = (0..SIZE).step_by(16 << 10);
    let changed = blocks.filter(|at| {
        let block = &found[*at as usize..*at as usize + (16 << 10)];
        old.difference(*at, block).is_some()
    });
    assert_eq!(changed.count(), 64, "1 MiB in blocks of 16 KiB");
    assert_eq!(store.open_uploads(), []);
}

on_both_stores!(
    new_files_are_written_in_every_order,
    existing_files_are_written_in_every_order,
    a_few_random_writes_leave_the_rest_of_a_large_file_alone,
);
