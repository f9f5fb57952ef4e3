//! One HTTP client: it signs each request, sends it, and gives up on what stands still.
//!
//! What it is for: what the operator above hands over goes out signed, with a deadline that asks for progress rather than
//! speed: a slow network may take hours, a dead one may not.
//! What it may not know: objects, retries. Where data comes from and goes: requests from the operator, bytes to a socket.

use super::S3Identity;
use bytes::Bytes;
use futures::stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{Method, Request, Response};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, FileRead, OsEnv, Signer};
use std::convert::Infallible;
use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// How long nothing at all may move: no byte accepted, no answer begun, no byte received. Services have been seen to
/// take 9 s for a write while a node was down.
const STILL: Duration = Duration::from_secs(60);
/// How much of a body is handed to a connection at once: each piece taken is progress.
const PIECE_BYTES: usize = 128 << 10;
/// Idle connections are closed before most services close them.
const IDLE: Duration = Duration::from_secs(50);

/// Signs and sends.
pub(super) struct Wire {
    sending: Sending,
    signer: Signer<Credential>,
}

/// Sends, for those who sign themselves: the services that hand out credentials.
#[derive(Clone)]
struct Sending {
    client: reqwest::Client,
}

impl Wire {
    /// A client for one region. Credentials are looked for when the first request is signed.
    pub(super) fn new(region: &str, who: S3Identity) -> Result<Wire, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            // A signature holds for one host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let sending = Sending { client };
        let surroundings =
            Context::new().with_env(OsEnv).with_file_read(Files).with_http_send(HttpTransporter::new(sending.clone()));
        let signer = RequestSigner::new("s3", region);
        let signer = match who {
            S3Identity::Surroundings => Signer::new(surroundings, DefaultCredentialProvider::new(), signer),
            S3Identity::Key { id, secret } => {
                Signer::new(surroundings, StaticCredentialProvider::new(&id, &secret), signer)
            }
        };
        Ok(Wire { sending, signer })
    }
}

impl HttpTransport for Wire {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (mut parts, body) = request.into_parts();
        self.signer.sign(&mut parts, None).await.map_err(|e| {
            let why = "no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
            let kind = if e.is_retryable() { ErrorKind::Unexpected } else { ErrorKind::PermissionDenied };
            Error::new(kind, why).with_temporary(e.is_retryable())
        })?;
        // Of a header in clear there shall be no copy in a message.
        if let Some(secret) = parts.headers.get_mut(AUTHORIZATION) {
            secret.set_sensitive(true);
        }
        parts.headers.remove(HOST);
        self.sending.fetch(Request::from_parts(parts, body)).await
    }
}

impl HttpTransport for Sending {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|_| Error::new(ErrorKind::ConfigInvalid, "the address makes no URL"))?;
        let moved = Arc::new(AtomicU64::new(0));
        let mut sent = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            let upload = Upload { left: body, piece: Bytes::new(), moved: Arc::clone(&moved) };
            sent = sent.body(reqwest::Body::wrap(upload));
        }
        let answer = while_moving(&moved, sent.send()).await?.map_err(broken)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
        let pieces = stream::try_unfold(answer, |mut answer| async move {
            let piece = tokio::time::timeout(STILL, answer.chunk()).await.map_err(|_| stood_still())?;
            Ok(piece.map_err(broken)?.map(|piece| (Buffer::from(piece), answer)))
        });
        let body = HttpBody::new(Box::pin(pieces), length.filter(|_| !is_head));
        response.body(body).map_err(|_| Error::new(ErrorKind::Unexpected, "the answer has impossible headers"))
    }
}

/// The result of `sending`, unless nothing moves for too long before there is one.
async fn while_moving<T>(moved: &AtomicU64, sending: impl Future<Output = T>) -> opendal::Result<T> {
    let mut sending = std::pin::pin!(sending);
    loop {
        let before = moved.load(Ordering::Relaxed);
        match tokio::time::timeout(STILL, &mut sending).await {
            Ok(done) => return Ok(done),
            Err(_) if moved.load(Ordering::Relaxed) == before => return Err(stood_still()),
            Err(_) => {}
        }
    }
}

fn stood_still() -> Error {
    let why = format!("the service stood still for {} s", STILL.as_secs());
    Error::new(ErrorKind::Unexpected, why).set_temporary()
}

/// A connection that failed, in the words of the lowest layer. The URL is left out: the caller names the object.
fn broken(e: reqwest::Error) -> Error {
    let e = e.without_url();
    let mut why = e.to_string();
    let mut below = e.source();
    while let Some(cause) = below {
        why = cause.to_string();
        below = cause.source();
    }
    // What cannot be built will never be sent, and nobody vouches for a certificate at the next try either.
    let lasting = e.is_builder() || why.contains("certificate");
    Error::new(ErrorKind::Unexpected, why).with_temporary(!lasting)
}

/// A body that counts what the connection took.
struct Upload {
    left: Buffer,
    piece: Bytes,
    moved: Arc<AtomicU64>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.piece.is_empty() {
            match self.left.next() {
                Some(piece) => self.piece = piece,
                None => return Poll::Ready(None),
            }
        }
        let len = self.piece.len().min(PIECE_BYTES);
        let piece = self.piece.split_to(len);
        self.moved.fetch_add(len as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.left.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact((self.piece.len() + self.left.len()) as u64)
    }
}

/// The files of the AWS tools.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        std::fs::read(path).map_err(|e| reqsign_core::Error::unexpected(format!("cannot read {path}: {e}")))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}
