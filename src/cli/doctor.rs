//! `wholefs doctor`: what a mount needs, of this machine and of the bucket, tried one by one; each line
//! says what is well, what is not, and what to do about it.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::Args;

use super::Failure;
use super::mount::block_on;
use super::out::say;
use super::picture::wrapped;
use super::store_flags::StoreArguments;
use super::units::size_as_given;
use crate::host::journald::Journald;
use crate::journal::{default_state_dir, peek};
use crate::random::random_token;
use crate::shown::Shown;
use crate::store::glacier::GlacierStore;
use crate::store::s3::{ABORT_RULE, ConnectError, S3Store};
use crate::store::{
    self, Attributes, Body, CompletedPart, ETag, Error, ErrorKind, PartReceipt, Precondition,
    Store, Value,
};
use vault::of_the_vault;

mod vault;

#[derive(Args)]
#[command(after_help = "Examples:
  wholefs doctor
  wholefs doctor s3://backups --read-only
  wholefs doctor backups                       (a [mounts.backups] of the configuration file)
  wholefs doctor s3://backups --add-lifecycle-rule 7
  wholefs doctor glacier://vault

Without a bucket it looks at this machine alone. In the bucket it makes one small object and one
upload under a name of its own (.wholefs-doctor-…), and removes both again; in a vault an upload alone.")]
pub(crate) struct DoctorArguments {
    /// s3://BUCKET, s3://BUCKET/PREFIX, glacier://VAULT, or a mount that the configuration file names
    pub(super) source: Option<String>,
    /// The file that names mounts [default: ~/.config/wholefs/config.toml, then /etc/wholefs/config.toml]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Change nothing in the bucket, not even for a moment
    #[arg(long)]
    read_only: bool,
    /// Have the bucket abort what is left open for more than so many days, by a lifecycle rule
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(1..=3650), requires = "source", conflicts_with = "read_only")]
    add_lifecycle_rule: Option<i32>,
    /// Where the journals are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
}

/// How many days a rule should wait at least: an upload may take long.
const RULE_DAYS: i32 = 7;

/// A clock this far off has requests refused, or nearly.
const SKEW: Duration = Duration::from_secs(240);

enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Default)]
struct Report {
    warned: usize,
    failed: usize,
}

impl Report {
    fn ok(&mut self, what: &str, how: impl AsRef<str>) {
        tell(Verdict::Ok, what, how.as_ref());
    }

    fn warn(&mut self, what: &str, remedy: impl AsRef<str>) {
        self.warned += 1;
        tell(Verdict::Warn, what, remedy.as_ref());
    }

    fn fail(&mut self, what: &str, remedy: impl AsRef<str>) {
        self.failed += 1;
        tell(Verdict::Fail, what, remedy.as_ref());
    }
}

/// Columns before what is told of a thing.
const MARGIN: usize = 25;

fn tell(verdict: Verdict, what: &str, how: &str) {
    let is_terminal = io::stdout().is_terminal();
    let is_colored = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let (word, color) = match verdict {
        Verdict::Ok => ("ok  ", 32),
        Verdict::Warn => ("warn", 33),
        Verdict::Fail => ("FAIL", 31),
    };
    let word = match is_colored {
        true => format!("\x1b[{color}m{word}\x1b[0m"),
        false => word.to_string(),
    };
    let how = Shown(how).to_string();
    // A pipe has no end of line.
    let room = terminal_size::terminal_size().filter(|_| is_terminal);
    let room = room.map(|(width, _)| usize::from(width.0).saturating_sub(MARGIN));
    let lines = wrapped(&how, room);
    let lines = lines.join(&format!("\n{:MARGIN$}", ""));
    say!("{word}  {what:<18} {lines}");
}

pub(crate) fn run(arguments: DoctorArguments) -> Result<(), Failure> {
    let mut report = Report::default();
    let state = arguments
        .state_dir
        .clone()
        .unwrap_or_else(default_state_dir);
    let options = match &arguments.source {
        None => None,
        Some(source) => Some(arguments.store.options_to_look(source, &state)?),
    };
    of_the_machine(&mut report);
    of_the_log(&mut report);
    of_the_state(&mut report, &state);
    if let Some(options) = options {
        let is_vault = options.vault.is_some();
        if is_vault && arguments.add_lifecycle_rule.is_some() {
            let message =
                "a vault has no lifecycle rules: it ends by itself what is idle for a day";
            return Err(Failure::usage(message));
        }
        let failed = block_on(async {
            if is_vault {
                let store = GlacierStore::connect(options).await?;
                of_the_vault(&mut report, &store, arguments.read_only).await;
            } else {
                let store = S3Store::connect(options).await?;
                of_the_bucket(&mut report, &store, &arguments).await;
            }
            Ok::<(), ConnectError>(())
        });
        if let Err(error) = failed {
            let what = if is_vault { "vault" } else { "bucket" };
            report.fail(what, error.to_string());
        }
    }
    match (report.failed, report.warned) {
        (0, 0) => say!("all is well"),
        (0, warned) => say!("nothing is in the way of a mount; {warned} to look at"),
        (failed, _) => return Err(format!("{failed} of these are in the way of a mount").into()),
    }
    Ok(())
}

// ---- The machine

fn of_the_machine(report: &mut Report) {
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        Ok(_) => report.ok("/dev/fuse", "can be opened"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => report.fail(
            "/dev/fuse",
            "is not for this user: chmod 666 /dev/fuse, as most machines have it",
        ),
        Err(error) => report.fail(
            "/dev/fuse",
            format!("{error}: load the module (modprobe fuse), or give the container the device"),
        ),
    }
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let helper = in_path("fusermount3");
    match (helper, is_root) {
        (Some(at), _) => report.ok("fusermount3", at.display().to_string()),
        (None, true) => report.ok("fusermount3", "is not there; root needs none"),
        (None, false) => report.fail(
            "fusermount3",
            "is missing: install the package fuse3, or mount as root",
        ),
    }
    if !is_root {
        let allowed = std::fs::read_to_string("/etc/fuse.conf")
            .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
        match allowed {
            true => report.ok("allow_other", "is allowed by /etc/fuse.conf"),
            false => report.warn("allow_other", "is for root alone: add user_allow_other to /etc/fuse.conf if others are to be let in"),
        }
    }
    of_the_kernel(report);
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|place| place.join(program));
    places.into_iter().find(|file| file.is_file())
}

fn of_the_kernel(report: &mut Report) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let mut parts = release.split(['.', '-']);
    let version = (
        number(parts.next()).unwrap_or(0),
        number(parts.next()).unwrap_or(0),
    );
    match version {
        _ if release.is_empty() => report.fail("kernel", "/proc is not there: mount -t proc proc /proc"),
        (0..=4, _) | (5, 0..=9) => report.fail("kernel", format!("{release} is too old: 5.10 or later is needed")),
        (6, 3..=5) => report.warn("kernel", format!("{release} does not tell how a program that writes ended: files of killed programs are published; use 6.6 or later")),
        version if version < (6, 6) => report.warn("kernel", format!("{release} has no shared mmap of files being written: 6.6 or later has")),
        _ => report.ok("kernel", release),
    }
    let pages = std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit");
    match pages.map(|text| text.trim().parse::<u32>()) {
        Ok(Ok(pages)) if pages < 256 => report.warn(
            "max_pages_limit",
            format!("{pages} makes requests small and slow: sysctl fs.fuse.max_pages_limit=256"),
        ),
        Ok(Ok(pages)) => report.ok("max_pages_limit", format!("{pages} pages a request")),
        _ => report.ok(
            "max_pages_limit",
            "is what this kernel always has: 256 pages a request",
        ),
    }
}

/// Where a mount in the background is heard.
fn of_the_log(report: &mut Report) {
    if Journald::find().is_ok() {
        report.ok("log", "goes to systemd's journal: journalctl -t wholefs");
    } else if Path::new("/dev/log").exists() {
        report.ok("log", "goes to syslog");
    } else {
        report.warn(
            "log",
            "goes nowhere: there is neither systemd's journal nor syslog here: mount with --log-file FILE",
        );
    }
}

fn of_the_state(report: &mut Report, state: &Path) {
    let shown = state.display();
    let made = std::fs::create_dir_all(state);
    let probe = made.and_then(|()| tempfile_in(state));
    if let Err(error) = probe {
        return report.fail(
            "state directory",
            format!("{shown}: {error}: name another with --state-dir"),
        );
    }
    match peek(state) {
        Err(error) => report.fail("state directory", error.to_string()),
        Ok(found) => {
            let dead = found.iter().filter(|seen| !seen.live).count();
            let live = found.len() - dead;
            match dead {
                0 => report.ok("state directory", format!("{shown}, mounts alive: {live}")),
                _ => report.warn(
                    "state directory",
                    format!("{shown} has {dead} journals of dead mounts: wholefs recover"),
                ),
            }
        }
    }
}

/// Can a file be made there?
fn tempfile_in(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".doctor-{}", random_token()));
    std::fs::File::create_new(&path)?.sync_all()?;
    std::fs::remove_file(&path)
}

// ---- The bucket

async fn of_the_bucket(report: &mut Report, store: &S3Store, arguments: &DoctorArguments) {
    report.ok("bucket", format!("{} can be listed", store.describe()));
    of_the_provider(report, store);
    of_the_clock(report, store.clock());
    if arguments.read_only {
        report.ok("writing", "not tried");
    } else {
        let key = format!(".wholefs-doctor-{}", random_token());
        of_objects(report, store, &key).await;
        of_uploads(report, store, &key).await;
        of_commits(report, store, &format!("{key}-parts")).await;
    }
    of_the_rule(report, store, arguments.add_lifecycle_rule).await;
}

/// Which row of the table it is and why; what a person should know of it; what it is taken to be able to do, as
/// `--capability` says it; what was overridden.
fn of_the_provider(report: &mut Report, store: &S3Store) {
    let (chosen, name) = (store.chosen(), store.capabilities().name);
    report.ok("provider", format!("{name} ({})", chosen.why));
    let facts = &chosen.facts;
    for (what, told) in [
        ("its conditions", facts.conditions),
        ("Complete twice", facts.complete_twice),
        ("parts in flight", facts.in_flight),
        ("to know of it", facts.remark),
    ] {
        if !told.is_empty() {
            report.ok(what, told);
        }
    }
    let fields = store.capabilities().fields();
    let fields = fields.map(|(name, value)| match value {
        Value::Flag(flag) => format!("{name}={flag}"),
        Value::Number(number) => format!("{name}={}", size_as_given(number)),
    });
    report.ok("it can do", fields.join(" "));
    if !chosen.overrides.is_empty() {
        let all: Vec<String> = chosen.overrides.iter().map(|o| o.to_string()).collect();
        report.ok("as --capability", all.join(","));
    }
}

fn of_the_clock(report: &mut Report, theirs: SystemTime) {
    let ours = SystemTime::now();
    let skew = ours
        .duration_since(theirs)
        .or_else(|_| theirs.duration_since(ours));
    let skew = skew.unwrap_or_default();
    match skew > SKEW {
        true => report.fail(
            "clock",
            format!(
                "{} s from the store's: set it (timedatectl set-ntp true)",
                skew.as_secs()
            ),
        ),
        false => report.ok("clock", format!("{} s from the store's", skew.as_secs())),
    }
}

/// One line of what was tried. Answers whether it went well.
fn tried<T>(
    report: &mut Report,
    what: &str,
    well: &str,
    needed: &str,
    done: &store::Result<T>,
) -> bool {
    match done {
        Ok(_) => report.ok(what, well),
        Err(error) => report.fail(what, remedy(error, needed)),
    }
    done.is_ok()
}

fn remedy(error: &Error, needed: &str) -> String {
    match error.kind {
        ErrorKind::Denied => format!("denied ({}): {needed}", error.code),
        _ => format!("{error}: {needed}"),
    }
}

async fn of_objects(report: &mut Report, store: &S3Store, key: &str) {
    let body = || Body::from_bytes(Bytes::from_static(b"wholefs doctor was here\n"));
    let none = Attributes::default();
    let put = store.put(key, body(), &none, &Precondition::None).await;
    if !tried(
        report,
        "put",
        "an object can be written",
        "without s3:PutObject nothing can be written: mount --read-only",
        &put,
    ) {
        return;
    }
    let Ok(etag) = put else { return };
    let head = store.head(key).await;
    tried(
        report,
        "head",
        "it can be looked at",
        "without s3:GetObject no file can be looked at",
        &head,
    );
    let size = body().len();
    let get = store.get(key, &etag, 0..size).await;
    tried(
        report,
        "get",
        "it can be read",
        "without s3:GetObject no file can be read",
        &get,
    );
    drop(get);
    let copy = store
        .copy(&format!("{key}-copy"), key, &etag, size, None)
        .await;
    if tried(
        report,
        "copy",
        "it can be copied on the server",
        "without it nothing can be renamed, and no mode or time changed: mount --metadata none",
        &copy,
    ) {
        of_copies(report, store, key, size).await;
        let _ = store.delete(&format!("{key}-copy")).await;
    }
    of_directories(report, store, &format!("{key}/")).await;
    of_conditions(report, store, key, body()).await;
    of_checksums(report, store, key, body()).await;
    let delete = store.delete(key).await;
    tried(
        report,
        "delete",
        "it can be removed",
        "without s3:DeleteObject nothing can be removed or renamed",
        &delete,
    );
}

async fn of_directories(report: &mut Report, store: &S3Store, key: &str) {
    let nothing = Body::from_bytes(Bytes::new());
    let none = Attributes::default();
    let made = store.put(key, nothing, &none, &Precondition::None).await;
    if tried(
        report,
        "directory",
        "one can be made",
        "a store that takes no key that ends in / has no directories but those of its files",
        &made,
    ) {
        let _ = store.delete(key).await;
    }
}

async fn of_copies(report: &mut Report, store: &S3Store, key: &str, size: u64) {
    if !store.capabilities().copy_conditions {
        return report.ok(
            "copied versions",
            "are not known to be told apart by this provider: sources of copies are looked at before and after",
        );
    }
    let another = ETag::new("00000000000000000000000000000000");
    let copied = store
        .copy(&format!("{key}-copy"), key, &another, size, None)
        .await;
    match copied {
        Err(error) if error.kind == ErrorKind::Conflict => {
            report.ok("copied versions", "are told apart by the store")
        }
        Ok(_) => report.fail(
            "copied versions",
            "are not told apart by this store: mount with --capability copy_conditions=false",
        ),
        Err(error) => report.warn("copied versions", error.to_string()),
    }
}

async fn of_conditions(report: &mut Report, store: &S3Store, key: &str, body: Body) {
    if store.capabilities().minds_conflicts().is_err() {
        return report.ok(
            "conditions",
            "are not known of this provider: --on-conflict fail cannot be had",
        );
    }
    let again = store
        .put(key, body, &Attributes::default(), &Precondition::Absent)
        .await;
    match again {
        Err(error) if error.kind == ErrorKind::Conflict => {
            report.ok("conditions", "are honoured on writes")
        }
        Ok(_) => report.fail(
            "conditions",
            "are ignored by this store: name its provider, or --on-conflict fail would lose data",
        ),
        Err(error) => report.warn("conditions", error.to_string()),
    }
}

async fn of_checksums(report: &mut Report, store: &S3Store, key: &str, body: Body) {
    if !store.capabilities().crc64 {
        return report.ok(
            "checksums",
            "of CRC-64/NVME are not known of this provider: none is sent",
        );
    }
    let wrong = Body::new(body.chunks().to_vec(), body.crc64() ^ 1);
    match store
        .put(key, wrong, &Attributes::default(), &Precondition::None)
        .await
    {
        Err(_) => report.ok("checksums", "a wrong one is refused"),
        Ok(_) => report.warn(
            "checksums",
            "are taken and not checked by this store: damage on the way is not found out",
        ),
    }
}

async fn of_uploads(report: &mut Report, store: &S3Store, key: &str) {
    let created = store.create_upload(key, &Attributes::default()).await;
    if !tried(
        report,
        "upload",
        "one in parts can be begun",
        "without s3:PutObject files of more than one part cannot be written",
        &created,
    ) {
        return;
    }
    let Ok(upload) = created else { return };
    let part = store
        .upload_part(key, &upload, 1, Body::from_bytes(Bytes::from_static(b"x")))
        .await;
    tried(
        report,
        "upload a part",
        "and sent",
        "without it files of more than one part cannot be written",
        &part,
    );
    match store.list_uploads(key, None).await {
        Ok(page) if page.uploads.iter().any(|seen| seen.upload_id == upload) => report.ok("list uploads", "it is shown"),
        Ok(_) => report.warn("list uploads", "an open upload is not shown: one whose creation was never answered cannot be found"),
        Err(error) => report.warn("list uploads", remedy(&error, "without s3:ListBucketMultipartUploads an upload whose creation was never answered cannot be found, and `wholefs uploads` sees none")),
    }
    let abort = store.abort_upload(key, &upload).await;
    if !tried(
        report,
        "abort",
        "and given up",
        "without s3:AbortMultipartUpload what a killed writer left stays, and is billed",
        &abort,
    ) {
        return;
    }
    match store.list_parts(key, &upload).await {
        Err(error) if error.kind == ErrorKind::NoSuchUpload => report.ok("after the abort", "nothing is left"),
        Ok(parts) if parts.is_empty() => report.ok("after the abort", "no part is left"),
        Ok(_) => {
            let _ = store.abort_upload(key, &upload).await;
            report.warn("after the abort", "a part was still there; wholefs aborts until none is");
        }
        Err(error) => report.warn("after the abort", remedy(&error, "without s3:ListMultipartUploadParts it cannot be told whether an abort left anything")),
    }
}

/// An upload that is to become an object. That none can be begun has been said by then.
async fn of_commits(report: &mut Report, store: &S3Store, key: &str) {
    let part = Body::from_bytes(Bytes::from_static(b"x"));
    let Ok(upload) = store.create_upload(key, &Attributes::default()).await else {
        return;
    };
    let done = match store.upload_part(key, &upload, 1, part).await {
        Ok(PartReceipt { etag, crc64, .. }) => {
            let number = 1;
            let parts = [CompletedPart {
                number,
                etag,
                crc64,
            }];
            let anew = &Precondition::None;
            store
                .complete_upload(key, &upload, &parts, 1, anew)
                .await
                .map(drop)
        }
        Err(error) => Err(error),
    };
    // As a mount does: where the answer cannot be read (moto's), the object tells.
    let done = match done {
        Err(error) if error.kind == ErrorKind::Unknown && store.head(key).await.is_ok() => Ok(()),
        done => done,
    };
    if tried(
        report,
        "complete",
        "one in parts becomes an object",
        "without it files of more than one part cannot be written",
        &done,
    ) {
        let _ = store.delete(key).await;
    } else if store.abort_upload(key, &upload).await.is_err() {
        report.warn(
            "complete",
            format!("its upload {} of {key} could not be removed", upload.0),
        );
    }
}

async fn of_the_rule(report: &mut Report, store: &S3Store, wanted: Option<i32>) {
    let bucket = store.describe();
    if let Some(days) = wanted {
        return match store.add_abort_rule(days).await {
            Ok(()) => report.ok(
                "lifecycle rule",
                format!("{ABORT_RULE}: uploads are aborted after {days} days"),
            ),
            Err(error) => report.fail(
                "lifecycle rule",
                remedy(&error, "s3:PutLifecycleConfiguration is needed to add it"),
            ),
        };
    }
    match store.aborts_after().await {
        Ok(Some(days)) => report.ok("lifecycle rule", format!("the bucket aborts what is open for {days} days")),
        Ok(None) => report.warn(
            "lifecycle rule",
            format!("none aborts what a machine that never comes back left open: wholefs doctor {bucket} --add-lifecycle-rule {RULE_DAYS} adds one ({ABORT_RULE}, for all keys, beside the rules that are there)"),
        ),
        Err(error) => report.ok("lifecycle rule", format!("cannot be looked at ({})", error.code)),
    }
}
