//! Histories of reads, and what is wanted after each.

use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn window(size: u64) -> Window {
    Window::new(size, 64 * MIB, 8 * MIB)
}

/// Of how many ranges a store at hand, and one far away, take at once.
const NEAR_BY: (usize, bool) = (5, true);
const FAR: (usize, bool) = (64, false);

/// Takes all that is wanted, of a store that is far away.
fn take(w: &mut Window) -> Vec<Range<u64>> {
    take_of(w, FAR)
}

fn take_of(w: &mut Window, (ranges, is_near): (usize, bool)) -> Vec<Range<u64>> {
    let mut taken = Vec::new();
    while let Some(wanted) = w.wanted(ranges, is_near) {
        w.advance(wanted.range.end);
        taken.push(wanted.range);
    }
    taken
}

#[test]
fn small_object_is_one_range_wherever_the_first_read_is() {
    for size in [1, 4 * KIB, 128 * KIB + 1, MIB] {
        for offset in [0, size / 2, size - 1] {
            let mut w = window(size);
            assert!(w.access(offset, 1).sequential);
            assert_eq!(take(&mut w), vec![0..size]);
            for offset in [0, size - 1, size / 3] {
                assert!(w.access(offset, 1).sequential);
                assert_eq!(take(&mut w), vec![]);
                assert!(w.keeps(&(0..1)), "a small object is kept");
            }
            w.lost();
            assert!(w.access(0, 1).sequential);
            assert_eq!(take(&mut w), vec![0..size]);
        }
    }
}

#[test]
fn first_read_at_zero_starts_modestly() {
    let mut w = window(GIB);
    w.access(0, 4 * KIB);
    let wanted = w.wanted(FAR.0, FAR.1).unwrap();
    assert_eq!((wanted.range, wanted.grain), (0..MIB, GRAIN));
    w.advance(MIB);
    assert_eq!(w.wanted(FAR.0, FAR.1), None);
    let mut w = window(GIB);
    w.access(0, MIB);
    assert_eq!(
        w.wanted(FAR.0, FAR.1).unwrap().grain,
        SEGMENT,
        "the read needs all of it"
    );
    assert_eq!(take(&mut w), vec![0..MIB, MIB..2 * MIB]);
}

#[test]
fn window_doubles_to_its_limit_and_ranges_grow() {
    for (ranges, length, window) in [(NEAR_BY, 8 * MIB, 40 * MIB), (FAR, 4 * MIB, 64 * MIB)] {
        let mut w = self::window(GIB);
        let (mut offset, mut next, mut widest, mut longest) = (0, 0, 0, 0);
        while offset < GIB {
            assert!(w.access(offset, 128 * KIB).sequential);
            offset += 128 * KIB;
            for range in take_of(&mut w, ranges) {
                assert_eq!(range.start, next, "without gap or overlap");
                next = range.end;
                longest = longest.max(range.end - range.start);
            }
            assert!(next >= offset, "what is read was wanted");
            widest = widest.max(next - offset);
        }
        assert_eq!(next, GIB);
        assert_eq!(longest, length);
        assert!(widest <= window && widest >= window - length, "{widest}");
    }
}

#[test]
fn full_speed_after_32_mib() {
    let mut w = window(GIB);
    for i in 0..256 {
        w.access(i * 128 * KIB, 128 * KIB);
    }
    assert_eq!(w.window, 64 * MIB);
}

/// A line that brings half a megabyte a second need not be kept busy for minutes.
#[test]
fn who_reads_slowly_is_not_read_far_ahead() {
    for (pace, furthest) in [
        (MIB / 2, 8 * MIB),
        (4 * MIB, 64 * MIB),
        (64 * MIB, 64 * MIB),
    ] {
        let (mut w, mut next) = (window(GIB), 0);
        for offset in (0..512 * MIB).step_by(128 << 10) {
            w.tick(Duration::from_secs_f64(offset as f64 / pace as f64));
            w.access(offset, 128 * KIB);
            next = take(&mut w).last().map_or(next, |range| range.end);
            assert!(next <= offset + 128 * KIB + furthest, "at {offset}");
        }
        // And whoever becomes slow.
        for i in 0..64 {
            w.tick(Duration::from_secs(10_000 + i * 60));
            w.access(512 * MIB + i * MIB, MIB);
        }
        assert_eq!(w.window, MIB);
    }
}

#[test]
fn steady_reader_gets_whole_ranges() {
    for (ranges, length) in [(NEAR_BY, 8 * MIB), (FAR, 4 * MIB)] {
        let (mut w, mut requests) = (window(GIB), 0);
        for i in 0..GIB / (128 * KIB) {
            w.access(i * 128 * KIB, 128 * KIB);
            requests += take_of(&mut w, ranges).len() as u64;
        }
        let whole = GIB / length;
        assert!(requests < whole + 22, "{requests} for {whole} whole ranges");
    }
}

#[test]
fn every_order_within_a_burst_is_sequential() {
    // All permutations of five requests in flight, burst after burst.
    let mut order = [0u64, 1, 2, 3, 4];
    permute(&mut order, 0, &mut |order| {
        let mut w = window(GIB);
        w.access(0, 128 * KIB);
        take(&mut w);
        for burst in 0..40 {
            for i in order {
                let offset = (1 + burst * 5 + i) * 128 * KIB;
                let access = w.access(offset, 128 * KIB);
                assert!(access.sequential && !access.abandon);
                assert!(w.keeps(&(offset..offset + 1)) || w.ahead <= offset);
                take(&mut w);
            }
        }
        assert!(w.window >= 16 * MIB);
    });
}

/// Its read-ahead of 4 MiB, and the one behind that: eight requests of 1 MiB.
#[test]
fn two_windows_of_the_kernels_are_sequential_in_any_order() {
    for turn in 0..8 {
        for backwards in [false, true] {
            let mut w = window(GIB);
            w.access(0, 128 * KIB);
            take(&mut w);
            for burst in 0..40 {
                for i in 0..8 {
                    let i = (i + turn) % 8;
                    let i = if backwards { 7 - i } else { i };
                    let access = w.access((burst * 8 + i) * MIB + 128 * KIB, MIB);
                    assert!(access.sequential && !access.abandon, "{turn} {backwards}");
                    take(&mut w);
                }
            }
        }
    }
}

fn permute(order: &mut [u64; 5], at: usize, f: &mut impl FnMut(&[u64; 5])) {
    if at == order.len() {
        return f(order);
    }
    for i in at..order.len() {
        order.swap(at, i);
        permute(order, at + 1, f);
        order.swap(at, i);
    }
}

/// No two steps from one to the next are alike.
fn anywhere(n: u64, size: u64) -> u64 {
    1 + n * n * 7_919_111 % (size - 4097)
}

#[test]
fn random_reads_want_nothing() {
    let mut w = window(GIB);
    for i in 1..1000 {
        let offset = anywhere(i, GIB);
        let access = w.access(offset, 4096);
        assert!(!access.sequential && !access.abandon);
        assert_eq!(w.wanted(FAR.0, FAR.1), None);
        assert!(!w.keeps(&(offset..offset + 4096)));
    }
}

#[test]
fn a_near_object_is_wanted_whole_for_as_many_requests_as_would_have_brought_it() {
    let size = 64 * MIB + 5;
    let near = Duration::from_micros(500);
    let mut w = window(size);
    // And once again, when it was lost.
    for round in 0..2 {
        for i in 0..128 {
            w.access(anywhere(i, size), 4096);
            w.asked(near, Room::Memory(GIB));
            assert_eq!(w.wanted(FAR.0, FAR.1), None, "{i} in round {round}");
        }
        w.access(7, 4096);
        w.asked(near, Room::Memory(GIB));
        let taken = take(&mut w);
        assert_eq!(
            (taken.len(), &taken[0], &taken[8]),
            (9, &(0..8 * MIB), &(64 * MIB..size))
        );
        assert!(!w.access(30 * MIB, 4096).abandon);
        assert!(w.keeps(&(60 * MIB..61 * MIB)) && !w.passed(MIB));
        w.lost();
        assert!(!w.keeps(&(60 * MIB..61 * MIB)));
    }
    // Not of a store that is far, nor what there is no memory for.
    for (took, room) in [(Duration::from_millis(2), GIB), (near, size - 1)] {
        let mut w = window(size);
        for i in 0..1000 {
            w.access(anywhere(i, size), 4096);
            w.asked(took, Room::Memory(room));
            assert_eq!(w.wanted(FAR.0, FAR.1), None);
        }
    }
}

/// How many requests of this length it takes, at most so many, until the object is to be brought into the kernel's pages.
fn brought_after(w: &mut Window, took: Duration, room: u64, most: u64) -> Option<(u64, Duration)> {
    (1..=most).find_map(|n| {
        w.access(anywhere(n, w.size), 4096);
        let patience = w.asked(took, Room::Pages(&|| room))?;
        assert_eq!(w.wanted(FAR.0, FAR.1), None, "nothing is for us to keep");
        Some((n, patience))
    })
}

#[test]
fn a_near_object_is_brought_into_the_kernels_pages_at_once_and_again_only_when_that_is_paid_for() {
    let near = Duration::from_millis(1);
    let mut w = window(GIB);
    assert_eq!(brought_after(&mut w, near, GIB, 1000), Some((FEW, PROMPT)));
    assert_eq!(
        brought_after(&mut w, near, GIB, 1000),
        None,
        "it is under way"
    );
    // Somebody else did it.
    w.brought(None);
    assert_eq!(brought_after(&mut w, near, GIB, 1000), Some((FEW, PROMPT)));
    // It was seen to take long.
    let takes = Duration::from_millis(5000);
    w.brought(Some(takes));
    assert_eq!(
        brought_after(&mut w, near, GIB, 9000),
        Some((5000, takes * 2))
    );
    w.brought(Some(near));
    assert_eq!(
        brought_after(&mut w, near, GIB, 1000),
        Some((FEW, near * 2))
    );
    for (took, room) in [(Duration::from_millis(2), GIB), (near, GIB - 1)] {
        assert_eq!(brought_after(&mut window(GIB), took, room, 9000), None);
    }
}

#[test]
fn two_adjacent_random_reads_start_a_stream() {
    let mut w = window(GIB);
    assert!(!w.access(500 * MIB, 4096).sequential);
    assert!(!w.access(300 * MIB, 4096).sequential);
    assert!(
        w.access(500 * MIB + 4096, 4096).sequential,
        "one read in between"
    );
    assert_eq!(take(&mut w), vec![500 * MIB + 4096..501 * MIB]);
}

/// What was asked for of what is kept, as the reader's state has it.
struct Here(Vec<Range<u64>>);

impl Here {
    fn has(&self, read: &Range<u64>) -> bool {
        let has = |at: u64| self.0.iter().any(|range| range.contains(&at));
        has(read.start) && has(read.end - 1)
    }
}

/// Makes the reads; answers how many of them nothing was asked for ahead of, what the others were asked for in, and
/// how much was held at most.
fn follow(w: &mut Window, reads: impl Iterator<Item = Range<u64>>) -> (u64, Vec<Range<u64>>, u64) {
    let (mut here, mut asked) = (Here(Vec::new()), Vec::new());
    let (mut alone, mut most) = (0, 0);
    for read in reads {
        w.access(read.start, read.end - read.start);
        let taken = take(w);
        here.0.extend(taken.iter().cloned());
        asked.extend(taken);
        here.0.retain(|range| w.keeps(range));
        most = most.max(here.0.iter().map(|range| range.end - range.start).sum());
        alone += u64::from(!here.has(&read));
    }
    (alone, asked, most)
}

fn sorted(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    ranges
}

#[test]
fn who_comes_from_behind_is_brought_blocks() {
    for len in [4 * KIB, 8 * KIB, 100_000, MIB] {
        let size = 200 * MIB + 17;
        let reads = (1..=size / len).map(|n| size - n * len..size - (n - 1) * len);
        let (alone, asked, most) = follow(&mut window(size), reads);
        // The first two, and of very long ones a piece of the third.
        assert_eq!(alone, 2 + u64::from(len == MIB), "of {len}");
        let asked = sorted(asked);
        assert_eq!(asked.first().map(|range| range.start), Some(0));
        for two in asked.windows(2) {
            assert_eq!(two[0].end, two[1].start, "each byte once");
        }
        assert!(asked.len() <= 112, "{} requests", asked.len());
        assert!(most <= 18 * MIB, "{most} held");
    }
}

#[test]
fn who_comes_from_behind_and_goes_elsewhere_is_wanted_nothing() {
    let mut w = window(GIB);
    let back = |from: u64| (1..=3).map(move |n| from - n * 8 * KIB..from - (n - 1) * 8 * KIB);
    assert_eq!(follow(&mut w, back(500 * MIB)).0, 2);
    let away = w.access(900 * MIB, 4 * KIB);
    assert!(!away.sequential && away.abandon);
    assert!(!w.keeps(&(498 * MIB..499 * MIB)));
    assert_eq!(take(&mut w), []);
    // A store in trouble is asked for what is read, until there is a pattern again.
    assert_eq!(follow(&mut w, back(300 * MIB)).0, 2);
    w.rewind(299 * MIB);
    assert_eq!((w.mode, take(&mut w)), (Mode::Random, vec![]));
    assert_eq!(follow(&mut w, back(400 * MIB)).0, 2);
}

#[test]
fn who_skips_is_brought_the_next_reads() {
    for step in [
        -3_000_000i64,
        -(20 * MIB as i64),
        5_000_000,
        16 * MIB as i64,
    ] {
        let first = if step < 0 { GIB - 4 * KIB } else { 123 };
        let place = |n: u32| first.checked_add_signed(step * i64::from(n));
        let all = (0..).map_while(place).map(|at| at..at + 4 * KIB);
        let reads: Vec<_> = all.take_while(|read| read.end <= GIB).collect();
        let (alone, asked, most) = follow(&mut window(GIB), reads.iter().cloned());
        // Three steps are four reads.
        assert_eq!(alone, 4, "{step}");
        let last = reads.len().min(asked.len() + 4);
        let expected = sorted(reads[4..last].to_vec());
        assert_eq!(
            sorted(asked),
            expected,
            "{step}: each once, and nothing else"
        );
        assert!(most <= 17 * 4 * KIB, "{most} held");
    }
}

#[test]
fn strided_reader_that_seemed_sequential_is_recognized() {
    let mut w = window(GIB);
    let reads = (0..100).map(|n| n * MIB..n * MIB + 4 * KIB);
    follow(&mut w, reads);
    assert!(matches!(w.mode, Mode::Pattern(_)), "{:?}", w.mode);
}

#[test]
fn skipping_less_than_half_stays_sequential() {
    let mut w = window(GIB);
    for i in 0..1000 {
        assert!(w.access(i * 256 * KIB, 160 * KIB).sequential);
    }
}

#[test]
fn one_stray_shrinks_two_abandon() {
    let mut w = window(GIB);
    for i in 0..256 {
        w.access(i * 128 * KIB, 128 * KIB);
    }
    take(&mut w);
    let stray = w.access(900 * MIB, 4096);
    assert!(!stray.sequential && !stray.abandon);
    assert_eq!((w.window, w.wanted(FAR.0, FAR.1)), (32 * MIB, None));
    assert!(w.access(32 * MIB, 4096).sequential, "the stream goes on");
    w.access(900 * MIB, 4096);
    let second = w.access(700 * MIB, 4096);
    assert!(!second.sequential && second.abandon);
    assert!(!w.keeps(&(32 * MIB..33 * MIB)));
}

#[test]
fn seek_starts_over_at_the_new_place() {
    let mut w = window(GIB);
    for i in 0..256 {
        w.access(i * 128 * KIB, 128 * KIB);
    }
    take(&mut w);
    w.access(800 * MIB, 128 * KIB);
    let second = w.access(800 * MIB + 128 * KIB, 128 * KIB);
    assert!(second.sequential && second.abandon);
    assert_eq!(take(&mut w), vec![800 * MIB + 128 * KIB..801 * MIB]);
    assert_eq!(w.window, INITIAL);
}

#[test]
fn denied_and_failed_ranges_are_not_skipped_for_ever() {
    let mut w = window(GIB);
    w.access(0, 128 * KIB);
    assert!(w.wanted(FAR.0, FAR.1).is_some());
    w.denied();
    let wanted = w.wanted(FAR.0, FAR.1).unwrap();
    assert_eq!(wanted.range, 128 * KIB..MIB, "the read fetches for itself");
    w.access(128 * KIB, 128 * KIB);
    assert_eq!(w.wanted(FAR.0, FAR.1).unwrap().range, 128 * KIB..MIB);
    w.advance(MIB);
    w.rewind(512 * KIB);
    w.access(256 * KIB, 128 * KIB);
    assert_eq!(take(&mut w), vec![512 * KIB..MIB]);
    w.rewind(0);
    assert_eq!(
        w.ahead,
        384 * KIB,
        "what was asked for was answered with the failure"
    );
}

/// All sequences of five reads over places that matter, with each fate of what is wanted.
#[test]
fn invariants_hold_over_all_short_histories() {
    let size = 40 * MIB + 12345;
    let reads = [
        (0, 4096),
        (4096, 128 * KIB),
        (128 * KIB, MIB),
        (MIB - 1, 2),
        (MIB + 128 * KIB, MIB),
        (3 * MIB, 4096),
        (20 * MIB, 128 * KIB),
        (20 * MIB + 128 * KIB, MIB),
        (size - 1, 1),
    ];
    for history in 0..(reads.len() * 4).pow(3) {
        let mut w = Window::new(size, 16 * MIB, 2 * MIB);
        let mut code = history;
        for _ in 0..3 {
            let (offset, len) = reads[code % reads.len()];
            let fate = code / reads.len() % 4;
            code /= reads.len() * 4;
            // The same place twice and the one after it: five reads of three steps.
            for (offset, len) in [(offset, len), (offset + len, 1)] {
                if offset + len > size {
                    continue;
                }
                let access = w.access(offset, len);
                if access.sequential {
                    assert_eq!(w.mode, Mode::Sequential);
                    assert!(w.frontier >= offset + len);
                }
                let mut rounds = 0;
                while let Some(wanted) = w.wanted(FAR.0, FAR.1) {
                    let Range { start, end } = wanted.range;
                    assert!(start < end && end <= size);
                    assert!(end - start <= 2 * MIB);
                    assert!(end == size || end.is_multiple_of(SEGMENT));
                    assert!(end <= w.frontier + w.window || start < w.frontier);
                    assert!(wanted.grain.is_power_of_two() && wanted.grain <= SEGMENT);
                    assert!(w.window <= 16 * MIB);
                    rounds += 1;
                    assert!(rounds < 100, "it comes to an end");
                    match fate {
                        0 => w.advance(end),
                        1 => {
                            w.denied();
                            break;
                        }
                        2 => {
                            w.advance(end);
                            w.rewind(start + 1);
                            break;
                        }
                        _ => {
                            w.advance(end);
                            w.lost();
                            break;
                        }
                    }
                }
            }
        }
    }
}
