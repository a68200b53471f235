//! What is generated from the flags: completions for shells, and manual pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, manual, out};

#[derive(Args)]
#[command(after_help = "For this shell alone:
  source <(wholefs completions bash)
  wholefs completions fish | source

For good, where scripts/install and the package have not put it already:
  wholefs completions bash > ~/.local/share/bash-completion/completions/wholefs")]
pub(crate) struct CompletionsArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Args)]
pub(crate) struct ManArguments {
    /// Where the pages are written to: wholefs.1, wholefs-mount.1…
    directory: PathBuf,
}

/// They ask `wholefs complete`, so they say the same whatever the flags become.
pub(crate) fn completions(arguments: CompletionsArguments) -> Result<(), Failure> {
    out::print(format_args!(
        "{}",
        match arguments.shell {
            Shell::Bash => include_str!("completions/wholefs.bash"),
            Shell::Zsh => include_str!("completions/wholefs.zsh"),
            Shell::Fish => include_str!("completions/wholefs.fish"),
        }
    ));
    Ok(())
}

pub(crate) fn man(arguments: ManArguments) -> Result<(), Failure> {
    let at = &arguments.directory;
    manual::write(at)
        .map_err(|error| format!("cannot write below {}: {error}", at.display()).into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::Arguments;

    #[test]
    fn flags_and_commands_are_consistent() {
        Arguments::command().debug_assert();
    }
}
