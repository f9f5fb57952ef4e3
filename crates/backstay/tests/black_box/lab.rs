//! A place for each test, the program in it, and what it said.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const PASSPHRASE: &str = "correct horse battery staple";

/// A place of its own with a key file and room for a repository.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// Without a repository; the key is a passphrase.
    pub fn bare() -> Lab {
        let lab = Lab { dir: tempfile::tempdir().expect("temp dir") };
        lab.write("key", format!("{PASSPHRASE}\n").as_bytes());
        fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o600)).expect("chmod");
        lab
    }

    /// With a repository that the passphrase opens, a small tree `src`, and one snapshot of it.
    pub fn with_passphrase() -> Lab {
        let lab = Lab::bare();
        lab.ok(["init"]);
        lab.write("src/a", b"alpha");
        lab.write("src/sub/b", &[7; 300_000]);
        lab.backup(&[]);
        lab
    }

    /// With a repository and a key file that needs no passphrase.
    pub fn new() -> Lab {
        let lab = Lab { dir: tempfile::tempdir().expect("temp dir") };
        lab.ok(["init", "--generate-key", "key"]);
        lab
    }

    /// With a small tree `src` and one snapshot of it.
    pub fn backed_up() -> (Lab, String) {
        let lab = Lab::new();
        lab.write("src/a", b"alpha");
        lab.write("src/sub/b", &noise(1, 300_000));
        let id = lab.backup(&[]);
        (lab, id)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, data: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("mkdir");
        fs::write(path, data).expect("writes");
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.dir.path());
        command.env("BACKSTAY_REPOSITORY", self.path("repo")).env("BACKSTAY_KEY_FILE", self.path("key"));
        command.env("BACKSTAY_CACHE_DIR", self.path("cache")).env("BACKSTAY_STATE_DIR", self.path("state"));
        // What this machine is configured for is not these tests' business.
        command.env("BACKSTAY_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/black_box/empty.toml"));
        command.args(args).stdin(Stdio::null()).current_dir(self.dir.path()).env("TZ", "UTC");
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        Said::of(&mut self.command(args))
    }

    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Said {
        self.run(args).ends_with(0)
    }

    /// With another key.
    pub fn with<const N: usize>(&self, key: &str, args: [&str; N]) -> Said {
        Said::of(self.command(args).env("BACKSTAY_KEY_FILE", self.path(key)))
    }

    /// On a copy, from another machine: what was remembered of the original says nothing about it.
    pub fn on_copy<const N: usize>(&self, copy: &str, args: [&str; N]) -> Said {
        let mut command = self.command(args);
        Said::of(command.env("BACKSTAY_REPOSITORY", self.path(copy)).env("BACKSTAY_STATE_DIR", self.path("state2")))
    }

    /// Backs `src` up and returns the snapshot's id.
    #[track_caller]
    pub fn backup(&self, more: &[&str]) -> String {
        let args = ["backup", "--json"].iter().chain(more).copied().chain(["src"]);
        let summary = self.ok(args).last_line();
        summary["snapshot_id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub fn snapshots(&self) -> Vec<Value> {
        self.ok(["snapshots", "--json"]).json().as_array().expect("an array").clone()
    }

    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        self.snapshots().iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Every file of a directory: the objects of a repository's shelf, say.
    pub fn objects(&self, shelf: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path(shelf)];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).expect("lists") {
                let path = entry.expect("is there").path();
                if path.is_dir() { todo.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

/// What the program said and how it ended.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(command: &mut Command) -> Said {
        Said::from(command.output().expect("runs"))
    }

    pub fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is text");
        let code = output.status.code().unwrap_or(-1);
        let said = Said { code, out: text(output.stdout), err: text(output.stderr) };
        let raw = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!said.out.contains(raw) && !said.err.contains(raw), "control characters:\n{}{}", said.out, said.err);
        said
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, code, "\nstdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn complains(self, about: &str) -> Said {
        assert!(self.err.contains("error: ") && self.err.contains(about), "not about {about:?}: {}", self.err);
        self
    }

    /// There is a remedy.
    #[track_caller]
    pub fn helps(self) -> Said {
        assert!(self.err.lines().any(|line| line.starts_with("help: ")), "no help: {}", self.err);
        self
    }

    /// There is a warning about this.
    #[track_caller]
    pub fn warns(self, about: &str) -> Said {
        let mut warnings = self.err.lines().filter(|line| line.starts_with("warning: "));
        assert!(warnings.any(|line| line.contains(about)), "no warning about {about:?}: {}", self.err);
        self
    }

    #[track_caller]
    pub fn shows(self, what: &str) -> Said {
        assert!(self.out.contains(what), "no {what:?} in: {}", self.out);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("one JSON document")
    }

    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    #[track_caller]
    pub fn last_line(&self) -> Value {
        let last = self.lines().pop().expect("there is output");
        assert_eq!((&last["message_type"], &last["schema_version"]), (&"summary".into(), &1.into()));
        last
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("reads");
    let at = usize::try_from(at).expect("fits") % bytes.len();
    bytes[at] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(path, bytes).expect("writes");
}
