//! The tokens of the metadata service: sealed, not remembered. One is good until it expires, also
//! after the agent was started anew, and only for the instance that it was given to.

use crate::wire::InstanceKey;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use eventplane_domain::Millis;
use eventplane_engine::{Chance, Clock};
use eventplane_keys::{DataKey, NONCE_BYTES};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// How long a token may be good for, in seconds: up to six hours.
///
/// Source: "Use the Instance Metadata Service to access instance metadata", EC2 user guide.
pub const TTL_S: RangeInclusive<u32> = 1..=21_600;

/// Gives out tokens, and knows its own.
pub struct Tokens {
    key: DataKey,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

impl Tokens {
    /// Tokens under this key of the host, which has to be used for nothing else.
    #[must_use]
    pub fn new(key: DataKey, clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Tokens { key, clock, chance }
    }

    /// The present moment, as tokens are judged by.
    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A token for this instance, good for so long.
    pub(crate) fn issue(&self, instance: &InstanceKey, ttl_s: u32) -> String {
        let expires_at = self.now().plus(i64::from(ttl_s) * 1000);
        let mut nonce = [0; NONCE_BYTES];
        self.chance.fill(&mut nonce);
        let sealed = self.key.seal(nonce, &context(instance), &expires_at.0.to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Whether this is a token of this instance that has not expired.
    pub(crate) fn is_good(&self, instance: &InstanceKey, token: &str) -> bool {
        let expires_at = || {
            let sealed = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
            let opened = self.key.open(&context(instance), &sealed).ok()?;
            Some(Millis(i64::from_be_bytes(opened.try_into().ok()?)))
        };
        expires_at().is_some_and(|expires_at| self.now() < expires_at)
    }
}

fn context(instance: &InstanceKey) -> Vec<u8> {
    format!("eventplane/metadata/{}/{}", instance.tenant, instance.instance_id).into_bytes()
}
