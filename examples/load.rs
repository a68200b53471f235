//! What `scripts/bench` does to a mount, without the cost of a scripting language. Prints one line of JSON.
//!
//! ```text
//! load write SIZE BLOCK FILE…             a thread each writes SIZE bytes and closes
//! load read BLOCK FILE…                   a thread each reads to the end
//! load random COUNT SECONDS THREADS FILE  4 KiB each, anywhere in the file
//! load create COUNT SECONDS PROCESSES DIR files of 4 KiB
//! load stat SECONDS DIR                   lists it, and then asks about each entry
//! load append SIZE FILE
//! load run PROGRAM ARGUMENT…
//! load first SECONDS FILE                 as soon as it can be read; says when (CLOCK_MONOTONIC), too
//! ```
//!
//! What has SECONDS ends then, finished or not: some tools would take hours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SMALL: usize = 4096;

/// What was done, in the time from `began`.
struct Done {
    began: Instant,
    bytes: u64,
    operations: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["write", size, block, ref files @ ..] => write(number(size), number(block), files),
        ["read", block, ref files @ ..] => read(number(block), files),
        ["random", count, seconds, threads, file] => {
            random(number(count), number(seconds), number(threads), file)
        }
        ["create", count, seconds, processes, dir] => {
            create(number(count), seconds, number(processes), dir)
        }
        // One of the processes of the above.
        ["create-some", from, to, seconds, dir] => {
            create_some(number(from), number(to), number(seconds), dir)
        }
        ["stat", seconds, dir] => stat(number(seconds), dir),
        ["append", size, file] => append(number(size), file),
        ["run", program, ref arguments @ ..] => run(program, arguments),
        ["first", seconds, file] => first(number(seconds), file),
        _ => {
            eprintln!("load: see the head of examples/load.rs");
            std::process::exit(2);
        }
    };
    match done {
        Ok(done) => println!(
            "{{\"seconds\": {:.6}, \"bytes\": {}, \"operations\": {}}}",
            done.began.elapsed().as_secs_f64(),
            done.bytes,
            done.operations
        ),
        Err(error) => {
            eprintln!("load: {}: {error}", arguments.join(" "));
            std::process::exit(1);
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| {
        eprintln!("load: {text:?} is not a number");
        std::process::exit(2)
    })
}

/// A thread for each; adds up what they did.
fn each<T: Sync>(all: &[T], work: impl Fn(usize, &T) -> io::Result<u64> + Sync) -> io::Result<u64> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |(n, one)| scope.spawn(move || work(n, one));
        let threads: Vec<_> = all.iter().enumerate().map(start).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .map(|result| result.unwrap_or_else(|_| Err(io::Error::other("panicked"))))
            .sum()
    })
}

fn write(size: u64, block: u64, files: &[&str]) -> io::Result<Done> {
    let block = vec![0x5a; block as usize];
    let began = Instant::now();
    let bytes = each(files, |_, file| {
        let mut open = File::create(file)?;
        let mut left = size;
        while left > 0 {
            let now = left.min(block.len() as u64);
            open.write_all(&block[..now as usize])?;
            left -= now;
        }
        close(open)?;
        Ok(size)
    })?;
    let operations = files.len() as u64;
    Ok(Done {
        began,
        bytes,
        operations,
    })
}

/// As Rust's own closing keeps an error to itself.
fn close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is ours, and nobody else's from here on.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn read(block: u64, files: &[&str]) -> io::Result<Done> {
    let began = Instant::now();
    let bytes = each(files, |_, file| {
        let (mut open, mut buffer, mut bytes) = (File::open(file)?, vec![0; block as usize], 0);
        loop {
            match open.read(&mut buffer)? {
                0 => return Ok(bytes),
                read => bytes += read as u64,
            }
        }
    })?;
    let operations = files.len() as u64;
    Ok(Done {
        began,
        bytes,
        operations,
    })
}

fn random(count: u64, seconds: u64, threads: u64, file: &str) -> io::Result<Done> {
    let blocks = std::fs::metadata(file)?.len() / SMALL as u64;
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let operations = each(&vec![(); threads as usize], |thread, ()| {
        let (open, mut buffer) = (File::open(file)?, [0; SMALL]);
        let (mut state, mut done) = (0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread as u64 + 1), 0);
        while done < count / threads && Instant::now() < end {
            // Xorshift: far apart is enough.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            open.read_exact_at(&mut buffer, state % blocks * SMALL as u64)?;
            done += 1;
        }
        Ok(done)
    })?;
    Ok(Done {
        began,
        bytes: operations * SMALL as u64,
        operations,
    })
}

fn create(count: u64, seconds: &str, processes: u64, dir: &str) -> io::Result<Done> {
    let program = std::env::current_exe()?;
    let start = |n: u64| {
        let range = [n * count / processes, (n + 1) * count / processes];
        let mut command = Command::new(&program);
        command
            .arg("create-some")
            .args(range.map(|n| n.to_string()));
        command
            .args([seconds, dir])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn()
    };
    let mut children = (0..processes).map(start).collect::<io::Result<Vec<_>>>()?;
    let began = Instant::now();
    // They wait for the end of their input.
    children
        .iter_mut()
        .for_each(|child| drop(child.stdin.take()));
    let mut operations = 0;
    for child in children {
        // A line like that of `main`, and its last word.
        let said = child.wait_with_output()?.stdout;
        let said = String::from_utf8_lossy(&said);
        let made = said.trim_end().trim_end_matches('}').rsplit(' ').next();
        let made: Option<u64> = made.and_then(|made| made.parse().ok());
        operations += made.ok_or_else(|| io::Error::other("one of the processes failed"))?;
    }
    Ok(Done {
        began,
        bytes: operations * SMALL as u64,
        operations,
    })
}

fn create_some(from: u64, to: u64, seconds: u64, dir: &str) -> io::Result<Done> {
    io::stdin().read_to_end(&mut Vec::new())?;
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let mut operations = 0;
    for n in (from..to).take_while(|_| Instant::now() < end) {
        let mut file = File::create_new(Path::new(dir).join(format!("{n:07}")))?;
        file.write_all(&[0x5a; SMALL])?;
        close(file)?;
        operations += 1;
    }
    Ok(Done {
        began,
        bytes: operations * SMALL as u64,
        operations,
    })
}

fn stat(seconds: u64, dir: &str) -> io::Result<Done> {
    let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut operations = 0;
    for name in &names {
        if began.elapsed() > Duration::from_secs(seconds) {
            break;
        }
        name.symlink_metadata()?;
        operations += 1;
    }
    Ok(Done {
        began,
        bytes: 0,
        operations,
    })
}

fn append(size: u64, file: &str) -> io::Result<Done> {
    let began = Instant::now();
    let mut open = File::options().append(true).open(file)?;
    open.write_all(&vec![0x5a; size as usize])?;
    close(open)?;
    Ok(Done {
        began,
        bytes: size,
        operations: 1,
    })
}

fn run(program: &str, arguments: &[&str]) -> io::Result<Done> {
    let began = Instant::now();
    let ended = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    match ended.success() {
        true => Ok(Done {
            began,
            bytes: 0,
            operations: 1,
        }),
        false => Err(io::Error::other(format!("{ended}"))),
    }
}

fn first(seconds: u64, file: &str) -> io::Result<Done> {
    let began = Instant::now();
    let mut buffer = [0; SMALL];
    while File::open(file)
        .and_then(|open| open.read_exact_at(&mut buffer, 0))
        .is_err()
    {
        if began.elapsed() > Duration::from_secs(seconds) {
            return Err(io::Error::other("not within the time"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` has room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    println!("{}.{:09}", now.tv_sec, now.tv_nsec);
    Ok(Done {
        began,
        bytes: SMALL as u64,
        operations: 1,
    })
}
