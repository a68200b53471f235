//! What must hold under load: the memory stays inside its budget, and many writers and readers at
//! once neither deadlock nor see a wrong byte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use wholefs::embedded::{Keep, Options};

use crate::edits::Random;
use crate::support::tools::sh_ok;
use crate::support::{Content, MIB, Mount, Store, Writer, eventually, seconds};

#[test]
fn what_is_too_large_for_the_store_is_refused_at_once_and_not_published() {
    let store = Store::embedded();
    store.put("there", b"whole");
    let mount = Mount::with(
        &store,
        &["--part-size", "5M", "--capability", "object_max=20M"],
    );
    for (name, offset) in [("new", 0), ("there", 0), ("behind", 1 << 40)] {
        let file = File::create(mount.path(name)).expect("opened");
        let told = file.write_all_at(&vec![1; 21 * MIB as usize], offset);
        let errno = told.expect_err(name).raw_os_error();
        assert_eq!(errno, Some(libc::EFBIG), "{name}");
    }
    let objects = store.objects();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["there"]);
    assert_eq!(store.get("there").as_deref(), Some(&b"whole"[..]));
}

#[test]
fn writers_wait_for_a_slow_store_instead_of_filling_the_memory() {
    let store = Store::embedded_with(Options {
        keep: Keep::Null,
        ..Options::default()
    });
    let mount = Mount::with(&store, &["--write-memory", "64M", "--part-size", "5M"]);
    let slow = store
        .faults()
        .script("op=UploadPart:hold-before")
        .expect("a fault");
    let mut writers: Vec<_> = (0..8)
        .map(|n| {
            let mut writer = Writer::start();
            writer.open(&mount.path(&format!("file-{n}")), "wct");
            writer.begin(&format!("write 1 {}", 100 * MIB));
            writer
        })
        .collect();
    let written = || -> u64 {
        let size = |n| std::fs::metadata(mount.path(&format!("file-{n}"))).map_or(0, |f| f.len());
        (0..8).map(size).sum()
    };
    let mut before = 0;
    eventually(seconds(30), "all writers wait", || {
        let now = written();
        let still = now == before && now >= 32 * MIB;
        before = now;
        std::thread::sleep(Duration::from_millis(200));
        still && written() == now
    });
    assert!(
        written() <= 64 * MIB + 8 * MIB,
        "{} MiB were taken",
        written() / MIB
    );
    store.faults().remove(slow);
    for writer in &mut writers {
        assert_eq!(writer.finish("write"), Ok(()));
        writer.step("close");
    }
    drop(writers);
    let published = store.objects().into_values().collect::<Vec<_>>();
    assert_eq!(published, [100 * MIB; 8]);
    assert_eq!(store.open_uploads(), []);
    let peak = mount.peak_memory();
    assert!(peak <= 192 * MIB, "{} MiB", peak / MIB);
}

mod long {
    use super::*;

    #[test]
    fn a_copy_of_four_gibibytes_stays_within_the_memory_budget() {
        let store = Store::embedded_with(Options {
            keep: Keep::Null,
            ..Options::default()
        });
        let mount = Mount::with(&store, &["--write-memory", "256M"]);
        let begun = Instant::now();
        let path = mount.path("file");
        sh_ok(
            "dd if=/dev/zero of=\"$1\" bs=1M count=4096 status=none",
            &[&path],
        );
        let took = begun.elapsed();
        let peak = mount.peak_memory();
        println!("4 GiB in {took:?}, {} MiB of memory at most", peak / MIB);
        assert_eq!(store.objects().get("file"), Some(&(4 << 30)));
        assert_eq!(store.open_uploads(), []);
        assert!(peak <= (256 + 128) * MIB, "{} MiB", peak / MIB);
        // And back: what is read ahead has a budget as well (256 MiB, if nothing else is said).
        sh_ok("cmp -n 4294967296 \"$1\" /dev/zero", &[&path]);
        let peak = mount.peak_memory();
        println!("read back, {} MiB of memory at most", peak / MIB);
        assert!(peak <= (256 + 256 + 128) * MIB, "{} MiB", peak / MIB);
    }

    /// What a file holds: nothing yet, or this.
    type Held = RwLock<Option<Content>>;

    #[test]
    fn many_writers_and_readers_at_once_see_no_wrong_byte() {
        let time = std::env::var("WHOLEFS_STRESS_SECONDS").ok();
        let time = time.map_or(60, |time| {
            time.parse().expect("WHOLEFS_STRESS_SECONDS is a number")
        });
        let store = Store::embedded();
        let mount = Mount::with(&store, &["--part-size", "5M"]);
        let files: Vec<Held> = (0..96).map(|_| Held::default()).collect();
        for n in 0..8 {
            std::fs::create_dir(mount.path(&format!("d{n}"))).expect("made");
        }
        let path = |n: usize| mount.path(&format!("d{}/f{n}", n % 8));
        let stop = AtomicBool::new(false);
        let (wrote, read, bytes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let failed = Mutex::new(Vec::new());
        let attempt = |what: &str, work: &mut dyn FnMut() -> Result<(), String>| {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = work() {
                    failed
                        .lock()
                        .expect("no panic while held")
                        .push(format!("{what}: {error}"));
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..64u64 {
                let (files, path, attempt) = (&files, &path, &attempt);
                let (wrote, bytes) = (&wrote, &bytes);
                scope.spawn(move || {
                    let mut random = Random(writer + 1);
                    let mut generation = 0;
                    attempt("writer", &mut || {
                        let n = random.below(files.len() as u64) as usize;
                        let mut held = files[n].write().map_err(|e| e.to_string())?;
                        generation += 1;
                        let largest = [4 << 10, 1 << 20, 1 << 20, 6 << 20, 12 << 20];
                        let largest = largest[random.below(5) as usize];
                        let size = random.below(largest);
                        let content = Content::new(writer << 32 | generation, size);
                        let named = |e: std::io::Error| format!("{}: {e}", path(n).display());
                        if random.below(10) == 0 && held.is_some() {
                            std::fs::remove_file(path(n)).map_err(named)?;
                            *held = None;
                            return Ok(());
                        }
                        write(&path(n), &content, random.below(4)).map_err(named)?;
                        *held = Some(content);
                        wrote.fetch_add(1, Ordering::Relaxed);
                        bytes.fetch_add(size, Ordering::Relaxed);
                        Ok(())
                    });
                });
            }
            for reader in 0..64u64 {
                let (files, path, attempt) = (&files, &path, &attempt);
                let read = &read;
                scope.spawn(move || {
                    let mut random = Random(reader + 1000);
                    attempt("reader", &mut || {
                        let n = random.below(files.len() as u64) as usize;
                        let held = files[n].read().map_err(|e| e.to_string())?;
                        let named =
                            |e: &dyn std::fmt::Display| format!("{}: {e}", path(n).display());
                        match (*held, File::open(path(n))) {
                            (Some(content), Ok(file)) => {
                                content.compare(file).map_err(|e| named(&e))?
                            }
                            (None, Err(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
                            (None, Ok(_)) => return Err(named(&"is there and should not")),
                            (_, Err(e)) => return Err(named(&e)),
                        }
                        read.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    });
                });
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(time) && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let failed = failed.into_inner().expect("no panic while held");
        assert!(failed.is_empty(), "{failed:#?}");
        let (wrote, read) = (wrote.into_inner(), read.into_inner());
        println!(
            "{wrote} files of {} MiB written, {read} read, {} MiB of memory at most",
            bytes.into_inner() / MIB,
            mount.peak_memory() / MIB
        );
        assert!(
            wrote >= 5 * time && read >= 5 * time,
            "hardly anything was done"
        );
        assert_eq!(mount.unmount().code(), Some(0));
        assert_eq!(store.open_uploads(), []);
        let mut expected = 0;
        for (n, held) in files.iter().enumerate() {
            if let Some(content) = *held.read().expect("no panic while held") {
                store.assert_holds(&format!("d{}/f{n}", n % 8), &content);
                expected += 1;
            }
        }
        let keys = store.keys();
        assert_eq!(
            keys.iter().filter(|key| !key.ends_with('/')).count(),
            expected
        );
    }

    /// In one go, in small blocks, backwards, or with a change at the end.
    fn write(path: &std::path::Path, content: &Content, how: u64) -> std::io::Result<()> {
        let bytes = content.bytes();
        if how == 0 {
            return std::fs::write(path, bytes);
        }
        let file = File::create(path)?;
        let mut blocks: Vec<_> = bytes.chunks(300_000).enumerate().collect();
        if how == 1 {
            blocks.reverse();
        }
        for (n, block) in &blocks {
            file.write_all_at(block, *n as u64 * 300_000)?;
        }
        if how == 2 {
            let head = bytes.len().min(512);
            file.write_all_at(&bytes[..head], 0)?;
        }
        file.sync_all()
    }
}

/// Each close would look through all the descriptors of whoever closes: that has a limit, and what is not
/// looked through is published all the same.
#[test]
fn who_has_very_many_files_open_has_them_all_published() {
    const FILES: usize = 6000;
    let store = Store::embedded();
    let mount = Mount::new(&store);
    // Not by this process: other tests close files in it.
    let script = r#"ulimit -n 6100; exec perl -e '
        my ($at, $count) = @ARGV;
        my @files = map { open(my $file, ">", "$at/$_") or die "$_: $!"; $file } 1..$count;
        for (@files) { syswrite($_, "x") or die $! }
        for (@files) { close($_) or die $! }
    ' "$1" "$2""#;
    sh_ok(script, &[&mount.path(""), Path::new(&FILES.to_string())]);
    eventually(seconds(60), "all of them", || store.keys().len() == FILES);
    assert!(mount.terminate().success());
}

/// Files that wait on the disk take a descriptor each. Without one left, nobody could look how a program has ended.
#[test]
fn who_uses_up_the_mounts_descriptors_publishes_nothing_torn() {
    let store = Store::embedded();
    store.put("good", "good");
    let mount = Mount::new(&store);
    let limit = libc::rlimit {
        rlim_cur: 160,
        rlim_max: 160,
    };
    let daemon = mount.daemon() as i32;
    // SAFETY: the daemon is this test's, and `limit` is read only.
    let limited =
        unsafe { libc::prlimit(daemon, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(limited, 0);
    let mut killed = Writer::start();
    killed.open(&mount.path("good"), "wt").write(1, 4000);
    let mut open = Vec::new();
    let refused = (0..200).find_map(|n| {
        let file = File::create(mount.path(&format!("{n}"))).expect("created");
        let mut written = [3 << 20, 0].into_iter();
        let written = written.try_for_each(|at| file.write_all_at(&[1; 4096], at));
        open.push(file);
        written.err()
    });
    assert_eq!(refused.and_then(|e| e.raw_os_error()), Some(libc::EMFILE));
    killed.die_of(libc::SIGKILL);
    eventually(seconds(10), "it is given up", || {
        mount.stderr().contains("/good: not published")
    });
    assert_eq!(store.get("good").as_deref(), Some(&b"good"[..]));
    // Its remedy is told, and whoever has one goes on.
    assert!(mount.stderr().contains("LimitNOFILE"), "{}", mount.stderr());
    let whole = open.len() - 1;
    drop(open);
    assert_eq!(store.keys().len(), whole + 1);
    assert!(mount.terminate().success());
}

/// open, unlink, use: its bytes take disk until the last descriptor is closed, and not for ever.
#[test]
fn what_was_written_to_a_file_without_a_name_goes_with_it() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let spools = || {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", mount.daemon()));
        let names = descriptors.expect("a daemon").flatten();
        let targets = names.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().ends_with("(deleted)"))
            .count()
    };
    for was_there in [false, true] {
        if was_there {
            store.put("file", vec![7; 100_000]);
        }
        let path = mount.path("file");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("open");
        std::fs::remove_file(&path).expect("unlinked");
        // Not front to back, so not in memory.
        file.write_all_at(b"behind", 3 << 20).expect("written");
        file.write_all_at(b"before", 0).expect("written");
        let mut read = [0; 6];
        file.read_exact_at(&mut read, 3 << 20).expect("read");
        assert_eq!(&read, b"behind");
        assert!(spools() > 0, "its bytes are somewhere");
        drop(file);
        eventually(seconds(10), "its disk is free", || spools() == 0);
    }
    assert_eq!(store.keys(), Vec::<String>::new());
    assert!(mount.terminate().success());
}
