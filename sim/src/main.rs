//! The simulation.
#![allow(clippy::print_stdout, clippy::print_stderr)]
mod chance;
mod exhaustive;
mod hands;
mod model;
mod recovery;
mod scenarios;
mod site;
mod tally;
mod turnstile;
use std::collections::BTreeMap;
fn main() {
    turnstile::catch_complaints();
    let only = std::env::args().nth(1);
    let show: Option<usize> = std::env::args().nth(2).and_then(|n| n.parse().ok());
    let mut total = tally::Tally::default();
    for scenario in scenarios::all() {
        if only.as_ref().is_some_and(|only| only != scenario.name && only != "all") { continue; }
        let began = std::time::Instant::now();
        let base = (scenario.prepare)();
        let calm = exhaustive::run(&scenario, &base, &exhaustive::Case::default(), false);
        let mut tally = calm.tally.clone();
        println!("{}: {} turns, {} with recovery", scenario.name, calm.turns.0, calm.turns.1);
        if !calm.violations.is_empty() { println!("   calm: {:?}", calm.violations); if show.is_none() {continue;} }
        let cases = exhaustive::cases(&scenario, &calm, exhaustive::Depth::Usual);
        let mut kinds: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        for (n, case) in cases.iter().enumerate() {
            if show.is_some_and(|s| s != n) { continue; }
            let ran = exhaustive::run(&scenario, &base, case, show.is_some());
            tally.add(&ran.tally);
            for line in &ran.trace { println!("{line}"); }
            if let Some(v) = ran.violations.first() {
                if show.is_some() { println!("{:?}", ran.violations); }
                let fate = case.strikes.first().map(|(_, f)| format!("{f:?}")).unwrap_or_default();
                let key = format!("{fate} {} {}", if case.again.is_some() {"again"} else {""}, v.chars().take(150).collect::<String>());
                let e = kinds.entry(key).or_insert((0, n));
                e.0 += 1;
            }
        }
        for (k, (c, n)) in kinds { println!("   {c} x (first {n}) {k}"); }
        println!("   {} cases, {:?}", cases.len(), began.elapsed());
        total.add(&tally);
    }
    println!("{}", total.show());
}
