#!/usr/bin/env python3
"""Puts forged objects into a repository, as somebody does who holds a writer's key and can create any object.

Usage: forge.py REPOSITORY KEY-BUNDLE WHAT [ARGUMENT]…; prints the names of the objects that were put. Made from docs/format.md;
derivation and names come from docs/reader/restore.py. It replaces and removes nothing.
"""
import base64, json, os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "reader"))
from restore import AESGCM, ZERO_NONCE, blake3, derive, pyrage, signer_id
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOBODY = "00" * 16


class Forger:
    def __init__(self, path, bundle):
        self.path = path
        self.bundle = json.load(open(bundle))
        self.config = json.loads(open(os.path.join(path, "backstay.json")).readline())
        self.repository = bytes.fromhex(self.config["repository"])
        self.signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.bundle["sign_seed"]))
        self.public = self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.domain = bytes.fromhex(self.bundle["domain"])
        self.keep_key = bytes.fromhex(self.bundle["keep_key"])

    def put(self, shelf, stem, body):
        """Creates the object; `stem` stands before the digest."""
        name = f"{shelf}/{stem}{blake3(body).hexdigest()}"
        where = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "xb") as f:
            f.write(body)
        print(name)
        return name

    def put_first(self, shelf, stem, make, before):
        """The same, made again until its name sorts before `before`."""
        while True:
            body = make()
            if f"{stem}{blake3(body).hexdigest()}" < before:
                return self.put(shelf, stem, body)

    def envelope(self, magic, body):
        body = json.dumps(body).encode()
        signed = magic + b"\1\0\0\0" + signer_id(self.public) + len(body).to_bytes(4, "little") + body
        return signed + self.signing.sign(b"backstay v1 envelope\0" + self.repository + signed)

    def names(self, shelf):
        return sorted(os.listdir(os.path.join(self.path, shelf)))

    def body(self, name):
        """What the envelope `name` says. Anybody can read it."""
        data = open(os.path.join(self.path, name), "rb").read()
        return json.loads(data[28:28 + int.from_bytes(data[24:28], "little")])

    def heads(self):
        return {name: self.body(f"heads/{name}") for name in self.names("heads")}

    def tips(self):
        heads = self.heads()
        named = {parent for head in heads.values() for parent in head["parents"]}
        return [name for name in heads if name not in named]

    def seal(self, aad, value):
        salt = os.urandom(32)
        key = derive("public", self.keep_key + salt)
        return salt + AESGCM(key).encrypt(ZERO_NONCE, json.dumps(value).encode(), aad)

    def note(self, value, aad=b"BSHD note"):
        return base64.b64encode(self.seal(aad + self.repository + self.domain, value)).decode()

    def put_head(self, **says):
        head = {"v": 1, "parents": self.tips(), "time": "2026-01-01T00:00:00Z", "height": 1, **says}
        return self.put("heads", "", self.envelope(b"BSHD", head))

    def records(self):
        """All snapshot records that heads add."""
        return [base64.b64decode(add) for head in self.heads().values() for add in head.get("adds", [])]

    def record(self, domain, run, public, sealed):
        parts = b"BSSN\1\1\0\0" + self.repository + domain + run + signer_id(self.public)
        for part in (public, sealed):
            parts += len(part).to_bytes(4, "little") + part
        return parts + self.signing.sign(b"backstay v1 snapshot\0" + parts)

    # ---- heads ----

    def removes(self, snapshot):
        self.put_head(removes=[snapshot])

    def covers(self):
        self.put_head(covers=self.names("heads"), height=1 << 40)

    def edits(self, snapshot):
        note = self.note({"at": "2040-01-01T00:00:00Z", "tags": ["forged"], "hold": None})
        self.put_head(edits=[{"id": snapshot, "domain": self.domain.hex(), "note": note}])

    def fences(self):
        self.put_head(fenced=[name.split(".")[0] for name in self.names("intents")])

    def orders(self, snapshot):
        """Says that it is the highest of all, and where another's snapshot stands in the order."""
        self.put_head(height=1 << 60, order={snapshot: 1 << 50})

    def orphan(self):
        """A head without parents, as the first of a repository is."""
        self.put_head(parents=[])

    def adds_again(self, old):
        """The records that the heads in the directory `old` add, in a head of its own."""
        for name in sorted(os.listdir(old)):
            data = open(os.path.join(old, name), "rb").read()
            head = json.loads(data[28:28 + int.from_bytes(data[24:28], "little")])
            if head.get("adds"):
                self.put_head(adds=head["adds"])

    def in_anothers_domain(self):
        """A snapshot in the domain and of the run of every other one."""
        for record in self.records():
            if record[56:72] != signer_id(self.public):
                forged = self.record(record[24:40], record[40:56], os.urandom(200), os.urandom(200))
                self.put_head(adds=[base64.b64encode(forged).decode()])

    def unheard_parent(self):
        self.put_head(parents=["ab" * 32])

    # ---- announcements and condemned lists ----

    def condemns(self):
        """All packs and runs that are not its own to condemn."""
        packs = [name for _, _, names in os.walk(os.path.join(self.path, "packs")) for name in names]
        runs = [name.split(".")[0] for name in self.names("runs")]
        self.put("condemned", "", self.envelope(b"BSCO", {"v": 1, "time": "2026-01-01T00:00:00Z", "packs": packs, "runs": runs}))

    def ends_work(self):
        """The end of everybody's work, and a beginning of it that sorts before the real one."""
        for name in [n for n in self.names("intents") if ".00000000." in n]:
            intent = name.split(".")[0]
            body = {**self.body(f"intents/{name}"), "domain": self.domain.hex(), "kind": "write", "tips": []}
            note = self.note({"host": "h", "pid": 1, "started": 1, "boot": "b", "command": "c"}, b"BSIN note")
            self.put("intents", f"{intent}.end.", self.envelope(b"BSIN", {**body, "note": note, "ended": "nothing"}))
            if self.body(f"intents/{name}")["domain"] != self.domain.hex():
                begin = lambda: self.envelope(b"BSIN", {**body, "note": self.note(os.urandom(4).hex(), b"BSIN note")})
                self.put_first("intents", f"{intent}.00000000.", begin, name)

    def keeps(self):
        """Announces a prune that never ends."""
        body = {"v": 1, "intent": os.urandom(16).hex(), "kind": "keep", "domain": NOBODY, "seq": 0, "tips": [], "note": ""}
        self.put("intents", f"{body['intent']}.00000000.", self.envelope(b"BSIN", body))

    # ---- keys ----

    def wrap(self, plain):
        return pyrage.encrypt(plain, [pyrage.x25519.Recipient.from_str(r) for r in self.config["recipients"]])

    def runs(self):
        """A wrong data key for every run that there is, named so that it is found before the right one."""
        for name in self.names("runs"):
            run = name.split(".")[0]
            plain = b"BSRN" + (1).to_bytes(4, "little") + self.repository + bytes.fromhex(run) + bytes(32)
            self.put_first("runs", f"{run}.", lambda: self.wrap(plain), name)

    def masters(self, root_public=None):
        """Wrong master keys, wrapped to the recipients, named so that they are found before the right ones."""
        masters = {"v": 1, "repository": self.config["repository"], "root_public": root_public or self.config["root"],
                   "id_master": "11" * 32, "keep_master": "22" * 32}
        first = min(name for name in self.names("keys") if name.startswith("masters-"))
        self.put_first("keys", "masters-a.", lambda: self.wrap(json.dumps(masters).encode()), first)

    def owners(self):
        """For every passphrase an object of its name that it does not open, found before the right one."""
        for name in [n for n in self.names("keys") if n.startswith("owner-") and "-a." in n]:
            stem = name.split(".")[0]
            bundle = json.dumps({**self.bundle, "role": "owner"}).encode()
            # The cheapest there is: only the name matters.
            self.put_first("keys", f"{stem}.", lambda: self.wrap(bundle), name)

    def certifies(self, role):
        """A certificate for itself, signed by itself."""
        body = {"v": 1, "signer": signer_id(self.public).hex(), "public": self.public.hex(), "roles": [role, "writer"],
                "domain": None, "label": "forged", "created": "2026-01-01T00:00:00Z"}
        self.put("keys", f"cert-{body['signer']}-a.", self.envelope(b"BSCE", body))

    def configures(self):
        """A later configuration, with itself as root and as recipient."""
        config = {**self.config, "generation": self.config["generation"] + 7, "root": self.public.hex()}
        line = json.dumps(config).encode()
        signature = self.signing.sign(b"backstay v1 config\0" + line).hex()
        self.put("keys", "config.", line + b"\n" + json.dumps({"signature": signature}).encode() + b"\n")

    # ---- data ----

    def header(self, magic, kind, domain, salt):
        return magic + bytes([1, 1, kind, 0]) + self.repository + domain + signer_id(self.public) + salt + bytes(8)

    def packs(self):
        """A pack in every domain, full of noise and signed as a pack is."""
        for domain in {record[24:40] for record in self.records()} | {self.domain}:
            salt = os.urandom(32)
            header = self.header(b"BSPK", 1, domain, salt)
            key = derive("trailer", self.keep_key + salt)
            trailer = AESGCM(key).encrypt(ZERO_NONCE, bytes(8), header)
            body = header + os.urandom(500) + trailer
            length = len(trailer).to_bytes(4, "little")
            signature = self.signing.sign(b"backstay v1 pack\0" + self.repository + blake3(body).digest() + length)
            body += length + b"BSPE" + signature
            self.put(f"packs/{blake3(body).hexdigest()[:2]}", "", body)

    def tables(self):
        """In every domain a table that names every pack there is, and nothing in them."""
        packs = [(name, os.path.getsize(os.path.join(at, name)))
                 for at, _, names in os.walk(os.path.join(self.path, "packs")) for name in names]
        for domain in {record[24:40] for record in self.records()} | {self.domain}:
            salt = os.urandom(32)
            header = self.header(b"BSIX", 0, domain, salt)
            key = AESGCM(derive("index", self.keep_key + salt))
            array = b"".join(bytes.fromhex(name) + size.to_bytes(4, "little") + b"\1\0\0\0" for name, size in packs)
            counts = [len(packs), 0, 0, 0, 0, 0]
            head = b"".join(n.to_bytes(4, "little") for n in counts) + bytes(40)
            head = key.encrypt((2**64 - 1).to_bytes(8, "little") + bytes(4), head, header)
            signed = header + len(head).to_bytes(4, "little") + head
            signature = self.signing.sign(b"backstay v1 index\0" + self.repository + signed)
            blocks = [array[i:i + 8192] for i in range(0, len(array), 8192)]
            blocks = [key.encrypt(n.to_bytes(8, "little") + bytes(4), b, header) for n, b in enumerate(blocks)]
            self.put("index", "", signed + signature + b"".join(blocks))

    def garbage(self):
        """Noise, well named, on every shelf."""
        for shelf in ("index", "intents", "events"):
            self.put(shelf, NOBODY + ".00000000." if shelf == "intents" else "", os.urandom(300))
        for stem in ("cert-" + NOBODY + "-a.", "masters-a.", "owner-00000000-a.", "config."):
            self.put("keys", stem, os.urandom(300))
        for run in {name.split(".")[0] for name in self.names("runs")}:
            self.put("runs", run + ".", os.urandom(300))
        noise = os.urandom(300)
        self.put(f"packs/{blake3(noise).hexdigest()[:2]}", "", noise)


def main():
    path, bundle, what, *rest = sys.argv[1:]
    os.umask(0o022)
    getattr(Forger(path, bundle), what.replace("-", "_"))(*rest)


if __name__ == "__main__":
    main()
