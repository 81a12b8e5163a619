//! Capacity on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_capacity::{Capacity, TABLE};
use eventplane_engine::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    serve(&world, Function::new(Capacity, world.ports.clone())).await
}
