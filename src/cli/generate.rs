//! What is generated from the flags: completions for shells, and manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Failure};

#[derive(Args)]
#[command(after_help = "For this shell alone:  source <(wholefs completions bash)")]
pub(crate) struct CompletionsArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManArguments {
    /// Where the pages are written to: wholefs.1, wholefs-mount.1…
    directory: PathBuf,
}

pub(crate) fn completions(arguments: CompletionsArguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "wholefs",
        &mut text,
    );
    let printed = std::io::stdout().write_all(&text);
    printed.map_err(|error| format!("cannot write: {error}").into())
}

pub(crate) fn man(arguments: ManArguments) -> Result<(), Failure> {
    let at = &arguments.directory;
    pages(at).map_err(|error| format!("cannot write below {}: {error}", at.display()).into())
}

fn pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(
        Arguments::command().disable_help_subcommand(true),
        directory,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn there_is_a_page_for_each_command() {
        let folder = tempfile::tempdir().unwrap();
        pages(folder.path()).unwrap();
        for command in Arguments::command().get_subcommands() {
            let page = folder
                .path()
                .join(format!("wholefs-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page);
            assert!(text.is_ok_and(|text| text.contains(".SH")), "{page:?}");
        }
    }
}
