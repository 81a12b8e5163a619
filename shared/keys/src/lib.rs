//! Keys: a master key that wraps data keys, data keys that seal what a table must not show, and
//! hosts' keys, which sign what their agents ask.

mod data_key;
mod hex;
pub mod host;
mod local;

pub use data_key::{DataKey, KEY_BYTES, NONCE_BYTES, SealedError};
pub use hex::{hex, unhex};
pub use local::LocalMasterKey;

use async_trait::async_trait;
use eventplane_engine::Fault;

/// A master key: it wraps data keys and never leaves its keeper (KMS on AWS, a key file on one
/// machine).
#[async_trait]
pub trait MasterKey: Send + Sync {
    /// Which key it is, to stand beside what it has wrapped.
    fn id(&self) -> &str;

    /// Wraps a data key for `context`; only the same context unwraps it.
    ///
    /// # Errors
    /// A fault of the key's keeper.
    async fn wrap(&self, data_key: &[u8; KEY_BYTES], context: &str) -> Result<Vec<u8>, Fault>;

    /// Unwraps what [`MasterKey::wrap`] has wrapped for `context`.
    ///
    /// # Errors
    /// A fault of the key's keeper, or when `wrapped` is not of this key and context.
    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<[u8; KEY_BYTES], Fault>;
}
