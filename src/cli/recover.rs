//! `wholefs recover`: ends what dead mounts left open, of every store their journals name.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::log::start_on_terminal;
use super::mount::block_on;
use super::out::{complain, print_json, say};
use super::store_flags::StoreArguments;
use super::uploads::root_of;
use crate::journal::{default_state_dir, peek};
use crate::recovery::{self, Guarding, Summary, with_slash};
use crate::shown::Shown;
use crate::store;

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs recover --dry-run
  wholefs recover

A mount does this by itself for its own bucket; this is for machines that do not mount
again. Exit status 1 says that something could not be ended now.

A damaged journal is named with its line. Keep a copy; find what is open with
`wholefs uploads s3://BUCKET`; then move its directory aside.")]
pub(crate) struct RecoverArguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where the journals are kept [default: /var/lib/wholefs for root, else $XDG_STATE_HOME/wholefs]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Default, Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    /// Instances of mounts that are alive.
    live: usize,
    damaged: Vec<String>,
    unreachable: Vec<String>,
    /// With --dry-run: what would be ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    would: Vec<Planned>,
}

#[derive(Serialize)]
struct Planned {
    bucket: String,
    #[serde(skip)]
    root: String,
    key: String,
    /// `complete` what had been closed, `abort` the rest.
    action: &'static str,
}

pub(crate) fn run(arguments: RecoverArguments) -> Result<(), Failure> {
    start_on_terminal()?;
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    if let Some(given) = arguments.state_dir.as_ref().filter(|given| !given.exists()) {
        complain!(
            "{}: there is no such directory, and so no journal in it",
            given.display()
        );
    }
    let report = match arguments.dry_run {
        true => look(&state)?,
        false => block_on(recover(&arguments, &state))?,
    };
    if arguments.json {
        print_json(&report);
    } else {
        tell(&report, arguments.dry_run);
    }
    let mut causes: Vec<&String> = report.damaged.iter().chain(&report.unreachable).collect();
    if causes.is_empty() && report.summary.kept == 0 {
        return Ok(());
    }
    let verdict = format!("not everything in {} could be ended now", state.display());
    Err(Failure::from(match (causes.pop(), causes.is_empty()) {
        (Some(cause), true) => format!("{verdict}: {cause}; then run it again"),
        (last, _) => {
            for cause in causes.into_iter().chain(last) {
                complain!("{cause}");
            }
            format!("{verdict}: run it again when the cause above is gone")
        }
    }))
}

fn look(state: &std::path::Path) -> Result<Report, Failure> {
    let mut report = Report::default();
    for glimpse in peek(state).map_err(|e| e.to_string())? {
        match glimpse.content {
            _ if glimpse.live => report.live += 1,
            Err(error) => report.damaged.push(error.to_string()),
            Ok((header, open)) => {
                let planned = |key: &str, action| Planned {
                    bucket: header.store.bucket.clone(),
                    root: root_of(&header.store),
                    key: format!("{}{key}", with_slash(&header.store.prefix)),
                    action,
                };
                let uploads = open.iter().map(|upload| {
                    let rolls = upload.commit.is_some() && !upload.aborting;
                    planned(&upload.key, if rolls { "complete" } else { "abort" })
                });
                let renames = glimpse.intents.iter().map(|intent| match intent.copied {
                    true => planned(&intent.to, "finish the rename to"),
                    false => planned(&intent.to, "take back the rename to"),
                });
                report.would.extend(uploads.chain(renames));
            }
        }
    }
    Ok(report)
}

async fn recover(arguments: &RecoverArguments, state: &std::path::Path) -> Result<Report, Failure> {
    let found = recovery::find(state, |_| true).map_err(|e| e.to_string())?;
    let mut report = Report {
        live: found.live,
        damaged: found.damaged,
        ..Report::default()
    };
    for instance in found.instances {
        if instance.count() == 0 {
            instance.finish();
            continue;
        }
        let opened = match arguments.store.options_of(instance.identity(), state) {
            Ok(options) => store::open(options).await.map_err(|e| e.to_string()),
            Err(failure) => Err(failure.line),
        };
        match opened {
            Ok(store) => {
                report.summary.add(
                    recovery::end_all(&store, &instance, &Guarding::default().of(&instance)).await,
                );
                recovery::finish(instance).await;
            }
            Err(error) => {
                report.summary.kept += instance.count();
                report.unreachable.push(error);
            }
        }
    }
    Ok(report)
}

fn tell(report: &Report, dry_run: bool) {
    for planned in &report.would {
        say!(
            "would {} {}{}",
            planned.action,
            planned.root,
            Shown(&planned.key)
        );
    }
    if !dry_run || report.would.is_empty() {
        let live = match report.live {
            0 => String::new(),
            1 => "; 1 live mount left alone".to_string(),
            n => format!("; {n} live mounts left alone"),
        };
        match report.summary.total() {
            0 => say!("nothing to recover{live}"),
            _ => say!("{}{live}", report.summary),
        }
    }
}
