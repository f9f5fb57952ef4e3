//! Whether a restored tree is the tree that was backed up: names, types, contents, modes, owners, times, targets.
//!
//! What it may not know: who restored it. Where data comes from and goes: two directories in, the first difference out.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Compares everything below the two directories; not the two themselves, which one tool makes and another is given.
///
/// # Errors
/// The first difference, or what could not be read.
pub fn same_trees(expected: &Path, found: &Path) -> Result<u64, String> {
    let mut compared = 0;
    let mut waiting = vec![(expected.to_owned(), found.to_owned())];
    let mut buffers = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    while let Some((expected, found)) = waiting.pop() {
        let (names, others) = (names(&expected)?, names(&found)?);
        if let Some(name) = names.iter().find(|name| others.binary_search(name).is_err()) {
            return Err(format!("{} is missing", found.join(name).display()));
        }
        if let Some(name) = others.iter().find(|name| names.binary_search(name).is_err()) {
            return Err(format!("{} should not be there", found.join(name).display()));
        }
        for name in names {
            let pair = (expected.join(&name), found.join(&name));
            same(&pair.0, &pair.1, &mut buffers)?;
            compared += 1;
            if look(&pair.0)?.is_dir() {
                waiting.push(pair);
            }
        }
    }
    Ok(compared)
}

const BUFFER_BYTES: usize = 1 << 18;

fn look(path: &Path) -> Result<Metadata, String> {
    path.symlink_metadata().map_err(|e| format!("{}: {e}", path.display()))
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    let names = std::fs::read_dir(dir).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

fn same(expected: &Path, found: &Path, buffers: &mut (Vec<u8>, Vec<u8>)) -> Result<(), String> {
    let (a, b) = (look(expected)?, look(found)?);
    let differs = |what: &str| Err(format!("{}: its {what} is another", found.display()));
    if a.file_type() != b.file_type() {
        return differs("type");
    }
    if (a.uid(), a.gid()) != (b.uid(), b.gid()) {
        return differs("owner");
    }
    if a.is_symlink() {
        let targets = (std::fs::read_link(expected), std::fs::read_link(found));
        return match targets {
            (Ok(a), Ok(b)) if a == b => Ok(()),
            _ => differs("target"),
        };
    }
    if a.mode() != b.mode() {
        return differs("mode");
    }
    if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
        return differs("modification time");
    }
    if a.is_file() && (a.len() != b.len() || !same_bytes(expected, found, buffers)?) {
        return differs("content");
    }
    Ok(())
}

fn same_bytes(expected: &Path, found: &Path, (a, b): &mut (Vec<u8>, Vec<u8>)) -> Result<bool, String> {
    let open = |path: &Path| File::open(path).map_err(|e| format!("{}: {e}", path.display()));
    let (mut expected, mut found) = (open(expected)?, open(found)?);
    loop {
        let (n, m) = (fill(&mut expected, a)?, fill(&mut found, b)?);
        if a[..n] != b[..m] {
            return Ok(false);
        }
        if n < a.len() {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize, String> {
    let mut at = 0;
    while at < buffer.len() {
        match file.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, UNIX_EPOCH};

    fn make(root: &Path) {
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/a"), b"one").unwrap();
        fs::write(root.join("d/b"), vec![7; BUFFER_BYTES + 1]).unwrap();
        std::os::unix::fs::symlink("a", root.join("d/l")).unwrap();
        for name in ["d/a", "d/b", "d"] {
            let time = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
            File::open(root.join(name)).unwrap().set_modified(time).unwrap();
        }
    }

    #[test]
    fn every_difference_is_seen() {
        let base = std::env::temp_dir().join(format!("peers-same-{}", std::process::id()));
        let check = |change: &dyn Fn(&Path), expect: &str| {
            if base.exists() {
                fs::remove_dir_all(&base).unwrap();
            }
            let (a, b) = (base.join("a"), base.join("b"));
            make(&a);
            make(&b);
            change(&b);
            match same_trees(&a, &b) {
                Ok(compared) => assert_eq!((expect, compared), ("", 4)),
                Err(what) => assert!(!expect.is_empty() && what.contains(expect), "{what} instead of {expect}"),
            }
        };
        let time = |path: &Path| {
            File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::new(1_700_000_000, 5)).unwrap();
        };
        check(&|_| {}, "");
        check(&|b| fs::remove_file(b.join("d/a")).unwrap(), "modification time");
        check(&|b| fs::write(b.join("more"), b"").unwrap(), "should not be there");
        check(&|b| fs::write(b.join("d/a"), b"one").unwrap(), "d/a: its modification time");
        let rewrite = |b: &Path| {
            fs::write(b.join("d/a"), b"two").unwrap();
            time(&b.join("d/a"));
        };
        check(&rewrite, "content");
        let last = |b: &Path| {
            let mut bytes = vec![7; BUFFER_BYTES + 1];
            bytes[BUFFER_BYTES] = 8;
            fs::write(b.join("d/b"), bytes).unwrap();
            time(&b.join("d/b"));
        };
        check(&last, "d/b: its content");
        check(&|b| fs::set_permissions(b.join("d/a"), fs::Permissions::from_mode(0o600)).unwrap(), "mode");
        let relink = |b: &Path| {
            fs::remove_file(b.join("d/l")).unwrap();
            std::os::unix::fs::symlink("b", b.join("d/l")).unwrap();
            time(&b.join("d"));
        };
        check(&relink, "target");
        let gone = |b: &Path| {
            fs::remove_file(b.join("d/b")).unwrap();
            time(&b.join("d"));
        };
        check(&gone, "is missing");
        fs::remove_dir_all(&base).unwrap();
    }
}
