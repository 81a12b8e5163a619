//! What the step looks at: two reads for nearly every launch, and four for one into a subnet that
//! is nearly full.

use crate::blocks::{self, Block};
use crate::claim::Lease;
use crate::decide::{self, Facts};
use crate::groups::{self, Group};
use crate::subnets::{self, Subnet, Subnets};
use crate::{receipt_key, routes};
use eventplane_domain::receipt::{Answer, Ruling, rule};
use eventplane_domain::{Launch, Tenant};
use eventplane_engine::{Dice, Fault, Look, Receipt, TakesOn, ask_of};
use eventplane_events::{Data, Event};
use eventplane_store::{Failed, Key, Store};
use std::collections::HashSet;

/// How many blocks are read at first: nearly always the first of them has a free address.
const CANDIDATES: usize = 2;
/// How many that are not full are read when these have no free address.
const NEAR_MAX: usize = 16;
/// How many more when these have none either: with them a subnet of 4,096 addresses is known
/// whole.
const WIDE_MAX: usize = 128;

pub(crate) async fn look(event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
    match (&event.data, ask_of(event, TakesOn::Placement)) {
        (Data::CapacityAllocated(allocated), Some(_)) => take(event, &allocated.launch, look).await,
        (_, Some(_)) => give_back(event, look.store).await,
        (_, None) => Ok(Facts::default()),
    }
}

/// Reads the receipt, and the block that its address stands in.
async fn give_back(event: &Event, store: &dyn Store) -> Result<Facts, Fault> {
    let tenant = &event.metadata.tenant;
    let item = store.get(&receipt_key(tenant, &event.metadata.subject)).await?;
    let receipt = Receipt::read(item.as_ref())?;
    let mut facts = Facts { receipt, ..Facts::default() };
    if let Some(lease) = facts.receipt.as_ref().and_then(Lease::held)
        && let Some(place) = blocks::place_of(lease.cidr, lease.address)
    {
        facts.blocks = read_blocks(store, tenant, &lease.subnet_id, &[place.block]).await?;
    }
    Ok(facts)
}

async fn take(event: &Event, launch: &Launch, look: Look<'_>) -> Result<Facts, Fault> {
    let tenant = &event.metadata.tenant;
    let keys = [receipt_key(tenant, &event.metadata.subject), subnets::key(tenant)];
    let items = look.store.batch_get(&keys).await?;
    let receipt = Receipt::read(items[0].as_ref())?;
    let subnets = Subnets::read(items[1].as_ref())?;
    let ask = ask_of(event, TakesOn::Placement).expect("a placed launch asks for an address");
    let ruling = rule(receipt.as_ref().map(Receipt::recorded), ask, look.now);
    let answers = match ruling {
        Ruling::Decide => true,
        Ruling::Repeat => receipt.as_ref().is_some_and(|receipt| receipt.answer == Answer::Taken),
        _ => false,
    };
    let mut facts = Facts { receipt, subnets, ..Facts::default() };
    if !answers {
        return Ok(facts);
    }
    let held = facts.receipt.as_ref().and_then(Lease::held);
    let subnet = match &held {
        Some(lease) => facts.subnets.find_any(&lease.subnet_id).cloned(),
        None => {
            decide::subnet_of(&launch.spec, &launch.placement.zone, &facts.subnets).ok().cloned()
        }
    };
    let order = match &subnet {
        Some(subnet) if held.is_none() => order(launch, subnet, look.dice, look.lost),
        _ => vec![],
    };
    let (first, rest) = order.split_at(order.len().min(CANDIDATES));
    read_around(&mut facts, look.store, tenant, launch, subnet.as_ref(), first).await?;
    if let Some(subnet) = &subnet {
        search(&mut facts, &look, tenant, subnet, rest).await?;
    }
    Ok(facts)
}

/// In which order blocks are looked at: only the one of the address that is wanted, or all from a
/// random one on, those that a race was just lost for last.
fn order(launch: &Launch, subnet: &Subnet, dice: &mut Dice, lost: &[Failed]) -> Vec<u32> {
    match decide::place_wanted(&launch.spec, subnet) {
        Err(_) => return vec![],
        Ok(Some(place)) => return vec![place.block],
        Ok(None) => {}
    }
    let count = blocks::count(subnet.cidr_block);
    let start = dice.below(count as usize) as u32;
    let lost: HashSet<u32> = lost.iter().filter_map(|f| blocks::number_of(&f.key)).collect();
    let mut order: Vec<u32> = (start..count).chain(0..start).collect();
    order.sort_by_key(|block| lost.contains(block));
    order
}

/// Reads the groups, the route table, and, to choose an address, the summaries of the subnet's
/// blocks and the first of these: all at once.
async fn read_around(
    facts: &mut Facts,
    store: &dyn Store,
    tenant: &Tenant,
    launch: &Launch,
    subnet: Option<&Subnet>,
    first: &[u32],
) -> Result<(), Fault> {
    let named = groups::of_launch(tenant, &launch.spec.security_group_ids);
    let readable = |id: &&String| groups::is_id(id);
    let ids: Vec<&String> =
        named.iter().filter(readable).take(groups::GROUPS_PER_INTERFACE_MAX).collect();
    let mut keys: Vec<Key> = ids.iter().map(|id| groups::key(tenant, id)).collect();
    let mut summaries = 0;
    if let Some(subnet) = subnet {
        keys.push(routes::key(tenant, &subnet.route_table_id));
        let id = &subnet.subnet_id;
        if !first.is_empty() {
            summaries = blocks::groups(subnet.cidr_block);
            keys.extend((0..summaries).map(|group| blocks::summary_key(tenant, id, group)));
            keys.extend(first.iter().map(|block| blocks::block_key(tenant, id, *block)));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let mut items = store.batch_get(&keys).await?.into_iter();
    for (id, item) in ids.into_iter().zip(items.by_ref()) {
        if let Some(item) = item {
            facts.groups.push(Group::read(id, &item)?);
        }
    }
    facts.table = items.next().flatten();
    facts.summaries = items.by_ref().take(summaries as usize).collect();
    facts.blocks = first.iter().zip(items).map(|(n, item)| Block { number: *n, item }).collect();
    Ok(())
}

/// Reads more of the blocks that are not full, until one has a free address or all that matter are
/// known.
async fn search(
    facts: &mut Facts,
    look: &Look<'_>,
    tenant: &Tenant,
    subnet: &Subnet,
    rest: &[u32],
) -> Result<(), Fault> {
    let rest: Vec<u32> = rest.iter().copied().filter(|block| !facts.is_full(*block)).collect();
    let (near, far) = rest.split_at(rest.len().min(NEAR_MAX));
    for more in [near, &far[..far.len().min(WIDE_MAX)]] {
        let is_free = |block: &Block| !block.free(subnet.cidr_block, look.now).is_empty();
        if facts.blocks.iter().any(is_free) {
            break;
        }
        facts.blocks.extend(read_blocks(look.store, tenant, &subnet.subnet_id, more).await?);
    }
    Ok(())
}

async fn read_blocks(
    store: &dyn Store,
    tenant: &Tenant,
    subnet_id: &str,
    numbers: &[u32],
) -> Result<Vec<Block>, Fault> {
    if numbers.is_empty() {
        return Ok(vec![]);
    }
    let keys: Vec<Key> =
        numbers.iter().map(|number| blocks::block_key(tenant, subnet_id, *number)).collect();
    let items = store.batch_get(&keys).await?;
    Ok(numbers.iter().zip(items).map(|(number, item)| Block { number: *number, item }).collect())
}
