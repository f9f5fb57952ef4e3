//! Named seeds: worlds that failed once, and must never fail again.

use crate::request::Request;
use crate::swarm::{self, Plan};
use std::path::Path;

/// What a file of `sim/seeds` says.
struct Named {
    name: String,
    plan: Plan,
}

/// Runs every named seed, and returns how many fail.
pub fn replay(request: &Request) -> usize {
    let named = match read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds"))) {
        Ok(named) => named,
        Err(what) => {
            eprintln!("{what}");
            return 1;
        }
    };
    let ran = crate::spread(request.threads, &named, |named| swarm::run(&named.plan, false).violations);
    let mut failed = 0;
    for (named, violations) in named.iter().zip(&ran) {
        if let Some(wrong) = violations.first() {
            failed += 1;
            eprintln!("  {} (seed {}): {wrong}", named.name, named.plan.seed);
        }
    }
    println!("named seeds: {}\n\n{} passed, {failed} failed", named.len(), named.len() - failed);
    failed
}

fn read(dir: &Path) -> Result<Vec<Named>, String> {
    let cannot = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).map_err(cannot)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            parse(&std::fs::read_to_string(path).map_err(cannot)?).map_err(|e| format!("{}: {e}", path.display()))
        })
        .collect()
}

/// Lines of `key = value`: `seed`, `name`, and what is left out of the seed's plan.
fn parse(text: &str) -> Result<Named, String> {
    let (mut seed, mut name, mut jobs, mut faults) = (None, None, Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{line}: no key = value"))?;
        let value = value.trim();
        let bare = value.trim_matches('"').to_owned();
        let list =
            || value.trim_matches(['[', ']']).split(", ").map(|part| part.trim_matches('"').to_owned()).collect();
        match key.trim() {
            "seed" => seed = Some(bare.parse::<u64>().map_err(|_| format!("{value}: no seed"))?),
            "name" => name = Some(bare),
            "without_jobs" => jobs = list(),
            "without_faults" => faults = list(),
            "found" => {}
            other => return Err(format!("{other}: no such key")),
        }
    }
    let mut plan = Plan::of(seed.ok_or("no seed")?);
    for (host, life) in plan.lives.iter_mut().enumerate() {
        let mut n = 0;
        life.jobs.retain(|_| {
            n += 1;
            !jobs.contains(&format!("{host}.{}", n - 1))
        });
    }
    swarm::leave_out(&mut plan, &faults);
    Ok(Named { name: name.ok_or("no name")?, plan })
}
