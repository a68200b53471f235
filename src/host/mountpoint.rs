//! Is this a place to mount on? Asked before anything else, so that the answer is a sentence.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::told::told;
use crate::shown::Shown;

/// The absolute path of the mount point, or one line that says what is wrong with it.
pub fn check(path: &Path, nonempty: bool) -> Result<PathBuf, String> {
    // One line, whatever the name.
    let shown = Shown(path.display()).to_string();
    let mut looked = std::fs::metadata(path);
    if looked
        .as_ref()
        .is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
        && let Some(at) = dead_mount_of_ours(path)
        && detach(&at).is_ok()
    {
        eprintln!("wholefs: cleared the dead mount at {shown}");
        looked = std::fs::metadata(path);
    }
    let metadata = match looked {
        Ok(metadata) => metadata,
        Err(error) => {
            return Err(match error.raw_os_error() {
                Some(libc::ENOENT) => format!(
                    "the mount point {shown} does not exist: create it with mkdir -p {}",
                    as_a_word(&shown)
                ),
                Some(libc::ENOTCONN) => {
                    format!(
                        "the mount point {shown} holds a dead mount (Transport endpoint is not connected): umount -l {}",
                        as_a_word(&shown)
                    )
                }
                Some(libc::EACCES) => format!(
                    "the mount point {shown} cannot be reached: check the permissions of its path"
                ),
                _ => format!("the mount point {shown} cannot be used: {error}"),
            });
        }
    };
    if !metadata.is_dir() {
        return Err(format!(
            "the mount point {shown} is not a directory: name an empty directory"
        ));
    }
    let path = path
        .canonicalize()
        .map_err(|e| format!("the mount point {shown} cannot be used: {e}"))?;
    if let Some(source) = fuse_source(&path) {
        return Err(format!(
            "{shown} is already mounted (from {source}): umount it first, or choose another directory"
        ));
    }
    if !nonempty && std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!(
            "the mount point {shown} is not empty: choose an empty directory, or say --nonempty to hide what is in it"
        ));
    }
    if told("/proc/self/status").is_err() {
        return Err("/proc is not there, and nobody could tell a killed writer from one that has closed its file: mount -t proc proc /proc".to_string());
    }
    if !Path::new("/dev/fuse").exists() {
        return Err("/dev/fuse is missing: load the kernel module (modprobe fuse), or give the container the device".to_string());
    }
    Ok(path)
}

/// A path as a shell takes it for one word.
fn as_a_word(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match path.chars().all(is_plain) {
        true => path.to_string(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// A mount that cannot be reached any more, and is of this program: its absolute path.
fn dead_mount_of_ours(path: &Path) -> Option<PathBuf> {
    absolute(path).filter(|at| source_of_ours(at).is_some())
}

/// The path from the root, without looking at what is there: it may not answer.
pub fn absolute(path: &Path) -> Option<PathBuf> {
    let Some(name) = path.file_name() else {
        return path.canonicalize().ok();
    };
    let directory = match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    let at = directory.canonicalize().ok()?.join(name);
    // A symbolic link to it is as good.
    match std::fs::read_link(&at) {
        Ok(_) => at.canonicalize().ok(),
        Err(_) => Some(at),
    }
}

/// The source of what is mounted at exactly this path, if that is a mount of this program.
pub fn source_of_ours(path: &Path) -> Option<String> {
    let last = last_at(path)?;
    (last.kind == OURS).then_some(last.source)
}

/// The source of the FUSE mount at exactly this path, if there is one.
pub fn fuse_source(path: &Path) -> Option<String> {
    let is_fuse = |line: &MountLine| line.target == path && line.kind.starts_with("fuse");
    let found = mount_lines().into_iter().rev().find(is_fuse);
    found.map(|line| line.source)
}

/// Where this program's mounts are, each with its source.
pub fn all_of_ours() -> Vec<(PathBuf, String)> {
    let ours = mount_lines().into_iter().filter(|line| line.kind == OURS);
    ours.map(|line| (line.target, line.source)).collect()
}

const OURS: &str = "fuse.wholefs";

/// A line of mountinfo, as far as we care.
#[derive(Clone, Debug)]
pub(super) struct MountLine {
    id: u64,
    device: String,
    pub target: PathBuf,
    kind: String,
    pub source: String,
    /// Of the mount, and of the filesystem behind it.
    pub options: String,
}

fn mount_lines() -> Vec<MountLine> {
    mount_lines_of("/proc/self/mountinfo")
}

fn mount_lines_of(table: &str) -> Vec<MountLine> {
    let mounts = std::fs::read(table).unwrap_or_default();
    let lines = mounts.split(|byte| *byte == b'\n');
    lines.filter_map(MountLine::of).collect()
}

impl MountLine {
    /// A place's name is of any bytes, and anybody's: it must not hide the other lines.
    fn of(line: &[u8]) -> Option<MountLine> {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let id = text(fields.next()?).parse().ok()?;
        let device = text(fields.nth(1)?);
        let target = PathBuf::from(unescape(fields.nth(1)?));
        let options = text(fields.next()?);
        // Then come fields of which there may be any number.
        fields.find(|field| *field == b"-")?;
        let kind = text(fields.next()?);
        let source = unescape(fields.next()?).to_string_lossy().into_owned();
        let options = format!("{options},{}", text(fields.next()?));
        Some(MountLine {
            id,
            device,
            target,
            kind,
            source,
            options,
        })
    }
}

/// Where what has this device number is mounted: the place it was mounted at first.
pub(super) fn line_of(device: &str) -> Option<MountLine> {
    mount_lines().into_iter().find(|l| l.device == device)
}

/// What is mounted at exactly this path, and seen there.
fn last_at(path: &Path) -> Option<MountLine> {
    let lines = mount_lines();
    lines.into_iter().rev().find(|line| line.target == path)
}

/// The device number (`major:minor`) of what is mounted at exactly this path.
pub fn device(path: &Path) -> Option<String> {
    last_at(path).map(|line| line.device)
}

/// A mount of ours, told from whatever else comes to its place.
#[derive(Clone, Debug)]
pub struct Mount {
    at: PathBuf,
    /// `major:minor`; its own as long as somebody has it.
    device: Option<String>,
    /// The kernel's numbers of it, and of what was bound to it, when it was looked at first.
    ids: Vec<u64>,
}

impl Mount {
    /// What is mounted there now.
    pub fn at(path: &Path) -> Mount {
        let mut mount = Mount {
            at: path.to_path_buf(),
            device: device(path),
            ids: Vec::new(),
        };
        let ours = mount.numbers().into_iter().filter(|(_, ours)| *ours);
        mount.ids = ours.map(|(id, _)| id).collect();
        mount
    }

    /// Takes it away from everybody, at once: what is open of it fails when its daemon ends. What else is mounted
    /// there by now stays.
    pub fn detach(&self) -> std::io::Result<()> {
        match device(&self.at) {
            Some(device) if self.device.as_ref() == Some(&device) => detach(&self.at),
            _ => Ok(()),
        }
    }

    /// Takes it away if it is there still, now that the kernel has closed its connection. (What was mounted there since may have
    /// been given its number, and lives.)
    pub fn clear(&self) -> std::io::Result<()> {
        match is_dead(&self.at) {
            true => self.detach(),
            false => Ok(()),
        }
    }

    /// Breaks its connection off, whether it has a place still or not: who waits for an answer is told that there is none. (Only
    /// where something holds on to the connection: another may have its number afterwards.)
    pub fn abort(&self) {
        if let Some(device) = &self.device {
            abort(device);
        }
    }

    /// The kernel's numbers of all mounts that this process sees: is it this one, or bound to it? One that was detached
    /// has its number still.
    pub fn numbers(&self) -> HashMap<u64, bool> {
        let lines = mount_lines();
        let mut numbers: HashMap<_, _> =
            lines.iter().map(|line| (line.id, self.has(line))).collect();
        numbers.extend(self.ids.iter().map(|id| (*id, true)));
        numbers
    }

    /// Is it this one, or bound to it, where another process is?
    pub fn has_number_for(&self, number: u64, process: u32) -> bool {
        let lines = mount_lines_of(&format!("/proc/{process}/mountinfo"));
        lines.iter().any(|line| line.id == number && self.has(line))
    }

    fn has(&self, line: &MountLine) -> bool {
        self.device.as_ref() == Some(&line.device)
    }
}

/// Is what is mounted there without its daemon? It is asked something that no cache answers.
pub fn is_dead(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: all zeros is a `statfs`.
    let mut told = unsafe { std::mem::zeroed::<libc::statfs>() };
    // SAFETY: both live for the call.
    let done = unsafe { libc::statfs(path.as_ptr(), &raw mut told) };
    let dead = [Some(libc::ENOTCONN), Some(libc::ECONNABORTED)];
    done != 0 && dead.contains(&std::io::Error::last_os_error().raw_os_error())
}

/// Cuts a mount off from its daemon: whoever waits for that is told so (ECONNABORTED). Best effort: the first needs root, the other
/// the connections' own filesystem (fusectl).
pub fn cut_off(path: &Path) {
    let device = device(path);
    if let Ok(target) = CString::new(path.as_os_str().as_bytes()) {
        // It says EBUSY, mostly, and has done it.
        // SAFETY: `target` is a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_FORCE | libc::UMOUNT_NOFOLLOW) };
    }
    if let Some(device) = device {
        abort(&device);
    }
}

fn abort(device: &str) {
    let Some((_, minor)) = device.split_once(':') else {
        return;
    };
    let said = || std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1");
    if said().is_ok() {
        return;
    }
    // Nobody has mounted what shows the connections: for this one word we do.
    let (kind, at) = (c"fusectl".as_ptr(), c"/sys/fs/fuse/connections".as_ptr());
    // SAFETY: strings that live for ever; no data.
    unsafe {
        if libc::mount(kind, at, kind, 0, std::ptr::null()) == 0 {
            let _ = said();
            libc::umount2(at, libc::MNT_DETACH);
        }
    }
}

/// The mount point that holds a path.
#[cfg(test)]
pub fn of_path(path: &Path) -> Option<PathBuf> {
    let lines = mount_lines();
    path.ancestors()
        .find(|a| lines.iter().any(|l| l.target == *a))
        .map(Path::to_path_buf)
}

/// Takes a mount away from everybody, at once: what is open of it fails when its daemon ends.
pub fn detach(path: &Path) -> std::io::Result<()> {
    match unmount(path, Unmounting::Lazily) {
        // Somebody else took it away already.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
        done => done,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounting {
    /// EBUSY when somebody uses it.
    WhenIdle,
    Lazily,
}

/// umount(2), by fusermount3 where we may not.
pub fn unmount(path: &Path, how: Unmounting) -> std::io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
    let (flags, option) = match how {
        Unmounting::WhenIdle => (0, "-uq"),
        Unmounting::Lazily => (libc::MNT_DETACH, "-uzq"),
    };
    // SAFETY: `target` is a C string that outlives the call.
    if unsafe { libc::umount2(target.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EPERM) {
        return Err(error);
    }
    let mut command = std::process::Command::new("fusermount3");
    // Without it, that is: not permitted.
    let Ok(done) = command.args([option, "--"]).arg(path).output() else {
        return Err(error);
    };
    let said = String::from_utf8_lossy(&done.stderr).contains("busy");
    match (done.status.success(), said) {
        (true, _) => Ok(()),
        (false, true) => Err(std::io::Error::from_raw_os_error(libc::EBUSY)),
        (false, false) => Err(error),
    }
}

/// One line for a mount that failed.
pub fn explain(error: &std::io::Error, path: &Path) -> String {
    let shown = path.display();
    let said = error.to_string();
    // fusermount3 ends its lines.
    let said = said.trim();
    let is_of_fusermount = said.contains("fusermount");
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    match error.raw_os_error() {
        _ if opened
            .as_ref()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) =>
        {
            format!(
                "not permitted to mount at {shown}: this user may not open /dev/fuse: chmod 666 /dev/fuse, as most machines have it"
            )
        }
        Some(libc::EPERM | libc::EACCES) => {
            format!(
                "not permitted to mount at {shown}: run as root, or install fuse3 (fusermount3) and own the directory"
            )
        }
        Some(libc::ENOENT) if is_of_fusermount => {
            "fusermount3 is missing: install the package fuse3, or run as root".to_string()
        }
        Some(libc::ENODEV) => "the kernel has no FUSE: load the module (modprobe fuse)".to_string(),
        _ if said.contains("user_allow_other") => format!(
            "not permitted to let others in at {shown}: have user_allow_other in /etc/fuse.conf, or leave allow_other out"
        ),
        _ if said.contains("write access to mountpoint") => {
            format!(
                "not permitted to mount at {shown}: it is somebody else's directory: name one of your own"
            )
        }
        _ => format!("cannot mount at {shown}: {said}"),
    }
}

/// mountinfo writes space, tab, newline and backslash as octal escapes.
pub fn unescape(field: &[u8]) -> OsString {
    let octal = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok();
    let mut out = Vec::new();
    let mut rest = field;
    while let [byte, behind @ ..] = rest {
        let escaped = behind.split_at_checked(3).filter(|_| *byte == b'\\');
        match escaped.and_then(|(digits, behind)| Some((octal(digits)?, behind))) {
            Some((byte, behind)) => {
                out.push(byte);
                rest = behind;
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unfit_mount_point_is_named_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert!(check(&missing, false).unwrap_err().contains("mkdir"));
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(check(&file, false).unwrap_err().contains("not a directory"));
        assert!(
            check(directory.path(), false)
                .unwrap_err()
                .contains("--nonempty")
        );
        assert!(fuse_source(Path::new("/")).is_none());
    }

    #[test]
    fn a_line_tells_whatever_its_names_are() {
        let lines: &[u8] = b"1 0 8:1 / / rw shared:1 - ext4 /dev/a rw
24 1 0:22 / /caf\xe9 rw - tmpfs caf\xe9 rw
25 1 0:23 / /with\\040space\\134 ro,nosuid master:2 - fuse.wholefs s3://a\\040- rw,user_id=0
26 1 0:24 / /cut";
        let lines: Vec<_> = lines.split(|b| *b == b'\n').map(MountLine::of).collect();
        let [Some(first), Some(second), Some(third), None] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!((first.id, &*first.device), (1, "8:1"));
        assert_eq!(second.target.as_os_str().as_bytes(), b"/caf\xe9");
        assert_eq!(third.target, Path::new("/with space\\"));
        assert_eq!((&*third.kind, &*third.source), (OURS, "s3://a -"));
        assert_eq!(third.options, "ro,nosuid,rw,user_id=0");
    }
}
