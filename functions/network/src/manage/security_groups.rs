//! Security groups and their rules, as people manage them.

use super::{
    CANNOT_DELETE, DEPENDENCY, INCORRECT_STATE, INVALID_VALUE, PAGE_ITEMS, TRIES_MAX, all,
    check_id, cidr, contended, fresh_id, partition, quoted, subnets, token, write,
};
use crate::claim::Lease;
use crate::groups::{
    self, ALL_PROTOCOLS, Group, PREFIX, RULES_PER_DIRECTION_MAX, default_id, everything_out, key,
};
use crate::receipt_key;
use eventplane_domain::{FirewallRule, InstanceId, Reason, Tenant};
use eventplane_engine::{Fault, Ports, Receipt};
use eventplane_store::{Failed, Store};
use serde::{Deserialize, Serialize};

const MALFORMED: &str = "InvalidGroupId.Malformed";
const NOT_FOUND: &str = "InvalidGroup.NotFound";
const DUPLICATE: &str = "InvalidGroup.Duplicate";
const RULE_DUPLICATE: &str = "InvalidPermission.Duplicate";
const RULE_MALFORMED: &str = "InvalidPermission.Malformed";
const NO_RULE: &str = "InvalidPermission.NotFound";
const LIMIT: &str = "RulesPerSecurityGroupLimitExceeded";
/// The longest name and description.
///
/// Source: "CreateSecurityGroup", EC2 API reference.
const TEXT_LENGTH_MAX: usize = 255;

/// A request for a security group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// Its name: up to 255 letters, digits, spaces and `._-:/()#,@[]+=&;{}!$*`, not beginning
    /// with `sg-`. No other group has it.
    pub name: String,
    /// What it is for: of the same characters.
    #[serde(default)]
    pub description: String,
}

/// Into an instance, or out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the instance.
    Ingress,
    /// Out of it.
    Egress,
}

/// One allowance of a group: in a request and in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Into the instance, or out of it.
    pub direction: Direction,
    /// `tcp`, `udp`, `icmp`, or `-1` for all.
    pub protocol: String,
    /// The first port, 0 to 65535: with `tcp` and `udp`, and only with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_port: Option<u16>,
    /// The last port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<u16>,
    /// Who: an IPv4 block, or the id of a security group.
    pub peer: String,
}

/// A security group, as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupView {
    /// `sg-` and 17 hex digits.
    pub group_id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether launches that name no group get it.
    pub default: bool,
    /// What it allows. Instances are told of a change with their next generation.
    pub rules: Vec<Rule>,
}

impl GroupView {
    fn of(group: Group, tenant: &Tenant) -> Self {
        GroupView {
            default: group.group_id == default_id(tenant),
            rules: group.rules.into_iter().map(Rule::of).collect(),
            group_id: group.group_id,
            name: group.name,
            description: group.description,
        }
    }
}

impl Rule {
    fn of(rule: FirewallRule) -> Self {
        Rule {
            direction: if rule.ingress { Direction::Ingress } else { Direction::Egress },
            protocol: rule.protocol,
            from_port: rule.ports.map(|(from, _)| from),
            to_port: rule.ports.map(|(_, to)| to),
            peer: rule.peer,
        }
    }

    /// The rule as a host enforces it.
    ///
    /// # Errors
    /// A refusal that says what would be right.
    fn checked(&self) -> Result<FirewallRule, Reason> {
        let malformed = |message: String| Err(Reason::new(RULE_MALFORMED, message));
        let ports = match (self.protocol.as_str(), self.from_port, self.to_port) {
            ("tcp" | "udp", Some(from), Some(to)) if from <= to => Some((from, to)),
            ("tcp" | "udp", _, _) => {
                return malformed(format!(
                    "{} needs `from_port` and `to_port`, the first not above the second",
                    self.protocol
                ));
            }
            ("icmp" | ALL_PROTOCOLS, None, None) => None,
            ("icmp" | ALL_PROTOCOLS, _, _) => {
                return malformed(format!("{} has no ports: leave them out", self.protocol));
            }
            (other, _, _) => {
                return malformed(format!(
                    "`protocol`: {} is not tcp, udp, icmp or -1",
                    quoted(other)
                ));
            }
        };
        let peer = if self.peer.starts_with(PREFIX) {
            check_id(&self.peer, PREFIX, MALFORMED)?;
            self.peer.clone()
        } else {
            cidr(&self.peer, "peer")?.to_string()
        };
        let ingress = self.direction == Direction::Ingress;
        Ok(FirewallRule { ingress, protocol: self.protocol.clone(), ports, peer })
    }
}

/// All security groups of the tenant, in the order of their ids.
///
/// # Errors
/// A fault of the store.
pub async fn list(store: &dyn Store, tenant: &Tenant) -> Result<Vec<GroupView>, Fault> {
    let groups = read_all(store, tenant).await?;
    Ok(groups.into_iter().map(|group| GroupView::of(group, tenant)).collect())
}

async fn read_all(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Group>, Fault> {
    let items = all(store, partition(tenant.partition("groups"), PREFIX)).await?;
    items.iter().map(|(key, item)| Group::read(&key.sort, item)).collect()
}

async fn read(store: &dyn Store, tenant: &Tenant, group_id: &str) -> Result<Option<Group>, Fault> {
    let item = store.get(&key(tenant, group_id)).await?;
    item.map(|item| Group::read(group_id, &item)).transpose()
}

/// One security group.
///
/// # Errors
/// A refusal when there is no such group (inner), or a fault of the store.
pub async fn get(
    store: &dyn Store,
    tenant: &Tenant,
    group_id: &str,
) -> Result<Result<GroupView, Reason>, Fault> {
    if let Err(reason) = check_id(group_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    let group = read(store, tenant, group_id).await?;
    Ok(group.map(|group| GroupView::of(group, tenant)).ok_or_else(|| not_found(group_id)))
}

/// Makes a security group that allows nothing in and everything out.
///
/// # Errors
/// A refusal when the request is not possible (inner), or a fault of the store.
pub async fn create(
    ports: &Ports,
    tenant: &Tenant,
    request: &CreateGroup,
) -> Result<Result<GroupView, Reason>, Fault> {
    if let Err(reason) = check_texts(request) {
        return Ok(Err(reason));
    }
    for _ in 0..TRIES_MAX {
        let group = Group {
            group_id: fresh_id(ports, PREFIX),
            name: request.name.clone(),
            description: request.description.clone(),
            rules: vec![everything_out()],
            is_deleting: false,
        };
        match write(&*ports.store, group.create(tenant).to_vec()).await? {
            Ok(()) => return Ok(Ok(GroupView::of(group, tenant))),
            Err(failed) if failed.iter().any(|failed| failed.index == 1) => {
                let message = format!("there is a security group called {}", quoted(&group.name));
                return Ok(Err(Reason::new(DUPLICATE, message)));
            }
            Err(_) => {}
        }
    }
    Err(contended(&key(tenant, PREFIX)))
}

fn check_texts(request: &CreateGroup) -> Result<(), Reason> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=&;{}!$*".contains(&b);
    let right = "letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*";
    for (field, text) in [("name", &request.name), ("description", &request.description)] {
        if text.len() > TEXT_LENGTH_MAX || !text.bytes().all(is_good) {
            let message =
                format!("`{field}`: {} is not up to {TEXT_LENGTH_MAX} {right}", quoted(text));
            return Err(Reason::new(INVALID_VALUE, message));
        }
    }
    if request.name.trim().is_empty() || request.name.starts_with(PREFIX) {
        let message =
            format!("`name` is 1 to {TEXT_LENGTH_MAX} {right}, not beginning with {PREFIX}");
        return Err(Reason::new(INVALID_VALUE, message));
    }
    Ok(())
}

/// Adds a rule. It may name a group that is there; from then on that group cannot be deleted.
///
/// # Errors
/// A refusal when there is no such group, it has the rule, or it is full (inner), or a fault of
/// the store.
pub async fn add_rule(
    store: &dyn Store,
    tenant: &Tenant,
    group_id: &str,
    rule: &Rule,
) -> Result<Result<GroupView, Reason>, Fault> {
    let checked = check_id(group_id, PREFIX, MALFORMED).and_then(|()| rule.checked());
    let rule = match checked {
        Ok(rule) => rule,
        Err(reason) => return Ok(Err(reason)),
    };
    match write(store, groups::add_rule(tenant, group_id, &rule)).await? {
        Ok(()) => get(store, tenant, group_id).await,
        Err(failed) => Ok(Err(why_not_added(group_id, &rule, &failed))),
    }
}

fn why_not_added(group_id: &str, rule: &FirewallRule, failed: &[Failed]) -> Reason {
    match failed.iter().find(|failed| failed.index == 0).map(|failed| failed.item.as_ref()) {
        None => not_found(&rule.peer),
        Some(None) => not_found(group_id),
        Some(Some(item)) if groups::is_going(item) => going(group_id),
        Some(Some(item)) if groups::has(item, rule) => {
            Reason::new(RULE_DUPLICATE, format!("the security group {group_id} has this rule"))
        }
        Some(Some(_)) => {
            let message = format!(
                "the security group {group_id} has {RULES_PER_DIRECTION_MAX} rules of this \
                 direction: remove one first"
            );
            Reason::new(LIMIT, message)
        }
    }
}

/// Removes a rule.
///
/// # Errors
/// A refusal when there is no such group or it has no such rule (inner), or a fault of the store.
pub async fn remove_rule(
    store: &dyn Store,
    tenant: &Tenant,
    group_id: &str,
    rule: &Rule,
) -> Result<Result<GroupView, Reason>, Fault> {
    let checked = check_id(group_id, PREFIX, MALFORMED).and_then(|()| rule.checked());
    let rule = match checked {
        Ok(rule) => rule,
        Err(reason) => return Ok(Err(reason)),
    };
    match write(store, vec![groups::remove_rule(tenant, group_id, &rule)]).await? {
        Ok(()) => get(store, tenant, group_id).await,
        Err(failed) if failed[0].item.is_none() => Ok(Err(not_found(group_id))),
        Err(_) => {
            let message = format!("the security group {group_id} has no such rule");
            Ok(Err(Reason::new(NO_RULE, message)))
        }
    }
}

/// Deletes a group that nobody uses: no rule of another group names it, and no instance that has
/// an address, a stopped one too, is guarded by it. The default group stays.
///
/// The group is marked first, so that no launch and no rule takes it any more, and then all groups
/// and all leases of the tenant are read: nothing is counted at each launch, and a deletion costs
/// a read per block of addresses and one per lease. The limit of this: a launch that looked at the
/// group before the mark and is written after its address was passed in the reading keeps the
/// group in its receipt; its host has been told the rules, and its next generation is refused. A
/// deletion that was cut short leaves the mark: the next one ends it, one way or the other.
///
/// # Errors
/// A refusal when there is no such group or it is used (inner), or a fault of the store.
pub async fn delete(
    ports: &Ports,
    tenant: &Tenant,
    group_id: &str,
) -> Result<Result<(), Reason>, Fault> {
    if let Err(reason) = check_id(group_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    if group_id == default_id(tenant) {
        let message = format!("{group_id} is the default security group: it stays");
        return Ok(Err(Reason::new(CANNOT_DELETE, message)));
    }
    let (store, by) = (&*ports.store, token(ports));
    if write(store, vec![groups::mark(tenant, group_id, &by)]).await?.is_err() {
        return Ok(Err(not_found(group_id)));
    }
    let all = read_all(store, tenant).await?;
    let Some(group) = all.iter().find(|group| group.group_id == group_id) else {
        return Ok(Err(not_found(group_id)));
    };
    if let Some(reason) = in_use(store, tenant, group_id, &all).await? {
        // Whoever took the mark over decides; a mark that is gone needs no taking back.
        let _ = write(store, vec![groups::unmark(tenant, group_id, &by)]).await?;
        return Ok(Err(reason));
    }
    let deleted = write(store, groups::delete(tenant, group, &by)).await?;
    Ok(deleted.map_err(|_| going(group_id)))
}

/// Why the group cannot go, if it cannot.
async fn in_use(
    store: &dyn Store,
    tenant: &Tenant,
    group_id: &str,
    all: &[Group],
) -> Result<Option<Reason>, Fault> {
    let names = |group: &&Group| {
        group.group_id != group_id && group.rules.iter().any(|rule| rule.peer == group_id)
    };
    if let Some(other) = all.iter().find(names) {
        let message = format!("a rule of the security group {} names it", other.group_id);
        return Ok(Some(Reason::new(DEPENDENCY, message)));
    }
    let subnets = subnets::read(store, tenant).await?;
    for subnet in &subnets.all {
        let blocks = subnets::read_blocks(store, tenant, subnet).await?;
        let owners: Vec<String> = blocks.iter().flat_map(|block| block.owners()).collect();
        for owners in owners.chunks(PAGE_ITEMS) {
            if let Some(owner) = guarded(store, tenant, group_id, owners).await? {
                let message = format!("it guards the instance {owner}: terminate it first");
                return Ok(Some(Reason::new(DEPENDENCY, message)));
            }
        }
    }
    Ok(None)
}

/// The first of these instances that the group guards.
async fn guarded<'a>(
    store: &dyn Store,
    tenant: &Tenant,
    group_id: &str,
    owners: &'a [String],
) -> Result<Option<&'a String>, Fault> {
    let instances: Vec<(&String, InstanceId)> =
        owners.iter().filter_map(|owner| Some((owner, InstanceId::parse(owner).ok()?))).collect();
    let keys: Vec<_> = instances.iter().map(|(_, id)| receipt_key(tenant, id)).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    let items = store.batch_get(&keys).await?;
    for ((owner, _), item) in instances.into_iter().zip(items) {
        let lease = Receipt::read(item.as_ref())?.as_ref().and_then(Lease::held);
        if lease.is_some_and(|lease| lease.groups.iter().any(|group| group == group_id)) {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

fn not_found(group_id: &str) -> Reason {
    Reason::new(NOT_FOUND, format!("there is no security group {group_id}"))
}

fn going(group_id: &str) -> Reason {
    let message = format!("a deletion of the security group {group_id} is under way");
    Reason::new(INCORRECT_STATE, message)
}
