//! How a file is cut into parts. Pure.
//!
//! Two answers: [`Layout`] for a file that is streamed (the cut cannot depend on a size nobody
//! knows yet, so it is a function of the part number alone), and [`plan`] for a file whose bytes are
//! all known at commit (what is unchanged in the base object is copied on the server).

use std::ops::Range;

/// What the store demands of parts.
#[derive(Clone, Copy, Debug)]
pub struct PartRules {
    pub min: u64,
    pub max: u64,
    pub count: u32,
    /// All but the last of the same size.
    pub equal: bool,
    pub copy: bool,
}

/// Sizes of streamed parts: `first` for the first [`STEP`] parts, then doubling every [`STEP`], up to `largest`.
/// So the first bytes leave early, and a large file still fits into the store's number of parts.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    first: u64,
    largest: u64,
    count: u32,
}

/// 900 parts a size: 10,000 parts of 8 MiB, doubled ten times, reach 14 TiB.
const STEP: u32 = 900;

impl Layout {
    /// `largest` is also bounded by the memory one part may take.
    pub fn new(rules: &PartRules, part_size: u64, largest: u64) -> Layout {
        let first = part_size.clamp(rules.min, rules.max);
        let largest = if rules.equal {
            first
        } else {
            largest.clamp(first, rules.max)
        };
        Layout {
            first,
            largest,
            count: rules.count,
        }
    }

    /// Size of part `number` (from 1); `None` when the store takes no such part.
    pub fn size(&self, number: u32) -> Option<u64> {
        assert!(number >= 1, "parts are numbered from 1");
        if number > self.count {
            return None;
        }
        let doublings = (number - 1) / STEP;
        let size = if doublings >= 40 {
            u64::MAX
        } else {
            self.first.saturating_mul(1 << doublings)
        };
        Some(size.min(self.largest))
    }

    /// What the whole layout can hold.
    pub fn reach(&self) -> u64 {
        (1..=self.count).filter_map(|n| self.size(n)).sum()
    }

    pub fn first(&self) -> u64 {
        self.first
    }
}

/// What a part of a planned commit is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Uploaded from here: it takes memory.
    Here,
    /// Uploaded, and nothing but zeros: it takes none.
    Zeros,
    /// Copied from the base object on the server.
    Base,
}

/// A part of a planned commit, or a run of bytes that is to be cut into such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub range: Range<u64>,
    pub source: Source,
}

impl Piece {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn is_here(&self) -> bool {
        self.source == Source::Here
    }
}

/// Copies and zeros are cut so that many are sent at once, into pieces no smaller and no larger than this.
const PIECES: u64 = 64;
const COPY_LEAST: u64 = 256 << 20;
const COPY_MOST: u64 = 1 << 30;
const ZEROS_LEAST: u64 = 64 << 20;
const ZEROS_MOST: u64 = 256 << 20;

/// Cuts a file, given as runs from its beginning to its end, into parts.
/// `None` when no cut obeys the rules with pieces of at most `largest` bytes from here.
pub fn plan(
    runs: Vec<Piece>,
    rules: &PartRules,
    part_size: u64,
    largest: u64,
) -> Option<Vec<Piece>> {
    assert!(!runs.is_empty(), "an empty file is not cut");
    let mut taken: Vec<Piece> = Vec::new();
    for mut run in runs {
        if run.source == Source::Base && !rules.copy {
            run.source = Source::Here;
        }
        push_run(&mut taken, run);
    }
    let pieces = if rules.equal {
        equal_blocks(&taken, rules, part_size)
    } else {
        cut(&settle(taken, rules.min), rules, part_size)
    };
    let fits = pieces.len() <= rules.count as usize
        && pieces
            .iter()
            .all(|p| p.len() <= rules.max && (!p.is_here() || p.len() <= largest));
    fits.then_some(pieces)
}

fn push_run(runs: &mut Vec<Piece>, run: Piece) {
    if run.range.is_empty() {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.source == run.source => last.range.end = run.range.end,
        _ => runs.push(run),
    }
}

/// Makes every run but the last at least `min` long: short copies and short zeros are uploaded instead,
/// short uploads take what they lack from the run behind them.
fn settle(runs: Vec<Piece>, min: u64) -> Vec<Piece> {
    let end = runs.last().map_or(0, |r| r.range.end);
    let mut long: Vec<Piece> = Vec::new();
    for mut run in runs {
        if run.len() < min && run.range.end != end {
            run.source = Source::Here;
        }
        push_run(&mut long, run);
    }
    let mut settled: Vec<Piece> = Vec::new();
    for mut run in long {
        if !run.is_here()
            && let Some(before) = settled.last_mut()
        {
            let lacks = min.saturating_sub(before.len());
            let left = run.len().saturating_sub(lacks);
            let taken = if left >= min || (run.range.end == end && left > 0) {
                lacks
            } else if lacks > 0 {
                run.len()
            } else {
                0
            };
            before.range.end += taken;
            run.range.start += taken;
        }
        push_run(&mut settled, run);
    }
    settled
}

fn cut(runs: &[Piece], rules: &PartRules, part_size: u64) -> Vec<Piece> {
    let total = |source: Source| -> u64 {
        let of_it = runs.iter().filter(|run| run.source == source);
        of_it.map(Piece::len).sum()
    };
    let totals = [Source::Here, Source::Zeros, Source::Base].map(total);
    let kinds = totals.iter().filter(|total| **total > 0).count().max(1);
    let share = u64::from(rules.count / kinds as u32).max(1);
    let spare = share.saturating_sub(runs.len() as u64).max(1);
    let target = |source: Source| {
        let [here, zeros, base] = totals;
        let (wanted, all) = match source {
            Source::Here => (part_size, here),
            Source::Zeros => ((zeros / PIECES).clamp(ZEROS_LEAST, ZEROS_MOST), zeros),
            Source::Base => ((base / PIECES).clamp(COPY_LEAST, COPY_MOST), base),
        };
        let enough = wanted.max(all.div_ceil(spare));
        enough.clamp(rules.min.max(1), rules.max)
    };
    let mut pieces = Vec::new();
    for run in runs {
        let (len, target) = (run.len(), target(run.source));
        let mut count = len.div_ceil(target);
        // Rounded up, pieces could come below the minimum; fewer and larger ones do not.
        while count > 1 && len / count < rules.min && len.div_ceil(count - 1) <= rules.max {
            count -= 1;
        }
        let (each, extra) = (len / count, len % count);
        let mut at = run.range.start;
        for i in 0..count {
            let end = at + each + u64::from(i < extra);
            pieces.push(Piece {
                range: at..end,
                source: run.source,
            });
            at = end;
        }
    }
    pieces
}

fn equal_blocks(runs: &[Piece], rules: &PartRules, part_size: u64) -> Vec<Piece> {
    let size = runs.last().map_or(0, |run| run.range.end);
    let block = part_size
        .max(size.div_ceil(u64::from(rules.count)))
        .max(rules.min);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let end = (at + block).min(size);
        let first = runs.partition_point(|run| run.range.end <= at);
        let source = match runs[first].range.end >= end {
            true => runs[first].source,
            false => Source::Here,
        };
        pieces.push(Piece {
            range: at..end,
            source,
        });
        at = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::extents::Extents;
    use super::*;

    /// A file over a base, of which some was changed; behind the base, what is not changed is a hole.
    fn runs(size: u64, base_len: u64, changed: &Extents) -> Vec<Piece> {
        let mut runs = Vec::new();
        for (range, changed) in changed.runs(0..size) {
            if changed {
                runs.push(Piece {
                    range,
                    source: Source::Here,
                });
                continue;
            }
            let border = base_len.clamp(range.start, range.end);
            for (range, source) in [
                (range.start..border, Source::Base),
                (border..range.end, Source::Zeros),
            ] {
                if !range.is_empty() {
                    runs.push(Piece { range, source });
                }
            }
        }
        runs
    }

    const RULES: PartRules = PartRules {
        min: 5,
        max: 5000,
        count: 10_000,
        equal: false,
        copy: true,
    };

    #[test]
    fn every_small_plan_covers_the_file_and_obeys_the_rules() {
        let mut tried = 0u64;
        for equal in [false, true] {
            for copy in [false, true] {
                let rules = PartRules {
                    equal,
                    copy,
                    ..RULES
                };
                for size in 1..40u64 {
                    for base_len in (0..=size + 3).step_by(3) {
                        for a in 0..size {
                            for b in [a, a + 1, a + 4, a + 9] {
                                for c in [b + 1, b + 5, b + 11] {
                                    let mut changed = Extents::default();
                                    changed.insert(a..b.min(size));
                                    changed.insert(c.min(size)..(c + 2).min(size));
                                    let pieces =
                                        plan(runs(size, base_len, &changed), &rules, 8, 4000)
                                            .expect("fits");
                                    check(&pieces, size, base_len, &changed, &rules);
                                    tried += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        println!("{tried} plans");
    }

    fn check(pieces: &[Piece], size: u64, base_len: u64, changed: &Extents, rules: &PartRules) {
        let mut at = 0;
        for (i, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.range.start, at);
            assert!(piece.range.end > at);
            at = piece.range.end;
            let len = piece.range.end - piece.range.start;
            assert!(
                i + 1 == pieces.len() || len >= rules.min,
                "{pieces:?} of {size}, base {base_len}, {changed:?}"
            );
            if rules.equal && i + 1 < pieces.len() {
                assert_eq!(len, pieces[0].range.end);
            }
            let untouched = || matches!(changed.runs(piece.range.clone())[..], [(_, false)]);
            match piece.source {
                Source::Here => {}
                Source::Base => {
                    assert!(rules.copy && piece.range.end <= base_len && untouched());
                }
                Source::Zeros => assert!(piece.range.start >= base_len && untouched()),
            }
        }
        assert_eq!(at, size);
    }

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const S3: PartRules = PartRules {
        min: 5 * MIB,
        max: 5 * GIB,
        count: 10_000,
        equal: false,
        copy: true,
    };

    #[test]
    fn appending_a_line_to_a_huge_object_uploads_the_line_only() {
        let size = 100 * GIB;
        let mut changed = Extents::default();
        changed.insert(size..size + 80);
        let pieces = plan(runs(size + 80, size, &changed), &S3, 8 * MIB, 64 * MIB).unwrap();
        let uploaded: u64 = pieces
            .iter()
            .filter(|p| p.source != Source::Base)
            .map(|p| p.range.end - p.range.start)
            .sum();
        assert_eq!(uploaded, 80);
        assert!(pieces.len() <= 101, "{}", pieces.len());
    }

    #[test]
    fn changing_a_byte_in_the_middle_uploads_no_more_than_a_minimal_part() {
        let mut changed = Extents::default();
        changed.insert(50 * GIB..50 * GIB + 1);
        let pieces = plan(runs(100 * GIB, 100 * GIB, &changed), &S3, 8 * MIB, 64 * MIB).unwrap();
        let uploaded: u64 = pieces
            .iter()
            .filter(|p| p.source != Source::Base)
            .map(|p| p.range.end - p.range.start)
            .sum();
        assert_eq!(uploaded, 5 * MIB);
    }

    #[test]
    fn a_terabyte_of_nothing_is_cut_into_parts_that_take_no_memory() {
        let size = 1024 * GIB;
        let mut changed = Extents::default();
        changed.insert(500 * GIB..500 * GIB + 4096);
        let pieces = plan(runs(size, 0, &changed), &S3, 8 * MIB, 64 * MIB).unwrap();
        let here: u64 = pieces.iter().filter(|p| p.is_here()).map(Piece::len).sum();
        assert_eq!(here, 5 * MIB);
        assert_eq!(pieces.last().map(|p| p.range.end), Some(size));
    }

    #[test]
    fn a_layout_grows_and_stays_inside_its_bounds() {
        let layout = Layout::new(&S3, 8 * MIB, 5 * GIB);
        assert_eq!(layout.size(1), Some(8 * MIB));
        assert_eq!(layout.size(STEP), Some(8 * MIB));
        assert_eq!(layout.size(STEP + 1), Some(16 * MIB));
        assert_eq!(layout.size(10_000), Some(5 * GIB));
        assert_eq!(layout.size(10_001), None);
        assert!(layout.reach() > 11 << 40, "{}", layout.reach());
        let small = Layout::new(&S3, 8 * MIB, 64 * MIB);
        assert!(small.reach() > 480 * GIB);
        let equal = Layout::new(&PartRules { equal: true, ..S3 }, 8 * MIB, 5 * GIB);
        assert_eq!(equal.size(10_000), Some(8 * MIB));
    }
}
