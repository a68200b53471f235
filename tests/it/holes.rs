//! Holes: fallocate(2), SEEK_DATA and SEEK_HOLE, and files that are longer than what was written to them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::support::tools::{run, sh_ok};
use crate::support::{Content, MIB, Mount, Store, Writer, on_both_stores};

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;

fn allocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn seek(file: &File, offset: u64, whence: i32) -> io::Result<u64> {
    // SAFETY: a plain system call on an open descriptor.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

fn open(path: &std::path::Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("opened")
}

fn ranges_are_zeroed_wherever_their_bytes_are(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    let size = 23 * MIB + 17;
    let ranges = [
        (0, 1),
        (3 * MIB, 4 * MIB),
        (9 * MIB + 1, 100),
        (22 * MIB, 5 * MIB),
    ];
    for (name, is_there) in [("new", false), ("old", true)] {
        let path = mount.path(name);
        let mut expected = Content::new(1, size).bytes();
        if is_there {
            fs::write(&path, &expected).expect("written");
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("opened");
        if !is_there {
            file.write_all_at(&expected, 0).expect("written");
        }
        for (i, (offset, len)) in ranges.into_iter().enumerate() {
            let mode = if i % 2 == 0 {
                PUNCH
            } else {
                ZERO | libc::FALLOC_FL_KEEP_SIZE
            };
            allocate(&file, mode, offset, len).expect("zeroed");
            let end = (offset + len).min(size) as usize;
            expected[offset as usize..end].fill(0);
        }
        // What is written over a hole is there again.
        file.write_all_at(b"again", 4 * MIB).expect("written");
        expected[4 * MIB as usize..][..5].copy_from_slice(b"again");
        let mut seen = vec![0; size as usize];
        file.read_exact_at(&mut seen, 0).expect("read");
        assert!(seen == expected, "{name}, while it is open");
        drop(file);
        assert!(fs::read(&path).expect("read") == expected, "{name}");
        assert!(store.get(name).expect("published") == expected, "{name}");
    }
    assert!(mount.terminate().success());
    store.assert_no_uploads_within(5, "zeroed");
}

on_both_stores!(ranges_are_zeroed_wherever_their_bytes_are);

#[test]
fn fallocate_extends_and_refuses() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("file");
    fs::write(&path, "bytes").expect("written");
    let file = open(&path);
    allocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 10_000).expect("reserved");
    assert_eq!(fs::metadata(&path).expect("there").len(), 5);
    allocate(&file, 0, 2, 2).expect("reserved");
    assert_eq!(fs::metadata(&path).expect("there").len(), 5);
    allocate(&file, 0, 0, 10_000).expect("extended");
    assert_eq!(fs::metadata(&path).expect("there").len(), 10_000);
    allocate(&file, ZERO, 9_999, 3).expect("extended");
    assert_eq!(fs::metadata(&path).expect("there").len(), 10_002);
    for unknown in [libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE] {
        let refused = allocate(&file, unknown, 0, 4096).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
    let refused = allocate(&file, 0, 0, 1 << 62).expect_err("refused");
    assert_eq!(refused.raw_os_error(), Some(libc::EFBIG));
    drop(file);
    let mut expected = b"bytes".to_vec();
    expected.resize(10_002, 0);
    assert_eq!(store.get("file"), Some(expected));
    assert!(mount.terminate().success());
}

#[test]
fn seeking_finds_what_was_written() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    let path = mount.path("sparse");
    let file = File::create_new(&path).expect("created");
    file.write_all_at(&[1; 4096], 0).expect("written");
    file.write_all_at(&[2; 4096], 8 * MIB).expect("written");
    file.set_len(16 * MIB).expect("extended");
    assert_eq!(seek(&file, 0, libc::SEEK_DATA).expect("found"), 0);
    assert_eq!(seek(&file, 0, libc::SEEK_HOLE).expect("found"), 4096);
    assert_eq!(seek(&file, 5000, libc::SEEK_DATA).expect("found"), 8 * MIB);
    assert_eq!(
        seek(&file, 8 * MIB, libc::SEEK_HOLE).expect("found"),
        8 * MIB + 4096
    );
    for (offset, whence) in [(9 * MIB, libc::SEEK_DATA), (16 * MIB, libc::SEEK_HOLE)] {
        let nothing = seek(&file, offset, whence).expect_err("nothing");
        assert_eq!(nothing.raw_os_error(), Some(libc::ENXIO));
    }
    drop(file);
    // Of an object everything is data.
    let file = open(&path);
    assert_eq!(seek(&file, 5000, libc::SEEK_DATA).expect("found"), 5000);
    assert_eq!(seek(&file, 0, libc::SEEK_HOLE).expect("found"), 16 * MIB);
    drop(file);
    assert!(mount.terminate().success());
}

/// A terabyte of which a page was written: neither memory nor disk for the rest.
#[test]
fn a_huge_sparse_file_takes_no_room_here() {
    let store = Store::embedded();
    let mut mount = Mount::with(&store, &["--part-size", "5M", "--spool-limit", "1M"]);
    let path = mount.path("huge");
    let mut writer = Writer::start();
    writer
        .open(&path, "wct")
        .step(&format!("truncate {}", 1u64 << 40));
    let file = open(&path);
    assert_eq!(file.metadata().expect("there").len(), 1 << 40);
    file.write_all_at(b"a little", 1 << 39).expect("written");
    let mut seen = [1; 12];
    file.read_exact_at(&mut seen, (1 << 39) - 2).expect("read");
    assert_eq!(&seen, b"\0\0a little\0\0");
    assert_eq!(seek(&file, 0, libc::SEEK_DATA).expect("found"), 1 << 39);
    fs::remove_file(&path).expect("removed");
    drop(file);
    writer.die_of(libc::SIGKILL);
    let peak = mount.peak_memory();
    assert!(peak < 200 * MIB, "{peak} bytes of memory");
    assert!(!mount.has_ended());
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), Vec::<String>::new());
}

/// 2 GiB of which two pages were written, published: what is nothing is not kept anywhere here.
#[test]
fn holes_are_published_without_room_for_them() {
    let store = Store::embedded_with(wholefs::embedded::Options {
        keep: wholefs::embedded::Keep::Null,
        ..Default::default()
    });
    let limits = ["--spool-limit", "1M", "--write-memory", "64M"];
    let mount = Mount::with(&store, &limits);
    let path = mount.path("sparse");
    let file = File::create_new(&path).expect("created");
    file.write_all_at(&[1; 4096], 0).expect("written");
    file.write_all_at(&[1; 4096], 1 << 30).expect("written");
    file.set_len(2 << 30).expect("extended");
    drop(file);
    assert_eq!(store.objects()["sparse"], 2 << 30);
    let peak = mount.peak_memory();
    assert!(peak < 250 * MIB, "{peak} bytes of memory");
    assert!(mount.terminate().success());
}

#[test]
fn tools_make_and_read_sparse_files() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let local = mount.aside("local");
    sh_ok(
        "truncate -s 30M \"$1\"; printf x | dd of=\"$1\" bs=1 seek=20000000 conv=notrunc status=none",
        &[&local],
    );
    let (sparse, holes) = (mount.path("sparse"), mount.path("holes"));
    sh_ok(
        "cp --sparse=always \"$1\" \"$2\"; cmp \"$1\" \"$2\"",
        &[&local, &sparse],
    );
    sh_ok(
        "fallocate -l 7M \"$1\"; fallocate -p -o 1M -l 2M \"$1\"",
        &[&holes],
    );
    sh_ok("truncate -s 9M \"$1\"; truncate -s +1M \"$1\"", &[&holes]);
    assert_eq!(store.get("holes"), Some(vec![0; 10 << 20]));
    store.assert_same_as_file("sparse", &local);
    assert!(run(std::process::Command::new("cmp").arg(&local).arg(&sparse)).ok());
    assert!(mount.terminate().success());
}
