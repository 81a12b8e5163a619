//! The choice: which address an instance gets, or why it gets none.

use crate::blocks::{self, Block, Ground, Place, Slot};
use crate::claim::Lease;
use crate::groups::{self, GROUPS_PER_INTERFACE_MAX, Group};
use crate::subnets::{Subnet, Subnets};
use crate::{receipt_key, routes};
use eventplane_domain::receipt::{Ruling, rule};
use eventplane_domain::{Launch, LaunchSpec, Millis, Network, Reason, Step, code};
use eventplane_engine::{
    Decision, Dice, Moment, Receipt, TakesOn, ask_of, give_back, publish_again, refuse,
    refuse_late, take,
};
use eventplane_events::{Data, Event, NetworkConfigured};
use eventplane_store::{Item, Write};
use std::net::Ipv4Addr;

/// More groups are named than an interface may have.
///
/// Source: "Error codes for the Amazon EC2 API", EC2 API reference.
const TOO_MANY_GROUPS: &str = "Client.SecurityGroupsPerInterfaceLimitExceeded";

/// What the step looks at. Only what the decision needs is read; the rest is empty.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What is recorded for the instance.
    pub receipt: Option<Receipt>,
    /// The tenant's subnets.
    pub subnets: Subnets,
    /// Those of the launch's groups that there are.
    pub groups: Vec<Group>,
    /// The subnet's route table.
    pub table: Option<Item>,
    /// The summaries of the subnet's groups of blocks, in order.
    pub summaries: Vec<Option<Item>>,
    /// Blocks of the subnet: the first that has a free address is used.
    pub blocks: Vec<Block>,
}

impl Facts {
    /// Whether the summary of its group says that the block is full.
    pub(crate) fn is_full(&self, block: u32) -> bool {
        let summary = self.summaries.get((block / blocks::GROUP_BLOCKS) as usize);
        blocks::is_full(summary.and_then(Option::as_ref), block)
    }
}

pub(crate) fn decide(event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
    let Some(ask) = ask_of(event, TakesOn::Placement) else { return Decision::nothing() };
    let launch = match &event.data {
        Data::CapacityAllocated(allocated) => Some(&allocated.launch),
        _ => None,
    };
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    let (before, at) = (facts.receipt.as_ref(), moment.delivery());
    match (rule(before.map(Receipt::recorded), ask, at.now), launch) {
        (Ruling::Decide, Some(launch)) => match lease(event, launch, facts, moment) {
            Ok((lease, writes)) => {
                let taken = configured(launch, &lease, facts);
                take(event, key, before, at, lease.claim(), writes, taken)
            }
            Err(reason) => refuse(event, key, before, at, Step::Network, reason),
        },
        (Ruling::RefuseLate, _) => refuse_late(event, key, before, at, Step::Network),
        (Ruling::GiveBack, _) => {
            let writes = release(event, facts, at.now);
            give_back(event, key, before, at, writes, Data::NetworkReleased)
        }
        (Ruling::Repeat, _) => {
            publish_again(event, before, Step::Network, Data::NetworkReleased, |receipt| {
                let launch = launch.expect("what was taken is repeated to a launch alone");
                let lease = Lease::held(receipt).expect("what was taken is in the receipt");
                configured(launch, &lease, facts)
            })
        }
        (Ruling::Decide | Ruling::Stale, _) => Decision::nothing(),
    }
}

/// The lease of the launch, with what has to be written for it besides the receipt: nothing, where
/// an older generation holds it.
fn lease(
    event: &Event,
    launch: &Launch,
    facts: &Facts,
    moment: Moment<'_>,
) -> Result<(Lease, Vec<Write>), Reason> {
    let (tenant, instance) = (&event.metadata.tenant, &event.metadata.subject);
    let held = facts.receipt.as_ref().and_then(Lease::held);
    let groups = groups::of_launch(tenant, &launch.spec.security_group_ids);
    guard(&groups, held.as_ref(), &facts.groups)?;
    if let Some(held) = held {
        return Ok((Lease { groups, ..held }, vec![]));
    }
    let subnet = subnet_of(&launch.spec, &launch.placement.zone, &facts.subnets)?;
    let (cidr, subnet_id) = (subnet.cidr_block, subnet.subnet_id.as_str());
    let (block, slot) = match place_wanted(&launch.spec, subnet)? {
        Some(place) => wanted(subnet, place, &facts.blocks, moment.now)?,
        None => free(subnet, facts, moment.dice, moment.now)?,
    };
    let address = blocks::address(cidr, Place { block: block.number, slot });
    let ground = Ground { tenant, subnet_id, cidr };
    let writes = block.lease(&ground, slot, instance.as_str(), moment.now);
    Ok((Lease::new(instance, subnet_id, cidr, address, groups), writes))
}

/// Refuses groups that are too many, not there, or going. A group that goes stays for whoever has
/// it: its deletion is about to be refused.
fn guard(named: &[String], held: Option<&Lease>, found: &[Group]) -> Result<(), Reason> {
    if named.len() > GROUPS_PER_INTERFACE_MAX {
        let message = format!(
            "{} security groups are named: an interface has at most {GROUPS_PER_INTERFACE_MAX}",
            named.len()
        );
        return Err(Reason::new(TOO_MANY_GROUPS, message));
    }
    let is_held = |id: &String| held.is_some_and(|lease| lease.groups.contains(id));
    let is_there = |id: &&String| {
        found.iter().any(|group| group.group_id == **id && (!group.is_deleting || is_held(id)))
    };
    let missing: Vec<&str> = named.iter().filter(|id| !is_there(id)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("there is no security group {}", missing.join(", "));
    Err(Reason::new(code::GROUP_NOT_FOUND, message))
}

/// The subnet that a launch goes to: the one that it names, or its zone's default subnet.
pub(crate) fn subnet_of<'a>(
    spec: &LaunchSpec,
    zone: &str,
    subnets: &'a Subnets,
) -> Result<&'a Subnet, Reason> {
    let not_found = |message| Reason::new(code::SUBNET_NOT_FOUND, message);
    let Some(wanted) = &spec.subnet_id else {
        return subnets.default_of(zone).ok_or_else(|| {
            not_found(format!("zone {zone} has no default subnet: name a subnet of that zone"))
        });
    };
    let subnet = subnets
        .find(wanted)
        .ok_or_else(|| not_found(format!("there is no subnet {wanted}, or it is being deleted")))?;
    if subnet.zone != zone {
        return Err(not_found(format!(
            "the subnet {wanted} lies in zone {}, and the instance was placed in zone {zone}: ask \
             for both in one zone",
            subnet.zone
        )));
    }
    Ok(subnet)
}

/// Where the private address stands that the launch asks for, if it asks for one.
pub(crate) fn place_wanted(spec: &LaunchSpec, subnet: &Subnet) -> Result<Option<Place>, Reason> {
    let Some(wanted) = &spec.private_ip else { return Ok(None) };
    let (id, cidr) = (&subnet.subnet_id, subnet.cidr_block);
    let invalid = |message| Reason::new(code::INVALID_ADDRESS, message);
    let address: Ipv4Addr = wanted
        .parse()
        .map_err(|_| invalid(format!("`{wanted}` is not an IPv4 address such as 172.31.0.10")))?;
    if !cidr.contains(&address) {
        return Err(invalid(format!("{address} does not lie in the subnet {id}, which is {cidr}")));
    }
    let place = blocks::place_of(cidr, address).ok_or_else(|| {
        invalid(format!(
            "{address} is reserved: a subnet's first {} addresses and its last are never leased",
            blocks::FIRST_RESERVED
        ))
    })?;
    Ok(Some(place))
}

/// The block and the slot of the address that is wanted, if it is free.
pub(crate) fn wanted<'a>(
    subnet: &Subnet,
    place: Place,
    seen: &'a [Block],
    now: Millis,
) -> Result<(&'a Block, u32), Reason> {
    let address = blocks::address(subnet.cidr_block, place);
    let in_use = |message| Err(Reason::new(code::ADDRESS_IN_USE, message));
    let Some(block) = seen.iter().find(|block| block.number == place.block) else {
        return in_use(format!("{address} could not be looked at"));
    };
    match block.slot(place.slot, now) {
        Slot::Leased(owner) => in_use(format!("{address} is the address of {owner}")),
        Slot::Resting(until) => in_use(format!(
            "{address} was released a moment ago and rests until {}",
            moment_text(until)
        )),
        Slot::Free if block.is_closed() => Err(Reason::new(
            code::SUBNET_NOT_FOUND,
            format!("the subnet {} is being deleted", subnet.subnet_id),
        )),
        Slot::Free => Ok((block, place.slot)),
    }
}

/// A free slot at a random place of the first block that has one.
fn free<'a>(
    subnet: &Subnet,
    facts: &'a Facts,
    dice: &mut Dice,
    now: Millis,
) -> Result<(&'a Block, u32), Reason> {
    for block in &facts.blocks {
        let free = block.free(subnet.cidr_block, now);
        if !free.is_empty() {
            return Ok((block, free[dice.below(free.len())]));
        }
    }
    Err(Reason::new(code::INSUFFICIENT_ADDRESSES, full(subnet, facts, now)))
}

/// Why no address is free, with the numbers.
fn full(subnet: &Subnet, facts: &Facts, now: Millis) -> String {
    let cidr = subnet.cidr_block;
    let (mut leased, mut resting, mut unseen) = (0, vec![], 0);
    for number in 0..blocks::count(cidr) {
        match facts.blocks.iter().find(|block| block.number == number) {
            Some(block) => {
                leased += block.held().max(0) as u64;
                resting.extend(block.resting(cidr, now));
            }
            None if facts.is_full(number) => {
                leased += blocks::usable(cidr, number).len() as u64;
            }
            None => unseen += 1,
        }
    }
    let all = grouped(u64::from(blocks::usable_addresses(cidr)));
    let (leased, rest) = (grouped(leased), grouped(resting.len() as u64));
    let mut text = format!("{all} addresses: {leased} leased, {rest} resting");
    if let Some(first) = resting.iter().min() {
        text += &format!(", the first of these until {}", moment_text(*first));
    }
    if unseen > 0 {
        let addresses = blocks::BLOCK_SLOTS;
        text += &format!("; {unseen} blocks of {addresses} addresses were not looked at");
    }
    format!("the subnet {} has no free address; {text}", subnet.subnet_id)
}

/// A moment as people read it: RFC 3339.
fn moment_text(moment: Millis) -> String {
    jiff::Timestamp::from_millisecond(moment.0)
        .map_or_else(|_| format!("{} ms", moment.0), |time| time.to_string())
}

/// A number with a comma before every three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What is written to give back the address that the receipt holds: it rests, if it was held.
fn release(event: &Event, facts: &Facts, now: Millis) -> Vec<Write> {
    let Some(lease) = facts.receipt.as_ref().and_then(Lease::held) else { return vec![] };
    let Some(place) = blocks::place_of(lease.cidr, lease.address) else { return vec![] };
    let ground =
        Ground { tenant: &event.metadata.tenant, subnet_id: &lease.subnet_id, cidr: lease.cidr };
    let block = facts.blocks.iter().find(|block| block.number == place.block);
    let owner = event.metadata.subject.as_str();
    block.map_or_else(Vec::new, |block| block.release(&ground, place.slot, owner, now))
}

/// What the host is told: the lease, with the rules and routes as they are now.
fn configured(launch: &Launch, lease: &Lease, facts: &Facts) -> Data {
    let network = Network {
        rules: groups::compile(&facts.groups),
        routes: routes::compile(&facts.subnets, facts.table.as_ref()),
        ..lease.network()
    };
    Data::NetworkConfigured(NetworkConfigured { launch: launch.clone(), network })
}
