//! Standard base64 with padding (RFC 4648 §4), for bytes inside JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a text, or `None` when it is not base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
