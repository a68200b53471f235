//! Files of every interesting size, written and read back by the tools people use.

use std::path::Path;

use crate::support::tools::sh_ok;
use crate::support::{Content, KIB, MIB, Mount, PART, Store, on_both_stores};

/// Every size at which something changes, and one with many parts and an odd end.
const SIZES: [u64; 7] = [0, 1, 4 * KIB, PART - 1, PART, PART + 1, 33 * MIB + 7];

/// Writes `$1` to `$2`.
const TOOLS: [(&str, &str); 4] = [
    ("cp", "cp \"$1\" \"$2\""),
    ("dd", "dd if=\"$1\" of=\"$2\" bs=64k status=none"),
    ("cat", "cat \"$1\" > \"$2\""),
    ("tee", "tee \"$2\" < \"$1\" > /dev/null"),
];

fn every_size_comes_back(store: &Store, tool: &str) {
    let script = TOOLS
        .iter()
        .find(|(name, _)| *name == tool)
        .expect("a tool")
        .1;
    let mount = Mount::with(store, &["--part-size", "5M"]);
    for (n, size) in SIZES.into_iter().enumerate() {
        let content = Content::new(n as u64 + 1, size);
        let (source, target) = (mount.aside("source"), mount.path(&format!("{tool}-{size}")));
        content.save(&source);
        sh_ok(script, &[&source, &target]);
        // What close() has answered for is in the bucket, at once.
        let key = format!("{tool}-{size}");
        store.assert_holds(&key, &content);
        assert_eq!(store.open_uploads(), [], "{tool} of {size} bytes");
        assert_eq!(store.objects().len(), n + 1, "one object for each file");
        sh_ok("cmp \"$1\" \"$2\"", &[&source, &target]);
        let listed = std::fs::metadata(&target).expect("it is there").len();
        assert_eq!(listed, size);
    }
    // And through a mount that has never seen them.
    drop(mount);
    let mount = Mount::with(store, &["--read-only"]);
    for (n, size) in SIZES.into_iter().enumerate() {
        Content::new(n as u64 + 1, size).assert_file(&mount.path(&format!("{tool}-{size}")));
    }
}

fn cp_writes_files_of_every_size(store: &Store) {
    every_size_comes_back(store, "cp");
}

fn dd_writes_files_of_every_size(store: &Store) {
    every_size_comes_back(store, "dd");
}

fn cat_writes_files_of_every_size(store: &Store) {
    every_size_comes_back(store, "cat");
}

fn tee_writes_files_of_every_size(store: &Store) {
    every_size_comes_back(store, "tee");
}

fn files_of_every_size_are_replaced_by_files_of_every_size(store: &Store) {
    let mount = Mount::with(store, &["--part-size", "5M"]);
    let sizes = [0, 1, PART + 1, 12 * MIB + 3];
    let (source, target) = (mount.aside("source"), mount.path("file"));
    let mut seed = 0;
    for before in sizes {
        for after in sizes {
            for size in [before, after] {
                seed += 1;
                let content = Content::new(seed, size);
                content.save(&source);
                sh_ok("cp \"$1\" \"$2\" && cmp \"$1\" \"$2\"", &[&source, &target]);
                store.assert_holds("file", &content);
                assert_eq!(store.keys(), ["file"]);
                assert_eq!(store.open_uploads(), []);
            }
        }
    }
}

fn a_mounted_prefix_is_the_whole_world(store: &Store) {
    store.put("outside", "not to be seen");
    store.put("some/where-else", "not to be seen");
    store.put("some/where/old", "seen");
    let mount = Mount::of(store, &format!("s3://{}/some/where", store.bucket), &[]);
    let names = |at: &Path| {
        let entries = std::fs::read_dir(at).expect("a listing");
        let mut names: Vec<_> = entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&mount.at), ["old"]);
    std::fs::write(mount.path("new"), "written").expect("written");
    assert_eq!(names(&mount.at), ["new", "old"]);
    assert_eq!(
        store.get("some/where/new").as_deref(),
        Some(&b"written"[..])
    );
    std::fs::remove_file(mount.path("old")).expect("removed");
    assert_eq!(
        store.keys(),
        ["outside", "some/where-else", "some/where/new"]
    );
}

on_both_stores!(
    cp_writes_files_of_every_size,
    dd_writes_files_of_every_size,
    cat_writes_files_of_every_size,
    tee_writes_files_of_every_size,
    files_of_every_size_are_replaced_by_files_of_every_size,
    a_mounted_prefix_is_the_whole_world,
);

mod long {
    use super::*;

    #[test]
    fn a_file_of_one_gibibyte_comes_back() {
        let store = Store::embedded();
        let mount = Mount::new(&store);
        let content = Content::new(1, 1 << 30);
        let (source, target) = (mount.aside("source"), mount.path("file"));
        content.save(&source);
        sh_ok("cp \"$1\" \"$2\"", &[&source, &target]);
        assert_eq!(store.open_uploads(), []);
        store.assert_holds("file", &content);
        sh_ok("cmp \"$1\" \"$2\"", &[&source, &target]);
        assert_eq!(
            store.objects().into_iter().collect::<Vec<_>>(),
            [("file".into(), 1 << 30)]
        );
    }
}
