//! The functions that hear events: the one list of them.

use eventplane_capacity::Capacity;
use eventplane_engine::{Function, Handler, Ports};
use eventplane_handoff::Handoff;
use eventplane_instances::{ENDING_DEADLINE_MS, Instances};
use eventplane_keys::MasterKey;
use eventplane_network::Networking;
use eventplane_security::Security;
use eventplane_storage::Storage;
use std::sync::Arc;

/// All functions that hear events, on these ports. `launch_deadline_ms` is how long a new placement
/// has until it must run.
#[must_use]
pub fn handlers(
    ports: &Ports,
    master: &Arc<dyn MasterKey>,
    launch_deadline_ms: i64,
) -> Vec<Arc<dyn Handler>> {
    let storage = Storage::new(master.clone(), ports.chance.clone());
    let security = Security::new(master.clone(), ports.chance.clone());
    let instances = Instances { launch_deadline_ms, ending_deadline_ms: ENDING_DEADLINE_MS };
    vec![
        Arc::new(Function::new(Capacity, ports.clone())),
        Arc::new(Function::new(Networking, ports.clone())),
        Arc::new(Function::new(storage, ports.clone())),
        Arc::new(Function::new(security, ports.clone())),
        Arc::new(Function::new(Handoff, ports.clone())),
        Arc::new(Function::new(instances, ports.clone())),
    ]
}
