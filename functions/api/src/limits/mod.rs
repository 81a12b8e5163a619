//! How much a tenant may have, how often it may ask, and what the plane takes on now.
//!
//! Every request of a user [`enter`]s here, and what has limits of its own asks to be [`admit`]ted:
//! [`settings`] say what is limited, [`bucket`] how often, [`quota`] how much, [`mode`] what is done
//! at all.

mod bucket;
mod mode;
mod quota;
mod settings;

pub use bucket::Rate;
pub use settings::LimitSettings;

pub(crate) use quota::{Quota, transact};
pub(crate) use settings::Action;

use crate::error::Refusal;
use crate::{Api, Shared};
use axum::http::{Method, StatusCode};
use bucket::{Bucket, Dry, take};
use eventplane_domain::{Millis, Mode, Tenant};
use eventplane_instances::TABLE;
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Key, TransactError, Update, Write};
use mode::{Verdict, Watch};
use settings::Rates;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use utoipa_axum::router::OpenApiRouter;

/// How often a bucket is taken from anew because others took from it at the same moment.
const TRIES_MAX: usize = 5;
/// How many buckets of reads a process remembers. Those that are full again go first.
const READ_BUCKETS_MAX: usize = 10_000;

/// What is limited, and what this process remembers of it.
#[derive(Clone, Default)]
pub struct Limits {
    settings: LimitSettings,
    /// Nobody looks at the plane's mode without it.
    watch: Option<Arc<Watch>>,
    /// The buckets of reads. A write for every read would cost ten times the read, and what they
    /// save is mostly this process: on AWS, where there are many, the gateway's own limit bounds
    /// their sum.
    reads: Arc<Mutex<HashMap<(Tenant, Action), Bucket>>>,
}

impl Limits {
    /// These limits, under the plane's mode.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Self {
        Limits { settings, watch: Some(Arc::default()), ..Limits::default() }
    }

    /// No limits, and no mode: what is asked is done.
    #[must_use]
    pub fn off() -> Self {
        Limits::default()
    }

    /// The quotas of every tenant.
    pub(crate) fn quotas(&self) -> &eventplane_instances::Quotas {
        &self.settings.quotas
    }
}

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().merge(mode::routes()).merge(quota::routes())
}

/// Lets a user's request in, unless the store does not answer anyway, or users change nothing now.
pub(crate) async fn enter(api: &Api, method: &Method, path: &str) -> Result<(), Refusal> {
    let standing = mode::standing(api).await?;
    match standing.mode == Mode::ReadOnly && !method.is_safe() {
        true => Err(mode::refused(&standing, &format!("{method} {path}"))),
        false => Ok(()),
    }
}

/// Lets a user's request be done, which is about so many instances, or says why not now. This comes
/// before anything else that it does.
pub(crate) async fn admit(api: &Api, action: Action, instances: u32) -> Result<(), Refusal> {
    let standing = mode::standing(api).await?;
    let verdict = mode::verdict(standing.mode, action);
    if verdict == Verdict::Refused {
        return Err(mode::refused(&standing, action.name()));
    }
    charge(api, action, instances).await?;
    if verdict == Verdict::Shed {
        let rates = Rates { requests: Some(api.limits.settings.shed), instances: None };
        let key = Key::new(TABLE.name, "@plane/shed", "rate");
        let full = || mode::shed(&standing, action);
        take_stored(api, key, rates, 0, action).await.map_err(|refusal| match refusal.status {
            StatusCode::SERVICE_UNAVAILABLE if refusal.code == THROTTLED => {
                Refusal { message: full(), ..refusal }
            }
            _ => refusal,
        })?;
    }
    Ok(())
}

/// Charges the tenant for a request that changes nothing in any mode, such as one whose client token
/// was answered before.
pub(crate) async fn charge(api: &Api, action: Action, instances: u32) -> Result<(), Refusal> {
    let rates = api.limits.settings.rates[action as usize];
    if rates == Rates::default() {
        return Ok(());
    }
    let tenant = &api.options.tenant;
    if action.is_a_read() {
        return take_remembered(api, tenant, rates, action);
    }
    let key = Key::new(TABLE.name, tenant.partition(format!("rate/{}", action.name())), "rate");
    take_stored(api, key, rates, instances, action).await
}

/// EC2's code for requests that come too often.
const THROTTLED: &str = "RequestLimitExceeded";

/// The refusal of what comes too often.
fn throttled(action: Action, what: &str, rate: Rate, dry: Dry) -> Refusal {
    let Rate { size, per_s } = rate;
    let name = action.name();
    let allowed = format!("{name} takes {size} {what} at once, and {per_s} a second after that");
    match dry {
        Dry::For(wait_ms) => {
            let message = format!("{allowed}; this many again in {wait_ms} ms");
            too_often(message).after_ms(wait_ms)
        }
        Dry::ForEver => too_often(format!("{allowed}: never as many as this at once"))
            .status(StatusCode::BAD_REQUEST),
    }
}

fn too_often(message: String) -> Refusal {
    Refusal::invalid(THROTTLED, message).status(StatusCode::SERVICE_UNAVAILABLE)
}

fn take_remembered(
    api: &Api,
    tenant: &Tenant,
    rates: Rates,
    action: Action,
) -> Result<(), Refusal> {
    let Some(rate) = rates.requests else { return Ok(()) };
    let now = api.ports.clock.now();
    let mut reads = api.limits.reads.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (tenant.clone(), action);
    let left = take(reads.get(&key).copied(), rate, now, 1)
        .map_err(|dry| throttled(action, "requests", rate, dry))?;
    if reads.len() >= READ_BUCKETS_MAX {
        let rate_of = |action: Action| api.limits.settings.rates[action as usize].requests;
        reads.retain(|(_, action), bucket| {
            let full = |rate: Rate| Bucket::filled(None, rate, now).milli;
            rate_of(*action)
                .is_some_and(|rate| Bucket::filled(Some(*bucket), rate, now).milli < full(rate))
        });
    }
    if reads.len() < READ_BUCKETS_MAX || reads.contains_key(&key) {
        reads.insert(key, left);
    }
    Ok(())
}

/// The buckets of one item: by requests and by instances, both filled up to the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    requests: Option<Bucket>,
    instances: Option<Bucket>,
}

const REQUESTS: &str = "requests";
const INSTANCES: &str = "instances";
const AT: &str = "at";

impl Pair {
    fn read(item: Option<&Item>) -> Pair {
        let bucket = |name: &str| {
            let item = item?;
            Some(Bucket { milli: item.number(name)?, at: Millis(item.number(AT)?) })
        };
        Pair { requests: bucket(REQUESTS), instances: bucket(INSTANCES) }
    }

    /// Takes a request, and these instances.
    fn take(self, rates: Rates, now: Millis, instances: u32, of: Action) -> Result<Pair, Refusal> {
        let take = |bucket, rate: Option<Rate>, cost, what: &str| {
            let taken = rate.map(|rate| {
                take(bucket, rate, now, cost).map_err(|dry| throttled(of, what, rate, dry))
            });
            taken.transpose()
        };
        Ok(Pair {
            requests: take(self.requests, rates.requests, 1, REQUESTS)?,
            instances: take(self.instances, rates.instances, instances, INSTANCES)?,
        })
    }

    /// Writes what is left over what was read.
    fn write(&self, key: &Key, read: Option<&Item>) -> Write {
        let sides = [(REQUESTS, self.requests), (INSTANCES, self.instances)];
        let mut updates: Vec<Update> = sides
            .into_iter()
            .filter_map(|(name, left)| left.map(|left| Update::set(name, left.milli)))
            .collect();
        let at = sides.into_iter().filter_map(|(_, left)| left).map(|left| left.at).max();
        updates.extend(at.map(|at| Update::set(AT, at.0)));
        let unchanged = |name: &str| match read.and_then(|item| item.get(name)) {
            Some(value) => Condition::equals(name, value.clone()),
            None => Condition::absent(name),
        };
        Write::update(key.clone(), updates).when_all([REQUESTS, INSTANCES, AT].map(unchanged))
    }
}

/// Takes from the buckets that are kept under `key`: one item, written under the condition that it is
/// as it was read. Where they are dry, nothing is written.
async fn take_stored(
    api: &Api,
    key: Key,
    rates: Rates,
    instances: u32,
    action: Action,
) -> Result<(), Refusal> {
    let store = &api.ports.store;
    let mut item = store.get(&key).await?;
    for _ in 0..TRIES_MAX {
        let now = api.ports.clock.now();
        let left = Pair::read(item.as_ref()).take(rates, now, instances, action)?;
        match store.transact(vec![left.write(&key, item.as_ref())]).await {
            Ok(()) => return Ok(()),
            Err(TransactError::ConditionFailed(failed)) => {
                item = failed.into_iter().next().and_then(|failed| failed.item);
            }
            Err(TransactError::Fault(fault)) => match fault.kind {
                FaultKind::Conflict => item = store.get(&key).await?,
                // It may have been taken: to let one more in is the smaller harm.
                FaultKind::OutcomeUnknown => return Ok(()),
                _ => return Err(fault.into()),
            },
        }
    }
    let name = action.name();
    let message = format!("others asked for {name} at the very same moment, again and again");
    Err(too_often(message).after_ms(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::{apply, holds};

    #[test]
    fn both_buckets_are_taken_from_or_none_and_only_as_they_were_read() {
        let rate = |size, per_s| Some(Rate { size, per_s });
        let rates = Rates { requests: rate(2, 1), instances: rate(10, 1) };
        let key = Key::new(TABLE.name, "default/rate/RunInstances", "rate");
        let take = |item: &Option<Item>, now, instances| {
            let pair = Pair::read(item.as_ref());
            pair.take(rates, Millis(now), instances, Action::Launch)
        };
        let first = take(&None, 1_000, 8).expect("it is full").write(&key, None);
        let item = apply(first.action, None);
        let twice = take(&item, 1_000, 2).expect("two are left").write(&key, item.as_ref());
        let late = take(&item, 1_000, 1).expect("of the same").write(&key, item.as_ref());
        let refused = take(&item, 1_000, 3).expect_err("three are not");
        assert!(refused.message.contains("10 instances at once"), "{}", refused.message);
        assert_eq!((refused.code.as_str(), refused.retry_after_s), (THROTTLED, Some(1)));
        let item = apply(twice.action, item);
        let holds_now = late.conditions.iter().all(|of| holds(of, item.as_ref()));
        assert!(!holds_now, "it was read before the other took");
        let refused = take(&item, 1_500, 0).expect_err("no request is left");
        assert!(refused.message.contains("again in 500 ms"), "{}", refused.message);
        assert!(take(&item, 2_000, 1).is_ok());
    }
}
