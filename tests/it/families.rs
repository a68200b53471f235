//! Families of processes that have a file open: they write, close, fork, execute programs, end and are killed in every order,
//! and several of them at once. The file is published when the last has closed it, whole; or never, when one that had to do
//! with the writing was killed.
//!
//! A sequence follows from its seed.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::edits::Random;
use crate::support::tools::{die_with_parent, kill, shout};
use crate::support::{MIB, Mount, Store, eventually, seconds};

const SEQUENCES: u64 = 150;

/// Steps of a sequence, before which none closes anything, and from which on they do nothing else.
const STEPS: u32 = 40;
const CLOSING_AFTER: u32 = 4;
const CLOSING_FROM: u32 = 12;

/// More do not live at once.
const MEMBERS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Write(u64),
    Sync,
    Dup,
    Close,
    /// A child that executes a program and ends.
    Spawn,
    Fork(usize),
    Exec {
        keeps: bool,
    },
    Exit(u8),
    Kill,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Write(size) => write!(f, "write {size}"),
            Act::Sync => write!(f, "sync"),
            Act::Dup => write!(f, "dup"),
            Act::Close => write!(f, "close"),
            Act::Spawn => write!(f, "spawn"),
            Act::Fork(child) => write!(f, "fork {child}"),
            Act::Exec { keeps: true } => write!(f, "exec keeps"),
            Act::Exec { keeps: false } => write!(f, "exec drops"),
            Act::Exit(code) => write!(f, "exit {code}"),
            Act::Kill => write!(f, "kill"),
        }
    }
}

#[derive(Default)]
struct Member {
    pid: u32,
    parent: Option<usize>,
    /// Of the file's descriptor.
    copies: u32,
    lives: bool,
}

/// The processes. Each is begun by another; the first has opened the file.
struct Family {
    folder: tempfile::TempDir,
    heard: UnixDatagram,
    nursery: Child,
    members: Vec<Member>,
}

impl Family {
    fn open(file: &Path) -> Family {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let heard = UnixDatagram::bind(folder.path().join("controller")).expect("a socket");
        heard.set_read_timeout(Some(seconds(30))).expect("a time");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/member.py");
        let mut command = Command::new("python3");
        command.args(["-S", "-E"]).arg(program).arg(folder.path());
        command.arg("nursery").arg(file);
        // They all are of its group, to be ended together.
        command.process_group(0);
        die_with_parent(&mut command);
        let nursery = command.spawn().expect("started");
        let mut family = Family {
            folder,
            heard,
            nursery,
            members: Vec::new(),
        };
        let (_, pid, _) = family.hear();
        family.members.push(Member {
            pid,
            parent: None,
            copies: 1,
            lives: true,
        });
        family
    }

    /// Who says something, as which process, and what.
    fn hear(&self) -> (usize, u32, String) {
        let mut said = [0; 100];
        let length = loop {
            match self.heard.recv(&mut said) {
                // Children of other tests end.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                heard => break heard.expect("a member says something"),
            }
        };
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        let mut words = said.splitn(3, ' ');
        let mut next = || words.next().expect("three words");
        let (who, pid) = (next().parse(), next().parse());
        let what = next().to_string();
        (who.expect("a number"), pid.expect("a number"), what)
    }

    /// Has all of them do that at once. Answers the errors that they met, when all are through.
    fn perform(&mut self, acts: &[(usize, Act)]) -> Vec<String> {
        let mut answers = 0;
        for (who, act) in acts {
            if let Act::Fork(_) = act {
                self.members.push(Member::default());
            }
            match act {
                Act::Kill => kill(self.members[*who].pid, libc::SIGKILL),
                _ => {
                    let to = self.folder.path().join(who.to_string());
                    let sent = self.heard.send_to(act.to_string().as_bytes(), to);
                    sent.expect("it can be told");
                }
            }
            answers += match act {
                Act::Kill | Act::Exit(_) => 0,
                Act::Fork(_) => 2,
                _ => 1,
            };
        }
        let mut errors = Vec::new();
        for _ in 0..answers {
            let (who, pid, what) = self.hear();
            self.members[who].pid = pid;
            if what.starts_with("error") {
                errors.push(format!("{who}: {what}"));
            }
        }
        for &(who, act) in acts {
            self.note(who, act);
        }
        errors
    }

    fn note(&mut self, who: usize, act: Act) {
        let copies = self.members[who].copies;
        match act {
            Act::Dup => self.members[who].copies += 1,
            Act::Close => self.members[who].copies -= 1,
            Act::Exec { keeps: false } => self.members[who].copies = 0,
            Act::Fork(child) => {
                let child = &mut self.members[child];
                (child.copies, child.lives, child.parent) = (copies, true, Some(who));
            }
            Act::Exit(_) | Act::Kill => {
                let member = &mut self.members[who];
                (member.copies, member.lives) = (0, false);
                let pid = member.pid;
                eventually(seconds(30), "it ends", || has_ended(pid));
            }
            Act::Write(_) | Act::Sync | Act::Spawn | Act::Exec { keeps: true } => {}
        }
    }

    fn living(&self) -> Vec<usize> {
        let all = 0..self.members.len();
        all.filter(|&who| self.members[who].lives).collect()
    }

    fn is_held(&self) -> bool {
        self.members.iter().any(|member| member.copies > 0)
    }

    /// Who is there of those who started it.
    fn living_parent_of(&self, who: usize) -> Option<usize> {
        let parent = self.members[who].parent;
        parent.filter(|&parent| self.members[parent].lives)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // SAFETY: a plain system call; the group's leader is a child that has not been waited for.
        unsafe { libc::kill(-(self.nursery.id() as i32), libc::SIGKILL) };
        let _ = self.nursery.wait();
    }
}

/// All that it had open is closed, then.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// What is to become of the file.
struct Expected {
    /// What the bucket has.
    kept: Option<u64>,
    written: u64,
    /// It is not published as it is.
    is_dirty: bool,
    /// Who opened it, wrote or started who wrote.
    involved: BTreeSet<usize>,
    is_given_up: bool,
}

impl Expected {
    fn note(&mut self, family: &Family, acts: &[(usize, Act)]) {
        let kills = |&(who, act): &(usize, Act)| {
            act == Act::Kill && family.members[who].copies > 0 && self.involved.contains(&who)
        };
        let is_killed = self.is_dirty && acts.iter().any(kills);
        for &(who, act) in acts {
            match act {
                Act::Write(size) => {
                    self.written += size;
                    self.is_dirty = true;
                    self.involved.insert(who);
                    self.involved.extend(family.living_parent_of(who));
                }
                Act::Sync if !self.is_given_up => {
                    self.kept = Some(self.written);
                    self.is_dirty = false;
                }
                _ => {}
            }
        }
        self.is_given_up |= is_killed;
    }
}

struct Sequence<'a> {
    store: &'a Store,
    key: String,
    dice: Random,
    /// Files of several parts are written.
    is_large: bool,
    family: Family,
    expected: Expected,
    history: String,
}

impl Sequence<'_> {
    fn begin<'a>(store: &'a Store, mount: &Mount, seed: u64) -> Sequence<'a> {
        let mut dice = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let key = seed.to_string();
        let old = (dice.below(5) < 2).then_some(7);
        if let Some(old) = old {
            store.put(&key, vec![b'o'; old as usize]);
        }
        let file: PathBuf = mount.path(&key);
        Sequence {
            store,
            key,
            is_large: dice.below(3) == 0,
            dice,
            family: Family::open(&file),
            expected: Expected {
                kept: old,
                written: 0,
                is_dirty: true,
                involved: BTreeSet::from([0]),
                is_given_up: false,
            },
            history: format!("seed {seed}"),
        }
    }

    fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.dice.below(among.len() as u64) as usize]
    }

    fn act_of(&mut self, who: usize, step: u32, next: usize) -> Act {
        use Act::*;
        let crowded = next > 60 || self.family.living().len() >= MEMBERS;
        let exit = Exit(self.choose(&[0, 0, 3]));
        let size = match self.is_large {
            true => self.choose(&[1, 4096, 3 * MIB, 6 * MIB]),
            false => self.choose(&[1, 4096, 100_000]),
        };
        let drawn = match self.family.members[who].copies {
            // (Who opened the file and is killed may take it with him even then, if he is not buried when the last one closes it.)
            0 if who == 0 => self.choose(&[Exec { keeps: true }, Fork(next)]),
            0 => self.choose(&[exit, Kill, Exec { keeps: true }, Fork(next)]),
            _ if step <= CLOSING_AFTER => self.choose(&[
                Write(size),
                Dup,
                Fork(next),
                Fork(next),
                Exec { keeps: true },
                Spawn,
                Sync,
            ]),
            _ if step >= CLOSING_FROM => {
                self.choose(&[Close, Close, exit, exit, Exec { keeps: false }])
            }
            _ => self.choose(&[
                Write(size),
                Write(size),
                Dup,
                Fork(next),
                Fork(next),
                Fork(next),
                Close,
                Close,
                exit,
                Kill,
                Exec { keeps: true },
                Exec { keeps: false },
                Spawn,
                Sync,
            ]),
        };
        match drawn {
            Fork(_) if crowded && self.family.members[who].copies > 0 => Close,
            Fork(_) if crowded => Exec { keeps: true },
            drawn => drawn,
        }
    }

    /// What some of them do at once. What comes of that does not depend on who is faster.
    fn acts(&mut self, step: u32) -> Vec<(usize, Act)> {
        let mut living = self.family.living();
        let mut next = self.family.members.len();
        let mut acts = Vec::new();
        for _ in 0..self.choose(&[1, 1, 2, 2, 3]) {
            if living.is_empty() {
                break;
            }
            let who = living.remove(self.dice.below(living.len() as u64) as usize);
            let act = self.act_of(who, step, next);
            next += usize::from(act == Act::Fork(next));
            acts.push((who, act));
        }
        let has = |kind: fn(&Act) -> bool| acts.iter().any(|(_, act)| kind(act));
        let writes = has(|act| matches!(act, Act::Write(_)));
        let (syncs, kills) = (has(|act| *act == Act::Sync), has(|act| *act == Act::Kill));
        if (syncs && (writes || kills)) || (writes && kills) {
            acts.truncate(1);
        }
        acts
    }

    fn step(&mut self, step: u32) {
        let acts = self.acts(step);
        let told: Vec<_> = (acts.iter().map(|(who, act)| format!("{who}: {act}"))).collect();
        self.history += &format!("\n    {}", told.join(" | "));
        let are_closes = (acts.iter())
            .filter(|(who, _)| self.family.members[*who].copies > 0)
            .all(|(_, act)| *act == Act::Close);
        self.expected.note(&self.family, &acts);
        let errors = self.family.perform(&acts);
        let history = &self.history;
        assert!(
            errors.is_empty() || self.expected.is_given_up,
            "{history}\n{errors:?}"
        );
        let found = || self.store.objects().get(&self.key).copied();
        if self.expected.is_given_up || self.family.is_held() {
            assert_eq!(found(), self.expected.kept, "{history}");
            return;
        }
        let whole = Some(self.expected.written);
        if !are_closes {
            // A moment later: nobody waits for the end of a program's files, but for the program's.
            eventually(seconds(10), history, || found() == whole);
        }
        assert_eq!(found(), whole, "{history}");
    }

    /// Answers how many steps it took.
    fn play(mut self) -> u32 {
        for step in 1..=STEPS {
            self.step(step);
            if !self.family.is_held() {
                return step;
            }
        }
        STEPS
    }
}

#[test]
fn a_file_is_published_when_the_last_of_a_family_closes_it_or_never() {
    let store = Store::embedded();
    let mount = Mount::with(&store, &["--part-size", "5M"]);
    let seeds = match std::env::var("WHOLEFS_FAMILY_SEEDS") {
        Ok(first) => {
            let first = first.parse().expect("a number");
            first..first + 10 * SEQUENCES
        }
        Err(_) => 0..SEQUENCES,
    };
    let mut steps = 0;
    for seed in seeds.clone() {
        steps += Sequence::begin(&store, &mount, seed).play();
    }
    store.assert_no_uploads_within(10, "all families have ended");
    shout(&format!(
        "{} families, {steps} steps",
        seeds.end - seeds.start
    ));
}
