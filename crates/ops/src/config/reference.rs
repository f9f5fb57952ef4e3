//! Where a secret is, in place of the secret.
//!
//! What it is for: [`Reference`].
//! What it may not know: what the secret opens.
//! Where data comes from and goes: the text of a key in the configuration; the secret itself, read when it is needed and
//! kept nowhere.

use crate::failure::{Exit, Failure};
use crate::open::{KeyFrom, printed_by, read_file, split_words};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where `cred:` looks when no service manager says otherwise.
const CREDENTIALS: &str = "/etc/backstay/credentials";

/// Where a secret is. The configuration holds these and never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `env:NAME`: in a variable of the environment.
    Env(String),
    /// `file:PATH`: in a file. A relative path is relative to the configuration file that names it.
    File(PathBuf),
    /// `cmd:PROGRAM ARGUMENT…`: what a program prints. It is started as it is, without a shell.
    Command(String),
    /// `cred:NAME`: in a file of this name in `$CREDENTIALS_DIRECTORY`, or else in `/etc/backstay/credentials`.
    Credential(String),
}

/// What a reference looks like, for people.
pub(super) const FORMS: &str = "env:NAME, file:PATH, cmd:PROGRAM ARGUMENTS or cred:NAME";

impl Reference {
    /// The reference that a text is; relative paths are relative to `dir`.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat the text: it may be the secret itself.
    pub fn parse(text: &str, dir: &Path) -> Result<Reference, String> {
        let inline = || format!("a secret must not stand in the configuration: say where it is, as {FORMS}");
        let (scheme, rest) = text.split_once(':').ok_or_else(inline)?;
        let is_name = |extra: &str| rest.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        match scheme {
            "env" | "file" | "cmd" | "cred" if rest.trim().is_empty() => Err(format!("{scheme}: names nothing")),
            "env" if is_name("_") => Ok(Reference::Env(rest.to_owned())),
            "env" => Err("env: takes the name of a variable: letters, digits and _".into()),
            "file" => Ok(Reference::File(dir.join(rest))),
            "cmd" => match split_words(rest) {
                Ok(_) => Ok(Reference::Command(rest.to_owned())),
                Err(e) => Err(e.what),
            },
            "cred" if is_name("_-.@") && !rest.starts_with('.') => Ok(Reference::Credential(rest.to_owned())),
            "cred" => Err("cred: takes the name of a file, without a directory".into()),
            "vault" => Err(format!("this version knows no vault: references: write {FORMS}")),
            _ => Err(inline()),
        }
    }

    /// The secret, without the end of its last line.
    ///
    /// # Errors
    /// `secret-unreadable` when there is none to be had. The message names the reference, never the secret.
    pub fn read(&self) -> Result<Zeroizing<String>, Failure> {
        let text = match self {
            Reference::Env(name) => variable(name),
            Reference::File(path) => read_file(path),
            Reference::Command(line) => {
                split_words(line).map_err(std::io::Error::other).and_then(|argv| printed_by(&argv))
            }
            Reference::Credential(name) => read_file(&credential(name)),
        };
        let text = text.map_err(|e| {
            Failure::new(Exit::Failed, "secret-unreadable", format!("cannot read the secret {self}: {e}"))
                .help("put the secret there, or say in the configuration where it is")
        })?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The same place as one that keys come from.
    ///
    /// # Errors
    /// `secret-unreadable` for a variable that is not set.
    pub fn key(&self) -> Result<KeyFrom, Failure> {
        Ok(match self {
            Reference::Env(_) => KeyFrom::Text(self.read()?),
            Reference::File(path) => KeyFrom::File(path.clone()),
            Reference::Command(line) => KeyFrom::Command(split_words(line)?),
            Reference::Credential(name) => KeyFrom::File(credential(name)),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Env(name) => write!(f, "env:{name}"),
            Reference::File(path) => write!(f, "file:{}", path.display()),
            Reference::Command(line) => write!(f, "cmd:{line}"),
            Reference::Credential(name) => write!(f, "cred:{name}"),
        }
    }
}

fn variable(name: &str) -> std::io::Result<Zeroizing<String>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => Ok(Zeroizing::new(text)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Err(std::io::Error::other("the variable is not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(std::io::Error::other("it is not UTF-8")),
    }
}

fn credential(name: &str) -> PathBuf {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    given.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        Reference::parse(text, Path::new("/etc/backstay")).map(|reference| reference.to_string())
    }

    #[test]
    fn references_say_where_and_files_are_found_beside_the_configuration() {
        for (text, expect) in [
            ("env:PGPASSWORD", "env:PGPASSWORD"),
            ("file:keys/main", "file:/etc/backstay/keys/main"),
            ("file:/run/secrets/pg", "file:/run/secrets/pg"),
            ("cmd:pass show 'my backup'", "cmd:pass show 'my backup'"),
            ("cred:corp-pg", "cred:corp-pg"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expect));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_and_never_repeated() {
        for text in [
            "hunter2",
            "hunter2:x",
            "",
            "env:",
            "env:hunter2!",
            "file:",
            "cmd: ",
            "cmd:hunter2 'x",
            "cred:../hunter2",
            "cred:.hunter2",
            "vault:hunter2",
        ] {
            let why = parsed(text).expect_err(text);
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
    }

    #[test]
    fn a_secret_is_read_without_the_end_of_its_line_and_is_in_no_message() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("secret"), "hunter2\n").expect("writes");
        let read = |text: &str| Reference::parse(text, dir.path()).expect(text).read();
        for text in ["file:secret", "cmd:echo hunter2"] {
            assert_eq!(read(text).expect(text).as_str(), "hunter2", "{text}");
        }
        for text in ["file:none", "cmd:false", "cmd:/no/such/program", "env:BACKSTAY_THERE_IS_NONE"] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.code, "secret-unreadable", "{text}");
            assert!(failure.help.is_some() && failure.what.contains("cannot read the secret"), "{}", failure.what);
        }
    }
}
