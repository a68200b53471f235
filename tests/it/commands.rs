//! The commands as a person meets them: in pipes, with a full disk, completed by a shell, explained by their pages.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::host::Host;
use crate::support::mount::PROGRAM;
use crate::support::terminal::Terminal;
use crate::support::tools::{have, run};

/// What prints: of the machine, of its mounts, of a bucket.
fn commands(host: &Host) -> Vec<Vec<String>> {
    let state = host.place.state().display().to_string();
    let source = format!("s3://{}", host.store.bucket);
    let endpoint = &host.store.endpoint;
    let lines = [
        format!("doctor {source} --endpoint-url {endpoint} --state-dir {state}"),
        format!("uploads {source} --json --endpoint-url {endpoint} --state-dir {state}"),
        format!("uploads --state-dir {state}"),
        format!("status --once --state-dir {state}"),
        format!("status --json --state-dir {state}"),
        format!("recover --state-dir {state}"),
        "completions bash".to_string(),
    ];
    let words = |line: String| line.split(' ').map(String::from).collect();
    lines.into_iter().map(words).collect()
}

/// Runs it with this as its standard output: its status and what it complains of.
fn printing_to(host: &Host, arguments: &[String], out: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = host.command(PROGRAM.as_ref());
    command.args(arguments).env("RUST_BACKTRACE", "1");
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped());
    let done = command.spawn().and_then(|child| child.wait_with_output());
    let done = done.expect("the program runs");
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), complaint)
}

#[test]
fn whoever_closes_the_pipe_has_read_enough_and_a_full_disk_is_told() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    assert!(host.helper(&source, &host.words()).ok());
    for arguments in commands(&host) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, complaint) = printing_to(&host, &arguments, writer);
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{arguments:?}");
        let full = File::options().write(true).open("/dev/full");
        let (code, complaint) = printing_to(&host, &arguments, full.expect("there"));
        assert_eq!(code, Some(1), "{arguments:?}");
        let expected = "wholefs: cannot write to standard output: No space left on device\n";
        assert_eq!(complaint, expected, "{arguments:?}");
    }
    // Nobody was stopped in the middle of his work.
    assert_eq!(host.store.keys(), [""; 0]);
    assert_eq!(host.store.open_uploads(), []);
    assert!(host.unmount().ok());
}

/// What a shell starts with: it says when it waits, knows the completions, and shows what a command was called with.
fn shells(host: &Host) -> [(&'static str, String); 3] {
    let home = host.place.path("home");
    let own = home.join(".config/wholefs");
    fs::create_dir_all(&own).expect("made");
    let named = "[mounts.backups]\nsource = \"s3://backups/2026\"\n";
    fs::write(own.join("config.toml"), named).expect("written");
    let shown = "wholefs() { printf 'called:'; printf ' <%s>' \"$@\"; echo; }\n";
    let write = |name: &str, text: String| {
        fs::write(home.join(name), text).expect("written");
        home.join(name).display().to_string()
    };
    let bash = format!("PS1='waits> '; source <(wholefs completions bash)\n{shown}");
    let bash = write("bashrc", bash);
    let zsh =
        "PS1='waits> '; autoload -U compinit; compinit -u -D; source <(wholefs completions zsh)\n";
    write(".zshrc", format!("{zsh}{shown}"));
    let fish = "function fish_prompt; echo 'waits> '; end; wholefs completions fish | source\n\
                function wholefs; printf 'called:'; printf ' <%s>' $argv; echo; end\n";
    let fish = write("config.fish", fish.to_string());
    [
        ("bash", format!("bash --noprofile --rcfile {bash} -i")),
        ("zsh", "zsh -d -i".to_string()),
        ("fish", format!("fish --no-config -i -C 'source {fish}'")),
    ]
}

#[test]
fn bash_zsh_and_fish_complete_what_there_is() {
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    assert!(host.helper(&source, &host.words()).ok());
    let programs = host.place.path("bin");
    fs::create_dir(&programs).expect("made");
    symlink(PROGRAM, programs.join("wholefs")).expect("linked");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.display());
    let at = host.at.display().to_string();
    for (shell, command) in shells(&host) {
        if !have(shell, "WHOLEFS_REQUIRE_TOOLS") {
            continue;
        }
        let mut terminal = Terminal::start(&host.place, 200, &command, |script| {
            let home = host.place.path("home");
            script
                .env("PATH", &path)
                .env("HOME", &home)
                .env("ZDOTDIR", home);
            script.env_remove("XDG_CONFIG_HOME");
        });
        terminal.shows("waits> ");
        // Where it is mounted is known.
        terminal.types(&format!("wholefs unm\t{}\t\r", &at[..at.len() - 2]));
        terminal.shows(&format!("called: <unmount> <{at}>"));
        terminal.types("wholefs mount --log-level=w\tback\t-o ro,allow_o\t\r");
        terminal.shows("called: <mount> <--log-level=warn> <backups> <-o> <ro,allow_other>");
        // Colons are part of a word, and directories are the shell's.
        let beside = host.place.path("only");
        fs::create_dir_all(&beside).expect("made");
        let beside = beside.display().to_string();
        terminal.types(&format!(
            "wholefs mount s3://x {}\t\r",
            &beside[..beside.len() - 2]
        ));
        // (zsh takes the slash away again.)
        terminal.shows(&format!("called: <mount> <s3://x> <{beside}"));
        terminal.types("exit\r");
        terminal.wait();
    }
    assert!(host.unmount().ok());
}

#[test]
fn the_pages_are_read_without_a_complaint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path();
    assert!(run(Command::new(PROGRAM).arg("man").arg(pages)).ok());
    if !have("man", "WHOLEFS_REQUIRE_TOOLS") || !have("groff", "WHOLEFS_REQUIRE_TOOLS") {
        return;
    }
    let mut read = 0;
    for page in fs::read_dir(pages).expect("written").flatten() {
        let mut command = Command::new("man");
        command
            .args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(page.path());
        let seen = run(command.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100"));
        assert!(seen.ok() && seen.err.is_empty(), "{page:?}: {}", seen.err);
        assert!(seen.out.contains("EXIT STATUS"), "{}", seen.out);
        read += 1;
    }
    assert!(read > 10, "{read} pages");
}
