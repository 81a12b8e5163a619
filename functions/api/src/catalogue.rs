//! The catalogue of instance types: EC2's names, and what each takes on a host.

use crate::Shared;
use axum::Json;
use eventplane_domain::GpuNeed;
use eventplane_storage::images::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// An instance type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceType {
    /// Its name, such as `t3.micro`.
    pub instance_type: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network bandwidth in Mbps that is set aside on the host: EC2's baseline.
    pub network_mbps: u32,
    /// The processors that it has: those its images are made for.
    #[serde(default)]
    pub architecture: Architecture,
    /// Its GPUs, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuNeed>,
}

static TYPES: LazyLock<Vec<InstanceType>> = LazyLock::new(|| {
    let json = include_str!("../../../infra/catalogue/instance-types.json");
    serde_json::from_str(json).expect("the catalogue of instance types is built in")
});

/// All instance types.
#[must_use]
pub fn instance_types() -> &'static [InstanceType] {
    &TYPES
}

/// The type of that name.
pub(crate) fn find(name: &str) -> Option<&'static InstanceType> {
    instance_types().iter().find(|one| one.instance_type == name)
}

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The instance types.
#[utoipa::path(get, path = "/v1/instance-types", tag = "catalogue",
    responses((status = 200, description = "All instance types")))]
async fn list() -> Json<Value> {
    Json(json!({ "instance_types": instance_types() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_is_named_once_and_has_room() {
        let names: BTreeSet<_> = instance_types().iter().map(|one| &one.instance_type).collect();
        assert_eq!(names.len(), instance_types().len());
        for one in instance_types() {
            assert!(one.vcpus > 0 && one.memory_mib > 0 && one.network_mbps > 0, "{one:?}");
            assert!(one.gpus.as_ref().is_none_or(|gpus| gpus.count > 0), "{one:?}");
        }
        assert_eq!(find("t3.micro").map(|one| (one.vcpus, one.memory_mib)), Some((2, 1024)));
    }
}
