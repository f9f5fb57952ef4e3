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

/// A defect, and the scenario that is made for such ones; random worlds where there is none.
const DEFECTS: [(&str, Option<&str>); 20] = [
    ("acknowledge before it is durable", None),
    ("commit before the index", Some("backup")),
    ("sweep without grace", None),
    ("ignore who is at work", Some("prune condemns")),
    ("trust a listing", None),
    ("take an unclear answer for failure and begin anew", Some("backup")),
    ("take another segment of the name for the same", None),
    ("copy heads first", Some("copy again")),
    ("stamp now instead of the source's time", None),
    ("drop an error of an upload", Some("backup")),
    ("use a nonce twice", None),
    ("count partial runs", None),
    ("fence nobody", Some("backup | given up")),
    ("check no signature", Some("forged head")),
    ("use what is condemned", Some("backup on what is condemned")),
    ("check no digest", Some("copy")),
    ("look once before sweeping", Some("prune | backup")),
    ("fold heads by deleting first", Some("prune folds heads")),
    ("end what may still arrive", Some("backup")),
    ("erase a key that is needed", Some("prune | backup")),
];

/// Plants each, and returns how many stayed hidden.
pub fn prove(request: &Request) -> usize {
    let mut hidden = 0;
    for (name, scenario) in DEFECTS {
        let began = Instant::now();
        store::plant(Some(name));
        let found = scenario.and_then(|scenario| in_scenario(request, scenario)).or_else(|| in_seeds(request));
        store::plant(None);
        let seconds = began.elapsed().as_secs_f64();
        match found {
            Some(how) => println!("found in {seconds:.1} s: {name}: {how}"),
            None => {
                hidden += 1;
                println!("NOT found in {seconds:.1} s: {name}");
            }
        }
    }
    println!("sabotage: {} defects\n\n{} passed, {hidden} failed", DEFECTS.len(), DEFECTS.len() - hidden);
    hidden
}

fn in_scenario(request: &Request, name: &str) -> Option<String> {
    let all = scenarios::all();
    let scenario = all.iter().find(|scenario| scenario.name == name).expect("the table names scenarios that are there");
    // What a defect breaks even in a calm world, a prepared state cannot be made with.
    let Ok(base) = catch_unwind(scenario.prepare) else {
        return Some(format!("{name}: not even its state can be made"));
    };
    let calm = exhaustive::run(scenario, &base, &exhaustive::Case::default(), false);
    if let Some(wrong) = calm.violations.first() {
        return Some(format!("{name}, when nothing goes wrong: {wrong}"));
    }
    let cases = exhaustive::cases(scenario, &base, &calm, request.depth);
    for (n, some) in cases.chunks(64).enumerate() {
        let ran = crate::spread(request.threads, some, |case| exhaustive::run(scenario, &base, case, false).violations);
        for (at, wrong) in ran.iter().enumerate().filter_map(|(at, ran)| Some((at, ran.first()?))) {
            if is_due_to_it(&|| exhaustive::run(scenario, &base, &some[at], false).violations) {
                return Some(format!("{name}, case {}: {wrong}", n * 64 + at));
            }
        }
    }
    None
}

fn in_seeds(request: &Request) -> Option<String> {
    let seeds: Vec<u64> = (1..=SEEDS_MAX).collect();
    for some in seeds.chunks(64) {
        let run = |seed: &u64| swarm::run(&Plan::of(*seed), false).violations;
        let ran = crate::spread(request.threads, some, run);
        for (seed, wrong) in some.iter().zip(&ran).filter_map(|(seed, ran)| Some((seed, ran.first()?))) {
            if is_due_to_it(&|| swarm::run(&Plan::of(*seed), false).violations) {
                return Some(format!("seed {seed}: {wrong}"));
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
