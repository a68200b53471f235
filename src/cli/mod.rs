//! The command line: flags parsed once into options, errors in one line, exit codes.
//!
//! 0: done. 1: it could not be done. 2: the command line is wrong. Called by mount(8) they are those of its
//! manual: 1, the call is wrong; 32, the mount failed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use self::out::complain;
use crate::host;
use crate::shown::Shown;

mod arn;
mod bucket;
mod complete;
mod config;
mod demo;
mod doctor;
mod generate;
mod log;
mod manual;
mod mount;
mod out;
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

/// A path that a mount goes on using: it means the same when the mount has gone into the background, which is
/// in another directory.
fn lasting_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

#[derive(Parser)]
#[command(
    name = "wholefs",
    version,
    about = "Mount an object-store bucket as a directory. A file is whole, or it is not there.",
    after_help = "Examples:
  wholefs demo ~/bucket                        (try it without a bucket)
  wholefs mount s3://backups /mnt/backups
  wholefs doctor s3://backups                  (what is in the way of that?)
  wholefs status                               (what is it doing?)
  wholefs unmount /mnt/backups

Exit status: 0, it is done; 1, it could not be done, and one line says what, why, and what to do; 2, the command
line is wrong. Called by mount(8): 32, the mount failed; 1, the call was wrong."
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
    /// What the word under the cursor could become: for completions
    #[command(hide = true)]
    Complete(complete::CompleteArguments),
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
        Err(error) => return usage(&error, &given),
    };
    let done = match arguments.command {
        Command::Mount(arguments) => mount(*arguments, given),
        Command::Unmount(arguments) => unmount::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Recover(arguments) => recover::run(*arguments),
        Command::Uploads(arguments) => uploads::run(*arguments),
        Command::Vault(arguments) => vault::run(*arguments),
        Command::Doctor(arguments) => doctor(*arguments, given),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bucket(arguments) => bucket::run(*arguments),
        Command::Completions(arguments) => generate::completions(arguments),
        Command::Man(arguments) => generate::man(arguments),
        Command::Complete(arguments) => complete::run(arguments),
    };
    match done.and_then(|()| out::result()) {
        Ok(()) => 0,
        Err(failure) => failed(&failure),
    }
}

fn mount(arguments: mount::MountArguments, given: Vec<OsString>) -> Result<(), Failure> {
    if arguments.source.contains("://") {
        config::is_not_meant(arguments.config.as_deref(), Some(&arguments.source))?;
        return mount::run(arguments, None);
    }
    let named = config::named(&arguments.source, arguments.config.as_deref())?;
    match with_flags_of(&named, &given)? {
        Command::Mount(arguments) => mount::run(*arguments, Some(named)),
        _ => unreachable!("it was a mount before"),
    }
}

fn doctor(arguments: doctor::DoctorArguments, given: Vec<OsString>) -> Result<(), Failure> {
    let name = arguments.source.as_deref();
    let Some(name) = name.filter(|source| !source.contains("://")) else {
        config::is_not_meant(arguments.config.as_deref(), name)?;
        return doctor::run(arguments);
    };
    let named = config::named(name, arguments.config.as_deref())?;
    match with_flags_of(&named, &given)? {
        Command::Doctor(mut arguments) => {
            arguments.source = Some(named.source);
            doctor::run(*arguments)
        }
        _ => unreachable!("it was the doctor before"),
    }
}

/// The command again, with the flags of a named mount as if they had been given, but for those that were; and but
/// for those that this command has not.
fn with_flags_of(named: &config::Named, given: &[OsString]) -> Result<Command, Failure> {
    let name_of = |flag: &str| flag.split('=').next().unwrap_or_default().to_string();
    let said: Vec<String> = given
        .iter()
        .map(|arg| name_of(&arg.to_string_lossy()))
        .collect();
    let all = Arguments::command();
    let command = given
        .get(1)
        .and_then(|command| all.find_subcommand(command));
    let longs = command
        .into_iter()
        .flat_map(|command| command.get_arguments());
    let known: Vec<String> = longs
        .filter_map(|flag| Some(format!("--{}", flag.get_long()?)))
        .collect();
    let added = named.flags.iter().filter(|flag| {
        let name = name_of(flag);
        known.contains(&name) && !said.contains(&name)
    });
    let (program, theirs) = given.split_at(2);
    let program = program.iter().cloned();
    let all = program
        .chain(added.map(OsString::from))
        .chain(theirs.iter().cloned());
    match Arguments::try_parse_from(all) {
        Ok(arguments) => Ok(arguments.command),
        // What was given was right by itself.
        Err(error) => {
            let wrong = in_one_line(&error, given);
            Err(Failure::usage(format!("{}: {wrong}", named.told)))
        }
    }
}

fn failed(failure: &Failure) -> u8 {
    complain!("{}", Shown(without_numbers(&failure.line)));
    failure.code
}

/// The numbers of errors, which their words tell already.
fn without_numbers(line: &str) -> String {
    let mut parts = line.split(" (os error ");
    let mut told = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.split_once(')') {
            Some((_, rest)) => told += rest,
            None => told = format!("{told} (os error {part}"),
        }
    }
    told
}

/// Help goes out as it is; an error becomes one line.
fn usage(error: &clap::Error, given: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
        }
        _ => failed(&Failure::usage(in_one_line(error, given))),
    }
}

fn in_one_line(error: &clap::Error, given: &[OsString]) -> String {
    let text = error.render().to_string();
    let said = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(|line| line.trim().trim_start_matches("error: "))
        .filter(|line| !line.is_empty());
    let mut line = String::new();
    for part in said {
        if !line.is_empty() {
            line += if line.ends_with(':') { " " } else { "; " };
        }
        line += part;
    }
    format!("{line} (see {} --help)", command_of(given))
}

/// The command that was meant, as it is called: `wholefs uploads abort`.
fn command_of(given: &[OsString]) -> String {
    let all = Arguments::command();
    let (mut command, mut called) = (&all, "wholefs".to_string());
    for word in given.iter().skip(1) {
        let Some(further) = command.find_subcommand(word) else {
            break;
        };
        called = format!("{called} {}", further.get_name());
        command = further;
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(given: &[&str]) -> String {
        let given: Vec<OsString> = given.iter().map(OsString::from).collect();
        let refused = Arguments::try_parse_from(&given).err();
        in_one_line(&refused.expect("it is wrong"), &given)
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_and_whose_help_helps() {
        for (given, expected) in [
            (
                &["wholefs", "mount"][..],
                "the following required arguments were not provided: <SOURCE> (see wholefs mount --help)",
            ),
            (
                &["wholefs", "uploads", "abort", "--yess", "s3://b", "x"],
                "(see wholefs uploads abort --help)",
            ),
            (&["wholefs", "mont"], "unrecognized subcommand 'mont'; tip:"),
        ] {
            let told = told(given);
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn the_numbers_of_errors_are_left_out() {
        let told = without_numbers("/x: No such file (os error 2): make it (os error 13)");
        assert_eq!(told, "/x: No such file: make it");
        assert_eq!(without_numbers("a (os error"), "a (os error");
        assert_eq!(without_numbers(""), "");
    }
}
