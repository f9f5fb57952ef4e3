//! A repository in a bucket: every object is one of its name, behind a prefix.
//!
//! What it is for: bytes on a service that speaks S3, which may be far, slow, busy, or only nearly like Amazon's.
//! What it may not know: what the bytes mean. It trusts no conditional write: one more look is always cheap.
//! Where data comes from and goes: an object is one PUT, whole or not there; reads ask for ranges. Callers wait: the runtime
//! that waits for the network is hidden here, and this file and those below it are the only ones that know it.

mod bucket;
mod locks;
mod past;
mod patience;
mod place;
mod raw;
mod wire;

use crate::error::{Kind, StoreError};
use crate::finding::Finding;
use crate::key::{Key, Shelf};
use crate::lock::{Extended, Lock};
use crate::store::{Backend, Listed, Put, Span, Warning};
use crate::world::{Timestamp, World};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use opendal::{BytesRange, ErrorKind, HttpTransporter, OperationContext, Operator};
use patience::{Patience, Tried};
use std::fmt;
use std::sync::OnceLock;
use tokio::runtime::Runtime;
use wire::Wire;

pub use past::PastStore;
pub use place::S3Place;

/// Threads that wait for the network and encrypt what goes over it.
const WORKERS: usize = 2;
/// Reads that wait for a network at the same time. Each may hold a few MiB.
const READS_AT_ONCE: usize = 8;
/// With its last group and its trailer a pack stays below 64 MiB: what any service takes in one PUT, and what two may take
/// of our memory.
const PACK_BYTES: u32 = 60 << 20;
/// How many objects one request deletes. Some services take 30 ms for each, one after the other.
const DELETE_BATCH: usize = 100;
/// What is written a second time, once in a process, to see whether the service keeps to conditions.
const PROBE_BYTES_MAX: usize = 64 << 10;
/// For services that have no regions, and for Amazon's oldest.
const REGION: &str = "us-east-1";
/// What services call having no room. OpenDAL has no kind for it.
const FULL: [&str; 4] = ["QuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage"];

/// Who asks the service. Whoever may delete is somebody else than who may only write, where that matters.
pub enum S3Identity {
    /// Whom the environment, the files of the AWS tools, or the machine's cloud say.
    Surroundings,
    /// The holder of this access key.
    Key {
        /// Its name.
        id: String,
        /// Its secret.
        secret: String,
    },
}

/// A repository in a bucket. See the module's head for what it promises.
pub struct S3Store {
    place: S3Place,
    operator: Operator,
    /// For what the operator has no words for.
    wire: HttpTransporter,
    runtime: Runtime,
    patience: Patience,
    /// Whether the service refuses to create what exists when asked to: seen, not believed.
    keeps_conditions: OnceLock<bool>,
}

impl S3Store {
    /// The bucket at `place`, for a repository that is to be made. The bucket itself must exist: where it lies, its
    /// versions and locks are its owner's choice.
    ///
    /// # Errors
    /// `Unsuitable` when there is no such bucket, or other things lie behind the prefix; `Denied`,
    /// `Unreachable`.
    pub fn create(place: &S3Place, world: &World, who: S3Identity) -> Result<S3Store, StoreError> {
        let store = S3Store::open(place, world, who)?;
        store.refuse_foreign()?;
        Ok(store)
    }

    /// The repository at `place`, as `who`. No request is made: whether it is one is for the caller to see from its
    /// `backstay.json`.
    ///
    /// # Errors
    /// `Unsuitable` when the system cannot do TLS or start threads.
    pub fn open(place: &S3Place, world: &World, who: S3Identity) -> Result<S3Store, StoreError> {
        let fail = |why: String| StoreError::new(Kind::Unsuitable, format!("open {place}"), why);
        let set = |name: &str| std::env::var(name).ok().filter(|region| !region.is_empty());
        let region = set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION"));
        let region = region.as_deref().or(place.region()).unwrap_or(REGION);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("s3")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| fail(e.to_string()))?;
        let wire = Wire::new(region, who).map_err(|e| fail(e.to_string()))?;
        let service = opendal::services::S3::default()
            .endpoint(&place.endpoint())
            .bucket(place.bucket())
            .root(place.prefix())
            .region(region)
            // The wire signs.
            .skip_signature()
            .disable_config_load()
            // Every service knows this one; buckets with locks ask for one.
            .checksum_algorithm("md5");
        let operator = Operator::new(service).map_err(|e| fail(e.to_string()))?;
        let wire = HttpTransporter::new(wire);
        let context = OperationContext::new().with_http_transport(wire.clone());
        Ok(S3Store {
            place: place.clone(),
            operator: operator.with_context(context),
            wire,
            runtime,
            patience: Patience::new(world),
            keeps_conditions: OnceLock::new(),
        })
    }

    /// Runs `request` until it is answered for good. It is told how many tries went before.
    fn ask<T>(&self, mut request: impl AsyncFnMut(u32) -> opendal::Result<T>) -> Result<T, opendal::Error> {
        self.patience.keep_trying(|before| match self.runtime.block_on(request(before)) {
            Err(e) if e.is_temporary() => Tried::Passing(e),
            done => Tried::Done(done),
        })
    }

    fn refuse_foreign(&self) -> Result<(), StoreError> {
        let what = format!("create a repository in {}", self.place);
        let names = self.ask(async |_| {
            let found = self.operator.lister_with("").await?;
            let names = found.take(100).map_ok(|entry| entry.path().to_owned());
            names.try_collect::<Vec<String>>().await
        });
        let names = names.map_err(|e| match failure(&what, &e) {
            no_bucket if no_bucket.is_absent() => StoreError { kind: Kind::Unsuitable, ..no_bucket },
            other => other,
        })?;
        let is_shelf = |name: &str| Shelf::ALL.iter().any(|shelf| !shelf.dir().is_empty() && shelf.dir() == name);
        let is_ours = |name: &String| match name.strip_suffix('/') {
            Some(dir) => dir.is_empty() || is_shelf(dir),
            None => name == "RECOVERY.txt",
        };
        match names.iter().find(|name| !is_ours(name)) {
            Some(foreign) if !names.iter().any(|name| name == "backstay.json") => {
                let why = format!("there are other things, and no repository: {foreign}");
                Err(StoreError::new(Kind::Unsuitable, what, why))
            }
            _ => Ok(()),
        }
    }

    /// One PUT that asks for a new name; `None` when the service says that the name is taken. The second value says whether
    /// an earlier try may have been carried out though its answer was lost.
    fn put(&self, key: &Key, body: &Bytes, lock: Option<Lock>, what: &str) -> Result<(Option<()>, bool), StoreError> {
        let path = key.path();
        let operator = self.writing(lock);
        let mut tries = 0;
        let put = self.ask(|before| {
            tries = before;
            // Each try has the whole body.
            operator.write_with(&path, body.clone()).if_not_exists(true).into_future()
        });
        match put {
            Ok(_) => Ok((Some(()), tries > 0)),
            Err(e) if e.kind() == ErrorKind::ConditionNotMatch => Ok((None, tries > 0)),
            Err(e) => Err(failure(what, &e)),
        }
    }

    fn create_object(&self, key: &Key, body: Vec<u8>, lock: Option<Lock>) -> Result<Put, StoreError> {
        let what = format!("write {key}");
        let body = Bytes::from(body);
        if self.keeps_conditions.get() != Some(&true) && self.size(key)?.is_some() {
            return self.taken(key, body.len() as u64, &what);
        }
        match self.put(key, &body, lock, &what)? {
            (Some(()), _) => {
                self.probe(key, &body, lock, &what)?;
                Ok(Put::New)
            }
            (None, unclear) => {
                self.keeps_conditions.get_or_init(|| true);
                let put = self.taken(key, body.len() as u64, &what)?;
                // The answer to an earlier try may have been lost: our own bytes are our own object.
                let ours = unclear && self.get(key, Span::Whole)? == body;
                Ok(if ours { Put::New } else { put })
            }
        }
    }

    /// What stands at a name that is taken.
    fn taken(&self, key: &Key, bytes: u64, what: &str) -> Result<Put, StoreError> {
        match self.size(key)? {
            Some(found) if found == bytes => Ok(Put::Existed),
            Some(found) => {
                let why = format!("an object of that name with {found} bytes exists, and {bytes} were to be written");
                Err(StoreError::new(Kind::Corrupt, what, why))
            }
            None => Err(StoreError::new(Kind::Unreachable, what, "it appeared and vanished meanwhile")),
        }
    }

    /// Sees whether the service keeps to conditions: the same object is created again, which either is refused, or puts the
    /// same bytes where they were.
    fn probe(&self, key: &Key, body: &Bytes, lock: Option<Lock>, what: &str) -> Result<(), StoreError> {
        if self.keeps_conditions.get().is_none() && body.len() <= PROBE_BYTES_MAX {
            let (put, _) = self.put(key, body, lock, what)?;
            self.keeps_conditions.get_or_init(|| put.is_none());
        }
        Ok(())
    }

    fn read(&self, from: &From<'_>, range: Option<BytesRange>, bytes_max: u64) -> Result<Vec<u8>, opendal::Error> {
        self.ask(async |_| {
            let reader = self.operator.reader_with(&from.path);
            let reader = match from.version {
                Some(version) => reader.version(version).await?,
                None => reader.await?,
            };
            let mut pieces = reader.clone().into_stream(range.unwrap_or_default()).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.try_next().await? {
                if (bytes.len() + piece.len()) as u64 > bytes_max {
                    return Err(opendal::Error::new(ErrorKind::RangeNotSatisfied, "more came than can be there"));
                }
                if bytes.is_empty() {
                    // At once: growing would hold the bytes twice.
                    let whole = || reader.metadata().map(|meta| meta.content_length());
                    let expected = range.map_or_else(whole, |range| range.size()).unwrap_or(0).min(bytes_max);
                    bytes.reserve_exact(usize::try_from(expected).unwrap_or(0));
                }
                for part in piece {
                    let part: Bytes = part;
                    bytes.extend_from_slice(&part);
                }
            }
            Ok(bytes)
        })
    }

    fn get_version(&self, key: &Key, span: Span, version: Option<&str>) -> Result<Vec<u8>, StoreError> {
        let what = format!("read {key}");
        let from = From { path: key.path(), version };
        let short = |why: String| StoreError::new(Kind::Corrupt, what.as_str(), why);
        let absent = || StoreError::new(Kind::Absent, what.as_str(), "it is not there");
        let size = || self.size_of(&from).map_err(|e| failure(&what, &e))?.ok_or_else(absent);
        match span {
            Span::Range { len: 0, offset } => match size()? {
                size if offset <= size => Ok(Vec::new()),
                size => Err(short(format!("it has {size} bytes, and byte {offset} was wanted"))),
            },
            Span::Tail { len: 0 } => size().map(|_| Vec::new()),
            Span::Range { offset, len } => {
                let ends_before = || short(format!("{len} bytes were wanted from byte {offset}, and it ends before"));
                let end = offset.checked_add(len).ok_or_else(ends_before)?;
                match self.read(&from, Some(BytesRange::new(offset, Some(len))), len) {
                    Ok(bytes) => Ok(bytes),
                    Err(e) if e.kind() == ErrorKind::RangeNotSatisfied => Err(ends_before()),
                    // A service cuts a range off where the object ends, and so does one that fails.
                    Err(e) if e.kind() == ErrorKind::Unexpected && size()? < end => Err(ends_before()),
                    Err(e) => Err(failure(&what, &e)),
                }
            }
            // More than can be there is asked for to get all: without a range, which an empty object has not.
            Span::Tail { len } if len > key.shelf().bytes_max() => {
                self.read(&from, None, len).map_err(|e| failure(&what, &e))
            }
            Span::Whole => self.read(&from, None, u64::MAX).map_err(|e| failure(&what, &e)),
            Span::Tail { len } => match self.read(&from, Some(BytesRange::suffix(len)), len) {
                Err(e) if e.kind() == ErrorKind::RangeNotSatisfied => match size()? {
                    0 => Ok(Vec::new()),
                    _ => Err(failure(&what, &e)),
                },
                other => other.map_err(|e| failure(&what, &e)),
            },
        }
    }

    fn size_of(&self, from: &From<'_>) -> Result<Option<u64>, opendal::Error> {
        let found = self.ask(async |_| {
            let stat = self.operator.stat_with(&from.path);
            match from.version {
                Some(version) => stat.version(version).await,
                None => stat.await,
            }
        });
        match found {
            Ok(found) => Ok(Some(found.content_length())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Which object, and which version of it; the newest unless one is named.
struct From<'a> {
    path: String,
    version: Option<&'a str>,
}

impl Backend for S3Store {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        self.put_owned(key, body.to_vec())
    }

    fn put_owned(&self, key: &Key, body: Vec<u8>) -> Result<Put, StoreError> {
        self.create_object(key, body, None)
    }

    fn put_locked(&self, key: &Key, body: Vec<u8>, lock: Lock) -> Result<Put, StoreError> {
        self.create_object(key, body, Some(lock))
    }

    fn extend_locks(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> Result<Extended, StoreError> {
        self.extend_all(keys, enough, lock)
    }

    fn has_locks(&self) -> Result<bool, StoreError> {
        self.bucket_locks()
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        self.get_version(key, span, None)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let from = From { path: key.path(), version: None };
        self.size_of(&from).map_err(|e| failure(&format!("look for {key}"), &e))
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let what = if shelf == Shelf::Root { "list the repository".into() } else { format!("list {}", shelf.dir()) };
        let Some(stem) = stem(shelf, prefix) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        let listed = self.ask(async |_| {
            let list = self.operator.lister_with(&stem).recursive(shelf != Shelf::Root);
            let mut entries = match &after {
                // A listing that broke goes on where it was.
                Some(after) => list.start_after(after).await?,
                None => list.await?,
            };
            while let Some(entry) = entries.try_next().await? {
                let key = Key::from_path(entry.path()).filter(|key| key.shelf() == shelf);
                if let Some(key) = key.filter(|key| key.name().starts_with(prefix) && entry.metadata().is_file()) {
                    found.push(Listed { key, bytes: entry.metadata().content_length() });
                }
                after = Some(entry.path().to_owned());
            }
            Ok(())
        });
        listed.map_err(|e| failure(&what, &e))?;
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.dedup();
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let was_there = self.size(key)?.is_some();
        self.delete_all(std::slice::from_ref(key))?;
        Ok(was_there)
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        let mut locked = None;
        for batch in keys.chunks(DELETE_BATCH) {
            let what = || match batch {
                [one] => format!("delete {one}"),
                [first, ..] => format!("delete {first} and {} others", batch.len() - 1),
                [] => "delete nothing".into(),
            };
            // Deleting what is gone succeeds, so that a lost answer is nothing to think about.
            match self.ask(|_| self.operator.delete_iter(batch.iter().map(Key::path))) {
                Ok(()) => {}
                Err(e) if e.is_temporary() => return Err(failure(&what(), &e)),
                // Something of it was refused, and for a batch it is not told why.
                Err(_) => locked = self.delete_singly(batch)?.or(locked),
            }
        }
        locked.map_or(Ok(()), Err)
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        // One PUT leaves nothing behind that is not an object.
        Ok(0)
    }

    fn room(&self) -> Option<u64> {
        None
    }

    fn lists_at_once(&self) -> bool {
        true
    }

    /// Each body goes along with its MD5, and what differs is refused.
    fn checks_writes(&self) -> bool {
        true
    }

    fn reads_at_once(&self) -> usize {
        READS_AT_ONCE
    }

    fn pack_bytes(&self) -> u32 {
        PACK_BYTES
    }

    fn examine(&self) -> Vec<Finding> {
        self.findings()
    }

    fn warnings(&self) -> Vec<Warning> {
        let exposed = self.place.is_exposed().then(|| Warning {
            name: "plain-http",
            text: format!("requests to {} cross the network in clear: write s3://… for TLS", self.place),
        });
        let ignored = (self.keeps_conditions.get() == Some(&false)).then(|| Warning {
            name: "conditions-ignored",
            text: format!(
                "{} overwrites although asked not to: each object is looked for before it is made",
                self.place
            ),
        });
        exposed.into_iter().chain(ignored).collect()
    }

    fn address(&self) -> String {
        self.place.to_string()
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({})", self.place)
    }
}

/// What the paths of all objects of the shelf whose names begin with `prefix` begin with; `None` when no name can.
fn stem(shelf: Shelf, prefix: &str) -> Option<String> {
    if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/')) {
        return None;
    }
    Some(match shelf {
        Shelf::Root => prefix.to_owned(),
        Shelf::Packs => match prefix.get(..2) {
            Some(fan) => format!("packs/{fan}/{prefix}"),
            None => format!("packs/{prefix}"),
        },
        shelf => format!("{}/{prefix}", shelf.dir()),
    })
}

fn failure(what: &str, e: &opendal::Error) -> StoreError {
    let message = e.message();
    let (code, text) = (field(message, "code"), field(message, "message"));
    let kind = match e.kind() {
        _ if code.is_some_and(|code| FULL.contains(&code)) => Kind::Full,
        ErrorKind::NotFound => Kind::Absent,
        ErrorKind::PermissionDenied => Kind::Denied,
        ErrorKind::ConfigInvalid if code == Some("NoSuchBucket") => Kind::Absent,
        ErrorKind::ConfigInvalid => Kind::Unsuitable,
        ErrorKind::RangeNotSatisfied => Kind::Corrupt,
        _ if matches!(code, Some("PermanentRedirect" | "AuthorizationHeaderMalformed")) => Kind::Unsuitable,
        _ => Kind::Unreachable,
    };
    let why = match (code, text) {
        (Some("NoSuchBucket"), _) => "there is no such bucket".to_owned(),
        (Some("PermanentRedirect" | "AuthorizationHeaderMalformed"), _) => {
            "the bucket is in another region: set AWS_REGION".to_owned()
        }
        (Some(code), Some("")) => format!("the service says {code}"),
        (Some(code), Some(text)) => format!("the service says {code}: {text}"),
        _ if message.is_empty() || message.starts_with("S3Error") => match kind {
            Kind::Absent => "there is no such object".to_owned(),
            Kind::Denied => "the service does not allow it".to_owned(),
            _ => "the service failed and said nothing".to_owned(),
        },
        _ => message.chars().take(300).collect(),
    };
    StoreError::new(kind, what, why)
}

/// The value of a field in what OpenDAL makes of the XML of an error.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let fields = message.strip_prefix("S3Error {")?;
    let (_, from) = fields.split_once(&format!("{name}: \""))?;
    let (value, _) = from.split_once("\", ").or_else(|| from.split_once("\" }"))?;
    (name != "code" || !value.is_empty()).then_some(value)
}
