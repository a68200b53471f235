//! What a byte and a name cost of the heap, counted: it does not wobble as seconds do. Who slips a copy of the
//! data in asks for as many bytes again; who slips work in asks for memory once more for each call.
//!
//! The bucket is served by other threads; everything else is done by the one that is counted.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use wholefs::draft::{At, Draft, SpoolSpace, Target, Works, WriteMemory};
use wholefs::embedded::{Keep, Options as ServerOptions, Prefill};
use wholefs::journal::{Identity, Journal};
use wholefs::read::{ReadMemory, Reader, Settings};
use wholefs::store::s3::{Keys, Options, S3Store};
use wholefs::store::{Attributes, Precondition, Store as _};
use wholefs::upload::ledger::Before;
use wholefs::upload::{Doubts, Uploads};

use crate::support::allocations::{Asked, asked};
use crate::support::{KIB, MIB, Store};

/// A bucket that keeps nothing, and what a mount of it is made of, without the mount.
struct House {
    runtime: Runtime,
    store: Arc<S3Store>,
    served: Store,
}

fn house() -> House {
    let served = Store::embedded_with(ServerOptions {
        keep: Keep::Null,
        ..ServerOptions::default()
    });
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let keys = Keys {
        access_key_id: served.access_key.clone(),
        secret_access_key: served.secret_key.clone(),
        session_token: None,
    };
    let store = runtime.block_on(S3Store::connect(Options {
        bucket: served.bucket.clone(),
        endpoint_url: Some(served.endpoint.clone()),
        region: Some(served.region.into()),
        provider: Some(served.provider.into()),
        keys: Some(keys),
        ..Options::default()
    }));
    House {
        runtime,
        store: Arc::new(store.expect("connected")),
        served,
    }
}

impl House {
    fn has(&self, key: &str, count: Option<u32>, size: u64) {
        let key = key.to_string();
        let prefill = Prefill { key, count, size };
        self.served.server().prefill(&self.served.bucket, &prefill);
    }

    /// A file of `size` written in `blocks`, and closed: what the writes asked for, and what all of it did.
    fn written(&self, size: u64, block: u64) -> (Asked, Asked) {
        let state = tempfile::tempdir().expect("a folder");
        let identity = Identity {
            endpoint: Some(self.served.endpoint.clone()),
            region: self.served.region.into(),
            provider: self.served.provider.into(),
            bucket: self.served.bucket.clone(),
            prefix: String::new(),
        };
        let journal = Journal::create(state.path(), &identity, "/nowhere".as_ref());
        let journal = Arc::new(journal.expect("a journal"));
        let _inside = self.runtime.enter();
        let uploads = Uploads::new(self.store.clone(), journal, 4, Doubts::default());
        let spool = SpoolSpace::new(state.path().into(), MIB);
        let memory = WriteMemory::new(64 * MIB);
        let works = Works::new(self.store.clone(), uploads, memory, spool, 8 * MIB);
        let target = Target {
            key: "file".into(),
            condition: Precondition::None,
            before: Before::Unknown,
        };
        let draft = Draft::new(&works, target, Attributes::default(), None, true);
        let data = vec![0x5a; block as usize];
        // What is there once and for all is there by now.
        self.runtime
            .block_on(draft.write(At::End, &data))
            .expect("written");
        let mut at_once = Asked::default();
        let ((), all) = asked(|| {
            for _ in 1..size / block {
                let (done, cost) = asked(|| draft.try_write(At::End, &data));
                at_once.times += cost.times;
                at_once.bytes += cost.bytes;
                let rest = &data[done.expect("no error")..];
                if !rest.is_empty() {
                    let written = draft.write(At::End, rest);
                    self.runtime.block_on(written).expect("written");
                }
            }
            let committed = self.runtime.block_on(draft.commit());
            committed.expect("committed").expect("a version");
        });
        (at_once, all)
    }
}

#[test]
fn a_write_asks_the_heap_for_next_to_nothing() {
    let house = house();
    for block in [4 * KIB, 128 * KIB, MIB] {
        // Less than a part: nothing is sent meanwhile.
        let size = 7 * MIB;
        let (writes, _) = house.written(size, block);
        println!("{} writes of {block} bytes: {writes:?}", size / block);
        let pieces = size / (256 * KIB);
        assert!(writes.times <= 2 * pieces, "{block}: {writes:?}");
        assert!(writes.bytes <= size / 100, "{block}: {writes:?}");
    }
}

#[test]
fn a_file_goes_up_without_a_copy_on_the_heap() {
    let house = house();
    let size = 96 * MIB;
    let (_, all) = house.written(size, MIB);
    println!("{} MiB in parts: {all:?}", size / MIB);
    assert!(all.bytes <= size / 50, "{all:?}");
    assert!(all.times <= 100 * (size / MIB), "{all:?}");
}

#[test]
fn a_file_comes_down_in_the_transports_own_buffers() {
    let house = house();
    let (size, block) = (96 * MIB, 128 * KIB);
    house.has("file", None, size);
    let found = house.runtime.block_on(house.store.head("file"));
    let etag = found.expect("there").etag;
    let reader = {
        let _inside = house.runtime.enter();
        Reader::new(
            house.store.clone(),
            Arc::new(ReadMemory::new(128 * MIB)),
            Settings::default(),
            "file".into(),
            etag,
            size,
            None,
        )
    };
    let mut at_once = Asked::default();
    let mut here = 0;
    let ((), all) = asked(|| {
        for at in (0..size).step_by(block as usize) {
            let _inside = house.runtime.enter();
            let (data, cost) = asked(|| reader.try_read(at, block as usize));
            let data = match data {
                Some(data) => {
                    at_once.times += cost.times;
                    here += 1;
                    data
                }
                None => house.runtime.block_on(reader.read(at, block as usize)),
            };
            assert_eq!(data.expect("read").len() as u64, block);
        }
    });
    println!(
        "{} MiB: {all:?}; {here} reads of what is here: {at_once:?}",
        size / MIB
    );
    // (How much more than the bytes depends on how many come at a time. A copy would ask for as many again.)
    assert!(all.bytes <= size + size / 3, "{all:?}");
    assert!(here > 0, "nothing was read ahead");
    assert!(at_once.times <= 2 * here, "{at_once:?} in {here} reads");
}

#[test]
fn a_listed_name_costs_a_few_pieces_of_the_heap() {
    let house = house();
    house.has("dir/", Some(1000), KIB);
    let list = || {
        let page = house.store.list("dir/", true, None, 1000);
        let page = house.runtime.block_on(page).expect("listed");
        assert_eq!(page.entries.len(), 1000);
    };
    list();
    let ((), all) = asked(list);
    println!("1,000 names: {all:?}");
    assert!(all.times <= 3 * 1000, "{all:?}");
    assert!(all.bytes <= 2200 * 1000, "{all:?}");
}
