//! Whether the ledger balances: pure, over what was read.

use super::read::{Pot, Reading, Who};
use eventplane_capacity::fleet::Sizes;
use eventplane_capacity::ledger as capacity;
use eventplane_domain::{HostId, InstanceId, State, Tenant, Volume};
use eventplane_engine::Fault;
use eventplane_network::ledger as network;
use eventplane_storage::ledger as storage;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many owners an imbalance names.
const OWNERS_MAX: usize = 20;

/// Who holds something: an open entry's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The tenant.
    pub tenant: Tenant,
    /// The instance; of a volume that outlived it, the one that it was of.
    pub instance_id: InstanceId,
    /// The generation of the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The instance's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The volume, if it is one that outlived its instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<String>,
}

/// Something that does not balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imbalance {
    /// `host`, `addresses`, `pool`, or `instance`.
    pub what: &'static str,
    /// Which one.
    pub id: String,
    /// What is wrong, with the numbers.
    pub message: String,
    /// Who holds something of it.
    pub owners: Vec<Owner>,
    #[serde(skip)]
    pub(super) of: Of,
}

/// What has to be read again before it is said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Pot(Pot),
    Account(Who),
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.id, self.message)
    }
}

/// What receipts hold of what.
#[derive(Default)]
struct Claims {
    room: BTreeMap<HostId, Vec<(Who, Sizes)>>,
    addresses: BTreeMap<network::At, Vec<(u32, Who)>>,
    volumes: BTreeMap<String, BTreeMap<String, (Owner, Volume)>>,
    unreadable: Vec<Imbalance>,
}

/// Everything that does not balance: free and held has to be total on every host and in every
/// shard, every lease held by a receipt and every address that a receipt holds leased to it, and
/// whoever is terminated has to hold nothing.
#[must_use]
pub fn balance(reading: &Reading) -> Vec<Imbalance> {
    let mut claims = claims(reading);
    let mut all = std::mem::take(&mut claims.unreadable);
    all.extend(hosts(reading, &claims));
    all.extend(blocks(reading, &claims));
    all.extend(shards(reading, &claims));
    all.extend(reading.accounts.keys().filter_map(|who| ended(reading, who)));
    all
}

fn claims(reading: &Reading) -> Claims {
    let mut claims = Claims::default();
    for (who, account) in &reading.accounts {
        let [room, address, volumes, _] = &account.receipts;
        let mut unreadable = |fault: Fault| {
            let message = format!("what its receipt holds cannot be read: {fault}");
            let imbalance = of_account(reading, who, message);
            claims.unreadable.push(imbalance);
        };
        match room.as_ref().map(capacity::held_by).transpose() {
            Ok(held) => {
                if let Some((host, room)) = held.flatten() {
                    claims.room.entry(host).or_default().push((who.clone(), room));
                }
            }
            Err(fault) => unreadable(fault),
        }
        match address.as_ref().map(|receipt| network::held_by(&who.0, receipt)).transpose() {
            Ok(held) => {
                if let Some(held) = held.flatten() {
                    let of_block = claims.addresses.entry(held.at).or_default();
                    of_block.push((held.slot, who.clone()));
                }
            }
            Err(fault) => unreadable(fault),
        }
        match volumes.as_ref().map(storage::held_by).transpose() {
            Ok(held) => {
                for volume in held.unwrap_or_default() {
                    let of_shard = claims.volumes.entry(volume.pool.clone()).or_default();
                    let owner = owner(reading, who, 2);
                    of_shard.insert(volume.volume_id.clone(), (owner, volume));
                }
            }
            Err(fault) => unreadable(fault),
        }
    }
    for (id, (tenant, kept)) in &reading.kept {
        let of_shard = claims.volumes.entry(kept.volume.pool.clone()).or_default();
        let owner = Owner {
            tenant: tenant.clone(),
            instance_id: kept.instance.clone(),
            generation: None,
            state: None,
            volume_id: Some(id.clone()),
        };
        // One that has just become detached may have been read in its receipt too.
        of_shard.entry(id.clone()).or_insert((owner, kept.volume.clone()));
    }
    claims
}

/// The owner of what the receipt at this place of the account holds.
pub(super) fn owner(reading: &Reading, who: &Who, receipt: usize) -> Owner {
    let account = reading.accounts.get(who);
    let receipt = account.and_then(|account| account.receipts[receipt].as_ref());
    Owner {
        tenant: who.0.clone(),
        instance_id: who.1.clone(),
        generation: receipt.map(|receipt| receipt.generation),
        state: account.map(|account| account.record.progress.state),
        volume_id: None,
    }
}

fn imbalance(
    what: &'static str,
    of: Of,
    id: String,
    message: String,
    owners: Vec<Owner>,
) -> Imbalance {
    let owners = owners.into_iter().take(OWNERS_MAX).collect();
    Imbalance { what, id, message, owners, of }
}

fn of_account(reading: &Reading, who: &Who, message: String) -> Imbalance {
    let owners = vec![owner(reading, who, 0)];
    imbalance("instance", Of::Account(who.clone()), who.1.to_string(), message, owners)
}

/// "2 vCPUs are neither free nor held by a receipt", or what else is off.
fn told(unit: &str, total: i64, free: i64, held: i64, by: &str) -> String {
    let lost = total - free - held;
    let what = match lost {
        0 => format!("{} {unit} more are taken than there are", -free),
        1.. => format!("{lost} {unit} are neither free nor held by a {by}"),
        _ => format!("{} {unit} are held by a {by} and free as well", -lost),
    };
    format!("{what} ({free} free and {held} held of {total})")
}

fn hosts(reading: &Reading, claims: &Claims) -> Vec<Imbalance> {
    let mut all = Vec::new();
    for (id, host) in &reading.pots.hosts {
        let held = claims.room.get(id).map(Vec::as_slice).unwrap_or_default();
        let off = capacity::differences(host, held.iter().map(|(_, room)| *room));
        if off.is_empty() {
            continue;
        }
        let parts = off.iter().map(|one| told(one.unit, one.total, one.free, one.held, "receipt"));
        let message = parts.collect::<Vec<_>>().join("; ");
        let owners = held.iter().map(|(who, _)| owner(reading, who, 0)).collect();
        let of = Of::Pot(Pot::Host(id.clone()));
        all.push(imbalance("host", of, id.to_string(), message, owners));
    }
    for (id, held) in &claims.room {
        if !reading.pots.hosts.contains_key(id) {
            let message = "there is no such host, and receipts hold room of it".to_owned();
            let owners = held.iter().map(|(who, _)| owner(reading, who, 0)).collect();
            all.push(imbalance(
                "host",
                Of::Pot(Pot::Host(id.clone())),
                id.to_string(),
                message,
                owners,
            ));
        }
    }
    all
}

fn blocks(reading: &Reading, claims: &Claims) -> Vec<Imbalance> {
    let mut all = Vec::new();
    for (at, stands) in &reading.pots.blocks {
        let held = claims.addresses.get(at).map(Vec::as_slice).unwrap_or_default();
        let slots: Vec<(u32, &str)> =
            held.iter().map(|(slot, who)| (*slot, who.1.as_str())).collect();
        for difference in stands.differences(&slots) {
            let (message, owners) = off_by(reading, at, &difference);
            let of = Of::Pot(Pot::Block(at.clone()));
            all.push(imbalance("addresses", of, block_id(at), message, owners));
        }
    }
    for (at, held) in &claims.addresses {
        if !reading.pots.blocks.contains_key(at) {
            let slots: Vec<String> = held.iter().map(|(slot, _)| slot.to_string()).collect();
            let message = format!(
                "receipts hold the slots {}, and nothing is leased there",
                slots.join(", ")
            );
            let owners = held.iter().map(|(_, who)| owner(reading, who, 1)).collect();
            let of = Of::Pot(Pot::Block(at.clone()));
            all.push(imbalance("addresses", of, block_id(at), message, owners));
        }
    }
    all
}

/// How people call a block of addresses.
pub(super) fn block_id(at: &network::At) -> String {
    format!("{} block {}", at.subnet_id, at.block)
}

fn off_by(
    reading: &Reading,
    at: &network::At,
    difference: &network::Difference,
) -> (String, Vec<Owner>) {
    use network::Difference;
    let who = |id: &str| InstanceId::parse(id).ok().map(|id| (at.tenant.clone(), id));
    let owners = |ids: &[&str]| {
        let known = ids.iter().filter_map(|id| who(id));
        known.map(|who| owner(reading, &who, 1)).collect()
    };
    match difference {
        Difference::NotHeld { slot, address, owner } => {
            let message = format!(
                "slot {slot} ({address}) is leased to {owner}, whose receipt does not hold it"
            );
            (message, owners(&[owner]))
        }
        Difference::NotLeased { slot, address, holder, owner } => {
            let leased = match owner {
                Some(owner) => format!("is leased to {owner}"),
                None => "is leased to nobody".to_owned(),
            };
            let message =
                format!("slot {slot} ({address}) {leased}, and the receipt of {holder} holds it");
            let both: Vec<&str> =
                [Some(holder), owner.as_ref()].into_iter().flatten().map(String::as_str).collect();
            (message, owners(&both))
        }
        Difference::Miscounted { counts, leased } => {
            (format!("it counts {counts} leases, and has {leased}"), vec![])
        }
    }
}

fn shards(reading: &Reading, claims: &Claims) -> Vec<Imbalance> {
    let mut all = Vec::new();
    for (name, stands) in &reading.pots.shards {
        let none = BTreeMap::new();
        let held = claims.volumes.get(name).unwrap_or(&none);
        let off = stands.differences(held.values().map(|(_, volume)| volume));
        if off.is_empty() {
            continue;
        }
        let parts = off.iter().map(|one| told(one.unit, one.total, one.free, one.held, "volume"));
        let message = parts.collect::<Vec<_>>().join("; ");
        let owners = held.values().map(|(owner, _)| owner.clone()).collect();
        let of = Of::Pot(Pot::Shard(name.clone()));
        all.push(imbalance("pool", of, name.clone(), message, owners));
    }
    for (name, held) in &claims.volumes {
        if !reading.pots.shards.contains_key(name) {
            let volumes: Vec<&str> = held.keys().map(String::as_str).collect();
            let message = format!("there is no such pool, and it has {}", volumes.join(", "));
            let owners = held.values().map(|(owner, _)| owner.clone()).collect();
            all.push(imbalance(
                "pool",
                Of::Pot(Pot::Shard(name.clone())),
                name.clone(),
                message,
                owners,
            ));
        }
    }
    all
}

/// What an instance holds that is terminated.
fn ended(reading: &Reading, who: &Who) -> Option<Imbalance> {
    let account = &reading.accounts[who];
    if account.record.progress.state != State::Terminated {
        return None;
    }
    let mut held = held_by(account);
    let mine =
        reading.assignments.iter().filter(|(_, tenant, id)| (tenant, id) == (&who.0, &who.1));
    held.extend(mine.map(|(host, ..)| format!("an assignment of {host}")));
    if held.is_empty() {
        return None;
    }
    let message = format!("it is terminated and holds {}", held.join(", "));
    Some(of_account(reading, who, message))
}

/// What an account's receipts hold, in words; what cannot be read is told elsewhere.
fn held_by(account: &super::Account) -> Vec<String> {
    super::entries::held(account).into_iter().map(|held| held.words).collect()
}

/// The pots that the account holds something of.
pub(super) fn pots_of(account: &super::Account, tenant: &Tenant) -> BTreeSet<Pot> {
    let [room, address, volumes, _] = &account.receipts;
    let host = room.as_ref().and_then(|receipt| capacity::held_by(receipt).ok().flatten());
    let lease =
        address.as_ref().and_then(|receipt| network::held_by(tenant, receipt).ok().flatten());
    let volumes = volumes.as_ref().and_then(|receipt| storage::held_by(receipt).ok());
    let mut pots: BTreeSet<Pot> = host.map(|(id, _)| Pot::Host(id)).into_iter().collect();
    pots.extend(lease.map(|held| Pot::Block(held.at)));
    pots.extend(volumes.into_iter().flatten().map(|volume| Pot::Shard(volume.pool)));
    pots
}
