//! Which entries of a snapshot are wanted: includes and excludes.
//!
//! It may not know the target. `plan` asks it for each entry, handing down what it said of the directory above.

use super::restored::{RestoreError, RestorePlan};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use repo::{is_within, key_of_path, path_of_key};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What the patterns say of something and, unless they say otherwise, of all that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    included: bool,
    excluded: bool,
}

impl Verdict {
    /// Whether it is wanted.
    pub fn picked(self) -> bool {
        self.included && !self.excluded
    }
}

/// Includes and excludes.
pub(super) struct Pick {
    include: Option<Rules>,
    exclude: Option<Rules>,
}

struct Rules {
    // Path keys: these and all under them.
    literal: Vec<Vec<u8>>,
    globs: Gitignore,
}

impl Pick {
    /// The patterns of a plan.
    ///
    /// # Errors
    /// `Pattern` for one that makes no sense.
    pub fn new(plan: &RestorePlan) -> Result<Self, RestoreError> {
        Ok(Pick { include: Rules::new(&plan.include)?, exclude: Rules::new(&plan.exclude)? })
    }

    /// What holds for the root, before any pattern was asked.
    pub fn start(&self) -> Verdict {
        Verdict { included: self.include.is_none(), excluded: false }
    }

    /// What the patterns say of `key`, when they said `above` of the directory that it is in.
    pub fn child(&self, above: Verdict, key: &[u8], is_dir: bool) -> Verdict {
        let decide = |rules: &Option<Rules>, above: bool| match rules {
            None => above,
            Some(rules) => above || rules.matches(key, is_dir),
        };
        Verdict { included: decide(&self.include, above.included), excluded: decide(&self.exclude, above.excluded) }
    }

    /// What the patterns say of `key`, whatever it is in.
    pub fn of(&self, key: &[u8], is_dir: bool) -> Verdict {
        if self.include.is_none() && self.exclude.is_none() {
            return self.start();
        }
        let mut verdict = self.start();
        let ends = key.iter().enumerate().filter(|(_, b)| **b == 0).map(|(at, _)| at);
        for end in ends {
            verdict = self.child(verdict, key.get(..end).unwrap_or_default(), true);
        }
        if key.is_empty() { verdict } else { self.child(verdict, key, is_dir) }
    }

    /// The subtrees outside which nothing in `within` is wanted, in order, none in another.
    pub fn subtrees(&self, within: &[u8]) -> Vec<Vec<u8>> {
        let Some(rules) = self.include.as_ref().filter(|rules| rules.globs.is_empty()) else {
            return vec![within.to_vec()];
        };
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for key in &rules.literal {
            if is_within(within, key) {
                keys.push(within.to_vec());
            } else if is_within(key, within) {
                keys.push(key.clone());
            }
        }
        keys.sort();
        keys.dedup();
        let mut outer: Vec<Vec<u8>> = Vec::new();
        for key in keys {
            if !outer.last().is_some_and(|above| is_within(&key, above)) {
                outer.push(key);
            }
        }
        outer
    }
}

impl Rules {
    fn new(patterns: &[String]) -> Result<Option<Self>, RestoreError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let mut literal = Vec::new();
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            let refuse = |why: String| RestoreError::Pattern { pattern: pattern.clone(), why };
            let key = key_of_path(pattern.as_bytes());
            let is_plain = key.is_some() && !pattern.contains(['*', '?', '[', '\\']);
            // A file may really be called `[x]`: an absolute path stands for itself as well.
            literal.extend(key);
            if !is_plain {
                if pattern.trim().is_empty() {
                    return Err(refuse("it is empty".into()));
                }
                builder.add_line(None, pattern).map_err(|e| refuse(e.to_string()))?;
            }
        }
        let refuse = |e: ignore::Error| RestoreError::Pattern { pattern: patterns.join(" "), why: e.to_string() };
        Ok(Some(Rules { literal, globs: builder.build().map_err(refuse)? }))
    }

    fn matches(&self, key: &[u8], is_dir: bool) -> bool {
        if self.literal.iter().any(|literal| literal == key) {
            return true;
        }
        if self.globs.is_empty() || key.is_empty() {
            return false;
        }
        let path = path_of_key(key);
        matches!(self.globs.matched(OsStr::from_bytes(&path), is_dir), Match::Ignore(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(include: &[&str], exclude: &[&str]) -> Pick {
        let texts = |list: &[&str]| list.iter().map(|s| (*s).to_string()).collect();
        let plan = RestorePlan { include: texts(include), exclude: texts(exclude), ..RestorePlan::new("/none") };
        Pick::new(&plan).expect("patterns")
    }

    #[test]
    fn patterns_pick_what_they_name_and_all_under_it() {
        let check = |include: &[&str], exclude: &[&str], path: &str, expect: bool| {
            let key = key_of_path(path.as_bytes()).expect("absolute");
            let picked = pick(include, exclude).of(&key, false).picked();
            assert_eq!(picked, expect, "include {include:?} exclude {exclude:?}: {path}");
        };
        check(&[], &[], "/a/b", true);
        check(&["/a"], &[], "/a/b", true);
        check(&["/a"], &[], "/ab", false);
        check(&["/a/[x]"], &[], "/a/[x]/y", true);
        check(&["*.log"], &[], "/a/b.log", true);
        check(&["*.log"], &[], "/a/b.txt", false);
        check(&["/a"], &["*.log"], "/a/b.log", false);
        check(&[], &["cache/"], "/a/cache/x", false);
        check(&[], &["cache/"], "/a/cache", true);
        check(&[], &["/a/b"], "/a/b/c", false);
        check(&[], &["*.log", "!keep.log"], "/a/keep.log", true);
        check(&["/srv/**/tmp"], &[], "/srv/x/y/tmp/z", true);
    }

    #[test]
    fn absolute_includes_spare_the_rest_of_the_snapshot() {
        let keys = |include: &[&str], within: &[u8]| pick(include, &[]).subtrees(within);
        assert_eq!(keys(&["/b", "/a/x", "/a"], b""), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(keys(&["/a"], b"a\0b"), [b"a\0b".to_vec()]);
        assert_eq!(keys(&["/c"], b"a"), Vec::<Vec<u8>>::new());
        assert_eq!(keys(&["/a", "*.log"], b""), [b"".to_vec()]);
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named() {
        let plan = RestorePlan { include: vec!["[z-a]".into()], ..RestorePlan::new("/none") };
        match Pick::new(&plan).err() {
            Some(RestoreError::Pattern { pattern, .. }) => assert_eq!(pattern, "[z-a]"),
            other => panic!("{other:?}"),
        }
    }
}
