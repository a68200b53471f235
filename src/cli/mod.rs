//! The command line: flags parsed once into options, errors in one line, exit codes.
//!
//! 0: done. 1: it could not be done. 2: the command line is wrong.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

mod bucket;
mod demo;
mod mount;
mod recover;
mod serve;
mod store_flags;
mod tuning;
mod units;
mod uploads;

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
    /// End the uploads that dead mounts left open
    Recover(Box<recover::RecoverArguments>),
    /// Show what is being uploaded, and abort what others left behind
    Uploads(Box<uploads::UploadsArguments>),
    /// Mount the embedded bucket at a directory, to try things out
    Demo(demo::DemoArguments),
    /// Serve the embedded bucket over S3, for tests and benchmarks
    Bucket(Box<bucket::BucketArguments>),
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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match arguments.command {
        Command::Mount(arguments) => mount::run(*arguments),
        Command::Recover(arguments) => recover::run(*arguments),
        Command::Uploads(arguments) => uploads::run(*arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bucket(arguments) => bucket::run(*arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wholefs: {}", failure.line);
            ExitCode::from(failure.code)
        }
    }
}

/// Help goes out as it is; an error becomes one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let text = error.render().to_string();
            let said: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .map(|line| line.trim().trim_start_matches("error: "))
                .filter(|line| !line.is_empty())
                .collect();
            eprintln!("wholefs: {} (see wholefs --help)", said.join("; "));
            ExitCode::from(2)
        }
    }
}
