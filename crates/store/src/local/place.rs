//! Which kinds of file systems a repository may stand on.
//!
//! A network file system may answer "stored" for what is only in another machine's memory, and may show one machine what
//! it hides from the next; its owner has to want that. It may not know objects.

use super::temp::{Temp, random_name};
use super::{Finding, Kind, StoreError, Warning, failure, io_failure};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Whether a repository may stand on a network file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// It may not.
    Refuse,
    /// It may, and the store's warnings say so.
    Accept,
}

/// What kind of file system a directory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A disk of this machine, as far as one can tell.
    Disk,
    /// Memory, by the file system's name: gone at the next boot.
    Memory(&'static str),
    /// Somewhere behind another program or machine, by the file system's name.
    Network(&'static str),
}

/// The place that statfs describes by the magic number `f_type`. Numbers we do not know are taken for disks.
pub(super) fn classify(f_type: u32) -> Place {
    match f_type {
        0x0102_1994 => Place::Memory("tmpfs"),
        0x8584_58f6 => Place::Memory("ramfs"),
        0x0000_6969 => Place::Network("nfs"),
        0x0000_517b => Place::Network("smb"),
        0xff53_4d42 => Place::Network("cifs"),
        0xfe53_4d42 => Place::Network("smb2"),
        0x0102_1997 => Place::Network("9p"),
        0x6573_5546 => Place::Network("fuse"),
        0x00c3_6400 => Place::Network("ceph"),
        0x5346_414f | 0x6b41_4653 => Place::Network("afs"),
        0x7375_7245 => Place::Network("coda"),
        0x0000_564c => Place::Network("ncp"),
        0x0bd0_0bd0 => Place::Network("lustre"),
        0x1983_0326 => Place::Network("beegfs"),
        0x4750_4653 => Place::Network("gpfs"),
        0xaad7_aaea => Place::Network("panfs"),
        0x2003_0528 => Place::Network("orangefs"),
        0x786f_4256 => Place::Network("vboxsf"),
        0xbacb_acbc => Place::Network("vmhgfs"),
        0x7c7c_6673 => Place::Network("prlfs"),
        _ => Place::Disk,
    }
}

impl Place {
    /// Whether what is stored here is stored by somebody else.
    pub(super) fn is_network(self) -> bool {
        matches!(self, Place::Network(_))
    }

    /// What the owner of a repository at `path` should know.
    pub(super) fn warning(self, path: &Path) -> Option<Warning> {
        let path = path.display();
        match self {
            Place::Disk => None,
            Place::Memory(name) => Some(Warning {
                name: "memory-filesystem",
                text: format!("{path} is in memory ({name}): everything in it is lost when this machine stops"),
            }),
            Place::Network(name) => Some(Warning {
                name: "network-filesystem",
                text: format!(
                    "{path} is on a network file system ({name}): it may claim to have stored what it has not"
                ),
            }),
        }
    }
}

/// What a close look at the file system of a repository at `path` finds.
pub(super) fn finding(place: Place, path: &Path) -> Finding {
    match (place, place.warning(path)) {
        (Place::Memory(_), Some(warning)) => Finding::problem("file-system", warning.text, "move it to a disk"),
        (_, Some(warning)) => {
            let help = "keep a second copy elsewhere (backstay copy), and verify it";
            Finding::warning("file-system", warning.text, help)
        }
        (_, None) => Finding::ok("file-system", "it is on no network file system and not in memory"),
    }
}

/// The place of the directory `dir`, when the owner's policy allows it.
///
/// # Errors
/// `Unsuitable` when it does not; otherwise as the system says.
pub(super) fn admit(dir: &OwnedFd, on_network: NetworkPolicy, what: &str) -> Result<Place, StoreError> {
    let place = of(dir).map_err(|e| failure(what, e))?;
    decide(place, on_network).map_err(|why| StoreError::new(Kind::Unsuitable, what, why))
}

/// The place of the directory `dir`, whoever wants it.
pub(super) fn of(dir: &OwnedFd) -> Result<Place, Errno> {
    // The type of this field differs between machines, and some extend its sign: the magic is its low half.
    rustix::fs::fstatfs(dir).map(|stat| classify(stat.f_type as u32))
}

fn decide(place: Place, on_network: NetworkPolicy) -> Result<Place, String> {
    match (place, on_network) {
        (Place::Network(name), NetworkPolicy::Refuse) => {
            Err(format!("it is on a network file system ({name}), which may claim to have stored what it has not"))
        }
        _ => Ok(place),
    }
}

/// Tries in the directory `tmp` what the store relies on: that creating and renaming never replace, and that a lock keeps
/// others out. What it leaves when it is killed, `tidy` removes.
///
/// # Errors
/// `Unsuitable` when one of them does not hold; otherwise as the system says.
pub(super) fn prove(tmp: &OwnedFd, what: &str) -> Result<(), StoreError> {
    let name = format!("probe-{}", random_name());
    let outcome = prove_with(tmp, &name, what);
    rustix::fs::unlinkat(tmp, &*name, AtFlags::empty()).ok();
    outcome
}

fn prove_with(dir: &OwnedFd, probe: &str, what: &str) -> Result<(), StoreError> {
    let fail = |e| failure(what, e);
    let broken = |why: &str| Err(StoreError::new(Kind::Unsuitable, what, why));

    let mut first = Temp::create(dir).map_err(fail)?;
    first.file.write_all(b"first").map_err(|e| io_failure(what, &e))?;
    first.move_to(dir, probe).map_err(fail)?;

    let exclusive = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, probe, exclusive, Mode::RUSR | Mode::WUSR) {
        Err(Errno::EXIST) => {}
        Err(e) => return Err(fail(e)),
        Ok(_) => return broken("the file system creates a file whose name exists"),
    }

    let mut second = Temp::create(dir).map_err(fail)?;
    second.file.write_all(b"other").map_err(|e| io_failure(what, &e))?;
    match second.move_to(dir, probe) {
        Err(Errno::EXIST) => {}
        Err(e) => return Err(fail(e)),
        Ok(()) => return broken("the file system replaces a file when it was told not to"),
    }
    let mut kept = String::new();
    first.file.rewind().and_then(|()| first.file.read_to_string(&mut kept)).map_err(|e| io_failure(what, &e))?;
    if kept != "first" {
        return broken("the file system does not give back what was written");
    }

    let reading = OFlags::RDWR | OFlags::CLOEXEC;
    let again = rustix::fs::openat(dir, probe, reading, Mode::empty()).map_err(fail)?;
    match rustix::fs::flock(&again, FlockOperation::NonBlockingLockExclusive) {
        Err(_) => Ok(()),
        Ok(()) => broken("the file system gives one lock to two holders"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_apart_by_their_magic_number() {
        for (name, magic, network) in [
            ("ext4", 0xef53, false),
            ("xfs", 0x5846_5342, false),
            ("btrfs", 0x9123_683e, false),
            ("zfs", 0x2fc1_2fc1, false),
            ("bcachefs", 0xca45_1a4e, false),
            ("f2fs", 0xf2f5_2010, false),
            ("overlayfs", 0x794c_7630, false),
            ("tmpfs", 0x0102_1994, false),
            ("ramfs", 0x8584_58f6, false),
            ("nfs", 0x6969, true),
            ("smb", 0x517b, true),
            ("cifs", 0xff53_4d42, true),
            ("smb2", 0xfe53_4d42, true),
            ("9p", 0x0102_1997, true),
            ("fuse", 0x6573_5546, true),
            ("ceph", 0x00c3_6400, true),
            ("afs", 0x5346_414f, true),
            ("afs", 0x6b41_4653, true),
            ("lustre", 0x0bd0_0bd0, true),
        ] {
            let place = classify(magic);
            assert_eq!(place.is_network(), network, "{name}");
            assert_eq!(decide(place, NetworkPolicy::Accept), Ok(place), "{name}");
            match decide(place, NetworkPolicy::Refuse) {
                Ok(_) => assert!(!network, "{name}"),
                Err(why) => assert!(network && why.contains(name) && why.contains("claim to have stored"), "{why}"),
            }
        }
    }

    #[test]
    fn the_owner_is_warned_of_memory_and_of_networks_and_of_nothing_else() {
        let name = |magic| classify(magic).warning(Path::new("/x")).map(|warning| warning.name);
        assert_eq!(name(0xef53), None);
        assert_eq!(name(0x0102_1994), Some("memory-filesystem"));
        assert_eq!(name(0x6969), Some("network-filesystem"));
    }
}
