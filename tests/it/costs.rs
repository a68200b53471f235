//! What each operation costs in requests: exact, because a request is money and a round trip. Seconds are
//! `scripts/bench`'s matter; these counts do not wobble. A change that makes one of them smaller writes the
//! smaller one here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wholefs::embedded::{Keep, Options, Prefill};

use crate::support::mount::PROGRAM;
use crate::support::tools::{die_with_parent, kill, sh_ok, wait};
use crate::support::{KIB, MIB, Mount, Store, eventually, seconds};

/// A bucket that counts and keeps nothing, and a mount for which nothing grows old while the test runs.
fn null_store() -> Store {
    Store::embedded_with(Options {
        keep: Keep::Null,
        ..Options::default()
    })
}

fn mount(store: &Store) -> Mount {
    mount_with(store, &[])
}

fn mount_with(store: &Store, options: &[&str]) -> Mount {
    let options = [&["--metadata-ttl", "1h"], options].concat();
    Mount::with(store, &options)
}

fn prefill(store: &Store, key: &str, count: Option<u32>, size: u64) {
    let key = key.to_string();
    let prefill = Prefill { key, count, size };
    store.server().prefill(&store.bucket, &prefill);
}

/// The requests of what is done, when all of them have ended.
fn requests(store: &Store, work: impl FnOnce()) -> Vec<(&'static str, u64)> {
    let settled = || store.log().under_way() == 0;
    eventually(seconds(10), "what was asked before is answered", settled);
    store.log().reset();
    work();
    eventually(seconds(10), "what was asked is answered", settled);
    store.log().counts().into_iter().collect()
}

fn make(path: &Path) {
    fs::write(path, [7; 4096]).expect("written");
}

/// In the order of the listing.
fn listed(at: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(at).expect("listed");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn read(path: &Path) -> u64 {
    let mut file = File::open(path).expect("opened");
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).expect("read") {
            0 => return bytes,
            read => bytes += read as u64,
        }
    }
}

#[test]
fn a_small_file_in_a_directory_just_made_or_listed_costs_one_put() {
    let store = null_store();
    prefill(&store, "listed/", Some(3), KIB);
    let mount = mount(&store);
    fs::create_dir(mount.path("made")).expect("made");
    listed(&mount.path("listed"));
    for dir in ["made", "listed"] {
        for name in ["one", "another"] {
            let path = mount.path(dir).join(name);
            let costs = requests(&store, || make(&path));
            assert_eq!(costs, [("PutObject", 1)], "{dir}/{name}");
        }
    }
}

#[test]
fn stat_of_listed_entries_costs_nothing_or_where_metadata_are_kept_one_head_each() {
    let store = null_store();
    prefill(&store, "dir/", Some(100), KIB);
    for (options, heads) in [(["--metadata", "none"], 0), (["--metadata", "full"], 100)] {
        let mount = mount_with(&store, &options);
        let names = listed(&mount.path("dir"));
        let stat = || {
            for name in &names {
                assert_eq!(fs::metadata(name).expect("there").len(), KIB);
            }
        };
        let costs = requests(&store, stat);
        let heads = (heads > 0).then_some(("HeadObject", heads));
        assert_eq!(costs, Vec::from_iter(heads), "{options:?}");
        // What was learnt is believed.
        assert_eq!(requests(&store, stat), [], "{options:?}");
    }
}

#[test]
fn a_listing_costs_a_look_and_a_request_a_thousand_entries() {
    let store = null_store();
    prefill(&store, "dir/", Some(2500), KIB);
    let mount = mount(&store);
    listed(&mount.at);
    let costs = requests(&store, || {
        assert_eq!(listed(&mount.path("dir")).len(), 2500);
    });
    // And a sample of each page.
    assert_eq!(costs, [("HeadObject", 1 + 8 + 2 * 4), ("ListObjectsV2", 3)]);
}

#[test]
fn ls_of_ten_thousand_plain_files_costs_eight_looks_and_four_more_a_page() {
    let store = null_store();
    prefill(&store, "dir/", Some(10_000), KIB);
    let sampled = [("HeadObject", 1 + 8 + 9 * 4), ("ListObjectsV2", 10)];
    for (how, expected) in [("auto", &sampled[..]), ("none", &sampled[1..])] {
        let mount = mount_with(&store, &["--metadata", how]);
        listed(&mount.at);
        let costs = requests(&store, || {
            let script = "test $(ls -l \"$1\" | wc -l) = 10001";
            sh_ok(script, &[&mount.path("dir")]);
        });
        assert_eq!(costs, expected, "{how}");
    }
}

#[test]
fn an_empty_directory_is_listed_once_each_time() {
    let store = Store::embedded();
    store.server().put_object(&store.bucket, "empty/", "");
    let mount = mount_with(&store, &["--metadata", "none", "--metadata-ttl", "1h"]);
    let mut entries = fs::read_dir(mount.path("empty")).expect("opened");
    let costs = requests(&store, || assert!(entries.next().is_none()));
    assert_eq!(costs, [("ListObjectsV2", 1)]);
}

#[test]
fn a_directory_is_asked_for_two_pages_ahead_of_its_reader() {
    let store = null_store();
    // So long that a program does not get all of a page at once.
    let name = format!("dir/{}", "n".repeat(200));
    prefill(&store, &name, Some(5_000), KIB);
    let mount = mount_with(&store, &["--metadata", "none"]);
    listed(&mount.at);
    let costs = requests(&store, || {
        let mut entries = fs::read_dir(mount.path("dir")).expect("opened");
        entries.next().expect("listed").expect("listed");
        let asked = || store.log().count("ListObjectsV2");
        eventually(seconds(10), "two pages more are asked for", || asked() == 3);
        assert_eq!(entries.count(), 4_999);
    });
    assert_eq!(costs, [("ListObjectsV2", 5)]);
}

#[test]
fn subdirectories_cost_a_look_each_ahead_of_whoever_goes_through_them() {
    let store = null_store();
    for n in 0..200 {
        prefill(&store, &format!("dir/{n:03}/file"), None, KIB);
    }
    let mount = mount(&store);
    let names = listed(&mount.path("dir"));
    assert_eq!(names.len(), 200);
    let costs = requests(&store, || {
        for name in &names[..2] {
            fs::metadata(name).expect("there");
        }
        eventually(seconds(10), "64 more are asked about", || {
            store.log().count("HeadObject") == 2 + 64
        });
        for name in &names {
            assert!(fs::metadata(name).expect("there").is_dir());
        }
    });
    assert_eq!(costs, [("HeadObject", 200)]);
}

#[test]
fn reading_an_unchanged_file_again_costs_one_check() {
    let store = null_store();
    prefill(&store, "file", None, 20 * MIB);
    let mount = mount(&store);
    assert_eq!(read(&mount.path("file")), 20 * MIB);
    let costs = requests(&store, || {
        read(&mount.path("file"));
    });
    assert_eq!(costs, [("HeadObject", 1)]);
}

#[test]
fn a_large_file_costs_a_request_a_part_and_two() {
    let store = null_store();
    let mount = mount(&store);
    fs::create_dir(mount.path("made")).expect("made");
    let costs = requests(&store, || {
        let mut file = File::create(mount.path("made/large")).expect("made");
        for _ in 0..64 {
            file.write_all(&[7; 1 << 20]).expect("written");
        }
    });
    let expected = [
        ("CompleteMultipartUpload", 1),
        ("CreateMultipartUpload", 1),
        ("UploadPart", 8),
    ];
    assert_eq!(costs, expected);
}

/// The only one that is no exact figure: in which order the kernel's own read-ahead comes is a matter of chance.
#[test]
fn reading_a_gigabyte_costs_a_request_each_eight_megabytes() {
    let store = null_store();
    prefill(&store, "file", None, 1024 * MIB);
    let mount = mount(&store);
    let costs = requests(&store, || {
        assert_eq!(read(&mount.path("file")), 1024 * MIB);
    });
    let total: u64 = costs.iter().map(|(_, count)| count).sum();
    // 8 MiB each, a few smaller ones at the beginning, and again where the machine stood still.
    assert!((128..300).contains(&total), "{costs:?}");
}

/// As `tac` does, and whoever looks for the end of something.
#[test]
fn reading_a_file_from_behind_costs_a_request_each_two_megabytes() {
    let store = null_store();
    prefill(&store, "file", None, 64 * MIB + 17);
    let mount = mount(&store);
    let file = File::open(mount.path("file")).expect("opened");
    let costs = requests(&store, || {
        let (mut end, mut block) = (64 * MIB + 17, [1; 8192]);
        while end > 0 {
            let len = end.min(8192);
            end -= len;
            let block = &mut block[..len as usize];
            file.read_exact_at(block, end).expect("read");
            assert!(block.iter().all(|byte| *byte == 0), "at {end}");
        }
    });
    let total: u64 = costs.iter().map(|(_, count)| count).sum();
    // The first two reads, a block of one megabyte, and those of up to eight.
    assert!((33..48).contains(&total), "{costs:?}");
}

#[test]
fn who_skips_has_the_next_sixteen_reads_asked_for() {
    let store = null_store();
    prefill(&store, "file", None, 1024 * MIB);
    let mount = mount(&store);
    let file = Arc::new(File::open(mount.path("file")).expect("opened"));
    let read = move |n: u64| {
        let at = 64 * KIB + n * 10 * MIB;
        file.read_exact_at(&mut [0; 4096], at).expect("read");
    };
    let costs = requests(&store, || (0..3).for_each(&read));
    assert_eq!(costs, [("GetObject", 3)]);
    let held = store.faults().script("op=GetObject:hold-before");
    // The third step of the same length.
    let fourth = std::thread::spawn({
        let read = read.clone();
        move || read(3)
    });
    eventually(seconds(10), "so are sixteen more than it", || {
        store.log().under_way() == 1 + 16
    });
    store.faults().remove(held.expect("a fault"));
    fourth.join().expect("read");
    (4..20).for_each(&read);
    eventually(seconds(10), "nothing is on its way", || {
        store.log().under_way() == 0
    });
    let asked = store.log().of("GetObject");
    let once: BTreeSet<_> = asked.iter().map(|get| &get.range).collect();
    // The last sixteen as far as others left them a turn.
    assert!((20..=20 + 16).contains(&asked.len()), "{}", asked.len());
    assert_eq!(once.len(), asked.len(), "each is asked for once");
}

#[test]
fn random_reads_from_afar_cost_a_request_each_and_do_not_wait_for_one_another() {
    let store = null_store();
    prefill(&store, "file", None, 64 * MIB);
    let mount = mount(&store);
    let file = Arc::new(File::open(mount.path("file")).expect("opened"));
    let read = move |n: u64| {
        // No two of them next to each other, and no steps alike.
        let at = (1 + n * (n + 1) / 2 * 97) % (64 * 256) * 4 * KIB;
        let read = file.read_exact_at(&mut [0; 4096], at);
        read.expect("read");
    };
    store.server().set_latency(Duration::from_millis(5));
    let costs = requests(&store, || (0..160).for_each(&read));
    assert_eq!(costs, [("GetObject", 160)]);
    let held = store.faults().script("op=GetObject:hold-before");
    let costs = requests(&store, || {
        let start = |n| {
            let read = read.clone();
            std::thread::spawn(move || read(n))
        };
        let readers: Vec<_> = (160..176).map(start).collect();
        eventually(seconds(10), "all of them are asked for at once", || {
            store.log().under_way() == 16
        });
        store.faults().remove(held.expect("a fault"));
        for reader in readers {
            reader.join().expect("read");
        }
    });
    assert_eq!(costs, [("GetObject", 16)]);
}

#[test]
fn who_reads_a_file_is_not_asked_besides_whether_it_is_there() {
    const TTL: Duration = Duration::from_millis(300);
    let store = null_store();
    prefill(&store, "file", None, 64 * MIB);
    let mount = Mount::with(&store, &["--metadata-ttl", "300ms"]);
    store.server().set_latency(Duration::from_millis(5));
    let file = File::open(mount.path("file")).expect("opened");
    let mut reads = 0;
    let mut read_for = |time: Duration| {
        let (began, mut late, mut last) = (Instant::now(), 0, Instant::now());
        while began.elapsed() < time {
            reads += 1;
            let at = (1 + reads * (reads + 1) / 2 * 97) % (64 * 256) * 4 * KIB;
            let asked = Instant::now();
            file.read_exact_at(&mut [0; 4096], at).expect("read");
            // Of a busy machine.
            late += u64::from(last.elapsed() >= TTL);
            last = asked;
        }
        late
    };
    // One that changes twice in a second has the same time afterwards: at first it is asked for.
    read_for(Duration::from_secs(3));
    let mut late = 0;
    let costs = requests(&store, || late = read_for(8 * TTL));
    let count = |operation| {
        let mut counts = costs.iter().filter(|(name, _)| *name == operation);
        counts.next().map_or(0, |(_, count)| *count)
    };
    println!("{costs:?}, {reads} reads, {late} late");
    assert!(count("GetObject") > 0 && count("HeadObject") <= late);
}

/// What s3fs does by downloading to the disk.
#[test]
fn after_a_few_random_reads_near_by_the_file_is_brought_in_whole_and_the_rest_cost_nothing() {
    let store = null_store();
    let size = 96 * MIB + 4 * KIB;
    prefill(&store, "file", None, size);
    let mount = mount(&store);
    let file = File::open(mount.path("file")).expect("opened");
    let read = |n: u64| {
        let at = (1 + n * (n + 1) / 2 * 97) % (size / (4 * KIB)) * 4 * KIB;
        let mut block = [1; 4096];
        file.read_exact_at(&mut block, at).expect("read");
        assert!(block.iter().all(|byte| *byte == 0), "at {at}");
    };
    let asked = || store.log().count("GetObject");
    let began = asked();
    (0..31).for_each(read);
    assert_eq!(asked() - began, 31);
    read(31);
    // Thirteen ranges of eight megabytes, and the kernel has all of it as soon as they are given to it.
    let mut n = 32;
    eventually(
        seconds(30),
        "a hundred reads in a row that cost nothing",
        || {
            let before = asked();
            (n..n + 100).for_each(read);
            n += 100;
            asked() == before && before >= began + 32 + 13
        },
    );
    // Whoever opens it next has that, too.
    let costs = requests(&store, || assert_eq!(self::read(&mount.path("file")), size));
    let more: u64 = costs.iter().map(|(_, count)| count).sum();
    // The check; and a page may have been taken back.
    assert!(more <= 3, "{costs:?}");
}

#[test]
fn a_rename_costs_a_look_a_copy_and_a_delete() {
    let store = null_store();
    prefill(&store, "dir/", Some(3), KIB);
    let mount = mount(&store);
    let names = listed(&mount.path("dir"));
    let costs = requests(&store, || {
        fs::rename(&names[0], mount.path("dir/renamed")).expect("renamed");
    });
    let expected = [("CopyObject", 1), ("DeleteObject", 1), ("HeadObject", 1)];
    assert_eq!(costs, expected);
}

#[test]
fn removing_a_directory_costs_a_look_and_a_delete_each_file_and_few_more() {
    let store = null_store();
    prefill(&store, "dir/", Some(100), KIB);
    let mount = mount(&store);
    listed(&mount.at);
    let costs = requests(&store, || {
        sh_ok("rm -r \"$1\"", &[&mount.path("dir")]);
    });
    let expected = [
        // A few before it is seen that there are many, the last one, and the directory's marker.
        ("DeleteObject", 5),
        ("DeleteObjects", 1),
        ("HeadObject", 101),
        ("ListObjectsV2", 4),
        // The directory stays when its last file goes, until it is removed itself.
        ("PutObject", 1),
    ];
    assert_eq!(together_whenever(costs), expected);
}

/// What gathers for a moment on a machine that stands still is sent without the rest.
fn together_whenever(mut costs: Vec<(&'static str, u64)>) -> Vec<(&'static str, u64)> {
    for (operation, count) in &mut costs {
        if *operation == "DeleteObjects" {
            assert!(*count <= 20, "{count}");
            *count = 1;
        }
    }
    costs
}

#[test]
fn removing_very_many_files_costs_a_request_a_thousand_and_no_listings() {
    let store = null_store();
    prefill(&store, "dir/", Some(3000), KIB);
    // What is known grows old meanwhile.
    let mount = Mount::with(&store, &["--metadata", "none", "--metadata-ttl", "200ms"]);
    listed(&mount.at);
    let costs = requests(&store, || {
        sh_ok("rm -rf \"$1\"", &[&mount.path("dir")]);
    });
    let of = |operation: &str| {
        costs
            .iter()
            .filter(|cost| cost.0 == operation)
            .map(|cost| cost.1)
            .sum::<u64>()
    };
    // Five and three, and a few more where the machine stood still.
    assert!((5..20).contains(&of("DeleteObject")), "{costs:?}");
    assert!(of("DeleteObjects") <= 100, "{costs:?}");
    assert!(of("ListObjectsV2") <= 20, "{costs:?}");
    assert!(of("HeadObject") <= 10, "{costs:?}");
}

#[test]
fn a_copy_within_the_mount_costs_two_looks_and_a_copy() {
    let store = null_store();
    prefill(&store, "dir/file", None, 64 * MIB);
    let mount = mount(&store);
    listed(&mount.path("dir"));
    let costs = requests(&store, || {
        sh_ok("cp \"$1/file\" \"$1/copy\"", &[&mount.path("dir")]);
    });
    assert_eq!(costs, [("CopyObject", 1), ("HeadObject", 2)]);
    let moved = store.log().moved();
    assert!(moved.received + moved.sent < 10 * KIB, "{moved:?}");
}

#[test]
fn appending_costs_the_bytes_appended_and_a_copy_each_256_megabytes() {
    let store = null_store();
    for (size, copies) in [(64 * MIB, 1), (1024 * MIB, 4)] {
        prefill(&store, "dir/file", None, size);
        let mount = mount(&store);
        listed(&mount.path("dir"));
        let costs = requests(&store, || {
            let file = File::options().append(true).open(mount.path("dir/file"));
            let written = file.expect("opened").write_all(b"a line\n");
            written.expect("written");
        });
        let expected = [
            ("CompleteMultipartUpload", 1),
            ("CreateMultipartUpload", 1),
            ("HeadObject", 2),
            ("UploadPart", 1),
            ("UploadPartCopy", copies),
        ];
        assert_eq!(costs, expected, "to {size} bytes");
        let moved = store.log().moved();
        assert!(moved.received + moved.sent < 10 * KIB, "{moved:?}");
    }
}

fn kept_on_disk(mount: &Mount) -> u64 {
    let mut status = Command::new(PROGRAM);
    status.args(["status", "--json", "--state-dir"]);
    status.arg(mount.aside("state"));
    let said = status.output().expect("the program runs").stdout;
    let status: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
    status[0]["disk_cache"]["used"].as_u64().expect("a number")
}

#[test]
fn what_a_mount_with_a_cache_has_read_the_next_one_does_not_ask_for() {
    let store = null_store();
    for (key, size) in [("dir/large", 20 * MIB + 77), ("dir/small", 5000)] {
        prefill(&store, key, None, size);
    }
    let cache = tempfile::tempdir().expect("a directory");
    let options = [
        "--cache",
        cache.path().to_str().expect("plain"),
        "--cache-size",
        "1G",
    ];
    let kept = 20 * MIB + 77 + 5000;
    {
        let mount = mount_with(&store, &options);
        for (name, size) in [("large", 20 * MIB + 77), ("small", 5000)] {
            assert_eq!(read(&mount.path("dir").join(name)), size);
        }
        eventually(seconds(20), "all of it is on disk", || {
            kept_on_disk(&mount) >= kept
        });
    }
    let mount = mount_with(&store, &options);
    eventually(seconds(20), "it is found again", || {
        kept_on_disk(&mount) >= kept
    });
    let costs = requests(&store, || {
        assert_eq!(read(&mount.path("dir/large")), 20 * MIB + 77);
        assert_eq!(read(&mount.path("dir/small")), 5000);
    });
    let asked = |name: &str| costs.iter().any(|(asked, _)| *asked == name);
    assert!(asked("HeadObject") && !asked("GetObject"), "{costs:?}");
}

#[test]
fn the_bucket_says_when_it_is_asked_what_it_was_asked() {
    let mut command = Command::new(PROGRAM);
    command.args(["bucket", "--null", "--prefill", "3xdir/=1K"]);
    command.stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut bucket = command.spawn().expect("the program runs");
    let mut said = BufReader::new(bucket.stdout.take().expect("its output"));
    let mut line = || {
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        line.trim().to_string()
    };
    let endpoint = line();
    let address = endpoint.strip_prefix("http://").expect("an address");
    let mut counters = || {
        kill(bucket.id(), libc::SIGUSR1);
        line()
    };
    let nothing = r#"{"received":0,"requests":{},"sent":0,"under_way":0}"#;
    assert_eq!(counters(), nothing);
    // Nobody's request is refused, and counted.
    let mut client = TcpStream::connect(address).expect("it listens");
    write!(
        client,
        "GET /demo?list-type=2 HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .expect("asked");
    client.read_exact(&mut [0; 12]).expect("answered");
    eventually(seconds(10), "the request is counted as ended", || {
        let said = counters();
        said.contains(r#""requests":{"ListObjectsV2":1}"#) && said.contains(r#""under_way":0"#)
    });
    kill(bucket.id(), libc::SIGTERM);
    assert!(wait(&mut bucket, seconds(20)).expect("it ends").success());
}
