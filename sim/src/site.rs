//! Where objects are kept, and what goes wrong there: the simulated store.
//!
//! It may not know what the bytes mean. A [`Site`] has several places (a repository and its copies); cloning it is cheap, so
//! that every fault of a scenario starts from the same state. Faults are addressed by the turn of a process, or happen by
//! chance. What the contract of [`Backend`] allows is kept apart from what only a broken or
//! hostile store does: see [`Fault::is_within_contract`].

use crate::chance::Chance;
use crate::turnstile::{Call, Op, Seat};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::{Backend, Key, Kind, Listed, Put, Shelf, Span, Store, StoreError, Warning};

/// What can go wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Nothing happens: the place does not answer (outage, 503, time-out before anything was done).
    Unreachable,
    /// Nothing happens: no space.
    Full,
    /// Nothing happens: not allowed (credentials expired, read-only).
    Denied,
    /// It happens, and the answer is lost.
    Ambiguous,
    /// The answer is lost, and it happens this many seconds later.
    Late(u64),
    /// It happens, and once more so many seconds later, even after a deletion.
    Twice(u64),
    /// The listing lacks what was written within so many seconds.
    Lag(u64),
    /// The clock of the host steps by so many seconds.
    ClockStep(i64),
    /// The clock of the host stops.
    ClockFreeze,
    /// The call takes so many seconds.
    Stall(u64),
    /// From here on the place has no room for packs.
    NoRoom,
    /// Every call to the place fails from here on for so many seconds.
    Outage(u64),
    /// Only a broken store: one bit of the answer is wrong, this time.
    Flip,
    /// Only a broken store: the answer is shorter than what was asked for.
    Short,
    /// Only a broken store: the bytes of another object of the shelf.
    Swap,
    /// Only a broken store: the object is not there, this time.
    Flicker,
    /// Only a broken store: the listing lacks its newest object.
    Omit,
    /// Only a broken store: the listing is empty.
    Empty,
    /// Only a broken store: one bit of the object is wrong from here on.
    Rot,
    /// Only a broken store: the object is gone.
    Lose,
    /// Only a broken store: it answers that it wrote, and wrote only the beginning.
    Torn,
    /// Only a broken store: it answers that it wrote, and did not.
    Dropped,
}

impl Fault {
    /// Faults that a store may have and still keep the promises of [`Backend`].
    pub const HONEST: [Fault; 12] = [
        Fault::Unreachable,
        Fault::Full,
        Fault::Denied,
        Fault::Ambiguous,
        Fault::Late(400),
        Fault::Twice(400),
        Fault::Lag(30),
        Fault::ClockStep(-86_400),
        Fault::ClockFreeze,
        Fault::Stall(400),
        Fault::NoRoom,
        Fault::Outage(600),
    ];

    /// What only a broken or hostile store does.
    pub const BROKEN: [Fault; 10] = [
        Fault::Flip,
        Fault::Short,
        Fault::Swap,
        Fault::Flicker,
        Fault::Omit,
        Fault::Empty,
        Fault::Rot,
        Fault::Lose,
        Fault::Torn,
        Fault::Dropped,
    ];

    /// Whether the promises of [`Backend`] are kept all the same.
    pub fn is_within_contract(self) -> bool {
        !Fault::BROKEN.contains(&self)
    }

    /// Whether a broken store changed something that stays so.
    pub fn is_lasting(self) -> bool {
        matches!(self, Fault::Rot | Fault::Lose | Fault::Torn | Fault::Dropped)
    }

    /// Its name without numbers, for counting.
    pub fn name(self) -> String {
        let text = format!("{self:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }

    /// Whether it can happen to such a call.
    pub fn applies_to(self, call: &Call) -> bool {
        let op = call.op;
        match self {
            Fault::Unreachable | Fault::Denied | Fault::Outage(_) => {
                matches!(op, Op::Put | Op::Get | Op::Size | Op::List | Op::Delete | Op::Tidy)
            }
            Fault::Full | Fault::Late(_) | Fault::Twice(_) | Fault::NoRoom | Fault::Torn => op == Op::Put,
            // Of a segment nothing else tells: that it was dropped, nobody can know.
            Fault::Dropped => op == Op::Put && call.shelf != Some(Shelf::Ledger),
            Fault::Ambiguous => matches!(op, Op::Put | Op::Delete),
            Fault::Lag(_) | Fault::Omit | Fault::Empty => op == Op::List,
            Fault::Flip | Fault::Short | Fault::Swap | Fault::Rot | Fault::Lose => op == Op::Get,
            Fault::Flicker => matches!(op, Op::Get | Op::Size),
            Fault::ClockStep(_) | Fault::ClockFreeze => op == Op::Now,
            Fault::Stall(_) => op == Op::Wait,
        }
    }
}

/// What becomes of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It happens.
    Happens,
    /// The process is killed before it has an effect.
    CrashBefore,
    /// The process is killed after it had its effect, before it hears of it.
    CrashAfter,
    /// Something goes wrong.
    Fault(Fault),
}

/// When something is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this turn of a process on this host, once.
    Turn {
        /// Which host.
        host: usize,
        /// Counted from 1.
        turn: u64,
    },
    /// At this turn of all.
    Ever(u64),
    /// At the so-many-th such call from now on, whoever makes it.
    Nth {
        /// Which operation.
        op: Op,
        /// On which shelf.
        shelf: Shelf,
        /// How many are left, this one included.
        left: u64,
    },
}

/// What will go wrong.
#[derive(Clone, Debug, Default)]
pub struct Doom {
    /// At certain moments.
    pub certain: Vec<(When, Fate)>,
    /// By chance, so often of 100,000 turns that it can happen to.
    pub chances: Vec<(Fate, u32)>,
}

#[derive(Clone)]
struct Object {
    body: Arc<Vec<u8>>,
    since: Duration,
}

/// An object on its way.
#[derive(Clone)]
struct Delivery {
    at: Duration,
    key: Key,
    body: Arc<Vec<u8>>,
}

/// One place.
#[derive(Clone, Default)]
pub struct Place {
    objects: BTreeMap<Key, Object>,
    deliveries: Vec<Delivery>,
    half_written: u64,
    no_room: bool,
    outage: Option<Duration>,
    /// How long a listing may lack what was written.
    pub lag: Duration,
}

impl Place {
    /// The names of all objects.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// An object's bytes.
    pub fn body(&self, key: &Key) -> Option<&Arc<Vec<u8>>> {
        self.objects.get(key).map(|object| &object.body)
    }

    /// Puts, changes or takes an object behind everybody's back.
    pub fn meddle(&mut self, key: &Key, body: Option<Vec<u8>>) {
        match body {
            Some(body) => {
                let object = Object { body: Arc::new(body), since: Duration::ZERO };
                self.objects.insert(key.clone(), object);
            }
            None => {
                self.objects.remove(key);
            }
        }
    }

    /// What dead writers left half written.
    pub fn half_written(&self) -> u64 {
        self.half_written
    }
}

/// Everything outside the engine but time and chance.
#[derive(Clone, Default)]
pub struct Site {
    /// The repository, and its copies.
    pub places: Vec<Place>,
    /// Processes that run.
    pub alive: BTreeSet<u32>,
    /// What will go wrong.
    pub doom: Doom,
    /// What went wrong, by name.
    pub counts: BTreeMap<String, u64>,
    /// The calls of the processes, in order, while this is wanted.
    pub calls_seen: Option<Vec<Call>>,
    /// Bytes that may stand in no object.
    pub canaries: Vec<Vec<u8>>,
    /// Every pack that was ever put at the first place.
    pub packs: Vec<Arc<Vec<u8>>>,
    /// What must not have happened and did.
    pub violations: Vec<String>,
    /// What time it is.
    pub now: Duration,
    /// Turns of the first host.
    pub first_turns: u64,
    turns: u64,
    pids: u32,
}

impl Site {
    /// A site with so many empty places.
    pub fn new(places: usize) -> Site {
        let now = Duration::from_secs(1_000_000);
        Site { places: vec![Place::default(); places], now, ..Site::default() }
    }

    /// A process begins.
    pub fn bear(&mut self) -> u32 {
        self.pids += 1;
        self.alive.insert(self.pids);
        self.pids
    }

    /// The process that began last.
    pub fn last_born(&self) -> u32 {
        self.pids
    }

    /// What becomes of the turn that begins.
    pub fn fate(&mut self, host: usize, turn: u64, call: &Call, chance: &mut Chance) -> Fate {
        if let Some(seen) = &mut self.calls_seen {
            seen.push(call.clone());
        }
        self.turns += 1;
        self.first_turns += u64::from(host == 0);
        let all = self.turns;
        let applies = |fate: &Fate| match fate {
            Fate::Fault(fault) => fault.applies_to(call),
            _ => true,
        };
        let mut certain = None;
        for (at, (when, fate)) in self.doom.certain.iter_mut().enumerate() {
            let is_due = match when {
                When::Turn { host: h, turn: t } => (*h, *t) == (host, turn),
                When::Ever(turn) => *turn == all,
                When::Nth { op, shelf, left } => {
                    let is_such = *op == call.op && Some(*shelf) == call.shelf;
                    *left = left.saturating_sub(is_such.into());
                    is_such && *left == 0
                }
            };
            if is_due && applies(fate) {
                certain = certain.or(Some(at));
            }
        }
        let fate = match certain {
            Some(at) => self.doom.certain.remove(at).1,
            None => {
                let lot = chance.below(100_000);
                let mut sum = 0;
                let struck = self.doom.chances.iter().find(|(fate, share)| {
                    sum += if applies(fate) { u64::from(*share) } else { 0 };
                    lot < sum
                });
                struck.map_or(Fate::Happens, |(fate, _)| *fate)
            }
        };
        let name = match fate {
            Fate::Happens => return fate,
            Fate::Fault(fault) => fault.name(),
            crash => format!("{crash:?}"),
        };
        *self.counts.entry(name).or_default() += 1;
        fate
    }

    /// A process was killed before its call had an effect: a write may have left something half done.
    pub fn killed(&mut self, call: &Call) {
        if call.op == Op::Put {
            self.places[call.place].half_written += 1;
        }
    }

    /// What is due arrives.
    pub fn arrive(&mut self, now: Duration) {
        if now != Duration::MAX {
            self.now = now;
        }
        for place in &mut self.places {
            let (due, later) = std::mem::take(&mut place.deliveries).into_iter().partition(|d| d.at <= now);
            place.deliveries = later;
            let due: Vec<Delivery> = due;
            for delivery in due {
                place.objects.entry(delivery.key).or_insert(Object { body: delivery.body, since: delivery.at });
            }
            place.outage = place.outage.filter(|until| *until > now);
        }
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Nothing goes wrong any more, but that what is on its way still arrives.
    pub fn heal(&mut self) {
        self.doom = Doom::default();
        for place in &mut self.places {
            (place.no_room, place.outage) = (false, None);
        }
    }
}

/// An object's name as far as it is the same in every run: what age wraps differs each time, and so do hashes of it.
pub fn spelled(key: &Key) -> String {
    let path = key.path();
    match key.shelf() {
        Shelf::Keys | Shelf::Runs | Shelf::Ledger => {
            path.rsplit_once('.').map(|(front, _)| front.to_owned()).unwrap_or(path)
        }
        Shelf::Root
        | Shelf::Packs
        | Shelf::Index
        | Shelf::Heads
        | Shelf::Intents
        | Shelf::Condemned
        | Shelf::Events => path.get(..path.len().min(60)).unwrap_or(&path).to_owned(),
    }
}

/// A place as one host sees it.
pub struct SimStore {
    seat: Seat,
    place: usize,
    lists_at_once: bool,
}

impl SimStore {
    /// The store at `place`, for whoever sits on `seat`.
    pub fn store(seat: &Seat, place: usize) -> Store {
        let lists_at_once = seat.with(|site| site.places[place].lag.is_zero());
        Store::new(Arc::new(SimStore { seat: seat.clone(), place, lists_at_once }))
    }

    fn call<R>(
        &self,
        op: Op,
        shelf: Option<Shelf>,
        name: String,
        effect: impl FnOnce(&mut Place, Option<Fault>, &mut Chance, Duration) -> Result<(R, String), StoreError>,
    ) -> Result<R, StoreError> {
        let at = self.place;
        let what = format!("{op:?} {name}").to_lowercase();
        let dead = StoreError::new(Kind::Unreachable, what.clone(), "this process was killed");
        let name = if at == 0 { name } else { format!("{at}:{name}") };
        let call = Call { op, place: at, shelf, name };
        self.seat.turn(
            call,
            |site, fault, chance, now| {
                let fail = |kind, why: &str| (Err(StoreError::new(kind, what.clone(), why)), format!("{kind:?}"));
                let place = &mut site.places[at];
                if let Some(Fault::Outage(seconds)) = fault {
                    place.outage = Some(now + Duration::from_secs(seconds));
                }
                match fault {
                    _ if place.outage.is_some() => return fail(Kind::Unreachable, "the place is down"),
                    Some(Fault::Unreachable) => return fail(Kind::Unreachable, "no answer"),
                    Some(Fault::Full) => return fail(Kind::Full, "no space left"),
                    Some(Fault::Denied) => return fail(Kind::Denied, "not allowed"),
                    _ => {}
                }
                match effect(place, fault, chance, now) {
                    Ok((_, text)) if fault == Some(Fault::Ambiguous) => {
                        (fail(Kind::Unreachable, "the answer was lost").0, format!("{text}, and the answer is lost"))
                    }
                    Ok((result, text)) => (Ok(result), text),
                    Err(e) => {
                        let text = format!("{:?}", e.kind);
                        (Err(e), text)
                    }
                }
            },
            || Err(dead),
        )
    }
}

impl Backend for SimStore {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        let fail = |kind, why: String| StoreError::new(kind, format!("write {key}"), why);
        let bad = self.seat.with(|site| site.canaries.iter().any(|canary| holds(body, canary)));
        if bad {
            self.seat.with(|site| site.violations.push(format!("a secret stands in clear in {key}")));
        }
        if key.shelf() == Shelf::Packs && self.place == 0 {
            self.seat.with(|site| site.packs.push(Arc::new(body.to_vec())));
        }
        self.call(Op::Put, Some(key.shelf()), spelled(key), |place, fault, _, now| {
            if place.no_room && key.shelf() == Shelf::Packs {
                return Err(fail(Kind::Full, "there is no room for packs".into()));
            }
            let body = Arc::new(body.to_vec());
            let at = |seconds| now + Duration::from_secs(seconds);
            match fault {
                Some(Fault::Late(seconds)) => {
                    place.deliveries.push(Delivery { at: at(seconds), key: key.clone(), body });
                    return Err(fail(Kind::Unreachable, "no answer in time".into()));
                }
                Some(Fault::NoRoom) => {
                    place.no_room = true;
                    return Err(fail(Kind::Full, "there is no room".into()));
                }
                Some(Fault::Dropped) => return Ok((Put::New, "not really".into())),
                _ => {}
            }
            match place.objects.get(key) {
                Some(found) if found.body.len() == body.len() => return Ok((Put::Existed, "existed".into())),
                Some(_) => return Err(fail(Kind::Corrupt, "an object of that name and another size exists".into())),
                None => {}
            }
            if let Some(Fault::Twice(seconds)) = fault {
                let again = Delivery { at: at(seconds), key: key.clone(), body: Arc::clone(&body) };
                place.deliveries.push(again);
            }
            let body = match fault {
                Some(Fault::Torn) => Arc::new(body[..body.len() / 2].to_vec()),
                _ => body,
            };
            place.objects.insert(key.clone(), Object { body, since: now });
            Ok((Put::New, "new".into()))
        })
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        let fail = |kind, why: &str| StoreError::new(kind, format!("read {key}"), why);
        self.call(Op::Get, Some(key.shelf()), spelled(key), |place, fault, chance, _| {
            if fault == Some(Fault::Lose) {
                place.objects.remove(key);
            }
            if fault == Some(Fault::Flicker) {
                return Err(fail(Kind::Absent, "there is no such object"));
            }
            let found = place.objects.get(key).ok_or_else(|| fail(Kind::Absent, "there is no such object"))?;
            let mut body = Arc::clone(&found.body);
            if fault == Some(Fault::Swap) {
                let others: Vec<&Key> =
                    place.keys().filter(|other| other.shelf() == key.shelf() && *other != key).collect();
                if let Some(other) = others.get(chance.below(others.len() as u64) as usize) {
                    body = Arc::clone(&place.objects[*other].body);
                }
            }
            if matches!(fault, Some(Fault::Flip | Fault::Rot)) && !body.is_empty() {
                let mut bytes = body.as_ref().clone();
                let bit = chance.draw();
                let at = (bit >> 3) as usize % bytes.len();
                bytes[at] ^= 1 << (bit & 7);
                body = Arc::new(bytes);
                if fault == Some(Fault::Rot)
                    && let Some(object) = place.objects.get_mut(key)
                {
                    object.body = Arc::clone(&body);
                }
            }
            let mut bytes = match span {
                Span::Whole => body.to_vec(),
                Span::Tail { len } => {
                    let len = usize::try_from(len).unwrap_or(usize::MAX).min(body.len());
                    body[body.len() - len..].to_vec()
                }
                Span::Range { offset, len } => {
                    let (start, end) = (offset as usize, offset.saturating_add(len) as usize);
                    let part = body.get(start..end);
                    part.ok_or_else(|| fail(Kind::Corrupt, "the object ends before the bytes that were wanted"))?
                        .to_vec()
                }
            };
            if fault == Some(Fault::Short) {
                bytes.truncate(bytes.len() / 2);
            }
            Ok((bytes, "bytes".into()))
        })
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.call(Op::Size, Some(key.shelf()), spelled(key), |place, fault, _, _| {
            let size = place.objects.get(key).map(|object| object.body.len() as u64);
            let size = size.filter(|_| fault != Some(Fault::Flicker));
            Ok((size, if size.is_some() { "there" } else { "absent" }.into()))
        })
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.call(Op::List, Some(shelf), format!("{}/{}", shelf.dir(), prefix), |place, fault, _, now| {
            let lag = match fault {
                Some(Fault::Lag(seconds)) => Duration::from_secs(seconds).min(place.lag),
                _ => Duration::ZERO,
            };
            let all = place.objects.iter().filter(|(key, _)| key.shelf() == shelf && key.name().starts_with(prefix));
            let mut seen: Vec<(&Key, &Object)> =
                all.filter(|(_, object)| lag.is_zero() || object.since + lag <= now).collect();
            match fault {
                Some(Fault::Empty) => seen.clear(),
                Some(Fault::Omit) => {
                    let newest = seen.iter().map(|(_, object)| object.since).max();
                    seen.retain(|(_, object)| Some(object.since) != newest);
                }
                _ => {}
            }
            let listed: Vec<Listed> =
                seen.iter().map(|(key, o)| Listed { key: (*key).clone(), bytes: o.body.len() as u64 }).collect();
            let count = format!("{} objects", listed.len());
            Ok((listed, count))
        })
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.call(Op::Delete, Some(key.shelf()), spelled(key), |place, _, _, _| {
            let was = place.objects.remove(key).is_some();
            Ok((was, if was { "gone" } else { "was not there" }.into()))
        })
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        self.call(Op::Tidy, None, String::new(), |place, _, _, _| {
            Ok((std::mem::take(&mut place.half_written), "tidy".into()))
        })
    }

    fn room(&self) -> Option<u64> {
        None
    }

    fn lists_at_once(&self) -> bool {
        self.lists_at_once
    }

    fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    fn address(&self) -> String {
        format!("place {}", self.place)
    }
}

fn holds(body: &[u8], canary: &[u8]) -> bool {
    body.windows(canary.len()).any(|window| window == canary)
}
