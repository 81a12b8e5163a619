//! The sweeper on Lambda: its schedule wakes it.

use eventplane_aws::{Error, World, serve_schedule};
use eventplane_instances::TABLE;
use eventplane_sweeper::{Lately, sweep_and_judge};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    // A sweep a minute sees all that is late: no other counts with it.
    serve_schedule(async || sweep_and_judge(&world.ports, &mut Lately::default()).await.map(drop))
        .await
}
