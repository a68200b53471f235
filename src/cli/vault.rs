//! `wholefs vault`: what is in a Glacier vault, by its catalogue; and what takes hours: having files brought
//! back, and making a lost catalogue anew.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use super::log::start_on_terminal;
use super::mount::block_on;
use super::out::say;
use super::store_flags::{PART_SIZE_OF_VAULTS, StoreArguments, VAULT_SCHEME};
use crate::journal::default_state_dir;
use crate::store::glacier::{Catalogue, Entry, GlacierStore, Job, Record, Tier, VaultName};

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs mount glacier://archive /mnt/archive
  wholefs vault list archive
  wholefs vault export archive > archive.catalogue
  wholefs vault retrieve archive 2026/photos.tar --tier Bulk --wait

The catalogue, which name is which archive, is on this machine alone: keep an export of it.")]
pub(crate) struct VaultArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the files of a vault, by its catalogue
    List {
        #[command(flatten)]
        vault: Vault,
    },
    /// Write the catalogue to stdout, a JSON object a line
    Export {
        #[command(flatten)]
        vault: Vault,
    },
    /// Add the names that stdin (an export) has and the catalogue has not
    Import {
        #[command(flatten)]
        vault: Vault,
    },
    /// Have a file brought back, so that it can be read
    Retrieve {
        #[command(flatten)]
        vault: Vault,
        /// The file, by its path in the vault
        name: String,
        /// How fast, and how dear
        #[arg(long, value_enum, default_value_t = Speed::Standard)]
        tier: Speed,
        /// Do not return before it is there
        #[arg(long)]
        wait: bool,
    },
    /// Add to the catalogue what the vault's own inventory has and it has not
    Inventory {
        #[command(flatten)]
        vault: Vault,
        /// Do not return before it is done
        #[arg(long)]
        wait: bool,
    },
}

#[derive(Args)]
struct Vault {
    /// The vault's name, or glacier://VAULT
    #[arg(value_name = "VAULT")]
    vault: String,
    /// Where the catalogues are kept [default: /var/lib/wholefs for root, else $XDG_STATE_HOME/wholefs]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Speed {
    #[value(name = "Bulk", alias = "bulk")]
    Bulk,
    #[value(name = "Standard", alias = "standard")]
    Standard,
    #[value(name = "Expedited", alias = "expedited")]
    Expedited,
}

impl From<Speed> for Tier {
    fn from(speed: Speed) -> Tier {
        match speed {
            Speed::Bulk => Tier::Bulk,
            Speed::Standard => Tier::Standard,
            Speed::Expedited => Tier::Expedited,
        }
    }
}

impl Vault {
    fn name(&self) -> &str {
        let name = self.vault.strip_prefix(VAULT_SCHEME).unwrap_or(&self.vault);
        name.trim_end_matches('/')
    }

    fn state(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(default_state_dir)
    }

    async fn open(&self, look_only: bool) -> Result<GlacierStore, Failure> {
        let (name, state) = (self.name(), self.state());
        let options = self
            .store
            .vault(name, &state, PART_SIZE_OF_VAULTS, look_only)?;
        let store = GlacierStore::connect(options).await;
        store.map_err(|e| Failure::from(e.to_string()))
    }

    /// Its catalogue, without a word to the vault.
    fn look(&self) -> Result<Catalogue, Failure> {
        let state = self.state();
        let endpoint = self.store.endpoint_of_vaults();
        let fits = |of: &VaultName| {
            of.vault == self.name()
                && self.store.region().is_none_or(|region| region == of.region)
                && endpoint
                    .as_deref()
                    .is_none_or(|url| of.endpoint.as_deref() == Some(url.trim_end_matches('/')))
        };
        let mut found = Catalogue::all(&state);
        found.retain(|(of, _)| fits(of));
        match &found[..] {
            [(of, _)] => Catalogue::look(&state, of).map_err(|e| Failure::from(e.to_string())),
            [] => Err(Failure::from(format!(
                "no catalogue of vault {:?} in {}: mount it, or name the right --state-dir",
                self.name(),
                state.display()
            ))),
            several => {
                let regions: Vec<&str> = several.iter().map(|(of, _)| of.region.as_str()).collect();
                Err(Failure::from(format!(
                    "several vaults {:?} are known (in {}): say which by --region, or --endpoint-url",
                    self.name(),
                    regions.join(", ")
                )))
            }
        }
    }
}

pub(crate) fn run(arguments: VaultArguments) -> Result<(), Failure> {
    start_on_terminal()?;
    match arguments.action {
        Action::List { vault } => told(list(&vault.look()?)),
        Action::Export { vault } => told(export(&vault.look()?)),
        Action::Import { vault } => block_on(import(&vault)),
        Action::Retrieve {
            vault,
            name,
            tier,
            wait,
        } => block_on(retrieve(&vault, &name, tier.into(), wait)),
        Action::Inventory { vault, wait } => block_on(inventory(&vault, wait)),
    }
}

/// Who reads no further has heard enough.
fn told(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::from(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn list(catalogue: &Catalogue) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (name, entry) in &catalogue.names().files {
        let archive = entry.archive().unwrap_or("-");
        writeln!(out, "{:>14} {archive} {name:?}", entry.size)?;
    }
    out.flush()
}

fn export(catalogue: &Catalogue) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for record in catalogue.names().records() {
        if matches!(record, Record::Put { .. }) {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

async fn import(vault: &Vault) -> Result<(), Failure> {
    let mut read: Vec<(String, Entry)> = Vec::new();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|e| format!("cannot read stdin: {e}"))?;
        match serde_json::from_str(&line) {
            Ok(Record::Put { name, entry, .. }) => read.push((name, entry)),
            Ok(_) => {}
            Err(error) => {
                let number = number + 1;
                return Err(Failure::from(format!(
                    "line {number} is not of an export ({error}): nothing was imported"
                )));
            }
        }
    }
    let store = vault.open(false).await?;
    let (all, mut added) = (read.len(), 0);
    let recorded = store.catalogue().record(|names| {
        let mut records = Vec::new();
        for (name, entry) in read {
            if !names.files.contains_key(&name) {
                added += 1;
                records.push(Record::Put {
                    name,
                    entry,
                    upload: None,
                });
            }
        }
        Ok::<_, io::Error>(records)
    });
    recorded.map_err(|e| format!("the catalogue cannot be written: {e}"))?;
    say!("{added} names added, {} were there", all - added);
    Ok(())
}

/// How long between two looks at a job, at first and at last.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Asks until the job is done, or once.
///
/// One is begun at the most, for each is paid.
async fn awaited<Asking>(
    wait: bool,
    ask: impl Fn(bool) -> Asking,
) -> Result<Option<String>, Failure>
where
    Asking: Future<Output = crate::store::Result<Job>>,
{
    let mut pause = LOOKS.0;
    let mut may_begin = true;
    loop {
        match ask(may_begin).await.map_err(|e| e.to_string())? {
            Job::Done(id) => return Ok(Some(id)),
            Job::Failed(why) => {
                return Err(format!(
                    "the vault has given the job up: {why}: run this again to begin another"
                )
                .into());
            }
            Job::Running if !wait => return Ok(None),
            Job::Running => tokio::time::sleep(pause).await,
        }
        may_begin = false;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn retrieve(vault: &Vault, name: &str, tier: Tier, wait: bool) -> Result<(), Failure> {
    let store = vault.open(true).await?;
    let name = name.trim_start_matches('/');
    match awaited(wait, |may_begin| store.retrieve(name, tier, may_begin)).await? {
        Some(_) => say!("{name} is there: it can be read for a day"),
        None => say!("{name} is on its way, which takes hours: run this again to hear of it"),
    }
    Ok(())
}

async fn inventory(vault: &Vault, wait: bool) -> Result<(), Failure> {
    let job = {
        let store = vault.open(true).await?;
        awaited(wait, |may_begin| store.inventory(may_begin)).await?
    };
    let Some(job) = job else {
        say!("the vault makes its inventory, which takes hours: run this again then");
        return Ok(());
    };
    let store = vault.open(false).await?;
    let found = store.rebuild(&job).await.map_err(|e| e.to_string())?;
    say!(
        "{} names added; {} archives were known, {} are older ones of names that are taken, {} are of other programs",
        found.added,
        found.known,
        found.passed_over,
        found.foreign
    );
    Ok(())
}
