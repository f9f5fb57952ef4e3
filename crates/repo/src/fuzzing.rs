//! Entry points for fuzzing: hostile bytes in, no panic, no endless work, and what is understood can be written again.
//!
//! What it is for: one function per decoder, for the program in `fuzz/` and for the test that replays its corpora. Where a
//! decoder stands behind authentication, the bytes are sealed and signed with valid keys first: a writer may be hostile.
//! What it may not know: libFuzzer. It is compiled for tests and for fuzzing only.
//! Where data comes from and goes: bytes from a fuzzer or a corpus; whether they made sense goes back.

mod metadata;
mod objects;
mod seeds;
mod site;

pub use seeds::seeds;

/// Takes hostile bytes and says whether they made sense. Panics where a decoder breaks its word.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names that their corpora have.
pub const TARGETS: &[(&str, Target)] = &[
    ("numbers", metadata::numbers),
    ("paths", metadata::paths),
    ("entries", metadata::entries),
    ("tree", metadata::tree),
    ("list", metadata::list),
    ("record", objects::record),
    ("pack", objects::pack),
    ("index", objects::index),
    ("snapshot", objects::snapshot),
    ("envelope", objects::envelope),
    ("segment", objects::segment),
    ("keys", objects::keys),
    ("config", objects::config),
];

/// The byte strings in `data`, each behind its length in two bytes; the last one may be cut short.
fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        parts.push(part);
        data = rest;
    }
    parts
}

/// What [`parts`] takes apart.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for part in parts {
        let len = u16::try_from(part.len()).expect("seeds have small parts");
        data.extend_from_slice(&len.to_le_bytes());
        data.extend_from_slice(part);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the corpus lies in files of this repository")]
    fn every_corpus_file_is_handled() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let files = std::fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
            let inputs = files.map(|file| std::fs::read(file.expect("lists").path()).expect("reads"));
            let mut handled = 0;
            for input in inputs {
                target(&input);
                handled += 1;
            }
            assert!(handled > 0, "there is no corpus of {name}");
        }
    }

    #[test]
    fn every_target_has_a_seed_that_gets_through_its_decoder() {
        let seeds = seeds();
        for (name, target) in TARGETS {
            let mut of_target = seeds.iter().filter(|(of, _)| of == name);
            assert!(of_target.any(|(_, seed)| target(seed)), "no seed of {name} makes sense");
        }
    }
}
