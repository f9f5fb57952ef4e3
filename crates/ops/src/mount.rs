//! Snapshots as a file system, for as long as somebody wants to look.
//!
//! What it is for: `backstay mount`: choosing what is shown, the refusals, and showing prunes all the while that somebody reads.
//! What it may not know: terminals. Where data comes from and goes: snapshots through `sources::mount` to the kernel.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::select::{self, Filter};
use repo::{Repository, key_of_path, percent_path};
use sources::mount::{Audience, MountError, MountPlan, Mounted, OnTrouble, Showing, mount as mount_there};
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked whether the mount still stands and is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// What is wanted.
pub struct Request {
    /// One snapshot, and the absolute path in it; `None` for all that the filter lets through.
    pub snapshot: Option<(String, Option<Vec<u8>>)>,
    /// Which snapshots count.
    pub filter: Filter,
    /// An empty directory.
    pub dir: PathBuf,
    /// Who may look.
    pub audience: Audience,
    /// About how many bytes of content are kept in memory.
    pub cache_bytes: usize,
}

/// What is mounted.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many snapshots there are to see.
    pub snapshots: usize,
}

/// Mounts, tells `ready` when it can be read, and returns when somebody asks to stop or unmounts it.
///
/// # Errors
/// `no-fuse`, `mount-refused`, `mount-point`, `not-in-snapshot`; as [`select::pick_to_restore`].
pub fn mount(
    ctx: &Ctx,
    repository: &Repository,
    request: &Request,
    (ready, on): (&dyn Fn(&Report), OnTrouble),
) -> Result<Report, Failure> {
    let all = repository.snapshots()?;
    let (snapshots, showing) = match &request.snapshot {
        Some((name, within)) => {
            let picked = select::pick_to_restore(ctx, repository, &all, name, &request.filter)?;
            let within = within.as_deref().unwrap_or(b"/");
            let key = key_of_path(within)
                .ok_or_else(|| Failure::usage(format!("{} is no absolute path", percent_path(within))))?;
            (vec![picked.clone()], Showing::One(key))
        }
        None => (all.into_iter().filter(|snapshot| request.filter.lets(snapshot)).collect(), Showing::All),
    };
    let report = Report { snapshots: snapshots.len() };
    let reading = repository.reading(&ctx.process)?;
    let plan =
        MountPlan { dir: request.dir.clone(), showing, audience: request.audience, cache_bytes: request.cache_bytes };
    let mounted = mount_there(&plan, (reading.opener(), snapshots), &ctx.world, on)?;
    ready(&report);
    stay(ctx, &mounted, &|| reading.opener().keep_alive());
    mounted.end().map_err(|e| {
        Failure::new(Exit::Failed, "still-mounted", format!("cannot unmount {}: {e}", request.dir.display()))
            .help(format!("umount -l {}", request.dir.display()))
    })?;
    Ok(report)
}

/// Waits until somebody asks to stop, or unmounts it. Shows prunes that somebody reads.
pub(crate) fn stay(ctx: &Ctx, mounted: &Mounted, keep_alive: &dyn Fn() -> repo::Result<()>) {
    while mounted.stands() && !ctx.world.stop.requested() {
        // Best effort, as for every reader: what is read is verified anyway.
        keep_alive().unwrap_or_default();
        ctx.world.clock.sleep(LOOK);
    }
}

impl From<MountError> for Failure {
    fn from(e: MountError) -> Self {
        let what = e.to_string();
        let otherwise = "; or take out what you need: backstay restore, backstay dump";
        let (exit, code, help) = match e {
            MountError::Repo(e) => return e.into(),
            MountError::NoDevice => (
                Exit::Failed,
                "no-fuse",
                format!("load it: modprobe fuse; give it to a container: --device /dev/fuse{otherwise}"),
            ),
            MountError::Forbidden(_) => (
                Exit::Failed,
                "no-fuse",
                format!("as root: chmod 666 /dev/fuse, which is usual; in a container, let it mount{otherwise}"),
            ),
            MountError::NoHelper => (Exit::Failed, "no-fuse", format!("install the package fuse3{otherwise}")),
            MountError::NotForOthers => {
                (Exit::Failed, "mount-refused", "leave out --allow-other, or have root write that line".to_owned())
            }
            MountError::Left(dir) => {
                let dir = dir.display();
                (
                    Exit::Failed,
                    "mount-point",
                    format!("remove it, then try again: umount -l {dir} (without root: fusermount3 -uz {dir})"),
                )
            }
            MountError::BadDirectory { .. } => (Exit::Failed, "mount-point", "name an empty directory".to_owned()),
            MountError::NotInSnapshot(_) => {
                (Exit::Failed, "not-in-snapshot", "see what is there: backstay ls SNAPSHOT".to_owned())
            }
            MountError::NotADirectory(_) => {
                (Exit::Failed, "not-in-snapshot", "mount the directory above it, or see backstay dump".to_owned())
            }
            MountError::Other { .. } => {
                (Exit::Failed, "mount-refused", format!("see what it says; a sandbox may forbid mounting{otherwise}"))
            }
        };
        Failure::new(exit, code, what).help(help)
    }
}
