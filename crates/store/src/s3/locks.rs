//! Locks on objects in a bucket that has object lock.
//!
//! What it is for: what is written goes out with its lock, in the same request; what is near the end of its lock gets a new
//! one. Nothing here can make a lock end earlier: what has a later end, or a stronger mode, keeps it.
//! What it may not know: what the bytes mean, which objects are needed.
//! Where data comes from and goes: locks come with the requests; the ends of those that are there from the service itself.

use super::raw::{Answer, Ask};
use super::{S3Store, failure};
use crate::error::{Kind, StoreError};
use crate::key::Key;
use crate::lock::{Extended, Lock, LockMode};
use crate::world::{Lanes, Timestamp};
use http::{HeaderValue, Method, Request, Response};
use opendal::{Buffer, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many locks are looked at, or extended, at the same time. Each is a small request.
const AT_ONCE: usize = 16;
const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";

/// Sends what it is given, with a lock on what that makes.
struct Locking {
    wire: HttpTransporter,
    lock: Lock,
}

impl HttpTransport for Locking {
    async fn fetch(&self, mut request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let until = HeaderValue::from_str(&date(self.lock.until)?).map_err(|_| impossible())?;
        request.headers_mut().insert(MODE, HeaderValue::from_static(spelled(self.lock.mode)));
        request.headers_mut().insert(UNTIL, until);
        self.wire.fetch(request).await
    }
}

impl S3Store {
    /// The operator for a write that makes an object with this lock.
    pub(super) fn writing(&self, lock: Option<Lock>) -> Operator {
        match lock {
            None => self.operator.clone(),
            Some(lock) => {
                let locking = Locking { wire: self.wire.clone(), lock };
                let context = OperationContext::new().with_http_transport(HttpTransporter::new(locking));
                self.operator.clone().with_context(context)
            }
        }
    }

    /// Whether the bucket has object lock.
    pub(super) fn bucket_locks(&self) -> Result<bool, StoreError> {
        let what = format!("ask whether {} locks objects", self.place);
        let ask = Ask { method: Method::GET, of: None, query: "object-lock", body: String::new() };
        let answer = self.send(&ask).map_err(|e| failure(&what, &e))?;
        match answer.code() {
            "ObjectLockConfigurationNotFoundError" => Ok(false),
            _ => {
                let answer = answer.good().map_err(|e| failure(&what, &e))?;
                Ok(super::raw::element(&answer.text, "ObjectLockEnabled") == Some("Enabled"))
            }
        }
    }

    /// The lock of an object; `None` for one that has none.
    pub(super) fn lock_of(&self, key: &Key) -> Result<Option<Lock>, StoreError> {
        let what = format!("look at the lock of {key}");
        let ask = Ask { method: Method::HEAD, of: Some(key), query: "", body: String::new() };
        let answer = self.send(&ask).and_then(Answer::good).map_err(|e| failure(&what, &e))?;
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let until = header(UNTIL).and_then(|until| until.parse::<opendal::raw::Timestamp>().ok());
        let until = until.map(|until| Timestamp(until.into_inner().as_nanosecond()));
        Ok(header(MODE).and_then(LockMode::parse).zip(until).map(|(mode, until)| Lock { mode, until }))
    }

    fn set_lock(&self, key: &Key, lock: Lock) -> Result<(), StoreError> {
        let what = format!("lock {key}");
        let fail = |e: opendal::Error| failure(&what, &e);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
            spelled(lock.mode),
            date(lock.until).map_err(fail)?
        );
        let ask = Ask { method: Method::PUT, of: Some(key), query: "retention", body };
        self.send(&ask).and_then(Answer::good).map(drop).map_err(fail)
    }

    /// See [`crate::Backend::extend_locks`].
    pub(super) fn extend_all(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> Result<Extended, StoreError> {
        let extend = |key: &Key| -> Result<(Timestamp, u64), StoreError> {
            let now = self.lock_of(key)?;
            match now {
                Some(now) if now.until >= enough => Ok((now.until, 0)),
                _ => {
                    let strong = now.is_some_and(|now| now.mode == LockMode::Compliance);
                    let mode = if strong { LockMode::Compliance } else { lock.mode };
                    self.set_lock(key, Lock { mode, ..lock })?;
                    Ok((lock.until, 1))
                }
            }
        };
        let (next, count) = (AtomicUsize::new(0), AtomicU64::new(0));
        let ends = Mutex::new(vec![Timestamp::default(); keys.len()]);
        let failed: Mutex<Option<StoreError>> = Mutex::default();
        let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        Lanes::Threads(AT_ONCE.min(keys.len())).each(&|| {
            while !has_failed() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(key) = keys.get(at) else { return };
                match extend(key) {
                    Ok((end, more)) => {
                        ends.lock().unwrap_or_else(PoisonError::into_inner)[at] = end;
                        count.fetch_add(more, Ordering::Relaxed);
                    }
                    Err(e) => {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                    }
                }
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(Extended {
                ends: ends.into_inner().unwrap_or_else(PoisonError::into_inner),
                count: count.into_inner(),
            }),
        }
    }

    /// Deletes these objects one by one. Most services hide what is locked when they are asked to delete it; of one that
    /// refuses, what is locked is left, and told.
    ///
    /// # Errors
    /// What refuses a deletion and is no lock.
    pub(super) fn delete_singly(&self, keys: &[Key]) -> Result<Option<StoreError>, StoreError> {
        let mut left = None;
        for key in keys {
            let path = key.path();
            let Err(refused) = self.ask(async |_| self.operator.delete(&path).await) else { continue };
            let refused = failure(&format!("delete {key}"), &refused);
            match self.lock_of(key) {
                Ok(Some(lock)) if refused.kind == Kind::Denied && lock.until > self.patience.now() => {
                    let why = format!("it is locked until {}", date(lock.until).unwrap_or_default());
                    left = Some(StoreError { kind: Kind::Locked, why, ..refused });
                }
                _ => return Err(refused),
            }
        }
        Ok(left)
    }
}

fn spelled(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

fn impossible() -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::ConfigInvalid, "the lock ends at an impossible time")
}

fn date(at: Timestamp) -> opendal::Result<String> {
    opendal::raw::Timestamp::from_second(at.secs()).map(|at| at.to_string()).map_err(|_| impossible())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_services_read_them() {
        assert_eq!(date(Timestamp::new(1_795_000_000, 5)).unwrap(), "2026-11-18T11:06:40Z");
        assert!(date(Timestamp(i128::MAX)).is_err());
    }
}
