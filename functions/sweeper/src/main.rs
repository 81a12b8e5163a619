//! The sweeper on Lambda: its schedule wakes it.

use eventplane_aws::{Error, World, serve_schedule};
use eventplane_sweeper::{TABLES, sweep, watch_hosts};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&TABLES)?;
    let dead_after_ms = world.host_dead_after_ms()?;
    serve_schedule(async || {
        sweep(&world.ports).await?;
        watch_hosts(&world.ports, dead_after_ms).await
    })
    .await
}
