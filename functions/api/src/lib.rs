//! The management plane: one axum router, in JSON, for people, tools and the hosts' agents.
//!
//! It reads every table. It writes the instance record at its creation, the request item, hosts,
//! networks and the like; all else is the steps'. A module of routes is a `pub(crate) fn routes()`
//! that returns an `OpenApiRouter<Shared>`, merged below: each handler carries its own line of the
//! OpenAPI document.

mod agents;
mod answer;
mod breakers;
mod catalogue;
mod console;
mod dead_letters;
mod document;
mod error;
mod explain;
mod extract;
mod functions;
mod hosts;
mod images;
mod instances;
mod launch;
pub mod ledger;
mod lifecycle;
mod limits;
mod networks;
mod rehearsal;
mod replays;
mod security;
mod timeline;
mod token;
mod view;
mod why;

pub use catalogue::{InstanceType, instance_types};
pub use error::Refusal;
pub use functions::handlers;
pub use limits::{LimitSettings, Limits, Rate};

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use eventplane_domain::Tenant;
use eventplane_engine::{Archive, Breakers, DeadLetters, Ports, Waiter};
use eventplane_keys::MasterKey;
use eventplane_security::Sessions;
use eventplane_storage::PoolSizes;
use eventplane_store::Table;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest that an answer may be waited for, in seconds.
pub const WAIT_S_MAX: u64 = 30;

/// The tables that the api reads: all that the functions have.
pub const TABLES: [Table; 6] = [
    eventplane_capacity::TABLE,
    eventplane_network::TABLE,
    eventplane_storage::TABLE,
    eventplane_security::TABLE,
    eventplane_handoff::TABLE,
    eventplane_instances::TABLE,
];

/// What the api stands on.
#[derive(Clone)]
pub struct Api {
    /// Store, bus, clock and chance.
    pub ports: Ports,
    /// Who tells of changes, for answers that are waited for.
    pub waiter: Arc<dyn Waiter>,
    /// What the functions could not handle.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Who gives the functions their events, or lets them wait.
    pub breakers: Arc<dyn Breakers>,
    /// The events that were published, where somebody keeps them for this process.
    pub archive: Option<Arc<dyn Archive>>,
    /// The key that wraps the tenants' keys.
    pub master: Arc<dyn MasterKey>,
    /// Settings.
    pub options: Options,
    /// What is limited.
    pub limits: Limits,
}

/// Settings of the api.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose requests these are.
    pub tenant: Tenant,
    /// Whether each request is of a tenant of its own instead: the `Option<Tenant>` among its
    /// extensions, put there by whoever has found out who sent it.
    pub tenant_of_request: bool,
    /// How long a launch has until it must run, in milliseconds.
    pub launch_deadline_ms: i64,
    /// The pools that a zone gets when its first host registers.
    pub pool_sizes: PoolSizes,
    /// How many requests of hosts' agents, enrolled ones, are worked on at once.
    pub agents_in_flight_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            tenant: Tenant::local(),
            tenant_of_request: false,
            launch_deadline_ms: 60_000,
            pool_sizes: PoolSizes::default(),
            agents_in_flight_max: agents::AGENTS_IN_FLIGHT_MAX,
        }
    }
}

/// The api, as every handler sees it.
pub(crate) type Shared = Arc<Api>;

/// The router of all routes.
pub fn router(api: Api) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(document::Document::openapi())
        .merge(limits::routes())
        .merge(catalogue::routes())
        .merge(launch::routes())
        .merge(instances::routes())
        .merge(lifecycle::routes())
        .merge(timeline::routes())
        .merge(why::routes())
        .merge(explain::routes())
        .merge(networks::routes())
        .merge(security::routes())
        .merge(hosts::routes())
        .merge(ledger::routes())
        .merge(images::routes())
        .merge(agents::routes())
        .merge(console::routes())
        .merge(dead_letters::routes())
        .merge(breakers::routes())
        .merge(rehearsal::routes())
        .merge(replays::routes())
        .split_for_parts();
    let document = Arc::new(document::completed(document));
    let admission = agents::Admission::of(api.options.agents_in_flight_max);
    let sessions = Arc::new(Sessions::new(api.master.clone(), api.ports.chance.clone()));
    router
        .route("/openapi.json", get(async move || Json(document.as_ref().clone())))
        .fallback(answer::no_such_route)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(Extension(sessions))
        .layer(Extension(admission))
        .with_state(Arc::new(api))
        .layer(middleware::from_fn(answer::with_request_id))
}
