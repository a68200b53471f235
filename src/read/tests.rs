//! Readers against a scripted store: every byte compared, every request counted.

use std::time::Duration;

use super::*;
use crate::store::{ErrorKind, Result};
use mock::{Fault, Mock, content};

mod disk;
mod failures;
mod memory;
mod mock;
mod patterns;
mod whole;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn settings() -> Settings {
    Settings::default()
}

async fn check(reader: &Reader, offset: u64, len: u64) {
    let data = try_check(reader, offset, len).await;
    if let Err(error) = data {
        panic!("read of {len} at {offset}: {error}");
    }
}

/// Reads, and compares what comes, if something comes.
async fn try_check(reader: &Reader, offset: u64, len: u64) -> Result<()> {
    let data = reader.read(offset, len as usize).await?;
    let expected = len.min(reader.size().saturating_sub(offset));
    assert_eq!(data.len() as u64, expected, "length at {offset}");
    if let Some(at) = data
        .pieces()
        .concat()
        .iter()
        .zip(offset..)
        .position(|(byte, at)| *byte != content(at))
    {
        panic!(
            "wrong byte at {} of a read of {len} at {offset}",
            offset + at as u64
        );
    }
    Ok(())
}

/// Lets all tasks run that can (time is paused: nothing else moves).
async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// A small generator of numbers (xorshift64*), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % below
    }
}
