//! Images, and the volumes that outlived their instances.

use crate::Shared;
use crate::error::Refusal;
use crate::extract::{Body, Caller, Path};
use axum::Json;
use axum::http::StatusCode;
use eventplane_domain::{Reason, Tenant};
use eventplane_instances as instances;
use eventplane_storage::images::{self, Architecture, NewImage};
use eventplane_storage::{KeptVolume, delete_kept, kept};
use eventplane_store::{Key, Query, Store};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many instance records are read at once.
const PAGE_INSTANCES: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_images, create_image))
        .routes(routes!(get_image, delete_image))
        .routes(routes!(list_volumes))
        .routes(routes!(delete_volume))
}

/// An image that instances can be launched from.
#[derive(Debug, Serialize, ToSchema)]
struct Image {
    /// `ami-` and 17 hex digits.
    image_id: String,
    /// Its name.
    name: String,
    /// `x86_64` or `arm64`.
    architecture: &'static str,
    /// The name under which an instance sees its root volume.
    root_device: String,
    /// The size of the root volume, in GiB.
    root_gib: u32,
    /// `catalogue`, or `self` for the tenant's own.
    owner: &'static str,
}

impl From<images::Image> for Image {
    fn from(image: images::Image) -> Self {
        Image {
            image_id: image.image_id,
            name: image.name,
            architecture: image.architecture.name(),
            root_device: image.root_device,
            root_gib: image.root_gib,
            owner: if image.is_own { "self" } else { "catalogue" },
        }
    }
}

/// All images.
#[derive(Debug, Serialize, ToSchema)]
struct Images {
    /// The catalogue's, then the tenant's own.
    images: Vec<Image>,
}

/// An image to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImageToMake {
    /// 3 to 128 letters, digits, spaces and `()[]./-'@_`; no other image has it.
    name: String,
    /// The size of the root volume, in GiB: 1 to 16384.
    root_gib: u32,
    /// `x86_64` (if it is left out) or `arm64`.
    architecture: Option<String>,
}

/// A volume that outlived its instance.
#[derive(Debug, Serialize, ToSchema)]
struct Volume {
    /// `vol-` and 19 hex digits.
    volume_id: String,
    /// `available`: no instance has it.
    state: &'static str,
    /// Its type, such as `gp3`.
    volume_type: String,
    /// Its size, in GiB.
    size_gib: u32,
    /// Its I/O operations per second.
    iops: u32,
    /// The zone that it is in.
    zone: String,
    /// Always: with the tenant's data key.
    encrypted: bool,
    /// The data key.
    key_id: String,
    /// The instance that it was of.
    instance_id: String,
    /// The name under which that instance saw it.
    device: String,
    /// Since when it is detached, in milliseconds since 1970.
    available_since_ms: i64,
}

impl From<KeptVolume> for Volume {
    fn from(kept: KeptVolume) -> Self {
        let spec = kept.volume.spec;
        Volume {
            volume_id: kept.volume.volume_id,
            state: "available",
            volume_type: spec.volume_type,
            size_gib: spec.size_gib,
            iops: spec.iops,
            zone: kept.zone,
            encrypted: true,
            key_id: kept.volume.key_id,
            instance_id: kept.instance.to_string(),
            device: spec.device,
            available_since_ms: kept.since.0,
        }
    }
}

/// All volumes that outlived their instances.
#[derive(Debug, Serialize, ToSchema)]
struct Volumes {
    /// By id.
    volumes: Vec<Volume>,
}

/// Lists the images that an instance can be launched from.
#[utoipa::path(
    get, path = "/v1/images", tag = "images",
    responses((status = 200, description = "All images", body = Images))
)]
async fn list_images(Caller(api): Caller) -> Result<Json<Images>, Refusal> {
    let all = images::list(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(Images { images: all.into_iter().map(Image::from).collect() }))
}

/// Makes an image of your own.
#[utoipa::path(
    post, path = "/v1/images", tag = "images", request_body = ImageToMake,
    responses((status = 201, description = "The image", body = Image))
)]
async fn create_image(
    Caller(api): Caller,
    Body(wanted): Body<ImageToMake>,
) -> Result<(StatusCode, Json<Image>), Refusal> {
    let ImageToMake { name, root_gib, architecture } = wanted;
    let architecture = match architecture.as_deref() {
        None => Architecture::default(),
        Some(given) => Architecture::of_name(given).ok_or_else(|| {
            Refusal::value("architecture", "`architecture` can be `x86_64` or `arm64`")
        })?,
    };
    let new = NewImage { name, architecture, root_gib };
    let (now, chance) = (api.ports.clock.now(), api.ports.chance.draw());
    let image = images::create(&*api.ports.store, &api.options.tenant, new, now, chance).await??;
    Ok((StatusCode::CREATED, Json(image.into())))
}

/// Shows an image.
#[utoipa::path(
    get, path = "/v1/images/{image_id}", tag = "images",
    params(("image_id" = String, Path, description = "`ami-` and 17 hex digits")),
    responses((status = 200, description = "The image", body = Image))
)]
async fn get_image(
    Caller(api): Caller,
    Path(image_id): Path<String>,
) -> Result<Json<Image>, Refusal> {
    let image = images::get(&*api.ports.store, &api.options.tenant, &image_id).await??;
    Ok(Json(image.into()))
}

/// Deletes an image of your own that no instance was launched from, terminated ones aside.
#[utoipa::path(
    delete, path = "/v1/images/{image_id}", tag = "images",
    params(("image_id" = String, Path, description = "`ami-` and 17 hex digits")),
    responses((status = 204, description = "It is gone"))
)]
async fn delete_image(
    Caller(api): Caller,
    Path(image_id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let own = images::find(&*api.ports.store, &api.options.tenant, &image_id)
        .await?
        .filter(|image| image.is_own);
    if own.is_some()
        && let Some(user) = user_of(&*api.ports.store, &api.options.tenant, &image_id).await?
    {
        let message = format!("{user} was launched from {image_id}: terminate it first");
        return Err(Reason::new("InvalidAMIID.InUse", message).into());
    }
    images::delete(&*api.ports.store, &api.options.tenant, &image_id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// An instance that was launched from the image and is not terminated. A launch at this very
/// moment may be missed, and is none the worse: it carries all that it needs of its image.
async fn user_of(
    store: &dyn Store,
    tenant: &Tenant,
    image_id: &str,
) -> Result<Option<String>, Refusal> {
    let (table, index) = (instances::TABLE.name, instances::BY_TENANT);
    let mut query = Query::index(table, index, tenant.as_str(), PAGE_INSTANCES);
    query.descending = true;
    loop {
        let page = store.query(&query).await?;
        let keys: Vec<Key> = page.items.into_iter().map(|(key, _)| key).collect();
        for item in store.batch_get(&keys).await?.iter().flatten() {
            let record = instances::Record::read(item)?;
            if record.spec.image_id == image_id && record.ended_at.is_none() {
                return Ok(Some(record.id.to_string()));
            }
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(None),
        }
    }
}

/// Lists the volumes that outlived their instances: those with `delete_on_termination` false.
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volumes",
    responses((status = 200, description = "All of them", body = Volumes))
)]
async fn list_volumes(Caller(api): Caller) -> Result<Json<Volumes>, Refusal> {
    let all = kept(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(Volumes { volumes: all.into_iter().map(Volume::from).collect() }))
}

/// Deletes a volume that outlived its instance.
#[utoipa::path(
    delete, path = "/v1/volumes/{volume_id}", tag = "volumes",
    params(("volume_id" = String, Path, description = "`vol-` and 19 hex digits")),
    responses((status = 204, description = "It is gone"))
)]
async fn delete_volume(
    Caller(api): Caller,
    Path(volume_id): Path<String>,
) -> Result<StatusCode, Refusal> {
    delete_kept(&*api.ports.store, &api.options.tenant, &volume_id).await??;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
