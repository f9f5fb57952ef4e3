//! Talking to a server: start-up, authentication, simple queries (PostgreSQL documentation, "Frontend/Backend Protocol").
//!
//! It blocks, and looks every second whether it should stop. What a server says is not believed before it is looked at:
//! lengths are bounded, and what does not belong there is an error. It may not know what is asked.

use super::socket::Stream;
use super::tls::{Tls, Try};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use std::fmt;
use std::io::{self, Read, Write};
use store::Stop;
use zeroize::Zeroizing;

/// The longest message that is read.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Where a server is, and as whom to talk to it.
#[derive(Clone)]
pub struct Server {
    /// A host name or address, or the directory of a Unix socket.
    pub host: String,
    /// The port; part of a socket's name too.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// What it asks for, where it does.
    pub password: Option<Zeroizing<String>>,
    /// How the connection is encrypted. A Unix socket is not.
    pub tls: Tls,
}

impl Server {
    /// Whether it is reached by a Unix socket.
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, user, .. } = self;
        write!(f, "PostgreSQL at {host}, port {port}, as {user}")
    }
}

/// Why a server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is nobody, or it went away.
    #[error("cannot reach {server}: {why}")]
    Unreachable {
        /// Who was asked.
        server: String,
        /// What happened.
        why: String,
    },
    /// It is not believed to be who it should be, or what should tell that cannot be used.
    #[error("cannot trust {server}: {why}")]
    Untrusted {
        /// Who was asked.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// It does not encrypt, and shall.
    #[error("{server} does not encrypt connections, and sslmode asks for it")]
    Unencrypted {
        /// Who was asked.
        server: String,
    },
    /// It said no.
    #[error("{message}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Its code for that, five characters (PostgreSQL documentation, "Error Codes").
        code: String,
        /// Its words.
        message: String,
        /// More of them.
        detail: Option<String>,
    },
    /// It said something that has no meaning here.
    #[error("the server does not speak as PostgreSQL does: {0}")]
    Nonsense(String),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Stopped,
}

impl WireError {
    /// Whether a server that is asked with encryption instead of without, or the other way round, may answer otherwise.
    fn may_be_about_encryption(&self) -> bool {
        match self {
            WireError::Refused { code, .. } => code == "28000",
            WireError::Untrusted { .. } | WireError::Unreachable { .. } => true,
            WireError::Unencrypted { .. } | WireError::Nonsense(_) | WireError::Stopped => false,
        }
    }
}

type Result<T> = std::result::Result<T, WireError>;

/// One row of an answer.
pub type Row = Vec<Option<String>>;

/// An open connection. Closed when dropped; the server undoes what was not ended.
pub struct Connection {
    stream: Stream,
    stop: Stop,
    name: String,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn open(server: &Server, stop: &Stop) -> Result<Connection> {
        let mut connection = Connection::log_in_to(server, ("database", &server.database), stop)?;
        // What follows means the same whatever the server's configuration says.
        connection
            .query(
                "set standard_conforming_strings = on; set datestyle = iso; set statement_timeout = 0; \
                          set idle_session_timeout = 0; set client_encoding = 'UTF8'",
            )
            .or_else(|e| match e {
                // Before version 14 there is no idle_session_timeout.
                WireError::Refused { code, .. } if code == "42704" => connection.query("set statement_timeout = 0"),
                e => Err(e),
            })?;
        Ok(connection)
    }

    /// Connects and logs in for commands of replication, which are not those of SQL.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(super) fn open_for_replication(server: &Server, stop: &Stop) -> Result<Connection> {
        Connection::log_in_to(server, ("replication", "true"), stop)
    }

    fn log_in_to(server: &Server, to: (&str, &str), stop: &Stop) -> Result<Connection> {
        let attempt = |how| -> Result<Connection> {
            let stream = Stream::open(server, how)?;
            let mut connection = Connection { stream, stop: stop.clone(), name: server.to_string() };
            connection.log_in(server, to)?;
            Ok(connection)
        };
        let (first, second) = if server.is_local() { (Try::Plain, None) } else { server.tls.tries() };
        match (attempt(first), second) {
            // The other way may be what the server lets this role in by.
            (Err(e), Some(second)) if e.may_be_about_encryption() => attempt(second),
            (done, _) => done,
        }
    }

    fn log_in(&mut self, server: &Server, to: (&str, &str)) -> Result<()> {
        let mut start = Vec::new();
        start.extend_from_slice(&196_608_u32.to_be_bytes());
        for (key, value) in [("user", server.user.as_str()), to] {
            for text in [key, value] {
                start.extend_from_slice(text.as_bytes());
                start.push(0);
            }
        }
        start.extend_from_slice(b"application_name\0backstay\0\0");
        let mut message = (start.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend_from_slice(&start);
        self.write(&message)?;
        let password = || {
            let missing = WireError::Refused {
                code: "28P01".into(),
                message: format!("the server asks for a password of {}, and none is configured", server.user),
                detail: None,
            };
            server.password.as_ref().ok_or(missing)
        };
        let mut scram: Option<ScramSha256> = None;
        loop {
            let (kind, body) = self.read()?;
            match kind {
                b'R' => {
                    let mut body = Body(&body);
                    match body.number()? {
                        0 => {}
                        3 => self.send_password(password()?.as_bytes())?,
                        5 => {
                            let salt = body.take(4)?.try_into().map_err(|_| nonsense("a salt"))?;
                            let hashed = md5_hash(server.user.as_bytes(), password()?.as_bytes(), salt);
                            self.send_password(hashed.as_bytes())?;
                        }
                        10 => {
                            let offered = body.texts()?;
                            let offers = |way: &str| offered.iter().any(|name| name == way);
                            let (way, binding) = match self.stream.end_point() {
                                Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
                                    (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point))
                                }
                                // The server learns that we could, and would notice if somebody had kept its offer from us.
                                Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                                None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                            };
                            if !offers(way) {
                                return Err(nonsense("it offers no way of authentication that is known here"));
                            }
                            let begun = ScramSha256::new(password()?.as_bytes(), binding);
                            let first = begun.message();
                            let mut answer = way.as_bytes().to_vec();
                            answer.push(0);
                            answer.extend_from_slice(&(first.len() as u32).to_be_bytes());
                            answer.extend_from_slice(first);
                            self.send(b'p', &answer)?;
                            scram = Some(begun);
                        }
                        11 => {
                            let scram = scram.as_mut().ok_or_else(|| nonsense("an answer before a question"))?;
                            scram.update(body.0).map_err(|e| nonsense(&e.to_string()))?;
                            let answer = scram.message().to_vec();
                            self.send(b'p', &answer)?;
                        }
                        12 => {
                            let scram = scram.as_mut().ok_or_else(|| nonsense("an answer before a question"))?;
                            // That the server knows the password too is part of it.
                            scram.finish(body.0).map_err(|e| nonsense(&e.to_string()))?;
                        }
                        other => {
                            return Err(nonsense(&format!("way of authentication {other} is not known here")));
                        }
                    }
                }
                b'Z' => return Ok(()),
                b'E' => return Err(refusal(&body)),
                b'S' | b'K' | b'N' | b'v' => {}
                other => return Err(nonsense(&format!("message {:?} while logging in", char::from(other)))),
            }
        }
    }

    /// Sends one or more statements and returns the rows of all of them.
    ///
    /// # Errors
    /// `Refused` with what the server says; the connection can still be used then.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.query_bytes(sql)?;
        let text = |value: Option<Vec<u8>>| {
            let text = value.map(String::from_utf8).transpose();
            text.map_err(|_| nonsense("text that is not UTF-8"))
        };
        rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()
    }

    /// As [`Connection::query`], with values that need not be text.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub(super) fn query_bytes(&mut self, sql: &str) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        self.ask(sql)?;
        self.rows()
    }

    /// Sends one or more statements, or a command, whose answer is read by others.
    pub(super) fn ask(&mut self, sql: &str) -> Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)
    }

    /// The rows of an answer, up to its end.
    pub(super) fn rows(&mut self) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let (kind, body) = self.read()?;
            match kind {
                b'D' => rows.push(Body(&body).row()?),
                b'E' => refused = refused.or(Some(refusal(&body))),
                b'Z' => return refused.map_or(Ok(rows), Err),
                b'T' | b'C' | b'I' | b'S' | b'A' | b'N' => {}
                other => return Err(nonsense(&format!("message {:?} in an answer", char::from(other)))),
            }
        }
    }

    /// The one row of an answer.
    ///
    /// # Errors
    /// As [`Connection::query`]; `Nonsense` when there is another number of rows or columns.
    pub fn row<const N: usize>(&mut self, sql: &str) -> Result<[Option<String>; N]> {
        let rows = self.query(sql)?;
        let count = rows.len();
        let row = rows.into_iter().next().filter(|_| count == 1).ok_or_else(|| nonsense(&format!("{count} rows")))?;
        row.try_into().map_err(|_| nonsense("another number of columns"))
    }

    /// The one value of an answer; none where it is null.
    ///
    /// # Errors
    /// As [`Connection::row`].
    pub fn value(&mut self, sql: &str) -> Result<Option<String>> {
        let [value] = self.row(sql)?;
        Ok(value)
    }

    fn send_password(&mut self, password: &[u8]) -> Result<()> {
        let mut body = Zeroizing::new(password.to_vec());
        body.push(0);
        self.send(b'p', &body)
    }

    pub(super) fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let len = u32::try_from(body.len() + 4).map_err(|_| nonsense("a question that is too long"))?;
        let mut message = Zeroizing::new(Vec::with_capacity(body.len() + 5));
        message.push(kind);
        message.extend_from_slice(&len.to_be_bytes());
        message.extend_from_slice(body);
        self.write(&message)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|e| self.lost(&e))
    }

    /// The next message; `None` when none begins within a moment.
    pub(super) fn poll(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut kind = [0];
        match self.stream.read(&mut kind) {
            Ok(0) => Err(self.lost(&io::Error::other("it closed the connection"))),
            Ok(_) => self.read_after(kind[0]).map(Some),
            Err(e) if is_no_answer(&e) || e.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(e) => Err(self.lost(&e)),
        }
    }

    /// The next message.
    pub(super) fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut kind = [0];
        self.fill(&mut kind)?;
        self.read_after(kind[0])
    }

    fn read_after(&mut self, kind: u8) -> Result<(u8, Vec<u8>)> {
        let mut len = [0; 4];
        self.fill(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        let len = len.checked_sub(4).filter(|len| *len <= MESSAGE_BYTES_MAX).ok_or_else(|| nonsense("a length"))?;
        let mut body = vec![0; len];
        self.fill(&mut body)?;
        Ok((kind, body))
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.stream.read(&mut into[done..]) {
                Ok(0) => return Err(self.lost(&io::Error::other("it closed the connection"))),
                Ok(n) => done += n,
                Err(e) if is_no_answer(&e) => {
                    if self.stop.requested() {
                        return Err(WireError::Stopped);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&e)),
            }
        }
        Ok(())
    }

    pub(super) fn lost(&self, e: &io::Error) -> WireError {
        WireError::Unreachable { server: self.name.clone(), why: e.to_string() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Best effort: a server notices by itself.
        self.send(b'X', &[]).ok();
    }
}

/// Whether there was nothing to read for a while.
fn is_no_answer(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Text as a literal of SQL, where `standard_conforming_strings` is on.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn nonsense(what: &str) -> WireError {
    WireError::Nonsense(what.to_owned())
}

/// What an error message says: fields, each a letter and text that ends with a zero byte.
pub(super) fn refusal(body: &[u8]) -> WireError {
    let mut fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    let (mut code, mut message, mut detail) = (String::new(), String::new(), None);
    for field in &mut fields {
        let text = || String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => code = text(),
            b'M' => message = text(),
            b'D' => detail = Some(text()),
            _ => {}
        }
    }
    WireError::Refused { code, message, detail }
}

/// What is left of a message.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| nonsense("a message that is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().map_err(|_| nonsense("a number"))?))
    }

    pub(super) fn long(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().map_err(|_| nonsense("a number"))?))
    }

    fn texts(&mut self) -> Result<Vec<String>> {
        let texts = self.0.split(|byte| *byte == 0).take_while(|text| !text.is_empty());
        Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    pub(super) fn row(&mut self) -> Result<Vec<Option<Vec<u8>>>> {
        let columns = u16::from_be_bytes(self.take(2)?.try_into().map_err(|_| nonsense("a number"))?);
        (0..columns)
            .map(|_| {
                let len = self.number()?;
                let Ok(len) = usize::try_from(len) else { return Ok(None) };
                Ok(Some(self.take(len)?.to_vec()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn a_hostile_row_is_an_error() {
        for body in [&[0, 2, 0, 0][..], &[0, 1, 0, 0, 0, 9, b'x']] {
            assert!(matches!(Body(body).row(), Err(WireError::Nonsense(_))), "{body:?}");
        }
        let row = Body(&[0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff]).row().expect("reads");
        assert_eq!(row, [Some(b"x".to_vec()), None]);
    }
}
