//! How each tool is called, so that all of them do the same.
//!
//! What it may not know: what is measured. Where data comes from and goes: a repository's place and a request in, a
//! command line out. Secrets go through the environment and files of mode 0600, never through arguments. Every tool
//! encrypts; every tool compresses by zstd at level 3 or what it calls its own nearest; every tool keeps its cache.

use crate::bucket::Bucket;
use peers::timed::Job;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// This project's.
    Backstay,
    /// restic, in Go.
    Restic,
    /// rustic, in Rust, restic's format.
    Rustic,
    /// Borg 1, in Python and C.
    Borg,
    /// bupstash, in Rust.
    Bupstash,
}

impl Tool {
    /// All of them, ours first.
    pub const ALL: [Tool; 5] = [Tool::Backstay, Tool::Restic, Tool::Rustic, Tool::Borg, Tool::Bupstash];

    /// Whether it stores in a bucket by itself.
    pub fn knows_buckets(self) -> bool {
        matches!(self, Tool::Backstay | Tool::Restic | Tool::Rustic)
    }

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Backstay => "backstay",
            Tool::Restic => "restic",
            Tool::Rustic => "rustic",
            Tool::Borg => "borg",
            Tool::Bupstash => "bupstash",
        }
    }

    /// How it was told to compress and encrypt, and what is peculiar about it.
    pub fn settings(self) -> &'static str {
        match self {
            Tool::Backstay => {
                "zstd 3 (its default), AES-256-GCM, passphrase by scrypt, packs of 16 MiB in a directory, 60 MiB in a bucket"
            }
            Tool::Restic => "format 2, compression auto (zstd, its level nearest to 3), AES-256-CTR and Poly1305",
            Tool::Rustic => "zstd 3, AES-256-CTR and Poly1305; prune with --instant-delete --max-repack unlimited",
            Tool::Borg => "zstd 3, repokey-blake2 (AES-256-CTR and BLAKE2b)",
            Tool::Bupstash => {
                "zstd 3 (its default), libsodium; it has no verify: the newest snapshot is read to nowhere"
            }
        }
    }
}

/// Which of a repository's two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// The one made first.
    First,
    /// The one made last.
    Last,
}

/// Where a repository lies.
#[derive(Clone, Copy)]
pub enum Shelter<'a> {
    /// In a directory beside its key and caches.
    Directory,
    /// In a bucket, behind a prefix.
    Bucket(&'a Bucket, &'a str),
}

/// A tool with one repository, its key and its caches.
#[derive(Clone)]
pub struct Repository<'a> {
    tool: Tool,
    program: PathBuf,
    home: PathBuf,
    shelter: Shelter<'a>,
}

impl<'a> Repository<'a> {
    /// Describes a repository whose key and caches lie in `home`. Nothing of it is anywhere yet.
    pub fn new(tool: Tool, program: &Path, home: &Path, shelter: Shelter<'a>) -> Repository<'a> {
        Repository { tool, program: program.to_owned(), home: home.to_owned(), shelter }
    }

    /// The directory that the stored bytes are in, when they are in one.
    pub fn place(&self) -> PathBuf {
        self.home.join("repository")
    }

    /// What the tool is told of where the repository is.
    fn address(&self) -> OsString {
        match (self.shelter, self.tool) {
            (Shelter::Directory, _) => self.place().into(),
            (Shelter::Bucket(..), Tool::Rustic) => "opendal:s3".into(),
            (Shelter::Bucket(bucket, prefix), _) => {
                format!("s3:http://{}/{}/{prefix}", bucket.endpoint(), bucket.name()).into()
            }
        }
    }

    /// What this tool reads about a service from a file in its home, rather than from the environment.
    fn settings_file(&self) -> Option<String> {
        let Shelter::Bucket(bucket, prefix) = self.shelter else { return None };
        let (endpoint, name) = (bucket.endpoint(), bucket.name());
        let (id, secret) = (&bucket.credentials().id, &bucket.credentials().secret);
        (self.tool == Tool::Rustic).then(|| {
            format!(
                "[repository.options]\nbucket = \"{name}\"\nendpoint = \"http://{endpoint}\"\nroot = \"/{prefix}\"\n\
                 region = \"us-east-1\"\naccess_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"\n"
            )
        })
    }

    fn key(&self) -> PathBuf {
        self.home.join("key")
    }

    fn job(&self) -> Job {
        let cache = self.home.join("cache");
        let mut job = Job::new(&self.program).env("HOME", &self.home).env("XDG_CACHE_HOME", &cache);
        if let Shelter::Bucket(bucket, _) = self.shelter {
            let who = bucket.credentials();
            job = job.env("AWS_ACCESS_KEY_ID", &who.id).env("AWS_SECRET_ACCESS_KEY", &who.secret);
        }
        match self.tool {
            Tool::Backstay => job
                .env("BACKSTAY_REPOSITORY", self.address())
                .env("BACKSTAY_KEY_FILE", self.key())
                .env("BACKSTAY_CACHE_DIR", &cache)
                .env("BACKSTAY_STATE_DIR", self.home.join("state"))
                .words("--quiet --no-progress"),
            Tool::Restic => job
                .env("RESTIC_REPOSITORY", self.address())
                .env("RESTIC_PASSWORD_FILE", self.key())
                .env("RESTIC_CACHE_DIR", &cache)
                .words("--quiet"),
            Tool::Rustic => job
                .env("RUSTIC_REPOSITORY", self.address())
                .env("RUSTIC_PASSWORD_FILE", self.key())
                .words("--no-progress --log-level error"),
            Tool::Borg => job
                .env("BORG_REPO", self.place())
                .env("BORG_PASSPHRASE", PASSPHRASE)
                .env("BORG_BASE_DIR", &self.home)
                .env("BORG_CHECK_I_KNOW_WHAT_I_AM_DOING", "YES")
                .env("BORG_DELETE_I_KNOW_WHAT_I_AM_DOING", "YES"),
            Tool::Bupstash => job
                .env("BUPSTASH_REPOSITORY", self.place())
                .env("BUPSTASH_KEY", self.key())
                .env("BUPSTASH_QUERY_CACHE", self.home.join("queries")),
        }
    }

    /// Makes the key and the empty repository.
    ///
    /// # Errors
    /// What the tool said.
    pub fn init(&self) -> Result<(), String> {
        std::fs::create_dir_all(&self.home).map_err(|e| format!("{}: {e}", self.home.display()))?;
        if let Some(settings) = self.settings_file() {
            let dir = self.home.join(".config/rustic");
            let written = std::fs::create_dir_all(&dir).and_then(|()| private(&dir.join("rustic.toml"), &settings));
            written.map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        if self.tool == Tool::Bupstash {
            Job::new(&self.program).env("HOME", &self.home).words("new-key -o").arg(self.key()).output()?;
        } else {
            private(&self.key(), PASSPHRASE).map_err(|e| format!("{}: {e}", self.key().display()))?;
        }
        let job = self.job();
        let job = match self.tool {
            Tool::Backstay => job.words("init"),
            Tool::Restic => job.words("init --repository-version 2"),
            Tool::Rustic => job.words("init --set-compression 3"),
            Tool::Borg => job.words("init -e repokey-blake2"),
            Tool::Bupstash => job.words("init"),
        };
        job.output().map(drop)
    }

    /// Stores `source` as the snapshot `which`.
    pub fn backup(&self, which: Snapshot, source: &Path) -> Job {
        let name = name(which);
        let job = self.job();
        match self.tool {
            Tool::Backstay => job.words("backup --compression zstd:3").arg(source),
            Tool::Restic | Tool::Rustic => job.words("backup").arg(source),
            Tool::Borg => job.words("create -C zstd,3").arg(format!("::{name}")).arg(source),
            Tool::Bupstash => job
                .words("put -q --xattrs --compression zstd:3 --send-log")
                .arg(self.home.join("sent"))
                .arg(format!("name={name}"))
                .arg("::")
                .arg(source),
        }
    }

    /// Restores a snapshot into the empty directory `target`. See [`restored`] for where the files are then.
    ///
    /// # Errors
    /// When the snapshots cannot be listed.
    pub fn restore(&self, which: Snapshot, target: &Path) -> Result<Job, String> {
        let job = self.job();
        Ok(match self.tool {
            Tool::Backstay | Tool::Restic => job.words("restore").arg(self.id(which)?).arg("--target").arg(target),
            Tool::Rustic => job.words("restore").arg(self.id(which)?).arg(target),
            Tool::Borg => job.words("extract").arg(format!("::{}", name(which))).within(target),
            Tool::Bupstash => {
                job.words("restore -q --ownership --xattrs --into").arg(target).arg(format!("name={}", name(which)))
            }
        })
    }

    /// Reads everything that is stored, decrypts it and compares it.
    pub fn verify(&self) -> Job {
        let job = self.job();
        match self.tool {
            Tool::Backstay => job.words("verify --read-data"),
            Tool::Restic | Tool::Rustic => job.words("check --read-data"),
            Tool::Borg => job.words("check --verify-data"),
            Tool::Bupstash => job.words("get -q").arg(format!("name={}", name(Snapshot::Last))),
        }
    }

    /// Takes the first snapshot out of the list; its data stay.
    ///
    /// # Errors
    /// What the tool said.
    pub fn forget_first(&self) -> Result<(), String> {
        let job = self.job();
        let job = match self.tool {
            Tool::Backstay | Tool::Restic | Tool::Rustic => job.words("forget").arg(self.id(Snapshot::First)?),
            Tool::Borg => job.words("delete").arg(format!("::{}", name(Snapshot::First))),
            Tool::Bupstash => job.words("rm -q").arg(format!("name={}", name(Snapshot::First))),
        };
        job.output().map(drop)
    }

    /// Gives back the space of what no snapshot needs.
    pub fn prune(&self) -> Job {
        let job = self.job();
        match self.tool {
            Tool::Backstay | Tool::Restic => job.words("prune"),
            Tool::Rustic => job.words("prune --instant-delete --max-repack unlimited"),
            Tool::Borg => job.words("compact"),
            Tool::Bupstash => job.words("gc -q"),
        }
    }

    /// The snapshot's id, for tools that do not let their users name snapshots.
    fn id(&self, which: Snapshot) -> Result<String, String> {
        let text = self.job().words("snapshots --json").output()?;
        let value = serde_json::from_str(&text).map_err(|e| format!("{} snapshots: {e}", self.tool.name()))?;
        let mut found = Vec::new();
        collect_snapshots(&value, &mut found);
        found.sort();
        let one = match which {
            Snapshot::First => found.first(),
            Snapshot::Last => found.last(),
        };
        one.map(|(_, id)| id.clone()).ok_or_else(|| format!("{} lists no snapshots", self.tool.name()))
    }
}

/// Writes a new file that only its owner may read.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// One for all, because none of them is worth guarding.
const PASSPHRASE: &str = "measured, not kept";

fn name(which: Snapshot) -> &'static str {
    match which {
        Snapshot::First => "first",
        Snapshot::Last => "last",
    }
}

/// Everything in a JSON document that has an id and a time: some tools nest their lists in groups.
fn collect_snapshots(value: &serde_json::Value, found: &mut Vec<(jiff::Timestamp, String)>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let (Some(time), Some(id)) = (fields.get("time"), fields.get("id"))
                && let (Some(time), Some(id)) = (time.as_str(), id.as_str())
                && let Ok(time) = time.parse()
            {
                found.push((time, id.to_owned()));
            }
            fields.values().for_each(|value| collect_snapshots(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_snapshots(value, found)),
        _ => {}
    }
}

/// Where in `target` the files of `source` are after a restore: some tools restore the whole path, others what is in it.
pub fn restored(target: &Path, source: &Path) -> PathBuf {
    let whole = target.join(source.strip_prefix("/").unwrap_or(source));
    if whole.is_dir() { whole } else { target.to_owned() }
}

/// The program, from the directory of tools or from PATH.
pub fn find(tool: Tool, tools: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = vec![tools.join("bin")];
    places.extend(std::env::split_paths(&path));
    places.into_iter().map(|dir| dir.join(tool.name())).find(|program| program.is_file())
}

/// What the program says about its version, on one line.
///
/// # Errors
/// What it said instead.
pub fn version(tool: Tool, program: &Path) -> Result<String, String> {
    let word = if matches!(tool, Tool::Backstay | Tool::Restic) { "version" } else { "--version" };
    let text = Job::new(program).words(word).output()?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line
        .split(['(', ','])
        .next()
        .unwrap_or_default()
        .split(" compiled")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned())
}

/// Installs what is missing: by apt-get what Debian has, by cargo into `tools` what it has not.
///
/// # Errors
/// What the package manager said.
pub fn install(tool: Tool, tools: &Path) -> Result<(), String> {
    let apt = |package: &str| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", package]);
        quietly(&mut command)
    };
    let cargo = |package: &str, options: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(["install", "--quiet", "--locked", "--root"]).arg(tools).args(options).arg(package);
        quietly(&mut command)
    };
    match tool {
        Tool::Backstay => Err("build it: cargo build --release".to_owned()),
        Tool::Restic => apt("restic"),
        Tool::Borg => apt("borgbackup"),
        // Without what it shows and serves: none of it is measured.
        Tool::Rustic => cargo("rustic-rs", &["--no-default-features"]),
        Tool::Bupstash => apt("libsodium-dev").and_then(|()| apt("pkg-config")).and_then(|()| cargo("bupstash", &[])),
    }
}

/// Runs a package manager in the environment that its user set up for it.
fn quietly(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot start {name}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", said.lines().last().unwrap_or("it said nothing"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_found_in_flat_and_in_grouped_lists() {
        let check = |text: &str| {
            let mut found = Vec::new();
            collect_snapshots(&serde_json::from_str(text).unwrap(), &mut found);
            found.sort();
            assert_eq!(found.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        };
        check(
            r#"[{"id":"b","time":"2025-01-01T00:00:00.15Z","tree":"x"},{"id":"a","time":"2025-01-01T01:00:00.1+01:00"}]"#,
        );
        check(
            r#"[{"group_key":{"host":"h"},"snapshots":[{"id":"b","time":"2025-01-01T00:00:00.15Z"}]},
                [{},[{"id":"a","time":"2025-01-01T01:00:00.1+01:00"}]]]"#,
        );
    }

    #[test]
    fn no_secret_is_in_an_argument() {
        let home = std::env::temp_dir().join(format!("peers-tool-{}", std::process::id()));
        for tool in Tool::ALL {
            let repository = Repository::new(tool, Path::new("/bin/true"), &home, Shelter::Directory);
            for job in [repository.backup(Snapshot::First, &home), repository.verify(), repository.prune()] {
                let shown = format!("{job:?}");
                let args = shown.split("env:").next().unwrap_or_default();
                assert!(!args.contains(PASSPHRASE), "{args}");
            }
        }
    }
}
