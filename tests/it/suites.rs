//! The suites other filesystems are tested with: pjdfstest in full, fsx, stress-ng. `scripts/test` installs
//! them; what is missing on a machine is skipped and said loudly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::tools::{have, run_within, shout};
use crate::support::{Mount, Store};

/// Where `scripts/test` installs what comes from crates.io: `$WHOLEFS_SUITES`, or in the home's cache.
fn suite(name: &str) -> Option<PathBuf> {
    let installed = || {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cache/wholefs/suites"))
    };
    let named = std::env::var_os("WHOLEFS_SUITES").map(PathBuf::from);
    let program = named.or_else(installed)?.join("bin").join(name);
    if program.is_file() {
        return Some(program);
    }
    shout(&format!("SKIPPED: no {name} here (run scripts/test)"));
    None
}

const MINUTE: Duration = Duration::from_secs(60);

/// stress-ng's stressors of filesystems, but for those that need what a bucket has not (hard links).
const STRESSORS: [&str; 30] = [
    "aio",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "fallocate",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fstat",
    "getdent",
    "hdd",
    "io",
    "iomix",
    "lease",
    "lockf",
    "mmap",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "xattr",
];

struct Exclusion<'a> {
    pattern: &'a str,
    hits: usize,
}

impl Exclusion<'_> {
    fn matches(&self, test: &str) -> bool {
        match self.pattern.split_once('*') {
            Some((before, after)) => test.starts_with(before) && test.ends_with(after),
            None => test.starts_with(self.pattern),
        }
    }
}

fn pjdfstest_at(program: &Path, mount: &Mount) {
    let folder = mount.path("suite");
    std::fs::create_dir(&folder).expect("made");
    let settings = mount.aside("pjdfstest.toml");
    let text = "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\n\
                [settings]\nnaptime = 0.02\nallow_remount = false\n\
                [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
    std::fs::write(&settings, text).expect("written");
    let mut command = Command::new(program);
    command.arg("-c").arg(&settings).arg("-p").arg(&folder);
    let outcome = run_within(&mut command, 20 * MINUTE);
    let list = include_str!("../suites/pjdfstest.exclusions");
    let mut exclusions: Vec<Exclusion<'_>> = list
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (pattern, reason) = line.split_once(' ').expect("a pattern and a reason");
            assert!(!reason.trim().is_empty(), "{line}: no reason");
            Exclusion { pattern, hits: 0 }
        })
        .collect();
    let (mut passed, mut excluded, mut failed) = (0, 0, Vec::new());
    for line in outcome.out.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(_), Some("ok"), None) => passed += 1,
            (Some(test), Some("FAILED"), None) => {
                let mut hits = exclusions.iter_mut().filter(|e| e.matches(test)).peekable();
                match hits.peek() {
                    Some(_) => excluded += 1,
                    None => failed.push(test.to_owned()),
                }
                hits.for_each(|exclusion| exclusion.hits += 1);
            }
            _ => {}
        }
    }
    shout(&format!("pjdfstest: {passed} passed, {excluded} excluded"));
    assert!(
        failed.is_empty(),
        "{failed:?}\n{}\n{}",
        outcome.out,
        outcome.err
    );
    assert!(passed >= 180, "only {passed} passed:\n{}", outcome.err);
    let stale: Vec<&str> = exclusions
        .iter()
        .filter(|exclusion| exclusion.hits == 0)
        .map(|exclusion| exclusion.pattern)
        .collect();
    assert!(stale.is_empty(), "excluded, and they pass: {stale:?}");
}

#[test]
fn pjdfstest_finds_what_posix_says() {
    let Some(program) = suite("pjdfstest") else {
        return;
    };
    // It tests what other users may do, and only root can become one.
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return shout("SKIPPED: pjdfstest wants to be root");
    }
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--allow-other"]);
    pjdfstest_at(&program, &mount);
    assert!(mount.terminate().success());
    store.assert_no_uploads_within(5, "pjdfstest");
}

fn fsx(mount: &Mount, name: &str, settings: &str, operations: u32) {
    let Some(program) = suite("fsx") else { return };
    let file = mount.aside("fsx.toml");
    std::fs::write(&file, settings).expect("written");
    let mut command = Command::new(program);
    command.arg("-f").arg(&file).arg("-P").arg(mount.aside(""));
    command.args(["-S", "7", "-N", &operations.to_string()]);
    command.arg(mount.path(name));
    let outcome = run_within(&mut command, 30 * MINUTE);
    assert!(outcome.ok(), "{}\n{}", outcome.out, outcome.err);
    shout(&format!("fsx: {operations} operations on {name}"));
}

mod long {
    use super::*;

    /// Reads, writes, truncations, mapped reads and writes.
    #[test]
    fn fsx_finds_every_byte_in_its_place() {
        let store = Store::embedded();
        let mount = Mount::new(&store);
        fsx(&mount, "file", "", 100_000);
        assert!(mount.terminate().success());
        store.assert_no_uploads_within(5, "fsx");
    }

    /// A file of several parts, and everything fsx can do.
    #[test]
    fn fsx_finds_every_byte_of_a_large_file_in_its_place() {
        let store = Store::embedded();
        let mount = Mount::with(&store, &["--part-size", "5M"]);
        let settings = "flen = 16777216\n[opsize]\nmax = 262144\n[weights]\n\
                        close_open = 1\nread = 10\nwrite = 10\nmapread = 5\nmapwrite = 5\n\
                        invalidate = 1\ntruncate = 5\nfsync = 0.2\nfdatasync = 0.2\n\
                        posix_fallocate = 1\npunch_hole = 3\nsendfile = 1\ncopy_file_range = 3\n";
        fsx(&mount, "large", settings, 10_000);
        assert!(mount.terminate().success());
        store.assert_no_uploads_within(5, "fsx");
    }

    /// `$WHOLEFS_STRESS_SECONDS` for longer.
    #[test]
    fn stress_ng_finds_no_wrong_byte_and_no_hang() {
        if !have("stress-ng", "WHOLEFS_REQUIRE_STRESS") {
            return;
        }
        let seconds = std::env::var("WHOLEFS_STRESS_SECONDS");
        let seconds: u64 = seconds.map_or(60, |text| text.parse().expect("seconds"));
        let store = Store::embedded();
        let mount = Mount::with(&store, &["--xattrs", "--part-size", "5M"]);
        let folder = mount.path("stress");
        std::fs::create_dir(&folder).expect("made");
        let each = (seconds / STRESSORS.len() as u64).max(1).to_string();
        for stressor in STRESSORS {
            let mut command = Command::new("stress-ng");
            command.arg("--temp-path").arg(&folder).arg("--verify");
            command.args(["--timeout", &each, &format!("--{stressor}"), "2"]);
            let outcome = run_within(&mut command, 10 * MINUTE);
            assert!(outcome.ok(), "{stressor}: {}\n{}", outcome.out, outcome.err);
        }
        assert!(mount.terminate().success());
        store.assert_no_uploads_within(5, "stress-ng");
    }
}
