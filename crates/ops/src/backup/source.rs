//! Backing up a source of the configuration.
//!
//! What it is for: [`backup_source`]: which kind of source is backed up how.
//! What it may not know: where the configuration came from, and which repository it is.
//! Where data comes from and goes: a [`Source`]; for each kind a request to what backs that kind up.

use super::{Files, Reading, Report, Request, Step, backup_files};
use crate::config::{FilesSource, PlatformName, Source, SourceName};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::postgres::Cluster;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use repo::Repository;
use sources::files::{Caches, Filesystems, Pattern, SelectSpec};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A source, and how this run takes it.
pub struct SourceRun {
    /// Its platform.
    pub platform: PlatformName,
    /// Its name.
    pub name: SourceName,
    /// What it is.
    pub source: Source,
    /// How it is taken.
    pub form: Form,
    /// Whether unchanged files are read again.
    pub reading: Reading,
    /// How many files to read at the same time; as many as there are processors when `None`.
    pub readers: Option<usize>,
}

/// How a source is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As its files; a cluster together with its log.
    Physical,
    /// As what its server says is in it: dumps of databases.
    Logical,
}

impl Form {
    /// The forms in which a source is taken, where `wanted` does not say one; then that one, or none where the source does not
    /// know it. Dumps need not be configured to be asked for.
    pub fn of(source: &Source, wanted: Option<Form>) -> Vec<Form> {
        let configured = |form: &Form| match (source, form) {
            (Source::Postgres(postgres), Form::Physical) => postgres.physical.is_some(),
            (Source::Postgres(postgres), Form::Logical) => {
                wanted.is_some() || postgres.logical.is_some() || !postgres.dumps.is_empty()
            }
            (_, form) => *form == Form::Physical,
        };
        let forms = [Form::Physical, Form::Logical].into_iter().filter(configured);
        forms.filter(|form| wanted.is_none_or(|wanted| *form == wanted)).collect()
    }
}

/// `PLATFORM/SOURCE`, as snapshots name it.
impl fmt::Display for SourceRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.platform, self.name)
    }
}

/// Takes a snapshot of a source. When this returns `Ok` with one, it survives power loss. `request.what` is the same run.
///
/// # Errors
/// `not-yet` with exit 2 for a kind of source, or a way to reach one, that this version does not have; as
/// [`super::backup`]. There is no snapshot then.
pub fn backup_source(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request,
    run: &SourceRun,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    match &run.source {
        Source::Files(files) if !files.encrypt_to.is_empty() => {
            Err(not_yet(run, "seal to other recipients (encrypt_to)"))
        }
        Source::Files(files) => backup_files(ctx, repository, request, &files_of(run, files), on),
        Source::Postgres(postgres) => {
            let cluster = Cluster::of(&run.to_string(), postgres)?;
            match run.form {
                Form::Physical => crate::postgres::base::backup(ctx, repository, &cluster, request, on),
                Form::Logical => crate::postgres::logical::backup(ctx, repository, (&cluster, postgres), request, on),
            }
        }
        Source::Later(kind) => Err(not_yet(run, &format!("back up sources of kind {kind}"))),
    }
}

fn not_yet(run: &SourceRun, what: &str) -> Failure {
    Failure::new(Exit::Usage, "not-yet", format!("cannot back up {run}: this version cannot {what} yet"))
        .help("back up another source of the platform by its name: PLATFORM/SOURCE")
}

fn files_of(run: &SourceRun, files: &FilesSource) -> Files {
    let named = files.paths.iter().flat_map(|path| expand(path));
    let optional = files.optional_paths.iter().flat_map(|path| expand(path)).filter(|path| is_there(path));
    let origin = format!("platform.{}.source.{}.exclude", run.platform, run.name);
    let patterns = files.exclude.iter().map(|text| Pattern { text: text.clone(), origin: origin.clone() });
    Files {
        paths: named.chain(optional).collect(),
        // Its paths are absolute.
        current: "/".into(),
        select: SelectSpec {
            patterns: patterns.collect(),
            pattern_files: files.exclude_files.clone(),
            caches: if files.exclude_caches { Caches::LeaveOut } else { Caches::Store },
            size_bytes_max: files.exclude_larger_than.map(|size| size.0),
            filesystems: if files.one_file_system { Filesystems::OfTheRoots } else { Filesystems::All },
        },
        sqlite: files.sqlite,
        reading: run.reading,
        readers: run.readers,
    }
}

fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// The paths that an absolute path with wildcards stands for, sorted. One that is there as it stands, or stands for
/// nothing, is itself: that it is missing is said where paths are looked at.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let is_wild = |text: &[u8]| text.iter().any(|byte| b"*?[".contains(byte));
    if !is_wild(pattern.as_os_str().as_bytes()) || is_there(pattern) {
        return vec![pattern.to_path_buf()];
    }
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let text = part.as_os_str();
        match names(text).filter(|_| matches!(part, Component::Normal(_)) && is_wild(text.as_bytes())) {
            Some(names) => found = found.iter().flat_map(|dir| matching(dir, &names)).collect(),
            None => found.iter_mut().for_each(|path| path.push(text)),
        }
    }
    found.retain(|path| is_there(path));
    // The slash at the end that asks for what is behind a link.
    if pattern.as_os_str().as_bytes().ends_with(b"/") {
        found.iter_mut().for_each(|path| path.push(""));
    }
    found.sort();
    if found.is_empty() { vec![pattern.to_path_buf()] } else { found }
}

/// What tells the names that one part of a path stands for; `None` where it makes no sense as a pattern.
fn names(part: &std::ffi::OsStr) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new("/");
    builder.add_line(None, &format!("/{}", part.to_str()?)).ok()?;
    builder.build().ok()
}

fn matching(dir: &Path, names: &Gitignore) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let meant = entries.filter(|entry| names.matched(Path::new("/").join(entry.file_name()), false).is_ignore());
    meant.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_taken_in_every_way_that_is_configured_and_files_in_one() {
        let source = |keys: &str| {
            let dir = tempfile::tempdir().expect("temp dir");
            let text = format!(
                "version = 1\nrepository.main.url = \"r\"\n[platform.p.source.s]\n{keys}\n[platform.p.source.s.connect]\n"
            );
            let text = if keys.contains("files") { text.replace("[platform.p.source.s.connect]\n", "") } else { text };
            let file = dir.path().join("backstay.toml");
            std::fs::write(&file, text).expect("writes");
            let config = crate::config::Config::load(&crate::config::Files::Named(file)).expect("is good");
            config.source("p/s").expect("is there").2.clone()
        };
        let both = source("kind = \"postgres\"\nphysical = {}\nlogical = {}");
        let physical = source("kind = \"postgres\"\nphysical = {}");
        let dumps = source("kind = \"postgres\"\ndumps = [{ name = \"d\" }]");
        let files = source("kind = \"files\"\npaths = [\"/etc\"]");
        use Form::{Logical, Physical};
        for (source, wanted, expect) in [
            (&both, None, &[Physical, Logical][..]),
            (&both, Some(Logical), &[Logical]),
            (&physical, None, &[Physical]),
            // Nobody has to configure what is asked for once.
            (&physical, Some(Logical), &[Logical]),
            (&dumps, None, &[Logical]),
            (&dumps, Some(Physical), &[]),
            (&files, None, &[Physical]),
            (&files, Some(Logical), &[]),
        ] {
            assert_eq!(Form::of(source, wanted), expect, "{source:?} {wanted:?}");
        }
    }

    #[test]
    fn wildcards_stand_for_what_is_there_and_nothing_stands_for_itself() {
        let dir = tempfile::tempdir().expect("temp dir");
        for name in ["a/x.session", "a/x.session-journal", "a/.hidden.session", "a/y", "b/x.session", "[1]/z"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("mkdir");
            std::fs::write(path, "").expect("writes");
        }
        let expanded = |pattern: &str| -> Vec<String> {
            let below = |path: &PathBuf| {
                let bytes = path.as_os_str().as_bytes();
                let root = dir.path().as_os_str().len() + 1;
                String::from_utf8(bytes[root..].to_vec()).expect("text")
            };
            expand(&dir.path().join(pattern)).iter().map(below).collect()
        };
        for (pattern, expect) in [
            ("a/*.session*", &["a/.hidden.session", "a/x.session", "a/x.session-journal"][..]),
            ("?/x.session", &["a/x.session", "b/x.session"]),
            ("*/y", &["a/y"]),
            ("[ab]/", &["a/", "b/"]),
            ("[1]/z", &["[1]/z"]),
            ("none/*", &["none/*"]),
            ("none", &["none"]),
        ] {
            assert_eq!(expanded(pattern), expect, "{pattern}");
        }
    }
}
