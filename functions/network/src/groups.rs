//! Security groups: who may reach an instance, and whom it may reach.
//!
//! Each rule is an attribute of its group's item, named by the rule itself: adding one that is
//! there and removing one that is not are conditions, and two people never undo each other's work.

use crate::claim::{corrupt, derived_id};
use eventplane_domain::{FirewallRule, Tenant};
use eventplane_engine::Fault;
use eventplane_store::{Condition, Item, ItemExt, Key, Update, Value, Write};

/// How many groups an interface may have.
///
/// Source: "Amazon VPC quotas", security groups per network interface.
pub const GROUPS_PER_INTERFACE_MAX: usize = 5;
/// How many rules a group may have in each direction.
///
/// Source: "Amazon VPC quotas", inbound or outbound rules per security group.
pub const RULES_PER_DIRECTION_MAX: i64 = 60;
/// The protocol that stands for all.
pub const ALL_PROTOCOLS: &str = "-1";
/// Everybody.
pub const ANYWHERE: &str = "0.0.0.0/0";
/// The name of a tenant's default group.
pub const DEFAULT_NAME: &str = "default";

pub(crate) const PREFIX: &str = "sg-";
const NAME: &str = "name";
const DESCRIPTION: &str = "description";
const INGRESS: &str = "in ";
const EGRESS: &str = "out ";
/// How many rules of each direction there are.
const INGRESS_COUNT: &str = "ingress";
const EGRESS_COUNT: &str = "egress";
/// Whose deletion of the group is under way.
const DELETING: &str = "deleting";

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `sg-` and 17 hex digits.
    pub group_id: String,
    /// Its name: no other group of the tenant has it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it allows.
    pub rules: Vec<FirewallRule>,
    /// Whether its deletion is under way: no launch takes it any more.
    pub is_deleting: bool,
}

/// Whether a text can be a group's id; what cannot is never read under.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.strip_prefix(PREFIX)
        .is_some_and(|digits| digits.len() == 17 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Where a group is kept.
#[must_use]
pub fn key(tenant: &Tenant, group_id: &str) -> Key {
    Key::new(crate::TABLE.name, tenant.partition("groups"), group_id)
}

/// Where it is kept which group has a name. Names that differ in upper and lower case alone are
/// the same.
///
/// Source: "CreateSecurityGroup", EC2 API reference.
#[must_use]
pub fn name_key(tenant: &Tenant, name: &str) -> Key {
    let sort = format!("name/{}", name.to_ascii_lowercase());
    Key::new(crate::TABLE.name, tenant.partition("groups"), sort)
}

/// The id of the tenant's default group.
#[must_use]
pub fn default_id(tenant: &Tenant) -> String {
    derived_id("sg", &format!("{tenant}/group/default"))
}

/// The groups of a launch: those that it names, each once, or the default group.
#[must_use]
pub fn of_launch(tenant: &Tenant, named: &[String]) -> Vec<String> {
    if named.is_empty() {
        return vec![default_id(tenant)];
    }
    let mut groups = named.to_vec();
    groups.sort();
    groups.dedup();
    groups
}

/// The attribute that a rule is.
fn attribute(rule: &FirewallRule) -> String {
    let direction = if rule.ingress { INGRESS } else { EGRESS };
    let ports = rule.ports.map_or("-".to_owned(), |(from, to)| format!("{from}-{to}"));
    format!("{direction}{} {ports} {}", rule.protocol, rule.peer)
}

fn rule_of(attribute: &str) -> Option<FirewallRule> {
    let (ingress, rest) = match attribute.strip_prefix(INGRESS) {
        Some(rest) => (true, rest),
        None => (false, attribute.strip_prefix(EGRESS)?),
    };
    let [protocol, ports, peer] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let ports = match ports {
        "-" => None,
        ports => {
            let (from, to) = ports.split_once('-')?;
            Some((from.parse().ok()?, to.parse().ok()?))
        }
    };
    Some(FirewallRule { ingress, protocol: protocol.to_owned(), ports, peer: peer.to_owned() })
}

impl Group {
    /// Reads the group that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one.
    pub fn read(group_id: &str, item: &Item) -> Result<Group, Fault> {
        let text =
            |name| item.text(name).ok_or_else(|| corrupt(format!("{group_id}: {:?}", item.keys())));
        Ok(Group {
            group_id: group_id.to_owned(),
            name: text(NAME)?.to_owned(),
            description: text(DESCRIPTION)?.to_owned(),
            rules: item.keys().filter_map(|name| rule_of(name)).collect(),
            is_deleting: is_going(item),
        })
    }

    /// The item of a group.
    fn item(&self) -> Item {
        let count = |ingress| self.rules.iter().filter(|rule| rule.ingress == ingress).count();
        let mut item = Item::new()
            .with(NAME, self.name.as_str())
            .with(DESCRIPTION, self.description.as_str())
            .with(INGRESS_COUNT, count(true) as i64)
            .with(EGRESS_COUNT, count(false) as i64);
        item.extend(self.rules.iter().map(|rule| (attribute(rule), Value::Bool(true))));
        item
    }

    /// Makes the group and claims its name: each fails if it is there.
    pub(crate) fn create(&self, tenant: &Tenant) -> [Write; 2] {
        let claim = Item::new().with("group", self.group_id.as_str());
        [
            Write::put(key(tenant, &self.group_id), self.item()).when(Condition::ItemAbsent),
            Write::put(name_key(tenant, &self.name), claim).when(Condition::ItemAbsent),
        ]
    }
}

/// The attribute that counts the rules of the rule's direction.
fn count(rule: &FirewallRule) -> &'static str {
    if rule.ingress { INGRESS_COUNT } else { EGRESS_COUNT }
}

/// Whether the item of a group has this very rule.
pub(crate) fn has(item: &Item, rule: &FirewallRule) -> bool {
    item.contains_key(&attribute(rule))
}

/// Whether the item of a group says that the group is going.
pub(crate) fn is_going(item: &Item) -> bool {
    item.contains_key(DELETING)
}

/// Adds the rule to its group, and makes sure that the group that it names is there and stays:
/// fails if the group is not there or going, has the rule, or has no room for it.
pub(crate) fn add_rule(tenant: &Tenant, group_id: &str, rule: &FirewallRule) -> Vec<Write> {
    let (name, count) = (attribute(rule), count(rule));
    let updates = vec![Update::set(&name, true), Update::add(count, 1)];
    let mut writes = vec![
        Write::update(key(tenant, group_id), updates)
            .when(Condition::ItemPresent)
            .when(Condition::absent(DELETING))
            .when(Condition::absent(name))
            .when(Condition::absent_or_at_most(count, RULES_PER_DIRECTION_MAX - 1)),
    ];
    if is_id(&rule.peer) && rule.peer != group_id {
        let check = Write::check(key(tenant, &rule.peer));
        writes.push(check.when(Condition::ItemPresent).when(Condition::absent(DELETING)));
    }
    writes
}

/// Removes the rule from its group: fails if the group does not have it.
pub(crate) fn remove_rule(tenant: &Tenant, group_id: &str, rule: &FirewallRule) -> Write {
    let name = attribute(rule);
    let updates = vec![Update::remove(&name), Update::add(count(rule), -1)];
    Write::update(key(tenant, group_id), updates).when(Condition::present(name))
}

/// Marks the group as going, whoever else has marked it so: fails if it is not there.
pub(crate) fn mark(tenant: &Tenant, group_id: &str, by: &str) -> Write {
    let updates = vec![Update::set(DELETING, by)];
    Write::update(key(tenant, group_id), updates).when(Condition::ItemPresent)
}

/// Takes back the mark of `by`: fails if it is not theirs any more.
pub(crate) fn unmark(tenant: &Tenant, group_id: &str, by: &str) -> Write {
    let updates = vec![Update::remove(DELETING)];
    Write::update(key(tenant, group_id), updates).when(Condition::equals(DELETING, by))
}

/// Deletes the group that `by` has marked, and frees its name: fails if the mark is not theirs.
pub(crate) fn delete(tenant: &Tenant, group: &Group, by: &str) -> Vec<Write> {
    let marked = Condition::equals(DELETING, by);
    vec![
        Write::delete(key(tenant, &group.group_id)).when(marked),
        Write::delete(name_key(tenant, &group.name)),
    ]
}

/// The allowance of everything out, which every new group begins with.
///
/// Source: "AWS::EC2::SecurityGroup", CloudFormation template reference.
pub(crate) fn everything_out() -> FirewallRule {
    everything(false, ANYWHERE)
}

/// The allowance of everything, in one direction.
fn everything(ingress: bool, peer: &str) -> FirewallRule {
    let (protocol, peer) = (ALL_PROTOCOLS.to_owned(), peer.to_owned());
    FirewallRule { ingress, protocol, ports: None, peer }
}

/// Makes the default group: everything from its own members, and everything out.
///
/// Source: "Default security groups for your VPCs", Amazon VPC user guide.
pub(crate) fn seed(tenant: &Tenant) -> [Write; 2] {
    let group_id = default_id(tenant);
    let rules = vec![everything(true, &group_id), everything_out()];
    let description = "default security group".to_owned();
    Group { group_id, name: DEFAULT_NAME.to_owned(), description, rules, is_deleting: false }
        .create(tenant)
}

/// The rules of all these groups, sorted, each once.
#[must_use]
pub fn compile(groups: &[Group]) -> Vec<FirewallRule> {
    let mut rules: Vec<_> = groups.iter().flat_map(|group| group.rules.iter().cloned()).collect();
    rules.sort();
    rules.dedup();
    rules
}
