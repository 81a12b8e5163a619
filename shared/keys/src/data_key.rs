//! Data keys: AES-256 in Galois/Counter Mode, in process.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use eventplane_engine::Chance;
use std::fmt;
use thiserror::Error;
use zeroize::Zeroize;

/// The length of a key, in bytes.
pub const KEY_BYTES: usize = 32;
/// The length of a nonce, in bytes: the 96 bits that GCM is defined for without hashing it first
/// (NIST SP 800-38D, section 5.2.1.1).
pub const NONCE_BYTES: usize = 12;
/// The length of the tag behind what is sealed, in bytes.
const TAG_BYTES: usize = 16;

/// What is sealed does not open: it is not of this key and context, or not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealedError {
    /// It is too short to hold a nonce and a tag.
    #[error("{0} bytes are too short to be sealed: nonce and tag alone are 28")]
    Truncated(usize),
    /// Key, context or bytes differ from those of the sealing; no cipher can tell which.
    #[error("not sealed with this key for this context, or changed since")]
    Refused,
}

/// A key that seals what a table must not show. Its bytes are wiped when it goes, and no output
/// shows them.
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        DataKey(bytes)
    }

    /// A new key.
    #[must_use]
    pub fn random(chance: &dyn Chance) -> Self {
        let mut key = DataKey([0; KEY_BYTES]);
        chance.fill(&mut key.0);
        key
    }

    /// Its bytes: to be wrapped, and for nothing else.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Seals `plaintext`: the nonce, then what is encrypted, then the tag. Only the same context
    /// opens it. A nonce is never used twice with one key; a random one is safe for 2^32 seals
    /// (NIST SP 800-38D, section 8.3).
    ///
    /// # Panics
    /// When `plaintext` is longer than GCM can take (64 GiB): a bug.
    #[must_use]
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plaintext, aad: context };
        let encrypted = Aes256Gcm::new(&self.0.into())
            .encrypt(&Nonce::from(nonce), payload)
            .expect("what is sealed is short");
        let mut sealed = Vec::with_capacity(NONCE_BYTES + encrypted.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&encrypted);
        sealed
    }

    /// Opens what [`DataKey::seal`] has sealed for `context`.
    ///
    /// # Errors
    /// [`SealedError`] when it is too short, of another key or context, or changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealedError> {
        let Some((nonce, encrypted)) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .filter(|(_, encrypted)| encrypted.len() >= TAG_BYTES)
        else {
            return Err(SealedError::Truncated(sealed.len()));
        };
        let payload = Payload { msg: encrypted, aad: context };
        Aes256Gcm::new(&self.0.into())
            .decrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| SealedError::Refused)
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

    fn key() -> DataKey {
        DataKey::from_bytes([1; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_context() {
        let sealed = key().seal(NONCE, b"default/i-1", b"secret");
        assert_eq!(&sealed[..NONCE_BYTES], NONCE);
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(key().open(b"default/i-1", &sealed), Ok(b"secret".to_vec()));
        assert_eq!(key().open(b"", &key().seal(NONCE, b"", b"")), Ok(vec![]));
    }

    /// Test case 14 of "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega, appendix B.
    #[test]
    fn the_cipher_is_aes_256_gcm() {
        let key = DataKey::from_bytes([0; KEY_BYTES]);
        let sealed = key.seal([0; NONCE_BYTES], b"", &[0; 16]);
        let hex: String = sealed[NONCE_BYTES..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn another_context_or_key_does_not_open_it() {
        let sealed = key().seal(NONCE, b"one", b"secret");
        assert_eq!(key().open(b"two", &sealed), Err(SealedError::Refused));
        let other = DataKey::from_bytes([2; KEY_BYTES]);
        assert_eq!(other.open(b"one", &sealed), Err(SealedError::Refused));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let sealed = key().seal(NONCE, b"one", b"secret");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key().open(b"one", &changed), Err(SealedError::Refused), "byte {at}");
        }
    }

    #[test]
    fn what_is_cut_off_does_not_open() {
        let sealed = key().seal(NONCE, b"one", b"secret");
        for length in 0..sealed.len() {
            let error = key().open(b"one", &sealed[..length]).expect_err("cut off");
            let short = length < NONCE_BYTES + TAG_BYTES;
            assert_eq!(error == SealedError::Truncated(length), short, "{length} bytes: {error}");
        }
    }

    #[test]
    fn no_output_shows_the_key() {
        assert_eq!(format!("{:?}", key()), "DataKey(hidden)");
    }
}
