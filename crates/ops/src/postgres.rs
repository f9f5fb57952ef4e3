//! PostgreSQL as a source: backing it up, keeping its log, bringing it back to a moment.
//!
//! What it is for: `archive` keeps the log and knows what it covers; `ahead` does more of it than a server asks for; `receive`
//! fills it from the server, and `lag` says how far it is behind; `base` takes a cluster and waits for its log; `pitr`
//! chooses what to restore; `recover` restores it, or a table of it; `instant` runs a server on a backup; `logical` dumps
//! databases, `schema_git` keeps their definitions, `reload` brings dumps back; `doctor` looks whether a server can be protected.
//! What it may not know: terminals, configuration files. Where data comes from and goes: `sources::postgres` knows servers and
//! bytes; `repo` keeps both.
//!
//! Log is bound to physical backups of the same cluster, and to nothing else: there is no way to ask for a dump and a moment.

pub mod ahead;
pub mod archive;
pub mod base;
pub mod doctor;
pub mod instant;
pub mod lag;
pub mod logical;
pub mod pitr;
pub mod receive;
pub mod recover;
pub mod reload;
mod schema_git;

use crate::config::{Connect, Method, PostgresSource, Receive, SslMode, Wal};
use crate::failure::{Exit, Failure};
use receive::Receiving;
use repo::{DomainId, Repository, Snapshot};
use sources::postgres::replication::slot_name;
use sources::postgres::tls::{Mode, Tls};
use sources::postgres::wire::Server;
use std::path::PathBuf;

/// The kind of snapshots of clusters.
pub const KIND: &str = "postgres";

/// A cluster that is protected.
#[derive(Clone)]
pub struct Cluster {
    /// Platform and source: `shop/db`. Its archive is called after it.
    pub name: String,
    /// Whom to ask.
    pub server: Server,
    /// Where its data directory is seen from here, when that differs from what the server says.
    pub data_directory: Option<PathBuf>,
    /// Where its programs are; looked for when `None`.
    pub bin: Option<PathBuf>,
    /// Where its files come from.
    pub method: Method,
    /// Tables whose rows are counted at each backup.
    pub count_tables: Vec<String>,
    /// After how many backups a file that looks unchanged is read again.
    pub verify_every: u32,
    /// Where its log comes from.
    pub log: Wal,
    /// How its log is received, where it is.
    pub receiving: Receiving,
}

impl Cluster {
    /// The cluster of a source, with its password.
    ///
    /// # Errors
    /// `not-yet` for ways to reach a server that this version does not have; what is wrong with the reference to the
    /// password.
    pub fn of(name: &str, source: &PostgresSource) -> Result<Cluster, Failure> {
        let connect = &source.connect;
        let not_yet = |what: &str| {
            Failure::new(Exit::Usage, "not-yet", format!("cannot reach {name}: this version cannot {what} yet"))
                .help("connect by the server's socket, or on a network that you trust with sslmode = \"disable\"")
        };
        if let Some(via) = &connect.via {
            return Err(not_yet(&format!("go by {via}")));
        }
        let password = connect.password.as_ref().map(crate::config::Reference::read).transpose()?;
        let physical = source.physical.clone();
        Ok(Cluster {
            name: name.to_owned(),
            server: Server {
                host: connect.host.clone().unwrap_or_else(|| SOCKETS.to_owned()),
                port: connect.port,
                user: connect.user.clone().unwrap_or_else(crate::ctx::user_name),
                database: connect.database.clone(),
                password,
                tls: tls(name, connect)?,
            },
            data_directory: source.data_directory.clone(),
            bin: source.bin.clone(),
            method: physical.as_ref().map_or(Method::Auto, |physical| physical.method),
            count_tables: source.count_tables.clone(),
            verify_every: physical.as_ref().map_or(VERIFY_EVERY, |physical| physical.verify_every),
            receiving: receiving(name, physical.as_ref().map_or(&Receive::default(), |physical| &physical.receive)),
            log: physical.map_or(Wal::Continuous, |physical| physical.wal),
        })
    }
}

/// How a connection is encrypted.
fn tls(name: &str, connect: &Connect) -> Result<Tls, Failure> {
    let mode = match connect.sslmode {
        SslMode::Disable => Mode::Disable,
        SslMode::Allow => Mode::Allow,
        SslMode::Prefer => Mode::Prefer,
        SslMode::Require => Mode::Require,
        SslMode::VerifyCa => Mode::VerifyCa,
        SslMode::VerifyFull => Mode::VerifyFull,
    };
    let certificate = match (&connect.sslcert, &connect.sslkey) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => {
            let what = format!("{name}: sslcert and sslkey belong together");
            return Err(Failure::usage(what).help("name both files in `connect`, or none"));
        }
    };
    Ok(Tls { mode, roots: connect.sslrootcert.clone(), certificate })
}

fn receiving(name: &str, receive: &Receive) -> Receiving {
    Receiving {
        slot: receive.slot.as_ref().map_or_else(|| slot_name(name), |slot| slot.0.clone()),
        interval: receive.interval.0,
        held_warn_bytes: receive.held_warn.0,
    }
}

/// Where servers of Debian and its kin have their sockets.
const SOCKETS: &str = "/var/run/postgresql";
/// After how many backups a file that looks unchanged is read again, where nothing is said.
const VERIFY_EVERY: u32 = 10;

/// The snapshots of a cluster, in the order of commits.
pub fn snapshots_of<'s>(snapshots: &'s [Snapshot], source: &str) -> Vec<&'s Snapshot> {
    let of = |public: &repo::Public| public.kind == KIND && public.source.as_deref() == Some(source);
    snapshots.iter().filter(|snapshot| of(&snapshot.public)).collect()
}

/// The domain that a source's archive is in: that of its snapshots; before there are any, that of whoever asks.
fn domain_of(repository: &Repository, snapshots: &[&Snapshot]) -> Option<DomainId> {
    snapshots.last().map(|snapshot| snapshot.domain).or_else(|| repository.keyring().domain_of_writer())
}
