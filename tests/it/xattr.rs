//! Extended attributes: `user.*` goes up with the file as s3fs writes it, and `user.wholefs.*` tells what
//! the mount knows.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::mount::PROGRAM;
use crate::support::tools::{run_within, sh_ok};
use crate::support::{Content, MIB, Mount, PART, Store, eventually, on_both_stores, seconds};

fn c(text: &[u8]) -> CString {
    CString::new(text).expect("no zero within")
}

fn answer(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn set_with(path: &Path, name: &str, value: &[u8], flags: i32) -> io::Result<()> {
    let (path, name) = (c(path.as_os_str().as_bytes()), c(name.as_bytes()));
    // SAFETY: both texts end with a zero, and the value is as long as is said.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    };
    answer(result as isize).map(drop)
}

fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    set_with(path, name, value, 0)
}

fn get_into(path: &Path, name: &str, room: usize) -> io::Result<Vec<u8>> {
    let (path, name) = (c(path.as_os_str().as_bytes()), c(name.as_bytes()));
    let mut value = vec![0; room];
    // SAFETY: both texts end with a zero, and there is as much room as is said.
    let result = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            room,
        )
    };
    let len = answer(result)?;
    value.truncate(len);
    Ok(value)
}

fn get(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    get_into(path, name, 4096)
}

fn text(path: &Path, name: &str) -> String {
    let value = get(path, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    String::from_utf8(value).expect("text")
}

fn list_into(path: &Path, room: usize) -> io::Result<Vec<u8>> {
    let path = c(path.as_os_str().as_bytes());
    let mut names = vec![0u8; room];
    // SAFETY: the path ends with a zero, and there is as much room as is said.
    let result = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), room) };
    let len = answer(result)?;
    names.truncate(len);
    Ok(names)
}

fn names(path: &Path) -> Vec<String> {
    let names = String::from_utf8(list_into(path, 4096).expect("listed")).expect("text");
    names.split_terminator('\0').map(str::to_owned).collect()
}

fn remove(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (c(path.as_os_str().as_bytes()), c(name.as_bytes()));
    // SAFETY: both texts end with a zero.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    answer(result as isize).map(drop)
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.expect_err("refused").raw_os_error(), Some(errno));
}

fn they_are_kept_with_the_file(store: &Store) {
    let mut mount = Mount::with(store, &["--xattrs", "--part-size", "5M"]);
    for (name, size) in [("empty", 0), ("small", 1000), ("large", 12 * MIB)] {
        fs::write(mount.path(name), Content::new(1, size).bytes()).expect("written");
    }
    fs::create_dir(mount.path("directory")).expect("made");
    let all = ["empty", "small", "large", "directory"];
    for name in all {
        let path = mount.path(name);
        set(&path, "user.comment", "Grüße".as_bytes()).expect("set");
        set(&path, "user.bytes", &[0, 255, 10]).expect("set");
        set(&path, "user.gone", b"1").expect("set");
        remove(&path, "user.gone").expect("removed");
    }
    // Renamed, changed and copied, they stay.
    fs::rename(mount.path("small"), mount.path("renamed")).expect("renamed");
    let appended = File::options().append(true).open(mount.path("renamed"));
    appended
        .and_then(|mut file| file.write_all(b"more"))
        .expect("appended");
    mount = {
        assert!(mount.terminate().success());
        Mount::with(store, &["--xattrs"])
    };
    for name in ["empty", "renamed", "large", "directory"] {
        let path = mount.path(name);
        assert_eq!(text(&path, "user.comment"), "Grüße", "{name}");
        assert_eq!(
            get(&path, "user.bytes").expect("kept"),
            [0, 255, 10],
            "{name}"
        );
        assert_errno(get(&path, "user.gone"), libc::ENODATA);
        assert_eq!(names(&path), ["user.bytes", "user.comment"], "{name}");
    }
    Content::new(1, 12 * MIB).assert_file(&mount.path("large"));
    assert!(mount.terminate().success());
}

on_both_stores!(they_are_kept_with_the_file);

#[test]
fn what_is_too_small_too_large_or_forbidden_is_refused() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--xattrs"]);
    let file = mount.path("file");
    fs::write(&file, "x").expect("written");
    set(&file, "user.a", b"12345").expect("set");
    assert_errno(get_into(&file, "user.a", 4), libc::ERANGE);
    assert_eq!(get_into(&file, "user.a", 5).expect("fits"), b"12345");
    assert_errno(list_into(&file, 6), libc::ERANGE);
    assert_eq!(list_into(&file, 7).expect("fits"), b"user.a\0");
    // S3 takes 2 KB of metadata, and values travel in base64.
    set(&file, "user.large", &[7; 1000]).expect("fits");
    assert_errno(set(&file, "user.larger", &[7; 1000]), libc::E2BIG);
    assert_eq!(names(&file), ["user.a", "user.large"]);
    assert_errno(
        set_with(&file, "user.a", b"", libc::XATTR_CREATE),
        libc::EEXIST,
    );
    assert_errno(
        set_with(&file, "user.b", b"", libc::XATTR_REPLACE),
        libc::ENODATA,
    );
    assert_errno(remove(&file, "user.b"), libc::ENODATA);
    assert_errno(get(&file, "user.b"), libc::ENODATA);
    assert_errno(set(&file, "trusted.a", b"1"), libc::EOPNOTSUPP);
    assert_errno(set(&file, "user.", b"1"), libc::EINVAL);
    assert_errno(set(&file, "user.wholefs.etag", b"1"), libc::EPERM);
    assert_eq!(fs::read(&file).expect("read"), b"x");
    assert!(mount.terminate().success());

    let plain = Mount::with(&store, &["--xattrs", "--metadata", "none"]);
    assert_errno(set(&plain.path("file"), "user.c", b"1"), libc::EOPNOTSUPP);
    assert!(plain.terminate().success());
}

#[test]
fn those_of_a_file_being_written_go_up_with_it() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--xattrs", "--part-size", "5M"]);
    for (name, size) in [("small", 10), ("large", 12 * MIB)] {
        let path = mount.path(name);
        let mut file = File::create(&path).expect("created");
        file.write_all(&Content::new(2, size).bytes())
            .expect("written");
        set(&path, "user.draft", b"yes").expect("set");
        assert_eq!(text(&path, "user.draft"), "yes");
        drop(file);
        let (said, _) = store.said_of(name);
        // s3fs's own form.
        assert_eq!(
            said["xattr"], "%7B%22user%2Edraft%22%3A%22eWVz%22%7D",
            "{name}"
        );
        Content::new(2, size).assert_file(&path);
    }
    assert_eq!(
        store.log().count("CopyObject"),
        1,
        "the large one had begun without"
    );
    assert!(mount.terminate().success());
}

#[test]
fn those_s3fs_wrote_are_read() {
    let store = Store::embedded();
    let said = HashMap::from([(
        "xattr".to_owned(),
        "%7B%22user.comment%22%3A%22aGVsbG8%3D%22%7D".to_owned(),
    )]);
    store.put_with("theirs", "bytes", &said, "text/plain");
    let mount = Mount::with(&store, &["--xattrs"]);
    assert_eq!(text(&mount.path("theirs"), "user.comment"), "hello");
    assert!(mount.terminate().success());
}

#[test]
fn the_mount_tells_what_it_knows_of_a_file() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--xattrs", "--part-size", "5M"]);
    let path = mount.path("file");
    let mut file = File::create(&path).expect("created");
    assert_errno(get(&path, "user.wholefs.etag"), libc::ENODATA);
    assert_eq!(
        text(&path, "user.wholefs.upload"),
        "writing: 0 bytes, 0 parts in the bucket"
    );
    file.write_all(&Content::new(3, 2 * PART + 1).bytes())
        .expect("written");
    eventually(seconds(10), "both parts are there", || {
        text(&path, "user.wholefs.upload")
            == format!("uploading: {} bytes, 2 parts in the bucket", 2 * PART + 1)
    });
    drop(file);
    assert_errno(get(&path, "user.wholefs.upload"), libc::ENODATA);
    let etag = text(&path, "user.wholefs.etag");
    assert!(etag.ends_with("-3"), "an upload of three parts: {etag}");
    assert_eq!(text(&path, "user.wholefs.storage-class"), "STANDARD");
    assert_errno(get(&path, "user.wholefs.version"), libc::ENODATA);
    assert_eq!(names(&path), Vec::<String>::new(), "nobody copies them");
    assert!(mount.terminate().success());
}

/// How often the kernel has asked the mount for an extended attribute.
fn asked(mount: &Mount) -> u64 {
    let state = mount.aside("state");
    let mut command = Command::new(PROGRAM);
    command.args(["status", "--json", "--state-dir"]).arg(state);
    let outcome = run_within(&mut command, seconds(30));
    assert!(outcome.ok(), "{}", outcome.err);
    let status: serde_json::Value = serde_json::from_str(&outcome.out).expect("JSON");
    let waits = &status[0]["calls"]["getxattr"]["classes"];
    let classes = waits.as_array().map_or(&[][..], Vec::as_slice);
    classes.iter().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn without_the_flag_there_are_none_and_nobody_asks_for_them() {
    let store = Store::embedded();
    let mount = Mount::new(&store);
    for n in 0..50 {
        fs::write(mount.path(&format!("file {n}")), "x").expect("written");
    }
    let path = mount.path("file 0");
    for _ in 0..2 {
        // As `ls -l` does, of each of them.
        for n in 0..50 {
            let path = mount.path(&format!("file {n}"));
            assert_errno(get(&path, "security.none"), libc::EOPNOTSUPP);
        }
        sh_ok("ls -l \"$1\"", &[&mount.at]);
    }
    assert_eq!(asked(&mount), 1, "told once, the kernel knows");
    assert_eq!(
        mount.stderr().matches("--xattrs").count(),
        0,
        "who asked was no program"
    );
    for _ in 0..2 {
        assert_errno(set(&path, "user.a", b"1"), libc::EOPNOTSUPP);
        assert_errno(get(&path, "user.a"), libc::EOPNOTSUPP);
        assert_errno(remove(&path, "user.a"), libc::EOPNOTSUPP);
        assert_errno(list_into(&path, 100), libc::EOPNOTSUPP);
    }
    let said = || mount.stderr().matches("--xattrs").count();
    eventually(seconds(10), "a line that names the flag", || said() > 0);
    assert_eq!(said(), 1, "{}", mount.stderr());
    assert!(mount.stderr().contains("/file 0"), "{}", mount.stderr());
    assert!(mount.terminate().success());
}

#[test]
fn writing_asks_for_none() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--xattrs"]);
    let mut file = File::create(mount.path("file")).expect("created");
    for _ in 0..1000 {
        file.write_all(&[1; 100]).expect("written");
    }
    drop(file);
    assert_eq!(store.log().count("PutObject"), 1);
    assert_eq!(
        store.log().count("HeadObject"),
        1,
        "of the lookup before it was made"
    );
    assert!(mount.terminate().success());
}
