//! `wholefs demo`: the embedded bucket, mounted, with a word on what to try.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::log::start_on_terminal;
use super::mount::{block_on, end_orphans, event_threads};
use super::out::say;
use super::serve::serve;
use super::tuning::TuningArguments;
use super::{Failure, bucket};
use crate::durable;
use crate::embedded::{Keep, Options as ServerOptions, Server};
use crate::fuse::MountOptions;
use crate::host::{self, daemon::Readiness, mountpoint};
use crate::journal::{Identity, Journal};
use crate::store::Store;
use crate::store::s3::{Keys, Options as StoreOptions, S3Store};

#[derive(Args)]
pub(crate) struct DemoArguments {
    /// Where to mount; created if it is not there
    directory: PathBuf,
    /// Where the bucket is kept across restarts (default: in your data directory)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    tuning: TuningArguments,
}

pub(crate) fn run(arguments: DemoArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    if !directory.exists() {
        std::fs::create_dir_all(directory)
            .map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
    }
    let mount_point = mountpoint::check(directory, false)?;
    let data = arguments.data.clone().unwrap_or_else(default_data);
    durable::make_directory(&data).map_err(|e| {
        format!(
            "cannot create {}: {e}: name another place with --data",
            data.display()
        )
    })?;
    let mount = MountOptions {
        source: "s3://demo".to_string(),
        read_only: false,
        no_exec: false,
        allow_other: arguments.tuning.allow_other,
        xattrs: arguments.tuning.xattrs,
        given: None,
        threads: event_threads(),
    };
    let settings = arguments.tuning.settings(mount_point, mount)?;
    start_on_terminal()?;
    host::raise_descriptor_limit();
    host::die_on_panic();
    block_on(async move {
        let options = ServerOptions {
            keep: Keep::Directory(data.clone()),
            ..ServerOptions::default()
        };
        let keys = Keys {
            access_key_id: options.access_key.clone(),
            secret_access_key: options.secret_key.clone(),
            session_token: None,
        };
        let (access, secret) = (options.access_key.clone(), options.secret_key.clone());
        let server = Server::start(options).await.map_err(|e| {
            format!(
                "the embedded bucket in {} cannot be started: {e}",
                data.display()
            )
        })?;
        let store = S3Store::connect(StoreOptions {
            bucket: "demo".to_string(),
            endpoint_url: Some(server.endpoint()),
            region: Some(bucket::REGION.to_string()),
            keys: Some(keys),
            provider: Some("embedded".to_string()),
            ..StoreOptions::default()
        })
        .await
        .map_err(|e| e.to_string())?;
        let shown = settings.mount_point.display().to_string();
        let endpoint = server.endpoint();
        let kept = data.display().to_string();
        let ready = move || {
            say!(
                "The bucket s3://demo (kept in {kept}) is mounted at {shown}.

In another terminal, try:
  cp /usr/bin/* {shown}/                 copy things in, ls, cat, cmp, rm
  cat /dev/zero > {shown}/big            and kill it with Ctrl-C: no torn file is left
  umount {shown}                         (or Ctrl-C here) ends it

The same bucket over S3:
  export AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret}
  aws --endpoint-url {endpoint} s3 ls s3://demo"
            );
        };
        let store: Arc<dyn Store> = Arc::new(store);
        // Its address changes with every start; what its journal is about is the directory.
        let identity = Identity {
            endpoint: Some(format!("embedded:{}", data.display())),
            region: bucket::REGION.to_string(),
            provider: "embedded".to_string(),
            bucket: "demo".to_string(),
            prefix: String::new(),
        };
        let state = data.with_extension("journal");
        let _behind = end_orphans(&state, &identity, &settings.doubts, |_| {
            std::future::ready(Ok(store.clone()))
        })
        .await?;
        let journal = Journal::create(&state, &identity, &settings.mount_point)
            .map_err(|e| format!("the journal: {e}"))?;
        let journal = Arc::new(journal);
        let mut nobody = Readiness::nobody();
        let result = serve(store, Some(journal.clone()), settings, &mut nobody, ready)
            .await
            .map_err(Failure::from);
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
        server.stop().await;
        result
    })
}

fn default_data() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(home);
    base.unwrap_or_else(|| PathBuf::from("/var/tmp"))
        .join("wholefs/demo")
}
