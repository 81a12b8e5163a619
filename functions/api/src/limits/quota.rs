//! How much a tenant may have: what a launch adds to the tenant's counter, and the refusal when it
//! does not fit.

use super::Action;
use super::settings::Rates;
use crate::error::Refusal;
use crate::extract::Caller;
use crate::{Api, Shared};
use axum::Json;
use eventplane_domain::LaunchSpec;
use eventplane_instances::{Counted, Usage, count_write, quota_key};
use eventplane_store::{Failed, FaultKind, TransactError, Write};
use serde_json::{Value, json};
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often a launch meets another that writes at the same moment, and the first pause after it, in
/// milliseconds: each is twice as long, and by chance up to half shorter.
const CONFLICTS_MAX: usize = 6;
const CONFLICT_PAUSE_MS: u64 = 20;

/// What a launch asks of its tenant's quotas, if there are any.
pub(crate) struct Quota {
    one: Usage,
    asked: Usage,
    instance_type: String,
}

impl Quota {
    /// What `count` instances of this specification ask for. Nothing where nothing has a quota.
    pub(crate) fn of(api: &Api, spec: &LaunchSpec, count: u32) -> Option<Quota> {
        let one = Usage::of(spec);
        let instance_type = spec.instance_type.clone();
        let quota = Quota { one, asked: one.times(count), instance_type };
        api.limits.quotas().is_any().then_some(quota)
    }

    /// What is written together with the records, or the refusal of what would not even fit alone.
    pub(crate) async fn write(&self, api: &Api) -> Result<Write, Refusal> {
        let (quotas, tenant) = (api.limits.quotas(), &api.options.tenant);
        if quotas.exceeded(&Usage::default(), &self.asked).is_some() {
            let item = api.ports.store.get(&quota_key(tenant)).await?;
            return Err(self.refusal(api, &Usage::read(item.as_ref())));
        }
        Ok(count_write(tenant, &self.asked, quotas))
    }

    /// The refusal of what would not be written now, for who only asks.
    pub(crate) async fn check(&self, api: &Api) -> Result<(), Refusal> {
        let item = api.ports.store.get(&quota_key(&api.options.tenant)).await?;
        let used = Usage::read(item.as_ref());
        match api.limits.quotas().exceeded(&used, &self.asked) {
            Some(_) => Err(self.refusal(api, &used)),
            None => Ok(()),
        }
    }

    /// The refusal, if it is for its quota alone that a launch was not written.
    pub(crate) fn refused_by(&self, api: &Api, failed: &[Failed]) -> Option<Refusal> {
        let key = quota_key(&api.options.tenant);
        match failed {
            [only] if only.key == key => Some(self.refusal(api, &Usage::read(only.item.as_ref()))),
            _ => None,
        }
    }

    /// What the quota is, what is used, what was asked for, and what would fit.
    fn refusal(&self, api: &Api, used: &Usage) -> Refusal {
        let quotas = api.limits.quotas();
        let of = quotas.exceeded(used, &self.asked).unwrap_or(Counted::Instances);
        let most = quotas.get(of).unwrap_or_default();
        let (has, asked, fitting) =
            (used.get(of), self.asked.get(of), quotas.fitting(used, &self.one));
        let message = format!(
            "at most {most} {} are for you: {has} are used and {asked} more were asked for; {fitting} \
             more {} would fit",
            words(of),
            self.instance_type
        );
        Refusal::invalid(code(of), message)
    }
}

/// Writes, and again while another transaction holds an item: a tenant's counter is in each of its
/// launches.
pub(crate) async fn transact(api: &Api, writes: Vec<Write>) -> Result<(), TransactError> {
    let mut pause_ms = CONFLICT_PAUSE_MS;
    for _ in 1..CONFLICTS_MAX {
        match api.ports.store.transact(writes.clone()).await {
            Err(TransactError::Fault(fault)) if fault.kind == FaultKind::Conflict => {
                let shorter = api.ports.chance.draw() % (pause_ms / 2);
                tokio::time::sleep(Duration::from_millis(pause_ms - shorter)).await;
                pause_ms *= 2;
            }
            answer => return answer,
        }
    }
    api.ports.store.transact(writes).await
}

/// EC2's codes. Sources: "Error codes for the Amazon EC2 API", EC2 API reference, and, for network
/// interfaces, the table of EC2's codes in "Troubleshooting local clusters for Amazon EKS on AWS
/// Outposts", EKS user guide.
fn code(of: Counted) -> &'static str {
    match of {
        Counted::Instances => "InstanceLimitExceeded",
        Counted::Vcpus => "VcpuLimitExceeded",
        Counted::Addresses => "NetworkInterfaceLimitExceeded",
        Counted::Volumes | Counted::VolumeGib => "VolumeLimitExceeded",
    }
}

fn words(of: Counted) -> &'static str {
    match of {
        Counted::Instances => "instances",
        Counted::Vcpus => "vCPUs",
        Counted::Addresses => "addresses",
        Counted::Volumes => "volumes",
        Counted::VolumeGib => "GiB of volumes",
    }
}

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What the caller may have, has, and how often it may ask. Null is without a limit; what was
/// launched while nothing had a quota is not in what is used.
#[utoipa::path(get, path = "/v1/limits", tag = "limits",
    responses((status = 200, description = "Quotas with what is used, and rates by action")))]
async fn show(Caller(api): Caller) -> Result<Json<Value>, Refusal> {
    let item = api.ports.store.get(&quota_key(&api.options.tenant)).await?;
    let used = Usage::read(item.as_ref());
    let quota = |of: Counted| {
        let limit = api.limits.quotas().get(of);
        json!({ "name": of.name(), "used": used.get(of), "limit": limit, "code": code(of) })
    };
    let rate = |action: Action| {
        let Rates { requests, instances } = api.limits.settings.rates[action as usize];
        json!({ "action": action.name(), "requests": requests, "instances": instances })
    };
    let (quotas, rates) = (Counted::ALL.map(quota), Action::ALL.map(rate));
    Ok(Json(json!({ "quotas": quotas, "rates": rates })))
}
