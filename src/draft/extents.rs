//! A set of byte ranges: which bytes of a file are at hand. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-adjacent, non-empty ranges, by start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl Extents {
    /// How many bytes are in the set.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // Swallow every range that overlaps or touches.
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.ranges.remove(&s);
            self.total -= e - s;
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
        self.total += end - start;
    }

    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.ranges.range(..range.end).next_back() {
            if e <= range.start {
                break;
            }
            self.ranges.remove(&s);
            self.total -= e - s;
            if s < range.start {
                self.ranges.insert(s, range.start);
                self.total += range.start - s;
            }
            if e > range.end {
                self.ranges.insert(range.end, e);
                self.total += e - range.end;
            }
        }
    }

    pub fn contains(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self
                .ranges
                .range(..=range.start)
                .next_back()
                .is_some_and(|(_, &end)| end >= range.end)
    }

    /// Cuts `range` into maximal runs that are in the set or not, in order.
    pub fn runs(&self, range: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut runs = Vec::new();
        let mut at = range.start;
        let first = self
            .ranges
            .range(..=range.start)
            .next_back()
            .map_or(range.start, |(&s, _)| s);
        for (&s, &e) in self.ranges.range(first..range.end) {
            let (s, e) = (s.max(at), e.min(range.end));
            if s >= e {
                continue;
            }
            if at < s {
                runs.push((at..s, false));
            }
            runs.push((s..e, true));
            at = e;
        }
        if at < range.end {
            runs.push((at..range.end, false));
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_agree_with_a_bitmap_for_every_pair_of_operations() {
        const N: u64 = 7;
        let ranges: Vec<Range<u64>> = (0..N).flat_map(|a| (a..=N).map(move |b| a..b)).collect();
        let mut tried = 0;
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    for removes in 0..4u8 {
                        let mut set = Extents::default();
                        let mut bits = [false; N as usize];
                        for (r, remove) in
                            [(a, false), (b, removes & 1 != 0), (c, removes & 2 != 0)]
                        {
                            if remove {
                                set.remove(r.clone())
                            } else {
                                set.insert(r.clone())
                            }
                            r.clone().for_each(|i| bits[i as usize] = !remove);
                        }
                        assert_eq!(set.total(), bits.iter().filter(|b| **b).count() as u64);
                        for (run, present) in set.runs(0..N) {
                            assert!(run.clone().all(|i| bits[i as usize] == present), "{set:?}");
                            assert_eq!(set.contains(run), present);
                        }
                        tried += 1;
                    }
                }
            }
        }
        println!("{tried} sequences of operations");
    }
}
