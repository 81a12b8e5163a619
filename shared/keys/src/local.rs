//! A master key in process: for one machine, and for tests.

use crate::{DataKey, KEY_BYTES, MasterKey, NONCE_BYTES};
use async_trait::async_trait;
use eventplane_engine::{Chance, Fault};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A master key whose bytes this process holds: it wraps by sealing under a random nonce.
pub struct LocalMasterKey {
    id: String,
    key: DataKey,
    chance: Arc<dyn Chance>,
}

impl LocalMasterKey {
    /// The master key `id` of these bytes; `chance` gives the nonces.
    pub fn from_bytes(
        id: impl Into<String>,
        bytes: [u8; KEY_BYTES],
        chance: Arc<dyn Chance>,
    ) -> Self {
        LocalMasterKey { id: id.into(), key: DataKey::from_bytes(bytes), chance }
    }
}

#[async_trait]
impl MasterKey for LocalMasterKey {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, data_key: &[u8; KEY_BYTES], context: &str) -> Result<Vec<u8>, Fault> {
        let mut nonce = [0; NONCE_BYTES];
        self.chance.fill(&mut nonce);
        Ok(self.key.seal(nonce, context.as_bytes(), data_key))
    }

    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<[u8; KEY_BYTES], Fault> {
        let refused = |why: String| {
            Fault::Other(format!("master key {} does not unwrap for {context}: {why}", self.id))
        };
        let opened = self.key.open(context.as_bytes(), wrapped);
        let key = Zeroizing::new(opened.map_err(|error| refused(error.to_string()))?);
        key.as_slice()
            .try_into()
            .map_err(|_| refused(format!("{} bytes are not a data key", key.len())))
    }
}

impl fmt::Debug for LocalMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Bytes that count up, so that no two fills are alike.
    struct Counting(AtomicU8);
    impl Chance for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn master(byte: u8) -> LocalMasterKey {
        let chance = Arc::new(Counting(AtomicU8::new(0)));
        LocalMasterKey::from_bytes("local-1", [byte; KEY_BYTES], chance)
    }

    #[tokio::test]
    async fn what_is_wrapped_unwraps_for_the_same_context() {
        let master = master(1);
        let data_key = [9; KEY_BYTES];
        let wrapped = master.wrap(&data_key, "default").await.expect("wraps");
        assert_eq!(master.unwrap(&wrapped, "default").await.expect("unwraps"), data_key);
        let again = master.wrap(&data_key, "default").await.expect("wraps");
        assert_ne!(wrapped, again, "each wrapping has a nonce of its own");
    }

    #[tokio::test]
    async fn another_context_or_master_key_does_not_unwrap() {
        let wrapped = master(1).wrap(&[9; KEY_BYTES], "default").await.expect("wraps");
        let other_context = master(1).unwrap(&wrapped, "acme").await.expect_err("refused");
        assert!(other_context.to_string().contains("local-1 does not unwrap for acme"));
        master(2).unwrap(&wrapped, "default").await.expect_err("refused");
    }

    #[tokio::test]
    async fn what_is_sealed_but_no_key_is_refused() {
        let master = master(1);
        let sealed = master.key.seal([0; NONCE_BYTES], b"default", b"short");
        let error = master.unwrap(&sealed, "default").await.expect_err("refused");
        assert!(error.to_string().contains("5 bytes are not a data key"));
    }
}
