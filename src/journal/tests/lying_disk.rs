//! A disk that keeps the letter of its promises only. Until a sync returns, each 512-byte sector of
//! each write may be there or not, the file may have any of the lengths it had, what was not
//! written reads as zeros, as noise, or as whole lines of other journals, and each change of a name
//! may be kept or lost by itself. Any call can be made to fail, or to be the process's last.
//!
//! It also keeps watch: an append to a file after one of its syncs failed is a panic.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::disk::{Disk, DiskFile};
use super::Dice;

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Node {
    durable: Vec<u8>,
    view: Vec<u8>,
    pending: Vec<Op>,
    /// A sync failed: what is pending may be there or not, for good.
    condemned: bool,
}

#[derive(Clone, Debug)]
enum NameOp {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies in this call.
    Death,
    /// Fails; of a write, this many eighths of the bytes get through.
    Errno(i32, usize),
}

#[derive(Clone, Debug, Default)]
pub struct World {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_ops: Vec<NameOp>,
    pub calls: usize,
    /// The call (counted from 0), how many calls from there on, and what happens to them.
    pub faults: Vec<(usize, usize, Fault)>,
    pub dead: bool,
    /// How many of the faults happened.
    pub struck: usize,
    /// A failure after which nothing may be appended to any file.
    condemned: bool,
}

#[derive(Clone, Default)]
pub struct LyingDisk(pub Arc<Mutex<World>>);

impl LyingDisk {
    pub fn of(world: World) -> LyingDisk {
        LyingDisk(Arc::new(Mutex::new(world)))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn boxed(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        Some(world.nodes[*world.names.get(name)?].view.clone())
    }
}

impl World {
    fn strike(&mut self) -> Option<Fault> {
        if self.dead {
            return Some(Fault::Death);
        }
        let call = self.calls;
        self.calls += 1;
        let fault = self
            .faults
            .iter()
            .find(|(from, count, _)| call >= *from && call - from < *count)
            .map(|(_, _, fault)| *fault)?;
        self.struck += 1;
        Some(fault)
    }

    /// A call that has no effect unless it succeeds.
    fn plain(&mut self) -> io::Result<()> {
        match self.strike() {
            None => Ok(()),
            Some(fault) => Err(self.fail(fault)),
        }
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        match fault {
            Fault::Death => {
                self.dead = true;
                io::Error::other("dead")
            }
            Fault::Errno(errno, _) => io::Error::from_raw_os_error(errno),
        }
    }

    /// The process has died and the machine has not.
    pub fn restarted(&self) -> World {
        let mut world = self.clone();
        (world.calls, world.struck, world.dead, world.condemned) = (0, 0, false, false);
        world.faults.clear();
        for node in &mut world.nodes {
            node.condemned = false;
        }
        world
    }

    /// The machine has lost power: one of the disks it may come back with.
    pub fn after_power_loss(&self, choices: &mut Choices, stale: &[u8]) -> World {
        let mut world = World {
            names: self.durable_names.clone(),
            ..World::default()
        };
        for op in &self.name_ops {
            if choices.pick(2) == 1 {
                continue;
            }
            match op {
                NameOp::Set(name, node) => {
                    world.names.insert(name.clone(), *node);
                }
                NameOp::Rename(from, to) => {
                    // Applied by what it meant then, whatever became of the creation before it.
                    let node = world.names.remove(from).or_else(|| self.renamed(from, to));
                    if let Some(node) = node {
                        world.names.insert(to.clone(), node);
                    }
                }
                NameOp::Remove(name) => {
                    world.names.remove(name);
                }
            }
        }
        world.durable_names = world.names.clone();
        let reachable: Vec<usize> = world.names.values().copied().collect();
        for (index, node) in self.nodes.iter().enumerate() {
            // What no name leads to needs no imagining.
            let bytes = if reachable.contains(&index) {
                node.after_power_loss(choices, stale)
            } else {
                Vec::new()
            };
            world.nodes.push(Node {
                durable: bytes.clone(),
                view: bytes,
                ..Node::default()
            });
        }
        world
    }

    fn renamed(&self, from: &str, to: &str) -> Option<usize> {
        let mut names = self.durable_names.clone();
        for op in &self.name_ops {
            match op {
                NameOp::Set(name, node) => {
                    names.insert(name.clone(), *node);
                }
                NameOp::Rename(f, t) => {
                    let node = names.remove(f)?;
                    if f == from && t == to {
                        return Some(node);
                    }
                    names.insert(t.clone(), node);
                }
                NameOp::Remove(name) => {
                    names.remove(name);
                }
            }
        }
        None
    }
}

impl Node {
    fn after_power_loss(&self, choices: &mut Choices, stale: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<Option<u8>> = self.durable.iter().copied().map(Some).collect();
        let mut longest = bytes.len();
        for op in &self.pending {
            match op {
                Op::Length(length) => {
                    if choices.pick(2) == 0 {
                        bytes.resize(*length, None);
                        longest = *length;
                    }
                }
                Op::Write { offset, data } => {
                    longest = longest.max(offset + data.len());
                    let mut at = *offset;
                    while at < offset + data.len() {
                        let until = ((at / SECTOR + 1) * SECTOR).min(offset + data.len());
                        if choices.pick(2) == 0 {
                            if bytes.len() < until {
                                bytes.resize(until, None);
                            }
                            for i in at..until {
                                bytes[i] = Some(data[i - offset]);
                            }
                        }
                        at = until;
                    }
                }
            }
        }
        // The length may be ahead of the bytes.
        if longest > bytes.len() && choices.pick(2) == 1 {
            bytes.resize(longest, None);
        }
        let filler = if bytes.iter().any(Option::is_none) {
            choices.pick(3)
        } else {
            0
        };
        // Old blocks: the other journal's bytes, at the place they had there.
        let fill = |i: usize| match filler {
            0 => 0,
            1 => (i as u8).wrapping_mul(37) ^ 0x5a,
            _ => stale[i % stale.len()],
        };
        bytes
            .into_iter()
            .enumerate()
            .map(|(i, byte)| byte.unwrap_or_else(|| fill(i)))
            .collect()
    }
}

struct LyingFile {
    disk: LyingDisk,
    node: usize,
}

impl Disk for LyingDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.plain()?;
        let node = world.nodes.len();
        world.nodes.push(Node::default());
        world.names.insert(name.to_string(), node);
        world.name_ops.push(NameOp::Set(name.to_string(), node));
        drop(world);
        let disk = self.clone();
        Ok(Box::new(LyingFile { disk, node }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.plain()?;
        let node = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        drop(world);
        let disk = self.clone();
        Ok(Box::new(LyingFile { disk, node }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut world = self.world();
        world.plain()?;
        let node = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(world.nodes[node].view.clone())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.strike();
        // A rename that failed for want of room did not happen; one that failed otherwise may have.
        let applied = !matches!(fault, Some(Fault::Errno(libc::ENOSPC, _))) && !world.dead;
        if applied {
            let node = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            world.names.insert(to.to_string(), node);
            let op = NameOp::Rename(from.to_string(), to.to_string());
            world.name_ops.push(op);
        }
        match fault {
            None => Ok(()),
            Some(fault) => {
                world.condemned |= applied;
                Err(world.fail(fault))
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.plain()?;
        world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        world.name_ops.push(NameOp::Remove(name.to_string()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.world();
        if let Some(fault) = world.strike() {
            world.condemned = true;
            return Err(world.fail(fault));
        }
        world.durable_names = world.names.clone();
        world.name_ops.clear();
        Ok(())
    }
}

impl LyingFile {
    fn sync_node(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        if let Some(fault) = world.strike() {
            world.nodes[self.node].condemned = true;
            return Err(world.fail(fault));
        }
        let node = &mut world.nodes[self.node];
        if !node.condemned {
            node.durable = node.view.clone();
            node.pending.clear();
        }
        Ok(())
    }
}

impl DiskFile for LyingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        let fault = world.strike();
        let through = match fault {
            None => bytes.len(),
            _ if world.dead => 0,
            // All of it: what gets lost of it is chosen at the power loss.
            Some(Fault::Death) => bytes.len(),
            Some(Fault::Errno(_, eighths)) => bytes.len() * eighths / 8,
        };
        assert!(
            world.dead || !(world.condemned || world.nodes[self.node].condemned),
            "appended after a failed sync"
        );
        if through > 0 {
            let node = &mut world.nodes[self.node];
            let op = Op::Write {
                offset: node.view.len(),
                data: bytes[..through].to_vec(),
            };
            node.view.extend_from_slice(&bytes[..through]);
            node.pending.push(op);
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(world.fail(fault)),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_node()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        {
            let mut world = self.disk.world();
            match world.strike() {
                // The death may come before or after the cut; either is then chosen.
                None | Some(Fault::Death) if !world.dead => {
                    let node = &mut world.nodes[self.node];
                    node.view.truncate(length as usize);
                    node.pending.push(Op::Length(length as usize));
                    if world.faults.iter().any(|&(from, count, fault)| {
                        let call = world.calls - 1;
                        fault == Fault::Death && call >= from && call - from < count
                    }) {
                        return Err(world.fail(Fault::Death));
                    }
                }
                fault => {
                    world.nodes[self.node].condemned = true;
                    return Err(world.fail(fault.unwrap_or(Fault::Death)));
                }
            }
        }
        self.sync_node()
    }
}

/// Every combination of a number of choices, one run after the other; beyond a bound, random ones.
pub struct Choices {
    path: Vec<(usize, usize)>,
    at: usize,
    dice: Option<Dice>,
}

impl Choices {
    pub fn pick(&mut self, sides: usize) -> usize {
        if let Some(dice) = &mut self.dice {
            return dice.roll(sides);
        }
        if self.at == self.path.len() {
            self.path.push((0, sides));
        }
        let (picked, of) = self.path[self.at];
        assert!(of == sides, "the same choices lead to the same question");
        self.at += 1;
        picked
    }

    /// Runs `case` for every combination; if there are more than `most`, for that many in order and
    /// as many at random. Answers how many.
    pub fn each(most: usize, seed: u64, mut case: impl FnMut(&mut Choices)) -> usize {
        let mut choices = Choices {
            path: Vec::new(),
            at: 0,
            dice: None,
        };
        for tried in 1.. {
            choices.at = 0;
            case(&mut choices);
            while let Some((picked, of)) = choices.path.pop() {
                if picked + 1 < of {
                    choices.path.push((picked + 1, of));
                    break;
                }
            }
            if choices.path.is_empty() {
                return tried;
            }
            if tried == most {
                break;
            }
        }
        choices.dice = Some(Dice(seed));
        for _ in 0..most {
            case(&mut choices);
        }
        2 * most
    }
}
