//! Keys: who can open the repository, adding and removing passphrases, enrolling others, the recovery kit.
//!
//! What it is for: the decisions of `key`. What it may not know: terminals; secrets come in as text.
//! Where data comes from and goes: secrets go into the repository, wrapped, or into files of mode 0600.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::init::KeyFile;
use crate::ls::go_on;
use crate::open::remember;
use repo::{Certificate, Credential, DomainId, Repository, Role, Snapshot};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Who can open a repository.
#[derive(Serialize)]
pub struct KeyList {
    /// The names of the passphrases. Each does everything.
    pub passphrases: Vec<String>,
    /// Whose signatures count.
    pub certificates: Vec<CertificateRow>,
    /// The role of the key at hand.
    pub own_role: Role,
    /// The label of the key at hand.
    pub own_label: String,
}

/// One whose signatures count.
#[derive(Serialize)]
pub struct CertificateRow {
    /// Id of the signing key.
    pub signer: String,
    /// What its owner calls it.
    pub label: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// The only domain it may write in, if it is bound to one.
    pub domain: Option<DomainId>,
    /// When it was enrolled, RFC 3339.
    pub created: String,
    /// When its key was revoked, RFC 3339, if it was.
    pub revoked: Option<String>,
}

impl CertificateRow {
    fn of(repository: &Repository, certificate: &Certificate) -> CertificateRow {
        CertificateRow {
            signer: certificate.signer.to_string(),
            label: certificate.label.clone(),
            roles: certificate.roles.clone(),
            domain: certificate.domain,
            created: certificate.created.clone(),
            revoked: repository.revoked(certificate.signer).map(str::to_owned),
        }
    }
}

/// Who can open the repository.
///
/// # Errors
/// Whatever the store returns.
pub fn list(repository: &Repository) -> Result<KeyList, Failure> {
    let known = repository.certificates();
    let mut certificates: Vec<CertificateRow> = known.iter().map(|c| CertificateRow::of(repository, c)).collect();
    certificates.sort_by(|a, b| (&a.created, &a.signer).cmp(&(&b.created, &b.signer)));
    Ok(KeyList {
        passphrases: repository.passphrases()?,
        certificates,
        own_role: repository.keyring().role(),
        own_label: repository.keyring().label().to_owned(),
    })
}

/// A new passphrase, as a person gave it.
pub struct NewPassphrase(Zeroizing<String>);

impl NewPassphrase {
    /// The passphrase that `text` is; one line end at its end does not count.
    ///
    /// # Errors
    /// `bad-passphrase` when it is empty, or is a key of another kind.
    pub fn parse(text: &str) -> Result<NewPassphrase, Failure> {
        match Credential::parse(text) {
            Ok(Credential::Passphrase(text)) => Ok(NewPassphrase(text)),
            Ok(_) => Err(bad_passphrase("the new passphrase is a key of another kind")),
            Err(_) => Err(bad_passphrase("the new passphrase is empty or looks like a key of another kind")),
        }
    }
}

fn bad_passphrase(what: &str) -> Failure {
    Failure::new(Exit::Failed, "bad-passphrase", what).help("choose some words that nobody can guess")
}

/// Adds a passphrase that does everything the key at hand does, and returns its name. Proven to open the repository when
/// this returns.
///
/// # Errors
/// `NotAuthorised` without an owner's key; whatever the store returns.
pub fn add_passphrase(
    ctx: &Ctx,
    repository: &mut Repository,
    passphrase: &NewPassphrase,
    label: &str,
) -> Result<String, Failure> {
    let name = repository.add_passphrase(&passphrase.0, label)?;
    Repository::open(repository.store(), &ctx.world, &Credential::Passphrase(passphrase.0.clone()))?;
    Ok(name)
}

/// What a removal of a passphrase leaves.
#[derive(Serialize)]
pub struct PassphraseRemoved {
    /// Its name.
    pub removed: String,
    /// The names of the others.
    pub left: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Removes a passphrase. Who had it keeps what they read before.
///
/// # Errors
/// `NotAuthorised` without root; `no-passphrase` when there is none of that name; `last-passphrase` for the last one.
pub fn remove_passphrase(repository: &Repository, name: &str, act: repo::Act) -> Result<PassphraseRemoved, Failure> {
    let mut left = repository.passphrases()?;
    let Some(at) = left.iter().position(|found| found == name) else {
        let what = format!("there is no passphrase {name:?}");
        return Err(Failure::new(Exit::Failed, "no-passphrase", what).help("see their names: backstay key list"));
    };
    left.remove(at);
    if left.is_empty() {
        return Err(Failure::new(Exit::Failed, "last-passphrase", format!("{name:?} is the last passphrase"))
            .help("add another first: backstay key add"));
    }
    match act {
        repo::Act::Do => repository.remove_passphrase(name)?,
        repo::Act::Preview => {}
    }
    Ok(PassphraseRemoved { removed: name.to_owned(), left, dry_run: act == repo::Act::Preview })
}

/// A passphrase in the place of another.
#[derive(Serialize)]
pub struct PassphraseChanged {
    /// The name of the new one.
    pub added: String,
    /// The name of the one that opens nothing any more.
    pub removed: String,
}

/// Puts a new passphrase in the place of the one named `old`; without a name, of the only one. The old one goes only when
/// the new one is proven to open the repository.
///
/// # Errors
/// `which-passphrase` when there are several and none is named; otherwise as [`add_passphrase`] and
/// [`remove_passphrase`].
pub fn change_passphrase(
    ctx: &Ctx,
    repository: &mut Repository,
    old: Option<&str>,
    passphrase: &NewPassphrase,
) -> Result<PassphraseChanged, Failure> {
    let names = repository.passphrases()?;
    let old = match (old, names.as_slice()) {
        (Some(old), names) if names.iter().any(|name| name == old) => old.to_owned(),
        (Some(old), _) => {
            let what = format!("there is no passphrase {old:?}");
            return Err(Failure::new(Exit::Failed, "no-passphrase", what).help("see their names: backstay key list"));
        }
        (None, [only]) => only.clone(),
        (None, names) => {
            let what = format!("there are {} passphrases: {}", names.len(), names.join(", "));
            return Err(Failure::new(Exit::Usage, "which-passphrase", what)
                .help("name the one to replace: backstay key passwd NAME"));
        }
    };
    let label = repository.keyring().label().to_owned();
    let added = add_passphrase(ctx, repository, passphrase, &label)?;
    repository.remove_passphrase(&old)?;
    Ok(PassphraseChanged { added, removed: old })
}

/// Into which domain a writer writes. Writers in one domain share chunks, and could each tell what the other stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// One of its own.
    Own,
    /// This one.
    Given(DomainId),
    /// That of the writer with this label.
    SameAs(String),
}

/// What is asked of `key add --role`.
pub struct EnrolRequest<'a> {
    /// What for.
    pub role: Role,
    /// What its owner calls it.
    pub label: String,
    /// Where a writer writes.
    pub domain: Domain,
    /// The file for its keys, which must not exist yet.
    pub out: &'a Path,
}

/// Somebody who was enrolled.
#[derive(Serialize)]
pub struct Enrolled {
    /// What for.
    pub role: Role,
    /// What its owner calls it.
    pub label: String,
    /// The only domain it may write in.
    pub domain: Option<DomainId>,
    /// The file with its keys.
    pub file: String,
}

/// Enrols somebody and writes their keys to a file of mode 0600, durable when this returns. The keys are kept nowhere
/// else.
///
/// # Errors
/// `NotAuthorised` without root; `key-file-exists`, `key-file` when it cannot be made: nobody is enrolled then;
/// `no-writer` when no writer has the label that was named.
pub fn enrol(repository: &mut Repository, request: &EnrolRequest<'_>) -> Result<Enrolled, Failure> {
    let domain = match (&request.domain, request.role) {
        (Domain::Own, _) => None,
        (_, role) if role != Role::Writer => {
            return Err(Failure::usage(format!("a {} has no domain of its own", role.name()))
                .help("leave out --domain and --same-as: they are for writers"));
        }
        (Domain::Given(domain), _) => Some(*domain),
        (Domain::SameAs(label), _) => Some(domain_of(repository, label)?),
    };
    // Before anything is enrolled: a certificate without its keys would be of no use to anybody.
    let file = KeyFile::reserve(request.out)?;
    let bundle = repository.enrol(request.role, &request.label, domain)?;
    file.fill(bundle.to_json().as_bytes())?;
    let mut certificates = repository.certificates();
    certificates.sort_by(|a, b| b.created.cmp(&a.created));
    let own =
        certificates.iter().find(|c| c.label == request.label && c.roles.iter().any(|r| r == request.role.name()));
    Ok(Enrolled {
        role: request.role,
        label: request.label.clone(),
        domain: domain.or_else(|| own.and_then(|certificate| certificate.domain)),
        file: request.out.display().to_string(),
    })
}

fn domain_of(repository: &Repository, label: &str) -> Result<DomainId, Failure> {
    let mut found: Vec<DomainId> =
        repository.certificates().iter().filter(|c| c.label == label).filter_map(|c| c.domain).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [domain] => Ok(*domain),
        [] => Err(Failure::new(Exit::Failed, "no-writer", format!("no writer is labelled {label:?}"))
            .help("see the labels: backstay key list; or give the domain: --domain HEX")),
        _ => Err(Failure::new(Exit::Failed, "no-writer", format!("writers of several domains are labelled {label:?}"))
            .help("give the domain: --domain HEX")),
    }
}

/// Somebody whose key was revoked, or would be.
#[derive(Serialize)]
pub struct Revoked {
    /// Whose.
    #[serde(flatten)]
    pub whom: CertificateRow,
    /// Snapshots of theirs that stay.
    pub snapshots: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Revokes the key of somebody who was enrolled: what they committed stays, what they commit from now on does not count.
/// `whom` is the first digits of the key's id, or a label that only one has.
///
/// # Errors
/// `no-such-key`, `ambiguous-key`; `NotAuthorised` without root.
pub fn revoke(ctx: &Ctx, repository: &mut Repository, whom: &str, act: repo::Act) -> Result<Revoked, Failure> {
    let known = repository.certificates();
    let valid = known.iter().filter(|c| repository.revoked(c.signer).is_none());
    let is_hex = whom.len() >= 4 && whom.bytes().all(|b| b.is_ascii_hexdigit());
    let meant = |c: &&Certificate| c.label == whom || (is_hex && c.signer.to_string().starts_with(whom));
    let found: Vec<&Certificate> = valid.filter(meant).collect();
    let [certificate] = found.as_slice() else {
        let (code, what) = match found.len() {
            0 => ("no-such-key", format!("nobody is enrolled as {whom:?}, or the key was revoked already")),
            n => ("ambiguous-key", format!("{n} keys could be {whom:?}")),
        };
        return Err(Failure::new(Exit::Failed, code, what).help("give the SIGNER that `backstay key list` shows"));
    };
    let signer = certificate.signer;
    let snapshots = repository.snapshots()?.iter().filter(|snapshot| snapshot.signer == signer).count() as u64;
    if act == repo::Act::Do {
        repository.revoke(signer)?;
        remember(ctx, repository).into_iter().for_each(|why| ctx.remark(why));
    }
    let whom = CertificateRow::of(repository, certificate);
    Ok(Revoked { whom, snapshots, dry_run: act == repo::Act::Preview })
}

/// What a key file is to have.
pub enum Protection<'p> {
    /// A passphrase of its own.
    Passphrase(&'p NewPassphrase),
    /// None: who can read the file can use the key.
    None,
}

/// Gives a key file a passphrase of its own, another one, or none. `key` is what is in it, opened. The file is replaced by
/// one of mode 0600, durable when this returns; until then the old one stands.
///
/// # Errors
/// `bad-key` when it is no key; `key-file` when it cannot be written.
pub fn protect(file: &Path, key: &str, protection: &Protection<'_>) -> Result<(), Failure> {
    if let Credential::Passphrase(_) = Credential::parse(key)? {
        let what = format!("{} holds a passphrase, or something that is no key", file.display());
        return Err(Failure::new(Exit::WrongKey, "bad-key", what)
            .help("this is for files that `init --generate-key` or `key add --role` made, and for recovery kits"));
    }
    let text = match protection {
        Protection::Passphrase(passphrase) => {
            let text = Zeroizing::new(repo::protect_key(key, &passphrase.0)?);
            // Proven to open before the only copy of the key is replaced.
            if *repo::unprotect_key(&text, &passphrase.0)? != key {
                return Err(bad_passphrase("the protected key does not open"));
            }
            text
        }
        Protection::None => Zeroizing::new(key.to_owned()),
    };
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    KeyFile::reserve(Path::new(&name))?.replace(file, text.trim_end().as_bytes())
}

/// The recovery kit: a sheet to print and to put where no computer reaches it. It is a key file as well.
///
/// # Errors
/// `NotAuthorised` without a reader's key.
pub fn kit(ctx: &Ctx, repository: &Repository) -> Result<Zeroizing<String>, Failure> {
    let identity = repository.identity()?;
    let place = repository.store().address();
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let now = repo::time::text(ctx.world.clock.now());
    let written = writeln!(
        text,
        "BACKSTAY RECOVERY KIT

Who has this sheet and the repository can read everything in it.
Print it, put it in a safe, and delete the file.

Repository      {place}
Repository id   {}
Made            {}
Kit printed     {now}
Program         {}

Recovery identity (both lines):

{}

How to restore, on any machine:

1. Install backstay, or take docs/format.md and docs/reader/restore.py from
   its source: these need Python and nothing else of ours.
2. Write this sheet, or only the two lines of the recovery identity, to a file
   that only you may read:
       umask 077; cat > kit.txt
3. See what there is:
       backstay -r {place} --key-file kit.txt snapshots
4. Restore into an empty directory:
       backstay -r {place} --key-file kit.txt restore latest --target /some/empty/directory
5. Check the copy of the repository, if you have doubts about it:
       backstay -r {place} --key-file kit.txt verify --read-data

If the repository was moved, write its new address after -r. Its id must stay
the same: backstay refuses a key that belongs to another repository.
",
        repository.id(),
        repository.created(),
        ctx.program,
        identity.as_str(),
    );
    written.expect("text can be written to memory");
    Ok(text)
}

/// Writes a kit to a new file of mode 0600, durable when this returns.
///
/// # Errors
/// `key-file-exists`, `key-file` when it cannot be written.
pub fn write_kit(kit: &str, out: &Path) -> Result<(), Failure> {
    KeyFile::reserve(out)?.fill(kit.trim_end().as_bytes())
}

/// What the key at hand can do.
#[derive(Serialize)]
pub struct KeyTest {
    /// Its role.
    pub role: Role,
    /// What its owner calls it.
    pub label: String,
    /// The id of the repository it opens.
    pub repository_id: String,
    /// How many snapshots it can see.
    pub snapshots: u64,
    /// Domains of these.
    pub domains: Vec<DomainId>,
    /// Backs up.
    pub can_write: bool,
    /// Restores: tried on the newest snapshot, where there is one.
    pub can_read: bool,
    /// Forgets, prunes and annotates.
    pub can_prune: bool,
    /// Enrols others.
    pub can_enrol: bool,
}

/// Tries what the key at hand can do, changing nothing.
///
/// # Errors
/// When the history cannot be read; when a key that should read cannot.
pub fn test(ctx: &Ctx, repository: &Repository) -> Result<KeyTest, Failure> {
    let role = repository.keyring().role();
    let snapshots = repository.snapshots()?;
    let can_read = matches!(role, Role::Owner | Role::Reader);
    if can_read {
        try_reading(ctx, repository, snapshots.last())?;
    }
    let mut domains: Vec<DomainId> = snapshots.iter().map(|snapshot| snapshot.domain).collect();
    domains.sort_unstable();
    domains.dedup();
    Ok(KeyTest {
        role,
        label: repository.keyring().label().to_owned(),
        repository_id: repository.id().to_string(),
        snapshots: snapshots.len() as u64,
        domains,
        can_write: matches!(role, Role::Owner | Role::Writer),
        can_read,
        can_prune: matches!(role, Role::Owner | Role::Keeper | Role::Root),
        can_enrol: matches!(role, Role::Owner | Role::Root),
    })
}

fn try_reading(ctx: &Ctx, repository: &Repository, newest: Option<&Snapshot>) -> Result<(), Failure> {
    repository.identity()?;
    let Some(newest) = newest else { return Ok(()) };
    let reading = repository.reading(&ctx.process)?;
    let reader = reading.open(newest)?;
    if let Some(first) = reader.entries(b"").next() {
        go_on(ctx)?;
        first?;
    }
    Ok(())
}
