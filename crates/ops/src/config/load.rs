//! Finding the files of a configuration, and making one of them.
//!
//! What it is for: [`Files`], [`read`]. What it may not know: which keys there are, and command lines.
//! Where data comes from and goes: TOML files of at most 1 MiB each; what [`super::Checked`] holds.

use super::check::check;
use super::keys::{Field, Later, Reader, Unused};
use super::schema::{Settings, Version};
use super::tree::{Entry, Node, Place, Problem, Table, Value, merge, parse};
use super::{Checked, Config};
use crate::failure::{Exit, Failure};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes a file of the configuration may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a configuration is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In this file, which must be there.
    Named(PathBuf),
    /// In `backstay.toml` and `conf.d/*.toml` of the first directory, or else in `backstay.toml` of the second. There may
    /// be none.
    Standard {
        /// The machine's: `/etc/backstay`.
        system: PathBuf,
        /// The user's: `$XDG_CONFIG_HOME/backstay`.
        user: Option<PathBuf>,
    },
}

impl Files {
    /// The files that are there, and their texts.
    fn read(&self) -> Result<Vec<(PathBuf, String)>, Failure> {
        let (system, user) = match self {
            Files::Named(file) => return Ok(vec![(absolute(file)?, read_text(file)?)]),
            Files::Standard { system, user } => (system, user),
        };
        let mut files = present(&system.join("backstay.toml"))?;
        for file in drop_ins(&system.join("conf.d"))? {
            files.extend(present(&file)?);
        }
        match user {
            Some(user) if files.is_empty() => present(&user.join("backstay.toml")),
            _ => Ok(files),
        }
    }
}

fn unreadable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, "config-unreadable", format!("cannot read the configuration {}: {e}", path.display()))
        .help("name another file with --config or BACKSTAY_CONFIG, or run this as a user who may read it")
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| unreadable(path, &e))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        match text.len() as u64 > FILE_BYTES_MAX {
            true => Err(std::io::Error::other("it is larger than 1 MiB")),
            false => Ok(text),
        }
    };
    read().map_err(|e| unreadable(path, &e))
}

/// The file, where there is one.
fn present(path: &Path) -> Result<Vec<(PathBuf, String)>, Failure> {
    match std::fs::metadata(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(unreadable(path, &e)),
        Ok(_) => Ok(vec![(absolute(path)?, read_text(path)?)]),
    }
}

/// The files of a directory that are part of a configuration, sorted by name.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(|e| unreadable(dir, &e))?,
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|e| unreadable(dir, &e))?;
    let is_part = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|extension| extension == "toml")
    };
    paths.retain(is_part);
    paths.sort();
    Ok(paths)
}

/// Reads the files and says everything that is wrong with them.
///
/// # Errors
/// `config-unreadable` with exit 2 for a file that cannot be read at all.
pub(super) fn read(files: &Files) -> Result<Checked, Failure> {
    let files = files.read()?;
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let mut reader = Reader::default();
    let tree = tree_of(&files, &mut reader);
    let mut checked = Checked { files: paths.clone(), config: None, errors: reader.problems, warnings: Vec::new() };
    let Some((start, tree)) = tree else {
        if files.is_empty() {
            checked.config = Some(Config { files: paths, settings: Settings::default() });
        }
        checked.errors.sort();
        return Ok(checked);
    };
    let mut reader = Reader::default();
    let node = Node { place: start.clone(), value: Value::Table(tree.clone()) };
    let settings = Settings::read(&node, "", &mut reader);
    checked.errors.append(&mut reader.problems);
    checked.warnings.extend(reader.unused.iter().map(|((what, name), unused)| told(*what, name, unused)));
    if let Some(settings) = settings {
        let mut lints = check(&settings, &tree, &start);
        checked.errors.append(&mut lints.errors);
        checked.warnings.append(&mut lints.warnings);
        if checked.errors.is_empty() {
            checked.config = Some(Config { files: paths, settings });
        }
    }
    checked.errors.sort();
    checked.warnings.sort();
    Ok(checked)
}

/// One tree of all files, and its beginning; `None` where there is none that could be read further.
fn tree_of(files: &[(PathBuf, String)], reader: &mut Reader) -> Option<(Place, Table)> {
    let mut tree = Table::new();
    let mut is_ours = true;
    for (path, text) in files {
        let file: Arc<Path> = path.as_path().into();
        let mut table = match parse(&file, text) {
            Ok(table) => table,
            Err(problems) => {
                reader.problems.extend(problems);
                is_ours = false;
                continue;
            }
        };
        // Each file says for itself which version it was written for; keys of a later one would all seem wrong.
        let begin = Place { file, line: 1, column: 1 };
        let version = table.remove("version").unwrap_or_else(|| {
            let problem = Problem::new(&begin, "version is missing").help("write version = 1 at the top of each file");
            reader.problem(problem);
            Entry { key: begin.clone(), node: Node { place: begin, value: Value::Integer(1) } }
        });
        is_ours &= Version::read(&version.node, "version", reader).is_some();
        tree.entry("version".to_owned()).or_insert(version);
        merge(&mut tree, table, &mut reader.problems);
    }
    let start = Place { file: files.first()?.0.as_path().into(), line: 1, column: 1 };
    is_ours.then_some((start, tree))
}

/// One line for all uses of something that has no effect yet.
fn told(what: Later, name: &str, unused: &Unused) -> Problem {
    let times = if unused.count == 1 { String::new() } else { format!(" ({} times, this is the first)", unused.count) };
    let what = match what {
        Later::Key => format!("the key {name:?} is not used by this version{times}"),
        Later::Kind => format!("sources of kind {name:?} are not backed up by this version{times}"),
    };
    Problem::new(&unused.first, what)
}

#[cfg(test)]
mod tests;
