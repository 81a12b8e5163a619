//! Hosts that are not heard of: after a while they take nothing new, and after a longer one they
//! count as dead, if that is the policy. And what follows from the word that a host is dead.

use eventplane_capacity::fleet::{self, Host, HostState};
use eventplane_capacity::seen;
use eventplane_domain::{HostId, Reason, code};
use eventplane_engine::{Emit, Fault, Origin, Ports, TRIES_MAX, metric, stamp};
use eventplane_events::{Data, Entry, InstanceHalted};
use eventplane_handoff::{WantedSet, dead_write};
use eventplane_instances::look_at_let_go;
use tracing::warn;

/// Looks at which hosts are silent, and does what follows.
///
/// `dead_after_ms`: after how long a silence a host counts as dead, if that is the policy; without
/// it only an operator's word makes it so. What the policy risks: a host that is cut off and not
/// gone runs on what is then started elsewhere as well, two machines with one address and one
/// volume.
///
/// # Errors
/// A fault of the store or the bus; the next look goes on.
pub async fn watch_hosts(ports: &Ports, dead_after_ms: Option<i64>) -> Result<(), Fault> {
    let silent = seen::watch(&*ports.store, ports.clock.now(), dead_after_ms).await?;
    for host in &silent.impaired {
        warn!(%host, "silent for too long: it takes nothing new until it is heard of");
    }
    if !silent.impaired.is_empty() {
        let count = i64::try_from(silent.impaired.len()).unwrap_or(i64::MAX);
        metric("HostsImpaired", "Count", count);
    }
    for (host, at) in &silent.lost {
        if !seen::is_still_silent(&*ports.store, host, *at).await? {
            continue;
        }
        warn!(%host, "silent for so long that it counts as dead, as the policy says");
        if let Err(reason) = declare_dead(ports, "sweeper", host).await? {
            warn!(%host, %reason, "not declared dead");
        }
    }
    Ok(())
}

/// Writes down that a host is dead, and says of all that it had that nothing runs it any more. Once
/// more says it again. `by` is the function that says so.
///
/// # Errors
/// A refusal when there is no such host (inner), or a fault: then it may be done in part, and is to
/// be said again.
pub async fn declare_dead(
    ports: &Ports,
    by: &'static str,
    id: &HostId,
) -> Result<Result<Host, Reason>, Fault> {
    let store = &*ports.store;
    if fleet::host(store, id).await?.is_none() {
        return Ok(Err(fleet::not_found(id)));
    }
    write_down(ports, id).await?;
    // Read anew: nothing is handed to it any more. If it lives again by now, somebody has taken
    // the word back, and what it has is no dead host's.
    let wanted = WantedSet::of(store, id).await?;
    if wanted.dead {
        halt_all(ports, by, id, &wanted).await?;
    }
    // Last: as long as this does not say so, whoever watches the hosts begins again.
    fleet::set_state(store, id, HostState::Dead).await
}

/// Writes down that a host is dead, after everything that it has is marked for the sweeper: from
/// that word on the handoff may end any of it, also if nobody comes to say more.
async fn write_down(ports: &Ports, id: &HostId) -> Result<(), Fault> {
    let store = &*ports.store;
    for _ in 0..TRIES_MAX {
        let wanted = WantedSet::of(store, id).await?;
        if wanted.dead {
            return Ok(());
        }
        mark(ports, &wanted).await?;
        if store.try_transact(vec![dead_write(id, &wanted)]).await? {
            return Ok(());
        }
    }
    Err(Fault::Contention { tries: TRIES_MAX, contended: format!("the wanted set of {id}") })
}

/// Lets the sweeper look at what a host has, unless it is being withdrawn anyway: it asks again if
/// the messages of it are lost.
async fn mark(ports: &Ports, wanted: &WantedSet) -> Result<(), Fault> {
    let (store, now) = (&*ports.store, ports.clock.now());
    for one in wanted.assignments.iter().filter(|one| !one.withdrawing) {
        look_at_let_go(store, &one.tenant, &one.instance, one.generation, now).await?;
    }
    Ok(())
}

/// Says of all that a dead host had that nothing runs it any more. What it was offered may have
/// run.
///
/// # Errors
/// A fault of the store or the bus: it is to be said again.
pub async fn halt_all(
    ports: &Ports,
    by: &'static str,
    id: &HostId,
    wanted: &WantedSet,
) -> Result<(), Fault> {
    mark(ports, wanted).await?;
    let halted = |assignment: &eventplane_handoff::Assignment| -> Entry {
        let message = format!("the host {id} was declared dead");
        let data = Data::InstanceHalted(InstanceHalted {
            host: id.to_string(),
            reason: Some(Reason::new(code::HOST_DEAD, message)),
            has_run: assignment.offered,
        });
        let (generation, deadline) = (assignment.generation, assignment.deadline);
        let (tenant, subject) = (&assignment.tenant, &assignment.instance);
        let origin = Origin::Fresh { tenant, subject, traceparent: None };
        stamp(ports, by, &origin, Emit { data, generation, deadline }).entry()
    };
    let entries: Vec<Entry> = wanted.assignments.iter().map(halted).collect();
    if entries.is_empty() { Ok(()) } else { ports.bus.publish(entries).await }
}
