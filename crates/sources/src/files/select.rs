//! What is in and what is out.
//!
//! It may not know how a tree is walked: it is asked about one path at a time, by a walk that does not descend into what is
//! out. Patterns come from the command line, the configuration, pattern files, and ignore files in the tree itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Files of this name in the tree say what to leave out below them, in the words of gitignore.
pub const IGNORE_FILE: &str = ".backstayignore";
/// The most bytes an ignore file or a pattern file may have.
pub const IGNORE_BYTES_MAX: u64 = 1 << 20;

/// Marks a directory whose content can be made again (<https://bford.info/cachedir/>).
pub(crate) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How a real [`CACHE_TAG`] begins.
pub(crate) const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// One exclude pattern and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern.
    pub text: String,
    /// Where it was given, for messages: `--exclude`, `backstay.toml: platform.web.exclude`.
    pub origin: String,
}

/// What to do with directories marked by a `CACHEDIR.TAG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caches {
    /// Store them.
    #[default]
    Store,
    /// Store the directory and its tag only.
    LeaveOut,
}

/// What to do at mount points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filesystems {
    /// Go on, unless what is mounted there is the kernel's state.
    #[default]
    All,
    /// Keep mount points as empty directories, except where a root lies behind them.
    OfTheRoots,
}

/// What to leave out, as people say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectSpec {
    /// Patterns. The last one that matches decides; one that begins with `!` takes in again.
    pub patterns: Vec<Pattern>,
    /// Files with one pattern per line, applied after `patterns`.
    pub pattern_files: Vec<PathBuf>,
    /// Cache directories.
    pub caches: Caches,
    /// Files of more bytes than this are left out.
    pub size_bytes_max: Option<u64>,
    /// Mount points.
    pub filesystems: Filesystems,
}

/// What to leave out, ready for use.
#[derive(Clone, Debug)]
pub struct Select {
    patterns: Gitignore,
    pub(crate) caches: Caches,
    pub(crate) size_bytes_max: u64,
    pub(crate) filesystems: Filesystems,
}

/// A pattern, or a file of patterns, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The pattern means nothing.
    #[error("exclude pattern {text:?} ({origin}): {why}")]
    Pattern {
        /// The pattern.
        text: String,
        /// Where it was given.
        origin: String,
        /// What is wrong.
        why: String,
    },
    /// The pattern file cannot be read.
    #[error("cannot read exclude patterns from {0:?}: {1}")]
    File(PathBuf, std::io::Error),
}

/// Whether a path is taken, and what decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    In,
    OutByPattern,
    OutByIgnoreFile,
}

impl Select {
    /// Prepares `spec`. A pattern that begins with `/` is an absolute path; one with a slash elsewhere matches those
    /// names in a row at any depth; one without a slash matches the name at any depth. All cover what lies below.
    ///
    /// # Errors
    /// A pattern that means nothing, or a pattern file that cannot be read; the message says which and why.
    pub fn new(spec: &SelectSpec) -> Result<Select, SelectError> {
        let mut builder = builder();
        // A class that is never closed is a mistake on a command line, though git takes it for literal text.
        builder.allow_unclosed_class(false);
        for pattern in &spec.patterns {
            add(&mut builder, &pattern.text, &pattern.origin)?;
        }
        for file in &spec.pattern_files {
            let bytes = read_patterns(file).map_err(|e| SelectError::File(file.clone(), e))?;
            for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
                let origin = || format!("{}, line {}", file.display(), number + 1);
                let Ok(text) = std::str::from_utf8(line) else {
                    let (text, why) = (String::from_utf8_lossy(line).into_owned(), "is not UTF-8".to_owned());
                    return Err(SelectError::Pattern { text, origin: origin(), why });
                };
                let text = text.trim_start_matches('\u{feff}').trim();
                if !text.is_empty() && !text.starts_with('#') {
                    add(&mut builder, text, &origin())?;
                }
            }
        }
        let patterns = builder.build().map_err(|e| SelectError::Pattern {
            text: format!("{} patterns", spec.patterns.len()),
            origin: "all together".to_owned(),
            why: e.to_string(),
        })?;
        Ok(Select {
            patterns,
            caches: spec.caches,
            size_bytes_max: spec.size_bytes_max.unwrap_or(u64::MAX),
            filesystems: spec.filesystems,
        })
    }

    /// Whether there are patterns at all.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether `path`, without its leading `/`, is taken. `ignores` are the ignore files above it with the length of the
    /// path of their directory, the deepest first; the plan's patterns come before them.
    pub(crate) fn judge<'a>(
        &self,
        path: &[u8],
        is_dir: bool,
        ignores: impl Iterator<Item = (usize, &'a Gitignore)>,
    ) -> Verdict {
        match self.patterns.matched(OsStr::from_bytes(path), is_dir) {
            Match::Ignore(_) => return Verdict::OutByPattern,
            Match::Whitelist(_) => return Verdict::In,
            Match::None => {}
        }
        for (dir_len, ignore) in ignores {
            let below = if dir_len == 0 { path } else { path.get(dir_len + 1..).unwrap_or_default() };
            match ignore.matched(OsStr::from_bytes(below), is_dir) {
                Match::Ignore(_) => return Verdict::OutByIgnoreFile,
                Match::Whitelist(_) => return Verdict::In,
                Match::None => {}
            }
        }
        Verdict::In
    }

    /// The pattern that leaves out `path`, without its leading `/`, though it was asked for: only one that begins with `/`
    /// does, since a root `/srv/tmp` is not meant by `tmp`.
    pub(crate) fn leaves_out_root(&self, path: &[u8], is_dir: bool) -> Option<&str> {
        match self.patterns.matched(OsStr::from_bytes(path), is_dir) {
            Match::Ignore(glob) => Some(glob.original()).filter(|text| text.starts_with('/')),
            _ => None,
        }
    }
}

/// The rules of an ignore file, and what is wrong with the lines that are none.
pub(crate) fn parse_ignore_file(bytes: &[u8]) -> (Gitignore, Vec<String>) {
    let mut builder = builder();
    let mut wrong = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(line) => {
                if let Err(e) = builder.add_line(None, line.trim_start_matches('\u{feff}')) {
                    wrong.push(format!("line {}: {e}", number + 1));
                }
            }
            Err(_) => wrong.push(format!("line {}: is not UTF-8", number + 1)),
        }
    }
    match builder.build() {
        Ok(rules) => (rules, wrong),
        Err(e) => {
            wrong.push(e.to_string());
            (Gitignore::empty(), wrong)
        }
    }
}

// Paths are matched without their leading slash, so this root never strips anything.
fn builder() -> GitignoreBuilder {
    GitignoreBuilder::new(Path::new("/"))
}

fn add(builder: &mut GitignoreBuilder, text: &str, origin: &str) -> Result<(), SelectError> {
    let bad = |why: String| SelectError::Pattern { text: text.to_owned(), origin: origin.to_owned(), why };
    let line = gitignore_line(text).map_err(|why| bad(why.to_owned()))?;
    builder.add_line(None, &line).map(drop).map_err(|e| bad(e.to_string()))
}

/// A pattern as a line of a gitignore file at `/`.
fn gitignore_line(text: &str) -> Result<String, &'static str> {
    let (not, pattern) = text.strip_prefix('!').map_or(("", text), |rest| ("!", rest));
    let mut pattern = pattern.to_owned();
    while pattern.contains("//") {
        pattern = pattern.replace("//", "/");
    }
    if pattern.is_empty() {
        return Err("is empty");
    }
    if pattern.starts_with('/') {
        pattern = without_dots(&pattern);
    }
    if pattern == "/" {
        return Err("matches everything");
    }
    if pattern.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("has a part . or .., which no path has: write the whole path, or a name");
    }
    if pattern.ends_with(' ') {
        pattern.insert(pattern.len() - 1, '\\');
    }
    let inner_slash = pattern.trim_end_matches('/').contains('/');
    let prefix = match inner_slash && !pattern.starts_with('/') && !pattern.starts_with("**/") {
        true => "**/",
        false if not.is_empty() && pattern.starts_with('#') => "\\",
        false => "",
    };
    Ok(format!("{not}{prefix}{pattern}"))
}

/// An absolute pattern with its parts `.` and `..` resolved as text, as those of roots are.
fn without_dots(pattern: &str) -> String {
    let mut parts = Vec::new();
    for part in pattern.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn read_patterns(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(IGNORE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > IGNORE_BYTES_MAX {
        return Err(std::io::Error::other(format!("has more than {IGNORE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(patterns: &[&str]) -> Result<Select, SelectError> {
        let pattern = |text: &&str| Pattern { text: (*text).to_owned(), origin: "--exclude".to_owned() };
        Select::new(&SelectSpec { patterns: patterns.iter().map(pattern).collect(), ..SelectSpec::default() })
    }

    /// Whether a walk that does not descend into what is out would take `path`.
    fn takes(select: &Select, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at);
        let above =
            ends.clone().all(|end| select.judge(&path.as_bytes()[..end], true, std::iter::empty()) == Verdict::In);
        above && select.judge(path.as_bytes(), false, std::iter::empty()) == Verdict::In
    }

    #[test]
    fn patterns_mean_what_people_expect() {
        for (patterns, out, taken) in [
            (&["*.o"][..], &["/a.o", "/x/y/z.o"][..], &["/a.oo", "/o/a"][..]),
            (
                &["/tmp/x/src/many"],
                &["/tmp/x/src/many", "/tmp/x/src/many/00/1"],
                &["/tmp/x/src/many2", "/y/tmp/x/src/many"],
            ),
            (&["/tmp/x/many/"], &["/tmp/x/many/1"], &["/tmp/x/many"]),
            (&["//tmp//x"], &["/tmp/x"], &["/tmp/y"]),
            (&["/tmp/y/../x/./z"], &["/tmp/x/z"], &["/tmp/x", "/tmp/y/z"]),
            (&["node_modules"], &["/node_modules/a", "/x/node_modules/b/c"], &["/x/node_modules2"]),
            (&["foo/bar"], &["/foo/bar", "/x/foo/bar/y"], &["/foo/x/bar", "/bar"]),
            (&["a/**/z"], &["/a/z", "/x/a/b/c/z"], &["/a/b"]),
            (&["**/cache/*.tmp"], &["/v/cache/1.tmp"], &["/v/cache/1", "/cache/x/1.tmp"]),
            (&["/home/*/.cache"], &["/home/me/.cache/x"], &["/home/me/you/.cache"]),
            (&["*.log", "!keep.log"], &["/a.log"], &["/keep.log"]),
            (&["/a/*", "!/a/b"], &["/a/c"], &["/a/b", "/a/b/c"]),
            (&["!x", "x"], &["/x"], &[]),
            (&["#x#"], &["/a/#x#"], &["/a/x"]),
            (&["a "], &["/a "], &["/a"]),
            (&["[ab].c"], &["/a.c"], &["/c.c"]),
        ] {
            let select = select(patterns).expect("is sound");
            out.iter().for_each(|path| assert!(!takes(&select, path), "{patterns:?} leaves out {path}"));
            taken.iter().for_each(|path| assert!(takes(&select, path), "{patterns:?} takes {path}"));
        }
    }

    #[test]
    fn a_pattern_that_means_nothing_is_named_with_its_origin() {
        for bad in ["", "/", "/a/..", "!", "[z-a]", "x[", "{a,b", "./x", "../x", "a/./b"] {
            let message = select(&["fine", bad]).expect_err(bad).to_string();
            assert!(message.contains(&format!("{bad:?} (--exclude)")), "{message}");
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("patterns");
        std::fs::write(&file, "\u{feff}# comment\n\n *.o \r\n[z-a]\n").expect("writes");
        let spec = SelectSpec { pattern_files: vec![file.clone()], ..SelectSpec::default() };
        let message = Select::new(&spec).expect_err("is bad").to_string();
        assert!(message.contains("[z-a]") && message.contains("patterns, line 4"), "{message}");
        std::fs::write(&file, "# comment\n\n *.o \r\n").expect("writes");
        assert!(!takes(&Select::new(&spec).expect("is sound"), "/x/a.o"));
        let spec = SelectSpec { pattern_files: vec![dir.path().join("none")], ..SelectSpec::default() };
        assert!(Select::new(&spec).expect_err("is missing").to_string().contains("none"));
    }

    #[test]
    fn only_an_absolute_pattern_leaves_out_a_root() {
        let select = select(&["tmp", "/srv/x"]).expect("is sound");
        assert_eq!(select.leaves_out_root(b"srv/tmp", true), None);
        assert_eq!(select.leaves_out_root(b"srv/x", true), Some("/srv/x"));
    }

    #[test]
    fn ignore_files_speak_of_what_is_below_them_and_the_deepest_is_heard_first() {
        let (outer, wrong) = parse_ignore_file(b"*.tmp\n/only-here\n\xff\n# no\nsub/deep\r\n");
        assert_eq!(wrong, ["line 3: is not UTF-8"]);
        let (inner, _) = parse_ignore_file(b"!a.tmp\n");
        let all = select(&["never"]).expect("is sound");
        let judge =
            |path: &str, ignores: &[(usize, &Gitignore)]| all.judge(path.as_bytes(), false, ignores.iter().copied());
        let (outer, inner) = ((3, &outer), (7, &inner));
        assert_eq!(judge("top/x.tmp", &[outer]), Verdict::OutByIgnoreFile);
        assert_eq!(judge("top/only-here", &[outer]), Verdict::OutByIgnoreFile);
        assert_eq!(judge("top/sub/only-here", &[outer]), Verdict::In);
        assert_eq!(judge("top/sub/deep", &[outer]), Verdict::OutByIgnoreFile);
        assert_eq!(judge("top/sub/a.tmp", &[inner, outer]), Verdict::In);
        assert_eq!(judge("top/sub/b.tmp", &[inner, outer]), Verdict::OutByIgnoreFile);
        assert_eq!(judge("top/sub/never", &[inner, outer]), Verdict::OutByPattern);
    }
}
