//! What an instance may learn of itself, for the metadata service of its host.

use super::signed::Agent;
use crate::Shared;
use crate::error::Refusal;
use crate::extract::{Parameters, Path};
use crate::launch::user_data_key;
use crate::view::instance_id;
use axum::{Extension, Json};
use eventplane_domain::{InstanceId, Tenant};
use eventplane_engine::Receipt;
use eventplane_handoff::{Assignment, assignment_key};
use eventplane_instances::{Record, record_key};
use eventplane_security::{Session, Sessions, document_of, receipt_key};
use eventplane_store::ItemExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(metadata))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfGeneration {
    generation: u32,
}

/// What an instance may learn of itself: tags, user data, its signed document, and credentials of its
/// role as they are now. Only its host is told, from when it was offered this generation of it until
/// it is to let it go.
#[utoipa::path(get, path = "/v1/agents/{host_id}/instances/{tenant}/{instance_id}",
    tag = "agents",
    params(("host_id" = String, Path), ("tenant" = String, Path), ("instance_id" = String, Path),
        ("generation" = u32, Query, description = "Which run of the instance")),
    responses((status = 200, description = "What the instance may learn; times in milliseconds"),
        (status = 404, description = "InvalidInstanceID.NotFound: the host is not to run it")))]
async fn metadata(
    Extension(sessions): Extension<Arc<Sessions>>,
    Path((_, tenant, id)): Path<(String, String, String)>,
    Parameters(asked): Parameters<OfGeneration>,
    agent: Agent,
) -> Result<Json<Value>, Refusal> {
    let generation = asked.generation;
    let (tenant, id) = (tenant_of(&tenant)?, instance_id(&id)?);
    let api = &agent.api;
    let (store, now) = (&*api.ports.store, api.ports.clock.now());
    let keys = [
        assignment_key(&agent.host, &tenant, &id),
        record_key(&tenant, &id),
        receipt_key(&tenant, &id),
    ];
    let items = store.batch_get(&keys).await?;
    let assignment = items[0].as_ref().map(|item| Assignment::read(&keys[0], item)).transpose()?;
    let is_its = |one: &Assignment| one.generation == generation && one.offered && !one.withdrawing;
    let granted = Receipt::read(items[2].as_ref())?;
    let document = granted.as_ref().and_then(document_of);
    let (Some(_), Some(record), Some(granted), Some(document)) =
        (assignment.filter(is_its), &items[1], granted, document)
    else {
        return Err(not_its(&agent, &id, generation));
    };
    let record = Record::read(record)?;
    let user_data = match &record.spec.user_data_ref {
        Some(reservation) => {
            let item = store.get(&user_data_key(&tenant, reservation)).await?;
            item.as_ref().and_then(|item| item.text("data")).map(str::to_owned)
        }
        None => None,
    };
    let of = (&tenant, &id, generation);
    let session = sessions.session(store, &granted, of, now).await?;
    Ok(Json(json!({
        "tags": record.tags,
        "user_data": user_data,
        "document": document,
        "keys": sessions.published_keys(store).await?,
        "credentials": session.as_ref().map(shown),
    })))
}

fn shown(session: &Session) -> Value {
    json!({
        "role": session.role,
        "access_key_id": session.access_key_id,
        "secret_access_key": session.secret_access_key,
        "token": session.token,
        "updated_at": session.updated_at,
        "expires_at": session.expires_at,
    })
}

/// The tenant in a path.
pub(crate) fn tenant_of(text: &str) -> Result<Tenant, Refusal> {
    Tenant::parse(text).map_err(|bad| Refusal::value("tenant", bad.to_string()))
}

/// The refusal when an instance is not its host's: whether there is such a one is not told.
pub(crate) fn not_its(agent: &Agent, id: &InstanceId, generation: u32) -> Refusal {
    let message = format!("{} is not to run generation {generation} of {id}", agent.host);
    Refusal::not_found("InvalidInstanceID.NotFound", message).about("instance_id")
}
