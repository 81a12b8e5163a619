//! The place of an instance among those that are on their way.

use crate::error::Refusal;
use eventplane_domain::InstanceId;
use eventplane_instances::{OPEN, OPEN_SHARDS, TABLE, open_partition};
use eventplane_store::{Query, Store};
use std::collections::BTreeSet;

/// How many entries of each of the index's partitions are counted: where there are more, the
/// number is the least that there can be.
const COUNTED_MAX: usize = 1_000;

/// How many are before an instance.
pub(super) struct Before {
    /// Instances of all tenants that were asked for earlier, are still on their way to another
    /// state, and are not asked to end.
    pub(super) instances: usize,
    /// Whether there may be more.
    pub(super) at_least: bool,
}

/// Counts them by their ids, which grow with time.
pub(super) async fn before(store: &dyn Store, id: &InstanceId) -> Result<Before, Refusal> {
    let (mut on_their_way, mut ending) = (BTreeSet::new(), BTreeSet::new());
    let mut at_least = false;
    for shard in 0..OPEN_SHARDS {
        let query = Query::index(TABLE.name, OPEN, open_partition(shard), COUNTED_MAX);
        let page = store.query(&query).await?;
        at_least |= page.next.is_some();
        for (key, _) in page.items {
            let Some((_, other)) = key.partition.rsplit_once('/') else { continue };
            let Ok(other) = InstanceId::parse(other) else { continue };
            if other.as_str() < id.as_str() {
                let of = if key.sort == "request" { &mut ending } else { &mut on_their_way };
                of.insert(key.partition.clone());
            }
        }
    }
    Ok(Before { instances: on_their_way.difference(&ending).count(), at_least })
}
