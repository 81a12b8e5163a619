//! Subnets: where a tenant's addresses lie, in which zone.
//!
//! All subnets of a tenant stand in one item, each an attribute of its own: a launch reads them
//! with its receipt, and two that overlap cannot come into being side by side, because whoever
//! adds one names the version that it has compared with.

use crate::claim::{corrupt, derived_id};
use eventplane_domain::Tenant;
use eventplane_engine::Fault;
use eventplane_store::{Action, Condition, Item, ItemExt, Key, Update, Value, Write};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The addresses that are kept for default subnets, one [`DEFAULT_PREFIX`] per zone.
///
/// Source: "Default VPC components", Amazon VPC user guide.
pub const DEFAULT_SPACE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 0, 0), 16);
/// The size of a default subnet: 4,096 addresses.
pub const DEFAULT_PREFIX: u8 = 20;
/// How many zones can have a default subnet.
pub const DEFAULT_ZONES_MAX: usize = 16;

/// How many subnets a tenant may have.
///
/// Source: "Amazon VPC quotas", subnets per VPC.
pub const SUBNETS_MAX: usize = 200;

pub(crate) const PREFIX: &str = "subnet-";
const VERSION: &str = "version";

/// A subnet, as the api shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// `subnet-` and 17 hex digits.
    pub subnet_id: String,
    /// Where it lies.
    pub zone: String,
    /// Its addresses.
    pub cidr_block: Ipv4Net,
    /// Its route table.
    pub route_table_id: String,
    /// Whether launches that name no subnet go here.
    pub default_for_zone: bool,
    /// Whose deletion of it is under way, if one is: no launch goes here any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<String>,
}

/// All subnets of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subnets {
    /// Rises with every subnet that is added.
    pub version: i64,
    /// In the order of their ids.
    pub all: Vec<Subnet>,
}

impl Subnets {
    /// Reads them.
    ///
    /// # Errors
    /// A fault when what is stored is something else.
    pub fn read(item: Option<&Item>) -> Result<Subnets, Fault> {
        Subnets::read_those(item, |name| name.starts_with(PREFIX))
    }

    /// Reads the one of that id alone, if it is there: a launch has no use for the others.
    ///
    /// # Errors
    /// A fault when what is stored is something else.
    pub fn read_one(item: Option<&Item>, subnet_id: &str) -> Result<Subnets, Fault> {
        Subnets::read_those(item, |name| name == subnet_id && name.starts_with(PREFIX))
    }

    fn read_those(item: Option<&Item>, is_one: impl Fn(&str) -> bool) -> Result<Subnets, Fault> {
        let Some(item) = item else { return Ok(Subnets::default()) };
        let read = |(name, value): (&String, &Value)| match value {
            Value::S(json) => serde_json::from_str(json)
                .map_err(|error| corrupt(format!("the subnet {name} is unreadable: {error}"))),
            other => Err(corrupt(format!("the subnet {name} is {other:?}"))),
        };
        let all = item.iter().filter(|(name, _)| is_one(name)).map(read);
        Ok(Subnets {
            version: item.number(VERSION).unwrap_or(0),
            all: all.collect::<Result<_, _>>()?,
        })
    }

    /// Holds while no subnet was added since they were read.
    pub(crate) fn unchanged(&self) -> Condition {
        match self.version {
            0 => Condition::absent(VERSION),
            version => Condition::equals(VERSION, version),
        }
    }

    /// A subnet that shares addresses with `cidr`.
    #[must_use]
    pub fn overlapping(&self, cidr: Ipv4Net) -> Option<&Subnet> {
        let meets = |other: Ipv4Net| other.contains(&cidr) || cidr.contains(&other);
        self.all.iter().find(|subnet| meets(subnet.cidr_block))
    }

    /// The subnet of that id, unless it is going.
    #[must_use]
    pub fn find(&self, subnet_id: &str) -> Option<&Subnet> {
        self.all.iter().find(|subnet| subnet.subnet_id == subnet_id && subnet.deleting.is_none())
    }

    /// The subnet of that id, going or not.
    #[must_use]
    pub fn find_any(&self, subnet_id: &str) -> Option<&Subnet> {
        self.all.iter().find(|subnet| subnet.subnet_id == subnet_id)
    }

    /// Where a launch into `zone` goes that names no subnet.
    #[must_use]
    pub fn default_of(&self, zone: &str) -> Option<&Subnet> {
        self.all.iter().find(|subnet| {
            subnet.default_for_zone && subnet.zone == zone && subnet.deleting.is_none()
        })
    }
}

/// Where a tenant's subnets are kept.
#[must_use]
pub fn key(tenant: &Tenant) -> Key {
    Key::new(crate::TABLE.name, tenant.partition("subnets"), "all")
}

/// The id of the tenant's default subnet in `zone`.
#[must_use]
pub fn default_id(tenant: &Tenant, zone: &str) -> String {
    derived_id("subnet", &format!("{tenant}/subnet/{zone}"))
}

pub(crate) fn stored(subnet: &Subnet) -> Value {
    Value::S(serde_json::to_string(subnet).expect("a subnet is plain data"))
}

/// Which zones had a default subnet made, by the place of its addresses in [`DEFAULT_SPACE`]. A
/// place stays its zone's when the subnet is deleted: nobody makes the subnet again.
fn seeded(item: Option<&Item>, place: usize) -> Option<&str> {
    item?.text(&format!("d{place}"))
}

/// Makes the zone's default subnet at the first place that is free; `None` if the zone has had
/// one, or if no place is left. Fails if anything was added meanwhile.
///
/// # Errors
/// A fault when what is stored is something else.
pub(crate) fn seed(
    tenant: &Tenant,
    zone: &str,
    item: Option<&Item>,
) -> Result<Option<Write>, Fault> {
    let subnets = Subnets::read(item)?;
    let places = 0..DEFAULT_ZONES_MAX;
    if places.clone().any(|place| seeded(item, place) == Some(zone)) {
        return Ok(None);
    }
    let spaces = DEFAULT_SPACE.subnets(DEFAULT_PREFIX).expect("a longer prefix than the space's");
    let is_free = |(place, cidr): &(usize, Ipv4Net)| {
        seeded(item, *place).is_none() && subnets.overlapping(*cidr).is_none()
    };
    let Some((place, cidr_block)) = places.zip(spaces).find(is_free) else { return Ok(None) };
    let subnet = Subnet {
        subnet_id: default_id(tenant, zone),
        zone: zone.to_owned(),
        cidr_block,
        route_table_id: crate::routes::main_id(tenant),
        default_for_zone: true,
        deleting: None,
    };
    let mut write = add(tenant, &subnets, &subnet);
    if let Action::Update(updates) = &mut write.action {
        updates.push(Update::set(format!("d{place}"), zone));
    }
    Ok(Some(write))
}

/// Adds a subnet to those that were read; fails if another was added meanwhile.
pub(crate) fn add(tenant: &Tenant, seen: &Subnets, subnet: &Subnet) -> Write {
    let updates = vec![Update::set(&subnet.subnet_id, stored(subnet)), Update::add(VERSION, 1)];
    Write::update(key(tenant), updates).when(seen.unchanged())
}

/// Changes a subnet, or removes it; fails if it is not as it was seen.
pub(crate) fn change(tenant: &Tenant, id: &str, seen: &Value, to: Option<&Subnet>) -> Write {
    let update = to.map_or_else(|| Update::remove(id), |subnet| Update::set(id, stored(subnet)));
    Write::update(key(tenant), vec![update]).when(Condition::equals(id, seen.clone()))
}
