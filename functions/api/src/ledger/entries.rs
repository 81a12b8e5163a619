//! The open entries of the ledger: who holds what, since when. Receipts are the entries.

use super::balance::Owner;
use super::read::{Account, PAGE, Who, accounts, who};
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::instances::{hex, is_end_of_a_page, unhex};
use eventplane_domain::receipt::Answer;
use eventplane_domain::{Step, Tenant};
use eventplane_engine::{Logged, Receipt};
use eventplane_instances::{BY_TENANT, TABLE};
use eventplane_store::{Query, Store};
use serde_json::{Value, json};

/// Something that an account holds.
pub(super) struct Held {
    pub(super) step: Step,
    pub(super) words: String,
}

/// What an account's receipts hold.
pub(super) fn held(account: &Account) -> Vec<Held> {
    let [capacity, network, storage, security] = &account.receipts;
    let mut all = Vec::new();
    let mut holds = |step: Step, words: String| all.push(Held { step, words });
    let room = capacity.as_ref().and_then(|one| eventplane_capacity::ledger::held_by(one).ok()?);
    if let Some((host, room)) = room {
        holds(Step::Capacity, format!("{} of {host}", eventplane_capacity::ledger::words(room)));
    }
    if let Some(lease) = network.as_ref().and_then(eventplane_network::lease) {
        holds(Step::Network, format!("{} of {}", lease.private_ip, lease.subnet_id));
    }
    let volumes = storage.as_ref().and_then(|one| eventplane_storage::ledger::held_by(one).ok());
    for volume in volumes.unwrap_or_default() {
        holds(Step::Storage, volume_words(&volume));
    }
    if let Some(identity) = security.as_ref().and_then(eventplane_security::identity) {
        let version = identity.credentials_version;
        holds(Step::Security, format!("an identity, credentials of version {version}"));
    }
    all
}

fn volume_words(volume: &eventplane_domain::Volume) -> String {
    let (gib, iops) = (volume.spec.size_gib, volume.spec.iops);
    format!("{}: {gib} GiB and {iops} IOPS of {}", volume.volume_id, volume.pool)
}

/// Where a page of entries begins: the tenant, and the end of the page before in its instances.
struct From {
    tenant: Tenant,
    after: Option<String>,
}

fn from(token: Option<&str>, tenants: &[Tenant]) -> Result<Option<From>, Refusal> {
    let Some(token) = token else {
        return Ok(tenants.first().map(|tenant| From { tenant: tenant.clone(), after: None }));
    };
    let read = || {
        let text = unhex(token)?;
        let (tenant, after) = text.split_once('\n')?;
        let tenant = tenants.iter().find(|one| one.as_str() == tenant)?.clone();
        let after = Some(after.to_owned()).filter(|after| !after.is_empty());
        let is_end = after.as_ref().is_none_or(|after| is_end_of_a_page(after, &tenant));
        is_end.then_some(From { tenant, after })
    };
    read().map(Some).ok_or_else(|| {
        let message = "`next` is given back as the page before gave it";
        Refusal::invalid("InvalidPaginationToken", message).about("next")
    })
}

/// A page of entries: those of up to a hundred instances of one tenant, and behind the tenant's
/// last one the volumes that outlived theirs.
pub(super) async fn page(
    store: &dyn Store,
    tenants: &[Tenant],
    token: Option<&str>,
) -> Result<(Vec<Value>, Option<String>), Refusal> {
    let Some(From { tenant, after }) = from(token, tenants)? else { return Ok((vec![], None)) };
    let mut query = Query::index(TABLE.name, BY_TENANT, tenant.as_str(), PAGE);
    query.after = after;
    let page = store.query(&query).await?;
    let whose: Vec<Who> = page.items.iter().filter_map(|(key, _)| who(key)).collect();
    let mut entries = Vec::new();
    for (who, account) in accounts(store, &whose).await? {
        entries.extend(held(&account).into_iter().map(|held| entry(&who, &account, &held)));
    }
    let next = match page.next {
        Some(next) => Some((&tenant, next)),
        None => {
            for kept in eventplane_storage::kept(store, &tenant).await? {
                entries.push(json!({
                    "owner": Owner {
                        tenant: tenant.clone(),
                        instance_id: kept.instance.clone(),
                        generation: None,
                        state: None,
                        volume_id: Some(kept.volume.volume_id.clone()),
                    },
                    "step": Step::Storage,
                    "holds": format!("{}, detached", volume_words(&kept.volume)),
                    "since": rfc3339(kept.since.0),
                }));
            }
            let after = tenants.iter().skip_while(|one| **one != tenant).nth(1);
            after.map(|tenant| (tenant, String::new()))
        }
    };
    Ok((entries, next.map(|(tenant, after)| hex(&format!("{tenant}\n{after}")))))
}

/// An entry: its owner, what it holds, since when, and what was taken and given back before.
fn entry(who: &Who, account: &Account, held: &Held) -> Value {
    let at = match held.step {
        Step::Capacity => 0,
        Step::Network => 1,
        Step::Storage => 2,
        Step::Security | Step::Handoff => 3,
    };
    let receipt = account.receipts[at].as_ref();
    let log = receipt.map(|receipt: &Receipt| &receipt.log[..]).unwrap_or_default();
    let taken = log.iter().rev().find(|logged| logged.what == Answer::Taken);
    let line = |logged: &Logged<Answer>| {
        let (at, what) = (rfc3339(logged.at.0), logged.what.name());
        json!({ "at": at, "generation": logged.generation, "what": what })
    };
    json!({
        "owner": Owner {
            tenant: who.0.clone(),
            instance_id: who.1.clone(),
            generation: receipt.map(|receipt| receipt.generation),
            state: Some(account.record.progress.state),
            volume_id: None,
        },
        "step": held.step,
        "holds": held.words,
        "since": taken.map(|logged| rfc3339(logged.at.0)),
        "log": log.iter().map(line).collect::<Vec<_>>(),
    })
}
