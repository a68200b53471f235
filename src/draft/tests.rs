//! Drafts against a plain vector of bytes: every kind of operation in random order, small parts and
//! a small memory so that streaming, spilling, rewriting and copying all happen, over a real store.

use std::sync::Arc;

use super::*;
use crate::embedded::{Dialect, Options as ServerOptions, Server};
use crate::store::Precondition;
use crate::store::s3::{Keys, Options as StoreOptions, S3Store};
use crate::upload::Doubts;
use crate::upload::ledger::{Before, Forgetful};

/// Deterministic, and good enough to choose operations.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }
}

const PART: u64 = 64 << 10;

async fn store(server: &Server, provider: &str) -> Arc<dyn Store> {
    let keys = Keys {
        access_key_id: "wholefs".into(),
        secret_access_key: "wholefs-secret".into(),
        session_token: None,
    };
    let options = StoreOptions {
        bucket: "demo".into(),
        endpoint_url: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        keys: Some(keys),
        provider: Some(provider.into()),
        ..StoreOptions::default()
    };
    Arc::new(
        S3Store::connect(options)
            .await
            .expect("the embedded bucket is there"),
    )
}

async fn works(server: &Server, memory: u64, spool: u64) -> (Arc<Works>, tempfile::TempDir) {
    // Garage's row allows small parts.
    works_over(store(server, "garage").await, memory, spool)
}

fn works_over(store: Arc<dyn Store>, memory: u64, spool: u64) -> (Arc<Works>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let uploads = Uploads::new(store.clone(), Arc::new(Forgetful), 4, Doubts::default());
    let spool = SpoolSpace::new(directory.path().to_path_buf(), spool);
    (
        Works::new(store, uploads, WriteMemory::new(memory), spool, PART),
        directory,
    )
}

async fn server() -> Server {
    let dialect = Dialect {
        part_min: 1,
        ..Dialect::default()
    };
    Server::start(ServerOptions {
        dialect,
        ..ServerOptions::default()
    })
    .await
    .unwrap()
}

fn draft(works: &Arc<Works>, key: &str, base: Option<Base>) -> Arc<Draft> {
    let dirty = base.is_none();
    let target = Target {
        key: key.into(),
        condition: Precondition::None,
        before: Before::Unknown,
    };
    Draft::new(works, target, Default::default(), base, dirty)
}

async fn settled(works: &Works) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    assert_eq!(
        works.uploads.settle(deadline).await,
        0,
        "an upload did not end"
    );
}

/// How many sequences a run must try.
const SEQUENCES: u64 = 1500;

#[tokio::test(flavor = "multi_thread")]
async fn every_sequence_of_operations_gives_what_a_plain_file_gives() {
    let server = server().await;
    let (works, _directory) = works(&server, 4 << 20, 1 << 30).await;
    let (mut operations, mut commits, mut aborts) = (0, 0, 0);
    for seed in 1..=SEQUENCES {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let key = format!("file-{}", seed % 7);
        let old = server.object("demo", &key);
        // Over the object as it is, or afresh.
        let keep = dice.roll(2) == 0;
        let base = match &old {
            Some(bytes) if keep => {
                let etag = works.store.head(&key).await.unwrap().etag;
                Some(Base {
                    key: key.clone(),
                    etag,
                    size: bytes.len() as u64,
                })
            }
            _ => None,
        };
        let mut model = if base.is_some() {
            old.clone().unwrap()
        } else {
            Vec::new()
        };
        let draft = draft(&works, &key, base);
        draft.keep_all();
        let streams = dice.roll(2) == 0;
        for _ in 0..dice.roll(24) {
            operations += 1;
            match dice.roll(12) {
                0..=5 => {
                    let longest = if dice.roll(3) == 0 { 3 * PART } else { 9000 };
                    let len = 1 + dice.roll(longest) as usize;
                    let bytes = dice.bytes(len);
                    let append = streams || dice.roll(3) == 0;
                    let at = if append {
                        model.len()
                    } else {
                        dice.roll(model.len() as u64 + 2 * PART) as usize
                    };
                    if model.len() < at + len {
                        model.resize(at + len, 0);
                    }
                    model[at..at + len].copy_from_slice(&bytes);
                    let taken = draft.try_write(At::Offset(at as u64), &bytes).unwrap();
                    if taken < len {
                        draft
                            .write(At::Offset((at + taken) as u64), &bytes[taken..])
                            .await
                            .unwrap();
                    }
                }
                6..=7 => {
                    let at = dice.roll(model.len() as u64 + 10) as usize;
                    let len = dice.roll(2 * PART) as usize;
                    let expected = &model[at.min(model.len())..(at + len).min(model.len())];
                    let read = draft.read(at as u64, len).await.unwrap();
                    assert!(read == expected, "seed {seed}: a read of {len} at {at}");
                }
                8 => {
                    let size = dice.roll(model.len() as u64 + PART) as usize;
                    model.resize(size, 0);
                    let size = size as u64;
                    draft.reshape(&Reshape::Truncate(size)).await.unwrap();
                }
                9 => {
                    let at = dice.roll(model.len() as u64 + 10) as usize;
                    let end = (at + dice.roll(3 * PART) as usize).min(model.len());
                    if at < end {
                        model[at..end].fill(0);
                    }
                    let range = at as u64..(end.max(at)) as u64;
                    draft.reshape(&Reshape::Zero(range)).await.unwrap();
                }
                10 => {
                    let size = dice.roll(model.len() as u64 + PART) as usize;
                    model.resize(size.max(model.len()), 0);
                    let size = size as u64;
                    draft.reshape(&Reshape::Extend(size)).await.unwrap();
                    let hole = draft.next(0, false).await.unwrap();
                    let data = draft.next(0, true).await.unwrap();
                    assert_eq!(hole.is_none(), model.is_empty());
                    let first = model.iter().position(|byte| *byte != 0);
                    let first = first.map(|first| first as u64);
                    assert!(
                        first.is_none() || data.is_some_and(|data| Some(data) <= first),
                        "seed {seed}: data at {first:?}, said to be at {data:?}"
                    );
                }
                _ => {
                    let bytes = dice.bytes(100);
                    model.extend_from_slice(&bytes);
                    draft.write(At::End, &bytes).await.unwrap();
                }
            }
            assert_eq!(draft.size(), model.len() as u64, "seed {seed}");
            assert_eq!(
                server.object("demo", &key),
                old,
                "seed {seed}: published before its commit"
            );
        }
        if dice.roll(4) == 0 {
            aborts += 1;
            let doom = if dice.roll(2) == 0 {
                Doom::Unlinked
            } else {
                Doom::Abandoned("a test")
            };
            draft.abort(doom);
            drop(draft);
            assert_eq!(
                server.object("demo", &key),
                old,
                "seed {seed}: an abort changed the object"
            );
        } else if draft.is_dirty() {
            commits += 1;
            let version = draft.commit().await.unwrap().expect("something to publish");
            assert_eq!(version.size, model.len() as u64);
            assert!(
                server.object("demo", &key).as_ref() == Some(&model),
                "seed {seed}: another file was published"
            );
        }
        settled(&works).await;
        assert_eq!(server.uploads("demo"), [], "seed {seed}: an upload is left");
    }
    assert_eq!(works.spool.used(), 0, "spools give back what they took");
    assert!(operations > SEQUENCES * 5 && commits > SEQUENCES / 3 && aborts > SEQUENCES / 10);
    println!("{SEQUENCES} drafts, {operations} operations, {commits} commits, {aborts} aborts");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_writers_than_memory_all_get_through() {
    let server = server().await;
    // Memory for twelve chunks, forty files of which none is a full part.
    let (works, _directory) = works(&server, 4 << 20, 1 << 30).await;
    let mut writers = tokio::task::JoinSet::new();
    let barrier = Arc::new(tokio::sync::Barrier::new(40));
    for i in 0..40u8 {
        let (works, barrier) = (works.clone(), barrier.clone());
        writers.spawn(async move {
            let draft = draft(&works, &format!("w{i}"), None);
            draft.write(At::Offset(0), &[i; 1000]).await.unwrap();
            // Nobody goes on before everybody holds memory or has spilled.
            barrier.wait().await;
            for _ in 0..40 {
                draft.write(At::End, &[i; 10_000]).await.unwrap();
            }
            draft.commit().await.unwrap().unwrap().size
        });
    }
    while let Some(size) = writers.join_next().await {
        assert_eq!(size.unwrap(), 401_000);
    }
    for i in 0..40u8 {
        assert!(
            server
                .object("demo", &format!("w{i}"))
                .unwrap()
                .iter()
                .all(|b| *b == i)
        );
    }
    assert_eq!(server.uploads("demo"), []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_enospc_and_publishes_nothing() {
    let server = server().await;
    let (works, _directory) = works(&server, 4 << 20, 100_000).await;
    let draft = draft(&works, "f", None);
    draft
        .write(At::Offset(1 << 30), &[1; 60_000])
        .await
        .unwrap();
    let error = draft
        .write(At::Offset(2 << 30), &[1; 60_000])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Spool(e) if e.raw_os_error() == Some(libc::ENOSPC)),
        "{error}"
    );
    // The file is not whole: it stays lost for whoever goes on with it.
    let later = draft.write(At::Offset(0), &[2]).await.unwrap_err();
    assert!(matches!(later, Error::Spool(_)), "{later}");
    assert!(draft.commit().await.is_err());
    drop(draft);
    assert_eq!(works.spool.used(), 0);
    assert!(server.objects("demo").is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_let_go_cannot_be_read_back() {
    let server = server().await;
    let (works, _directory) = works(&server, 4 << 20, 1 << 30).await;
    let draft = draft(&works, "f", None);
    for _ in 0..200 {
        draft.write(At::End, &[7; PART as usize]).await.unwrap();
    }
    let middle = draft.read(PART * 50, 10).await;
    assert!(matches!(middle, Err(Error::NotHere)), "{middle:?}");
    // The head and what was written last are kept.
    assert_eq!(draft.read(0, 4).await.unwrap(), [7; 4]);
    // What cannot be written, or made zero, in full is not begun.
    let head = draft.works.layout.size(1).unwrap();
    let across = draft.write(At::Offset(head - 4), b"both of them").await;
    assert!(matches!(across, Err(Error::NotHere)), "{across:?}");
    let zero = Reshape::Zero(head - 4..head + 4);
    let across = draft.reshape(&zero).await;
    assert!(matches!(across, Err(Error::NotHere)), "{across:?}");
    assert_eq!(draft.read(head - 4, 4).await.unwrap(), [7; 4]);
    draft.write(At::Offset(0), b"head").await.unwrap();
    assert_eq!(draft.read(PART * 200 - 4, 9).await.unwrap(), [7; 4]);
    draft.commit().await.unwrap();
    let object = server.object("demo", "f").unwrap();
    assert_eq!(
        (&object[..6], object.len() as u64),
        (&b"head\x07\x07"[..], PART * 200)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_that_fails_changes_nothing() {
    let server = server().await;
    // Room for what is behind the cut, and not for what is before it.
    let (works, _directory) = works(&server, 4 << 20, PART / 2).await;
    let draft = draft(&works, "f", None);
    let written = Dice(7).bytes(5 * PART as usize / 2);
    draft.write(At::End, &written).await.unwrap();
    let cut = draft.reshape(&Reshape::Truncate(PART - 10)).await;
    assert!(matches!(&cut, Err(Error::Spool(_))), "{cut:?}");
    draft.commit().await.unwrap();
    assert!(*server.object("demo", "f").unwrap() == written[..]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_after_a_truncation_to_nothing_is_said_in_time() {
    let server = server().await;
    let (works, _directory) = works(&server, 4 << 20, 1 << 30).await;
    let draft = draft(&works, "f", None);
    draft.write(At::End, &[7; 5 * PART as usize]).await.unwrap();
    draft.reshape(&Reshape::Truncate(0)).await.unwrap();
    draft.write(At::End, b"small").await.unwrap();
    let said =
        |attributes: &mut Attributes| drop(attributes.metadata.insert("k".into(), "v".into()));
    draft.say_if_not_begun(said);
    assert!(draft.attributes().metadata.contains_key("k"));
    draft.commit().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_moves_no_byte_of_what_was_there() {
    let server = server().await;
    let (works, _directory) = works(&server, 4 << 20, 1 << 30).await;
    let old = vec![3u8; 10 << 20];
    server.put_object("demo", "f", old.clone());
    let etag = works.store.head("f").await.unwrap().etag;
    server.log().reset();
    let draft = draft(
        &works,
        "f",
        Some(Base {
            key: "f".into(),
            etag,
            size: old.len() as u64,
        }),
    );
    draft.write(At::End, b"one line\n").await.unwrap();
    draft.commit().await.unwrap();
    assert_eq!(server.log().count("GetObject"), 0);
    assert!(server.log().count("UploadPartCopy") > 0);
    let sent: u64 = server
        .log()
        .of("UploadPart")
        .iter()
        .map(|r| r.received)
        .sum();
    assert_eq!(sent, 9);
    assert_eq!(server.object("demo", "f").unwrap().len(), old.len() + 9);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_may_still_publish_is_known_to_be_uncertain_also_when_its_name_goes() {
    for unlinked in [false, true] {
        let server = server().await;
        // Its row has conditions.
        let store = store(&server, "aws").await;
        let (works, _directory) = works_over(store, 64 << 20, 1 << 30);
        let target = Target {
            key: "f".into(),
            condition: Precondition::Absent,
            before: Before::Nothing,
        };
        let draft = Draft::new(&works, target, Default::default(), None, true);
        draft.write(At::End, b"small").await.unwrap();
        // Applied, and not answered: the second attempt finds somebody's object, perhaps its own.
        server
            .faults()
            .script("op=PutObject,n=1:drop-after")
            .unwrap();
        let hold = server.faults().script("op=PutObject:hold-before").unwrap();
        let commit = tokio::spawn({
            let draft = draft.clone();
            async move { draft.commit().await }
        });
        while server.faults().fired(hold) == 0 && !commit.is_finished() {
            tokio::task::yield_now().await;
        }
        if unlinked {
            draft.abort(Doom::Unlinked);
        }
        server.faults().remove(hold);
        let told = commit.await.unwrap();
        assert!(matches!(&told, Err(Error::Store(_))), "{told:?}");
        assert!(draft.is_uncertain(), "{told:?}, unlinked: {unlinked}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_refused_is_there_still_for_who_has_it_open_when_its_name_goes() {
    let server = server().await;
    let (works, _directory) = works(&server, 64 << 20, 1 << 30).await;
    let written = Dice(7).bytes(PART as usize / 2);
    for answer in ["error=403/AccessDenied", "error=500"] {
        let draft = draft(&works, "f", None);
        draft.write(At::End, &written).await.unwrap();
        let faults = server.faults();
        let refused = faults.script(&format!("op=PutObject:{answer}")).unwrap();
        let held = faults.script("op=PutObject:hold-before").unwrap();
        let commit = tokio::spawn({
            let draft = draft.clone();
            async move { draft.commit().await }
        });
        while faults.fired(held) == 0 {
            tokio::task::yield_now().await;
        }
        draft.abort(Doom::Unlinked);
        faults.remove(held);
        assert_eq!(commit.await.unwrap().unwrap(), None);
        assert!(faults.fired(refused) > 0);
        faults.remove(refused);
        assert_eq!(draft.read(0, written.len()).await.unwrap(), written);
        draft.write(At::End, b" and more").await.unwrap();
        draft.write(At::Offset(1), b"!").await.unwrap();
        let mut expected = [&written[..], b" and more"].concat();
        expected[1] = b'!';
        assert_eq!(draft.read(0, 2 * written.len()).await.unwrap(), expected);
        assert_eq!(draft.commit().await.unwrap(), None);
        assert_eq!(server.object("demo", "f"), None);
    }
    server.stop().await;
}
