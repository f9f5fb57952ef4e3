//! The programs of PostgreSQL, of the right major version.
//!
//! It starts nothing but `--version`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    dir: PathBuf,
}

/// None were found.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot find {program} of PostgreSQL {major} (looked in {looked}): install it, or name its directory as `bin` in the configuration"
)]
pub struct NoTools {
    /// The program that was looked for.
    pub program: String,
    /// The version.
    pub major: u32,
    /// Where it was looked for.
    pub looked: String,
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
        found.map(|dir| Tools { dir: dir.clone() }).ok_or_else(|| {
            let looked: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            NoTools { program: program.to_owned(), major, looked: looked.join(", ") }
        })
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
