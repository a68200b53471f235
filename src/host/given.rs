//! A mount that whoever calls us has made himself: he opened /dev/fuse, called mount(2), and names the
//! descriptor as the mount point, `/dev/fd/N`. So can a program that has no right to mount be given one
//! (libfuse's convention since 3.3; `mount.fuse3 -o drop_privileges` does so).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::mountpoint::{self, MountLine};
use super::told::told;

/// Linux: the device numbers of /dev/fuse.
const FUSE: (u32, u32) = (10, 229);

/// The descriptor of a mount that is made already.
#[derive(Clone, Debug)]
pub struct Given {
    descriptor: RawFd,
    /// The mount, where the kernel tells (since 6.16, and in our mount namespace).
    mount: Option<MountLine>,
}

impl Given {
    /// `None`: the path is no descriptor, but a place.
    pub fn at(path: &Path) -> Option<Result<Given, String>> {
        let number = path.to_str()?.strip_prefix("/dev/fd/")?;
        // As libfuse reads it: digits alone.
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| {
            let descriptor = number.parse().ok().filter(|fd| is_dev_fuse(*fd));
            let descriptor = descriptor.ok_or_else(|| {
                format!(
                    "{} is not /dev/fuse, opened and mounted by who calls: name a directory",
                    path.display()
                )
            })?;
            let mount = connection(descriptor).and_then(|device| mountpoint::line_of(&device));
            Ok(Given { descriptor, mount })
        })
    }

    /// Where it is mounted, if that can be known.
    pub fn place(&self) -> Option<&Path> {
        self.mount.as_ref().map(|mount| mount.target.as_path())
    }

    /// What is shown as its source.
    pub fn source(&self) -> Option<&str> {
        self.mount.as_ref().map(|mount| mount.source.as_str())
    }

    /// What was up to who mounted it must be as it is asked for here.
    pub fn check(&self, read_only: bool) -> Result<(), String> {
        let has = |word: &str| {
            let options = self.mount.as_ref().map(|mount| &mount.options);
            options.map(|options| options.split(',').any(|option| option == word))
        };
        if read_only && has("ro") != Some(true) {
            return Err(
                "--read-only is up to who mounts what is given by /dev/fd/N: mount it with ro"
                    .to_string(),
            );
        }
        if has("allow_other") == Some(true) && has("default_permissions") == Some(false) {
            return Err(
                "what is given by /dev/fd/N lets everybody in and checks no permissions: mount it with default_permissions".to_string(),
            );
        }
        Ok(())
    }

    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Takes the descriptor, once.
    pub fn take(&self) -> OwnedFd {
        // SAFETY: it is open (see `at`), was opened for us, and nothing else here closes it.
        unsafe { OwnedFd::from_raw_fd(self.descriptor) }
    }

    /// In a process that is not the one to serve: as long as it had it open, the mount would not die with
    /// the one that is.
    pub fn let_go(&self) {
        drop(self.take());
    }
}

/// Is it one? Then programs we start do not get it.
fn is_dev_fuse(descriptor: RawFd) -> bool {
    // The standard ones are the terminal's.
    if descriptor <= 2 {
        return false;
    }
    // SAFETY: `seen` is written by the call and read only when that went well; F_SETFD takes a number.
    unsafe {
        let mut seen: libc::stat = std::mem::zeroed();
        libc::fstat(descriptor, &mut seen) == 0
            && seen.st_mode & libc::S_IFMT == libc::S_IFCHR
            && (libc::major(seen.st_rdev), libc::minor(seen.st_rdev)) == FUSE
            && libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) == 0
    }
}

/// The device number of what is mounted by a descriptor, as mountinfo writes it.
fn connection(descriptor: RawFd) -> Option<String> {
    let info = told(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    let number = info
        .lines()
        .find_map(|line| line.strip_prefix("fuse_connection:"))?;
    let number: u32 = number.trim().parse().ok()?;
    // The kernel's own form: twenty bits of minor number.
    Some(format!("{}:{}", number >> 20, number & 0xf_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_an_open_dev_fuse_is_taken() {
        for place in ["/mnt", "/dev/fd/", "/dev/fd/x", "/dev/fd/3x", "dev/fd/3"] {
            assert!(Given::at(Path::new(place)).is_none(), "{place}");
        }
        let file = File::open("/dev/null").expect("opened");
        for number in ["0", "99999", "99999999999", &file.as_raw_fd().to_string()] {
            let place = format!("/dev/fd/{number}");
            let given = Given::at(Path::new(&place)).expect("a descriptor");
            let refused = given.expect_err(number);
            assert!(refused.contains("name a directory"), "{refused}");
        }
    }
}
