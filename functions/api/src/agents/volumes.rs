//! Which volumes' data a host may delete.

use super::signed::Agent;
use crate::Shared;
use crate::error::Refusal;
use axum::Json;
use eventplane_domain::{InstanceId, Tenant};
use eventplane_storage::{OfInstance, gone};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many volumes are asked about at once.
const VOLUMES_MAX: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(volumes))
}

/// The volumes whose data a host has.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Has {
    /// 100 at most.
    volumes: Vec<OneOf>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OneOf {
    #[schema(value_type = String)]
    tenant: Tenant,
    /// The instance that it is, or was, of.
    #[schema(value_type = String)]
    instance_id: InstanceId,
    volume_id: String,
}

/// Which of these volumes are gone for good, so that the host may delete their data: given back with
/// their instance, or deleted by their user since. Of all others the host keeps what it has.
#[utoipa::path(post, path = "/v1/agents/{host_id}/volumes", tag = "agents", request_body = Has,
    params(("host_id" = String, Path)),
    responses((status = 200, description = "The ids of those that are gone")))]
async fn volumes(agent: Agent) -> Result<Json<Value>, Refusal> {
    let has: Has = agent.body()?;
    if has.volumes.len() > VOLUMES_MAX {
        let message =
            format!("`volumes` has to be at most {VOLUMES_MAX}, not {}", has.volumes.len());
        return Err(Refusal::value("volumes", message));
    }
    let asked: Vec<OfInstance> = has
        .volumes
        .into_iter()
        .map(|OneOf { tenant, instance_id, volume_id }| OfInstance {
            tenant,
            instance: instance_id,
            volume_id,
        })
        .collect();
    let gone = gone(&*agent.api.ports.store, &asked).await??;
    Ok(Json(json!({ "gone": gone })))
}
