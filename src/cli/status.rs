//! `wholefs status`: what the mounts of this machine are doing, once or again and again.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::Failure;
use crate::host::mountpoint;
use crate::journal::{default_state_dir, peek};
use crate::status::{Budget, Snapshot, Writing, ask};

#[derive(Args)]
#[command(after_help = "On a terminal the picture is drawn anew each second, until Ctrl-C.")]
pub(crate) struct StatusArguments {
    /// Of the mount there alone
    directory: Option<PathBuf>,
    /// Say it once
    #[arg(long)]
    once: bool,
    /// Answer in JSON, once: a list of mounts
    #[arg(long)]
    json: bool,
    /// Where the journals are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

const EACH: Duration = Duration::from_secs(1);

/// Files and events shown of a mount; the rest is counted.
const SHOWN: usize = 8;

pub(crate) fn run(arguments: StatusArguments) -> Result<(), Failure> {
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    let at = match &arguments.directory {
        Some(directory) => {
            let shown = directory.display();
            let absolute = mountpoint::absolute(directory);
            Some(absolute.ok_or_else(|| format!("{shown} does not exist"))?)
        }
        None => None,
    };
    let look = || found(&state, at.as_deref());
    if arguments.json {
        let text = serde_json::to_string(&look()?).expect("plain data");
        println!("{text}");
        return Ok(());
    }
    let mut before: Option<(Instant, Vec<Snapshot>)> = None;
    loop {
        let (now, seen) = (Instant::now(), look()?);
        let passed = before.as_ref().map(|(then, _)| now - *then);
        let mut page = String::new();
        for mount in &seen {
            let known = before.iter().flat_map(|(_, mounts)| mounts);
            let earlier = known.into_iter().find(|known| known.pid == mount.pid);
            page.push_str(&picture(mount, earlier.zip(passed)));
        }
        if arguments.once || !std::io::stdout().is_terminal() {
            print!("{page}");
            return Ok(());
        }
        print!("\x1b[H\x1b[2J{page}");
        let _ = std::io::stdout().flush();
        before = Some((now, seen));
        std::thread::sleep(EACH);
    }
}

fn found(state: &Path, at: Option<&Path>) -> Result<Vec<Snapshot>, Failure> {
    let mut mounts = Vec::new();
    for seen in peek(state).map_err(|error| error.to_string())? {
        let header = seen.content.as_ref().map(|(header, _)| header);
        let is_meant = at.is_none_or(|at| header.is_ok_and(|h| Path::new(&h.mount_point) == at));
        if seen.live && is_meant {
            mounts.extend(ask(&seen.directory).ok());
        }
    }
    if mounts.is_empty() {
        let place = at.map_or_else(|| "here".to_string(), |at| format!("at {}", at.display()));
        let line = format!(
            "no mount answers {place} (journals in {}): see findmnt -t fuse.wholefs, or name its --state-dir",
            state.display()
        );
        return Err(line.into());
    }
    mounts.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Ok(mounts)
}

/// A mount in words. `earlier`: what it was, and how long ago.
fn picture(mount: &Snapshot, earlier: Option<(&Snapshot, Duration)>) -> String {
    let rate = |of: fn(&Snapshot) -> u64| {
        let (then, passed) = earlier?;
        let bytes = of(mount).saturating_sub(of(then)) as f64 / passed.as_secs_f64();
        Some(format!(" ({}/s)", bytes_in_words(bytes as u64)))
    };
    let moved =
        |of: fn(&Snapshot) -> u64| bytes_in_words(of(mount)) + &rate(of).unwrap_or_default();
    let attempts: u64 = mount.operations.values().map(|o| o.attempts).sum();
    // That something is not there, or is another version, is an answer.
    let answers = ["Missing", "NoSuchUpload", "Conflict"];
    let failures: u64 = mount
        .operations
        .values()
        .flat_map(|operation| &operation.failures)
        .filter(|(cause, _)| !answers.contains(&cause.as_str()))
        .map(|(_, count)| count)
        .sum();
    let mut lines = vec![
        format!(
            "{} at {}  (process {}, for {})",
            escaped(&mount.source),
            escaped(&mount.mount_point),
            mount.pid,
            time_in_words(mount.up_seconds)
        ),
        format!(
            "  files      {} open, {} being written, {} uploads",
            mount.open_files,
            mount.writing.len(),
            mount.uploads
        ),
        format!("  up         {}", moved(|m| m.bytes_sent)),
        format!("  down       {}", moved(|m| m.bytes_received)),
        format!(
            "  requests   {attempts}, of which {failures} failed (and were repeated, where that helps)"
        ),
        format!(
            "  memory     writing {}, reading {}",
            budget(mount.write_memory),
            budget(mount.read_memory)
        ),
        format!("  spool      {}", budget(mount.spool)),
        format!(
            "  journal    {} open{}",
            mount.journal.open,
            if mount.journal.poisoned {
                ", and cannot be written: look at its disk"
            } else {
                ""
            }
        ),
    ];
    lines.extend(mount.writing.iter().take(SHOWN).map(writing));
    if mount.writing.len() > SHOWN {
        lines.push(format!(
            "  … and {} more files",
            mount.writing.len() - SHOWN
        ));
    }
    let last = mount.events.iter().rev().take(SHOWN).rev();
    lines.extend(last.map(|event| format!("  {}  {}", event.level, escaped(&event.message))));
    lines.join("\n") + "\n"
}

fn writing(file: &Writing) -> String {
    format!(
        "  {:<10} /{}: {}, {} parts in the bucket",
        file.state,
        escaped(&file.key),
        bytes_in_words(file.size),
        file.parts
    )
}

/// Names come from programs, and may hold what a terminal obeys.
fn escaped(name: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(escape).collect()
}

fn budget(budget: Budget) -> String {
    format!(
        "{} of {}",
        bytes_in_words(budget.used),
        bytes_in_words(budget.limit)
    )
}

fn bytes_in_words(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn time_in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!(bytes_in_words(0), "0 B");
        assert_eq!(bytes_in_words(1023), "1023 B");
        assert_eq!(bytes_in_words(1536), "1.5 KiB");
        assert_eq!(bytes_in_words(5 << 40), "5.0 TiB");
        assert_eq!(time_in_words(59), "59 s");
        assert_eq!(time_in_words(3660), "1 h 1 min");
        assert_eq!(time_in_words(200_000), "2 days");
        assert_eq!(escaped("a\x1b[2Jb"), "a\\u{1b}[2Jb");
    }
}
