//! Volumes that are gone for good: only then may a host delete their data.

use crate::kept::{instance_of, kept_key};
use crate::receipt_key;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{InstanceId, Reason, Tenant};
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{Key, Store};

/// A volume that a host has the data of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfInstance {
    /// Whose it is.
    pub tenant: Tenant,
    /// The instance that it is, or was, of.
    pub instance: InstanceId,
    /// The volume.
    pub volume_id: String,
}

/// Those of these volumes that are gone for good: their instance's volumes were given back for good,
/// and they were not kept, or their user has deleted them since. Of an instance that ended more than
/// 30 days ago no receipt is left, and nothing is said of its volumes.
///
/// A refusal (inner) when one is no volume of its instance.
///
/// # Errors
/// A fault of the store.
pub async fn gone(
    store: &dyn Store,
    asked: &[OfInstance],
) -> Result<Result<Vec<String>, Reason>, Fault> {
    for (at, OfInstance { instance, volume_id, .. }) in asked.iter().enumerate() {
        if instance_of(volume_id).as_ref() != Some(instance) {
            let given: String = volume_id.chars().take(64).collect();
            let right = format!("`vol-`, the digits of {instance}, and two of its number");
            let message = format!("`volumes[{at}].volume_id` has to be {right}; not `{given}`");
            return Ok(Err(Reason::new("InvalidVolumeID.Malformed", message)));
        }
    }
    let keys: Vec<Key> = asked.iter().map(|one| receipt_key(&one.tenant, &one.instance)).collect();
    let mut given_back = Vec::new();
    for (one, item) in asked.iter().zip(store.batch_get(&keys).await?) {
        let receipt = Receipt::read(item.as_ref())?;
        if receipt.is_some_and(|receipt| receipt.answer == Answer::GivenBackForGood) {
            given_back.push(one);
        }
    }
    // Only now: what is kept is written with the receipt, and looked for before it, it could be
    // missed while the instance ends.
    let keys: Vec<Key> =
        given_back.iter().map(|one| kept_key(&one.tenant, &one.volume_id)).collect();
    let kept = store.batch_get(&keys).await?;
    let gone = given_back.iter().zip(kept).filter(|(_, kept)| kept.is_none());
    Ok(Ok(gone.map(|(one, _)| one.volume_id.clone()).collect()))
}
