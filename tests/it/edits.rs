//! What happens to a file in the middle of being written, and every way to write other than from
//! the beginning to the end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::tools::sh_ok;
use crate::support::{
    Content, KIB, MIB, Mount, PART, Store, Writer, eventually, on_both_stores, seconds,
};

mod inside;

fn mount(store: &Store) -> Mount {
    Mount::with(store, &["--part-size", "5M"])
}

fn writer(mount: &Mount, file: &str, how: &str, size: u64) -> Writer {
    let mut writer = Writer::start();
    writer.open(&mount.path(file), how).write(1, size);
    writer
}

fn assert_missing(path: &Path) {
    let found = std::fs::metadata(path).map(|found| found.len());
    let error = found.expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

// ---- Names taken away

fn a_file_unlinked_in_the_middle_of_its_writing_is_never_published(store: &Store) {
    let mount = mount(store);
    for old in [false, true] {
        for size in [MIB, 12 * MIB] {
            if old {
                store.put("file", "the old object");
            }
            let mut writer = writer(&mount, "file", "rwct", size);
            std::fs::remove_file(mount.path("file")).expect("unlinked");
            assert_missing(&mount.path("file"));
            store.assert_no_uploads_within(5, "unlinked");
            assert_eq!(store.keys(), [""; 0]);
            // Whoever has it open goes on with it.
            writer.step(&format!("check 1 {size}"));
            writer
                .write(1, 12 * MIB)
                .step(&format!("check 1 {}", size + 12 * MIB));
            writer.step("sync").step("close");
            writer.exit(0);
            assert_missing(&mount.path("file"));
        }
    }
    assert!(mount.terminate().success());
    assert_eq!(store.keys(), [""; 0]);
    assert_eq!(store.open_uploads(), []);
}

fn a_name_is_free_again_when_its_file_was_unlinked_in_the_middle(store: &Store) {
    let mount = mount(store);
    let mut first = writer(&mount, "file", "wct", 12 * MIB);
    std::fs::remove_file(mount.path("file")).expect("unlinked");
    let content = Content::new(2, 11 * MIB);
    let mut second = Writer::start();
    second
        .open(&mount.path("file"), "wcx")
        .write(content.seed, content.size);
    first.write(1, MIB).step("close");
    second.step("close");
    store.assert_holds("file", &content);
    content.assert_file(&mount.path("file"));
    store.assert_no_uploads_within(5, "both closed");
    assert_eq!(store.keys(), ["file"]);
}

fn the_directory_of_a_file_being_written_cannot_be_removed(store: &Store) {
    let mount = mount(store);
    let directory = mount.path("dir");
    std::fs::create_dir(&directory).expect("made");
    for size in [0, 12 * MIB] {
        let mut writer = writer(&mount, "dir/file", "wct", size);
        let refused = std::fs::remove_dir(&directory).expect_err("it is not empty");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
        writer.step("close");
        store.assert_holds("dir/file", &Content::new(1, size));
        let refused = std::fs::remove_dir(&directory).expect_err("it is not empty");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    }
    // An unlinked file does not hold its directory.
    let mut writer = writer(&mount, "dir/file", "rwct", 12 * MIB);
    std::fs::remove_file(mount.path("dir/file")).expect("unlinked");
    std::fs::remove_dir(&directory).expect("it is empty");
    writer
        .write(1, MIB)
        .step(&format!("check 1 {}", 13 * MIB))
        .step("close");
    assert_eq!(store.keys(), [""; 0]);
    store.assert_no_uploads_within(5, "closed");
    assert_missing(&directory);
}

// ---- Truncated

pub fn a_file_truncated_to_nothing_in_the_middle_starts_afresh(store: &Store) {
    let mount = mount(store);
    for old in [false, true] {
        if old {
            store.put("file", "the old object");
        }
        // By the writer itself, who begins again.
        let mut writer = writer(&mount, "file", "wct", 12 * MIB);
        writer.step("truncate 0");
        store.assert_no_uploads_within(5, "ftruncate(0)");
        writer.step("seek 0").write(2, 7 * MIB).step("close");
        store.assert_holds("file", &Content::new(2, 7 * MIB));
        assert_eq!(store.open_uploads(), []);
        std::fs::remove_file(mount.path("file")).expect("removed");
    }
    // By somebody else; the writer goes on where it was, and there is a hole before that.
    let mut writer = writer(&mount, "file", "wct", 12 * MIB);
    sh_ok("truncate -s 0 \"$1\"", &[&mount.path("file")]);
    assert_eq!(
        std::fs::metadata(mount.path("file")).expect("there").len(),
        0
    );
    writer.write(1, MIB).step("close");
    let mut expected = vec![0; 12 << 20];
    expected.extend(Content::new(1, 13 * MIB).range(12 * MIB..13 * MIB));
    let same = |found: Option<Vec<u8>>| found.is_some_and(|found| found == expected);
    // The other's descriptor was released when its process ended, the object is the writer's.
    assert!(same(store.get("file")), "12 MiB of zeros and 1 MiB of data");
    assert_eq!(store.open_uploads(), []);
    assert_eq!(store.keys(), ["file"]);
}

pub fn a_file_truncated_in_the_middle_keeps_what_is_before(store: &Store) {
    let mount = mount(store);
    let written = 12 * MIB;
    for n in [
        1,
        4096,
        PART - 1,
        PART,
        PART + 1,
        11 * MIB,
        written,
        written + 1,
        20 * MIB,
    ] {
        for by_itself in [true, false] {
            let mut writer = writer(&mount, "file", "rwct", written);
            if by_itself {
                writer.step(&format!("truncate {n}"));
            } else {
                let file = OpenOptions::new()
                    .write(true)
                    .open(mount.path("file"))
                    .expect("open");
                file.set_len(n).expect("truncated");
            }
            assert_eq!(
                std::fs::metadata(mount.path("file")).expect("there").len(),
                n
            );
            writer.step(&format!("check 1 {}", n.min(written)));
            writer.step("close");
            let mut expected = Content::new(1, n.min(written)).bytes();
            expected.resize(n as usize, 0);
            let found = store.get("file").expect("published");
            assert!(found == expected, "truncated to {n}: {} bytes", found.len());
            store.assert_no_uploads_within(5, "truncated");
        }
    }
}

fn a_file_that_is_not_open_is_truncated_by_its_name(store: &Store) {
    let mount = mount(store);
    let content = Content::new(1, 12 * MIB + 1);
    for n in [0, 1, PART, 12 * MIB, 12 * MIB + 1, 13 * MIB, 30 * MIB] {
        store.put("file", content.bytes());
        sh_ok(&format!("truncate -s {n} \"$1\""), &[&mount.path("file")]);
        let mut expected = content.range(0..n.min(content.size));
        expected.resize(n as usize, 0);
        let same = || store.get("file").is_some_and(|found| found == expected);
        eventually(seconds(5), &format!("truncated to {n}"), same);
        assert_eq!(store.open_uploads(), []);
        let mut found = Vec::new();
        let mut file = File::open(mount.path("file")).expect("there");
        file.read_to_end(&mut found).expect("read");
        assert!(found == expected, "truncated to {n}");
    }
}

pub fn a_second_opener_that_truncates_starts_the_file_afresh(store: &Store) {
    let mount = mount(store);
    for size in [MIB, 12 * MIB] {
        let mut first = writer(&mount, "file", "wct", 12 * MIB);
        // What has not been begun when it is given up would be there for a moment after that.
        store.await_parts("file", 1);
        let content = Content::new(2, size);
        let mut second = Writer::start();
        second.open(&mount.path("file"), "wt");
        store.assert_no_uploads_within(5, "O_TRUNC");
        second.write(content.seed, content.size).step("close");
        first.step("close");
        store.assert_holds("file", &content);
        content.assert_file(&mount.path("file"));
        assert_eq!(store.open_uploads(), []);
        assert_eq!(store.keys(), ["file"]);
    }
}

// ---- Read while written

fn a_file_being_written_shows_its_writers_data_to_all(store: &Store) {
    let mount = mount(store);
    for old in [false, true] {
        let old_content = Content::new(9, 12 * MIB);
        if old {
            store.put("file", old_content.bytes());
            old_content.assert_file(&mount.path("file"));
        }
        let mut writer = Writer::start();
        writer.open(&mount.path("file"), "wct");
        let mut written = 0;
        for more in [1, 4 * KIB, MIB, PART, 8 * MIB] {
            writer.write(1, more);
            written += more;
            let so_far = Content::new(1, written);
            so_far.assert_file(&mount.path("file"));
            assert_eq!(
                std::fs::metadata(mount.path("file")).expect("there").len(),
                written
            );
            // In the bucket nobody sees it.
            match old {
                true => store.assert_holds("file", &old_content),
                false => assert_eq!(store.get("file"), None),
            }
        }
        writer.step("close");
        store.assert_holds("file", &Content::new(1, written));
        Content::new(1, written).assert_file(&mount.path("file"));
        std::fs::remove_file(mount.path("file")).expect("removed");
    }
}

pub fn a_synced_file_is_in_the_bucket_and_its_writer_goes_on(store: &Store) {
    let mount = mount(store);
    let mut writer = Writer::start();
    writer.open(&mount.path("file"), "wct");
    let mut written = 0;
    for more in [1, MIB, 12 * MIB, 5] {
        writer.write(1, more).step("sync");
        written += more;
        store.assert_holds("file", &Content::new(1, written));
        assert_eq!(store.open_uploads(), []);
    }
    // What comes after the last fsync is lost with its writer, what was before is not.
    writer.write(1, 12 * MIB);
    writer.die_of(libc::SIGKILL);
    store.assert_no_uploads_within(5, "killed after fsync");
    store.assert_holds("file", &Content::new(1, written));
}

fn each_write_of_a_file_opened_with_o_dsync_is_a_commit(store: &Store) {
    use std::os::unix::fs::OpenOptionsExt;
    let mount = mount(store);
    for (key, flag) in [("dsync", libc::O_DSYNC), ("sync", libc::O_SYNC)] {
        let mut options = File::options();
        options.write(true).create(true).custom_flags(flag);
        let mut file = options.open(mount.path(key)).expect("made");
        let content = Content::new(1, 100_000);
        for end in [1000, 1001, 100_000] {
            let written = file.metadata().expect("metadata").len();
            file.write_all(&content.range(written..end))
                .expect("written");
            store.assert_holds(key, &Content::new(1, end));
        }
    }
    assert_eq!(store.open_uploads(), []);
}

// ---- Not from the beginning to the end

fn patched(mut bytes: Vec<u8>, patches: &[(u64, &[u8])]) -> Vec<u8> {
    for (offset, patch) in patches {
        let end = *offset as usize + patch.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[*offset as usize..end].copy_from_slice(patch);
    }
    bytes
}

#[track_caller]
fn assert_object(store: &Store, key: &str, expected: &[u8]) {
    let found = store.get(key).unwrap_or_else(|| panic!("no object {key}"));
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        found == expected,
        "{key} has {} bytes of {}, the first difference is at {differs:?}",
        found.len(),
        expected.len()
    );
}

fn the_head_of_a_streamed_file_can_be_rewritten(store: &Store) {
    let mount = mount(store);
    for size in [MIB, 12 * MIB, 33 * MIB + 7] {
        let content = Content::new(1, size);
        let mut file = File::create(mount.path("file")).expect("made");
        file.write_all(&content.bytes()).expect("written");
        // As a program does that learns only now what its header says.
        file.seek(SeekFrom::Start(0)).expect("sought");
        file.write_all(b"a header of its own").expect("written");
        file.seek(SeekFrom::Start(size / 2)).expect("sought");
        file.write_all(b"and a correction").expect("written");
        file.seek(SeekFrom::End(0)).expect("sought");
        file.write_all(b"and a tail").expect("written");
        drop(file);
        let patches: [(u64, &[u8]); 3] = [
            (0, b"a header of its own"),
            (size / 2, b"and a correction"),
            (size, b"and a tail"),
        ];
        assert_object(store, "file", &patched(content.bytes(), &patches));
        assert_eq!(store.open_uploads(), []);
    }
}

fn a_file_can_be_written_and_read_back_through_one_descriptor(store: &Store) {
    let mount = mount(store);
    let content = Content::new(1, 12 * MIB);
    let mut file = OpenOptions::new();
    let file = file
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("file"));
    let file = file.expect("made");
    // Backwards, a piece that touches and one that leaves a gap, which is filled later.
    let piece = 768 * KIB;
    let pieces: Vec<u64> = (0..content.size / piece).collect();
    let order = pieces.iter().rev().filter(|n| *n % 2 == 0);
    for n in order.chain(pieces.iter().filter(|n| *n % 2 == 1)) {
        let range = n * piece..(n + 1) * piece;
        file.write_all_at(&content.range(range.clone()), range.start)
            .expect("written");
        let mut back = vec![0; piece as usize];
        file.read_exact_at(&mut back, range.start)
            .expect("read back");
        assert!(back == content.range(range), "piece {n}");
    }
    drop(file);
    store.assert_holds("file", &content);
    assert_eq!(store.open_uploads(), []);
}

fn an_existing_file_is_changed_in_place(store: &Store) {
    let mount = mount(store);
    for size in [100, PART, 12 * MIB + 3, 33 * MIB] {
        let content = Content::new(1, size);
        let patches: Vec<(u64, &[u8])> = vec![
            (0, b"the first bytes"),
            (size / 2, b"the middle"),
            (size.saturating_sub(3), b"over the end"),
            (size + 2 * MIB, b"and behind a hole"),
        ];
        for n in 1..=patches.len() {
            store.put("file", content.bytes());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(mount.path("file"));
            let file = file.expect("open");
            for (offset, patch) in &patches[..n] {
                file.write_all_at(patch, *offset).expect("written");
            }
            let expected = patched(content.bytes(), &patches[..n]);
            let mut back = vec![0; expected.len()];
            file.read_exact_at(&mut back, 0).expect("read back");
            assert!(back == expected, "{size} bytes, {n} patches, read back");
            drop(file);
            assert_object(store, "file", &expected);
            assert_eq!(store.open_uploads(), []);
        }
    }
}

fn appending_goes_to_the_end_whoever_else_appends(store: &Store) {
    let mount = mount(store);
    let path = mount.path("log");
    for n in 0..3 {
        sh_ok(&format!("echo {n} >> \"$1\""), &[&path]);
    }
    assert_eq!(store.get("log").as_deref(), Some(&b"0\n1\n2\n"[..]));
    let open = || OpenOptions::new().append(true).open(&path).expect("open");
    let (mut one, mut two) = (open(), open());
    for _ in 0..3 {
        one.write_all(b"one\n").expect("written");
        two.write_all(b"two\n").expect("written");
    }
    drop((one, two));
    let expected = b"0\n1\n2\none\ntwo\none\ntwo\none\ntwo\n";
    let whole = || store.get("log").as_deref() == Some(&expected[..]);
    eventually(seconds(5), "both are closed", whole);
    store.assert_no_uploads_within(5, "both are closed");
}

/// Any order of operations leaves what it leaves on a local disk.
fn a_mounted_file_behaves_as_a_local_one(store: &Store) {
    for seed in 1..=6 {
        let mount = mount(store);
        let (here, there) = (mount.aside("local"), mount.path("file"));
        let mut random = Random(seed);
        let mut story = Vec::new();
        if seed % 2 == 0 {
            let content = Content::new(seed, random.below(14 * MIB));
            content.save(&here);
            store.put("file", content.bytes());
        }
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options
                .open(path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut files = [open(&here), open(&there)];
        for step in 0..80 {
            let size = files[0].metadata().expect("there").len();
            let offset = random.below(size.max(1) + size / 8);
            let magnitude = random.below(22);
            let length = 1 + random.below(1 << magnitude);
            match random.below(20) {
                0 => {
                    let to = random.below(size.max(1) * 2).min(20 * MIB);
                    story.push(format!("truncate to {to}"));
                    files
                        .iter()
                        .for_each(|file| file.set_len(to).expect("truncated"));
                }
                1 => {
                    story.push("close and open".into());
                    files = [open(&here), open(&there)];
                }
                2 => {
                    story.push("sync".into());
                    files
                        .iter()
                        .for_each(|file| file.sync_all().expect("synced"));
                }
                3..8 => {
                    story.push(format!("read {length} at {offset}"));
                    let read = |file: &File| {
                        let mut bytes = vec![0; length as usize];
                        let mut had = 0;
                        while had < bytes.len() {
                            match file.read_at(&mut bytes[had..], offset + had as u64) {
                                Ok(0) => break,
                                Ok(n) => had += n,
                                Err(e) => panic!("{e} after {story:#?}"),
                            }
                        }
                        bytes.truncate(had);
                        bytes
                    };
                    let (local, mounted) = (read(&files[0]), read(&files[1]));
                    assert!(local == mounted, "seed {seed}, step {step}: {story:#?}");
                }
                n => {
                    // At the end more often than not, as files are written.
                    let offset = if n < 14 { size } else { offset };
                    if offset + length > 24 * MIB {
                        continue;
                    }
                    story.push(format!("write {length} at {offset}"));
                    let bytes = Content::new(seed * 1000 + step, length).bytes();
                    for file in &files {
                        let wrote = file.write_all_at(&bytes, offset);
                        wrote.unwrap_or_else(|e| panic!("{e} after {story:#?}"));
                    }
                }
            }
            let size = |file: &File| file.metadata().expect("there").len();
            assert_eq!(
                size(&files[0]),
                size(&files[1]),
                "seed {seed}, step {step}: {story:#?}"
            );
        }
        drop(files);
        store.assert_same_as_file("file", &here);
        sh_ok("cmp \"$1\" \"$2\"", &[&here, &there]);
        store.assert_no_uploads_within(5, "closed");
        std::fs::remove_file(&there).expect("removed");
    }
}

pub use crate::support::mangle::Random;

on_both_stores!(
    a_file_unlinked_in_the_middle_of_its_writing_is_never_published,
    a_name_is_free_again_when_its_file_was_unlinked_in_the_middle,
    the_directory_of_a_file_being_written_cannot_be_removed,
    a_file_truncated_to_nothing_in_the_middle_starts_afresh,
    a_file_truncated_in_the_middle_keeps_what_is_before,
    a_file_that_is_not_open_is_truncated_by_its_name,
    a_second_opener_that_truncates_starts_the_file_afresh,
    a_file_being_written_shows_its_writers_data_to_all,
    a_synced_file_is_in_the_bucket_and_its_writer_goes_on,
    each_write_of_a_file_opened_with_o_dsync_is_a_commit,
    the_head_of_a_streamed_file_can_be_rewritten,
    a_file_can_be_written_and_read_back_through_one_descriptor,
    an_existing_file_is_changed_in_place,
    appending_goes_to_the_end_whoever_else_appends,
    a_mounted_file_behaves_as_a_local_one,
);

// ---- Stores that lack something

/// What cannot be done tells what to do, and then it can be.
#[test]
fn on_a_store_that_copies_no_parts_an_edit_says_how_to_mount_it() {
    let store = Store::embedded();
    let mut content = Content::new(1, 12 * MIB).bytes();
    store.put("file", content.clone());
    let lacks = "op=UploadPartCopy:error=501/NotImplemented";
    store.faults().script(lacks).expect("a fault");
    let edit = |mount: &Mount| {
        let file = OpenOptions::new().write(true).open(mount.path("file"));
        let file = file.expect("opened");
        file.write_all_at(b"new", 7 * MIB).expect("written");
        file.sync_all()
    };
    let remedy = "part_copy=false";
    let without = mount(&store);
    edit(&without).expect_err("refused");
    eventually(seconds(5), "the remedy is told", || {
        without.stderr().contains(&format!("--capability {remedy}"))
    });
    assert_eq!(store.get("file").as_deref(), Some(&content[..]));
    assert!(without.terminate().success());

    let with = Mount::with(&store, &["--part-size", "5M", "--capability", remedy]);
    edit(&with).expect("written");
    content[7 * MIB as usize..][..3].copy_from_slice(b"new");
    assert_eq!(store.get("file").as_deref(), Some(&content[..]));
    assert!(with.terminate().success());
    assert_eq!(store.open_uploads(), []);
}
