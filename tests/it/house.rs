//! The house keeps its order: what the documents name exists, and the walls between modules stand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let functions: BTreeSet<String> = ["src", "tests"]
        .iter()
        .flat_map(|below| sources(below))
        .flat_map(|(_, text)| {
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
                Some(rest[..end].to_string())
            });
            names.collect::<Vec<_>>()
        })
        .collect();
    let text = fs::read_to_string(root().join("docs/SEMANTICS.md")).unwrap();
    let named: Vec<&str> = text
        .split("`[")
        .skip(1)
        .filter_map(|rest| rest.split_once("]`").map(|(name, _)| name))
        .collect();
    assert!(
        named.len() >= 50,
        "the semantics name {} tests",
        named.len()
    );
    let missing: Vec<&&str> = named.iter().filter(|n| !functions.contains(**n)).collect();
    assert!(missing.is_empty(), "named, and not there: {missing:?}");
}

/// What each part of the house may use of the others: an arrow points down only.
const WALLS: [(&str, &[&str]); 11] = [
    ("host", &[]),
    ("embedded", &[]),
    ("store", &[]),
    ("read", &["store"]),
    ("upload", &["store"]),
    ("journal", &["store", "upload"]),
    ("draft", &["store", "upload"]),
    ("recovery", &["store", "upload", "journal"]),
    ("fs", &["store", "upload", "draft", "read", "host"]),
    ("fuse", &["fs", "host"]),
    (
        "status",
        &[
            "store", "upload", "read", "draft", "fs", "journal", "recovery",
        ],
    ),
];

#[test]
fn no_wall_of_the_house_is_broken() {
    let mut looked_at = 0;
    for (part, allowed) in WALLS {
        for (path, text) in sources(&format!("src/{part}")) {
            let is_test = path.to_string_lossy().contains("test");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for used in code.split("crate::").skip(1) {
                let end = used.find(|c: char| !c.is_alphanumeric() && c != '_');
                let module = &used[..end.unwrap_or(used.len())];
                let known = WALLS.iter().any(|(name, _)| *name == module) || module == "cli";
                let fine = module == part || !known || allowed.contains(&module) || is_test;
                assert!(fine, "{}: {part} uses {module}", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 60, "{looked_at} files");
}

/// The parts that are tested exhaustively: no clock, no randomness, no I/O, no runtime.
const PURE: [&str; 20] = [
    "src/host/holders/looks.rs",
    "src/upload/life.rs",
    "src/upload/words.rs",
    "src/upload/ending.rs",
    "src/upload/recovery.rs",
    "src/draft/layout.rs",
    "src/draft/extents.rs",
    "src/fs/names.rs",
    "src/fs/verdict.rs",
    "src/read/window.rs",
    "src/journal/record.rs",
    "src/journal/replay.rs",
    "src/store/glacier/tree.rs",
    "src/store/glacier/description.rs",
    "src/crc64.rs",
    "src/lines.rs",
    "src/cli/units.rs",
    "src/nearest.rs",
    "src/status/metrics.rs",
    "src/cli/picture.rs",
];

#[test]
fn the_pure_parts_know_no_clock_no_chance_and_no_world() {
    let impure = [
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "std::env",
        "getrandom",
        "RandomState",
        "crate::random",
        "Moment::now",
        "tokio::",
        "aws_sdk",
        "fuser::",
    ];
    for file in PURE {
        let path = root().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in impure {
            assert!(!code.contains(word), "{file} uses {word}");
        }
    }
}

#[test]
fn only_one_module_uses_the_sdk_and_one_the_kernel() {
    for (path, text) in sources("src") {
        let path = path.strip_prefix(root().join("src")).unwrap().to_path_buf();
        if !path.starts_with("store/s3") {
            assert!(
                !text.contains("aws_sdk_s3::"),
                "{} uses the SDK",
                path.display()
            );
        }
        if !path.starts_with("store/glacier") {
            let theirs = text.contains("aws_sdk_glacier::");
            assert!(!theirs, "{} uses the SDK", path.display());
        }
        if !path.starts_with("fuse") {
            assert!(!text.contains("fuser::"), "{} uses fuser", path.display());
        }
    }
}

#[test]
fn the_scenarios_that_are_chosen_are_there() {
    let script = fs::read_to_string(root().join("scripts/test")).expect("the script");
    let (_, chosen) = script.split_once("\nchosen=(\n").expect("a choice");
    let (chosen, _) = chosen.split_once("\n)").expect("its end");
    let tests: String = sources("tests/it")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let mut all = 0;
    for name in chosen.split_whitespace() {
        let scenario = format!("fn {name}(store: &Store)");
        let of_calls = format!("fn {name}(store: &support::Store)");
        let there = tests.contains(&scenario) || tests.contains(&of_calls);
        assert!(there, "scripts/test: there is no scenario {name}");
        all += 1;
    }
    assert!(all >= 12, "{all} scenarios");
}
