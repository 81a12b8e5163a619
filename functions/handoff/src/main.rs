//! The handoff on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_engine::Function;
use eventplane_handoff::{Handoff, TABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    serve(&world, Function::new(Handoff, world.ports.clone())).await
}
