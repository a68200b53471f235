//! A snapshot in Prometheus' text form. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Budget, Caches, Ended, Hits, Snapshot};
use crate::fs::WAITS;
use crate::store::tally::{LATENCIES, Operation};

pub(super) fn prometheus(snapshot: &Snapshot) -> String {
    let mut page = Page(String::new());
    let name = "wholefs_mount_info";
    page.gauge(name, "Which mount this is: always 1.");
    let labels = [
        ("source", &snapshot.source),
        ("mount_point", &snapshot.mount_point),
        ("version", &snapshot.version),
    ];
    page.line(
        name,
        &labels.map(|(name, value)| label(name, value)).join(","),
        1.0,
    );
    page.gauge("wholefs_up_seconds", "How long the mount serves.");
    page.line("wholefs_up_seconds", "", snapshot.up_seconds as f64);
    files(&mut page, snapshot);
    budgets(&mut page, snapshot);
    page.counter(
        "wholefs_bytes_total",
        "Bytes of bodies to and from the store.",
    );
    for (direction, bytes) in [
        ("up", snapshot.bytes_sent),
        ("down", snapshot.bytes_received),
    ] {
        let labels = format!("direction=\"{direction}\"");
        page.line("wholefs_bytes_total", &labels, bytes as f64);
    }
    uploads(&mut page, &snapshot.ended);
    caches(&mut page, &snapshot.caches);
    journal(&mut page, snapshot);
    calls(&mut page, snapshot);
    requests(&mut page, snapshot);
    page.0
}

fn files(page: &mut Page, snapshot: &Snapshot) {
    page.gauge("wholefs_open_files", "Files that programs have open.");
    page.line("wholefs_open_files", "", snapshot.open_files as f64);
    let name = "wholefs_files_being_written";
    page.gauge(name, "Files that are not published yet.");
    for state in ["writing", "uploading", "publishing"] {
        let count = snapshot.writing.iter().filter(|w| w.state == state).count();
        page.line(name, &format!("state=\"{state}\""), count as f64);
    }
    page.gauge(
        "wholefs_files_being_fetched",
        "Files of which bytes are on their way here.",
    );
    let fetched = snapshot.reading.len();
    page.line("wholefs_files_being_fetched", "", fetched as f64);
    page.gauge(
        "wholefs_uploads_open",
        "Multipart uploads begun and not ended.",
    );
    page.line("wholefs_uploads_open", "", snapshot.uploads as f64);
}

fn budgets(page: &mut Page, snapshot: &Snapshot) {
    let name = "wholefs_budget_bytes";
    page.gauge(name, "Memory and disk in use, and their limits.");
    let budgets = [
        ("write_memory", snapshot.write_memory),
        ("read_memory", snapshot.read_memory),
        ("spool", snapshot.spool),
        ("disk_cache", snapshot.disk_cache),
    ];
    for (of, Budget { used, limit }) in budgets {
        for (what, bytes) in [("used", used), ("limit", limit)] {
            let labels = format!("of=\"{of}\",what=\"{what}\"");
            page.line(name, &labels, bytes as f64);
        }
    }
}

fn uploads(page: &mut Page, ended: &Ended) {
    let plain = [
        (
            "wholefs_uploads_begun_total",
            "Multipart uploads begun.",
            ended.begun,
        ),
        (
            "wholefs_uploads_committed_total",
            "Those that were published.",
            ended.committed,
        ),
    ];
    for (name, help, count) in plain {
        page.counter(name, help);
        page.line(name, "", count as f64);
    }
    let aborted = (
        "wholefs_uploads_aborted_total",
        "Those that were not, by reason.",
    );
    let recovered = (
        "wholefs_uploads_recovered_total",
        "What dead mounts left, by how this one ended it.",
    );
    for ((name, help), label, counts) in [
        (aborted, "reason", &ended.aborted),
        (recovered, "outcome", &ended.recovered),
    ] {
        page.counter(name, help);
        for (value, count) in counts {
            page.line(name, &format!("{label}=\"{value}\""), *count as f64);
        }
    }
}

fn caches(page: &mut Page, caches: &Caches) {
    let name = "wholefs_cache_answers_total";
    page.counter(
        name,
        "What was known here (hit), or had to be asked of the store (miss).",
    );
    let all = [
        ("names", caches.names),
        ("attributes", caches.attributes),
        ("read_ahead", caches.read_ahead),
        ("disk", caches.disk),
    ];
    for (cache, Hits { hits, misses }) in all {
        for (answer, count) in [("hit", hits), ("miss", misses)] {
            let labels = format!("cache=\"{cache}\",answer=\"{answer}\"");
            page.line(name, &labels, count as f64);
        }
    }
}

fn journal(page: &mut Page, snapshot: &Snapshot) {
    let journal = &snapshot.journal;
    let counters = [
        (
            "wholefs_journal_records_total",
            "Records of the journal.",
            journal.records,
        ),
        (
            "wholefs_journal_syncs_total",
            "Waits for its disk.",
            journal.syncs,
        ),
    ];
    for (name, help, count) in counters {
        page.counter(name, help);
        page.line(name, "", count as f64);
    }
    page.gauge("wholefs_journal_bytes", "How long it is.");
    page.line("wholefs_journal_bytes", "", journal.bytes as f64);
    page.gauge("wholefs_journal_open", "Uploads that the journal has open.");
    page.line("wholefs_journal_open", "", journal.open as f64);
    page.gauge(
        "wholefs_journal_poisoned",
        "1: nothing can be recorded any more.",
    );
    page.line("wholefs_journal_poisoned", "", f64::from(journal.poisoned));
}

fn calls(page: &mut Page, snapshot: &Snapshot) {
    let name = "wholefs_call_seconds";
    page.histogram(name, "Time until a program's call was answered.");
    for (call, waits) in &snapshot.calls {
        let labels = format!("operation=\"{call}\"");
        page.classes(name, &labels, &WAITS, &waits.classes, waits.seconds);
    }
}

fn requests(page: &mut Page, snapshot: &Snapshot) {
    let failures = (
        "wholefs_store_failures_total",
        "Attempts that failed, by what became of them.",
    );
    let retries = (
        "wholefs_store_retries_total",
        "Attempts made again, by what had come before.",
    );
    let of_failures: fn(&Operation) -> &BTreeMap<String, u64> = |counted| &counted.failures;
    let of_retries: fn(&Operation) -> &BTreeMap<String, u64> = |counted| &counted.retries;
    for ((name, help), causes) in [(failures, of_failures), (retries, of_retries)] {
        page.counter(name, help);
        for (operation, counted) in &snapshot.operations {
            for (cause, count) in causes(counted) {
                let labels = format!("operation=\"{operation}\",cause=\"{cause}\"");
                page.line(name, &labels, *count as f64);
            }
        }
    }
    let name = "wholefs_store_request_seconds";
    page.histogram(name, "Time until the store's answer, by attempt.");
    for (operation, counted) in &snapshot.operations {
        let labels = format!("operation=\"{operation}\"");
        page.classes(
            name,
            &labels,
            &LATENCIES,
            &counted.latencies,
            counted.seconds,
        );
    }
}

/// A label whose value may be anything.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}=\"{}\"", value.replace('\n', "\\n"))
}

struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    fn histogram(&mut self, name: &str, help: &str) {
        self.head(name, "histogram", help);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// Of a histogram: `counts` by class, one more than there are bounds.
    fn classes(&mut self, name: &str, labels: &str, bounds: &[f64], counts: &[u64], seconds: f64) {
        let mut so_far = 0;
        for (class, count) in counts.iter().enumerate() {
            so_far += count;
            let bound = bounds.get(class);
            let bound = bound.map_or("+Inf".to_string(), f64::to_string);
            let labels = format!("{labels},le=\"{bound}\"");
            self.line(&format!("{name}_bucket"), &labels, so_far as f64);
        }
        self.line(&format!("{name}_sum"), labels, seconds);
        self.line(&format!("{name}_count"), labels, so_far as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Waits;

    #[test]
    fn histograms_grow_and_end_with_all() {
        let mut snapshot = Snapshot::default();
        let counted = Operation {
            attempts: 3,
            seconds: 0.5,
            latencies: [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            failures: [("Throttled".to_string(), 1)].into(),
            retries: [("Throttled".to_string(), 1)].into(),
        };
        snapshot.operations.insert("PutObject".to_string(), counted);
        let waits = Waits {
            classes: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            seconds: 61.0,
        };
        snapshot.calls.insert("write".to_string(), waits);
        snapshot.ended.aborted.insert("given up".to_string(), 2);
        snapshot.source = "s3://b/a \"quoted\"\\".to_string();
        snapshot.mount_point = "/two\nlines".to_string();
        let text = prometheus(&snapshot);
        for line in [
            r#"wholefs_mount_info{source="s3://b/a \"quoted\"\\",mount_point="/two\nlines",version=""} 1"#,
            "wholefs_call_seconds_bucket{operation=\"write\",le=\"0.0001\"} 1",
            "wholefs_call_seconds_bucket{operation=\"write\",le=\"60\"} 1",
            "wholefs_call_seconds_count{operation=\"write\"} 2",
            "wholefs_call_seconds_sum{operation=\"write\"} 61",
            "wholefs_uploads_aborted_total{reason=\"given up\"} 2",
            "wholefs_cache_answers_total{cache=\"names\",answer=\"hit\"} 0",
            "wholefs_store_retries_total{operation=\"PutObject\",cause=\"Throttled\"} 1",
            "wholefs_store_request_seconds_bucket{operation=\"PutObject\",le=\"0.005\"} 1",
            "wholefs_store_request_seconds_bucket{operation=\"PutObject\",le=\"30\"} 2",
            "wholefs_store_request_seconds_bucket{operation=\"PutObject\",le=\"+Inf\"} 3",
            "wholefs_store_request_seconds_count{operation=\"PutObject\"} 3",
            "wholefs_store_failures_total{operation=\"PutObject\",cause=\"Throttled\"} 1",
            "wholefs_open_files 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        // Each series has its type, once.
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        let mut names: Vec<&str> = types.filter_map(|line| line.split(' ').nth(2)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let mut snapshot = Snapshot::default();
        let counted = Operation {
            failures: [("Throttled".to_string(), 1)].into(),
            retries: [("Throttled".to_string(), 1)].into(),
            ..Operation::default()
        };
        snapshot.operations.insert("PutObject".to_string(), counted);
        snapshot.calls.insert("write".to_string(), Waits::default());
        let counts = [("x".to_string(), 1)];
        snapshot.ended.aborted = counts.clone().into();
        snapshot.ended.recovered = counts.into();
        let text = prometheus(&snapshot);
        let there: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        let dashboard = include_str!("../../scripts/grafana.json");
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let asked = dashboard
            .match_indices("wholefs_")
            .map(|(at, _)| dashboard[at..].split(|c| !is_of_a_name(c)).next());
        let asked: Vec<&str> = asked.flatten().collect();
        assert!(asked.len() > 10);
        for name in asked {
            assert!(there.contains(&name), "{name}");
        }
    }
}
