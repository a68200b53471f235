//! The flags about files, memory and disk, checked and turned into a mount's settings.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::serve::{Cache, Settings};
use super::{Failure, lasting_path, units};
use crate::draft::SpoolSpace;
use crate::fs::Options as FsOptions;
use crate::fuse::MountOptions;
use crate::host;
use crate::read::Room;
use crate::status::Address;
use crate::upload::Doubts;

#[derive(Args)]
#[command(next_help_heading = "Files")]
pub(super) struct TuningArguments {
    /// Let other users in
    #[arg(long)]
    pub allow_other: bool,
    /// Owner of all files, whatever is said of them (default: who made them; of what nothing is said of, who mounts)
    #[arg(long, value_name = "USER", value_parser = host::user)]
    pub uid: Option<u32>,
    /// Group of all files, likewise
    #[arg(long, value_name = "GROUP", value_parser = host::group)]
    pub gid: Option<u32>,
    /// Permissions taken from files of which nothing is said
    #[arg(long, value_name = "MODE", default_value = "022", value_parser = units::octal)]
    pub umask: u32,
    /// Modes, owners and times: kept with each object, as s3fs does, and asked for of each file that is listed (full), in
    /// large directories only where a sample of the files has any (auto); or plain objects (none)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Keep::Auto)]
    pub metadata: Keep,
    /// Keep extended attributes (user.*) with the objects; `ls -l` asks for them of each file
    #[arg(long)]
    pub xattrs: bool,
    /// For how long names and sizes are believed before the store is asked again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub metadata_ttl: Duration,
    /// Which deaths of a writer give up its file: by a signal, or also by a failure exit
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = AbortOn::Signal)]
    pub abort_on: AbortOn,
    /// What a commit does when somebody else changed the object meanwhile
    #[arg(long, value_name = "HOW", value_enum, default_value_t = OnConflict::Overwrite)]
    pub on_conflict: OnConflict,
    /// Ask for the restore of a file in an archive (GLACIER, DEEP_ARCHIVE) when somebody opens it, for so many days
    #[arg(long, value_name = "DAYS", num_args = 0..=1, require_equals = true, default_missing_value = "7", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub restore_archived: Option<u32>,

    /// Size of the first parts of a large file
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = units::size, help_heading = "Memory and disk")]
    pub part_size: u64,
    /// Memory for everything that is being written; writers wait beyond it
    #[arg(long, value_name = "SIZE", default_value = "320M", value_parser = units::size, help_heading = "Memory and disk")]
    pub write_memory: u64,
    /// Memory for what is read ahead
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = units::size, help_heading = "Memory and disk")]
    pub read_memory: u64,
    /// Keep what was read in this directory, for the next time and the next mount (it is checked when it is read)
    #[arg(long, value_name = "DIR", value_parser = lasting_path(), help_heading = "Memory and disk")]
    pub cache: Option<PathBuf>,
    /// How much of that directory's disk the cache may take (default: half of what is free without it)
    #[arg(long, value_name = "SIZE", value_parser = units::size, requires = "cache", help_heading = "Memory and disk")]
    pub cache_size: Option<u64>,
    /// Where files that are not written front to back wait for their commit
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/tmp",
        value_parser = lasting_path(),
        help_heading = "Memory and disk"
    )]
    pub spool_dir: PathBuf,
    /// How much of that directory's disk they may take (default: half of what is free)
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Memory and disk")]
    pub spool_limit: Option<u64>,
    /// Parts on their way to the store at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Memory and disk")]
    pub upload_concurrency: u16,
    /// How long the end of the mount may take to finish closed files and to abort open ones
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, help_heading = "Its end, and crashes")]
    pub shutdown_timeout: Duration,
    /// Serve metrics for Prometheus there: 127.0.0.1:PORT, or a socket's absolute path
    #[arg(long, value_name = "ADDRESS", help_heading = "Log and metrics")]
    pub metrics_listen: Option<Address>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AbortOn {
    Signal,
    Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Keep {
    Auto,
    Full,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnConflict {
    Overwrite,
    Fail,
}

/// Below this, not even one part could be filled while another is sent.
const WRITE_MEMORY_MIN: u64 = 64 << 20;

impl TuningArguments {
    pub(super) fn settings(
        &self,
        mount_point: PathBuf,
        mount: MountOptions,
    ) -> Result<Settings, Failure> {
        if self.write_memory < WRITE_MEMORY_MIN {
            return Err(Failure::usage(
                "--write-memory is too small: give at least 64M",
            ));
        }
        if self.part_size > self.write_memory / 4 {
            return Err(Failure::usage(
                "--part-size is larger than a quarter of --write-memory: lower it, or raise --write-memory",
            ));
        }
        if self.part_size < 5 << 20 {
            return Err(Failure::usage(
                "--part-size is below the 5M that stores take: raise it",
            ));
        }
        for (flag, directory) in [
            ("--spool-dir", Some(&self.spool_dir)),
            ("--cache", self.cache.as_ref()),
        ] {
            if let Some(directory) = directory {
                assert_outside(flag, directory, &mount_point)?;
            }
        }
        let free = free_space(&self.spool_dir).map_err(|e| {
            format!(
                "the spool directory {} cannot be used: {e}: name another with --spool-dir",
                self.spool_dir.display()
            )
        })?;
        let spool_limit = self.spool_limit.unwrap_or(free / 2);
        SpoolSpace::probe(&self.spool_dir).map_err(|e| {
            format!(
                "the spool directory {} cannot be written: {e}: name another with --spool-dir",
                self.spool_dir.display()
            )
        })?;
        let cache = match &self.cache {
            None => None,
            Some(directory) => Some(Cache {
                directory: directory.clone(),
                room: self.room(directory)?,
            }),
        };
        // SAFETY: these calls cannot fail and take nothing.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        Ok(Settings {
            fs: FsOptions {
                metadata_ttl: self.metadata_ttl,
                uid: self.uid.unwrap_or(uid),
                gid: self.gid.unwrap_or(gid),
                umask: self.umask,
                owner: self.uid,
                group: self.gid,
                keeps_metadata: self.metadata != Keep::None,
                trusts_listings: self.metadata == Keep::Auto,
                mount_point: mount_point.clone(),
                abort_on_failure: self.abort_on == AbortOn::Failure,
                fail_on_conflict: self.on_conflict == OnConflict::Fail,
                restore_archived: self.restore_archived,
                read: Default::default(),
            },
            mount_point,
            mount,
            part_size: self.part_size,
            write_memory: self.write_memory,
            read_memory: self.read_memory,
            cache,
            spool_directory: self.spool_dir.clone(),
            spool_limit,
            upload_concurrency: usize::from(self.upload_concurrency),
            shutdown_timeout: self.shutdown_timeout,
            metrics: self.metrics_listen.clone(),
            doubts: Doubts::default(),
        })
    }

    fn room(&self, directory: &Path) -> Result<Room, Failure> {
        let usable = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| free_space(directory));
        let free = usable.map_err(|e| {
            format!(
                "the cache directory {} cannot be used: {e}: name another with --cache",
                directory.display()
            )
        })?;
        Ok(self.cache_size.map_or(Room::HalfOf { free }, Room::Bytes))
    }
}

/// What a mount keeps for itself is not to be had through that mount, which would wait for itself.
pub(super) fn assert_outside(
    flag: &str,
    directory: &Path,
    mount_point: &Path,
) -> Result<(), Failure> {
    let (Ok(directory), Ok(at)) = (std::path::absolute(directory), mount_point.canonicalize())
    else {
        return Ok(());
    };
    // As much of it as is there.
    let there = directory
        .ancestors()
        .find_map(|above| above.canonicalize().ok());
    match there.is_some_and(|there| there.starts_with(&at)) {
        true => Err(Failure::usage(format!(
            "{} is to be covered by the mount: name a directory elsewhere with {flag}",
            directory.display()
        ))),
        false => Ok(()),
    }
}

fn free_space(directory: &Path) -> std::io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path =
        std::ffi::CString::new(directory.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a C string and `stat` has room for the answer, which is read only on success.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: filled by the call above.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail * stat.f_frsize)
}
