//! Credentials of an instance's role, which rotate without anybody writing anything: they are derived
//! from the secret of the instance's generation and from when they expire.
//!
//! New ones are given out three hours before the old ones expire. AWS promises five minutes
//! ("Retrieve security credentials from instance metadata", EC2 user guide); a host that cannot reach
//! the plane lives on those that it has for so much longer.

use crate::claim::{ROLE, Root, root_in};
use crate::keys::{Keys, PublishedKey, Signing};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{Chance, Fault, Receipt};
use eventplane_keys::{MasterKey, hex, unhex};
use eventplane_store::{ItemExt, Store};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// How long credentials live, in milliseconds: six hours, as those of an EC2 instance mostly do.
pub const SESSION_LIVE_MS: i64 = 6 * 3600 * 1000;
/// How often new ones take their place, in milliseconds: well before the old ones expire.
pub const SESSION_EVERY_MS: i64 = SESSION_LIVE_MS / 2;

/// Credentials of a role for some hours. No output shows them by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The role.
    pub role: String,
    /// Which credentials these are.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// What says whose they are, and until when: [`verify_token`] reads it.
    pub token: String,
    /// Since when they are given out.
    pub updated_at: Millis,
    /// Until when they are good.
    pub expires_at: Millis,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, hidden)", self.access_key_id)
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose instance.
    pub tenant: Tenant,
    /// The instance.
    pub instance: InstanceId,
    /// Which run of it.
    pub generation: u32,
    /// Its role.
    pub role: String,
    /// Which credentials the token belongs to.
    pub access_key_id: String,
    /// Until when they are good, in milliseconds since the epoch.
    pub expires_at: Millis,
}

/// Why a token says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is none.
    #[error("a token is claims and their signature, both in base64url, with a dot between")]
    Malformed,
    /// None of the published keys signed it.
    #[error("no published key has signed this token")]
    Wrong,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
}

/// Gives out sessions; unwraps each key once per process.
pub struct Sessions {
    keys: Keys,
}

impl Sessions {
    /// Of the plane whose keys `master` wraps.
    pub fn new(master: Arc<dyn MasterKey>, chance: Arc<dyn Chance>) -> Self {
        Sessions { keys: Keys::new(master, chance) }
    }

    /// The keys that documents and tokens are verified with.
    ///
    /// # Errors
    /// A fault of the store or of the master key's keeper.
    pub async fn published_keys(&self, store: &dyn Store) -> Result<Vec<PublishedKey>, Fault> {
        Ok(vec![self.keys.signing(store).await?.published()])
    }

    /// The credentials of this generation of an instance, as they are now, from what security has
    /// recorded of it; none without a role, when the record is of another generation, or after they
    /// were revoked.
    ///
    /// # Errors
    /// A fault of the store or of the master key's keeper, or when what is stored was tampered with.
    pub async fn session(
        &self,
        store: &dyn Store,
        receipt: &Receipt,
        (tenant, instance, generation): (&Tenant, &InstanceId, u32),
        now: Millis,
    ) -> Result<Option<Session>, Fault> {
        let Some(role) = receipt.claim.text(ROLE) else { return Ok(None) };
        let key = self.keys.of_tenant(store, tenant).await?;
        let Some(root) = root_in(receipt, tenant, instance, generation, &key)? else {
            return Ok(None);
        };
        let signing = self.keys.signing(store).await?;
        let (updated_at, expires_at) = span(&root, now);
        let claims = Claims {
            tenant: tenant.clone(),
            instance: instance.clone(),
            generation,
            role: role.to_owned(),
            access_key_id: access_key_id(&root, expires_at),
            expires_at,
        };
        Ok(Some(Session {
            role: role.to_owned(),
            access_key_id: claims.access_key_id.clone(),
            secret_access_key: hex(&derived(&root, "secret", expires_at)[..20]),
            token: token(&claims, &signing),
            updated_at,
            expires_at,
        }))
    }
}

/// From when and until when the credentials that are given out now are good. Where the spans begin
/// differs from instance to instance, so that not all of them change at once.
fn span(root: &Root, now: Millis) -> (Millis, Millis) {
    let spread = derived(root, "spread", Millis(0));
    let spread = u32::from_be_bytes([spread[0], spread[1], spread[2], spread[3]]);
    let offset = i64::from(spread) % SESSION_EVERY_MS;
    let since = (now.0 - offset).div_euclid(SESSION_EVERY_MS) * SESSION_EVERY_MS + offset;
    (Millis(since), Millis(since).plus(SESSION_LIVE_MS))
}

fn access_key_id(root: &Root, expires_at: Millis) -> String {
    format!("EPSA{}", hex(&derived(root, "id", expires_at)[..8]).to_uppercase())
}

/// HMAC-SHA256: whoever knows one credential learns nothing of the root, or of another one.
fn derived(root: &Root, what: &str, expires_at: Millis) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(root.expose().as_bytes());
    let mut mac = mac.expect("a key of any length is one");
    mac.update(format!("eventplane/session/{what}/{}", expires_at.0).as_bytes());
    mac.finalize().into_bytes().into()
}

/// The claims and their signature. It is of the encoded claims, which no document looks like.
fn token(claims: &Claims, signing: &Signing) -> String {
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).expect("plain data"));
    let signature = signing.key.sign(claims.as_bytes()).to_bytes();
    format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What a token says, if one of the plane's published keys has signed it and it has not expired.
///
/// # Errors
/// [`TokenError`] when it says nothing.
pub fn verify_token(token: &str, keys: &[PublishedKey], now: Millis) -> Result<Claims, TokenError> {
    let (encoded, signature) = token.split_once('.').ok_or(TokenError::Malformed)?;
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
    let signature: [u8; 64] = decoded(signature)?.try_into().map_err(|_| TokenError::Malformed)?;
    let signature = Signature::from_bytes(&signature);
    let signed = |key: &PublishedKey| {
        let key: [u8; 32] = unhex(&key.public_key)?.try_into().ok()?;
        VerifyingKey::from_bytes(&key).ok()?.verify_strict(encoded.as_bytes(), &signature).ok()
    };
    if !keys.iter().any(|key| signed(key).is_some()) {
        return Err(TokenError::Wrong);
    }
    let claims: Claims =
        serde_json::from_slice(&decoded(encoded)?).map_err(|_| TokenError::Malformed)?;
    if now > claims.expires_at { Err(TokenError::Expired) } else { Ok(claims) }
}
