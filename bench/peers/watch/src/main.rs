//! stanchion-watch's range index beside the interval trees that others publish: insert, stab, remove, alternating rounds
//! of one run, on ranges of byte strings as watchers ask for them.
//!
//! Few crates change after they were built and take something else than numbers. `interavl` (AVL) and
//! `store-interval-tree` (red-black) own any ordered key; `iset` (red-black in one array) wants `Copy` keys and so can only
//! borrow them from somebody who keeps them all: more than a server has, but the nearest that it comes. A scan of all
//! ranges is what is left without a tree.
//!
//! ```text
//! PEERS_RANGES (1000000)   PEERS_ROUNDS (3)
//! ```

mod trees;

use std::hint::black_box;
use std::time::Instant;

use trees::{Interavl, Iset, Ours, Scan, Store, Tree};

/// Operations that are timed, of each kind, if there are as many ranges; who visits every range, or half of them, does a
/// thousandth of it.
const OPERATIONS: usize = 100_000;
const SLOW_SHARE: usize = 1_000;

/// A range of keys and what is stored under it.
pub struct Span {
    begin: Vec<u8>,
    end: Vec<u8>,
}

/// Ranges of one to ten of a million keys, in no order; no two begin alike.
fn spans(count: u64) -> Vec<Span> {
    let key = |n: u64| format!("/registry/pods/{n:010}").into_bytes();
    // 7,919 is prime, so that counting in its steps visits every number below the count once.
    let begins = (0..count).map(|n| n * 7_919 % count);
    begins.map(|n| Span { begin: key(n), end: key(n + 1 + n % 10) }).collect()
}

/// Nanoseconds per operation.
#[derive(Clone, Copy)]
struct Times {
    insert: f64,
    stab: f64,
    remove: f64,
    /// Matches of the stabs that everybody does.
    found: usize,
}

fn round<'s, T: Tree<'s>>(spans: &'s [Span], share: usize) -> Times {
    let mut tree = T::default();
    let each = |start: Instant, count: usize| start.elapsed().as_nanos() as f64 / count as f64;
    let start = Instant::now();
    for (span, value) in spans.iter().zip(0..) {
        tree.insert(span, value);
    }
    let insert = each(start, spans.len());

    let picked = |n: usize| (n * 104_729) % spans.len();
    let operations = OPERATIONS.min(spans.len());
    let count = (operations / share).max(1);
    let start = Instant::now();
    let mut found = 0;
    for n in 0..count {
        let matches = black_box(tree.stab(&spans[picked(n)].begin));
        if n < (operations / SLOW_SHARE).max(1) {
            found += matches;
        }
    }
    let stab = each(start, count);

    let start = Instant::now();
    for n in 0..count {
        tree.remove(&spans[picked(n)], picked(n) as u32);
    }
    Times { insert, stab, remove: each(start, count), found }
}

fn middle(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0} to {:.0})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (ranges, rounds) = (setting("PEERS_RANGES", 1_000_000), setting("PEERS_ROUNDS", 3));
    let spans = spans(ranges);
    type Contender<'s> = (&'static str, usize, fn(&'s [Span], usize) -> Times);
    let contenders: [Contender<'_>; 5] = [
        ("stanchion-watch", 1, round::<Ours>),
        // They leave out what ends too early, but not what begins too late.
        ("interavl", SLOW_SHARE, round::<Interavl>),
        ("store-interval-tree", SLOW_SHARE, round::<Store>),
        ("iset, borrowed keys", 1, round::<Iset>),
        ("scan", SLOW_SHARE, round::<Scan>),
    ];
    let mut times: Vec<Vec<Times>> = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for ((name, share, run), times) in contenders.iter().zip(&mut times) {
            let start = Instant::now();
            times.push(run(&spans, *share));
            eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        }
    }
    let found = times[0][0].found;
    println!("{ranges} ranges, ns per operation: median of {rounds} rounds (lowest to highest)");
    println!("| | insert | stab | remove |");
    println!("|---|---|---|---|");
    for ((name, ..), times) in contenders.iter().zip(&times) {
        assert_eq!(times[0].found, found, "{name} finds what ours finds");
        let column = |of: fn(&Times) -> f64| middle(times.iter().map(of).collect());
        println!(
            "| {name} | {} | {} | {} |",
            column(|times| times.insert),
            column(|times| times.stab),
            column(|times| times.remove)
        );
    }
}
