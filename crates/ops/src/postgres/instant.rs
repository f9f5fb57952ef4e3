//! A cluster that runs on its backup, without being restored: pages come out of the repository when they are read, and what
//! is changed lies beside them and goes with the server.
//!
//! What it is for: `backstay instant`, and taking tables out of a cluster at a cost that follows the tables.
//! What it may not know: terminals. Where data comes from and goes: a snapshot through `sources::mount` to a server of
//! `sources::postgres`.

use super::Cluster;
use super::pitr::Route;
use super::recover::{Request, way};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::{Opener, Repository};
use sources::mount::{MountError, Mounted, OnTrouble, Part, WritablePlan, mount_writable};
use sources::postgres::scratch::{Guest, Scratch};
use sources::postgres::tools::Tools;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked whether the server runs and is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Content kept in memory: the kernel and the server keep what they read themselves.
const CACHE_BYTES: usize = 128 << 20;
/// The directory of the mount in the place of a cluster, and what is in the mount.
const MOUNT: &str = "mnt";
const DATA: &str = "data";
const SPACES: &str = "spaces";

/// A data directory that is a mount. Everything of it goes when this is dropped.
pub(super) struct Lazy {
    // In this order: what is mounted goes before the directory that it is in.
    mounted: Option<Mounted>,
    place: PathBuf,
    opener: Opener,
    data: PathBuf,
}

/// Why there is none.
pub(super) enum NotLazy {
    /// This machine does not mount: restoring does the same, and takes longer.
    Mount(MountError),
    /// That would not help.
    Other(Failure),
}

impl<E: Into<Failure>> From<E> for NotLazy {
    fn from(e: E) -> Self {
        NotLazy::Other(e.into())
    }
}

impl Lazy {
    /// Mounts the cluster that was asked for at `place`, a directory that is made for it, so that a server can be started on it.
    pub(super) fn mount(
        (ctx, repository): (&Ctx, &Repository),
        request: &Request,
        place: &Path,
        on: OnTrouble,
    ) -> Result<(Lazy, Route), NotLazy> {
        let place = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        let (dir, beside) = (place.join(MOUNT), place.join("pages"));
        let mut way = way(ctx, repository, &Request { target: dir.join(DATA), ..request.clone() })?;
        way.plan.tablespaces =
            way.route.facts.tablespaces.iter().map(|space| dir.join(SPACES).join(space.oid.to_string())).collect();
        let failed = |e: std::io::Error| {
            Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot make {}: {e}", place.display()))
        };
        let mut make = std::fs::DirBuilder::new();
        make.mode(0o700);
        make.create(&place).map_err(failed)?;
        let reader = way.opener.open(&way.route.snapshot)?;
        let data = dir.join(DATA);
        let mut lazy = Lazy { mounted: None, place: place.clone(), opener: way.opener, data };
        [&dir, &beside].into_iter().try_for_each(|dir| make.create(dir)).map_err(failed)?;
        let parts = way.plan.directories(&way.route.facts)?.into_iter().map(|(within, target)| {
            let below = target.strip_prefix(&dir).unwrap_or(&target);
            Part { names: below.iter().map(|name| name.to_string_lossy().into_owned()).collect(), within }
        });
        let plan = WritablePlan { dir: dir.clone(), beside, parts: parts.collect(), cache_bytes: CACHE_BYTES };
        lazy.mounted = Some(mount_writable(&plan, reader, &ctx.world, on).map_err(|e| match e {
            MountError::Repo(e) => NotLazy::Other(e.into()),
            e => NotLazy::Mount(e),
        })?);
        if rustix::process::geteuid().is_root() {
            // The server runs as whoever owns its data.
            let owner = std::fs::metadata(&lazy.data).map_err(failed)?;
            std::os::unix::fs::chown(&place, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
        }
        way.plan.arm(&way.route.facts)?;
        Ok((lazy, way.route))
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Where the socket of its server belongs.
    pub(super) fn socket(&self) -> PathBuf {
        self.place.join("run")
    }

    fn stands(&self) -> bool {
        // Best effort, as for every reader: what is read is verified anyway.
        self.opener.keep_alive().unwrap_or_default();
        self.mounted.as_ref().is_some_and(Mounted::stands)
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        drop(self.mounted.take());
        // Never into a mount that could not be ended: only what is empty goes there.
        std::fs::remove_dir(self.place.join(MOUNT)).ok();
        std::fs::remove_dir_all(self.place.join("pages")).ok();
        std::fs::remove_dir_all(self.socket()).ok();
        std::fs::remove_dir(&self.place).ok();
    }
}

/// How to reach a server that runs on a backup.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The directory of its socket.
    pub host: String,
    /// Its port; on 127.0.0.1 too, where one was asked for.
    pub port: u16,
    /// The role that made the cluster.
    pub user: String,
    /// The database that the configuration names.
    pub database: String,
    /// When the backup that it runs on began, RFC 3339.
    pub backup: String,
    /// Whether it still replays its log: it can be read, and be written to when it is there.
    pub recovers: bool,
}

/// What to tell on the way.
pub struct Telling<'a> {
    /// The server answers.
    pub ready: &'a dyn Fn(&Ready),
    /// It has replayed its log, and can be written to.
    pub writable: &'a dyn Fn(),
}

/// Starts a server on a backup, and returns when somebody asks to stop. `request.target` is a directory that is made for it and goes
/// again, with everything that was changed.
///
/// # Errors
/// As [`super::recover::prepare`]; `no-tools`; those of a mount, `no-fuse` among them; `scratch-failed` when the server ends by itself.
pub fn instant(
    (ctx, repository): (&Ctx, &Repository),
    (cluster, request): (&Cluster, &Request),
    port: Option<u16>,
    (telling, on): (&Telling<'_>, OnTrouble),
) -> Result<(), Failure> {
    let (lazy, route) = Lazy::mount((ctx, repository), request, &request.target, on).map_err(|e| match e {
        NotLazy::Mount(e) => Failure::from(e),
        NotLazy::Other(e) => e,
    })?;
    let tools = Tools::find("postgres", route.facts.major(), cluster.bin.as_deref())?;
    let paths = (lazy.data(), &*lazy.socket());
    let mut server = Scratch::start_for(Guest::People(port), &tools, paths, &cluster.server.user, &ctx.world)?;
    let reached = server.server(&cluster.server.database);
    let mut recovers = server.recovers()?;
    (telling.ready)(&Ready {
        host: reached.host,
        port: reached.port,
        user: reached.user,
        database: reached.database,
        backup: route.snapshot.public.time.clone(),
        recovers,
    });
    while !ctx.world.stop.requested() {
        server.runs()?;
        if !lazy.stands() {
            return Err(Failure::new(Exit::Failed, "still-mounted", "somebody unmounted what the server runs on")
                .help("start it again"));
        }
        if recovers {
            // One that is too busy to answer is asked again.
            recovers = server.recovers().unwrap_or(true);
            if !recovers {
                (telling.writable)();
            }
        }
        ctx.world.clock.sleep(LOOK);
    }
    Ok(())
}
