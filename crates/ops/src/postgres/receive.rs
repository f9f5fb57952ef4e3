//! Receiving a server's log as it is written.
//!
//! What it is for: [`receive`] keeps an archive within seconds of its server, by a replication slot that keeps at the server what
//! is not in the archive yet. Nothing is remembered on the machine that receives: where to go on stands in the archive.
//! What it may not know: who is told what happens. Where data comes from and goes: `sources::postgres::replication` gives pieces
//! of the log; whole segments and parts of the one that is being written go into the [`Archive`], and only when they survive
//! power loss there the server is told that it may remove them.

mod resume;

use super::Cluster;
use super::archive::{Archive, Pushed};
use super::lag::written;
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::Repository;
use resume::{Line, Place, resume};
use sources::postgres::Lsn;
use sources::postgres::replication::{Identity, Message, Replication, is_not_let_in, needs};
use sources::postgres::wal::{self, Name, WalFile};
use sources::postgres::wire::{Connection, Server, WireError, literal};
use std::path::Path;
use std::time::Duration;

/// How often a server hears where the archive is, at least: it may give up on who is silent for a minute.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How long a server may be silent though it was asked to answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long to wait before trying again, at first and at last.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// After how many parts of a segment one is stored that has everything from its beginning, so that few must be read.
const PARTS_MAX: u32 = 32;

/// How the log of a cluster is received.
#[derive(Clone, Debug)]
pub struct Receiving {
    /// Name of the replication slot.
    pub slot: String,
    /// How long what the server has written may wait before it is stored.
    pub interval: Duration,
    /// From how much log on, kept at the server because the archive does not have it, a warning is due.
    pub held_warn_bytes: u64,
}

/// What to do about a slot that is lost, and log with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Say so, and end.
    Refuse,
    /// Make the slot anew, and begin with what the server still has: the log has a gap then.
    Accept,
}

/// What happens while a log is received.
pub enum Event<'a> {
    /// The server sends its log.
    Began {
        /// Name of the slot.
        slot: &'a str,
        /// It was made for this.
        is_new: bool,
        /// Which line of history.
        timeline: u32,
        /// From where on.
        start: Lsn,
    },
    /// A segment is complete, and durable.
    Segment {
        /// Its name.
        name: String,
        /// What became of it.
        pushed: Pushed,
        /// Position behind its last byte.
        end: Lsn,
    },
    /// A part of the segment that is being written is durable.
    Part {
        /// Name of the segment.
        name: String,
        /// Position behind the part's last byte.
        end: Lsn,
    },
    /// The server does not send this timeline any further.
    TimelineEnds {
        /// Which line of history.
        timeline: u32,
        /// Where it was left.
        at: Lsn,
    },
    /// Something is in the way, and may pass: it is tried again.
    Waits {
        /// What.
        why: &'a Failure,
    },
    /// The server keeps a lot of log for the slot.
    Holds {
        /// How many bytes.
        bytes: u64,
    },
    /// Log is lost, and it was asked to go on without it.
    Gap {
        /// Position of the first byte that is lost.
        from: Lsn,
        /// Where it goes on.
        to: Lsn,
    },
    /// Somebody asked to stop.
    Ended {
        /// Up to where the log is durable.
        safe: Lsn,
    },
}

/// Why a session with a server ended.
enum Trouble {
    /// It may pass.
    Passes(Failure),
    /// It does not.
    Stays(Failure),
    /// The server does not have the log any more that comes next.
    Gone,
    /// The timeline ended: another session goes on with the next one.
    NextTimeline,
}

type Result<T> = std::result::Result<T, Trouble>;

/// Receives the log of a cluster until somebody asks to stop, whatever happens to the server, the archive or what is between
/// them. What was told to be durable survives power loss, and the server keeps the rest.
///
/// # Errors
/// `slot-lost` and `log-lost` when the server does not have any more what the archive needs next; `server-behind` when the server
/// is not where its archive is; `wal-differs`, `wal-foreign`, `wal-damaged`; `replication-refused` for a role that may not, and
/// `source-refused`; `slot-kind`. Nothing that was stored is lost then.
pub fn receive(
    ctx: &Ctx,
    repository: &Repository,
    cluster: &Cluster,
    loss: Loss,
    on: &mut dyn FnMut(Event<'_>),
) -> std::result::Result<(), Failure> {
    let snapshots = repository.snapshots()?;
    let archive = Archive::open(repository, &cluster.name, &snapshots)?;
    let (mut begin, mut wait, mut told) = (Begin::Archive, WAIT_MIN, None);
    let mut loss = loss;
    loop {
        let mut began = false;
        let mut session = Session { ctx, archive: &archive, cluster, reached: Lsn::default() };
        let outcome = session.run(begin, loss, &mut |event| {
            began |= matches!(event, Event::Began { .. });
            on(event);
        });
        let from = session.reached;
        if began {
            // Once it sends, everything is as it should be; what is lost from here on was not asked about.
            (begin, loss, wait, told) = (Begin::Archive, Loss::Refuse, WAIT_MIN, None);
        }
        match outcome {
            Ok(safe) => {
                on(Event::Ended { safe });
                return Ok(());
            }
            Err(_) if ctx.world.stop.requested() => {
                if from > Lsn::default() {
                    on(Event::Ended { safe: from });
                }
                return Ok(());
            }
            Err(Trouble::NextTimeline) => {}
            Err(Trouble::Gone) if loss == Loss::Accept && begin == Begin::Archive => {
                begin = Begin::Slot { lost_from: from };
                continue;
            }
            Err(Trouble::Gone) => return Err(log_lost(cluster, from)),
            Err(Trouble::Stays(failure)) => return Err(failure),
            Err(Trouble::Passes(why)) => {
                // The same again is not worth a word.
                if told != Some(why.code) {
                    on(Event::Waits { why: &why });
                    told = Some(why.code);
                }
            }
        }
        pause(ctx, wait);
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// Waits so long, or until somebody asks to stop.
fn pause(ctx: &Ctx, wait: Duration) {
    const TICK: Duration = Duration::from_millis(100);
    let until = ctx.world.clock.monotonic() + wait;
    while ctx.world.clock.monotonic() < until && !ctx.world.stop.requested() {
        ctx.world.clock.sleep(TICK);
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Where the archive ends.
    Archive,
    /// Where the slot begins, though log is lost before that.
    Slot {
        /// Position of the first byte that is lost.
        lost_from: Lsn,
    },
}

/// What is needed to talk with a server about its log.
struct Session<'a> {
    ctx: &'a Ctx,
    archive: &'a Archive<'a>,
    cluster: &'a Cluster,
    /// Up to where the log is durable.
    reached: Lsn,
}

impl Session<'_> {
    /// Receives until the end: returns up to where the log is durable then.
    fn run(&mut self, begin: Begin, loss: Loss, on: &mut dyn FnMut(Event<'_>)) -> Result<Lsn> {
        let (ctx, archive, cluster) = (self.ctx, self.archive, self.cluster);
        let (stop, slot) = (&ctx.world.stop, cluster.receiving.slot.as_str());
        let mut server = Connection::open(&cluster.server, stop)?;
        let mut stream = Replication::open(&cluster.server, stop).map_err(|e| refused(e, &cluster.server))?;
        let identity = stream.identify()?;
        let segment_bytes = server.value("select setting from pg_settings where name = 'wal_segment_size'")?;
        let segment_bytes = segment_bytes.and_then(|text| text.parse::<u64>().ok()).filter(|n| n.is_power_of_two());
        let segment_bytes =
            segment_bytes.ok_or_else(|| WireError::Nonsense("no length of segments that makes sense".into()))?;
        archive.claim(ctx, Path::new(&cluster.server.to_string()), identity.system, segment_bytes)?;
        let line = self.line(&mut stream, identity)?;
        let (is_new, reserved) = self.slot(&mut server, &mut stream, loss)?;
        let reserved = reserved.unwrap_or(identity.flushed);
        let place = match begin {
            Begin::Archive => {
                let known = resume(&line, &archive.stretches()?, &archive.tails(segment_bytes)?, segment_bytes);
                known.unwrap_or_else(|| Place::of(&line, reserved, segment_bytes))
            }
            Begin::Slot { .. } => Place::of(&line, reserved, segment_bytes),
        };
        if place.safe > identity.flushed && place.timeline == identity.timeline {
            return Err(self.behind(&mut server, place.safe, identity.flushed)?);
        }
        // It would only stand about for days.
        drop(server);
        self.reached = place.safe;
        let start = place.start(segment_bytes);
        let mut receiver = Receiver {
            ctx,
            archive,
            receiving: &cluster.receiving,
            server: &cluster.server,
            stream,
            system: identity.system,
            place,
            segment: vec![0; segment_bytes as usize],
            filled: 0,
            parts: PARTS_MAX,
            waiting_since: None,
            end: identity.flushed,
            is_holding: false,
        };
        let begun = receiver.stream.begin(slot, (place.timeline, start)).map_err(Trouble::from);
        // That the server does not have it any more is said only now.
        let begun = begun.and_then(|()| receiver.first());
        if let (Err(Trouble::Gone), true, Loss::Refuse) = (&begun, is_new, loss) {
            // It would keep log that nobody asks for.
            drop(receiver);
            Replication::open(&cluster.server, stop)?.drop_slot(slot)?;
            return Err(Trouble::Gone);
        }
        let first = begun?;
        if let Begin::Slot { lost_from } = begin {
            on(Event::Gap { from: lost_from, to: start });
        }
        on(Event::Began { slot, is_new, timeline: place.timeline, start: place.safe });
        let outcome = receiver.run(first, on);
        self.reached = receiver.place.safe;
        outcome
    }

    /// The timelines that lead to the server's, with where each was left; their histories go into the archive.
    fn line(&self, stream: &mut Replication, identity: Identity) -> Result<Vec<Line>> {
        let mut line = Vec::new();
        if identity.timeline > 1 {
            let missing = || WireError::Nonsense("no history of its timeline".into());
            let bytes = stream.history(identity.timeline)?.ok_or_else(missing)?;
            let switches = std::str::from_utf8(&bytes).ok().and_then(wal::history).ok_or_else(missing)?;
            self.keep_history(identity.timeline, &bytes)?;
            for switch in switches {
                if switch.timeline > 1
                    && let Some(bytes) = stream.history(switch.timeline)?
                {
                    self.keep_history(switch.timeline, &bytes)?;
                }
                line.push(Line { timeline: switch.timeline, left: Some(switch.at) });
            }
        }
        line.push(Line { timeline: identity.timeline, left: None });
        Ok(line)
    }

    fn keep_history(&self, timeline: u32, bytes: &[u8]) -> Result<()> {
        let name = format!("{timeline:08X}.history");
        self.archive.keep(self.ctx, (Path::new(&name), WalFile::History(timeline)), bytes)?;
        Ok(())
    }

    /// Looks for the slot, and makes it where nothing speaks against that. Returns whether it is new, and where it begins.
    fn slot(&self, server: &mut Connection, stream: &mut Replication, loss: Loss) -> Result<(bool, Option<Lsn>)> {
        let name = self.cluster.receiving.slot.as_str();
        let question = format!(
            "select slot_type, wal_status, restart_lsn from pg_replication_slots where slot_name = {}",
            literal(name)
        );
        let found = server.query(&question)?.into_iter().next();
        let column = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
        let position = |row: &[Option<String>]| column(row, 2).and_then(|text| text.parse().ok());
        if let Some(row) = &found {
            if column(row, 0).as_deref() != Some("physical") {
                let what = format!("the replication slot {name} of {} is no physical one", self.cluster.server);
                return Err(Trouble::Stays(
                    Failure::new(Exit::Usage, "slot-kind", what)
                        .help("name another one in the configuration: physical = { receive = { slot = \"NAME\" } }"),
                ));
            }
            if column(row, 1).as_deref() != Some("lost") {
                return Ok((false, position(row)));
            }
            if loss == Loss::Refuse {
                return Err(Trouble::Stays(slot_lost(self.cluster)));
            }
            stream.drop_slot(name)?;
        }
        stream.make_slot(name)?;
        let made = server.query(&question)?.into_iter().next();
        Ok((true, made.as_deref().and_then(position)))
    }

    /// What to say about a server that has not written yet what its archive has.
    fn behind(&self, server: &mut Connection, archive: Lsn, flushed: Lsn) -> Result<Trouble> {
        let (server_name, source) = (&self.cluster.server, &self.cluster.name);
        let what = format!("{server_name} is at {flushed}, and the archive of {source} reaches {archive}");
        let failure = |help: &str| Failure::new(Exit::SourceUnreachable, "server-behind", what.clone()).help(help);
        Ok(match server.value("select pg_is_in_recovery()")?.as_deref() {
            Some("t") => Trouble::Passes(failure("it is a standby, and goes on when it has caught up")),
            _ => Trouble::Stays(failure(
                "find out whether its disk was set back, or whether it is a copy: a new history needs a source of its own",
            )),
        })
    }
}

/// A log that comes.
struct Receiver<'a> {
    ctx: &'a Ctx,
    archive: &'a Archive<'a>,
    receiving: &'a Receiving,
    server: &'a Server,
    stream: Replication,
    system: u64,
    /// The segment that is being received, and up to where the log is durable.
    place: Place,
    segment: Vec<u8>,
    /// How much of the segment is there.
    filled: usize,
    /// How many parts were stored since the last that has everything from the beginning.
    parts: u32,
    /// Since when there is something that is not durable.
    waiting_since: Option<Duration>,
    /// How far the server's log reaches.
    end: Lsn,
    /// It was told that the server keeps a lot.
    is_holding: bool,
}

impl Receiver<'_> {
    /// The first sign that the server has what comes next. That it lives is none, if there is something that it should send.
    fn first(&mut self) -> Result<Message> {
        let mut heard = self.ctx.world.clock.monotonic();
        self.report()?;
        loop {
            match self.next(&mut heard)? {
                Message::Quiet | Message::Alive { .. } if self.ctx.world.stop.requested() => {
                    return Err(WireError::Stopped.into());
                }
                Message::Quiet => {}
                Message::Alive { .. } if self.received() < self.end => {}
                message => return Ok(message),
            }
        }
    }

    fn run(&mut self, first: Message, on: &mut dyn FnMut(Event<'_>)) -> Result<Lsn> {
        let mut message = first;
        let mut heard = self.ctx.world.clock.monotonic();
        let mut reported = heard;
        loop {
            match message {
                Message::Log { start, bytes, end } => {
                    self.end = end;
                    self.take(start, &bytes, on)?;
                }
                Message::Alive { end, asks } => {
                    self.end = self.end.max(end);
                    if asks {
                        self.report()?;
                    }
                }
                Message::Quiet => {}
                Message::End => {
                    self.keep_part(on)?;
                    self.report()?;
                    self.stream.end().ok();
                    on(Event::TimelineEnds { timeline: self.place.timeline, at: self.place.safe });
                    return Err(Trouble::NextTimeline);
                }
            }
            let now = self.ctx.world.clock.monotonic();
            let is_due = self.waiting_since.is_some_and(|since| now.saturating_sub(since) >= self.receiving.interval);
            let stops = self.ctx.world.stop.requested();
            if is_due || stops {
                self.keep_part(on)?;
            }
            if is_due || stops || now.saturating_sub(reported) >= REPORT_EVERY {
                self.report()?;
                reported = now;
            }
            if stops {
                self.stream.end().ok();
                return Ok(self.place.safe);
            }
            self.look_at_slot(on);
            message = self.next(&mut heard)?;
        }
    }

    fn next(&mut self, heard: &mut Duration) -> Result<Message> {
        let message = self.stream.receive()?;
        let now = self.ctx.world.clock.monotonic();
        if message != Message::Quiet {
            *heard = now;
        } else if now.saturating_sub(*heard) > SILENCE_MAX {
            let why = format!("it was silent for {} s", SILENCE_MAX.as_secs());
            return Err(WireError::Unreachable { server: self.server.to_string(), why }.into());
        }
        Ok(message)
    }

    /// Takes a piece of the log, and stores every segment that it completes.
    fn take(&mut self, start: Lsn, mut bytes: &[u8], on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let expected = self.received();
        if start != expected {
            return Err(WireError::Nonsense(format!("log from {start} on instead of {expected}")).into());
        }
        while !bytes.is_empty() {
            let (here, rest) = bytes.split_at(bytes.len().min(self.segment.len() - self.filled));
            self.segment[self.filled..self.filled + here.len()].copy_from_slice(here);
            self.filled += here.len();
            bytes = rest;
            if self.received() > self.place.safe {
                self.waiting_since.get_or_insert_with(|| self.ctx.world.clock.monotonic());
            }
            if self.filled == self.segment.len() {
                self.keep_segment(on)?;
            }
        }
        Ok(())
    }

    /// Position behind what was received.
    fn received(&self) -> Lsn {
        Lsn(self.place.start(self.segment.len() as u64).0 + self.filled as u64)
    }

    fn name(&self) -> Name {
        Name::of(self.place.timeline, self.place.number, self.segment.len() as u64)
    }

    fn keep_segment(&mut self, on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let (name, end) = (self.name(), self.received());
        let pushed = self.durably(on, &|receiver| {
            let path = name.to_string();
            receiver.archive.keep(receiver.ctx, (Path::new(&path), WalFile::Segment(name)), &receiver.segment)
        })?;
        self.place = Place { number: self.place.number + 1, safe: end, ..self.place };
        self.segment.fill(0);
        (self.filled, self.parts, self.waiting_since) = (0, PARTS_MAX, None);
        self.report()?;
        on(Event::Segment { name: name.to_string(), pushed, end });
        Ok(())
    }

    /// Stores what was received of the segment that is being written, and is not durable.
    fn keep_part(&mut self, on: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let (name, begin, end) = (self.name(), self.place.start(self.segment.len() as u64), self.received());
        if end <= self.place.safe || self.filled < wal::HEADER_BYTES {
            return Ok(());
        }
        let is_sound = wal::header(&self.segment).is_ok_and(|header| {
            header.start == begin && header.system == self.system && header.timeline <= self.place.timeline
        });
        if !is_sound {
            let what = format!("the beginning of {name} as {} sends it is not that of a segment", self.server);
            let failure = Failure::new(Exit::Failed, "wal-damaged", what);
            return Err(Trouble::Stays(failure.help("look at the disk of the server, and take a backup")));
        }
        let from = if self.parts >= PARTS_MAX { begin } else { self.place.safe };
        self.durably(on, &|receiver| {
            let part = &receiver.segment[(from.0 - begin.0) as usize..receiver.filled];
            receiver.archive.keep_part(&name, from, part)
        })?;
        self.parts = if from == begin { 0 } else { self.parts + 1 };
        (self.place.safe, self.waiting_since) = (end, None);
        on(Event::Part { name: name.to_string(), end });
        Ok(())
    }

    /// Tries to store something until it is stored. Meanwhile the server keeps what comes next, and hears that we live.
    fn durably<T>(
        &mut self,
        on: &mut dyn FnMut(Event<'_>),
        store: &dyn Fn(&Self) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let (mut told, mut tries) = (false, 0_u32);
        loop {
            let why = match store(self) {
                Ok(stored) => return Ok(stored),
                Err(why) if !may_pass(&why) => return Err(Trouble::Stays(why)),
                Err(why) => why,
            };
            if self.ctx.world.stop.requested() {
                return Err(Trouble::Passes(why));
            }
            if !told {
                on(Event::Waits { why: &why });
                told = true;
            }
            tries += 1;
            pause(self.ctx, (WAIT_MIN * tries).min(REPORT_EVERY));
            self.report()?;
            // What it sends now is not read, so it must be asked how much it keeps.
            let server = Connection::open(self.server, &self.ctx.world.stop);
            if let Ok(end) = server.and_then(|mut server| written(&mut server)) {
                self.end = end;
                self.look_at_slot(on);
            }
        }
    }

    /// Tells the server up to where the log is durable.
    fn report(&mut self) -> Result<()> {
        Ok(self.stream.report(self.place.safe, self.ctx.world.clock.now())?)
    }

    fn look_at_slot(&mut self, on: &mut dyn FnMut(Event<'_>)) {
        let bytes = self.end.0.saturating_sub(self.place.safe.0);
        let limit = self.receiving.held_warn_bytes;
        if bytes > limit && !self.is_holding {
            on(Event::Holds { bytes });
        }
        // Told again only when it was better meanwhile.
        self.is_holding = bytes > limit || (self.is_holding && bytes > limit / 2);
    }
}

/// Whether an archive that fails like this may work again without anybody changing what is to be stored.
fn may_pass(failure: &Failure) -> bool {
    !failure.code.starts_with("wal-")
        && !matches!(failure.exit, Exit::NotAuthorised | Exit::WrongKey | Exit::Interrupted | Exit::Usage)
}

impl From<WireError> for Trouble {
    fn from(e: WireError) -> Self {
        let passes = match &e {
            WireError::Unreachable { .. } => true,
            WireError::Refused { code, .. } => match code.as_str() {
                "58P01" => return Trouble::Gone,
                // Shutting down, crashed, starting up, no room for another connection, a slot whose user has just died.
                "57P01" | "57P02" | "57P03" | "53300" | "55006" => true,
                _ => false,
            },
            WireError::Untrusted { .. }
            | WireError::Unencrypted { .. }
            | WireError::Nonsense(_)
            | WireError::Stopped => false,
        };
        if passes { Trouble::Passes(e.into()) } else { Trouble::Stays(e.into()) }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        if may_pass(&failure) { Trouble::Passes(failure) } else { Trouble::Stays(failure) }
    }
}

/// As [`Trouble::from`], with what it takes to be let in.
fn refused(e: WireError, server: &Server) -> Trouble {
    if !is_not_let_in(&e) {
        return e.into();
    }
    let what = format!("{server} refuses replication: {e}");
    Trouble::Stays(Failure::new(Exit::SourceUnreachable, "replication-refused", what).help(needs(server)))
}

fn slot_lost(cluster: &Cluster) -> Failure {
    let (slot, server) = (&cluster.receiving.slot, &cluster.server);
    let what = format!("{server} has given up the replication slot {slot} (max_slot_wal_keep_size): log may be lost");
    Failure::new(Exit::SourceUnreachable, "slot-lost", what).help(anew(cluster))
}

fn log_lost(cluster: &Cluster, from: Lsn) -> Failure {
    let (server, source) = (&cluster.server, &cluster.name);
    let what =
        format!("{server} does not have the log from {from} on any more, and the archive of {source} ends there");
    Failure::new(Exit::SourceUnreachable, "log-lost", what).help(anew(cluster))
}

fn anew(cluster: &Cluster) -> String {
    let source = &cluster.name;
    format!(
        "backstay wal receive {source} --new-slot goes on behind the gap; then take a backup: backstay backup {source}"
    )
}
