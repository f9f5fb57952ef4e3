//! One libFuzzer program for all targets: the variable `BACKSTAY_FUZZ` names one of them; `fuzz/run` sets it.
//!
//! What it is for: finds inputs that make a decoder, or the restore, break its word. The targets stand in the crates that
//! they are about, in modules `fuzzing`.
//! What it may not know: what a target does with its bytes.
//! Where data comes from and goes: bytes from libFuzzer to a target; without a name all names to standard output, with
//! `seed` seeds to `corpus`.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

type Target = fn(&[u8]) -> bool;

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn targets() -> impl Iterator<Item = &'static (&'static str, Target)> {
    repo::fuzzing::TARGETS.iter().chain(sources::fuzzing::TARGETS).chain(ops::fuzzing::TARGETS)
}

/// Finds the target that was asked for, or does what else was.
fn choose() -> Target {
    let wanted = std::env::var("BACKSTAY_FUZZ").unwrap_or_default();
    match wanted.as_str() {
        "" => {
            targets().for_each(|(name, _)| println!("{name}"));
            std::process::exit(0);
        }
        "seed" => {
            write_seeds(Path::new("corpus")).expect("the corpora can be written");
            std::process::exit(0);
        }
        name => targets().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("there is no target {name:?}")).1,
    }
}

fn write_seeds(corpora: &Path) -> io::Result<()> {
    let seeds = [repo::fuzzing::seeds(), sources::fuzzing::seeds(), ops::fuzzing::seeds()].concat();
    for (number, (target, bytes)) in seeds.iter().enumerate() {
        let corpus = corpora.join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::write(corpus.join(format!("seed-{number:03}")), bytes)?;
    }
    Ok(())
}

fuzz_target!(
    init: {
        CHOSEN.get_or_init(choose);
    },
    |data: &[u8]| -> Corpus {
        CHOSEN.get_or_init(choose)(data);
        Corpus::Keep
    }
);
