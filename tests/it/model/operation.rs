//! What may be done to a tree, and the dice that say what is.

use std::path::PathBuf;

use crate::edits::Random;
use crate::support::{KIB, MIB};

/// What there may be: few names, so that operations meet.
const NAMES: [&str; 4] = ["a", "b.txt", "ü c", "d"];

/// One operation, on whatever tree it is told. Numbers are drawn before, so both trees get the same.
#[derive(Clone, Debug)]
pub enum Operation {
    Create {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    CreateNew {
        path: PathBuf,
    },
    Overwrite {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    Append {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    WriteAt {
        path: PathBuf,
        at: u64,
        seed: u64,
        len: u64,
    },
    ReadAt {
        path: PathBuf,
        at: u64,
        len: u64,
    },
    Truncate {
        path: PathBuf,
        size: u64,
    },
    Allocate {
        path: PathBuf,
        mode: i32,
        at: u64,
        len: u64,
    },
    CopyRange {
        from: PathBuf,
        to: PathBuf,
    },
    MapWrite {
        path: PathBuf,
        at: u64,
        seed: u64,
        len: u64,
    },
    Unlink {
        path: PathBuf,
    },
    UnlinkOpen {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    MakeDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    RenameNoReplace {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
    ReadLink {
        path: PathBuf,
    },
    Mode {
        path: PathBuf,
        mode: u32,
    },
    Owner {
        path: PathBuf,
        uid: u32,
        gid: u32,
    },
    Times {
        path: PathBuf,
        seconds: u64,
    },
    SetXattr {
        path: PathBuf,
        seed: u64,
        len: u64,
    },
    GetXattr {
        path: PathBuf,
    },
    RemoveXattr {
        path: PathBuf,
    },
    List {
        path: PathBuf,
    },
    Stat {
        path: PathBuf,
    },
    Make {
        path: PathBuf,
    },
    Hold {
        path: PathBuf,
        appends: bool,
    },
    HeldWrite {
        at: u64,
        seed: u64,
        len: u64,
    },
    HeldTruncate {
        size: u64,
    },
    HeldRead {
        at: u64,
        len: u64,
    },
    HeldMode {
        mode: u32,
    },
    HeldSync,
    Release,
}

/// Draws what is done.
pub struct Dice(pub Random);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn path(&mut self) -> PathBuf {
        let name = |dice: &mut Dice| NAMES[dice.below(NAMES.len() as u64) as usize];
        let mut path = PathBuf::from(name(self));
        while self.below(3) == 0 && path.components().count() < 4 {
            path.push(name(self));
        }
        path
    }

    fn len(&mut self) -> u64 {
        match self.below(40) {
            0 => 5 * MIB + self.below(2 * MIB),
            1..=4 => 0,
            5..=12 => self.below(300 * KIB),
            _ => self.below(9000),
        }
    }

    fn small(&mut self) -> u64 {
        self.below(20_000)
    }

    pub fn operation(&mut self, holds: bool) -> Operation {
        use Operation::*;
        if holds && self.below(3) == 0 {
            return match self.below(8) {
                0..=2 => HeldWrite {
                    at: self.small(),
                    seed: self.below(1000),
                    len: self.small(),
                },
                3 => HeldTruncate { size: self.small() },
                4 => HeldRead {
                    at: self.small(),
                    len: self.small(),
                },
                5 => HeldMode {
                    mode: 0o400 | self.below(0o400) as u32,
                },
                6 => HeldSync,
                _ => Release,
            };
        }
        let (path, seed) = (self.path(), self.below(1000));
        match self.below(44) {
            0..=4 => Create {
                path,
                seed,
                len: self.len(),
            },
            5 => CreateNew { path },
            6 => Overwrite {
                path,
                seed,
                len: self.len(),
            },
            7..=8 => Append {
                path,
                seed,
                len: self.len(),
            },
            9..=10 => WriteAt {
                path,
                at: self.small() * (1 + self.below(100)),
                seed,
                len: self.small(),
            },
            11..=12 => ReadAt {
                path,
                at: self.small(),
                len: self.len(),
            },
            13..=14 => Truncate {
                path,
                size: self.len(),
            },
            15 => Allocate {
                path,
                mode: [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_ZERO_RANGE,
                    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
                ][self.below(5) as usize],
                at: self.small(),
                len: 1 + self.small(),
            },
            16..=17 => CopyRange {
                from: path,
                to: self.path(),
            },
            18 => MapWrite {
                path,
                at: self.small(),
                seed,
                len: self.small(),
            },
            19..=20 => Unlink { path },
            21 => UnlinkOpen {
                path,
                seed,
                len: self.small(),
            },
            22..=24 => MakeDirectory { path },
            25 => RemoveDirectory { path },
            26..=29 => Rename {
                from: path,
                to: self.path(),
            },
            30 => RenameNoReplace {
                from: path,
                to: self.path(),
            },
            31 => Symlink {
                path,
                target: self.path(),
            },
            32 => ReadLink { path },
            33 => Mode {
                path,
                mode: 0o400 | self.below(0o400) as u32,
            },
            34 => Owner {
                path,
                uid: self.below(3) as u32,
                gid: self.below(3) as u32,
            },
            35 => Times {
                path,
                seconds: self.below(1_000_000_000),
            },
            36 => SetXattr {
                path,
                seed,
                len: self.below(500),
            },
            37 => GetXattr { path },
            38 => RemoveXattr { path },
            39 => List { path },
            40 => Stat { path },
            41 => Make { path },
            _ => match holds {
                true => Stat { path },
                false => Hold {
                    path,
                    appends: self.below(4) == 0,
                },
            },
        }
    }
}
