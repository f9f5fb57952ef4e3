//! Requests that the operator does not know: settings of the bucket, and locks.
//!
//! What it is for: one request signed, sent and answered whole, with the patience of all others.
//! What it may not know: what is asked. Where data comes from and goes: a method, a name and a body in; status, headers and
//! text out.

use super::S3Store;
use crate::key::Key;
use http::{HeaderMap, Method, Request, StatusCode};
use opendal::{Buffer, Error, ErrorKind};

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// What is asked, of an object or of the bucket itself.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) of: Option<&'a Key>,
    pub(super) query: &'static str,
    pub(super) body: String,
}

impl S3Store {
    /// The answer to one request, whatever it says; what may pass is tried again.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let mut url = format!("{}/{}", self.place.endpoint(), self.place.bucket());
        if let Some(key) = ask.of {
            for part in [self.place.prefix(), &key.path()].into_iter().filter(|part| !part.is_empty()) {
                url.push('/');
                url.push_str(part);
            }
        }
        if !ask.query.is_empty() {
            url.push('?');
            url.push_str(ask.query);
        }
        let impossible = |_| Error::new(ErrorKind::ConfigInvalid, "the address makes no request");
        self.ask(async |_| {
            let mut request = Request::builder().method(&ask.method).uri(&url);
            if !ask.body.is_empty() {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ask.body.as_bytes());
                let digest = reqsign_core::hash::base64_encode(digest.as_ref());
                request = request.header("x-amz-checksum-sha256", digest).header("content-type", "application/xml");
            }
            let request = request.body(Buffer::from(ask.body.clone())).map_err(impossible)?;
            let (parts, body) = self.wire.send(request).await?.into_parts();
            let text = String::from_utf8_lossy(&body.to_vec()).into_owned();
            let answer = Answer { status: parts.status, headers: parts.headers, text };
            match answer.may_pass() {
                true => Err(answer.error().set_temporary()),
                false => Ok(answer),
            }
        })
    }
}

impl Answer {
    fn may_pass(&self) -> bool {
        self.status.is_server_error() || matches!(self.status.as_u16(), 408 | 429)
    }

    /// The code of an error, as services name it.
    pub(super) fn code(&self) -> &str {
        element(&self.text, "Code").unwrap_or_default()
    }

    /// What it says, as an error in the words that the operator's errors have.
    pub(super) fn error(&self) -> Error {
        let kind = match self.status.as_u16() {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::PermissionDenied,
            _ => ErrorKind::Unexpected,
        };
        let (code, text) = (self.code(), element(&self.text, "Message").unwrap_or_default());
        let said = match code {
            "" => String::new(),
            code => format!("S3Error {{ code: \"{code}\", message: \"{}\" }}", text.replace('"', "'")),
        };
        Error::new(kind, said)
    }

    /// The same when it is no error.
    pub(super) fn good(self) -> Result<Answer, Error> {
        if self.status.is_success() { Ok(self) } else { Err(self.error()) }
    }
}

/// The text of the first element of this name. Services write such answers without attributes where it matters.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    elements(xml, name).next()
}

/// The texts of all elements of this name, in order.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once(&open)?;
        let (text, after) = from.split_once(&close)?;
        rest = after;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_whole_name_and_in_order() {
        let xml = "<Rules><Rule><ID>a</ID></Rule><Rule><ID>b</ID><Id>x</Id></Rule></Rules>";
        assert_eq!(elements(xml, "ID").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(elements(xml, "Rule").filter_map(|rule| element(rule, "Id")).collect::<Vec<_>>(), ["x"]);
        assert_eq!(element("<Code>cut off", "Code"), None);
    }
}
