//! The api on Lambda.

use eventplane_api::{Api, LimitSettings, Limits, Options, TABLES, router};
use eventplane_aws::{Error, NobodyTells, World, serve_http};
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&TABLES)?;
    let api = Api {
        ports: world.ports.clone(),
        waiter: Arc::new(NobodyTells),
        dead_letters: Arc::new(world.dead_letters()?),
        breakers: Arc::new(world.breakers()?),
        archive: None,
        master: world.master_key()?,
        options: Options {
            launch_deadline_ms: world.launch_deadline_ms()?,
            tenant_of_request: world.tokens_name_tenants(),
            ..Options::default()
        },
        limits: Limits::new(LimitSettings::parse(&world.limits())?),
    };
    serve_http(&world, router(api)).await
}
