//! What the hosts' agents ask and say: their wanted set, and what they see. An agent that has
//! enrolled speaks for its own host, and signs ([`signed`]); hosts that never enrolled are an
//! operator's, who simulates them.

mod admission;
mod enrol;
mod metadata;
mod report;
mod signed;
mod volumes;
mod wanted;

pub(crate) use admission::{AGENTS_IN_FLIGHT_MAX, Admission};
pub(crate) use metadata::{not_its, tenant_of};
pub(crate) use signed::{Agent, has_enrolled, is_enrolled};

use crate::Shared;
use utoipa_axum::router::OpenApiRouter;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(enrol::routes())
        .merge(wanted::routes())
        .merge(report::routes())
        .merge(metadata::routes())
        .merge(volumes::routes())
}
