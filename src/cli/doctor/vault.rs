//! What a mount of a vault needs, tried as far as it costs nothing: an archive would be billed for ninety days.

use bytes::Bytes;

use super::{Report, tried};
use crate::random::random_token;
use crate::store::glacier::GlacierStore;
use crate::store::{Attributes, Body, ErrorKind, Metadata, Store, TOKEN_KEY, UploadId};

pub(super) async fn of_the_vault(report: &mut Report, store: &GlacierStore, read_only: bool) {
    let region = store.region().unwrap_or_default();
    let vault = store.describe();
    report.ok("vault", format!("{vault} is there, in {region}"));
    of_the_catalogue(report, store);
    match read_only {
        true => report.ok("writing", "not tried"),
        false => of_an_upload(report, store).await,
    }
    let jobs = store.can_tell_of_jobs().await;
    tried(
        report,
        "list jobs",
        "what is brought back can be found",
        "without glacier:ListJobs nothing that was brought back can be read",
        &jobs,
    );
    report.ok("deleting", "not tried: an archive is billed for 90 days");
}

fn of_the_catalogue(report: &mut Report, store: &GlacierStore) {
    let catalogue = store.catalogue();
    let names = catalogue.names();
    match names.files.len() {
        0 => report.warn(
            "catalogue",
            "has no file: is --state-dir the one of its mounts? An export (wholefs vault import) or the inventory (wholefs vault inventory) makes a lost one anew",
        ),
        count => report.ok("catalogue", format!("files: {count}; keep an export of it (wholefs vault export)")),
    }
    let garbage = names.garbage.len();
    if garbage > 0 {
        report.warn(
            "garbage",
            format!("{garbage} archives without a name: the next mount deletes them"),
        );
    }
}

/// An upload of a byte, and its end.
async fn of_an_upload(report: &mut Report, store: &GlacierStore) {
    let key = format!(".wholefs-doctor-{}", random_token());
    let token = random_token();
    let attributes = Attributes {
        metadata: Metadata::from([(TOKEN_KEY.to_string(), token.clone())]),
        ..Attributes::default()
    };
    let created = store.create_upload(&key, &attributes).await;
    let needed =
        "without glacier:InitiateMultipartUpload nothing can be written: mount --read-only";
    if !tried(report, "upload", "one can be begun", needed, &created) {
        return;
    }
    let Ok(upload) = created else { return };
    let body = Body::from_bytes(Bytes::from_static(b"x"));
    let part = store.upload_part(&key, &upload, 1, body).await;
    let needed = "without glacier:UploadMultipartPart nothing can be written";
    tried(report, "upload a part", "and sent", needed, &part);
    of_the_list(report, store, &key, &token).await;
    of_the_abort(report, store, &key, &upload).await;
}

async fn of_the_list(report: &mut Report, store: &GlacierStore, key: &str, token: &str) {
    let mut from = None;
    loop {
        let page = match store.list_uploads(key, from.as_ref()).await {
            Ok(page) => page,
            Err(error) => {
                let needed = "without glacier:ListMultipartUploads an upload whose creation was never answered cannot be found, and `wholefs uploads` sees none";
                return report.warn("list uploads", super::remedy(&error, needed));
            }
        };
        let ours = |said: &Metadata| said.get(TOKEN_KEY).is_some_and(|its| its == token);
        if page
            .uploads
            .iter()
            .any(|up| up.metadata.as_ref().is_some_and(ours))
        {
            return report.ok("list uploads", "ours is found by its token");
        }
        match page.next {
            Some(next) => from = Some(next),
            None => {
                return report.warn("list uploads", "an open upload is not shown: one whose creation was never answered cannot be found");
            }
        }
    }
}

async fn of_the_abort(report: &mut Report, store: &GlacierStore, key: &str, upload: &UploadId) {
    let abort = store.abort_upload(key, upload).await;
    let needed = "without glacier:AbortMultipartUpload what a killed writer left stays for a day";
    if !tried(report, "abort", "and given up", needed, &abort) {
        return;
    }
    // The vendor: "stopping an already-stopped upload will succeed, for a short time".
    match store.abort_upload(key, upload).await {
        Ok(()) => report.ok("abort again", "does no harm"),
        Err(error) if error.kind == ErrorKind::NoSuchUpload => {
            report.ok("abort again", "it is not known any more")
        }
        Err(error) => report.warn("abort again", error.to_string()),
    }
    match store.list_parts(key, upload).await {
        Err(error) if error.kind == ErrorKind::NoSuchUpload => {
            report.ok("after the abort", "nothing is left");
        }
        Ok(parts) if parts.is_empty() => report.ok("after the abort", "no part is left"),
        Ok(_) => report.warn(
            "after the abort",
            "a part is still there; wholefs aborts until none is",
        ),
        Err(error) => {
            let needed =
                "without glacier:ListParts it cannot be told whether an abort left anything";
            report.warn("after the abort", super::remedy(&error, needed));
        }
    }
}
