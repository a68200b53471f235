//! A system call that waits for its answer, seen from beside it.

use std::sync::mpsc::channel;
use std::thread::JoinHandle;

/// A thread that makes a call.
pub struct Calling<T> {
    thread: JoinHandle<T>,
    tid: i32,
}

impl<T: Send + 'static> Calling<T> {
    pub fn start(call: impl FnOnce() -> T + Send + 'static) -> Calling<T> {
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: it asks for a number.
            tell.send(unsafe { libc::gettid() }).expect("it is asked");
            call()
        });
        let tid = told.recv().expect("it has begun");
        Calling { thread, tid }
    }

    /// By the kernel: does it wait in this call?
    pub fn waits_in(&self, call: libc::c_long) -> bool {
        let found = std::fs::read_to_string(format!("/proc/self/task/{}/syscall", self.tid));
        found.is_ok_and(|found| found.starts_with(&format!("{call} ")))
    }

    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn end(self) -> T {
        self.thread.join().expect("no panic")
    }
}
