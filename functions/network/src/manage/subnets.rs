//! Subnets, as people manage them.

use super::{
    DEPENDENCY, INCORRECT_STATE, INVALID_VALUE, TRIES_MAX, all, check_id, cidr, contended,
    fresh_id, partition, quoted, token, write,
};
use crate::blocks::{self, Block, Ground};
use crate::routes::{self, PRIVATE_SPACES};
use crate::subnets::{PREFIX, SUBNETS_MAX, Subnet, Subnets, add, change, key};
use eventplane_domain::{Millis, Reason, Tenant};
use eventplane_engine::{Fault, Ports};
use eventplane_store::{Store, TRANSACTION_WRITES_MAX, Value, Write};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The largest and the smallest subnet: 65,536 and 16 addresses.
///
/// Source: "Subnet CIDR blocks", Amazon VPC user guide.
const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 16..=28;
const MALFORMED: &str = "InvalidSubnetId.Malformed";
const NOT_FOUND: &str = "InvalidSubnetID.NotFound";
const RANGE: &str = "InvalidSubnet.Range";
const CONFLICT: &str = "InvalidSubnet.Conflict";
const LIMIT: &str = "SubnetLimitExceeded";
const ZONE_LENGTH_MAX: usize = 64;

/// A request for a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateSubnet {
    /// The zone that it lies in.
    pub zone: String,
    /// Its addresses: a private IPv4 block from /16 to /28 that meets no other subnet.
    pub cidr_block: String,
    /// Its route table; the main one if none is named.
    #[serde(default)]
    pub route_table_id: Option<String>,
}

/// A subnet, as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubnetView {
    /// `subnet-` and 17 hex digits.
    pub subnet_id: String,
    /// The zone that it lies in.
    pub zone: String,
    /// Its addresses.
    pub cidr_block: String,
    /// Its route table.
    pub route_table_id: String,
    /// Whether launches into its zone that name no subnet go here.
    pub default_for_zone: bool,
    /// `available`, or `deleting` while its deletion is under way.
    pub state: &'static str,
    /// How its addresses stand; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
}

/// How the addresses of a subnet stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Addresses {
    /// How many can be leased at all: the first four and the last are reserved.
    pub usable: u32,
    /// How many instances have.
    pub leased: u32,
    /// How many were released a moment ago and rest.
    pub resting: u32,
    /// How many can be leased now.
    pub free: u32,
}

impl SubnetView {
    fn of(subnet: &Subnet, addresses: Option<Addresses>) -> Self {
        SubnetView {
            subnet_id: subnet.subnet_id.clone(),
            zone: subnet.zone.clone(),
            cidr_block: subnet.cidr_block.to_string(),
            route_table_id: subnet.route_table_id.clone(),
            default_for_zone: subnet.default_for_zone,
            state: if subnet.deleting.is_some() { "deleting" } else { "available" },
            addresses,
        }
    }
}

/// All subnets of the tenant, in the order of their ids.
///
/// # Errors
/// A fault of the store.
pub async fn list(store: &dyn Store, tenant: &Tenant) -> Result<Vec<SubnetView>, Fault> {
    let subnets = read(store, tenant).await?;
    Ok(subnets.all.iter().map(|subnet| SubnetView::of(subnet, None)).collect())
}

/// One subnet, with how its addresses stand.
///
/// # Errors
/// A refusal when there is no such subnet (inner), or a fault of the store.
pub async fn get(
    ports: &Ports,
    tenant: &Tenant,
    subnet_id: &str,
) -> Result<Result<SubnetView, Reason>, Fault> {
    if let Err(reason) = check_id(subnet_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    let subnets = read(&*ports.store, tenant).await?;
    let Some(subnet) = subnets.find_any(subnet_id) else { return Ok(Err(not_found(subnet_id))) };
    let addresses = count(&*ports.store, tenant, subnet, ports.clock.now()).await?;
    Ok(Ok(SubnetView::of(subnet, Some(addresses))))
}

/// The zone of a subnet: unlike [`get`], it looks at no address.
///
/// # Errors
/// A refusal when there is no such subnet (inner), or a fault of the store.
pub async fn zone(
    store: &dyn Store,
    tenant: &Tenant,
    subnet_id: &str,
) -> Result<Result<String, Reason>, Fault> {
    if let Err(reason) = check_id(subnet_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    let item = store.get(&key(tenant)).await?;
    let mut subnets = Subnets::read_one(item.as_ref(), subnet_id)?.all.into_iter();
    Ok(subnets.next().map(|subnet| subnet.zone).ok_or_else(|| not_found(subnet_id)))
}

/// Makes a subnet. Two that overlap never come into being, also when asked for at once.
///
/// # Errors
/// A refusal when the request is not possible (inner), or a fault of the store.
pub async fn create(
    ports: &Ports,
    tenant: &Tenant,
    request: &CreateSubnet,
) -> Result<Result<SubnetView, Reason>, Fault> {
    let mut subnet = match checked(request, tenant) {
        Ok(subnet) => subnet,
        Err(reason) => return Ok(Err(reason)),
    };
    subnet.subnet_id = fresh_id(ports, PREFIX);
    for _ in 0..TRIES_MAX {
        let subnets = read(&*ports.store, tenant).await?;
        if let Err(reason) = admit(&subnets, &subnet) {
            return Ok(Err(reason));
        }
        let table = routes::is_there(tenant, &subnet.route_table_id);
        let writes = vec![add(tenant, &subnets, &subnet), table];
        match write(&*ports.store, writes).await? {
            Ok(()) => return Ok(Ok(SubnetView::of(&subnet, None))),
            Err(failed) if failed.iter().any(|failed| failed.index == 1) => {
                return Ok(Err(super::route_tables::not_found(&subnet.route_table_id)));
            }
            Err(_) => {}
        }
    }
    Err(contended(&key(tenant)))
}

/// The subnet that is asked for, still without an id.
fn checked(request: &CreateSubnet, tenant: &Tenant) -> Result<Subnet, Reason> {
    let zone = &request.zone;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if zone.is_empty() || zone.len() > ZONE_LENGTH_MAX || !zone.bytes().all(is_name) {
        let message = format!(
            "`zone`: {} is not 1 to {ZONE_LENGTH_MAX} letters, digits, `-`, `_` and `.`",
            quoted(zone)
        );
        return Err(Reason::new(INVALID_VALUE, message));
    }
    let cidr_block = cidr(&request.cidr_block, "cidr_block")?;
    let range = |message| Err(Reason::new(RANGE, message));
    if !PREFIX_LENGTHS.contains(&cidr_block.prefix_len()) {
        return range(format!("`cidr_block`: {cidr_block} is not between /16 and /28"));
    }
    if !PRIVATE_SPACES.iter().any(|space| space.contains(&cidr_block)) {
        let spaces = PRIVATE_SPACES.map(|space| space.to_string()).join(", ");
        return range(format!("`cidr_block`: {cidr_block} does not lie in one of {spaces}"));
    }
    if let Some(table) = &request.route_table_id {
        check_id(table, routes::PREFIX, super::route_tables::MALFORMED)?;
    }
    let main = || routes::main_id(tenant);
    Ok(Subnet {
        subnet_id: String::new(),
        zone: zone.clone(),
        cidr_block,
        route_table_id: request.route_table_id.clone().unwrap_or_else(main),
        default_for_zone: false,
        deleting: None,
    })
}

/// Refuses a subnet that meets another, or is one too many.
fn admit(subnets: &Subnets, subnet: &Subnet) -> Result<(), Reason> {
    if let Some(other) = subnets.overlapping(subnet.cidr_block) {
        let message = format!(
            "`cidr_block`: {} overlaps {} of the subnet {}",
            subnet.cidr_block, other.cidr_block, other.subnet_id
        );
        return Err(Reason::new(CONFLICT, message));
    }
    if subnets.all.len() >= SUBNETS_MAX {
        let message = format!("there are {SUBNETS_MAX} subnets: delete one first");
        return Err(Reason::new(LIMIT, message));
    }
    Ok(())
}

/// Deletes a subnet, unless one of its addresses is leased.
///
/// It is marked first, so that no launch goes there any more, then its blocks are closed, which
/// fails while one of them has a lease, and then it goes. A deletion that was cut short leaves the
/// mark: the next one takes it over and ends it, one way or the other.
///
/// # Errors
/// A refusal when there is no such subnet or an address is leased (inner), or a fault of the store.
pub async fn delete(
    ports: &Ports,
    tenant: &Tenant,
    subnet_id: &str,
) -> Result<Result<(), Reason>, Fault> {
    if let Err(reason) = check_id(subnet_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    let (store, now, by) = (&*ports.store, ports.clock.now(), token(ports));
    let (marked, stored) = match mark(store, tenant, subnet_id, &by, now).await? {
        Ok(marked) => marked,
        Err(reason) => return Ok(Err(reason)),
    };
    let ground = Ground { tenant, subnet_id, cidr: marked.cidr_block };
    if !close(store, &ground, &by, now).await? {
        open(store, &ground, &by).await?;
        let before = Subnet { deleting: None, ..marked.clone() };
        let unmark = change(tenant, subnet_id, &stored, Some(&before));
        if write(store, vec![unmark]).await?.is_err() {
            return Ok(Err(taken_over(subnet_id)));
        }
        let leased = count(store, tenant, &marked, now).await?.leased;
        return Ok(Err(in_use(subnet_id, leased)));
    }
    let removed = write(store, vec![change(tenant, subnet_id, &stored, None)]).await?;
    Ok(removed.map_err(|_| taken_over(subnet_id)))
}

/// Marks the subnet as going, unless an address is leased. What is returned is the subnet and how
/// it is stored now.
async fn mark(
    store: &dyn Store,
    tenant: &Tenant,
    subnet_id: &str,
    by: &str,
    now: Millis,
) -> Result<Result<(Subnet, Value), Reason>, Fault> {
    for _ in 0..TRIES_MAX {
        let item = store.get(&key(tenant)).await?;
        let subnets = Subnets::read(item.as_ref())?;
        let seen = item.as_ref().and_then(|item| item.get(subnet_id));
        let (Some(subnet), Some(seen)) = (subnets.find_any(subnet_id), seen) else {
            return Ok(Err(not_found(subnet_id)));
        };
        let leased = count(store, tenant, subnet, now).await?.leased;
        if leased > 0 && subnet.deleting.is_none() {
            return Ok(Err(in_use(subnet_id, leased)));
        }
        let marked = Subnet { deleting: Some(by.to_owned()), ..subnet.clone() };
        if write(store, vec![change(tenant, subnet_id, seen, Some(&marked))]).await?.is_ok() {
            let stored = crate::subnets::stored(&marked);
            return Ok(Ok((marked, stored)));
        }
    }
    Err(contended(&key(tenant)))
}

/// Closes all blocks; false if one of them has a lease.
async fn close(
    store: &dyn Store,
    ground: &Ground<'_>,
    by: &str,
    now: Millis,
) -> Result<bool, Fault> {
    let blocks: Vec<u32> = (0..blocks::count(ground.cidr)).collect();
    for chunk in blocks.chunks(TRANSACTION_WRITES_MAX) {
        let writes = chunk.iter().map(|block| ground.close(*block, by, now)).collect();
        if write(store, writes).await?.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens again the blocks that `by` has closed.
async fn open(store: &dyn Store, ground: &Ground<'_>, by: &str) -> Result<(), Fault> {
    let blocks: Vec<u32> = (0..blocks::count(ground.cidr)).collect();
    for chunk in blocks.chunks(TRANSACTION_WRITES_MAX) {
        let mut writes: Vec<Write> = chunk.iter().map(|block| ground.open(*block, by)).collect();
        while !writes.is_empty() {
            let Err(failed) = write(store, writes.clone()).await? else { break };
            writes.retain(|write| !failed.iter().any(|failed| failed.key == write.key));
        }
    }
    Ok(())
}

/// Counts how the addresses stand: reads every block that there is.
async fn count(
    store: &dyn Store,
    tenant: &Tenant,
    subnet: &Subnet,
    now: Millis,
) -> Result<Addresses, Fault> {
    Ok(addresses(subnet.cidr_block, &read_blocks(store, tenant, subnet).await?, now))
}

/// Counts how the addresses of all of a subnet's blocks stand.
pub(crate) fn addresses(cidr: Ipv4Net, all: &[Block], now: Millis) -> Addresses {
    let usable = blocks::usable_addresses(cidr);
    let leased = all.iter().map(|block| u32::try_from(block.held()).unwrap_or(0)).sum();
    let resting = all.iter().map(|block| block.resting(cidr, now).count() as u32).sum();
    let free = usable.saturating_sub(leased + resting);
    Addresses { usable, leased, resting, free }
}

/// All blocks of the subnet that were ever used.
pub(crate) async fn read_blocks(
    store: &dyn Store,
    tenant: &Tenant,
    subnet: &Subnet,
) -> Result<Vec<Block>, Fault> {
    let mut seen = Vec::new();
    for group in 0..blocks::groups(subnet.cidr_block) {
        let of_group = blocks::group_partition(tenant, &subnet.subnet_id, group);
        let items = all(store, partition(of_group, "b")).await?;
        seen.extend(items.into_iter().filter_map(|(key, item)| {
            Some(Block { number: blocks::number_of(&key)?, item: Some(item) })
        }));
    }
    Ok(seen)
}

pub(crate) async fn read(store: &dyn Store, tenant: &Tenant) -> Result<Subnets, Fault> {
    Subnets::read(store.get(&key(tenant)).await?.as_ref())
}

fn not_found(subnet_id: &str) -> Reason {
    Reason::new(NOT_FOUND, format!("there is no subnet {subnet_id}"))
}

fn in_use(subnet_id: &str, leased: u32) -> Reason {
    let message = format!(
        "instances have {leased} of the addresses of the subnet {subnet_id}: terminate them first"
    );
    Reason::new(DEPENDENCY, message)
}

fn taken_over(subnet_id: &str) -> Reason {
    let message = format!("another deletion of the subnet {subnet_id} is under way");
    Reason::new(INCORRECT_STATE, message)
}
