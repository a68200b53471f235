//! How much memory there is for what can be given back at any time.

use std::path::Path;

use super::told::told;

/// What programs could be given without others losing theirs, as the kernel estimates it; or as much as this process's
/// cgroup may have at all, if that is less. Nothing, if nobody says.
pub fn available() -> u64 {
    let free = told("/proc/meminfo").ok();
    let free = free.and_then(|said| available_of(&said)).unwrap_or(0);
    let group = told("/proc/self/cgroup").unwrap_or_default();
    match allowed(Path::new("/sys/fs/cgroup"), &group) {
        Some(allowed) => free.min(allowed),
        None => free,
    }
}

/// `MemAvailable` of /proc/meminfo.
fn available_of(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The least that a group (of version 2, by its line of /proc/PID/cgroup) and those it is in may have.
fn allowed(root: &Path, cgroup: &str) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(path);
    let up = own.ancestors().take_while(|group| group.starts_with(root));
    let limit = |group: &Path| {
        let said = told(group.join("memory.max")).ok()?;
        said.trim().parse().ok()
    };
    up.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let said = "MemTotal:       24683536 kB\nMemAvailable:   24185012 kB\nBuffers: 1 kB\n";
        assert_eq!(available_of(said), Some(24_185_012 << 10));
        assert_eq!(available_of("MemFree: 1 kB\n"), None);
        assert!(available() > 0);
    }

    #[test]
    fn the_least_limit_of_a_group_and_those_above_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let own = root.path().join("system.slice/data.mount");
        fs::create_dir_all(&own).expect("made");
        let allowed = || allowed(root.path(), "0::/system.slice/data.mount\n");
        assert_eq!(allowed(), None);
        fs::write(own.join("memory.max"), "max\n").expect("written");
        assert_eq!(allowed(), None);
        fs::write(root.path().join("system.slice/memory.max"), "1048576\n").expect("written");
        assert_eq!(allowed(), Some(1 << 20));
        fs::write(own.join("memory.max"), "4096\n").expect("written");
        assert_eq!(allowed(), Some(4096));
    }
}
