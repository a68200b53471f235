//! The manual pages: what the flags say of themselves, and what a page has beside: how it ends, what it looks at in the
//! environment, and which files are its own.

use std::fmt::Write;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::Arguments;

/// A heading, and what is listed below it.
type Listed = (&'static str, &'static [(&'static str, &'static str)]);

const EXIT: Listed = (
    "EXIT STATUS",
    &[
        (
            "0",
            "It is done; in the foreground: mounted, unmounted, and nothing is left to do.",
        ),
        (
            "1",
            "It could not be done. One line on standard error says what, why, and what to do.",
        ),
        (
            "2",
            "The command line, or the configuration file, is wrong.",
        ),
        (
            "32, 1",
            "Called by mount(8), as its manual has it: the mount failed; the call was wrong.",
        ),
    ],
);

const ENVIRONMENT: Listed = (
    "ENVIRONMENT",
    &[
        (
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
            "The keys. Without them, and without a profile: a token for a web identity (AWS_WEB_IDENTITY_TOKEN_FILE), the \
             container's role (AWS_CONTAINER_CREDENTIALS_FULL_URI), the machine's.",
        ),
        (
            "AWS_PROFILE, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE",
            "Which profile, of which files.",
        ),
        (
            "AWS_REGION, AWS_DEFAULT_REGION",
            "The region, where no flag says it.",
        ),
        (
            "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL",
            "Where the S3 service is, where no flag says it.",
        ),
        (
            "AWS_CA_BUNDLE, SSL_CERT_FILE, SSL_CERT_DIR",
            "The authorities to trust: the first instead of the system's, the others name the system's.",
        ),
        (
            "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
            "The way to the store, as for curl(1).",
        ),
        (
            "WHOLEFS_LOG",
            "How much is logged, in the filter syntax of Rust's tracing (debug, wholefs::upload=trace). It wins over --log-level.",
        ),
        (
            "XDG_CONFIG_HOME, XDG_STATE_HOME",
            "Where a user's own files are.",
        ),
    ],
);

const FILES: Listed = (
    "FILES",
    &[
        (
            "~/.config/wholefs/config.toml, /etc/wholefs/config.toml",
            "Mounts by name: [mounts.NAME] with source, directory, and any flag as in -o; [defaults] of all of them.",
        ),
        (
            "/var/lib/wholefs (root), ~/.local/state/wholefs",
            "The journals of open uploads, from which recovery works, and the sockets of status and log. For their owner alone.",
        ),
        (
            "/etc/wholefs/NAME.env",
            "Keys for the unit wholefs@NAME.service, as AWS_ACCESS_KEY_ID=…",
        ),
        ("~/.aws/config, ~/.aws/credentials", "Profiles, and keys."),
        (
            "/etc/fuse.conf",
            "With user_allow_other in it ordinary users may say --allow-other.",
        ),
    ],
);

const WORDS: Listed = (
    "WORDS OF -o AND OF FSTAB",
    &[
        (
            "any long flag above",
            "Without its dashes in front, and with underscores: part_size=16M, allow_other. A comma within a value stands between \
             double quotes.",
        ),
        (
            "ro, noexec, url=",
            "As --read-only, --no-exec, --endpoint-url.",
        ),
        (
            "nofail, _netdev, noauto, user, users, owner, group, x-*",
            "Are for mount(8) and systemd(1).",
        ),
        (
            "nosuid, nodev, noatime",
            "Are so always. (suid and dev, which mount.fuse3(8) says of itself, change nothing.)",
        ),
        (
            "remount, sync, dirsync, strictatime, mand, nosymfollow, context=, allow_root",
            "Are refused, with the reason.",
        ),
    ],
);

/// Writes a page for each command below `directory`.
pub(super) fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut all = Arguments::command().disable_help_subcommand(true);
    all.build();
    pages(&all, "wholefs", directory)
}

fn pages(command: &Command, name: &str, directory: &Path) -> io::Result<()> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(path, page(command, name)?)?;
    for further in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(
            further,
            &format!("{name}-{}", further.get_name()),
            directory,
        )?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let version = concat!("wholefs ", env!("CARGO_PKG_VERSION"));
    let named = command.clone().display_name(name.to_string());
    let man = Man::new(named)
        .title(name)
        .section("1")
        .source(version)
        .manual("wholefs");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    let (examples, notes) = extra(command);
    let mut rest = Roff::default();
    rest.section("SYNOPSIS").verbatim(&synopsis(command));
    text.extend(rest.0.as_bytes());
    man.render_description_section(&mut text)?;
    let mut rest = Roff::default();
    rest.text(&notes);
    text.extend(rest.0.as_bytes());
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::default();
    if !examples.is_empty() {
        rest.section("EXAMPLES").verbatim(&examples);
    }
    match name {
        "wholefs" => rest.listed(&[EXIT, ENVIRONMENT, FILES]),
        "wholefs-mount" => rest.listed(&[WORDS, EXIT, ENVIRONMENT, FILES]),
        _ => rest.listed(&[EXIT]),
    };
    let others = match name {
        "wholefs" => "mount(8), fstab(5), systemd.mount(5), fusermount3(1)",
        "wholefs-mount" => {
            "wholefs(1), wholefs-unmount(1), wholefs-status(1), wholefs-doctor(1), wholefs-recover(1), mount(8), fstab(5), \
             systemd.mount(5), fusermount3(1)"
        }
        _ => "wholefs(1), wholefs-mount(1)",
    };
    rest.section("SEE ALSO").text(others);
    text.extend(rest.0.as_bytes());
    Ok(text)
}

fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let lines = usage.trim_start_matches("Usage:").lines();
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

/// What stands behind the flags of a help: its examples, and the rest.
fn extra(command: &Command) -> (String, String) {
    let text = command.get_after_help().map(ToString::to_string);
    let text = text.unwrap_or_default();
    match text.strip_prefix("Examples:\n") {
        None => (String::new(), text),
        Some(text) => {
            let (examples, rest) = text.split_once("\n\n").unwrap_or((text, ""));
            (examples.to_string(), rest.to_string())
        }
    }
}

/// The text of a page. Writing to a String does not fail.
#[derive(Default)]
struct Roff(String);

impl Roff {
    fn section(&mut self, heading: &str) -> &mut Roff {
        let _ = writeln!(self.0, ".SH \"{heading}\"");
        self
    }

    /// Paragraphs; lines that are set in stay as they are.
    fn text(&mut self, text: &str) -> &mut Roff {
        for paragraph in text.split("\n\n").filter(|text| !text.is_empty()) {
            let _ = writeln!(self.0, ".PP");
            for line in paragraph.lines() {
                match line.strip_prefix("  ") {
                    Some(line) => self.verbatim(line),
                    None => self.line(line),
                };
            }
        }
        self
    }

    fn verbatim(&mut self, text: &str) -> &mut Roff {
        let _ = writeln!(self.0, ".RS 4\n.nf");
        for line in text.lines() {
            self.line(line.trim_start());
        }
        let _ = writeln!(self.0, ".fi\n.RE");
        self
    }

    fn listed(&mut self, sections: &[Listed]) -> &mut Roff {
        for (heading, items) in sections {
            self.section(heading);
            for (what, about) in *items {
                let _ = writeln!(self.0, ".TP");
                self.line(what).line(about);
            }
        }
        self
    }

    fn line(&mut self, text: &str) -> &mut Roff {
        let text = text.replace('\\', "\\e").replace('-', "\\-");
        // What a line must not begin with.
        let guard = if text.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        let _ = writeln!(self.0, "{guard}{text}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command_and_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        for command in Arguments::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let name = command.get_name();
            let text = page(&format!("wholefs-{name}.1"));
            for section in ["NAME", "\"SYNOPSIS\"", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
                assert!(
                    text.contains(&format!(".SH {section}\n")),
                    "{name}: {section}"
                );
            }
            assert!(
                text.contains(&format!("\nwholefs {name}")),
                "{name}: {text}"
            );
        }
        let mount = page("wholefs-mount.1");
        for word in [
            "EXAMPLES",
            "WHOLEFS_LOG",
            "fuse.wholefs s3://logs",
            "wholefs mount [OPTIONS] <SOURCE> [DIRECTORY]",
        ] {
            assert!(mount.contains(&word.replace('-', "\\-")), "{word}");
        }
        // Of what is for completions alone there is none.
        assert!(!folder.path().join("wholefs-complete.1").exists());
    }

    #[test]
    fn no_line_of_a_page_is_taken_for_a_command() {
        let mut roff = Roff::default();
        roff.text(".so x\n'y\n  a\\b -c")
            .listed(&[("H", &[("a", "b")])]);
        let expected =
            ".PP\n\\&.so x\n\\&'y\n.RS 4\n.nf\na\\eb \\-c\n.fi\n.RE\n.SH \"H\"\n.TP\na\nb\n";
        assert_eq!(roff.0, expected);
    }
}
