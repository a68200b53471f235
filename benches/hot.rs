//! The paths every byte and every name takes, each in this process: `cargo bench`. They say what changed, on one
//! machine and from one day to the next; what a mount does in all is `scripts/bench`'s matter.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use wholefs::draft::{At, Draft, Layout, PartRules, SpoolSpace, Target, Works, WriteMemory};
use wholefs::embedded::{self, Keep, Prefill, Server};
use wholefs::journal::{Identity, Journal};
use wholefs::store::s3::{Keys, Options, S3Store};
use wholefs::store::{Attributes, Body, Precondition, Store};
use wholefs::upload::ledger::{Before, Entry, Ledger};
use wholefs::upload::life::{Ending, Record};
use wholefs::upload::{Doubts, Uploads};

const MIB: u64 = 1 << 20;

/// A bucket that keeps nothing, and what a mount of it is made of.
struct House {
    store: Arc<dyn Store>,
    journal: Arc<Journal>,
    server: Server,
    bucket: String,
    // Last: the server's tasks end with it.
    runtime: Runtime,
}

fn house(state: &Path) -> House {
    let runtime = Runtime::new().expect("a runtime");
    let options = embedded::Options {
        keep: Keep::Null,
        ..embedded::Options::default()
    };
    let bucket = options.buckets[0].clone();
    let keys = Keys {
        access_key_id: options.access_key.clone(),
        secret_access_key: options.secret_key.clone(),
        session_token: None,
    };
    let server = runtime.block_on(Server::start(options));
    let server = server.expect("the server starts");
    let options = Options {
        bucket: bucket.clone(),
        endpoint_url: Some(server.endpoint()),
        region: Some("us-east-1".into()),
        provider: Some("embedded".into()),
        keys: Some(keys),
        ..Options::default()
    };
    let store = runtime.block_on(S3Store::connect(options));
    let store = Arc::new(store.expect("the store is there"));
    let identity = Identity {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".into(),
        provider: "embedded".into(),
        bucket: bucket.clone(),
        prefix: String::new(),
    };
    let journal = Journal::create(state, &identity, Path::new("/nowhere"));
    House {
        store,
        journal: Arc::new(journal.expect("a journal")),
        server,
        bucket,
        runtime,
    }
}

fn rules() -> PartRules {
    PartRules {
        min: 5 * MIB,
        max: 5 << 30,
        count: 10_000,
        equal: false,
        copy: true,
    }
}

fn layout(c: &mut Criterion) {
    let layout = Layout::new(&rules(), 8 * MIB, 64 * MIB);
    c.bench_function("layout: the sizes of 10,000 parts", |b| {
        b.iter(|| std::hint::black_box(&layout).reach())
    });
}

fn crc64(c: &mut Criterion) {
    let part = Bytes::from(vec![0x5a; 8 * MIB as usize]);
    let mut group = c.benchmark_group("crc64");
    group.throughput(Throughput::Bytes(8 * MIB));
    group.bench_function("of a part", |b| {
        b.iter(|| Body::from_bytes(part.clone()).crc64())
    });
    group.bench_function("of as many zeros", |b| {
        b.iter(|| Body::zeros(std::hint::black_box(8 * MIB)).crc64())
    });
    group.finish();
}

/// What a write() costs before anything is sent: 7 MiB into pooled memory, with their checksum.
fn writing(c: &mut Criterion) {
    let state = tempfile::tempdir().expect("a folder");
    let house = house(state.path());
    let _inside = house.runtime.enter();
    let uploads = Uploads::new(
        house.store.clone(),
        house.journal.clone(),
        32,
        Doubts::default(),
    );
    let memory = WriteMemory::new(256 * MIB);
    let spool = SpoolSpace::new(state.path().into(), MIB);
    let works = Works::new(house.store.clone(), uploads, memory, spool, 8 * MIB);
    let draft = || {
        let target = Target {
            key: "file".into(),
            condition: Precondition::None,
            before: Before::Unknown,
        };
        Draft::new(&works, target, Attributes::default(), None, true)
    };
    let mut group = c.benchmark_group("a draft takes 7 MiB");
    group.throughput(Throughput::Bytes(7 * MIB));
    for block in [4096, 1 << 17, 1 << 20] {
        let data = vec![0x5a; block];
        let write = |draft: Arc<Draft>| {
            house.runtime.block_on(async {
                for _ in 0..7 * MIB as usize / block {
                    draft.write(At::End, &data).await.expect("written");
                }
            });
            draft
        };
        group.bench_function(format!("{block} bytes at a time"), |b| {
            b.iter_batched(draft, write, BatchSize::PerIteration)
        });
    }
    group.finish();
}

/// Written, and not waited for: what a record costs beside the disk's sync.
fn journal(c: &mut Criterion) {
    let state = tempfile::tempdir().expect("a folder");
    let house = house(state.path());
    let mut id = 0;
    c.bench_function("journal: the Begin and the End of an upload", |b| {
        b.iter(|| {
            id += 1;
            let record = |record| Entry {
                record,
                durable: false,
                id,
                key: "a/file/of/some/length.bin",
                token: "0123456789abcdef",
                upload_id: None,
                parts: &[],
                size: 0,
                condition: &Precondition::None,
                before: &Before::Unknown,
                now_there: std::time::SystemTime::UNIX_EPOCH,
            };
            house.runtime.block_on(async {
                for kind in [Record::Begin, Record::End(Ending::Aborted)] {
                    let recorded = house.journal.record(record(kind)).await;
                    recorded.expect("recorded");
                }
            });
        })
    });
}

/// A page of a thousand names: asked for, sent, and read, by a server in the same process.
fn listing(c: &mut Criterion) {
    let state = tempfile::tempdir().expect("a folder");
    let house = house(state.path());
    let key = "dir/".to_string();
    let prefill = Prefill {
        key,
        count: Some(1000),
        size: 4096,
    };
    house.server.prefill(&house.bucket, &prefill);
    let mut group = c.benchmark_group("a listing");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("of 1,000 entries", |b| {
        b.iter(|| {
            let page = house.store.list("dir/", true, None, 1000);
            let page = house.runtime.block_on(page).expect("listed");
            assert_eq!(page.entries.len(), 1000);
        })
    });
    group.finish();
}

criterion_group!(hot, layout, crc64, writing, journal, listing);
criterion_main!(hot);
