//! Options that say which snapshots count, the same for every verb that has them.

use crate::args::Global;
use ops::Failure;
use ops::select::{Filter, split_source};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which snapshots `latest` and filters mean.
#[derive(clap::Args, Debug, Default)]
pub struct Choose {
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Only snapshots with this tag; with a comma: with all of these
    #[arg(long, value_name = "TAG[,TAG]")]
    pub tag: Vec<String>,
    /// Only snapshots of this path
    #[arg(long, value_name = "PATH")]
    pub path: Vec<OsString>,
    /// Only snapshots of this source, or of this platform
    #[arg(long, value_name = "PLATFORM[/SOURCE]")]
    pub source: Option<String>,
}

impl Choose {
    /// The filter that was asked for.
    pub fn filter(&self) -> Filter {
        Filter::new(&self.host, &self.tag, &self.path).of_source(self.source.as_deref())
    }

    /// The options of every verb, for the platform that is named here or by one of these snapshots.
    pub fn about(&self, global: &Global, snapshots: &[impl AsRef<str>]) -> Global {
        let named = snapshots.iter().find_map(|name| split_source(name.as_ref()).0);
        global.about(self.source.as_deref().or(named))
    }
}

/// A snapshot's name and the path in it: `SNAP[:/sub/path]`, where the path may be any bytes.
///
/// # Errors
/// `usage` for a name that is no text.
pub fn split(text: &OsStr) -> Result<(String, Option<OsString>), Failure> {
    let bytes = text.as_bytes();
    let end = bytes.windows(2).position(|pair| pair == b":/").unwrap_or(bytes.len());
    let path = bytes.get(end + 1..).filter(|path| !path.is_empty()).map(|path| OsStr::from_bytes(path).to_owned());
    let name = std::str::from_utf8(&bytes[..end]);
    let name = name.map_err(|_| Failure::usage("the snapshot's name is not text"))?;
    Ok((name.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_a_path() {
        let told = |text: &str| split(OsStr::new(text)).expect("splits");
        assert_eq!(told("latest:/etc"), ("latest".into(), Some("/etc".into())));
        assert_eq!(
            told("latest@2025-12-09T14:30:00Z:/a:/b"),
            ("latest@2025-12-09T14:30:00Z".into(), Some("/a:/b".into()))
        );
        assert_eq!(told("ab12"), ("ab12".into(), None));
    }
}
