//! The way to a server: a Unix socket, TCP, or TCP with encryption.
//!
//! It may not know what is said on it, but for the one question whether the server can encrypt.

use super::tls::{TlsError, Try, end_point};
use super::wire::{Server, WireError};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits before somebody looks whether it should end.
const TICK: Duration = Duration::from_secs(1);
/// The question whether the server can encrypt (`SSLRequest`).
const CAN_ENCRYPT: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A connection that bytes travel on.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// `Unreachable`; `Untrusted` and `Unencrypted` where that was asked for.
    pub fn open(server: &Server, how: Try) -> Result<Stream, WireError> {
        let unreachable = |why: String| WireError::Unreachable { server: server.to_string(), why };
        let lost = |e: io::Error| unreachable(e.to_string());
        if server.is_local() {
            let stream = UnixStream::connect(format!("{}/.s.PGSQL.{}", server.host, server.port)).map_err(lost)?;
            stream.set_read_timeout(Some(TICK)).map_err(lost)?;
            return Ok(Stream::Unix(stream));
        }
        let mut socket = connect(&server.host, server.port).map_err(lost)?;
        socket.set_nodelay(true).and_then(|()| socket.set_read_timeout(Some(CONNECT_PATIENCE))).map_err(lost)?;
        let stream = match how != Try::Plain && offers_encryption(&mut socket).map_err(lost)? {
            true => {
                let stream = server.tls.connect(&server.host, socket).map_err(|e| match e {
                    TlsError::Failed(why) => unreachable(why),
                    TlsError::Ours(why) | TlsError::Untrusted(why) => {
                        WireError::Untrusted { server: server.to_string(), why }
                    }
                })?;
                Stream::Tls(Box::new(stream))
            }
            false if how == Try::Encrypted => return Err(WireError::Unencrypted { server: server.to_string() }),
            false => Stream::Tcp(socket),
        };
        stream.socket().map_or(Ok(()), |socket| socket.set_read_timeout(Some(TICK))).map_err(lost)?;
        Ok(stream)
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Unix(_) => None,
            Stream::Tcp(socket) => Some(socket),
            Stream::Tls(stream) => Some(&stream.sock),
        }
    }

    /// What ties a log-in to the certificate of the server, where there is one and it can be told.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        let Stream::Tls(stream) = self else { return None };
        end_point(stream.conn.peer_certificates()?.first()?)
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn offers_encryption(socket: &mut TcpStream) -> io::Result<bool> {
    socket.write_all(&CAN_ENCRYPT)?;
    // One byte and no more: what came with it in clear must not be taken for something that was encrypted.
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    match answer[0] {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::other("it does not say whether it can encrypt")),
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(into),
            Stream::Tcp(stream) => stream.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(from),
            Stream::Tcp(stream) => stream.write(from),
            Stream::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.flush(),
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
