//! What the store answers is believed in the order of the questions, and what this mount makes meanwhile is not lost.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use wholefs::embedded::FaultId;

use crate::support::calling::Calling;
use crate::support::{KIB, MIB, Mount, Store, eventually, seconds};

/// Nothing is asked about a name that is known.
const KNOWN: [&str; 2] = ["--metadata-ttl", "1h"];

/// The `nth` request of this operation from now on is applied, and answered when the fault is removed.
fn hold_answer(store: &Store, operation: &str, nth: u32) -> FaultId {
    let fault = format!("op={operation},n={nth}:hold-after");
    store.faults().script(&fault).expect("a fault")
}

fn await_fired(store: &Store, fault: FaultId) {
    eventually(seconds(20), "the request has come in", || {
        store.faults().fired(fault) > 0
    });
}

fn text_of(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    text
}

/// The first asks before another client replaces the file, the other one afterwards. However late each is answered, the
/// other one reads what was there when he asked.
#[test]
fn who_asked_later_knows_better_whenever_he_is_answered() {
    for first_is_answered_first in [true, false] {
        let store = Store::embedded();
        store.put("f", "the old");
        let mount = Mount::with(&store, &KNOWN);
        let path = mount.path("f");
        assert_eq!(text_of(File::open(&path).expect("opened")), "the old");
        let holds = [1, 2].map(|nth| hold_answer(&store, "HeadObject", nth));
        let open = || {
            let path = path.clone();
            std::thread::spawn(move || File::open(path))
        };
        let first = open();
        await_fired(&store, holds[0]);
        store.put("f", "the new");
        let other = open();
        await_fired(&store, holds[1]);
        let opened = |opening: std::thread::JoinHandle<_>| {
            let opened: std::io::Result<File> = opening.join().expect("no panic");
            opened.expect("opened")
        };
        let (_first, other) = match first_is_answered_first {
            true => {
                store.faults().remove(holds[0]);
                let first = opened(first);
                store.faults().remove(holds[1]);
                (first, opened(other))
            }
            false => {
                store.faults().remove(holds[1]);
                let other = opened(other);
                store.faults().remove(holds[0]);
                (opened(first), other)
            }
        };
        assert_eq!(text_of(other), "the new", "{first_is_answered_first}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "the new");
        assert!(mount.terminate().success());
    }
}

/// The open waits until nothing more of the old version is being given to the kernel, and just then it is noticed that
/// another client has replaced the file. Answers whether it came to that: the open may be through, and the kernel wait for
/// the page that is being read; then what is written is all there is, for who reads as well.
fn is_written_anew_while_the_file_is_found_to_be_replaced() -> bool {
    const SIZE: u64 = 24 * MIB;
    const PAGE: u64 = 4 * KIB;
    let store = Store::embedded();
    store.put("f", vec![1; SIZE as usize]);
    let mount = Mount::with(&store, &KNOWN);
    let path = mount.path("f");
    let reader = File::open(&path).expect("opened");
    let hold = hold_answer(&store, "GetObject", 1);
    let at_the_end = SIZE - PAGE;
    let slow = std::thread::spawn({
        let reader = reader.try_clone().expect("another descriptor");
        move || reader.read_exact_at(&mut [0; 1], at_the_end)
    });
    await_fired(&store, hold);
    // Here and there, until it is brought in whole: which waits for that read, as it is of one of the pages.
    let mut n = 0;
    let is_brought = || store.log().of("GetObject").iter().any(|get| get.sent > MIB);
    eventually(seconds(60), "it is brought in", || {
        // No two steps alike, and never to the end.
        let at = (1 + n * (n + 1) / 2 * 97) % (SIZE / PAGE / 2) * PAGE;
        reader.read_exact_at(&mut [0; 1], at).expect("read");
        n += 1;
        is_brought() && store.log().under_way() == 1
    });
    let writing = Calling::start({
        let path = path.clone();
        move || fs::write(path, b"ours")
    });
    let waits = || writing.waits_in(libc::SYS_openat);
    eventually(seconds(20), "the open waits", waits);
    store.put("f", "theirs");
    let came = text_of(File::open(&path).expect("opened")) == "theirs";
    assert!(waits() || !came, "still");
    store.faults().remove(hold);
    // Its request is not answered for so long that it is made anew, and what it asks for is gone.
    let read = slow.join().expect("no panic");
    assert!(read.is_ok() || !came, "{read:?}");
    writing.end().expect("written");
    assert_eq!(store.get("f").as_deref(), Some(&b"ours"[..]));
    assert_eq!(fs::read(&path).expect("read"), b"ours");
    assert!(mount.terminate().success());
    came
}

#[test]
fn what_is_written_anew_while_the_file_is_found_to_be_replaced_is_published() {
    let mut tries = std::iter::repeat_with(is_written_anew_while_the_file_is_found_to_be_replaced);
    assert!(tries.by_ref().take(3).any(|came| came), "in three tries");
}
