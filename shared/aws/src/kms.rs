//! The master key in KMS: it wraps data keys and never leaves it.
//!
//! What a key was wrapped for is KMS's encryption context: only the same context unwraps it, and
//! CloudTrail shows it. Source: "Encryption context", KMS developer guide.

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::DisplayErrorContext;
use aws_sdk_kms::primitives::Blob;
use eventplane_engine::Fault;
use eventplane_keys::{KEY_BYTES, MasterKey};

/// The name under which the context stands in KMS's encryption context.
const CONTEXT: &str = "eventplane";

/// A master key in KMS.
pub struct KmsMasterKey {
    client: Client,
    key_id: String,
}

impl KmsMasterKey {
    /// The key with this id or ARN.
    #[must_use]
    pub fn new(client: Client, key_id: String) -> Self {
        KmsMasterKey { client, key_id }
    }

    fn fault(&self, did: &str, why: &str) -> Fault {
        Fault::Other(format!("KMS did not {did} with {}: {why}", self.key_id))
    }
}

#[async_trait]
impl MasterKey for KmsMasterKey {
    fn id(&self) -> &str {
        &self.key_id
    }

    async fn wrap(&self, data_key: &[u8; KEY_BYTES], context: &str) -> Result<Vec<u8>, Fault> {
        let request = self.client.encrypt().key_id(&self.key_id);
        let request = request.encryption_context(CONTEXT, context).plaintext(Blob::new(data_key));
        let answer = request.send().await;
        let answer =
            answer.map_err(|e| self.fault("wrap", &DisplayErrorContext(&e).to_string()))?;
        let wrapped = answer.ciphertext_blob.map(Blob::into_inner);
        wrapped.ok_or_else(|| self.fault("wrap", "the answer is empty"))
    }

    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<[u8; KEY_BYTES], Fault> {
        let request = self.client.decrypt().key_id(&self.key_id);
        let request =
            request.encryption_context(CONTEXT, context).ciphertext_blob(Blob::new(wrapped));
        let answer = request.send().await;
        let answer =
            answer.map_err(|e| self.fault("unwrap", &DisplayErrorContext(&e).to_string()))?;
        let key = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
        let length = key.len();
        key.try_into().map_err(|_| {
            self.fault("unwrap", &format!("{length} bytes are not a key of {KEY_BYTES}"))
        })
    }
}
