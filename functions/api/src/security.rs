//! Roles, identities, and the audit record.

use crate::Shared;
use crate::error::Refusal;
use crate::extract::{Body, Caller, Path};
use crate::view::{instance_id, no_instance};
use axum::Json;
use axum::http::StatusCode;
use eventplane_domain::InstanceId;
use eventplane_engine::Receipt;
use eventplane_instances::record_key;
use eventplane_security::{audit, audit_of, document_of, published_keys, receipt_key, roles};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(audit_record))
        .routes(routes!(identity))
        .routes(routes!(identity_keys))
}

/// The roles.
#[utoipa::path(get, path = "/v1/roles", tag = "roles",
    responses((status = 200, description = "All roles")))]
async fn list(Caller(api): Caller) -> Result<Json<Value>, Refusal> {
    let roles = roles::list(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(json!({ "roles": roles })))
}

/// Makes a role.
#[utoipa::path(post, path = "/v1/roles", tag = "roles", request_body = Object,
    responses((status = 201, description = "The role")))]
async fn create(
    Caller(api): Caller,
    Body(role): Body<roles::Role>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let role = roles::create(&*api.ports.store, &api.options.tenant, &role).await??;
    Ok((StatusCode::CREATED, Json(json!(role))))
}

/// One role.
#[utoipa::path(get, path = "/v1/roles/{name}", tag = "roles", params(("name" = String, Path)),
    responses((status = 200, description = "The role")))]
async fn show(Caller(api): Caller, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!(roles::get(&*api.ports.store, &api.options.tenant, &name).await??)))
}

/// Deletes a role; refused while an instance holds credentials of it.
#[utoipa::path(delete, path = "/v1/roles/{name}", tag = "roles", params(("name" = String, Path)),
    responses((status = 204, description = "It is gone")))]
async fn delete(Caller(api): Caller, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    roles::delete(&*api.ports.store, &api.options.tenant, &name).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// What security has recorded of an instance; nothing while it has not been asked yet.
async fn receipt(api: &Shared, id: &InstanceId) -> Result<Option<Receipt>, Refusal> {
    let tenant = &api.options.tenant;
    let keys = [record_key(tenant, id), receipt_key(tenant, id)];
    let items = api.ports.store.batch_get(&keys).await?;
    if items.iter().all(Option::is_none) {
        return Err(no_instance(id));
    }
    Ok(Receipt::read(items[1].as_ref())?)
}

/// Who asked, and what was granted, refused and revoked; and whether the record is as it was
/// written.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/audit", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "The audit record")))]
async fn audit_record(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    // Where nothing was asked yet there is nothing to verify, and nothing that is broken.
    let Some(receipt) = receipt(&api, &id).await? else {
        return Ok(Json(json!({ "instance_id": id, "entries": [], "verified": null })));
    };
    let (entries, head) = audit_of(&receipt);
    let broken = audit::verify(&entries, &head).err().map(|broken| broken.to_string());
    Ok(Json(json!({
        "instance_id": id,
        "entries": entries,
        "head": head,
        "verified": broken.is_none(),
        "broken": broken,
    })))
}

/// The instance's signed identity document.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/identity", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "Document, signature and key id")))]
async fn identity(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    let document = receipt(&api, &id).await?.as_ref().and_then(document_of).ok_or_else(|| {
        let message = format!(
            "{id} has no identity: it is not granted yet, was refused, or was revoked at the end"
        );
        Refusal::not_found("InvalidIdentity.NotFound", message)
    })?;
    Ok(Json(json!(document)))
}

/// The public keys that identity documents are verified with.
#[utoipa::path(get, path = "/v1/identity-keys", tag = "instances",
    responses((status = 200, description = "The keys")))]
async fn identity_keys(Caller(api): Caller) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "keys": published_keys(&*api.ports.store).await? })))
}
