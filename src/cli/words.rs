//! Mount options as mount(8), /etc/fstab and systemd write them: one list of words, `-o ro,part_size=16M`.
//! Every long flag of `wholefs mount` is such a word, with dashes or underscores, and the words that every
//! filesystem knows are understood. Pure.
//!
//! Calls by mount(8) come as `SOURCE DIRECTORY [-sfnv] [-N NAMESPACE] [-o WORDS] [-t TYPE]`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, Args, Command};

use super::Failure;
use super::mount::MountArguments;
use super::out::say;
use crate::nearest::did_you_mean;

/// How mount(8) calls.
const CALL: &str =
    "called by mount(8) it takes a source and a directory: s3://BUCKET DIR -o OPTIONS";

/// Of no meaning here, or true of every mount of ours. (`dev` and `suid` are what mount.fuse3 says of itself; there is neither.)
const UNDERSTOOD: &[&str] = &[
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "default_permissions",
    "dev",
    "diratime",
    "exec",
    "group",
    "iversion",
    "lazytime",
    "loud",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "nousers",
    "owner",
    "relatime",
    "rw",
    "silent",
    "suid",
    "user",
    "users",
];

/// Words of others, and what they are called here.
const RENAMED: [(&str, &str); 6] = [
    ("ro", "read-only"),
    ("url", "endpoint-url"),
    ("endpoint", "endpoint-url"),
    ("use_path_request_style", "path-style"),
    ("noexec", "no-exec"),
    ("passwd_file", "credentials-file"),
];

/// What cannot be had, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["remount"],
        "a mount is what it was mounted as: unmount it, and mount it anew",
    ),
    (
        &["allow_root"],
        "there is no mount for root and its owner alone: say allow_other, or leave it out",
    ),
    (
        &["sync"],
        "a file is published when it is closed; a program that wants every write published opens it with O_SYNC",
    ),
    (
        &["dirsync"],
        "directories are always in the bucket at once: leave it out",
    ),
    (
        &["foreground"],
        "mount(8) waits for the mount and not for its end: leave it out",
    ),
    (
        &["strictatime"],
        "nobody keeps when a file was read last: leave it out",
    ),
    (&["mand"], "there are no mandatory locks: leave it out"),
    (
        &["context", "fscontext", "defcontext", "rootcontext"],
        "SELinux has one label for all of it, that of its policy for FUSE: leave it out",
    ),
    (
        &[
            "attr_timeout",
            "entry_timeout",
            "negative_timeout",
            "ac_attr_timeout",
        ],
        "for how long names and sizes are believed is said by metadata_ttl",
    ),
    (&["dmask", "fmask"], "say umask, of both"),
    (
        &["nosymfollow"],
        "its links are followed like any others: leave it out",
    ),
    (
        &["fsname", "subtype"],
        "a mount is shown as what it is, its source and fuse.wholefs: leave it out",
    ),
    (
        &[
            "async_read",
            "auto_cache",
            "auto_unmount",
            "big_writes",
            "direct_io",
            "kernel_cache",
            "large_read",
            "max_background",
            "max_read",
            "max_write",
            "sync_read",
        ],
        "wholefs sees to that itself: leave it out",
    ),
];

/// Was this program called as mount(8) calls its helpers, by a link's name or (mount.fuse3) by its own?
pub(super) fn is_called_by_mount(arguments: &[OsString]) -> bool {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    let by_name = program.is_some_and(|name| name.as_encoded_bytes().starts_with(b"mount."));
    let first = arguments.get(1).and_then(|first| first.to_str());
    by_name || first.is_some_and(|first| !first.starts_with('-') && first.contains("://"))
}

/// The arguments as clap reads them: a call by mount(8), and every `-o`, in the form of `wholefs mount`.
pub(super) fn in_our_form(arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    match arguments.get(1) {
        _ if is_called_by_mount(&arguments) => called_by_mount(&arguments[1..]),
        Some(command) if command == "mount" => spelt_out(arguments),
        _ => Ok(arguments),
    }
}

fn called_by_mount(arguments: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let (mut operands, mut words, mut sloppy) = (Vec::new(), Vec::new(), false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let mut value = |name: &str| {
            let attached = text[2..].to_string();
            let value = match attached.is_empty() {
                true => rest.next().map(|next| next.to_string_lossy().into_owned()),
                false => Some(attached),
            };
            value.ok_or_else(|| Failure::usage(format!("{name} needs a value")))
        };
        match text.as_ref() {
            o if o.starts_with("-o") => words.extend(split(&value("-o")?)),
            t if t.starts_with("-t") => _ = value("-t")?,
            n if n.starts_with("-N") => {
                return Err(Failure::usage(
                    "it cannot be mounted into another namespace (-N): nsenter --mount=… mount …",
                ));
            }
            flags if flags.len() > 1 && flags.starts_with('-') => {
                for flag in flags[1..].chars() {
                    match flag {
                        's' => sloppy = true,
                        // Nothing is to be mounted: mount(8) is asked what it would do.
                        'f' => std::process::exit(0),
                        'r' => words.push("ro".to_string()),
                        'h' => {
                            say!("{CALL}");
                            std::process::exit(0)
                        }
                        'n' | 'v' | 'w' => {}
                        _ => return Err(Failure::usage(format!("mount(8) has no option -{flag}"))),
                    }
                }
            }
            _ => operands.push(argument.clone()),
        }
    }
    let [source, directory] = (operands.try_into()).map_err(|_| Failure::usage(CALL))?;
    let mut ours = vec!["wholefs".into(), "mount".into()];
    ours.extend(flags_of(&words, sloppy)?);
    ours.extend(["--".into(), source, directory]);
    Ok(ours)
}

/// `wholefs mount … -o WORDS`
fn spelt_out(arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let mut ours = Vec::new();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            ours.push(argument);
            ours.extend(rest.by_ref());
            break;
        }
        let words = match argument.to_str().and_then(|text| text.strip_prefix("-o")) {
            None => {
                ours.push(argument);
                continue;
            }
            Some("") => {
                let next = rest
                    .next()
                    .ok_or_else(|| Failure::usage("-o needs a value"))?;
                OsStr::to_string_lossy(&next).into_owned()
            }
            Some(attached) => attached.to_string(),
        };
        ours.extend(flags_of(&split(&words), false)?);
    }
    Ok(ours)
}

/// Words are separated by commas, but for those between double quotes.
fn split(words: &str) -> Vec<String> {
    let (mut found, mut quoted) = (vec![String::new()], false);
    for c in words.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => found.push(String::new()),
            c => found.last_mut().expect("never empty").push(c),
        }
    }
    found.retain(|word| !word.is_empty());
    found
}

/// The flags of words. `sloppy`: what is not understood is passed over.
fn flags_of(words: &[String], sloppy: bool) -> Result<Vec<OsString>, Failure> {
    let mut flags = Vec::new();
    for word in words {
        // The last of two that contradict each other holds.
        if let (taken_back, true) = one_name(word) {
            let taken_back = format!("--{}", taken_back.replace('_', "-"));
            flags.retain(|flag: &String| *flag != taken_back);
        }
        match flag_of(word) {
            Err(_) if sloppy => {}
            flag => flags.extend(flag?),
        }
    }
    Ok(flags.into_iter().map(OsString::from).collect())
}

/// What a word is called here, and whether it says the opposite.
pub(super) fn one_name(word: &str) -> (String, bool) {
    let opposites = [("rw", "read_only"), ("exec", "no_exec")];
    if let Some((_, ours)) = opposites.iter().find(|(theirs, _)| *theirs == word) {
        return (ours.to_string(), true);
    }
    let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == word);
    let word = renamed.map_or_else(|| word.to_string(), |(_, ours)| ours.replace('-', "_"));
    (word, false)
}

/// The flag of a word; `None` for one that changes nothing.
pub(super) fn flag_of(word: &str) -> Result<Option<String>, Failure> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if UNDERSTOOD.contains(&name) || name.starts_with("x-") || name == "comment" {
        return Ok(None);
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused.contains(&name)) {
        return Err(Failure::usage(format!("option {name}: {why}")));
    }
    let renamed = RENAMED.into_iter().find(|(theirs, _)| *theirs == name);
    let long = renamed.map_or_else(|| name.replace('_', "-"), |(_, ours)| ours.to_string());
    let flags = MountArguments::augment_args(Command::new("mount"));
    let flag = flags
        .get_arguments()
        .find(|flag| flag.get_long() == Some(&long));
    let Some(flag) = flag else {
        return Err(Failure::usage(unknown(name, &flags)));
    };
    let takes_a_value = flag.get_action().takes_values();
    let may_do_without = flag
        .get_num_args()
        .is_some_and(|count| count.min_values() == 0);
    match value {
        None if takes_a_value && !may_do_without => Err(Failure::usage(format!(
            "option {name} needs a value: {name}=…"
        ))),
        Some(_) if !takes_a_value => Err(Failure::usage(format!("option {name} takes no value"))),
        None => Ok(Some(format!("--{long}"))),
        Some(value) => Ok(Some(format!("--{long}={value}"))),
    }
}

/// Words to choose from: those of the flags, and those that lines of fstab have; each with what it says.
pub(super) fn words() -> Vec<(String, String)> {
    let flags = MountArguments::augment_args(Command::new("mount"));
    let is_word = |flag: &&Arg| !flag.is_hide_set() && !flag.is_positional();
    let ours = flags.get_arguments().filter(is_word).filter_map(|flag| {
        let long = flag.get_long()?;
        let is_refused = REFUSED.iter().any(|(refused, _)| refused.contains(&long));
        let end = if flag.get_action().takes_values() {
            "="
        } else {
            ""
        };
        let about = flag.get_help().map(ToString::to_string).unwrap_or_default();
        (!is_refused).then(|| (format!("{}{end}", long.replace('-', "_")), about))
    });
    let theirs = [
        ("ro", "Refuse every change"),
        ("noexec", "Let nothing on it be run as a program"),
        ("_netdev", "It needs the network"),
        ("nofail", "The boot goes on without it"),
        ("noauto", "Not by mount -a"),
        ("user", "Users may mount it"),
        ("x-systemd.automount", "Mounted when it is first used"),
    ];
    let theirs = theirs.map(|(word, about)| (word.to_string(), about.to_string()));
    ours.chain(theirs).collect()
}

fn unknown(name: &str, flags: &Command) -> String {
    let longs = flags.get_arguments().filter(|flag| !flag.is_hide_set());
    let ours: Vec<String> = longs
        .filter_map(|flag| flag.get_long())
        .map(|long| long.replace('-', "_"))
        .collect();
    let all = ours
        .iter()
        .map(String::as_str)
        .chain(UNDERSTOOD.iter().copied())
        .chain(["ro", "noexec"]);
    let meant = did_you_mean(&name.replace('-', "_"), all);
    format!("unknown option {name:?}{meant} (see wholefs mount --help)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments = arguments.iter().map(OsString::from).collect();
        let text = |argument: OsString| argument.into_string().expect("text");
        match in_our_form(arguments) {
            Ok(ours) => Ok(ours.into_iter().map(text).collect()),
            Err(failure) => Err(failure.line),
        }
    }

    #[test]
    fn a_call_by_mount_is_a_mount_command() {
        let expected = [
            "wholefs",
            "mount",
            "--read-only",
            "--part-size=16M",
            "--",
            "s3://b/p",
            "/mnt",
        ];
        let words = "rw,_netdev,nofail,x-systemd.automount,ro,part_size=16M,comment=x";
        for call in [
            vec![
                "/sbin/mount.wholefs",
                "s3://b/p",
                "/mnt",
                "-n",
                "-o",
                words,
                "-t",
                "fuse.wholefs",
            ],
            vec![
                "mount.fuse.wholefs",
                "s3://b/p",
                "/mnt",
                "-nv",
                &format!("-o{words}"),
            ],
            vec!["/usr/bin/wholefs", "s3://b/p", "/mnt", "-o", words],
        ] {
            assert_eq!(ours(&call).expect("understood"), expected, "{call:?}");
        }
        assert!(ours(&["mount.wholefs", "s3://b"]).is_err());
        assert!(ours(&["mount.wholefs", "-N", "/proc/1/ns/mnt", "s3://b", "/m"]).is_err());
        let last = ours(&[
            "mount.wholefs",
            "s3://b",
            "/m",
            "-o",
            "noexec,ro,rw",
            "-o",
            "exec,ro",
        ]);
        assert_eq!(
            last.expect("understood"),
            ["wholefs", "mount", "--read-only", "--", "s3://b", "/m"]
        );
        let short = ours(&["mount.wholefs", "s3://b", "/m", "-nr"]);
        assert_eq!(
            short.expect("understood"),
            ["wholefs", "mount", "--read-only", "--", "s3://b", "/m"]
        );
        let sloppy = ours(&["mount.wholefs", "-s", "s3://b", "/m", "-o", "nosuchword"]);
        assert_eq!(
            sloppy.expect("let through"),
            ["wholefs", "mount", "--", "s3://b", "/m"]
        );
    }

    #[test]
    fn every_long_flag_is_a_word() {
        let flags = MountArguments::augment_args(Command::new("mount"));
        let mut tried = 0;
        for flag in flags.get_arguments() {
            let Some(long) = flag.get_long() else {
                continue;
            };
            if REFUSED.iter().any(|(refused, _)| refused.contains(&long)) {
                continue;
            }
            let value = if flag.get_action().takes_values() {
                "=x"
            } else {
                ""
            };
            for word in [long.to_string(), long.replace('-', "_")] {
                let flag = flag_of(&format!("{word}{value}"));
                let flag = flag.map_err(|failure| failure.line).expect(long);
                assert_eq!(flag, Some(format!("--{long}{value}")));
                tried += 1;
            }
        }
        println!("{tried} words");
        assert!(tried > 40);
    }

    #[test]
    fn other_commands_are_left_alone() {
        for call in [
            vec!["wholefs"],
            vec!["wholefs", "demo", "-o", "x"],
            vec!["wholefs", "--help"],
            vec!["wholefs", "mount", "s3://b", "/m", "--", "-o"],
        ] {
            assert_eq!(ours(&call).expect("left alone"), call);
        }
        let with = ours(&[
            "wholefs",
            "mount",
            "s3://b",
            "/m",
            "-o",
            "allow_other,uid=5",
        ]);
        let expected = [
            "wholefs",
            "mount",
            "s3://b",
            "/m",
            "--allow-other",
            "--uid=5",
        ];
        assert_eq!(with.expect("understood"), expected);
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for (word, expected) in [
            ("remount", "unmount it"),
            ("endpoint_ulr=x", "\"endpoint_url\""),
            ("relatme", "\"relatime\""),
            ("part_size", "needs a value"),
            ("allow_other=1", "takes no value"),
            ("sync", "O_SYNC"),
            ("entry_timeout=5", "metadata_ttl"),
            ("context=\"system_u:object_r:x:s0:c1,c2\"", "SELinux"),
            (
                "bogus",
                "unknown option \"bogus\" (see wholefs mount --help)",
            ),
        ] {
            let said = ours(&["mount.wholefs", "s3://b", "/m", "-o", word]);
            let said = said.expect_err(word);
            assert!(said.contains(expected), "{word}: {said}");
        }
    }

    #[test]
    fn a_quoted_comma_separates_nothing() {
        assert_eq!(split("a=\"x,y\",b,,c"), ["a=x,y", "b", "c"]);
        assert!(split("").is_empty());
    }
}
