//! The vendor's REST interface: `/ACCOUNT/vaults/VAULT/…`, headers in, JSON and headers out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use s3s::Body;
use serde_json::{Value, json};

use super::model::{Archive, Job, Model, Part, Refusal, Result, invalid, missing};
use super::tree;
use crate::embedded::operation::{Target, decode, parameter};
use crate::embedded::protocol::Protocol;

const ACCOUNT: &str = "012345678901";
const VERSION: &str = "2012-06-01";

pub(super) struct Api {
    pub model: Arc<Mutex<Model>>,
}

/// What follows the vault's name.
#[derive(Clone, Copy)]
enum At<'a> {
    Vault,
    Archives,
    Archive(&'a str),
    Uploads,
    Upload(&'a str),
    Jobs,
    Job(&'a str),
    Output(&'a str),
}

/// A path's account, vault, and what of it.
fn place(path: &str) -> Option<(&str, At<'_>)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let (_account, "vaults", vault) = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let rest: Vec<&str> = parts.collect();
    let at = match rest[..] {
        [] => At::Vault,
        ["archives"] => At::Archives,
        ["archives", id] => At::Archive(id),
        ["multipart-uploads"] => At::Uploads,
        ["multipart-uploads", id] => At::Upload(id),
        ["jobs"] => At::Jobs,
        ["jobs", id] => At::Job(id),
        ["jobs", id, "output"] => At::Output(id),
        _ => return None,
    };
    Some((vault, at))
}

fn operation(method: &Method, at: At<'_>) -> &'static str {
    match (method.as_str(), at) {
        ("PUT", At::Vault) => "CreateVault",
        ("GET", At::Vault) => "DescribeVault",
        ("POST", At::Archives) => "UploadArchive",
        ("DELETE", At::Archive(_)) => "DeleteArchive",
        ("POST", At::Uploads) => "InitiateMultipartUpload",
        ("GET", At::Uploads) => "ListMultipartUploads",
        ("PUT", At::Upload(_)) => "UploadMultipartPart",
        ("POST", At::Upload(_)) => "CompleteMultipartUpload",
        ("DELETE", At::Upload(_)) => "AbortMultipartUpload",
        ("GET", At::Upload(_)) => "ListParts",
        ("POST", At::Jobs) => "InitiateJob",
        ("GET", At::Jobs) => "ListJobs",
        ("GET", At::Job(_)) => "DescribeJob",
        ("GET", At::Output(_)) => "GetJobOutput",
        _ => "Unknown",
    }
}

#[async_trait]
impl Protocol for Api {
    fn target(&self, head: &Parts) -> Target {
        let place = place(head.uri.path());
        let (vault, at) = place.unwrap_or(("", At::Vault));
        let upload = match at {
            At::Upload(id) => Some(id.to_string()),
            _ => None,
        };
        let description = header(&head.headers, "x-amz-archive-description");
        Target {
            operation: place.map_or("Unknown", |(_, at)| operation(&head.method, at)),
            bucket: vault.to_string(),
            key: description.unwrap_or_default().to_string(),
            upload_id: upload,
            part_number: None,
        }
    }

    async fn call(&self, request: Request<Body>) -> Option<Response<Body>> {
        let (head, mut body) = request.into_parts();
        // A part has at most 4 GiB; what the tests send is far less.
        let body = body.store_all_limited(4 << 30).await.ok()?;
        let answered = authentic(&head.headers, &body).and_then(|()| self.answer(&head, body));
        let mut response = match answered {
            Ok(response) => response,
            Err(Refusal {
                status,
                code,
                message,
            }) => self.error(status, Some(code), &message),
        };
        let id = "AAABZpJrTyioDC_HsOmHae8EZp_uBSJr6cnGOLKp_XJCl-Q";
        let headers = response.headers_mut();
        headers.insert("x-amzn-RequestId", id.parse().ok()?);
        Some(response)
    }

    fn error(&self, status: StatusCode, code: Option<&str>, message: &str) -> Response<Body> {
        let usual = match status.as_u16() {
            404 => "ResourceNotFoundException",
            403 => "AccessDeniedException",
            408 => "RequestTimeoutException",
            429 | 503 => "ThrottlingException",
            500.. => "ServiceUnavailableException",
            _ => "InvalidParameterValueException",
        };
        let kind = if status.is_server_error() {
            "Server"
        } else {
            "Client"
        };
        let code = code.unwrap_or(usual);
        document(
            status,
            &json!({"code": code, "message": message, "type": kind}),
        )
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn needed<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    header(headers, name).ok_or_else(|| Refusal {
        status: StatusCode::BAD_REQUEST,
        code: "MissingParameterValueException",
        message: format!("Required parameter missing: {name}"),
    })
}

/// A signature for this service is there (it is not computed anew), and the body is what it says it is.
fn authentic(headers: &HeaderMap, body: &Bytes) -> Result<()> {
    let authorization = header(headers, AUTHORIZATION.as_str()).unwrap_or_default();
    let signed = authorization.starts_with("AWS4-HMAC-SHA256 ")
        && authorization.contains("/glacier/aws4_request")
        && authorization.contains("Signature=");
    if !signed {
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            code: "MissingAuthenticationTokenException",
            message: "Missing Authentication Token".to_string(),
        });
    }
    let version = needed(headers, "x-amz-glacier-version")?;
    if version != VERSION {
        return Err(invalid(format!("The API version {version} is not known")));
    }
    match header(headers, "x-amz-content-sha256") {
        Some(sum) if sum != tree::hex(&tree::sha256(body)) => Err(invalid(
            "The value passed in as x-amz-content-sha256 does not match the body",
        )),
        _ => Ok(()),
    }
}

fn empty(status: StatusCode, headers: &[(&str, &str)]) -> Result<Response<Body>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let response = response.body(Body::empty());
    response.map_err(|e| invalid(e.to_string()))
}

fn document(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// As the vendor writes times.
fn iso(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date, by Howard Hinnant's `civil_from_days`.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes, left) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let thousandths = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{left:02}.{thousandths:03}Z")
}

fn described(headers: &HeaderMap) -> Result<&str> {
    let text = header(headers, "x-amz-archive-description").unwrap_or_default();
    let fits = text.len() <= 1024 && text.bytes().all(|byte| (32..127).contains(&byte));
    fits.then_some(text).ok_or_else(|| {
        invalid("Invalid archive description: at most 1024 printable ASCII characters")
    })
}

/// `bytes FIRST-LAST/*`, or `bytes=FIRST-LAST`.
fn range(text: &str) -> Option<(u64, u64)> {
    let text = text.strip_prefix("bytes")?.trim_start_matches(['=', ' ']);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

impl Api {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, head: &Parts, body: Bytes) -> Result<Response<Body>> {
        let (vault, at) = place(head.uri.path()).ok_or_else(|| missing("resource"))?;
        let headers = &head.headers;
        let path = format!("/{ACCOUNT}/vaults/{vault}");
        let query = head.uri.query().unwrap_or_default();
        let mut model = self.model();
        match (operation(&head.method, at), at) {
            ("CreateVault", _) => {
                model.create_vault(vault);
                empty(StatusCode::CREATED, &[(LOCATION.as_str(), &path)])
            }
            ("DescribeVault", _) => {
                let (archives, bytes) = model.describe(vault)?;
                Ok(document(
                    StatusCode::OK,
                    &json!({
                        "CreationDate": iso(SystemTime::UNIX_EPOCH),
                        "LastInventoryDate": null,
                        "NumberOfArchives": archives,
                        "SizeInBytes": bytes,
                        "VaultARN": arn(vault),
                        "VaultName": vault,
                    }),
                ))
            }
            ("UploadArchive", _) => {
                let hash = needed(headers, "x-amz-sha256-tree-hash")?;
                needed(headers, "x-amz-content-sha256")?;
                checked(hash, &Part::new(body.clone()))?;
                let (id, hash) = model.upload_archive(vault, described(headers)?, body)?;
                made(&format!("{path}/archives/{id}"), &id, &hash)
            }
            ("DeleteArchive", At::Archive(id)) => {
                model.delete_archive(vault, id)?;
                empty(StatusCode::NO_CONTENT, &[])
            }
            ("InitiateMultipartUpload", _) => {
                let size = needed(headers, "x-amz-part-size")?;
                let size = size.parse().map_err(|_| invalid("Invalid part size"))?;
                let id = model.initiate(vault, described(headers)?, size)?;
                let location = format!("{path}/multipart-uploads/{id}");
                let said = [
                    (LOCATION.as_str(), &*location),
                    ("x-amz-multipart-upload-id", &id),
                ];
                empty(StatusCode::CREATED, &said)
            }
            ("UploadMultipartPart", At::Upload(id)) => {
                let hash = needed(headers, "x-amz-sha256-tree-hash")?;
                needed(headers, "x-amz-content-sha256")?;
                let text = needed(headers, CONTENT_RANGE.as_str())?;
                let range = range(text).ok_or_else(|| invalid("Invalid Content-Range"))?;
                let part = Part::new(body);
                checked(hash, &part)?;
                model.put_part(vault, id, range, part)?;
                empty(StatusCode::NO_CONTENT, &[("x-amz-sha256-tree-hash", hash)])
            }
            ("CompleteMultipartUpload", At::Upload(id)) => {
                let hash = needed(headers, "x-amz-sha256-tree-hash")?;
                let size = needed(headers, "x-amz-archive-size")?;
                let size = size.parse().map_err(|_| invalid("Invalid archive size"))?;
                let archive = model.complete(vault, id, size, hash)?;
                made(&format!("{path}/archives/{archive}"), &archive, hash)
            }
            ("AbortMultipartUpload", At::Upload(id)) => {
                model.abort(vault, id)?;
                empty(StatusCode::NO_CONTENT, &[])
            }
            ("ListParts", At::Upload(id)) => {
                let upload = model.upload(vault, id)?;
                let parts: Vec<Value> = upload
                    .parts
                    .iter()
                    .map(|(first, part)| {
                        let last = first + part.bytes.len() as u64 - 1;
                        json!({
                            "RangeInBytes": format!("{first}-{last}"),
                            "SHA256TreeHash": part.tree_hash(),
                        })
                    })
                    .collect();
                let told = json!({
                    "ArchiveDescription": upload.description,
                    "CreationDate": iso(upload.created),
                    "Marker": null,
                    "MultipartUploadId": id,
                    "PartSizeInBytes": upload.part_size,
                    "Parts": parts,
                    "VaultARN": arn(vault),
                });
                Ok(document(StatusCode::OK, &told))
            }
            ("ListMultipartUploads", _) => {
                let page = model.manners.page;
                let uploads = model.uploads(vault)?;
                let told = uploads.into_iter().map(|(id, upload)| {
                    let told = json!({
                        "ArchiveDescription": upload.description,
                        "CreationDate": iso(upload.created),
                        "MultipartUploadId": id,
                        "PartSizeInBytes": upload.part_size,
                        "VaultARN": arn(vault),
                    });
                    (id.clone(), told)
                });
                Ok(listed("UploadsList", told.collect(), query, page))
            }
            ("InitiateJob", _) => {
                let id = begin_job(&mut model, vault, &body)?;
                let location = format!("{path}/jobs/{id}");
                let said = [(LOCATION.as_str(), &*location), ("x-amz-job-id", &id)];
                empty(StatusCode::ACCEPTED, &said)
            }
            ("ListJobs", _) => {
                let page = model.manners.page;
                let jobs = model.jobs(vault)?;
                let told = jobs
                    .iter()
                    .map(|(id, job)| (id.clone(), told_of(&model, vault, id, job)));
                Ok(listed("JobList", told.collect(), query, page))
            }
            ("DescribeJob", At::Job(id)) => {
                let job = job(&mut model, vault, id)?;
                Ok(document(StatusCode::OK, &told_of(&model, vault, id, &job)))
            }
            ("GetJobOutput", At::Output(id)) => output(&mut model, vault, id, headers),
            _ => Err(missing("resource")),
        }
    }
}

fn arn(vault: &str) -> String {
    format!("arn:aws:glacier:us-east-1:{ACCOUNT}:vaults/{vault}")
}

fn checked(claimed: &str, part: &Part) -> Result<()> {
    let computed = part.tree_hash();
    match claimed == computed {
        true => Ok(()),
        false => Err(invalid(format!(
            "Checksum mismatch: expected {claimed}, computed {computed}"
        ))),
    }
}

fn made(location: &str, id: &str, tree_hash: &str) -> Result<Response<Body>> {
    let said = [
        (LOCATION.as_str(), location),
        ("x-amz-archive-id", id),
        ("x-amz-sha256-tree-hash", tree_hash),
    ];
    empty(StatusCode::CREATED, &said)
}

/// A page of a list, from the marker on.
fn listed(name: &str, all: Vec<(String, Value)>, query: &str, page: usize) -> Response<Body> {
    let marker = parameter(query, "marker").map(decode).unwrap_or_default();
    let mut rest = all.into_iter().filter(|(id, _)| *id >= marker);
    let told: Vec<Value> = rest.by_ref().take(page).map(|(_, told)| told).collect();
    let next = rest.next().map(|(id, _)| id);
    document(StatusCode::OK, &json!({"Marker": next, name: told}))
}

fn begin_job(model: &mut Model, vault: &str, body: &Bytes) -> Result<String> {
    let wanted: Value = serde_json::from_slice(body).map_err(|e| invalid(e.to_string()))?;
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let tier = match text("Tier") {
        "" => "Standard",
        tier @ ("Bulk" | "Standard" | "Expedited") => tier,
        other => return Err(invalid(format!("Invalid tier: {other}"))),
    };
    let archive = match text("Type") {
        "inventory-retrieval" => None,
        "archive-retrieval" => Some(text("ArchiveId").to_string()),
        other => return Err(invalid(format!("Invalid job type: {other}"))),
    };
    model.begin_job(vault, archive, tier, text("Description"))
}

fn job(model: &mut Model, vault: &str, id: &str) -> Result<Job> {
    let jobs = model.jobs(vault)?;
    let found = jobs.into_iter().find(|(its, _)| its == id);
    found.map(|(_, job)| job).ok_or_else(|| missing("job"))
}

fn told_of(model: &Model, vault: &str, id: &str, job: &Job) -> Value {
    let done = model.is_done(job);
    json!({
        "Action": if job.archive.is_some() { "ArchiveRetrieval" } else { "InventoryRetrieval" },
        "ArchiveId": job.archive,
        "Completed": done,
        "CreationDate": iso(job.created),
        "JobDescription": job.description,
        "JobId": id,
        "StatusCode": if done { "Succeeded" } else { "InProgress" },
        "Tier": job.tier,
        "VaultARN": arn(vault),
    })
}

fn output(model: &mut Model, vault: &str, id: &str, headers: &HeaderMap) -> Result<Response<Body>> {
    let job = job(model, vault, id)?;
    if !model.is_done(&job) {
        return Err(invalid(format!("The job is not yet completed: {id}")));
    }
    let Some(archive) = &job.archive else {
        let archives = model.all_archives(vault)?;
        let told: Vec<Value> = archives.into_iter().map(in_inventory).collect();
        let inventory = json!({
            "VaultARN": arn(vault),
            "InventoryDate": iso(job.created),
            "ArchiveList": told,
        });
        return Ok(document(StatusCode::OK, &inventory));
    };
    let archive = model.archive(vault, archive)?;
    let bytes = Bytes::from(archive.chunks.concat());
    let answer = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header("x-amz-archive-description", &archive.description);
    let wanted = header(headers, RANGE.as_str()).and_then(range);
    let answer = match wanted {
        None => answer
            .header("x-amz-sha256-tree-hash", &archive.tree_hash)
            .body(Body::from(bytes)),
        Some((first, last)) if first <= last && last < archive.size => answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(
                CONTENT_RANGE,
                format!("bytes {first}-{last}/{}", archive.size),
            )
            .body(Body::from(bytes.slice(first as usize..=last as usize))),
        Some(_) => return Err(invalid("Invalid range")),
    };
    answer.map_err(|e| invalid(e.to_string()))
}

fn in_inventory((id, archive): (&String, &Archive)) -> Value {
    json!({
        "ArchiveId": id,
        "ArchiveDescription": archive.description,
        "CreationDate": iso(archive.created),
        "Size": archive.size,
        "SHA256TreeHash": archive.tree_hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_486_728_000, "2017-02-10T12:00:00.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(iso(time), text);
        }
    }
}
