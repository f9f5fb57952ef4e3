//! The store in a bucket against a service that fails on command: answers that are lost, cut off, refused, or untrue.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{
    Backend, Clock, Key, Kind, Lock, LockMode, Put, S3Identity, S3Place, S3Store, Shelf, Span, Timestamp, World,
};

/// What is wrong with the answer to one request. One is taken for each request that it is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It is not carried out, and this status and error code come back.
    Refuse(u16, &'static str),
    /// It is carried out, and the connection ends without an answer.
    LoseAnswer,
    /// The connection ends in the middle of the body.
    CutBody,
    /// The listing ends early and says nothing of it: the connection breaks after the first name.
    BreakListing,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    /// Method, and what is wrong with the next answers to it.
    faults: Vec<(&'static str, Fault)>,
    /// Method and size of the body of each request.
    requests: Vec<(String, usize)>,
    ignores_conditions: bool,
    /// Mode and end of locks.
    locks: BTreeMap<String, (String, String)>,
}

/// A service on a port of this machine. It ends with the process.
struct Service {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Service {
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Service { state, port }
    }

    fn store(&self) -> S3Store {
        let place = S3Place::parse(&format!("s3:http://127.0.0.1:{}/bucket/at", self.port)).unwrap().unwrap();
        let world = World { clock: Arc::new(NoWaiting), ..World::real() };
        let who = S3Identity::Key { id: "somebody".into(), secret: "a secret".into() };
        S3Store::open(&place, &world, who).unwrap()
    }

    fn fail(&self, method: &'static str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults.iter().map(|fault| (method, *fault)));
    }

    /// Methods and sizes of what was asked since this was last called.
    fn asked(&self) -> Vec<(String, usize)> {
        let mut state = self.state.lock().unwrap();
        assert!(state.faults.is_empty(), "faults that nothing met: {:?}", state.faults);
        std::mem::take(&mut state.requests)
    }

    fn count(&self, method: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked == method).count()
    }
}

/// Pauses pass at once.
struct NoWaiting;

impl Clock for NoWaiting {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _how_long: Duration) {}
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let answer = state.lock().unwrap().answer(&request);
        let Some((status, headers, body, end)) = answer else { return };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let mut stream = stream;
        let body = if request.method == "HEAD" { &[] } else { &body[..end.unwrap_or(body.len())] };
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_err() || end.is_some() {
            return;
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
    }
}

/// Status, headers, body, and where it breaks off.
type Answer = Option<(u16, String, Vec<u8>, Option<usize>)>;

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        assert!(request.headers.contains_key("authorization"), "a request without a signature");
        self.requests.push((request.method.clone(), request.body.len()));
        let next = self.faults.iter().position(|(method, _)| *method == request.method);
        let fault = next.map(|next| self.faults.remove(next).1);
        if let Some(Fault::Refuse(status, code)) = fault {
            let body = format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
            return Some((status, String::new(), body.into_bytes(), None));
        }
        let (status, headers, body) = self.carry_out(request);
        match fault {
            Some(Fault::LoseAnswer) => None,
            Some(Fault::CutBody) => {
                let half = body.len() / 2;
                Some((status, headers, body, Some(half)))
            }
            Some(Fault::BreakListing) => {
                let text = String::from_utf8(body.clone()).unwrap();
                let first = text.find("</Contents>").unwrap();
                Some((status, headers, body, Some(first)))
            }
            _ => Some((status, headers, body, None)),
        }
    }

    fn carry_out(&mut self, request: &Request) -> (u16, String, Vec<u8>) {
        let plain = |status: u16| (status, String::new(), Vec::new());
        let name = request.path.strip_prefix("/bucket").unwrap().trim_start_matches('/').to_owned();
        match request.method.as_str() {
            "PUT" if request.query.starts_with("retention") => {
                assert!(request.headers.contains_key("x-amz-checksum-sha256"), "services want a digest");
                let body = String::from_utf8(request.body.clone()).unwrap();
                let value =
                    |name: &str| body.split(&format!("<{name}>")).nth(1).unwrap().split('<').next().unwrap().to_owned();
                self.locks.insert(name, (value("Mode"), value("RetainUntilDate")));
                plain(200)
            }
            "GET" if request.query.starts_with("object-lock") => {
                let body =
                    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
                (200, String::new(), body.into())
            }
            "PUT" => {
                let wants_new = request.headers.get("if-none-match").is_some_and(|value| value == "*");
                if wants_new && self.objects.contains_key(&name) && !self.ignores_conditions {
                    return plain(412);
                }
                let header = |name: &str| request.headers.get(&format!("x-amz-object-lock-{name}")).cloned();
                if let (Some(mode), Some(until)) = (header("mode"), header("retain-until-date")) {
                    self.locks.insert(name.clone(), (mode, until));
                }
                self.objects.insert(name, request.body.clone());
                plain(200)
            }
            "GET" if name.is_empty() => self.list(&request.query),
            "HEAD" | "GET" => {
                let Some(object) = self.objects.get(&name) else { return plain(404) };
                let locked = self.locks.get(&name).map_or(String::new(), |(mode, until)| {
                    format!("x-amz-object-lock-mode: {mode}\r\nx-amz-object-lock-retain-until-date: {until}\r\n")
                });
                let modified = format!("Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT\r\n{locked}");
                let Some(range) = request.headers.get("range") else { return (200, modified, object.clone()) };
                let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let len = object.len();
                let (from, to) = match from.parse::<usize>() {
                    Ok(from) => (from, to.parse().map_or(len, |to: usize| (to + 1).min(len))),
                    Err(_) => (len.saturating_sub(to.parse().unwrap()), len),
                };
                if from >= to {
                    return plain(416);
                }
                let headers = format!("{modified}Content-Range: bytes {from}-{}/{len}\r\n", to - 1);
                (206, headers, object[from..to].to_vec())
            }
            "DELETE" if self.locks.contains_key(&name) => {
                (403, String::new(), b"<Error><Code>AccessDenied</Code><Message>locked</Message></Error>".into())
            }
            "DELETE" => {
                self.objects.remove(&name);
                plain(204)
            }
            "POST" => {
                let body = String::from_utf8(request.body.clone()).unwrap();
                let mut refused = String::new();
                for part in body.split("<Key>").skip(1) {
                    let name = part.split("</Key>").next().unwrap();
                    match self.locks.contains_key(name) {
                        true => {
                            refused += &format!("<Error><Key>{name}</Key><Code>AccessDenied</Code><Message/></Error>")
                        }
                        false => drop(self.objects.remove(name)),
                    }
                }
                (200, String::new(), format!("<DeleteResult>{refused}</DeleteResult>").into_bytes())
            }
            other => panic!("{other} is not spoken here"),
        }
    }

    fn list(&self, query: &str) -> (u16, String, Vec<u8>) {
        let value = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().replace("%2F", "/")
        };
        let (prefix, after) = (value("prefix"), value("start-after"));
        let named = self.objects.iter().filter(|(name, _)| name.starts_with(&prefix) && **name > after);
        let entries: String = named
            .map(|(name, body)| {
                format!(
                    "<Contents><Key>{name}</Key><Size>{}</Size><ETag>x</ETag>\
                     <LastModified>2026-11-20T10:00:00.000Z</LastModified></Contents>",
                    body.len()
                )
            })
            .collect();
        let body = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>");
        (200, String::new(), body.into_bytes())
    }
}

fn key(n: u8) -> Key {
    Key::new(Shelf::Packs, format!("{n:02x}").repeat(32)).unwrap()
}

#[test]
fn each_try_of_a_write_has_the_whole_body() {
    let service = Service::start();
    let store = service.store();
    let body = vec![7; 300_000];
    service.fail(
        "PUT",
        &[Fault::Refuse(503, "SlowDown"), Fault::Refuse(500, "InternalError"), Fault::Refuse(429, "TooManyRequests")],
    );
    assert_eq!(store.put_new(&key(1), &body).unwrap(), Put::New);
    let puts: Vec<usize> = service.asked().iter().filter(|(method, _)| method == "PUT").map(|(_, n)| *n).collect();
    assert_eq!(puts, [300_000; 4]);
    assert_eq!(store.get(&key(1), Span::Whole).unwrap(), body);
}

#[test]
fn a_write_whose_answer_is_lost_is_one_write_and_ours() {
    let service = Service::start();
    let store = service.store();
    service.fail("PUT", &[Fault::LoseAnswer]);
    assert_eq!(store.put_new(&key(1), b"body").unwrap(), Put::New);
    assert_eq!(store.get(&key(1), Span::Whole).unwrap(), b"body");
    // Somebody else's bytes stay somebody else's, even when an answer was lost on the way to see it.
    service.state.lock().unwrap().objects.insert(format!("at/{}", key(2).path()), b"theirs".to_vec());
    service.fail("PUT", &[Fault::Refuse(503, "SlowDown")]);
    assert_eq!(store.put_new(&key(2), b"ours!!").unwrap(), Put::Existed);
    assert_eq!(store.get(&key(2), Span::Whole).unwrap(), b"theirs");
}

#[test]
fn a_service_that_ignores_conditions_is_found_out_and_still_nothing_is_overwritten() {
    let service = Service::start();
    service.state.lock().unwrap().ignores_conditions = true;
    let store = service.store();
    assert_eq!(store.put_new(&key(1), b"first").unwrap(), Put::New);
    let names: Vec<&str> = store.warnings().iter().map(|warning| warning.name).collect();
    assert_eq!(names, ["conditions-ignored"]);
    assert_eq!(store.put_new(&key(1), b"other").unwrap(), Put::Existed);
    assert_eq!(store.put_new(&key(1), b"longer than that").unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.get(&key(1), Span::Whole).unwrap(), b"first");
}

#[test]
fn a_service_that_keeps_conditions_is_asked_once_for_each_object() {
    let service = Service::start();
    let store = service.store();
    store.put_new(&key(1), b"body").unwrap();
    assert!(store.warnings().is_empty());
    service.asked();
    store.put_new(&key(2), b"body").unwrap();
    assert_eq!(service.asked(), [("PUT".to_owned(), 4)]);
}

#[test]
fn a_body_that_is_cut_off_is_fetched_again_and_never_given_out_short() {
    let service = Service::start();
    let store = service.store();
    let body: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    store.put_new(&key(1), &body).unwrap();
    for span in [Span::Whole, Span::Range { offset: 1000, len: 350_000 }, Span::Tail { len: 9000 }] {
        service.asked();
        service.fail("GET", &[Fault::CutBody, Fault::CutBody]);
        let got = store.get(&key(1), span).unwrap();
        let wanted = match span {
            Span::Whole => &body[..],
            Span::Range { .. } => &body[1000..351_000],
            Span::Tail { .. } => &body[body.len() - 9000..],
        };
        assert!(got == wanted, "{span:?}");
        assert_eq!(service.count("GET"), 3, "{span:?}");
    }
}

#[test]
fn a_listing_that_breaks_is_never_a_shorter_listing() {
    let service = Service::start();
    let store = service.store();
    for n in 1..=5 {
        store.put_new(&key(n), &vec![0; usize::from(n)]).unwrap();
    }
    service.fail("GET", &[Fault::BreakListing, Fault::Refuse(503, "SlowDown")]);
    let listed: Vec<(Key, u64)> =
        store.list(Shelf::Packs, "").unwrap().into_iter().map(|listed| (listed.key, listed.bytes)).collect();
    assert_eq!(listed, (1..=5).map(|n| (key(n), u64::from(n))).collect::<Vec<_>>());
    service.fail("GET", &[Fault::Refuse(403, "AccessDenied")]);
    assert_eq!(store.list(Shelf::Packs, "").unwrap_err().kind, Kind::Denied);
}

#[test]
fn a_deletion_whose_answer_is_lost_is_done() {
    let service = Service::start();
    let store = service.store();
    let keys: Vec<Key> = (0..250u8).map(key).collect();
    for key in &keys {
        service.state.lock().unwrap().objects.insert(format!("at/{}", key.path()), b"x".to_vec());
    }
    service.fail("POST", &[Fault::LoseAnswer, Fault::Refuse(503, "SlowDown")]);
    store.delete_all(&keys).unwrap();
    // Three batches of at most a hundred, and two tries more.
    assert_eq!(service.count("POST"), 5);
    assert!(service.state.lock().unwrap().objects.is_empty());
}

#[test]
fn each_refusal_is_of_the_kind_that_tells_what_to_do() {
    let service = Service::start();
    let store = service.store();
    for (status, code, kind) in [
        (403, "AccessDenied", Kind::Denied),
        (403, "InvalidAccessKeyId", Kind::Denied),
        (403, "QuotaExceeded", Kind::Full),
        (507, "XMinioStorageFull", Kind::Full),
        (404, "NoSuchBucket", Kind::Absent),
        (301, "PermanentRedirect", Kind::Unsuitable),
        (400, "AuthorizationHeaderMalformed", Kind::Unsuitable),
    ] {
        service.fail("PUT", &[Fault::Refuse(status, code)]);
        let refused = store.put_new(&key(1), b"body").unwrap_err();
        assert_eq!(refused.kind, kind, "{code}: {refused}");
        service.asked();
    }
    // Whatever is tried often enough ends.
    service.fail("PUT", &[Fault::Refuse(503, "ServiceUnavailable"); 11]);
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Unreachable);
    assert_eq!(service.count("PUT"), 11);
    assert_eq!(store.size(&key(1)).unwrap(), None);
}

#[test]
fn errors_name_the_object_and_the_cause_and_no_secret() {
    let service = Service::start();
    let store = service.store();
    service.fail("PUT", &[Fault::Refuse(403, "SignatureDoesNotMatch")]);
    let told = store.put_new(&key(1), b"body").unwrap_err().to_string();
    assert_eq!(told, format!("cannot write {}: the service says SignatureDoesNotMatch: as the test wants it", key(1)));
    assert!(!format!("{store:?}").contains("secret"), "{store:?}");
}

fn lock(secs: i64) -> Lock {
    Lock { mode: LockMode::Governance, until: Timestamp::new(secs, 0) }
}

impl Service {
    fn locks(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().locks.values().cloned().collect()
    }
}

#[test]
fn a_lock_goes_out_with_each_try_of_the_write() {
    let service = Service::start();
    let store = service.store();
    assert!(store.has_locks().unwrap());
    service.fail("PUT", &[Fault::Refuse(503, "SlowDown"), Fault::LoseAnswer]);
    assert_eq!(store.put_locked(&key(1), b"body".to_vec(), lock(86_400)).unwrap(), Put::New);
    assert_eq!(service.locks(), [("GOVERNANCE".to_owned(), "1970-01-02T00:00:00Z".to_owned())]);
    store.put_new(&key(2), b"body").unwrap();
    assert_eq!(service.locks().len(), 1);
}

#[test]
fn only_locks_that_end_too_early_are_extended_and_none_becomes_weaker() {
    let service = Service::start();
    let store = service.store();
    for (n, until) in [(1, 1000), (2, 5000)] {
        store.put_locked(&key(n), b"body".to_vec(), lock(until)).unwrap();
    }
    store.put_new(&key(3), b"body").unwrap();
    service.state.lock().unwrap().locks.get_mut(&format!("at/{}", key(1).path())).unwrap().0 = "COMPLIANCE".into();
    service.asked();
    service.fail("HEAD", &[Fault::Refuse(503, "SlowDown")]);
    let keys: Vec<Key> = (1..=3).map(key).collect();
    let extended = store.extend_locks(&keys, Timestamp::new(2000, 0), lock(9000)).unwrap();
    assert_eq!(extended.count, 2);
    assert_eq!(extended.ends, [9000, 5000, 9000].map(|secs| Timestamp::new(secs, 0)));
    assert_eq!(service.count("PUT"), 2);
    let ends =
        ["COMPLIANCE 1970-01-01T02:30:00Z", "GOVERNANCE 1970-01-01T01:23:20Z", "GOVERNANCE 1970-01-01T02:30:00Z"];
    assert_eq!(service.locks().iter().map(|(mode, until)| format!("{mode} {until}")).collect::<Vec<_>>(), ends);
    let gone = store.extend_locks(&[key(9)], Timestamp::new(2000, 0), lock(9000)).unwrap_err();
    assert!(gone.is_absent(), "{gone}");
}

#[test]
fn of_a_service_that_refuses_to_delete_what_is_locked_the_rest_is_deleted_and_the_lock_told() {
    let service = Service::start();
    let store = service.store();
    for n in 1..=3 {
        store.put_new(&key(n), b"body").unwrap();
    }
    store.put_locked(&key(4), b"body".to_vec(), lock(86_400)).unwrap();
    let refused = store.delete_all(&(1..=4).map(key).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(refused.kind, Kind::Locked);
    assert!(refused.to_string().contains("locked until 1970-01-02T00:00:00Z"), "{refused}");
    assert_eq!(service.state.lock().unwrap().objects.len(), 1);
    assert_eq!(store.delete(&key(4)).unwrap_err().kind, Kind::Locked);
    // Who may not delete at all is told so.
    service.fail("DELETE", &[Fault::Refuse(403, "AccessDenied"); 2]);
    store.put_new(&key(5), b"body").unwrap();
    assert_eq!(store.delete(&key(5)).unwrap_err().kind, Kind::Denied);
}
