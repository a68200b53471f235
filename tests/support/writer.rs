//! A program that writes files step by step and then dies in whatever way a test wants: this very
//! test binary, started again with its steps in the environment.
//!
//! Before libtest gets its turn, [`BEFORE_MAIN`] looks for steps; so a writer has one thread only,
//! as most programs have, unless a step makes more. Each step is acknowledged by a line.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::content;
use super::tools::{as_by_hand, kill, kill_group, wait};
use super::wait::seconds;

const MARK: &str = "WHOLEFS_TEST_WRITER";

/// A writer under way. It leads a process group of its own and is killed when dropped.
pub struct Writer {
    child: Child,
    steps: Option<ChildStdin>,
    said: Receiver<String>,
    over: bool,
}

impl Writer {
    pub fn start() -> Writer {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(MARK, "1").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // It sees to its dying with its parent by itself: so nothing is to be done between fork and
        // exec, and no copy of this process's memory map is made.
        let mut child = command.spawn().expect("this program runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let steps = child.stdin.take();
        Writer {
            child,
            steps,
            said,
            over: false,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins a step without waiting for it: for one that is not to end.
    #[track_caller]
    pub fn begin(&mut self, step: &str) -> &mut Writer {
        let steps = self.steps.as_mut().expect("the writer takes steps");
        writeln!(steps, "{step}").expect("the writer takes steps");
        self
    }

    /// Does a step; `Err` is the errno.
    #[track_caller]
    pub fn attempt(&mut self, step: &str) -> Result<(), i32> {
        self.begin(step).finish(step)
    }

    /// Waits for the end of a step that was begun.
    #[track_caller]
    pub fn finish(&mut self, step: &str) -> Result<(), i32> {
        let said = self.said.recv_timeout(seconds(120));
        let said = said.unwrap_or_else(|e| panic!("the writer's step `{step}`: {e}"));
        match said.strip_prefix("failed ") {
            None => Ok(()),
            Some(errno) => Err(errno.parse().expect("an errno")),
        }
    }

    /// Does a step that must succeed.
    #[track_caller]
    pub fn step(&mut self, step: &str) -> &mut Writer {
        if let Err(errno) = self.attempt(step) {
            let error = std::io::Error::from_raw_os_error(errno);
            panic!("the writer's step `{step}`: {error}");
        }
        self
    }

    #[track_caller]
    pub fn open(&mut self, path: &Path, how: &str) -> &mut Writer {
        self.step(&format!("open {how} {}", path.display()))
    }

    /// Appends `size` bytes of the contents with this seed, at the same offsets as there.
    #[track_caller]
    pub fn write(&mut self, seed: u64, size: u64) -> &mut Writer {
        self.step(&format!("write {seed} {size}"))
    }

    /// To wait for it and all that it has forked. It takes no more steps then.
    pub fn family(&mut self) -> Family {
        Family(std::mem::replace(&mut self.said, channel().1))
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    pub fn signal_group(&self, signal: i32) {
        kill_group(self.pid(), signal);
    }

    #[track_caller]
    pub fn wait(mut self) -> ExitStatus {
        let status = wait(&mut self.child, seconds(60)).expect("the writer ends");
        self.over = true;
        status
    }

    /// Signals it and waits; it must have died of that.
    #[track_caller]
    pub fn die_of(self, signal: i32) {
        self.signal(signal);
        self.dies_of(signal);
    }

    #[track_caller]
    pub fn dies_of(self, signal: i32) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(signal), "{status:?}");
    }

    /// Ends it by `_exit(code)`, nothing closed.
    #[track_caller]
    pub fn exit(mut self, code: i32) {
        self.begin(&format!("exit {code}"));
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "{status:?}");
    }
}

/// All who have the writer's standard output.
pub struct Family(Receiver<String>);

impl Family {
    #[track_caller]
    pub fn ended(self) {
        let said = self.0.recv_timeout(seconds(60));
        assert_eq!(said, Err(RecvTimeoutError::Disconnected), "all have ended");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.over {
            // The group, for it may have forked.
            // SAFETY: plain system call on numbers; the leader has not been waited for.
            unsafe { libc::kill(-(self.pid() as i32), libc::SIGKILL) };
            let _ = wait(&mut self.child, seconds(10));
        }
    }
}

// ---- The other side: what runs in the writer.

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if std::env::var_os(MARK).is_some() {
        let core = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        as_by_hand();
        // SAFETY: a plain system call; a writer that crashes need not leave its memory behind.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &core) };
        let mut hand = Hand {
            descriptor: -1,
            at: 0,
            mapped: &mut [],
        };
        for step in std::io::stdin().lines().map_while(Result::ok) {
            let said = match hand.perform(&step) {
                Ok(()) => "done".to_owned(),
                Err(error) => format!("failed {}", error.raw_os_error().unwrap_or(0)),
            };
            println!("{said}");
        }
        // Nobody steers any more.
        exit(0);
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process at once, nothing is closed or flushed by us.
    unsafe { libc::_exit(code) }
}

/// Comes back only when it fails.
fn execute_true() {
    let program = c"/bin/true".as_ptr();
    let arguments = [program, std::ptr::null()];
    // SAFETY: strings that end, in a list that ends.
    unsafe { libc::execv(program, arguments.as_ptr()) };
}

struct Hand {
    descriptor: i32,
    /// Where the next bytes of the contents go.
    at: u64,
    mapped: &'static mut [u8],
}

fn checked(result: i64) -> std::io::Result<i64> {
    match result {
        -1 => Err(std::io::Error::last_os_error()),
        n => Ok(n),
    }
}

impl Hand {
    fn perform(&mut self, step: &str) -> std::io::Result<()> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let numbers: Vec<u64> = rest.split(' ').filter_map(|n| n.parse().ok()).collect();
        let number = |n: usize| numbers.get(n).copied().unwrap_or(0);
        // SAFETY: system calls on a descriptor of ours, numbers, strings that end and
        // buffers that outlive the call.
        unsafe {
            match verb {
                // open HOW PATH; HOW is of the letters of fopen and more: r w + a t(runc) c(reate) x
                "open" => {
                    let (how, path) = rest.split_once(' ').expect("open HOW PATH");
                    let path = Path::new(path).as_os_str().as_bytes();
                    let path = CString::new(path).expect("a path");
                    let mut flags = match (how.contains('r'), how.contains('w')) {
                        (true, true) => libc::O_RDWR,
                        (false, true) => libc::O_WRONLY,
                        _ => libc::O_RDONLY,
                    };
                    for (letter, flag) in [
                        ('a', libc::O_APPEND),
                        ('t', libc::O_TRUNC),
                        ('c', libc::O_CREAT),
                        ('x', libc::O_EXCL),
                    ] {
                        if how.contains(letter) {
                            flags |= flag;
                        }
                    }
                    let opened = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o644);
                    self.descriptor = checked(opened.into())? as i32;
                    self.at = 0;
                }
                // write SEED SIZE
                "write" => self.write(number(0), number(1))?,
                // seek OFFSET: the contents go on from there as well
                "seek" => {
                    checked(libc::lseek(
                        self.descriptor,
                        number(0) as i64,
                        libc::SEEK_SET,
                    ))?;
                    self.at = number(0);
                }
                // check SEED SIZE: reads so much from the start and compares
                "check" => {
                    let mut found = vec![0u8; number(1) as usize];
                    let mut had = 0;
                    while had < found.len() {
                        let rest = &mut found[had..];
                        let n = libc::pread(
                            self.descriptor,
                            rest.as_mut_ptr().cast(),
                            rest.len(),
                            had as i64,
                        );
                        match checked(n as i64)? {
                            0 => return Err(std::io::Error::from_raw_os_error(libc::ENODATA)),
                            n => had += n as usize,
                        }
                    }
                    let mut expected = vec![0; found.len()];
                    content::fill(number(0), 0, &mut expected);
                    if expected != found {
                        return Err(std::io::Error::from_raw_os_error(libc::EBADMSG));
                    }
                }
                // map SIZE: the file's beginning, to be changed through memory
                "map" => {
                    let (size, all) = (number(0) as usize, libc::PROT_READ | libc::PROT_WRITE);
                    let (at, shared) = (std::ptr::null_mut(), libc::MAP_SHARED);
                    let at = libc::mmap(at, size, all, shared, self.descriptor, 0);
                    checked(at as i64)?;
                    self.mapped = std::slice::from_raw_parts_mut(at.cast(), size);
                }
                // poke SEED SIZE: changes so much of it
                "poke" => content::fill(number(0), 0, &mut self.mapped[..number(1) as usize]),
                "truncate" => {
                    checked(libc::ftruncate(self.descriptor, number(0) as i64).into())?;
                }
                "sync" => {
                    checked(libc::fsync(self.descriptor).into())?;
                }
                "close" => {
                    checked(libc::close(std::mem::replace(&mut self.descriptor, -1)).into())?;
                }
                // fork: a child that keeps the descriptor and waits for a signal
                "fork" => {
                    if checked(libc::fork().into())? == 0 {
                        loop {
                            libc::pause();
                        }
                    }
                }
                // fork-exit SECONDS: a child that keeps the descriptor for so long, then ends well
                "fork-exit" => {
                    if checked(libc::fork().into())? == 0 {
                        libc::sleep(number(0) as u32);
                        exit(0);
                    }
                }
                // fork-exec: a child that runs another program, which does not get the descriptor
                "fork-exec" => match checked(libc::fork().into())? {
                    0 => {
                        execute_true();
                        exit(127);
                    }
                    child => {
                        let mut status = 0;
                        checked(libc::waitpid(child as i32, &mut status, 0).into())?;
                        assert_eq!(status, 0, "the other program ends well");
                    }
                },
                // exec: becomes another program, which does not get the descriptor
                "exec" => execute_true(),
                // threads N: so many more, that do nothing
                "threads" => {
                    for _ in 0..number(0) {
                        std::thread::spawn(|| {
                            loop {
                                libc::pause();
                            }
                        });
                    }
                }
                // write-from-thread SEED SIZE
                "write-from-thread" => std::thread::scope(|scope| {
                    let writing = scope.spawn(|| self.write(number(0), number(1)));
                    writing.join().expect("no panic")
                })?,
                "segv" => {
                    // A real one: the page of address 0 is nobody's.
                    std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1);
                }
                "abort" => libc::abort(),
                "exit" => exit(number(0) as i32),
                // Through the whole of exit(3), as a program that returns from main.
                "return" => libc::exit(number(0) as i32),
                _ => panic!("no step `{step}`"),
            }
        }
        Ok(())
    }

    /// In blocks of 128 KiB, as tools do.
    fn write(&mut self, seed: u64, size: u64) -> std::io::Result<()> {
        let end = self.at + size;
        let mut block = vec![0; 128 << 10];
        while self.at < end {
            let n = block.len().min((end - self.at) as usize);
            content::fill(seed, self.at, &mut block[..n]);
            let mut done = 0;
            while done < n {
                let rest = &block[done..n];
                // SAFETY: the buffer outlives the call.
                let wrote =
                    unsafe { libc::write(self.descriptor, rest.as_ptr().cast(), rest.len()) };
                done += checked(wrote as i64)? as usize;
            }
            self.at += n as u64;
        }
        Ok(())
    }
}
