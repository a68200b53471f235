//! The configuration file: named mounts, their flags written as the words of `-o`.
//!
//! ```toml
//! [defaults]
//! region = "eu-west-1"
//!
//! [mounts.backups]
//! source = "s3://backups/2026"
//! directory = "/mnt/backups"
//! read_only = true
//! ```

use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Failure;
use super::words::{flag_of, one_name};
use crate::host::mountpoint;

/// A mount as the file has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Where it is told: the file, and its table.
    pub told: String,
    pub source: String,
    pub directory: Option<PathBuf>,
    pub flags: Vec<String>,
}

/// HOME=/dev/null is nobody's home.
fn is_absent(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind())
}

/// The mount of that name: in `file`, or in the first of the usual files that has one.
pub(super) fn named(name: &str, file: Option<&Path>) -> Result<Named, Failure> {
    let files = file.map_or_else(usual, |file| vec![file.to_path_buf()]);
    let mut known = Vec::new();
    for path in &files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) && file.is_none() => continue,
            Err(error) => {
                return Err(Failure::usage(format!(
                    "the configuration {} cannot be read: {error}",
                    path.display()
                )));
            }
        };
        let table = text.parse::<Table>().map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].lines().count().max(1));
            let said = error.message().lines().next().unwrap_or_default();
            Failure::usage(format!(
                "the configuration {} is wrong in line {line}: {said}",
                path.display()
            ))
        })?;
        let found = read(&table, name).map_err(|said| {
            Failure::usage(format!("the configuration {}: {said}", path.display()))
        })?;
        match found {
            Ok(named) => {
                let told = format!("the configuration {}, [mounts.{name}]", path.display());
                return Ok(Named { told, ..named });
            }
            Err(names) => known.extend(names),
        }
    }
    let shown: Vec<String> = files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let known = match known.is_empty() {
        true => format!("no mount is named in {}", shown.join(" or ")),
        false => format!(
            "the mounts named in {} are {}",
            shown.join(" or "),
            known.join(", ")
        ),
    };
    Err(Failure::usage(format!(
        "{name:?} is not something to mount: write s3://BUCKET or s3://BUCKET/PREFIX, or the name of a mount ({known})"
    )))
}

/// `--config` was given with what is no name, or with nothing.
pub(super) fn is_not_meant(file: Option<&Path>, source: Option<&str>) -> Result<(), Failure> {
    let named = source.map_or("none is named".to_string(), |source| {
        format!("{source} is none")
    });
    match file {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!(
            "--config is about mounts by name, and {named}: leave it out, or name a mount of that file"
        ))),
    }
}

/// The mount that is called so, unless one is at a directory of that name.
pub(super) fn called(name: &Path) -> Option<Named> {
    let text = name.to_str().filter(|text| !text.contains('/'))?;
    let at = mountpoint::absolute(name);
    match at.and_then(|at| mountpoint::source_of_ours(&at)) {
        Some(_) => None,
        None => named(text, None).ok(),
    }
}

impl Named {
    /// What it says of one of its flags.
    pub(super) fn value_of(&self, flag: &str) -> Option<&str> {
        let said = self.flags.iter().find_map(|said| said.strip_prefix(flag));
        said?.strip_prefix('=')
    }
}

/// The mounts that the usual files name, each with its source; of a file that cannot be read, none.
pub(super) fn names() -> Vec<(String, String)> {
    let text = |path: &PathBuf| std::fs::read_to_string(path).ok();
    let files = usual();
    let tables = files
        .iter()
        .filter_map(|path| text(path)?.parse::<Table>().ok());
    let mut names: Vec<(String, String)> = Vec::new();
    for table in tables {
        for (name, mount) in table
            .get("mounts")
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
        {
            let source = mount
                .get("source")
                .and_then(Value::as_str)
                .unwrap_or_default();
            // The first file that has it wins.
            if !names.iter().any(|(known, _)| known == name) {
                names.push((name.clone(), source.to_string()));
            }
        }
    }
    names
}

fn usual() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|place| place.is_absolute())
        .or_else(|| home.map(|home| home.join(".config")));
    let own = own.map(|directory| directory.join("wholefs/config.toml"));
    own.into_iter()
        .chain(["/etc/wholefs/config.toml".into()])
        .collect()
}

/// The mount of that name, or the names that are there.
fn read(file: &Table, name: &str) -> Result<Result<Named, Vec<String>>, String> {
    if let Some(other) = file
        .keys()
        .find(|key| !["mounts", "defaults"].contains(&key.as_str()))
    {
        return Err(format!("{other:?} is neither [defaults] nor [mounts.NAME]"));
    }
    let table = |value: Option<&Value>, what: &str| match value {
        None => Ok(Table::new()),
        Some(Value::Table(table)) => Ok(table.clone()),
        Some(_) => Err(format!("{what} is not a table")),
    };
    let mounts = table(file.get("mounts"), "mounts")?;
    let Some(mount) = mounts.get(name) else {
        return Ok(Err(mounts.keys().cloned().collect()));
    };
    let mut mount = table(Some(mount), &format!("mounts.{name}"))?;
    let mut text = |key: &str| match mount.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("mounts.{name}.{key} is not a text")),
    };
    let source = text("source")?.ok_or_else(|| format!("mounts.{name} has no source"))?;
    let directory = text("directory")?.map(PathBuf::from);
    let defaults = table(file.get("defaults"), "defaults")?;
    // What the mount says takes the place of a default, by whatever word it says it.
    let mut words = by_one_name(defaults)?;
    words.extend(by_one_name(mount)?);
    let mut flags = Vec::new();
    for (key, value) in &words {
        flags.extend(flag(key, value)?);
    }
    Ok(Ok(Named {
        told: String::new(),
        source,
        directory,
        flags,
    }))
}

/// What a table says, by the names that flags have here.
fn by_one_name(table: Table) -> Result<Table, String> {
    let mut words = Table::new();
    for (key, value) in table {
        let key = key.replace('-', "_");
        let (word, is_opposite) = one_name(&key);
        let value = match value {
            Value::Boolean(said) => Value::Boolean(said != is_opposite),
            _ if is_opposite => {
                return Err(format!("{key} is neither true nor false"));
            }
            value => value,
        };
        if words.insert(word.clone(), value).is_some() {
            return Err(format!("{key}: {word} is said twice"));
        }
    }
    Ok(words)
}

fn flag(key: &str, value: &Value) -> Result<Option<String>, String> {
    let word = match value {
        // Of one that is there or not: it is not. Of one that may be said either way, as it is said.
        Value::Boolean(false) => {
            let there = flag_of(key).map_err(|failure| failure.line);
            return there.map(|_| flag_of(&format!("{key}=false")).ok().flatten());
        }
        Value::Boolean(true) => key.to_string(),
        Value::String(text) => format!("{key}={text}"),
        Value::Integer(number) => format!("{key}={number}"),
        _ => return Err(format!("{key} is neither a text, a number, true nor false")),
    };
    flag_of(&word).map_err(|failure| failure.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Result<Named, Vec<String>>, String> {
        read(&text.parse().expect("TOML"), "backups")
    }

    #[test]
    fn what_a_mount_says_takes_the_place_of_the_defaults() {
        let text = "
            [defaults]
            region = 'eu-west-1'
            part-size = '16M'
            allow_other = true
            [mounts.backups]
            source = 's3://backups/2026'
            directory = '/mnt/backups'
            read_only = true
            allow_other = false
            path_style = false
            attempts = 3
            part_size = '32M'
        ";
        let named = found(text).expect("right").expect("there");
        assert_eq!(named.source, "s3://backups/2026");
        assert_eq!(named.directory, Some("/mnt/backups".into()));
        let expected = [
            "--attempts=3",
            "--part-size=32M",
            "--path-style=false",
            "--read-only",
            "--region=eu-west-1",
        ];
        assert_eq!(named.flags, expected);
    }

    #[test]
    fn a_default_is_replaced_by_whatever_word_it_is_said() {
        let flags = |defaults: &str, mount: &str| {
            let text =
                format!("[defaults]\n{defaults}\n[mounts.backups]\nsource = 's3://b'\n{mount}");
            found(&text).expect("right").expect("there").flags
        };
        let none: [&str; 0] = [];
        assert_eq!(
            flags("url = 'http://a'", "endpoint-url = 'http://b'"),
            ["--endpoint-url=http://b"]
        );
        for (before, after) in [
            ("ro = true", "read_only = false"),
            ("read_only = true", "rw = true"),
            ("noexec = true", "exec = true"),
        ] {
            assert_eq!(flags(before, after), none, "{before}, {after}");
        }
        assert_eq!(flags("rw = true", "ro = true"), ["--read-only"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[mounts.backups]", "no source"),
            ("[mounts.backups]\nsource = 1", "not a text"),
            (
                "[mounts.backups]\nsource = 's3://b'\nendpoint_ulr = 'x'",
                "endpoint_url",
            ),
            (
                "[mounts.backups]\nsource = 's3://b'\nattempts = [1]",
                "neither a text",
            ),
            (
                "[mounts.backups]\nsource = 's3://b'\nread-only = true\nread_only = false",
                "said twice",
            ),
            ("[mount.backups]\nsource = 's3://b'", "\"mount\""),
            ("mounts = 1", "not a table"),
        ] {
            let said = found(text).expect_err(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
        let others = found("[mounts.other]\nsource = 's3://b'").expect("right");
        assert_eq!(others, Err(vec!["other".to_string()]));
    }
}
