//! The sweeper on Lambda: its schedule wakes it.

use eventplane_aws::{Error, World, serve_schedule};
use eventplane_instances::TABLE;
use eventplane_sweeper::sweep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    serve_schedule(async || sweep(&world.ports).await.map(drop)).await
}
