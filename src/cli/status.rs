//! `wholefs status`: what the mounts of this machine are doing, once or again and again.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::config;
use super::mount::block_on;
use super::out::{complain, print_json, say};
use super::picture::{View, beginning_of, picture};
use crate::host::mountpoint;
use crate::journal::{Header, default_state_dir, peek};
use crate::status::{Snapshot, ask};

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs status
  wholefs status --json /mnt/backups | jq '.[0].uploads'

On a terminal the table is drawn anew each second, until Ctrl-C.")]
pub(crate) struct StatusArguments {
    /// Of the mount there alone; or of one by its name
    #[arg(id = "mounted", value_name = "DIRECTORY")]
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
    let (at, state) = match &arguments.directory {
        None => (None, arguments.state_dir.unwrap_or_else(default_state_dir)),
        Some(directory) => {
            let place = place(directory, arguments.state_dir)?;
            (Some(place.at), place.state)
        }
    };
    let look = || look(&state, at.as_deref());
    if arguments.json {
        let seen = look()?;
        seen.silent.iter().for_each(|line| complain!("{line}"));
        print_json(&seen.answers);
        return Ok(());
    }
    let obeys = std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
    let lines = match arguments.once || !obeys || !std::io::stdout().is_terminal() {
        true => drawn(&look()?, None, None),
        false => block_on(watch(look))?,
    };
    say!("{}", lines.join("\n"));
    Ok(())
}

/// Draws until it is told to end; answers what was drawn last.
async fn watch(look: impl Fn() -> Result<Seen, Failure>) -> Result<Vec<String>, Failure> {
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
        screen.show(&lines, width, height);
        tokio::select! {
            () = tokio::time::sleep(EACH) => {
                // A mount may come back: it is waited for.
                let next = look().unwrap_or_else(|none| Seen {
                    answers: Vec::new(),
                    silent: vec![none.line],
                });
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

/// The mounts one below the other, and what is to be said of those that do not answer.
fn drawn(seen: &Seen, before: Option<&(Seen, Duration)>, width: Option<usize>) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut pictures = Vec::new();
    for mount in &seen.answers {
        let earlier = before.and_then(|(seen, passed)| {
            let known = seen.answers.iter().find(|known| known.pid == mount.pid)?;
            Some((known, *passed))
        });
        let view = View {
            earlier,
            now: now.as_ref().map_or(0, Duration::as_secs),
            width,
        };
        pictures.push(picture(mount, view));
    }
    let silent = seen.silent.iter();
    pictures.extend(silent.map(|line| vec![beginning_of(line.clone(), width)]));
    pictures.join(&String::new())
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
    fn show(&self, lines: &[String], width: usize, height: usize) {
        let mut shown: Vec<&str> = lines.iter().take(height).map(String::as_str).collect();
        let more = lines.len().saturating_sub(height) + 1;
        let more = beginning_of(format!("… {more} lines more"), Some(width));
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

/// A mount, as a command was told which one.
pub(super) struct Place {
    /// Where it is.
    pub at: PathBuf,
    /// Where its journal is.
    pub state: PathBuf,
}

/// By its directory, or by its name in the configuration file, which may say where its journal is as well.
pub(super) fn place(said: &Path, state_dir: Option<PathBuf>) -> Result<Place, Failure> {
    let named = config::called(said);
    let directory = named.as_ref().and_then(|named| named.directory.as_deref());
    let directory = directory.unwrap_or(said);
    let at = mountpoint::absolute(directory);
    let of_its_own = named
        .as_ref()
        .and_then(|named| named.value_of("--state-dir"));
    Ok(Place {
        at: at.ok_or_else(|| format!("{} does not exist", directory.display()))?,
        state: state_dir
            .or_else(|| of_its_own.map(PathBuf::from))
            .unwrap_or_else(default_state_dir),
    })
}

/// What mounts answered, and a line for each that does not.
pub(super) struct Heard<T> {
    pub answers: Vec<T>,
    pub silent: Vec<String>,
}

type Seen = Heard<Snapshot>;

fn look(state: &Path, at: Option<&Path>) -> Result<Seen, Failure> {
    let mut seen = living(state, at, ask)?;
    seen.answers
        .sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    Ok(seen)
}

/// What the living mounts below a state directory (or the one at a place) answer to a question.
pub(super) fn living<T>(
    state: &Path,
    at: Option<&Path>,
    question: impl Fn(&Path) -> io::Result<T>,
) -> Result<Heard<T>, Failure> {
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for seen in peek(state).map_err(|error| error.to_string())? {
        let Ok((header, _)) = &seen.content else {
            continue;
        };
        let is_meant = at.is_none_or(|at| Path::new(&header.mount_point) == at);
        if !seen.live || !is_meant {
            continue;
        }
        match question(&seen.directory) {
            Ok(answer) => answers.push(answer),
            // It has just begun, or is just ending.
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {}
            Err(error) => silent.push(does_not_answer(header, &error)),
        }
    }
    match (answers.is_empty(), silent.is_empty()) {
        (true, true) => {
            let place = at.map_or_else(|| "here".to_string(), |at| format!("at {}", at.display()));
            Err(Failure::from(format!(
                "no mount answers {place} (journals in {}): see findmnt -t fuse.wholefs, or name its --state-dir",
                state.display()
            )))
        }
        (true, false) => Err(Failure::from(silent.join("; "))),
        (false, _) => Ok(Heard { answers, silent }),
    }
}

fn does_not_answer(header: &Header, error: &io::Error) -> String {
    let (at, pid) = (&header.mount_point, header.pid);
    let why = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "it is stopped, or very busy, or hangs".to_string()
        }
        _ => format!("its answer is not understood: {error}: it may be of another version"),
    };
    format!("the mount at {at} (process {pid}) does not answer: {why}")
}
