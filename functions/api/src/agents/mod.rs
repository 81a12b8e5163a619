//! What the hosts' agents ask and say: their wanted set, and what they see. An agent that has
//! enrolled speaks for its own host, and signs ([`signed`]); hosts that never enrolled are an
//! operator's, who simulates them.

mod enrol;
mod metadata;
mod report;
mod signed;
mod wanted;

pub(crate) use signed::{has_enrolled, is_enrolled};

use crate::Shared;
use utoipa_axum::router::OpenApiRouter;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(enrol::routes())
        .merge(wanted::routes())
        .merge(report::routes())
        .merge(metadata::routes())
}
