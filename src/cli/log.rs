//! Where the log goes, and in which form: to the terminal in the foreground, to a file, or to the
//! machine's own (systemd's journal, else syslog) in the background. `wholefs log` changes how much of it
//! a running mount writes.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::out::{complain, say};
use super::status::{living, place};
use super::{Failure, lasting_path};
use crate::host::hearer::Stderr;
use crate::host::journald::Journald;
use crate::shown::InJson;
use crate::status::{Recent, Unrepeated, ask_level, changeable, fields, said};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log and metrics")]
pub(super) struct LogArguments {
    /// Append it to this file (else it goes to the journal or to syslog, in the foreground to the terminal)
    #[arg(long, value_name = "FILE", value_parser = lasting_path())]
    log_file: Option<PathBuf>,
    /// How a line of it is written, to a file or a terminal
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    log_format: Form,
    /// How much is told
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Info)]
    log_level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs log /mnt/backups                     (how much is it now?)
  wholefs log /mnt/backups debug
  wholefs log /mnt/backups usual")]
pub(crate) struct LogLevelArguments {
    /// Where it is mounted; or its name
    #[arg(id = "mounted", value_name = "DIRECTORY")]
    directory: PathBuf,
    /// What to log from now on; usual: what it was told when it began
    #[arg(value_parser = ["error", "warn", "info", "debug", "trace", "usual"])]
    level: Option<String>,
    /// Where the mount keeps its journal, if it was told
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: LogLevelArguments) -> Result<(), Failure> {
    let place = place(&arguments.directory, arguments.state_dir)?;
    let level = arguments.level.as_deref();
    let heard = living(&place.state, Some(&place.at), |mount| {
        ask_level(mount, level)
    })?;
    heard.silent.iter().for_each(|line| complain!("{line}"));
    for answer in heard.answers {
        say!("{}", answer?);
    }
    Ok(())
}

type Output = Box<dyn Layer<Registry> + Send + Sync>;

impl LogArguments {
    /// Can it be written? Asked while there is still somebody to hear the answer.
    pub(super) fn check(&self) -> Result<(), String> {
        filter("info")?;
        self.log_file
            .as_deref()
            .map_or(Ok(()), |path| opened(path).map(drop))
    }

    /// The log of a guardian is its next daemon's as well: started already, it goes on.
    pub(super) fn start(&self, foreground: bool) -> Result<(), String> {
        let output = match &self.log_file {
            Some(path) => {
                let followed = Followed {
                    path: path.clone(),
                    file: opened(path)?,
                };
                lines(self.log_format, Mutex::new(followed), false)
            }
            None if foreground => {
                let to = Mutex::<Stderr>::default();
                lines(self.log_format, to, io::stderr().is_terminal())
            }
            None => of_the_machine(),
        };
        let level = self.log_level.to_possible_value();
        start(
            output,
            level.as_ref().map_or("info", |level| level.get_name()),
        )
    }
}

/// A log file whose name may be given to another one: whoever turns logs over tells nobody.
struct Followed {
    path: PathBuf,
    file: File,
}

impl Followed {
    fn is_there(&self) -> io::Result<bool> {
        let named = fs::metadata(&self.path)?;
        let open = self.file.metadata()?;
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }
}

impl Write for Followed {
    /// Of each line once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.is_there().unwrap_or(false)
            && let Ok(file) = opened(&self.path)
        {
            self.file = file;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Of a command that ends with its work.
pub(super) fn start_on_terminal() -> Result<(), String> {
    let color = io::stderr().is_terminal();
    start(lines(Form::Text, io::stderr, color), "info")
}

const VARIABLE: &str = "WHOLEFS_LOG";

/// What of it is written: `WHOLEFS_LOG` takes tracing's filter syntax, and wins.
fn filter(level: &str) -> Result<EnvFilter, String> {
    match std::env::var(VARIABLE) {
        Ok(said) if !said.is_empty() => EnvFilter::try_new(&said).map_err(|error| {
            format!("{VARIABLE}={said} is no filter of the log (like debug, or wholefs::upload=trace): {error}")
        }),
        _ => Ok(EnvFilter::new(format!("wholefs={level}"))),
    }
}

fn start(output: Output, level: &str) -> Result<(), String> {
    let output = Unrepeated(output).with_filter(changeable(filter(level)?));
    let recent = Recent.with_filter(Targets::new().with_target("wholefs", LevelFilter::WARN));
    // Started before it goes on as it is.
    let _ = Registry::default().with(output).with(recent).try_init();
    Ok(())
}

fn opened(path: &Path) -> Result<File, String> {
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|e| format!("the log file {} cannot be written: {e}", path.display()))
}

fn lines<W>(form: Form, to: W, color: bool) -> Output
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_target(false).with_writer(to);
    match form {
        Form::Text => layer.fmt_fields(fields()).with_ansi(color).boxed(),
        Form::Json => {
            let layer = layer.json().flatten_event(true);
            layer.map_event_format(EscapedJson).boxed()
        }
    }
}

/// JSON that a terminal does not obey either.
struct EscapedJson<F>(F);

impl<S, N, F> FormatEvent<S, N> for EscapedJson<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writeln!(to, "{}", InJson(line.trim_end()))
    }
}

fn of_the_machine() -> Output {
    if let Ok(journald) = Journald::find() {
        return ToJournald(journald).boxed();
    }
    let options = syslog_tracing::Options::LOG_PID;
    match syslog_tracing::Syslog::new(c"wholefs", options, syslog_tracing::Facility::Daemon) {
        // It has times and levels of its own.
        Some(syslog) => {
            let layer = fmt::layer()
                .fmt_fields(fields())
                .with_target(false)
                .with_ansi(false)
                .without_time();
            layer.with_level(false).with_writer(syslog).boxed()
        }
        None => fmt::layer().with_writer(std::io::sink).boxed(),
    }
}

struct ToJournald(Journald);

impl<S: tracing::Subscriber> Layer<S> for ToJournald {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            _ => 7,
        };
        let place = (
            metadata.file().unwrap_or_default(),
            metadata.line().unwrap_or_default(),
        );
        // There is nobody else to tell.
        self.0.tell(priority, &said(event), place);
    }
}
