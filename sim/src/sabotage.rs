//! Planted defects: proof that the net holds. Each must be found, or the run fails.
//!
//! It may not know where they are planted: `git grep sabotaged` in `crates` shows it. Only a build with the feature
//! `sabotage` has them.

use crate::request::Request;
use crate::swarm::{self, Plan};
use crate::{exhaustive, scenarios};
use std::panic::catch_unwind;
use std::time::Instant;

/// Random worlds that a defect may stay hidden in.
const SEEDS_MAX: u64 = 2000;

/// So many worlds are run before it is looked whether one of them found it.
const AT_ONCE: usize = 16;

/// A defect, and the scenario that is made for such ones; random worlds where there is none.
const DEFECTS: [(&str, Option<&str>); 23] = [
    ("acknowledge before it is durable", None),
    ("commit before the index", Some("backup")),
    ("sweep without grace", None),
    ("ignore who is at work", Some("backup | prune")),
    ("trust a listing", None),
    ("take an unclear answer for failure and begin anew", Some("backup")),
    ("take another segment of the name for the same", None),
    ("copy heads first", Some("copy again")),
    ("stamp now instead of the source's time", None),
    ("drop an error of an upload", Some("backup")),
    ("use a nonce twice", None),
    ("count partial runs", Some("forget by policy")),
    ("fence nobody", Some("backup | given up")),
    ("check no signature", Some("forged head")),
    ("use what is condemned", Some("backup on what is condemned | prune")),
    ("check no digest", Some("copy")),
    ("look once before sweeping", Some("prune | backup")),
    ("fold heads by deleting first", Some("prune folds heads")),
    ("end what may still arrive", Some("backup whose head is late | prune")),
    ("erase a key that is needed", Some("backup | prune")),
    ("give up without a note", Some("backup | given up, keeper killed")),
    ("give up what is damaged once", Some("give up a lost head")),
    ("copy what does not show yet", Some("backup | copy where listings lag")),
];

/// Plants each, and returns how many stayed hidden.
pub fn prove(request: &Request) -> usize {
    let mut hidden = 0;
    for (name, scenario) in DEFECTS {
        let began = Instant::now();
        store::plant(Some(name));
        let mut worlds = 0;
        let found = scenario
            .and_then(|scenario| in_scenario(request, scenario, &mut worlds))
            .or_else(|| in_seeds(request, &mut worlds));
        store::plant(None);
        let seconds = began.elapsed().as_secs_f64();
        match found {
            Some(how) => println!("found after {worlds} worlds, {seconds:.1} s: {name}: {how}"),
            None => {
                hidden += 1;
                println!("NOT found in {worlds} worlds, {seconds:.1} s: {name}");
            }
        }
    }
    println!("sabotage: {} defects\n\n{} passed, {hidden} failed", DEFECTS.len(), DEFECTS.len() - hidden);
    hidden
}

/// Looks for the defect in every case of a scenario. Adds to `worlds` how many it took.
fn in_scenario(request: &Request, name: &str, worlds: &mut usize) -> Option<String> {
    let all = scenarios::all();
    let scenario = all.iter().find(|scenario| scenario.name == name).expect("the table names scenarios that are there");
    *worlds += 1;
    // What a defect breaks even in a calm world, a prepared state cannot be made with.
    let Ok(base) = catch_unwind(scenario.prepare) else {
        return Some(format!("{name}: not even its state can be made"));
    };
    let calm = exhaustive::run(scenario, &base, &exhaustive::Case::default(), false);
    if let Some(wrong) = calm.violations.first() {
        return Some(format!("{name}, when nothing goes wrong: {wrong}"));
    }
    let cases = exhaustive::cases(scenario, &base, &calm, request.depth);
    let run = |case: &exhaustive::Case| exhaustive::run(scenario, &base, case, false).violations;
    let (at, wrong) = first_due_to_it(request, &cases, run, worlds)?;
    Some(format!("{name}, case {at}: {wrong}"))
}

/// Looks for the defect in random worlds. Adds to `worlds` how many it took.
fn in_seeds(request: &Request, worlds: &mut usize) -> Option<String> {
    let seeds: Vec<u64> = (1..=SEEDS_MAX).collect();
    let run = |seed: &u64| swarm::run(&Plan::of(*seed), false).violations;
    let (at, wrong) = first_due_to_it(request, &seeds, run, worlds)?;
    Some(format!("seed {}: {wrong}", seeds[at]))
}

/// The first of some worlds in which something does not hold that holds without the defect.
fn first_due_to_it<T: Sync>(
    request: &Request,
    all: &[T],
    run: impl Fn(&T) -> Vec<String> + Sync,
    worlds: &mut usize,
) -> Option<(usize, String)> {
    for (n, some) in all.chunks(AT_ONCE).enumerate() {
        let ran = crate::spread(request.threads, some, &run);
        for (at, violations) in ran.iter().enumerate() {
            *worlds += 1;
            if let Some(wrong) = violations.first()
                && is_due_to_it(&|| run(&some[at]))
            {
                return Some((n * AT_ONCE + at, wrong.clone()));
            }
        }
    }
    None
}

/// Whether the same world is in order without the defect that is planted now: only then it was found.
fn is_due_to_it(run: &dyn Fn() -> Vec<String>) -> bool {
    let planted = store::planted();
    store::plant(None);
    let sound = run().is_empty();
    store::plant(planted.as_deref());
    sound
}
