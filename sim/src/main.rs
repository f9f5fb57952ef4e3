//! `cargo xtask sim`: the engine in a world that fails on purpose, the same way each time.
//!
//! What it is for: to find what no test thought of, by breaking every operation at every turn, and by random worlds from
//! seeds. What it may not know: how the engine works; it uses what `repo` and `store` give to everybody. Where data comes
//! from and goes: from a seed, to counts and complaints.

// Talking to the terminal is what this program does.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod auditor;
mod chance;
mod exhaustive;
mod hands;
mod model;
mod recovery;
mod request;
#[cfg(feature = "sabotage")]
mod sabotage;
mod scenarios;
mod seeds;
mod site;
mod swarm;
mod tally;
mod turnstile;

use exhaustive::Case;
use request::{Request, Task};
use scenarios::Scenario;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tally::Tally;

/// Failures that are told in full; of the rest only how many.
const TOLD_MAX: usize = 20;

#[cfg(not(feature = "sabotage"))]
const UNPLANTED: &str = "this build has no planted defects: build it with --features sabotage";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let request = match Request::parse(&args) {
        Ok(request) => request,
        Err(what) => {
            eprintln!("{what}\n{}", request::USAGE);
            return ExitCode::from(2);
        }
    };
    turnstile::catch_complaints();
    #[cfg(feature = "sabotage")]
    store::plant(request.plant.as_deref());
    #[cfg(not(feature = "sabotage"))]
    if request.plant.is_some() {
        eprintln!("{UNPLANTED}");
        return ExitCode::from(2);
    }
    let failed = match &request.task {
        Task::Everything { seeds, from } => {
            let named = seeds::replay(&request);
            let (failed, mut tally) = exhaustive_set(&request, None);
            let (random, counted) = random_set(&request, *from, *seeds);
            tally.add(&counted);
            named + failed + random + unreached(&tally.unreached(true))
        }
        Task::Exhaustive => {
            let (failed, tally) = exhaustive_set(&request, None);
            failed + unreached(&tally.unreached(false))
        }
        Task::Scenario { name, case: None } => exhaustive_set(&request, Some(name)).0,
        Task::Scenario { name, case: Some(case) } => one_case(&request, name, *case),
        Task::Random { seeds, from } => random_set(&request, *from, *seeds).0,
        Task::Seed { seed, smaller } => one_seed(&request, *seed, *smaller),
        #[cfg(feature = "sabotage")]
        Task::Sabotage => sabotage::prove(&request),
        #[cfg(not(feature = "sabotage"))]
        Task::Sabotage => {
            eprintln!("{UNPLANTED}");
            1
        }
        Task::Regressions => seeds::replay(&request),
        Task::Help => {
            println!("{}", request::USAGE);
            0
        }
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does `work` with all of `items` on some threads, and returns what it gave, in order.
fn spread<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((n, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, items.get(n)?)))
                {
                    let result = work(item);
                    done.lock().expect("no holder panics").push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Says which kinds of errors were not reached, and returns how many.
fn unreached(kinds: &[&str]) -> usize {
    kinds
        .iter()
        .for_each(|kind| eprintln!("  nothing led to {kind}: the scenarios do not ask any more what they should"));
    kinds.len()
}

/// Every scenario, or one: returns how many cases failed, and what happened.
fn exhaustive_set(request: &Request, only: Option<&str>) -> (usize, Tally) {
    let began = Instant::now();
    let (mut tally, mut failures, mut scenarios) = (Tally::default(), 0, 0);
    for scenario in scenarios::all().iter().filter(|scenario| only.is_none_or(|only| only == scenario.name)) {
        let (count, failed, counted) = broken_everywhere(request, scenario);
        println!("{}: {count} cases, {failed} failed", scenario.name);
        tally.add(&counted);
        failures += failed;
        scenarios += 1;
    }
    println!("exhaustive: {scenarios} scenarios, {}\n", tally.show(began.elapsed()));
    println!("{} passed, {failures} failed", tally.worlds - failures as u64);
    (failures, tally)
}

/// One scenario at every turn: how many cases there were, how many failed, and what happened in them.
fn broken_everywhere(request: &Request, scenario: &Scenario) -> (usize, usize, Tally) {
    let base = (scenario.prepare)();
    let calm = exhaustive::run(scenario, &base, &Case::default(), false);
    let mut tally = calm.tally.clone();
    if let Some(wrong) = calm.violations.first() {
        eprintln!("  {}: when nothing goes wrong: {wrong}", scenario.name);
        return (1, 1, tally);
    }
    let cases = exhaustive::cases(scenario, &base, &calm, request.depth);
    let ran = spread(request.threads, &cases, |case| exhaustive::run(scenario, &base, case, false));
    let mut failed = 0;
    for (n, (case, ran)) in cases.iter().zip(&ran).enumerate() {
        tally.add(&ran.tally);
        if let Some(wrong) = ran.violations.first() {
            failed += 1;
            if failed <= TOLD_MAX {
                eprintln!("  {}, case {n} {case:?}: {wrong}", scenario.name);
            }
        }
    }
    (cases.len() + 1, failed, tally)
}

fn one_case(request: &Request, name: &str, number: usize) -> usize {
    let all = scenarios::all();
    let Some(scenario) = all.iter().find(|scenario| scenario.name == name) else {
        eprintln!("there is no scenario {name:?}");
        return 1;
    };
    let base = (scenario.prepare)();
    let calm = exhaustive::run(scenario, &base, &Case::default(), false);
    let cases = exhaustive::cases(scenario, &base, &calm, request.depth);
    let Some(case) = cases.get(number) else {
        eprintln!("{name} has {} cases", cases.len());
        return 1;
    };
    let ran = exhaustive::run(scenario, &base, case, true);
    tell(&format!("{name}, case {number} {case:?}"), &ran.trace, &ran.violations)
}

/// Random worlds: returns how many failed, and what happened.
fn random_set(request: &Request, from: u64, seeds: u64) -> (usize, Tally) {
    let began = Instant::now();
    let numbers: Vec<u64> = (from..from + seeds).collect();
    let ran = spread(request.threads, &numbers, |seed| {
        let ran = swarm::run(&swarm::Plan::of(*seed), false);
        (ran.tally, ran.violations)
    });
    let (mut tally, mut failures) = (Tally::default(), 0);
    for (seed, (counted, violations)) in numbers.iter().zip(&ran) {
        tally.add(counted);
        if let Some(wrong) = violations.first() {
            failures += 1;
            if failures <= TOLD_MAX {
                eprintln!("  seed {seed}: {wrong}");
            }
        }
    }
    println!("random: {seeds} seeds from {from}, {}\n", tally.show(began.elapsed()));
    println!("{} passed, {failures} failed", tally.worlds - failures as u64);
    (failures, tally)
}

/// One seed, twice: its log must be the same.
fn one_seed(request: &Request, seed: u64, smaller: bool) -> usize {
    let mut plan = swarm::Plan::of(seed);
    let again = swarm::run(&plan, false);
    if smaller && !again.violations.is_empty() {
        plan = swarm::shrink(&plan);
        for (what, pieces) in swarm::left_out(&plan) {
            println!("{what} = {pieces:?}");
        }
    }
    println!("{}", plan.show());
    let ran = swarm::run(&plan, request.traced);
    if !smaller && ran.hash != again.hash {
        eprintln!("the same seed went two ways: {} and {}", ran.hash, again.hash);
        return 1;
    }
    println!("log {}", ran.hash);
    tell(&format!("seed {seed}"), &ran.trace, &ran.violations)
}

fn tell(what: &str, trace: &[String], violations: &[String]) -> usize {
    trace.iter().for_each(|line| println!("{line}"));
    violations.iter().for_each(|wrong| println!("{what}: {wrong}"));
    if violations.is_empty() {
        println!("{what}: nothing to complain about");
    }
    usize::from(!violations.is_empty())
}
