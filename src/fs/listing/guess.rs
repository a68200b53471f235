//! Where the pages after this one begin, guessed from its names.
//!
//! Names of a large directory are mostly numbered or random: in the order of a listing they lie about as close to one
//! another further on as they do here. So a name is read as a number, the characters seen in each place being the digits
//! of that place, and what a page covers is the step from one page to the next.
//!
//! A guess that is wrong costs a request. Nothing else depends on it.

use std::collections::BTreeSet;

/// Fewer names do not tell how close to one another they are.
const ENOUGH: usize = 100;
/// So many characters behind what the names of a page have in common are looked at: they tell any page apart.
const PLACES: usize = 12;
/// So many of what they have in common may change further on.
const CARRIES: usize = 8;
/// So much of what a page seems to cover is the step to the next: one that begins too early overlaps, one that
/// begins too late leaves a hole, which costs a wait.
const SHARE: (u128, u128) = (9, 10);
/// Numbers stay below: their sums fit.
const LARGEST: u128 = 1 << 96;

pub(super) struct Guess {
    scale: Scale,
    step: u128,
    at: u128,
    /// What was guessed last.
    behind: String,
}

impl Guess {
    /// `names` are a page's, in order; a full page has `full` of them. What is guessed lies behind `behind`.
    pub(super) fn new(names: &[&str], full: usize, behind: String) -> Option<Guess> {
        if names.len() < ENOUGH || !names.iter().all(|name| name.is_ascii()) || !behind.is_ascii() {
            return None;
        }
        let scale = Scale::of(names)?;
        // The later half tells more of what comes.
        let half = &names[names.len() / 2..];
        let covered = scale
            .number(half.last()?)
            .checked_sub(scale.number(half.first()?))?;
        let (part, whole) = SHARE;
        let step = covered * part * full as u128 / (whole * (half.len() - 1) as u128);
        (step > 0).then(|| Guess {
            step,
            at: scale.number(&behind),
            scale,
            behind,
        })
    }

    /// The name a page begins behind: each time a page further.
    pub(super) fn next(&mut self) -> Option<String> {
        self.at += self.step;
        let name = self.scale.name(self.at)?;
        if name <= self.behind {
            return None;
        }
        self.behind.clone_from(&name);
        Some(name)
    }
}

/// How a name is a number.
struct Scale {
    /// What comes before the first place.
    head: String,
    /// The digits of each place, in order; the first place counts most.
    places: Vec<Vec<u8>>,
}

impl Scale {
    fn of(names: &[&str]) -> Option<Scale> {
        let (first, last) = (names.first()?.as_bytes(), names.last()?.as_bytes());
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let seen = |place: usize| -> BTreeSet<u8> {
            let at = |name: &&str| name.as_bytes().get(place).copied();
            names.iter().filter_map(at).collect()
        };
        let mut behind: Vec<BTreeSet<u8>> = (common..common + PLACES)
            .map(seen)
            .take_while(|digits| !digits.is_empty())
            .collect();
        // Of the first places the page may have come to see but a few.
        let all: BTreeSet<u8> = (behind.iter())
            .filter(|digits| digits.len() > 1)
            .flatten()
            .copied()
            .collect();
        for digits in &mut behind {
            let is_whole = digits.len() >= all.len();
            if digits.is_subset(&all) {
                digits.clone_from(&all);
            }
            if is_whole {
                break;
            }
        }
        let carries = (first[..common].iter().rev())
            .take(CARRIES)
            .take_while(|digit| all.contains(digit))
            .count();
        let head = String::from_utf8(first[..common - carries].to_vec()).ok()?;
        let mut size: u128 = 1;
        let places = std::iter::repeat_n(all, carries)
            .chain(behind)
            .take_while(|digits| {
                size *= digits.len() as u128;
                size <= LARGEST
            })
            .map(|digits| digits.into_iter().collect())
            .collect();
        Some(Scale { head, places })
    }

    fn number(&self, name: &str) -> u128 {
        let rest = name.as_bytes().get(self.head.len()..).unwrap_or_default();
        (self.places.iter().enumerate()).fold(0, |number, (place, digits)| {
            let digit = match rest.get(place) {
                Some(byte) => digits.partition_point(|digit| digit < byte),
                None => 0,
            };
            number * digits.len() as u128 + digit.min(digits.len() - 1) as u128
        })
    }

    /// None: no name is as far as that.
    fn name(&self, mut number: u128) -> Option<String> {
        let mut name = vec![0; self.places.len()];
        for (byte, digits) in name.iter_mut().zip(&self.places).rev() {
            let base = digits.len() as u128;
            *byte = digits[(number % base) as usize];
            number /= base;
        }
        let name = String::from_utf8(name).ok().filter(|_| number == 0)?;
        Some(format!("{}{name}", self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 1000;

    /// How many of the names lie between each guess and the next, until there are no more guesses or names.
    fn covered(names: &[String]) -> Vec<usize> {
        let page: Vec<&str> = names[..FULL].iter().map(String::as_str).collect();
        let last = page[FULL - 1].to_owned();
        let Some(mut guess) = Guess::new(&page, FULL, last.clone()) else {
            return Vec::new();
        };
        let mut from = names.partition_point(|name| *name <= last);
        let mut covered = Vec::new();
        while let Some(name) = guess.next() {
            let to = names.partition_point(|known| *known <= name);
            covered.push(to - from);
            from = to;
            if from == names.len() {
                break;
            }
        }
        covered
    }

    fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
        let names: BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }

    fn random(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn numbered_names_are_guessed_to_the_end_of_their_numbers() {
        for (front, back) in [
            ("", ""),
            ("file-", ""),
            ("IMG_", ".jpg"),
            ("2024-01-", ".log.gz"),
        ] {
            let names = sorted((0..10_000).map(|n| format!("{front}{n:05}{back}")));
            let covered = covered(&names);
            assert_eq!(covered, [900; 10], "{front}{back}");
        }
    }

    #[test]
    fn numbers_of_many_lengths_are_guessed_but_for_a_few() {
        let names = sorted((0..100_000).map(|n| format!("part-{n}")));
        let covered = covered(&names);
        let good = covered.iter().filter(|n| (300..=1000).contains(*n)).count();
        assert!(good * 3 >= covered.len() * 2, "{covered:?}");
    }

    #[test]
    fn random_names_are_as_close_everywhere() {
        let shapes: [fn(u64) -> String; 3] = [
            |n| format!("{:016x}", random(n)),
            |n| format!("x{:08x}-{:04x}.dat", random(n) as u32, random(n) >> 48),
            |n| {
                let letter = |place: u32| char::from(b'a' + (random(n) >> (8 * place)) as u8 % 26);
                (0..8).map(letter).collect()
            },
        ];
        for (shape, of) in shapes.iter().enumerate() {
            for count in [3_000, 50_000] {
                let names = sorted((0..count).map(of));
                let covered = covered(&names);
                let inner = &covered[..covered.len() - 1];
                assert!(covered.len() as u64 >= count / 1200, "{shape}: {covered:?}");
                assert!(
                    inner.iter().all(|n| (600..=1050).contains(n)),
                    "{shape}: {covered:?}"
                );
            }
        }
    }

    #[test]
    fn each_guess_is_behind_the_one_before_whatever_the_names_are() {
        let alphabets = ["ab", "019", "aZ_.-", "0123456789abcdef", "xyz/ ~!"];
        let mut tried = 0;
        for seed in 0..200 {
            let alphabet = alphabets[seed as usize % alphabets.len()].as_bytes();
            let name = |n: u64| -> String {
                let long = 1 + random(n ^ (seed << 32)) % 20;
                (0..long)
                    .map(|place| {
                        let roll = random(n * 31 + place + (seed << 40));
                        char::from(alphabet[(roll >> 33) as usize % alphabet.len()])
                    })
                    .collect()
            };
            let names = sorted((0..1_000).map(name));
            let page: Vec<&str> = names.iter().take(ENOUGH).map(String::as_str).collect();
            let last = page[page.len() - 1].to_owned();
            let Some(mut guess) = Guess::new(&page, ENOUGH, last.clone()) else {
                continue;
            };
            let mut before = last;
            for _ in 0..100 {
                let Some(name) = guess.next() else {
                    break;
                };
                assert!(name > before, "{name:?} after {before:?}");
                before = name;
                tried += 1;
            }
        }
        println!("{tried} guesses");
        assert!(tried > 0);
    }

    #[test]
    fn nothing_is_guessed_of_few_names_or_of_such_as_are_not_ascii() {
        let few: Vec<String> = (0..ENOUGH - 1).map(|n| format!("{n:03}")).collect();
        let foreign: Vec<String> = (0..FULL).map(|n| format!("é{n:03}")).collect();
        let same = vec!["same".to_owned(); FULL];
        for names in [few, foreign, same] {
            let page: Vec<&str> = names.iter().map(String::as_str).collect();
            assert!(Guess::new(&page, FULL, page[page.len() - 1].into()).is_none());
        }
    }
}
