//! A service that speaks S3, behind a proxy that counts what is asked and can make the way longer.
//!
//! What it is for: stored bytes, and requests by kind, of programs that do not tell. What it may not know: who asks, and what
//! the bytes mean. Where data comes from and goes: a client's bytes go on unchanged, and so do the answers; of requests the
//! first line and the length are read. Its own questions go by curl, which signs, past the proxy.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Who asks. The service is one for trying out, and nobody else uses it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The name of the key.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// How often what was asked.
pub type Requests = BTreeMap<&'static str, u64>;

/// The kinds of requests, in the order in which they are shown.
pub const KINDS: [&str; 6] = ["GET", "HEAD", "LIST", "PUT", "DELETE", "other"];

/// A bucket on a service, and the proxy before it.
pub struct Bucket {
    /// Host and port of the service itself.
    host: String,
    name: String,
    credentials: Credentials,
    /// Where clients go.
    proxy: String,
    counts: Arc<Mutex<Requests>>,
}

impl Bucket {
    /// Makes a new bucket on the service at `host`, and starts the proxy, which holds each request up for `latency`.
    ///
    /// # Errors
    /// When the bucket cannot be made, or nothing can listen.
    pub fn start(host: &str, latency: Duration) -> Result<Bucket, String> {
        let set = |name: &str| std::env::var(name).map_err(|_| format!("{name} says who asks the service: set it"));
        let credentials = Credentials { id: set("AWS_ACCESS_KEY_ID")?, secret: set("AWS_SECRET_ACCESS_KEY")? };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("cannot listen: {e}"))?;
        let proxy = listener.local_addr().map_err(|e| e.to_string())?.to_string();
        let name = format!("peers-{}", std::process::id());
        let counts = Arc::default();
        let bucket = Bucket { host: host.to_owned(), name, credentials, proxy, counts };
        bucket.ask("PUT", "")?;
        let (counts, host) = (Arc::clone(&bucket.counts), bucket.host.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, host) = (Arc::clone(&counts), host.clone());
                // A connection that breaks is the client's business: it tries again, and that is counted.
                std::thread::spawn(move || drop(carry(&client, &host, latency, &counts)));
            }
        });
        Ok(bucket)
    }

    /// Where clients go: host and port.
    pub fn endpoint(&self) -> &str {
        &self.proxy
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may ask.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What was asked since this was last called.
    pub fn take_requests(&self) -> Requests {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of all objects whose names begin with `prefix`.
    ///
    /// # Errors
    /// When the service does not list them.
    pub fn bytes_in(&self, prefix: &str) -> Result<u64, String> {
        let (mut bytes, mut after) = (0, String::new());
        loop {
            let encoded = |text: &str| text.replace('/', "%2F");
            let start = if after.is_empty() { String::new() } else { format!("&start-after={}", encoded(&after)) };
            let listing = self.ask("GET", &format!("?list-type=2&prefix={}{start}", encoded(prefix)))?;
            let sizes = listing.split("<Size>").skip(1).filter_map(|rest| rest.split('<').next()?.parse::<u64>().ok());
            bytes += sizes.sum::<u64>();
            if !listing.contains("<IsTruncated>true</IsTruncated>") {
                return Ok(bytes);
            }
            let last = listing.rsplit("<Key>").next().and_then(|rest| rest.split('<').next());
            after = last.ok_or("a listing goes on after nothing")?.to_owned();
        }
    }

    fn ask(&self, method: &str, query: &str) -> Result<String, String> {
        let Credentials { id, secret } = &self.credentials;
        let url = format!("http://{}/{}{query}", self.host, self.name);
        // The secret goes by standard input: arguments are for everybody to see.
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--config", "-", "--request", method]);
        command.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        command.arg(&url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = command.stderr(Stdio::piped()).spawn();
        let mut child = started.map_err(|e| format!("cannot start curl: {e}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            let config = format!("user = \"{id}:{secret}\"\n");
            stdin.write_all(config.as_bytes()).map_err(|e| format!("curl: {e}"))?;
        }
        let output = child.wait_with_output().map_err(|e| format!("curl: {e}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{method} {url}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}

/// Carries one connection to the service and back, request by request.
fn carry(client: &TcpStream, host: &str, latency: Duration, counts: &Mutex<Requests>) -> std::io::Result<()> {
    let service = TcpStream::connect(host)?;
    client.set_nodelay(true)?;
    service.set_nodelay(true)?;
    let (mut answers, mut back) = (service.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let copied = std::io::copy(&mut answers, &mut back);
        // Whoever waits for the rest is told that there is none.
        back.shutdown(std::net::Shutdown::Both).ok();
        copied
    });
    let mut requests = BufReader::with_capacity(256 << 10, client);
    let mut to = &service;
    while let Some((head, kind, length)) = read_head(&mut requests)? {
        *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
        std::thread::sleep(latency);
        to.write_all(head.as_bytes())?;
        if std::io::copy(&mut (&mut requests).take(length), &mut to)? < length {
            break;
        }
    }
    service.shutdown(std::net::Shutdown::Write)
}

/// The next request up to its body: its lines, its kind, and the length of the body. `None` at the end.
fn read_head(from: &mut impl BufRead) -> std::io::Result<Option<(String, &'static str, u64)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let begin = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let line = head[begin..].trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if line.starts_with("transfer-encoding:") {
            return Err(std::io::Error::other("a body without a length is not carried"));
        }
    }
    let kind = kind_of(head.lines().next().unwrap_or_default());
    Ok(Some((head, kind, length)))
}

/// What the first line of a request asks for.
fn kind_of(line: &str) -> &'static str {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_bucket = path.trim_matches('/').split('/').count() == 1;
    match method {
        "GET" if is_bucket && (query.contains("list-type=") || query.contains("prefix=")) => "LIST",
        "GET" if !is_bucket => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "POST" if query.split('&').any(|part| part == "delete" || part == "delete=") => "DELETE",
        _ => "other",
    }
}

/// The address of a host as people write it: `http://127.0.0.1:7480` is host and port of a service without TLS.
///
/// # Errors
/// For an address of another kind: the proxy reads what goes by.
pub fn host_of(address: &str) -> Result<String, String> {
    let host = address.strip_prefix("http://").map(|host| host.trim_end_matches('/'));
    host.filter(|host| host.contains(':') && !host.contains('/'))
        .map(str::to_owned)
        .ok_or_else(|| format!("{address} is no service: write http://HOST:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_first_line() {
        for (line, kind) in [
            ("GET /bucket?list-type=2&prefix=a HTTP/1.1", "LIST"),
            ("GET /bucket/?prefix=a&delimiter=%2F HTTP/1.1", "LIST"),
            ("GET /bucket/?location= HTTP/1.1", "other"),
            ("GET /bucket/a/b HTTP/1.1", "GET"),
            ("HEAD /bucket/a/b HTTP/1.1", "HEAD"),
            ("PUT /bucket/a/b?x-id=PutObject HTTP/1.1", "PUT"),
            ("POST /bucket/?delete= HTTP/1.1", "DELETE"),
            ("POST /bucket/a?uploads HTTP/1.1", "other"),
            ("DELETE /bucket/a HTTP/1.1", "DELETE"),
        ] {
            assert_eq!(kind_of(line), kind, "{line}");
            assert!(KINDS.contains(&kind));
        }
    }

    #[test]
    fn what_goes_by_arrives_unchanged_and_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(b"answer").unwrap();
            got
        });
        let counts = Arc::new(Mutex::new(Requests::new()));
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(proxy.local_addr().unwrap()).unwrap();
        let (taken, shared) = (proxy.accept().unwrap().0, Arc::clone(&counts));
        let carried = std::thread::spawn(move || carry(&taken, &host, Duration::ZERO, &shared));
        let sent = b"PUT /b/k HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((server.join().unwrap().as_slice(), answer.as_str()), (&sent[..], "answer"));
        carried.join().unwrap().unwrap();
        assert_eq!(*counts.lock().unwrap(), Requests::from([("GET", 1), ("PUT", 1)]));
    }

    #[test]
    fn only_services_in_clear_can_be_counted() {
        assert_eq!(host_of("http://127.0.0.1:80/").unwrap(), "127.0.0.1:80");
        for wrong in ["https://a:1", "http://a", "http://a:1/b", ""] {
            assert!(host_of(wrong).is_err(), "{wrong}");
        }
    }
}
