//! The directories above the snapshots: by time, by id, by host, by tag, by source.
//!
//! What it is for: names for snapshots, as directories and links. What they hold is made once, when something is mounted.
//! What it may not know: what is in a snapshot, the kernel.
//! Where data comes from and goes: what is public of snapshots in; nodes by number out.

use repo::{Snapshot, percent_path};
use std::collections::BTreeMap;

/// Longest name of a file anywhere.
const NAME_BYTES_MAX: usize = 255;

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// Names and their numbers.
    Dir(BTreeMap<String, usize>),
    /// A link to elsewhere among these.
    Link(String),
    /// A snapshot, by its place in the list.
    Snapshot(usize),
}

/// The nodes; the first is the root.
pub(super) struct Forest(Vec<Tree>);

impl Forest {
    /// Directories for these snapshots, which are in the order of commits.
    pub(super) fn of(snapshots: &[Snapshot]) -> Forest {
        let mut forest = Forest(vec![Tree::Dir(BTreeMap::new())]);
        for (at, snapshot) in snapshots.iter().enumerate() {
            let name = forest.free(&["snapshots"], &snapshot.public.time);
            forest.put(&["snapshots"], &name, Tree::Snapshot(at));
            forest.link(&["ids"], &snapshot.id.short(), &name);
            let mut views = vec![vec!["hosts".to_owned(), snapshot.public.host.clone()]];
            views.extend(snapshot.tags.iter().map(|tag| vec!["tags".to_owned(), tag.clone()]));
            if let Some(source) = &snapshot.public.source {
                views.push(["sources"].into_iter().chain(source.split('/')).map(str::to_owned).collect());
            }
            for view in views {
                // What people wrote may be anything.
                let Some(dirs) = view.iter().map(|name| spelled(name)).collect::<Option<Vec<_>>>() else { continue };
                let dirs: Vec<&str> = dirs.iter().map(String::as_str).collect();
                forest.link(&dirs, &name, &name);
                forest.link(&dirs, "latest", &name);
            }
            forest.link(&["snapshots"], "latest", &name);
            forest.link(&[], "latest", &name);
        }
        forest
    }

    /// What has this number.
    pub(super) fn get(&self, number: usize) -> Option<&Tree> {
        self.0.get(number)
    }

    /// A name that is not taken yet.
    fn free(&mut self, dirs: &[&str], wanted: &str) -> String {
        let dir = self.dir(dirs);
        let taken = |name: &str| matches!(self.0.get(dir), Some(Tree::Dir(names)) if names.contains_key(name));
        let wanted = spelled(wanted).unwrap_or_else(|| "undated".to_owned());
        if !taken(&wanted) {
            return wanted;
        }
        let numbered = (2u64..).map(|n| format!("{wanted}-{n}"));
        numbered.into_iter().find(|name| !taken(name)).unwrap_or(wanted)
    }

    /// A link to a snapshot; replaces one of that name.
    fn link(&mut self, dirs: &[&str], name: &str, snapshot: &str) {
        let up = "../".repeat(dirs.len());
        let target = if dirs == ["snapshots"] { snapshot.to_owned() } else { format!("{up}snapshots/{snapshot}") };
        self.put(dirs, name, Tree::Link(target));
    }

    fn put(&mut self, dirs: &[&str], name: &str, tree: Tree) {
        let dir = self.dir(dirs);
        let known = match self.0.get(dir) {
            Some(Tree::Dir(names)) => names.get(name).copied(),
            _ => None,
        };
        match known.and_then(|number| self.0.get_mut(number)) {
            Some(old) => *old = tree,
            None => {
                let number = self.0.len();
                self.0.push(tree);
                if let Some(Tree::Dir(names)) = self.0.get_mut(dir) {
                    names.insert(name.to_owned(), number);
                }
            }
        }
    }

    /// The number of a directory, which is made where it is missing. Should a source be called like a snapshot of another,
    /// its directory wins.
    fn dir(&mut self, dirs: &[&str]) -> usize {
        let mut at = 0;
        for name in dirs {
            let known = match self.0.get(at) {
                Some(Tree::Dir(names)) => names.get(*name).copied(),
                _ => None,
            };
            let known = known.filter(|number| matches!(self.0.get(*number), Some(Tree::Dir(_))));
            at = known.unwrap_or_else(|| {
                let number = self.0.len();
                self.0.push(Tree::Dir(BTreeMap::new()));
                if let Some(Tree::Dir(names)) = self.0.get_mut(at) {
                    names.insert((*name).to_owned(), number);
                }
                number
            });
        }
        at
    }
}

/// Words as the name of a file: what cannot stand in one is written as `%XX`. `None` when nothing is left of it.
fn spelled(words: &str) -> Option<String> {
    let name = match words {
        "" => return None,
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        words => percent_path(words.as_bytes()).replace('/', "%2F"),
    };
    let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    Some(name[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(forest: &Forest, number: usize, path: &str, into: &mut Vec<String>) {
        match forest.get(number) {
            Some(Tree::Dir(names)) => {
                names.iter().for_each(|(name, number)| walk(forest, *number, &format!("{path}/{name}"), into));
            }
            Some(Tree::Link(target)) => into.push(format!("{path} -> {target}")),
            Some(Tree::Snapshot(at)) => into.push(format!("{path} = {at}")),
            None => into.push(format!("{path} is nowhere")),
        }
    }

    #[test]
    fn links_lead_to_the_snapshot_and_names_stay_names() {
        let mut forest = Forest(vec![Tree::Dir(BTreeMap::new())]);
        for (at, host) in ["one", "../x", "one"].into_iter().enumerate() {
            let name = forest.free(&["snapshots"], "2025-01-01T00:00:00Z");
            forest.put(&["snapshots"], &name, Tree::Snapshot(at));
            let host = spelled(host).expect("a name");
            forest.link(&["hosts", &host], &name, &name);
            forest.link(&["hosts", &host], "latest", &name);
        }
        let mut told = Vec::new();
        walk(&forest, 0, "", &mut told);
        assert_eq!(
            told,
            [
                "/hosts/..%2Fx/2025-01-01T00:00:00Z-2 -> ../../snapshots/2025-01-01T00:00:00Z-2",
                "/hosts/..%2Fx/latest -> ../../snapshots/2025-01-01T00:00:00Z-2",
                "/hosts/one/2025-01-01T00:00:00Z -> ../../snapshots/2025-01-01T00:00:00Z",
                "/hosts/one/2025-01-01T00:00:00Z-3 -> ../../snapshots/2025-01-01T00:00:00Z-3",
                "/hosts/one/latest -> ../../snapshots/2025-01-01T00:00:00Z-3",
                "/snapshots/2025-01-01T00:00:00Z = 0",
                "/snapshots/2025-01-01T00:00:00Z-2 = 1",
                "/snapshots/2025-01-01T00:00:00Z-3 = 2",
            ]
        );
    }

    #[test]
    fn words_that_are_no_names_are_spelled() {
        for (words, expect) in [
            ("plain", Some("plain")),
            ("a/b", Some("a%2Fb")),
            ("..", Some("%2E%2E")),
            ("a\0b\n", Some("a%00b%0A")),
            ("", None),
        ] {
            assert_eq!(spelled(words).as_deref(), expect);
        }
        assert!(spelled(&"ä".repeat(200)).is_some_and(|name| name.len() == 254));
    }
}
