//! Counts what each thread asks for of the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// So many times, so many bytes in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub times: u64,
    pub bytes: u64,
}

thread_local! {
    // Without a destructor, and ready as it is: an allocator may not allocate.
    static ASKED: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

/// The system's allocator, counted.
pub struct Counting;

fn count(bytes: usize) {
    ASKED.with(|asked| {
        let Asked { times, bytes: sum } = asked.get();
        asked.set(Asked {
            times: times + 1,
            bytes: sum + bytes as u64,
        });
    });
}

// SAFETY: the system's allocator does the work, and counting touches a number of this thread's alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promised us.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promised us.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What this thread asks for meanwhile.
pub fn asked<T>(work: impl FnOnce() -> T) -> (T, Asked) {
    let before = ASKED.with(Cell::get);
    let done = work();
    let after = ASKED.with(Cell::get);
    let asked = Asked {
        times: after.times - before.times,
        bytes: after.bytes - before.bytes,
    };
    (done, asked)
}
