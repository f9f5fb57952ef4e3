//! Snapshots in groups: what `forget` applies a policy to and `snapshots` prints together.
//!
//! It may not know policies. A group is what its snapshots share: host, paths, tags, or nothing.

use crate::failure::Failure;
use crate::postgres::logical::KIND as LOGICAL;
use repo::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;

/// One thing that snapshots of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKey {
    /// The host.
    Host,
    /// What was protected: the source where it has a name, or else the paths.
    Paths,
    /// The tags.
    Tags,
}

/// What snapshots of a group have in common. Empty: all are one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBy(Vec<GroupKey>);

impl GroupBy {
    /// What `text` says: names from `host`, `paths`, `tags`, with commas between them; empty for one group.
    ///
    /// # Errors
    /// `Usage` for any other name.
    pub fn parse(text: &str) -> Result<GroupBy, Failure> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let keys = names.map(|name| match name {
            "host" | "hosts" => Ok(GroupKey::Host),
            "path" | "paths" => Ok(GroupKey::Paths),
            "tag" | "tags" => Ok(GroupKey::Tags),
            other => Err(Failure::usage(format!("cannot group by {other:?}"))
                .help("group by host, paths or tags, for example --group-by host,paths")),
        });
        let mut keys: Vec<GroupKey> = keys.collect::<Result<_, Failure>>()?;
        keys.sort_unstable();
        keys.dedup();
        Ok(GroupBy(keys))
    }

    /// The group of a snapshot.
    pub fn of(&self, snapshot: &Snapshot) -> Group {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        let mut group = Group::default();
        for key in &self.0 {
            match key {
                GroupKey::Host => group.host = Some(snapshot.public.host.clone()),
                // A source stays the same one when its configuration names other paths.
                GroupKey::Paths => match &snapshot.public.source {
                    Some(source) => {
                        group.source = Some(source.clone());
                        // A dump does not stand in for the files of a cluster, nor they for it.
                        group.kind = Some(&snapshot.public.kind).filter(|kind| *kind == LOGICAL).cloned();
                    }
                    None => group.paths = Some(sorted(&snapshot.public.paths)),
                },
                GroupKey::Tags => group.tags = Some(sorted(&snapshot.tags)),
            }
        }
        group
    }

    /// The snapshots by group, in their order within each.
    pub fn split<'s>(&self, snapshots: &[&'s Snapshot]) -> BTreeMap<Group, Vec<&'s Snapshot>> {
        let mut groups: BTreeMap<Group, Vec<&'s Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            groups.entry(self.of(snapshot)).or_default().push(snapshot);
        }
        groups
    }
}

impl Default for GroupBy {
    /// By host and paths: what is taken of the same things on the same host is one source.
    fn default() -> Self {
        GroupBy(vec![GroupKey::Host, GroupKey::Paths])
    }
}

/// What the snapshots of one group share; nothing where it was not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Group {
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The source, `PLATFORM/SOURCE`, where it has a name: in the place of the paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How the source was taken, where that is by dumps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What was protected, sorted, as percent paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// The tags, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.host.as_ref().map(|host| format!("host {host}")));
        parts.extend(self.source.as_ref().map(|source| format!("source {source}")));
        parts.extend(self.kind.as_ref().map(|kind| format!("{kind} backups")));
        parts.extend(self.paths.as_ref().map(|paths| format!("paths {}", paths.join(", "))));
        parts.extend(self.tags.as_ref().map(|tags| match tags.as_slice() {
            [] => "no tags".to_owned(),
            tags => format!("tags {}", tags.join(", ")),
        }));
        if parts.is_empty() { f.write_str("all snapshots") } else { f.write_str(&parts.join(", ")) }
    }
}
