//! `POST /v1/instances`: what is asked for is checked and resolved, written down, and published.

use crate::error::Refusal;
use crate::extract::{Body, Caller};
use crate::limits::{Action, Quota, admit, charge, transact};
use crate::token::{self, Answered};
use crate::view::{Whole, read_all};
use crate::{Api, Shared, catalogue};
use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use eventplane_domain::{
    HostId, InstanceId, LaunchSpec, Mutant, Reason, Strategy, Tenant, planted,
};
use eventplane_engine::{Emit, Origin, stamp};
use eventplane_events::{Data, Entry};
use eventplane_instances::{Record, Request, record_key};
use eventplane_network::groups::GROUPS_PER_INTERFACE_MAX;
use eventplane_network::manage::{security_groups, subnets};
use eventplane_storage::images::{self, Image};
use eventplane_storage::{AskedVolume, launch_volumes};
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Key, TransactError, Write};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The most instances of one request.
const COUNT_MAX: u32 = 50;
/// The same where each is protected from termination.
const PROTECTED_COUNT_MAX: u32 = 45;
/// The most tags, and the longest key and value ("Tag restrictions", EC2 user guide).
const TAGS_MAX: usize = 50;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// The largest user data, in bytes ("Run commands when you launch an EC2 instance with user data
/// input", EC2 user guide).
const USER_DATA_BYTES_MAX: usize = 16 * 1024;
/// How often a launch is written anew because an id was taken.
const TRIES_MAX: usize = 3;

/// What is asked for. Only the type is required.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LaunchRequest {
    /// A type of the catalogue, such as `t3.micro`.
    #[schema(required)]
    instance_type: Option<String>,
    /// The image; that of the catalogue for the type's processors if none is named.
    image_id: Option<String>,
    /// How many, 1 to 50: so many independent launches under one reservation.
    count: Option<u32>,
    /// Only hosts of this zone.
    zone: Option<String>,
    /// This subnet, and so its zone.
    subnet_id: Option<String>,
    /// This address of the subnet.
    private_ip: Option<String>,
    /// The security groups; the default group if none is named.
    security_group_ids: Option<Vec<String>>,
    /// Data volumes, and the root volume if it is to differ from the image's.
    volumes: Option<Vec<VolumeRequest>>,
    /// The role that its credentials speak for.
    role: Option<String>,
    /// Tags.
    tags: Option<BTreeMap<String, String>>,
    /// A text that the instance finds when it starts.
    user_data: Option<String>,
    /// The same token gets the same answer.
    pub(crate) client_token: Option<String>,
    /// `spread` over zones and racks, or `pack`.
    strategy: Option<String>,
    /// Whether terminations are refused until this is taken back.
    termination_protection: Option<bool>,
    /// Only check.
    pub(crate) dry_run: Option<bool>,
}

/// A volume that is asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeRequest {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    volume_type: Option<String>,
    #[serde(default)]
    size_gib: Option<u32>,
    #[serde(default)]
    iops: Option<u32>,
    #[serde(default)]
    delete_on_termination: Option<bool>,
}

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(launch))
}

/// Launches instances.
#[utoipa::path(post, path = "/v1/instances", tag = "instances", request_body = LaunchRequest,
    responses(
        (status = 202, description = "The reservation and its instances, pending"),
        (status = 409, description = "The client token was used for something else"),
        (status = 412, description = "DryRunOperation: it would have been done"),
    ))]
async fn launch(
    Caller(api): Caller,
    headers: HeaderMap,
    Body(request): Body<LaunchRequest>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let trace = trace.filter(|trace| is_traceparent(trace));
    let is_dry = request.dry_run == Some(true);
    request.client_token.as_deref().map_or(Ok(()), token::check)?;
    // A token that was used answers as it did, also when what it named is gone by now.
    let used = if is_dry { None } else { answered(&api, &request).await? };
    if let Some(before) = used {
        charge(&api, Action::Launch, 0).await?;
        return answer_again(&api, &before, trace).await;
    }
    let charged = if is_dry { 0 } else { request.count.unwrap_or(1).min(COUNT_MAX) };
    admit(&api, Action::Launch, charged).await?;
    let plan = plan(&api, &request).await?;
    if is_dry {
        if let Some(quota) = Quota::of(&api, &plan.spec, plan.count) {
            quota.check(&api).await?;
        }
        let message = "the request would have been done";
        return Err(
            Refusal::invalid("DryRunOperation", message).status(StatusCode::PRECONDITION_FAILED)
        );
    }
    if api.options.tenant_of_request {
        welcome(&api).await?;
    }
    for _ in 0..TRIES_MAX {
        if let Some(written) = write(&api, &request, &plan).await? {
            publish(&api, &written, trace).await;
            let protection = protection(&request);
            let whole = |record| Whole { request: protection.clone(), ..Whole::new(record) };
            return Ok(answer(written.into_iter().map(whole).collect()));
        }
        if let Some(before) = answered(&api, &request).await? {
            return answer_again(&api, &before, trace).await;
        }
    }
    let message = "others launched at the very same moment, again and again";
    Err(Refusal::invalid("ServiceUnavailable", message).status(StatusCode::SERVICE_UNAVAILABLE))
}

/// Gives a tenant what every tenant begins with, in the zones that there are: the one tenant of a
/// plane has it since its first host.
async fn welcome(api: &Api) -> Result<(), Refusal> {
    eventplane_instances::tenants::enrol(&*api.ports.store, &api.options.tenant).await?;
    let zones = eventplane_capacity::fleet::summary(&*api.ports.store).await?;
    let zones: Vec<String> = zones.into_iter().map(|of| of.zone).collect();
    Ok(eventplane_network::seed(&*api.ports.store, &api.options.tenant, &zones).await?)
}

/// Whether a text is a trace context of version 00, `00-` and 32, 16 and 2 hex digits ("Trace
/// Context", W3C); any other is ignored, as it asks.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts[0] == "00"
        && parts.iter().all(|part| is_hex(part))
}

/// What the request's token was answered, if it has one that was used.
async fn answered(api: &Api, request: &LaunchRequest) -> Result<Option<Answered>, Refusal> {
    let Some(token) = &request.client_token else { return Ok(None) };
    Answered::find(&*api.ports.store, &api.options.tenant, token, request).await
}

/// Something that the request names, and that cannot be: 400 as in EC2, for the path is there.
fn named(field: &str, reason: Reason) -> Refusal {
    Refusal::from(reason).status(StatusCode::BAD_REQUEST).about(field)
}

fn answer(wholes: Vec<Whole>) -> (StatusCode, Json<Value>) {
    let reservation = wholes.first().map(|whole| whole.record.spec.reservation_id.clone());
    let instances: Vec<Value> = wholes.iter().map(Whole::shown).collect();
    let answer = json!({ "reservation_id": reservation, "instances": instances });
    (StatusCode::ACCEPTED, Json(answer))
}

/// The answer of a token that was used before. What is still pending is asked for again, in case
/// that was lost.
async fn answer_again(
    api: &Api,
    before: &Answered,
    trace: Option<&str>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let found = read_all(&*api.ports.store, &api.options.tenant, &before.instances).await?;
    let wholes: Vec<Whole> = found.into_iter().flatten().collect();
    let ended = |whole: &Whole| whole.record.progress.state == eventplane_domain::State::Terminated;
    if wholes.iter().all(ended) {
        let message = format!("the instances of {} have been terminated", before.reservation_id);
        return Err(Refusal::invalid("IdempotentInstanceTerminated", message).about("client_token"));
    }
    let is_pending = |whole: &&Whole| whole.state() == eventplane_domain::State::Pending;
    let pending: Vec<Record> =
        wholes.iter().filter(is_pending).map(|whole| whole.record.clone()).collect();
    publish(api, &pending, trace).await;
    Ok(answer(wholes))
}

/// What was asked for, resolved.
pub(crate) struct Plan {
    pub(crate) spec: LaunchSpec,
    count: u32,
    tags: BTreeMap<String, String>,
}

/// Checks a request, and resolves it.
pub(crate) async fn plan(api: &Api, request: &LaunchRequest) -> Result<Plan, Refusal> {
    let name = request.instance_type.as_deref().ok_or_else(|| {
        let message = "missing field `instance_type`: a type of the catalogue, such as t3.micro";
        Refusal::invalid("MissingParameter", message).about("instance_type")
    })?;
    let kind = catalogue::find(name).ok_or_else(|| {
        let message = format!("there is no instance type `{name}`");
        Refusal::invalid("InvalidInstanceType", message).about("instance_type")
    })?;
    let count = request.count.unwrap_or(1);
    if !(1..=COUNT_MAX).contains(&count) {
        let message = format!("`count` has to be 1 to {COUNT_MAX}, not {count}");
        return Err(Refusal::value("count", message));
    }
    // Each protection is a write of its own beside its record's, and all are one transaction.
    if request.termination_protection == Some(true) && count > PROTECTED_COUNT_MAX {
        let message = format!(
            "`count` has to be 1 to {PROTECTED_COUNT_MAX} with `termination_protection`, not {count}"
        );
        return Err(Refusal::value("count", message));
    }
    if request.user_data.as_ref().is_some_and(|data| data.len() > USER_DATA_BYTES_MAX) {
        let message = format!("user data has at most {USER_DATA_BYTES_MAX} bytes");
        return Err(Refusal::value("user_data", message));
    }
    let strategy = match request.strategy.as_deref() {
        None | Some("spread") => Strategy::Spread,
        Some("pack") => Strategy::Pack,
        Some(other) => {
            let message = format!("`strategy` is `spread` or `pack`, not `{other}`");
            return Err(Refusal::value("strategy", message));
        }
    };
    let tags = request.tags.clone().unwrap_or_default();
    check_tags(&tags)?;
    let image = image(api, request, kind).await?;
    let asked: Vec<AskedVolume> = request.volumes.iter().flatten().map(asked).collect();
    let volumes =
        launch_volumes(&image, &asked).map_err(|reason| Refusal::from(reason).about("volumes"))?;
    let zone = zone(api, request, count).await?;
    let security_group_ids = groups(api, request).await?;
    check_role(api, request).await?;
    let spec = LaunchSpec {
        reservation_id: String::new(),
        launch_index: 0,
        instance_type: kind.instance_type.clone(),
        vcpus: kind.vcpus,
        memory_mib: kind.memory_mib,
        network_mbps: kind.network_mbps,
        gpus: kind.gpus.clone(),
        image_id: image.image_id,
        volumes,
        zone,
        subnet_id: request.subnet_id.clone(),
        private_ip: request.private_ip.clone(),
        security_group_ids,
        role: request.role.clone(),
        user_data_ref: None,
        strategy,
    };
    Ok(Plan { spec, count, tags })
}

fn asked(volume: &VolumeRequest) -> AskedVolume {
    let VolumeRequest { device, volume_type, size_gib, iops, delete_on_termination } =
        volume.clone();
    AskedVolume { device, volume_type, size_gib, iops, delete_on_termination }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > TAGS_MAX {
        let message = format!("an instance has at most {TAGS_MAX} tags");
        return Err(Refusal::invalid("TagLimitExceeded", message).about("tags"));
    }
    for (key, value) in tags {
        let good = (1..=TAG_KEY_CHARS_MAX).contains(&key.chars().count())
            && value.chars().count() <= TAG_VALUE_CHARS_MAX
            && !key.to_lowercase().starts_with("aws:");
        if !good {
            let message = format!(
                "a tag has a key of 1 to {TAG_KEY_CHARS_MAX} characters that does not begin with \
                 `aws:`, and a value of at most {TAG_VALUE_CHARS_MAX}"
            );
            return Err(Refusal::value("tags", message));
        }
    }
    Ok(())
}

async fn image(
    api: &Api,
    request: &LaunchRequest,
    kind: &catalogue::InstanceType,
) -> Result<Image, Refusal> {
    let Some(id) = &request.image_id else {
        let image = images::default_image(kind.architecture);
        return image.cloned().ok_or_else(|| {
            let processors = kind.architecture.name();
            let message = format!("no image is built in for {processors}: name one");
            Refusal::invalid("MissingParameter", message).about("image_id")
        });
    };
    let found = images::find(&*api.ports.store, &api.options.tenant, id).await?;
    let image = found.ok_or_else(|| {
        let message = format!("there is no image `{id}`");
        Refusal::invalid("InvalidAMIID.NotFound", message).about("image_id")
    })?;
    if image.architecture != kind.architecture {
        let message = format!(
            "{id} is made for {}, and {} has {}: choose an image for these processors",
            image.architecture.name(),
            kind.instance_type,
            kind.architecture.name()
        );
        return Err(Refusal::invalid("InvalidParameterCombination", message).about("image_id"));
    }
    Ok(image)
}

/// The zone: as asked for, or the subnet's.
async fn zone(api: &Api, request: &LaunchRequest, count: u32) -> Result<Option<String>, Refusal> {
    let combination = |field: &str, message: &str| {
        Err(Refusal::invalid("InvalidParameterCombination", message).about(field))
    };
    if let Some(ip) = &request.private_ip {
        if ip.parse::<Ipv4Addr>().is_err() {
            let message =
                format!("`private_ip` is an IPv4 address, such as 172.31.0.10; not `{ip}`");
            return Err(Refusal::value("private_ip", message));
        }
        if request.subnet_id.is_none() {
            return combination("private_ip", "a private address needs its `subnet_id`");
        }
        if count > 1 {
            return combination(
                "private_ip",
                "one address is for one instance: `count` has to be 1",
            );
        }
    }
    // A zone is named as a host is.
    if let Some(zone) = &request.zone
        && HostId::parse(zone).is_err()
    {
        let message = "a zone has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or \
                       digit; GET /v1/capacity lists them";
        return Err(Refusal::value("zone", message));
    }
    let Some(subnet_id) = &request.subnet_id else { return Ok(request.zone.clone()) };
    let found = subnets::zone(&*api.ports.store, &api.options.tenant, subnet_id).await?;
    let lies_in = found.map_err(|reason| named("subnet_id", reason))?;
    match &request.zone {
        Some(zone) if *zone != lies_in => {
            let message = format!("{subnet_id} lies in {lies_in}, not in {zone}");
            combination("subnet_id", &message)
        }
        _ => Ok(Some(lies_in)),
    }
}

async fn groups(api: &Api, request: &LaunchRequest) -> Result<Vec<String>, Refusal> {
    let groups = request.security_group_ids.clone().unwrap_or_default();
    if groups.len() > GROUPS_PER_INTERFACE_MAX {
        let message = format!("an instance has at most {GROUPS_PER_INTERFACE_MAX} security groups");
        return Err(Refusal::invalid("SecurityGroupsPerInterfaceLimitExceeded", message)
            .about("security_group_ids"));
    }
    for group in &groups {
        let found = security_groups::get(&*api.ports.store, &api.options.tenant, group).await?;
        found.map_err(|reason| named("security_group_ids", reason))?;
    }
    Ok(groups)
}

async fn check_role(api: &Api, request: &LaunchRequest) -> Result<(), Refusal> {
    let Some(role) = &request.role else { return Ok(()) };
    let found =
        eventplane_security::roles::get(&*api.ports.store, &api.options.tenant, role).await?;
    found.map_err(|reason| named("role", reason))?;
    Ok(())
}

/// Writes the records, the token and the user data, all in one transaction; `None` when the token,
/// or an id, was taken meanwhile.
async fn write(
    api: &Api,
    request: &LaunchRequest,
    plan: &Plan,
) -> Result<Option<Vec<Record>>, Refusal> {
    let now = api.ports.clock.now();
    let deadline = now.plus(api.options.launch_deadline_ms);
    let chance = api.ports.chance.draw();
    let tenant = &api.options.tenant;
    let id = |index: u32| InstanceId::new(now, chance.wrapping_add(u64::from(index)));
    let reservation_id = format!("r-{}", id(0).digits());
    let mut spec = LaunchSpec { reservation_id: reservation_id.clone(), ..plan.spec.clone() };
    let mut writes = Vec::new();
    if let Some(data) = &request.user_data {
        let key = user_data_key(tenant, &reservation_id);
        spec.user_data_ref = Some(reservation_id.clone());
        let item = Item::new().with("data", data.as_str());
        writes.push(Write::put(key, item).when(Condition::ItemAbsent));
    }
    let quota = Quota::of(api, &spec, plan.count);
    let record = |index: u32| {
        let spec = LaunchSpec { launch_index: index, ..spec.clone() };
        let record = Record::requested(tenant.clone(), id(index), spec, now, deadline);
        let (token, tags) = (request.client_token.clone(), plan.tags.clone());
        Record { token, tags, is_counted: quota.is_some(), ..record }
    };
    let records: Vec<Record> = (0..plan.count).map(record).collect();
    writes.extend(records.iter().map(Record::create));
    if let Some(protection) = protection(request) {
        writes.extend(records.iter().map(|record| protection.replace(None, tenant, &record.id)));
    }
    if let Some(quota) = &quota {
        writes.push(quota.write(api).await?);
    }
    if let Some(token) = &request.client_token {
        let ids = records.iter().map(|record| record.id.clone()).collect();
        let answered = Answered::new(request, &reservation_id, ids);
        if planted(Mutant::ClientTokenInASeparateRequest) {
            api.ports.store.try_transact(std::mem::take(&mut writes)).await?;
        }
        writes.push(answered.write(tenant, token, now));
    }
    match transact(api, writes).await {
        Ok(()) => Ok(Some(records)),
        Err(TransactError::ConditionFailed(failed)) => {
            let refused = quota.and_then(|quota| quota.refused_by(api, &failed));
            refused.map_or(Ok(None), Err)
        }
        Err(TransactError::Fault(fault)) if fault.kind == FaultKind::OutcomeUnknown => {
            // All of it is written, or nothing: one record tells which.
            let first = records.first().map(|record| record_key(tenant, &record.id));
            match api.ports.store.get(&first.expect("a launch has at least one instance")).await {
                Ok(Some(_)) => Ok(Some(records)),
                Ok(None) | Err(_) => Err(unknown(request)),
            }
        }
        Err(TransactError::Fault(fault)) => Err(fault.into()),
    }
}

/// What protects the instances from their first moment on, if that was asked for.
fn protection(request: &LaunchRequest) -> Option<Request> {
    let is_protected = request.termination_protection == Some(true);
    is_protected.then(|| Request { is_protected, version: 1, ..Request::default() })
}

/// The answer when nobody can say whether the launch was written.
fn unknown(request: &LaunchRequest) -> Refusal {
    let message = match request.client_token {
        Some(_) => "the launch may have been done: repeat it with the same client_token",
        None => {
            "the launch may have been done: look at GET /v1/instances before repeating it; with a \
             client_token, repeating is always safe"
        }
    };
    Refusal::invalid("ServiceUnavailable", message).status(StatusCode::SERVICE_UNAVAILABLE)
}

/// Where a reservation's user data is kept.
pub(crate) fn user_data_key(tenant: &Tenant, reservation_id: &str) -> Key {
    let partition = tenant.partition(reservation_id);
    Key::new(eventplane_instances::TABLE.name, partition, "user-data")
}

/// Publishes the launches. What the bus does not take is published again by the sweeper: the
/// records are written.
async fn publish(api: &Api, records: &[Record], trace: Option<&str>) {
    let entry = |record: &Record| -> Entry {
        let data = Data::InstanceRequested(record.requested_now());
        let generation = record.progress.generation;
        let emit = Emit { data, generation, deadline: record.deadline };
        let (tenant, subject) = (&record.tenant, &record.id);
        stamp(&api.ports, "api", &Origin::Fresh { tenant, subject, traceparent: trace }, emit)
            .entry()
    };
    if records.is_empty() {
        return;
    }
    if let Err(fault) = api.ports.bus.publish(records.iter().map(entry).collect()).await {
        warn!(%fault, "launches are written, but not all published: the sweeper will");
    }
}

#[cfg(test)]
mod tests {
    use super::is_traceparent;

    #[test]
    fn a_trace_context_is_taken_only_when_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        for bad in ["", "00", "a-b-c-d", &good[1..], &good.to_uppercase(), &good.replace('-', "_")]
        {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
