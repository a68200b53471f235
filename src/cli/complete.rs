//! `wholefs complete`: what the word under the cursor could become. The completions of the shells (`completions/`) ask it:
//! so they know each flag and its values, the mounts of this machine, and those the configuration file names.

use clap::{Arg, Args, Command, CommandFactory};

use super::out::say;
use super::words::words;
use super::{Arguments, Failure, config};
use crate::host::mountpoint;
use crate::store::s3::providers;

#[derive(Args)]
pub(crate) struct CompleteArguments {
    /// The command line up to the cursor; the last word may be unfinished
    #[arg(num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// A line for each: the word, a tab, and what it is; or `:files`, `:directories` for what the shell itself knows.
pub(crate) fn run(arguments: CompleteArguments) -> Result<(), Failure> {
    let known = Known {
        mounts: mountpoint::all_of_ours()
            .into_iter()
            .map(|(at, source)| (at.display().to_string(), source))
            .collect(),
        names: config::names(),
    };
    let mut commands = Arguments::command();
    commands.build();
    match completed(&commands, &arguments.words, &known) {
        Completed::Files => say!(":files"),
        Completed::Directories => say!(":directories"),
        Completed::Words(words) => {
            for (word, about) in words {
                say!("{word}\t{about}");
            }
        }
    }
    Ok(())
}

/// What there is on this machine, each with a word on what it is.
#[derive(Default)]
struct Known {
    mounts: Vec<Word>,
    names: Vec<Word>,
}

type Word = (String, String);

#[derive(Debug, PartialEq, Eq)]
enum Completed {
    Words(Vec<Word>),
    Files,
    Directories,
}

fn completed(commands: &Command, line: &[String], known: &Known) -> Completed {
    let Some((current, before)) = line.split_last() else {
        return Completed::Words(Vec::new());
    };
    let at = At::behind(commands, before.get(1..).unwrap_or_default());
    if let Some(flag) = at.awaited {
        return of_value(flag, current, known).behind("", current);
    }
    if !at.operands_only && current.starts_with('-') {
        let value = current.split_once('=');
        let attached = current.strip_prefix("-o").filter(|rest| !rest.is_empty());
        return match (value, attached) {
            (_, Some(words)) => of_words(words, known).behind("-o", current),
            (Some((name, value)), None) => match flag_of(at.command, name) {
                Some(flag) => of_value(flag, value, known).behind(&format!("{name}="), current),
                None => Completed::Words(Vec::new()),
            },
            (None, None) => flags(at.command).behind("", current),
        };
    }
    let mut found = match at.command.get_positionals().nth(at.operands) {
        Some(operand) => of_value(operand, current, known),
        None => Completed::Words(Vec::new()),
    };
    if let Completed::Words(words) = &mut found {
        if at.operands == 0 {
            let visible = at.command.get_subcommands().filter(|c| !c.is_hide_set());
            words.extend(visible.map(|c| (c.get_name().to_string(), told(c.get_about()))));
        }
        if words.is_empty() && current.is_empty() {
            return flags(at.command);
        }
    }
    found.behind("", current)
}

impl Completed {
    /// Those that the word could become, with what stands before them in it.
    fn behind(self, prefix: &str, current: &str) -> Completed {
        match self {
            Completed::Words(words) => {
                let whole = words
                    .into_iter()
                    .map(|(word, about)| (format!("{prefix}{word}"), about));
                Completed::Words(
                    whole
                        .filter(|(word, _)| word.starts_with(current))
                        .collect(),
                )
            }
            theirs => theirs,
        }
    }
}

/// Where in the command line the cursor is.
struct At<'a> {
    command: &'a Command,
    /// Operands before it.
    operands: usize,
    /// The flag whose value it is to be.
    awaited: Option<&'a Arg>,
    /// Behind `--`.
    operands_only: bool,
}

impl<'a> At<'a> {
    fn behind(commands: &'a Command, words: &[String]) -> At<'a> {
        let mut at = At {
            command: commands,
            operands: 0,
            awaited: None,
            operands_only: false,
        };
        for word in words {
            if at.awaited.take().is_some() {
                continue;
            }
            if at.operands_only || !word.starts_with('-') || word == "-" {
                match at.command.find_subcommand(word) {
                    Some(further) if at.operands == 0 => at.command = further,
                    _ => at.operands += 1,
                }
            } else if word == "--" {
                at.operands_only = true;
            } else {
                at.awaited = flag_of(at.command, word).filter(|flag| takes_the_next_word(flag));
            }
        }
        at
    }
}

fn flag_of<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let mut flags = command.get_arguments();
    match word.strip_prefix("--") {
        Some(long) => flags.find(|flag| flag.get_long() == Some(long)),
        None => flags.find(|flag| flag.get_short().map(String::from).as_deref() == word.get(1..)),
    }
}

fn takes_the_next_word(flag: &Arg) -> bool {
    flag.get_action().takes_values()
        && flag
            .get_num_args()
            .is_none_or(|count| count.min_values() > 0)
}

fn flags(command: &Command) -> Completed {
    let visible = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let long = |flag: &Arg| Some((format!("--{}", flag.get_long()?), told(flag.get_help())));
    Completed::Words(visible.filter_map(long).collect())
}

/// What a flag or an operand could be.
fn of_value(arg: &Arg, current: &str, known: &Known) -> Completed {
    let possible = arg.get_possible_values();
    let shown = possible.iter().filter(|value| !value.is_hide_set());
    let possible: Vec<Word> = shown
        .map(|value| (value.get_name().to_string(), told(value.get_help())))
        .collect();
    if !possible.is_empty() {
        return Completed::Words(possible);
    }
    match arg.get_id().as_str() {
        "_words" => of_words(current, known),
        "provider" => Completed::Words(
            providers()
                .map(|name| (name.to_string(), String::new()))
                .collect(),
        ),
        "source" if !current.contains('/') => {
            let sort = |scheme: &str, what: &str| (scheme.to_string(), what.to_string());
            let sorts = [sort("s3://", "a bucket"), sort("glacier://", "a vault")];
            Completed::Words(known.names.iter().cloned().chain(sorts).collect())
        }
        // One that is mounted, if that is what it begins to be.
        "mounted" if begins_a(&known.mounts, current) => Completed::Words(known.mounts.clone()),
        "mounted" if begins_a(&known.names, current) => Completed::Words(known.names.clone()),
        _ => match arg
            .get_value_names()
            .and_then(|names| names.first())
            .map(|name| name.as_str())
        {
            Some("DIR" | "DIRECTORY") => Completed::Directories,
            Some("FILE") => Completed::Files,
            _ => Completed::Words(Vec::new()),
        },
    }
}

fn begins_a(words: &[Word], current: &str) -> bool {
    words.iter().any(|(word, _)| word.starts_with(current))
}

/// The last word of `-o`, behind those that are whole.
fn of_words(current: &str, known: &Known) -> Completed {
    let begins = current.rfind(',').map_or(0, |comma| comma + 1);
    let (whole, last) = current.split_at(begins);
    let found = match last.split_once('=') {
        None => Completed::Words(words()),
        Some((name, value)) => {
            let commands = Arguments::command();
            let mount = commands.find_subcommand("mount").expect("a command");
            match flag_of(mount, &format!("--{}", name.replace('_', "-"))) {
                Some(flag) => of_value(flag, value, known).behind(&format!("{name}="), last),
                None => Completed::Words(Vec::new()),
            }
        }
    };
    found.behind(whole, current)
}

/// The first line of a help.
fn told(help: Option<&impl ToString>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed_to(line: &str) -> Completed {
        let mut commands = Arguments::command();
        commands.build();
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let word = |word: &str| (word.to_string(), String::new());
        let known = Known {
            mounts: vec![word("/mnt/a"), word("/srv/b")],
            names: vec![word("backups")],
        };
        completed(&commands, &words, &known)
    }

    #[track_caller]
    fn assert_completes(line: &str, expected: &[&str]) {
        let Completed::Words(found) = completed_to(line) else {
            panic!("{line}: by the shell");
        };
        let found: Vec<&str> = found.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn each_word_of_a_command_line_is_completed() {
        for (line, expected) in [
            ("wholefs mo", &["mount"][..]),
            ("wholefs uploads sw", &["sweep"]),
            ("wholefs mount --read-o", &["--read-only"]),
            ("wholefs mount --log-level w", &["warn"]),
            ("wholefs mount --log-level=w", &["--log-level=warn"]),
            ("wholefs mount --provider=gar", &["--provider=garage"]),
            ("wholefs mount --jour", &[]),
            ("wholefs mount ba", &["backups"]),
            ("wholefs mount s", &["s3://"]),
            ("wholefs mount -f --region x ba", &["backups"]),
            ("wholefs mount s3://b", &[]),
            ("wholefs unmount /m", &["/mnt/a"]),
            ("wholefs umount -l /", &["/mnt/a", "/srv/b"]),
            ("wholefs status ba", &["backups"]),
            ("wholefs log /mnt/a u", &["usual"]),
            ("wholefs completions z", &["zsh"]),
            ("wholefs mount b -o allow_o", &["allow_other"]),
            (
                "wholefs mount b -o ro,region=x,part_s",
                &["ro,region=x,part_size="],
            ),
            (
                "wholefs mount b -oro,log_level=e",
                &["-oro,log_level=error"],
            ),
            ("wholefs mount b -o ro,nof", &["ro,nofail"]),
            ("wholefs nosuch --x", &[]),
        ] {
            assert_completes(line, expected);
        }
    }

    #[test]
    fn paths_are_left_to_the_shell() {
        for line in [
            "wholefs mount s3://b ",
            "wholefs mount --spool-dir /v",
            "wholefs unmount x",
            "wholefs mount -- s3://b -",
        ] {
            assert_eq!(completed_to(line), Completed::Directories, "{line}");
        }
        for line in ["wholefs mount --ca-bundle ", "wholefs mount --log-file=/v"] {
            assert_eq!(completed_to(line), Completed::Files, "{line}");
        }
    }

    #[test]
    fn where_nothing_else_can_come_flags_do() {
        let Completed::Words(found) = completed_to("wholefs mount s3://b /mnt ") else {
            panic!("not flags");
        };
        assert!(
            found
                .iter()
                .any(|(flag, about)| flag == "--read-only" && !about.is_empty())
        );
        assert!(found.iter().all(|(flag, _)| flag.starts_with("--")));
    }
}
