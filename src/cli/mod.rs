//! The command line: flags parsed once into options, errors in one line, exit codes.
//!
//! 0: done. 1: it could not be done. 2: the command line is wrong. Called by mount(8) they are those of its
//! manual: 1, the call is wrong; 32, the mount failed.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::host;

mod arn;
mod bucket;
mod config;
mod demo;
mod doctor;
mod generate;
mod log;
mod mount;
mod picture;
mod recover;
mod serve;
mod status;
mod store_flags;
mod tuning;
mod units;
mod unmount;
mod uploads;
mod vault;
mod words;

#[derive(Parser)]
#[command(
    name = "wholefs",
    version,
    about = "Mount an object-store bucket as a directory. A file is whole, or it is not there.",
    after_help = "Try it without a bucket:\n  mkdir -p ~/bucket && wholefs demo ~/bucket"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mount a bucket (or a prefix of one) at a directory
    Mount(Box<mount::MountArguments>),
    /// Take a mount away, and wait until what was closed is in the bucket
    #[command(visible_alias = "umount")]
    Unmount(unmount::UnmountArguments),
    /// Show what the mounts of this machine are doing
    Status(status::StatusArguments),
    /// Show or change how much a running mount logs
    Log(log::LogLevelArguments),
    /// End the uploads that dead mounts left open
    Recover(Box<recover::RecoverArguments>),
    /// Show what is being uploaded, and abort what others left behind
    Uploads(Box<uploads::UploadsArguments>),
    /// Look after a Glacier vault's catalogue, and have files brought back
    Vault(Box<vault::VaultArguments>),
    /// Check what a mount needs, of this machine and of a bucket
    Doctor(Box<doctor::DoctorArguments>),
    /// Mount the embedded bucket at a directory, to try things out
    Demo(demo::DemoArguments),
    /// Serve the embedded bucket over S3, for tests and benchmarks
    Bucket(Box<bucket::BucketArguments>),
    /// Print completions for a shell
    Completions(generate::CompletionsArguments),
    /// Write the manual pages
    Man(generate::ManArguments),
}

/// A failure, and the exit code that goes with it.
pub(crate) struct Failure {
    pub code: u8,
    pub line: String,
}

impl Failure {
    pub(crate) fn usage(line: impl Into<String>) -> Failure {
        Failure {
            code: 2,
            line: line.into(),
        }
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Failure {
        Failure { code: 1, line }
    }
}

pub fn main() -> ExitCode {
    host::nss::use_what_is_linked_in();
    host::ensure_home();
    let given: Vec<_> = std::env::args_os().collect();
    let by_mount = words::is_called_by_mount(&given);
    match (run(given), by_mount) {
        (0, _) => ExitCode::SUCCESS,
        (2, true) => ExitCode::from(1),
        (_, true) => ExitCode::from(32),
        (code, false) => ExitCode::from(code),
    }
}

fn run(given: Vec<OsString>) -> u8 {
    let given = match words::in_our_form(given) {
        Ok(given) => given,
        Err(failure) => return failed(&failure),
    };
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match arguments.command {
        Command::Mount(arguments) => mount(*arguments, given),
        Command::Unmount(arguments) => unmount::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Recover(arguments) => recover::run(*arguments),
        Command::Uploads(arguments) => uploads::run(*arguments),
        Command::Vault(arguments) => vault::run(*arguments),
        Command::Doctor(arguments) => doctor::run(*arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bucket(arguments) => bucket::run(*arguments),
        Command::Completions(arguments) => generate::completions(arguments),
        Command::Man(arguments) => generate::man(arguments),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => failed(&failure),
    }
}

/// The flags of a named mount are as if they had been given, but for those that were.
fn mount(arguments: mount::MountArguments, given: Vec<OsString>) -> Result<(), Failure> {
    if arguments.source.contains("://") {
        return mount::run(arguments, None);
    }
    let named = config::named(&arguments.source, arguments.config.as_deref())?;
    let name_of = |flag: &str| flag.split('=').next().unwrap_or_default().to_string();
    let said: Vec<String> = given
        .iter()
        .map(|arg| name_of(&arg.to_string_lossy()))
        .collect();
    let flags = named
        .flags
        .iter()
        .filter(|flag| !said.contains(&name_of(flag)));
    let (program, theirs) = given.split_at(2);
    let all = program.iter().cloned();
    let all = all
        .chain(flags.map(OsString::from))
        .chain(theirs.iter().cloned());
    match Arguments::try_parse_from(all) {
        Ok(Arguments {
            command: Command::Mount(arguments),
        }) => mount::run(*arguments, Some(named)),
        Ok(_) => unreachable!("it was a mount before"),
        Err(error) => Err(Failure::usage(in_one_line(&error))),
    }
}

fn failed(failure: &Failure) -> u8 {
    eprintln!("wholefs: {}", failure.line);
    failure.code
}

/// Help goes out as it is; an error becomes one line.
fn usage(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
        }
        _ => {
            eprintln!("wholefs: {}", in_one_line(error));
            2
        }
    }
}

fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(|line| line.trim().trim_start_matches("error: "))
        .filter(|line| !line.is_empty())
        .collect();
    format!("{} (see wholefs --help)", said.join("; "))
}
