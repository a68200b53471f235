//! A mount as a table for people, as wide as there is room. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::units::{bytes_in_words, time_in_words};
use crate::shown::Shown;
use crate::status::{Budget, Event, Hits, Snapshot};

/// Files and events shown of a mount; the rest is counted.
const SHOWN: usize = 8;

/// What is no failure: that something is not there, or is another version, is an answer.
const ANSWERS: [&str; 3] = ["Missing", "NoSuchUpload", "Conflict"];

/// What a picture is drawn from beside the mount itself.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// What it was, and how long ago.
    pub earlier: Option<(&'a Snapshot, Duration)>,
    /// Seconds since 1970.
    pub now: u64,
    /// Columns, if there is an end to them.
    pub width: Option<usize>,
}

pub(super) fn picture(mount: &Snapshot, view: View<'_>) -> Vec<String> {
    let mut lines = vec![format!(
        "{} at {}  (process {}, for {})",
        Shown(&mount.source),
        Shown(&mount.mount_point),
        mount.pid,
        time_in_words(mount.up_seconds)
    )];
    let mut say = |what: &str, text: String| lines.push(format!("  {what:<10} {text}"));
    say("up", moved(mount, view, |mount| mount.bytes_sent));
    say("down", moved(mount, view, |mount| mount.bytes_received));
    say("files", files(mount));
    say("uploads", uploads(mount));
    say("requests", requests(mount));
    say("known", known(mount));
    say("journal", journal(mount));
    for (what, Budget { used, limit }, of) in [
        ("memory", mount.write_memory, ", writing"),
        ("", mount.read_memory, ", reading"),
        ("spool", mount.spool, ""),
        ("cache", mount.disk_cache, ""),
    ] {
        // There is no cache unless it is asked for.
        if what == "cache" && limit == 0 {
            continue;
        }
        say(what, format!("{}{of}", bar(used, limit, view)));
    }
    let uploading = mount.writing.iter();
    let uploading = uploading.map(|file| (&*file.state, file.sent, file.size, &file.key));
    let reading = mount.reading.iter();
    let reading = reading.map(|file| ("reading", file.at, file.size, &file.key));
    let under_way: Vec<_> = uploading.chain(reading).collect();
    for (what, done, all, key) in under_way.iter().take(SHOWN) {
        let line = format!("  {what:<10} {}  ", bar(*done, *all, view));
        let room = view
            .width
            .map(|width| width.saturating_sub(line.chars().count()));
        lines.push(line + &end_of(&format!("/{}", Shown(key)), room));
    }
    if under_way.len() > SHOWN {
        lines.push(format!("  … and {} more files", under_way.len() - SHOWN));
    }
    let last = mount.events.iter().rev().take(SHOWN).rev();
    lines.extend(last.map(|said| event(said, view.now)));
    let fit = |line: String| beginning_of(line, view.width);
    lines.into_iter().map(fit).collect()
}

fn moved(mount: &Snapshot, view: View<'_>, of: fn(&Snapshot) -> u64) -> String {
    let all = bytes_in_words(of(mount));
    match view.earlier {
        Some((then, passed)) if !passed.is_zero() => {
            let bytes = of(mount).saturating_sub(of(then)) as f64;
            let rate = bytes_in_words((bytes / passed.as_secs_f64()) as u64);
            format!("{rate}/s, {all} in all")
        }
        _ => all,
    }
}

fn files(mount: &Snapshot) -> String {
    format!(
        "{} open, {} being written, {} being fetched",
        mount.open_files,
        mount.writing.len(),
        mount.reading.len()
    )
}

fn uploads(mount: &Snapshot) -> String {
    let ended = &mount.ended;
    let mut text = format!(
        "{} open, {} begun, {} published",
        mount.uploads, ended.begun, ended.committed
    );
    text += &causes(", aborted", &ended.aborted, &[]);
    text + &causes(", of dead mounts", &ended.recovered, &[])
}

fn requests(mount: &Snapshot) -> String {
    let attempts: u64 = mount.operations.values().map(|o| o.attempts).sum();
    let mut failures = BTreeMap::<String, u64>::new();
    let mut retries = failures.clone();
    for operation in mount.operations.values() {
        for (all, of) in [
            (&mut failures, &operation.failures),
            (&mut retries, &operation.retries),
        ] {
            for (cause, count) in of {
                *all.entry(cause.clone()).or_default() += count;
            }
        }
    }
    let failed = causes(", failed", &failures, &ANSWERS);
    format!(
        "{attempts}{failed}{}",
        causes(", made again", &retries, &[])
    )
}

/// ` 3 (one cause 2, another 1)`, or nothing.
fn causes(what: &str, counts: &BTreeMap<String, u64>, but: &[&str]) -> String {
    let counted = |(cause, count): &(&String, &u64)| **count > 0 && !but.contains(&cause.as_str());
    let counts: Vec<_> = counts.iter().filter(counted).collect();
    let all: u64 = counts.iter().map(|(_, count)| **count).sum();
    let each = counts
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"));
    match all {
        0 => String::new(),
        all => format!("{what} {all} ({})", each.collect::<Vec<_>>().join(", ")),
    }
}

/// Of what was wanted, how much was answered without asking the store.
fn known(mount: &Snapshot) -> String {
    let share = |Hits { hits, misses }: Hits| match hits + misses {
        0 => "none asked".to_string(),
        all => format!("{} % of {all}", hits * 100 / all),
    };
    let caches = mount.caches;
    let mut known = format!(
        "names {}, attributes {}, reads {}",
        share(caches.names),
        share(caches.attributes),
        share(caches.read_ahead)
    );
    if mount.disk_cache.limit > 0 {
        known += &format!(", on disk {}", share(caches.disk));
    }
    known
}

fn journal(mount: &Snapshot) -> String {
    let trouble = match mount.journal.poisoned {
        true => ", and cannot be written: look at its disk",
        false => "",
    };
    format!("{} open{trouble}", mount.journal.open)
}

fn event(event: &Event, now: u64) -> String {
    let times = match event.times {
        0 | 1 => String::new(),
        times => format!("{times} times, the last "),
    };
    let ago = time_in_words(now.saturating_sub(event.at));
    let (level, message) = (&event.level, Shown(&event.message));
    format!("  {level:<5} {times}{ago} ago: {message}")
}

/// How much of it is done: drawn, in hundredths, and in words.
fn bar(done: u64, all: u64, view: View<'_>) -> String {
    let done = done.min(all);
    let columns = view.width.map_or(20, |width| (width / 5).clamp(8, 40));
    let share = |of: u64| match all {
        0 => 0,
        all => (u128::from(done) * u128::from(of) / u128::from(all)) as usize,
    };
    let full = share(columns as u64);
    format!(
        "[{}{}] {:>3} %  {} of {}",
        "#".repeat(full),
        ".".repeat(columns - full),
        share(100),
        bytes_in_words(done),
        bytes_in_words(all)
    )
}

/// In lines that fit, as far as its words do.
pub(super) fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && room.is_some_and(|room| length > room) {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

pub(super) fn beginning_of(text: String, room: Option<usize>) -> String {
    match room {
        Some(room) if text.chars().count() > room => {
            let shown = text.chars().take(room.saturating_sub(1));
            shown.chain(['…']).collect()
        }
        _ => text,
    }
}

/// A path's end tells more than its beginning.
fn end_of(text: &str, room: Option<usize>) -> String {
    let count = text.chars().count();
    match room {
        Some(room) if count > room => {
            let hidden = count - room.saturating_sub(1).min(count);
            ['…'].into_iter().chain(text.chars().skip(hidden)).collect()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Reading, Writing};

    fn busy() -> Snapshot {
        Snapshot {
            source: "s3://demo".to_string(),
            mount_point: "/srv/mnt".to_string(),
            writing: vec![Writing {
                key: format!("a/{}/\x1b[2J.tar", "long".repeat(30)),
                size: 100 << 20,
                state: "uploading".to_string(),
                parts: 3,
                acknowledged: 24 << 20,
                sent: 25 << 20,
            }],
            reading: (0..SHOWN)
                .map(|n| Reading {
                    key: n.to_string(),
                    size: 10,
                    at: 10,
                    coming: 1,
                })
                .collect(),
            bytes_sent: 5 << 20,
            ..Snapshot::default()
        }
    }

    fn drawn(width: Option<usize>) -> Vec<String> {
        let before = Snapshot::default();
        let view = View {
            earlier: Some((&before, Duration::from_secs(2))),
            now: 0,
            width,
        };
        picture(&busy(), view)
    }

    #[test]
    fn it_fits_whatever_the_width() {
        for width in [1, 20, 40, 80, 200] {
            for line in drawn(Some(width)) {
                assert!(line.chars().count() <= width, "{line:?} at {width}");
            }
        }
        let lines = drawn(Some(80));
        let upload = &lines[11];
        let begins = "  uploading  [####............]  25 %  25.0 MiB of 100.0 MiB  …";
        assert!(upload.starts_with(begins), "{upload}");
        assert!(upload.ends_with("\\u{1b}[2J.tar"), "{upload}");
        assert_eq!(upload.chars().count(), 80);
        assert_eq!(lines[1], "  up         2.5 MiB/s, 5.0 MiB in all");
        assert!(lines.iter().any(|line| line == "  … and 1 more files"));
    }

    #[test]
    fn without_a_width_nothing_is_cut_and_nothing_obeyed() {
        let page = drawn(None).join("\n");
        assert!(page.contains(&"long".repeat(30)), "{page}");
        // Of the files that are not shown.
        assert_eq!(page.matches('…').count(), 1, "{page}");
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn words_are_wrapped_where_there_is_an_end_of_line() {
        let text = "one two three-and-more four";
        assert_eq!(wrapped(text, None), [text]);
        let lines = ["one two", "three-and-more", "four"];
        assert_eq!(wrapped(text, Some(8)), lines);
        assert_eq!(wrapped("", Some(8)), [""]);
    }

    #[test]
    fn causes_are_told_where_there_are_any() {
        let counts = [("Denied", 1), ("Missing", 7), ("Throttled", 2)];
        let counts = counts
            .map(|(cause, count)| (cause.to_string(), count))
            .into();
        let told = causes(", failed", &counts, &ANSWERS);
        assert_eq!(told, ", failed 3 (Denied 1, Throttled 2)");
        assert_eq!(causes(", failed", &BTreeMap::new(), &[]), "");
    }
}
