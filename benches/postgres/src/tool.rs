//! How each tool is called.
//!
//! What it may not know: in which order, and what it took. Where data comes from and goes: a cluster and a step in, a command
//! line out.

use crate::cluster::{Cluster, DATABASE, PORT};
use peers::timed::Job;
use std::path::{Path, PathBuf};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// We.
    Backstay,
    /// pgBackRest: zstd 3, AES-256-CBC, two processes; small files in bundles and blocks where its version has that.
    PgBackRest,
    /// `pg_basebackup` into a tar file, zstd 3 with two threads; not encrypted.
    BaseBackup,
    /// `pg_dump | gzip`; not encrypted.
    DumpGzip,
    /// `pg_dump | gzip | gpg`.
    DumpGpg,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The first backup.
    Full,
    /// One after a change.
    Changed,
    /// One after no change.
    Unchanged,
    /// Into nothing.
    Restore,
    /// Over what was restored.
    Delta,
    /// One table into a file for `pg_restore`.
    Table,
    /// Segments, one at a time, as a server asks.
    Push,
    /// The same where all of them wait.
    Burst,
    /// Segments for a replay.
    Get,
}

impl Step {
    /// All, in order.
    pub const ALL: [Step; 9] = [
        Step::Full,
        Step::Changed,
        Step::Unchanged,
        Step::Restore,
        Step::Delta,
        Step::Table,
        Step::Push,
        Step::Burst,
        Step::Get,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Step::Full => "full backup",
            Step::Changed => "backup after the change",
            Step::Unchanged => "backup, nothing changed",
            Step::Restore => "restore into nothing",
            Step::Delta => "restore over it, nothing differs",
            Step::Table => "one table out of it",
            Step::Push => "log, one at a time",
            Step::Burst => "log, a burst",
            Step::Get => "log, fetched",
        }
    }
}

impl Tool {
    /// All.
    pub const ALL: [Tool; 5] = [Tool::Backstay, Tool::PgBackRest, Tool::BaseBackup, Tool::DumpGzip, Tool::DumpGpg];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Backstay => "backstay",
            Tool::PgBackRest => "pgbackrest",
            Tool::BaseBackup => "pg_basebackup",
            Tool::DumpGzip => "dump|gzip",
            Tool::DumpGpg => "dump|gzip|gpg",
        }
    }
}

/// How tools are called here.
pub struct Calls<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Our program.
    pub backstay: &'a Path,
    /// pgBackRest, where it is.
    pub pgbackrest: Option<PathBuf>,
}

impl Calls<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.cluster.work.join(name)
    }

    /// Where a tool stores.
    pub fn store(&self, tool: Tool) -> PathBuf {
        self.at(&format!("store-{}", tool.name().replace('|', "-")))
    }

    /// What a restore makes.
    pub fn target(&self, tool: Tool) -> PathBuf {
        self.at(&format!("restored-{}", tool.name().replace('|', "-")))
    }

    /// A data directory that has nothing but log, as a server has it that could not archive for a while.
    pub fn behind(&self) -> PathBuf {
        self.at("behind")
    }

    /// Where segments are kept that the server archived for nobody.
    pub fn collected(&self) -> PathBuf {
        self.at("collected")
    }

    /// The program that the server calls for its log: it hands it to the tool whose name is in the file `archiver`. pgBackRest
    /// wants to find itself in the command.
    pub fn archiver(&self) -> PathBuf {
        self.at("archive-for-backstay-or-pgbackrest.sh")
    }

    /// Repositories, configurations and the server's archiver.
    ///
    /// # Errors
    /// What a tool said.
    pub fn prepare(&self) -> Result<(), String> {
        let write = |path: PathBuf, text: String| {
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display())).map(|()| path)
        };
        let shown = |path: &Path| path.display().to_string();
        for (config, store, key) in [
            ("backstay.toml", self.store(Tool::Backstay), "key"),
            ("backstay-log.toml", self.at("log-backstay"), "backstay-log-key"),
        ] {
            write(
                self.at(config),
                format!(
                    "version = 1\n[repository.main]\nurl = \"file://{}\"\nkey = \"file:{}\"\n[platform.shop]\nrepositories = [\"main\"]\n\
                     [platform.shop.source.db]\nkind = \"postgres\"\n\
                     connect = {{ host = \"{}\", port = {PORT}, user = \"bench\", database = \"{DATABASE}\" }}\n\
                     physical = {{ wal = \"continuous\" }}\nbin = \"{}\"\n",
                    shown(&store),
                    shown(&self.at(key)),
                    shown(&self.cluster.socket()),
                    shown(&self.cluster.bin),
                ),
            )?;
        }
        self.ours().words("init --generate-key").arg(self.at("key")).output()?;
        let theirs = |name: &str, repository: &Path, data: &Path, more: &str| {
            let (locks, spool) = (self.at("locks"), self.at("spool"));
            write(
                self.at(name),
                format!(
                    "[global]\nrepo1-path={}\nlock-path={}\nspool-path={}\nlog-level-file=off\nlog-level-console=error\n\
                     start-fast=y\nrepo1-retention-full=9\nprocess-max=2\ncompress-type=zst\ncompress-level=3\n\
                     repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=bench-only\nrepo1-bundle=y\n{more}\
                     [s]\npg1-path={}\npg1-socket-path={}\npg1-port={PORT}\npg1-user=bench\npg1-database={DATABASE}\n",
                    shown(repository),
                    shown(&locks),
                    shown(&spool),
                    shown(data),
                    shown(&self.cluster.socket()),
                ),
            )
        };
        let (store, log, data, behind) =
            (self.store(Tool::PgBackRest), self.at("log-pgbackrest"), self.cluster.data(), self.behind());
        theirs("pgbackrest.conf", &store, &data, "")?;
        theirs("pgbackrest-create.conf", &log, &data, "")?;
        theirs("pgbackrest-log.conf", &log, &behind, "")?;
        theirs("pgbackrest-burst.conf", &log, &behind, "archive-async=y\narchive-get-queue-max=256MiB\n")?;
        let rest = self.pgbackrest.as_ref().map_or("false".to_owned(), |program| shown(program));
        let script = format!(
            "#!/bin/sh\ncase $(cat '{0}/archiver') in\n\
             backstay) exec '{1}' wal push --config '{0}/backstay.toml' --cache-dir '{0}/cache' --source shop/db \"$1\" ;;\n\
             pgbackrest) exec {rest} --config='{0}/pgbackrest.conf' --stanza=s archive-push \"$1\" ;;\n\
             collect) cp \"$1\" '{0}/collected/' ;;\nesac\n",
            shown(&self.cluster.work),
            shown(self.backstay),
        );
        write(self.archiver(), script)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.archiver(), executable).map_err(|e| e.to_string())
    }

    /// Who gets the log of the server from now on: a tool, `collect`, or nobody.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn archive_for(&self, whom: &str) -> Result<(), String> {
        std::fs::write(self.at("archiver"), whom).map_err(|e| e.to_string())
    }

    /// Empty archives for the steps about log, and segments that wait: marked as such where the tool may look at all of them.
    ///
    /// # Errors
    /// What a tool or the system said.
    pub fn log_waits(&self, tool: Tool, step: Step) -> Result<(), String> {
        let marks = if step == Step::Burst || tool == Tool::PgBackRest { "touch archive_status/$f.ready;" } else { "" };
        self.shell(&format!(
            "rm -rf $WORK/behind $WORK/spool $WORK/log-{0} $WORK/{0}-log-key; \
             mkdir -p $WORK/behind/global $WORK/behind/pg_wal/archive_status; \
             cp $WORK/data/global/pg_control $WORK/behind/global/; cp $WORK/data/PG_VERSION $WORK/behind/; \
             cd $WORK/behind/pg_wal; for f in $(ls $WORK/collected); do ln $WORK/collected/$f .; {marks} done; sync -f .",
            tool.name()
        ))
        .output()?;
        match tool {
            Tool::Backstay => {
                let init = self.ours().env("BACKSTAY_CONFIG", self.at("backstay-log.toml"));
                init.words("init --generate-key").arg(self.at("backstay-log-key")).output().map(drop)
            }
            _ => self.theirs("pgbackrest-create.conf").arg("stanza-create").output().map(drop),
        }
    }

    /// Our program.
    pub fn ours(&self) -> Job {
        Job::new(self.backstay)
            .env("BACKSTAY_CONFIG", self.at("backstay.toml"))
            .env("XDG_STATE_HOME", self.at("state"))
            .env("BACKSTAY_CACHE_DIR", self.at("cache"))
    }

    /// pgBackRest with one of its configurations.
    pub fn theirs(&self, config: &str) -> Job {
        let program = self.pgbackrest.clone().unwrap_or_else(|| "pgbackrest".into());
        Job::new(&program).arg(format!("--config={}", self.at(config).display())).arg("--stanza=s")
    }

    fn shell(&self, line: &str) -> Job {
        let path = format!("{}:{}", self.cluster.bin.display(), std::env::var("PATH").unwrap_or_default());
        self.cluster_shell().env("PATH", path).arg("-c").arg(format!("set -e -o pipefail; {line}"))
    }

    fn cluster_shell(&self) -> Job {
        Job::new(Path::new("/bin/bash"))
            .env("PGHOST", self.cluster.socket())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", "bench")
            .env("GNUPGHOME", self.at("gnupg"))
            .env("BACKSTAY_CONFIG", self.at("backstay-log.toml"))
            .env("XDG_STATE_HOME", self.at("state"))
            .env("BACKSTAY_CACHE_DIR", self.at("cache"))
            .env("WORK", &self.cluster.work)
            .env("BACKSTAY", self.backstay)
            .env("PGBACKREST", self.pgbackrest.clone().unwrap_or_default())
    }

    /// The command of a step; none where the tool has nothing of the kind.
    pub fn job(&self, tool: Tool, step: Step) -> Option<Job> {
        let (store, target) = (self.store(tool), self.target(tool));
        let gpg = "gpg --batch --yes --pinentry-mode loopback --passphrase bench-only";
        Some(match (tool, step) {
            (Tool::Backstay, Step::Full | Step::Changed | Step::Unchanged) => self.ours().words("backup shop/db"),
            (Tool::Backstay, Step::Restore) => self.ours().words("restore shop/db --at immediate --target").arg(&target),
            (Tool::Backstay, Step::Delta) => {
                self.ours().words("restore shop/db --at immediate --delta --target").arg(&target).arg("--confirm").arg(&target)
            }
            (Tool::Backstay, Step::Table) => self
                .ours()
                .words("restore shop/db --at immediate --table public.pgbench_tellers --to")
                .arg(self.at("table-backstay.dump")),
            (Tool::PgBackRest, Step::Full) => self.theirs("pgbackrest.conf").words("backup --type=full"),
            (Tool::PgBackRest, Step::Changed | Step::Unchanged) => self.theirs("pgbackrest.conf").words("backup --type=incr"),
            (Tool::PgBackRest, Step::Restore) => {
                let to = format!("--pg1-path={}", target.display());
                self.theirs("pgbackrest.conf").arg(to).words("--type=immediate --target-action=promote restore")
            }
            (Tool::PgBackRest, Step::Delta) => {
                let to = format!("--pg1-path={}", target.display());
                self.theirs("pgbackrest.conf").arg(to).words("--type=immediate --target-action=promote --delta restore")
            }
            // It has no such thing: everything is restored, a server started, the table dumped.
            (Tool::PgBackRest, Step::Table) => self.shell(
                "D=$WORK/table-data; mkdir -m 700 $D; \
                 $PGBACKREST --config=$WORK/pgbackrest.conf --stanza=s --pg1-path=$D --type=immediate --target-action=promote restore; \
                 pg_ctl -D $D -w -t 600 -l $WORK/table.log -o \"-p 54932 -k $PGHOST -c archive_mode=off\" start >/dev/null; \
                 pg_dump -p 54932 -Fc -Z0 -t public.pgbench_tellers -f $WORK/table-pgbackrest.dump bench; \
                 pg_ctl -D $D -w -m immediate stop >/dev/null; rm -rf $D",
            ),
            (Tool::BaseBackup, Step::Full | Step::Changed | Step::Unchanged) => self.shell(&format!(
                "rm -rf {0}; pg_basebackup -c fast -Ft -Xstream --compress=client-zstd:level=3,workers=2 -D {0}",
                store.display()
            )),
            (Tool::BaseBackup, Step::Restore) => self.shell(&format!(
                "mkdir -m 700 {1}; zstd -qdc {0}/base.tar.zst | tar -x -C {1}; tar -x -C {1}/pg_wal -f {0}/pg_wal.tar; sync -f {1}",
                store.display(),
                target.display()
            )),
            (Tool::DumpGzip, Step::Full | Step::Changed | Step::Unchanged) => {
                self.shell(&format!("mkdir -p {0}; pg_dump {DATABASE} | gzip >{0}/dump.gz; sync {0}/dump.gz", store.display()))
            }
            (Tool::DumpGzip, Step::Restore) => self.shell(&format!(
                "createdb -T template0 again; gunzip <{}/dump.gz | psql -XqAt -v ON_ERROR_STOP=1 again",
                store.display()
            )),
            (Tool::DumpGpg, Step::Full | Step::Changed | Step::Unchanged) => self.shell(&format!(
                "mkdir -p {0} $GNUPGHOME; chmod 700 $GNUPGHOME; pg_dump {DATABASE} | gzip | \
                 {gpg} --symmetric --cipher-algo AES256 -o {0}/dump.gpg; sync {0}/dump.gpg",
                store.display()
            )),
            (Tool::DumpGpg, Step::Restore) => self.shell(&format!(
                "createdb -T template0 again; {gpg} -d {}/dump.gpg | gunzip | psql -XqAt -v ON_ERROR_STOP=1 again",
                store.display()
            )),
            (Tool::Backstay, Step::Push | Step::Burst) => self.shell(
                "cd $WORK/behind/pg_wal; for f in $(ls | grep -E '^[0-9A-F]{24}$'); do \
                 $BACKSTAY wal push --source shop/db $f; rm -f archive_status/$f.ready; done",
            ),
            (Tool::Backstay, Step::Get) => self.shell(
                "cd $WORK/behind/pg_wal; for f in $(ls | grep -E '^[0-9A-F]{24}$'); do \
                 $BACKSTAY wal get --source shop/db $f $WORK/got; cmp $f $WORK/got; done",
            ),
            (Tool::PgBackRest, Step::Push | Step::Burst) => self.shell(&format!(
                "cd $WORK/behind; for f in $(ls pg_wal | grep -E '^[0-9A-F]{{24}}$'); do \
                 $PGBACKREST --config=$WORK/pgbackrest-{}.conf --stanza=s archive-push pg_wal/$f; \
                 rm -f pg_wal/archive_status/$f.ready; done",
                if step == Step::Burst { "burst" } else { "log" }
            )),
            (Tool::PgBackRest, Step::Get) => self.shell(
                "cd $WORK/behind; for f in $(ls pg_wal | grep -E '^[0-9A-F]{24}$'); do \
                 $PGBACKREST --config=$WORK/pgbackrest-burst.conf --stanza=s archive-get $f pg_wal/got; \
                 cmp pg_wal/got $WORK/collected/$f; done",
            ),
            _ => return None,
        })
    }
}
