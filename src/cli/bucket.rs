//! `wholefs bucket`: the embedded bucket alone, served over S3 with whatever dialect and faults; or an
//! embedded vault, as Glacier serves it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::log::start_on_terminal;
use super::mount::block_on;
use super::out::say;
use super::{Failure, units};
use crate::embedded::vault::{self, VaultServer};
use crate::embedded::{
    CompleteRepeated, ConditionalWrites, Dialect, Faults, Keep, Options, Prefill, RequestLog,
    Server, Tls,
};
use crate::host;

/// What the server and its clients sign with; any would do.
pub(super) const REGION: &str = "us-east-1";

#[derive(Args)]
#[command(after_help = "Faults are written SELECTOR:ACTION, for example
  --fault n=3:drop-before
  --fault op=UploadPart,n=2:error=500
  --fault op=CompleteMultipartUpload:ok-with-error-body
  --fault key=foo,op=GetObject:delay=2s")]
pub(crate) struct BucketArguments {
    /// Address to listen at; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A bucket to have (repeatable)
    #[arg(long = "bucket", value_name = "NAME", default_value = "demo")]
    buckets: Vec<String>,
    /// Serve Glacier instead, with this vault (repeatable); everything is kept in memory
    #[arg(long = "vault", value_name = "NAME", conflicts_with_all = ["buckets", "dir", "null"])]
    vaults: Vec<String>,
    /// How long a vault's jobs take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration, requires = "vaults")]
    job_delay: Duration,
    /// Keep everything in this directory (default: in memory)
    #[arg(long, value_name = "DIR", conflicts_with = "null")]
    dir: Option<PathBuf>,
    /// Keep names and sizes, drop the bytes, serve zeros
    #[arg(long)]
    null: bool,
    /// Objects to begin with, all zeros: KEY=SIZE, or COUNTxKEY=SIZE for as many, numbered (repeatable)
    #[arg(long, requires = "null", value_parser = prefill, hide = true)]
    prefill: Vec<Prefill>,
    /// Wait this long before each request
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration)]
    latency: Duration,
    /// Bytes a second, for each direction of each connection
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    bandwidth: Option<u64>,
    /// Speak TLS with this certificate (PEM, its chain behind it)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[arg(long, default_value = "wholefs")]
    access_key: String,
    #[arg(long, default_value = "wholefs-secret")]
    secret_key: String,
    /// Answer to BUCKET.DOMAIN too
    #[arg(long, value_name = "DOMAIN")]
    base_domain: Option<String>,
    /// Something to go wrong (repeatable)
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<String>,
    /// The process that kill-before=target and kill-after=target mean
    #[arg(long, value_name = "PID")]
    kill_target: Option<i32>,
    /// Log each request
    #[arg(long)]
    log_requests: bool,

    /// Be a vendor's store in all that is known of it: aws, ncloud or cos; the flags below come on top
    #[arg(long, value_name = "NAME", value_parser = Dialect::NAMES, help_heading = "Dialect")]
    dialect: Option<String>,
    /// Complete of a completed upload answers NoSuchUpload
    #[arg(long, help_heading = "Dialect")]
    complete_once: bool,
    /// Conditions on writes are ignored
    #[arg(long, help_heading = "Dialect")]
    ignore_conditions: bool,
    /// Uploads are listed only for an exact key
    #[arg(long, help_heading = "Dialect")]
    list_uploads_exact_key_only: bool,
    /// There is no ListObjectsV2
    #[arg(long, help_heading = "Dialect")]
    list_v1_only: bool,
    /// All parts but the last must have the same size
    #[arg(long, help_heading = "Dialect")]
    equal_parts: bool,
    /// Objects can be renamed (RenameObject)
    #[arg(long, help_heading = "Dialect")]
    rename: bool,
    /// Parts in flight at an abort may land after it
    #[arg(long, help_heading = "Dialect")]
    parts_land_after_abort: bool,
    /// How long an archived object (GLACIER, DEEP_ARCHIVE) takes to be restored
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = units::duration, help_heading = "Dialect")]
    restore_takes: Duration,
    /// The bucket must be in the host name
    #[arg(long, help_heading = "Dialect", requires = "base_domain")]
    virtual_host_only: bool,
    /// The smallest part that is not the last
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Dialect")]
    part_min: Option<u64>,
}

impl BucketArguments {
    /// The vendor's, and what was asked for on top.
    fn dialect(&self) -> Dialect {
        let named = self.dialect.as_deref().and_then(Dialect::named);
        let mut dialect = named.unwrap_or_default();
        if self.complete_once {
            dialect.complete_repeated = CompleteRepeated::NoSuchUpload;
        }
        if self.ignore_conditions {
            dialect.conditional_writes = ConditionalWrites::Ignored;
        }
        dialect.list_uploads_exact_key_only |= self.list_uploads_exact_key_only;
        dialect.list_v1_only |= self.list_v1_only;
        dialect.equal_parts |= self.equal_parts;
        dialect.rename |= self.rename;
        dialect.parts_land_after_abort |= self.parts_land_after_abort;
        dialect.virtual_host_only |= self.virtual_host_only;
        dialect.restore_takes = self.restore_takes;
        dialect.part_min = self.part_min.unwrap_or(dialect.part_min);
        dialect
    }
}

fn tls(arguments: &BucketArguments) -> Result<Option<Tls>, Failure> {
    let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else {
        return Ok(None);
    };
    let read = |file: &PathBuf| {
        std::fs::read(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))
    };
    Ok(Some(Tls {
        certificate: read(certificate)?,
        key: read(key)?,
    }))
}

pub(crate) fn run(arguments: BucketArguments) -> Result<(), Failure> {
    start_on_terminal()?;
    host::raise_descriptor_limit();
    if !arguments.vaults.is_empty() {
        return block_on(serve_vaults(arguments));
    }
    if arguments.dialect().virtual_host_only && arguments.base_domain.is_none() {
        return Err(Failure::usage(
            "this dialect wants the bucket in the host's name: give --base-domain, of which BUCKET.DOMAIN is a bucket",
        ));
    }
    let options = Options {
        tls: tls(&arguments)?,
        listen: arguments.listen,
        keep: match (&arguments.dir, arguments.null) {
            (Some(directory), _) => Keep::Directory(directory.clone()),
            (None, true) => Keep::Null,
            (None, false) => Keep::Memory,
        },
        dialect: arguments.dialect(),
        access_key: arguments.access_key.clone(),
        secret_key: arguments.secret_key.clone(),
        buckets: arguments.buckets.clone(),
        latency: arguments.latency,
        bandwidth: arguments.bandwidth,
        base_domain: arguments.base_domain.clone(),
        log_requests: arguments.log_requests,
    };
    block_on(async move {
        let server = Server::start(options)
            .await
            .map_err(|e| cannot_serve(&arguments, &e))?;
        for prefill in &arguments.prefill {
            server.prefill(&arguments.buckets[0], prefill);
        }
        until_told(&arguments, server.faults(), server.log(), server.endpoint()).await?;
        server.stop().await;
        Ok(())
    })
}

async fn serve_vaults(arguments: BucketArguments) -> Result<(), Failure> {
    let options = vault::Options {
        listen: arguments.listen,
        vaults: arguments.vaults.clone(),
        manners: vault::Manners {
            job_delay: arguments.job_delay,
            ..vault::Manners::default()
        },
        latency: arguments.latency,
        bandwidth: arguments.bandwidth,
        log_requests: arguments.log_requests,
    };
    let server = VaultServer::start(options)
        .await
        .map_err(|e| cannot_serve(&arguments, &e))?;
    until_told(&arguments, server.faults(), server.log(), server.endpoint()).await?;
    server.stop().await;
    Ok(())
}

/// It is the address or, where that is not it, the directory.
fn cannot_serve(arguments: &BucketArguments, error: &io::Error) -> String {
    let at = arguments.listen;
    match (error.kind(), &arguments.dir) {
        (io::ErrorKind::AddrInUse, _) => {
            format!(
                "cannot serve at {at}: {error}: --listen names another port (0: one that is free)"
            )
        }
        (io::ErrorKind::AddrNotAvailable, _) | (_, None) => {
            format!("cannot serve at {at}: {error}")
        }
        (_, Some(directory)) => format!("cannot keep objects in {}: {error}", directory.display()),
    }
}

/// Scripts the faults, says where the server is, and waits for a signal.
async fn until_told(
    arguments: &BucketArguments,
    faults: &Faults,
    log: &RequestLog,
    endpoint: String,
) -> Result<(), Failure> {
    if let Some(pid) = arguments.kill_target {
        let target = faults.target();
        target.store(pid, std::sync::atomic::Ordering::Relaxed);
    }
    for fault in &arguments.faults {
        faults.script(fault).map_err(Failure::usage)?;
    }
    let (mut terminate, mut interrupt) = (
        signals(SignalKind::terminate())?,
        signals(SignalKind::interrupt())?,
    );
    let mut asked = signals(SignalKind::user_defined1())?;
    say!("{endpoint}");
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = asked.recv() => say!("{}", counters(log)),
        }
    }
}

fn signals(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|e| format!("cannot listen for signals: {e}"))
}

/// The answer to SIGUSR1, in one line: for those who measure what something costs in requests.
fn counters(log: &RequestLog) -> serde_json::Value {
    let moved = log.moved();
    serde_json::json!({
        "requests": log.counts(),
        "under_way": log.under_way(),
        "received": moved.received,
        "sent": moved.sent,
    })
}

fn prefill(text: &str) -> Result<Prefill, String> {
    let (keys, size) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("{text:?} says no size: write KEY=SIZE"))?;
    let size = units::size(size)?;
    let counted = keys
        .split_once('x')
        .and_then(|(count, key)| Some((count.parse().ok()?, key)));
    let (count, key) = match counted {
        Some((count, key)) => (Some(count), key),
        None => (None, keys),
    };
    let key = key.to_string();
    Ok(Prefill { key, count, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_to_begin_with_are_one_or_as_many_as_are_said() {
        let one = |key: &str, count, size| {
            Ok(Prefill {
                key: key.into(),
                count,
                size,
            })
        };
        assert_eq!(prefill("large=1G"), one("large", None, 1 << 30));
        assert_eq!(prefill("1000xdir/=4K"), one("dir/", Some(1000), 4096));
        assert_eq!(prefill("xylophone=0"), one("xylophone", None, 0));
        assert!(prefill("large").is_err() && prefill("large=much").is_err());
    }
}
