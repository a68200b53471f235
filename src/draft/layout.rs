//! How a file is cut into parts. Pure.
//!
//! Two answers: [`Layout`] for a file that is streamed (the cut cannot depend on a size nobody
//! knows yet, so it is a function of the part number alone), and [`plan`] for a file whose bytes are
//! all known at commit (what is unchanged in the base object is copied on the server).

use std::ops::Range;

use super::extents::Extents;

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

/// A part of a planned commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub range: Range<u64>,
    /// Copied from the base object on the server; otherwise uploaded from here.
    pub copied: bool,
}

/// Copies are cut so that many run at once, into pieces no smaller and no larger than this.
const COPY_PIECES: u64 = 64;
const COPY_LEAST: u64 = 256 << 20;
const COPY_MOST: u64 = 1 << 30;

/// Cuts `0..size` into parts. Bytes below `base_len` that are not in `changed` are the base object's.
/// `None` when no cut obeys the rules with pieces of at most `largest` uploaded bytes.
pub fn plan(
    size: u64,
    base_len: u64,
    changed: &Extents,
    rules: &PartRules,
    part_size: u64,
    largest: u64,
) -> Option<Vec<Piece>> {
    assert!(size > 0, "an empty file is not cut");
    let base_len = if rules.copy { base_len.min(size) } else { 0 };
    let pieces = if rules.equal {
        equal_blocks(size, base_len, changed, rules, part_size)
    } else {
        let runs = settle(runs(size, base_len, changed), rules.min);
        cut(&runs, rules, part_size)
    };
    let fits = pieces.len() <= rules.count as usize
        && pieces.iter().all(|p| {
            let len = p.range.end - p.range.start;
            len <= rules.max && (p.copied || len <= largest)
        });
    fits.then_some(pieces)
}

fn runs(size: u64, base_len: u64, changed: &Extents) -> Vec<Piece> {
    let mut runs: Vec<Piece> = Vec::new();
    let from_base = changed
        .runs(0..base_len)
        .into_iter()
        .map(|(range, changed)| Piece {
            range,
            copied: !changed,
        });
    let beyond = (base_len < size).then_some(Piece {
        range: base_len..size,
        copied: false,
    });
    for run in from_base.chain(beyond) {
        push_run(&mut runs, run);
    }
    runs
}

fn push_run(runs: &mut Vec<Piece>, run: Piece) {
    if run.range.is_empty() {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.copied == run.copied => last.range.end = run.range.end,
        _ => runs.push(run),
    }
}

/// Makes every run but the last at least `min` long: short copies are uploaded instead, short uploads
/// take what they lack from the copy behind them.
fn settle(runs: Vec<Piece>, min: u64) -> Vec<Piece> {
    let end = runs.last().map_or(0, |r| r.range.end);
    let mut long_copies: Vec<Piece> = Vec::new();
    for mut run in runs {
        if run.copied && run.range.end - run.range.start < min && run.range.end != end {
            run.copied = false;
        }
        push_run(&mut long_copies, run);
    }
    let mut settled: Vec<Piece> = Vec::new();
    for mut run in long_copies {
        if run.copied
            && let Some(upload) = settled.last_mut()
        {
            let lacks = min.saturating_sub(upload.range.end - upload.range.start);
            let left = (run.range.end - run.range.start).saturating_sub(lacks);
            let taken = if left >= min || (run.range.end == end && left > 0) {
                lacks
            } else if lacks > 0 {
                run.range.end - run.range.start
            } else {
                0
            };
            upload.range.end += taken;
            run.range.start += taken;
        }
        push_run(&mut settled, run);
    }
    settled
}

fn cut(runs: &[Piece], rules: &PartRules, part_size: u64) -> Vec<Piece> {
    let uploaded: u64 = runs
        .iter()
        .filter(|r| !r.copied)
        .map(|r| r.range.end - r.range.start)
        .sum();
    let copied: u64 = runs
        .iter()
        .filter(|r| r.copied)
        .map(|r| r.range.end - r.range.start)
        .sum();
    let half = u64::from(rules.count / 2).max(1);
    let spare = half.saturating_sub(runs.len() as u64).max(1);
    let upload_target = part_size
        .max(uploaded.div_ceil(spare))
        .clamp(rules.min.max(1), rules.max);
    let copy_target = (copied / COPY_PIECES)
        .clamp(COPY_LEAST, COPY_MOST)
        .max(copied.div_ceil(spare))
        .clamp(rules.min.max(1), rules.max);
    let mut pieces = Vec::new();
    for run in runs {
        let len = run.range.end - run.range.start;
        let target = if run.copied {
            copy_target
        } else {
            upload_target
        };
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
                copied: run.copied,
            });
            at = end;
        }
    }
    pieces
}

fn equal_blocks(
    size: u64,
    base_len: u64,
    changed: &Extents,
    rules: &PartRules,
    part_size: u64,
) -> Vec<Piece> {
    let block = part_size
        .max(size.div_ceil(u64::from(rules.count)))
        .max(rules.min);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let end = (at + block).min(size);
        let untouched = matches!(changed.runs(at..end).as_slice(), [(_, false)]);
        pieces.push(Piece {
            range: at..end,
            copied: end <= base_len && untouched,
        });
        at = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

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
                                    let pieces = plan(size, base_len, &changed, &rules, 8, 4000)
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
            if piece.copied {
                assert!(rules.copy && piece.range.end <= base_len);
                assert_eq!(changed.runs(piece.range.clone()).len(), 1);
                assert!(!changed.contains(piece.range.clone()));
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
        let pieces = plan(size + 80, size, &changed, &S3, 8 * MIB, 64 * MIB).unwrap();
        let uploaded: u64 = pieces
            .iter()
            .filter(|p| !p.copied)
            .map(|p| p.range.end - p.range.start)
            .sum();
        assert_eq!(uploaded, 80);
        assert!(pieces.len() <= 101, "{}", pieces.len());
    }

    #[test]
    fn changing_a_byte_in_the_middle_uploads_no_more_than_a_minimal_part() {
        let mut changed = Extents::default();
        changed.insert(50 * GIB..50 * GIB + 1);
        let pieces = plan(100 * GIB, 100 * GIB, &changed, &S3, 8 * MIB, 64 * MIB).unwrap();
        let uploaded: u64 = pieces
            .iter()
            .filter(|p| !p.copied)
            .map(|p| p.range.end - p.range.start)
            .sum();
        assert_eq!(uploaded, 5 * MIB);
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
