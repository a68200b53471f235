//! `wholefs unmount`: takes a mount away, and returns when what was closed is in the bucket.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::out::complain;
use super::status::{Place, place};
use super::{Failure, units};
use crate::host::mountpoint::{self, Unmounting};
use crate::host::process;
use crate::journal::{Glimpse, peek};

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs unmount /mnt/backups
  wholefs unmount --lazy /mnt/backups          (although it is used)

umount(8) does the same, and does not wait for the files that were closed last.")]
pub(crate) struct UnmountArguments {
    /// Where it is mounted; or its name
    #[arg(id = "mounted", value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Take it away although it is used: who has files open there goes on until they are closed
    #[arg(long, short = 'l')]
    lazy: bool,
    /// How long to wait for the files that are closed already
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    timeout: Duration,
    /// Where the mount keeps its journal, if it was told
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: UnmountArguments) -> Result<(), Failure> {
    let Place { at, state } = place(&arguments.directory, arguments.state_dir)?;
    let shown = at.display().to_string();
    let Some(source) = mountpoint::source_of_ours(&at) else {
        return Err(
            format!("no mount of wholefs is at {shown}: see findmnt -t fuse.wholefs").into(),
        );
    };
    let how = match arguments.lazy {
        true => Unmounting::Lazily,
        false => Unmounting::WhenIdle,
    };
    let daemons = daemons_of(&state, &at);
    mountpoint::unmount(&at, how).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => busy(&shown, &at),
        Some(libc::EPERM) => format!("not permitted to unmount {shown}: it is another user's"),
        _ => format!("cannot unmount {shown}: {error}"),
    })?;
    if arguments.lazy {
        return Ok(());
    }
    if daemons.is_empty() {
        complain!(
            "{source} is unmounted from {shown}; what was closed last may still be on its way (its journal is not in {}: name its --state-dir to wait for it)",
            state.display()
        );
        return Ok(());
    }
    let began = Instant::now();
    while daemons_of(&state, &at)
        .iter()
        .any(|live| daemons.contains(live))
    {
        if began.elapsed() > arguments.timeout {
            let waited = arguments.timeout;
            return Err(format!(
                "{source} is unmounted from {shown}, and not all of it was in the bucket after {waited:?}: its daemon goes on (see wholefs uploads)"
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The journals of the living daemons that mounted there.
fn daemons_of(state: &Path, at: &Path) -> Vec<PathBuf> {
    let of_it = |seen: &Glimpse| {
        let header = seen.content.as_ref().map(|(header, _)| header);
        seen.live && header.is_ok_and(|header| Path::new(&header.mount_point) == at)
    };
    let seen = peek(state).unwrap_or_default().into_iter();
    seen.filter(of_it).map(|seen| seen.directory).collect()
}

fn busy(shown: &str, at: &Path) -> String {
    const SHOWN: usize = 5;
    let mut users = process::users_of(at);
    users.retain(|(pid, _)| *pid != std::process::id());
    let mut who: Vec<String> = users
        .iter()
        .take(SHOWN)
        .map(|(pid, name)| format!("{name} ({pid})"))
        .collect();
    if users.len() > SHOWN {
        who.push(format!("{} more", users.len() - SHOWN));
    }
    let who = match who.is_empty() {
        true => "by a program that cannot be seen from here".to_string(),
        false => format!("by {}", who.join(", ")),
    };
    format!("{shown} is used {who}: end that, or say --lazy")
}
