//! What an instance has written to its console: its host sends it when the instance ends and when it
//! is asked to, and the newest is kept.

use crate::agents::{Agent, not_its, tenant_of};
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Caller, Parameters, Path};
use crate::limits::{Action, admit};
use crate::view::{instance_id, no_instance};
use crate::{Api, Shared, WAIT_S_MAX};
use axum::Json;
use axum::extract::DefaultBodyLimit;
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::KEPT_MS;
use eventplane_handoff::{Receipt, Stage, console_writes, receipt_key};
use eventplane_instances::{TABLE, record_key};
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Key, StoreFault, Update, Write};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How much output is kept, in bytes: its end. EC2 keeps 64 KB ("GetConsoleOutput", EC2 API
/// reference), which would be 64 write units for each that comes.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// The largest body with such an output, in bytes: JSON writes a control character as six.
const BODY_BYTES_MAX: usize = 6 * OUTPUT_BYTES_MAX + 1024;

const GENERATION: &str = "gen";
const TEXT: &str = "text";
const AT: &str = "at";
/// How often output has come.
const TIMES: &str = "times";
const EXPIRES: &str = "expires_at";

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    let put =
        OpenApiRouter::new().routes(routes!(put)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    OpenApiRouter::new().routes(routes!(show)).merge(put)
}

/// Where the output of an instance is kept: beside its record.
fn console_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(id), "console")
}

/// The output that is kept.
struct Output {
    generation: u32,
    text: String,
    at: Millis,
    times: i64,
}

impl Output {
    fn read(item: Option<&Item>) -> Result<Option<Output>, StoreFault> {
        let Some(item) = item else { return Ok(None) };
        let read = || {
            Some(Output {
                generation: u32::try_from(item.number(GENERATION)?).ok()?,
                text: item.text(TEXT)?.to_owned(),
                at: Millis(item.number(AT)?),
                times: item.number(TIMES)?,
            })
        };
        let corrupt = || format!("not a console's output: {:?}", item.keys());
        read().map(Some).ok_or_else(|| StoreFault::new(FaultKind::Corrupt, corrupt()))
    }
}

/// What a host sends of an instance's console.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Sent {
    /// Which run of the instance has written it.
    generation: u32,
    /// The end of what it has written: 16,384 bytes at most.
    text: String,
    /// When that was so, in milliseconds since the epoch.
    at: i64,
}

/// Keeps the newest output of an instance's console, for 30 days after it came. It is taken from the
/// host that has the instance or had it last: the handoff's receipt names it, also when the assignment
/// has gone. What an older generation wrote never takes the place of a newer one's.
#[utoipa::path(put, path = "/v1/agents/{host_id}/instances/{tenant}/{instance_id}/console",
    tag = "agents", request_body = Sent,
    params(("host_id" = String, Path), ("tenant" = String, Path), ("instance_id" = String, Path)),
    responses((status = 200, description = "It is kept, or a newer one is"),
        (status = 404, description = "InvalidInstanceID.NotFound: another host has it, or none")))]
async fn put(
    Path((_, tenant, id)): Path<(String, String, String)>,
    agent: Agent,
) -> Result<Json<Value>, Refusal> {
    let (tenant, id) = (tenant_of(&tenant)?, instance_id(&id)?);
    let sent: Sent = agent.body()?;
    if sent.text.len() > OUTPUT_BYTES_MAX {
        let bytes = sent.text.len();
        let message = format!("`text` has to be at most {OUTPUT_BYTES_MAX} bytes, not {bytes}");
        return Err(Refusal::value("text", message));
    }
    let store = &agent.api.ports.store;
    let receipt = Receipt::read(store.get(&receipt_key(&tenant, &id)).await?.as_ref())?;
    let has_or_had = receipt.is_some_and(|receipt| {
        receipt.placement.is_some_and(|placement| placement.host == agent.host)
            && sent.generation <= receipt.generation
    });
    if !has_or_had {
        return Err(not_its(&agent, &id, sent.generation));
    }
    let generation = i64::from(sent.generation);
    let expires = agent.api.ports.clock.now().plus(KEPT_MS).0 / 1000;
    let updates = vec![
        Update::set(GENERATION, generation),
        Update::set(TEXT, sent.text),
        Update::set(AT, sent.at),
        Update::set(EXPIRES, expires),
        Update::add(TIMES, 1),
    ];
    let write = Write::update(console_key(&tenant, &id), updates)
        .when(Condition::absent_or_at_most(GENERATION, generation));
    store.try_transact(vec![write]).await?;
    Ok(Json(json!({ "instance_id": id, "generation": sent.generation })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    latest: bool,
    wait: Option<u64>,
}

/// What an instance has written to its console, as its host has last sent it: `output` is null while
/// it has sent none, and `why` says why. With `latest` the host is asked to send it anew, if one has
/// the instance (`asked`); with `wait` the answer comes as soon as newer output has.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/console", tag = "instances",
    params(("instance_id" = String, Path),
        ("latest" = Option<bool>, Query, description = "Whether to ask the host anew"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 30")),
    responses((status = 200, description = "Which run has written what, and until when")))]
async fn show(
    Caller(api): Caller,
    Path(id): Path<String>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::DescribeSome, 0).await?;
    let id = instance_id(&id)?;
    let wait_s = asked.wait.unwrap_or(0);
    if wait_s > WAIT_S_MAX {
        let message = format!("`wait` is at most {WAIT_S_MAX} seconds, not {wait_s}");
        return Err(Refusal::value("wait", message));
    }
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    let end = Instant::now() + Duration::from_secs(wait_s);
    let watch = match wait_s {
        0 => None,
        _ => api.waiter.watch(TABLE.name, &tenant.partition(&id)),
    };
    let key = console_key(tenant, &id);
    let keys = [record_key(tenant, &id), receipt_key(tenant, &id), key.clone()];
    let items = store.batch_get(&keys).await?;
    if items[0].is_none() {
        return Err(no_instance(&id));
    }
    let receipt = Receipt::read(items[1].as_ref())?;
    let before = Output::read(items[2].as_ref())?;
    let is_asked = asked.latest && order(&api, &id, receipt.as_ref()).await?;
    let may_come = match asked.latest {
        true => is_asked,
        false => receipt.as_ref().is_none_or(|receipt| receipt.stage != Stage::Withdrawn),
    };
    let mut output = before;
    let times = output.as_ref().map(|output| output.times);
    let mut watch = watch.filter(|_| may_come);
    while let Some(watching) = watch.as_mut().filter(|_| Instant::now() < end) {
        // Whether it changed or the time is over: what stands then is the answer.
        let _ = timeout_at(end, watching.changed()).await;
        output = Output::read(store.get(&key).await?.as_ref())?;
        if output.as_ref().map(|output| output.times) != times {
            break;
        }
    }
    let mut shown = shown(&id, output, receipt.as_ref());
    if asked.latest {
        shown["asked"] = json!(is_asked);
    }
    Ok(Json(shown))
}

/// Asks the host that has the instance for its output. Whether there is such a host.
async fn order(api: &Api, id: &InstanceId, receipt: Option<&Receipt>) -> Result<bool, Refusal> {
    let Some(receipt) = receipt.filter(|receipt| receipt.stage == Stage::HandedOff) else {
        return Ok(false);
    };
    let Some(placement) = &receipt.placement else { return Ok(false) };
    let tenant = &api.options.tenant;
    let writes = console_writes(&placement.host, tenant, id, receipt.generation);
    Ok(api.ports.store.try_transact(writes).await?)
}

fn shown(id: &InstanceId, output: Option<Output>, receipt: Option<&Receipt>) -> Value {
    if let Some(Output { generation, text, at, .. }) = output {
        let at = rfc3339(at.0);
        return json!({ "instance_id": id, "generation": generation, "output": text, "at": at });
    }
    let why = match receipt.map(|receipt| receipt.stage) {
        None | Some(Stage::Joining) => "no host has it yet",
        Some(Stage::HandedOff | Stage::Withdrawing) => {
            "its host has sent none: it sends it when the instance ends, and with `latest`; a \
             simulated host has none"
        }
        Some(Stage::Withdrawn) => "its host has sent none before it ended, or over 30 days ago",
    };
    json!({ "instance_id": id, "generation": null, "output": null, "at": null, "why": why })
}
