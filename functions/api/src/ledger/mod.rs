//! The ledger: every take and give-back is a paired entry. Receipts are the entries; whatever a
//! receipt holds is an open one, and its owner is the tenant's instance in that generation.
//!
//! Reading it is not one moment. What does not balance, or has changed while it was read, is read
//! again, closer each time, before anything is said of it.

mod balance;
mod entries;
mod read;

pub use balance::{Imbalance, Owner, balance};
pub use read::{Account, Pots, Reading, Who};

use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Operator, Parameters};
use axum::Json;
use balance::{Of, block_id, pots_of};
use eventplane_domain::{InstanceId, Millis, State, Tenant};
use eventplane_engine::{Fault, Ports};
use eventplane_store::Store;
use read::Pot;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often what does not balance is read again before it is said.
pub const TRIES_MAX: u32 = 6;
/// How often each time, until it is the same before and after its holders were read: what many
/// launches use at once changes often.
const LOOKS_MAX: u32 = 16;
/// The pause before the first of these tries, in milliseconds; each is twice the one before.
/// Together they are longer than an index of DynamoDB usually lags behind its table.
const PAUSE_MS: u64 = 30;
/// How long is looked again, in seconds: on AWS an answer has 15.
const PATIENCE_S: u64 = 9;
/// How old an instance may be that an index did not show yet, in milliseconds.
const NEW_MS: i64 = 10_000;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(check)).routes(routes!(show))
}

/// What a check of the ledger found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether everything balances.
    pub balances: bool,
    /// What does not.
    pub imbalances: Vec<Imbalance>,
    /// How much was looked at.
    pub read: Counts,
}

/// How much was looked at, and what of it is held.
#[derive(Debug, Clone, Serialize)]
pub struct Counts {
    /// Tenants.
    pub tenants: usize,
    /// Instances, terminated ones too.
    pub instances: usize,
    /// Instances that are not terminated.
    pub live: usize,
    /// Hosts.
    pub hosts: usize,
    /// Blocks of addresses that were ever used.
    pub blocks: usize,
    /// Addresses that are leased.
    pub leased: usize,
    /// Addresses that were released a moment ago: they rest, and are held by nobody.
    pub resting: usize,
    /// Shards of the volume pools.
    pub shards: usize,
    /// Volumes that outlived their instances.
    pub detached_volumes: usize,
}

impl Counts {
    fn of(reading: &Reading, now: Millis) -> Counts {
        let blocks = reading.pots.blocks.values();
        let ended = |account: &&Account| account.record.progress.state == State::Terminated;
        let instances = reading.accounts.len();
        Counts {
            tenants: reading.tenants.len(),
            instances,
            live: instances - reading.accounts.values().filter(ended).count(),
            hosts: reading.pots.hosts.len(),
            blocks: reading.pots.blocks.len(),
            leased: blocks.clone().map(|block| block.leases().len()).sum(),
            resting: blocks.map(|block| block.resting(now)).sum(),
            shards: reading.pots.shards.len(),
            detached_volumes: reading.kept.len(),
        }
    }
}

/// Checks the ledger of all tenants: of `tenant`, whose the plane is, and of those that have
/// launched.
///
/// A host, a block or a shard has been read in one moment when it was the same before and after its
/// holders were. What was, and balances, is settled. All else is in doubt, and is read again by
/// itself, with those who may hold something of it: those who did, those on their way, and those
/// that are new; half way, all instances are read again, to learn who else may.
///
/// # Errors
/// A fault of the store.
pub async fn examine(ports: &Ports, tenant: &Tenant) -> Result<Report, Fault> {
    let store = &*ports.store;
    let whose = tenants(store, tenant).await?;
    let before = Pots::all(store, &whose).await?;
    let mut reading = Reading::whole(store, &whose).await?;
    let moved = before.differing(&reading.pots).into_iter().map(Of::Pot);
    let off = balance(&reading).into_iter().map(|one| one.of);
    let mut doubts: BTreeMap<Of, Vec<Imbalance>> =
        moved.chain(off).map(|of| (of.clone(), vec![unproved(of)])).collect();
    let end = Instant::now() + Duration::from_secs(PATIENCE_S);
    for tried in 1..=TRIES_MAX {
        if doubts.is_empty() || Instant::now() >= end {
            break;
        }
        tokio::time::sleep(Duration::from_millis(PAUSE_MS << (tried - 1))).await;
        if tried == TRIES_MAX / 2 {
            reading.tenants = tenants(store, tenant).await?;
            reading.read_accounts(store).await?;
        }
        for of in doubts.keys().cloned().collect::<Vec<_>>() {
            if Instant::now() >= end {
                break;
            }
            let found = match &of {
                Of::Pot(pot) => pot_still(ports, &mut reading, pot).await?,
                Of::Account(who) => account_again(store, &reading, who).await?,
            };
            match found {
                Some(found) if found.is_empty() => drop(doubts.remove(&of)),
                Some(found) => drop(doubts.insert(of, found)),
                None => drop(doubts.insert(of.clone(), vec![unproved(of)])),
            }
        }
    }
    let imbalances: Vec<Imbalance> = doubts.into_values().flatten().collect();
    let read = Counts::of(&reading, ports.clock.now());
    Ok(Report { balances: imbalances.is_empty(), imbalances, read })
}

/// Reads a pot again until it stands still: what is off. `None` if it never does.
async fn pot_still(
    ports: &Ports,
    reading: &mut Reading,
    pot: &Pot,
) -> Result<Option<Vec<Imbalance>>, Fault> {
    for _ in 0..LOOKS_MAX {
        if let Some(off) = pot_again(ports, reading, pot).await? {
            return Ok(Some(off));
        }
    }
    Ok(None)
}

/// Reads a pot again, between two looks at which it is the same: what is off. `None` if it changed.
async fn pot_again(
    ports: &Ports,
    reading: &mut Reading,
    pot: &Pot,
) -> Result<Option<Vec<Imbalance>>, Fault> {
    let store = &*ports.store;
    let before = Pots::one(store, pot).await?;
    let leased = before.blocks.values().flat_map(|block| block.leases().into_values());
    let named: BTreeSet<String> = leased.collect();
    let may_hold = |(who, account): &(&Who, &Account)| {
        !account.is_settled()
            || named.contains(who.1.as_str())
            || pots_of(account, &who.0).contains(pot)
    };
    let mut whose: Vec<Who> =
        reading.accounts.iter().filter(may_hold).map(|(who, _)| who.clone()).collect();
    let since = ports.clock.now().0.saturating_sub(NEW_MS).max(0);
    whose.extend(reading.new_since(store, &InstanceId::new(Millis(since), 0)).await?);
    let mut close = Reading { tenants: reading.tenants.clone(), ..Reading::default() };
    close.accounts = read::accounts(store, &whose).await?.into_iter().collect();
    if matches!(pot, Pot::Shard(_)) {
        close.read_kept(store).await?;
    }
    close.pots = Pots::one(store, pot).await?;
    reading.accounts.extend(close.accounts.clone());
    if !before.differing(&close.pots).is_empty() {
        return Ok(None);
    }
    let mut off = balance(&close);
    off.retain(|one| one.of == Of::Pot(pot.clone()));
    Ok(Some(off))
}

/// Reads an account again, and what hosts have of it: what is off.
async fn account_again(
    store: &dyn Store,
    reading: &Reading,
    who: &Who,
) -> Result<Option<Vec<Imbalance>>, Fault> {
    let mut close = Reading { tenants: reading.tenants.clone(), ..Reading::default() };
    // Before the record: what a host lets go of is gone before the record says so.
    close.assignments = read::assignments(store, &reading.pots.hosts).await?;
    close.accounts = read::accounts(store, std::slice::from_ref(who)).await?.into_iter().collect();
    let mut off = balance(&close);
    off.retain(|one| one.of == Of::Account(who.clone()));
    Ok(Some(off))
}

/// What could not be read in one moment.
fn unproved(of: Of) -> Imbalance {
    let (what, id) = match &of {
        Of::Pot(Pot::Host(id)) => ("host", id.to_string()),
        Of::Pot(Pot::Block(at)) => ("addresses", block_id(at)),
        Of::Pot(Pot::Shard(name)) => ("pool", name.clone()),
        Of::Account((_, id)) => ("instance", id.to_string()),
    };
    let message =
        "it changed each time that it was read, or the time was over: nothing is proved of it";
    let message = message.to_owned();
    Imbalance { what, id, message, owners: vec![], of }
}

/// Whose instances there may be: the plane's one tenant, and those that have ever launched.
async fn tenants(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Tenant>, Fault> {
    let mut all: BTreeSet<Tenant> = [tenant.clone()].into();
    all.extend(eventplane_instances::tenants::roster(store).await?);
    Ok(all.into_iter().collect())
}

/// Whether free and held is total everywhere, and who holds what of that which is not.
#[utoipa::path(get, path = "/v1/ledger", tag = "ledger",
    responses((status = 200, description = "Whether it balances, and what does not")))]
async fn check(Operator(api): Operator) -> Result<Json<Value>, Refusal> {
    let report = examine(&api.ports, &api.options.tenant).await?;
    let mut shown = json!(report);
    shown["as_of"] = json!(rfc3339(api.ports.clock.now().0));
    Ok(Json(shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    next: Option<String>,
}

/// The open entries: who holds what, and since when. A page may be short, or empty, and have a
/// `next`.
#[utoipa::path(get, path = "/v1/ledger/entries", tag = "ledger",
    params(("next" = Option<String>, Query, description = "As the page before gave it")),
    responses((status = 200, description = "A page of open entries")))]
async fn show(
    Operator(api): Operator,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Value>, Refusal> {
    let store = &*api.ports.store;
    let tenants = tenants(store, &api.options.tenant).await?;
    let (entries, next) = entries::page(store, &tenants, paging.next.as_deref()).await?;
    Ok(Json(json!({ "entries": entries, "next": next })))
}
