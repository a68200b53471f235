//! `wholefs status`: what the mounts of this machine are doing, once or again and again.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::mount::block_on;
use super::picture::{View, picture};
use crate::host::mountpoint;
use crate::journal::{default_state_dir, peek};
use crate::status::{Snapshot, ask};

#[derive(Args)]
#[command(after_help = "On a terminal the table is drawn anew each second, until Ctrl-C.")]
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

pub(crate) fn run(arguments: StatusArguments) -> Result<(), Failure> {
    let state = arguments.state_dir.unwrap_or_else(default_state_dir);
    let at = arguments.directory.as_deref().map(place).transpose()?;
    let look = || look(&state, at.as_deref());
    if arguments.json {
        let text = serde_json::to_string(&look()?).expect("plain data");
        println!("{text}");
        return Ok(());
    }
    let obeys = std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
    if arguments.once || !obeys || !std::io::stdout().is_terminal() {
        return say(&drawn(&look()?, None, None));
    }
    let last = block_on(watch(look))?;
    say(&last)
}

/// The pipe may be closed: who closed it has read enough.
fn say(lines: &[String]) -> Result<(), Failure> {
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    Ok(())
}

/// Draws until it is told to end; answers what was drawn last.
async fn watch(look: impl Fn() -> Result<Vec<Snapshot>, Failure>) -> Result<Vec<String>, Failure> {
    let heard = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let mut resized = heard(SignalKind::window_change())?;
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut terminate = heard(SignalKind::terminate())?;
    let mut now = look()?;
    let mut seen_at = Instant::now();
    let mut before = None;
    let screen = Screen::take();
    loop {
        let (width, height) = size();
        let lines = drawn(&now, before.as_ref(), Some(width));
        screen.show(&lines, height);
        tokio::select! {
            () = tokio::time::sleep(EACH) => {
                let next = look()?;
                let at = Instant::now();
                before = Some((std::mem::replace(&mut now, next), at - seen_at));
                seen_at = at;
            }
            _ = resized.recv() => {}
            _ = interrupt.recv() => return Ok(lines),
            _ = terminate.recv() => return Ok(lines),
        }
    }
}

fn drawn(
    mounts: &[Snapshot],
    before: Option<&(Vec<Snapshot>, Duration)>,
    width: Option<usize>,
) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut lines = Vec::new();
    for mount in mounts {
        let earlier = before.and_then(|(mounts, passed)| {
            let known = mounts.iter().find(|known| known.pid == mount.pid)?;
            Some((known, *passed))
        });
        let view = View {
            earlier,
            now: now.as_ref().map_or(0, Duration::as_secs),
            width,
        };
        lines.extend(picture(mount, view));
    }
    lines
}

/// Columns and lines.
fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or((80, 24), |(width, height)| {
        (width.0.into(), height.0.into())
    })
}

/// The terminal's other page, so that what was there comes back.
struct Screen;

impl Screen {
    fn take() -> Screen {
        send("\x1b[?1049h\x1b[?25l");
        Screen
    }

    /// Over what is there, and at once (where the terminal knows of that): so nothing flickers.
    fn show(&self, lines: &[String], height: usize) {
        let mut shown: Vec<&str> = lines.iter().take(height).map(String::as_str).collect();
        let more = format!("… {} lines more", lines.len().saturating_sub(height) + 1);
        if lines.len() > height
            && let Some(last) = shown.last_mut()
        {
            *last = &more;
        }
        let page = shown.join("\x1b[K\n");
        send(&format!("\x1b[?2026h\x1b[H{page}\x1b[K\x1b[J\x1b[?2026l"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        send("\x1b[?25h\x1b[?1049l");
    }
}

fn send(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A directory that was named, as mounts call it.
pub(super) fn place(directory: &Path) -> Result<PathBuf, Failure> {
    let shown = directory.display();
    let absolute = mountpoint::absolute(directory);
    Ok(absolute.ok_or_else(|| format!("{shown} does not exist"))?)
}

fn look(state: &Path, at: Option<&Path>) -> Result<Vec<Snapshot>, Failure> {
    let mut mounts = living(state, at, ask)?;
    mounts.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Ok(mounts)
}

/// What the living mounts below a state directory (or the one at a place) answer to a question.
pub(super) fn living<T>(
    state: &Path,
    at: Option<&Path>,
    question: impl Fn(&Path) -> std::io::Result<T>,
) -> Result<Vec<T>, Failure> {
    let mut answers = Vec::new();
    for seen in peek(state).map_err(|error| error.to_string())? {
        let header = seen.content.as_ref().map(|(header, _)| header);
        let is_meant = at.is_none_or(|at| header.is_ok_and(|h| Path::new(&h.mount_point) == at));
        if seen.live && is_meant {
            answers.extend(question(&seen.directory).ok());
        }
    }
    if answers.is_empty() {
        let place = at.map_or_else(|| "here".to_string(), |at| format!("at {}", at.display()));
        let line = format!(
            "no mount answers {place} (journals in {}): see findmnt -t fuse.wholefs, or name its --state-dir",
            state.display()
        );
        return Err(line.into());
    }
    Ok(answers)
}
