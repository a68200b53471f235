//! The dashboard, as far as it can be seen without Grafana: Prometheus itself scrapes a mount at work, and each
//! expression of each panel gives data.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::host::Host;
use crate::support::prometheus::Prometheus;
use crate::support::wait::holds_within;
use crate::support::{MIB, Writer, eventually, seconds};

/// Panel and expression, with what Grafana puts in the place of its variables.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../scripts/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut all = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression
                .replace("$instance", ".*")
                .replace("$__rate_interval", "20s");
            assert!(!expression.contains('$'), "{expression}");
            let title = panel["title"].as_str().expect("a title");
            all.push((title.to_owned(), expression));
        }
    }
    all
}

/// A bit of everything that is shown.
fn work(host: &Host, round: u32) {
    let path = |name: &str| host.at.join(format!("{name} {round}"));
    // Attempts that fail and are made again.
    host.store
        .faults()
        .script("op=UploadPart,n=1:error=503/SlowDown")
        .expect("a fault");
    host.store
        .faults()
        .script("op=ListObjects,n=1:error=500")
        .expect("a fault");
    let mut writer = Writer::start();
    writer
        .open(&path("published"), "wct")
        .write(1, 6 * MIB)
        .step("close");
    writer.exit(0);
    assert_eq!(
        fs::read(path("published")).expect("read").len() as u64,
        6 * MIB
    );
    fs::rename(path("published"), path("renamed")).expect("renamed");
    assert!(fs::read_dir(&host.at).expect("listed").count() > 0);
    let mut killed = Writer::start();
    killed.open(&path("torn"), "wct").write(1, 6 * MIB);
    host.store.await_parts(&format!("torn {round}"), 1);
    killed.die_of(libc::SIGKILL);
    fs::remove_file(path("renamed")).expect("removed");
    host.store.faults().clear();
}

#[test]
fn prometheus_has_data_for_every_panel() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bound");
    let target = free.local_addr().expect("an address").to_string();
    drop(free);
    let Some(prometheus) = Prometheus::scraping(&target) else {
        return;
    };
    let host = Host::new();
    let source = format!("s3://{}", host.store.bucket);
    let words = format!("{},part_size=5M,metrics_listen={target}", host.words());
    let done = host.helper(&source, &words);
    assert!(done.ok(), "{}", done.err);
    // It has seen the counts at nothing.
    let is_scraped = || !prometheus.query("wholefs_up_seconds").is_empty();
    eventually(seconds(30), "it is scraped", is_scraped);
    let mut waiting: BTreeSet<_> = expressions().into_iter().collect();
    assert!(waiting.len() > 15, "{waiting:?}");
    let mut round = 0;
    let all = holds_within(seconds(60), || {
        round += 1;
        work(&host, round);
        waiting.retain(|(_, expression)| {
            let moves = expression.contains("rate(");
            let is_data = |value: f64| value.is_finite() && (!moves || value > 0.0);
            !prometheus
                .query(expression)
                .iter()
                .any(|(_, value)| is_data(*value))
        });
        waiting.is_empty()
    });
    assert!(all, "no data: {waiting:#?}");
    // Which mount it is is told with it.
    let mounts = prometheus.query("wholefs_mount_info");
    let [(labels, _)] = mounts.as_slice() else {
        panic!("{mounts:?}");
    };
    assert_eq!(labels["source"], source);
    assert_eq!(labels["mount_point"], host.at.display().to_string());
    assert_eq!(labels["instance"], target);
    eventually(seconds(10), "it is unmounted", || host.unmount().ok());
}
