//! What contradicts itself in a configuration whose keys are all well formed.
//!
//! What it is for: [`check`]. What it may not know: files, and whether anything it names is there: a configuration may be
//! written before what it describes exists.
//! Where data comes from and goes: typed settings, and the tree they were read from for places; problems.

use super::keys::nearest;
use super::schema::{
    FilesSource, Platform, PlatformName, PostgresSource, RepositoryName, Settings, Source, SourceName, SslMode,
};
use super::tree::{Place, Problem, Table, find};
use crate::open::Locator;
use sources::files::{Pattern, Select, SelectSpec};
use std::collections::BTreeSet;
use std::path::Path;

/// What was found.
#[derive(Default)]
pub(super) struct Lints {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Looks for everything that cannot be meant. `tree` is what `settings` was read from; `start` is its beginning.
pub(super) fn check(settings: &Settings, tree: &Table, start: &Place) -> Lints {
    let mut lints = Lints::default();
    let place = |path: &[&str]| find(tree, path).unwrap_or(start).clone();
    repositories(settings, &place, &mut lints);
    for (name, platform) in &settings.platform {
        check_platform(settings, (name, platform), &place, &mut lints);
        for (source_name, source) in &platform.source {
            let at = At { platform: name, source: source_name, place: &place };
            match source {
                Source::Files(files) => check_files(files, &at, &mut lints),
                Source::Postgres(postgres) => check_postgres(postgres, &at, &mut lints),
                Source::Later(_) => {}
            }
        }
    }
    lints
}

type PlaceOf<'a> = &'a dyn Fn(&[&str]) -> Place;

fn repositories(settings: &Settings, place: PlaceOf<'_>, lints: &mut Lints) {
    let mut seen: Vec<(&Locator, &str)> = Vec::new();
    for (name, repository) in &settings.repository {
        let name = name.as_str();
        if let Some((_, other)) = seen.iter().find(|(url, _)| **url == repository.url) {
            let what = format!("repository.{name}.url is where repository {other:?} is");
            lints.errors.push(Problem::new(&place(&["repository", name, "url"]), what));
        }
        seen.push((&repository.url, name));
        if let Some(original) = &repository.copy_from {
            let (key, here) = (format!("repository.{name}.copy_from"), place(&["repository", name, "copy_from"]));
            check_name(settings, original, &key, &here, lints);
            if original.as_str() == name {
                lints.errors.push(Problem::new(&here, format!("{key}: nothing is a copy of itself")));
            }
        }
        if repository.credentials.is_some() && !matches!(repository.url, Locator::S3(..)) {
            let what = format!("repository.{name}.credentials are for buckets, and its url is a path");
            lints.errors.push(Problem::new(&place(&["repository", name, "credentials"]), what));
        }
    }
}

/// Complains about the name of a repository that there is none of.
fn check_name(settings: &Settings, name: &RepositoryName, key: &str, place: &Place, lints: &mut Lints) {
    if settings.repository.contains_key(name) {
        return;
    }
    let problem = Problem::new(place, format!("{key}: there is no repository {:?}", name.to_string()));
    let known = settings.repository.keys().map(RepositoryName::as_str);
    lints.errors.push(match nearest(name.as_str(), known) {
        Some(near) => problem.help(format!("did you mean {near:?}?")),
        None => problem.help(format!("make it: [repository.{name}]")),
    });
}

fn check_platform(
    settings: &Settings,
    (name, platform): (&PlatformName, &Platform),
    place: PlaceOf<'_>,
    lints: &mut Lints,
) {
    let name = name.as_str();
    let here = place(&["platform", name, "repositories"]);
    for repository in &platform.repositories {
        check_name(settings, repository, &format!("platform.{name}.repositories"), &here, lints);
    }
    if platform.repositories.is_empty() && settings.repository.len() != 1 {
        let what = format!("platform.{name} does not say in which repositories it is kept");
        lints.errors.push(Problem::new(&here, what).help("write repositories = [\"NAME\"]"));
    }
    if platform.source.is_empty() {
        let what = format!("platform.{name} has no sources: there is nothing to back up");
        lints.warnings.push(Problem::new(&here, what).help(format!("write [platform.{name}.source.NAME]")));
    }
}

/// Which source is looked at.
struct At<'a> {
    platform: &'a PlatformName,
    source: &'a SourceName,
    place: PlaceOf<'a>,
}

impl At<'_> {
    /// Where a key of the source stands.
    fn place(&self, keys: &[&str]) -> Place {
        let path = ["platform", self.platform.as_str(), "source", self.source.as_str()];
        (self.place)(&[&path, keys].concat())
    }

    fn problem(&self, keys: &[&str], what: &str) -> Problem {
        let (platform, source) = (self.platform, self.source);
        let key: String = keys.iter().map(|key| format!(".{key}")).collect();
        Problem::new(&self.place(keys), format!("platform.{platform}.source.{source}{key}{what}"))
    }
}

fn check_files(files: &FilesSource, at: &At<'_>, lints: &mut Lints) {
    if files.paths.is_empty() && files.optional_paths.is_empty() {
        lints.errors.push(at.problem(&[], " names no paths").help("write paths = [\"/etc\", \"/home\"]"));
    }
    for (key, paths) in [("paths", &files.paths), ("optional_paths", &files.optional_paths)] {
        let has_deep = |path: &Path| path.components().any(|part| part.as_os_str() == "**");
        if paths.iter().any(|path| has_deep(path)) {
            let help = "name the directory: everything in it is backed up; say what not with exclude";
            lints.errors.push(at.problem(&[key], ": ** is no name").help(help));
        }
    }
    for text in &files.exclude {
        let pattern = Pattern { text: text.clone(), origin: "exclude".into() };
        let spec = SelectSpec { patterns: vec![pattern], ..SelectSpec::default() };
        if let Err(e) = Select::new(&spec) {
            let help = "write it as in a .gitignore file: *.log, cache/, /srv/**/tmp";
            lints.errors.push(at.problem(&["exclude"], &format!(": {e}")).help(help));
        }
    }
    if !files.encrypt_to.is_empty() {
        lints
            .warnings
            .push(at.problem(&["encrypt_to"], ": this version cannot seal to others: the source is not backed up"));
    }
}

fn check_postgres(postgres: &PostgresSource, at: &At<'_>, lints: &mut Lints) {
    if postgres.physical.is_none() && postgres.logical.is_none() && postgres.dumps.is_empty() {
        let help = "write physical = { wal = \"continuous\" }, logical = { globals = true }, or both";
        lints.errors.push(at.problem(&[], " does not say how it is backed up").help(help));
    }
    let mut names = BTreeSet::new();
    for dump in &postgres.dumps {
        if !names.insert(&dump.name) {
            let what = format!(": there are two of the name {:?}", dump.name.to_string());
            lints.errors.push(at.problem(&["dumps"], &what));
        }
    }
    let connect = &postgres.connect;
    let verifies = matches!(connect.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
    if verifies && connect.sslrootcert.is_none() {
        let what = " asks whose certificate it is, and sslrootcert does not say who is trusted";
        let help = "name a file; /etc/ssl/certs/ca-certificates.crt has those that the machine trusts";
        lints.errors.push(at.problem(&["connect", "sslmode"], what).help(help));
    }
    if connect.sslcert.is_some() != connect.sslkey.is_some() {
        let key = if connect.sslcert.is_some() { "sslcert" } else { "sslkey" };
        lints.errors.push(at.problem(&["connect", key], ": sslcert and sslkey belong together").help("name both"));
    }
    if postgres.connect.via.is_some() {
        let what = ": this version cannot go through something else: the source is not backed up";
        lints.warnings.push(at.problem(&["connect", "via"], what).help("name the host and port"));
    }
}
