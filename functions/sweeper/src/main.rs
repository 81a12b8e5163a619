//! The sweeper on Lambda: its schedule wakes it.

use eventplane_aws::{Error, World, serve_schedule};
use eventplane_sweeper::{Lately, TABLES, sweep_and_judge, watch_hosts};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&TABLES)?;
    let dead_after_ms = world.host_dead_after_ms()?;
    serve_schedule(async || {
        // A sweep a minute sees all that is late: no other counts with it.
        let swept = sweep_and_judge(&world.ports, &mut Lately::default()).await;
        // Hosts are looked at also where nothing could be nudged.
        let watched = watch_hosts(&world.ports, dead_after_ms).await;
        swept.and(watched)
    })
    .await
}
