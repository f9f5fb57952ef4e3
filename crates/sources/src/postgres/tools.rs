//! The programs of PostgreSQL, of the right major version.
//!
//! It starts nothing but `--version`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    dir: PathBuf,
    major: u32,
}

/// None were found.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: install that of {major}, or name its directory as `bin` in the configuration",
    match too_old {
        Some(version) => format!("{program} is of PostgreSQL {version}, which is older than the server's {major}"),
        None => format!("cannot find {program} of PostgreSQL {major} (looked in {looked})"),
    }
)]
pub struct NoTools {
    /// The program that was looked for.
    pub program: String,
    /// The version.
    pub major: u32,
    /// Where it was looked for.
    pub looked: String,
    /// The version of one that is too old, where there is one.
    pub too_old: Option<u32>,
}

impl Tools {
    /// The directory that has `program` of this major version; where `configured` says so, only there.
    ///
    /// # Errors
    /// [`NoTools`].
    pub fn find(program: &str, major: u32, configured: Option<&Path>) -> Result<Tools, NoTools> {
        let dirs: Vec<PathBuf> = match configured {
            Some(dir) => vec![dir.to_owned()],
            None => {
                let usual = [
                    format!("/usr/lib/postgresql/{major}/bin"),
                    format!("/usr/pgsql-{major}/bin"),
                    "/usr/local/pgsql/bin".to_owned(),
                ];
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).chain(usual.map(PathBuf::from)).collect()
            }
        };
        let found = dirs.iter().find(|dir| version_of(&dir.join(program)) == Some(major));
        found.map(|dir| Tools { dir: dir.clone(), major }).ok_or_else(|| {
            let looked: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            NoTools { program: program.to_owned(), major, looked: looked.join(", "), too_old: None }
        })
    }

    /// The directory that has `program` of this major version, or else of the next later one: a client of a later version
    /// understands a server, and an earlier one does not.
    ///
    /// # Errors
    /// [`NoTools`], with the latest of those that are too old.
    pub fn find_client(program: &str, major: u32, configured: Option<&Path>) -> Result<Tools, NoTools> {
        let missing = match Tools::find(program, major, configured) {
            Ok(tools) => return Ok(tools),
            Err(missing) => missing,
        };
        let mut dirs: Vec<PathBuf> = match configured {
            Some(dir) => vec![dir.to_owned()],
            None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect(),
        };
        if configured.is_none() {
            let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            dirs.extend(versions.map(|version| version.path().join("bin")));
        }
        let found = dirs.iter().filter_map(|dir| Some((version_of(&dir.join(program))?, dir)));
        let (later, older): (Vec<_>, Vec<_>) = found.partition(|(version, _)| *version >= major);
        match later.into_iter().min_by_key(|(version, _)| *version) {
            Some((major, dir)) => Ok(Tools { dir: dir.clone(), major }),
            None => Err(NoTools { too_old: older.into_iter().map(|(version, _)| version).max(), ..missing }),
        }
    }

    /// Their major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Major version of a program: `pg_dump (PostgreSQL) 15.18 (Debian …)`.
fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split("(PostgreSQL) ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
