//! Prometheus itself, of the test's own: it scrapes what it is told to each second, and answers questions.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use super::tools::{die_with_parent, have, kill_and_reap, shout};
use super::wait::{holds_within, seconds};

pub struct Prometheus {
    address: String,
    process: Child,
    _folder: TempDir,
}

/// `prometheus` or `promtool`: of the machine, or where `scripts/test` puts it.
pub fn program(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let kept = home.join(".cache/wholefs/prometheus/usr/bin").join(name);
    if kept.is_file() {
        return Some(kept);
    }
    have(name, "WHOLEFS_REQUIRE_TOOLS").then(|| name.into())
}

impl Prometheus {
    /// `None`, said loudly, where there is none.
    pub fn scraping(target: &str) -> Option<Prometheus> {
        let program = program("prometheus")?;
        let started = (0..5).find_map(|_| Prometheus::try_start(&program, target));
        Some(started.expect("Prometheus starts"))
    }

    fn try_start(program: &PathBuf, target: &str) -> Option<Prometheus> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: wholefs, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a file of the test's own");
        let log = File::create(folder.path().join("log")).expect("a file of the test's own");
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .stdout(log.try_clone().expect("another descriptor"))
            .stderr(log);
        die_with_parent(&mut command);
        let process = command.spawn().expect("Prometheus runs");
        let mut prometheus = Prometheus {
            address,
            process,
            _folder: folder,
        };
        let mut gone = false;
        let up = holds_within(seconds(30), || {
            gone = prometheus
                .process
                .try_wait()
                .is_ok_and(|ended| ended.is_some());
            gone || prometheus.get("/-/ready").is_some()
        });
        if up && !gone {
            return Some(prometheus);
        }
        shout("Prometheus did not start");
        None
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let address = &self.address;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    /// What an expression is now: each series' labels and value. It must be understood.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        let answer = answer.unwrap_or_else(|| panic!("not understood: {expression}"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let series = answer["data"]["result"].as_array().expect("series").clone();
        let value = |one: &Value| one["value"][1].as_str().and_then(|v| v.parse().ok());
        let pair = |one: Value| (one["metric"].clone(), value(&one).expect("a number"));
        series.into_iter().map(pair).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill_and_reap(&mut self.process);
    }
}
