//! Reads the trailers of packs by `docs/format.md` alone: no key and nonce may ever seal two different records.
//!
//! It may not know the engine's code. It takes an owner's bundle and every pack that was ever put, and says what is wrong.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use repo::Bundle;
use std::collections::BTreeMap;
use std::sync::Arc;

const HEADER_BYTES: usize = 96;
const FOOTER_BYTES: usize = 72;

/// A record's key and nonce: run, salt, whether it is a list's (their key is another), counter.
type Sealing = ([u8; 16], [u8; 16], bool, u32);

/// What is wrong with the packs: one sentence each.
pub fn audit(bundle: &Bundle, packs: &[Arc<Vec<u8>>]) -> Vec<String> {
    let master = serde_json::from_str::<serde_json::Value>(&bundle.to_json()).ok();
    let master = master.and_then(|json| repo::unhex::<32>(json.get("keep_master")?.as_str()?));
    let Some(master) = master else { return vec!["the owner's bundle has no keep master".to_owned()] };
    let mut sealed: BTreeMap<Sealing, blake3::Hash> = BTreeMap::new();
    let mut wrong = Vec::new();
    for pack in packs {
        match records(&master, pack) {
            None => wrong.push("a pack has a trailer that the specification does not explain".to_owned()),
            Some(records) => {
                for (sealing, ciphertext) in records {
                    if *sealed.entry(sealing).or_insert(ciphertext) != ciphertext {
                        wrong.push(format!("one key and nonce sealed two records: counter {} of a salt", sealing.3));
                    }
                }
            }
        }
    }
    wrong.dedup();
    wrong
}

fn derive(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    blake3::derive_key(&format!("backstay v1 {context}"), &parts.concat())
}

/// The records of a pack: how each is sealed, and the hash of its ciphertext.
fn records(master: &[u8; 32], pack: &[u8]) -> Option<Vec<(Sealing, blake3::Hash)>> {
    let header = pack.get(..HEADER_BYTES)?;
    let footer = pack.get(pack.len().checked_sub(FOOTER_BYTES)?..)?;
    let trailer_len = u32::from_le_bytes(footer[..4].try_into().ok()?) as usize;
    let end = pack.len() - FOOTER_BYTES;
    let mut trailer = pack.get(end.checked_sub(trailer_len)?..end)?.to_vec();
    let keep_key = derive("domain keep", &[master, &header[24..40]]);
    let key = derive("trailer", &[&keep_key, &header[56..88]]);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let mut plain: &[u8] = key.open_in_place(nonce, Aad::from(header), &mut trailer).ok()?;
    let mut take = |len: usize| {
        let (front, back) = plain.split_at_checked(len)?;
        plain = back;
        Some(front)
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    let origins = number(take(4)?);
    let origins: Vec<&[u8]> = (0..origins).map(|_| take(32)).collect::<Option<_>>()?;
    let count = number(take(4)?);
    let mut records = Vec::new();
    for _ in 0..count {
        let fixed = take(24)?;
        let origin = origins.get(number(&fixed[..4]) as usize)?;
        let (counter, offset, len) =
            (number(&fixed[4..8]), number(&fixed[8..12]) as usize, number(&fixed[12..16]) as usize);
        let is_list = fixed[20] == 3;
        take(usize::from(fixed[22]) * 36 + usize::from(fixed[23]) * 256 * 36)?;
        let ciphertext = blake3::hash(pack.get(offset..offset + len)?);
        let sealing = (origin[..16].try_into().ok()?, origin[16..].try_into().ok()?, is_list, counter);
        records.push((sealing, ciphertext));
    }
    Some(records)
}
