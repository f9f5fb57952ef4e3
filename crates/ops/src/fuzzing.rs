//! Entry points for fuzzing: what people write on command lines, and in addresses.
//!
//! What it is for: one function per target, for the program in `fuzz/` and for the test that replays its corpora.
//! What it may not know: libFuzzer. It is compiled for tests and for fuzzing only.
//! Where data comes from and goes: bytes from a fuzzer or a corpus; whether they made sense goes back.

use crate::Locator;
use crate::open::split_words;
use crate::select::{Filter, parse_size, parse_span, parse_time};
use repo::{percent_path, unpercent_path};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use store::Timestamp;

/// Takes hostile bytes and says whether they made sense. Panics where something breaks its word.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names that their corpora have.
pub const TARGETS: &[(&str, Target)] = &[("times", times), ("words", words)];

/// Moments, lengths of time and sizes, of any clock: what is understood can be shown, and reads as the same moment again.
fn times(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let told = [0, 1_700_000_000_000_000_000, i128::from(i64::MAX) * 1_000_000_000, i128::MIN / 2];
    let mut sound = false;
    for now in told {
        if let Ok(at) = parse_time(&text, Timestamp(now)) {
            let shown = repo::time::text(at);
            let again = parse_time(&shown, Timestamp(now)).expect("what was shown can be read");
            assert_eq!(repo::time::text(again), shown);
            sound = true;
        }
    }
    let span = parse_span(&text).map(|span| parse_span(&format!("{}s", span.as_secs())) == Some(span));
    let size = parse_size(&text).map(|size| parse_size(&size.to_string()) == Some(size));
    assert!(span != Some(false) && size != Some(false));
    sound || span.is_some() || size.is_some()
}

/// Command lines, addresses of repositories, and filters.
fn words(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    Locator::parse(&text).ok();
    let filter = Filter::new(&[], &[text.clone().into_owned()], &[OsStr::from_bytes(data)]);
    for path in &filter.paths {
        assert_eq!(percent_path(&unpercent_path(path)), *path);
    }
    let Ok(words) = split_words(&text) else { return false };
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    let line = quoted.collect::<Vec<_>>().join(" ");
    assert_eq!(split_words(&line).ok(), Some(words), "quotes keep every word as it is");
    true
}

/// Seeds for every target, each with the name of its target.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let times =
        ["now", "2025-12-09T14:30:00Z", "2025-12-09 14:30", "2025-12-09", "-2h", "1d12h", "4w", "1.5GiB", "512K"];
    let words = ["cat '/a b' \"c\\\"d\" e\\ f", "file:///srv/repo", "s3://bucket/x", "a,b, c", "'", "/srv/%41/.."];
    let of = |name, texts: &[&str]| texts.iter().map(|text| (name, text.as_bytes().to_vec())).collect::<Vec<_>>();
    [of("times", &times), of("words", &words)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_corpus_file_is_handled() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let files = std::fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
            let inputs = files.map(|file| std::fs::read(file.expect("lists").path()).expect("reads"));
            let understood = inputs.filter(|input| target(input)).count();
            assert!(understood > 0, "nothing in the corpus of {name} makes sense");
        }
    }

    #[test]
    fn every_seed_is_handled() {
        let seeds = seeds();
        for (name, target) in TARGETS {
            assert!(seeds.iter().filter(|(of, _)| of == name).any(|(_, seed)| target(seed)));
        }
    }
}
