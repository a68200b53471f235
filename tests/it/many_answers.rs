//! A hundred thousand spoilt answers, to the store's client alone: nothing panics, no byte that it hands out is
//! other than what the store has, and what it says is done is done. (`answers` plays fewer, on a mount.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wholefs::embedded::{Dialect, Options, Server};
use wholefs::store::s3::{self, Keys, S3Store};
use wholefs::store::{
    Attributes, Body, CompletedPart, ETag, Error, Limits, Precondition, Store, UploadId,
};

use crate::support::mangle::{Mangler, Random};
use crate::support::{Content, KIB};

/// Who plays at once: what is waited for is the network.
const PLAYERS: u64 = 24;

async fn client(endpoint: String) -> Arc<S3Store> {
    let theirs = Options::default();
    let options = s3::Options {
        bucket: theirs.buckets[0].clone(),
        endpoint_url: Some(endpoint),
        region: Some("us-east-1".into()),
        provider: Some("embedded".into()),
        keys: Some(Keys {
            access_key_id: theirs.access_key,
            secret_access_key: theirs.secret_key,
            session_token: None,
        }),
        // Each answer is looked at by itself.
        limits: Limits {
            request_timeout: Duration::from_secs(20),
            attempts: 1,
        },
        ..s3::Options::default()
    };
    Arc::new(S3Store::connect(options).await.expect("connected"))
}

/// The bytes of a range, if every one of them is said to be there.
async fn read(
    store: &S3Store,
    key: &str,
    etag: &ETag,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, Error> {
    let mut download = store.get(key, etag, range).await?;
    let mut bytes = Vec::new();
    while let Some(next) = download.body.next().await {
        bytes.extend_from_slice(&next?);
    }
    Ok(bytes)
}

struct Player {
    /// Hears spoilt answers.
    store: Arc<S3Store>,
    /// Hears none.
    direct: Arc<S3Store>,
    name: String,
    seed: u64,
    random: Random,
    /// What may be there: generations of contents; 0 is nothing.
    may_be: Vec<u64>,
    last: u64,
}

impl Player {
    fn content(&self, generation: u64) -> Content {
        let mut random = Random(self.seed + generation);
        random.below(1);
        Content::new(self.seed + generation, random.below(20 * KIB))
    }

    /// What was asked for was done if that was the answer, and may have been if not.
    fn note(&mut self, generation: u64, done: bool) {
        match done {
            true => self.may_be = vec![generation],
            false => self.may_be.push(generation),
        }
    }

    fn next(&mut self) -> (u64, Body) {
        self.last += 1;
        let bytes = self.content(self.last).bytes();
        (self.last, Body::from_bytes(bytes.into()))
    }

    /// Whose content is there, whatever was said.
    async fn truth(&mut self) -> Option<(Content, ETag)> {
        let Ok(there) = self.direct.head(&self.name).await else {
            assert!(self.may_be.contains(&0), "{} is gone", self.name);
            self.may_be = vec![0];
            return None;
        };
        let found = read(&self.direct, &self.name, &there.etag, 0..there.size).await;
        let found = found.expect("what is there can be read");
        let is = |generation: &&u64| self.content(**generation).compare(&found[..]).is_ok();
        let generation = self.may_be.iter().filter(|n| **n > 0).find(is).copied();
        let Some(generation) = generation else {
            let (name, bytes, may_be) = (&self.name, found.len(), &self.may_be);
            panic!("{name}: {bytes} bytes that are none of {may_be:?}")
        };
        self.may_be = vec![generation];
        Some((self.content(generation), there.etag))
    }

    async fn upload(&mut self, body: Body) -> Result<(), Error> {
        let (store, name) = (self.store.clone(), self.name.clone());
        let id: UploadId = store.create_upload(&name, &Attributes::default()).await?;
        let size = body.len();
        let part = store.upload_part(&name, &id, 1, body).await;
        drop(store.list_parts(&name, &id).await);
        drop(store.list_uploads(&name, None).await);
        if self.random.below(4) == 0 {
            drop(store.abort_upload(&name, &id).await);
        }
        let part = part?;
        let parts = [CompletedPart {
            number: 1,
            etag: part.etag,
            crc64: part.crc64,
        }];
        let none = Precondition::None;
        let done = store.complete_upload(&name, &id, &parts, size, &none).await;
        done.map(drop)
    }

    async fn play(&mut self) {
        let (store, name) = (self.store.clone(), self.name.clone());
        let there = self.truth().await;
        match self.random.below(8) {
            0 | 1 => {
                let (generation, body) = self.next();
                let attributes = Attributes::default();
                let none = Precondition::None;
                let put = store.put(&name, body, &attributes, &none).await;
                self.note(generation, put.is_ok());
            }
            2 => {
                let (generation, body) = self.next();
                let done = self.upload(body).await;
                self.note(generation, done.is_ok());
            }
            3 => {
                let done = store.delete(&name).await;
                self.note(0, done.is_ok());
            }
            4 => {
                let keys = [name.clone(), format!("{name}-never")];
                let done = store.delete_many(&keys).await;
                assert_eq!(done.len(), keys.len());
                self.note(0, done[0].is_ok());
            }
            5 => drop(store.list(&name, true, None, 100).await),
            _ => {
                let Some((content, etag)) = there else {
                    drop(store.head(&name).await);
                    return;
                };
                let whole = content.bytes();
                let size = whole.len() as u64;
                let from = self.random.below(size + 1);
                let to = from + self.random.below(size - from + 1);
                if let Ok(found) = read(&store, &name, &etag, from..to).await {
                    let right = &whole[from as usize..to as usize];
                    assert!(found == right, "{name}: wrong bytes of {from}..{to}");
                }
                // Of the version that the store is said to have.
                if let Ok(said) = store.head(&name).await
                    && let Ok(found) = read(&store, &name, &said.etag, 0..size).await
                {
                    assert!(found == whole, "{name}: wrong bytes");
                }
            }
        }
    }
}

async fn play(answers: u64, seed: u64) {
    let options = Options {
        dialect: Dialect {
            part_min: 1,
            ..Dialect::default()
        },
        ..Options::default()
    };
    let server = Server::start(options).await.expect("a server");
    let mangler = Arc::new(Mangler::to(&server.endpoint(), seed, 2));
    let store = client(mangler.endpoint.clone()).await;
    let direct = client(server.endpoint()).await;
    mangler.begin();
    let rounds = Arc::new(AtomicU64::new(0));
    let players: Vec<_> = (0..PLAYERS)
        .map(|n| {
            let (mangler, rounds) = (mangler.clone(), rounds.clone());
            let mut player = Player {
                store: store.clone(),
                direct: direct.clone(),
                name: format!("k-{n}"),
                seed: (seed + n) << 24,
                random: Random(seed * 100 + n + 1),
                may_be: vec![0],
                last: 0,
            };
            tokio::spawn(async move {
                while mangler.spoilt() < answers {
                    player.play().await;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                player.truth().await;
            })
        })
        .collect();
    for player in players {
        player.await.expect("nothing is wrong");
    }
    println!(
        "seed {seed}: {} spoilt answers in {rounds:?} rounds",
        mangler.spoilt()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_store_answers_its_client_hands_out_no_wrong_byte() {
    play(5_000, 11).await;
}

mod long {
    /// Its seed is new each time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_a_store_answers_a_hundred_thousand_times() {
        super::play(100_000, u64::from(std::process::id())).await;
    }
}
