//! DeleteObjects: up to a thousand keys in a request, each with an answer of its own.
//!
//! Invariants:
//! - A key is deleted only where the answer names it: silence is no success. What a request leaves without an
//!   answer of its own is deleted alone, and so is everything where the store does not know the call.
//! - What XML does not carry unchanged is deleted alone as well: who reads it trimmed would delete another
//!   object.
//! - Content-MD5 vouches for the keys: some stores demand it, and all take it, other than the SDK's checksum.
//! - It is repeated as DELETE is, for those keys whose answer may be another then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use super::classify::{Came, Failure, Op, kind_of_answer};
use super::keys::survives_xml;
use super::{S3Store, retry};
use crate::store::error::NO_SUCH_BUCKET;
use crate::store::{Error, ErrorKind, Result, delete_each};

/// What one request takes.
const BATCH: usize = 1000;
/// So many take as long as one thing may.
const AS_ONE: usize = 100;

/// What became of each key. Who names one twice is told twice.
type Told<'a> = HashMap<&'a str, Result<()>>;

impl S3Store {
    /// [`Store::delete_many`](crate::store::Store::delete_many)
    pub(super) async fn delete_all(&self, keys: &[String]) -> Vec<Result<()>> {
        let fit = |key: &&String| self.capabilities.multi_delete && survives_xml(&self.full(key));
        let together: Vec<&str> = keys.iter().filter(fit).map(String::as_str).collect();
        let mut told = Told::new();
        for batch in together.chunks(BATCH).filter(|batch| batch.len() > 1) {
            told.extend(self.delete_batch(batch).await);
        }
        let left = keys.iter().filter(|key| !told.contains_key(key.as_str()));
        let left: Vec<String> = left.cloned().collect();
        let alone = delete_each(self, &left).await;
        told.extend(left.iter().map(String::as_str).zip(alone));
        keys.iter().map(|key| told[key.as_str()].clone()).collect()
    }

    /// Tells of those that the store has answered for.
    async fn delete_batch<'a>(&self, batch: &[&'a str]) -> Told<'a> {
        let op = Op::DELETE_MANY;
        // The keys that the next request is about, and what has been told of the others.
        let state = Mutex::new((batch.to_vec(), Told::new()));
        let state = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let request = || {
            let object = |key: &&str| {
                let named = ObjectIdentifier::builder().key(self.full(key));
                named.build().expect("it has a key")
            };
            let named = state().0.iter().map(object).collect();
            let named = Delete::builder().set_objects(Some(named));
            self.client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(named.build().expect("it has objects"))
                .customize()
                .mutate_request(vouch_by_md5)
                .send()
        };
        let accept = |answer: DeleteObjectsOutput| {
            let mut state = state();
            let (left, told) = &mut *state;
            let mut again = None;
            let said = self.said_of_each(answer);
            left.retain(|key| match said.get(*key) {
                Some(Err(error)) if retry::worth_repeating(op.nature, error.kind) => {
                    again = Some(error.clone());
                    true
                }
                Some(done) => {
                    told.insert(key, done.clone());
                    false
                }
                None => false,
            });
            match again {
                None => Ok(()),
                Some(error) => Err(Failure {
                    error: error.into(),
                    came: Came::PerhapsThrough,
                }),
            }
        };
        let steps = 1 + batch.len() / AS_ONE;
        let patience = self.patience(0) * u32::try_from(steps).unwrap_or(u32::MAX);
        let done = self.call(op, batch[0], patience, request, accept).await;
        let (left, mut told) = std::mem::take(&mut *state());
        match done {
            Err(error) if !is_not_known(&error) => {
                let of = |key: &str| Error {
                    key: key.to_string(),
                    ..error.clone()
                };
                told.extend(left.into_iter().map(|key| (key, Err(of(key)))));
            }
            _ => {}
        }
        told
    }

    /// By our keys, what an answer says of those it names.
    fn said_of_each(&self, answer: DeleteObjectsOutput) -> HashMap<String, Result<()>> {
        let ours = |key: Option<&str>| Some(self.prefix.strip(key?)?.to_string());
        let deleted = answer.deleted().iter();
        let deleted = deleted.filter_map(|one| Some((ours(one.key())?, Ok(()))));
        let refused = answer.errors().iter().filter_map(|one| {
            let key = ours(one.key())?;
            let (code, message) = (one.code().unwrap_or("NoCode"), one.message());
            // As if it had been refused alone.
            let kind = match kind_of_answer(Op::DELETE, 400, code) {
                ErrorKind::Missing if code != NO_SUCH_BUCKET => return Some((key, Ok(()))),
                kind => kind,
            };
            let error = Op::DELETE_MANY.error(kind, &key, code, message.unwrap_or_default());
            Some((key, Err(error)))
        });
        deleted.chain(refused).collect()
    }
}

/// Does the store refuse the call itself? Then none of it was done.
fn is_not_known(error: &Error) -> bool {
    match error.kind {
        ErrorKind::Invalid => true,
        ErrorKind::Missing => !error.is_of_the_bucket(),
        _ => false,
    }
}

fn vouch_by_md5(request: &mut HttpRequest) {
    let body = request.body().bytes().unwrap_or_default();
    let digest = BASE64.encode(Md5::digest(body));
    let headers = request.headers_mut();
    let checksums = headers.iter().map(|(name, _)| name.to_string());
    let checksums = checksums.filter(|name| name.contains("checksum"));
    for name in checksums.collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers.insert("content-md5", digest);
}
