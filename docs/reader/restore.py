#!/usr/bin/env python3
"""Restore a file snapshot from a local Backstay repository, without Backstay.

Written from docs/format.md only; the paragraph signs below point to its sections.
It never writes to the repository. It reads pack trailers and needs no index.
"""
import argparse, base64, json, os, stat, struct, sys
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import pyrage
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONTENT, ENTRIES, LIST = 1, 2, 3
FILE, DIRECTORY, SYMLINK, FIFO, CHAR_DEVICE, BLOCK_DEVICE, HARD_LINK = range(1, 8)
MAX_GROUP = 16 << 20
ZERO_NONCE = bytes(12)


class Bad(Exception):
    """Something in the repository is missing, damaged, or not what it claims to be."""


MALFORMED = (Bad, OSError, ValueError, KeyError, TypeError, AttributeError, struct.error)
problems = 0


def say(kind, text):
    print(f"restore.py: {kind}: {text}", file=sys.stderr)


def problem(text):
    global problems
    problems += 1
    say("problem", text)


def reason(e):
    return str(e) if isinstance(e, (Bad, OSError)) else f"malformed ({type(e).__name__}: {e})"


def need(condition, text):
    if not condition:
        raise Bad(text)


# ---- conventions (§1) ----

def derive(context, material):
    return blake3(material, derive_key_context="backstay v1 " + context).digest()


def unseal(keys, nonce, aad, data, what):
    """What the first of the keys opens that opens it."""
    for key in keys:
        try:
            return AESGCM(key).decrypt(nonce, data, aad)
        except InvalidTag:
            continue
    raise Bad(f"{what}: cannot be decrypted (damaged, or another key)")


def verify(public, signature, message, what):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Bad(f"{what}: bad signature") from None


def signer_id(public):
    return blake3(public).digest()[:16]


def load_json(data, known=()):
    value = json.loads(data.decode("utf-8"))
    need(isinstance(value, dict), "JSON value is not an object")
    unknown = [feature for feature in value.get("features") or [] if feature not in known]
    need(not unknown, f"needs unknown features {unknown!r}")
    return value


def from_hex(text, size):
    value = bytes.fromhex(text)
    need(len(value) == size and value.hex() == text, f"not {size} bytes of lower-case hex: {text!r}")
    return value


def percent_path(raw):
    """Bytes of a path, for people. Also keeps control characters off the terminal."""
    text = ""
    for c in raw.decode("utf-8", "surrogateescape"):
        odd = c == "%" or 0xDC80 <= ord(c) <= 0xDCFF or ord(c) < 32 or 127 <= ord(c) < 160
        text += "".join("%%%02X" % b for b in c.encode("utf-8", "surrogateescape")) if odd else c
    return text


def show_key(key):
    return "/" + percent_path(key.replace(b"\0", b"/"))


class Cursor:
    """Reads fields one after another; running out of bytes is an error."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(0 <= n <= len(self.data) - self.at, "ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def more(self):
        return self.at < len(self.data)

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def varint(self):
        value = 0
        for i in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                need(value < 1 << 64, "varint is too large")
                return value
        raise Bad("varint is too long")

    def zigzag(self):
        n = self.varint()
        return (n >> 1) ^ -(n & 1)

    def end(self):
        need(not self.more(), "has bytes left over")


# ---- the repository: objects, configuration, keys, heads (§2, §3, §4, §9) ----

class Envelope(NamedTuple):
    signer: bytes
    body: dict


class Snapshot(NamedTuple):
    id: str
    domain: bytes
    run: bytes
    public_hash: bytes
    sealed: bytes
    public: dict


class Repository:
    def __init__(self, path, secret):
        self.path = path
        self.certificates = {}  # signer id -> list of certificate bodies
        self.revoked = set()  # signer ids
        configs = self.read_configs()
        need(configs, "no validly signed backstay.json or keys/config.* of a supported format")
        self.open_keys(secret, configs)
        configs = [c for c in configs if (c["root"], c["repository"]) == (self.root_public, self.key_repository)]
        need(configs, "the key is of another repository or trusts another root key than the one that signed the configuration")
        self.id = from_hex(configs[0]["repository"], 16)
        self.root = from_hex(configs[0]["root"], 32)
        self.read_certificates()

    def names(self, folder, prefix=""):
        try:
            return sorted(n for n in os.listdir(os.path.join(self.path, folder)) if n.startswith(prefix))
        except FileNotFoundError:
            return []

    def read(self, name):
        """A whole object; its name must end in the BLAKE3 of its bytes."""
        with open(os.path.join(self.path, name), "rb") as f:
            data = f.read()
        digest = name.replace("/", ".").rsplit(".", 1)[1]
        need(name == "backstay.json" or digest == blake3(data).hexdigest(), f"{name}: damaged (hash is not its name)")
        return data

    def objects(self, folder, prefix):
        """All readable objects of a kind, as (name, bytes). A damaged head is a problem, as it may hide snapshots;
        of keys there are copies, and what really cannot be opened without them is a problem later."""
        for name in self.names(folder, prefix):
            name = f"{folder}/{name}"
            try:
                data = self.read(name)
            except (Bad, OSError) as e:
                problem(reason(e)) if folder == "heads" else say("warning", reason(e))
                continue
            yield name, data

    def read_configs(self):
        """Validly signed configurations: backstay.json first, then copies, the newest first."""
        found = []
        for name in ["backstay.json"] + ["keys/" + n for n in self.names("keys", "config.")]:
            try:
                line, signature = self.read(name).split(b"\n")[:2]
                # What writers lock changes nothing for who reads.
                config = load_json(line, known=["lock"])
                need(config["format"] == 1, f"format {config['format']!r} is not supported")
                need(config["suite"] == 1, f"suite {config['suite']!r} is not supported")
                need(isinstance(config["generation"], int), "has no generation")
                verify(from_hex(config["root"], 32), bytes.fromhex(load_json(signature)["signature"]),
                       b"backstay v1 config\0" + line, "configuration")
                found.append((name == "backstay.json", config["generation"], config))
            except MALFORMED as e:
                say("warning", f"{name}: {reason(e)}")
        found.sort(key=lambda f: f[:2], reverse=True)
        return [f[2] for f in found]

    def open_keys(self, secret, configs):
        """From a passphrase, an age identity or a key bundle to the identity and the two masters."""
        repositories = {c["repository"] for c in configs}
        lines = [line.strip() for line in secret.splitlines()]
        identity = next((line for line in lines if line.startswith("AGE-SECRET-KEY-1")), None)
        bundle = None
        if identity is None:
            try:
                bundle = json.loads(secret)
            except ValueError:
                pass
            if not isinstance(bundle, dict):
                passphrase = secret[:-1] if secret.endswith("\n") else secret
                bundle = self.unwrap("keys", "owner-", lambda data: pyrage.passphrase.decrypt(data, passphrase),
                                     "the passphrase", lambda data: load_json(data)["repository"] in repositories)
                bundle = load_json(bundle[0])
            need(bundle.get("role") in ("owner", "reader"), f"a {bundle.get('role')} key cannot restore; give one of an owner or reader")
            need(bundle.get("v") == 1 and not bundle.get("features"), "the key bundle is of an unknown version")
            identity = bundle["identity"]
        try:
            self.identity = pyrage.x25519.Identity.from_str(identity)
        except pyrage.IdentityError as e:
            raise Bad(f"not a usable age identity: {e}") from None
        if not bundle or "id_master" not in bundle or "keep_master" not in bundle:
            told = next((line[5:].strip() for line in lines if line.startswith("root:")), None)
            root = bundle["root_public"] if bundle else told or configs[0]["root"]
            masters = self.unwrap("keys", "masters-", self.open_age, "the identity", lambda data: self.are_roots(load_json(data), root))
            if not bundle and not told:
                say("note", f"trusting root key {root}; an identity alone cannot prove it. Compare it with your records.")
            bundle = load_json(masters[0])
        self.root_public, self.key_repository = bundle["root_public"], bundle["repository"]
        self.id_master, self.keep_master = from_hex(bundle["id_master"], 32), from_hex(bundle["keep_master"], 32)

    def are_roots(self, masters, root):
        """Anybody can encrypt master keys to the recipients: root's are signed."""
        keys = b"".join(bytes.fromhex(masters[k]) for k in ("repository", "id_master", "keep_master"))
        verify(from_hex(root, 32), bytes.fromhex(masters["signature"]), b"backstay v1 masters\0" + keys, "keys/masters-*")
        return masters["root_public"] == root

    def open_age(self, data):
        return pyrage.decrypt(data, [self.identity])

    def unwrap(self, folder, prefix, decrypt, secret_name, accept):
        """The contents of the age files of this prefix that open and are acceptable: at least one."""
        tried, found = 0, []
        for name, data in self.objects(folder, prefix):
            tried += 1
            try:
                plain = decrypt(data)
                if accept(plain):
                    found.append(plain)
            except (pyrage.DecryptError, *MALFORMED):
                continue
        need(found, f"{secret_name} opens none of the {tried} objects {folder}/{prefix}*")
        return found

    def envelope(self, magic, data):
        """§4.1: checks the signature, but not whether the signer may say this (see allowed)."""
        c = Cursor(data)
        need(c.take(4) == magic and c.u8() == 1, "not an envelope of this kind and version")
        c.take(3)
        signer = c.take(16)
        body = c.take(c.u32())
        signed = data[:c.at]
        signature = c.take(64)
        c.end()
        verify(self.public_key(signer), signature, b"backstay v1 envelope\0" + self.id + signed, "envelope")
        return Envelope(signer, load_json(body))

    def public_key(self, signer):
        if signer == signer_id(self.root):
            return self.root
        need(signer in self.certificates, f"signed by {signer.hex()}, which has no certificate")
        return from_hex(self.certificates[signer][0]["public"], 32)

    def allowed(self, signer, roles, domain=None):
        """Root may do all. A writer's certificate counts for its domain (any domain when it names none)."""
        if signer == signer_id(self.root):
            return True
        for cert in self.certificates.get(signer, []):
            for role in set(roles) & set(cert["roles"]):
                if role == "keeper" or domain is None or cert.get("domain") in (None, domain.hex()):
                    return True
        return False

    def read_certificates(self):
        found = {}
        for name, data in self.objects("keys", "cert-"):
            try:
                signer, body = self.envelope(b"BSCE", data)  # no certificates yet: only root is accepted
                need(body["v"] == 1, "unknown version")
                certified = from_hex(body["signer"], 16)
                need(certified == signer_id(from_hex(body["public"], 32)), "signer id does not belong to the public key")
                need(isinstance(body["roles"], list), "has no roles")
                if body["roles"]:
                    found.setdefault(certified, []).append(body)
                else:
                    self.revoked.add(certified)
            except MALFORMED as e:
                say("warning", f"{name}: {reason(e)}")
        self.certificates = found

    @lru_cache(maxsize=None)
    def id_key(self, domain):
        return derive("domain id", self.id_master + domain)

    @lru_cache(maxsize=None)
    def keep_key(self, domain):
        return derive("domain keep", self.keep_master + domain)

    @lru_cache(maxsize=None)
    def data_keys(self, run):
        """§5: all that are stored for the run. Anybody can make one; the right one opens what the run sealed."""
        head = b"BSRN" + struct.pack("<I", 1) + self.id + run
        plains = self.unwrap("runs", run.hex() + ".", self.open_age, "the identity",
                             lambda data: len(data) == 72 and data.startswith(head))
        return [plain[40:] for plain in plains]

    def read_heads(self):
        """§9: all verified heads, as id -> envelope. Lost parents are fatal."""
        heads, covered, silent = {}, {}, set()
        for name, data in self.objects("heads", ""):
            try:
                head = self.envelope(b"BSHD", data)
                if head.signer in self.revoked:
                    silent.add(name.split("/")[1])  # a checkpoint repeats what it said while it might
                    continue
                need(head.body["v"] == 1, "unknown version")
                need(self.allowed(head.signer, ["writer", "keeper"]), "its signer may not write heads")
                if not self.allowed(head.signer, ["keeper"]) and (head.body.get("removes") or head.body.get("covers")):
                    problem(f"{name}: removes or covers, but is not signed by a keeper; ignoring that part")
                    head.body["removes"] = head.body["covers"] = []
                heads[name.split("/")[1]] = head
            except MALFORMED as e:
                problem(f"{name}: {reason(e)}")
        need(heads, "there is no readable head, so no snapshot")
        for head_id, head in heads.items():
            for other in head.body.get("covers") or []:
                covered[other] = head_id
        for head_id, head in heads.items():
            head.body["parents"] = [p for p in head.body["parents"] if p not in silent or p in covered]
            for parent in head.body["parents"]:
                need(parent in heads or parent in covered,
                     f"head {head_id} follows head {parent}, which is missing: heads were lost, or the repository was rolled back")
        return heads, covered

    def snapshots(self):
        """The union of all heads: snapshots added and never removed, the latest last."""
        heads, covered = self.read_heads()
        heights = self.head_heights(heads, covered)
        records, orders, removed = {}, {}, set()
        for head_id, head in heads.items():
            removed.update(head.body.get("removes") or [])
            recorded = head.body.get("order") or {}
            for text in head.body.get("adds") or []:
                record = base64.b64decode(text, validate=True)
                snapshot_id = blake3(record).hexdigest()
                records[snapshot_id] = record
                order = recorded.get(snapshot_id, heights[head_id])
                orders[snapshot_id] = min(order, orders.get(snapshot_id, order))
        found = []
        for snapshot_id in records.keys() - removed:
            try:
                s = self.parse_snapshot(snapshot_id, records[snapshot_id])
                found.append((orders[snapshot_id], datetime.fromisoformat(s.public["time"]), s.id, s))
            except MALFORMED as e:
                problem(f"snapshot {snapshot_id}: {reason(e)}")
        return [f[-1] for f in sorted(found, key=lambda f: f[:3])]

    def head_heights(self, heads, covered):
        """Number of heads on the longest path from the first head, itself included."""
        heights = {i: h.body["height"] for i, h in heads.items() if h.body.get("covers") and "height" in h.body}
        waiting = [i for i in heads if i not in heights]
        while waiting:
            # a parent that was deleted counts as high as the checkpoint that covers it
            ready = [i for i in waiting
                     if all((p if p in heads else covered[p]) in heights for p in heads[i].body["parents"])]
            need(ready, "heads follow each other in a circle")
            for i in ready:
                parents = [p if p in heads else covered[p] for p in heads[i].body["parents"]]
                heights[i] = 1 + max((heights[p] for p in parents), default=0)
            waiting = [i for i in waiting if i not in heights]
        return heights

    def parse_snapshot(self, snapshot_id, record):
        """§8"""
        c = Cursor(record)
        need(c.take(4) == b"BSSN" and c.take(2) == b"\1\1", "not a snapshot record of this version")
        c.take(2)
        need(c.take(16) == self.id, "of another repository")
        domain, run, signer = c.take(16), c.take(16), c.take(16)
        public = c.take(c.u32())
        sealed = c.take(c.u32())
        signed = record[:c.at]
        signature = c.take(64)
        c.end()
        need(self.allowed(signer, ["writer", "keeper"], domain), f"signer {signer.hex()} may not write this domain")
        verify(self.public_key(signer), signature, b"backstay v1 snapshot\0" + signed, "snapshot record")
        plain = unseal([derive("public", self.keep_key(domain) + public[:32])], ZERO_NONCE,
                       b"BSSN public" + self.id + domain + run, public[32:], "public part")
        return Snapshot(snapshot_id, domain, run, blake3(public).digest(), sealed, load_json(plain))

    def open_sealed(self, s):
        keys = [derive("snapshot", key + s.sealed[:32]) for key in self.data_keys(s.run)]
        plain = unseal(keys, ZERO_NONCE, b"BSSN sealed" + s.public_hash, s.sealed[32:], "sealed part of the snapshot")
        sealed = load_json(plain)
        need(s.public["v"] == 1 and sealed["v"] == 1, "snapshot of an unknown version")
        need(sealed["content"] == s.public["content"], "public and sealed part disagree about the content list")
        return sealed


# ---- packs and chunks (§6) ----

class Record(NamedTuple):
    pack: str
    run: bytes
    salt: bytes
    counter: int
    offset: int
    stored_len: int
    plain_len: int
    kind: int
    codec: int
    members: bytes  # 16-byte digest, part of the aad


class Chunks:
    """Every chunk of one domain, found by reading the trailers of its packs."""

    def __init__(self, repo, domain, check):
        self.repo, self.domain = repo, domain
        id_key, keep_key = repo.id_key(domain), repo.keep_key(domain)
        self.chunk_keys = {CONTENT: derive("id content", id_key), ENTRIES: derive("id entries", id_key),
                           LIST: derive("id list", keep_key)}
        self.records = []
        self.places = {}  # chunk id -> (record number, offset in its group, length)
        self.more_places = {}  # chunk id -> further places, for chunks stored more than once
        self.open_record = lru_cache(maxsize=16)(self.open_record)
        for shard in repo.names("packs"):
            for name in repo.names("packs/" + shard):
                pack = f"packs/{shard}/{name}"
                try:
                    self.read_trailer(pack)
                    if check:
                        self.check_pack(pack)
                except MALFORMED as e:
                    # only a problem if something we need was in it, unless we were asked to check
                    problem(f"{pack}: {reason(e)}") if check else say("warning", f"{pack}: {reason(e)}")

    def check_pack(self, pack):
        data = self.repo.read(pack)
        domain, signer = data[24:40], data[40:56]
        need(self.repo.allowed(signer, ["writer", "keeper"], domain), f"signer {signer.hex()} may not write this domain")
        verify(self.repo.public_key(signer), data[-64:],
               b"backstay v1 pack\0" + self.repo.id + blake3(data[:-72]).digest() + data[-72:-68], "pack")

    def read_trailer(self, pack):
        with open(os.path.join(self.repo.path, pack), "rb") as f:
            size = os.fstat(f.fileno()).st_size
            need(size >= 96 + 16 + 72, "too short")
            header = f.read(96)
            f.seek(size - 72)
            footer = f.read(72)
            trailer_len = int.from_bytes(footer[:4], "little")
            need(header[:4] == b"BSPK" and footer[4:8] == b"BSPE", "not a pack")
            need(header[4:6] == b"\1\1" and header[7] == 0, "version, suite or flags not supported")
            need(header[8:24] == self.repo.id, "of another repository")
            if header[24:40] != self.domain:
                return
            need(16 <= trailer_len <= size - 72 - 96, "bad trailer length")
            f.seek(size - 72 - trailer_len)
            sealed = f.read(trailer_len)
        key = derive("trailer", self.repo.keep_key(self.domain) + header[56:88])
        self.parse_trailer(pack, unseal([key], ZERO_NONCE, header, sealed, "trailer"), size - 72 - trailer_len)

    def parse_trailer(self, pack, plain, records_end):
        c = Cursor(plain)
        origins = [(c.take(16), c.take(16)) for _ in range(c.u32())]
        for _ in range(c.u32()):
            origin, counter, offset, stored, plain_len, kind, codec, n = struct.unpack("<IIIIIBBH", c.take(24))
            members = c.take(36 * n)
            need(origin < len(origins), "record of an origin that is not there")
            need(96 <= offset and offset + stored <= records_end, "record lies outside the records")
            need(plain_len <= MAX_GROUP, "record is too large")
            self.records.append(Record(pack, *origins[origin], counter, offset, stored, plain_len, kind, codec,
                                       blake3(members).digest()[:16]))
            at = 0
            for chunk_id, length in struct.iter_unpack("<32sI", members):
                place = (len(self.records) - 1, at, length)
                if chunk_id in self.places:
                    self.more_places.setdefault(chunk_id, []).append(place)
                else:
                    self.places[chunk_id] = place
                at += length
            need(at == plain_len, "members do not add up to the record")
        c.end()

    def open_record(self, number):
        r = self.records[number]
        with open(os.path.join(self.repo.path, r.pack), "rb") as f:
            f.seek(r.offset)
            stored = f.read(r.stored_len)
        if r.kind == LIST:
            keys = [derive("list records", self.repo.keep_key(self.domain) + r.salt)]
        else:
            need(r.kind in (CONTENT, ENTRIES), f"unknown record kind {r.kind}")
            keys = [derive("records", key + r.salt) for key in self.repo.data_keys(r.run)]
        aad = (b"BSR1" + bytes([1, r.kind, r.codec, 0]) + self.repo.id + r.run + r.salt
               + struct.pack("<II", r.counter, r.plain_len) + r.members)
        nonce = struct.pack("<I", r.counter) + bytes(8)
        group = unseal(keys, nonce, aad, stored, f"record at {r.offset} of {r.pack}")
        need(r.codec in (0, 1), f"unknown codec {r.codec}")
        if r.codec == 1:
            try:
                size = zstandard.get_frame_parameters(group).content_size
                need(size in (r.plain_len, zstandard.CONTENTSIZE_UNKNOWN), "zstd frame of the wrong size")
                group = zstandard.ZstdDecompressor().decompress(group, max_output_size=r.plain_len, allow_extra_data=False)
            except zstandard.ZstdError as e:
                raise Bad(f"record at {r.offset} of {r.pack}: {e}") from None
        need(len(group) == r.plain_len, f"record at {r.offset} of {r.pack}: wrong length")
        return group

    def get(self, kind, chunk_id):
        """The bytes of a chunk, verified. Tries every copy."""
        error = Bad(f"chunk {chunk_id.hex()} is in no readable pack")
        for number, offset, length in self.all_places(chunk_id):
            try:
                need(self.records[number].kind == kind, f"chunk {chunk_id.hex()} is of the wrong kind")
                data = self.open_record(number)[offset:offset + length]
                need(blake3(data, key=self.chunk_keys[kind]).digest() == chunk_id, f"chunk {chunk_id.hex()} has other bytes")
                return data
            except (Bad, OSError) as e:
                error = e
        raise error

    def all_places(self, chunk_id):
        first = [self.places[chunk_id]] if chunk_id in self.places else []
        return first + self.more_places.get(chunk_id, [])


# ---- lists (§8.2) ----

class IdList:
    """Iterates over the ids of a list, in order. Ids in a lost node come as None, so that what follows keeps its place."""

    def __init__(self, chunks, description, what):
        self.chunks, self.what = chunks, what
        self.root, self.count, self.digest = description["root"], description["count"], description["digest"]
        self.key = derive("list digest", chunks.repo.keep_key(chunks.domain))
        self.sum, self.seen = 0, 0

    def __iter__(self):
        need((self.root is None) == (self.count == 0), f"{self.what} list: root and count disagree")
        if self.root is not None:
            yield from self.node(from_hex(self.root, 32), self.count, None)

    def node(self, chunk_id, count, level):
        try:
            data = self.chunks.get(LIST, chunk_id)
            need(len(data) > 0 and (level is None or data[0] == level), "node is of the wrong level")
            size = 32 if data[0] == 0 else 40
            need((len(data) - 1) % size == 0, "node is of an odd size")
            items = list(struct.iter_unpack("<32s" if size == 32 else "<32sQ", data[1:]))
            need(count == (len(items) if size == 32 else sum(n for _, n in items)), "node has another count than was announced")
        except (Bad, OSError) as e:
            problem(f"{self.what} list: {count} ids lost: {reason(e)}")
            for _ in range(count):
                yield None
            return
        for item in items:
            if data[0] > 0:
                yield from self.node(item[0], item[1], data[0] - 1)
            else:
                self.sum += int.from_bytes(blake3(item[0], key=self.key).digest(), "little")
                self.seen += 1
                yield item[0]

    def check(self):
        """To be called when all ids were taken."""
        digest = (self.sum % (1 << 256)).to_bytes(32, "little").hex()
        if self.seen != self.count or digest != self.digest:
            problem(f"{self.what} list: count or digest does not match the snapshot")


# ---- entries (§8.1) ----

class Entry:
    def __init__(self, c, previous_key):
        shared = c.varint()
        need(shared <= len(previous_key), "path key shares more than there is")
        self.key = previous_key[:shared] + c.take(c.varint())
        self.type = c.u8()
        self.mode, self.uid, self.gid = c.varint(), c.varint(), c.varint()
        seconds, nanoseconds = c.zigzag(), c.varint()
        need(self.mode <= 0o7777 and nanoseconds < 1_000_000_000, "entry with an impossible mode or time")
        self.mtime_ns = seconds * 1_000_000_000 + nanoseconds
        self.fields, self.refused = {}, None
        while tag := c.u8():
            value = c.take(c.varint())
            if tag in self.fields:
                self.refused = f"field {tag} occurs twice"
            if 11 < tag < 128:
                self.refused = f"unknown mandatory field {tag}"
            self.fields[tag] = value
        self.size = self.n_chunks = 0
        if 1 in self.fields:
            f = Cursor(self.fields[1])
            self.size, self.n_chunks = f.varint(), f.varint()
            f.end()

    def pairs(self, tag):
        c = Cursor(self.fields.get(tag, b""))
        while c.more():
            yield c.varint(), c.varint()

    def xattrs(self):
        c = Cursor(self.fields.get(6, b""))
        while c.more():
            name = c.take(c.varint())
            yield name, c.take(c.varint())

    def stretches(self):
        """(offset, length) of the data of a file."""
        if 3 not in self.fields:
            return [(0, self.size)]
        found, at = [], 0
        for hole, data in self.pairs(3):
            found.append((at + hole, data))
            at += hole + data
        need(at <= self.size, "sparse extents go beyond the file's size")
        return found


def walk_entries(chunks, chunk_id, level, expected, skip_ids, seen):
    """Yields all entries below a node, and returns (first key, ids, entries, bytes) as they really were.

    A node that cannot be read is a problem; its content ids are skipped and the walk goes on.
    """
    first, totals = None, [0, 0, 0]
    try:
        seen.add(chunk_id)
        c = Cursor(chunks.get(ENTRIES, chunk_id))
        this_level = c.u8()
        need(c.u8() == 1, "entries of an unknown version")
        need(level is None or this_level == level, "node is of the wrong level")
        items, key = [], b""
        while c.more():
            if this_level == 0:
                items.append(Entry(c, key))
                key = items[-1].key
            else:
                items.append((c.take(c.varint()), c.take(32), (c.varint(), c.varint(), c.varint())))
    except (Bad, OSError) as e:
        if expected is None:
            raise Bad(f"the root of the entries is lost: {reason(e)}") from None
        problem(f"{expected[1]} entries from {show_key(expected[3])} on are lost: {reason(e)}")
        skip_ids(expected[0])
        return (expected[3], *expected[:3])
    for item in items:
        if this_level == 0:
            below = (item.key, item.n_chunks, 1, item.size)
            yield item
        else:
            below = yield from walk_entries(chunks, item[1], this_level - 1, (*item[2], item[0]), skip_ids, seen)
        first = below[0] if first is None else first
        totals = [a + b for a, b in zip(totals, below[1:])]
    if expected is not None and (first, *totals) != (expected[3], *expected[:3]):
        problem(f"entries from {show_key(expected[3])} on: first path or counts are not what was announced")
    return (first, *totals)


# ---- writing the files ----

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def components(key):
    parts = key.split(b"\0") if key else []
    need(not any(p in (b"", b".", b"..") or b"/" in p for p in parts), "path has a component that is not a name")
    return parts


class Target:
    """The new tree. Every path is opened from its root, one component at a time, never through a symlink."""

    def __init__(self, path, chunks):
        os.makedirs(path, mode=0o700, exist_ok=True)
        need(not os.listdir(path), f"{path}: is not empty")
        self.root = os.open(path, DIR_FLAGS & ~os.O_NOFOLLOW)
        self.chunks = chunks
        self.is_root = os.geteuid() == 0
        self.directories = []  # their metadata is set at the end, from the inside out
        self.failed = set()  # keys that were not restored: nothing may link to them

    def open_directory(self, parts, create):
        fd = os.dup(self.root)
        try:
            for part in parts:
                if create:
                    try:
                        os.mkdir(part, 0o700, dir_fd=fd)
                    except FileExistsError:
                        pass
                inner = os.open(part, DIR_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = inner
            return fd
        except BaseException:
            os.close(fd)
            raise

    def restore(self, entry, ids):
        need(not entry.refused, entry.refused)
        parts = components(entry.key)
        if entry.type == DIRECTORY:
            os.close(self.open_directory(parts, create=True))
            self.directories.append(entry)
            return
        need(parts, "the root is not a directory")
        need(FILE <= entry.type <= HARD_LINK, f"unknown type {entry.type}")
        parent, name = self.open_directory(parts[:-1], create=True), parts[-1]
        try:
            if entry.type == FILE:
                self.restore_file(parent, name, entry, ids)
            elif entry.type == HARD_LINK:
                self.restore_hard_link(parent, name, entry)
            else:
                self.restore_special(parent, name, entry)
        finally:
            os.close(parent)

    def restore_file(self, parent, name, entry, ids):
        fd = os.open(name, FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            try:
                self.write_data(fd, entry, ids)
                self.set_metadata(fd, entry)
            finally:
                os.close(fd)
        except BaseException:
            os.unlink(name, dir_fd=parent)  # leave nothing that was not verified
            raise

    def write_data(self, fd, entry, ids):
        need(1 in entry.fields, "file without a size")
        stretches = entry.stretches()
        length = sum(n for _, n in stretches)
        whole, done, current, used = blake3(), 0, 0, 0
        for chunk_id in ids:
            need(chunk_id is not None, "part of the content list is lost")
            data = self.chunks.get(CONTENT, chunk_id)
            whole.update(data)
            done += len(data)
            need(done <= length, "more data than the file's size")
            view = memoryview(data)
            while view:
                offset, room = stretches[current]
                if used == room:
                    current, used = current + 1, 0
                    continue
                n = os.pwrite(fd, view[:room - used], offset + used)
                used += n
                view = view[n:]
        need(done == length, f"has {done} bytes of data instead of {length}")
        os.ftruncate(fd, entry.size)
        if 2 in entry.fields or len(ids) > 1:
            need(entry.fields.get(2) == whole.digest(), "digest of the whole file does not match")

    def restore_hard_link(self, parent, name, entry):
        to = components(entry.fields[7])
        need(to and entry.fields[7] not in self.failed, f"the file it links to, {show_key(entry.fields[7])}, was not restored")
        source = self.open_directory(to[:-1], create=False)
        try:
            os.link(to[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def restore_special(self, parent, name, entry):
        if entry.type == SYMLINK:
            os.symlink(entry.fields[4], name, dir_fd=parent)
        elif entry.type == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            need(self.is_root, "device not created, this needs root")
            (major, minor), = entry.pairs(5)
            kind = stat.S_IFCHR if entry.type == CHAR_DEVICE else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(major, minor), dir_fd=parent)
        # O_PATH opens the thing itself without reading it; /proc/self/fd then names exactly that
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self.set_metadata(f"/proc/self/fd/{fd}", entry)
        finally:
            os.close(fd)

    def set_metadata(self, where, entry):
        """Owner first (it clears mode bits), time last."""
        mode = entry.mode & 0o7777
        if self.is_root:
            os.chown(where, entry.uid, entry.gid)
        else:
            now = os.stat(where)
            mode &= ~(0 if now.st_uid == entry.uid else stat.S_ISUID)
            mode &= ~(0 if now.st_gid == entry.gid else stat.S_ISGID)
        for name, value in entry.xattrs():
            try:
                os.setxattr(where, name, value)
            except OSError as e:
                problem(f"{show_key(entry.key)}: extended attribute {percent_path(name)}: {e.strerror}")
        if entry.type != SYMLINK:
            os.chmod(where, mode)
        os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns))

    def finish(self):
        for entry in reversed(self.directories):
            try:
                fd = self.open_directory(components(entry.key), create=False)
                try:
                    self.set_metadata(fd, entry)
                finally:
                    os.close(fd)
            except MALFORMED as e:
                problem(f"{show_key(entry.key)}: {reason(e)}")


def restore_snapshot(repo, s, target_path, check):
    need(s.public["kind"] == "files", f"snapshot {s.id} is not of files but of kind {s.public['kind']!r}")
    sealed = repo.open_sealed(s)
    if s.public["status"] != "complete":
        say("note", f"the snapshot itself is {printable(s.public['status'])}: some files could not be read when it was made")
    for w in (sealed.get("warnings") or []):
        say("note", f"recorded when the snapshot was made: {printable(w['path'])}: {printable(w['what'])}")
    chunks = Chunks(repo, s.domain, check)
    target = Target(target_path, chunks)
    content, seen = IdList(chunks, s.public["content"], "content"), set()
    ids = iter(content)
    wanted, totals = sealed["entries"], [0, 0]
    previous = None

    def skip_ids(n):
        for _ in islice(ids, n):
            pass

    entries = walk_entries(chunks, from_hex(wanted["root"], 32), None, None, skip_ids, seen) if wanted["root"] else ()
    for entry in entries:
        totals = [totals[0] + 1, totals[1] + entry.size]
        own_ids = list(islice(ids, entry.n_chunks))
        try:
            need(previous is None or previous < entry.key, "path is out of order")
            need(len(own_ids) == entry.n_chunks, "the content list is too short")
            need(entry.type == FILE or 1 not in entry.fields, "not a file, but has content")
            target.restore(entry, own_ids)
        except MALFORMED as e:
            problem(f"{show_key(entry.key)}: {reason(e)}")
            target.failed.add(entry.key)
        previous = entry.key
    target.finish()
    if next(ids, content) is not content:
        problem("the content list has more ids than the files use")
        skip_ids(None)
    content.check()
    if totals != [wanted["count"], wanted["bytes"]]:
        problem(f"restored {totals[0]} entries of {totals[1]} bytes, but the snapshot has {wanted['count']} of {wanted['bytes']}")
    meta = IdList(chunks, s.public["meta"], "meta")
    if not seen <= set(meta):
        problem("the meta list does not name all chunks that the entries are made of")
    meta.check()
    print(f"snapshot {s.id}: {totals[0]} entries, {totals[1]} bytes")


def printable(text):
    return "".join(c if c.isprintable() else "?" for c in str(text))


def choose(snapshots, wanted):
    if wanted == "latest":
        files = [s for s in snapshots if s.public["kind"] == "files"]
        need(files, "there is no snapshot of files")
        return files[-1]
    found = [s for s in snapshots if s.id.startswith(wanted.lower())]
    need(len(found) == 1, f"{len(found)} snapshots have an id that begins with {wanted}")
    return found[0]


def read_secret(path):
    need(path, "give a key with --key-file or BACKSTAY_KEY_FILE")
    with open(path, "rb") as f:
        return f.read().decode("utf-8")


def main():
    parser = argparse.ArgumentParser(description="Restore a file snapshot from a local Backstay repository.")
    parser.add_argument("repo", metavar="REPO")
    parser.add_argument("--target", metavar="DIR", help="new or empty directory to restore into")
    parser.add_argument("--snapshot", metavar="ID", default="latest", help="id, unique beginning of one, or latest")
    parser.add_argument("--list", action="store_true", help="list the snapshots instead")
    parser.add_argument("--key-file", metavar="FILE", default=os.environ.get("BACKSTAY_KEY_FILE"),
                        help="passphrase, key bundle or age identity (default: $BACKSTAY_KEY_FILE)")
    parser.add_argument("--check", action="store_true", help="also read all packs and check their hashes and signatures")
    args = parser.parse_args()
    if not args.list and not args.target:
        parser.error("--target is needed, unless with --list")
    try:
        repo = Repository(args.repo, read_secret(args.key_file))
        snapshots = repo.snapshots()
        if args.list:
            for s in snapshots:
                p = s.public
                print(s.id, *(printable(p[f]) for f in ("time", "host", "kind", "status")), *map(printable, p["paths"]))
        else:
            restore_snapshot(repo, choose(snapshots, args.snapshot), args.target, args.check)
    except MALFORMED as e:
        problem(reason(e))
    if problems:
        say("failed", f"{problems} problem(s); see above")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
