//! What a tenant has of everything that has a quota: one item, the only counter that is shared on
//! purpose. It grows in the transaction that writes the records, and shrinks in the one that writes
//! `terminated`: never in a request of its own, so that it cannot be wrong.

use crate::TABLE;
use eventplane_domain::{LaunchSpec, Tenant};
use eventplane_store::{Condition, Item, ItemExt, Key, Update, Write};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Counted {
    Instances,
    Vcpus,
    /// Private addresses, each with its network interface.
    Addresses,
    Volumes,
    /// The size of all volumes, in GiB.
    VolumeGib,
}

impl Counted {
    /// All that is counted.
    pub const ALL: [Counted; 5] = [
        Counted::Instances,
        Counted::Vcpus,
        Counted::Addresses,
        Counted::Volumes,
        Counted::VolumeGib,
    ];

    /// Its name, in settings, answers and the item.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Counted::Instances => "instances",
            Counted::Vcpus => "vcpus",
            Counted::Addresses => "addresses",
            Counted::Volumes => "volumes",
            Counted::VolumeGib => "volume_gib",
        }
    }
}

/// An amount of each of [`Counted::ALL`], in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage(pub [i64; 5]);

impl Usage {
    /// What an instance of this specification counts for, from its creation until it is terminated.
    #[must_use]
    pub fn of(spec: &LaunchSpec) -> Usage {
        let gib = spec.volumes.iter().map(|volume| i64::from(volume.size_gib)).sum();
        let volumes = i64::try_from(spec.volumes.len()).unwrap_or(i64::MAX);
        Usage([1, i64::from(spec.vcpus), 1, volumes, gib])
    }

    /// What `count` such instances count for.
    #[must_use]
    pub fn times(self, count: u32) -> Usage {
        Usage(self.0.map(|one| one.saturating_mul(i64::from(count))))
    }

    /// What the item says; nothing if there is none.
    #[must_use]
    pub fn read(item: Option<&Item>) -> Usage {
        let amount = |of: Counted| item.and_then(|item| item.number(of.name())).unwrap_or(0);
        Usage(Counted::ALL.map(amount))
    }

    /// The amount of one of them.
    #[must_use]
    pub fn get(&self, of: Counted) -> i64 {
        self.0[of as usize]
    }
}

/// The most that a tenant may have of each of [`Counted::ALL`], where there is a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas(pub [Option<i64>; 5]);

impl Quotas {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// The quota of one of them.
    #[must_use]
    pub fn get(&self, of: Counted) -> Option<i64> {
        self.0[of as usize]
    }

    /// The first quota that `asked` does not fit beside `used`.
    #[must_use]
    pub fn exceeded(&self, used: &Usage, asked: &Usage) -> Option<Counted> {
        let is_over = |of: &Counted| {
            self.get(*of).is_some_and(|most| used.get(*of).saturating_add(asked.get(*of)) > most)
        };
        Counted::ALL.into_iter().find(is_over)
    }

    /// How many more instances, each of which counts for `one`, fit beside `used`.
    #[must_use]
    pub fn fitting(&self, used: &Usage, one: &Usage) -> i64 {
        let fits = |of: Counted| {
            let room = self.get(of)?.saturating_sub(used.get(of)).max(0);
            room.checked_div(one.get(of))
        };
        Counted::ALL.into_iter().filter_map(fits).min().unwrap_or(i64::MAX)
    }
}

/// Where it is kept what a tenant has.
#[must_use]
pub fn quota_key(tenant: &Tenant) -> Key {
    Key::new(TABLE.name, tenant.partition("quota"), "quota")
}

/// Adds what is asked for; fails if it does not fit beside what the tenant has. Nothing that does not
/// even fit alone may be asked for: an item that is not there yet has room for anything.
#[must_use]
pub fn count_write(tenant: &Tenant, asked: &Usage, quotas: &Quotas) -> Write {
    let fits = |of: Counted| {
        let most = quotas.get(of)?;
        Some(Condition::absent_or_at_most(of.name(), most - asked.get(of)))
    };
    let add = |of: Counted| Update::add(of.name(), asked.get(of));
    Write::update(quota_key(tenant), Counted::ALL.map(add).to_vec())
        .when_all(Counted::ALL.into_iter().filter_map(fits))
}

/// Takes away what an instance has counted for.
#[must_use]
pub fn uncount_write(tenant: &Tenant, spec: &LaunchSpec) -> Write {
    let had = Usage::of(spec);
    let subtract = |of: Counted| Update::add(of.name(), -had.get(of));
    Write::update(quota_key(tenant), Counted::ALL.map(subtract).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::{apply, holds};

    fn quotas(instances: Option<i64>, vcpus: Option<i64>) -> Quotas {
        Quotas([instances, vcpus, None, None, None])
    }

    #[test]
    fn a_quota_is_exceeded_by_what_does_not_fit_beside_what_there_is() {
        let one = Usage([1, 2, 1, 1, 8]);
        for (quotas, used, count, exceeded, fitting) in [
            (quotas(None, None), [100, 200, 100, 100, 800], 50, None, i64::MAX),
            (quotas(Some(3), None), [0; 5], 3, None, 3),
            (quotas(Some(3), None), [0; 5], 4, Some(Counted::Instances), 3),
            (quotas(Some(3), Some(5)), [1, 2, 1, 1, 8], 2, Some(Counted::Vcpus), 1),
            (quotas(Some(3), Some(5)), [1, 2, 1, 1, 8], 1, None, 1),
            // A quota that was lowered since.
            (quotas(Some(3), None), [9, 18, 9, 9, 72], 1, Some(Counted::Instances), 0),
            (Quotas([None, None, None, None, Some(20)]), [0; 5], 3, Some(Counted::VolumeGib), 2),
        ] {
            let (used, asked) = (Usage(used), one.times(count));
            assert_eq!(quotas.exceeded(&used, &asked), exceeded, "{quotas:?} {used:?} {count}");
            assert_eq!(quotas.fitting(&used, &one), fitting, "{quotas:?} {used:?}");
            let item = used
                .0
                .iter()
                .zip(Counted::ALL)
                .fold(Item::new(), |item, (n, of)| item.with(of.name(), *n));
            let write = count_write(&Tenant::local(), &asked, &quotas);
            let holds = write.conditions.iter().all(|condition| holds(condition, Some(&item)));
            assert_eq!(holds, exceeded.is_none(), "the write and the law say the same");
        }
    }

    #[test]
    fn what_is_counted_is_given_back_to_nothing() {
        let volume = serde_json::json!({ "device": "/dev/sda1", "volume_type": "gp3",
            "size_gib": 8, "iops": 3_000, "delete_on_termination": true });
        let spec: LaunchSpec = serde_json::from_value(serde_json::json!({
            "reservation_id": "r-1", "instance_type": "any", "vcpus": 1, "memory_mib": 1024,
            "network_mbps": 64, "image_id": "ami-1", "volumes": [volume, volume],
        }))
        .expect("a specification");
        let (tenant, asked) = (Tenant::local(), Usage::of(&spec));
        assert_eq!(asked, Usage([1, 1, 1, 2, 16]));
        let counted = apply(count_write(&tenant, &asked, &Quotas::default()).action, None);
        assert_eq!(Usage::read(counted.as_ref()), asked);
        let after = apply(uncount_write(&tenant, &spec).action, counted);
        assert_eq!(Usage::read(after.as_ref()), Usage::default());
    }
}
