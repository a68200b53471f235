//! `wholefs mount`: the checks that come before a mount, the daemon, its guardian and its journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info, warn};

use super::config::Named;
use super::log::{self, LogArguments};
use super::out::complain;
use super::serve::{Settings, serve};
use super::store_flags::{StoreArguments, identity};
use super::tuning::{TuningArguments, assert_outside};
use super::{Failure, lasting_path};
use crate::fuse::MountOptions;
use crate::host::given::Given;
use crate::host::guardian::{self, End, Line, Side};
use crate::host::{self, daemon, mountpoint};
use crate::journal::{Identity, Journal, default_state_dir};
use crate::recovery::{self, Guarding, Summary, Which};
use crate::store::s3::Options as StoreOptions;
use crate::store::{self, Store};
use crate::upload::Doubts;

#[derive(Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  wholefs mount s3://backups /mnt/backups
  wholefs mount s3://data/2026/ ~/data --read-only --endpoint-url https://s3.example.org
  wholefs mount s3://logs /mnt/logs -o ro,allow_other,region=eu-west-1
  wholefs mount backups               (a [mounts.backups] of the configuration file)
  mount -t fuse.wholefs s3://logs /mnt/logs -o ro,_netdev      (and so in /etc/fstab)

Credentials come from the usual places: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile,
SSO, or the machine's role. Whether all is well for a mount, and what is not, tells `wholefs doctor`."
)]
pub(crate) struct MountArguments {
    /// What to mount: s3://BUCKET, s3://BUCKET/PREFIX, glacier://VAULT, or a mount that the configuration file names
    pub(super) source: String,
    /// Where: an existing, empty directory (the one the file names, if none is given); or /dev/fd/N, a
    /// /dev/fuse that the caller has opened and mounted
    directory: Option<PathBuf>,
    /// The file that names mounts [default: ~/.config/wholefs/config.toml, then /etc/wholefs/config.toml]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Options as fstab has them; each long flag here is such a word (ro, allow_other, part_size=16M)
    // For the help alone: they have become flags before this is read.
    #[arg(short = 'o', value_name = "WORD,…")]
    _words: Option<String>,
    /// Stay attached to the terminal and log to it
    #[arg(long, short = 'f')]
    foreground: bool,
    /// Refuse every change
    #[arg(long)]
    read_only: bool,
    /// Let nothing on it be run as a program
    #[arg(long)]
    no_exec: bool,
    /// Mount over a directory that is not empty
    #[arg(long)]
    nonempty: bool,

    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    tuning: TuningArguments,

    /// Do not leave a guardian behind that clears up when the mount dies
    #[arg(
        long,
        help_heading = "Its end, and crashes",
        conflicts_with = "restart"
    )]
    no_guardian: bool,
    /// Mount again when the mount dies
    #[arg(long, help_heading = "Its end, and crashes")]
    restart: bool,
    /// Where the journal of open uploads is kept [default: /var/lib/wholefs for root, else
    /// $XDG_STATE_HOME/wholefs]
    #[arg(long, value_name = "DIR", value_parser = lasting_path(), help_heading = "Its end, and crashes")]
    state_dir: Option<PathBuf>,
    /// For measuring what the journal costs
    #[arg(long, value_enum, default_value_t = Journalling::On, hide = true)]
    journal: Journalling,

    #[command(flatten)]
    log: LogArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Journalling {
    On,
    Off,
}

/// `named`: what the configuration file says of the source, when that is a name.
pub(crate) fn run(arguments: MountArguments, named: Option<Named>) -> Result<(), Failure> {
    if arguments._words.is_some() {
        let line = "-o stands by itself, not behind other letters: -f -o WORDS";
        return Err(Failure::usage(line));
    }
    let (source, usual) = match named {
        Some(named) => (named.source, named.directory),
        None => (arguments.source.clone(), None),
    };
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    let mut store = arguments.store.options_for(&source, &state)?;
    let directory = arguments.directory.clone().or(usual);
    let directory = directory.ok_or_else(|| {
        Failure::usage(format!(
            "where is {source} to be mounted? Name an empty directory"
        ))
    })?;
    let given = Given::at(&directory).transpose()?;
    let mount_point = match &given {
        None => mountpoint::check(&directory, arguments.nonempty)?,
        Some(given) => {
            given.check(arguments.read_only).map_err(Failure::usage)?;
            if arguments.restart {
                return Err(Failure::usage(
                    "--restart cannot mount again what is given by /dev/fd/N: leave it out",
                ));
            }
            given.place().unwrap_or(&directory).to_path_buf()
        }
    };
    let mount = MountOptions {
        // As it was given: `mount -a` knows by it that it is mounted.
        source: arguments.source.clone(),
        read_only: arguments.read_only,
        no_exec: arguments.no_exec,
        allow_other: arguments.tuning.allow_other,
        xattrs: arguments.tuning.xattrs,
        threads: event_threads(),
        given,
    };
    assert_outside("--state-dir", &state, &mount_point)?;
    let mut settings = arguments.tuning.settings(mount_point, mount)?;
    settings.fs.read.attempts = arguments.store.attempts;
    if let Some(vault) = &mut store.vault {
        vault.part_size = settings.part_size;
    }

    arguments.log.check()?;
    host::mind_no_stray_signals();
    let mut readiness = daemon::Readiness::nobody();
    if !arguments.foreground {
        let given = settings.mount.given.as_ref().map(Given::descriptor);
        match daemon::split(given).map_err(|e| format!("cannot start the daemon: {e}"))? {
            daemon::Role::Command(result) => return result.map_err(Failure::from),
            daemon::Role::Daemon(line) => readiness = line,
        }
    }
    let mut restarted = false;
    let mut farewell = None;
    if !arguments.no_guardian {
        match watched(&arguments, &store, &settings, &mut readiness)? {
            Some((line, again)) => {
                restarted = again;
                readiness.guarded();
                let watched = line.watch(|| {
                    warn!("the guardian was killed: the mount goes on; if this process dies too, the next mount or `wholefs recover` ends its uploads")
                });
                farewell = Some(watched.map_err(|e| format!("cannot start a thread: {e}"))?);
            }
            None => return Ok(()),
        }
    }
    // The next mount may want those, which are let go of when the process ends.
    let holds_nothing = settings.cache.is_none() && settings.metrics.is_none();
    // From here on in the process that serves.
    arguments.log.start(arguments.foreground)?;
    host::raise_descriptor_limit();
    host::die_on_panic();
    let served = AtomicBool::new(false);
    let mounted = mount_and_serve(arguments, store, settings, &mut readiness, &served);
    let rest = block_on(mounted).map_err(|line| {
        if restarted && !served.load(Ordering::Relaxed) {
            error!("{line}");
            std::process::exit(i32::from(NOT_YET));
        }
        report(&mut readiness, line)
    })?;
    if let Some(farewell) = farewell.filter(|_| holds_nothing && rest == Rest::Nothing) {
        farewell.say();
    }
    Ok(())
}

/// How a mount that was begun again and could not serve tells the guardian to try on (EX_TEMPFAIL).
const NOT_YET: u8 = 75;

/// Whether there is anything left, when a mount has ended, that it is about to end for dead ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Orphans,
}

async fn mount_and_serve(
    arguments: MountArguments,
    options: StoreOptions,
    settings: Settings,
    readiness: &mut daemon::Readiness,
    served: &AtomicBool,
) -> Result<Rest, String> {
    let source = arguments.source.clone();
    let store = match store::open(options.clone()).await {
        Ok(store) => store,
        Err(error) => return Err(format!("cannot mount {source}: {error}")),
    };
    let directory = settings.mount_point.display().to_string();
    let ready = || {
        served.store(true, Ordering::Relaxed);
        if arguments.foreground {
            complain!("mounted {source} at {directory}");
        }
    };
    if settings.fs.fail_on_conflict {
        store
            .capabilities()
            .minds_conflicts()
            .map_err(|why| format!("cannot mount {source}: --on-conflict fail {why}"))?;
    }
    if arguments.journal == Journalling::Off {
        serve(store, None, settings, readiness, ready).await?;
        return Ok(Rest::Nothing);
    }
    let identity = identity(&options, &*store);
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    let connect = |prefix: &str| {
        let options = StoreOptions {
            prefix: prefix.to_string(),
            ..options.clone()
        };
        let store = store.clone();
        async move {
            // A vault has no prefixes, and one catalogue, which is open already.
            match options.vault {
                Some(_) => Ok(store),
                None => store::open(options).await.map_err(|e| e.to_string()),
            }
        }
    };
    let behind = end_orphans(&state, &identity, &settings.doubts, connect).await?;
    let journal = Journal::create(&state, &identity, &settings.mount_point).map_err(|e| {
        format!("cannot mount {source}: the journal: {e} (--state-dir names another place)")
    })?;
    let journal = Arc::new(journal);
    let result = serve(store, Some(journal.clone()), settings, readiness, ready).await;
    // Whatever could not be ended stays in it. It blocks, and nobody is served any more.
    let left = journal.close();
    if left > 0 {
        warn!(
            "{left} uploads or renames are not at their end; the next mount, or `wholefs recover`, ends them"
        );
    }
    result.map(|()| match behind.is_finished() {
        true => Rest::Nothing,
        false => Rest::Orphans,
    })
}

/// For so long a mount waits for what dead ones had closed: who begins it (systemd) has a patience of his own.
const BEFORE_SERVING: Duration = Duration::from_secs(20);

/// Ends what dead mounts of the same bucket left open: what had been closed before the mount serves, if the store does not
/// take too long for it, and the rest behind it, by what it answers. `connect` opens the store at another prefix.
pub(super) async fn end_orphans<Connecting>(
    state: &std::path::Path,
    identity: &Identity,
    doubts: &Doubts,
    connect: impl Fn(&str) -> Connecting,
) -> Result<JoinHandle<()>, String>
where
    Connecting: Future<Output = Result<Arc<dyn Store>, String>>,
{
    let found = recovery::find(state, |other| recovery::same_bucket(other, identity))
        .map_err(|e| e.to_string())?;
    if let Some(line) = found.damaged.into_iter().next() {
        return Err(line);
    }
    if found.elsewhere > 0 {
        info!(
            "open uploads of other buckets in {}: {} (`wholefs recover` ends them)",
            state.display(),
            found.elsewhere
        );
    }
    let guarding = Guarding::new(doubts, &identity.prefix);
    let mut dead = Vec::new();
    for instance in found.instances {
        match connect(&instance.identity().prefix).await {
            Ok(store) => dead.push((store, guarding.of(&instance), instance)),
            Err(error) => warn!("recovery waits for the next mount: {error}"),
        }
    }
    let (at_hand, mut is_at_hand) = oneshot::channel();
    let behind = tokio::spawn(async move {
        for (store, guards, instance) in &dead {
            let rolls = Which::RollForwards;
            let summary = recovery::end_uploads(store, instance, rolls, guards).await;
            recovery::report(&store.describe(), &summary);
        }
        let _ = at_hand.send(());
        let mut rest = JoinSet::new();
        for (store, _, instance) in dead {
            rest.spawn(recovery::end_behind(store, instance, guarding.clone()));
        }
        rest.join_all().await;
    });
    if tokio::time::timeout(BEFORE_SERVING, &mut is_at_hand)
        .await
        .is_err()
    {
        warn!(
            "what had been closed is not all in the bucket yet: that goes on while this mount serves"
        );
    }
    Ok(behind)
}

/// The shortest pause before a mount that died is begun again, and the longest.
const RESTART_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Forks the daemon off; answers its line there, and whether another one died before. In the guardian it comes back when all is over.
fn watched(
    arguments: &MountArguments,
    store: &StoreOptions,
    settings: &Settings,
    readiness: &mut daemon::Readiness,
) -> Result<Option<(Line, bool)>, Failure> {
    let mut pause = RESTART_PAUSES.0;
    let mut restarted = false;
    loop {
        let began = Instant::now();
        let in_guardian = || {
            // Only the daemon can tell the waiting command, and its death must be seen there.
            drop(std::mem::replace(readiness, daemon::Readiness::nobody()));
            settings.mount.given.iter().for_each(Given::let_go);
            if !arguments.foreground {
                daemon::detach_from_terminal();
            }
        };
        let when_stuck = || {
            let at = &settings.mount_point;
            if mountpoint::fuse_source(at).as_deref() == shown_source(settings) {
                mountpoint::cut_off(at);
            }
        };
        let side = guardian::guard(in_guardian, when_stuck);
        let end = match side.map_err(|e| format!("cannot start the daemon: {e}"))? {
            Side::Daemon(line) => return Ok(Some((line, restarted))),
            Side::Guardian(end) => end,
        };
        let signal = match end {
            End::Exited(NOT_YET) if restarted && !guardian::was_told_to_end() => None,
            // It has said what there was to say.
            End::Exited(NOT_YET) => std::process::exit(1),
            End::Exited(code) => {
                if code != 0 {
                    // It may have mounted, and then had no thread to serve with.
                    clear_dead_mount(settings);
                }
                std::process::exit(i32::from(code))
            }
            End::Killed(signal) => Some(signal),
        };
        // Before anything else: whoever comes now must not meet a dead mount.
        let cleared = clear_dead_mount(settings);
        if arguments.log.start(arguments.foreground).is_err() {
            // Its file cannot be written any more; there is more to do than to say so.
            let _ = log::start_on_terminal();
        }
        if let Some(signal) = signal {
            error!(
                "the mount of {} died (signal {signal}); {cleared}",
                arguments.source
            );
        }
        let is_wanted = arguments.restart && !guardian::was_told_to_end();
        if is_wanted {
            if began.elapsed() > RESTART_PAUSES.1 {
                pause = RESTART_PAUSES.0;
            }
            guardian::pause(pause);
        }
        if is_wanted && !guardian::was_told_to_end() {
            restarted = true;
            pause = (pause * 2).min(RESTART_PAUSES.1);
            info!("mounting {} again", arguments.source);
            // The mount itself recovers, before it serves.
            continue;
        }
        if arguments.journal == Journalling::On {
            let _ = guardian::in_child(|| recover_alone(arguments, store));
        }
        std::process::exit(1);
    }
}

/// What mountinfo has as the mount's source, if that is known.
fn shown_source(settings: &Settings) -> Option<&str> {
    match &settings.mount.given {
        None => Some(&settings.mount.source),
        Some(given) => given.source(),
    }
}

fn clear_dead_mount(settings: &Settings) -> &'static str {
    let Some(shown) = shown_source(settings) else {
        return "whoever mounted it has to unmount it";
    };
    match mountpoint::fuse_source(&settings.mount_point) {
        // Another one may have been mounted there since.
        Some(source) if source == shown && !mountpoint::is_dead(&settings.mount_point) => {
            "another mount is there by now"
        }
        Some(source) if source == shown => match mountpoint::detach(&settings.mount_point) {
            Ok(()) => "its mount point was cleared",
            Err(_) => "its mount point could not be cleared: umount -l it",
        },
        _ => "its mount point was clear",
    }
}

/// In a child of the guardian's: ends the dead daemon's uploads.
fn recover_alone(arguments: &MountArguments, options: &StoreOptions) -> u8 {
    // Else a runtime without threads is waited for by the guardian, for ever.
    host::die_on_panic();
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    block_on(async {
        for seconds in AGAIN_ALONE {
            let Err(line) = try_to_recover(options, &state).await else {
                return 0;
            };
            if seconds == AGAIN_ALONE[0] {
                info!("its uploads are not ended yet, trying on: {line}");
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        match try_to_recover(options, &state).await {
            Ok(()) => 0,
            Err(line) => {
                warn!("its uploads are left to the next mount: {line}");
                1
            }
        }
    })
}

/// The store may just be begun again, or be what killed the daemon.
const AGAIN_ALONE: [u64; 5] = [1, 2, 4, 8, 15];

/// Ends what dead mounts of this bucket have left, or says what stays.
async fn try_to_recover(options: &StoreOptions, state: &Path) -> Result<(), String> {
    let store = (store::open(options.clone()).await).map_err(|error| error.to_string())?;
    let identity = identity(options, &*store);
    let wanted = |other: &Identity| *other == identity;
    let found = recovery::find(state, wanted).map_err(|error| error.to_string())?;
    for line in found.damaged {
        warn!("{line}");
    }
    let mut summary = Summary::default();
    for instance in found.instances {
        let nobodys = Guarding::default().of(&instance);
        summary.add(recovery::end_all(&store, &instance, &nobodys).await);
        recovery::finish(instance).await;
    }
    recovery::report(&store.describe(), &summary);
    match summary.kept {
        0 => Ok(()),
        kept => Err(format!("{kept} of them could not be ended")),
    }
}

/// Tells the waiting command, or (in the foreground) leaves it to the exit.
fn report(readiness: &mut daemon::Readiness, line: String) -> Failure {
    if readiness.failed(&line) {
        // The command prints it; the daemon's own stderr is the same terminal.
        std::process::exit(1);
    }
    Failure::from(line)
}

pub(super) fn event_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, |n| n.get())
        .clamp(2, 8)
}

/// Threads for what waits for a disk, at the most.
const BLOCKING_THREADS: usize = 64;

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        // For good: tokio panics where such work finds no thread at all, and none can be started.
        .thread_keep_alive(Duration::from_secs(u32::MAX.into()))
        .build()
        .unwrap_or_else(|error| {
            complain!(
                "there are no threads to work with ({error}): look at ulimit -n and ulimit -u"
            );
            std::process::exit(1)
        });
    let result = runtime.block_on(async {
        let the_first = tokio::task::spawn_blocking(|| ());
        the_first.await.expect("it does nothing");
        future.await
    });
    // Tasks that are still there wait for a store nobody waits for any more; they end with the process, and that is
    // sooner than to stop them one by one.
    std::mem::forget(runtime);
    result
}
