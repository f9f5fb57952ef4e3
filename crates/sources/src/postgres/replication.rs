//! The log of a server as it is written (PostgreSQL documentation, "Streaming Replication Protocol").
//!
//! What it is for: replication slots, and the stream of the log from a position on, with what must be said to the server so
//! that it keeps what is not safe yet and goes on sending.
//! What it may not know: where the log is kept. Where data comes from and goes: a connection of its own; pieces of the log to
//! whoever asks for the next [`Message`].

use super::Lsn;
use super::wire::{Body, Connection, Server, WireError, nonsense, refusal};
use store::{Stop, Timestamp};

/// Seconds between 1970 and 2000, where PostgreSQL's clock begins.
const EPOCH_SECS: i64 = 946_684_800;
/// How many moments a server may take to end its stream.
const END_MOMENTS_MAX: u32 = 5;
/// The longest name of a slot (`NAMEDATALEN`).
const SLOT_CHARS_MAX: usize = 63;

type Result<T> = std::result::Result<T, WireError>;

/// What a server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as `initdb` drew it.
    pub system: u64,
    /// The line of history that it is on.
    pub timeline: u32,
    /// How far its log is safe on its own disk.
    pub flushed: Lsn,
}

/// What comes from a server that sends its log.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A piece of the log.
    Log {
        /// Position of its first byte.
        start: Lsn,
        /// The piece.
        bytes: Vec<u8>,
        /// How far the server's log reaches.
        end: Lsn,
    },
    /// The server lives.
    Alive {
        /// How far its log reaches.
        end: Lsn,
        /// It wants to hear at once that we do too.
        asks: bool,
    },
    /// Nothing came for a moment.
    Quiet,
    /// The timeline ends here.
    End,
}

/// A connection for commands of replication.
pub struct Replication {
    connection: Connection,
}

impl Replication {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`WireError`]: `Refused` for a role without the attribute REPLICATION, or without a line in `pg_hba.conf`.
    pub fn open(server: &Server, stop: &Stop) -> Result<Replication> {
        Ok(Replication { connection: Connection::open_for_replication(server, stop)? })
    }

    /// Asks which cluster this is, and how far it is.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn identify(&mut self) -> Result<Identity> {
        let [system, timeline, flushed, _] = self.connection.row("IDENTIFY_SYSTEM")?;
        let bad = || nonsense("an identity");
        Ok(Identity {
            system: system.and_then(|text| text.parse().ok()).ok_or_else(bad)?,
            timeline: timeline.and_then(|text| text.parse().ok()).ok_or_else(bad)?,
            flushed: flushed.and_then(|text| text.parse().ok()).ok_or_else(bad)?,
        })
    }

    /// The history of a timeline, byte for byte; `None` where the server does not have it.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn history(&mut self, timeline: u32) -> Result<Option<Vec<u8>>> {
        match self.connection.query_bytes(&format!("TIMELINE_HISTORY {timeline}")) {
            Ok(rows) => {
                let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
                content.map(Some).ok_or_else(|| nonsense("a history without content"))
            }
            Err(WireError::Refused { code, .. }) if code == "58P01" => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a slot of this name, from which on the server keeps its log.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn make_slot(&mut self, name: &str) -> Result<()> {
        self.connection.query(&format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", quoted(name))).map(drop)
    }

    /// Removes a slot: the server keeps nothing for it any more.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn drop_slot(&mut self, name: &str) -> Result<()> {
        self.connection.query(&format!("DROP_REPLICATION_SLOT {}", quoted(name))).map(drop)
    }

    /// Begins to receive a timeline from a position on, which is to be the first of a segment.
    ///
    /// # Errors
    /// `Refused` with code `58P01` when the server does not have that any more, now or with the first [`Message`]; with `55006`
    /// when somebody else uses the slot, with `55000` when the server has given it up.
    pub fn begin(&mut self, slot: &str, (timeline, from): (u32, Lsn)) -> Result<()> {
        let slot = quoted(slot);
        self.connection.ask(&format!("START_REPLICATION SLOT {slot} PHYSICAL {from} TIMELINE {timeline}"))?;
        loop {
            match self.connection.read()? {
                (b'W', _) => return Ok(()),
                (b'E', body) => {
                    self.connection.rows()?;
                    return Err(refusal(&body));
                }
                (b'N' | b'S', _) => {}
                (other, _) => return Err(nonsense(&format!("message {:?} before the log", char::from(other)))),
            }
        }
    }

    /// The next message. Waits a moment at most.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn receive(&mut self) -> Result<Message> {
        loop {
            return Ok(match self.connection.poll()? {
                None => Message::Quiet,
                Some((b'd', body)) => parse(body)?,
                Some((b'c', _)) => Message::End,
                Some((b'E', body)) => return Err(refusal(&body)),
                // A server that shuts down says that it is done, and goes.
                Some((b'N' | b'S' | b'C', _)) => continue,
                Some((other, _)) => return Err(nonsense(&format!("message {:?} in the log", char::from(other)))),
            });
        }
    }

    /// Tells the server up to where the log is safe here: it may remove what is before that. It is asked to answer.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn report(&mut self, safe: Lsn, now: Timestamp) -> Result<()> {
        let mut body = vec![b'r'];
        // Received, safe, and replayed: nothing is, and what is received is of no use to anybody before it is safe.
        for position in [safe.0, safe.0, 0] {
            body.extend_from_slice(&position.to_be_bytes());
        }
        let micros = (now.secs() - EPOCH_SECS) * 1_000_000 + i64::from(now.nanos() / 1000);
        body.extend_from_slice(&micros.to_be_bytes());
        body.push(1);
        self.connection.send(b'd', &body)
    }

    /// Ends the stream, after [`Message::End`] or at will.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn end(&mut self) -> Result<()> {
        self.connection.send(b'c', &[])?;
        // The server has heard all that matters; whether it says goodbye is its own affair.
        let mut moments = END_MOMENTS_MAX;
        while moments > 0 {
            match self.connection.poll()? {
                Some((b'Z', _)) => return Ok(()),
                Some((b'E', body)) => return Err(refusal(&body)),
                Some(_) => {}
                None => moments -= 1,
            }
        }
        Ok(())
    }
}

fn parse(body: Vec<u8>) -> Result<Message> {
    const LOG_HEAD_BYTES: usize = 25;
    let mut rest = Body(&body);
    match rest.take(1)? {
        b"w" => {
            let (start, end) = (Lsn(rest.long()?), Lsn(rest.long()?));
            rest.long()?;
            Ok(Message::Log { start, bytes: body[LOG_HEAD_BYTES..].to_vec(), end })
        }
        b"k" => {
            let end = Lsn(rest.long()?);
            rest.long()?;
            Ok(Message::Alive { end, asks: rest.take(1)? == [1] })
        }
        other => Err(nonsense(&format!("message {:?} in the log", other.escape_ascii().to_string()))),
    }
}

/// Whether a server refused because of what [`needs`] says.
pub fn is_not_let_in(e: &WireError) -> bool {
    matches!(e, WireError::Refused { code, .. } if matches!(code.as_str(), "28000" | "42501"))
}

/// What a server must be told so that it lets its role in for replication.
pub fn needs(server: &Server) -> String {
    let user = &server.user;
    let line = match server.host.starts_with('/') {
        true => format!("local replication {user} peer"),
        false => format!("host replication {user} ADDRESS scram-sha-256"),
    };
    format!("alter role {user} replication; and in pg_hba.conf: {line}")
}

/// The name that a slot for this source has where nobody chose one.
pub fn slot_name(source: &str) -> String {
    let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("backstay_{source}").chars().map(sound).take(SLOT_CHARS_MAX).collect()
}

/// Whether a server takes this as the name of a slot.
pub fn is_slot_name(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=SLOT_CHARS_MAX).contains(&name.len()) && name.bytes().all(sound)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_log_are_told_from_signs_of_life() {
        let number = |n: u64| n.to_be_bytes().to_vec();
        let log = [b"w".to_vec(), number(16), number(99), number(7), b"bytes".to_vec()].concat();
        let expect = Message::Log { start: Lsn(16), bytes: b"bytes".to_vec(), end: Lsn(99) };
        assert_eq!(parse(log).expect("parses"), expect);
        for (asks, byte) in [(true, 1), (false, 0)] {
            let alive = [b"k".to_vec(), number(99), number(7), vec![byte]].concat();
            assert_eq!(parse(alive).expect("parses"), Message::Alive { end: Lsn(99), asks });
        }
    }

    #[test]
    fn a_hostile_message_is_an_error() {
        for body in [&b""[..], b"w", b"w1234567812345678", b"k12345678", b"k1234567812345678", b"x"] {
            assert!(matches!(parse(body.to_vec()), Err(WireError::Nonsense(_))), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_slot_is_called_after_its_source_as_servers_allow() {
        assert_eq!(slot_name("Shop-1/db"), "backstay_shop_1_db");
        assert!(is_slot_name(&slot_name(&"ä".repeat(99))));
        for bad in ["", "Shop", "a-b", "a\"b", &"x".repeat(64)] {
            assert!(!is_slot_name(bad), "{bad}");
        }
    }
}
