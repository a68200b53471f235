//! A snapshot in Prometheus' text form. Pure.

use std::fmt::Write;

use super::{Budget, Snapshot};
use crate::store::tally::LATENCIES;

pub(super) fn prometheus(snapshot: &Snapshot) -> String {
    let mut page = Page(String::new());
    let state = |state: &str| snapshot.writing.iter().filter(|w| w.state == state).count() as f64;
    page.head("wholefs_up_seconds", "gauge", "How long the mount serves.");
    page.line("wholefs_up_seconds", "", snapshot.up_seconds as f64);
    page.head(
        "wholefs_open_files",
        "gauge",
        "Files that programs have open.",
    );
    page.line("wholefs_open_files", "", snapshot.open_files as f64);
    page.head(
        "wholefs_files_being_written",
        "gauge",
        "Files that are not published yet.",
    );
    for name in ["writing", "uploading", "publishing"] {
        page.line(
            "wholefs_files_being_written",
            &format!("state=\"{name}\""),
            state(name),
        );
    }
    page.head(
        "wholefs_uploads_open",
        "gauge",
        "Multipart uploads begun and not ended.",
    );
    page.line("wholefs_uploads_open", "", snapshot.uploads as f64);
    page.head(
        "wholefs_budget_bytes",
        "gauge",
        "Memory and disk in use, and their limits.",
    );
    let budgets = [
        ("write_memory", snapshot.write_memory),
        ("read_memory", snapshot.read_memory),
        ("spool", snapshot.spool),
    ];
    for (name, Budget { used, limit }) in budgets {
        page.line(
            "wholefs_budget_bytes",
            &format!("of=\"{name}\",what=\"used\""),
            used as f64,
        );
        page.line(
            "wholefs_budget_bytes",
            &format!("of=\"{name}\",what=\"limit\""),
            limit as f64,
        );
    }
    page.head(
        "wholefs_bytes_total",
        "counter",
        "Bytes of bodies to and from the store.",
    );
    page.line(
        "wholefs_bytes_total",
        "direction=\"up\"",
        snapshot.bytes_sent as f64,
    );
    page.line(
        "wholefs_bytes_total",
        "direction=\"down\"",
        snapshot.bytes_received as f64,
    );
    page.head(
        "wholefs_journal_records_total",
        "counter",
        "Records of the journal.",
    );
    page.line(
        "wholefs_journal_records_total",
        "",
        snapshot.journal.records as f64,
    );
    page.head(
        "wholefs_journal_open",
        "gauge",
        "Uploads that the journal has open.",
    );
    page.line("wholefs_journal_open", "", snapshot.journal.open as f64);
    page.head(
        "wholefs_journal_poisoned",
        "gauge",
        "1: nothing can be recorded any more.",
    );
    page.line(
        "wholefs_journal_poisoned",
        "",
        f64::from(snapshot.journal.poisoned),
    );
    page.operations(snapshot);
    page.0
}

struct Page(String);

impl Page {
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

    fn operations(&mut self, snapshot: &Snapshot) {
        let failures = "wholefs_store_failures_total";
        self.head(
            failures,
            "counter",
            "Attempts that failed, by what became of them.",
        );
        for (operation, counted) in &snapshot.operations {
            for (cause, count) in &counted.failures {
                let labels = format!("operation=\"{operation}\",cause=\"{cause}\"");
                self.line(failures, &labels, *count as f64);
            }
        }
        let name = "wholefs_store_request_seconds";
        self.head(
            name,
            "histogram",
            "Time until the store's answer, by attempt.",
        );
        for (operation, counted) in &snapshot.operations {
            let mut so_far = 0;
            for (class, count) in counted.latencies.iter().enumerate() {
                so_far += count;
                let bound = LATENCIES
                    .get(class)
                    .map_or("+Inf".to_string(), f64::to_string);
                let labels = format!("operation=\"{operation}\",le=\"{bound}\"");
                self.line(&format!("{name}_bucket"), &labels, so_far as f64);
            }
            let labels = format!("operation=\"{operation}\"");
            self.line(&format!("{name}_sum"), &labels, counted.seconds);
            self.line(&format!("{name}_count"), &labels, counted.attempts as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tally::Operation;

    #[test]
    fn histograms_grow_and_end_with_all() {
        let mut snapshot = Snapshot::default();
        let counted = Operation {
            attempts: 3,
            seconds: 0.5,
            latencies: [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            failures: [("Throttled".to_string(), 1)].into(),
        };
        snapshot.operations.insert("PutObject".to_string(), counted);
        let text = prometheus(&snapshot);
        for line in [
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
            ..Operation::default()
        };
        snapshot.operations.insert("PutObject".to_string(), counted);
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
